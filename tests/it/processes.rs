//! `run` in several processes: what one process shows, any of them shows; when one is lost all are started again from the last
//! checkpoint; and the number of processes can change between runs.

use std::{collections::BTreeSet, fs, io::Write, path::Path, process::Command, time::Duration};

use serde_json::Value as Json;

use crate::{
    generate::{self, Size},
    program::{Running, root},
};

const DIFFERENCES: &str = "/api/v1/comparisons/orders_in_erp/differences?limit=1000";

/// The contract's orders over these files, in so many processes.
fn start(processes: usize, data: &Path, state: &Path, log: &str) -> Running {
    Running::start(command(processes, data, state, log).arg("--restart"))
}

fn command(processes: usize, data: &Path, state: &Path, log: &str) -> Command {
    let config = state.join("config.yaml");
    fs::create_dir_all(state).expect("a folder");
    let dir = data.display();
    let text = format!(
        "data_dir: {}\nworkers: 1\ncheckpoint: {{ interval: 1s }}\nconnections:\n  crm: {{ kind: file, dir: {dir} }}\n  erp: {{ kind: file, dir: {dir} }}\n",
        state.join("state").display()
    );
    fs::write(&config, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.args(["run", "--listen", "127.0.0.1:0", "--log", log, "--processes", &processes.to_string()]);
    command.arg("--config").arg(config).arg("--dataflows").arg(root().join("tests/contract/orders/dataflows"));
    command
}

/// What stands, without the ticks at which it was seen.
fn standing(answer: &Json) -> BTreeSet<String> {
    let one = |difference: &Json| format!("{} {} {} {}", difference["key"], difference["kind"], difference["state"], difference["fields"]);
    answer["differences"].as_array().expect("a list").iter().map(one).collect()
}

fn ready(running: &Running) -> Json {
    running.until("/api/v1/comparisons", |answer| answer["hydrated"] == true);
    running.get(DIFFERENCES)
}

/// Where each process serves HTTP.
fn addresses(running: &Running, processes: usize) -> Vec<String> {
    running.until("/api/v1/processes", |answer| {
        answer["processes"].as_array().is_some_and(|all| all.len() == processes && all.iter().all(|process| process["http"].is_string()))
    });
    let all = running.get("/api/v1/processes");
    all["processes"].as_array().expect("a list").iter().map(|process| process["http"].as_str().expect("text").to_string()).collect()
}

#[test]
fn any_process_answers_for_the_whole_and_a_lost_one_is_started_again_with_the_others() {
    let workload = generate::workload(Size { rows: 2_000, changes: 3_000, seed: 11, fault: 0.02, lag: 200 });
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    fs::create_dir_all(&data).expect("a folder");
    for file in fs::read_dir(&workload.dir).expect("the workload").flatten() {
        fs::copy(file.path(), data.join(file.file_name())).expect("a copy");
    }
    let one = start(1, &data, &dir.path().join("one"), "info");
    let expected = standing(&ready(&one));
    assert!(!expected.is_empty(), "the workload has faults");
    one.stop();

    let mut running = start(3, &data, &dir.path().join("three"), "info");
    assert_eq!(standing(&ready(&running)), expected);
    let all = running.get("/api/v1/processes");
    let reads = |process: usize| all["processes"][process]["reads"].as_array().expect("a list").iter().map(|reads| reads["source"].clone()).collect::<Vec<_>>();
    assert_eq!([reads(0), reads(1), reads(2)].concat().len(), 2, "each source is read once: {all:#}");
    for address in addresses(&running, 3) {
        let other = running.at(&address);
        assert_eq!(standing(&other.get(DIFFERENCES)), expected, "process at {address}");
        other.until("/readyz", |answer| answer["ready"] == true);
        let rows = |key: &str| other.get(&format!("/api/v1/targets/expected_order/rows/{key}"));
        let (key, row) = (1..100).map(|n| format!("SO-{n}")).map(|key| (key.clone(), rows(&key))).find(|(_, row)| row["state"] == "row").expect("an order");
        assert_eq!(row["row"]["order_id"], key);
        assert_eq!(other.text("/api/v1/comparisons/none").expect("it answers").0, 404);
        let (_, metrics) = other.text("/metrics").expect("it answers");
        assert!(metrics.contains("\ntieout_memory_bytes ") && !metrics.contains("\ntieout_memory_bytes 0"), "{metrics}");
        assert!(!metrics.contains("tieout_hydrated 0"), "what a process does not know it does not say: {metrics}");
    }

    // Once there is a checkpoint, any of them is killed; nothing that was read is read again.
    for _ in 0..2 {
        running.until_file(&dir.path().join("three/state/checkpoints"), |name| name.ends_with(".json"));
        let children = running.children();
        assert_eq!(children.len(), 3);
        Command::new("kill").args(["-KILL", &children[1].to_string()]).status().expect("kill is there");
        assert!(running.says(&["started again"], Duration::from_secs(30)), "the supervisor says so");
        running.moved(Duration::from_secs(60));
        assert_eq!(standing(&ready(&running)), expected);
    }

    // A change is seen whoever reads it.
    let order = r#"{"before":null,"after":{"order_id":"SO-never","customer":7,"status":"confirmed","amount":"10.5","currency":"EUR","closed_on":null,"owner":"ann"},"source":{"ts_ms":2000},"op":"c"}"#;
    let mut file = fs::OpenOptions::new().append(true).open(data.join("tgt.changes.ndjson")).expect("a file");
    writeln!(file, "{order}").expect("it can be written");
    running.until(DIFFERENCES, |answer| answer["differences"].as_array().is_some_and(|all| all.iter().any(|d| d["key"] == "SO-never")));
    let last = standing(&running.get(DIFFERENCES));
    // A terminal asks all of them at once, and the supervisor passes it on.
    for child in running.children() {
        Command::new("kill").args(["-INT", &child.to_string()]).status().expect("kill is there");
    }
    running.stop();

    // One that hangs is ended, and started again.
    let mut hung = start(1, &data, &dir.path().join("hung"), "info");
    ready(&hung);
    Command::new("kill").args(["-STOP", &hung.children()[0].to_string()]).status().expect("kill is there");
    assert!(hung.says(&["has not said"], Duration::from_secs(40)) && hung.says(&["started again"], Duration::from_secs(40)));
    hung.moved(Duration::from_secs(60));
    ready(&hung);
    hung.stop();

    // A file is no folder, and never will be.
    let blocked = dir.path().join("blocked");
    fs::create_dir_all(&blocked).expect("a folder");
    fs::write(blocked.join("state"), "no folder").expect("a file");
    let ended = command(1, &data, &blocked, "info").output().expect("the program starts");
    assert!(ended.status.code() == Some(78) && String::from_utf8_lossy(&ended.stderr).contains("CHECKPOINT_UNWRITABLE"), "{ended:?}");

    // One that is killed takes its processes with it.
    let orphans = {
        let lost = start(2, &data, &dir.path().join("lost"), "info");
        ready(&lost);
        lost.children()
    };
    let began = std::time::Instant::now();
    // What has ended and nobody has asked for is a zombie.
    let lives = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while orphans.iter().any(lives) {
        assert!(began.elapsed() < Duration::from_secs(20), "its processes live on");
        std::thread::park_timeout(Duration::from_millis(20));
    }

    // Fewer and more processes, from the same checkpoint: what stood stands, and nothing is read from its beginning.
    let mut before = None;
    for processes in [1, 4, 2] {
        let again = start(processes, &data, &dir.path().join("three"), "info");
        assert!(again.says(&["goes on from a checkpoint"], Duration::from_secs(30)));
        assert_eq!(standing(&ready(&again)), last, "{processes} processes");
        let sources = again.get("/api/v1/sources");
        let read = |source: &Json| source["read"].as_u64().expect("a number");
        let reads: Vec<u64> = sources["sources"].as_array().expect("a list").iter().map(read).collect();
        assert_eq!(*before.get_or_insert(reads.clone()), reads, "{sources:#}");
        again.stop();
    }
}
