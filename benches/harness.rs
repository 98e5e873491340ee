//! One measurement, one process: a bench runs itself again for each, so that memory figures begin at an empty process.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tieout::{
    config::{self, Need},
    log::Until,
    pipeline::{self, Options, Write},
    plan::Plan,
};

const CHILD: &str = "TIEOUT_BENCH_CHILD";

/// The contract's orders, as a text of the benches' own.
pub const ORDERS: &str = r#"
dataflow: orders
sources:
  opportunity:
    connection: crm
    files: [src.snapshot.ndjson, src.changes.ndjson]
    format: debezium-json
    key: [id]
    columns: { id: bigint, account_id: bigint, owner: varchar, amount: "decimal(18,2)", currency: varchar, stage: varchar, probability: int, closed_at: date, updated_at: bigint }
  sales_order:
    connection: erp
    files: [tgt.snapshot.ndjson, tgt.changes.ndjson]
    format: debezium-json
    key: [order_id]
    columns: { order_id: varchar, customer: bigint, status: varchar, amount: "decimal(18,2)", currency: varchar, closed_on: date, owner: varchar }
targets:
  expected_order:
    key: [order_id]
    from: opportunity
    where: stage <> 'Draft'
    fields:
      order_id: "'SO-' || id"
      customer: account_id
      status:
        case: stage
        when: { Closed Won: confirmed, Closed Lost: cancelled, Negotiation: open, Proposal: open }
      amount: amount
      currency: { value: currency, default: EUR }
      closed_on: closed_at
      owner: lower(owner)
    require: [customer, amount]
comparisons:
  orders_in_erp:
    expected: expected_order
    actual: sales_order
    grace: 30s
    totals:
      - { sum: amount, by: [currency] }
"#;

/// The contract's revenue: joins, aggregates, a target that reads a target.
pub const REVENUE: &str = r#"
dataflow: revenue
sources:
  opportunity:
    connection: crm
    files: [src.snapshot.ndjson, src.changes.ndjson]
    format: debezium-json
    key: [id]
    columns: { id: bigint, account_id: bigint, amount: "decimal(18,2)", currency: varchar, stage: varchar }
  account:
    connection: crm
    files: [acc.snapshot.ndjson]
    format: debezium-json
    key: [id]
    columns: { id: bigint, name: varchar, region: varchar, tier: int }
  sales_order:
    connection: erp
    files: [tgt.snapshot.ndjson, tgt.changes.ndjson]
    format: debezium-json
    key: [order_id]
    columns: { order_id: varchar, customer: bigint, status: varchar, amount: "decimal(18,2)", currency: varchar }
targets:
  won_deal:
    key: [id]
    sql: |
      SELECT o.id, a.region, a.tier, coalesce(o.currency, 'EUR') AS currency, o.amount
      FROM opportunity o JOIN account a ON a.id = o.account_id
      WHERE o.stage = 'Closed Won'
  expected_revenue:
    key: [region, currency]
    sql: |
      SELECT region, currency, sum(amount) AS revenue, count(*) AS orders, max(amount) AS largest
      FROM won_deal GROUP BY region, currency
  booked_revenue:
    key: [region, currency]
    sql: |
      SELECT a.region, s.currency, sum(s.amount) AS revenue, count(*) AS orders, max(s.amount) AS largest
      FROM sales_order s JOIN account a ON a.id = s.customer
      WHERE s.status = 'confirmed'
      GROUP BY a.region, s.currency
comparisons:
  revenue_by_region:
    expected: expected_revenue
    actual: booked_revenue
    grace: 5m
"#;

/// The plan of a dataflow over the files of a folder.
pub fn plan(dataflow: &str, dir: &Path, workers: usize, tick: &str) -> Plan {
    let config = format!(
        "data_dir: {0}/state\nworkers: {workers}\ntick: {tick}\nhttp:\n  listen: 127.0.0.1:0\nconnections:\n  crm: {{ kind: file, dir: \"{0}\" }}\n  erp: {{ kind: file, dir: \"{0}\" }}\n",
        dir.display()
    );
    config::load_texts(("bench.yaml", &config), &[("dataflow.yaml", dataflow)], &|_| None, Need::Connections).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a run of a child is to do.
#[derive(Clone, Debug)]
pub struct Job {
    pub dataflow: String,
    pub dir: PathBuf,
    pub out: PathBuf,
    pub workers: usize,
    pub tick: String,
}

/// What it measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the start of the run until everything is read and closed, and until the exports stand.
    pub closed: f64,
    pub exported: f64,
    /// CPU seconds of the process until closed, and in all.
    pub cpu_closed: f64,
    pub cpu: f64,
    /// Anonymous memory above the start of the process: when everything was closed, and at its peak until then.
    pub held: f64,
    pub peak: f64,
    /// Of it, what loading the configuration and planning left behind.
    pub planned: f64,
    /// What the tables say they hold.
    pub state: f64,
    pub difference_changes: f64,
    /// Cores that anything else took meanwhile.
    pub others: f64,
    /// CPU seconds by stage, of all workers.
    pub stages: [f64; 4],
}

/// Runs the job in a process of its own.
pub fn measure(job: &Job) -> Measured {
    let _ = fs::remove_dir_all(&job.out);
    let text = json!({ "dataflow": job.dataflow, "dir": job.dir, "out": job.out, "workers": job.workers, "tick": job.tick }).to_string();
    let (busy, began) = (busy_seconds(), Instant::now());
    let output = Command::new(std::env::current_exe().expect("the bench knows itself"))
        .env(CHILD, text)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("the bench can run itself");
    assert!(output.status.success(), "the run failed: {}", output.status);
    let (wall, busy) = (began.elapsed().as_secs_f64(), busy_seconds() - busy);
    let said: Json = serde_json::from_slice(&output.stdout).expect("the child speaks JSON");
    let number = |name: &str| said[name].as_f64().unwrap_or_else(|| panic!("`{name}` in {said}"));
    Measured {
        closed: number("closed"),
        exported: number("exported"),
        cpu_closed: number("cpu_closed"),
        cpu: number("cpu"),
        held: number("held"),
        peak: number("peak"),
        planned: number("planned"),
        state: number("state"),
        difference_changes: number("difference_changes"),
        others: ((busy - number("cpu")) / wall).max(0.0),
        stages: std::array::from_fn(|s| said["stages"][s].as_f64().unwrap_or(0.0)),
    }
}

/// Call first in `main`: does the job and returns true in a child.
pub fn is_child() -> bool {
    let Ok(job) = std::env::var(CHILD) else { return false };
    let job: Json = serde_json::from_str(&job).expect("the parent speaks JSON");
    let text = |name: &str| job[name].as_str().expect("a text").to_string();
    let (empty, out) = (anonymous(), PathBuf::from(text("out")));
    let plan = plan(&text("dataflow"), Path::new(&text("dir")), job["workers"].as_u64().expect("a number") as usize, &text("tick"));
    let planned = anonymous();
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::<(f64, u64, f64)>::new())));
    let sampler = std::thread::Builder::new().name("sampler".into()).spawn({
        let (done, seen, began) = (Arc::clone(&done), Arc::clone(&seen), Instant::now());
        move || {
            while !done.load(Ordering::Relaxed) {
                seen.lock().expect("nobody panics").push((began.elapsed().as_secs_f64(), anonymous(), cpu_seconds()));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let sampler = sampler.expect("a thread starts");
    let options = Options { until: Until::End, export: Some(out.clone()), serve: false, write: Write::No, fresh: false };
    let outcome = pipeline::run(plan, &options, None, |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    let cpu = cpu_seconds();
    done.store(true, Ordering::Relaxed);
    sampler.join().expect("the sampler ends");
    let summary: Json = serde_json::from_slice(&fs::read(out.join("summary.json")).expect("a summary was exported")).expect("it is JSON");
    let closed = summary["read_seconds"].as_f64().expect("seconds");
    let seen = seen.lock().expect("nobody panics");
    let reading: Vec<_> = seen.iter().filter(|(at, ..)| *at <= closed).collect();
    let (_, held, cpu_closed) = reading.last().expect("there is a sample");
    let peak = reading.iter().map(|s| s.1).max().unwrap_or(0);
    let times = outcome.dry.times;
    println!(
        "{}",
        json!({
            "closed": closed, "exported": outcome.seconds, "cpu_closed": cpu_closed, "cpu": cpu,
            "held": held.saturating_sub(empty), "peak": peak.saturating_sub(empty), "state": summary["state_bytes"],
            "planned": planned.saturating_sub(empty),
            "difference_changes": summary["difference_changes"],
            "stages": [times.decode as f64 / 1e9, times.map as f64 / 1e9, times.table as f64 / 1e9, times.flow as f64 / 1e9],
        })
    );
    true
}

/// The exported differences as lines of `key,kind,field,expected,actual`.
pub fn exported(out: &Path, comparison: &str) -> BTreeSet<String> {
    let path = out.join("differences").join(format!("{comparison}.csv"));
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let column = |name: &str, headers: &csv::StringRecord| headers.iter().position(|h| h == name).expect("the column is exported");
    let headers = reader.headers().expect("a header").clone();
    let [key, kind, field, expected, actual] = ["key", "kind", "field", "expected", "actual"].map(|name| column(name, &headers));
    reader
        .records()
        .map(|record| {
            let record = record.expect("it is CSV");
            // Rows of one side only are exported whole; the truth knows just that they are there.
            let values = if record[kind] == *"mismatched" { (&record[expected], &record[actual]) } else { ("", "") };
            format!("{},{},{},{},{}", &record[key], &record[kind], &record[field], values.0, values.1)
        })
        .collect()
}

/// Stops the bench if an export is not the truth.
pub fn check(out: &Path, comparison: &str, truth: &BTreeSet<String>) {
    let exported = exported(out, comparison);
    if exported != *truth {
        let few = |lines: Vec<&String>| lines.iter().take(5).map(|l| format!("    {l}\n")).collect::<String>();
        let (lacking, wrong): (Vec<_>, Vec<_>) = (truth.difference(&exported).collect(), exported.difference(truth).collect());
        panic!("{comparison} is not the truth: {} lines are lacking\n{}{} are wrong\n{}", lacking.len(), few(lacking), wrong.len(), few(wrong));
    }
}

/// Where exports of a bench go.
pub fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("out-{name}"))
}

/// The value of `--name VALUE` on the command line, or of `TIEOUT_BENCH_NAME` in the environment.
pub fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|a| *a != format!("--{name}"));
    arguments.nth(1).or_else(|| std::env::var(format!("TIEOUT_BENCH_{}", name.to_uppercase())).ok())
}

/// The same as a number.
pub fn number(name: &str, otherwise: u64) -> u64 {
    argument(name).map_or(otherwise, |text| text.replace('_', "").parse().unwrap_or_else(|_| panic!("--{name} is a number")))
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Anonymous memory of this process in bytes.
pub fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap_or("0");
    line.trim().split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// CPU seconds of this process, all threads.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect::<Vec<_>>();
    let ticks = |at: usize| after.get(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// CPU seconds that the machine has been busy.
pub fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let n: Vec<f64> = stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|i| n.get(*i)).sum::<f64>() / 100.0
}

/// What else the machine is doing, for the record.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
