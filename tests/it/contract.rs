//! The contract's dataflows, run by the built program on generated files: the exports are the truth, whatever the number of
//! workers and the tick; and a file that grows is followed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    generate::{self, Size, Workload},
    program::{Running, root},
};

fn run_once(contract: &str, data: &Path, out: &Path, more: &[&str]) {
    let config = root().join("tests/contract").join(contract).join("config.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_tieout"))
        .env("TIEOUT_DATA", data)
        .args(["run", "--once", "--log", "warn", "--config"])
        .arg(config)
        .arg("--export")
        .arg(out)
        .args(more)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{contract} {more:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The export in the form of the truth: key, kind, field, and for mismatches both values.
fn lines(out: &Path, comparison: &str) -> BTreeSet<String> {
    let mut csv = csv::Reader::from_path(out.join("differences").join(format!("{comparison}.csv"))).expect("the export is there");
    let rows = csv.records().map(|r| {
        let r = r.expect("a row");
        let values = if &r[1] == "mismatched" { [&r[3], &r[4], &r[5]] } else { ["", "", ""] };
        let mut line = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        line.write_record([&r[0], &r[1], values[0], values[1], values[2]]).expect("a line");
        String::from_utf8(line.into_inner().expect("a line")).expect("text").trim_end().to_string()
    });
    rows.collect()
}

fn unquoted(truth: &BTreeSet<String>) -> BTreeSet<String> {
    truth.iter().map(|l| l.replace('"', "")).collect()
}

fn small(seed: u64) -> Workload {
    generate::workload(Size { rows: 3_000, changes: 4_000, seed, fault: 0.01, lag: 200 })
}

#[test]
fn the_exports_are_the_truth() {
    for (seed, more) in [
        (1, vec!["--workers", "1", "--tick", "1ms"]),
        (2, vec!["--workers", "2"]),
        (3, vec!["--workers", "3", "--tick", "10s"]),
        (4, vec!["--workers", "4", "--tick", "7ms"]),
        (5, vec!["--workers", "1", "--processes", "2"]),
        (6, vec!["--workers", "2", "--processes", "4", "--tick", "1ms"]),
    ] {
        let workload = small(seed);
        let out = tempfile::tempdir().expect("a folder");
        for (contract, comparison, truth) in [("orders", "orders_in_erp", &workload.orders_truth), ("revenue", "revenue_by_region", &workload.revenue_truth)] {
            run_once(contract, &workload.dir, out.path(), &more);
            assert!(!truth.is_empty(), "the workload has faults");
            assert_eq!(unquoted(&lines(out.path(), comparison)), unquoted(truth), "{contract} seed {seed} {more:?}");
        }
        let rows = fs::read_to_string(out.path().join("targets/won_deal.ndjson")).expect("targets are exported");
        assert!(rows.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok_and(|r| r["amount"].is_string())));
        for file in ["totals/revenue_by_region.csv", "rejects.csv", "summary.json"] {
            assert!(out.path().join(file).exists(), "{file}");
        }
    }
}

#[test]
fn a_log_line_says_which_of_several_processes_wrote_it() {
    let workload = small(5);
    let said = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(root()).env("TIEOUT_DATA", &workload.dir).args(["run", "--once", "--config", "tests/contract/orders/config.yaml"]).args(more);
        let output = command.output().expect("the program starts");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = said(&["--processes", "2"]);
    for process in ["0 ", "1 "] {
        assert!(text.lines().any(|line| line.starts_with(process) && line.contains("joins cluster")), "{text}");
    }
    let json = said(&["--processes", "2", "--log-format", "json"]);
    let at: BTreeSet<i64> =
        json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["at_process"].as_i64().expect("a number")).collect();
    assert_eq!(at, BTreeSet::from([0, 1]));
    assert!(!said(&["--log-format", "json"]).contains("at_process"));
}

#[test]
fn the_number_of_workers_changes_no_export() {
    let workload = small(5);
    // Since when something differs, and so its state at the end, follows from where the ticks of a backlog were cut: by volume, and on
    // a slow machine by time.
    let exports = |workers: &str| -> (BTreeSet<String>, Vec<String>) {
        let out = tempfile::tempdir().expect("a folder");
        run_once("orders", &workload.dir, out.path(), &["--workers", workers]);
        let files = ["targets/expected_order.ndjson", "totals/orders_in_erp.csv", "rejects.csv"];
        (lines(out.path(), "orders_in_erp"), files.iter().map(|file| fs::read_to_string(out.path().join(file)).expect("an export")).collect())
    };
    assert!(exports("1") == exports("4"), "the exports of one worker and of four differ");
}

#[test]
fn a_file_that_grows_is_followed() {
    let data = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(data.path().join(name), text).expect("a file");
    let deal = r#"{"before":null,"after":{"id":1,"account_id":7,"owner":"Ann","amount":"10.50","currency":null,"stage":"Closed Won","probability":1,"closed_at":null,"updated_at":1},"source":{"ts_ms":1000},"op":"r"}"#;
    for name in ["src.changes.ndjson", "tgt.snapshot.ndjson", "tgt.changes.ndjson"] {
        write(name, "");
    }
    write("src.snapshot.ndjson", &format!("{deal}\n"));
    let config: PathBuf = root().join("tests/contract/orders/config.yaml");
    let running = Running::start(
        Command::new(env!("CARGO_BIN_EXE_tieout"))
            .env("TIEOUT_DATA", data.path())
            .env("TIEOUT_STATE", data.path().join("state"))
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(config),
    );
    let path = "/api/v1/comparisons/orders_in_erp/differences";
    running.until(path, |answer| answer["differences"][0]["key"] == "SO-1" && answer["differences"][0]["kind"] == "missing");
    let order = r#"{"before":null,"after":{"order_id":"SO-1","customer":7,"status":"confirmed","amount":"10.5","currency":"EUR","closed_on":null,"owner":"ann"},"source":{"ts_ms":2000},"op":"c"}"#;
    write("tgt.changes.ndjson", &format!("{order}\n"));
    let mut waited = vec![running.until(path, |answer| answer["differences"].as_array().is_some_and(Vec::is_empty))];
    // "Well within a second", of three: a machine that builds something else at the same time stands still now and then.
    for (status, differences) in [("open", 1), ("confirmed", 0)] {
        let mut file = fs::OpenOptions::new().append(true).open(data.path().join("tgt.changes.ndjson")).expect("a file");
        std::io::Write::write_all(&mut file, format!("{}\n", order.replace("confirmed", status)).as_bytes()).expect("it can be written");
        waited.push(running.until(path, |answer| answer["differences"].as_array().is_some_and(|all| all.len() == differences)));
    }
    assert!(waited.iter().any(|took| took.as_secs_f64() < 1.0), "it took {waited:?}");
    let row = running.get("/api/v1/targets/expected_order/rows/SO-1");
    assert_eq!(row["row"]["status"], "confirmed");
    assert!(row["as_of"].is_u64());
    // Also a file before the last one, and half a line is waited for.
    let more = deal.replace("\"id\":1", "\"id\":2");
    let append = |text: &str| {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().append(true).open(data.path().join("src.snapshot.ndjson")).expect("a file");
        file.write_all(text.as_bytes()).expect("it can be written");
    };
    append(&more[..40]);
    std::thread::park_timeout(std::time::Duration::from_millis(100));
    append(&format!("{}\n", &more[40..]));
    running.until(path, |answer| answer["differences"][0]["key"] == "SO-2");
    assert_eq!(running.get("/api/v1/rejects")["total"], 0);
    running.stop();
}

/// Short of memory from the start, state is in a file, and nothing else changes.
#[test]
fn a_limit_for_memory_changes_no_answer() {
    let workload = generate::workload(Size { rows: 20_000, changes: 20_000, seed: 5, fault: 0.01, lag: 200 });
    let dir = tempfile::tempdir().expect("a folder");
    let limited = dir.path().join("config.yaml");
    for (contract, comparison, truth) in [("orders", "orders_in_erp", &workload.orders_truth), ("revenue", "revenue_by_region", &workload.revenue_truth)] {
        let of = root().join("tests/contract").join(contract);
        let text = fs::read_to_string(of.join("config.yaml")).expect("the contract is there");
        fs::write(&limited, format!("{text}\nmemory_max: 128MiB\n")).expect("a file");
        let out = dir.path().join(contract);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.env("TIEOUT_DATA", &workload.dir).env("TIEOUT_STATE", dir.path().join("state")).args(["run", "--once", "--workers", "2", "--config"]);
        command.arg(&limited).arg("--dataflows").arg(of.join("dataflows")).arg("--export").arg(&out);
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("memory is short"), "{said}");
        assert_eq!(unquoted(&lines(&out, comparison)), unquoted(truth), "{contract}");
        let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary")).expect("JSON");
        let peak = summary["peak_memory_bytes"].as_u64().expect("a size");
        assert!(peak <= 128 << 20, "{contract} held {peak} bytes");
    }
}
