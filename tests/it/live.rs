//! What only a run shows that follows files as they grow: since when a difference stands, and who else writes to what it writes.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    process::Command,
    time::Duration,
};

use serde_json::{Value as Json, json};

use crate::program::Running;

const CONFIG: &str = "\
data_dir: state
checkpoint: { interval: 200ms }
connections:
  src: { kind: file, dir: data }
  act: { kind: file, dir: data }
  out: { kind: file, dir: out }
";
const DATAFLOW: &str = r#"dataflow: d
sources:
  item: { connection: src, files: [item], format: debezium-json, key: [id], columns: { id: bigint, cust: bigint, amt: int } }
  cust: { connection: src, files: [cust], format: debezium-json, key: [cid], columns: { cid: bigint, region: varchar } }
  act: { connection: act, files: [act], format: debezium-json, key: [id], columns: { id: bigint, region: varchar, amt: int } }
  bare: { connection: act, files: [bare], format: upsert-json, key: [id], columns: { id: bigint, cust: bigint, amt: int } }
targets:
  joined: { key: [id], sql: "SELECT i.id, c.region, i.amt FROM item i JOIN cust c ON c.cid = i.cust" }
comparisons:
  joins: { expected: joined, actual: act, grace: 30s, stale_after: 1d }
  bares: { expected: item, actual: bare, grace: 30s, stale_after: 1d }
outputs:
  - { table: joined, connection: out, file: joined }
"#;
/// 2026-03-04T04:53:20Z, in milliseconds.
const BEGAN: i64 = 1_772_600_000_000;
const LONG: Duration = Duration::from_secs(30);

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Bench {
        let bench = Bench(tempfile::tempdir().expect("a folder"));
        for folder in ["data", "dataflows"] {
            fs::create_dir(bench.0.path().join(folder)).expect("a folder");
        }
        ["item", "cust", "act", "bare"].iter().for_each(|file| bench.write(&format!("data/{file}"), ""));
        bench.write("config.yaml", CONFIG);
        bench.write("dataflows/d.yaml", DATAFLOW);
        bench
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).expect("a file");
    }

    fn append(&self, file: &str, line: &Json) {
        let file = OpenOptions::new().append(true).open(self.0.path().join("data").join(file));
        writeln!(file.expect("a file"), "{line}").expect("it can be written");
    }

    /// A row as of so many milliseconds after the begin.
    fn row(&self, file: &str, after: &Json, ms: i64) {
        self.append(file, &json!({"before": null, "after": after, "op": "u", "source": {"ts_ms": BEGAN + ms}}));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(self.0.path()).args(args);
        command
    }

    fn start(&self) -> Running {
        let running = Running::start(&mut self.command(&["run", "--listen", "127.0.0.1:0"]));
        running.until("/readyz", |answer| answer["ready"] == true);
        running
    }

    /// A run until all of what the tests here begin with is in the output.
    fn write_all_of_it(&self) {
        let running = self.start();
        running.until("/api/v1/targets/joined/rows/4", |answer| answer["row"]["amt"] == 5);
        running.stop();
    }

    fn read(&self) -> Vec<u8> {
        fs::read(self.0.path().join("out/joined")).expect("the output")
    }

    /// Starts where that is refused, with this code; what it says.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn path(comparison: &str) -> String {
    format!("/api/v1/comparisons/{comparison}/differences")
}

fn states(answer: &Json) -> Vec<(Json, Json, Json)> {
    let of = |difference: &Json| (difference["key"].clone(), difference["state"].clone(), difference["since"].clone());
    answer["differences"].as_array().into_iter().flatten().map(of).collect()
}

#[test]
fn a_row_of_a_join_is_as_new_as_what_changed_it() {
    let bench = Bench::new();
    bench.row("cust", &json!({"cid": 1, "region": "A"}), 0);
    bench.row("item", &json!({"id": 1, "cust": 1, "amt": 5}), 0);
    bench.row("act", &json!({"id": 1, "region": "A", "amt": 5}), 500);
    let running = bench.start();
    // After a pause of 100 s, in which the other table of the join says nothing.
    bench.row("item", &json!({"id": 1, "cust": 1, "amt": 6}), 100_000);
    running.until(&path("joins"), |answer| answer["differences"][0]["key"] == "1");
    // Another key of the actual side comes, so its time is beyond the grace of what was before.
    bench.row("act", &json!({"id": 99, "region": "Z", "amt": 1}), 100_500);
    running.until(&path("joins"), |answer| answer["differences"].as_array().is_some_and(|all| all.len() == 2));
    std::thread::sleep(Duration::from_millis(500));
    let found = states(&running.get(&path("joins")));
    assert_eq!(found[0], ("1".into(), "in_flight".into(), "2026-03-04T04:55:00.000Z".into()), "{found:?}");
    running.stop();
}

#[test]
fn the_clock_on_the_wall_does_not_stand_for_a_side_whose_connector_has_a_time() {
    let bench = Bench::new();
    bench.row("item", &json!({"id": 1, "cust": 1, "amt": 5}), 0);
    bench.row("act", &json!({"id": 7, "region": "A", "amt": 5}), 500);
    bench.append("bare", &json!({"key": {"id": 1}, "value": {"id": 1, "cust": 1, "amt": 4}}));
    let running = bench.start();
    running.until(&path("bares"), |answer| !states(answer).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    let found = states(&running.get(&path("bares")));
    assert_eq!((found.len(), &found[0].1), (1, &Json::from("in_flight")), "{found:?}");
    running.stop();
}

#[test]
fn an_output_file_that_is_not_as_it_was_written_is_named() {
    let bench = Bench::new();
    bench.row("cust", &json!({"cid": 1, "region": "A"}), 0);
    (0..20).for_each(|id| bench.row("item", &json!({"id": id, "cust": 1, "amt": 5}), id));
    let running = bench.start();
    running.until("/api/v1/targets/joined/rows/19", |answer| answer["row"]["amt"] == 5);
    // Another process is kept from it.
    let said = bench.refused(75, &["run", "--once"]);
    assert!(said.contains("FILE_NOT_WRITTEN") && said.contains("out/joined is written already"), "{said}");
    // Who empties it while it is written leaves no hole in it.
    bench.write("out/joined", "");
    bench.row("item", &json!({"id": 20, "cust": 1, "amt": 5}), 20);
    assert!(running.says(&["out/joined has", "somebody cut it"], LONG));
    running.stop();
    let text = String::from_utf8(bench.read()).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(r#"{"key":{"id":20}"#), "{text}");
    // What is shorter at a start than it was at the checkpoint is refused, an empty one is meant to be.
    bench.write("out/joined", &text[..20]);
    let said = bench.refused(78, &["run", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("OUTPUT_GONE") && said.contains(&format!("has 20 bytes, and {} of it were written", text.len())), "{said}");
    bench.write("out/joined", "");
    bench.start().stop();
    // Emptied, and written on until a crash that no checkpoint came before.
    bench.write("config.yaml", &CONFIG.replace("200ms", "1d"));
    bench.row("item", &json!({"id": 21, "cust": 1, "amt": 5}), 21);
    bench.row("item", &json!({"id": 22, "cust": 1, "amt": 5}), 22);
    bench.start().stop();
    assert_eq!(String::from_utf8(bench.read()).expect("text").lines().count(), 2);
    bench.write("out/joined", "");
    let running = bench.start();
    bench.row("item", &json!({"id": 23, "cust": 1, "amt": 5}), 23);
    running.until("/api/v1/targets/joined/rows/23", |answer| answer["row"]["amt"] == 5);
    while bench.read().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(running);
    bench.start().stop();
    let text = String::from_utf8(bench.read()).expect("text");
    assert!(text.lines().count() == 1 && text.starts_with(r#"{"key":{"id":23}"#), "{text}");
}

#[test]
fn a_start_anew_that_could_not_be_gone_on_from_writes_nothing() {
    let bench = Bench::new();
    bench.row("cust", &json!({"cid": 1, "region": "A"}), 0);
    (0..5).for_each(|id| bench.row("item", &json!({"id": id, "cust": 1, "amt": 5}), id));
    bench.write_all_of_it();
    let text = bench.read();
    let fresh = ["run", "--fresh", "--listen", "127.0.0.1:0"];
    // A checkpoint that can't be removed would be gone on from by the next start.
    let stuck = bench.0.path().join("state/checkpoints/00000000000000000001.json");
    fs::create_dir(&stuck).expect("a folder");
    let said = bench.refused(78, &fresh);
    assert!(said.contains("CHECKPOINT_UNWRITABLE") && said.contains("the next start would go on from the checkpoints"), "{said}");
    assert_eq!(bench.read(), text);
    fs::remove_dir(&stuck).expect("it is empty");
    // How long output files were before it all is not known any more.
    let begun = bench.0.path().join("state/checkpoints/begun.json");
    fs::write(&begun, "{").expect("a file");
    let said = bench.refused(78, &fresh);
    assert!(said.contains("CHECKPOINT_DAMAGED") && said.contains("begun.json") && said.contains("remove that file, and the files of outputs"), "{said}");
    assert_eq!(bench.read(), text);
    fs::remove_file(&begun).expect("it is there");
    fs::remove_file(bench.0.path().join("out/joined")).expect("it is there");
    bench.write_all_of_it();
    assert_eq!(bench.read().split(|byte| *byte == b'\n').count(), text.split(|byte| *byte == b'\n').count());
}

#[test]
fn at_the_end_of_all_logs_nothing_is_awaited_of_a_table_that_never_changes() {
    let bench = Bench::new();
    bench.write("config.yaml", &CONFIG.replace("  act:", "  fixed: { kind: file, dir: data }\n  act:"));
    bench.write("dataflows/d.yaml", &DATAFLOW.replace("cust: { connection: src", "cust: { connection: fixed"));
    bench.row("cust", &json!({"cid": 1, "region": "A"}), 0);
    bench.row("item", &json!({"id": 1, "cust": 1, "amt": 6}), 100_000);
    bench.row("act", &json!({"id": 1, "region": "A", "amt": 5}), 500);
    bench.row("act", &json!({"id": 2, "region": "A", "amt": 4}), 200_000);
    let done = bench.command(&["run", "--once", "--export", "export"]).output().expect("the program starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found = fs::read_to_string(bench.0.path().join("export/differences/joins.csv")).expect("an export");
    assert!(found.contains("1,mismatched,confirmed"), "{found}");
}
