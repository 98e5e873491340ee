//! The built program, killed at any moment and started again: what it says is what a run says that was never killed, and
//! nothing is read twice.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{
    generate::{self, Size, Workload},
    program::{Running, root},
};

const FILES: [&str; 5] = ["src.snapshot.ndjson", "src.changes.ndjson", "tgt.snapshot.ndjson", "tgt.changes.ndjson", "acc.snapshot.ndjson"];

/// A folder in which the files of a workload appear bit by bit.
struct Live {
    dir: tempfile::TempDir,
    /// By file: its lines, and how many of them are there.
    files: Vec<(File, Vec<String>, usize)>,
    random: u64,
    /// The longest file that the program can write.
    file_kib_max: Option<u32>,
}

impl Live {
    fn new(workload: &Workload, seed: u64) -> Live {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("data")).expect("a folder");
        let open = |name: &&str| {
            let lines = fs::read_to_string(workload.dir.join(name)).expect("a file of the workload").lines().map(|l| format!("{l}\n")).collect();
            (OpenOptions::new().create(true).append(true).open(dir.path().join("data").join(name)).expect("a file"), lines, 0)
        };
        let files = FILES.iter().map(open).collect();
        // The snapshots are there from the start.
        let mut live = Live { dir, files, random: seed.max(1), file_kib_max: None };
        for at in [0, 2, 4] {
            live.append(at, usize::MAX);
        }
        live
    }

    /// Xorshift; its seed is the test's.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn append(&mut self, at: usize, lines: usize) {
        let (file, all, there) = &mut self.files[at];
        let until = there.saturating_add(lines).min(all.len());
        file.write_all(all[*there..until].concat().as_bytes()).expect("a file that can be written");
        *there = until;
    }

    fn complete(&self) -> bool {
        self.files.iter().all(|(_, lines, there)| lines.len() == *there)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the program on the folder, with checkpoints in it, and with outputs to files if there are some.
    fn start(&self, contract: &str, workers: u64, outputs: &str) -> Running {
        Running::start(&mut self.command(contract, workers, outputs))
    }

    fn command(&self, contract: &str, workers: u64, outputs: &str) -> Command {
        let contract = root().join("tests/contract").join(contract);
        let dataflows = self.path().join("dataflows");
        fs::create_dir_all(&dataflows).expect("a folder");
        for file in fs::read_dir(contract.join("dataflows")).expect("the contract has dataflows").flatten() {
            fs::copy(file.path(), dataflows.join(file.file_name())).expect("a file");
        }
        if !outputs.is_empty() {
            fs::write(dataflows.join("outputs.yaml"), format!("dataflow: outputs\noutputs:\n{outputs}")).expect("a file");
        }
        let config = self.path().join("config.yaml");
        let text = fs::read_to_string(contract.join("config.yaml")).expect("the contract is there");
        fs::write(&config, format!("{text}\ncheckpoint: {{ interval: 100ms, keep: 2 }}\n")).expect("a file");
        let mut command = match self.file_kib_max {
            None => Command::new(env!("CARGO_BIN_EXE_tieout")),
            Some(kib) => {
                // What would be longer is refused, as on a disk that is full.
                let mut shell = Command::new("bash");
                shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tieout")]);
                shell
            }
        };
        command.env("TIEOUT_DATA", self.path().join("data")).env("TIEOUT_STATE", self.path().join("state"));
        command.args(["run", "--listen", "127.0.0.1:0", "--tick", "5ms", "--workers", &workers.to_string(), "--config"]).arg(config);
        command.arg("--dataflows").arg(dataflows);
        command
    }
}

/// Key, kind, field and values of each line of differences. The other columns say when: they follow from how the ticks were
/// cut, which is not the same in any two runs.
fn what(csv_text: &str) -> BTreeSet<String> {
    let mut csv = csv::Reader::from_reader(csv_text.as_bytes());
    csv.records().map(|line| line.expect("a line")).map(|l| [&l[0], &l[1], &l[3], &l[4], &l[5]].join("|")).collect()
}

fn served(running: &Running, comparison: &str) -> BTreeSet<String> {
    let (status, text) = running.text(&format!("/api/v1/comparisons/{comparison}/differences?format=csv&limit=100000")).expect("it answers");
    assert_eq!(status, 200, "{text}");
    what(&text)
}

fn exported(live: &Live, contract: &str, comparison: &str) -> BTreeSet<String> {
    let out = live.path().join("out");
    let config = root().join("tests/contract").join(contract).join("config.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.env("TIEOUT_DATA", live.path().join("data")).args(["run", "--once", "--log", "warn", "--config"]).arg(config).arg("--export").arg(&out);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(out.join("differences").join(format!("{comparison}.csv"))).expect("the export is there");
    what(&text)
}

/// By source: messages read, and lines of its files.
fn read(live: &Live, answer: &serde_json::Value) -> Vec<(u64, u64)> {
    let lines = |source: &serde_json::Value| {
        let log = source["log"].as_str().expect("a log");
        FILES.iter().enumerate().filter(|(_, name)| log.contains(**name)).map(|(at, _)| live.files[at].1.len() as u64).sum()
    };
    answer["sources"].as_array().expect("sources").iter().map(|source| (source["read"].as_u64().expect("a count"), lines(source))).collect()
}

#[test]
fn killed_at_any_moment_it_says_what_a_run_says_that_was_never_killed() {
    let seed = std::env::var("TIEOUT_RESTART_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("TIEOUT_RESTART_SEED={seed}");
    for (contract, comparison) in [("orders", "orders_in_erp"), ("revenue", "revenue_by_region")] {
        let workload = generate::workload(Size { rows: 2_000, changes: 12_000, seed, fault: 0.01, lag: 300 });
        let mut live = Live::new(&workload, seed);
        let mut kills = 0;
        while !live.complete() {
            let workers = 1 + live.draw(4);
            let running = live.start(contract, workers, "");
            for _ in 0..1 + live.draw(20) {
                let (file, lines) = (1 + 2 * live.draw(2) as usize, 1 + live.draw(400) as usize);
                live.append(file, lines);
                std::thread::park_timeout(Duration::from_millis(live.draw(40)));
            }
            // Dropping it is `kill -9`; some are asked to stop.
            match live.draw(4) {
                0 => running.stop(),
                _ => {
                    kills += 1;
                    drop(running);
                }
            }
        }
        let running = live.start(contract, 2, "");
        running.until("/api/v1/sources", |answer| answer["hydrated"] == true && read(&live, answer).iter().all(|(read, lines)| read >= lines));
        // Exactly as many as there are: nothing was lost, and nothing counted twice.
        let counts = read(&live, &running.get("/api/v1/sources"));
        assert!(counts.iter().all(|(read, lines)| read == lines), "{contract} after {kills} kills: {counts:?}");
        let truth = exported(&live, contract, comparison);
        assert!(!truth.is_empty());
        let said = served(&running, comparison);
        let (lacking, false_): (Vec<_>, Vec<_>) = (truth.difference(&said).collect(), said.difference(&truth).collect());
        assert!(said == truth, "{contract} after {kills} kills\n  lacking: {lacking:#?}\n  false: {false_:#?}");
        println!("{contract}: {kills} kills");
        running.stop();
        audited(&live);
    }
}

/// As of the last checkpoint, every line of every file became something.
fn audited(live: &Live) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.env("TIEOUT_DATA", live.path().join("data")).args(["audit", "counts", "--format", "csv", "--config"]).arg(live.path().join("config.yaml"));
    let output = command.arg("--data-dir").arg(live.path().join("state")).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let mut all = 0;
    for line in csv.records().map(|line| line.expect("a line")) {
        let number = |at: usize| line[at].parse::<u64>().expect("a count");
        assert_eq!(number(5), (6..10).map(number).sum::<u64>(), "{line:?}");
        all += number(5);
    }
    let sources = fs::read_to_string(live.path().join("dataflows/revenue.yaml")).or_else(|_| fs::read_to_string(live.path().join("dataflows/orders.yaml")));
    let sources = sources.expect("a dataflow");
    let lines = FILES.iter().enumerate().filter(|(_, name)| sources.contains(**name)).map(|(at, _)| live.files[at].1.len() as u64);
    assert_eq!(all, lines.sum::<u64>(), "{text}");
}

/// The rows that the records of an output file leave, by key.
fn folded(path: &Path) -> std::collections::BTreeMap<String, serde_json::Value> {
    let mut rows = std::collections::BTreeMap::new();
    for line in fs::read_to_string(path).expect("the output is there").lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record");
        let key = record["key"].to_string();
        match &record["value"] {
            serde_json::Value::Null => rows.remove(&key),
            row => rows.insert(key, row.clone()),
        };
    }
    rows
}

/// What came, changed and went while it was down is written when it is back, and what was written after the last checkpoint is
/// written once: outputs end as those of a run without stops.
#[test]
fn stopped_or_killed_again_and_again_its_outputs_end_as_if_it_had_run_all_the_time() {
    let outputs = "  - { table: expected_order, connection: erp, file: rows.out.ndjson }\n  - { differences: orders_in_erp, connection: erp, file: differences.out.ndjson }\n";
    let workload = generate::workload(Size { rows: 1_000, changes: 6_000, seed: 7, fault: 0.02, lag: 300 });
    let mut live = Live::new(&workload, 7);
    let mut stops = 0;
    while !live.complete() {
        let workers = 1 + live.draw(3);
        let running = live.start("orders", workers, outputs);
        // Some stops come before it has shown anything.
        if live.draw(3) > 0 {
            running.until("/readyz", |answer| answer["ready"] == true);
        }
        for _ in 0..live.draw(6) {
            let (file, lines) = (1 + 2 * live.draw(2) as usize, 1 + live.draw(300) as usize);
            live.append(file, lines);
            std::thread::park_timeout(Duration::from_millis(live.draw(30)));
        }
        if live.draw(2) == 0 {
            running.stop();
        } else {
            drop(running);
        }
        stops += 1;
        let (file, lines) = (1 + 2 * live.draw(2) as usize, 1 + live.draw(600) as usize);
        live.append(file, lines);
    }
    let running = live.start("orders", 2, outputs);
    running.until("/api/v1/sources", |answer| answer["hydrated"] == true && read(&live, answer).iter().all(|(read, lines)| read >= lines));
    running.stop();
    exported(&live, "orders", "orders_in_erp");
    let truth: Vec<serde_json::Value> = fs::read_to_string(live.path().join("out/targets/expected_order.ndjson"))
        .expect("targets are exported")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect();
    let mut rows: Vec<serde_json::Value> = folded(&live.path().join("data/rows.out.ndjson")).into_values().collect();
    rows.sort_by_key(|row| row["order_id"].to_string());
    let mut truth = truth;
    truth.sort_by_key(|row| row["order_id"].to_string());
    assert!(rows == truth, "{} rows are written, {} should be, after {stops} stops", rows.len(), truth.len());
    let differing: BTreeSet<String> =
        exported(&live, "orders", "orders_in_erp").iter().map(|line| line.split('|').next().expect("a key").to_string()).collect();
    let written = folded(&live.path().join("data/differences.out.ndjson")).into_keys();
    let written: BTreeSet<String> =
        written.map(|key| serde_json::from_str::<serde_json::Value>(&key).expect("a key")["order_id"].as_str().expect("a text").to_string()).collect();
    assert_eq!(written, differing, "after {stops} stops");
    // Nobody can tell a reader which rows were in a file that is gone.
    let rows = live.path().join("data/rows.out.ndjson");
    fs::remove_file(&rows).expect("the output is there");
    let ended = live.command("orders", 2, outputs).output().expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(78) && said.contains("OUTPUT_GONE") && said.contains("rows.out.ndjson"), "{:?}: {said}", ended.status);
    assert!(!rows.exists());
    // An empty one in its place gets what changes.
    File::create(&rows).expect("a file");
    let running = live.start("orders", 2, outputs);
    running.until("/readyz", |answer| answer["ready"] == true);
    running.stop();
    assert!(rows.exists());
}

fn truthful(live: &Live, running: &Running) {
    running.until("/api/v1/sources", |answer| answer["hydrated"] == true && read(live, answer).iter().all(|(read, lines)| read >= lines));
    assert_eq!(served(running, "orders_in_erp"), exported(live, "orders", "orders_in_erp"));
}

/// The number of sound checkpoints, all of them being sound.
fn verified(live: &Live) -> usize {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    let output = command.args(["checkpoint", "verify", "--data-dir"]).arg(live.path().join("state")).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.matches("sound").count()
}

/// With no room for checkpoints it goes on from memory, says so, and leaves the ones before as they are.
#[test]
fn a_full_disk_harms_neither_the_run_nor_the_last_checkpoint() {
    let workload = generate::workload(Size { rows: 4_000, changes: 8_000, seed: 11, fault: 0.01, lag: 300 });
    let mut live = Live::new(&workload, 11);
    let checkpoints = |running: &Running, name: &str| {
        let (_, page) = running.text("/metrics").expect("it answers");
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let wait = |running: &Running, name: &str| {
        while checkpoints(running, name) < 1.0 {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    };
    live.append(1, 2_000);
    let running = live.start("orders", 2, "");
    running.until("/readyz", |answer| answer["ready"] == true);
    wait(&running, "tieout_checkpoint_seconds_count");
    drop(running);
    assert!(verified(&live) > 0);
    live.file_kib_max = Some(16);
    let running = live.start("orders", 1, "");
    live.append(1, usize::MAX);
    live.append(3, usize::MAX);
    wait(&running, "tieout_checkpoint_failures_total");
    assert!(running.says(&["CHECKPOINT_UNWRITABLE"], Duration::from_secs(20)));
    truthful(&live, &running);
    drop(running);
    assert!(verified(&live) > 0);
    live.file_kib_max = None;
    let running = live.start("orders", 3, "");
    truthful(&live, &running);
    running.stop();
    // Where nothing can be written at a start, what can be read is gone on from all the same.
    let lock = live.path().join("state/checkpoints/lock");
    fs::remove_file(&lock).and_then(|()| fs::create_dir(&lock)).expect("a folder in its place");
    let running = live.start("orders", 2, "");
    assert!(running.says(&["goes on from a checkpoint"], Duration::from_secs(20)));
    truthful(&live, &running);
    // And a folder that somebody clears away is made again, with all that a restart needs.
    while let Err(error) = fs::remove_dir_all(live.path().join("state/checkpoints")) {
        // It writes there meanwhile.
        assert!(error.kind() == std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    wait(&running, "tieout_checkpoint_seconds_count");
    running.stop();
    assert!(verified(&live) > 0);
    let running = live.start("orders", 2, "");
    truthful(&live, &running);
    running.stop();
}
