//! Messages in, records out, as text.

use super::*;
use crate::{
    format::testing::{feed, source},
    plan::{Heartbeat, Start},
};

const COLUMNS: &str = "id bigint, part varchar, raw bytes, n int";

fn topic(messages: &[(Option<&str>, Option<&str>)]) -> String {
    let mut source = source("upsert-json", COLUMNS, "id,part");
    source.log = LogSpec::Topic { topic: "t".into(), start: Start::Beginning, heartbeat: Heartbeat::None };
    feed(&mut UpsertJson::new(&source, &[true; 4]), &source, messages)
}

fn line(text: &str) -> String {
    let source = source("upsert-json", COLUMNS, "id,part");
    feed(&mut UpsertJson::new(&source, &[true; 4]), &source, &[(None, Some(text))])
}

#[test]
fn a_topic_has_the_key_in_the_message_key() {
    let key = Some(r#"{"id":1,"part":"a"}"#);
    assert_eq!(topic(&[(key, Some(r#"{"raw":"00ff","n":3}"#))]), "upsert id=1 part=a raw=00ff n=3");
    assert_eq!(topic(&[(key, Some(r#"{"id":1.0,"part":"\u0061","n":null}"#))]), "upsert id=1 part=a raw=? n=-");
    assert_eq!(
        topic(&[(key, Some(r#"{"id":2,"n":null}"#))]),
        r#"reject DECODE_FAILED key column `id` is 1 in the key and 2 in the value [[1,"a"]] id=1 part=a raw=? n=?"#
    );
    assert_eq!(topic(&[(None, Some(r#"{"id":2,"part":"b"}"#))]), "upsert id=2 part=b raw=? n=?");
    assert_eq!(topic(&[(key, None)]), "delete id=1 part=a raw=? n=?");
    assert_eq!(topic(&[(key, Some("null"))]), "delete id=1 part=a raw=? n=?");
    assert_eq!(
        topic(&[(Some(r#"{"id":1}"#), None)]),
        r#"reject KEY_MISSING key column `part`: the message has no such field [[1,null]] id=1 part=? raw=? n=?"#
    );
    assert_eq!(topic(&[(None, None)]), "reject KEY_MISSING key column `id`: the message has no such field id=? part=? raw=? n=?");
    assert_eq!(
        topic(&[(key, Some(r#"{"n":99999999999}"#))]),
        "reject VALUE_OUT_OF_RANGE column `n` is declared int, which cannot hold 99999999999 exactly [[1,\"a\"]] id=1 part=a raw=? n=?"
    );
    assert_eq!(topic(&[(key, Some("["))]), "reject DECODE_FAILED the message ends at byte 1, where a value was expected [[1,\"a\"]] id=1 part=a raw=? n=?");
    assert!(topic(&[(Some("7"), Some("{}"))]).starts_with("reject DECODE_FAILED message key: byte 0 is `7`, where an object was expected"));
}

#[test]
fn a_line_of_a_file_has_both() {
    assert_eq!(line(r#"{"key":{"id":1,"part":"a"},"value":{"n":3},"ts_ms":12}"#), "12 upsert id=1 part=a raw=? n=3");
    assert_eq!(line(r#"{"value":{"id":1,"part":"a","n":3}}"#), "upsert id=1 part=a raw=? n=3");
    assert_eq!(line(r#"{"value":null,"key":{"id":1,"part":"a"}}"#), "delete id=1 part=a raw=? n=?");
    assert_eq!(line(r#"{"key":{"id":1,"part":"a"}}"#), "reject DECODE_FAILED the line has no `value` [[1,\"a\"]] id=1 part=a raw=? n=?");
    assert!(line(r#"{"key":1,"value":{}}"#).starts_with("reject DECODE_FAILED `key` is not an object"));
    assert!(line(r#"{"key":{},"value":[]}"#).starts_with("reject DECODE_FAILED `value` is neither an object nor null"));
    assert!(line("").starts_with("reject DECODE_FAILED the message ends at byte 0"));
}

/// A message whose key and value name different rows is no row of either.
#[test]
fn a_key_and_a_value_that_contradict_each_other_are_a_reject_of_the_key() {
    let of = |key: &str, value: &str| line(&format!(r#"{{"key":{key},"value":{value}}}"#));
    let said = of(r#"{"id":9,"part":"a"}"#, r#"{"id":10,"part":"a","n":1}"#);
    assert_eq!(said, r#"reject DECODE_FAILED key column `id` is 9 in the key and 10 in the value [[9,"a"]] id=9 part=a raw=? n=?"#);
    let said = of(r#"{"id":9,"part":"a"}"#, r#"{"id":9,"part":null}"#);
    assert_eq!(said, r#"reject DECODE_FAILED key column `part` is "a" in the key and null in the value [[9,"a"]] id=9 part=a raw=? n=?"#);
    // A part that the key does not have is the value's.
    assert_eq!(of(r#"{"id":9}"#, r#"{"id":9,"part":"a","n":1}"#), "upsert id=9 part=a raw=? n=1");
    let said = of(r#"{"id":null,"part":"a"}"#, r#"{"id":9,"part":"a","n":1}"#);
    assert_eq!(said, r#"reject KEY_MISSING key column `id`: it is null [[null,"a"]] id=? part=a raw=? n=?"#);
    let said = of(r#"{"id":"x","part":"a"}"#, r#"{"id":9,"part":"a"}"#);
    assert!(said.starts_with(r#"reject TYPE_MISMATCH column `id` is declared bigint; "x" is not one [[null,"a"]]"#), "{said}");
}

#[test]
fn source_time_is_told_without_decoding() {
    let decoder = UpsertJson::new(&source("upsert-json", COLUMNS, "id,part"), &[true; 4]);
    let time = |text: &str| decoder.source_time(Message { value: Some(text.as_bytes()), ..Message::default() });
    assert_eq!(time(r#"{"key":{},"value":{"ts_ms":1},"ts_ms":5}"#), Some(5));
    assert_eq!(time(r#"{"key":{},"value":{"ts_ms":1}}"#), None);
}
