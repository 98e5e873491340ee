//! One run: readers, clock, workers, ledger, sinks and server put together, and taken apart in order.
//!
//! ```text
//!  log readers ─▶ clock ─▶ workers ─▶ ledger ─▶ sinks
//!                   ▲                   └─▶ HTTP
//!                   └───── look-ups ────────┘
//! ```

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, unbounded};
use serde_json::{Value as Json, json};

use crate::{
    clock::{Ask, Clock, Stopped},
    engine::worker::Workers,
    export,
    ledger::{self, SharedLedger, State},
    log::{self, Until},
    plan::Plan,
};

/// What a run does beside keeping tables and differences.
#[derive(Clone, Debug)]
pub struct Options {
    pub until: Until,
    /// Where the exports go, once the logs have ended.
    pub export: Option<PathBuf>,
    /// Serve HTTP.
    pub serve: bool,
    /// Write to the outputs.
    pub write: bool,
}

/// What stood at the end of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub differences: u64,
    pub confirmed: u64,
}

/// Why a run ended before its time.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    /// Worth trying again as it is.
    pub retry: bool,
}

impl Failure {
    fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), retry: false }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs a plan. `asks` is given to `ready` once everything is up, to stop the run and to look rows up.
///
/// # Errors
/// Why the run could not go on, or could not start.
pub fn run(plan: Plan, options: &Options, ready: impl FnOnce(Sender<Ask>, &SharedLedger)) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let empty = memory().0;
    let plan = Arc::new(plan);
    let ledger = SharedLedger::new(Arc::clone(&plan));
    let (ask, asks) = unbounded();
    let logs = (0..plan.sources.len())
        .map(|source| log::open(&plan, source, options.until).map_err(|e| Failure { message: e.to_string(), retry: e.retry }))
        .collect::<Result<Vec<_>, _>>()?;
    let (to_ledger, sealed) = unbounded();
    let (to_reports, reports) = unbounded();
    let workers = Workers::start(Arc::clone(&plan), to_reports);
    let (failed, failures) = unbounded();
    let keeper = {
        let (ledger, ask) = (ledger.clone(), ask.clone());
        spawn("ledger", move || {
            ledger::run(&ledger, &sealed, &reports, |output| {
                if let Some(why) = &output.failure {
                    let _ = failed.send(why.clone());
                    let _ = ask.send(Ask::Stop);
                }
            });
        })
    };
    ready(ask, &ledger);
    let stopped = Clock::new(logs, &workers, to_ledger, asks, plan.tick, options.until).run();
    let last = match stopped {
        Stopped::Done { last } => last,
        Stopped::Log { source, error } => {
            let _ = workers.stop();
            return Err(Failure { message: format!("source `{}`: {error}", plan.sources[source].name), retry: error.retry });
        }
        Stopped::Worker => {
            let why = workers.stop().err().unwrap_or_else(|| "a worker ended".into());
            return Err(Failure::new(format!("a worker panicked: {why}")));
        }
    };
    let mut news = ledger.closed();
    while *news.borrow_and_update() < last {
        if !workers.is_alive() {
            return Err(Failure::new(format!("a worker panicked: {}", workers.stop().err().unwrap_or_default())));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let read_seconds = started.elapsed().as_secs_f64();
    if let Some(why) = failures.try_iter().next() {
        let _ = workers.stop();
        return Err(Failure::new(why));
    }
    if let Some(dir) = &options.export {
        let (peak, _) = memory();
        export::from_workers(&plan, &workers, dir).map_err(|e| Failure::new(e.to_string()))?;
        let extra = json!({
            "seconds": started.elapsed().as_secs_f64(),
            "read_seconds": read_seconds,
            "peak_memory_bytes": memory().0,
            "read_peak_memory_bytes": peak,
            "empty_memory_bytes": empty,
        });
        let Json::Object(extra) = extra else { unreachable!("an object was written") };
        export::from_ledger(&ledger.read(), dir, extra).map_err(|e| Failure::new(e.to_string()))?;
    }
    workers.stop().map_err(|why| Failure::new(format!("a worker panicked: {why}")))?;
    keeper.join().map_err(|_| Failure::new("the ledger broke an invariant; see the panic above"))?;
    let held = ledger.read();
    let mut outcome = Outcome::default();
    for id in 0..plan.comparisons.len() {
        let counts = held.status(id).counts;
        outcome.differences += counts.total();
        outcome.confirmed += counts.of_state(State::Confirmed);
    }
    Ok(outcome)
}

/// Peak and current memory of this process in bytes, file mappings included; 0 where the system does not say.
pub fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let kib = status.lines().find_map(|l| l.strip_prefix(name)).and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (line("VmHWM:"), line("VmRSS:"))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(body).expect("the operating system starts a thread")
}

