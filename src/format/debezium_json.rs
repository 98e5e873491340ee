//! `debezium-json`: change events of Debezium's connectors in JSON, with and without Connect's schema in the message.
//!
//! ```text
//! value null                   delete of the message key (a tombstone)
//! op r, c, u + after           upsert; if before has another key, first a delete of that
//! op d + before (or the key)   delete; before's other columns may be invented, so only its key is read
//! op t                         truncate
//!                              (of a table without a key: a delete of before's row, then an upsert of after's)
//! op m, no op: transaction and schema change records: skip, but their time counts; heartbeats: skip, see `Batch::beat`
//! ```
//!
//! The envelope is scanned once, in whatever order its fields come; values are converted only after that, when the
//! operation is known. What a row's columns are called and how they are spelled is `record`'s and `convert`'s.

use super::{
    Batch, Decoder, Message, Op, Times,
    convert::Spelling,
    record::{Bad, Columns, Image, record, shorten},
    scan::{self, Kind, Scan, Shape, Stop, Token},
    schema::Schemas,
    text,
};
use crate::plan::Source;

pub mod transaction;

// Fields of the envelope.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const SOURCE: usize = 2;
const OP: usize = 3;
const TS_MS: usize = 4;
const SCHEMA: usize = 5;
const PAYLOAD: usize = 6;
/// Of a transaction's begin and end.
const STATUS: usize = 7;
/// Of a schema change.
const DDL: usize = 8;
/// `ts_us`, `ts_ns`: beside a heartbeat's `ts_ms`.
const FINER_TIME: usize = 9;
const OTHER: usize = 10;

// Fields of its `source`.
const COMMITTED: usize = 0;
const SNAPSHOT: usize = 1;

const ENVELOPE: [(&str, usize); 12] = [
    ("before", BEFORE),
    ("after", AFTER),
    ("source", SOURCE),
    ("op", OP),
    ("ts_ms", TS_MS),
    ("schema", SCHEMA),
    ("payload", PAYLOAD),
    ("status", STATUS),
    ("ddl", DDL),
    ("tableChanges", DDL),
    ("ts_us", FINER_TIME),
    ("ts_ns", FINER_TIME),
];

/// The decoder of `debezium-json`.
#[derive(Debug)]
pub struct DebeziumJson {
    columns: Columns,
    event: Event,
    key: MessageKey,
}

/// A scanned event: what was learnt of the shape of events, and the tokens of the last one.
#[derive(Debug)]
struct Event {
    shape: Shape,
    source_shape: Shape,
    /// Before and after differ in what is wanted, not in the order of fields.
    before_shape: Shape,
    after_shape: Shape,
    schemas: Schemas,
    fields: [Token; OTHER + 1],
    /// `ts_ms` and `snapshot` of `source`; the last place takes the rest.
    of_source: [Token; 3],
    before: Vec<Token>,
    after: Vec<Token>,
    /// The message's schema, if it has one.
    schema: Option<usize>,
}

/// The key of a message, scanned only when it is needed.
#[derive(Debug)]
struct MessageKey {
    shape: Shape,
    schemas: Schemas,
    tokens: Vec<Token>,
}

impl DebeziumJson {
    pub fn new(source: &Source, wanted: &[bool]) -> Self {
        let columns = Columns::new(source, wanted);
        let event = Event {
            shape: Shape::new(ENVELOPE, OTHER),
            source_shape: Shape::new([("ts_ms", COMMITTED), ("snapshot", SNAPSHOT)], 2),
            before_shape: columns.before_shape(),
            after_shape: columns.shape(),
            schemas: Schemas::default(),
            fields: [Token::MISSING; OTHER + 1],
            of_source: [Token::MISSING; 3],
            before: columns.tokens(),
            after: columns.tokens(),
            schema: None,
        };
        let key = MessageKey { shape: columns.key_shape(), schemas: Schemas::default(), tokens: columns.tokens() };
        DebeziumJson { columns, event, key }
    }

    /// The record of an event that stands in `value`, which has been scanned.
    #[inline]
    fn event(&mut self, message: &Message, value: &[u8], batch: &mut Batch) -> Result<(), Bad> {
        let fields = &self.event.fields;
        let (committed, handled) = (self.event.committed(value), number(fields[TS_MS], value));
        if !self.event.is_of_snapshot(value) {
            batch.note(handled, committed);
        }
        let time = committed.or(handled).or(message.timestamp).unwrap_or(i64::MIN);
        let spellings = self.event.schema.map_or(self.columns.spellings.as_slice(), |known| self.event.schemas.spellings(known));
        let (before, after) = (self.event.image(&self.event.before, value, spellings), self.event.image(&self.event.after, value, spellings));
        match fields[OP].of(value) {
            op @ (b"u" | b"c" | b"r" | b"d") if self.columns.counted() => {
                let (is, name) = (|field: usize| fields[field].kind == Kind::Object, String::from_utf8_lossy(op));
                let (old, new) = (matches!(op, b"u" | b"d"), op != b"d");
                if old && !is(BEFORE) {
                    return Err(Columns::no_before(&name));
                }
                if new && !is(AFTER) {
                    return Err(Bad::not_decoded(format!("operation `{name}` has no `after`")));
                }
                self.columns.exchange(old.then_some(before), new.then_some(after), record(Op::Skip, time, message), batch)
            }
            b"u" | b"c" | b"r" => {
                if fields[AFTER].kind != Kind::Object {
                    return Err(Bad::not_decoded(format!("operation `{}` has no `after`", String::from_utf8_lossy(fields[OP].of(value)))));
                }
                if fields[BEFORE].kind == Kind::Object && self.columns.key.iter().any(|c| !same(before.tokens[*c], after.tokens[*c], value)) {
                    self.moved(before, after, message, time, batch);
                }
                self.columns.upsert(after, record(Op::Upsert, time, message), batch)
            }
            b"d" => {
                let delete = record(Op::Delete, time, message);
                let first = if fields[BEFORE].kind == Kind::Object {
                    self.columns.keyed(before, delete, batch)
                } else {
                    Err(Bad::not_decoded("operation `d` has no `before`, and there is no message key"))
                };
                let Err(bad) = first else { return Ok(()) };
                match self.key.read(&self.columns, message) {
                    Some(key) => self.columns.keyed(key, delete, batch).map_err(|of_key| if fields[BEFORE].kind == Kind::Object { bad } else { of_key }),
                    None => Err(bad),
                }
            }
            b"t" => {
                self.columns.bare(record(Op::Truncate, time, message), batch);
                Ok(())
            }
            b"m" => {
                self.columns.bare(record(Op::Skip, time, message), batch);
                Ok(())
            }
            _ => self.not_a_change(message, value, time, batch),
        }
    }

    /// A message without an operation that we know.
    fn not_a_change(&self, message: &Message, value: &[u8], time: i64, batch: &mut Batch) -> Result<(), Bad> {
        let fields = &self.event.fields;
        let has = |field: usize| fields[field].kind != Kind::Missing;
        if has(OP) {
            return Err(Bad::not_decoded(format!("`op` is {}; known are r, c, u, d, t, m", shorten(&String::from_utf8_lossy(fields[OP].of(value))))));
        }
        let heartbeat = has(TS_MS) && !has(OTHER) && !has(SOURCE);
        let transaction = matches!(fields[STATUS].of(value), b"BEGIN" | b"END");
        if !(has(BEFORE) || has(AFTER)) && (heartbeat || transaction || has(DDL)) {
            let beat = number(fields[TS_MS], value).filter(|_| heartbeat);
            batch.beat = batch.beat.max(beat);
            self.columns.bare(record(Op::Skip, if beat.is_some() { i64::MIN } else { time }, message), batch);
            return Ok(());
        }
        Err(Bad::not_decoded("not a change event of Debezium: it has no `op`"))
    }

    /// Deletes the old key of a row that has moved to another key, if both can be read.
    #[cold]
    fn moved(&self, before: Image, after: Image, message: &Message, time: i64, batch: &mut Batch) {
        let mut scratch = Batch { columns: batch.columns, ..Batch::default() };
        let delete = record(Op::Delete, time, message);
        if self.columns.keyed(before, delete, &mut scratch).is_ok() && self.columns.keyed(after, delete, &mut scratch).is_ok() {
            let field = |span: super::Span| span.field(&scratch.bytes);
            let (old, new) = scratch.spans.split_at(self.columns.columns.len());
            if self.columns.key.iter().any(|c| field(old[*c]) != field(new[*c])) {
                // It has just been read, so it can be read again.
                let _ = self.columns.keyed(before, delete, batch);
            }
        }
    }

    /// A tombstone: a delete, if the message key says of what. The broker's time of it is not when that was committed.
    fn tombstone(&mut self, message: &Message, batch: &mut Batch) -> Result<(), Bad> {
        let time = i64::MIN;
        match self.key.read(&self.columns, message) {
            Some(key) if self.columns.key.iter().all(|c| key.tokens[*c].is_value()) && !self.columns.key.is_empty() => {
                self.columns.keyed(key, record(Op::Delete, time, message), batch)
            }
            _ => {
                self.columns.bare(record(Op::Skip, time, message), batch);
                Ok(())
            }
        }
    }

    /// A reject with whatever of its key can be read.
    #[cold]
    fn reject(&mut self, bad: Bad, message: &Message, value: Option<&[u8]>, batch: &mut Batch) {
        let value = value.unwrap_or_default();
        let time = self.event.time(value).or(message.timestamp).unwrap_or(i64::MIN);
        let spellings = self.event.schema.map_or(self.columns.spellings.as_slice(), |known| self.event.schemas.spellings(known));
        let mut images = Vec::new();
        for (field, tokens) in [(AFTER, &self.event.after), (BEFORE, &self.event.before)] {
            if self.event.fields[field].kind == Kind::Object {
                images.push(self.event.image(tokens, value, spellings));
            }
        }
        images.extend(self.key.read(&self.columns, message));
        self.columns.reject(bad, &images, record(Op::Reject, time, message), batch);
    }
}

impl Decoder for DebeziumJson {
    fn decode(&mut self, message: Message, batch: &mut Batch) {
        batch.messages += 1;
        let value = message.value;
        let done = match value {
            None => {
                self.event.clear();
                self.tombstone(&message, batch)
            }
            Some(value) => match self.event.scan(value, &self.columns) {
                Ok(true) => self.event(&message, value, batch),
                Ok(false) => self.tombstone(&message, batch),
                Err(bad) => {
                    self.event.clear();
                    Err(bad)
                }
            },
        };
        if let Err(bad) = done {
            self.reject(bad, &message, value, batch);
        }
    }

    fn source_time(&self, message: Message) -> Option<i64> {
        let Times { committed, handled } = envelope_times(message.value?);
        committed.or(handled).or(message.timestamp)
    }

    fn times(&self, message: Message) -> Times {
        message.value.map_or_else(Times::default, envelope_times)
    }
}

impl Event {
    fn clear(&mut self) {
        self.fields = [Token::MISSING; OTHER + 1];
        self.of_source = [Token::MISSING; 3];
        self.schema = None;
    }

    /// Scans a message; false if it is null, or has a null payload.
    #[inline]
    fn scan(&mut self, value: &[u8], columns: &Columns) -> Result<bool, Bad> {
        self.clear();
        if u32::try_from(value.len()).is_err() {
            return Err(Bad::not_decoded("the message is larger than 4 GiB"));
        }
        let mut scan = Scan::new(value);
        let whole = self.scan_whole(&mut scan, columns);
        whole.map_err(|Stop| Bad::not_decoded(scan.fault()))
    }

    #[inline]
    fn scan_whole(&mut self, scan: &mut Scan, columns: &Columns) -> Result<bool, Stop> {
        if scan.peek() != b'{' {
            let token = scan.value()?;
            if token.kind != Kind::Null {
                return Err(scan.expected(0, "a change event (an object)"));
            }
            scan.finish()?;
            return Ok(false);
        }
        self.envelope(scan, columns, true)?;
        scan.finish()?;
        Ok(self.fields[PAYLOAD].kind != Kind::Null || self.fields[OP].kind != Kind::Missing)
    }

    /// Scans the fields of an event, or of the object around it that has the schema too.
    fn envelope(&mut self, scan: &mut Scan, columns: &Columns, outer: bool) -> Result<Token, Stop> {
        let start = scan.position();
        let mut place = if outer { 0 } else { 2 };
        let mut more = scan.enter()?;
        while more {
            let target = self.shape.field(scan, &mut place)?;
            let object = scan.peek() == b'{';
            self.fields[target] = match target {
                AFTER if object => scan.object(&mut self.after_shape, &mut self.after)?,
                BEFORE if object => scan.object(&mut self.before_shape, &mut self.before)?,
                SOURCE if object => scan.object(&mut self.source_shape, &mut self.of_source)?,
                SCHEMA if outer => {
                    let (token, known) = self.schemas.read(scan, Some("after"), &columns.columns, &columns.spellings)?;
                    self.schema = known;
                    token
                }
                PAYLOAD if outer && object => {
                    let schema = self.schema;
                    self.clear();
                    self.schema = schema;
                    self.envelope(scan, columns, false)?
                }
                _ => scan.value()?,
            };
            more = scan.more()?;
        }
        Ok(scan.object_from(start))
    }

    #[inline]
    fn image<'a>(&self, tokens: &'a [Token], bytes: &'a [u8], spellings: &'a [Spelling]) -> Image<'a> {
        Image { tokens, bytes, spellings }
    }

    /// When the source committed the change, or else when the connector saw it.
    #[inline]
    fn time(&self, value: &[u8]) -> Option<i64> {
        self.committed(value).or_else(|| number(self.fields[TS_MS], value))
    }

    /// When the source committed the change.
    #[inline]
    fn committed(&self, value: &[u8]) -> Option<i64> {
        let source = if self.fields[SOURCE].kind == Kind::Object { self.of_source[COMMITTED] } else { Token::MISSING };
        number(source, value)
    }

    /// Is it a row of a snapshot? Those say nothing of how far the database's log has been read.
    #[inline]
    fn is_of_snapshot(&self, value: &[u8]) -> bool {
        let said = self.of_source[SNAPSHOT];
        self.fields[OP].of(value) == b"r" || (said.is_value() && !matches!(said.of(value), b"false" | b""))
    }
}

impl MessageKey {
    /// The key columns that the key of `message` has; `None` if it has no key that is JSON.
    fn read<'a>(&'a mut self, columns: &'a Columns, message: &Message<'a>) -> Option<Image<'a>> {
        let bytes = message.key?;
        if u32::try_from(bytes.len()).is_err() {
            return None;
        }
        self.tokens.fill(Token::MISSING);
        let mut known = None;
        let mut scan = Scan::new(bytes);
        let (schemas, shape, tokens) = (&mut self.schemas, &mut self.shape, &mut self.tokens);
        // `{"schema": …, "payload": {…}}` is a key of that form only if it has both.
        let (mut schema, mut payload) = (false, false);
        Scan::new(bytes)
            .walk(|scan, name| {
                schema |= name == b"schema";
                payload |= name == b"payload";
                scan.value().map(|_| ())
            })
            .ok()?;
        if schema && payload {
            scan.walk(|scan, name| match name {
                b"schema" => schemas.read(scan, None, &columns.columns, &columns.spellings).map(|(_, found)| known = found),
                b"payload" if scan.peek() == b'{' => scan.object(shape, tokens).map(|_| ()),
                _ => scan.value().map(|_| ()),
            })
            .ok()?;
        } else {
            scan.peek();
            scan.object(shape, tokens).ok()?;
        }
        scan.finish().ok()?;
        let spellings = known.map_or(columns.spellings.as_slice(), |known| self.schemas.spellings(known));
        Some(Image { tokens: &self.tokens, bytes, spellings })
    }
}

/// Are these two spelled alike? If not, they may still be equal.
#[inline]
fn same(a: Token, b: Token, message: &[u8]) -> bool {
    a.kind == b.kind && a.of(message) == b.of(message)
}

#[inline]
fn number(token: Token, bytes: &[u8]) -> Option<i64> {
    if token.kind == Kind::Integer { text::integer(token.of(bytes)).ok() } else { None }
}

/// `ts_ms` of the event's source, and of the event.
fn envelope_times(value: &[u8]) -> Times {
    let (mut source, mut event, mut payload) = (Token::MISSING, Token::MISSING, Token::MISSING);
    let mut scan = Scan::new(value);
    let walked = scan.walk(|scan, name| {
        let field = match name {
            b"source" => &mut source,
            b"ts_ms" => &mut event,
            b"payload" => &mut payload,
            _ => return scan.value().map(|_| ()),
        };
        *field = scan.value()?;
        Ok(())
    });
    if walked.is_err() {
        return Times::default();
    }
    if payload.kind == Kind::Object && source.kind == Kind::Missing && event.kind == Kind::Missing {
        return envelope_times(payload.of(value));
    }
    let mut time = Token::MISSING;
    let source = source.of(value);
    if scan::Scan::new(source)
        .walk(|scan, name| {
            let token = scan.value()?;
            if name == b"ts_ms" {
                time = token;
            }
            Ok(())
        })
        .is_err()
    {
        time = Token::MISSING;
    }
    Times { committed: number(time, source), handled: number(event, value) }
}

#[cfg(test)]
mod model;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
