//! Running workers, seen from outside: commands go in, and to the workers of other processes, too, where this one leads.

use std::{
    any::Any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use crossbeam_channel::{Sender, bounded, unbounded};
use timely::{
    CommunicationConfig,
    communication::{
        AllocatorBuilder, Hooks,
        allocator::{
            ProcessBuilder,
            zero_copy::{initialize::initialize_networking_from_sockets, stream::Stream},
        },
    },
};

use super::{
    Again, Chunk, Command, Give, Renumbered, Report, SideOf, Tick, render,
    worker::{Loop, Place},
};
use crate::plan::Plan;

/// Blocks of entries under way per worker.
const BLOCKS_PER_WORKER: u64 = 4;
/// How long whoever hands out waits for a worker that has much to do.
const BLOCK_WAIT: Duration = Duration::from_micros(100);

/// The workers of the other processes, as the process that leads reaches them.
pub trait Others: Send + Sync {
    /// Tells them what this process's workers are told, in the same order.
    fn tell(&self, command: &Command);

    /// Tells one of them the oldest source time that any other process has still to hand out, in milliseconds.
    fn align(&self, process: usize, oldest: i64);
}

/// Running workers, seen from outside.
pub struct Workers {
    senders: Vec<Sender<Command>>,
    threads: Vec<Thread>,
    guards: Option<timely::communication::WorkerGuards<()>>,
    /// Chunks handed out and not decoded yet.
    pending: Arc<AtomicU64>,
    /// The newest tick that a worker here has seen closed, which is closed everywhere.
    closed: Arc<AtomicU64>,
    others: Option<Arc<dyn Others>>,
    /// How many there are in all processes.
    all: usize,
    /// Others end when these do, and these when others do.
    among: bool,
}

impl Workers {
    /// Starts the plan's workers, which are all there are; `reports` gets a report of every worker for every tick.
    ///
    /// # Panics
    /// When the operating system starts no threads.
    pub fn start(plan: Arc<Plan>, reports: Sender<Report>) -> Workers {
        let config = match plan.workers {
            0 | 1 => CommunicationConfig::Thread,
            several => CommunicationConfig::Process(several),
        };
        let (builders, others) = config.try_build().expect("threads need nothing else");
        Workers::build(plan, reports, builders, others, 0)
    }

    /// Starts the plan's workers as those of one process of several, all with the same plan. `links` are the connections to the
    /// others, by process, and none to `process`, which is this one. Keys are spread over the workers of all; `reports` gets the
    /// reports of this process's workers, numbered among all. Every process is to be told the same seals, cuts and stops, and
    /// what a checkpoint gives back; it takes what is its own.
    ///
    /// # Errors
    /// A connection can't be used.
    pub fn start_among<L: Stream + 'static>(plan: Arc<Plan>, reports: Sender<Report>, process: usize, links: Vec<Option<L>>) -> Result<Workers, String> {
        let (threads, hooks) = (plan.workers.max(1), Hooks::default());
        let local = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), None);
        let (builders, guard) = initialize_networking_from_sockets(local, links, process, threads, hooks).map_err(|e| e.to_string())?;
        let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
        let mut workers = Workers::build(plan, reports, builders, Box::new(guard), process);
        workers.among = true;
        Ok(workers)
    }

    /// From now on the workers of other processes are told everything that all are told.
    pub fn lead(&mut self, others: Arc<dyn Others>) {
        self.others = Some(others);
    }

    fn build(plan: Arc<Plan>, reports: Sender<Report>, builders: Vec<AllocatorBuilder>, others: Box<dyn Any + Send>, process: usize) -> Workers {
        let workers = builders.len();
        let (first, all) = (process * workers, workers * plan.process.of);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded::<Command>()).unzip();
        let receivers = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>()));
        let (started, threads) = bounded(workers);
        let pending = Arc::new(AtomicU64::new(0));
        let decoded = Arc::clone(&pending);
        let closed = Arc::<AtomicU64>::default();
        let closes = Arc::clone(&closed);
        let guards = timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), move |worker| {
            let place = Place { index: worker.index(), local: worker.index() - first, process: process as u32, workers: worker.peers() };
            let commands = receivers.lock().expect("workers start one by one")[place.local].take().expect("a worker starts once");
            started.send((place.local, std::thread::current())).expect("the starter waits");
            let flow = worker.dataflow::<u64, _, _>(|scope| render::render(scope, &plan, place.workers));
            Loop::new(Arc::clone(&plan), flow, place, reports.clone(), (Arc::clone(&decoded), Arc::clone(&closes))).run(worker, &commands);
        })
        .expect("threads can be started");
        let mut threads: Vec<_> = (0..workers).map(|_| threads.recv().expect("every worker starts")).collect();
        threads.sort_by_key(|(index, _)| *index);
        Workers {
            senders,
            threads: threads.into_iter().map(|(_, thread)| thread).collect(),
            guards: Some(guards),
            pending,
            closed,
            others: None,
            all,
            among: false,
        }
    }

    /// Chunks handed out and not decoded yet: the clock waits while there are many.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }

    /// The same for whoever shows it.
    pub fn pending_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pending)
    }

    /// The newest tick that is known to be closed by all workers; 0 before the first.
    pub fn closed(&self) -> Tick {
        self.closed.load(Ordering::Acquire)
    }

    /// How many workers this process has.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// How many there are in all processes.
    pub fn count_all(&self) -> usize {
        self.all
    }

    /// Hands a chunk to the worker with the least to do.
    pub fn chunk(&self, chunk: Chunk, seq: u64, incomplete: Option<Arc<str>>) {
        self.hand_out(chunk, seq, incomplete, None);
    }

    /// The same for a chunk that is read again, for some sides only.
    pub fn chunk_again(&self, chunk: Chunk, seq: u64, sides: &Arc<[SideOf]>) {
        self.hand_out(chunk, seq, None, Some(Arc::clone(sides)));
    }

    fn hand_out(&self, chunk: Chunk, seq: u64, incomplete: Option<Arc<str>>, only: Option<Arc<[SideOf]>>) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        let at = (0..self.senders.len()).min_by_key(|w| (self.senders[*w].len(), (*w + seq as usize) % self.senders.len())).expect("there is a worker");
        self.send(at, Command::Chunk { chunk: Arc::new(chunk), seq, incomplete, only });
    }

    /// Hands entries of a checkpoint to all workers, and waits while they have much to do; entries count as pending until each
    /// has taken its own. `numbers`: what sources and targets are numbered now, if not as in the checkpoint.
    pub fn restore(&self, entries: Vec<u8>, give: Arc<[Give]>, numbers: Option<Arc<Renumbered>>) {
        while self.pending() >= BLOCKS_PER_WORKER * self.senders.len() as u64 && self.is_alive() {
            std::thread::sleep(BLOCK_WAIT);
        }
        self.pending.fetch_add(self.senders.len() as u64, Ordering::AcqRel);
        self.all(&Command::Restore { entries: Arc::new(entries), give, numbers });
    }

    /// All that a checkpoint has was handed out, at this tick: it is sealed, and what it has is what the checkpoint has, but for
    /// sides that are read `again`.
    pub fn restored(&self, tick: Tick, again: &[Again]) {
        for again in again.iter().filter(|again| !again.emptied.is_empty()) {
            self.all(&Command::Empty { sides: Arc::clone(&again.emptied) });
        }
        self.all(&Command::Seal { tick, hold: true, shown: false });
        self.all(&Command::Restored);
    }

    /// Tells every worker the same, of all processes if this one leads.
    pub fn all(&self, command: &Command) {
        if let Some(others) = &self.others {
            others.tell(command);
        }
        for worker in 0..self.senders.len() {
            self.send(worker, command.clone());
        }
    }

    /// Tells another process how far all but it are in source time, if this one leads.
    pub fn align(&self, process: usize, oldest: i64) {
        if let Some(others) = &self.others {
            others.align(process, oldest);
        }
    }

    fn send(&self, worker: usize, command: Command) {
        // A worker that is gone has panicked; joining says so.
        let _ = self.senders[worker].send(command);
        self.threads[worker].unpark();
    }

    /// Has a worker ended?
    pub fn is_alive(&self) -> bool {
        self.guards.as_ref().is_some_and(|g| g.guards().iter().all(|h| !h.is_finished()))
    }

    /// Stops the workers when all sealed ticks are closed.
    ///
    /// # Errors
    /// What a worker panicked with.
    pub fn stop(mut self) -> Result<(), String> {
        self.all(&Command::Stop);
        let guards = self.guards.take().expect("workers are stopped once");
        guards.join().into_iter().collect::<Result<Vec<()>, String>>().map(|_| ())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The guards wait for their threads, which leave only when they are told to. Those of several processes wait for each
        // other; of a run that has failed they end with the process.
        let Some(guards) = self.guards.take() else { return };
        if self.among {
            Box::leak(Box::new(guards));
        } else {
            self.all(&Command::Stop);
        }
    }
}
