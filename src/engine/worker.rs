//! The loop of a worker: commands in, steps of the dataflow, reports out.
//!
//! Decoding happens here, on the way into the dataflow: a chunk becomes changes for every worker that holds one of its
//! keys. The loop never blocks on anything but its command channel; the clock's credits bound what is under way.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
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
    Chunk, Command, Counts, Give, Payload, Reject, Renumbered, Report, RowAnswer, RowChange, SavePart, SideOf, SourceReport, StageTimes, TableReport, Tick,
    buffers,
    mapping::Fate,
    render::{
        self, Dataflow,
        layout::{self, TableOf},
        table::Question,
    },
    table::{
        ACTUAL, EXPECTED,
        change::{Op, Parcel, push_with, silence},
        save::restore,
    },
};
use crate::{
    format::{self, Batch, Decoder, Message},
    plan::{ComparisonId, OutputOf, Plan, TableRef, TargetId},
    row,
};

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
        Workers { senders, threads: threads.into_iter().map(|(_, thread)| thread).collect(), guards: Some(guards), pending, closed, others: None, all, among: false }
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

    /// Hands entries of a checkpoint to all workers; they count as pending until each has taken its own. `numbers`: what
    /// sources and targets are numbered now, if not as in the checkpoint.
    pub fn restore(&self, entries: Vec<u8>, give: Arc<[Give]>, numbers: Option<Arc<Renumbered>>) {
        self.pending.fetch_add(self.senders.len() as u64, Ordering::AcqRel);
        self.all(&Command::Restore { entries: Arc::new(entries), give, numbers });
    }

    /// All that a checkpoint has was handed out, at this tick: it is sealed, and what it has is what the checkpoint has.
    pub fn restored(&self, tick: Tick) {
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

/// Where a worker stands.
#[derive(Clone, Copy)]
struct Place {
    /// Among the workers of all processes, and how many these are.
    index: usize,
    workers: usize,
    /// Among those of its process.
    local: usize,
    process: u32,
}

impl Place {
    /// The same for every worker.
    fn to_all(self, input: u32, seq: u64, run: Vec<u8>) -> Vec<Parcel> {
        (0..self.workers).map(|to| Parcel { to: to as u64, input, process: self.process, seq: Some(seq), run: run.clone() }).collect()
    }
}

struct SealedTick {
    tick: Tick,
    at: Instant,
    sources: Vec<SourceReport>,
    /// Rejects without a key to keep them under.
    loose: Vec<Reject>,
    incomplete: Vec<(ComparisonId, Box<[u8]>, String)>,
}

struct Loop {
    plan: Arc<Plan>,
    flow: Dataflow,
    place: Place,
    reports: Sender<Report>,
    decoded: Arc<AtomicU64>,
    /// Told of closed ticks.
    closes: Arc<AtomicU64>,
    decoders: Vec<Option<Box<dyn Decoder>>>,
    batch: Batch,
    fates: Vec<Option<Fate>>,
    /// Counts since the last seal.
    sources: Vec<SourceReport>,
    loose: Vec<Reject>,
    /// Keys that incomplete transactions touched.
    incomplete: Vec<(ComparisonId, Box<[u8]>, String)>,
    sealed: VecDeque<SealedTick>,
    closed: Tick,
    difference_changes: u64,
    /// By table: the target whose net changes an output wants.
    watched: Vec<Option<TargetId>>,
    failure: Option<String>,
    /// Sides that are emptied once what is restored stands.
    emptied: Vec<Arc<[SideOf]>>,
    /// A checkpoint that is being taken.
    saving: Option<Saving>,
    /// Where the time went; `flow` holds the tables' time, too, until it is reported.
    times: StageTimes,
}

/// A checkpoint that is being taken: where its parts go, and the table that is copied.
struct Saving {
    to: Sender<SavePart>,
    table: usize,
    entries: Vec<u8>,
}

impl Saving {
    fn send(&mut self, table: usize) {
        if !self.entries.is_empty() {
            // A checkpoint that was given up has nobody who listens.
            let _ = self.to.send(SavePart::Entries { table, bytes: std::mem::take(&mut self.entries) });
        }
    }

    /// How long there is nothing to copy for: not at all, unless the writer is behind.
    fn pause(&self) -> Duration {
        if self.to.len() < SAVE_PARTS_MAX { Duration::ZERO } else { Duration::from_millis(1) }
    }
}

/// Slots that are copied in one turn of the loop: about a tenth of a millisecond.
const SAVE_SLOTS: usize = 1024;
/// Bytes of a part, and parts that may wait for the writer.
const SAVE_BYTES: usize = 256 << 10;
const SAVE_PARTS_MAX: usize = 32;

const QUIET: SourceReport = SourceReport { counts: Vec::new(), source_time: i64::MIN };

impl Loop {
    fn new(plan: Arc<Plan>, flow: Dataflow, place: Place, reports: Sender<Report>, (decoded, closes): (Arc<AtomicU64>, Arc<AtomicU64>)) -> Self {
        let wanted = layout::wanted(&plan, &layout::layout(&plan));
        let decoders =
            plan.sources.iter().enumerate().map(|(s, source)| flow.feeds.iter().any(|f| f.source == s).then(|| format::decoder(source, &wanted[s]))).collect();
        let is_watched = |t: &TargetId| plan.outputs.iter().any(|o| o.what == OutputOf::Table(*t));
        let home = |t: TargetId| &flow.homes[t].0;
        let watched =
            (0..flow.stages.len()).map(|at| (0..plan.targets.len()).filter(is_watched).find(|t| home(*t).table == at && home(*t).side == EXPECTED)).collect();
        Loop {
            sources: vec![QUIET; plan.sources.len()],
            plan,
            flow,
            place,
            reports,
            decoded,
            closes,
            decoders,
            batch: Batch::default(),
            fates: Vec::new(),
            loose: Vec::new(),
            incomplete: Vec::new(),
            sealed: VecDeque::new(),
            closed: 0,
            difference_changes: 0,
            watched,
            failure: None,
            emptied: Vec::new(),
            saving: None,
            times: StageTimes::default(),
        }
    }

    fn run(mut self, worker: &mut timely::worker::Worker, commands: &Receiver<Command>) {
        loop {
            match commands.try_recv() {
                Ok(Command::Chunk { chunk, seq, incomplete, only }) => {
                    self.ingest(&chunk, seq, incomplete.as_ref(), only.as_deref());
                    if let Some(Chunk { payload: Payload::Lines { bytes, .. }, .. }) = Arc::into_inner(chunk) {
                        buffers::CHUNKS.give(bytes);
                    }
                    self.decoded.fetch_sub(1, Ordering::AcqRel);
                    self.step(worker);
                }
                Ok(Command::Seal { tick, hold, .. }) => {
                    if hold {
                        self.hold(Some(tick));
                    }
                    for feed in &mut self.flow.feeds {
                        feed.handle.advance_to(tick + 1);
                        feed.handle.flush();
                    }
                    let sources = std::mem::replace(&mut self.sources, vec![QUIET; self.plan.sources.len()]);
                    self.sealed.push_back(SealedTick {
                        tick,
                        at: Instant::now(),
                        sources,
                        loose: std::mem::take(&mut self.loose),
                        incomplete: std::mem::take(&mut self.incomplete),
                    });
                    self.step(worker);
                }
                Ok(Command::Row { table, key, reply }) => self.ask(table, key, &reply),
                Ok(Command::Keep) => {
                    for feed in &self.flow.feeds {
                        self.flow.stages[feed.table].borrow_mut().table.keep(feed.input as usize);
                    }
                }
                Ok(Command::Save { all, to }) => {
                    self.flow.stages.iter().for_each(|stage| stage.borrow_mut().table.begin_save(all));
                    self.saving = Some(Saving { to, table: 0, entries: Vec::new() });
                }
                Ok(Command::Cut) => {
                    self.close_all(worker);
                    self.cut();
                    self.hold(None);
                }
                Ok(Command::Empty { sides }) => self.emptied.push(sides),
                Ok(Command::Blind { tables }) => tables.iter().for_each(|table| self.flow.stages[*table].borrow_mut().table.blind(true)),
                Ok(Command::Restore { entries, give, numbers }) => {
                    self.restore(&entries, &give, numbers.as_deref());
                    self.decoded.fetch_sub(1, Ordering::AcqRel);
                    self.step(worker);
                }
                Ok(Command::Restored) => {
                    self.close_all(worker);
                    self.flow.stages.iter().for_each(|stage| {
                        let table = &mut stage.borrow_mut().table;
                        table.is_saved();
                        table.blind(false);
                    });
                    std::mem::take(&mut self.emptied).iter().for_each(|sides| self.empty(sides));
                    self.hold(None);
                }
                Ok(Command::Export { to }) => {
                    self.close_all(worker);
                    render::export::export(&self.plan, &self.flow, &to[self.place.index]);
                }
                // For clocks.
                Ok(Command::Quiet) => {}
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.close_all(worker);
                    for feed in std::mem::take(&mut self.flow.feeds) {
                        feed.handle.close();
                    }
                    while worker.has_dataflows() {
                        worker.step_or_park(None);
                    }
                    return;
                }
                Err(TryRecvError::Empty) => {
                    // While a tick is under way this works, or waits for other workers; otherwise it sleeps.
                    let began = Instant::now();
                    let under_way = !self.sealed.is_empty();
                    // A checkpoint that is being taken is work, too, unless its writer is behind.
                    worker.step_or_park(self.saving.as_ref().filter(|saving| saving.table < self.flow.stages.len()).map(Saving::pause));
                    if under_way {
                        self.times.flow += began.elapsed().as_nanos() as u64;
                    }
                }
            }
            self.report();
            self.save_some();
        }
    }

    /// Steps until all sealed ticks are closed.
    fn close_all(&mut self, worker: &mut timely::worker::Worker) {
        while !self.sealed.is_empty() {
            worker.step_or_park(None);
            self.report();
        }
    }

    /// Keeps every table at this tick, or lets them go on.
    fn hold(&self, tick: Option<Tick>) {
        self.flow.stages.iter().for_each(|stage| stage.borrow_mut().hold = tick);
    }

    /// Copies a little of what a checkpoint needs.
    fn save_some(&mut self) {
        let Some(saving) = self.saving.as_mut().filter(|saving| saving.to.len() < SAVE_PARTS_MAX) else { return };
        let Some(stage) = self.flow.stages.get(saving.table) else { return };
        let more = stage.borrow_mut().table.save_some(SAVE_SLOTS, &mut saving.entries);
        if !more || saving.entries.len() >= SAVE_BYTES {
            saving.send(saving.table);
        }
        if !more {
            saving.table += 1;
            if saving.table == self.flow.stages.len() {
                let _ = saving.to.send(SavePart::Copied);
            }
        }
    }

    /// Copies the rest, as of the tick that has just closed.
    fn cut(&mut self) {
        let Some(mut saving) = self.saving.take() else { return };
        saving.send(saving.table);
        for (table, stage) in self.flow.stages.iter().enumerate() {
            stage.borrow_mut().table.save_rest(&mut saving.entries);
            saving.send(table);
        }
        let _ = saving.to.send(SavePart::Cut(self.closed));
    }

    /// Takes the entries of this worker's keys into the tick that is open.
    fn restore(&mut self, entries: &[u8], give: &[Give], numbers: Option<&Renumbered>) {
        let Place { index, workers, process, .. } = self.place;
        let mine = |key: &[u8]| row::worker_of(row::hash_key(key), workers) == index;
        let runs = restore(entries, mine, give, numbers).expect("checksums are verified before");
        for (give, run) in give.iter().zip(runs) {
            let Some(feed) = self.flow.feeds.iter_mut().find(|feed| feed.side() == give.to) else { continue };
            feed.handle.send(Parcel { to: index as u64, input: feed.input, process, seq: None, run });
            feed.handle.flush();
        }
    }

    /// Empties sides. Each worker does so with its own keys, so that it comes before what any process reads again.
    fn empty(&mut self, sides: &[SideOf]) {
        let mut run = Vec::new();
        push_with(&mut run, Op::Truncate, i64::MIN, &[], &[]);
        for side in sides {
            let stage = &mut *self.flow.stages[side.table].borrow_mut();
            stage.answer_before(self.closed + 1);
            stage.table.apply_all(side.side, &run);
            // The tick in which it shows is looked at also if nothing else is in it.
            if let Some(feed) = self.flow.feeds.iter_mut().find(|feed| feed.table == side.table) {
                let Place { index, process, .. } = self.place;
                feed.handle.send(Parcel { to: index as u64, input: feed.input, process, seq: None, run: Vec::new() });
                feed.handle.flush();
            }
        }
    }

    fn step(&mut self, worker: &mut timely::worker::Worker) {
        let began = Instant::now();
        worker.step();
        self.times.flow += began.elapsed().as_nanos() as u64;
    }

    /// Decodes a chunk and sends what it changes to the workers that hold the keys. What is read again, `only` for some sides,
    /// was counted when it was read first.
    fn ingest(&mut self, chunk: &Chunk, seq: u64, incomplete: Option<&Arc<str>>, only: Option<&[SideOf]>) {
        let source = &mut self.sources[chunk.source];
        let Some(decoder) = &mut self.decoders[chunk.source] else { return };
        let began = Instant::now();
        let batch = &mut self.batch;
        batch.clear(self.plan.sources[chunk.source].columns.len());
        let mut counts = Counts::default();
        // A message that leaves no record is of no meaning for a table.
        let mut decode = |message: Message, batch: &mut Batch| {
            let before = batch.records.len();
            decoder.decode(message, batch);
            counts.read += 1;
            counts.filtered += u64::from(batch.records.len() == before);
        };
        match &chunk.payload {
            Payload::Lines { bytes, offset } => {
                let mut start = 0;
                while start < bytes.len() {
                    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n);
                    let line = bytes[start..end].strip_suffix(b"\r").unwrap_or(&bytes[start..end]);
                    if !line.iter().all(u8::is_ascii_whitespace) {
                        decode(Message { value: Some(line), offset: offset + start as i64, ..Message::default() }, batch);
                    }
                    start = end + 1;
                }
            }
            Payload::Messages { bytes, index } => {
                for at in index {
                    let start = at.start as usize;
                    let value = start + at.key_len.unwrap_or(0) as usize;
                    let message = Message {
                        key: at.key_len.map(|_| &bytes[start..value]),
                        value: at.value_len.map(|len| &bytes[value..value + len as usize]),
                        offset: at.offset,
                        timestamp: at.timestamp,
                    };
                    decode(message, batch);
                }
            }
            Payload::Heartbeat(time) => source.source_time = source.source_time.max(*time),
        }
        for record in batch.records.iter().filter(|_| only.is_none()) {
            source.source_time = source.source_time.max(record.source_time);
        }
        self.times.decode += began.elapsed().as_nanos() as u64;
        let began = Instant::now();
        self.fates.clear();
        self.fates.resize(batch.records.len(), None);
        for feed in self.flow.feeds.iter_mut().filter(|f| f.source == chunk.source) {
            if only.is_some_and(|sides| !sides.contains(&feed.side())) {
                // Their turn passes.
                let input = feed.input;
                let mut parcels = self.place.to_all(input, seq, Vec::new());
                feed.handle.send_batch(&mut parcels);
                feed.handle.flush();
                continue;
            }
            let mut runs: Vec<Vec<u8>> = (0..self.place.workers).map(|_| buffers::RUNS.take(batch.bytes.len() / self.place.workers + 64)).collect();
            let (fates, loose, reports, Place { workers, process, .. }) = (&mut self.fates, &mut self.loose, feed.reports, self.place);
            let (doubtful, of) = (&mut self.incomplete, &self.flow.specs[feed.table]);
            let result = feed.program.run(batch, chunk.partition, |mapped| {
                fates[mapped.record] = fates[mapped.record].max(Some(mapped.fate));
                let reported = mapped.reject.as_ref().is_some_and(|r| if r.target.is_some() { reports.mapping } else { reports.decode });
                let time = batch.records[mapped.record].source_time;
                if let (Some(name), TableOf::Comparison(id), Some((_, key, _))) = (incomplete, of, &mapped.change) {
                    doubtful.push((*id, (*key).into(), name.to_string()));
                }
                match mapped.change {
                    Some((Op::Truncate, ..)) => runs.iter_mut().for_each(|run| push_with(run, Op::Truncate, time, &[], &[])),
                    Some((op, key, value)) => {
                        let to = if workers == 1 { 0 } else { row::worker_of(row::hash_key(key), workers) };
                        if op == Op::Reject && !reported {
                            let mut silent = value.to_vec();
                            silence(&mut silent);
                            push_with(&mut runs[to], op, time, key, &silent);
                        } else {
                            push_with(&mut runs[to], op, time, key, value);
                        }
                    }
                    None if reported => loose.extend(mapped.reject),
                    None => {}
                }
            });
            if let Err(why) = result {
                self.failure.get_or_insert(why);
            }
            let input = feed.input;
            let mut parcels: Vec<Parcel> =
                runs.into_iter().enumerate().map(|(to, run)| Parcel { to: to as u64, input, process, seq: Some(seq), run }).collect();
            feed.handle.send_batch(&mut parcels);
            feed.handle.flush();
        }
        if only.is_some() {
            return;
        }
        // A message may have left several records (a key change); it counts once, as the worst of them.
        let mut last = None;
        for (record, fate) in batch.records.iter().zip(&self.fates) {
            let (offset, mut fate) = (record.offset, *fate);
            if let Some((previous, before)) = last
                && previous == offset
            {
                fate = fate.max(before);
                *fate_of(&mut counts, before) -= 1;
            }
            *fate_of(&mut counts, fate) += 1;
            last = Some((offset, fate));
        }
        match source.counts.iter_mut().find(|(partition, _)| *partition == chunk.partition) {
            Some((_, all)) => *all += counts,
            None => source.counts.push((chunk.partition, counts)),
        }
        self.times.map += began.elapsed().as_nanos() as u64;
    }

    /// Takes a look-up down to the table that can answer it, if this worker holds the key.
    fn ask(&mut self, table: TableRef, key: Vec<u8>, reply: &Sender<RowAnswer>) {
        let TableRef::Target(target) = table else { return };
        if row::worker_of(row::hash_key(&key), self.place.workers) != self.place.index {
            return;
        }
        let (home, whole) = &self.flow.homes[target];
        let tick = self.sealed.back().map_or(self.closed, |s| s.tick);
        let (reply, whole, asked) = (reply.clone(), whole.clone(), key.clone());
        let answer = Box::new(move |value: super::table::Value| {
            let _ = reply.send(RowAnswer { as_of: tick, state: value.state(|row| whole.row(&asked, row).into()) });
        });
        self.flow.stages[home.table].borrow_mut().questions.push(Question { tick, side: home.side, key, answer });
    }

    /// Reports the ticks that have closed.
    fn report(&mut self) {
        while self.sealed.front().is_some_and(|s| !self.flow.probe.less_equal(&s.tick)) {
            let SealedTick { tick, at: since, sources, loose, incomplete } = self.sealed.pop_front().expect("there is a front");
            let mut report =
                Report { worker: self.place.index, tick, failure: self.failure.take().or_else(|| self.flow.failure.borrow_mut().take()), ..Report::default() };
            for (at, (stage, of)) in self.flow.stages.iter().zip(&self.flow.specs).enumerate() {
                let stage = &mut *stage.borrow_mut();
                stage.answer_before(tick + 1);
                // Changes of a tick carry the time at which it was opened, the moment after the seal before.
                while let Some(closed) = stage.closed.first_entry().filter(|c| *c.key() <= tick).map(|c| c.remove()) {
                    report.rejects.extend(closed.rejects);
                    if let TableOf::Comparison(id) = of {
                        self.difference_changes += closed.differences.len() as u64;
                        report.differences.extend(closed.differences.into_iter().map(|d| (*id, d)));
                    }
                    if let Some(target) = self.watched[at] {
                        let whole = &self.flow.homes[target].1;
                        report.rows.extend(closed.rows.into_iter().map(|(key, before, after)| {
                            let state = |value: super::table::Value| value.state(|row| whole.row(&key, row).into());
                            let (before, after) = (state(before), state(after));
                            (target, RowChange { key, before, after })
                        }));
                    }
                }
                report.state_bytes += stage.table.bytes() + stage.waiting_bytes();
            }
            report.loose = loose;
            report.incomplete = incomplete;
            let mut kept = self.flow.rejects.borrow_mut();
            while let Some(rejects) = kept.first_entry().filter(|r| *r.key() <= tick) {
                report.rejects.extend(rejects.remove());
            }
            drop(kept);
            report.sources = sources;
            report.tables = self.sizes();
            report.seconds = since.elapsed().as_secs_f64();
            report.difference_changes = self.difference_changes;
            let table = self.flow.stages.iter().map(|stage| stage.borrow().nanos).sum();
            report.times = StageTimes { table, flow: self.times.flow.saturating_sub(table), ..self.times };
            self.closed = tick;
            self.closes.fetch_max(tick, Ordering::AcqRel);
            let _ = self.reports.send(report);
        }
        if self.sealed.is_empty() {
            for stage in &self.flow.stages {
                stage.borrow_mut().answer_before(self.closed + 1);
            }
        }
    }

    /// The rows of each table that is kept somewhere, each once.
    fn sizes(&self) -> Vec<TableReport> {
        let mut sizes: BTreeMap<TableRef, u64> = BTreeMap::new();
        for (target, (home, _)) in self.flow.homes.iter().enumerate() {
            sizes.insert(TableRef::Target(target), self.flow.stages[home.table].borrow().table.rows(home.side));
        }
        for (stage, of) in self.flow.stages.iter().zip(&self.flow.specs) {
            let table = &stage.borrow().table;
            match of {
                TableOf::Comparison(id) => {
                    let comparison = &self.plan.comparisons[*id];
                    sizes.entry(comparison.expected).or_insert_with(|| table.rows(EXPECTED));
                    sizes.entry(comparison.actual).or_insert_with(|| table.rows(ACTUAL));
                }
                TableOf::Source(source) => {
                    sizes.insert(TableRef::Source(*source), table.rows(EXPECTED));
                }
                TableOf::Target(_) => {}
            }
        }
        sizes.into_iter().map(|(table, rows)| TableReport { table, rows }).collect()
    }
}

fn fate_of(counts: &mut Counts, fate: Option<Fate>) -> &mut u64 {
    match fate {
        Some(Fate::Applied) => &mut counts.applied,
        Some(Fate::Rejected) => &mut counts.rejected,
        Some(Fate::Filtered) | None => &mut counts.filtered,
    }
}
