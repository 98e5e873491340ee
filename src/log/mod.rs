//! Logs: messages in order, from a place that can be named again.
//!
//! A reader is a plain thread that fetches bytes and hands [`Chunk`]s to a bounded channel; a slow engine pushes back by
//! not receiving. Nothing here decodes, and nothing here knows of ticks: the clock receives, seals, and binds positions.
//!
//! ```text
//! Kafka, file ─▶ reader thread ─ Chunk ─▶ bounded channel ─▶ clock
//!                     └──────── View ──▶ LogStatus ────────▶ clock, progress display
//! ```
//!
//! **What a view says, and when it holds.** A reader sends its chunks before it updates the view. So whoever takes a
//! view *first* and then receives until the channel is empty has every message below the view's positions. A view that was
//! taken after (or with chunks still in the channel) may speak of chunks that have not been received. [`LogHandle::take`]
//! keeps this order.
//!
//! This file owns the contract and the errors; `kafka`, `file` and `demo` own one kind of log each. A new kind is one file and one
//! arm in [`open`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Chunk, Payload,
        chunk::{cut, first},
    },
    format::{Message, evolution::Evolution},
    plan::{ConnectionKind, LogSpec, Plan, Share, SourceId, Start},
    registry, telemetry,
};
use guard::{Guard, Let};

pub mod demo;
pub mod file;
pub mod guard;
pub mod kafka;

/// Chunks that may wait between a reader and the clock; with chunks of at most 256 KiB that is 2 MiB a source.
pub const QUEUE_CHUNKS: usize = 8;

/// How often a reader that is blocked by its channel looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Tells the source time of a message in milliseconds without decoding it, where the format has one.
pub type SourceTime = Box<dyn Fn(Message) -> Option<i64> + Send>;

/// When a reader ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the end of the log as it was when the reader started (`--once`).
    End,
    /// Never: the log is followed.
    Forever,
}

/// Why a log can't be read (on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError {
    /// A stable name, e.g. `TOPIC_UNKNOWN`, for logs, metrics and tests.
    pub code: &'static str,
    /// What was tried on which object, and what came of it.
    pub message: String,
    /// What the user can do.
    pub remedy: String,
    /// Whether the same attempt may work later without anybody changing anything (exit code 75).
    pub retry: bool,
}

impl From<registry::Failure> for LogError {
    fn from(registry::Failure { code, message, remedy, retry }: registry::Failure) -> LogError {
        LogError { code, message, remedy, retry }
    }
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

impl std::error::Error for LogError {}

/// How far one partition (or file) is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    pub partition: i32,
    /// Where reading began.
    pub start: i64,
    /// The next position to read: everything before it has been sent.
    pub next: i64,
    /// So many positions right before `next` hold no message: the ends of transactions, what was compacted.
    pub blank: i64,
    /// The position after the last message when the log was last asked.
    pub end: Option<i64>,
    /// Behind that end something is written up to here that nobody may read before a producer has ended its transaction;
    /// [`UNKNOWN`]: it is not known yet whether that is so.
    pub held: Option<i64>,
}

/// Of what may be held back behind the end of a partition nothing is known yet.
pub const UNKNOWN: i64 = i64::MAX;

impl PartitionView {
    /// Read up to the end that is known.
    pub fn at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Is something held back behind the end, as far as is known?
    pub fn is_held(&self) -> bool {
        self.held.is_some_and(|held| held != UNKNOWN && self.next < held)
    }

    /// Read up to the end that is known, and up to what was held back behind it then.
    pub fn caught_up(&self) -> bool {
        self.at_end() && self.held.is_none_or(|held| self.next >= held)
    }

    /// How far one has come who has taken in all messages before a position: over what holds none, as the reader has.
    pub fn reached(&self, done: i64) -> i64 {
        if done >= self.next - self.blank { done.max(self.next) } else { done }
    }
}

/// How far a log is read. See the module's text for when it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// In the order of partitions. Empty until the log has been found.
    pub partitions: Vec<PartitionView>,
    /// When the ends were asked for, in milliseconds since the epoch (this machine's clock).
    pub asked_ms: Option<i64>,
    /// Everything that the log held at `asked_ms` is read: idle is not stuck, and the source is closed up to then.
    pub caught_up: bool,
    /// Everything that the log held when the reader started (or when the topic first appeared) is read. Never goes back.
    pub backlog_done: bool,
    /// Why nothing is read at the moment, if so; the reader keeps trying.
    pub trouble: Option<String>,
    /// Bytes until the ends that are known. An estimate where the log counts messages and not bytes.
    pub behind_bytes: u64,
    /// Messages until the ends that are known; offsets that hold no message are counted too. 0 where the log has bytes.
    pub behind_messages: u64,
    /// Messages and bytes (keys and values) sent since the start.
    pub read_messages: u64,
    pub read_bytes: u64,
    /// What tells this log from another one of the same name, where that is known.
    pub identity: Option<String>,
    /// What is known of the schema of its messages, where that is watched. Never behind the chunks that were sent.
    #[serde(with = "crate::engine::shared::maybe")]
    pub schema: Option<Arc<Evolution>>,
    /// Why the reader has ended before its time.
    #[serde(skip)]
    pub failed: Option<LogError>,
}

/// Where reading begins. Partitions that are not named, and all by default, begin where the source says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct At {
    pub positions: Vec<(i32, i64)>,
    /// The identity of the log that these are positions of, where it is known.
    pub identity: Option<String>,
    /// What was known of the schema of its messages.
    #[serde(with = "crate::engine::shared::maybe")]
    pub schema: Option<Arc<Evolution>>,
    /// What lies before these positions was taken in before, and is taken in again whatever its schema is.
    pub settled: Vec<(i32, i64)>,
    /// It is read again from its beginning: by partition where that was, and up to where it had been read.
    pub again: Vec<(i32, i64, i64)>,
}

impl View {
    /// The next position to read by partition.
    pub fn positions(&self) -> Vec<(i32, i64)> {
        self.partitions.iter().map(|p| (p.partition, p.next)).collect()
    }
}

/// A view that a reader writes and others read.
#[derive(Debug, Default)]
pub struct LogStatus {
    view: Mutex<View>,
    read_nanos: AtomicU64,
    /// The channel to the clock is full.
    waits: AtomicBool,
    ended: AtomicBool,
}

impl LogStatus {
    /// The view as of now.
    pub fn view(&self) -> View {
        self.view.lock().expect("no reader panics while it holds its view").clone()
    }

    /// What is known of the schema of its messages, as of now.
    pub fn schema(&self) -> Option<Arc<Evolution>> {
        self.view.lock().expect("no reader panics while it holds its view").schema.clone()
    }

    /// Nanoseconds that the reader has read, or waited for its log; not those in which the engine was busy.
    pub fn read_nanos(&self) -> u64 {
        self.read_nanos.load(Ordering::Relaxed)
    }

    /// The reader has more than the clock takes now.
    pub fn waits_for_the_engine(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// The reader has left.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Takes over what a reader in another process says.
    pub fn take_over(&self, view: View, waits: bool, ended: bool) {
        self.update(|mine| *mine = view);
        self.waits.store(waits, Ordering::Relaxed);
        self.ended.store(ended, Ordering::Relaxed);
    }

    fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().expect("no reader panics while it holds its view"));
    }
}

/// An open log.
#[derive(Debug)]
pub struct LogHandle {
    pub source: SourceId,
    /// Disconnected when the log has ended: at its end (`Until::End`), by a failure, or after [`LogHandle::stop`].
    /// [`LogHandle::finish`] tells which.
    pub chunks: Receiver<Chunk>,
    pub status: Arc<LogStatus>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), LogError>>>,
}

/// What [`LogHandle::take`] found.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// Taken before the chunks, so that it holds if `drained`.
    pub view: View,
    /// Every chunk that had been sent when the view was taken has been received.
    pub drained: bool,
    /// The log has ended and nothing more will come.
    pub ended: bool,
}

impl LogHandle {
    /// Receives what is there without waiting, at most `limit` chunks, together with a view that holds for it if all
    /// was received. A view whose chunks have not all been received is never `caught_up` nor `backlog_done`.
    pub fn take(&self, limit: usize, mut receive: impl FnMut(Chunk)) -> Taken {
        let mut taken = Taken { view: self.status.view(), drained: false, ended: false };
        for _ in 0..limit {
            match self.chunks.try_recv() {
                Ok(chunk) => receive(chunk),
                Err(error) => {
                    taken.drained = true;
                    if error == TryRecvError::Disconnected {
                        taken.ended = true;
                        taken.view = self.status.view();
                    }
                    break;
                }
            }
        }
        if !taken.drained {
            taken.view.caught_up = false;
            taken.view.backlog_done = false;
        }
        taken
    }

    /// Asks the reader to end soon; what it has sent stays in the channel.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the reader's end. Call after `chunks` is disconnected, or after [`LogHandle::stop`].
    ///
    /// # Errors
    /// Why the log could not be read to its end.
    pub fn finish(mut self) -> Result<(), LogError> {
        let thread = self.thread.take().expect("a handle is finished once");
        drop(std::mem::replace(&mut self.chunks, crossbeam_channel::never()));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A reader's side of its handle.
#[derive(Debug)]
pub struct Feed {
    pub source: SourceId,
    chunks: Sender<Chunk>,
    status: Arc<LogStatus>,
    stop: Arc<AtomicBool>,
    /// Since when the reader has been at work on what it sends next.
    reading_since: Mutex<Instant>,
    /// Watches the schema of what is sent, and whether the log ends.
    guard: Mutex<Option<(Guard, Until)>>,
    /// Why the guard let nothing more through.
    refused: Mutex<Option<LogError>>,
    standing: Mutex<Option<Standing>>,
}

/// A source whose schema changed in a way that is not accepted stands. What had been taken in before a restart comes again all the
/// same: it may be waited for.
#[derive(Debug)]
struct Standing {
    error: LogError,
    /// By partition, the first message that is not handed out.
    before: BTreeMap<i32, i64>,
    settled: Vec<(i32, i64)>,
}

impl Standing {
    /// What of a chunk is handed out.
    fn let_through(&mut self, chunk: Chunk) -> Option<Chunk> {
        if matches!(chunk.payload, Payload::Heartbeat(_)) {
            return None;
        }
        let (partition, at) = (chunk.partition, first(&chunk));
        let settled = self.settled.iter().find(|(p, _)| *p == partition).map_or(i64::MIN, |(_, next)| *next);
        let limit = self.before.get(&partition).copied().unwrap_or(settled);
        if at >= limit {
            self.before.entry(partition).or_insert(at);
            return None;
        }
        let (head, rest) = cut(chunk, limit);
        if rest.is_some() {
            self.before.insert(partition, limit);
        }
        Some(head)
    }

    /// Says of a view where it stands.
    fn say(&self, view: &mut View) {
        for (partition, before) in &self.before {
            if let Some(place) = view.partitions.iter_mut().find(|place| place.partition == *partition) {
                place.next = *before;
            }
        }
        view.caught_up = false;
        // It is read as far as it will be: others need not wait for it.
        view.backlog_done = true;
        view.trouble = Some(self.error.to_string());
    }

    /// Everything that had been taken in before has come.
    fn is_done(&self, view: &View) -> bool {
        // Those of other processes are theirs.
        let has = |partition: i32, next: i64| view.partitions.iter().find(|place| place.partition == partition).is_none_or(|place| place.next >= next);
        self.settled.iter().all(|(partition, next)| self.before.contains_key(partition) || has(*partition, *next))
    }
}

/// The reader should end: somebody asked, or nobody receives any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Feed {
    /// Has the schema of everything that is sent watched.
    pub fn watch(&self, guard: Option<Guard>, until: Until) {
        if let Some(guard) = &guard {
            self.update(|view| view.schema = Some(Arc::clone(guard.evolution())));
        }
        *self.guard.lock().expect("one thread reads a log") = guard.map(|guard| (guard, until));
    }

    /// Sends a chunk; waits while the channel is full. Of one with a change of its schema that is not accepted, what lies before
    /// it is sent; after that the reader waits here to be stopped, or ends if its log does. It waits only once all has been sent
    /// that a restart had taken in before.
    ///
    /// # Errors
    /// The reader should end; the chunk is lost.
    pub fn send(&self, chunk: Chunk) -> Result<(), Stopped> {
        if self.stands()? {
            let through = self.standing.lock().expect("one thread reads a log").as_mut().and_then(|standing| standing.let_through(chunk));
            return through.map_or(Ok(()), |chunk| self.send_on(chunk));
        }
        let mut guarded = self.guard.lock().expect("one thread reads a log");
        let Some((guard, until)) = guarded.as_mut() else { return self.send_on(chunk) };
        let before = Arc::clone(guard.evolution());
        let Let { chunk, accepted, refused, .. } = guard.examine(chunk);
        if !Arc::ptr_eq(&before, guard.evolution()) {
            self.update(|view| view.schema = Some(Arc::clone(guard.evolution())));
        }
        for change in accepted.iter().chain(&refused) {
            telemetry::SchemaTurned { source: guard.source(), change }.emit();
        }
        chunk.map_or(Ok(()), |chunk| self.send_on(chunk))?;
        match refused {
            None => Ok(()),
            Some(change) => {
                let standing = Standing { error: guard.stop(&change), before: [(change.partition, change.offset)].into(), settled: guard.settled().to_vec() };
                self.status.update(|view| standing.say(view));
                if *until == Until::End {
                    *self.refused.lock().expect("one thread reads a log") = Some(standing.error);
                    return Err(Stopped);
                }
                *self.standing.lock().expect("one thread reads a log") = Some(standing);
                self.stands().map(|_| ())
            }
        }
    }

    /// Does the source stand before a message? Returns once there is something that it may still hand out.
    fn stands(&self) -> Result<bool, Stopped> {
        let done = match &*self.standing.lock().expect("one thread reads a log") {
            None => return Ok(false),
            Some(standing) => standing.is_done(&self.status.view()),
        };
        while done && !self.stopped() {
            std::thread::sleep(STOP_CHECK);
        }
        if done { Err(Stopped) } else { Ok(true) }
    }

    fn send_on(&self, chunk: Chunk) -> Result<(), Stopped> {
        let mut chunk = chunk;
        let mut since = self.reading_since.lock().expect("one thread reads a log");
        self.status.read_nanos.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
        loop {
            match self.chunks.send_timeout(chunk, STOP_CHECK) {
                Ok(()) => {
                    *since = Instant::now();
                    self.status.waits.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                Err(SendTimeoutError::Disconnected(_)) => return Err(Stopped),
                Err(SendTimeoutError::Timeout(_)) if self.stopped() => return Err(Stopped),
                Err(SendTimeoutError::Timeout(back)) => {
                    self.status.waits.store(true, Ordering::Relaxed);
                    chunk = back;
                }
            }
        }
    }

    /// Changes the view. Send the chunks that it speaks of before.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        self.status.update(|view| {
            change(view);
            if let Some(standing) = &*self.standing.lock().expect("one thread reads a log") {
                standing.say(view);
            }
        });
    }

    /// Whether the reader should end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Starts a reader's thread. `read` returns when the log has ended, when [`Feed`] says stop, or with a failure, which then
/// also stands in the view.
pub fn spawn(source: SourceId, name: &str, queue_chunks: usize, read: impl FnOnce(&Feed) -> Result<(), LogError> + Send + 'static) -> LogHandle {
    let (sender, chunks) = crossbeam_channel::bounded(queue_chunks);
    let status = Arc::new(LogStatus::default());
    let stop = Arc::new(AtomicBool::new(false));
    let feed = Feed {
        source,
        chunks: sender,
        status: status.clone(),
        stop: stop.clone(),
        reading_since: Mutex::new(Instant::now()),
        guard: Mutex::default(),
        refused: Mutex::default(),
        standing: Mutex::default(),
    };
    let thread = std::thread::Builder::new()
        .name(format!("log {name}"))
        .spawn(move || {
            let result = read(&feed).and_then(|()| feed.refused.lock().expect("one thread reads a log").take().map_or(Ok(()), Err));
            if let Err(error) = &result {
                feed.update(|view| {
                    view.caught_up = false;
                    view.trouble = Some(error.to_string());
                    view.failed = Some(error.clone());
                });
            }
            feed.status.ended.store(true, Ordering::Relaxed);
            result
        })
        .expect("the operating system starts a thread");
    LogHandle { source, chunks, status, stop, thread: Some(thread) }
}

/// Opens the log of a source. Outside trouble does not fail this call: it shows in the view, or ends the reader.
///
/// # Errors
/// The connection's settings are not ones that its client takes.
pub fn open(plan: &Plan, source: SourceId, until: Until, at: &At) -> Result<LogHandle, LogError> {
    let declared = &plan.sources[source];
    let connection = &plan.connections[declared.connection];
    let share = plan.share(source);
    if share == Share::Nothing {
        // Another process reads it.
        return Ok(spawn(source, &declared.name, 1, |_| Ok(())));
    }
    let guard = Guard::new(declared, declared.schema_policy(), at.schema.clone(), at.settled.clone());
    match (&declared.log, &connection.kind) {
        (LogSpec::Topic { topic, start, heartbeat }, ConnectionKind::Kafka { brokers, properties, registry }) => {
            let decoder = crate::format::decoder(declared, &vec![false; declared.columns.len()]);
            kafka::open(
                source,
                kafka::TopicSpec {
                    connection: connection.name.clone(),
                    brokers: brokers.clone(),
                    properties: properties.clone(),
                    topic: topic.clone(),
                    start: match (at.positions.is_empty(), at.again.is_empty()) {
                        (true, true) => start.clone(),
                        (true, false) => Start::Offsets(at.again.iter().map(|(partition, began, _)| (*partition, *began)).collect()),
                        (false, _) => Start::Offsets(at.positions.iter().copied().collect()),
                    },
                    goes_on: !at.positions.is_empty() || !at.again.is_empty(),
                    again: at.again.iter().map(|(partition, _, until)| (*partition, *until)).collect(),
                    share,
                    identity: at.identity.clone(),
                    heartbeat: heartbeat.clone(),
                    registry: registry.clone().filter(|_| declared.format.is_avro()),
                },
                until,
                Box::new(move |message| decoder.source_time(message)),
                guard,
                kafka::Pace::default(),
            )
        }
        (LogSpec::Files(files), ConnectionKind::File { dir }) => {
            let decoder = crate::format::decoder(declared, &vec![false; declared.columns.len()]);
            Ok(file::open(source, &declared.name, dir, files, &at.positions, until, Box::new(move |message| decoder.source_time(message)), guard))
        }
        (LogSpec::Demo(table), ConnectionKind::Demo { seed, rate }) => demo::open(source, table, *seed, *rate, until),
        (log, _) => Err(LogError {
            code: "LOG_UNSUPPORTED",
            message: format!("source `{}`: connection `{}` does not hold {log:?}", declared.name, connection.name),
            remedy: "name a connection of the right kind".into(),
            retry: false,
        }),
    }
}

/// This machine's clock in milliseconds since the epoch; only for what is shown and for `View::asked_ms`.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests;
