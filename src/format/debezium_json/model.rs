//! The decoder against a slow one of its own that reads a tree of `serde_json`, on events made at random.
//!
//! It catches what depends on the spelling of a message: order, duplicates, white space, escapes, nesting, what was learnt
//! of earlier messages. It does not catch what both misunderstand of Debezium: that is what `samples` are for.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::{
    format::testing::{show, source},
    plan::Format,
    row::{self, Type},
};

const COLUMNS: &str =
    "id bigint, part varchar, n smallint, name varchar, d decimal(6,2), f double, b bool, day date, doc json, a_very_long_name_of_a_column int";

/// A value of a declared type as text, `-` for NULL; `None` is a reject.
fn slow_value(ty: Type, json: &Json) -> Option<String> {
    let exact = |n: &serde_json::Number| n.to_string();
    let value = match (ty, json) {
        (_, Json::Null) => return Some("-".into()),
        (_, Json::String(s)) if s == "__debezium_unavailable_value" => return Some("!".into()),
        (Type::Int(bits), Json::Number(n)) => {
            let n = n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))?;
            if !row::fits(n, bits) {
                return None;
            }
            row::Value::Int(n)
        }
        (Type::Varchar(_), Json::String(s)) => row::Value::Text(s.clone()),
        (Type::Decimal(p, s), Json::Number(n)) => row::Value::Decimal(row::parse_decimal(exact(n).as_bytes(), p, s).ok()?),
        (Type::Decimal(p, s), Json::String(n)) => row::Value::Decimal(row::parse_decimal(n.as_bytes(), p, s).ok()?),
        (Type::Double, Json::Number(n)) => row::Value::Double(n.as_f64()?),
        (Type::Double, Json::String(n)) => row::Value::Double(n.parse().ok()?),
        (Type::Bool, Json::Bool(b)) => row::Value::Bool(*b),
        (Type::Bool, Json::Number(n)) => row::Value::Bool(match n.as_f64()? {
            0.0 => false,
            1.0 => true,
            _ => return None,
        }),
        (Type::Date, Json::String(s)) => row::Value::Date(row::parse_date(s).ok()?),
        (Type::Date, Json::Number(n)) => {
            row::Value::Date(i32::try_from(n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))?).ok()?)
        }
        (Type::Json, Json::String(s)) => row::Value::Text(serde_json::from_str::<Json>(s).ok().map(|_| s.clone())?),
        (Type::Json, _) => return Some("json".into()),
        _ => return None,
    };
    // There is one zero: the negative one becomes it.
    let value = match value {
        row::Value::Double(n) => row::Value::Double(n + 0.0),
        value => value,
    };
    Some(row::text_of(ty, &value))
}

/// The records of an event, in the form of `testing::show`; `reject` for those that can't be read.
fn slow(event: &str, columns: &[row::Column], key: &[usize]) -> String {
    let Ok(event) = serde_json::from_str::<Json>(event) else { return "reject".into() };
    let event = if event.get("payload").is_some() { &event["payload"] } else { &event };
    let image = |of: &Json, key_only: bool| -> Option<Vec<String>> {
        columns
            .iter()
            .enumerate()
            .map(|(c, column)| match of.get(&column.name) {
                _ if key_only && !key.contains(&c) => Some("?".to_string()),
                None => Some("?".into()),
                Some(value) => slow_value(column.ty, value),
            })
            .collect()
    };
    let keyed = |row: &[String]| key.iter().all(|c| !matches!(row[*c].as_str(), "?" | "-" | "!"));
    let line = |op: &str, row: &[String]| format!("{op}{}", columns.iter().zip(row).map(|(c, v)| format!(" {}={v}", c.name)).collect::<String>());
    if key.is_empty() && matches!(event["op"].as_str(), Some("c" | "u" | "r" | "d")) {
        let op = event["op"].as_str().unwrap_or_default();
        let mut lines = Vec::new();
        for (name, record, said) in [("before", "delete", matches!(op, "u" | "d")), ("after", "upsert", op != "d")] {
            if said {
                match image(&event[name], false).filter(|_| event[name].is_object()) {
                    Some(row) if row.iter().all(|v| v != "!" && (v != "?" || name == "after")) => lines.push(line(record, &row)),
                    _ => return "reject".into(),
                }
            }
        }
        return lines.join("\n");
    }
    match event["op"].as_str() {
        Some("c" | "u" | "r") if event["after"].is_object() => {
            let mut lines = Vec::new();
            let (before, after) = (image(&event["before"], true), image(&event["after"], true));
            if let (Some(before), Some(after)) = (before, after)
                && event["before"].is_object()
                && keyed(&before)
                && keyed(&after)
                && before != after
            {
                lines.push(line("delete", &before));
            }
            lines.push(match image(&event["after"], false) {
                Some(row) if keyed(&row) => line("upsert", &row),
                _ => "reject".into(),
            });
            lines.join("\n")
        }
        Some("d") if event["before"].is_object() => match image(&event["before"], true) {
            Some(row) if keyed(&row) => line("delete", &row),
            _ => "reject".into(),
        },
        Some("t") => "truncate".into(),
        Some("m") => "skip".into(),
        _ => "reject".into(),
    }
}

/// A JSON value that some column may hold.
fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (-40i64..40).prop_map(|n| n.to_string()),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        2 => (-4000i64..4000).prop_map(|n| format!("{:?}", n as f64 / 4.0)),
        3 => prop::sample::select(vec![
            "null", "true", "false", "\"\"", "\"12.50\"", "\"-0.1\"", "\"1.234\"", "\"99999.99\"", "\"2026-03-29\"", "\"2026-02-30\"", "\"x\"", "\"a \\\"b\\\" \\u00e9 \\ud83d\\ude00\"", "1e2",
            "-0", "0.0", "\"NaN\"", "\"__debezium_unavailable_value\"", "\"{}\"", "\"{\"", "\"exactly 28 characters of text\"", "\"0123456789abcdef\"", "\"0123456789abcdefg\"",
        ]).prop_map(String::from),
        // Of long numbers serde_json without `float_roundtrip` may read the last bit wrong; ours is read exactly.
        1 => crate::format::scan::tests::json().prop_filter("a number that both read alike", |text| text.len() < 12 || text.parse::<f64>().is_err()),
    ]
}

/// A value that the column of this name can hold.
fn fitting(name: &str) -> BoxedStrategy<String> {
    let among = |texts: Vec<&'static str>| prop::sample::select(texts).prop_map(String::from).boxed();
    match name {
        "id" | "\\u0069d" | "n" | "a_very_long_name_of_a_column" => (-40i64..40).prop_map(|n| n.to_string()).boxed(),
        "part" | "name" => {
            among(vec!["\"a\"", "\"b\"", "\"a \\\"b\\\" \\u00e9 \\ud83d\\ude00\"", "\"exactly 28 characters of text\"", "\"0123456789abcdef\"", "\"é\""])
        }
        "d" => among(vec!["\"12.50\"", "1.5", "-3", "null", "\"9999.99\"", "1e2"]),
        "f" => (-4000i64..4000).prop_map(|n| format!("{:?}", n as f64 / 4.0)).boxed(),
        "b" => among(vec!["true", "false", "0", "1", "null"]),
        "day" => among(vec!["\"2026-03-29\"", "20541", "null"]),
        _ => leaf().boxed(),
    }
}

fn object() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        20 => prop::sample::select(vec!["id", "part", "n", "name", "d", "f", "b", "day", "doc", "a_very_long_name_of_a_column", "a_very_long_name_of_another", "\\u0069d", "other"]).prop_map(String::from),
        1 => "[a-zé]{0,3}".prop_map(String::from),
    ];
    // Mostly with values that fit and with a key, so that much is not rejected.
    let field = name.prop_flat_map(|name| (Just(name.clone()), prop_oneof![12 => fitting(&name), 1 => leaf()]));
    let rest = prop::collection::vec(field, 0..10);
    (prop::option::weighted(0.9, (0..4, prop::sample::select(vec!["a", "b"]))), rest, space(), any::<prop::sample::Index>()).prop_map(|(key, rest, s, at)| {
        let mut fields: Vec<String> = rest.iter().map(|(name, value)| format!("\"{name}\"{s}:{s}{value}")).collect();
        if let Some((id, part)) = key {
            let at = at.index(fields.len() + 1);
            fields.insert(at, format!("\"id\":{id}{s},\"part\":\"{part}\""));
        }
        format!("{{{s}{}}}", fields.join(&format!(",{s}")))
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", " ", "\n\t"])
}

fn event() -> impl Strategy<Value = String> {
    let image = || prop_oneof![5 => object(), 1 => Just("null".to_string()), 1 => leaf()];
    let op =
        prop::sample::select(vec!["\"c\"", "\"c\"", "\"u\"", "\"u\"", "\"u\"", "\"u\"", "\"u\"", "\"r\"", "\"d\"", "\"t\"", "\"m\"", "\"x\"", "null", "1"]);
    (image(), image(), op, prop::sample::subsequence(vec![0, 1, 2, 3, 3, 1], 4..7), space(), any::<bool>(), leaf(), any::<bool>()).prop_map(
        |(before, after, op, order, s, wrapped, junk, shuffle)| {
            let fields = [format!("\"before\":{before}"), format!("\"after\"{s}:{s}{after}"), format!("\"op\":{s}{op}"), format!("\"junk\":{junk}")];
            let mut fields: Vec<&str> = order.iter().map(|i| fields[*i].as_str()).collect();
            if shuffle {
                fields.reverse();
            }
            let event = format!("{s}{{{s}{}{s}}}{s}", fields.join(&format!("{s},{s}")));
            if wrapped { format!("{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{event}}}") } else { event }
        },
    )
}

/// `show`, with rejects cut to that word and JSON values of which the spelling is not compared to `json`.
fn fast(decoder: &mut dyn Decoder, source: &Source, event: &[u8]) -> String {
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    decoder.decode(Message { value: Some(event), ..Message::default() }, &mut batch);
    let lines: Vec<String> = (0..batch.records.len())
        .map(|r| {
            let one = Batch {
                columns: batch.columns,
                bytes: batch.bytes.clone(),
                spans: batch.row(r).to_vec(),
                records: vec![batch.records[r]],
                rejects: Vec::new(),
                messages: 1,
                ..Batch::default()
            };
            if batch.records[r].op == Op::Reject { "reject".to_string() } else { show(&one, source) }
        })
        .collect();
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decodes_what_the_slow_one_does(events in prop::collection::vec(event(), 1..6)) {
        // A JSON column that is no string is spelled compactly, which a tree does not keep: it is not compared.
        let columns = COLUMNS.replace("doc json, ", "");
        for key in ["id,part", ""] {
            let source = source("debezium-json", &columns, key);
            let mut decoder = DebeziumJson::new(&source, &vec![true; source.columns.len()]);
            for event in &events {
                prop_assert_eq!(fast(&mut decoder, &source, event.as_bytes()), slow(event, &source.columns, &source.key), "{}", event);
            }
        }
    }

    #[test]
    fn no_message_makes_a_decoder_panic(
        events in prop::collection::vec((event(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>()), 1..4),
        line in any::<bool>(),
    ) {
        let decoders = Format::ALL.map(|(name, _)| {
            let source = source(name, COLUMNS, "id,part");
            (crate::format::decoder(&source, &vec![true; source.columns.len()]), source)
        });
        for (mut decoder, source) in decoders {
            for (event, changes, cut) in &events {
                let mut bytes = if line { format!("{{\"key\":{event},\"value\":{event}}}") } else { event.clone() }.into_bytes();
                for (at, to) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *to;
                }
                let mut batch = Batch::default();
                batch.clear(source.columns.len());
                let (key, value) = bytes.split_at(cut.index(bytes.len()));
                for message in [
                    Message { value: Some(&bytes), ..Message::default() },
                    Message { key: Some(key), value: Some(value), ..Message::default() },
                    Message { key: Some(&bytes), value: None, ..Message::default() },
                ] {
                    decoder.source_time(message);
                    let records = batch.records.len();
                    decoder.decode(message, &mut batch);
                    prop_assert!(batch.records.len() > records);
                    let rejected = batch.records[records..].iter().filter(|r| r.op == Op::Reject).count();
                    prop_assert!(rejected <= 1);
                }
                // All that was packed can be read, and each reject names its record.
                let _ = show(&batch, &source);
                let rejects = batch.records.iter().filter(|r| r.op == Op::Reject).count();
                prop_assert_eq!(rejects, batch.rejects.len());
            }
        }
    }
}
