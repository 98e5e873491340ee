//! A process that does not lead: it reads its share of the logs, holds its share of the keys, and does what it is told.
//!
//! ```text
//!  the one that leads ── Down ──▶ notes ──▶ orders ──▶ clock ──▶ workers
//!                     ◀─── Up ───────────── parts, states ◀┘        │
//!                     ◀─── Up ───────────── reports, answers ◀──────┘
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::{
    Blame, Failure, Live, Options, Outcome, Server, deaf,
    note::{self, Down, Shown, Up},
    spawn, unlimited,
};
use crate::{
    clock::{Ask, Begin, Clock, Order, Stopped},
    cluster::Mesh,
    engine::{Command, ExportBlock, Report, RowAnswer, SavePart, workers::Workers},
    http::forward::{Forward, Own},
    ledger::{Ledger, SharedLedger},
    log::{self, LogHandle, LogStatus, Until},
    memory::{self, Governor},
    plan::Plan,
    signals,
};

/// Orders that wait for the clock while it is given what a checkpoint has; more wait where they come from.
const ORDERS_MAX: usize = 64;
/// How often the leader is shown how far logs are read.
const SHOW: Duration = Duration::from_millis(250);
/// How long the leader may take to say that the run is over once everything is done.
const FAREWELL: Duration = Duration::from_secs(60);

/// Runs until the one that leads says that the run is over.
///
/// # Errors
/// Why the run could not go on, or could not start.
pub fn run(plan: &Arc<Plan>, options: &Options, mut mesh: Mesh, ready: impl FnOnce(Live)) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let links = mesh.links();
    let mesh = Arc::new(mesh);
    let failed = |failure: Failure| {
        mesh.give_up(failure.blame.exit(), &failure.message);
        failure
    };
    let say = Say(Arc::clone(&mesh));
    let ready_to_serve = Arc::new(AtomicBool::new(false));
    let forward = Arc::new(Forward::new({
        let say = say.clone();
        move |id, word| say.up(&Up::Http { id, word })
    }));
    let server = if options.serve {
        let own = Own { index: plan.process.index, of: plan.process.of, ready: Arc::clone(&ready_to_serve), forward: Arc::clone(&forward) };
        // The one that leads hears nobody while it looks for what to go on from; there is nothing to end in order until then.
        let early = Arc::clone(&mesh);
        signals::when_asked(move || early.give_up(0, "it was asked to stop")).map_err(|error| failed(deaf(error)))?;
        Some(Server::start(plan.listen, own.router()).map_err(failed)?)
    } else {
        None
    };
    let begin = match mesh.notes().recv().map(|(_, bytes)| note::read(&bytes)) {
        Ok(Ok(Down::Begin(begin))) => *begin,
        Ok(Ok(Down::Over(why))) => return leave(&mesh, why),
        Ok(Ok(_)) => return Err(failed(Failure::tieout("the process that leads did not say what to go on from"))),
        Ok(Err(why)) => return Err(failed(Failure::tieout(&why))),
        // It was asked to stop, and has given up.
        Err(_) => return leave(&mesh, None),
    };
    if options.serve {
        let say = say.clone();
        signals::when_asked(move || say.up(&Up::AskedToStop)).map_err(|error| failed(deaf(error)))?;
        if mesh.is_leaving() {
            return leave(&mesh, None);
        }
    }
    let until = if begin.once { Until::End } else { Until::Forever };
    let governor = match plan.memory_max {
        Some(most) => Some(Governor::start(most, &plan.data_dir).map_err(|e| failed(unlimited(plan, &e)))?),
        None => None,
    };
    let logs = (0..plan.sources.len())
        .map(|source| log::open(plan, source, until, &begin.at[source]).map_err(|e| failed(Failure::log(plan, source, &e))))
        .collect::<Result<Vec<LogHandle>, _>>()?;
    let (to_reports, reports) = unbounded();
    let workers = Workers::start_among(Arc::clone(plan), to_reports, plan.process.index, links).map_err(|why| failed(Failure::tieout(&why)))?;
    let statuses: Vec<Arc<LogStatus>> = logs.iter().map(|log| Arc::clone(&log.status)).collect();
    let reporter = say.reports(reports);
    let (to_orders, orders) = unbounded();
    let (to_asks, asks) = unbounded();
    let hearer = Hearer {
        asks: to_asks,
        mesh: Arc::clone(&mesh),
        say: say.clone(),
        forward,
        rows: say.rows(),
        orders: to_orders,
        workers: plan.all_workers(),
        process: plan.process.index,
    };
    let is_over = hearer.start();
    let stop = Arc::new(AtomicBool::new(false));
    let pending = workers.pending_count();
    let shower = say.show(statuses.clone(), pending, server.as_ref().map(|s| s.address.to_string()), Arc::clone(&stop));
    // It has no ledger of its own; what there is to see is seen at the one that leads.
    let ledger = SharedLedger::new(Ledger::new(Arc::clone(plan)));
    ready(Live { ask: unbounded().0, ledger, logs: statuses, address: server.as_ref().map(|s| s.address) });

    let stopped = {
        let (sealed, _nobody) = unbounded();
        let Begin { at, last, incomplete, upstream, restores, .. } = &begin;
        let clock = Clock::new(logs, &workers, sealed, asks, plan.tick, until).spread(plan).gates(plan, incomplete).holds(plan, upstream);
        let positions = if *restores { at.clone() } else { Vec::new() };
        let clock = clock.resume(*last, &positions, Vec::new(), Vec::new());
        let (of_state, of_part, shows) = (say.clone(), say.clone(), Arc::clone(&ready_to_serve));
        clock.follow(
            plan.process.index,
            begin,
            &orders,
            move |state| of_state.up(&Up::State(state)),
            move |part, shown| {
                shows.fetch_or(shown, Ordering::Relaxed);
                of_part.up(&Up::Part(part));
            },
        )
    };
    match stopped {
        Stopped::Done { .. } => {}
        Stopped::Log { source, error } => {
            let log::LogError { code, message, remedy, retry } = error;
            say.up(&Up::Failed { source, code: code.into(), message, remedy, retry });
            if !until_stop(&workers, &orders) {
                return leave(&mesh, ended(&is_over));
            }
        }
        Stopped::Memory => return Err(failed(Failure::memory(plan))),
        Stopped::Worker => return Err(failed(Failure::tieout("a worker panicked (see the lines above)"))),
        // The run is over, whatever was to be made again before.
        Stopped::Early { .. } => return leave(&mesh, ended(&is_over)),
    }
    let left = workers.stop();
    stop.store(true, Ordering::Relaxed);
    let _ = (reporter.join(), shower.join());
    if let Some(governor) = governor {
        governor.stop();
    }
    left.map_err(|why| failed(Failure::tieout(&format!("a worker ended early: {why}"))))?;
    say.up(&Up::Done);
    let why = is_over.recv_timeout(FAREWELL).unwrap_or(None);
    mesh.leave();
    if let Some(server) = server {
        server.stop()?;
    }
    over(why).map(|outcome| Outcome { seconds: started.elapsed().as_secs_f64(), ..outcome })
}

/// What the end of a run means for one that followed.
fn over(why: Option<(Blame, String)>) -> Result<Outcome, Failure> {
    match why {
        None => Ok(Outcome::default()),
        Some((blame, why)) => Err(Failure::new(format!("the process that leads the cluster failed: {why}"), blame)),
    }
}

/// The same for one whose engine has nothing to end in order: nobody shall miss it.
fn leave(mesh: &Mesh, why: Option<(Blame, String)>) -> Result<Outcome, Failure> {
    mesh.leave();
    over(why)
}

/// How the run has ended, of which nothing more is heard.
fn ended(is_over: &Receiver<Option<(Blame, String)>>) -> Option<(Blame, String)> {
    is_over.recv_timeout(FAREWELL).unwrap_or_else(|_| Some((Blame::Surroundings, "it left".into())))
}

/// After a failure of its own: does what is still to be done, so that the others can end in order; whether they do.
fn until_stop(workers: &Workers, orders: &Receiver<Order>) -> bool {
    for order in orders.iter() {
        match order {
            Order::Tell(Command::Stop) => return true,
            Order::Tell(command) => workers.all(&command),
            Order::Oldest(_) => {}
        }
    }
    false
}

/// The way to the one that leads.
#[derive(Clone)]
struct Say(Arc<Mesh>);

impl Say {
    fn up(&self, up: &Up) {
        self.0.say(0, &note::write(up));
    }

    /// Passes on what workers report, until they have left.
    fn reports(&self, reports: Receiver<Report>) -> JoinHandle<()> {
        let say = self.clone();
        spawn("reports", move || reports.iter().for_each(|report| say.up(&Up::Report(report))))
    }

    /// Passes on what is sent there.
    fn rows(&self) -> Sender<(u64, RowAnswer)> {
        let (to, rows) = unbounded();
        let say = self.clone();
        spawn("rows", move || rows.iter().for_each(|(id, answer)| say.up(&Up::Row { id, answer })));
        to
    }

    /// Shows how far logs are read, until it is told to stop.
    fn show(&self, logs: Vec<Arc<LogStatus>>, pending: Arc<AtomicU64>, http: Option<String>, stop: Arc<AtomicBool>) -> JoinHandle<()> {
        let say = self.clone();
        spawn("shown", move || {
            while !stop.load(Ordering::Relaxed) {
                let logs = logs.iter().map(|log| (log.view(), log.waits_for_the_engine(), log.ended())).collect();
                let shown = Shown { logs, memory_bytes: memory::held(), pending: pending.load(Ordering::Relaxed), http: http.clone() };
                say.up(&Up::Shown(Box::new(shown)));
                std::thread::park_timeout(SHOW);
            }
        })
    }
}

/// The thread that hears the one that leads, and makes orders of what it says.
struct Hearer {
    mesh: Arc<Mesh>,
    say: Say,
    forward: Arc<Forward>,
    /// Answers to look-ups, by their numbers.
    rows: Sender<(u64, RowAnswer)>,
    orders: Sender<Order>,
    /// A clock that makes ticks again hears no orders, but this.
    asks: Sender<Ask>,
    workers: usize,
    process: usize,
}

impl Hearer {
    /// Gives how it is told that the run is over.
    fn start(self) -> Receiver<Option<(Blame, String)>> {
        let (to_over, over) = bounded(1);
        spawn("leader", move || {
            while let Ok((from, bytes)) = self.mesh.notes().recv() {
                match note::read(&bytes) {
                    Ok(Down::Over(why)) => {
                        let _ = (to_over.send(why), self.asks.send(Ask::Stop));
                        return;
                    }
                    Ok(down) => self.take(down),
                    Err(why) => self.mesh.distrust(from, &why),
                }
            }
        });
        over
    }

    fn take(&self, down: Down) {
        let command = match down {
            Down::Seal { tick, hold, shown } => Command::Seal { tick, hold, shown },
            Down::Row { id, table, key } => {
                let rows = self.rows.clone();
                Command::Row { table, key, reply: Arc::new(move |answer| drop(rows.send((id, answer)))) }
            }
            Down::Keep => Command::Keep,
            Down::Save { id, all } => Command::Save { all, to: self.answers(move |part: SavePart| Up::Save { id, part }) },
            Down::Cut => Command::Cut,
            Down::Blind { tables } => Command::Blind { tables: tables.into() },
            Down::Restore { entries, give, numbers } => {
                while self.orders.len() > ORDERS_MAX {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Command::Restore { entries: Arc::new(entries), give: give.into(), numbers: numbers.map(Arc::new) }
            }
            Down::Empty { sides } => Command::Empty { sides: sides.into() },
            Down::Restored => Command::Restored,
            Down::Quiet => Command::Quiet,
            Down::Export => {
                // Those of other processes are dropped unused.
                let to = |worker| self.answers(move |block: ExportBlock| Up::Export { worker, block });
                Command::Export { to: (0..self.workers).map(to).collect() }
            }
            Down::Stop => Command::Stop,
            Down::Answer { id, piece } => return self.forward.answered(id, piece),
            Down::Oldest(oldest) => return drop(self.orders.send(Order::Oldest(oldest))),
            Down::Begin(_) | Down::Over(_) => return,
        };
        // A clock that has left is told nothing more.
        let _ = self.orders.send(Order::Tell(command));
    }

    /// A channel whose messages go to the one that leads.
    fn answers<T: Send + 'static>(&self, up: impl Fn(T) -> Up + Send + 'static) -> Sender<T> {
        let (to, from) = unbounded();
        let say = self.say.clone();
        spawn(&format!("answers-{}", self.process), move || from.iter().for_each(|one| say.up(&up(one))));
        to
    }
}
