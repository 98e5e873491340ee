//! What durability costs: throughput with checkpoints against without, bytes on the disk, and how long a restart takes.
//!
//! `cargo bench --bench durable [-- --rows 1000000 --runs 3]`. The built program follows the files, as a deployment would; a run
//! counts until it is ready. Run with ten million rows for intervals that come about several times. With `--brokers 9092` (a port
//! of this machine's) a target is written to a topic, too: exactly once, against once and for all by `run --once`.

mod generate;
#[path = "harness.rs"]
mod harness;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use harness::{median, number};

const ADDRESS: &str = "127.0.0.1:7997";

fn get(path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(ADDRESS).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

fn metric(name: &str) -> f64 {
    let page = get("/metrics").map(|(_, body)| body).unwrap_or_default();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// A tieout that follows the files; ended as `kill -9` does when it is dropped.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    /// Starts it; seconds until it is ready.
    fn start(dir: &Path, data: &Path, interval: &str) -> (Run, f64) {
        let config = dir.join("config.yaml");
        let text = format!(
            "data_dir: {}\nworkers: 2\ncheckpoint: {{ interval: {interval} }}\nconnections:\n  crm: {{ kind: file, dir: {data} }}\n  erp: {{ kind: file, dir: {data} }}\n",
            dir.join("state").display(),
            data = data.display()
        );
        fs::write(&config, text).expect("a file");
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.args(["run", "--listen", ADDRESS, "--log", "warn", "--dataflows", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/orders/dataflows")]);
        let run = Run(command.arg("--config").arg(&config).stdout(Stdio::null()).spawn().expect("the program starts"));
        while get("/readyz").is_none_or(|(status, _)| status != 200) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        (run, began.elapsed().as_secs_f64())
    }
}

/// Seconds until everything is read and every row of the target is written to a topic of its own.
fn written(dir: &Path, data: &Path, port: u64, exactly: bool, n: u64) -> f64 {
    let _ = fs::remove_dir_all(dir.join("state"));
    let name = format!("bench-{}-{n}", std::process::id());
    let (config, dataflows) = (dir.join("kafka.yaml"), dir.join("dataflows"));
    let text = format!(
        "name: {name}\ndata_dir: {}\nworkers: 2\ncheckpoint: {{ interval: 1d }}\nconnections:\n  crm: {{ kind: file, dir: {data} }}\n  erp: {{ kind: file, dir: {data} }}\n  bus: {{ kind: kafka, brokers: \"127.0.0.1:{port}\" }}\n",
        dir.join("state").display(),
        data = data.display()
    );
    fs::write(&config, text).expect("a file");
    fs::create_dir_all(&dataflows).expect("a folder");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/orders/dataflows/orders.yaml"), dataflows.join("orders.yaml")).expect("a file");
    let output = format!("dataflow: outputs\noutputs:\n  - {{ table: expected_order, connection: bus, topic: {name} }}\n");
    fs::write(dataflows.join("outputs.yaml"), output).expect("a file");
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.args(["run", "--listen", ADDRESS, "--log", "warn", "--config"]).arg(&config).arg("--dataflows").arg(&dataflows).stdout(Stdio::null());
    if !exactly {
        assert!(command.args(["--once", "--export"]).arg(dir.join("out")).status().expect("the program starts").success());
        return began.elapsed().as_secs_f64();
    }
    let mut run = Run(command.spawn().expect("the program starts"));
    while get("/readyz").is_none_or(|(status, _)| status != 200) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // It ends when all that is closed is committed.
    assert!(Command::new("kill").args(["-INT", &run.0.id().to_string()]).status().expect("kill is there").success());
    assert!(run.0.wait().expect("it ends").success());
    began.elapsed().as_secs_f64()
}

fn bytes_of(folder: &Path) -> u64 {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn main() {
    // `cargo test --benches` only looks whether it starts.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let (rows, runs) = (number("rows", 1_000_000), number("runs", 3).max(1));
    let workload = generate::workload(generate::Size { rows, ..generate::Size::default() });
    let (events, keys) = ((workload.deals + workload.orders) as f64, workload.keys as f64);
    let dir = tempfile::tempdir().expect("a folder");
    println!("{rows} rows, {events} events, {keys} keys, 2 workers; {runs} runs each, medians");
    let mut without = 0.0;
    for interval in ["1d", "10s", "2s"] {
        let (mut seconds, mut taken) = (Vec::new(), 0.0);
        for _ in 0..runs {
            let _ = fs::remove_dir_all(dir.path().join("state"));
            let (run, ready) = Run::start(dir.path(), &workload.dir, interval);
            seconds.push(ready);
            taken = metric("tieout_checkpoint_seconds_count");
            drop(run);
        }
        let ready = median(seconds);
        if interval == "1d" {
            without = ready;
        }
        println!(
            "checkpoints every {interval:>3}: ready after {ready:.2} s, {:.2} M ev/s, {:.3} of without, {taken} taken",
            events / ready / 1e6,
            without / ready
        );
    }
    let _ = fs::remove_dir_all(dir.path().join("state"));
    let (run, _) = Run::start(dir.path(), &workload.dir, "1s");
    // One may have begun before everything was read: the second from here has it all.
    let all = metric("tieout_checkpoint_seconds_count") + 2.0;
    while metric("tieout_checkpoint_seconds_count") < all {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!("checkpoints of everything: {all} in {:.2} s beside the other work", metric("tieout_checkpoint_seconds_sum"),);
    drop(run);
    let on_disk = bytes_of(&dir.path().join("state/checkpoints")) as f64;
    let restarts: Vec<f64> = (0..runs).map(|_| Run::start(dir.path(), &workload.dir, "1d").1).collect();
    let port = number("brokers", 0);
    for exactly in [false, true].into_iter().filter(|_| port > 0) {
        let seconds = median((0..runs).map(|n| written(dir.path(), &workload.dir, port, exactly, 2 * n + u64::from(exactly))).collect());
        let how = if exactly { "exactly once" } else { "by `run --once`, exports included" };
        println!("a target of {} rows to a topic, {how}: {seconds:.2} s, {:.2} M ev/s", workload.deals.min(rows), events / seconds / 1e6);
    }
    println!("restart after kill -9: ready after {:.2} s; {:.1} bytes a key on the disk", median(restarts), on_disk / keys);
}
