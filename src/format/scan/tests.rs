//! The scanner against `serde_json`, on text made of JSON's own pieces and on text with bytes changed.

use proptest::prelude::*;

use super::*;

/// Does `serde_json` say the same? It stops at a number beyond doubles, which we take, so it says nothing of such a text.
fn agree(text: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(text);
    if !theirs.as_ref().is_err_and(|e| e.to_string().starts_with("number out of range")) {
        assert_eq!(is_json(text), theirs.is_ok(), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn accepts_and_refuses_what_serde_json_does() {
    for text in [
        "",
        " ",
        "1",
        "01",
        "-",
        "-0",
        "-01",
        "1.",
        "1.5",
        ".5",
        "1e",
        "1e5",
        "1E+5",
        "1e-",
        "1e400",
        "+1",
        "nul",
        "null",
        "nulll",
        "true",
        "falsé",
        "\"",
        "\"a",
        "\"a\"",
        "\"\\",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"tab\t\"",
        "\"\\t\"",
        "\"\0\"",
        "[",
        "[]",
        "[1",
        "[1,]",
        "[1,2]",
        "[1 2]",
        "[,1]",
        "{}",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\" : 1 , \"b\":[ ] }",
        "{a:1}",
        "{\"a\":1]",
        "[1}",
        "{1:2}",
        "[[[]]]",
        "{\"a\":{\"a\":{}}}",
        "1 2",
        "[] x",
        "\u{a0}1",
        "1\0",
        "\u{feff}1",
        "{\"a\":1,\"a\":2}",
        "\"0123456789abcdef\\n0123456789abcdef\"",
        "123456789012345678901234567890",
        "12345678",
        "1234567",
    ] {
        agree(text.as_bytes());
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc3\xa9\"", b"\"\xc3\"", b"\"\xed\xa0\x80\"", b"{\"\xff\":1}", b"\xff", b"\"\\\xff\"", b"\"\\n\xff\""] {
        agree(bytes);
    }
    for levels in [1, 126, 127, 128, 129, 1000] {
        agree(("[".repeat(levels) + &"]".repeat(levels)).as_bytes());
        agree(("{\"a\":".repeat(levels) + "1" + &"}".repeat(levels)).as_bytes());
        agree("[".repeat(levels).as_bytes());
    }
}

/// Text that is JSON, or nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"bc\":",
        "\\",
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        "\\n",
        "é",
        "0",
        "1",
        "-",
        ".",
        "e",
        "12345678",
        "null",
        "true",
        "false",
        " ",
        "\n",
        "\t",
        "\"0123456789abcdef\"",
        "\u{1}",
        "{\"a\":1}",
        "[1,2]",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Any JSON value as text, with white space.
pub fn json() -> impl Strategy<Value = String> {
    let string = prop_oneof!["[a-z]{0,20}".prop_map(String::from), any::<String>(), "[\\x00-\\x20\"\\\\/é😀]{0,12}".prop_map(String::from)]
        .prop_map(|s| serde_json::to_string(&s).expect("a string is JSON"));
    let leaf = prop_oneof![
        Just("null".to_string()),
        Just("true".to_string()),
        Just("false".to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no NaN", |n| n.is_finite()).prop_map(|n| serde_json::to_string(&n).expect("a number")),
        string.clone(),
    ];
    let space = prop::sample::select(vec!["", "", "", " ", "\n  ", "\t"]);
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), space.clone()).prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            (prop::collection::vec((string.clone(), inner), 0..5), space.clone()).prop_map(|(fields, s)| {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}{s}:{s}{value}")).collect();
                format!("{{{s}{}{s}}}", fields.join(&format!("{s},{s}")))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_on_what_is_nearly_json(text in nearly_json()) {
        agree(text.as_bytes());
    }

    #[test]
    fn agrees_on_json_with_bytes_changed(text in json(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let mut bytes = text.into_bytes();
        prop_assert!(is_json(&bytes));
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        agree(&bytes);
    }

    #[test]
    fn agrees_on_json_cut_short(text in json(), at in any::<prop::sample::Index>()) {
        agree(&text.as_bytes()[..at.index(text.len())]);
    }

    #[test]
    fn compact_is_what_serde_writes(text in json()) {
        let mut out = Vec::new();
        compact(text.as_bytes(), &mut out);
        let raw: Box<serde_json::value::Value> = Box::new(serde_json::from_str(&text).expect("JSON"));
        let again: serde_json::Value = serde_json::from_slice(&out).expect("compact JSON is JSON");
        prop_assert_eq!(*raw, again);
        let mut twice = Vec::new();
        compact(&out, &mut twice);
        prop_assert_eq!(out, twice);
    }

    #[test]
    fn strings_are_unescaped_as_serde_does(text in any::<String>(), all in any::<bool>()) {
        let spelled = if all {
            let units: String = text.encode_utf16().map(|u| format!("\\u{u:04X}")).collect();
            format!("\"{units}\"")
        } else {
            serde_json::to_string(&text).expect("a string is JSON")
        };
        let mut scan = Scan::new(spelled.as_bytes());
        let token = scan.value().expect("it is JSON");
        let mut unescaped = Vec::new();
        prop_assert_eq!(text_of(token, spelled.as_bytes(), &mut unescaped), text.as_bytes());
    }

    /// Fields are found wherever they stand; the last of a name counts, as in `serde_json`.
    #[test]
    fn fields_are_found_whatever_came_before(rows in prop::collection::vec(prop::collection::vec((prop::sample::select(vec!["a", "b", "ab", "a_long_name_of_a_column", "a_long_name_of_another", "é"]), json()), 0..8), 1..8)) {
        let mut shape = Shape::new([("a", 0), ("a_long_name_of_a_column", 1), ("é", 2)], 3);
        let mut tokens = [Token::MISSING; 4];
        for fields in rows {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", fields.join(","));
            let mut scan = Scan::new(text.as_bytes());
            prop_assert!(scan.object(&mut shape, &mut tokens).is_ok() && scan.finish().is_ok());
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            for (name, token) in ["a", "a_long_name_of_a_column", "é"].into_iter().zip(tokens) {
                match value.get(name) {
                    None => prop_assert_eq!(token.kind, Kind::Missing),
                    Some(expected) => {
                        let raw = token.of(text.as_bytes());
                        let raw = if matches!(token.kind, Kind::Text | Kind::Escaped) { [b"\"", raw, b"\""].concat() } else { raw.to_vec() };
                        let found: serde_json::Value = serde_json::from_slice(&raw).expect("a token is JSON");
                        prop_assert_eq!(&found, expected);
                    }
                }
            }
        }
    }
}
