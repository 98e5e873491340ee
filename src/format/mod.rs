//! Formats: bytes of messages to changes of a source table, and back.
//!
//! One file a format. A decoder fills a [`Batch`] from a run of messages; a batch holds packed fields column by column
//! (see `row`), so that a mapping copies bytes where it does not compute. Nothing here knows where bytes come from.

use serde::{Deserialize, Serialize};

use crate::{
    plan::{Format, Source},
    row::Field,
};

pub mod avro;
mod convert;
pub mod debezium_avro;
pub mod debezium_json;
pub mod encode;
pub mod evolution;
pub mod fields;
pub mod json;
mod record;
mod scan;
mod schema;
#[cfg(test)]
pub mod testing;
mod text;
pub mod upsert_avro;
pub mod upsert_json;
pub mod upstream;

/// One message of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In a topic the offset, in a file the byte at which the line starts.
    pub offset: i64,
    /// The broker's time of the message in milliseconds; the source time, where a format has no other.
    pub timestamp: Option<i64>,
}

/// What a message does to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The row of this key is now this.
    Upsert,
    /// There is no row of this key. Only the key's columns are read (without a key: the whole row, and there is one less of it).
    Delete,
    /// There is no row at all.
    Truncate,
    /// Nothing, but its source time counts (heartbeats, messages that concern other tables).
    Skip,
    /// Could not be read: see [`Batch::rejects`]. Where the key could be read, its columns are there.
    Reject,
}

/// The fields of a record, or of a part of it, that a column can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Place in [`Batch::bytes`]; the length is `u32::MAX` minus a [`Lack`] where there is no value.
    start: u32,
    len: u32,
}

/// Why a column has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Null,
    /// The message has no such field.
    Missing,
    /// The connector could not know it (an unchanged TOAST value).
    Unknown,
}

impl Span {
    pub const NULL: Span = Span { start: 0, len: u32::MAX };
    pub const MISSING: Span = Span { start: 0, len: u32::MAX - 1 };
    pub const UNKNOWN: Span = Span { start: 0, len: u32::MAX - 2 };

    /// The packed field that stands in `bytes[start..end]` of the batch.
    #[inline]
    pub fn of(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: (end - start) as u32 }
    }

    /// Why there is no value, if there is none.
    #[inline]
    pub fn lack(self) -> Option<Lack> {
        match u32::MAX - self.len {
            0 => Some(Lack::Null),
            1 => Some(Lack::Missing),
            2 => Some(Lack::Unknown),
            _ => None,
        }
    }

    /// The field; a missing one is NULL.
    #[inline]
    pub fn field(self, bytes: &[u8]) -> Field<'_> {
        match self.lack() {
            None => Field::Packed(&bytes[self.start as usize..(self.start + self.len) as usize]),
            Some(Lack::Unknown) => Field::Unknown,
            Some(_) => Field::Null,
        }
    }
}

/// A record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub op: Op,
    /// When the source committed it, in milliseconds since the epoch; `i64::MIN` where nothing says it.
    pub source_time: i64,
    pub offset: i64,
}

/// What a change event says of how far its connector is, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handled {
    /// When the connector handled it, by the connector's own clock.
    pub at: i64,
    /// When the database had committed it.
    pub committed: i64,
}

/// When a message's row was committed, and when its connector handled it, as far as the message itself says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<i64>,
}

impl Times {
    /// Is this surely later? What is sent again was committed before, and what lags behind was handled before.
    pub fn is_after(self, other: Times) -> bool {
        let after = |this: Option<i64>, other: Option<i64>| Some(this? > other?);
        after(self.committed, other.committed) == Some(true) && after(self.handled, other.handled) != Some(false)
    }
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeReject {
    /// Place in [`Batch::records`].
    pub record: usize,
    pub code: &'static str,
    pub cause: String,
    /// The text of the record's key as far as it could be read (for people), if at all.
    pub key: Option<String>,
}

/// Decoded messages of one source: `records[i]` has the columns `spans[i * columns..][..columns]`.
///
/// An update whose images have different keys is two records of one offset: a delete of the old key, then an upsert. In a
/// source without a key rows are counted: an upsert is one more of its row, a delete (with all columns) one less.
#[derive(Debug, Default)]
pub struct Batch {
    pub columns: usize,
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
    pub records: Vec<Record>,
    pub rejects: Vec<DecodeReject>,
    /// Messages read, of which some may have left no record.
    pub messages: u64,
    /// The event that its connector handled last, of those that were read from the database's log (and not in a snapshot).
    pub handled: Option<Handled>,
    /// The newest heartbeat among the messages: the connector's clock, in milliseconds since the epoch.
    pub beat: Option<i64>,
}

impl Batch {
    /// Empties the batch for a source of so many columns; keeps its memory.
    pub fn clear(&mut self, columns: usize) {
        self.columns = columns;
        self.bytes.clear();
        self.spans.clear();
        self.records.clear();
        self.rejects.clear();
        (self.messages, self.handled, self.beat) = (0, None, None);
    }

    /// Notes when an event was handled and committed, as far as it says that.
    #[inline]
    fn note(&mut self, at: Option<i64>, committed: Option<i64>) {
        if let (Some(at), Some(committed)) = (at, committed) {
            self.handled = self.handled.max(Some(Handled { at, committed }));
        }
    }

    /// The columns of a record.
    #[inline]
    pub fn row(&self, record: usize) -> &[Span] {
        &self.spans[record * self.columns..][..self.columns]
    }
}

/// Reads one format. A decoder belongs to one source and one thread; it may learn from what it has seen (the order of
/// fields), never so that the meaning of a message depends on it.
pub trait Decoder: Send {
    /// Appends the records of `message` to `batch`. Never panics, whatever the bytes; what can't be read is a reject.
    ///
    /// Only columns of `wanted` (given at construction) are filled, others are `Span::MISSING`; key columns are always
    /// wanted.
    fn decode(&mut self, message: Message, batch: &mut Batch);

    /// The source time of a message, without decoding it; `None` where it can't be read.
    fn source_time(&self, message: Message) -> Option<i64>;

    /// What a message says of its times; the broker's time, which is new when it is sent again, is none of them.
    fn times(&self, message: Message) -> Times {
        Times { committed: self.source_time(Message { timestamp: None, ..message }), handled: None }
    }
}

/// The decoder of a source that reads only the `wanted` columns (and the key).
pub fn decoder(source: &Source, wanted: &[bool]) -> Box<dyn Decoder> {
    let schemas = || source.schemas.clone().unwrap_or_default();
    match source.format {
        Format::DebeziumAvro => Box::new(debezium_avro::DebeziumAvro::new(source, wanted, schemas())),
        Format::UpsertAvro => Box::new(upsert_avro::UpsertAvro::new(source, wanted, schemas())),
        Format::DebeziumJson => Box::new(debezium_json::DebeziumJson::new(source, wanted)),
        Format::UpsertJson => Box::new(upsert_json::UpsertJson::new(source, wanted)),
        Format::Json => Box::new(json::Json::new(source, wanted)),
    }
}
