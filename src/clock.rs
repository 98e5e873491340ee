//! The clock: takes chunks from the readers, hands them to the workers, seals ticks and binds positions to them. The only
//! reader of the wall clock on the data's way.
//!
//! While a backlog is read, the sides advance together in source time: of the chunks that wait, the one whose first message
//! is the oldest goes next. A reader that has nothing yet is waited for, for a bounded time; one that is idle, stuck or at
//! its end never is. Ticks of that phase are sealed by volume, since nothing is shown before it ends; differences would
//! otherwise be made for every moment at which one side was ahead of the other.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::{Receiver, Select, Sender};

use crate::{
    engine::{Again, Chunk, Command, Cut, Marked, Part, Payload, RowAnswer, SavePart, Sealed, SealedSource, Tick, workers::Workers},
    log::{At, LogError, LogHandle, PartitionView, Until, View},
    memory::{self, Pressure},
    plan::{Plan, Share, TableRef},
};

mod align;
mod follow;
pub mod gate;
mod gated;
mod held;
mod replay;
pub mod resent;

use align::Ahead;
pub use follow::{Begin, Order, State};
use gated::Gated;
use resent::Resent;

/// Bytes of a tick while a backlog is read.
const CATCH_UP_BYTES: u64 = 64 << 20;
/// A tick of the backlog is sealed at least so often, so that progress shows.
const CATCH_UP_SEAL: Duration = Duration::from_secs(1);
/// How long a reader that is ahead waits for one that has sent nothing.
const ALIGN_WAIT: Duration = Duration::from_secs(5);
/// When nothing comes, ticks are sealed at this interval, so that `as_of` moves on.
const IDLE_SEAL: Duration = Duration::from_millis(100);
/// Chunks under way per worker, some milliseconds of work; more wait in their readers' channels.
const CHUNKS_PER_WORKER: u64 = 16;

/// Bytes that may be handed out in ticks that are not closed, of one process of several: what waits between them has no other
/// limit, and the slowest one sets the pace.
const OPEN_BYTES_MAX: u64 = 256 << 20;
/// And so many ticks.
const TICKS_MAX: usize = 64;
/// Pieces of transactions that are not whole in one tick, about: its progress record names them.
const MARKS_MAX: usize = 1_000;

/// How long the clock waits for a credit: about what a worker takes for two chunks.
const CREDIT_WAIT: Duration = Duration::from_micros(500);

/// What others ask of the clock.
pub enum Ask {
    /// The row of a table as of a tick that is closed after the asking.
    Row { table: TableRef, key: Vec<u8>, reply: Sender<RowAnswer> },
    /// Begin a checkpoint: the workers copy their tables beside their other work.
    Save { all: bool, to: Sender<SavePart> },
    /// Seal, and make that tick the checkpoint's.
    Cut(Cut),
    /// Seal, and stop.
    Stop,
    /// How another process's clock is now.
    Is(usize, State),
    /// Another process can't read a log on.
    Failed(usize, LogError),
}

/// Why the clock stopped.
#[derive(Debug)]
pub enum Stopped {
    /// All logs have ended (`Until::End`), or somebody asked.
    Done { last: Tick },
    /// Somebody asked before all ticks had been made again that were written before the start.
    Early { last: Tick },
    /// A log can't be read on.
    Log { source: usize, error: LogError },
    /// A worker panicked.
    Worker,
    /// `memory_max` is reached, and nothing helps.
    Memory,
}

/// What the clock knows of one log.
struct Lane {
    log: LogHandle,
    /// The next chunk, taken out of the channel to see its time.
    head: Option<Chunk>,
    seq: u64,
    view: View,
    /// All that had been sent when `view` was taken has been handed out.
    drained: bool,
    ended: bool,
    /// The next position by partition, of what has been handed out.
    positions: Vec<(i32, i64)>,
    /// The source time of the newest head; orders chunks that have none.
    time: i64,
    /// Since when the lane has had nothing while others wait for it.
    empty_since: Option<Instant>,
    /// The newest heartbeat that was handed out since the last seal, and where partitions began that are new since then.
    heartbeat: Option<i64>,
    starts: Vec<(i32, i64)>,
    /// What a replay has taken out of the channel and not handed out; goes before what is in it.
    aside: VecDeque<Chunk>,
    /// The gate that its chunks go through.
    gate: Option<usize>,
    /// What is held because it was sent again.
    resent: Option<Resent>,
    /// The source's name.
    name: String,
    /// What of the source is read here.
    share: Share,
}

impl Lane {
    fn new(log: LogHandle) -> Lane {
        Lane {
            log,
            head: None,
            seq: 0,
            view: View::default(),
            drained: false,
            ended: false,
            positions: Vec::new(),
            time: i64::MIN,
            empty_since: None,
            heartbeat: None,
            starts: Vec::new(),
            aside: VecDeque::new(),
            gate: None,
            resent: None,
            name: String::new(),
            share: Share::All,
        }
    }

    /// What of positions is read here.
    fn own(&self, positions: &[(i32, i64)]) -> Vec<(i32, i64)> {
        positions.iter().copied().filter(|(partition, _)| self.share.has(*partition)).collect()
    }

    /// The next position of a partition, of what has been handed out.
    fn position(&self, partition: i32) -> Option<i64> {
        self.positions.iter().find(|(p, _)| *p == partition).map(|(_, next)| *next)
    }

    fn set_position(&mut self, partition: i32, next: i64) {
        match self.positions.iter_mut().find(|(p, _)| *p == partition) {
            Some(place) => place.1 = next,
            None => self.positions.push((partition, next)),
        }
    }

    /// Learns where partitions begin of which nothing has come. A restart goes on from there, whatever `start` says then.
    fn begin(&mut self) {
        for n in 0..self.view.partitions.len() {
            let (partition, start) = (self.view.partitions[n].partition, self.view.partitions[n].start);
            if self.position(partition).is_none() {
                self.set_position(partition, start);
                self.starts.push((partition, start));
            }
        }
    }

    /// What lies between the last message that was handed out and where the reader is holds none (the end of a transaction, what was
    /// compacted), if nothing waits.
    fn pass_markers(&mut self, held: u64) {
        // What goes through a gate moves with its transactions.
        if self.gate.is_some() || held > 0 || !self.drained || self.head.is_some() || !self.aside.is_empty() {
            return;
        }
        for n in 0..self.view.partitions.len() {
            let PartitionView { partition, next, .. } = self.view.partitions[n];
            if self.position(partition).is_some_and(|at| at < next) {
                self.set_position(partition, next);
            }
        }
    }

    /// Hands a chunk out.
    fn pass(&mut self, chunk: Chunk, workers: &Workers, incomplete: Option<Arc<str>>) {
        self.set_position(chunk.partition, chunk.next);
        workers.chunk(chunk, self.seq, incomplete);
        self.seq += 1;
    }

    fn done(&self) -> bool {
        self.ended || (self.drained && self.view.backlog_done)
    }

    /// Its backlog has been handed out; of one that goes through a gate, the gate tells.
    fn is_over(&self) -> bool {
        self.gate.is_some() || (self.head.is_none() && self.done())
    }

    /// Nothing more will come.
    fn at_end(&self) -> bool {
        self.ended && self.head.is_none() && self.aside.is_empty()
    }

    /// Takes the next chunk out of the channel, if there is none yet.
    fn fill(&mut self) {
        if self.head.is_some() {
            return;
        }
        if let Some(chunk) = self.aside.pop_front() {
            self.time = chunk.source_time.unwrap_or(self.time);
            (self.head, self.drained) = (Some(chunk), false);
            return;
        }
        if self.ended {
            return;
        }
        let head = &mut self.head;
        let taken = self.log.take(1, |chunk| *head = Some(chunk));
        self.drained = taken.drained;
        self.ended = taken.ended;
        self.view = taken.view;
        self.begin();
        if let Some(chunk) = &self.head {
            self.time = chunk.source_time.unwrap_or(self.time);
            self.empty_since = None;
        }
    }
}

/// The clock of one run.
pub struct Clock<'a> {
    lanes: Vec<Lane>,
    workers: &'a Workers,
    sealed: Sender<Sealed>,
    asks: Receiver<Ask>,
    tick: Duration,
    until: Until,
    last: Tick,
    last_seal: Instant,
    /// Bytes and chunks handed out since the last seal.
    bytes: u64,
    hydrated: bool,
    /// A tick was sealed that is not one made again.
    begun: bool,
    /// The lane whose turn it is, once there is no backlog.
    turn: usize,
    /// Ticks to be made again before anything else.
    listed: Vec<Sealed>,
    /// What is read again before that.
    rebuild: Vec<Again>,
    /// Sources whose transactions go on whole.
    gated: Vec<Gated>,
    /// Since the last seal: messages of incomplete transactions.
    marked: Vec<Marked>,
    /// Differences had been shown before a restart, and are again.
    shown: bool,
    /// How long the end of a range that is sent again is waited for, in milliseconds.
    replay_bound: i64,
    began: Instant,
    /// Several processes run the plan.
    spread: bool,
    /// What the others last said, if this one leads.
    others: Vec<State>,
    ahead: Ahead,
    /// Bytes handed out since others were told how far this clock is.
    untold: u64,
    /// Bytes of ticks that were sealed and are not known to be closed.
    unclosed: VecDeque<(Tick, u64)>,
    /// The newest tick that the ledger has taken in, where there is one here.
    applied: Option<Box<dyn Fn() -> Tick + 'a>>,
}

/// Whose turn it is.
enum Turn {
    Lane(usize),
    Gate(usize),
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

impl<'a> Clock<'a> {
    /// A clock over open logs; `sealed` goes to the ledger.
    pub fn new(logs: Vec<LogHandle>, workers: &'a Workers, sealed: Sender<Sealed>, asks: Receiver<Ask>, tick: Duration, until: Until) -> Self {
        let lanes = logs.into_iter().map(Lane::new).collect();
        let now = Instant::now();
        Clock {
            lanes,
            workers,
            sealed,
            asks,
            tick,
            until,
            last: 0,
            last_seal: now,
            bytes: 0,
            hydrated: false,
            begun: false,
            turn: 0,
            listed: Vec::new(),
            rebuild: Vec::new(),
            gated: Vec::new(),
            marked: Vec::new(),
            shown: false,
            replay_bound: 0,
            began: now,
            spread: false,
            others: Vec::new(),
            ahead: Ahead::new(),
            untold: 0,
            unclosed: VecDeque::new(),
            applied: None,
        }
    }

    /// Goes no further ahead of the ledger, whose newest tick this is, than it may.
    pub fn behind(mut self, applied: impl Fn() -> Tick + 'a) -> Self {
        self.applied = Some(Box::new(applied));
        self
    }

    /// As the clock of one process of those that run the plan together.
    pub fn spread(mut self, plan: &Plan) -> Self {
        self.spread = plan.process.of > 1;
        self.others = vec![State::default(); if plan.process.leads() { plan.process.of - 1 } else { 0 }];
        self.lanes.iter_mut().enumerate().for_each(|(source, lane)| lane.share = plan.share(source));
        self
    }

    /// Goes on behind a tick at which each source had been read up to these positions, first with the ticks that are
    /// listed, each exactly as it was. The first of all has, too, what is read again in `rebuild`.
    pub fn resume(mut self, tick: Tick, at: &[At], listed: Vec<Sealed>, rebuild: Vec<Again>) -> Self {
        (self.last, self.listed, self.rebuild) = (tick, listed, rebuild);
        for (lane, at) in self.lanes.iter_mut().zip(at) {
            lane.positions = lane.own(&at.positions);
        }
        self
    }

    /// Runs until the logs end, somebody asks to stop, or something is wrong.
    pub fn run(mut self) -> Stopped {
        let mut put_off = match self.replay() {
            Ok(asks) => asks,
            Err(stopped) => return stopped,
        };
        loop {
            for lane in self.lanes.iter_mut().filter(|lane| lane.gate.is_none()) {
                lane.fill();
            }
            self.let_go();
            self.feed_gates();
            if let Some(stopped) = self.broken() {
                return stopped;
            }
            while let Some(ask) = put_off.pop_front().or_else(|| self.asks.try_recv().ok()) {
                match ask {
                    Ask::Row { table, key, reply } => {
                        self.seal(None);
                        self.workers.all(&Command::Row { table, key, reply: Arc::new(move |answer| drop(reply.send(answer))) });
                    }
                    Ask::Save { all, to } => self.workers.all(&Command::Save { all, to }),
                    Ask::Cut(cut) => {
                        self.seal(Some(cut));
                        self.workers.all(&Command::Cut);
                    }
                    Ask::Stop => {
                        self.workers.all(&Command::Quiet);
                        self.seal(None);
                        return Stopped::Done { last: self.last };
                    }
                    Ask::Is(process, state) => self.heard(process, state),
                    Ask::Failed(source, error) => return Stopped::Log { source, error },
                }
            }
            if !self.hydrated && self.is_over() && self.others.iter().all(|other| other.over) {
                self.hydrated = true;
                self.seal(None);
            }
            if self.until == Until::End && self.is_at_end() && self.others.iter().all(|other| other.at_end) {
                if self.is_open() {
                    self.seal(None);
                }
                return Stopped::Done { last: self.last };
            }
            let moved = match self.hand_out_next() {
                Ok(moved) => moved,
                Err(stopped) => return stopped,
            };
            self.seal_if_due();
            if self.untold >= align::TELL_BYTES || (!moved && self.untold > 0) {
                self.untold = 0;
                self.tell_others();
            }
            if !moved {
                self.wait();
            }
        }
    }

    /// All of the backlog has been handed out.
    fn is_over(&mut self) -> bool {
        let replaying = self.lanes.iter().any(Lane::is_replaying);
        !replaying && self.lanes.iter().all(Lane::is_over) && (0..self.gated.len()).all(|at| self.has_passed_backlog(at))
    }

    /// Nothing more will come.
    fn is_at_end(&self) -> bool {
        let replaying = self.lanes.iter().any(Lane::is_replaying);
        !replaying && self.lanes.iter().all(Lane::at_end) && (0..self.gated.len()).all(|at| self.is_gate_empty(at))
    }

    /// How many chunks may be under way: fewer when memory is short, and none when it is full.
    fn most_pending(&self) -> Result<u64, Stopped> {
        match memory::pressure() {
            Pressure::None => Ok(CHUNKS_PER_WORKER * self.workers.count() as u64),
            Pressure::Tight => Ok(1),
            Pressure::Full => Err(Stopped::Memory),
        }
    }

    /// Hands out what comes next, or waits a moment while the workers have enough to do; whether there is something.
    fn hand_out_next(&mut self) -> Result<bool, Stopped> {
        if self.workers.pending() >= self.most_pending()? || self.is_full() {
            std::thread::sleep(CREDIT_WAIT);
            return Ok(true);
        }
        match self.next() {
            Some(Turn::Lane(lane)) => {
                let chunk = self.lanes[lane].head.take().expect("the lane has a head");
                self.take(chunk);
            }
            Some(Turn::Gate(at)) => self.hand_out_batch(at),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// A log or a worker that has failed.
    fn broken(&self) -> Option<Stopped> {
        if let Some((source, error)) = self.lanes.iter().enumerate().find_map(|(s, lane)| Some((s, lane.view.failed.clone()?))) {
            return Some(Stopped::Log { source, error });
        }
        (!self.workers.is_alive()).then_some(Stopped::Worker)
    }

    /// Who goes next. While a backlog is read that is who has the oldest, and nobody while one that is not done has nothing to
    /// show (for a bounded time).
    fn next(&mut self) -> Option<Turn> {
        if !self.hydrated {
            let now = Instant::now();
            if self.spread && self.ahead.waits(now) {
                return None;
            }
            for lane in self.lanes.iter_mut().filter(|lane| lane.gate.is_none()) {
                if lane.head.is_none() && !lane.done() && lane.view.trouble.is_none() && now - *lane.empty_since.get_or_insert(now) < ALIGN_WAIT {
                    return None;
                }
            }
            for at in 0..self.gated.len() {
                if self.gated[at].ready.is_none() && !self.is_gate_idle(at) && now - *self.gated[at].empty_since.get_or_insert(now) < ALIGN_WAIT {
                    return None;
                }
            }
        }
        let (lanes, all) = (self.lanes.len(), self.lanes.len() + self.gated.len());
        let has = |of: &usize| match of.checked_sub(lanes) {
            None => self.lanes[*of].head.is_some(),
            // What is marked goes into one progress record.
            Some(gate) => self.gated[gate].ready.is_some() && self.marked.len() < MARKS_MAX,
        };
        let mut waiting = (0..all).filter(has);
        let next = if self.hydrated {
            // By turns, so that a busy one does not hold up a quiet one.
            let turn = self.turn;
            let next = waiting.min_by_key(|of| (of + all - turn % all) % all)?;
            self.turn = next + 1;
            next
        } else {
            let time = |of: usize| of.checked_sub(lanes).map_or_else(|| self.lanes[of].time, |gate| self.gated[gate].time);
            waiting.by_ref().min_by_key(|of| time(*of))?
        };
        Some(next.checked_sub(lanes).map_or(Turn::Lane(next), Turn::Gate))
    }

    fn hand_out_chunk(&mut self, chunk: Chunk, incomplete: Option<Arc<str>>) {
        let lane = &mut self.lanes[chunk.source];
        let bytes = match &chunk.payload {
            Payload::Lines { bytes, .. } | Payload::Messages { bytes, .. } => bytes.len() as u64,
            Payload::Heartbeat(_) => 1,
        }
        .max(1);
        self.bytes += bytes;
        if self.spread && !self.hydrated {
            self.untold += bytes;
            self.ahead.hand_out(lane.time, bytes);
        }
        if let Payload::Heartbeat(time) = chunk.payload {
            // It goes with the seal: of several processes all must have come so far.
            lane.heartbeat = lane.heartbeat.max(Some(time));
            return;
        }
        if lane.position(chunk.partition).is_none() {
            lane.starts.push((chunk.partition, replay::first(&chunk)));
        }
        if let Some(resent) = &mut lane.resent {
            resent.hand_out(&chunk);
        }
        lane.pass(chunk, self.workers, incomplete);
    }

    fn seal_if_due(&mut self) {
        let since = self.last_seal.elapsed();
        let due = match (self.hydrated, self.is_open()) {
            (false, _) => self.others.iter().map(|other| other.bytes).max().unwrap_or(0).max(self.bytes) >= CATCH_UP_BYTES || since >= CATCH_UP_SEAL,
            (true, true) => since >= self.tick,
            (true, false) => since >= self.tick.max(IDLE_SEAL),
        };
        if due || self.marked.len() >= MARKS_MAX {
            self.settle();
            if !self.is_behind() {
                self.seal(None);
            }
        }
    }

    /// Seals the open tick: first the ledger learns what it covers, then the workers that it is over.
    fn seal(&mut self, cut: Option<Cut>) {
        let wall_ms = now_ms();
        let tick = (self.last + 1).max(wall_ms.max(1) as Tick);
        let Part { sources, incomplete, marked, .. } = self.bind(0, tick);
        let ended = self.hydrated && self.until == Until::End;
        let (hydrated, first) = (self.hydrated, !std::mem::replace(&mut self.begun, true));
        let _ = self.sealed.send(Sealed { tick, wall_ms, sources, hydrated, ended, cut, first, incomplete, marked, ..Sealed::default() });
        self.workers.all(&Command::Seal { tick, hold: cut.is_some(), shown: self.hydrated });
        self.end_tick(tick);
        for other in &mut self.others {
            (other.open, other.bytes) = (false, 0);
        }
    }

    /// The open tick is over; what comes is in the next one.
    fn end_tick(&mut self, tick: Tick) {
        self.unclosed.push_back((tick, self.bytes));
        (self.last, self.last_seal, self.bytes) = (tick, Instant::now(), 0);
    }

    /// Forgets which ticks are over: closed by the workers of all processes, and taken in by the ledger, which waits for outputs.
    fn settle(&mut self) {
        let over = self.applied.as_ref().map_or_else(|| self.workers.closed(), |applied| applied());
        while self.unclosed.front().is_some_and(|(tick, _)| *tick <= over) {
            self.unclosed.pop_front();
        }
    }

    /// Do so many ticks wait for the ledger that one more would only wait, too?
    fn is_behind(&self) -> bool {
        self.applied.is_some() && self.unclosed.len() >= TICKS_MAX
    }

    /// Is as much under way as the slowest process, or output, may leave lying?
    fn is_full(&mut self) -> bool {
        self.settle();
        self.bytes + self.unclosed.iter().map(|(_, bytes)| bytes).sum::<u64>() >= OPEN_BYTES_MAX
    }

    /// Is there something in the open tick, as far as this process knows?
    fn is_open(&self) -> bool {
        self.bytes > 0 || self.others.iter().any(|other| other.open)
    }

    /// What this process's share of a tick covers.
    fn bind(&mut self, process: usize, tick: Tick) -> Part {
        let sources = self.sealed_sources();
        let incomplete = self.gated.iter().flat_map(|gated| gated.incomplete.iter().cloned()).collect();
        self.measure_gates();
        Part { process, tick, sources, incomplete, marked: std::mem::take(&mut self.marked) }
    }

    /// What a seal says of each source.
    fn sealed_sources(&mut self) -> Vec<SealedSource> {
        let held: Vec<_> = (0..self.lanes.len()).map(|source| (self.held_of(source), self.replaying(source))).collect();
        for (lane, (held, _)) in self.lanes.iter_mut().zip(&held) {
            lane.pass_markers(*held);
        }
        self.lanes
            .iter_mut()
            .zip(held)
            .map(|(lane, (held, replaying))| SealedSource {
                positions: lane.positions.clone(),
                caught_up: held == 0 && lane.head.is_none() && (lane.ended || (lane.drained && lane.view.caught_up)),
                asked_ms: lane.view.asked_ms.filter(|_| !lane.ended),
                trouble: lane.view.trouble.clone(),
                refused: lane.view.schema.as_ref().is_some_and(|schema| schema.refused),
                // As of now: never behind what was handed out.
                schema: lane.log.status.schema(),
                behind_bytes: lane.view.behind_bytes + held,
                identity: lane.view.identity.clone(),
                heartbeat: lane.heartbeat.take(),
                start: std::mem::take(&mut lane.starts),
                upstream: lane.resent.as_ref().map(Resent::saved).unwrap_or_default(),
                replaying,
            })
            .collect()
    }

    /// Waits until a log or somebody has something, or the next seal is due.
    fn wait(&self) {
        let interval = if self.is_open() && !self.is_behind() { self.tick } else { self.tick.max(IDLE_SEAL) };
        let left = interval.saturating_sub(self.last_seal.elapsed()).clamp(Duration::from_micros(200), IDLE_SEAL);
        let mut select = self.select_logs();
        select.recv(&self.asks);
        let _ = select.ready_timeout(left);
    }

    /// The logs that have something to give. A lane with a head needs nothing; its channel is ready all the time that it waits
    /// for the others.
    fn select_logs(&self) -> Select<'_> {
        let mut select = Select::new();
        let wants = |lane: &&Lane| lane.gate.is_none_or(|at| self.gated[at].gate.takes(lane.log.source));
        for lane in self.lanes.iter().filter(|lane| !lane.ended && lane.head.is_none()).filter(wants) {
            select.recv(&lane.log.chunks);
        }
        select
    }
}
