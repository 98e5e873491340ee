//! What the tests of Avro share: an encoder of its own that follows the specification, and schemas by id.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Known, Schemas, schema::Schema};

/// Schemas by id, as if they had been fetched.
pub fn schemas<'a>(list: impl IntoIterator<Item = (u32, &'a Json)>) -> Arc<Schemas> {
    let schemas = Schemas::default();
    for (id, schema) in list {
        schemas.put(id, Known::Schema(Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"))));
    }
    Arc::new(schemas)
}

/// A message in the wire format: `value` by a schema whose named types are written out where they stand. Bytes are text of the
/// characters 0 to 255, as in Avro's own JSON.
pub fn message(id: u32, schema: &Json, value: &Json) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&id.to_be_bytes());
    encode(schema, value, &mut out);
    out
}

fn long(n: i64, out: &mut Vec<u8>) {
    let mut n = ((n as u64) << 1) ^ (if n < 0 { u64::MAX } else { 0 });
    loop {
        let seven = (n % 128) as u8;
        n /= 128;
        if n == 0 {
            return out.push(seven);
        }
        out.push(seven + 128);
    }
}

fn encode(schema: &Json, value: &Json, out: &mut Vec<u8>) {
    if let Some(branches) = schema.as_array() {
        let at = branches.iter().position(|b| (b == "null") == value.is_null()).expect("a branch");
        long(at as i64, out);
        return encode(&branches[at], value, out);
    }
    let name = schema.as_str().or_else(|| schema["type"].as_str()).expect("a type");
    let latin = |text: &Json| text.as_str().expect("text").chars().map(|c| c as u8).collect::<Vec<u8>>();
    match name {
        "null" => {}
        "boolean" => out.push(u8::from(value.as_bool().expect("a bool"))),
        "int" | "long" => long(value.as_i64().expect("an integer"), out),
        "float" => out.extend_from_slice(&(value.as_f64().expect("a number") as f32).to_le_bytes()),
        "double" => out.extend_from_slice(&value.as_f64().expect("a number").to_le_bytes()),
        "bytes" => {
            long(latin(value).len() as i64, out);
            out.extend(latin(value));
        }
        "fixed" => out.extend(latin(value)),
        "string" => {
            let text = value.as_str().expect("text");
            long(text.len() as i64, out);
            out.extend_from_slice(text.as_bytes());
        }
        "enum" => long(schema["symbols"].as_array().and_then(|s| s.iter().position(|s| s == value)).expect("a symbol") as i64, out),
        // In blocks of two, every other one with its length.
        "array" => {
            for (n, block) in value.as_array().expect("a list").chunks(2).enumerate() {
                let mut inner = Vec::new();
                block.iter().for_each(|item| encode(&schema["items"], item, &mut inner));
                if n % 2 == 0 {
                    long(-(block.len() as i64), out);
                    long(inner.len() as i64, out);
                } else {
                    long(block.len() as i64, out);
                }
                out.extend(inner);
            }
            out.push(0);
        }
        "map" => {
            for (key, item) in value.as_object().expect("a map") {
                long(1, out);
                long(key.len() as i64, out);
                out.extend_from_slice(key.as_bytes());
                encode(&schema["values"], item, out);
            }
            out.push(0);
        }
        "record" => schema["fields"].as_array().expect("fields").iter().for_each(|f| encode(&f["type"], &value[f["name"].as_str().expect("a name")], out)),
        other => panic!("{other} is no type"),
    }
}
