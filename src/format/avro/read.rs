//! Avro's binary encoding: a cursor that steps over values, and the places of those that are read.
//!
//! Nothing in a value says how long it is, so all of a message is walked. What is walked is checked: lengths, branches,
//! symbols; what a decoder reads afterwards is there. Never panics, whatever the bytes.

use super::schema::{Id, Kind, Schema};
use crate::format::record::{Bad, Columns};

/// Values nested deeper than this are refused, so that no schema that refers to itself runs on.
const DEPTH_MAX: u32 = 100;
/// Items without any bytes that an array may have.
const EMPTY_MAX: u64 = 16;

/// What can't be a value: where, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    at: usize,
    what: &'static str,
}

impl From<Broken> for Bad {
    fn from(broken: Broken) -> Bad {
        Bad::not_decoded(format!("byte {}: {}", broken.at, broken.what))
    }
}

/// Where a value stands in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The type, which is no union; `MISSING` where there is no value.
    pub id: Id,
    pub start: u32,
    pub end: u32,
}

impl Place {
    pub const MISSING: Place = Place { id: Id::MAX, start: 0, end: 0 };

    #[inline]
    pub fn is_missing(self) -> bool {
        self.id == Id::MAX
    }

    /// There is a value, and it is not null.
    #[inline]
    pub fn is_value(self, schema: &Schema) -> bool {
        !self.is_missing() && *schema.kind(self.id) != Kind::Null
    }

    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Reads on in a message of less than 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at }
    }

    /// An error at this place.
    ///
    /// # Errors
    /// Always.
    pub fn broken<T>(&self, what: &'static str) -> Result<T, Broken> {
        Err(Broken { at: self.at, what })
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// There are more bytes than the schema has values.
    pub fn finish(&self) -> Result<(), Broken> {
        if self.at == self.bytes.len() { Ok(()) } else { self.broken("the message goes on after its last value") }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// There are not so many.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => self.broken("the message ends within a value"),
        }
    }

    /// A zigzag number of at most ten bytes.
    ///
    /// # Errors
    /// It is cut off, or longer than that.
    #[inline]
    pub fn long(&mut self) -> Result<i64, Broken> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let Some(&b) = self.bytes.get(self.at) else { return self.broken("the message ends within a number") };
            if shift == 63 && b > 1 {
                return self.broken("a number has more than 64 bits");
            }
            self.at += 1;
            n |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok((n >> 1) as i64 ^ -((n & 1) as i64));
            }
            shift += 7;
        }
    }

    #[inline]
    fn int(&mut self) -> Result<i64, Broken> {
        let at = self.at;
        let n = self.long()?;
        if i32::try_from(n).is_err() {
            return Err(Broken { at, what: "an int has more than 32 bits" });
        }
        Ok(n)
    }

    /// Bytes with their length before them.
    ///
    /// # Errors
    /// The length is negative, or more than there is.
    #[inline]
    pub fn sized(&mut self) -> Result<&'a [u8], Broken> {
        let at = self.at;
        match usize::try_from(self.long()?) {
            Ok(len) => self.take(len),
            Err(_) => Err(Broken { at, what: "a length is negative" }),
        }
    }

    /// The number of a symbol or branch.
    fn choice(&mut self, of: usize, what: &'static str) -> Result<usize, Broken> {
        let at = self.at;
        usize::try_from(self.long()?).ok().filter(|n| *n < of).ok_or(Broken { at, what })
    }

    /// The type of the next value, which is no union, and where it starts.
    ///
    /// # Errors
    /// A union has no such branch.
    #[inline]
    pub fn branch(&mut self, schema: &Schema, id: Id) -> Result<(Id, usize), Broken> {
        match schema.kind(id) {
            Kind::Union(branches) => {
                let chosen = self.choice(branches.len(), "a union has no such branch")?;
                Ok((branches[chosen], self.at))
            }
            _ => Ok((id, self.at)),
        }
    }

    /// The number of a symbol.
    ///
    /// # Errors
    /// The enum has no such symbol.
    pub fn symbol(&mut self, of: usize) -> Result<usize, Broken> {
        self.choice(of, "an enum has no such symbol")
    }

    /// Steps over a value.
    ///
    /// # Errors
    /// It is none of its type.
    #[inline]
    pub fn skip(&mut self, schema: &Schema, id: Id) -> Result<(), Broken> {
        self.skip_at(schema, id, 0)
    }

    fn skip_at(&mut self, schema: &Schema, id: Id, depth: u32) -> Result<(), Broken> {
        if depth > DEPTH_MAX {
            return self.broken("values are nested too deeply");
        }
        match schema.kind(id) {
            Kind::Null => {}
            Kind::Boolean => {
                let at = self.at;
                if self.take(1)?[0] > 1 {
                    return Err(Broken { at, what: "a boolean is neither 0 nor 1" });
                }
            }
            Kind::Int => _ = self.int()?,
            Kind::Long => _ = self.long()?,
            Kind::Float => _ = self.take(4)?,
            Kind::Double => _ = self.take(8)?,
            Kind::Bytes | Kind::String => _ = self.sized()?,
            Kind::Fixed(size) => _ = self.take(*size)?,
            Kind::Enum(symbols) => _ = self.symbol(symbols.len())?,
            Kind::Union(_) => {
                let (leaf, _) = self.branch(schema, id)?;
                self.skip_at(schema, leaf, depth + 1)?;
            }
            Kind::Record(_) if schema.is_empty(id) => {}
            Kind::Record(fields) => {
                for (_, field) in fields {
                    self.skip_at(schema, *field, depth + 1)?;
                }
            }
            Kind::Array(items) => self.items(schema.is_empty(*items), |cursor, _| cursor.skip_at(schema, *items, depth + 1))?,
            Kind::Map(values) => self.items(false, |cursor, _| {
                cursor.sized()?;
                cursor.skip_at(schema, *values, depth + 1)
            })?,
        }
        Ok(())
    }

    /// Walks the items of an array or map; `item` reads one, and is told whether it is the first.
    ///
    /// # Errors
    /// Those of `item`; more items than there can be.
    pub fn items(&mut self, empty: bool, mut item: impl FnMut(&mut Self, bool) -> Result<(), Broken>) -> Result<(), Broken> {
        let mut first = true;
        let mut seen = 0u64;
        loop {
            let at = self.at;
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's length in bytes stands before it, for those that step over it.
                count = count.checked_neg().ok_or(Broken { at, what: "a block has more items than a message can" })?;
                self.long()?;
            }
            let left = if empty { EMPTY_MAX.saturating_sub(seen) } else { (self.bytes.len() - self.at) as u64 };
            if count as u64 > left {
                return Err(Broken { at, what: "a block has more items than a message can" });
            }
            seen += count as u64;
            for _ in 0..count {
                item(self, std::mem::take(&mut first))?;
            }
        }
    }

    /// The place of a value that has just been stepped over.
    ///
    /// # Errors
    /// It is text that is not UTF-8.
    #[inline]
    pub fn place(&self, schema: &Schema, id: Id, start: usize) -> Result<Place, Broken> {
        let place = Place { id, start: start as u32, end: self.at as u32 };
        if *schema.kind(id) == Kind::String {
            let text = Cursor::new(self.bytes, start).sized()?;
            if std::str::from_utf8(text).is_err() {
                return Err(Broken { at: start, what: "text is not UTF-8" });
            }
        }
        Ok(place)
    }
}

/// Where the columns of a source stand in a record.
#[derive(Debug)]
pub struct Layout {
    pub record: Id,
    /// The fields in order, each with its column, if it is read.
    fields: Vec<(Id, Option<usize>)>,
}

impl Layout {
    /// The layout of a record (or of the one in a union), with the columns for which `reads` holds.
    pub fn of(schema: &Schema, id: Id, columns: &Columns, reads: impl Fn(usize) -> bool) -> Option<Layout> {
        let (record, fields) = schema.record(id)?;
        let column = |name: &str| columns.columns.iter().position(|c| c.name == name).filter(|c| reads(*c));
        Some(Layout { record, fields: fields.iter().map(|(name, field)| (*field, column(name))).collect() })
    }

    /// Steps over a record and writes down where its columns are.
    ///
    /// # Errors
    /// It is none of its type.
    #[inline]
    pub fn scan(&self, schema: &Schema, cursor: &mut Cursor, places: &mut [Place]) -> Result<(), Broken> {
        for &(field, column) in &self.fields {
            match column {
                None => cursor.skip(schema, field)?,
                Some(column) => {
                    let (leaf, start) = cursor.branch(schema, field)?;
                    cursor.skip(schema, leaf)?;
                    places[column] = cursor.place(schema, leaf, start)?;
                }
            }
        }
        Ok(())
    }
}

/// Room for the places of a row.
pub fn places(columns: &Columns) -> Vec<Place> {
    vec![Place::MISSING; columns.columns.len()]
}
