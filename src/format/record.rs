//! What the formats share: the columns of a source, images of its rows as tokens, and records made of them.

use std::sync::Arc;

use super::{
    Batch, DecodeReject, Lack, Message, Op, Record, Span,
    convert::{Spelling, convert},
    scan::{Kind, Shape, Token},
    text::Fault,
};
use crate::{
    plan::{Required, Source},
    row::{self, Column, Field, Type},
};

/// Not JSON, or not what the format has.
pub const DECODE_FAILED: &str = "DECODE_FAILED";
/// A value of another type than the declared one.
pub const TYPE_MISMATCH: &str = "TYPE_MISMATCH";
/// A value of the right kind that the declared type cannot hold.
pub const VALUE_OUT_OF_RANGE: &str = "VALUE_OUT_OF_RANGE";
/// A key column lacks or is null.
pub const KEY_MISSING: &str = "KEY_MISSING";
/// What a row was before is not all there, in a table without a key.
pub const BEFORE_INCOMPLETE: &str = "BEFORE_INCOMPLETE";
/// A row lacks a declared column that the rows before had.
pub const COLUMN_GONE: &str = "COLUMN_GONE";
/// A column was not sent.
pub const VALUE_UNKNOWN: &str = "VALUE_UNKNOWN";

/// What makes a connector send whole rows.
const FULL: &str = "set REPLICA IDENTITY FULL in PostgreSQL, binlog_row_image=FULL in MariaDB and MySQL";

/// A row of a message, of which values are read one by one.
pub trait Cells: Copy {
    /// Packs the value of a column at the end of `out`.
    ///
    /// # Errors
    /// It is none of the declared type; `out` may then have bytes too many.
    fn pack(&self, column: usize, ty: Type, out: &mut Vec<u8>) -> Result<Span, Fault>;

    /// The message has the column, be it null.
    fn has(&self, column: usize) -> bool;

    /// The value of a column for people.
    fn shown(&self, column: usize) -> String;
}

/// A row of a message as tokens, by column; all others are in one place more, which nobody reads.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub tokens: &'a [Token],
    /// What they were scanned from.
    pub bytes: &'a [u8],
    /// By column, as the schema of the message has it.
    pub spellings: &'a [Spelling],
}

impl Cells for Image<'_> {
    #[inline(always)]
    fn pack(&self, column: usize, ty: Type, out: &mut Vec<u8>) -> Result<Span, Fault> {
        convert(ty, self.spellings[column], self.tokens[column], self.bytes, out)
    }

    #[inline(always)]
    fn has(&self, column: usize) -> bool {
        self.tokens[column].kind != Kind::Missing
    }

    fn shown(&self, column: usize) -> String {
        let token = self.tokens[column];
        let text = String::from_utf8_lossy(token.of(self.bytes));
        let quote = if matches!(token.kind, Kind::Text | Kind::Escaped) { "\"" } else { "" };
        format!("{quote}{}{quote}", shorten(&text))
    }
}

/// A failure of one record.
#[derive(Debug)]
pub struct Bad {
    pub code: &'static str,
    pub cause: String,
}

impl Bad {
    pub fn not_decoded(cause: impl Into<String>) -> Bad {
        Bad { code: DECODE_FAILED, cause: cause.into() }
    }
}

/// The columns of a source that are read.
#[derive(Debug)]
pub struct Columns {
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
    /// Places of the columns that are read, ascending, with their types.
    wanted: Vec<(usize, Type)>,
    /// Where messages have no schema.
    pub spellings: Vec<Spelling>,
    /// What no row may lack.
    required: Arc<Required>,
}

impl Columns {
    pub fn new(source: &Source, wanted: &[bool]) -> Self {
        let read = |c: usize| source.key.contains(&c) || wanted.get(c).copied().unwrap_or(false);
        Columns {
            columns: source.columns.clone(),
            key: source.key.clone(),
            wanted: (0..source.columns.len()).filter(|c| read(*c)).map(|c| (c, source.columns[c].ty)).collect(),
            required: Arc::clone(&source.required),
            spellings: source.columns.iter().map(|c| Spelling::of(c.ty, source.wire)).collect(),
        }
    }

    /// The shape of an object that has the read columns as fields.
    pub fn shape(&self) -> Shape {
        Shape::new(self.wanted.iter().map(|(c, _)| (self.columns[*c].name.as_str(), *c)), self.columns.len())
    }

    /// Is the column read?
    pub fn reads(&self, column: usize) -> bool {
        self.wanted.iter().any(|(c, _)| *c == column)
    }

    /// Rows are counted, since no column names one.
    pub fn counted(&self) -> bool {
        self.key.is_empty()
    }

    /// Is the column read of what a row was before? Only its key is, where it has one.
    pub fn reads_before(&self, column: usize) -> bool {
        if self.counted() { self.reads(column) } else { self.key.contains(&column) }
    }

    /// The shape of what a row was before.
    pub fn before_shape(&self) -> Shape {
        if self.counted() { self.shape() } else { self.key_shape() }
    }

    /// The shape of an object of which only key columns are read.
    pub fn key_shape(&self) -> Shape {
        Shape::new(self.key.iter().map(|c| (self.columns[*c].name.as_str(), *c)), self.columns.len())
    }

    /// Place for the tokens of a row.
    pub fn tokens(&self) -> Vec<Token> {
        vec![Token::MISSING; self.columns.len() + 1]
    }

    /// Appends the row of `image` as an upsert. On a failure nothing is appended.
    ///
    /// # Errors
    /// A value does not fit its column, or a key column lacks.
    #[inline]
    pub fn upsert<I: Cells>(&self, image: I, record: Record, batch: &mut Batch) -> Result<(), Bad> {
        self.upsert_keyed(None, image, record, batch)
    }

    /// As [`Columns::upsert`]; key columns that `key` has are taken from it.
    ///
    /// # Errors
    /// A value does not fit its column, a key column lacks, or key and row contradict each other.
    #[inline]
    pub fn upsert_keyed<I: Cells>(&self, key: Option<I>, image: I, record: Record, batch: &mut Batch) -> Result<(), Bad> {
        let (spans, bytes) = (batch.spans.len(), batch.bytes.len());
        batch.spans.resize(spans + self.columns.len(), Span::MISSING);
        let mut lacks = false;
        for &(c, ty) in &self.wanted {
            let image = match key {
                Some(key) if key.has(c) => key,
                _ => image,
            };
            match image.pack(c, ty, &mut batch.bytes) {
                Ok(span) => {
                    lacks |= span == Span::MISSING;
                    batch.spans[spans + c] = span;
                }
                Err(fault) => {
                    let bad = self.misfit(c, fault, image);
                    batch.spans.truncate(spans);
                    batch.bytes.truncate(bytes);
                    return Err(bad);
                }
            }
        }
        if lacks && let Some(bad) = self.gone(&batch.spans[spans..]) {
            batch.spans.truncate(spans);
            batch.bytes.truncate(bytes);
            return Err(bad);
        }
        for &c in &self.key {
            if let Some(lack) = batch.spans[spans + c].lack() {
                let bad = self.keyless(c, lack);
                batch.spans.truncate(spans);
                batch.bytes.truncate(bytes);
                return Err(bad);
            }
            if let Some(key) = key
                && key.has(c)
                && image.has(c)
                && self.contradicts(c, image, batch.spans[spans + c], &mut batch.bytes)
            {
                let (name, key, row) = (&self.columns[c].name, key.shown(c), image.shown(c));
                batch.spans.truncate(spans);
                batch.bytes.truncate(bytes);
                return Err(Bad::not_decoded(format!("key column `{name}` is {key} in the key and {row} in the value")));
            }
        }
        batch.records.push(record);
        Ok(())
    }

    /// Does the row have a key column with another value than the key has, which stands in `span`? Then nobody knows whose row
    /// it is. `out` is as it was afterwards.
    #[inline]
    fn contradicts<I: Cells>(&self, c: usize, row: I, span: Span, out: &mut Vec<u8>) -> bool {
        let bytes = out.len();
        let agree = match row.pack(c, self.columns[c].ty, out) {
            Ok(other) => other.field(out) == span.field(out),
            Err(_) => false,
        };
        out.truncate(bytes);
        !agree
    }

    /// Appends a record that has only the key columns of `image`. On a failure nothing is appended.
    ///
    /// # Errors
    /// A key column lacks, or does not fit.
    pub fn keyed<I: Cells>(&self, image: I, record: Record, batch: &mut Batch) -> Result<(), Bad> {
        let (spans, bytes) = (batch.spans.len(), batch.bytes.len());
        batch.spans.resize(spans + self.columns.len(), Span::MISSING);
        for &c in &self.key {
            let bad = match image.pack(c, self.columns[c].ty, &mut batch.bytes) {
                Ok(span) => match span.lack() {
                    None => {
                        batch.spans[spans + c] = span;
                        continue;
                    }
                    Some(lack) => self.keyless(c, lack),
                },
                Err(fault) => self.misfit(c, fault, image),
            };
            batch.spans.truncate(spans);
            batch.bytes.truncate(bytes);
            return Err(bad);
        }
        batch.records.push(record);
        Ok(())
    }

    /// Appends the change of a table without a key: one row less that is as `before`, one more that is as `after`. On a
    /// failure nothing is appended.
    ///
    /// # Errors
    /// A value does not fit its column, was not sent, or lacks in `before`.
    pub fn exchange<I: Cells>(&self, before: Option<I>, after: Option<I>, record: Record, batch: &mut Batch) -> Result<(), Bad> {
        let (records, spans, bytes) = (batch.records.len(), batch.spans.len(), batch.bytes.len());
        let mut done = Ok(());
        for (op, image) in [(Op::Delete, before), (Op::Upsert, after)] {
            let Some(image) = image.filter(|_| done.is_ok()) else { continue };
            let row = batch.spans.len();
            done = self.upsert(image, Record { op, ..record }, batch).and_then(|()| self.whole(op, &batch.spans[row..]));
        }
        if done.is_err() {
            batch.records.truncate(records);
            batch.spans.truncate(spans);
            batch.bytes.truncate(bytes);
        }
        done
    }

    /// Is a row to be counted all there? (A column that lacks in a new row is NULL, as in every other table.)
    fn whole(&self, op: Op, row: &[Span]) -> Result<(), Bad> {
        let lacks = |lack: Lack| self.wanted.iter().find(|(c, _)| row[*c].lack() == Some(lack)).map(|(c, _)| &self.columns[*c].name);
        let image = if op == Op::Delete { "before" } else { "after" };
        if let Some(name) = lacks(Lack::Unknown) {
            let cause = format!("the connector did not send column `{name}` of `{image}`, and a table without a key needs whole rows: {FULL}");
            return Err(Bad { code: VALUE_UNKNOWN, cause });
        }
        match lacks(Lack::Missing).filter(|_| op == Op::Delete) {
            Some(name) => Err(Bad {
                code: BEFORE_INCOMPLETE,
                cause: format!("`before` has no column `{name}`; {FULL}, and declare only columns that change events have"),
            }),
            None => Ok(()),
        }
    }

    /// An update or delete without `before`, in a table without a key.
    #[cold]
    pub fn no_before(op: &str) -> Bad {
        Bad { code: BEFORE_INCOMPLETE, cause: format!("operation `{op}` has no `before`, and a table without a key needs it: {FULL}") }
    }

    /// Appends a record without any column.
    pub fn bare(&self, record: Record, batch: &mut Batch) {
        batch.spans.resize(batch.spans.len() + self.columns.len(), Span::MISSING);
        batch.records.push(record);
    }

    /// Appends a reject, with each key column from the first of `images` that has it in readable form.
    pub fn reject<I: Cells>(&self, bad: Bad, images: &[I], record: Record, batch: &mut Batch) {
        self.refuse(bad, images, false, record, batch);
    }

    /// As [`Columns::reject`]; a key column that `key` has is never taken from the row, which may name another.
    pub fn reject_keyed<I: Cells>(&self, bad: Bad, key: I, row: I, record: Record, batch: &mut Batch) {
        self.refuse(bad, &[key, row], true, record, batch);
    }

    /// `first`: the first image that has a column decides, readable or not.
    fn refuse<I: Cells>(&self, bad: Bad, images: &[I], first: bool, record: Record, batch: &mut Batch) {
        let spans = batch.spans.len();
        self.bare(Record { op: Op::Reject, ..record }, batch);
        for &c in &self.key {
            for image in images {
                let bytes = batch.bytes.len();
                match image.pack(c, self.columns[c].ty, &mut batch.bytes) {
                    Ok(span) if span.lack().is_none() => {
                        batch.spans[spans + c] = span;
                        break;
                    }
                    _ => batch.bytes.truncate(bytes),
                }
                if first && image.has(c) {
                    break;
                }
            }
        }
        let key = self.key_text(&batch.spans[spans..], &batch.bytes);
        batch.rejects.push(DecodeReject { record: batch.records.len() - 1, code: bad.code, cause: bad.cause, key });
    }

    /// The key for people: the value of its one column, or a JSON array of its several; `None` if none of it is known.
    fn key_text(&self, spans: &[Span], bytes: &[u8]) -> Option<String> {
        let values: Vec<_> = self.key.iter().map(|c| (self.columns[*c].ty, spans[*c].field(bytes))).collect();
        if values.iter().all(|(_, field)| !matches!(field, Field::Packed(_))) {
            return None;
        }
        Some(match values.as_slice() {
            [(ty, field)] => row::text_of(*ty, &field.value(*ty)),
            values => serde_json::Value::Array(values.iter().map(|(ty, field)| row::json_of(*ty, &field.value(*ty))).collect()).to_string(),
        })
    }

    #[cold]
    fn misfit<I: Cells>(&self, c: usize, fault: Fault, image: I) -> Bad {
        let Column { name, ty } = &self.columns[c];
        let value = image.shown(c);
        match fault {
            Fault::Mismatch => Bad { code: TYPE_MISMATCH, cause: format!("column `{name}` is declared {ty}; {value} is not one") },
            Fault::Range => Bad { code: VALUE_OUT_OF_RANGE, cause: format!("column `{name}` is declared {ty}, which cannot hold {value} exactly") },
        }
    }

    /// Does a row lack a column that the rows before had, and that must not go?
    #[cold]
    fn gone(&self, row: &[Span]) -> Option<Bad> {
        let required = self.required.get()?;
        let (c, _) = self.wanted.iter().find(|(c, _)| required[*c] && row[*c] == Span::MISSING)?;
        let Column { name, ty } = &self.columns[*c];
        Some(Bad { code: COLUMN_GONE, cause: format!("the row has no column `{name}` (declared {ty}), which other rows have") })
    }

    #[cold]
    fn keyless(&self, c: usize, lack: Lack) -> Bad {
        let what = match lack {
            Lack::Missing => "the message has no such field",
            Lack::Null => "it is null",
            Lack::Unknown => "the connector did not send its value",
        };
        Bad { code: KEY_MISSING, cause: format!("key column `{}`: {what}", self.columns[c].name) }
    }
}

/// The first 57 characters and three points, of a text of more than 60.
pub fn shorten(text: &str) -> String {
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text.to_string() }
}

/// A record of a message.
#[inline]
pub fn record(op: Op, source_time: i64, message: &Message) -> Record {
    Record { op, source_time, offset: message.offset }
}
