//! What stands still though it should move is named in `/readyz`, in metrics and in the log, and only that.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::program::Running;

/// The shortest bound that can be set.
const BOUND: Duration = Duration::from_secs(2);

const CONFIG: &str = "name: stuck\ndata_dir: DIR/state\nstuck_after: 2s\nconnections:\n  files: { kind: file, dir: DIR }\n";
const DATAFLOW: &str = "\
dataflow: d
sources:
  deal: { connection: files, files: [deal.ndjson], format: upsert-json, key: [id], columns: { id: bigint, name: varchar } }
targets:
  wanted: { key: [id], from: deal, fields: { id: id, name: upper(name) } }
outputs:
  - { table: wanted, connection: files, file: out.ndjson }
";

fn start(dir: &Path, failpoint: &str) -> Running {
    fs::create_dir(dir.join("dataflows")).expect("a folder");
    fs::write(dir.join("dataflows/d.yaml"), DATAFLOW).expect("a file");
    fs::write(dir.join("config.yaml"), CONFIG.replace("DIR", &dir.display().to_string())).expect("a file");
    append(dir, 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.env("TIEOUT_FAILPOINT", format!("{failpoint}:hold:{}", dir.join("hold").display()));
    let running = Running::start(command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(dir.join("config.yaml")));
    running.until("/readyz", |answer| answer["ready"] == true);
    running
}

fn append(dir: &Path, id: u32) {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("deal.ndjson")).expect("a file");
    writeln!(file, "{{\"key\":{{\"id\":{id}}},\"value\":{{\"name\":\"n\"}}}}").expect("a file that can be written");
}

/// Holds something while there is work for it: it is named within twice the bound, and forgotten when it moves again.
fn held(failpoint: &str, code: &str, name: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let running = start(dir, failpoint);
    let began = Instant::now();
    fs::write(dir.join("hold"), "").expect("a file");
    append(dir, 2);
    let named =
        |answer: &serde_json::Value| answer["reasons"].as_array().is_some_and(|all| all.iter().any(|r| r.as_str().is_some_and(|r| r.starts_with(code))));
    running.until("/readyz", |answer| answer["ready"] == false && named(answer));
    let took = began.elapsed();
    // With some seconds for machines that are busy; how it is judged is tested without a clock.
    assert!((BOUND..2 * BOUND + Duration::from_secs(10)).contains(&took), "{code} after {took:?}");
    let metric = format!("tieout_stuck{{code=\"{code}\",name=\"{name}\"}} 1");
    let page = |running: &Running| running.text("/metrics").expect("it answers").1;
    assert!(page(&running).contains(&metric), "{}", page(&running));
    assert!(running.says(&[code, name], Duration::from_secs(5)), "no line of {code}");
    fs::remove_file(dir.join("hold")).expect("a file");
    running.until("/readyz", |answer| answer["ready"] == true);
    assert!(!page(&running).contains(&metric));
    running.stop();
    assert_eq!(fs::read_to_string(dir.join("out.ndjson")).expect("the output").lines().count(), 2, "nothing was lost");
}

#[test]
fn a_reader_that_is_stuck_is_named() {
    held("log-file", "READER_STUCK", "deal");
}

#[test]
fn an_output_that_is_stuck_is_named() {
    held("sink-file", "SINK_STUCK", "out.ndjson");
}

#[test]
fn what_is_idle_is_not_stuck() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(dir.path(), "nothing");
    std::thread::park_timeout(BOUND * 2);
    let (status, answer) = running.text("/readyz").expect("it answers");
    assert_eq!(status, 200, "{answer}");
    assert!(!running.text("/metrics").expect("it answers").1.contains("tieout_stuck{"));
    running.stop();
}
