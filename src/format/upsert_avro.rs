//! `upsert-avro`: the message key is an Avro record of the key columns (or the value of the only one), the message's value
//! one of the row; a null value deletes.
//!
//! Key columns may also stand in the value, with the same values: a value that says otherwise is a reject of the key.

use std::sync::Arc;

use super::{
    Batch, Decoder, Message, Op,
    avro::{self, MessageKey, Place, Row, Schemas, Writers},
    record::{Bad, Columns, record},
};
use crate::plan::Source;

/// The decoder of `upsert-avro`.
#[derive(Debug)]
pub struct UpsertAvro {
    columns: Columns,
    key: MessageKey,
    writers: Writers<Option<avro::Layout>>,
    places: Vec<Place>,
    /// The schema of the last value, while it could be read.
    at: Option<usize>,
}

impl UpsertAvro {
    pub fn new(source: &Source, wanted: &[bool], schemas: Arc<Schemas>) -> Self {
        let columns = Columns::new(source, wanted);
        UpsertAvro { key: MessageKey::new(schemas.clone(), &columns), writers: Writers::new(schemas), places: avro::places(&columns), at: None, columns }
    }

    /// Finds the columns of a message; false: it has no row.
    fn scan(&mut self, message: &Message) -> Result<bool, Bad> {
        self.at = None;
        self.places.fill(Place::MISSING);
        let key = self.key.scan(&self.columns, message.key);
        let Some(bytes) = message.value else { return key.map(|()| false) };
        // The row may still tell whose it is.
        let value = self.value(bytes);
        if value.is_err() {
            self.places.fill(Place::MISSING);
        }
        key.and(value)
    }

    fn value(&mut self, bytes: &[u8]) -> Result<bool, Bad> {
        let (id, mut cursor) = avro::framed(bytes)?;
        let columns = &self.columns;
        let at = self.writers.find(id, |schema| avro::Layout::of(schema, schema.root, columns, |c| columns.reads(c)))?;
        let (schema, layout) = self.writers.of(at);
        let (leaf, _) = cursor.branch(schema, schema.root)?;
        match layout {
            Some(layout) if layout.record == leaf => layout.scan(schema, &mut cursor, &mut self.places)?,
            _ if avro::is_null(schema, leaf) => return cursor.finish().map(|()| false).map_err(Bad::from),
            _ => return Err(Bad::not_decoded(format!("schema {id} is not of a row (a record)"))),
        }
        cursor.finish()?;
        self.at = Some(at);
        Ok(true)
    }
}

impl Decoder for UpsertAvro {
    fn decode(&mut self, message: Message, batch: &mut Batch) {
        batch.messages += 1;
        let scanned = self.scan(&message);
        let time = message.timestamp.unwrap_or(i64::MIN);
        let spellings = &self.columns.spellings;
        let key = self.key.row(message.key, spellings);
        let schema = self.at.map(|at| self.writers.of(at).0);
        let value = Row { schema, places: &self.places, bytes: message.value.unwrap_or_default(), spellings };
        let done = match scanned {
            Err(bad) => Err(bad),
            Ok(true) => self.columns.upsert_keyed(Some(key), value, record(Op::Upsert, time, &message), batch),
            Ok(false) => self.columns.keyed(key, record(Op::Delete, time, &message), batch),
        };
        if let Err(bad) = done {
            self.columns.reject_keyed(bad, key, value, record(Op::Reject, time, &message), batch);
        }
    }

    fn source_time(&self, message: Message) -> Option<i64> {
        message.timestamp
    }
}

#[cfg(test)]
mod tests;
