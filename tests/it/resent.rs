//! A connector dies and sends a range again, slowly, while the built program is asked what differs: nobody sees an older
//! state. The same without holding shows some, or this test would show nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value as Json;

use crate::program::Running;

const KEYS: u64 = 40;
const DATAFLOW: &str = "\
dataflow: d
sources:
  wanted: { connection: files, files: [wanted.ndjson], format: debezium-json, key: [id], columns: { id: bigint, v: bigint } }
  there: { connection: files, files: [there.ndjson], format: debezium-json, key: [id], columns: { id: bigint, v: bigint } }
targets:
  copy: { key: [id], from: there, fields: { id: id, v: v } }
comparisons:
  both: { expected: wanted, actual: there, grace: 50ms, stale_after: 1d }
outputs:
  - { table: copy, connection: files, file: copy.ndjson }
  - { differences: both, connection: files, file: both.ndjson }
";

/// Two tables that are written in step, as one connector sends them.
struct Two {
    dir: tempfile::TempDir,
    files: [File; 2],
    lines: u64,
}

impl Two {
    fn new(replay_bound: &str) -> Two {
        let dir = tempfile::tempdir().expect("a folder");
        let at = dir.path();
        fs::create_dir(at.join("dataflows")).expect("a folder");
        fs::write(at.join("dataflows/d.yaml"), DATAFLOW).expect("a file");
        let config = format!(
            "name: resent\ndata_dir: {0}/state\nworkers: 2\ntick: 2ms\nreplay_bound: {replay_bound}\ncheckpoint: {{ interval: 1s }}\nconnections:\n  files: {{ kind: file, dir: {0} }}\n",
            at.display()
        );
        fs::write(at.join("config.yaml"), config).expect("a file");
        let files = ["wanted.ndjson", "there.ndjson"].map(|name| OpenOptions::new().create(true).append(true).open(at.join(name)).expect("a file"));
        Two { dir, files, lines: 0 }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self) -> Running {
        Running::start(Command::new(env!("CARGO_BIN_EXE_tieout")).args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(self.path().join("config.yaml")))
    }

    /// The changes with these numbers, as they are sent each time: a number is its place in the log, and the new value.
    fn send(&mut self, table: usize, numbers: std::ops::Range<u64>) {
        let line = |n: u64| {
            let source = format!(
                r#"{{"connector":"postgresql","name":"db","ts_ms":{},"snapshot":"false","sequence":"[\"{}\",\"{n}\"]","table":"t","txId":{n}}}"#,
                1_770_000_000_000 + n * 10,
                n - 1
            );
            format!("{{\"before\":null,\"after\":{{\"id\":{},\"v\":{n}}},\"source\":{source},\"op\":\"u\"}}\n", n % KEYS)
        };
        let lines: String = numbers.map(line).collect();
        self.files[table].write_all(lines.as_bytes()).expect("a file that can be written");
        self.lines += if table == 1 { lines.lines().count() as u64 } else { 0 };
    }

    /// Differences that were ever written, and how many of them were confirmed.
    fn shown(&self) -> (usize, usize) {
        let text = fs::read_to_string(self.path().join("both.ndjson")).unwrap_or_default();
        let of = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        (of("\"state\""), of("confirmed"))
    }

    /// How often a row of the copy went back to an older state.
    fn went_back(&self) -> usize {
        let (mut newest, mut back) = (std::collections::BTreeMap::new(), 0);
        for line in fs::read_to_string(self.path().join("copy.ndjson")).unwrap_or_default().lines() {
            let record: Json = serde_json::from_str(line).expect("a record");
            let Some(v) = record["value"]["v"].as_i64() else { continue };
            let before = newest.insert(record["key"].to_string(), v);
            back += usize::from(before.is_some_and(|before| before > v));
        }
        back
    }
}

fn is_ready(answer: &Json) -> bool {
    answer["ready"] == true
}

/// What `/sources` says of the table that is sent again.
fn there(answer: &Json) -> &Json {
    answer["sources"].as_array().and_then(|all| all.iter().find(|source| source["name"] == "there")).expect("the source")
}

fn total(running: &Running) -> i64 {
    running.get("/api/v1/comparisons")["comparisons"][0]["differences"]["total"].as_i64().unwrap_or(-1)
}

#[test]
fn nobody_sees_a_range_that_is_sent_again() {
    let mut two = Two::new("60s");
    (0..2).for_each(|table| two.send(table, 1..3001));
    let running = two.start();
    running.until("/readyz", is_ready);
    assert_eq!(total(&running), 0, "{:#}", running.get("/api/v1/comparisons"));
    for n in 0..10 {
        two.send(1, 1000 + n * 200..1200 + n * 200);
        // One table goes on meanwhile.
        std::thread::park_timeout(Duration::from_millis(60));
        if n < 9 {
            running.until("/api/v1/sources", |answer| there(answer)["replaying"]["records"].as_u64().is_some_and(|records| records >= (n + 1) * 200));
        }
        assert_eq!(total(&running), 0, "after {n} pieces");
    }
    assert!(there(&running.get("/api/v1/sources"))["caught_up"] == false);
    assert!(!running.get("/readyz")["reasons"].to_string().contains("STUCK"));
    // The last one, and news.
    two.send(1, 3000..3001);
    (0..2).for_each(|table| two.send(table, 3001..3101));
    let lines = two.lines;
    running.until("/api/v1/sources", |answer| there(answer)["read"] == lines && there(answer)["replaying"].is_null());
    running.until("/api/v1/comparisons", |answer| answer["comparisons"][0]["differences"]["total"] == 0);
    let page = running.text("/metrics").expect("it answers").1;
    for line in
        ["tieout_replays_total{source=\"there\"} 1", "tieout_replayed_records_total{source=\"there\"} 2001", "tieout_replay_held_records{source=\"there\"} 0"]
    {
        assert!(page.contains(line), "{line}: {page}");
    }
    let source = running.get("/api/v1/sources");
    let of = |name: &str| there(&source)[name].as_u64().expect("a count");
    assert_eq!(of("read"), of("applied") + of("filtered") + of("rejected") + of("suppressed"));
    running.stop();
    assert_eq!((two.went_back(), two.shown().1), (0, 0));
}

#[test]
fn a_restart_within_a_range_knows_it() {
    let mut two = Two::new("60s");
    (0..2).for_each(|table| two.send(table, 1..3001));
    let running = two.start();
    running.until("/readyz", is_ready);
    let taken = |running: &Running| running.text("/metrics").expect("it answers").1.contains("tieout_checkpoint_timestamp_seconds 1");
    while !taken(&running) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    two.send(1, 500..1500);
    running.until("/api/v1/sources", |answer| there(answer)["replaying"]["records"] == 1000);
    // Killed, not stopped.
    drop(running);
    let running = two.start();
    running.until("/readyz", |answer| answer["reasons"].to_string().contains("sends a range again"));
    two.send(1, 1500..2500);
    std::thread::park_timeout(Duration::from_millis(300));
    assert!(!is_ready(&running.get("/readyz")));
    two.send(1, 2500..3001);
    running.until("/readyz", is_ready);
    assert_eq!(total(&running), 0);
    running.stop();
    assert_eq!((two.went_back(), two.shown()), (0, (0, 0)));
}

#[test]
fn what_is_not_held_is_seen() {
    let mut two = Two::new("0s");
    (0..2).for_each(|table| two.send(table, 1..3001));
    let running = two.start();
    running.until("/readyz", is_ready);
    two.send(1, 1000..2000);
    running.until("/api/v1/comparisons", |answer| answer["comparisons"][0]["differences"]["total"].as_u64().is_some_and(|total| total > 0));
    two.send(1, 2000..3001);
    running.until("/api/v1/comparisons", |answer| answer["comparisons"][0]["differences"]["total"] == 0);
    running.stop();
    assert!(two.went_back() > 0 && two.shown().1 > 0, "{} rows went back, differences and confirmed ones: {:?}", two.went_back(), two.shown());
}

#[test]
fn after_the_bound_it_is_shown_and_said() {
    let mut two = Two::new("1s");
    (0..2).for_each(|table| two.send(table, 1..3001));
    let running = two.start();
    running.until("/readyz", is_ready);
    two.send(1, 1000..2000);
    assert!(running.says(&["REPLAY_RELEASED", "there"], Duration::from_secs(10)));
    running.until("/api/v1/comparisons", |answer| answer["comparisons"][0]["differences"]["total"].as_u64().is_some_and(|total| total > 0));
    two.send(1, 2000..3001);
    running.until("/api/v1/comparisons", |answer| answer["comparisons"][0]["differences"]["total"] == 0);
    running.stop();
}

#[test]
fn a_record_that_a_producer_sent_twice_does_not_hold_its_source_for_long() {
    let mut two = Two::new("10m");
    (0..2).for_each(|table| two.send(table, 1..3001));
    let running = two.start();
    running.until("/readyz", is_ready);
    // Its key has not changed since.
    two.send(1, 2990..2991);
    running.until("/api/v1/sources", |answer| there(answer)["replaying"]["records"] == 1);
    assert!(running.says(&["REPLAY_RELEASED", "there", "twice"], Duration::from_secs(30)));
    running.until("/readyz", is_ready);
    // A range is one still, also one of which something had come alone.
    two.send(1, 2000..2500);
    running.until("/api/v1/sources", |answer| there(answer)["replaying"]["records"] == 500);
    two.send(1, 2500..3001);
    running.until("/readyz", is_ready);
    assert_eq!(total(&running), 0);
    running.stop();
    assert_eq!((two.went_back(), two.shown()), (0, (0, 0)));
}
