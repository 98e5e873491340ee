//! From a change that is appended to a file until its difference is visible to a subscriber, at a set rate.
//!
//! `cargo bench --bench latency [-- --rates 1000,10000,100000 --seconds 10 --workers 2 --tick 10ms]`
//!
//! An open loop: the sender has a time for each change beforehand and never waits for tieout; what it sends late counts
//! from the time it should have been sent. Half of the changes are of the CRM, each followed by the same change of the
//! ERP. One order in a hundred events (at least 100 a second) is a *probe*: the ERP's amount is set to a number that is
//! nowhere else, on an order whose deal never agrees, and a subscriber on a real socket waits for that number. The
//! subscriber is one thread with a plain socket; sender and subscriber share one clock and, with tieout itself, the cores.

#![allow(clippy::disallowed_methods, reason = "the few threads of a benchmark need no names")]

#[global_allocator]
static ALLOCATOR: tieout::memory::Allocator = tieout::memory::Allocator;

mod generate;
mod harness;

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use generate::{Deal, Journal, Order, Random};
use tieout::{
    clock::Ask,
    log::Until,
    pipeline::{self, Live, Options, Write},
};

/// Orders that changes are about, and others that probes are about.
const ROWS: u64 = 100_000;
const PROBED: u64 = 10_000;
const ACCOUNTS: u64 = 10_000;
/// Of the first seconds nothing is counted.
const WARM_UP: f64 = 2.0;
/// Amounts of probes are below, those of the deals they stand against above.
const PROBE_CENTS: u64 = 1_000_000_000;

fn main() {
    let rates = harness::argument("rates").unwrap_or("1000,10000,100000".into());
    let seconds = harness::number("seconds", 10) as f64;
    let workers = harness::number("workers", 2) as usize;
    let tick = harness::argument("tick").unwrap_or("10ms".into());
    let lag = harness::number("lag", 0);
    println!("{}; tick {tick}, {workers} workers, {seconds} s a rate after {WARM_UP} s of warming up, the ERP follows after {lag} ms", harness::load());
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>11} {:>7} {:>7}",
        "changes/s", "probes", "p50 ms", "p90 ms", "p99 ms", "p99.9", "max ms", "late p99", "shown/s", "CPU", "others"
    );
    for rate in rates.split(',').map(|rate| rate.parse::<u64>().expect("a rate is a number")) {
        run(rate, seconds, workers, &tick, lag);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// The two systems, appending to their files.
struct Systems {
    crm: Journal<Vec<u8>>,
    erp: Journal<Vec<u8>>,
    files: [File; 2],
    deals: Vec<Deal>,
    random: Random,
}

impl Systems {
    fn new(dir: &Path) -> Systems {
        fs::create_dir_all(dir).expect("the folder can be made");
        let create = |name: &str| File::create(dir.join(name)).expect("the file can be made");
        let files = [create("src.snapshot.ndjson"), create("tgt.snapshot.ndjson")];
        for name in ["src.changes.ndjson", "tgt.changes.ndjson"] {
            create(name);
        }
        let mut systems = Systems {
            crm: Journal::new(Vec::new(), "opportunity"),
            erp: Journal::new(Vec::new(), "sales_order"),
            files,
            deals: Vec::new(),
            random: Random::new(7),
        };
        for id in 0..ROWS + PROBED {
            let mut deal = Deal::random(&mut systems.random, id, ACCOUNTS, now_ms()).won();
            if id >= ROWS {
                deal.cents = PROBE_CENTS;
            }
            systems.crm.deal(None, Some(deal), true, now_ms()).expect("memory takes it");
            systems.erp.order(None, deal.order(), true, now_ms()).expect("memory takes it");
            systems.deals.push(deal);
        }
        systems.flush();
        let append = |name: &str| OpenOptions::new().append(true).open(dir.join(name)).expect("the file is there");
        systems.files = [append("src.changes.ndjson"), append("tgt.changes.ndjson")];
        systems
    }

    fn flush(&mut self) {
        for (file, journal) in self.files.iter_mut().zip([&mut self.crm, &mut self.erp]) {
            file.write_all(&journal.out).expect("the file can be written");
            journal.out.clear();
        }
    }

    /// A change of the CRM, and the one of the ERP that follows.
    fn change(&mut self) -> (Option<Order>, Option<Order>) {
        let at = self.random.below(ROWS) as usize;
        let (before, ms) = (self.deals[at], now_ms());
        let after = before.changed(&mut self.random, ACCOUNTS, ms).won();
        self.deals[at] = after;
        self.crm.deal(Some(before), Some(after), false, ms).expect("memory takes it");
        (before.order(), after.order())
    }

    /// Sets the amount of an order that is probed to something new.
    fn probe(&mut self, number: u64) {
        let order = self.deals[(ROWS + number % PROBED) as usize].order().expect("it is won");
        let before = if number < PROBED { PROBE_CENTS } else { number - PROBED };
        self.erp.order(Some(order.with_cents(before)), Some(order.with_cents(number)), false, now_ms()).expect("memory takes it");
    }
}

fn run(rate: u64, seconds: f64, workers: usize, tick: &str, lag: u64) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("latency");
    let _ = fs::remove_dir_all(&dir);
    let mut systems = Systems::new(&dir);
    let plan = harness::plan(harness::ORDERS, &dir, workers, tick);
    let (to_live, live) = mpsc::channel::<Live>();
    let options = Options { until: Until::Forever, export: None, serve: true, write: Write::No, fresh: false };
    let pipeline = std::thread::spawn(move || pipeline::run(plan, &options, None, |live| to_live.send(live).expect("somebody waits")));
    let live = live.recv().expect("the pipeline starts");
    let address = live.address.expect("it serves");
    // What is there must be read first.
    while live.ledger.read().status(0).expected.rows < ROWS + PROBED || live.ledger.read().status(0).actual.rows < ROWS + PROBED {
        std::thread::sleep(Duration::from_millis(20));
    }

    let shown = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let subscriber = std::thread::spawn({
        let (shown, done) = (Arc::clone(&shown), Arc::clone(&done));
        move || subscribe(address, &shown, &done)
    });
    std::thread::sleep(Duration::from_millis(300));

    let every = (rate / 100).clamp(1, 100);
    let (mut due_probes, mut late) = (Vec::<Instant>::new(), Vec::<f64>::new());
    let mut following: std::collections::VecDeque<(u64, Option<Order>, Option<Order>)> = std::collections::VecDeque::new();
    let total = (rate as f64 * (WARM_UP + seconds)) as u64;
    let (start, mut sent, mut next_probe) = (Instant::now(), 0, 0);
    let due = |n: u64| start + Duration::from_secs_f64(n as f64 / rate as f64);
    let (mut cpu, mut busy, mut shown_before, mut counted_from) = (harness::cpu_seconds(), harness::busy_seconds(), 0, start);
    let mut warm = false;
    while sent < total {
        let now = Instant::now();
        if !warm && now - start > Duration::from_secs_f64(WARM_UP) {
            warm = true;
            (cpu, busy, shown_before, counted_from) = (harness::cpu_seconds(), harness::busy_seconds(), shown.load(Relaxed), now);
        }
        while sent < total && due(sent) <= now {
            if following.front().is_some_and(|(at, ..)| due(*at + lag * rate / 1000) <= now) {
                let (_, before, after) = following.pop_front().expect("there is a front");
                systems.erp.order(before, after, false, now_ms()).expect("memory takes it");
            } else if sent >= next_probe {
                next_probe += every;
                systems.probe(due_probes.len() as u64);
                due_probes.push(due(sent));
                late.push((Instant::now() - due(sent)).as_secs_f64() * 1e3);
            } else {
                let (before, after) = systems.change();
                following.push_back((sent + 1, before, after));
            }
            sent += 1;
        }
        systems.flush();
        std::thread::sleep(due(sent).saturating_duration_since(Instant::now()).max(Duration::from_micros(200)));
    }
    let took = counted_from.elapsed().as_secs_f64();
    let (cpu, busy, shown) = (harness::cpu_seconds() - cpu, harness::busy_seconds() - busy, shown.load(Relaxed) - shown_before);
    // The last ones may take their time, too.
    std::thread::sleep(Duration::from_millis(1500));
    done.store(true, Relaxed);
    live.ask.send(Ask::Stop).expect("the clock listens");
    let seen = subscriber.join().expect("the subscriber reads to the end");
    pipeline.join().expect("no panic").unwrap_or_else(|failure| panic!("{failure}"));

    let from = start + Duration::from_secs_f64(WARM_UP);
    let mut latencies = Vec::new();
    let mut lost = 0;
    for (number, due) in due_probes.iter().enumerate().filter(|(_, due)| **due >= from) {
        match seen.get(number).copied().flatten() {
            Some(at) => latencies.push((at - *due).as_secs_f64() * 1e3),
            None => lost += 1,
        }
    }
    latencies.sort_by(f64::total_cmp);
    late.sort_by(f64::total_cmp);
    let quantile = |sorted: &[f64], q: f64| sorted.get(((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
    println!(
        "{rate:>9} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>9.1} {:>11.0} {:>7.2} {:>7.2}{}",
        latencies.len(),
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.9),
        quantile(&latencies, 0.99),
        quantile(&latencies, 0.999),
        quantile(&latencies, 1.0),
        quantile(&late, 0.99),
        shown as f64 / took,
        cpu / took,
        ((busy - cpu) / took).max(0.0),
        if lost > 0 { format!("   {lost} probes were never seen") } else { String::new() },
    );
    fs::remove_dir_all(&dir).expect("the folder can be removed");
}

/// Reads the comparison's events; when each probe was seen first.
fn subscribe(address: SocketAddr, shown: &AtomicU64, done: &AtomicBool) -> Vec<Option<Instant>> {
    let mut stream = TcpStream::connect(address).expect("it serves");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket has a timeout");
    write!(stream, "GET /api/v1/comparisons/orders_in_erp/subscribe HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n").expect("it listens");
    let (mut reader, mut line, mut seen, mut event) = (BufReader::with_capacity(1 << 20, stream), Vec::new(), Vec::new(), String::new());
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return seen,
            Ok(_) => {}
            Err(_) if done.load(Relaxed) => return seen,
            Err(error) => panic!("the stream broke: {error}"),
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            event = String::from_utf8_lossy(name).trim().to_string();
        }
        assert!(event != "cut", "the subscriber was cut: {}", String::from_utf8_lossy(&line));
        // A chunk of HTTP may begin within a line, as a line of its own; lines of an event are whole otherwise.
        if event != "change" || !line.starts_with(b"data:") {
            continue;
        }
        let now = Instant::now();
        let text = String::from_utf8_lossy(&line);
        shown.fetch_add(text.matches("\"before\":").count() as u64, Relaxed);
        // `"amount":{"expected":"10000000.00","actual":"0000.17"}`: the numbers of probes stand nowhere else.
        for part in text.split("\"after\":").skip(1) {
            let Some(fields) = part.split("\"fields\":").nth(1) else { continue };
            let Some(actual) = fields.split("\"expected\":\"10000000.00\",\"actual\":\"").nth(1) else { continue };
            let digits: String = actual.split('"').next().unwrap_or("").chars().filter(char::is_ascii_digit).collect();
            let Ok(number) = digits.parse::<usize>() else { continue };
            if number >= 100_000_000 {
                continue;
            }
            if seen.len() <= number {
                seen.resize(number + 1, None);
            }
            seen[number].get_or_insert(now);
        }
    }
}
