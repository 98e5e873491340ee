//! Several processes, one dataflow: the same reports as of one, and an end with a name when one of them is gone.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, unbounded};
use tieout::{
    cluster::{Alike, Mesh},
    config::{self, Need},
    engine::{Chunk, Command as Tell, Counts, Payload, Report, workers::Workers},
    plan::Plan,
};

const CONFIG: &str = "connections: { bus: { kind: kafka, brokers: b } }";
/// A join, a sum, and a table that only records feed: everything that workers exchange.
const DATAFLOW: &str = "
dataflow: spread
sources:
  orders: { connection: bus, topic: o, format: upsert-json, key: [id], columns: { id: bigint, customer: bigint, amount: bigint } }
  booked: { connection: bus, topic: b, format: upsert-json, key: [id], columns: { id: bigint, amount: bigint, total: bigint } }
targets:
  expected:
    key: [id]
    sql: >
      select o.id as id, o.amount as amount, cast(t.total as bigint) as total from orders o
      join (select customer, sum(amount) as total from orders group by customer) t on t.customer = o.customer
  plain:
    key: [id]
    from: orders
    fields: { id: id, amount: amount }
comparisons:
  joined: { expected: expected, actual: booked }
  simple: { expected: plain, actual: booked }
";
const SECRET: &str = "nobody knows this secret";
const PARTITIONS: i32 = 4;

fn plan(workers: usize) -> Arc<Plan> {
    let plan = config::load_texts(("config.yaml", CONFIG), &[("spread.yaml", DATAFLOW)], &|_| None, Need::Connections);
    Arc::new(Plan { workers, ..plan.unwrap_or_else(|problems| panic!("{problems}")) })
}

/// A cluster file for so many processes on free ports of this machine.
fn file(processes: usize, encryption: &str) -> String {
    let held: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<String> = held.iter().map(|l| l.local_addr().expect("it is bound").to_string()).collect();
    let list = addresses.join(", ");
    format!(
        "name: test\nsecret: ${{env:SECRET}}\nprocesses: [{list}]\nindex: \"${{env:INDEX:-0}}\"\nencryption: {encryption}\nsilence_max: 2s\nstart_max: 30s\n"
    )
}

fn cluster(file: &str, index: usize) -> tieout::plan::cluster::Cluster {
    let env = |name: &str| (name == "SECRET").then(|| SECRET.to_string());
    config::cluster_text(("cluster.yaml", file), &env, Some(index)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name("process".into()).spawn(body).expect("a thread starts")
}

/// A change: source, key and value.
type Change = (usize, u64, Option<String>);

/// Changes by tick, the same ones for the same seed.
fn changes(seed: u64, ticks: usize) -> Vec<Vec<Change>> {
    let mut state = seed;
    let mut below = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut change = move || {
        let (source, key) = (below(2) as usize, below(60));
        let (a, b) = (below(7), below(5));
        let value = match (source, below(6)) {
            (_, 0) => None,
            (0, _) => Some(format!(r#"{{"id":{key},"customer":{b},"amount":{a}}}"#)),
            _ => Some(format!(r#"{{"id":{key},"amount":{a},"total":{}}}"#, a * 8 + b)),
        };
        (source, key, value)
    };
    (0..ticks).map(|_| (0..50).map(|_| change()).collect()).collect()
}

/// Feeds a tick's changes of some partitions, in small chunks, and seals it.
fn tick(workers: &Workers, seqs: &mut [u64; 2], offsets: &mut BTreeMap<(usize, i32), i64>, tick: u64, changes: &[Change], reads: impl Fn(i32) -> bool) {
    for changes in changes.chunks(7) {
        for (source, partition) in (0..2).flat_map(|source| (0..PARTITIONS).map(move |partition| (source, partition))).filter(|(_, p)| reads(*p)) {
            let of = |change: &&Change| change.0 == source && change.1 as i32 % PARTITIONS == partition;
            let parts: Vec<(String, &Option<String>)> = changes.iter().filter(of).map(|(_, key, value)| (format!(r#"{{"id":{key}}}"#), value)).collect();
            let messages: Vec<(Option<&[u8]>, Option<&[u8]>)> =
                parts.iter().map(|(key, value)| (Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes()))).collect();
            let offset = offsets.entry((source, partition)).or_default();
            let payload = Payload::messages(&messages, *offset, Some(1_000));
            *offset += messages.len() as i64;
            workers.chunk(Chunk { source, partition, payload, source_time: None, next: *offset }, seqs[source], None);
            seqs[source] += 1;
        }
    }
    workers.all(&Tell::Seal { tick, hold: false, shown: false });
}

/// What all workers together said of a tick.
#[derive(Debug, Default, PartialEq)]
struct Said {
    workers: Vec<usize>,
    differences: BTreeMap<(usize, Vec<u8>), String>,
    counts: BTreeMap<(usize, i32), [u64; 5]>,
    rows: BTreeMap<String, u64>,
}

/// The reports of so many ticks of so many workers, added up.
fn said(reports: &Receiver<Report>, workers: usize, ticks: usize) -> Vec<Said> {
    let mut all: Vec<Said> = (0..ticks).map(|_| Said::default()).collect();
    for _ in 0..workers * ticks {
        let report = reports.recv_timeout(Duration::from_secs(60)).expect("every worker reports every tick");
        let said = &mut all[report.tick as usize - 1];
        said.workers.push(report.worker);
        for (id, change) in report.differences {
            // A join may take a row back and give it again within a tick, or not: it follows from how its inputs are cut. Then the
            // key counts as touched, and is told of again as it stands.
            let text = if id == 0 { format!("{:?}", change.now) } else { format!("{change:?}") };
            let twice = said.differences.insert((id, change.key.to_vec()), text);
            assert_eq!(twice, None, "a key is held by one worker");
        }
        for (source, of) in report.sources.iter().enumerate() {
            for (partition, counts) in &of.counts {
                let sum = said.counts.entry((source, *partition)).or_default();
                sum.iter_mut().zip(Counts::named(counts)).for_each(|(sum, (_, n))| *sum += n);
            }
        }
        for table in &report.tables {
            *said.rows.entry(format!("{:?}", table.table)).or_default() += table.rows;
        }
    }
    let mut standing: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for said in &mut all {
        said.differences.retain(|(id, key), now| {
            let before = (*id == 0).then(|| standing.insert(key.clone(), now.clone()).unwrap_or_else(|| "None".into()));
            before.as_ref() != Some(now)
        });
    }
    all
}

#[test]
fn two_processes_say_together_what_one_says() {
    const TICKS: usize = 40;
    for (seed, threads, encryption) in [(1, 1, "none"), (2, 2, "tls")] {
        let changes = changes(seed, TICKS);
        let (to, reports) = unbounded();
        let alone = Workers::start(plan(1), to);
        let (mut seqs, mut offsets) = ([0; 2], BTreeMap::new());
        for (at, changes) in changes.iter().enumerate() {
            tick(&alone, &mut seqs, &mut offsets, at as u64 + 1, changes, |_| true);
        }
        let expected = said(&reports, 1, TICKS);
        alone.stop().expect("no worker panicked");
        assert!(expected.iter().any(|said| said.differences.len() > 10) && expected.iter().all(|said| said.rows.len() >= 4), "something happens");

        let file = file(2, encryption);
        let (to, reports) = unbounded();
        let changes = Arc::new(changes);
        let processes: Vec<_> = (0..2)
            .map(|process| {
                let (file, to, changes) = (file.clone(), to.clone(), Arc::clone(&changes));
                spawn(move || {
                    let alike = Alike { threads, plan: "p".into() };
                    let mut mesh = Mesh::connect(&cluster(&file, process), &alike, |lost| panic!("{lost}")).unwrap_or_else(|error| panic!("{error}"));
                    let workers = Workers::start_among(plan(threads), to, process, mesh.links()).expect("the connections hold");
                    let (mut seqs, mut offsets) = ([0; 2], BTreeMap::new());
                    for (at, changes) in changes.iter().enumerate() {
                        tick(&workers, &mut seqs, &mut offsets, at as u64 + 1, changes, |partition| partition as usize % 2 == process);
                    }
                    workers.stop().expect("no worker panicked");
                    mesh.leave();
                })
            })
            .collect();
        drop(to);
        let found = said(&reports, 2 * threads, TICKS);
        processes.into_iter().for_each(|process| process.join().expect("no panic"));
        for (at, (mut found, mut expected)) in found.into_iter().zip(expected).enumerate() {
            let mut numbers = found.workers.clone();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..2 * threads).collect::<Vec<_>>(), "every worker once");
            expected.workers.clone_from(&found.workers);
            if at + 1 < TICKS {
                // Tables are as large as they are when a worker speaks, which may be after later ticks.
                (found.rows, expected.rows) = Default::default();
            }
            // Who reads nothing of a partition says nothing of it.
            expected.counts.retain(|_, counts| counts.iter().any(|n| *n > 0));
            let counts = found.counts.iter().filter(|(_, counts)| counts.iter().any(|n| *n > 0)).map(|(of, counts)| (*of, *counts)).collect();
            assert_eq!(Said { counts, ..found }, expected, "tick {}", at + 1);
        }
    }
}

/// One process of those below; run as a program of its own.
#[test]
#[ignore = "a part of other tests"]
fn a_process() {
    let (Ok(path), Ok(index)) = (std::env::var("TIEOUT_TEST_CLUSTER"), std::env::var("TIEOUT_TEST_INDEX")) else { return };
    let ticks: u64 = std::env::var("TIEOUT_TEST_TICKS").map_or(u64::MAX, |ticks| ticks.parse().expect("a number"));
    let (file, index) = (fs::read_to_string(path).expect("the cluster file"), index.parse().expect("a number"));
    let lost = |lost: tieout::cluster::Lost| {
        let _ = writeln!(std::io::stderr(), "error: {lost}");
        std::process::exit(75);
    };
    let mut mesh = Mesh::connect(&cluster(&file, index), &Alike { threads: 1, plan: "p".into() }, lost).unwrap_or_else(|error| panic!("{error}"));
    let (to, reports) = unbounded();
    let workers = Workers::start_among(plan(1), to, index, mesh.links()).expect("the connections hold");
    let (mut seqs, mut offsets) = ([0; 2], BTreeMap::new());
    for (at, changes) in (1..=ticks).zip(changes(9, 20).iter().cycle()) {
        tick(&workers, &mut seqs, &mut offsets, at, changes, |partition| partition as usize % 3 == index);
        // Not further than the slowest of all.
        let report = reports.recv().expect("the tick is closed");
        if report.tick == 20 {
            let _ = writeln!(std::io::stdout(), "\nclosed 20");
        }
    }
    workers.stop().expect("no worker panicked");
    mesh.leave();
}

/// A program, and what it says to both.
struct Started {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Started {
    fn start(command: &mut Command) -> Started {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Started { child, out }
    }

    fn until(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).expect("text"), 0, "it ended before it said `{words}`");
        }
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(done.success());
    }

    /// How it ended within the time, and what it said of it.
    fn end(mut self, within: Duration) -> (ExitStatus, String) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                let mut text = String::new();
                let _ = self.child.stderr.take().expect("a pipe").read_to_string(&mut text);
                return (status, text);
            }
            assert!(began.elapsed() < within, "it still runs");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three processes with workers, as programs.
fn three(dir: &Path, encryption: &str, ticks: Option<u64>) -> Vec<Started> {
    let path = dir.join("cluster.yaml");
    fs::write(&path, file(3, encryption)).expect("a file");
    let start = |index: usize| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["cluster::a_process", "--exact", "--ignored", "--nocapture"]);
        command.env("TIEOUT_TEST_CLUSTER", &path).env("TIEOUT_TEST_INDEX", index.to_string());
        ticks.map(|ticks| command.env("TIEOUT_TEST_TICKS", ticks.to_string()));
        Started::start(&mut command)
    };
    let mut all: Vec<Started> = (0..3).map(start).collect();
    all.iter_mut().for_each(|process| process.until("closed 20"));
    all
}

/// How connections can be.
const BOTH: [&str; 2] = ["tls", "none"];

#[test]
fn processes_leave_together() {
    for encryption in BOTH {
        let dir = tempfile::tempdir().expect("a folder");
        for process in three(dir.path(), encryption, Some(200)) {
            let (status, said) = process.end(Duration::from_secs(60));
            assert!(status.success() && !said.contains("panicked"), "{encryption}, {status}: {said}");
        }
    }
}

/// The second of three gets a signal; the others end, and say what it is to them by this code.
fn ends_the_others(encryption: &str, signal: &str, code: &str) -> Started {
    let dir = tempfile::tempdir().expect("a folder");
    let mut all = three(dir.path(), encryption, None);
    let lost = all.remove(1);
    lost.signal(signal);
    for process in all {
        // Twice `silence_max` at most, but for a machine that stands still.
        let (status, said) = process.end(Duration::from_secs(20));
        assert_eq!(status.code(), Some(75), "{encryption}: {said}");
        assert!(said.contains(&format!("{code}: process 1")) || said.contains("it lost process 1"), "{encryption}: {said}");
        assert!(!said.contains("panicked"), "{encryption}: {said}");
    }
    lost
}

#[test]
fn a_process_that_is_killed_ends_the_others_with_a_name() {
    BOTH.into_iter().for_each(|encryption| drop(ends_the_others(encryption, "-KILL", "PEER_LOST")));
}

#[test]
fn a_process_that_hangs_ends_the_others_with_a_name() {
    for encryption in BOTH {
        let hung = ends_the_others(encryption, "-STOP", "PEER_SILENT");
        hung.signal("-CONT");
        let (status, said) = hung.end(Duration::from_secs(20));
        assert!(status.code() == Some(75) && !said.contains("panicked"), "{encryption}, {status}: {said}");
    }
}

/// `tieout cluster`, as somebody tries out a new cluster with it.
fn tried(dir: &Path, index: usize, secret: &str, stay: &str) -> Started {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.current_dir(dir).args(["cluster", "--log", "info", "--for", stay]).env("SECRET", secret).env("INDEX", format!("tieout-{index}"));
    Started::start(&mut command)
}

fn folder(file: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("dataflows")).expect("a folder");
    for (name, text) in [("config.yaml", CONFIG), ("dataflows/spread.yaml", DATAFLOW), ("cluster.yaml", file)] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

#[test]
fn a_cluster_is_tried_out() {
    let file = file(2, "tls");
    let dir = folder(&file);
    let mut zero = tried(dir.path(), 0, SECRET, "1s");
    // Somebody who is no tieout.
    let address = cluster(&file, 0).listen;
    let mut stranger = loop {
        match TcpStream::connect(&address) {
            Ok(stream) => break stream,
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    };
    let _ = stranger.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut one = tried(dir.path(), 1, SECRET, "1s");
    for process in [&mut zero, &mut one] {
        process.until("all 2 are there and agree");
    }
    let (status, said) = zero.end(Duration::from_secs(10));
    assert!(status.success() && said.contains("HELLO_MALFORMED"), "{status}: {said}");
    let (status, said) = one.end(Duration::from_secs(10));
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn what_does_not_fit_is_told_by_exit_codes() {
    let file = file(2, "tls").replace("start_max: 30s", "start_max: 6s");
    let (dir, other) = (folder(&file), folder(&file));
    // Nobody else is there.
    let (status, said) = tried(dir.path(), 1, SECRET, "1s").end(Duration::from_secs(20));
    assert!(status.code() == Some(75) && said.contains("PEER_MISSING") && said.contains("process 0"), "{status}: {said}");
    // Another secret: who knows it says so, who does not learns no more than that, and tells it also when nobody answers any more.
    fs::write(other.path().join("cluster.yaml"), &file).expect("a file");
    fs::write(dir.path().join("cluster.yaml"), file.replace("start_max: 6s", "start_max: 12s")).expect("a file");
    let (zero, one) = (tried(other.path(), 0, SECRET, "1s"), tried(dir.path(), 1, "not what the others know", "1s"));
    let (status, said) = zero.end(Duration::from_secs(20));
    assert!(status.code() == Some(75) && said.contains("HELLO_UNPROVEN"), "{status}: {said}");
    let (status, said) = one.end(Duration::from_secs(20));
    assert!(status.code() == Some(75) && said.contains("same secret"), "{status}: {said}");
    fs::write(dir.path().join("cluster.yaml"), &file).expect("a file");
    // One that does not encrypt.
    fs::write(other.path().join("cluster.yaml"), file.replace("encryption: tls", "encryption: none")).expect("a file");
    for process in [tried(dir.path(), 0, SECRET, "1s"), tried(other.path(), 1, SECRET, "1s")] {
        let (status, said) = process.end(Duration::from_secs(20));
        assert!(status.code() == Some(75) && said.contains("PEER_DIFFERS") && said.contains("`encryption: "), "{status}: {said}");
    }
    fs::write(other.path().join("cluster.yaml"), &file).expect("a file");
    // Another dataflow.
    fs::write(other.path().join("dataflows/spread.yaml"), DATAFLOW.replace("amount: amount", "amount: customer")).expect("a file");
    for process in [tried(dir.path(), 0, SECRET, "1s"), tried(other.path(), 1, SECRET, "1s")] {
        let (status, said) = process.end(Duration::from_secs(20));
        assert!(status.code() == Some(75) && said.contains("PEER_DIFFERS") && said.contains("same dataflow files"), "{status}: {said}");
    }
}

/// Waits until somebody listens there, or (not) any more.
fn until_listens(address: &str, listens: bool) {
    while TcpStream::connect(address).is_ok() != listens {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn one_that_waits_for_others_stops_when_it_is_asked_to() {
    let file = file(2, "tls");
    let dir = folder(&file);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
    command.current_dir(dir.path()).args(["run", "--cluster", "cluster.yaml", "--listen", "127.0.0.1:0"]).env("SECRET", SECRET);
    let zero = Started::start(&mut command);
    until_listens(&cluster(&file, 0).listen, true);
    zero.signal("-TERM");
    let (status, said) = zero.end(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{said}");
}

/// While the one that leads looks for what to go on from, for as long as no broker answers.
#[test]
fn all_stop_when_one_is_asked_to_before_anything_runs() {
    let file = file(2, "tls");
    let dir = folder(&file);
    fs::write(dir.path().join("config.yaml"), "connections: { bus: { kind: kafka, brokers: 'localhost:1' } }").expect("a file");
    let outputs = "outputs: [ { table: plain, connection: bus, topic: out, format: upsert-json } ]\n";
    fs::write(dir.path().join("dataflows/spread.yaml"), format!("{DATAFLOW}{outputs}")).expect("a file");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").to_string();
    let start = |index: usize, listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(dir.path()).args(["run", "--cluster", "cluster.yaml", "--listen", listen]);
        Started::start(command.env("SECRET", SECRET).env("INDEX", index.to_string()))
    };
    let all = [start(0, "127.0.0.1:0"), start(1, &free)];
    until_listens(&free, true);
    all[1].signal("-TERM");
    for process in all {
        let (status, said) = process.end(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{said}");
    }
}

/// Nobody can go on without it, and its supervisor leaves it as it is.
#[test]
fn what_one_can_not_mend_by_trying_again_ends_all() {
    let file = file(2, "tls");
    let dir = folder(&file);
    let start = |index: usize, listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieout"));
        command.current_dir(dir.path()).args(["run", "--cluster", "cluster.yaml", "--listen", listen]);
        Started::start(command.env("SECRET", SECRET).env("INDEX", index.to_string()))
    };
    // The second address is nobody's.
    for process in [start(0, "127.0.0.1:0"), start(1, "192.0.2.1:7171")] {
        let (status, said) = process.end(Duration::from_secs(60));
        assert!(status.code() == Some(78) && said.contains("HTTP can't be served on 192.0.2.1:7171"), "{status}: {said}");
    }
}

/// As the programs of a package are while it is replaced.
#[test]
fn what_is_started_again_is_what_was_started_though_its_file_is_gone() {
    let file = file(2, "tls").replace("start_max: 30s", "start_max: 1s");
    let dir = folder(&file);
    let program = dir.path().join("tieout");
    if fs::hard_link(env!("CARGO_BIN_EXE_tieout"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_tieout"), &program).expect("room for it");
    }
    let mut command = Command::new(&program);
    command.current_dir(dir.path()).args(["run", "--restart", "--cluster", "cluster.yaml", "--listen", "127.0.0.1:0"]).env("SECRET", SECRET);
    let supervisor = Started::start(&mut command);
    let address = cluster(&file, 0).listen;
    until_listens(&address, true);
    fs::remove_file(&program).expect("it is there");
    until_listens(&address, false);
    until_listens(&address, true);
    supervisor.signal("-TERM");
    let (status, said) = supervisor.end(Duration::from_secs(20));
    assert!(status.code() == Some(0) && said.contains("PEER_MISSING") && said.contains("all are started again"), "{status}: {said}");
}

/// The files inside of the manifests hold.
#[test]
fn the_shipped_manifests_say_what_holds() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/tieout.yaml")).expect("the manifests");
    let block = |name: &str| -> String {
        let lines = text.lines().skip_while(|line| line.trim() != format!("{name}: |")).skip(1);
        lines.take_while(|line| line.starts_with("    ") || line.is_empty()).map(|line| format!("{}\n", line.get(4..).unwrap_or(""))).collect()
    };
    let env = |name: &str| match name {
        "TIEOUT_CLUSTER_SECRET" => Some("0123456789abcdef".to_string()),
        "TIEOUT_PROCESSES" => Some("3".to_string()),
        "HOSTNAME" => Some("tieout-2".to_string()),
        _ => None,
    };
    let cluster = config::cluster_text(("cluster.yaml", &block("cluster.yaml")), &env, None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((cluster.index, cluster.processes[1].as_str()), (2, "tieout-1.tieout-peers:7400"));
    let plan = config::load_texts(("config.yaml", &block("config.yaml")), &[("spread.yaml", DATAFLOW)], &env, Need::Connections);
    assert!(plan.is_ok(), "{}", plan.unwrap_err());
}
