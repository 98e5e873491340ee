//! Dataflows that change between a stop and a start: what still holds goes on, what does not is made again, and all that is
//! said and written is what a run says that has always had the new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value as Json;

use crate::{
    generate::{self, Size, Workload},
    program::{Running, root},
};

const FILES: [&str; 5] = ["src.snapshot.ndjson", "src.changes.ndjson", "tgt.snapshot.ndjson", "tgt.changes.ndjson", "acc.snapshot.ndjson"];

struct Bench {
    dir: tempfile::TempDir,
    /// Lines of the files of changes that are not there yet.
    rest: Vec<(PathBuf, Vec<String>)>,
    /// By file: the text of a dataflow.
    dataflows: BTreeMap<&'static str, String>,
    outputs: String,
}

impl Bench {
    fn new(workload: &Workload) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("a folder");
        let mut rest = Vec::new();
        for name in FILES {
            let text = fs::read_to_string(workload.dir.join(name)).expect("a file of the workload");
            if name.contains("changes") {
                fs::write(data.join(name), "").expect("a file");
                rest.push((data.join(name), text.lines().rev().map(|line| format!("{line}\n")).collect()));
            } else {
                fs::write(data.join(name), text).expect("a file");
            }
        }
        let contract = |name: &str| fs::read_to_string(root().join(format!("tests/contract/{name}/dataflows/{name}.yaml"))).expect("a dataflow");
        let without_tests = |text: String| text.split("\ntests:").next().expect("a text").to_string() + "\n";
        let revenue = without_tests(contract("revenue")).replace("opportunity", "deal").replace("sales_order", "booking");
        let dataflows = [("orders.yaml", without_tests(contract("orders"))), ("revenue.yaml", revenue)].into();
        Bench { dir, rest, dataflows, outputs: String::new() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn replace(&mut self, file: &'static str, from: &str, to: &str) {
        let text = self.dataflows.get_mut(file).expect("the dataflow is there");
        assert!(text.contains(from), "{from} in {text}");
        *text = text.replace(from, to);
    }

    fn append(&mut self, lines: usize) {
        for (path, rest) in &mut self.rest {
            let some: String = (0..lines).filter_map(|_| rest.pop()).collect();
            OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(some.as_bytes())).expect("a file that can be written");
        }
    }

    fn command(&self) -> Command {
        let dataflows = self.path().join("dataflows");
        let _ = fs::remove_dir_all(&dataflows);
        fs::create_dir(&dataflows).expect("a folder");
        for (name, text) in &self.dataflows {
            fs::write(dataflows.join(name), text).expect("a file");
        }
        if !self.outputs.is_empty() {
            fs::write(dataflows.join("z.yaml"), format!("dataflow: outputs\noutputs:\n{}", self.outputs)).expect("a file");
        }
        let config = self.path().join("config.yaml");
        let text = fs::read_to_string(root().join("tests/contract/orders/config.yaml")).expect("a configuration");
        fs::write(&config, format!("{text}\ncheckpoint: {{ interval: 1h }}\n")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.env("TIEOUT_DATA", self.path().join("data")).env("TIEOUT_STATE", self.path().join("state"));
        command.arg("run").arg("--config").arg(config).arg("--dataflows").arg(dataflows);
        command
    }

    /// What each source has read, and the lines that its files have.
    fn counts(&self, running: &Running) -> Vec<(String, u64, u64)> {
        let lines = |name: &str| fs::read_to_string(self.path().join("data").join(name)).expect("a file").lines().count() as u64;
        let answer = running.get("/api/v1/sources");
        let count = |source: &Json| {
            let log = source["log"].as_str().expect("a log");
            let all = FILES.iter().filter(|name| log.contains(**name)).map(|name| lines(name)).sum();
            (source["name"].as_str().expect("a name").to_string(), source["read"].as_u64().expect("a count"), all)
        };
        answer["sources"].as_array().expect("sources").iter().map(count).collect()
    }

    /// Starts with what is declared now, lets it read everything, compares, and stops it. `told`: what is said of the change.
    fn holds(&mut self, workers: u64, told: &[&str]) {
        self.append(150);
        let mut command = self.command();
        let running = Running::start(command.args(["--listen", "127.0.0.1:0", "--tick", "5ms", "--workers", &workers.to_string()]));
        if !told.is_empty() {
            assert!(running.says(told, Duration::from_secs(60)), "nobody says {told:?}");
        }
        running.until("/readyz", |answer| answer["ready"] == true);
        self.append(150);
        let complete = |counts: &[(String, u64, u64)]| counts.iter().all(|(_, read, lines)| read >= lines);
        running.until("/api/v1/overview", |_| complete(&self.counts(&running)));
        let counts = self.counts(&running);
        assert!(counts.iter().all(|(_, read, lines)| read == lines), "counted twice, or lost: {counts:?}");
        let out = self.path().join("out");
        let _ = fs::remove_dir_all(&out);
        let outputs = std::mem::take(&mut self.outputs);
        let output = self.command().args(["--once", "--log", "warn", "--export"]).arg(&out).output().expect("the program starts");
        self.outputs = outputs;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for file in fs::read_dir(out.join("differences")).expect("differences are exported").flatten() {
            let name = file.file_name().to_string_lossy().trim_end_matches(".csv").to_string();
            let truth = what(&fs::read_to_string(file.path()).expect("a file"));
            let (_, text) = running.text(&format!("/api/v1/comparisons/{name}/differences?format=csv&limit=100000")).expect("it answers");
            assert_eq!(what(&text), truth, "{name}");
        }
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let fields = ["source", "code", "key", "offset"];
        let answer = running.get("/api/v1/rejects?limit=10000");
        let said = answer["rejects"].as_array().expect("rejects").iter().map(|reject| fields.map(|name| text(&reject[name]).replace("null", "")).join("|"));
        let mut csv = csv::Reader::from_path(out.join("rejects.csv")).expect("rejects are exported");
        let truth = csv.records().map(|line| line.expect("a line")).map(|l| [&l[0], &l[1], &l[3], &l[5]].join("|"));
        assert_eq!(said.collect::<BTreeSet<String>>(), truth.collect());
        running.stop();
    }

    /// The rows that an output leaves, against those of the table as a fresh run exports it.
    fn written(&self, table: &str, file: &str) {
        let truth = fs::read_to_string(self.path().join(format!("out/targets/{table}.ndjson"))).expect("targets are exported");
        let truth: BTreeSet<String> = truth.lines().map(|line| serde_json::from_str::<Json>(line).expect("a row").to_string()).collect();
        let written: BTreeSet<String> = folded(&self.path().join("data").join(file)).into_values().map(|row| row.to_string()).collect();
        assert_eq!(written, truth, "{table}");
    }

    /// The keys of differences that an output leaves, against those that a fresh run exports.
    fn written_differences(&self, comparison: &str, file: &str, key: &str) {
        let truth = fs::read_to_string(self.path().join(format!("out/differences/{comparison}.csv"))).expect("differences are exported");
        let truth: BTreeSet<String> = what(&truth).iter().map(|line| line.split('|').next().expect("a key").to_string()).collect();
        let keys = folded(&self.path().join("data").join(file)).into_keys();
        let written: BTreeSet<String> = keys.map(|k| serde_json::from_str::<Json>(&k).expect("a key")[key].as_str().expect("a text").to_string()).collect();
        assert_eq!(written, truth, "{comparison}");
    }
}

/// Key, kind, field and values of each line of differences.
fn what(csv_text: &str) -> BTreeSet<String> {
    let mut csv = csv::Reader::from_reader(csv_text.as_bytes());
    csv.records().map(|line| line.expect("a line")).map(|l| [&l[0], &l[1], &l[3], &l[4], &l[5]].join("|")).collect()
}

fn folded(path: &Path) -> BTreeMap<String, Json> {
    let mut rows = BTreeMap::new();
    for line in fs::read_to_string(path).expect("the output is there").lines() {
        let record: Json = serde_json::from_str(line).expect("a record");
        match &record["value"] {
            Json::Null => rows.remove(&record["key"].to_string()),
            row => rows.insert(record["key"].to_string(), row.clone()),
        };
    }
    rows
}

#[test]
fn a_changed_dataflow_makes_again_what_it_touches_and_nothing_else() {
    let workload = generate::workload(Size { rows: 1_000, changes: 5_000, seed: 11, fault: 0.02, lag: 300 });
    let mut bench = Bench::new(&workload);
    bench.outputs = "  - { table: expected_order, connection: erp, file: rows.out }
  - { differences: orders_in_erp, connection: erp, file: differences.out }
  - { table: won_deal, connection: erp, file: deals.out }
  - { table: expected_revenue, connection: erp, file: sums.out }
"
    .into();
    let both = |bench: &Bench| {
        bench.written("expected_order", "rows.out");
        bench.written("won_deal", "deals.out");
        bench.written("expected_revenue", "sums.out");
        bench.written_differences("orders_in_erp", "differences.out", "order_id");
    };
    bench.holds(2, &[]);
    both(&bench);
    // Another expression: the rows of its side are read again, and nothing else is.
    bench.replace("orders.yaml", "lower(owner)", "upper(owner)");
    bench.holds(
        3,
        &["comparison orders_in_erp follows from other", "read again for this: opportunity; tables and comparisons whose outputs are written anew: none"],
    );
    both(&bench);
    // Rows that a filter does not let through any more are written as gone.
    bench.replace("orders.yaml", "stage <> 'Draft'", "stage <> 'Proposal'");
    bench.holds(1, &["read again for this: opportunity;"]);
    both(&bench);
    // A column more: rows of another shape.
    bench.replace("orders.yaml", "    require: [customer, amount]", "      chance: probability\n    require: [customer, amount]");
    bench.replace("orders.yaml", "    grace: 30s", "    fields: [customer, status, amount, currency, closed_on, owner]\n    grace: 30s");
    bench.holds(2, &["read again for this: opportunity", "target expected_order is new"]);
    both(&bench);
    // Other SQL: no log is read again.
    bench.outputs += "  - { differences: revenue_by_region, connection: erp, file: revenue.out }\n";
    bench.holds(4, &["read again for this: none", "written anew: revenue_by_region"]);
    bench.replace("revenue.yaml", "o.stage = 'Closed Won'", "o.stage <> 'Closed Lost'");
    bench.holds(2, &["read again for this: none"]);
    both(&bench);
    // Rows that only the SQL before gave are written as gone, also of what reads them.
    bench.replace("revenue.yaml", "o.stage <> 'Closed Lost'", "o.stage = 'Proposal' AND a.tier = 1");
    bench.holds(3, &["read again for this: none"]);
    both(&bench);
    // Of rows of another shape, too.
    bench.replace("revenue.yaml", "a.tier = 1", "a.tier = 2");
    bench.replace("revenue.yaml", "AS currency, o.amount\n", "AS currency, o.amount, o.id AS deal\n");
    bench.holds(1, &["read again for this: none"]);
    both(&bench);
    // The same in another order, and a comparison less; then one more.
    let orders = bench.dataflows.remove("orders.yaml").expect("it is there");
    bench.dataflows.insert("x.yaml", orders.clone());
    bench.holds(2, &["another order"]);
    both(&bench);
    let outputs = std::mem::take(&mut bench.outputs);
    bench.dataflows.remove("x.yaml");
    bench.holds(1, &["comparison orders_in_erp is gone"]);
    (bench.outputs, _) = (outputs, bench.dataflows.insert("a.yaml", orders));
    for output in ["rows.out", "differences.out", "deals.out", "sums.out"] {
        fs::remove_file(bench.path().join("data").join(output)).expect("the output is there");
    }
    bench.holds(3, &["source opportunity is new"]);
    both(&bench);
}

/// Whatever a target is made of, before and after: its output ends as the rows that a fresh run exports, also where a worker, or all of
/// them, have nothing more to say of it.
#[test]
fn rows_that_another_mapping_does_not_give_any_more_are_written_as_gone() {
    const TARGETS: &str = "
  stages:
    key: [stage]
    sql: SELECT stage, count(*) AS deals FROM deal GROUP BY stage
  drafts:
    key: [id]
    sql: SELECT id, stage FROM deal WHERE stage = 'Draft'
  brief:
    key: [id]
    from: deal
    fields: { id: id, stage: stage, amount: amount }
  won:
    key: [id]
    from: deal
    where: stage = 'Closed Won'
    fields: { id: id, amount: amount }
";
    const TABLES: [&str; 4] = ["stages", "drafts", "brief", "won"];
    let workload = generate::workload(Size { rows: 600, changes: 3_000, seed: 12, fault: 0.02, lag: 300 });
    let mut bench = Bench::new(&workload);
    bench.replace("revenue.yaml", "targets:\n", &format!("targets:{TARGETS}"));
    bench.replace("revenue.yaml", "comparisons:\n", "comparisons:\n  briefs: { expected: brief, actual: deal, fields: [stage], grace: 5m }\n");
    bench.outputs = TABLES.map(|table| format!("  - {{ table: {table}, connection: erp, file: {table}.out }}\n")).concat();
    let all = |bench: &mut Bench, workers: u64| {
        bench.holds(workers, &[]);
        TABLES.iter().for_each(|table| bench.written(table, &format!("{table}.out")));
    };
    all(&mut bench, 3);
    // Workers whose keys are all gone, and then all of them.
    bench.replace("revenue.yaml", "FROM deal GROUP BY stage", "FROM deal WHERE stage = 'Draft' GROUP BY stage");
    all(&mut bench, 4);
    bench.replace("revenue.yaml", "FROM deal WHERE stage = 'Draft' GROUP BY stage", "FROM deal WHERE stage = 'none' GROUP BY stage");
    all(&mut bench, 1);
    bench.replace("revenue.yaml", "FROM deal WHERE stage = 'none' GROUP BY stage", "FROM deal WHERE stage <> 'Draft' GROUP BY stage");
    // From SQL to a mapping that is done while decoding, of rows of the same shape, and back.
    let (sql, fields) =
        ("sql: SELECT id, stage FROM deal WHERE stage = 'Draft'", "from: deal\n    where: stage = 'Proposal'\n    fields: { id: id, stage: stage }");
    bench.replace("revenue.yaml", sql, fields);
    all(&mut bench, 2);
    bench.replace("revenue.yaml", fields, sql);
    // A table that finds room in a comparison from now on; and one of which nothing but the key is left.
    bench.replace("revenue.yaml", "fields: { id: id, stage: stage, amount: amount }", "fields: { id: id, stage: stage }");
    bench.replace(
        "revenue.yaml",
        "    where: stage = 'Closed Won'\n    fields: { id: id, amount: amount }",
        "    where: stage = 'Draft'\n    fields: { id: id }",
    );
    all(&mut bench, 3);
    // And back, to a table of its own.
    bench.replace("revenue.yaml", "    fields: { id: id, stage: stage }\n  won", "    fields: { id: id, stage: stage, amount: amount }\n  won");
    all(&mut bench, 2);
    // Another name for the same values.
    bench.replace("revenue.yaml", "where: stage = 'Draft'\n    fields: { id: id }", "where: stage = 'Draft'\n    fields: { id: id, currency: currency }");
    all(&mut bench, 1);
    bench.replace("revenue.yaml", "fields: { id: id, currency: currency }", "fields: { id: id, money: currency }");
    all(&mut bench, 2);
    // Nothing of it is read any more.
    bench.replace("revenue.yaml", "where: stage = 'Draft'\n    fields: { id: id, money", "where: stage = 'none'\n    fields: { id: id, money");
    all(&mut bench, 2);
}
