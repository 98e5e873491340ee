//! Avro in the wire format of Confluent's registry: a zero byte, the id of the writer's schema in four bytes (high first),
//! and the value in Avro's binary encoding.
//!
//! ```text
//! reader thread ─ ids of messages ─▶ registry ─▶ Schemas (shared, only added to) ─▶ decoders in workers
//! ```
//!
//! A decoder does no I/O: whoever reads the log sees to it that the schema of each message is in [`Schemas`] before it hands
//! the message on. A value is always read by the schema that it was written with, so a topic may hold any number of versions; what a
//! version lacks is missing, as a field that a JSON message lacks.
//!
//! | file | what |
//! | --- | --- |
//! | `schema` | the JSON text of schemas, read |
//! | `read` | the binary encoding: steps over what nobody reads, places of what somebody does |
//! | `value` | a value to the packed field of a declared type |
//! | `write` | rows to the binary encoding, and the schemas of what is written |

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use self::schema::{Id, Kind, Schema};
use super::{
    convert::Spelling,
    record::{Bad, Cells, Columns, shorten},
    text::Fault,
};
use crate::row::Type;

mod read;
pub mod schema;
mod value;
pub mod write;

pub(super) use read::{Cursor, Layout, Place, places};

/// The registry does not know the schema of a message.
pub const SCHEMA_UNKNOWN: &str = "SCHEMA_UNKNOWN";
/// The schema of a message is none that tieout reads.
pub const SCHEMA_UNREADABLE: &str = "SCHEMA_UNREADABLE";

/// What is known of a schema.
#[derive(Clone, Debug)]
pub enum Known {
    Schema(Arc<Schema>),
    /// What the registry has can't be read, and why.
    Unreadable(Arc<str>),
}

/// What is known of a registry's schemas: shared by those who ask the registry and those who read and write by it. It only
/// grows; what the registry does not know is not in it.
#[derive(Debug, Default)]
pub struct Schemas {
    by_id: RwLock<HashMap<u32, Known>>,
    /// What was registered, by subject.
    subjects: RwLock<HashMap<String, u32>>,
}

impl Schemas {
    pub fn get(&self, id: u32) -> Option<Known> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub fn put(&self, id: u32, known: Known) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(id, known);
    }

    /// The id of what is written under a subject, once it is registered.
    pub fn subject(&self, subject: &str) -> Option<u32> {
        self.subjects.read().unwrap_or_else(PoisonError::into_inner).get(subject).copied()
    }

    pub fn registered(&self, subject: &str, id: u32) {
        self.subjects.write().unwrap_or_else(PoisonError::into_inner).insert(subject.into(), id);
    }
}

/// The id of the schema that a message (or its key) was written with, if it is in the wire format.
#[inline]
pub fn schema_id(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The id of a message's schema, and a cursor on its first byte.
///
/// # Errors
/// The bytes are not in the wire format.
pub(super) fn framed(bytes: &[u8]) -> Result<(u32, Cursor<'_>), Bad> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Bad::not_decoded("the message is larger than 4 GiB"));
    }
    match schema_id(bytes) {
        Some(id) => Ok((id, Cursor::new(bytes, 5))),
        None => {
            let begins: Vec<String> = bytes.iter().take(5).map(|b| format!("{b:02x}")).collect();
            let begins = if begins.is_empty() { "it is empty".into() } else { format!("it begins with {}", begins.join(" ")) };
            Err(Bad::not_decoded(format!("not in the registry's wire format (a zero byte and four of the schema's id): {begins}")))
        }
    }
}

pub(super) fn is_null(schema: &Schema, id: Id) -> bool {
    *schema.kind(id) == Kind::Null
}

/// The schemas that a decoder has met, each with what the decoder made of it (`T`).
#[derive(Debug)]
pub(super) struct Writers<T> {
    schemas: Arc<Schemas>,
    made: Vec<(u32, Arc<Schema>, T)>,
}

impl<T> Writers<T> {
    pub fn new(schemas: Arc<Schemas>) -> Writers<T> {
        Writers { schemas, made: Vec::new() }
    }

    /// The place of a schema in what was made; `make` makes it.
    ///
    /// # Errors
    /// There is no such schema, or it can't be read.
    #[inline]
    pub fn find(&mut self, id: u32, make: impl FnOnce(&Schema) -> T) -> Result<usize, Bad> {
        match self.made.iter().position(|(known, ..)| *known == id) {
            Some(at) => Ok(at),
            None => {
                let schema = lookup(&self.schemas, id)?;
                let made = make(&schema);
                self.made.push((id, schema, made));
                Ok(self.made.len() - 1)
            }
        }
    }

    #[inline]
    pub fn of(&self, at: usize) -> (&Schema, &T) {
        let (_, schema, made) = &self.made[at];
        (schema, made)
    }
}

/// The schema of an id.
///
/// # Errors
/// There is none, or it can't be read.
pub(super) fn lookup(schemas: &Schemas, id: u32) -> Result<Arc<Schema>, Bad> {
    match schemas.get(id) {
        Some(Known::Schema(schema)) => Ok(schema),
        Some(Known::Unreadable(why)) => Err(Bad { code: SCHEMA_UNREADABLE, cause: format!("the schema of id {id}: {why}") }),
        None => Err(Bad { code: SCHEMA_UNKNOWN, cause: format!("the registry has no schema of id {id}") }),
    }
}

/// A row of a message, by column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub schema: Option<&'a Schema>,
    pub places: &'a [Place],
    /// The whole message that places are in.
    pub bytes: &'a [u8],
    /// Where the schema does not say it.
    pub spellings: &'a [Spelling],
}

impl Cells for Row<'_> {
    #[inline]
    fn pack(&self, column: usize, ty: Type, out: &mut Vec<u8>) -> Result<super::Span, Fault> {
        match self.schema {
            Some(schema) => value::convert(schema, self.places[column], self.bytes, ty, self.spellings[column], out),
            None => Ok(super::Span::MISSING),
        }
    }

    #[inline]
    fn has(&self, column: usize) -> bool {
        self.schema.is_some() && !self.places[column].is_missing()
    }

    fn shown(&self, column: usize) -> String {
        self.schema.map_or_else(String::new, |schema| shorten(&value::text(schema, self.places[column], self.bytes)))
    }
}

/// The key of messages: a record of key columns, or the value of the only one.
#[derive(Debug)]
pub(super) struct MessageKey {
    writers: Writers<Option<Layout>>,
    places: Vec<Place>,
    /// The schema of the last key, while it could be read.
    at: Option<usize>,
}

impl MessageKey {
    pub fn new(schemas: Arc<Schemas>, columns: &Columns) -> MessageKey {
        MessageKey { writers: Writers::new(schemas), places: places(columns), at: None }
    }

    /// Finds the key columns in a message's key. Without one there are none.
    ///
    /// # Errors
    /// The key can't be read; then it has no columns.
    pub fn scan(&mut self, columns: &Columns, key: Option<&[u8]>) -> Result<(), Bad> {
        self.at = None;
        self.places.fill(Place::MISSING);
        let Some(bytes) = key else { return Ok(()) };
        let scanned = self.scan_some(columns, bytes);
        if scanned.is_err() {
            self.places.fill(Place::MISSING);
        }
        scanned.map_err(|bad| Bad { cause: format!("message key: {}", bad.cause), ..bad })
    }

    fn scan_some(&mut self, columns: &Columns, bytes: &[u8]) -> Result<(), Bad> {
        let (id, mut cursor) = framed(bytes)?;
        let at = self.writers.find(id, |schema| Layout::of(schema, schema.root, columns, |c| columns.key.contains(&c)))?;
        let (schema, layout) = self.writers.of(at);
        let (leaf, start) = cursor.branch(schema, schema.root)?;
        match layout {
            Some(layout) if layout.record == leaf => layout.scan(schema, &mut cursor, &mut self.places)?,
            _ => {
                cursor.skip(schema, leaf)?;
                match columns.key.as_slice() {
                    [only] if layout.is_none() => self.places[*only] = cursor.place(schema, leaf, start)?,
                    _ => return Err(Bad::not_decoded("neither a record nor the value of the only key column")),
                }
            }
        }
        cursor.finish()?;
        self.at = Some(at);
        Ok(())
    }

    /// What was found.
    pub fn row<'a>(&'a self, bytes: Option<&'a [u8]>, spellings: &'a [Spelling]) -> Row<'a> {
        Row { schema: self.at.map(|at| self.writers.of(at).0), places: &self.places, bytes: bytes.unwrap_or_default(), spellings }
    }
}

#[cfg(test)]
pub mod testing;
