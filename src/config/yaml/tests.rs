//! Every character of a scalar's content is traced to the character of the file that it comes from.

use std::sync::Arc;

use super::*;
use crate::config::problem::File;

/// Parses `a: <yaml>` and gives the text and, for each of its words, what the file has at the traced place.
fn words(yaml: &str) -> Vec<String> {
    let mut report = Report::of(vec![Arc::new(File { name: "f".into(), text: yaml.into() })]);
    let root = parse(&mut report, 0).unwrap_or_else(|| panic!("{}", report.finish()));
    let node = At { file: 0, node: &root }.get("a").expect("a");
    let scalar = node.scalar().expect("a scalar");
    let mut words = Vec::new();
    for word in scalar.text.split_whitespace() {
        let start = word.as_ptr() as usize - scalar.text.as_ptr() as usize;
        words.push(yaml[scalar.trace(yaml, &node.node.at, &(start..start + word.len()))].to_string());
    }
    assert_eq!(words.len(), scalar.text.split_whitespace().count());
    words
}

#[test]
fn words_are_traced() {
    for yaml in [
        "a: one two  three",
        "a: one\n  two\n\n  three\nb: 1",
        "a: 'one two  three'",
        "a: \"one two \\\n   three\"",
        "a: |\n  one\n    two\n  three\n",
        "a: |-\n  one\n\n  two three",
        "x: 1\na: >\n    one\n    two\n\n    three\nb: 2",
        "a: >-\n  one two\n   three\n",
        "a: | # a comment\n  one\n  two\n  three\n",
        "ü: ß\na: |\n  one two three\n",
        "{ a: one two three, b: x }",
        "a: |\r\n  one\r\n  two\r\n  three\r\n",
        "a: !!str one two three",
        "a: &x one two three",
    ] {
        assert_eq!(words(yaml), ["one", "two", "three"], "{yaml}");
    }
    assert_eq!(words("a: 'it''s \"here\"'"), ["it''s", "\"here\""]);
    assert_eq!(words("a: \"\\\"q\\\" \\u00e4b c\""), ["\\\"q\\\"", "\\u00e4b", "c"]);
}

#[test]
fn numbers_keep_their_digits() {
    for (text, json) in [
        ("10.50", Some("10.50")),
        ("007", Some("7")),
        ("+1", Some("1")),
        (".5", Some("0.5")),
        ("1.", Some("1")),
        ("0x1F", Some("31")),
        ("-0.0", Some("-0.0")),
        ("1e5", Some("1e5")),
        ("1_000", None),
        ("-", None),
        (".", None),
        ("1e", None),
        ("12345678901234567890123.10", Some("12345678901234567890123.10")),
        (".inf", None),
        ("2026-01-01", None),
    ] {
        assert_eq!(json_number(text).as_deref(), json, "{text}");
    }
}
