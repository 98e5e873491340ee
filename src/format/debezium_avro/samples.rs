//! Events that a real connector sent through an Avro converter. The same table was captured in JSON, and must be the same rows.

use serde_json::Value as Json;

use super::*;
use crate::format::{
    avro::{Known, testing::message},
    debezium_json::samples::{POSTGRES, PRECISE, types},
    testing::{show, source},
    text,
};

fn bytes(of: &Json) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    text::base64(of["base64"].as_str()?.as_bytes(), &mut out).expect("base64");
    Some(out)
}

fn read(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/debezium/avro").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The schemas as the registry gave them.
fn captured_schemas() -> Arc<Schemas> {
    let all: Json = serde_json::from_str(&read("schemas.json")).expect("schemas");
    let schemas = Schemas::default();
    for (id, schema) in all.as_object().expect("schemas by id") {
        let schema = Schema::parse(&schema.to_string(), &[]).expect("a schema");
        schemas.put(id.parse().expect("an id"), Known::Schema(Arc::new(schema)));
    }
    Arc::new(schemas)
}

/// The records of a topic as text; source times are left out but checked to be what `source_time` says.
fn decode(topic: &str, columns: &str) -> String {
    let source = source("debezium-avro", columns, "id");
    let mut decoder = DebeziumAvro::new(&source, &vec![true; source.columns.len()], captured_schemas());
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    for line in read("01-customer-and-types.ndjson").lines() {
        let record: Json = serde_json::from_str(line).expect("a captured record");
        if record["topic"] != topic {
            continue;
        }
        let (key, value) = (bytes(&record["key"]), bytes(&record["value"]));
        let before = batch.records.len();
        let message = Message { key: key.as_deref(), value: value.as_deref(), offset: record["offset"].as_i64().unwrap(), timestamp: None };
        decoder.decode(message, &mut batch);
        for r in &mut batch.records[before..] {
            assert_eq!(Some(r.source_time), decoder.source_time(message));
            assert_eq!(r.source_time, 1_795_233_829_563);
            r.source_time = i64::MIN;
        }
        // A tombstone of the same key deletes it.
        let mut gone = Batch::default();
        gone.clear(source.columns.len());
        decoder.decode(Message { value: None, ..message }, &mut gone);
        assert_eq!((gone.records[0].op, gone.row(0)[0].field(&gone.bytes)), (Op::Delete, batch.row(before)[0].field(&batch.bytes)));
    }
    show(&batch, &source)
}

#[test]
fn customers_are_what_their_description_says() {
    let columns = "id bigint, name varchar, mail varchar, credit decimal(14,4), tier varchar, active bool, updated_at timestamptz, gone_column int";
    let expected = "
        upsert id=20 name=Bob mail=- credit=- tier=bronze active=false updated_at=2026-01-02T00:00:00Z gone_column=?
        upsert id=30 name=Dee mail=- credit=- tier=bronze active=false updated_at=2026-02-03T00:00:00Z gone_column=?
        upsert id=1 name=Ada L. mail=ada@example.com credit=1.2345 tier=gold active=true updated_at=2026-01-01T00:00:00Z gone_column=?";
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(decode("avro.public.customer", columns), expected.join("\n"));
    // Another reader decoded the same messages, whose text is read as JSON events.
    let of_json = source("debezium-json", columns, "id");
    let mut json = crate::format::debezium_json::DebeziumJson::new(&of_json, &[true; 8]);
    let mut batch = Batch::default();
    batch.clear(8);
    for line in read("02-the-same-decoded.ndjson").lines().filter(|line| line.contains("avro.public.customer\", \"offset")) {
        let event: Json = serde_json::from_str(line).expect("a decoded record");
        json.decode(Message { value: Some(event["value"].to_string().as_bytes()), ..Message::default() }, &mut batch);
    }
    batch.records.iter_mut().for_each(|record| record.source_time = i64::MIN);
    assert_eq!(show(&batch, &of_json), expected.join("\n"));
    // A type that can't hold it names its field.
    let rejected = decode("avro.public.customer", "id bigint, credit decimal(6,2)");
    assert!(
        rejected.ends_with("reject VALUE_OUT_OF_RANGE column `credit` is declared decimal(6,2), which cannot hold 1.2345 exactly [1] id=1 credit=?"),
        "{rejected}"
    );
    let rejected = decode("avro.public.customer", "id bigint, name int");
    assert!(rejected.contains("reject TYPE_MISMATCH column `name` is declared int; \"Bob\" is not one [20] id=20"), "{rejected}");
}

#[test]
fn all_types_are_the_rows_that_json_gives() {
    // What this capture can't hold: its own largest time and a numeric of 39 digits are rejects in JSON, too.
    let columns = POSTGRES.replace("n_free decimal(38,9), ", "").replace("tstz timestamptz, ", "").replace("dt date, ", "");
    let avro = decode("avro.public.types", &columns);
    for id in 1..=6 {
        let row = |line: &str| line.split(' ').filter(|word| !word.ends_with("=-")).collect::<Vec<_>>().join(" ");
        let of_id = format!(" id={id} ");
        let found: Vec<String> = avro.lines().filter(|line| line.contains(&of_id)).map(row).collect();
        let json = types("postgres/20-types-precise-adaptive", "t20.public.types", &columns, PRECISE, id);
        assert_eq!(found, json[..1], "id {id}");
    }
    for (column, id) in [("tstz timestamptz", 3), ("n_free decimal(38,9)", 4)] {
        let name = column.split(' ').next().unwrap_or_default();
        let lines = decode("avro.public.types", &format!("id int, {column}"));
        let line = lines.lines().find(|line| line.contains(&format!(" id={id} "))).unwrap_or_default();
        assert!(line.starts_with(&format!("reject VALUE_OUT_OF_RANGE column `{name}`")), "{line}");
        // All other rows are as in JSON.
        let others: Vec<&str> = lines.lines().filter(|line| !line.starts_with("reject")).collect();
        assert_eq!(others.len(), 5, "{lines}");
    }
}

fn envelope(row: Json) -> Json {
    serde_json::json!({ "type": "record", "name": "Envelope", "fields": [
        { "name": "before", "type": ["null", row] }, { "name": "after", "type": ["null", row] }, { "name": "op", "type": "string" },
        { "name": "source", "type": { "type": "record", "name": "Source", "fields": [{ "name": "ts_ms", "type": "long" }] } },
        { "name": "ts_ms", "type": ["null", "long"] },
    ] })
}

/// Every operation, without a connector: golden messages.
#[test]
fn operations_mean_what_they_mean_in_json() {
    let row = serde_json::json!({ "type": "record", "name": "Value", "fields": [{ "name": "id", "type": "int" }, { "name": "n", "type": ["null", "int"] }] });
    let (of_row, key) = (envelope(row), serde_json::json!({ "type": "record", "name": "Key", "fields": [{ "name": "id", "type": "int" }] }));
    let beat = serde_json::json!({ "type": "record", "name": "Heartbeat", "fields": [{ "name": "ts_ms", "type": "long" }] });
    let end = serde_json::json!({ "type": "record", "name": "T", "fields": [{ "name": "status", "type": "string" }, { "name": "id", "type": "string" }, { "name": "ts_ms", "type": "long" }] });
    let other = serde_json::json!({ "type": "record", "name": "Plain", "fields": [{ "name": "id", "type": "int" }] });
    let schemas = crate::format::avro::testing::schemas([(1, &key), (2, &of_row), (3, &beat), (4, &end), (5, &other)]);
    let source = source("debezium-avro", "id int, n int", "id");
    let mut decoder = DebeziumAvro::new(&source, &[true, true], schemas.clone());
    let event = |op: &str, before: Json, after: Json| {
        message(2, &of_row, &serde_json::json!({ "op": op, "before": before, "after": after, "source": { "ts_ms": 7 }, "ts_ms": 9 }))
    };
    let image = |id: i32, n: i32| serde_json::json!({ "id": id, "n": n });
    let mut feed = |key: Option<&[u8]>, value: Option<&[u8]>| {
        let mut batch = Batch::default();
        batch.clear(2);
        decoder.decode(Message { key, value, ..Message::default() }, &mut batch);
        show(&batch, &source)
    };
    let (one, null) = (message(1, &key, &serde_json::json!({ "id": 1 })), Json::Null);
    assert_eq!(feed(None, Some(&event("c", null.clone(), image(1, 5)))), "7 upsert id=1 n=5");
    assert_eq!(feed(None, Some(&event("u", image(1, 5), image(2, 5)))), "7 delete id=1 n=?\n7 upsert id=2 n=5");
    assert_eq!(feed(None, Some(&event("u", image(1, 5), image(1, 6)))), "7 upsert id=1 n=6");
    assert_eq!(feed(Some(&one), Some(&event("d", image(3, 0), null.clone()))), "7 delete id=3 n=?");
    assert_eq!(feed(Some(&one), Some(&event("d", null.clone(), null.clone()))), "7 delete id=1 n=?");
    assert_eq!(feed(Some(&one), None), "delete id=1 n=?");
    assert_eq!(feed(None, None), "skip");
    // A key that is not Avro says nothing of whose tombstone it is; one of a schema that nobody knows might.
    assert_eq!(feed(Some(br#"{"id":1}"#), None), "skip");
    assert_eq!(feed(Some(&one[..5]), None), "skip");
    assert_eq!(feed(Some(&[0, 0, 0, 0, 77, 2]), None), "reject SCHEMA_UNKNOWN message key: the registry has no schema of id 77 id=? n=?");
    assert_eq!(feed(None, Some(&event("t", null.clone(), null.clone()))), "7 truncate");
    assert_eq!(feed(None, Some(&event("m", null.clone(), null.clone()))), "7 skip");
    assert_eq!(feed(None, Some(&message(3, &beat, &serde_json::json!({ "ts_ms": 8 })))), "skip");
    assert_eq!(feed(None, Some(&message(4, &end, &serde_json::json!({ "status": "END", "id": "1", "ts_ms": 8 })))), "8 skip");
    assert_eq!(feed(Some(&one), Some(&event("u", null.clone(), null.clone()))), "7 reject DECODE_FAILED operation `u` has no `after` [1] id=1 n=?");
    assert_eq!(feed(None, Some(&event("x", null.clone(), null.clone()))), "7 reject DECODE_FAILED `op` is `x`; known are r, c, u, d, t, m id=? n=?");
    assert_eq!(feed(Some(&one), Some(&message(5, &other, &image(1, 1)))), "reject DECODE_FAILED not a change event of Debezium: it has no `op` [1] id=1 n=?");
    let whole = event("c", null, image(1, 5));
    assert_eq!(feed(Some(&one), Some(&whole[..8])), "reject DECODE_FAILED byte 8: the message ends within a number [1] id=1 n=?");
    assert_eq!(
        feed(Some(&one), Some(&[&whole[..], b"x"].concat())),
        format!("reject DECODE_FAILED byte {}: the message goes on after its last value [1] id=1 n=?", whole.len())
    );
    assert_eq!(
        feed(Some(&one), Some(br#"{"op":"c"}"#)),
        "reject DECODE_FAILED not in the registry's wire format (a zero byte and four of the schema's id): it begins with 7b 22 6f 70 22 [1] id=1 n=?"
    );
    // An id that the registry did not know; then it does.
    let late = [&[0, 0, 0, 0, 9][..], &whole[5..]].concat();
    assert_eq!(feed(Some(&one), Some(&late)), "reject SCHEMA_UNKNOWN the registry has no schema of id 9 [1] id=1 n=?");
    schemas.put(9, Known::Unreadable("it is of type PROTOBUF, not AVRO".into()));
    assert_eq!(feed(None, Some(&late)), "reject SCHEMA_UNREADABLE the schema of id 9: it is of type PROTOBUF, not AVRO id=? n=?");
    schemas.put(9, Known::Schema(Arc::new(Schema::parse(&of_row.to_string(), &[]).expect("a schema"))));
    assert_eq!(feed(None, Some(&late)), "7 upsert id=1 n=5");
}

#[test]
fn without_a_key_an_event_is_whole_rows() {
    let row = serde_json::json!({ "type": "record", "name": "Value", "fields": [{ "name": "id", "type": "int" }, { "name": "n", "type": ["null", "int"] }] });
    let of_row = envelope(row);
    let schemas = crate::format::avro::testing::schemas([(2, &of_row)]);
    let event = |op: &str, before: Json, after: Json| {
        message(2, &of_row, &serde_json::json!({ "op": op, "before": before, "after": after, "source": { "ts_ms": 7 }, "ts_ms": 9 }))
    };
    let image = |id: i32, n: i32| serde_json::json!({ "id": id, "n": n });
    let feed = |columns: &str, value: &[u8]| {
        let source = source("debezium-avro", columns, "");
        let mut decoder = DebeziumAvro::new(&source, &vec![true; source.columns.len()], schemas.clone());
        let mut batch = Batch::default();
        batch.clear(source.columns.len());
        decoder.decode(Message { value: Some(value), ..Message::default() }, &mut batch);
        show(&batch, &source)
    };
    let columns = "id int, n int";
    assert_eq!(feed(columns, &event("c", Json::Null, image(1, 5))), "7 upsert id=1 n=5");
    assert_eq!(feed(columns, &event("u", image(1, 5), image(2, 5))), "7 delete id=1 n=5\n7 upsert id=2 n=5");
    assert_eq!(feed(columns, &event("d", image(1, 5), Json::Null)), "7 delete id=1 n=5");
    assert_eq!(feed(columns, &event("t", Json::Null, Json::Null)), "7 truncate");
    let without = feed(columns, &event("d", Json::Null, Json::Null));
    assert!(without.starts_with("7 reject BEFORE_INCOMPLETE operation `d` has no `before`"), "{without}");
    let lacks = feed("id int, other int", &event("d", image(1, 5), Json::Null));
    assert!(lacks.starts_with("7 reject BEFORE_INCOMPLETE `before` has no column `other`"), "{lacks}");
    let keyless = source("debezium-avro", columns, "");
    let mut batch = Batch::default();
    batch.clear(2);
    DebeziumAvro::new(&keyless, &[true, true], schemas.clone()).decode(Message { key: Some(&[0, 0, 0, 0, 77, 2]), ..Message::default() }, &mut batch);
    assert_eq!(show(&batch, &keyless), "skip", "nothing names a row");
}
