//! Which fields the rows of messages have, and how that changes: what can be seen of a change of a source's schema.
//!
//! | messages | what is seen |
//! | --- | --- |
//! | JSON with Connect's schema in it | names and types, of the schema |
//! | JSON without | names only, of the row that the message has; a delete or a tombstone says nothing |
//! | Avro | names and types, of the schema that the message was written with |
//!
//! A [`Viewer`] remembers what it has seen by its bytes (the schema, its id, the order of names), so that looking at a message
//! like the one before costs a comparison, or a walk over the names of its row. Types are those of the wire: what is written
//! with the same type (a varchar that grew, NOT NULL that went) is the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Message,
    avro::{
        self, Schemas,
        schema::{Id, Kind, Says, Schema},
    },
    scan::{Scan, Stop},
};
use crate::{
    plan::{Format, LogSpec, Source},
    row::{Column, Type},
};

/// The fields of a row, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields(pub Vec<Field>);

/// A field of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    /// How its values are written, where the messages say so.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
}

/// A field whose type is another one than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retyped {
    pub name: String,
    pub from: String,
    pub to: String,
}

/// What distinguishes the fields of a row from those of one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retyped: Vec<Retyped>,
}

impl Fields {
    fn new(mut fields: Vec<Field>) -> Fields {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        fields.dedup_by(|a, b| a.name == b.name);
        Fields(fields)
    }

    /// The field of a name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.0.binary_search_by(|field| field.name.as_str().cmp(name)).ok().map(|at| &self.0[at])
    }

    /// What changed from these to `now`; types of which one of the two says nothing are taken for the same.
    pub fn changed(&self, now: &Fields) -> Difference {
        let lacks = |of: &Fields, field: &&Field| of.get(&field.name).is_none();
        let names = |of: &Fields, other: &Fields| of.0.iter().filter(|field| lacks(other, field)).map(|field| field.name.clone()).collect();
        let retyped = |field: &Field| {
            let (from, to) = (self.get(&field.name)?.ty.as_ref()?, field.ty.as_ref()?);
            (from != to).then(|| Retyped { name: field.name.clone(), from: from.clone(), to: to.clone() })
        };
        Difference { added: names(now, self), removed: names(self, now), retyped: now.0.iter().filter_map(retyped).collect() }
    }
}

impl Difference {
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.retyped.is_empty()
    }
}

impl std::fmt::Display for Difference {
    /// One line: `added a, b; gone: c; d is int64 instead of int32`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} `{}`", names.join("`, `")));
        let retyped = self.retyped.iter().map(|Retyped { name, from, to }| Some(format!("`{name}` is {to} and was {from}")));
        let parts: Vec<String> = [list("new", &self.added), list("gone", &self.removed)].into_iter().chain(retyped).flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

/// What a viewer has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub fields: Fields,
    /// Declared columns whose values can't be read from this type, with what is sent.
    pub unreadable: Vec<usize>,
    /// A schema told it, so that looking at each message costs a comparison.
    pub told: bool,
}

/// Looks at messages of one source.
#[derive(Debug)]
pub struct Viewer {
    columns: Vec<Column>,
    at: At,
    /// Of Avro.
    schemas: Option<Arc<Schemas>>,
    /// With what tells them again.
    seen: Vec<(Mark, Arc<Seen>)>,
}

/// Where the row is in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// `after` of an event, which may stand in `payload`.
    Event,
    /// `value` of a line.
    Line,
    /// The whole message.
    Message,
}

/// What tells again what was seen.
#[derive(Debug, PartialEq, Eq)]
enum Mark {
    /// The bytes of a schema in JSON.
    Schema(Box<[u8]>),
    /// The id of a schema.
    Id(u32),
    /// The hash of the names in their order.
    Names(u64),
}

/// So many are remembered. A table has few; what never looks alike twice has no schema.
const SEEN_MAX: usize = 64;

impl Viewer {
    pub fn new(source: &Source) -> Viewer {
        let at = match source.format {
            Format::DebeziumJson | Format::DebeziumAvro => At::Event,
            Format::UpsertJson if !matches!(source.log, LogSpec::Topic { .. }) => At::Line,
            Format::UpsertJson | Format::UpsertAvro | Format::Json => At::Message,
        };
        let schemas = source.format.is_avro().then(|| source.schemas.clone().unwrap_or_default());
        Viewer { columns: source.columns.clone(), at, schemas, seen: Vec::new() }
    }

    /// What the message says of the fields of rows; `None`: nothing.
    pub fn look(&mut self, message: Message) -> Option<Arc<Seen>> {
        let value = message.value?;
        if self.schemas.is_some() {
            return self.look_avro(value);
        }
        // Mostly the schema of the message before, or the names of its row.
        const HEAD: &[u8] = b"{\"schema\":";
        if let Some((Mark::Schema(bytes), seen)) = self.seen.first()
            && value.strip_prefix(HEAD).is_some_and(|rest| rest.starts_with(bytes))
        {
            return Some(Arc::clone(seen));
        }
        let found = row_of(value, self.at)?;
        match found {
            Found::Schema(bytes) => self.remember(Mark::Schema(bytes.into()), |columns| {
                let schema: Json = serde_json::from_slice(bytes).ok()?;
                of_connect(&schema, columns)
            }),
            Found::Names(hash, row) => self.remember(Mark::Names(hash), |_| {
                let mut names = Vec::new();
                let mut scan = Scan::new(row);
                scan.walk(|scan, name| {
                    names.push(Field { name: String::from_utf8_lossy(name).into_owned(), ty: None });
                    scan.value().map(|_| ())
                })
                .ok()?;
                Some(Seen { fields: Fields::new(names), unreadable: Vec::new(), told: false })
            }),
        }
    }

    fn look_avro(&mut self, value: &[u8]) -> Option<Arc<Seen>> {
        let id = avro::schema_id(value)?;
        if let Some((Mark::Id(last), seen)) = self.seen.first()
            && *last == id
        {
            return Some(Arc::clone(seen));
        }
        let schema = avro::lookup(self.schemas.as_ref()?, id).ok()?;
        let at = self.at;
        self.remember(Mark::Id(id), |columns| of_avro(&schema, at, columns))
    }

    /// What a mark stands for, which is then the newest one.
    fn remember(&mut self, mark: Mark, read: impl FnOnce(&[Column]) -> Option<Seen>) -> Option<Arc<Seen>> {
        if let Some(at) = self.seen.iter().position(|(known, _)| *known == mark) {
            self.seen[..=at].rotate_right(1);
        } else {
            let seen = Arc::new(read(&self.columns)?);
            self.seen.insert(0, (mark, seen));
            self.seen.truncate(SEEN_MAX);
        }
        self.seen.first().map(|(_, seen)| Arc::clone(seen))
    }
}

/// What a message in JSON tells.
enum Found<'a> {
    Schema(&'a [u8]),
    /// The hash of the row's names, and the row.
    Names(u64, &'a [u8]),
}

/// Looks for the row in a message, no further than needed.
fn row_of(value: &[u8], at: At) -> Option<Found<'_>> {
    let mut scan = Scan::new(value);
    if scan.peek() != b'{' {
        return None;
    }
    if at == At::Message {
        return names(value);
    }
    let wanted: &[u8] = if at == At::Line { b"value" } else { b"after" };
    let mut found = None;
    // It stops at what it looks for, so its result says nothing.
    let _ = scan.walk(|scan, name| {
        let object = scan.peek() == b'{';
        let rest = scan.rest();
        let start = scan.position();
        if name == wanted {
            found = if object { names(rest) } else { None };
            return Err(Stop);
        }
        if object && at == At::Event && name == b"payload" {
            found = row_of(rest, at);
            return Err(Stop);
        }
        scan.value()?;
        if object && at == At::Event && name == b"schema" {
            found = Some(Found::Schema(&rest[..scan.position() - start]));
            return Err(Stop);
        }
        Ok(())
    });
    found
}

/// The hash of the names of the object with which the text begins.
fn names(text: &[u8]) -> Option<Found<'_>> {
    let mut scan = Scan::new(text);
    let mut hash = 0;
    scan.walk(|scan, name| {
        hash = xxh3_64_with_seed(name, hash);
        scan.value().map(|_| ())
    })
    .ok()?;
    Some(Found::Names(hash, &text[..scan.position()]))
}

/// What kind of values a type has, as far as a declared type asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Bool,
    /// A whole number; one that stands for a date or time.
    Int,
    Time,
    Float,
    Decimal,
    Text,
    Bytes,
    Bits,
    Uuid,
    Array,
    Object,
    /// What nobody here knows.
    Other,
}

/// Can the values of a type be those of a declared column? Whether each one fits is seen when it is read.
fn fits(ty: Type, sort: Sort) -> bool {
    match sort {
        Sort::Other => true,
        Sort::Bool => matches!(ty, Type::Bool | Type::Json),
        // A number that stands for a time is no number, and the other way round: it would be read as another value.
        Sort::Int => matches!(ty, Type::Bool | Type::Int(_) | Type::Decimal(..) | Type::Double | Type::Json),
        Sort::Time => matches!(ty, Type::Date | Type::Time(_) | Type::Timestamp(..)),
        Sort::Float => matches!(ty, Type::Decimal(..) | Type::Double | Type::Json),
        Sort::Decimal => matches!(ty, Type::Decimal(..) | Type::Int(_) | Type::Double),
        Sort::Text => !matches!(ty, Type::Bool | Type::Int(_)),
        Sort::Bytes => matches!(ty, Type::Bytes),
        Sort::Bits => matches!(ty, Type::Int(_) | Type::Bytes),
        Sort::Uuid => matches!(ty, Type::Uuid | Type::Varchar(_)),
        Sort::Array => matches!(ty, Type::Array | Type::Json),
        Sort::Object => matches!(ty, Type::Json),
    }
}

/// Of fields with their types and sorts.
fn seen(fields: Vec<(String, String, Sort)>, columns: &[Column]) -> Seen {
    let misfit = |column: &Column| fields.iter().any(|(name, _, sort)| *name == column.name && !fits(column.ty, *sort));
    let unreadable = columns.iter().enumerate().filter(|(_, column)| misfit(column)).map(|(at, _)| at).collect();
    Seen { fields: Fields::new(fields.into_iter().map(|(name, ty, _)| Field { name, ty: Some(ty) }).collect()), unreadable, told: true }
}

/// The row's fields in Connect's schema of an event. That of another message (a heartbeat) says nothing of rows.
fn of_connect(schema: &Json, columns: &[Column]) -> Option<Seen> {
    let after = schema["fields"].as_array()?.iter().find(|field| field["field"] == "after")?;
    let one = |field: &Json| {
        let (ty, sort) = connect_type(field);
        Some((field["field"].as_str()?.to_string(), ty, sort))
    };
    Some(seen(after["fields"].as_array()?.iter().filter_map(one).collect(), columns))
}

fn connect_type(field: &Json) -> (String, Sort) {
    let (ty, name) = (field["type"].as_str().unwrap_or_default(), field["name"].as_str().unwrap_or_default());
    let short = name.rsplit('.').next().unwrap_or_default();
    let sort = match (ty, short) {
        (_, "VariableScaleDecimal") | ("bytes", "Decimal") => Sort::Decimal,
        ("bytes", "Bits") => Sort::Bits,
        ("string", "Uuid") => Sort::Uuid,
        ("int32" | "int64", "Date" | "Time" | "Timestamp" | "MicroTime" | "MicroTimestamp" | "NanoTime" | "NanoTimestamp") => Sort::Time,
        ("boolean", _) => Sort::Bool,
        ("int8" | "int16" | "int32" | "int64", _) => Sort::Int,
        ("float" | "float32" | "double" | "float64", _) => Sort::Float,
        ("string", _) => Sort::Text,
        ("bytes", _) => Sort::Bytes,
        ("array", _) => Sort::Array,
        ("struct" | "map", _) => Sort::Object,
        _ => Sort::Other,
    };
    let scale = field["parameters"]["scale"].as_str().map(|scale| format!(" of scale {scale}")).unwrap_or_default();
    (if short.is_empty() { ty.to_string() } else { format!("{ty} {short}{scale}") }, sort)
}

/// The row's fields in the schema of an event, or of a row.
fn of_avro(schema: &Schema, at: At, columns: &[Column]) -> Option<Seen> {
    let (_, mut fields) = schema.record(schema.root)?;
    if at == At::Event {
        let (_, after) = fields.iter().find(|(name, _)| name == "after")?;
        fields = schema.record(*after)?.1;
    }
    let one = |(name, id): &(String, Id)| {
        let (ty, sort) = avro_type(schema, *id);
        (name.clone(), ty, sort)
    };
    Some(seen(fields.iter().map(one).collect(), columns))
}

fn avro_type(schema: &Schema, id: Id) -> (String, Sort) {
    let named = |ty: &str, sort: Sort| (ty.to_string(), sort);
    let counted = |ty: &str| match schema.says(id) {
        Says::Count(unit) => (format!("{ty} that counts {}", format!("{unit:?}").to_lowercase()), Sort::Time),
        _ => named(ty, Sort::Int),
    };
    match schema.kind(id) {
        Kind::Null => named("null", Sort::Other),
        Kind::Boolean => named("boolean", Sort::Bool),
        Kind::Int => counted("int"),
        Kind::Long => counted("long"),
        Kind::Float => named("float", Sort::Float),
        Kind::Double => named("double", Sort::Float),
        Kind::String => named("string", Sort::Text),
        Kind::Enum(_) => named("enum", Sort::Text),
        Kind::Bytes | Kind::Fixed(_) => match schema.says(id) {
            Says::Decimal(scale) => (format!("decimal of scale {scale}"), Sort::Decimal),
            Says::Bits => named("bits", Sort::Bits),
            Says::Uuid => named("uuid", Sort::Uuid),
            _ => named("bytes", Sort::Bytes),
        },
        Kind::Array(_) => named("array", Sort::Array),
        Kind::Map(_) => named("map", Sort::Object),
        Kind::Record(fields) if fields.len() == 2 && fields.iter().all(|(name, _)| name == "scale" || name == "value") => {
            named("decimal of any scale", Sort::Decimal)
        }
        Kind::Record(_) => named("record", Sort::Object),
        Kind::Union(branches) => {
            let values: Vec<Id> = branches.iter().copied().filter(|branch| *schema.kind(*branch) != Kind::Null).collect();
            match values.as_slice() {
                [one] => avro_type(schema, *one),
                several => (several.iter().map(|one| avro_type(schema, *one).0).collect::<Vec<_>>().join(" or "), Sort::Other),
            }
        }
    }
}

#[cfg(test)]
mod tests;
