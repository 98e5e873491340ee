//! Where a change stands in its database's own log, as its connector says: what tells a range that is sent again from what
//! is new.
//!
//! | connector | position | goes forward because |
//! | --- | --- | --- |
//! | `postgresql` | `source.sequence`: where the transaction before committed, and the place in the log | transactions are sent in the order of their commits, and each in the order of the log; places alone go backwards where transactions overlap |
//! | `mysql`, `mariadb` | `source.file`, `pos` and `row` | the binlog is read in order |
//!
//! Rows of snapshots have the position at which the snapshot was taken, and come in no order: they have none here, nor have
//! tombstones, heartbeats, logical messages, and what other connectors send. Several changes may stand at one position (the
//! two of a changed key, the rows of a COPY).

use std::{cmp::Ordering, sync::Arc};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::{
    avro::{self, Cursor, Place, Schemas, schema},
    debezium_avro,
    scan::{Kind, Scan, Shape, Token},
};
use crate::plan::{Format, Source};

/// A position in a database's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Where the transaction before committed (0: the connector has seen none yet), or the number of the binlog's file.
    pub order: u64,
    /// The place in the log, or in the file.
    pub at: u64,
    /// The row of a binlog's event.
    #[serde(default)]
    pub row: u64,
    /// The place in its transaction, if the connector tells it: no two changes have the same.
    #[serde(default)]
    pub place: u64,
    /// The transaction, where its number joins what a restarted connector says of it; 0: none.
    #[serde(default)]
    pub transaction: u64,
}

impl Position {
    /// How it stands to another one of the same log; and itself, with an order where it has none.
    pub fn against(self, newest: Position) -> (Ordering, Position) {
        // After a restart a connector may not know the commit before, or know an earlier one, until one has come.
        if self.transaction != 0 && self.transaction == newest.transaction {
            return ((self.at, self.place).cmp(&(newest.at, newest.place)), Position { order: newest.order, ..self });
        }
        if self.order == 0 && newest.order > 0 {
            let later = self.at > newest.at.max(newest.order);
            return if later { (Ordering::Greater, Position { order: newest.order, ..self }) } else { (Ordering::Less, self) };
        }
        let order = |of: Position| (of.order, of.at, of.row, of.place);
        (order(self).cmp(&order(newest)), self)
    }
}

/// What a change says of where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands<'a> {
    /// The connector's name for the database: positions of several are not compared.
    pub origin: &'a [u8],
    pub position: Position,
    /// When it was committed, in milliseconds since the epoch: the same each time that it is sent.
    pub time: Option<i64>,
}

/// Reads positions of one source's messages.
#[derive(Debug)]
pub enum Positions {
    Json(Box<Json>),
    Avro(Arc<Schemas>),
}

impl Positions {
    /// `None`: its messages have no positions, or are of a table without a key, where a copy counts whenever it is shown.
    pub fn of(source: &Source) -> Option<Positions> {
        match source.format {
            _ if source.key.is_empty() => None,
            Format::DebeziumJson => Some(Positions::Json(Box::default())),
            Format::DebeziumAvro => Some(Positions::Avro(source.schemas.clone().unwrap_or_default())),
            Format::Json | Format::UpsertJson | Format::UpsertAvro => None,
        }
    }

    /// Where the change of a message stands; nothing else of the message is read.
    pub fn read<'a>(&mut self, value: &'a [u8]) -> Option<Stands<'a>> {
        match self {
            Positions::Json(json) => json.read(value),
            Positions::Avro(schemas) => of_avro(schemas, value),
        }
    }
}

/// What `source` says, as far as it is wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Said<'a> {
    connector: &'a [u8],
    name: &'a [u8],
    snapshot: &'a [u8],
    table: &'a [u8],
    sequence: &'a [u8],
    file: &'a [u8],
    time: Option<i64>,
    transaction: Option<u64>,
    at: Option<u64>,
    row: Option<u64>,
    place: Option<u64>,
}

impl<'a> Said<'a> {
    fn stands(self) -> Option<Stands<'a>> {
        if !matches!(self.snapshot, b"false" | b"" | b"null") || self.table.is_empty() {
            return None;
        }
        let place = self.place.unwrap_or(0);
        let position = match self.connector {
            b"postgresql" => {
                let comma = memchr::memchr(b',', self.sequence)?;
                let (before, at) = self.sequence.split_at(comma);
                Position { order: digits(before).unwrap_or(0), at: digits(at)?, row: 0, place, transaction: self.transaction.unwrap_or(0) }
            }
            b"mysql" | b"mariadb" => {
                let number = self.file.rsplit(|b| *b == b'.').next().and_then(digits)?;
                Position { order: number, at: self.at?, row: self.row.unwrap_or(0), place, transaction: 0 }
            }
            _ => return None,
        };
        Some(Stands { origin: self.name, position, time: self.time })
    }
}

/// The number that the digits of a text make, whatever stands around them.
fn digits(text: &[u8]) -> Option<u64> {
    let mut digits = text.iter().filter(|b| b.is_ascii_digit()).peekable();
    digits.peek()?;
    digits.try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

const FIELDS: [(&str, usize); 10] =
    [("connector", 0), ("name", 1), ("snapshot", 2), ("table", 3), ("sequence", 4), ("file", 5), ("ts_ms", 6), ("txId", 7), ("pos", 8), ("row", 9)];

/// Finds `source` and `transaction` in JSON without scanning what stands before them.
#[derive(Debug)]
pub struct Json {
    source: Field,
    transaction: Field,
}

/// A field with an object. Quotes within text are escaped, so it is one wherever it is found.
#[derive(Debug)]
struct Field {
    finder: Finder<'static>,
    shape: Shape,
}

impl Default for Json {
    fn default() -> Json {
        Json {
            source: Field { finder: Finder::new(b"\"source\""), shape: Shape::new(FIELDS, FIELDS.len()) },
            transaction: Field { finder: Finder::new(b"\"transaction\""), shape: Shape::new([("id", 0), ("total_order", 1)], 2) },
        }
    }
}

impl Field {
    /// The fields of the first object whose first wanted field is a text, and that object: a row may have a column of that name.
    fn find<'a>(&mut self, value: &'a [u8], tokens: &mut [Token]) -> Option<&'a [u8]> {
        let mut from = 0;
        while let Some(found) = value.get(from..).and_then(|rest| self.finder.find(rest)) {
            let (quote, after) = (from + found, from + found + self.finder.needle().len());
            from = after;
            let rest = value[after..].trim_ascii_start();
            let Some(object) = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) else { continue };
            if object.first() != Some(&b'{') || quote.checked_sub(1).is_some_and(|before| value[before] == b'\\') || u32::try_from(object.len()).is_err() {
                continue;
            }
            if Scan::new(object).object(&mut self.shape, tokens).is_ok() && tokens[0].kind == Kind::Text {
                return Some(object);
            }
        }
        None
    }
}

impl Json {
    fn read<'a>(&mut self, value: &'a [u8]) -> Option<Stands<'a>> {
        let mut tokens = [Token::MISSING; FIELDS.len()];
        let object = self.source.find(value, &mut tokens)?;
        let text = |field: usize| if tokens[field].is_value() { tokens[field].of(object) } else { &[] };
        let number = |field: usize| if tokens[field].kind == Kind::Integer { digits(text(field)) } else { None };
        let mut said = Said {
            connector: text(0),
            name: text(1),
            snapshot: text(2),
            table: text(3),
            sequence: text(4),
            file: text(5),
            time: number(6).and_then(|time| i64::try_from(time).ok()),
            transaction: number(7),
            at: number(8),
            row: number(9),
            place: None,
        };
        let mut tokens = [Token::MISSING; 2];
        // It follows `source`, unless somebody has changed the order.
        if let Some(object) = self.transaction.find(object, &mut tokens).or_else(|| self.transaction.find(value, &mut tokens)) {
            said.place = digits(tokens[1].of(object));
        }
        said.stands()
    }
}

fn of_avro<'a>(schemas: &Schemas, value: &'a [u8]) -> Option<Stands<'a>> {
    let (id, mut cursor) = avro::framed(value).ok()?;
    let schema = avro::lookup(schemas, id).ok()?;
    let (root, _) = cursor.branch(&schema, schema.root).ok()?;
    let (_, fields) = schema.record(root)?;
    let mut said = Said::default();
    for (name, field) in fields {
        let (leaf, _) = cursor.branch(&schema, *field).ok()?;
        let Some((_, inner)) = schema.record(leaf).filter(|_| name == "source" || name == "transaction") else {
            cursor.skip(&schema, leaf).ok()?;
            continue;
        };
        for (name, field) in inner {
            let (leaf, start) = cursor.branch(&schema, *field).ok()?;
            cursor.skip(&schema, leaf).ok()?;
            let place = cursor.place(&schema, leaf, start).ok()?;
            let text = || word(&schema, place, value);
            let number = || debezium_avro::number(&schema, place, value);
            let natural = || number().and_then(|n| u64::try_from(n).ok());
            match name.as_str() {
                "total_order" => said.place = natural(),
                "connector" => said.connector = text(),
                "name" => said.name = text(),
                "snapshot" => said.snapshot = text(),
                "table" => said.table = text(),
                "sequence" => said.sequence = text(),
                "file" => said.file = text(),
                "ts_ms" => said.time = number(),
                "txId" => said.transaction = natural(),
                "pos" => said.at = natural(),
                "row" => said.row = natural(),
                _ => {}
            }
        }
    }
    said.stands()
}

/// The text at a place; nothing where there is none.
fn word<'a>(schema: &schema::Schema, place: Place, value: &'a [u8]) -> &'a [u8] {
    if place.is_missing() || !matches!(schema.kind(place.id), schema::Kind::String) {
        return &[];
    }
    Cursor::new(value, place.start as usize).sized().unwrap_or_default()
}

#[cfg(test)]
mod tests;
