//! The schema that Kafka Connect's JSON converter puts into each message: how the columns are spelled.
//!
//! Schemas are large (ten times the row) and the same in message after message, so what was learnt of one is kept by its
//! bytes.

use serde_json::Value;

use super::{
    convert::{Spelling, Unit},
    scan::{Kind, Scan, Stop, Token},
};
use crate::row::{Column, Type};

/// Schemas seen last, the newest first.
#[derive(Debug, Default)]
pub struct Schemas {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    bytes: Box<[u8]>,
    spellings: Box<[Spelling]>,
}

/// More than one is in use at a time only while a table changes.
const KNOWN_MAX: usize = 8;

impl Schemas {
    /// Reads a schema (or null): a known one is stepped over. Returns its number for [`Schemas::spellings`], if it says
    /// anything.
    ///
    /// `inner` is the field of the schema's struct that has the row, for a key there is none. `default` is the spelling of
    /// columns of which the schema says nothing.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn read(&mut self, scan: &mut Scan, inner: Option<&str>, columns: &[Column], default: &[Spelling]) -> Result<(Token, Option<usize>), Stop> {
        let b = scan.peek();
        let rest = scan.rest();
        let start = scan.position();
        if b == b'{'
            && let Some(known) = self.known.iter().position(|k| rest.starts_with(&k.bytes))
        {
            // What starts with a whole object has no other value there.
            scan.step_over(self.known[known].bytes.len());
            return Ok((scan.object_from(start), Some(known)));
        }
        let token = scan.value()?;
        if token.kind != Kind::Object {
            return Ok((token, None));
        }
        let bytes = &rest[..scan.position() - start];
        let Ok(schema) = serde_json::from_slice::<Value>(bytes) else {
            return Err(scan.expected(start, "a schema"));
        };
        let spellings = spellings(&schema, inner, columns, default);
        self.known.insert(0, Known { bytes: bytes.into(), spellings });
        self.known.truncate(KNOWN_MAX);
        Ok((token, Some(0)))
    }

    /// The spelling of each column.
    #[inline]
    pub fn spellings(&self, known: usize) -> &[Spelling] {
        &self.known[known].spellings
    }
}

fn spellings(schema: &Value, inner: Option<&str>, columns: &[Column], default: &[Spelling]) -> Box<[Spelling]> {
    let fields = |of: &Value| of["fields"].as_array().cloned().unwrap_or_default();
    let named = |fields: &[Value], name: &str| fields.iter().find(|f| f["field"] == name).cloned();
    let row = match inner {
        Some(inner) => named(&fields(schema), inner).map(|row| fields(&row)).unwrap_or_default(),
        None => fields(schema),
    };
    columns.iter().zip(default).map(|(column, default)| named(&row, &column.name).map_or(*default, |field| spelling(&field, column.ty, *default))).collect()
}

/// How a field is spelled that has this Connect schema.
fn spelling(field: &Value, ty: Type, default: Spelling) -> Spelling {
    let name = field["name"].as_str().unwrap_or_default();
    match name {
        "org.apache.kafka.connect.data.Decimal" => {
            let scale = &field["parameters"]["scale"];
            scale.as_str().and_then(|s| s.parse().ok()).or_else(|| scale.as_i64().and_then(|s| i32::try_from(s).ok())).map_or(default, Spelling::Unscaled)
        }
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Spelling::Count(Unit::Days),
        "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" | "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
            Spelling::Count(Unit::Millis)
        }
        "io.debezium.time.MicroTime" | "io.debezium.time.MicroTimestamp" => Spelling::Count(Unit::Micros),
        "io.debezium.time.NanoTime" | "io.debezium.time.NanoTimestamp" => Spelling::Count(Unit::Nanos),
        "io.debezium.data.Bits" => Spelling::Bits,
        _ => match (field["type"].as_str().unwrap_or_default(), ty) {
            // A schema that says nothing of decimals or bytes says that these are plain.
            ("string" | "double" | "float" | "int8" | "int16" | "int32" | "int64" | "struct", Type::Decimal(..)) => Spelling::Plain,
            ("bytes", Type::Varchar(_) | Type::Json | Type::Decimal(..) | Type::Double | Type::Bytes) => Spelling::Raw,
            _ => default,
        },
    }
}
