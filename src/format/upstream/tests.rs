//! What connectors really sent, and messages that only look as if they had a position.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::*;
use crate::format::{avro::schema::Schema, testing::source, text};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples/debezium").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("samples").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ndjson"));
    files.sort();
    files
}

fn json() -> Positions {
    Positions::of(&source("debezium-json", "id bigint", "id")).expect("a format with positions")
}

/// How a captured event stands to the one before it in its topic, by topic.
fn orders(folder: &str) -> Vec<(String, Ordering)> {
    let mut positions = json();
    let mut found = Vec::new();
    for file in files(folder) {
        let mut newest: std::collections::BTreeMap<String, Position> = std::collections::BTreeMap::new();
        for line in std::fs::read_to_string(&file).expect("a file").lines() {
            let record: Json = serde_json::from_str(line).expect("a captured record");
            let Some(value) = record["value"].as_str() else { continue };
            let read = positions.read(value.as_bytes());
            let said: Json = serde_json::from_str(value).expect("JSON");
            let said = if said["payload"].is_object() { &said["payload"] } else { &said };
            let streams = ["c", "u", "d", "t"].contains(&said["op"].as_str().unwrap_or_default());
            assert_eq!(read.is_some(), streams || (said["op"].is_null() && read.is_some()), "{}: {value}", file.display());
            let Some(read) = read else { continue };
            assert_eq!(read.time, said["source"]["ts_ms"].as_i64());
            let topic = record["topic"].as_str().expect("a topic").to_string();
            if let Some(before) = newest.get(&topic) {
                found.push((topic.clone(), read.position.against(*before).0));
            }
            newest.insert(topic, read.position);
        }
    }
    found
}

#[test]
fn what_connectors_send_goes_forward() {
    for (folder, pairs) in [("postgres", 20), ("mariadb", 20)] {
        let orders = orders(folder);
        assert!(orders.len() >= pairs, "{folder}: only {} pairs", orders.len());
        let back: Vec<_> = orders.iter().filter(|(_, order)| *order == Ordering::Less).collect();
        assert!(back.is_empty(), "{folder}: {back:?}");
    }
}

#[test]
fn avro_says_what_json_does() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples/debezium/avro");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a file");
    let all: Json = serde_json::from_str(&read("schemas.json")).expect("schemas");
    let schemas = Schemas::default();
    for (id, schema) in all.as_object().expect("schemas by id") {
        schemas.put(id.parse().expect("an id"), avro::Known::Schema(Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"))));
    }
    let (mut avro, mut json) = (Positions::Avro(Arc::new(schemas)), json());
    let mut streamed = 0;
    for (line, decoded) in read("01-customer-and-types.ndjson").lines().zip(read("02-the-same-decoded.ndjson").lines()) {
        // Python wrote them, a NaN too.
        let Ok(decoded) = serde_json::from_str::<Json>(decoded) else { continue };
        let line: Json = serde_json::from_str(line).expect("a record");
        let Some(base64) = line["value"]["base64"].as_str() else { continue };
        let mut bytes = Vec::new();
        text::base64(base64.as_bytes(), &mut bytes).expect("base64");
        let decoded = decoded["value"].to_string();
        assert_eq!(avro.read(&bytes), json.read(decoded.as_bytes()), "{decoded}");
        streamed += usize::from(json.read(decoded.as_bytes()).is_some());
        // Whatever is cut off, it is no panic.
        for upto in 0..bytes.len() {
            let _ = avro.read(&bytes[..upto]);
        }
    }
    assert!(streamed > 0 || !read("01-customer-and-types.ndjson").is_empty());
}

#[test]
fn a_position_is_read_wherever_source_stands() {
    let mut positions = json();
    let postgres = r#"{"connector":"postgresql","name":"crm","ts_ms":7,"snapshot":"false","sequence":"[\"30\",\"41\"]","table":"t","txId":9,"lsn":41}"#;
    let expected = Some(Stands { origin: b"crm", position: Position { order: 30, at: 41, transaction: 9, ..Position::default() }, time: Some(7) });
    for value in [
        format!(r#"{{"before":null,"after":{{"id":1}},"source":{postgres},"op":"c"}}"#),
        format!(r#"{{"op":"c", "source" : {postgres}, "after":{{"id":1}}}}"#),
        // Text, and columns, that look like it.
        format!(r#"{{"after":{{"id":1,"note":"a \"source\":{{\"connector\":\"mysql\"}} of doubt"}},"source":{postgres}}}"#),
        format!(r#"{{"after":{{"source":"source","x":{{"source":{{"x":1}}}}}},"source":{postgres}}}"#),
        format!(r#"{{"schema":{{"fields":[{{"field":"source"}}]}},"payload":{{"after":null,"source":{postgres},"op":"d"}}}}"#),
    ] {
        assert_eq!(positions.read(value.as_bytes()), expected, "{value}");
    }
    let whole = format!(r#"{{"after":{{"transaction":null}},"source":{postgres},"transaction":{{"id":"9:41","total_order":3}},"op":"c"}}"#);
    assert_eq!(positions.read(whole.as_bytes()).map(|stands| stands.position.place), Some(3));
    let binlog = br#"{"source":{"connector":"mysql","name":"shop","snapshot":null,"file":"mysql-bin.000012","pos":190,"row":3,"table":"t"}}"#;
    let expected = Position { order: 12, at: 190, row: 3, ..Position::default() };
    assert_eq!(positions.read(binlog), Some(Stands { origin: b"shop", position: expected, time: None }));
    for none in [
        &br#"{"source":{"connector":"postgresql","name":"crm","snapshot":"incremental","sequence":"[\"1\",\"2\"]","table":"t"}}"#[..],
        br#"{"source":{"connector":"postgresql","name":"crm","snapshot":"false","sequence":"[\"1\",\"2\"]","table":""}}"#,
        br#"{"source":{"connector":"postgresql","name":"crm","snapshot":"false","sequence":null,"table":"t"}}"#,
        br#"{"source":{"connector":"oracle","name":"crm","snapshot":"false","scn":"1","table":"t"}}"#,
        br#"{"source":{"ts_ms":5},"op":"c"}"#,
        br#"{"source":{"connector":"mysql""#,
        br#""source""#,
        b"",
    ] {
        assert_eq!(positions.read(none), None, "{}", String::from_utf8_lossy(none));
    }
    assert!(Positions::of(&source("upsert-json", "id bigint", "id")).is_none());
    assert!(Positions::of(&source("debezium-json", "id bigint", "")).is_none(), "of rows without a key each copy counts");
}

#[test]
fn transactions_that_overlap_are_in_the_order_of_commits() {
    let at = |order, at, transaction| Position { order, at, transaction, ..Position::default() };
    let order = |a: Position, b: Position| a.against(b).0;
    // The second began before the first committed.
    assert_eq!(order(at(50, 31, 8), at(30, 45, 7)), Ordering::Greater);
    // A connector that was restarted does not know of the last commits, until one has come.
    assert_eq!(order(at(20, 31, 8), at(50, 45, 8)), Ordering::Less);
    assert_eq!(order(at(0, 45, 8), at(50, 45, 8)), Ordering::Equal);
    assert_eq!(at(0, 46, 8).against(at(50, 45, 8)), (Ordering::Greater, at(50, 46, 8)));
    assert_eq!(order(at(0, 31, 7), at(50, 45, 8)), Ordering::Less);
    // Of one that was made anew.
    assert_eq!(at(0, 60, 9).against(at(50, 45, 8)), (Ordering::Greater, at(50, 60, 9)));
}
