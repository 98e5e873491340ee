//! `upsert-json`: the message key is a JSON object of the key columns, the value one of the row; a null value deletes.
//!
//! In a file a line is `{"key": {…}, "value": {…} | null}`, with an optional `"ts_ms"` beside them. Key columns may also
//! stand in the value, with the same values: what the key says goes first, and a value that says otherwise is a reject. Bytes are in hexadecimal digits, as tieout writes them, or as `wire` says.

use super::{
    Batch, Decoder, Message, Op,
    record::{Bad, Columns, Image, record},
    scan::{Kind, Scan, Shape, Stop, Token},
    text,
};
use crate::plan::{LogSpec, Source};

// Fields of a line in a file.
const KEY: usize = 0;
const VALUE: usize = 1;
const TS_MS: usize = 2;
const OTHER: usize = 3;

/// The decoder of `upsert-json`.
#[derive(Debug)]
pub struct UpsertJson {
    columns: Columns,
    /// Are key and value together in the message's value?
    lines: bool,
    shape: Shape,
    key_shape: Shape,
    value_shape: Shape,
    key: Vec<Token>,
    value: Vec<Token>,
}

impl UpsertJson {
    pub fn new(source: &Source, wanted: &[bool]) -> Self {
        let columns = Columns::new(source, wanted);
        UpsertJson {
            lines: !matches!(source.log, LogSpec::Topic { .. }),
            shape: Shape::new([("key", KEY), ("value", VALUE), ("ts_ms", TS_MS)], OTHER),
            key_shape: columns.key_shape(),
            value_shape: columns.shape(),
            key: columns.tokens(),
            value: columns.tokens(),
            columns,
        }
    }

    /// Scans a message: its source time, and whether it has a row.
    fn scan(&mut self, message: &Message) -> Result<(Option<i64>, bool), Bad> {
        self.key.fill(Token::MISSING);
        self.value.fill(Token::MISSING);
        if !self.lines {
            if let Some(key) = message.key {
                scan_one(key, &mut self.key_shape, &mut self.key).map_err(|bad| Bad { cause: format!("message key: {}", bad.cause), ..bad })?;
            }
            let row = match message.value {
                None => false,
                Some(value) => scan_one(value, &mut self.value_shape, &mut self.value)?,
            };
            return Ok((None, row));
        }
        let line = message.value.unwrap_or_default();
        let mut scan = Scan::new(line);
        let mut fields = [Token::MISSING; OTHER + 1];
        let mut read = || -> Result<(), Stop> {
            if scan.peek() != b'{' {
                return Err(scan.expected(0, "an object with `key` and `value`"));
            }
            let mut place = 0;
            let mut more = scan.enter()?;
            while more {
                let target = self.shape.field(&mut scan, &mut place)?;
                let object = scan.peek() == b'{';
                fields[target] = match target {
                    KEY if object => scan.object(&mut self.key_shape, &mut self.key)?,
                    VALUE if object => scan.object(&mut self.value_shape, &mut self.value)?,
                    _ => scan.value()?,
                };
                more = scan.more()?;
            }
            scan.finish()
        };
        if read().is_err() {
            // What was read of the key still tells whose reject it is.
            if std::str::from_utf8(line).is_err() {
                self.key.fill(Token::MISSING);
                self.value.fill(Token::MISSING);
            }
            return Err(Bad::not_decoded(scan.fault()));
        }
        if fields[KEY].kind != Kind::Object {
            self.key.fill(Token::MISSING);
        }
        if fields[KEY].is_value() && fields[KEY].kind != Kind::Object {
            return Err(Bad::not_decoded("`key` is not an object"));
        }
        match fields[VALUE].kind {
            Kind::Object | Kind::Null => {}
            Kind::Missing => return Err(Bad::not_decoded("the line has no `value`")),
            _ => return Err(Bad::not_decoded("`value` is neither an object nor null")),
        }
        let time = if fields[TS_MS].kind == Kind::Integer { text::integer(fields[TS_MS].of(line)).ok() } else { None };
        Ok((time, fields[VALUE].kind == Kind::Object))
    }
}

impl Decoder for UpsertJson {
    fn decode(&mut self, message: Message, batch: &mut Batch) {
        batch.messages += 1;
        let scanned = self.scan(&message);
        let time = scanned.as_ref().ok().and_then(|(time, _)| *time).or(message.timestamp).unwrap_or(i64::MIN);
        let value_bytes = message.value.unwrap_or_default();
        let key_bytes = if self.lines { value_bytes } else { message.key.unwrap_or_default() };
        let key = Image { tokens: &self.key, bytes: key_bytes, spellings: &self.columns.spellings };
        let value = Image { tokens: &self.value, bytes: value_bytes, spellings: &self.columns.spellings };
        let done = match scanned {
            Err(bad) => Err(bad),
            Ok((_, true)) => self.columns.upsert_keyed(Some(key), value, record(Op::Upsert, time, &message), batch),
            Ok((_, false)) => self.columns.keyed(key, record(Op::Delete, time, &message), batch),
        };
        if let Err(bad) = done {
            self.columns.reject_keyed(bad, key, value, record(Op::Reject, time, &message), batch);
        }
    }

    fn source_time(&self, message: Message) -> Option<i64> {
        if !self.lines {
            return message.timestamp;
        }
        let line = message.value?;
        let mut time = None;
        let walked = Scan::new(line).walk(|scan, name| {
            let token = scan.value()?;
            if name == b"ts_ms" && token.kind == Kind::Integer {
                time = text::integer(token.of(line)).ok();
            }
            Ok(())
        });
        walked.ok().and(time).or(message.timestamp)
    }
}

/// Reads an object that is the whole of `bytes` into `tokens`; false for `null`.
///
/// # Errors
/// It is neither.
pub(super) fn scan_one(bytes: &[u8], shape: &mut Shape, tokens: &mut [Token]) -> Result<bool, Bad> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Bad::not_decoded("the message is larger than 4 GiB"));
    }
    let mut scan = Scan::new(bytes);
    let mut read = || -> Result<bool, Stop> {
        let object = scan.peek() == b'{';
        if object {
            scan.object(shape, tokens)?;
        } else if scan.value()?.kind != Kind::Null {
            return Err(scan.expected(0, "an object"));
        }
        scan.finish()?;
        Ok(object)
    };
    read().map_err(|Stop| {
        tokens.fill(Token::MISSING);
        Bad::not_decoded(scan.fault())
    })
}

#[cfg(test)]
mod tests;
