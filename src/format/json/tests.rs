//! Messages in, records out, as text.

use super::*;
use crate::format::testing::{feed, source};

fn check(key: &str, message: Option<&str>, expected: &str) {
    let source = source("json", "id bigint, seen timestamp, tags varchar[], doc json", key);
    assert_eq!(feed(&mut Json::new(&source, &[true; 4]), &source, &[(None, message)]), expected);
}

#[test]
fn each_message_is_a_row() {
    let row = r#"{"id":1,"seen":"2026-01-02 03:04:05.000006","tags":["a", 1],"doc":{"b": [1.10 , "x y"]}}"#;
    let expected = r#"upsert id=1 seen=2026-01-02T03:04:05.000006 tags=["a",1] doc={"b":[1.10,"x y"]}"#;
    check("", Some(row), expected);
    check("id", Some(row), expected);
    check("", Some("{}"), "upsert id=? seen=? tags=? doc=?");
    check("", None, "skip");
    check("id", Some("{}"), "reject KEY_MISSING key column `id`: the message has no such field id=? seen=? tags=? doc=?");
    check("id", Some("null"), "reject DECODE_FAILED the message is null, where a row (an object) was expected id=? seen=? tags=? doc=?");
    check("id", Some(r#"{"id":3,"doc":"{"}"#), "reject TYPE_MISMATCH column `doc` is declared json; \"{\" is not one [3] id=3 seen=? tags=? doc=?");
    check("id", Some(r#"{"id":3,"#), "reject DECODE_FAILED the message ends at byte 8, where the name of a field was expected id=? seen=? tags=? doc=?");
}
