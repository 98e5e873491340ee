//! `json`: each message is one row, and nothing is ever taken back.
//!
//! Without a declared key each message is one more of its row.

use super::{
    Batch, Decoder, Message, Op,
    record::{Bad, Columns, Image, record},
    scan::{Shape, Token},
    upsert_json::scan_one,
};
use crate::plan::Source;

/// The decoder of `json`.
#[derive(Debug)]
pub struct Json {
    columns: Columns,
    shape: Shape,
    row: Vec<Token>,
}

impl Json {
    pub fn new(source: &Source, wanted: &[bool]) -> Self {
        let columns = Columns::new(source, wanted);
        Json { shape: columns.shape(), row: columns.tokens(), columns }
    }
}

impl Decoder for Json {
    fn decode(&mut self, message: Message, batch: &mut Batch) {
        batch.messages += 1;
        let time = message.timestamp.unwrap_or(i64::MIN);
        let Some(bytes) = message.value else {
            // Nothing is taken back, so there is nothing that a tombstone could mean.
            return self.columns.bare(record(Op::Skip, time, &message), batch);
        };
        self.row.fill(Token::MISSING);
        let scanned = scan_one(bytes, &mut self.shape, &mut self.row);
        let row = Image { tokens: &self.row, bytes, spellings: &self.columns.spellings };
        let done = match scanned {
            Ok(true) => self.columns.upsert(row, record(Op::Upsert, time, &message), batch),
            Ok(false) => Err(Bad::not_decoded("the message is null, where a row (an object) was expected")),
            Err(bad) => Err(bad),
        };
        if let Err(bad) = done {
            self.columns.reject(bad, &[row], record(Op::Reject, time, &message), batch);
        }
    }

    fn source_time(&self, message: Message) -> Option<i64> {
        message.timestamp
    }
}

#[cfg(test)]
mod tests;
