//! to come
use crate::row::{self, Column};
pub fn encode_row(columns: &[Column], row: &[u8], out: &mut Vec<u8>) {
    let values = row::values(row, columns);
    let map: serde_json::Map<String, serde_json::Value> = columns.iter().zip(&values).map(|(c, v)| (c.name.clone(), row::json_of(c.ty, v))).collect();
    out.extend_from_slice(serde_json::Value::Object(map).to_string().as_bytes());
}
