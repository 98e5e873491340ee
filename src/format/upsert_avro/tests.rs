//! Rows in Avro against the same rows in JSON, made at random with schemas of any shape; versions of schemas; garbage.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    format::{
        avro::testing::{message, schemas},
        testing::{show, source},
        upsert_json::UpsertJson,
    },
    row::{self, Type, Value},
};

const COLUMNS: &str = "id bigint, part varchar, n smallint, name varchar(4), d decimal(8,2), f double, b bool, day date, t time, ts timestamp(3), tz timestamptz, \
    u uuid, by bytes, doc json, arr int[]";

/// A column in a message: its schema, its value by it, and the value in JSON.
type Cell = (Json, Json, Json);

fn time_cell(ty: Type, us: i64, of: Json) -> Cell {
    let value = if matches!(ty, Type::Time(_)) { Value::Time(us) } else { Value::Timestamp(us) };
    let n = if of["logicalType"].as_str().is_some_and(|name| name.ends_with("millis")) { us / 1000 } else { us };
    (of, json!(n), json!(row::text_of(ty, &value)))
}

fn latin(bytes: &[u8]) -> Json {
    json!(bytes.iter().map(|b| char::from(*b)).collect::<String>())
}

fn cell(name: &'static str) -> BoxedStrategy<Cell> {
    let text = "[a-zé\"]{0,5}";
    let number = |name: &str| {
        prop::sample::select(vec![json!("int"), json!("long")]).prop_flat_map({
            let small = name == "n";
            move |ty| {
                let range = if small { -40_000i64..40_000 } else { -3..3 };
                range.prop_map(move |n| (ty.clone(), json!(n), json!(n)))
            }
        })
    };
    match name {
        "id" | "n" => number(name).boxed(),
        "part" | "name" => prop_oneof![
            text.prop_map(|t| (json!("string"), json!(t), json!(t))),
            prop::sample::select(vec!["x", "yy"]).prop_map(|t| (json!({ "type": "enum", "name": "E", "symbols": ["x", "yy"] }), json!(t), json!(t))),
        ]
        .boxed(),
        "d" => prop_oneof![
            (-99_999_999_999i64..99_999_999_999, 0u8..5, any::<bool>()).prop_map(|(n, scale, named)| {
                let mut bytes = n.to_be_bytes().to_vec();
                bytes.insert(0, if n < 0 { 0xff } else { 0 });
                let ty = if named {
                    json!({ "type": "bytes", "connect.name": "org.apache.kafka.connect.data.Decimal", "connect.parameters": { "scale": scale.to_string() } })
                } else {
                    json!({ "type": "fixed", "name": "F", "size": 9, "logicalType": "decimal", "precision": 20, "scale": scale })
                };
                (ty, latin(&bytes), json!(row::decimal_text(i128::from(n), scale)))
            }),
            (-400i64..400).prop_map(|n| (json!("double"), json!(n as f64 / 4.0), json!(n as f64 / 4.0))),
            (-400i64..400).prop_map(|n| (json!("long"), json!(n), json!(n))),
            Just((json!("string"), json!("12.5"), json!("12.5"))),
        ]
        .boxed(),
        "f" => prop_oneof![
            any::<f64>().prop_filter("JSON has it", |n| n.is_finite()).prop_map(|n| (json!("double"), json!(n), json!(n))),
            // The shortest text of a float, which is what JSON has.
            (-99_999i32..99_999).prop_map(|n| {
                let text = format!("{:?}", n as f32 / 1000.0);
                (json!("float"), json!(text.parse::<f64>().unwrap()), serde_json::from_str(&text).unwrap())
            }),
            (-400i64..400).prop_map(|n| (json!("int"), json!(n), json!(n))),
        ]
        .boxed(),
        "b" => any::<bool>().prop_map(|b| (json!("boolean"), json!(b), json!(b))).boxed(),
        "day" => (-800_000i64..800_000, any::<bool>())
            .prop_map(|(n, debezium)| {
                let ty = if debezium { json!({ "type": "int", "connect.name": "io.debezium.time.Date" }) } else { json!({ "type": "int", "logicalType": "date" }) };
                (ty, json!(n), json!(row::text_of(Type::Date, &Value::Date(n as i32))))
            })
            .boxed(),
        "t" => (0i64..86_400_000, any::<bool>())
            .prop_map(|(ms, fine)| match fine {
                true => time_cell(Type::Time(6), ms * 1000 + 7, json!({ "type": "long", "logicalType": "time-micros" })),
                false => time_cell(Type::Time(6), ms * 1000, json!({ "type": "int", "logicalType": "time-millis" })),
            })
            .boxed(),
        // A finer one does not fit the declared precision: a reject in both.
        "ts" => (-4_000_000_000_000i64..4_000_000_000_000, 0..9)
            .prop_map(|(ms, how)| match how {
                0 => time_cell(Type::Timestamp(6, false), ms * 1000 + 7, json!({ "type": "long", "logicalType": "local-timestamp-micros" })),
                1..5 => time_cell(Type::Timestamp(6, false), ms * 1000, json!({ "type": "long", "connect.name": "io.debezium.time.MicroTimestamp" })),
                _ => time_cell(Type::Timestamp(6, false), ms * 1000, json!({ "type": "long", "logicalType": "timestamp-millis" })),
            })
            .boxed(),
        "tz" => (-4_000_000_000_000i64..4_000_000_000_000, any::<bool>())
            .prop_map(|(ms, as_text)| match as_text {
                true => {
                    let text = row::text_of(Type::Timestamp(6, true), &Value::Timestamp(ms * 1000));
                    (json!({ "type": "string", "connect.name": "io.debezium.time.ZonedTimestamp" }), json!(text), json!(text))
                }
                false => time_cell(Type::Timestamp(6, true), ms * 1000 + 3, json!({ "type": "long", "logicalType": "timestamp-micros" })),
            })
            .boxed(),
        "u" => (any::<[u8; 16]>(), any::<bool>())
            .prop_map(|(uuid, as_text)| {
                let text = json!(row::text_of(Type::Uuid, &Value::Uuid(uuid)));
                match as_text {
                    true => (json!({ "type": "string", "logicalType": "uuid" }), text.clone(), text),
                    false => (json!({ "type": "fixed", "name": "U", "size": 16, "logicalType": "uuid" }), latin(&uuid), text),
                }
            })
            .boxed(),
        "by" => prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| (json!("bytes"), latin(&bytes), json!(row::hex(&bytes)))).boxed(),
        "doc" => prop_oneof![
            Just((json!({ "type": "string", "connect.name": "io.debezium.data.Json" }), json!("{\"a\": 1}"), json!("{\"a\": 1}"))),
            (any::<i32>(), text).prop_map(|(n, t)| {
                let ty = json!({ "type": "record", "name": "D", "fields": [{ "name": "n", "type": "int" }, { "name": "t", "type": ["string", "null"] }, { "name": "z", "type": "null" }] });
                (ty, json!({ "n": n, "t": t }), json!({ "n": n, "t": t, "z": null }))
            }),
            prop::collection::btree_map("[a-z]{1,3}", any::<bool>(), 0..3).prop_map(|map| (json!({ "type": "map", "values": "boolean" }), json!(map), json!(map))),
        ]
        .boxed(),
        "arr" => prop::collection::vec(prop::option::of(-9i32..9), 0..6)
            .prop_map(|list| (json!({ "type": "array", "items": ["null", "int"] }), json!(list), json!(list)))
            .boxed(),
        _ => any::<bool>()
            .prop_map(|full| {
                let inner = json!({ "type": "record", "name": "O", "fields": [
                    { "name": "list", "type": { "type": "array", "items": { "type": "map", "values": ["null", "bytes"] } } }, { "name": "f", "type": "float" },
                ] });
                let list = if full { json!([{}, { "k": "\u{1}", "l": null }, {}]) } else { json!([]) };
                (inner, json!({ "list": list, "f": 0.5 }), Json::Null)
            })
            .boxed(),
    }
}

/// A record with some of the columns and others, in any order: its fields with their schemas, values, and values in JSON.
fn record_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(&'static str, Cell)>> {
    // 0: the field lacks; 1 and 2: it may be null, and is or is not; else it may not.
    let field = |name: &'static str| {
        (cell(name), 0..6, any::<bool>()).prop_map(move |((ty, value, json), how, null_first)| {
            let or_null = |ty: Json| if null_first { json!(["null", ty]) } else { json!([ty, "null"]) };
            match how {
                0 => None,
                1 => Some((name, (or_null(ty), Json::Null, Json::Null))),
                2 => Some((name, (or_null(ty), value, json))),
                _ => Some((name, (ty, value, json))),
            }
        })
    };
    let fields: Vec<_> = names.iter().map(|name| field(name)).collect();
    fields.prop_map(|list| list.into_iter().flatten().collect::<Vec<_>>()).prop_shuffle()
}

fn in_avro(id: u32, fields: &[(&str, Cell)]) -> (Json, Vec<u8>) {
    let list: Vec<Json> = fields.iter().map(|(name, (ty, ..))| json!({ "name": name, "type": ty })).collect();
    let schema = json!({ "type": "record", "name": "R", "fields": list });
    let value: serde_json::Map<String, Json> = fields.iter().map(|(name, (_, value, _))| (name.to_string(), value.clone())).collect();
    let bytes = message(id, &schema, &Json::Object(value));
    (schema, bytes)
}

fn in_json(fields: &[(&str, Cell)]) -> Vec<u8> {
    let map: serde_json::Map<String, Json> =
        fields.iter().filter(|(name, _)| *name != "other").map(|(name, (.., json))| (name.to_string(), json.clone())).collect();
    Json::Object(map).to_string().into_bytes()
}

/// The records of a message as text, of rejects only the code; and all packed bytes.
fn records(decoder: &mut dyn Decoder, source: &Source, key: &[u8], value: Option<&[u8]>) -> String {
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    decoder.decode(Message { key: Some(key), value, timestamp: Some(5), ..Message::default() }, &mut batch);
    batch.rejects.iter_mut().for_each(|reject| reject.cause.clear());
    let packed: Vec<_> = batch.spans.iter().map(|span| (span.lack(), format!("{:?}", span.field(&batch.bytes)))).collect();
    format!("{} {packed:?}", show(&batch, source))
}

const NAMES: &[&str] = &["id", "part", "n", "name", "d", "f", "b", "day", "t", "ts", "tz", "u", "by", "doc", "arr", "other"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_is_the_same_row_in_json(key in record_of(&["id", "part"]), rows in prop::collection::vec(record_of(NAMES), 1..4), gone in any::<bool>()) {
        let (key_schema, key_bytes) = in_avro(1, &key);
        // What the key has, most rows have too, with the same values; the others are rejects.
        let mut rows = rows;
        for (name, cell) in rows.iter_mut().take(2).flatten() {
            if let Some((_, of_key)) = key.iter().find(|(known, _)| known == name) {
                *cell = of_key.clone();
            }
        }
        let rows: Vec<_> = rows.iter().enumerate().map(|(i, row)| (in_avro(2 + i as u32, row), in_json(row))).collect();
        let known = schemas(rows.iter().enumerate().map(|(i, ((schema, _), _))| (2 + i as u32, schema)).chain([(1, &key_schema)]));
        let (avro, json) = (source("upsert-avro", COLUMNS, "id,part"), source("upsert-json", COLUMNS, "id,part"));
        // As in a topic: key and value apart.
        let json = crate::plan::Source { log: topic(), ..json };
        let wanted = vec![true; avro.columns.len()];
        let (mut decoder, mut model) = (UpsertAvro::new(&avro, &wanted, known), UpsertJson::new(&json, &wanted));
        for ((_, value), text) in &rows {
            let (value, text) = if gone { (None, None) } else { (Some(value.as_slice()), Some(text.as_slice())) };
            prop_assert_eq!(records(&mut decoder, &avro, &key_bytes, value), records(&mut model, &json, &in_json(&key), text));
        }
    }

    #[test]
    fn garbage_is_a_reject_or_a_row(
        row in record_of(NAMES),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in any::<prop::sample::Index>(),
        whole in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (schema, mut bytes) = in_avro(0, &row);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        let known = schemas([(0, &schema)]);
        for format in ["upsert-avro", "debezium-avro"] {
            let source = crate::plan::Source { schemas: Some(known.clone()), ..source(format, COLUMNS, "id") };
            let mut decoder = crate::format::decoder(&source, &vec![true; source.columns.len()]);
            let of_zeros = [&[0; 5][..], &whole].concat();
            for value in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)], &whole, &of_zeros] {
                let mut batch = Batch::default();
                batch.clear(source.columns.len());
                for message in [Message { key: Some(value), value: Some(value), ..Message::default() }, Message { key: Some(value), ..Message::default() }] {
                    decoder.source_time(message);
                    decoder.decode(message, &mut batch);
                }
                show(&batch, &source);
                prop_assert_eq!(batch.rejects.len(), batch.records.iter().filter(|r| r.op == Op::Reject).count());
            }
        }
    }
}

fn topic() -> crate::plan::LogSpec {
    crate::plan::LogSpec::Topic { topic: "t".into(), start: crate::plan::Start::Beginning, heartbeat: crate::plan::Heartbeat::None }
}

/// Messages of several versions of a schema in one topic, in any order.
#[test]
fn versions_of_a_schema_live_in_one_topic() {
    let record = |fields: Json| json!({ "type": "record", "name": "R", "fields": fields });
    let key = json!("long");
    let versions = [
        (
            record(json!([{ "name": "id", "type": "long" }, { "name": "n", "type": "int" }, { "name": "f", "type": "float" }])),
            json!({ "id": 1, "n": 2, "f": 0.1 }),
        ),
        // Widened, reordered, one made optional, one added.
        (
            record(json!([{ "name": "f", "type": "double" }, { "name": "added", "type": ["null", "string"] }, { "name": "n", "type": ["null", "long"] }])),
            json!({ "f": 0.1, "n": 2, "added": "x" }),
        ),
        (record(json!([{ "name": "added", "type": ["null", "string"] }, { "name": "n", "type": ["long", "null"] }])), json!({ "n": null, "added": null })),
        // Removed.
        (record(json!([])), json!({})),
        // Beyond what is declared.
        (record(json!([{ "name": "n", "type": "long" }])), json!({ "n": 3_000_000_000i64 })),
        // To another type.
        (record(json!([{ "name": "n", "type": { "type": "array", "items": "string" } }])), json!({ "n": ["a", "b"] })),
    ];
    let known = schemas(versions.iter().enumerate().map(|(i, (schema, _))| (10 + i as u32, schema)).chain([(1, &key)]));
    let source = source("upsert-avro", "id bigint, n int, f double, added varchar", "id");
    let mut decoder = UpsertAvro::new(&source, &[true; 4], known);
    let key = message(1, &key, &json!(1));
    let expected = [
        "upsert id=1 n=2 f=0.1 added=?",
        "upsert id=1 n=2 f=0.1 added=x",
        "upsert id=1 n=- f=? added=-",
        "upsert id=1 n=? f=? added=?",
        "reject VALUE_OUT_OF_RANGE column `n` is declared int, which cannot hold 3000000000 exactly [1] id=1 n=? f=? added=?",
        "reject TYPE_MISMATCH column `n` is declared int; [\"a\",\"b\"] is not one [1] id=1 n=? f=? added=?",
    ];
    for at in [0, 1, 2, 3, 4, 5, 3, 0, 2, 1] {
        let (schema, value) = &versions[at];
        let bytes = message(10 + at as u32, schema, value);
        let mut batch = Batch::default();
        batch.clear(4);
        decoder.decode(Message { key: Some(&key), value: Some(&bytes), ..Message::default() }, &mut batch);
        assert_eq!(show(&batch, &source), expected[at]);
    }
}

/// Bytes by hand, after the specification.
#[test]
fn golden_bytes() {
    let row = json!({ "type": "record", "name": "R", "fields": [{ "name": "a", "type": "long" }, { "name": "b", "type": ["null", "string"] }, { "name": "c", "type": { "type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2 } }] });
    let key = json!({ "type": "record", "name": "K", "fields": [{ "name": "a", "type": "long" }] });
    let source = source("upsert-avro", "a bigint, b varchar, c decimal(4,2)", "a");
    let mut decoder = UpsertAvro::new(&source, &[true; 3], schemas([(258, &row), (1, &key)]));
    let mut feed = |key: Option<&[u8]>, value: Option<&[u8]>| {
        let mut batch = Batch::default();
        batch.clear(3);
        decoder.decode(Message { key, value, ..Message::default() }, &mut batch);
        show(&batch, &source)
    };
    let key = [0, 0, 0, 0, 1, 0x80, 0x01];
    assert_eq!(feed(Some(&key), Some(&[0, 0, 0, 1, 2, 0x80, 0x01, 0x02, 0x06, b'f', b'o', b'o', 0x04, 0xff, 0x38])), "upsert a=64 b=foo c=-2.00");
    assert_eq!(feed(Some(&key), Some(&[0, 0, 0, 1, 2, 0x80, 0x01, 0x00, 0x02, 0x05])), "upsert a=64 b=- c=0.05");
    let contradicts = "reject DECODE_FAILED key column `a` is 64 in the key and -1 in the value [64] a=64 b=? c=?";
    assert_eq!(feed(Some(&key), Some(&[0, 0, 0, 1, 2, 0x01, 0x00, 0x02, 0x05])), contradicts);
    assert_eq!(feed(Some(&key), None), "delete a=64 b=? c=?");
    for (value, why) in [
        (&[0, 0, 0, 1, 2, 0x01, 0x04][..], "byte 6: a union has no such branch"),
        (&[0, 0, 0, 1, 2, 0x01, 0x02, 0x05], "byte 7: a length is negative"),
        (&[0, 0, 0, 1, 2, 0x01, 0x02, 0x08, b'f'], "byte 8: the message ends within a value"),
        (&[0, 0, 0, 1, 2, 0x01, 0x02, 0x02, 0xff, 0x00], "byte 7: text is not UTF-8"),
        (&[0, 0, 0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], "byte 14: a number has more than 64 bits"),
    ] {
        assert_eq!(feed(Some(&key), Some(value)), format!("reject DECODE_FAILED {why} [64] a=64 b=? c=?"));
    }
    assert_eq!(
        feed(Some(b"7"), Some(&[0, 0, 0, 1, 2, 0x01, 0x00, 0x02, 0x05])),
        "reject DECODE_FAILED message key: not in the registry's wire format (a zero byte and four of the schema's id): it begins with 37 [-1] a=-1 b=? c=?"
    );
}

#[test]
fn what_the_connector_could_not_know_is_unknown_in_all_its_forms() {
    let uuid = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
    let map = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;
    let of_text = json!({ "type": "array", "items": "string" });
    for (ty, schema, value, is_unknown) in [
        ("varchar", json!("string"), json!("__debezium_unavailable_value"), true),
        ("varchar", json!("string"), json!(map), true),
        ("json", json!("string"), json!(map), true),
        ("array", of_text.clone(), json!([uuid]), true),
        ("array", of_text.clone(), json!([uuid, uuid]), false),
        ("varchar", json!("string"), json!(uuid), false),
    ] {
        let (row, key) = (json!({ "type": "record", "name": "R", "fields": [{ "name": "v", "type": schema }] }), json!("long"));
        let source = source("upsert-avro", &format!("id bigint, v {ty}"), "id");
        let mut decoder = UpsertAvro::new(&source, &[true; 2], schemas([(1, &key), (2, &row)]));
        let shown = records(&mut decoder, &source, &message(1, &key, &json!(1)), Some(&message(2, &row, &json!({ "v": value }))));
        assert_eq!(shown.starts_with("5 upsert id=1 v=! "), is_unknown, "{ty}: {shown}");
    }
}
