//! What a viewer sees in messages of each format.

use super::*;
use crate::format::testing::source;

fn look(viewer: &mut Viewer, value: &[u8]) -> Option<String> {
    let seen = viewer.look(Message { value: Some(value), ..Message::default() })?;
    let one = |field: &Field| match &field.ty {
        Some(ty) => format!("{} {ty}", field.name),
        None => field.name.clone(),
    };
    Some(seen.fields.0.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[test]
fn rows_are_found_where_each_format_has_them() {
    for (format, message, expected) in [
        ("debezium-json", r#"{"before":{"x":1},"after":{"b":1,"a":{"c":2}},"op":"u"}"#, Some("a, b")),
        ("debezium-json", r#"{"schema":null,"payload":{"before":null,"after":{"a":1},"op":"c"}}"#, Some("a")),
        ("debezium-json", r#" { "op":"c", "after" : { "\u0061":1 } }"#, Some("a")),
        ("debezium-json", r#"{"before":{"a":1},"after":null,"op":"d"}"#, None),
        ("debezium-json", r#"{"schema":null,"payload":null}"#, None),
        ("debezium-json", r#"{"ts_ms":1}"#, None),
        ("debezium-json", r#"{"schema":{"type":"struct","fields":[{"type":"int64","field":"ts_ms"}],"name":"Heartbeat"},"payload":{"ts_ms":1}}"#, None),
        (
            "debezium-json",
            r#"{"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int32","field":"a"}],"field":"after"}]},"payload":{"after":null,"op":"d"}}"#,
            Some("a int32"),
        ),
        ("debezium-json", r#"{"after":{"a":1"#, None),
        ("debezium-json", "null", None),
        ("debezium-json", "", None),
        ("upsert-json", r#"{"key":{"id":1},"value":{"v":1},"ts_ms":3}"#, Some("v")),
        ("upsert-json", r#"{"key":{"id":1},"value":null}"#, None),
        ("json", r#"{"id":1,"v":2}"#, Some("id, v")),
        ("json", "[1]", None),
    ] {
        let mut viewer = Viewer::new(&source(format, "id int", "id"));
        assert_eq!(look(&mut viewer, message.as_bytes()).as_deref(), expected, "{format} {message}");
        assert_eq!(look(&mut viewer, message.as_bytes()).as_deref(), expected, "again: {format} {message}");
    }
}

#[test]
fn names_in_another_order_are_the_same_fields() {
    let mut viewer = Viewer::new(&source("json", "id int", "id"));
    let messages: [&[u8]; 3] = [br#"{"a":1,"b":2}"#, br#"{"b":1,"a":2}"#, br#"{"a":1,"b":2}"#];
    let [one, turned, again] = messages.map(|value| viewer.look(Message { value: Some(value), ..Message::default() }).unwrap());
    assert_eq!(one.fields, turned.fields);
    assert!(Arc::ptr_eq(&one, &again), "what was seen is remembered");
}

#[test]
fn schemas_of_avro_are_told_by_their_ids() {
    let all: Json = serde_json::from_str(include_str!("../../../tests/samples/debezium/avro/schemas.json")).unwrap();
    let schemas = Arc::new(Schemas::default());
    for (id, schema) in all.as_object().unwrap() {
        let text = schema.as_str().map_or_else(|| schema.to_string(), str::to_string);
        if let Ok(schema) = Schema::parse(&text, &[]) {
            schemas.put(id.parse().unwrap(), avro::Known::Schema(Arc::new(schema)));
        }
    }
    let declared = Source { schemas: Some(schemas), ..source("debezium-avro", "id int, name varchar", "id") };
    let mut viewer = Viewer::new(&declared);
    let samples = include_str!("../../../tests/samples/debezium/avro/01-customer-and-types.ndjson");
    let mut seen = Vec::new();
    for record in samples.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let Some(text) = record["value"]["base64"].as_str() else { continue };
        let mut bytes = Vec::new();
        crate::format::text::base64(text.as_bytes(), &mut bytes).unwrap();
        seen.extend(look(&mut viewer, &bytes).filter(|fields| fields.starts_with("active")));
    }
    seen.dedup();
    assert_eq!(seen, ["active boolean, credit decimal of scale 4, id long, mail string, name string, tier string, updated_at string"]);
    assert_eq!(look(&mut viewer, &[0, 0, 1, 1, 1]), None, "a schema that nobody knows");
}
