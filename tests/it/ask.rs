//! `tieout differences`, asked of a tieout that runs.

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Output},
};

use crate::program::Running;

const CONFIG: &str = "connections: { files: { kind: file, dir: \"${env:TIEOUT_DATA}\" } }\ndata_dir: ${env:TIEOUT_DATA}/state\n";
const FLOW: &str = "dataflow: ask
sources:
  wanted: { connection: files, files: [wanted.ndjson], format: debezium-json, key: [id], columns: { id: bigint, note: varchar, qty: int } }
  found: { connection: files, files: [found.ndjson], format: debezium-json, key: [id], columns: { id: bigint, note: varchar, qty: int } }
comparisons:
  all_there: { expected: wanted, actual: found, grace: 0s, stale_after: 1d }
";

/// 147 differences: 1 has an empty text for a NULL, 2 the text `NULL` for one, 3 is there and should not be, the others lack.
fn running(folder: &tempfile::TempDir) -> Running {
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    fs::create_dir(folder.path().join("dataflows")).expect("a folder");
    let event = |id: u32, note: &str| format!("{{\"op\":\"r\",\"after\":{{\"id\":{id},\"note\":{note},\"qty\":7}},\"source\":{{\"ts_ms\":1000}}}}\n");
    let (mut wanted, mut found) = (event(1, "null") + &event(2, "null"), event(1, "\"\"") + &event(2, "\"NULL\"") + &event(3, "\"x\""));
    for id in 10..154 {
        let _ = write!(wanted, "{}", event(id, "\"lamp\""));
    }
    found.push_str(&event(9, "\"both\""));
    wanted.push_str(&event(9, "\"both\""));
    write("wanted.ndjson", &wanted);
    write("found.ndjson", &found);
    write("config.yaml", CONFIG);
    write("dataflows/ask.yaml", FLOW);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.env("TIEOUT_DATA", folder.path()).args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(folder.path().join("config.yaml"));
    let running = Running::start(&mut command);
    running.until("/api/v1/comparisons/all_there", |answer| answer["differences"]["total"] == 147);
    running
}

fn asked(running: &Running, args: &[&str]) -> Output {
    let url = running.url();
    Command::new(env!("CARGO_BIN_EXE_tieout")).arg("differences").args(args).args(["--url", &url]).output().expect("it starts")
}

#[test]
fn differences_are_told_whole_or_it_is_said_that_they_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(&folder);
    let said = |args: &[&str]| {
        let output = asked(&running, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let table = said(&["all_there"]);
    assert_eq!(table.lines().count(), 102, "{table}");
    assert!(table.contains("100 of 147 differences as of tick") && table.contains("--limit"), "{table}");
    let line = |key: &str| table.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_else(|| panic!("no {key} in {table}"));
    assert!(line("1").contains("note: NULL / ''"), "{}", line("1"));
    assert!(line("2").contains("note: NULL / 'NULL'"), "{}", line("2"));
    assert!(line("3").contains("– / note: x, qty: 7"), "{}", line("3"));
    assert!(line("10").contains("note: lamp, qty: 7 / –"), "{}", line("10"));
    assert!(said(&["all_there", "--limit", "500"]).contains("\n147 differences as of tick"));
    // A key, a header, and a line for each field that differs; a row that lacks has one line.
    assert_eq!(said(&["all_there", "--format", "csv"]).lines().count(), 148);
    assert_eq!(said(&["all_there", "--format", "ndjson"]).lines().count(), 147);
    assert_eq!(said(&["all_there", "--format", "ndjson", "--limit", "5"]).lines().count(), 5);
    let page: serde_json::Value = serde_json::from_str(&said(&["all_there", "--format", "json"])).expect("JSON");
    let next = page["next"].as_str().expect("there is another page");
    let rest: serde_json::Value = serde_json::from_str(&said(&["all_there", "--format", "json", "--cursor", next])).expect("JSON");
    assert_eq!((rest["differences"].as_array().map(Vec::len), &rest["next"]), (Some(47), &serde_json::Value::Null));

    assert!(said(&[]).contains("all_there"));
    for wrong in [&["--kind", "missing"][..], &["--limit", "3"], &["--format", "csv"], &["--format", "ndjson"]] {
        let output = asked(&running, wrong);
        let told = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}: {told}");
        assert!(told.contains(wrong[0]) && told.contains("name it"), "{told}");
    }
    running.stop();
}
