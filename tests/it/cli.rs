//! The command line as its users see it: help, exit codes, the commands that need no running tieout, and the demo.

use std::{
    fs,
    process::{Command, Output},
};

use crate::program::{Running, root};

fn tieout(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tieout"))
        .args(args)
        .current_dir(root())
        .env_remove("TIEOUT_DATA")
        .env_remove("TIEOUT_CONFIG")
        .output()
        .expect("the program starts")
}

fn out(args: &[&str]) -> String {
    let output = tieout(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_is_good_to_read() {
    // The help of each command is docs/reference/cli.md, which the next test keeps.
    insta::assert_snapshot!("help", out(&["--help"]));
}

#[test]
fn the_references_are_those_of_this_code() {
    for page in ["settings", "metrics", "codes", "cli"] {
        let path = root().join(format!("docs/reference/{page}.md"));
        let now = out(&["reference", page]);
        if std::env::var_os("TIEOUT_WRITE").is_some() {
            fs::write(&path, &now).expect("the page can be written");
        }
        let stands = fs::read_to_string(&path).unwrap_or_default();
        assert!(stands == now, "docs/reference/{page}.md is out of date; TIEOUT_WRITE=1 cargo test writes it");
    }
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let code = |args: &[&str]| tieout(args).status.code();
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["check", "--config", "nowhere.yaml"]), Some(78));
    assert_eq!(code(&["check", "--config", "tests/contract/orders/config.yaml"]), Some(78), "TIEOUT_DATA is not set");
    assert_eq!(code(&["test", "--config", "tests/contract/orders/config.yaml"]), Some(0), "tests need no data");
    assert_eq!(code(&["differences", "--url", "http://127.0.0.1:1"]), Some(75));
    assert_eq!(code(&["differences", "--url", "nonsense"]), Some(2));
}

#[test]
fn differences_can_fail_a_run() {
    let data = tempfile::tempdir().expect("a folder");
    let deal = r#"{"before":null,"after":{"id":1,"account_id":7,"owner":"Ann","amount":"1.00","currency":null,"stage":"Proposal","probability":1,"closed_at":null,"updated_at":1},"source":{"ts_ms":1000},"op":"r"}"#;
    for (name, text) in [("src.snapshot.ndjson", deal), ("src.changes.ndjson", ""), ("tgt.snapshot.ndjson", ""), ("tgt.changes.ndjson", "")] {
        fs::write(data.path().join(name), text).expect("a file");
    }
    let code = |fail_on: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(root()).env("TIEOUT_DATA", data.path()).args([
            "run",
            "--once",
            "--config",
            "tests/contract/orders/config.yaml",
            "--fail-on",
            fail_on,
        ]);
        command.output().expect("the program starts").status.code()
    };
    assert_eq!((code("any"), code("confirmed")), (Some(1), Some(0)));
}

#[test]
fn a_missing_file_is_named() {
    let data = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    let output = command
        .current_dir(root())
        .env("TIEOUT_DATA", data.path())
        .args(["run", "--once", "--config", "tests/contract/orders/config.yaml"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success() && said.contains("src.snapshot.ndjson") && said.contains("help:"), "{said}");
}

#[test]
fn a_cluster_file_is_checked_with_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("cluster.yaml");
    let check = |processes: &str, secret: &str, more: &[&str]| {
        fs::write(&file, format!("name: orders\nsecret: ${{env:SECRET}}\nprocesses: [{processes}]\n")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(root()).env("SECRET", secret).env("TIEOUT_DATA", dir.path());
        command.args(["check", "--config", "tests/contract/orders/config.yaml", "--process", "1", "--cluster"]).arg(&file).args(more);
        let output = command.output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check("a:1, b:2", "long enough a secret", &[]);
    assert!(code == Some(0) && said.contains("process 1 of 2 of cluster `orders`"), "{said}");
    let (code, said) = check("a:1, b:2, a:1", "too short", &[]);
    assert!(code == Some(78) && said.contains("there twice") && said.contains("shorter than 16"), "{said}");
    let (code, said) = check("a:1", "long enough a secret", &["--format", "json"]);
    assert!(code == Some(78) && said.contains(r#""message": "there is no process 1""#), "{said}");
}

#[test]
fn graph_schema_plan_and_completions_are_printed() {
    let config = ["--config", "tests/contract/revenue/config.yaml"];
    assert!(out(&["graph", config[0], config[1]]).contains("won_deal"));
    assert!(out(&["graph", "--dot", config[0], config[1]]).starts_with("digraph"));
    let plan = out(&["explain-plan", "expected_revenue", config[0], config[1]]);
    assert!(plan.contains("sum") && plan.contains("region"), "{plan}");
    // Every rule that a row may meet is told.
    let plan = out(&["explain-plan", "expected_order", "--config", "tests/contract/orders/config.yaml"]);
    for rule in [
        "where stage <> 'Draft'",
        "currency varchar = currency, on_null: default 'EUR'",
        "case stage, 4 values, otherwise a reject",
        "require customer, amount",
    ] {
        assert!(plan.contains(rule), "{rule}: {plan}");
    }
    let plan = out(&["explain-plan", "--config", "dataflows/rules/config.yaml"]);
    for rule in ["on_null: reject", "on_null: drop", "on_missing: ", "on_empty: ", "otherwise '"] {
        assert!(plan.contains(rule), "{rule}: {plan}");
    }
    for kind in ["config", "dataflow"] {
        let schema: serde_json::Value = serde_json::from_str(&out(&["schema", kind])).expect("a schema is JSON");
        assert!(schema["properties"].is_object());
    }
    assert!(out(&["completions", "bash"]).contains("tieout"));
    assert!(out(&["version"]).starts_with("tieout "));
}

#[test]
fn the_shipped_dataflows_pass_their_own_tests() {
    for config in ["dataflows/demo/config.yaml", "dataflows/rules/config.yaml", "tests/contract/orders/config.yaml"] {
        if root().join(config).exists() {
            let said = out(&["test", "--config", config]);
            assert!(said.contains(", 0 failed"), "{said}");
        }
    }
}

#[test]
fn a_failed_test_says_where_and_update_mends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = root().join("tests/contract/orders");
    fs::create_dir(folder.path().join("dataflows")).expect("a folder");
    fs::copy(from.join("config.yaml"), folder.path().join("config.yaml")).expect("a copy");
    let file = folder.path().join("dataflows/orders.yaml");
    let text = fs::read_to_string(from.join("dataflows/orders.yaml")).expect("a dataflow");
    fs::write(&file, text.replace("kind: missing", "kind: unexpected").replace("status: confirmed, amount: \"10.50\"", "status: open, amount: \"10.50\""))
        .expect("a file");
    let config = folder.path().join("config.yaml");
    let report = folder.path().join("report.xml");
    let (config, report) = (config.to_str().expect("text"), report.to_str().expect("text"));
    let failed = tieout(&["test", "--config", config, "--junit", report]);
    let said = String::from_utf8_lossy(&failed.stdout).to_string();
    assert_eq!(failed.status.code(), Some(1));
    assert!(said.contains("orders.yaml:") && said.contains("kind: unexpected") && said.contains("kind: missing"), "{said}");
    // Two expectations of a test do not hold: that is one failure, with both texts.
    let junit = fs::read_to_string(report).expect("a report");
    assert!(junit.split("<testcase").skip(1).all(|case| case.matches("<failure").count() <= 1), "{junit}");
    let both = junit.split("<testcase").find(|case| case.contains("message=\"lines "));
    assert!(both.is_some_and(|case| case.matches("line ").count() >= 2), "{junit}");
    out(&["test", "--config", config, "--update"]);
    assert!(out(&["test", "--config", config]).contains("2 tests, 0 failed"));
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would() {
    let workload = crate::generate::workload(crate::generate::Size { rows: 300, changes: 300, seed: 9, fault: 0.05, lag: 20 });
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.current_dir(root()).env("TIEOUT_DATA", &workload.dir).args(["run", "--dry-run", "--verbose", "--config", "tests/contract/orders/config.yaml"]);
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(output.status.success() && said.contains("nothing was written") && said.contains("decode") && said.contains("expected_order"), "{said}");
}

#[test]
fn the_demo_shows_differences_within_seconds_and_stops_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let running =
        Running::start(Command::new(env!("CARGO_BIN_EXE_tieout")).current_dir(folder.path()).args(["demo", "--listen", "127.0.0.1:0", "--rate", "400"]));
    let states = |answer: &serde_json::Value, name: &str| answer["comparisons"][0]["differences"][name].as_u64().unwrap_or(0);
    running.until("/api/v1/comparisons", |answer| states(answer, "in_flight") > 0);
    running.until("/api/v1/comparisons", |answer| states(answer, "confirmed") > 0);
    let (status, page) = running.text("/").expect("the page is there");
    assert!(status == 200 && page.contains("<html"));
    let (status, metrics) = running.text("/metrics").expect("metrics are there");
    assert!(status == 200 && metrics.contains("tieout_differences{comparison=\"orders_in_erp\""), "{metrics}");
    running.stop();
}
