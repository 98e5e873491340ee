//! `debezium-avro`: change events of Debezium's connectors, written by an Avro converter. What an event means is what it means in
//! `debezium_json`; the fields of the envelope are those of the schema.

use std::sync::Arc;

use super::{
    Batch, Decoder, Message, Op, Times,
    avro::{
        self, Cursor, MessageKey, Place, Row, Schemas, Writers,
        schema::{Id, Kind, Schema},
    },
    record::{Bad, Columns, DECODE_FAILED, record, shorten},
};
use crate::plan::Source;

// Fields of the envelope.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const SOURCE: usize = 2;
const OP: usize = 3;
const TS_MS: usize = 4;
/// Of a transaction's begin and end.
const STATUS: usize = 5;
/// Of a schema change.
const DDL: usize = 6;
/// `ts_us`, `ts_ns`: beside a heartbeat's `ts_ms`.
const FINER_TIME: usize = 7;
const OTHER: usize = 8;

// Fields of its `source`.
const COMMITTED: usize = 0;
const SNAPSHOT: usize = 1;

fn role(name: &str) -> usize {
    match name {
        "before" => BEFORE,
        "after" => AFTER,
        "source" => SOURCE,
        "op" => OP,
        "ts_ms" => TS_MS,
        "status" => STATUS,
        "ddl" | "tableChanges" => DDL,
        "ts_us" | "ts_ns" => FINER_TIME,
        _ => OTHER,
    }
}

/// The decoder of `debezium-avro`.
#[derive(Debug)]
pub struct DebeziumAvro {
    columns: Columns,
    schemas: Arc<Schemas>,
    key: MessageKey,
    writers: Writers<Option<Envelope>>,
    event: Event,
}

/// What is read of the events of one schema.
#[derive(Debug)]
struct Envelope {
    record: Id,
    fields: Vec<(Id, usize)>,
    /// Which fields it has.
    has: [bool; OTHER + 1],
    before: Option<avro::Layout>,
    after: Option<avro::Layout>,
    source: Option<(Id, Vec<(Id, Option<usize>)>)>,
}

/// The last event.
#[derive(Debug)]
struct Event {
    at: Option<usize>,
    fields: [Place; OTHER + 1],
    /// `ts_ms` and `snapshot` of `source`.
    of_source: [Place; 2],
    before: Vec<Place>,
    after: Vec<Place>,
}

impl Envelope {
    fn of(schema: &Schema, columns: &Columns) -> Option<Envelope> {
        let (record, fields) = schema.record(schema.root)?;
        let mut has = [false; OTHER + 1];
        let (mut before, mut after, mut source) = (None, None, None);
        for (name, field) in fields {
            has[role(name)] = true;
            match role(name) {
                BEFORE => before = avro::Layout::of(schema, *field, columns, |c| columns.reads_before(c)),
                AFTER => after = avro::Layout::of(schema, *field, columns, |c| columns.reads(c)),
                SOURCE => {
                    let wanted = |name: &str| ["ts_ms", "snapshot"].iter().position(|wanted| *wanted == name);
                    source = schema.record(*field).map(|(id, fields)| (id, fields.iter().map(|(name, field)| (*field, wanted(name))).collect()));
                }
                _ => {}
            }
        }
        let fields = fields.iter().map(|(name, field)| (*field, role(name))).collect();
        Some(Envelope { record, fields, has, before, after, source })
    }
}

impl Event {
    fn clear(&mut self) {
        self.at = None;
        self.fields = [Place::MISSING; OTHER + 1];
        self.of_source = [Place::MISSING; 2];
        self.before.fill(Place::MISSING);
        self.after.fill(Place::MISSING);
    }

    fn scan(&mut self, schema: &Schema, envelope: &Envelope, cursor: &mut Cursor) -> Result<(), Bad> {
        for &(field, role) in &envelope.fields {
            if role == OTHER {
                cursor.skip(schema, field)?;
                continue;
            }
            let (leaf, start) = cursor.branch(schema, field)?;
            match role {
                BEFORE if envelope.before.as_ref().is_some_and(|layout| layout.record == leaf) => {
                    envelope.before.iter().try_for_each(|layout| layout.scan(schema, cursor, &mut self.before))?;
                }
                AFTER if envelope.after.as_ref().is_some_and(|layout| layout.record == leaf) => {
                    envelope.after.iter().try_for_each(|layout| layout.scan(schema, cursor, &mut self.after))?;
                }
                SOURCE => match &envelope.source {
                    Some((record, fields)) if *record == leaf => {
                        for &(field, wanted) in fields {
                            let (leaf, start) = cursor.branch(schema, field)?;
                            cursor.skip(schema, leaf)?;
                            if let Some(wanted) = wanted {
                                self.of_source[wanted] = cursor.place(schema, leaf, start)?;
                            }
                        }
                    }
                    _ => cursor.skip(schema, leaf)?,
                },
                _ => cursor.skip(schema, leaf)?,
            }
            self.fields[role] = cursor.place(schema, leaf, start)?;
        }
        cursor.finish()?;
        Ok(())
    }
}

/// The integer at a place.
pub(super) fn number(schema: &Schema, place: Place, bytes: &[u8]) -> Option<i64> {
    if place.is_missing() || !matches!(schema.kind(place.id), Kind::Int | Kind::Long) {
        return None;
    }
    Cursor::new(bytes, place.start as usize).long().ok()
}

/// The text at a place, or of a symbol.
fn word<'a>(schema: &'a Schema, place: Place, bytes: &'a [u8]) -> &'a [u8] {
    if place.is_missing() {
        return &[];
    }
    let mut cursor = Cursor::new(bytes, place.start as usize);
    match schema.kind(place.id) {
        Kind::String => cursor.sized().unwrap_or_default(),
        Kind::Enum(symbols) => cursor.symbol(symbols.len()).map_or(&[][..], |n| symbols[n].as_bytes()),
        _ => &[],
    }
}

impl DebeziumAvro {
    pub fn new(source: &Source, wanted: &[bool], schemas: Arc<Schemas>) -> Self {
        let columns = Columns::new(source, wanted);
        let event = Event {
            at: None,
            fields: [Place::MISSING; OTHER + 1],
            of_source: [Place::MISSING; 2],
            before: avro::places(&columns),
            after: avro::places(&columns),
        };
        DebeziumAvro { key: MessageKey::new(schemas.clone(), &columns), writers: Writers::new(schemas.clone()), schemas, event, columns }
    }

    /// Scans an event; false: it is null.
    fn scan(&mut self, value: &[u8]) -> Result<bool, Bad> {
        let (id, mut cursor) = avro::framed(value)?;
        let columns = &self.columns;
        let at = self.writers.find(id, |schema| Envelope::of(schema, columns))?;
        let (schema, envelope) = self.writers.of(at);
        let (leaf, _) = cursor.branch(schema, schema.root)?;
        match envelope {
            Some(envelope) if envelope.record == leaf => self.event.scan(schema, envelope, &mut cursor)?,
            _ if avro::is_null(schema, leaf) => return cursor.finish().map(|()| false).map_err(Bad::from),
            _ => return Err(Bad::not_decoded(format!("schema {id} is not of a change event (a record)"))),
        }
        self.event.at = Some(at);
        Ok(true)
    }

    /// When the source committed the change, or else when the connector saw it.
    fn time(&self, message: &Message) -> i64 {
        let (handled, committed) = self.times(message);
        committed.or(handled).or(message.timestamp).unwrap_or(i64::MIN)
    }

    /// When the connector saw the event, and when the source had committed it.
    fn times(&self, message: &Message) -> (Option<i64>, Option<i64>) {
        let Some(at) = self.event.at else { return (None, None) };
        let (schema, bytes) = (self.writers.of(at).0, message.value.unwrap_or_default());
        (number(schema, self.event.fields[TS_MS], bytes), number(schema, self.event.of_source[COMMITTED], bytes))
    }

    fn row<'a>(&'a self, places: &'a [Place], value: &'a [u8]) -> Row<'a> {
        Row { schema: self.event.at.map(|at| self.writers.of(at).0), places, bytes: value, spellings: &self.columns.spellings }
    }

    /// The record of an event that has been scanned.
    fn event(&mut self, message: &Message, value: &[u8], batch: &mut Batch) -> Result<(), Bad> {
        let (handled, committed) = self.times(message);
        let time = committed.or(handled).or(message.timestamp).unwrap_or(i64::MIN);
        let Some(at) = self.event.at else { return Err(Bad::not_decoded("not a change event of Debezium")) };
        let (schema, Some(envelope)) = self.writers.of(at) else { return Err(Bad::not_decoded("not a change event of Debezium")) };
        let fields = &self.event.fields;
        // Rows of snapshots say nothing of how far the database's log has been read.
        if word(schema, fields[OP], value) != b"r" && matches!(word(schema, self.event.of_source[SNAPSHOT], value), b"false" | b"") {
            batch.note(handled, committed);
        }
        let has = |field: usize| fields[field].is_value(schema);
        let (before, after) = (self.row(&self.event.before, value), self.row(&self.event.after, value));
        match word(schema, fields[OP], value) {
            op @ (b"u" | b"c" | b"r" | b"d") if self.columns.counted() => {
                let name = String::from_utf8_lossy(op);
                let (old, new) = (matches!(op, b"u" | b"d"), op != b"d");
                if old && (!has(BEFORE) || envelope.before.is_none()) {
                    return Err(Columns::no_before(&name));
                }
                if new && (!has(AFTER) || envelope.after.is_none()) {
                    return Err(Bad::not_decoded(format!("operation `{name}` has no `after`")));
                }
                self.columns.exchange(old.then_some(before), new.then_some(after), record(Op::Skip, time, message), batch)
            }
            op @ (b"u" | b"c" | b"r") => {
                if !has(AFTER) || envelope.after.is_none() {
                    return Err(Bad::not_decoded(format!("operation `{}` has no `after`", String::from_utf8_lossy(op))));
                }
                let same = |c: &usize| {
                    let (old, new) = (before.places[*c], after.places[*c]);
                    old.id == new.id && old.of(value) == new.of(value)
                };
                if has(BEFORE) && !self.columns.key.iter().all(same) {
                    self.moved(before, after, message, time, batch);
                }
                self.columns.upsert(after, record(Op::Upsert, time, message), batch)
            }
            b"d" => {
                let delete = record(Op::Delete, time, message);
                let told = has(BEFORE);
                let first = if told {
                    self.columns.keyed(before, delete, batch)
                } else {
                    Err(Bad::not_decoded("operation `d` has no `before`, and there is no message key"))
                };
                let Err(bad) = first else { return Ok(()) };
                if message.key.is_none() || self.key.scan(&self.columns, message.key).is_err() {
                    return Err(bad);
                }
                let key = self.key.row(message.key, &self.columns.spellings);
                self.columns.keyed(key, delete, batch).map_err(|of_key| if told { bad } else { of_key })
            }
            b"t" => {
                self.columns.bare(record(Op::Truncate, time, message), batch);
                Ok(())
            }
            b"m" => {
                self.columns.bare(record(Op::Skip, time, message), batch);
                Ok(())
            }
            op if envelope.has[OP] => Err(Bad::not_decoded(format!("`op` is `{}`; known are r, c, u, d, t, m", shorten(&String::from_utf8_lossy(op))))),
            _ => {
                let known = &envelope.has;
                let heartbeat = known[TS_MS] && !known[OTHER] && !known[SOURCE];
                let transaction = matches!(word(schema, fields[STATUS], value), b"BEGIN" | b"END");
                if !(known[BEFORE] || known[AFTER]) && (heartbeat || transaction || known[DDL]) {
                    let beat = handled.filter(|_| heartbeat);
                    batch.beat = batch.beat.max(beat);
                    self.columns.bare(record(Op::Skip, if beat.is_some() { i64::MIN } else { time }, message), batch);
                    return Ok(());
                }
                Err(Bad::not_decoded("not a change event of Debezium: it has no `op`"))
            }
        }
    }

    /// Deletes the old key of a row that has moved to another key, if both can be read.
    #[cold]
    fn moved(&self, before: Row, after: Row, message: &Message, time: i64, batch: &mut Batch) {
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
        if !self.columns.counted() {
            match self.key.scan(&self.columns, message.key) {
                Ok(()) => {}
                // It is not Avro, so it names no row: as in JSON. A key whose schema can't be had may name one.
                Err(bad) if bad.code == DECODE_FAILED => {}
                Err(bad) => return Err(bad),
            }
            let key = self.key.row(message.key, &self.columns.spellings);
            let has = |c: &usize| key.schema.is_some_and(|schema| key.places[*c].is_value(schema));
            if self.columns.key.iter().all(has) {
                return self.columns.keyed(key, record(Op::Delete, time, message), batch);
            }
        }
        self.columns.bare(record(Op::Skip, time, message), batch);
        Ok(())
    }

    /// A reject with whatever of its key can be read.
    #[cold]
    fn reject(&mut self, bad: Bad, message: &Message, batch: &mut Batch) {
        let time = self.time(message);
        let _ = self.key.scan(&self.columns, message.key);
        let value = message.value.unwrap_or_default();
        let images = [self.row(&self.event.after, value), self.row(&self.event.before, value), self.key.row(message.key, &self.columns.spellings)];
        self.columns.reject(bad, &images, record(Op::Reject, time, message), batch);
    }
}

impl Decoder for DebeziumAvro {
    fn decode(&mut self, message: Message, batch: &mut Batch) {
        batch.messages += 1;
        self.event.clear();
        let done = match message.value {
            None => self.tombstone(&message, batch),
            Some(value) => match self.scan(value) {
                Ok(true) => self.event(&message, value, batch),
                Ok(false) => self.tombstone(&message, batch),
                Err(bad) => {
                    self.event.clear();
                    Err(bad)
                }
            },
        };
        if let Err(bad) = done {
            self.reject(bad, &message, batch);
        }
    }

    fn source_time(&self, message: Message) -> Option<i64> {
        let Times { committed, handled } = times_of(&self.schemas, message.value?).unwrap_or_default();
        committed.or(handled).or(message.timestamp)
    }

    fn times(&self, message: Message) -> Times {
        message.value.and_then(|value| times_of(&self.schemas, value)).unwrap_or_default()
    }
}

/// `ts_ms` of the event's source, and of the event (or heartbeat); nothing, where it can't be read.
fn times_of(schemas: &Schemas, value: &[u8]) -> Option<Times> {
    let (id, mut cursor) = avro::framed(value).ok()?;
    let schema = avro::lookup(schemas, id).ok()?;
    let (root, _) = cursor.branch(&schema, schema.root).ok()?;
    let Kind::Record(fields) = schema.kind(root) else { return None };
    let mut times = Times::default();
    for (name, field) in fields {
        let (leaf, start) = cursor.branch(&schema, *field).ok()?;
        match schema.kind(leaf) {
            Kind::Record(inner) if name == "source" => {
                for (name, field) in inner {
                    let (leaf, start) = cursor.branch(&schema, *field).ok()?;
                    cursor.skip(&schema, leaf).ok()?;
                    if name == "ts_ms" {
                        times.committed = number(&schema, cursor.place(&schema, leaf, start).ok()?, value);
                    }
                }
            }
            _ => {
                cursor.skip(&schema, leaf).ok()?;
                if name == "ts_ms" {
                    times.handled = number(&schema, cursor.place(&schema, leaf, start).ok()?, value);
                }
            }
        }
    }
    Some(times)
}

#[cfg(test)]
mod samples;
