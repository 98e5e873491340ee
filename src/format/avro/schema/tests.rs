//! Schemas: names, references, what types stand for, and what is none.

use super::*;

fn parse(text: &str) -> Result<Schema, String> {
    Schema::parse(text, &[])
}

#[test]
fn names_are_looked_up_in_their_namespaces() {
    let schema = parse(
        r#"{"type":"record","name":"a.R","fields":[{"name":"x","type":{"type":"enum","name":"E","symbols":["p"]}},{"name":"y","type":"E"},{"name":"z","type":["null","a.E"]},
        {"name":"w","type":{"type":"record","name":"S","namespace":"b","fields":[{"name":"e","type":"a.E"},{"name":"again","type":["null","S"]}]}},{"name":"v","type":"b.S"}]}"#,
    )
    .expect("a schema");
    let Kind::Record(fields) = schema.kind(schema.root) else { panic!("a record") };
    assert_eq!(fields[0].1, fields[1].1);
    assert_eq!(fields[3].1, fields[4].1);
    assert!(schema.record(schema.root).is_some());
}

#[test]
fn references_bring_their_names() {
    let parts = [r#"{"type":"fixed","name":"c.F","size":2}"#.to_string(), r#"{"type":"record","name":"c.P","fields":[{"name":"f","type":"F"}]}"#.to_string()];
    let text = r#"{"type":"record","name":"R","fields":[{"name":"p","type":"c.P"}]}"#;
    assert!(Schema::parse(text, &parts).is_ok());
    assert_eq!(parse(text).unwrap_err(), "field `p` of `R`: there is no type `c.P`");
}

#[test]
fn types_say_what_they_stand_for() {
    let says = |text: &str| {
        let schema = parse(text).expect("a schema");
        schema.says(schema.root)
    };
    for (text, meaning) in [
        (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, Says::Decimal(2)),
        (r#"{"type":"bytes","logicalType":"decimal","precision":4}"#, Says::Decimal(0)),
        (r#"{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal","connect.parameters":{"scale":"-3"}}"#, Says::Decimal(-3)),
        (r#"{"type":"int","connect.name":"io.debezium.time.Date"}"#, Says::Count(Unit::Days)),
        (r#"{"type":"long","connect.name":"io.debezium.time.NanoTime"}"#, Says::Count(Unit::Nanos)),
        (r#"{"type":"long","logicalType":"timestamp-millis","connect.name":"org.apache.kafka.connect.data.Timestamp"}"#, Says::Count(Unit::Millis)),
        (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, Says::Count(Unit::Micros)),
        (r#"{"type":"bytes","connect.name":"io.debezium.data.Bits"}"#, Says::Bits),
        (r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#, Says::Uuid),
        // These do not go together, so that the name says nothing.
        (r#"{"type":"string","logicalType":"timestamp-millis"}"#, Says::Nothing),
        (r#"{"type":"string","connect.name":"io.debezium.time.MicroTimestamp"}"#, Says::Nothing),
    ] {
        assert_eq!(says(text), meaning, "{text}");
    }
}

#[test]
fn what_is_no_schema_says_why() {
    for (text, why) in [
        ("{", "it is no JSON: EOF while parsing an object at line 1 column 1"),
        ("7", "`7` is no type"),
        ("\"strin\"", "there is no type `strin`"),
        ("[]", "a union has no branches"),
        ("[\"null\",[\"int\"]]", "a union stands immediately in a union"),
        (r#"{"type":"array"}"#, "an array has no `items`"),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "`F` has no `size`"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#, "the record `R` has two fields `a`"),
    ] {
        assert_eq!(parse(text).unwrap_err(), why, "{text}");
    }
}

/// Schemas that would run on for ever or need no bytes for much.
#[test]
fn a_schema_can_not_make_a_reader_run_on() {
    use crate::format::avro::read::Cursor;
    let endless = parse(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"},{"name":"s","type":"R"}]}"#).expect("a schema");
    assert!(Cursor::new(&[0; 8], 0).skip(&endless, endless.root).is_err());
    let mut doubling = String::from(r#"{"type":"record","name":"A0","fields":[]}"#);
    for n in 1..60 {
        doubling = format!(r#"{{"type":"record","name":"A{n}","fields":[{{"name":"x","type":{doubling}}},{{"name":"y","type":"A{}"}}]}}"#, n - 1);
    }
    // (Deeper than this serde_json reads none.)
    if let Ok(schema) = parse(&doubling) {
        assert!(Cursor::new(&[], 0).skip(&schema, schema.root).is_ok());
    }
    let nulls = parse(r#"{"type":"array","items":"null"}"#).expect("a schema");
    let mut many = Vec::new();
    crate::row::pack_int(&mut many, i64::MAX);
    assert!(Cursor::new(&many, 0).skip(&nulls, nulls.root).is_err());
}
