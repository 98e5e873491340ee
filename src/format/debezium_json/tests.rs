//! Events in, records out, as text.

use super::*;
use crate::format::testing::{feed, source};

const COLUMNS: &str = "id bigint, name varchar, amount decimal(18,2), day date, at timestamp(3) with time zone";

fn check(message: (Option<&str>, Option<&str>), expected: &str) {
    let source = source("debezium-json", COLUMNS, "id");
    let mut decoder = DebeziumJson::new(&source, &[true; 5]);
    assert_eq!(feed(&mut decoder, &source, &[message]), expected, "{message:?}");
}

fn value(text: &str) -> (Option<&str>, Option<&str>) {
    (None, Some(text))
}

#[test]
fn rows_are_read() {
    check(
        value(
            r#"{"before":null,"after":{"id":7,"name":"Ann","amount":"10.50","day":20541,"at":"2026-03-29T01:00:00.5Z"},"source":{"ts_ms":5},"op":"c","ts_ms":8}"#,
        ),
        "5 upsert id=7 name=Ann amount=10.50 day=2026-03-29 at=2026-03-29T01:00:00.500Z",
    );
    check(
        value(r#" { "op" : "r" , "after" : { "name" : "a\u00e9\n\ud83d\ude00" , "id" : 7.0 } , "ts_ms":8 } "#),
        "8 upsert id=7 name=aé\n😀 amount=? day=? at=?",
    );
    check(value(r#"{"op":"c","after":{"id":1,"name":null}}"#), "upsert id=1 name=- amount=? day=? at=?");
    check(value(r#"{"op":"c","after":{"id":1,"id":2,"name":"__debezium_unavailable_value"}}"#), "upsert id=2 name=! amount=? day=? at=?");
}

#[test]
fn operations_do_what_they_say() {
    check(value(r#"{"op":"d","before":{"id":7,"name":"","amount":"nonsense"},"after":null}"#), "delete id=7 name=? amount=? day=? at=?");
    check((Some(r#"{"id":9}"#), Some(r#"{"op":"d","before":null,"after":null}"#)), "delete id=9 name=? amount=? day=? at=?");
    check((Some(r#"{"id":9}"#), None), "delete id=9 name=? amount=? day=? at=?");
    check(
        (Some(r#"{"schema":{"type":"struct","fields":[{"type":"int64","field":"id"}]},"payload":{"id":9}}"#), None),
        "delete id=9 name=? amount=? day=? at=?",
    );
    check((Some(r#"{"other":9}"#), None), "skip");
    check((None, None), "skip");
    check((Some("not json"), Some("null")), "skip");
    check(value(r#"{"op":"t","before":null,"after":null,"source":{"ts_ms":3}}"#), "3 truncate");
    check(value(r#"{"op":"m","message":{"prefix":"x"},"source":{"ts_ms":3}}"#), "3 skip");
    // A heartbeat is no time of the source.
    check(value(r#"{"ts_ms":3}"#), "skip");
    check(value(r#"{"schema":{"type":"struct"},"payload":{"ts_ms":3}}"#), "skip");
    check(value(r#"{"status":"BEGIN","id":"777:1","event_count":null,"data_collections":null,"ts_ms":4}"#), "4 skip");
    check(value(r#"{"source":{"ts_ms":1},"ts_ms":4,"databaseName":"erp","ddl":"ALTER","tableChanges":[]}"#), "1 skip");
}

#[test]
fn without_a_key_an_event_is_whole_rows() {
    let source = source("debezium-json", "a int, b varchar", "");
    let mut decoder = DebeziumJson::new(&source, &[true; 2]);
    let full = "set REPLICA IDENTITY FULL in PostgreSQL, binlog_row_image=FULL in MariaDB and MySQL";
    for (event, expected) in [
        (r#"{"op":"c","before":null,"after":{"a":1,"b":null}}"#, "upsert a=1 b=-".to_string()),
        (r#"{"op":"u","before":{"a":1,"b":"x"},"after":{"a":1,"b":"x"}}"#, "delete a=1 b=x\nupsert a=1 b=x".into()),
        (r#"{"op":"d","after":null,"before":{"b":"x","a":1,"c":2}}"#, "delete a=1 b=x".into()),
        (r#"{"op":"c","after":{"a":1}}"#, "upsert a=1 b=?".into()),
        (r#"{"op":"t","before":null,"after":null}"#, "truncate".into()),
        (
            r#"{"op":"d","before":{"a":1}}"#,
            format!("reject BEFORE_INCOMPLETE `before` has no column `b`; {full}, and declare only columns that change events have a=? b=?"),
        ),
        // Neither half of what can't be read as a whole.
        (
            r#"{"op":"u","before":{"a":1,"b":"x"},"after":{"a":"?","b":"x"}}"#,
            "reject TYPE_MISMATCH column `a` is declared int; \"?\" is not one a=? b=?".into(),
        ),
        (
            r#"{"op":"c","after":{"a":1,"b":"__debezium_unavailable_value"}}"#,
            format!("reject VALUE_UNKNOWN the connector did not send column `b` of `after`, and a table without a key needs whole rows: {full} a=? b=?"),
        ),
        (r#"{"op":"u","before":{"a":1,"b":"x"},"after":null}"#, "reject DECODE_FAILED operation `u` has no `after` a=? b=?".into()),
    ] {
        assert_eq!(feed(&mut decoder, &source, &[value(event)]), expected, "{event}");
    }
    // A message key names no row, and a tombstone of it nothing.
    assert_eq!(feed(&mut decoder, &source, &[(Some(r#"{"a":1}"#), None)]), "skip");
    let bare = feed(&mut decoder, &source, &[(Some(r#"{"a":1}"#), Some(r#"{"op":"d","before":null}"#))]);
    assert!(bare.starts_with("reject BEFORE_INCOMPLETE operation `d` has no `before`"), "{bare}");
}

#[test]
fn a_row_that_moves_leaves_its_old_key() {
    check(
        value(r#"{"op":"u","before":{"id":1,"name":"a"},"after":{"id":2,"name":"a"}}"#),
        "delete id=1 name=? amount=? day=? at=?\nupsert id=2 name=a amount=? day=? at=?",
    );
    check(value(r#"{"op":"u","before":{"id":1.0},"after":{"id":1}}"#), "upsert id=1 name=? amount=? day=? at=?");
    check(value(r#"{"op":"u","before":{"id":null},"after":{"id":1}}"#), "upsert id=1 name=? amount=? day=? at=?");
    check(
        value(r#"{"op":"u","before":{"id":1},"after":{"id":2,"day":"soon"}}"#),
        "delete id=1 name=? amount=? day=? at=?\nreject TYPE_MISMATCH column `day` is declared date; \"soon\" is not one [2] id=2 name=? amount=? day=? at=?",
    );
}

#[test]
fn what_cannot_be_read_is_rejected_with_its_key() {
    let lack = "name=? amount=? day=? at=?";
    let fails = |message: &str, expected: &str| check((Some(r#"{"id":9}"#), Some(message)), expected);
    fails("{", &format!("reject DECODE_FAILED the message ends at byte 1, where the name of a field was expected [9] id=9 {lack}"));
    fails(r#"{"op":"c","after":{"id":1}}x"#, &format!("reject DECODE_FAILED byte 27 is `x`, where the end of the message was expected [9] id=9 {lack}"));
    fails("17", &format!("reject DECODE_FAILED byte 0 is `1`, where a change event (an object) was expected [9] id=9 {lack}"));
    fails(r#"{"op":"x"}"#, &format!("reject DECODE_FAILED `op` is x; known are r, c, u, d, t, m [9] id=9 {lack}"));
    fails(r#"{"id":1}"#, &format!("reject DECODE_FAILED not a change event of Debezium: it has no `op` [9] id=9 {lack}"));
    fails(r#"{"op":"u","after":null}"#, &format!("reject DECODE_FAILED operation `u` has no `after` [9] id=9 {lack}"));
    fails(
        r#"{"op":"c","after":{"id":4,"amount":"1.234"}}"#,
        &format!("reject VALUE_OUT_OF_RANGE column `amount` is declared decimal(18,2), which cannot hold \"1.234\" exactly [4] id=4 {lack}"),
    );
    fails(
        r#"{"op":"c","after":{"id":4,"at":"2026-03-29T01:00:00.0001Z"}}"#,
        &format!(
            "reject VALUE_OUT_OF_RANGE column `at` is declared timestamp(3) with time zone, which cannot hold \"2026-03-29T01:00:00.0001Z\" exactly [4] id=4 {lack}"
        ),
    );
    fails(r#"{"op":"c","after":{"id":"4"}}"#, &format!("reject TYPE_MISMATCH column `id` is declared bigint; \"4\" is not one [9] id=9 {lack}"));
    fails(r#"{"op":"c","after":{"id":null}}"#, &format!("reject KEY_MISSING key column `id`: it is null [9] id=9 {lack}"));
    fails(r#"{"op":"c","after":{}}"#, &format!("reject KEY_MISSING key column `id`: the message has no such field [9] id=9 {lack}"));
    check(value(r#"{"op":"d","before":null}"#), &format!("reject DECODE_FAILED operation `d` has no `before`, and there is no message key id=? {lack}"));
}

#[test]
fn the_schema_of_a_message_decides_how_values_are_spelled() {
    let schema = r#"{"type":"struct","fields":[{"field":"after","type":"struct","fields":[
        {"field":"id","type":"int64"},
        {"field":"amount","type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"1"}},
        {"field":"at","type":"int64","name":"io.debezium.time.MicroTimestamp"}]}]}"#;
    let payload = r#"{"op":"c","after":{"id":1,"amount":"AeI6","at":1774749599999000},"ts_ms":5}"#;
    let source = source("debezium-json", COLUMNS, "id");
    let mut decoder = DebeziumJson::new(&source, &[true; 5]);
    let first = format!(r#"{{"schema":{schema},"payload":{payload}}}"#);
    let late = format!(r#"{{"payload":{payload},"schema":{schema}}}"#);
    let got = feed(&mut decoder, &source, &[value(&first), value(&late), value(&first)]);
    // AeI6 is 0x01e23a.
    assert_eq!(
        got,
        ["5 upsert id=1 name=? amount=12345.80 day=? at=2026-03-29T01:59:59.999Z"; 3]
            .join("\n")
            .replace("12345.80", &format!("{}.{}0", 0x01e23a / 10, 0x01e23a % 10))
    );
}

#[test]
fn only_wanted_columns_and_the_key_are_read() {
    let source = source("debezium-json", COLUMNS, "id");
    let mut decoder = DebeziumJson::new(&source, &[false, true, false, false, false]);
    assert_eq!(
        feed(&mut decoder, &source, &[value(r#"{"op":"c","after":{"id":1,"name":"a","amount":"nonsense"}}"#)]),
        "upsert id=1 name=a amount=? day=? at=?"
    );
}

#[test]
fn source_time_is_told_without_decoding() {
    let source = source("debezium-json", COLUMNS, "id");
    let decoder = DebeziumJson::new(&source, &[true; 5]);
    let time = |text: &str| decoder.source_time(Message { value: Some(text.as_bytes()), timestamp: Some(1), ..Message::default() });
    assert_eq!(time(r#"{"ts_ms":3,"source":{"ts_us":9,"ts_ms":2},"op":"c"}"#), Some(2));
    assert_eq!(time(r#"{"ts_ms":3}"#), Some(3));
    assert_eq!(time(r#"{"schema":{"ts_ms":7},"payload":{"source":{"ts_ms":2},"op":"c"}}"#), Some(2));
    assert_eq!(time("{"), Some(1));
}
