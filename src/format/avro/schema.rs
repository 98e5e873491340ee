//! Schemas of Avro: their JSON text, read into a list of types that refer to each other by place.
//!
//! What a type stands for is told by its `logicalType`, or by the name that Kafka Connect gave it (`connect.name`). Defaults,
//! aliases, order and documentation say nothing about bytes that are written, and are not read.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::format::convert::Unit;

/// Place of a type in its schema.
pub type Id = u32;

/// A schema of a writer.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    pub root: Id,
    /// Values of the type have no bytes.
    empty: Vec<bool>,
}

/// A type of a schema.
#[derive(Debug)]
pub struct Type {
    pub kind: Kind,
    pub says: Says,
}

/// How values of a type are written.
#[derive(Debug, PartialEq)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// The symbols.
    Enum(Vec<String>),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    /// The fields, in order.
    Record(Vec<(String, Id)>),
}

/// What values of a type stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Nothing,
    /// Bytes are the unscaled value of a decimal of this scale.
    Decimal(i32),
    /// A number counts these units since the epoch (or since midnight).
    Count(Unit),
    /// Bytes are bits, the lowest byte first.
    Bits,
    Uuid,
}

impl Schema {
    /// Reads a schema. `references` are the texts of the schemas whose names it uses, each after those that it uses itself.
    ///
    /// # Errors
    /// A sentence which says what it has that is none of Avro's.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        let empty = empty(&parser.types);
        Ok(Schema { types: parser.types, root, empty })
    }

    #[inline]
    pub fn kind(&self, id: Id) -> &Kind {
        &self.types[id as usize].kind
    }

    #[inline]
    pub fn says(&self, id: Id) -> Says {
        self.types[id as usize].says
    }

    /// Do values of this type have no bytes at all?
    pub fn is_empty(&self, id: Id) -> bool {
        self.empty[id as usize]
    }

    /// The record that a type is, or that a union has.
    pub fn record(&self, id: Id) -> Option<(Id, &[(String, Id)])> {
        match self.kind(id) {
            Kind::Record(fields) => Some((id, fields)),
            Kind::Union(branches) => branches.iter().find_map(|branch| match self.kind(*branch) {
                Kind::Record(fields) => Some((*branch, fields.as_slice())),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// Which types have no bytes: null, what has no length, and records of nothing but these.
fn empty(types: &[Type]) -> Vec<bool> {
    let mut empty = vec![false; types.len()];
    loop {
        let mut changed = false;
        for (id, ty) in types.iter().enumerate() {
            let now = match &ty.kind {
                Kind::Null | Kind::Fixed(0) => true,
                Kind::Record(fields) => fields.iter().all(|(_, field)| empty[*field as usize]),
                _ => false,
            };
            changed |= now != empty[id];
            empty[id] = now;
        }
        if !changed {
            return empty;
        }
    }
}

struct Parser {
    types: Vec<Type>,
    /// Records, enums and fixed types by their full names.
    names: HashMap<String, Id>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<Id, String> {
        let json: Json = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
        self.any(&json, "")
    }

    fn add(&mut self, kind: Kind, says: Says) -> Id {
        self.types.push(Type { kind, says });
        (self.types.len() - 1) as Id
    }

    fn any(&mut self, json: &Json, space: &str) -> Result<Id, String> {
        match json {
            Json::String(name) => self.named(name, space),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.any(branch, space)).collect::<Result<Vec<_>, _>>()?;
                if branches.iter().any(|b| matches!(self.types[*b as usize].kind, Kind::Union(_))) {
                    return Err("a union stands immediately in a union".into());
                }
                if branches.is_empty() {
                    return Err("a union has no branches".into());
                }
                Ok(self.add(Kind::Union(branches), Says::Nothing))
            }
            Json::Object(object) => self.object(object, space),
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn named(&mut self, name: &str, space: &str) -> Result<Id, String> {
        if let Some(kind) = primitive(name) {
            return Ok(self.add(kind, Says::Nothing));
        }
        let full = full(name, space);
        self.names.get(&full).or_else(|| self.names.get(name)).copied().ok_or_else(|| format!("there is no type `{name}`"))
    }

    fn object(&mut self, object: &Map<String, Json>, space: &str) -> Result<Id, String> {
        let Some(ty) = object.get("type") else { return Err("a type has no `type`".into()) };
        let Json::String(ty) = ty else {
            // `{"type": {…}}`, as some writers nest it.
            return self.any(ty, space);
        };
        if let Some(kind) = primitive(ty) {
            let says = says(&kind, object);
            return Ok(self.add(kind, says));
        }
        match ty.as_str() {
            "array" => {
                let items = self.any(object.get("items").ok_or("an array has no `items`")?, space)?;
                Ok(self.add(Kind::Array(items), Says::Nothing))
            }
            "map" => {
                let values = self.any(object.get("values").ok_or("a map has no `values`")?, space)?;
                Ok(self.add(Kind::Map(values), Says::Nothing))
            }
            "record" | "error" | "enum" | "fixed" => self.define(ty, object, space),
            name => self.named(name, space),
        }
    }

    fn define(&mut self, ty: &str, object: &Map<String, Json>, space: &str) -> Result<Id, String> {
        let name = object.get("name").and_then(Json::as_str).ok_or_else(|| format!("a type `{ty}` has no `name`"))?;
        let space = object.get("namespace").and_then(Json::as_str).unwrap_or(space);
        let full = full(name, space);
        let space = full.rsplit_once('.').map_or("", |(space, _)| space);
        let kind = match ty {
            "enum" => {
                let symbols = object.get("symbols").and_then(Json::as_array).ok_or_else(|| format!("the enum `{full}` has no `symbols`"))?;
                let symbols = symbols.iter().map(|s| s.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
                Kind::Enum(symbols.ok_or_else(|| format!("a symbol of the enum `{full}` is no text"))?)
            }
            "fixed" => {
                let size = object.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
                Kind::Fixed(size.ok_or_else(|| format!("`{full}` has no `size`"))?)
            }
            _ => Kind::Record(Vec::new()),
        };
        let says = says(&kind, object);
        let id = self.add(kind, says);
        self.names.insert(full.clone(), id);
        if !matches!(ty, "enum" | "fixed") {
            let fields = object.get("fields").and_then(Json::as_array).ok_or_else(|| format!("the record `{full}` has no `fields`"))?;
            let mut read: Vec<(String, Id)> = Vec::with_capacity(fields.len());
            for field in fields {
                let name = field["name"].as_str().ok_or_else(|| format!("a field of the record `{full}` has no `name`"))?;
                if read.iter().any(|(known, _)| known == name) {
                    return Err(format!("the record `{full}` has two fields `{name}`"));
                }
                let of = self.any(&field["type"], space).map_err(|why| format!("field `{name}` of `{full}`: {why}"))?;
                read.push((name.to_string(), of));
            }
            self.types[id as usize].kind = Kind::Record(read);
        }
        Ok(id)
    }
}

/// The full name of a type that is called `name` where `space` is the namespace.
fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.trim_start_matches('.').to_string() } else { format!("{space}.{name}") }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

/// What a type stands for. A name that does not go with the type says nothing, as Avro has it.
fn says(kind: &Kind, object: &Map<String, Json>) -> Says {
    let number = |json: &Json| json.as_i64().or_else(|| json.as_str()?.parse().ok()).and_then(|n| i32::try_from(n).ok());
    let logical = object.get("logicalType").and_then(Json::as_str).unwrap_or_default();
    match (kind, logical) {
        (Kind::Bytes | Kind::Fixed(_), "decimal") => return Says::Decimal(object.get("scale").and_then(number).unwrap_or(0)),
        (Kind::Int | Kind::Long, "date") => return Says::Count(Unit::Days),
        (Kind::Int | Kind::Long, "time-millis" | "timestamp-millis" | "local-timestamp-millis") => return Says::Count(Unit::Millis),
        (Kind::Long, "time-micros" | "timestamp-micros" | "local-timestamp-micros") => return Says::Count(Unit::Micros),
        (Kind::Long, "timestamp-nanos" | "local-timestamp-nanos") => return Says::Count(Unit::Nanos),
        (Kind::Fixed(16), "uuid") => return Says::Uuid,
        _ => {}
    }
    match (kind, object.get("connect.name").and_then(Json::as_str).unwrap_or_default()) {
        (Kind::Bytes | Kind::Fixed(_), "org.apache.kafka.connect.data.Decimal") => {
            object.get("connect.parameters").and_then(|p| number(&p["scale"])).map_or(Says::Nothing, Says::Decimal)
        }
        (Kind::Bytes | Kind::Fixed(_), "io.debezium.data.Bits") => Says::Bits,
        (Kind::Int | Kind::Long, name) => match name {
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Says::Count(Unit::Days),
            "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" | "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
                Says::Count(Unit::Millis)
            }
            "io.debezium.time.MicroTime" | "io.debezium.time.MicroTimestamp" => Says::Count(Unit::Micros),
            "io.debezium.time.NanoTime" | "io.debezium.time.NanoTimestamp" => Says::Count(Unit::Nanos),
            _ => Says::Nothing,
        },
        _ => Says::Nothing,
    }
}

#[cfg(test)]
mod tests;
