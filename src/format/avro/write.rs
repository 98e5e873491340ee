//! Rows to Avro's binary encoding, and the schemas of what is written.
//!
//! | declared type | Avro |
//! | --- | --- |
//! | `bool`, `double`, `bytes` | boolean, double, bytes |
//! | integers | int up to 32 bits, else long |
//! | `decimal(p,s)` | bytes, `decimal` |
//! | `date` | int, `date` |
//! | `time`, `timestamp`, with time zone | long in microseconds: `time-micros`, `local-timestamp-micros`, `timestamp-micros` |
//! | `uuid` | string, `uuid` |
//! | `varchar`, `json`, arrays | string; of the latter two its JSON text |
//!
//! All columns but those of a key may be null; a value that is unknown is null, since Avro has no field that is lacking.

use serde_json::{Value as Json, json};

use crate::row::{self, Column, Field, RowReader, Type, Value};

/// The name by which Debezium says that text is JSON.
const JSON_NAME: &str = "io.debezium.data.Json";

/// The schema of a column's values.
fn type_of(ty: Type) -> Json {
    match ty {
        Type::Bool => json!("boolean"),
        Type::Int(64) => json!("long"),
        Type::Int(_) => json!("int"),
        Type::Decimal(precision, scale) => json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale }),
        Type::Double => json!("double"),
        Type::Varchar(_) => json!("string"),
        Type::Bytes => json!("bytes"),
        Type::Date => json!({ "type": "int", "logicalType": "date" }),
        Type::Time(_) => json!({ "type": "long", "logicalType": "time-micros" }),
        Type::Timestamp(_, false) => json!({ "type": "long", "logicalType": "local-timestamp-micros" }),
        Type::Timestamp(_, true) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        Type::Uuid => json!({ "type": "string", "logicalType": "uuid" }),
        Type::Json | Type::Array => json!({ "type": "string", "connect.name": JSON_NAME }),
    }
}

/// The schema of the keys of a table: a record `Key` in the namespace `space`, of fields that may be null or not.
pub fn key_schema(space: &str, columns: &[Column], nullable: bool) -> Json {
    let ty = |c: &Column| if nullable { json!(["null", type_of(c.ty)]) } else { type_of(c.ty) };
    let fields: Vec<Json> = columns.iter().map(|c| json!({ "name": c.name, "type": ty(c) })).collect();
    json!({ "type": "record", "name": "Key", "namespace": space, "fields": fields })
}

/// The schema of the rows of a table: a record `Value` in the namespace `space`.
pub fn row_schema(space: &str, columns: &[Column]) -> Json {
    let fields: Vec<Json> = columns.iter().map(|c| json!({ "name": c.name, "type": ["null", type_of(c.ty)], "default": null })).collect();
    json!({ "type": "record", "name": "Value", "namespace": space, "fields": fields })
}

/// The schema of Debezium's envelope around rows (or whatever else) of this schema.
pub fn envelope_schema(space: &str, value: &Json) -> Json {
    let source = json!({ "type": "record", "name": "Source", "namespace": space, "fields": [
        { "name": "connector", "type": "string" }, { "name": "name", "type": "string" }, { "name": "ts_ms", "type": "long" },
    ] });
    json!({ "type": "record", "name": "Envelope", "namespace": space, "fields": [
        { "name": "before", "type": ["null", value], "default": null },
        { "name": "after", "type": ["null", format!("{space}.Value")], "default": null },
        { "name": "source", "type": source },
        { "name": "op", "type": "string" },
        { "name": "ts_ms", "type": ["null", "long"], "default": null },
    ] })
}

/// The schema of differences, the same for all comparisons: a record `Value` in the namespace `space`.
pub fn difference_schema(space: &str) -> Json {
    let text = json!(["null", "string"]);
    let nested = json!(["null", { "type": "string", "connect.name": JSON_NAME }]);
    let field = json!({ "type": "record", "name": "Field", "namespace": space, "fields": [
        { "name": "expected", "type": text, "default": null }, { "name": "actual", "type": text, "default": null },
    ] });
    json!({ "type": "record", "name": "Value", "namespace": space, "fields": [
        { "name": "kind", "type": "string" },
        { "name": "state", "type": "string" },
        { "name": "fields", "type": { "type": "map", "values": field } },
        { "name": "expected", "type": nested, "default": null },
        { "name": "actual", "type": nested, "default": null },
        { "name": "since", "type": text, "default": null },
    ] })
}

/// Appends what stands before each message: the zero byte and the schema's id.
pub fn push_head(out: &mut Vec<u8>, id: u32) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends a long (or int, or the number of a branch).
pub fn push_long(out: &mut Vec<u8>, n: i64) {
    // Packed integers are written as Avro writes them.
    row::pack_int(out, n);
}

pub fn push_text(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes());
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Text or null, in a union of null and string.
pub fn push_optional(out: &mut Vec<u8>, text: Option<&str>) {
    push_long(out, i64::from(text.is_some()));
    if let Some(text) = text {
        push_text(out, text);
    }
}

/// Appends a packed row by [`row_schema`] of its columns.
pub fn push_row(out: &mut Vec<u8>, columns: &[Column], row: &[u8]) {
    let mut reader = RowReader::new(row, columns.len());
    for column in columns {
        match reader.next(column.ty) {
            Field::Packed(bytes) => {
                push_long(out, 1);
                push_field(out, column.ty, bytes);
            }
            Field::Null | Field::Unknown => push_long(out, 0),
        }
    }
}

/// Appends a key that `row::push_key` wrote by [`key_schema`].
pub fn push_key(out: &mut Vec<u8>, types: &[Type], key: &[u8], nullable: bool) {
    let mut packed = Vec::new();
    for (ty, value) in types.iter().zip(row::unpack_key(types, key)) {
        if nullable {
            push_long(out, i64::from(value != Value::Null));
        }
        if value != Value::Null {
            packed.clear();
            row::pack_value(&mut packed, &value);
            push_field(out, *ty, &packed);
        }
    }
}

fn push_field(out: &mut Vec<u8>, ty: Type, packed: &[u8]) {
    match ty {
        Type::Decimal(..) => {
            let bytes = row::unpack_decimal(packed).to_be_bytes();
            // Bytes in front that only repeat the sign are left out.
            let fill = if bytes[0] >= 0x80 { 0xff } else { 0 };
            let spare = bytes.windows(2).take_while(|pair| pair[0] == fill && (pair[1] ^ fill) < 0x80).count();
            push_bytes(out, &bytes[spare..]);
        }
        Type::Varchar(_) | Type::Json | Type::Array | Type::Bytes => push_bytes(out, row::unpack_bytes(packed)),
        Type::Uuid => push_text(out, &row::text_of(ty, &row::unpack_value(ty, packed))),
        // Packed as Avro has them: a byte, zigzag numbers, eight bytes low first.
        Type::Bool | Type::Int(_) | Type::Date | Type::Time(_) | Type::Timestamp(..) | Type::Double => out.extend_from_slice(packed),
    }
}
