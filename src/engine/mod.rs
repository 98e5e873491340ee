//! The engine: timely workers that keep target tables and differences from sealed ticks.
//!
//! No I/O, no async, no wall clock here: the same changes at the same ticks give the same output, whatever the number of
//! workers. Commands go down ([`Command`]), reports come up ([`Report`]).
//!
//! ```text
//!              Chunk, Seal, Row, Export (one order for all workers)
//!  clock ───────────────────────────────▶ worker ─ decode ─ mapping ─┬─▶ table ─▶ net changes ─▶ Report ─▶ ledger
//!                                                                    └─▶ SQL (differential) ─▶ table
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `buffers` | large buffers that go from thread to thread, used again |
//! | `worker` | the loop of a worker: commands in, steps, reports out |
//! | `workers` | all of them, seen from outside |
//! | `render` | wires a plan into one dataflow; `render/*.rs` one file a stage |
//! | `table` | the compact keyed table, both sides of a comparison in one |
//! | `chunk` | chunks by position, and their messages one by one |
//! | `mapping` | row-by-row mappings over decoded batches |
//! | `sql` | DataFusion's planner in, a relational plan out; scalar expressions over batches |

use std::sync::Arc;

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};

use crate::{
    format::{Handled, evolution::Evolution, upstream::Position},
    plan::{ComparisonId, SourceId, TableRef, TargetId},
};

pub mod buffers;
pub mod chunk;
pub mod mapping;
pub mod render;
pub mod sql;
pub mod table;
mod worker;
pub mod workers;

/// Logical time: milliseconds on the one timeline that all inputs share.
pub type Tick = u64;

/// A run of messages of one source, in the order of its log. What a reader hands to the clock, and the clock to a worker.
#[derive(Debug)]
pub struct Chunk {
    pub source: SourceId,
    /// The partition of the topic, or the place of the file in the source's list.
    pub partition: i32,
    pub payload: Payload,
    /// The source time of its first message, where that can be told; aligns the sides while a backlog is read.
    pub source_time: Option<i64>,
    /// The position after its last message: once this chunk is applied, the log is read up to here. For a heartbeat the
    /// position of its partition when the heartbeat was let through.
    pub next: i64,
}

/// Bytes of messages.
#[derive(Debug)]
pub enum Payload {
    /// Whole lines, each ending with a line feed (the last one of a file may lack it); `offset` is that of the first byte.
    Lines { bytes: Vec<u8>, offset: i64 },
    /// Messages one after the other in one buffer.
    Messages { bytes: Vec<u8>, index: Vec<MessageAt> },
    /// Only a time, in milliseconds: a heartbeat. It is the connector's clock; how far the source is, the ledger says.
    Heartbeat(i64),
}

impl Payload {
    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Payload::Lines { bytes, .. } => bytes.capacity(),
            Payload::Messages { bytes, index } => bytes.capacity() + index.capacity() * size_of::<MessageAt>(),
            Payload::Heartbeat(_) => 0,
        }
    }

    /// Messages (key, value) of a topic, with offsets from `offset` on.
    pub fn messages(messages: &[(Option<&[u8]>, Option<&[u8]>)], offset: i64, timestamp: Option<i64>) -> Payload {
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        for ((key, value), offset) in messages.iter().zip(offset..) {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(key.unwrap_or_default());
            bytes.extend_from_slice(value.unwrap_or_default());
            let len = |part: &Option<&[u8]>| part.map(|p| p.len() as u32);
            index.push(MessageAt { start, key_len: len(key), value_len: len(value), offset, timestamp });
        }
        Payload::Messages { bytes, index }
    }
}

/// Where a message stands in the buffer of its chunk: key, then value, from `start`.
#[derive(Clone, Copy, Debug)]
pub struct MessageAt {
    pub start: u32,
    /// `None`: no key, or no value (a tombstone).
    pub key_len: Option<u32>,
    pub value_len: Option<u32>,
    pub offset: i64,
    pub timestamp: Option<i64>,
}

/// What workers are told. Every worker gets every command but `Chunk` in the same order.
#[derive(Clone)]
pub enum Command {
    /// The `seq`-th chunk of its source (from 0, no gap), for one worker to decode, at the tick that is open.
    /// `incomplete` names the transaction of which its messages are a part, and of which others are lacking. `only`: it is
    /// read again, for these sides.
    Chunk { chunk: Arc<Chunk>, seq: u64, incomplete: Option<Arc<str>>, only: Option<Arc<[SideOf]>> },
    /// Once what is restored stands, and before anything later is applied, these sides have nothing any more. Comes before
    /// `Restored`.
    Empty { sides: Arc<[SideOf]> },
    /// No change at or before this tick will come. `hold`: no later change is applied to a table before the `Cut` or
    /// `Restored` that follows, though other workers may send some. `shown`: differences are shown as of this tick, or were.
    Seal { tick: Tick, hold: bool, shown: bool },
    /// Answer with the row of a table as of the newest closed tick. Sent after a seal; only the key's owner answers.
    Row { table: TableRef, key: Vec<u8>, reply: Reply },
    /// Keep in mind what changes, for checkpoints. Sent before everything else, or never.
    Keep,
    /// Copy the tables for a checkpoint, bit by bit beside the other work: everything, or what changed since the last.
    Save { all: bool, to: Sender<SavePart> },
    /// The tick that was sealed last is the checkpoint's: copy what is left as of it.
    Cut,
    /// Entries of a table out of a checkpoint: each worker takes those of its keys.
    Restore { entries: Arc<Vec<u8>>, give: Arc<[Give]>, numbers: Option<Arc<Renumbered>> },
    /// Differences of these tables are not published before `Restored`: they are not whole in the tick that is open.
    Blind { tables: Arc<[usize]> },
    /// The tick that was sealed last has what was restored, and nothing else.
    Restored,
    /// Write everything that stands in the tables (sent after the last seal), each worker to its own channel of all.
    Export { to: Arc<[Sender<ExportBlock>]> },
    /// Nothing more is handed out, here and in other processes: the seal that follows is the last one.
    Quiet,
    /// Leave the loop when all sealed ticks are closed.
    Stop,
}

/// A side of a table, by their places in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideOf {
    pub table: usize,
    pub side: usize,
}

/// What a source's records are read again for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Again {
    pub source: SourceId,
    /// Sides to be emptied, and to be filled.
    #[serde(with = "shared")]
    pub emptied: Arc<[SideOf]>,
    #[serde(with = "shared")]
    pub sides: Arc<[SideOf]>,
    /// How far it had been read; nothing: it is read on as a new one.
    pub until: Vec<(i32, i64)>,
}

/// What one side of a table in a checkpoint gives back, and to which one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Give {
    pub from: usize,
    pub to: SideOf,
    /// Only keys: rows of them were written, and none is given back.
    pub keys: bool,
}

impl Give {
    /// A table that is as it was.
    pub fn whole(table: usize) -> [Give; 2] {
        [0, 1].map(|side| Give { from: side, to: SideOf { table, side }, keys: false })
    }
}

/// What sources and targets are numbered now, by the numbers that a checkpoint has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renumbered {
    pub sources: Vec<Option<SourceId>>,
    pub targets: Vec<Option<TargetId>>,
}

/// What is shared is written as if it were not.
pub(crate) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize + ?Sized, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        (**value).serialize(to)
    }

    pub fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error>
    where
        Box<T>: Deserialize<'de>,
    {
        Box::<T>::deserialize(from).map(Arc::from)
    }

    /// The same where there may be none.
    pub mod maybe {
        use super::{Arc, Deserialize, Deserializer, Serialize, Serializer};

        pub fn serialize<T: Serialize + ?Sized, S: Serializer>(value: &Option<Arc<T>>, to: S) -> Result<S::Ok, S::Error> {
            value.as_deref().serialize(to)
        }

        pub fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<T>>, D::Error>
        where
            Box<T>: Deserialize<'de>,
        {
            Ok(Option::<Box<T>>::deserialize(from)?.map(Arc::from))
        }
    }
}

/// What a worker says of a checkpoint that is taken.
#[derive(Debug, Serialize, Deserialize)]
pub enum SavePart {
    /// Entries of a table, by its place in the layout.
    Entries {
        table: usize,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The worker has copied all that there was; what changed meanwhile is left.
    Copied,
    /// The worker has copied all as of the cut, which is this tick.
    Cut(Tick),
}

/// The answer to a look-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowAnswer {
    pub as_of: Tick,
    pub state: RowState,
}

/// Takes the answer to a look-up; it must not block.
pub type Reply = Arc<dyn Fn(RowAnswer) + Send + Sync>;

/// What a table holds for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    Absent,
    /// The row: all columns of the table, in declared order (see `row`).
    Row(#[serde(with = "serde_bytes")] Box<[u8]>),
    /// Several rows claim the key.
    Duplicate(Vec<Box<[u8]>>),
    /// The key's newest record is a reject.
    Rejected(Box<Reject>),
    /// Before a change: a row that was written by another mapping. Which one it was is not known.
    Written,
}

/// A part of what a worker exports: first the rows of each target in the order of keys, then the totals of each comparison.
#[derive(Debug, Serialize, Deserialize)]
pub enum ExportBlock {
    /// Rows of a target as lines of JSON: `bytes` is key, line, key, line …; `rows` has where each key and its line end.
    Rows {
        target: TargetId,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        rows: Vec<(u32, u32)>,
        last: bool,
    },
    /// The totals of a comparison over this worker's keys.
    Totals { comparison: ComparisonId, totals: Vec<Total> },
}

/// A measure of a comparison for a group, both sides; sums are unscaled at `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// `None` is the whole table (`*`), otherwise the text of the group.
    pub group: Option<String>,
    pub measure: String,
    pub value: TotalValue,
}

/// Both sides of a measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TotalValue {
    Count(i64, i64),
    /// Exact, at this scale.
    Sum(i128, i128, u8),
    /// Sums of doubles are what doubles are.
    Double(f64, f64),
    /// Sums modulo 2^128 of the rows' 128-bit hashes.
    Checksum(u128, u128),
}

/// What a worker reports when a tick is closed, i.e. when no change of it can come any more; ticks are reported in order,
/// each exactly once, also when nothing changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub worker: usize,
    pub tick: Tick,
    pub differences: Vec<(ComparisonId, DifferenceChange)>,
    /// Net changes of the target tables that outputs or `--verbose` ask for.
    pub rows: Vec<(TargetId, RowChange)>,
    /// Rejects of keyed rows that came (+1) and went (-1).
    pub rejects: Vec<(Reject, i64)>,
    /// Rejects of messages whose key nobody could read: no later record takes them back.
    pub loose: Vec<Reject>,
    /// Keys that an incomplete transaction touched, with its name; an empty key: it may have touched any.
    pub incomplete: Vec<(ComparisonId, Box<[u8]>, String)>,
    /// By source: what this worker decoded since its last report.
    pub sources: Vec<SourceReport>,
    /// By table: what this worker holds now.
    pub tables: Vec<TableReport>,
    /// Seconds from seal to close.
    pub seconds: f64,
    /// An expression or policy that asks to stop (`on_null: fail`): where and why.
    pub failure: Option<String>,
    /// Everything the worker holds, so that the ledger can tell the state's size.
    pub state_bytes: u64,
    /// Difference changes so far, for the summary.
    pub difference_changes: u64,
    /// Where this worker's time went so far.
    pub times: StageTimes,
}

/// Nanoseconds of one worker by stage, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    pub decode: u64,
    /// Row by row mappings of decoded records, and packing what changes for the workers that hold it.
    pub map: u64,
    /// Keyed tables: applying changes, and publishing the net ones.
    pub table: u64,
    /// Everything else of the dataflow: SQL, mappings of collections, exchange between workers and waiting for them.
    pub flow: u64,
}

impl std::ops::AddAssign for StageTimes {
    fn add_assign(&mut self, other: StageTimes) {
        self.decode += other.decode;
        self.map += other.map;
        self.table += other.table;
        self.flow += other.flow;
    }
}

/// What became of the messages of one partition. Each counter is counted by itself, so that [`Counts::add_up`] can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub read: u64,
    /// Changed, or confirmed, a row of a table.
    pub applied: u64,
    /// No table wants it: filtered out by a mapping, or of no meaning for a table.
    pub filtered: u64,
    /// Could not be decoded, mapped or validated.
    pub rejected: u64,
    /// Passed over because it had come before. None as yet: what comes again is applied again, which changes nothing.
    #[serde(default)]
    pub suppressed: u64,
}

impl Counts {
    /// The counters, with their names.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [("read", self.read), ("applied", self.applied), ("filtered", self.filtered), ("rejected", self.rejected), ("suppressed", self.suppressed)]
    }

    /// Has everything that was read become something?
    pub fn add_up(&self) -> bool {
        self.read == self.applied + self.filtered + self.rejected + self.suppressed
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.read += other.read;
        self.applied += other.applied;
        self.filtered += other.filtered;
        self.rejected += other.rejected;
        self.suppressed += other.suppressed;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// What one worker decoded of a source since its last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// By partition.
    pub counts: Vec<(i32, Counts)>,
    /// The greatest source time seen in this tick, `i64::MIN` if none.
    pub source_time: i64,
    /// The event that its connector handled last, of those seen in this tick.
    pub handled: Option<Handled>,
    /// The newest heartbeat seen in this tick: the connector's clock, in milliseconds since the epoch.
    pub beat: Option<i64>,
}

/// The size of one table in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    pub table: TableRef,
    pub rows: u64,
}

/// A key's net change from the last closed tick to this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferenceChange {
    #[serde(with = "serde_bytes")]
    pub key: Box<[u8]>,
    /// What the sides hold now, if that is a difference; `None`: they agree. Also told where they did before, if a side
    /// changed more than once at times that the other does not show.
    pub now: Option<Sides>,
    /// The greatest source time of this tick's changes to the key, by side; `i64::MIN`: that side did not change.
    pub expected_time: i64,
    pub actual_time: i64,
}

/// Both sides of a difference: rows hold the comparison's fields in the comparison's types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sides {
    pub expected: Side,
    pub actual: Side,
}

/// One side of a key in a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Side {
    Absent,
    Row(#[serde(with = "serde_bytes")] Box<[u8]>),
    Duplicate(Vec<Box<[u8]>>),
    /// The newest record of this key is a reject: nobody knows the row.
    Rejected,
}

/// The net change of a target's key: rows of all columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowChange {
    #[serde(with = "serde_bytes")]
    pub key: Box<[u8]>,
    pub before: RowState,
    pub after: RowState,
}

/// One of `table::change::CODES`.
pub type RejectCode = &'static str;

/// A message or row that could not be decoded, mapped or validated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reject {
    pub source: SourceId,
    #[serde(deserialize_with = "table::change::known_code")]
    pub code: RejectCode,
    pub cause: String,
    /// The text of the key, where it could be read.
    pub key: Option<String>,
    pub partition: i32,
    pub offset: i64,
    /// The target whose mapping rejected the row; `None`: the record could not be decoded.
    pub target: Option<TargetId>,
    /// The table knows which key it holds back.
    pub keyed: bool,
}

/// What of the differences a checkpoint needs as of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// All that stand.
    Whole,
    /// Those that are not as they were at the cut before, or at the restart.
    Changes,
}

/// What the clock tells the ledger about a tick before it seals it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    pub tick: Tick,
    /// The wall clock at the seal, in milliseconds since the epoch.
    pub wall_ms: i64,
    pub sources: Vec<SealedSource>,
    /// The backlog that existed at the start is covered: from this tick on differences are shown.
    pub hydrated: bool,
    /// All logs have ended: nothing comes after this tick.
    pub ended: bool,
    /// What the tick has was restored: it is what a checkpoint had, and nothing new.
    pub restored: bool,
    /// A checkpoint is taken as of this tick.
    pub cut: Option<Cut>,
    /// The tick is made again as it was before a restart; `hydrated` says whether differences were shown then.
    pub replay: bool,
    /// The first one of a run that was not there before: since the tick before it nobody has been there.
    pub first: bool,
    /// The transactions that are shown though parts of them are lacking.
    pub incomplete: Vec<Incomplete>,
    /// The messages of this tick that are parts of them.
    pub marked: Vec<Marked>,
}

/// What a process that does not lead says of a tick that it has sealed: of its own share of each log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub process: usize,
    pub tick: Tick,
    pub sources: Vec<SealedSource>,
    pub incomplete: Vec<Incomplete>,
    pub marked: Vec<Marked>,
}

/// Messages of a source's partition, from one position up to another, that are parts of an incomplete transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Its name.
    pub transaction: String,
    pub source: SourceId,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// A transaction of an upstream database that is shown though parts of it are lacking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incomplete {
    /// The place of its log of transactions in the plan's list.
    pub group: usize,
    pub id: String,
    /// By source: the places of its events that are there, in stretches from one to another.
    pub seen: Vec<(SourceId, Vec<(u64, u64)>)>,
    /// The partitions in which they are.
    pub partitions: Vec<(SourceId, i32)>,
    /// Once its end is known: the position after it, and how many events there should be.
    pub end: Option<(u64, Vec<(SourceId, u64)>)>,
    /// The newest time of an event or of its end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// It stands for many, of which it is not kept what they touched; `seen` has the sources of their events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
}

/// Incomplete transactions that are too many to keep each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// How many.
    pub count: u64,
    /// Since when the log of transactions says of all which ended, and the newest time of an event or end of theirs, in
    /// milliseconds; `i64::MIN`: none has one.
    pub since: i64,
    pub upto: i64,
    /// By source, how many of their events are lacking, as far as their ends are known.
    pub lacking: Vec<(SourceId, i64)>,
    /// Of some of them the end is not known.
    pub endless: bool,
}

impl Incomplete {
    /// The name of a transaction: ids are those of one log.
    pub fn name(log: &str, id: &str) -> Arc<str> {
        format!("{log}/{id}").into()
    }
}

/// The newest position of a partition in its database's own log, of what was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub partition: i32,
    /// The connector's name for the database.
    pub origin: String,
    pub position: Position,
    /// Changes at that position.
    pub count: u32,
    /// The greatest time of a change, in milliseconds; `i64::MIN`: none had one.
    pub time: i64,
}

/// A connector sends a range again, and its end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaying {
    /// The wall clock when it began, in milliseconds since the epoch.
    pub since_ms: i64,
    /// Messages and bytes that are held.
    pub records: u64,
    pub bytes: u64,
}

/// How far a source is read at a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SealedSource {
    /// The next position to read, by partition.
    pub positions: Vec<(i32, i64)>,
    /// Everything that the log held when it was last asked is read.
    pub caught_up: bool,
    /// When that was, in milliseconds since the epoch; `None`: now.
    pub asked_ms: Option<i64>,
    /// Why the source is not read now, if it is not.
    pub trouble: Option<String>,
    /// The trouble is a change of the source's schema that is not accepted.
    pub refused: bool,
    /// What is known of its schema, where that is watched.
    #[serde(with = "shared::maybe")]
    pub schema: Option<Arc<Evolution>>,
    /// Bytes left until the end that was known, for the progress display.
    pub behind_bytes: u64,
    /// What tells the log from another one of its name, where that is known.
    pub identity: Option<String>,
    /// The newest heartbeat of the tick, in milliseconds.
    pub heartbeat: Option<i64>,
    /// Where reading began, of the partitions of which this tick has the first messages.
    pub start: Vec<(i32, i64)>,
    /// The newest positions in the database's own log; empty: none are known.
    pub upstream: Vec<Upstream>,
    /// A connector sends a range again.
    pub replaying: Option<Replaying>,
}
