//! Upstream transactions in files that grow one after the other: the built program never shows another sum than that which no
//! transaction changes, neither of a backlog nor of what comes later.

use std::{fs, fs::OpenOptions, io::Write, path::Path, process::Command};

use crate::program::Running;

const CONFIG: &str = "name: upstream\ndata_dir: DIR/state\ntick: 2ms\nworkers: 2\nconnections:\n  files: { kind: file, dir: DIR }\n";
const DATAFLOW: &str = "\
dataflow: d
transactions:
  log: { connection: files, files: [log.ndjson], bound: 60s }
sources:
  a: { connection: files, files: [a.ndjson], format: debezium-json, key: [id], columns: { id: bigint, n: bigint }, transactions: log, collection: db.a }
  b: { connection: files, files: [b.ndjson], format: debezium-json, key: [id], columns: { id: bigint, n: bigint }, transactions: log, collection: db.b }
targets:
  total: { key: [name], sql: \"SELECT 'all' AS name, sum(n) AS total, max(id) AS last FROM (SELECT * FROM a UNION ALL SELECT * FROM b) AS both\" }
outputs:
  - { table: total, connection: files, file: out.ndjson }
";

/// A transaction takes what it gives: lines of `a`, `b` and the log.
fn transaction(id: u64) -> [String; 3] {
    let row = |order: u64, id_of_row: u64, n: i64| {
        format!(
            "{{\"op\":\"c\",\"after\":{{\"id\":{id_of_row},\"n\":{n}}},\"source\":{{\"ts_ms\":{id}}},\"transaction\":{{\"id\":\"0-1-{id}\",\"total_order\":{order}}}}}\n"
        )
    };
    let n = id as i64 % 97 + 1;
    let end = format!(
        "{{\"status\":\"END\",\"id\":\"0-1-{id}\",\"ts_ms\":{id},\"data_collections\":[{{\"data_collection\":\"db.a\",\"event_count\":2}},{{\"data_collection\":\"db.b\",\"event_count\":1}}]}}\n"
    );
    [row(1, 4 * id, n) + &row(3, 4 * id + 1, n), row(2, 4 * id + 2, -2 * n), end]
}

fn append(dir: &Path, file: usize, text: &str) {
    let path = dir.join(["a.ndjson", "b.ndjson", "log.ndjson"][file]);
    OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file grows");
}

#[test]
fn no_sum_of_half_a_transaction_is_ever_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    fs::create_dir(dir.join("dataflows")).expect("a folder");
    fs::write(dir.join("dataflows/d.yaml"), DATAFLOW).expect("a file");
    fs::write(dir.join("config.yaml"), CONFIG.replace("DIR", &dir.display().to_string())).expect("a file");
    // A backlog: one of the tables has much of its own before.
    append(dir, 1, &"{\"op\":\"r\",\"after\":{\"id\":1,\"n\":0}}\n".repeat(100_000));
    for id in 1..=3000 {
        transaction(id).iter().enumerate().for_each(|(file, text)| append(dir, file, text));
    }
    let running = Running::start(Command::new(env!("CARGO_BIN_EXE_tieout")).args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(dir.join("config.yaml")));
    let has = |id: u64| running.until("/api/v1/targets/total/rows/all", |answer| answer["row"]["last"] == serde_json::json!(4 * id + 2));
    has(3000);
    // One file after the other, in every order.
    for id in 3001..=3120u64 {
        let parts = transaction(id);
        for place in 0..3 {
            let file = (place + id as usize) % 3;
            let file = if id % 2 == 0 { 2 - file } else { file };
            append(dir, file, &parts[file]);
            std::thread::park_timeout(std::time::Duration::from_millis(4));
        }
    }
    has(3120);
    running.stop();
    let written = fs::read_to_string(dir.join("out.ndjson")).expect("the output");
    let totals: Vec<&str> = written.lines().collect();
    assert!(totals.len() > 20, "{totals:?}");
    for line in totals {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(record["value"]["total"], serde_json::json!(0), "{line}");
    }
}
