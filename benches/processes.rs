//! What several processes cost and give: R1 from files to exports, in one process of two workers against two of one; and how long a
//! cluster takes from its start to ready, first and again.
//!
//! `cargo bench --bench processes [-- --rows 1000000 --runs 5]`. The built program, all processes on this machine.

mod generate;
#[path = "harness.rs"]
mod harness;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use harness::{median, number};

fn program(dir: &Path, data: &Path, workers: &str) -> Command {
    let config = dir.join("config.yaml");
    let text = format!(
        "data_dir: {}\nworkers: {workers}\ncheckpoint: {{ interval: 1d }}\nconnections:\n  crm: {{ kind: file, dir: {data} }}\n  erp: {{ kind: file, dir: {data} }}\n",
        dir.join("state").display(),
        data = data.display()
    );
    fs::write(&config, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.args(["run", "--log", "error", "--dataflows", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/orders/dataflows"), "--config"]).arg(config);
    command
}

/// Seconds until all is read, until it is exported, and difference changes on the way.
fn once(dir: &Path, data: &Path, workers: &str, more: &[&str]) -> (f64, f64, u64) {
    let out = dir.join("out");
    let _ = fs::remove_dir_all(&out);
    let status = program(dir, data, workers).args(["--once", "--export"]).arg(&out).args(more).status().expect("the program starts");
    assert!(status.success());
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(out.join("summary.json")).expect("a summary")).expect("JSON");
    let number = |name: &str| summary[name].as_f64().expect("a number");
    (number("read_seconds"), number("seconds"), number("difference_changes") as u64)
}

fn status(port: u64, path: &str) -> u16 {
    use std::io::{Read, Write};
    let ask = || -> Option<u16> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port as u16)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    };
    ask().unwrap_or(0)
}

/// Seconds from the start until every process is ready; then all stop, and take a checkpoint.
fn ready(dir: &Path, data: &Path, processes: u64) -> f64 {
    const PORT: u64 = 7971;
    let began = Instant::now();
    let mut command = program(dir, data, "1");
    command.args(["--processes", &processes.to_string(), "--listen", &format!("127.0.0.1:{PORT}")]).stdout(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    while (0..processes).any(|process| status(PORT + process, "/readyz") != 200) {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let seconds = began.elapsed().as_secs_f64();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill is there");
    assert!(child.wait().expect("it ends").success());
    seconds
}

fn main() {
    let (rows, runs) = (number("rows", 1_000_000), number("runs", 5));
    let workload = generate::workload(generate::Size { rows, changes: 1_000_000, seed: 7, fault: 0.001, lag: 1000 });
    let dir = tempfile::tempdir().expect("a folder");
    let mut ways = [("1 process, 2 workers", "2", vec![], Vec::new()), ("2 processes, 1 worker", "1", vec!["--processes", "2"], Vec::new())];
    // By turns, so that both meet what else the machine does.
    for _ in 0..runs {
        for (_, workers, more, found) in &mut ways {
            found.push(once(dir.path(), &workload.dir, workers, more));
        }
    }
    let [one, two] = ways.each_ref().map(|(name, .., found)| {
        let (read, all) = (median(found.iter().map(|f| f.0).collect()), median(found.iter().map(|f| f.1).collect()));
        println!("{name}: read in {read:.2} s, exported after {all:.2} s; {} difference changes", found[0].2);
        (read, all)
    });
    println!("throughput of two processes against two workers of one: {:.2} read, {:.2} with exports", one.0 / two.0, one.1 / two.1);
    for processes in [1, 2] {
        let _ = fs::remove_dir_all(dir.path().join("state"));
        let (first, again) = (ready(dir.path(), &workload.dir, processes), ready(dir.path(), &workload.dir, processes));
        println!("{processes} process(es) of one worker, {rows} rows: ready after {first:.2} s, from the checkpoint after {again:.2} s");
    }
}
