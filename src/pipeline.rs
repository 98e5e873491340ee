//! One run: readers, clock, workers, ledger, sinks and server put together, and taken apart in order.
//!
//! ```text
//!  log readers ─▶ clock ─▶ workers ─▶ ledger ─▶ sinks
//!                   ▲                   └─▶ HTTP
//!                   └───── look-ups ────────┘
//! ```
//!
//! Taken apart from left to right: the clock seals a last tick, the workers close it, the ledger applies it, the sinks
//! flush it, and only then the server leaves. Of several processes one leads and does all this (`lead`); the others read and hold
//! their share (`follow`), and what they say to each other is in `note`. `dry` holds what a run without consequences shows instead, `start` what a
//! start goes on from.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::{
    checkpoint::{self, CheckpointError, Folder, Taker},
    clock::{Ask, Begin, Clock, Stopped},
    cluster::{Link, Mesh},
    config::size,
    engine::{Command, Part, Report, RowAnswer, Sealed, Tick, workers::Workers},
    export, http,
    ledger::{self, Ledger, LedgerSave, SharedLedger, State, TickOutput},
    log::{self, LogError, LogHandle, LogStatus, Until},
    memory::Governor,
    plan::{ConnectionKind, Plan, TableRef},
    processes::Processes,
    signals,
    sink::{SinkError, Writers},
    telemetry,
    watchdog::{Watchdog, Watched},
};

pub mod dry;
mod follow;
mod lead;
mod note;
mod start;

/// What a run does beside keeping tables and differences.
#[derive(Clone, Debug)]
pub struct Options {
    pub until: Until,
    /// Where the exports go, once the logs have ended.
    pub export: Option<PathBuf>,
    /// Serve HTTP, and stop when the process is asked to.
    pub serve: bool,
    pub write: Write,
    /// Read everything from the beginning, whatever checkpoints there are.
    pub fresh: bool,
}

/// What becomes of the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Yes,
    No,
    /// Nothing is written, but what would be is counted, and so many records of each output are kept to show.
    Dry {
        samples: usize,
    },
}

/// What stood at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub differences: u64,
    pub confirmed: u64,
    pub seconds: f64,
    /// What `Write::Dry` has to show.
    pub dry: dry::Dry,
}

/// What somebody can do about a failure; the exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// The configuration, or what it points to, does not hold: trying again changes nothing.
    Configuration,
    /// The surroundings: worth trying again as it is.
    Surroundings,
    /// tieout itself.
    Tieout,
}

impl Blame {
    /// What a process says of it when it ends.
    pub fn exit(self) -> u8 {
        match self {
            Blame::Configuration => 78,
            Blame::Surroundings => 75,
            Blame::Tieout => 70,
        }
    }
}

/// Why a run ended before its time.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    pub blame: Blame,
}

impl Failure {
    fn new(message: impl Into<String>, blame: Blame) -> Failure {
        Failure { message: message.into(), blame }
    }

    fn worker(why: Result<(), String>) -> Failure {
        let why = why.err().unwrap_or_else(|| "it left without a word".into());
        Failure::new(format!("a worker ended early: {why}; this is a bug in tieout, please report it with the lines above"), Blame::Tieout)
    }

    fn tieout(message: &str) -> Failure {
        Failure::new(message, Blame::Tieout)
    }

    fn surroundings(message: impl Into<String>) -> Failure {
        Failure::new(message, Blame::Surroundings)
    }

    fn memory(plan: &Plan) -> Failure {
        let most = size::text(plan.memory_max.unwrap_or(0));
        const CODE: &str = "MEMORY_EXHAUSTED";
        if crate::memory::disk_was_full() {
            let dir = plan.data_dir.display();
            return Failure::surroundings(format!("{CODE}: `memory_max` ({most}) is full, and so was the disk of {dir}, where the rest goes; make room there"));
        }
        let remedy = "give it more, or less to keep: fewer differences at once, fewer rows in joins and aggregates";
        Failure::new(format!("{CODE}: `memory_max` ({most}) is full of what can't go to a file; {remedy}"), Blame::Surroundings)
    }

    fn log(plan: &Plan, source: usize, error: &LogError) -> Failure {
        let blame = if error.retry { Blame::Surroundings } else { Blame::Configuration };
        Failure::new(format!("source `{}`: {error}", plan.sources[source].name), blame)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Failure {
        Failure::new(
            error.to_string(),
            if ["STATE_IN_USE", "CHECKPOINT_UNREADABLE"].contains(&error.code) { Blame::Surroundings } else { Blame::Configuration },
        )
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Failure {
        Failure::new(error.to_string(), if error.retry { Blame::Surroundings } else { Blame::Configuration })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A run that is under way, for those who watch it or stop it.
#[derive(Clone)]
pub struct Live {
    pub ask: Sender<Ask>,
    pub ledger: SharedLedger,
    /// How far each source's log is read.
    pub logs: Vec<Arc<LogStatus>>,
    /// Where HTTP is served, if it is.
    pub address: Option<SocketAddr>,
}

/// Runs a plan; `ready` is told once everything is up. `mesh`: the other processes that run it, too.
///
/// # Errors
/// Why the run could not go on, or could not start.
pub fn run(plan: Plan, options: &Options, mesh: Option<Mesh>, ready: impl FnOnce(Live)) -> Result<Outcome, Failure> {
    let plan = Arc::new(plan);
    match mesh {
        None => lead(&plan, options, None, ready),
        Some(mesh) if !plan.process.leads() => follow::run(&plan, options, mesh, ready),
        Some(mut mesh) => {
            let links = mesh.links();
            let leader = Arc::new(lead::Leader::new(Arc::new(mesh), &plan));
            if options.serve {
                // What to go on from may take a while to be found; there is nothing to end in order until then.
                let leader = Arc::clone(&leader);
                let stop = move || {
                    leader.over(None);
                    std::process::exit(0);
                };
                signals::when_asked(stop).map_err(deaf)?;
            }
            let outcome = lead(&plan, options, Some((Arc::clone(&leader), links)), ready);
            leader.over(outcome.as_ref().err());
            outcome
        }
    }
}

/// The run of a process that leads, or is the only one.
fn lead(plan: &Arc<Plan>, options: &Options, others: Option<(Arc<lead::Leader>, Vec<Option<Link>>)>, ready: impl FnOnce(Live)) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let empty = memory().0;
    let folder = state(plan, options)?;
    let start::Start { mut restore, at, last, again, rebuild, incomplete, exact } =
        start::find(plan, folder.as_ref().map(Folder::path), options.fresh, exactly_once(plan, options))?;
    let mut ledger = match &mut restore {
        Some(restore) => restore.ledger(Arc::clone(plan))?,
        None => Ledger::new(Arc::clone(plan)),
    };
    if folder.is_some() {
        ledger.keep();
    }
    let ledger = SharedLedger::new(ledger);
    let governor = match plan.memory_max {
        Some(most) => Some(Governor::start(most, &plan.data_dir).map_err(|e| unlimited(plan, &e))?),
        None => None,
    };
    let (ask, asks) = unbounded();
    let watched = Watched::default();
    let processes = Processes::of(plan);
    let app = http::App::new(ledger.clone(), rows(ask.clone()), watched.clone(), processes.clone());
    let server = if options.serve {
        let to_stop = ask.clone();
        signals::when_asked(move || drop(to_stop.send(Ask::Stop))).map_err(deaf)?;
        Some(Server::start(plan.listen, http::router(app.clone()))?)
    } else {
        None
    };
    let writers = match options.write {
        Write::Yes => {
            let of = checkpoint::manifest::fingerprint(plan);
            let anew = folder.as_ref().filter(|_| options.fresh);
            anew.map_or(Ok(()), Folder::can_forget)?;
            let exact = exact.into_iter().map(|(exact, from)| exact.begin(from, &of)).collect::<Result<_, _>>()?;
            anew.map_or(Ok(()), Folder::forget)?;
            let keep = start::keep(plan, folder.as_ref(), restore.as_ref())?;
            Some(Writers::start(plan, exact, &of, keep)?)
        }
        Write::No | Write::Dry { .. } => None,
    };
    let logs = (0..plan.sources.len())
        .map(|source| log::open(plan, source, options.until, &at[source]).map_err(|e| Failure::log(plan, source, &e)))
        .collect::<Result<Vec<LogHandle>, _>>()?;
    // Of what is read from the beginning, the clock learns by itself where that is.
    let at_checkpoint = if restore.is_some() { at.clone() } else { Vec::new() };
    let (to_ledger, sealed) = unbounded();
    let upstream = restore.as_ref().map(checkpoint::restore::Restore::upstream).unwrap_or_default();
    let (to_reports, reports) = unbounded();
    let (to_parts, parts) = unbounded();
    let statuses: Vec<Arc<LogStatus>> = logs.iter().map(|log| Arc::clone(&log.status)).collect();
    let mut all_logs = vec![statuses.clone()];
    let leader = others.as_ref().map(|(leader, _)| Arc::clone(leader));
    let workers = match others {
        None => Workers::start(Arc::clone(plan), to_reports),
        Some((leader, links)) => {
            leader.begin(Begin {
                once: options.until == Until::End,
                at: at.clone(),
                last,
                restores: restore.is_some(),
                again: again.clone(),
                rebuild: rebuild.clone(),
                incomplete: incomplete.clone(),
                upstream: upstream.clone(),
            });
            all_logs.resize_with(plan.process.of, || plan.sources.iter().map(|_| Arc::default()).collect());
            let guests = server.as_ref().map(|server| server.guests(app, &leader));
            let ears =
                lead::Ears { reports: to_reports.clone(), parts: to_parts, ask: ask.clone(), logs: all_logs.clone(), processes: processes.clone(), guests };
            leader.hear(ears);
            let mut workers = Workers::start_among(Arc::clone(plan), to_reports, 0, links).map_err(|why| Failure::tieout(&why))?;
            workers.lead(leader);
            workers
        }
    };
    let dry = match options.write {
        Write::Dry { samples } => Some(dry::Outputs::new(plan, samples)),
        Write::Yes | Write::No => None,
    };
    if folder.is_some() {
        workers.all(&Command::Keep);
    }
    let written = writers.as_ref().map(Writers::written).unwrap_or_default();
    let taker = folder.map(|folder| {
        let path = folder.path().to_path_buf();
        (
            path,
            Taker::start(
                Arc::clone(plan),
                folder,
                restore.as_ref().filter(|r| r.changes.is_none()).map(|r| &r.manifest),
                ledger.clone(),
                ask.clone(),
                written.clone(),
                watched.clone(),
            ),
        )
    });
    let saves = taker.as_ref().map(|(_, taker)| taker.saves());
    processes.know(workers.pending_count(), server.as_ref().map(|server| server.address.to_string()), &all_logs);
    let keeper = Keeper::start(&ledger, (sealed, parts, reports), ask.clone(), writers, dry, saves);
    let watchdog = Watchdog::start(plan, ledger.clone(), all_logs.clone(), written.clone(), watched);
    ready(Live { ask, ledger: ledger.clone(), logs: all_logs.concat(), address: server.as_ref().map(|s| s.address) });

    let closed = ledger.closed();
    let clock = Clock::new(logs, &workers, to_ledger.clone(), asks, plan.tick, options.until).behind(move || *closed.borrow());
    let clock = clock.spread(plan).gates(plan, &incomplete).holds(plan, &upstream);
    let clock = clock.resume(last, &at_checkpoint, again, rebuild);
    if let (Some(restore), Some((path, _))) = (&restore, &taker) {
        let began = Instant::now();
        if !restore.changes.is_none() {
            tracing::warn!("not all of the checkpoint is as it was: {}", restore.changes.say(plan));
        }
        restore.give_back(path, &workers, &to_ledger)?;
        tracing::info!(tick = restore.manifest.tick, seconds = began.elapsed().as_secs_f64(), "goes on from a checkpoint");
    }
    drop(to_ledger);
    let stopped = clock.run();
    watchdog.stop();
    written.closing();
    let failed_elsewhere = || leader.as_ref()?.failed().map(|(source, error)| Failure::log(plan, source, &error));
    let (mut complete, mut early) = (false, false);
    let ended = match stopped {
        Stopped::Done { last } => until_closed(&ledger, &workers, &keeper, last, failed_elsewhere).map(|()| complete = ledger.read().as_of() == last),
        Stopped::Log { source, error } => Err(Failure::log(plan, source, &error)),
        Stopped::Early { .. } => {
            early = true;
            Ok(())
        }
        Stopped::Memory => Err(Failure::memory(plan)),
        Stopped::Worker if plan.process.of > 1 => return Err(Failure::tieout("a worker panicked (see the lines above); please report it")),
        Stopped::Worker => return Err(Failure::worker(workers.stop())),
    };
    if let Some((_, taker)) = taker
        && let Err(error) = taker.finish(complete.then_some((&workers, &ledger)))
    {
        telemetry::CheckpointFailed { error: &error }.emit();
    }
    if early && plan.process.of > 1 {
        // Others may be waiting for a log, and these for them: what had been written before is made again by the next start.
        let stopped = server.map_or(Ok(()), Server::stop);
        // Nobody may have asked for it but an output that can't be written.
        return keeper.failure().map_or(stopped, Err).map(|()| Outcome::default());
    }
    let read_seconds = started.elapsed().as_secs_f64();
    let mut outcome = Outcome::default();
    let ended = ended.and_then(|()| {
        if let Write::Dry { samples } = options.write {
            outcome.dry.rows = export::samples(plan, &workers, samples).map_err(unwritable)?;
        }
        let Some(dir) = &options.export else { return Ok(()) };
        let peak = memory().0;
        export::from_workers(plan, &workers, dir).map_err(unwritable)?;
        let extra = json!({
            "seconds": started.elapsed().as_secs_f64(),
            "read_seconds": read_seconds,
            "peak_memory_bytes": memory().0,
            "read_peak_memory_bytes": peak,
            "empty_memory_bytes": empty,
        });
        let Json::Object(extra) = extra else { unreachable!("an object was written") };
        export::from_ledger(&ledger.read(), dir, extra).map_err(unwritable)
    });
    let left = workers.stop();
    if let Some(governor) = governor {
        governor.stop();
    }
    let kept = keeper.finish()?;
    ended?;
    left.map_err(|why| Failure::worker(Err(why)))?;
    outcome.dry.outputs = kept;
    if let Some(server) = server {
        server.stop()?;
    }
    let held = ledger.read();
    for id in 0..plan.comparisons.len() {
        let counts = held.status(id).counts;
        outcome.differences += counts.total();
        outcome.confirmed += counts.of_state(State::Confirmed);
    }
    if let Write::Dry { samples } = options.write {
        outcome.dry.differences = (0..plan.comparisons.len()).map(|id| held.differences(id, None).take(samples).cloned().collect()).collect();
    }
    outcome.dry.times = held.stages();
    outcome.dry.read_nanos = statuses.iter().map(|log| log.read_nanos()).sum();
    outcome.dry.ledger_nanos = ledger.nanos();
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Are outputs to Kafka written exactly once? Not those of a run that ends by itself, which goes on from nothing, nor those
/// of a simulation, which can't be read again.
fn exactly_once(plan: &Plan, options: &Options) -> bool {
    let simulated = plan.connections.iter().any(|c| matches!(c.kind, ConnectionKind::Demo { .. }));
    options.until == Until::Forever && options.write == Write::Yes && !simulated
}

/// The folder of checkpoints, if the run keeps some; never beside another one that uses the same folder.
fn state(plan: &Plan, options: &Options) -> Result<Option<Folder>, Failure> {
    let simulated = plan.connections.iter().any(|c| matches!(c.kind, ConnectionKind::Demo { .. }));
    if options.until == Until::End || options.write != Write::Yes || simulated {
        return Ok(None);
    }
    Ok(Some(Folder::open(&plan.data_dir)?))
}

fn unlimited(plan: &Plan, error: &std::io::Error) -> Failure {
    let dir = plan.data_dir.display();
    let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded].contains(&error.kind());
    let (remedy, blame) = match full {
        true => ("make room there", Blame::Surroundings),
        false => ("`memory_max` needs Linux, and a `data_dir` on a file system of a disk that can be written", Blame::Configuration),
    };
    Failure::new(format!("memory can't be limited with a file in {dir}: {error}; {remedy}"), blame)
}

/// Somebody who asks this process to stop would not be heard.
pub(crate) fn deaf(error: std::io::Error) -> Failure {
    let remedy = "see that the limits of this process leave it a thread and some files";
    Failure::surroundings(format!("what asks this process to stop can't be heard: {error}; {remedy}"))
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new(format!("{error}; name a folder that can be written with `--export`"), Blame::Configuration)
}

/// Waits until the last sealed tick is closed and applied.
fn until_closed(ledger: &SharedLedger, workers: &Workers, keeper: &Keeper, last: Tick, failed_elsewhere: impl Fn() -> Option<Failure>) -> Result<(), Failure> {
    let mut news = ledger.closed();
    while *news.borrow_and_update() < last {
        if !workers.is_alive() {
            return Err(Failure::new("a worker ended before it had closed the last tick; see the lines above", Blame::Tieout));
        }
        // Its clock can't be told any more, and the tick has no part of it.
        if let Some(failure) = failed_elsewhere() {
            return Err(failure);
        }
        if keeper.thread.is_finished() {
            // It says itself why.
            return Err(Failure::tieout("the ledger ended before the last tick"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The thread that applies closed ticks and hands them to the sinks.
struct Keeper {
    thread: JoinHandle<Result<Vec<dry::Output>, Failure>>,
    /// Why it has asked the clock to stop.
    failed: Receiver<Failure>,
}

impl Keeper {
    fn start(
        ledger: &SharedLedger,
        (sealed, parts, reports): (Receiver<Sealed>, Receiver<Part>, Receiver<Report>),
        ask: Sender<Ask>,
        mut writers: Option<Writers>,
        mut dry: Option<dry::Outputs>,
        saves: Option<Sender<LedgerSave>>,
    ) -> Keeper {
        let ledger = ledger.clone();
        let (to_failed, why) = unbounded();
        let thread = spawn("ledger", move || {
            let mut failed: Option<Failure> = None;
            let told = ledger::run(&ledger, &sealed, &parts, &reports, |output: &Arc<TickOutput>| {
                if failed.is_some() {
                    return;
                }
                if let Some(dry) = &mut dry {
                    dry.take(output);
                }
                if let (Some(saves), Some(save)) = (&saves, &output.save) {
                    let _ = saves.send(save.clone());
                }
                let written = writers.as_ref().map_or(Ok(()), |w| w.send(output));
                failed = match (&output.failure, written) {
                    (Some(why), _) => Some(Failure::new(why.clone(), Blame::Configuration)),
                    (None, Err(error)) => Some(error.into()),
                    (None, Ok(())) => None,
                };
                if let Some(failure) = &failed {
                    let _ = to_failed.send(failure.clone());
                    // A clock that has left already has nothing to stop.
                    let _ = ask.send(Ask::Stop);
                }
            });
            if let Err(torn) = told {
                let _ = ask.send(Ask::Failed(torn.source, torn.error()));
                failed.get_or_insert_with(|| Failure::log(ledger.read().plan(), torn.source, &torn.error()));
            }
            let flushed = writers.take().map_or(Ok(()), Writers::finish);
            if let Some(failure) = failed {
                return Err(failure);
            }
            flushed?;
            Ok(dry.map(dry::Outputs::finish).unwrap_or_default())
        });
        Keeper { thread, failed: why }
    }

    /// Why nothing more is written, if so, without waiting for what is.
    fn failure(&self) -> Option<Failure> {
        self.failed.try_recv().ok()
    }

    /// Waits until everything that is closed is written.
    fn finish(self) -> Result<Vec<dry::Output>, Failure> {
        self.thread.join().unwrap_or_else(|_| {
            Err(Failure::new("the ledger broke an invariant (see the lines above); this is a bug in tieout, please report it", Blame::Tieout))
        })
    }
}

/// Look-ups go through the clock, in order with ticks.
fn rows(ask: Sender<Ask>) -> impl http::RowLookup {
    move |table: TableRef, key: Vec<u8>, reply: Sender<RowAnswer>| ask.send(Ask::Row { table, key, reply }).map_err(|_| "tieout is stopping".to_string())
}

/// The thread that serves HTTP.
struct Server {
    address: SocketAddr,
    runtime: tokio::runtime::Handle,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Binds before anything else is started, so that a second process on the same port does no harm.
    fn start(listen: SocketAddr, router: http::Router) -> Result<Server, Failure> {
        let refused = |error: std::io::Error| {
            let remedy = "`--listen ADDR` or `http.listen` names another address; port 0 takes a free one";
            let blame = if error.kind() == std::io::ErrorKind::AddrInUse { Blame::Surroundings } else { Blame::Configuration };
            Failure::new(format!("HTTP can't be served on {listen}: {error}; {remedy}"), blame)
        };
        let listener = std::net::TcpListener::bind(listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build().map_err(refused)?;
        let handle = runtime.handle().clone();
        let (to_stop, stopped) = tokio::sync::oneshot::channel();
        let thread = spawn("http", move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                http::serve(listener, router, async {
                    let _ = stopped.await;
                })
                .await
            })
        });
        Ok(Server { address, runtime: handle, stop: to_stop, thread })
    }

    /// Answers what other processes are asked, too.
    fn guests(&self, app: http::App, leader: &Arc<lead::Leader>) -> http::forward::Guests {
        let (guests, mut pieces) = http::forward::Guests::new(app, self.runtime.clone());
        let leader = Arc::clone(leader);
        spawn("answers", move || {
            while let Some((to, id, piece)) = pieces.blocking_recv() {
                leader.answer(to, id, piece);
            }
        });
        guests
    }

    fn stop(self) -> Result<(), Failure> {
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(format!("HTTP on {} ended early: {error}", self.address), Blame::Surroundings)),
            Err(_) => Err(Failure::new("the HTTP server panicked (see the lines above)", Blame::Tieout)),
        }
    }
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

/// A thread of this name.
pub(crate) fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).spawn(body).expect("the operating system starts a thread")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::Bench;

    /// While ticks are made again a run of several processes ends at once when it is asked to: the reason must be known by then.
    #[test]
    fn who_asks_a_run_to_end_has_said_why() {
        let bench = Bench::new();
        let ((to_sealed, sealed), (_to_parts, parts), (to_reports, reports), (ask, asks)) = (unbounded(), unbounded(), unbounded(), unbounded());
        let keeper = Keeper::start(&bench.ledger, (sealed, parts, reports), ask, None, None, None);
        assert!(keeper.failure().is_none());
        to_sealed.send(Sealed { tick: 1, ..bench.sealed.clone() }).unwrap();
        to_reports.send(Report { tick: 1, failure: Some("a field is lacking".into()), ..bench.report }).unwrap();
        assert!(matches!(asks.recv_timeout(Duration::from_secs(20)), Ok(Ask::Stop)));
        assert_eq!(keeper.failure().expect("it is known").message, "a field is lacking");
        drop((to_sealed, to_reports));
        assert_eq!(keeper.finish().unwrap_err().message, "a field is lacking");
    }
}
