//! The built program when the columns of a source change: it stands exactly before the first such message, says so everywhere,
//! also after a kill, and goes on from there once the dataflow accepts it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value as Json;

use crate::program::Running;

const CONFIG: &str = "name: schema\ndata_dir: DIR/state\nstuck_after: 2s\ncheckpoint: { interval: 100ms }\nconnections:\n  files: { kind: file, dir: DIR }\n";
const DATAFLOW: &str = "\
dataflow: d
sources:
  person: { connection: files, files: [person.ndjson], format: debezium-json, key: [id], columns: { id: bigint, email: varchar }, schema_change: POLICY }
  copy: { connection: files, files: [copy.ndjson], format: upsert-json, key: [id], columns: { id: bigint, email: varchar } }
  other: { connection: files, files: [other.ndjson], format: upsert-json, key: [id], columns: { id: bigint, email: varchar } }
targets:
  people: { key: [id], from: person, fields: { id: id, email: email } }
outputs:
  - { table: people, connection: files, file: out.ndjson }
comparisons:
  copied: { expected: people, actual: copy, grace: 100ms }
  others: { expected: other, actual: copy, grace: 100ms }
";

fn declare(dir: &Path, policy: &str) {
    fs::create_dir_all(dir.join("dataflows")).expect("a folder");
    fs::write(dir.join("dataflows/d.yaml"), DATAFLOW.replace("POLICY", policy)).expect("a file");
    fs::write(dir.join("config.yaml"), CONFIG.replace("DIR", &dir.display().to_string())).expect("a file");
}

fn run(dir: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    Running::start(command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(dir.join("config.yaml")))
}

fn append(dir: &Path, file: &str, lines: &[String]) {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join(file)).expect("a file");
    file.write_all(lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().as_bytes()).expect("a file that can be written");
}

/// A change of a person, whose email is called so.
fn person(id: u32, email: &str) -> String {
    format!(r#"{{"op":"c","after":{{"id":{id},"{email}":"{id}@example.com"}},"source":{{"ts_ms":{}}}}}"#, 1_780_000_000_000u64 + u64::from(id))
}

fn copy(id: u32) -> String {
    let at = 1_780_000_000_000u64 + u64::from(id);
    format!(r#"{{"key":{{"id":{id}}},"value":{{"email":"{id}@example.com"}},"ts_ms":{at}}}"#)
}

fn is(answer: &Json, state: &str, cause: Option<&str>) -> bool {
    answer["state"] == state && answer["cause"].as_str() == cause
}

/// The positions of `person`.
fn position(running: &Running) -> i64 {
    running.get("/api/v1/sources")["sources"][0]["positions"]["0"].as_i64().expect("a position")
}

#[test]
fn a_source_stands_before_a_change_and_goes_on_from_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    declare(dir, "evolve");
    append(dir, "person.ndjson", &[person(1, "email"), person(2, "email")]);
    let known = fs::metadata(dir.join("person.ndjson")).expect("a file").len() as i64;
    for file in ["copy.ndjson", "other.ndjson"] {
        append(dir, file, &[copy(1), copy(2)]);
    }
    let running = run(dir);
    for of in ["copied", "others"] {
        running.until(&format!("/api/v1/comparisons/{of}"), |answer| is(answer, "tied_out", None));
    }
    // Two more of before, and the change, in one go; then what comes later.
    append(dir, "person.ndjson", &[person(3, "email"), person(4, "mail")]);
    let stood = known + person(3, "email").len() as i64 + 1;
    append(dir, "person.ndjson", &[person(5, "mail")]);
    for file in ["copy.ndjson", "other.ndjson"] {
        append(dir, file, &[copy(3), copy(4), copy(5)]);
    }
    running.until("/api/v1/comparisons/copied", |answer| is(answer, "stale", Some("schema")));
    running.until("/api/v1/comparisons/others", |answer| is(answer, "tied_out", None) && answer["actual"]["rows"] == 5);
    running.until("/api/v1/comparisons/copied", |answer| answer["expected"]["rows"] == 3 && answer["differences"]["undetermined"] == 2);
    let stands = |running: &Running| {
        assert_eq!(position(running), stood, "it stands before the message");
        let ready = running.get("/readyz");
        let reasons = ready["reasons"].as_array().expect("reasons");
        assert!(ready["ready"] == false && reasons.len() == 1 && reasons[0].as_str().expect("text").contains("SCHEMA_CHANGED"), "{ready:#}");
        let source = &running.get("/api/v1/sources")["sources"][0];
        assert_eq!((&source["schema_policy"], source["schema_changes"].as_array().map(Vec::len)), (&"evolve".into(), Some(1)), "{source:#}");
        let change = &source["schema_changes"][0];
        assert_eq!((&change["added"], &change["removed"], &change["accepted"]), (&serde_json::json!(["mail"]), &serde_json::json!(["email"]), &false.into()));
        assert_eq!((&change["offset"], &change["source_time"]), (&stood.into(), &"2026-05-28T20:26:40.004Z".into()), "{change:#}");
        let (_, page) = running.text("/metrics").expect("it answers");
        for line in [
            "tieout_source_schema_refused{source=\"person\"} 1",
            "tieout_comparison_stale{cause=\"schema\",comparison=\"copied\"} 1",
            "tieout_source_schema_changes_total{source=\"person\",verdict=\"refused\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
    };
    stands(&running);
    // It is not called stuck for that, however long it takes.
    std::thread::park_timeout(Duration::from_secs(3));
    stands(&running);
    drop(running);
    let running = run(dir);
    running.until("/api/v1/comparisons/copied", |answer| is(answer, "stale", Some("schema")));
    running.until("/api/v1/comparisons/others", |answer| is(answer, "tied_out", None));
    stands(&running);
    running.stop();
    declare(dir, "lenient");
    let running = run(dir);
    running.until("/api/v1/comparisons/copied", |answer| answer["expected"]["rows"] == 5 && answer["differences"]["total"] == 2);
    running.until("/readyz", |answer| answer["ready"] == true);
    let rows = |id: u32| running.get(&format!("/api/v1/targets/people/rows/{id}"))["row"]["email"].clone();
    assert_eq!((rows(3), rows(4), rows(5)), ("3@example.com".into(), Json::Null, Json::Null), "what is gone is null, and nothing is lost");
    let source = &running.get("/api/v1/sources")["sources"][0];
    assert!(source["schema_changes"][0]["accepted"] == true && source["read"] == 5, "{source:#}");
    running.stop();
    // Once it is past the change, `exception` knows both schemas.
    declare(dir, "exception");
    let running = run(dir);
    append(dir, "person.ndjson", &[person(6, "mail"), person(7, "email")]);
    running.until("/api/v1/comparisons/copied", |answer| answer["expected"]["rows"] == 7);
    append(dir, "person.ndjson", &[person(8, "e_mail")]);
    running.until("/api/v1/comparisons/copied", |answer| is(answer, "stale", Some("schema")) && answer["expected"]["rows"] == 7);
    running.stop();
}

/// While a comparison is stale its differences are written as undetermined; once it is not, as what they are, also when tieout was
/// started anew meanwhile.
#[test]
fn a_difference_that_was_hidden_before_a_restart_is_written_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let declare = |policy: &str| {
        declare(dir, policy);
        let flow = dir.join("dataflows/d.yaml");
        let text = fs::read_to_string(&flow).expect("a file");
        fs::write(&flow, text.replace("comparisons:", "  - { differences: copied, connection: files, file: differences.ndjson }\ncomparisons:"))
            .expect("a file");
    };
    let states = || -> Vec<String> {
        let lines = fs::read_to_string(dir.join("differences.ndjson")).unwrap_or_default();
        let state = |line: &str| serde_json::from_str::<Json>(line).expect("JSON")["value"]["state"].as_str().expect("a state").to_string();
        lines.lines().map(state).collect()
    };
    let written = |state: &str| {
        let begun = std::time::Instant::now();
        while !states().iter().any(|written| written == state) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", states());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    };
    declare("evolve");
    append(dir, "person.ndjson", &[person(1, "email"), person(2, "email")]);
    append(dir, "copy.ndjson", &[copy(1), copy(900)]);
    append(dir, "other.ndjson", &[copy(1), copy(900)]);
    append(dir, "person.ndjson", &[person(900, "email"), person(901, "mail")]);
    let running = run(dir);
    written("undetermined");
    running.stop();
    declare("lenient");
    let running = run(dir);
    running.until("/readyz", |answer| answer["ready"] == true);
    written("confirmed");
    running.stop();
}

#[test]
fn declaring_the_columns_that_there_are_now_goes_on_from_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    declare(dir, "evolve");
    append(dir, "person.ndjson", &[person(1, "email"), person(2, "mail"), person(3, "mail")]);
    append(dir, "copy.ndjson", &[copy(1), copy(2), copy(3)]);
    append(dir, "other.ndjson", &[copy(1)]);
    let running = run(dir);
    running.until("/api/v1/comparisons/copied", |answer| is(answer, "stale", Some("schema")) && answer["expected"]["rows"] == 1);
    running.stop();
    // The column has another name now, and so it has in the declaration.
    let dataflow = fs::read_to_string(dir.join("dataflows/d.yaml")).expect("a file");
    let renamed = dataflow.replace("columns: { id: bigint, email: varchar }, schema_change", "columns: { id: bigint, mail: varchar }, schema_change");
    fs::write(dir.join("dataflows/d.yaml"), renamed.replace("email: email }", "email: mail }")).expect("a file");
    let running = run(dir);
    running.until("/readyz", |answer| answer["ready"] == true);
    running.until("/api/v1/comparisons/copied", |answer| answer["expected"]["rows"] == 3 && answer["differences"]["total"] == 1);
    let email = |id: u32| running.get(&format!("/api/v1/targets/people/rows/{id}"))["row"]["email"].clone();
    assert_eq!((email(1), email(2), email(3)), (Json::Null, "2@example.com".into(), "3@example.com".into()));
    let source = &running.get("/api/v1/sources")["sources"][0];
    assert_eq!((&source["schema_changes"][0]["accepted"], source["schema_changes"].as_array().map(Vec::len)), (&true.into(), Some(1)), "{source:#}");
    running.stop();
}

#[test]
fn a_run_that_ends_by_itself_ends_with_the_code() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    declare(dir, "exception");
    append(dir, "person.ndjson", &[person(1, "email"), person(2, "mail"), person(3, "email")]);
    append(dir, "copy.ndjson", &[copy(1)]);
    append(dir, "other.ndjson", &[copy(1)]);
    let once = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.args(["run", "--once", "--config"]).arg(dir.join("config.yaml")).output().expect("it runs")
    };
    let ended = once();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{said}");
    for words in ["source `person`: SCHEMA_CHANGED: the schema changed at partition 0, position", "new `mail`; gone `email`", "schema_change: evolve"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    declare(dir, "ignore");
    assert!(once().status.success());
}
