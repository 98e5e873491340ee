//! Values of a column, one case a line: declared type, spelling, JSON, packed value as text.

use super::*;

fn check(ty: &str, spelling: Option<Spelling>, json: &str, expected: &str) {
    let ty = Type::parse(ty).expect("a type");
    let mut scan = Scan::new(json.as_bytes());
    let token = scan.value().expect("JSON");
    let mut out = Vec::new();
    let found = match convert(ty, spelling.unwrap_or(Spelling::of(ty, Wire::default())), token, json.as_bytes(), &mut out) {
        Err(Fault::Mismatch) => "mismatch".to_string(),
        Err(Fault::Range) => "range".to_string(),
        Ok(span) => match span.field(&out) {
            row::Field::Null => "null".to_string(),
            row::Field::Unknown => "unknown".to_string(),
            field => row::text_of(ty, &field.value(ty)),
        },
    };
    assert_eq!(found, expected, "{ty} {json}");
}

#[test]
fn values_without_a_schema() {
    for (ty, json, expected) in [
        ("bool", "true", "true"),
        ("bool", "0", "false"),
        ("bool", "2", "range"),
        ("bool", "\"true\"", "mismatch"),
        ("bool", "null", "null"),
        ("tinyint", "127", "127"),
        ("tinyint", "128", "range"),
        ("int", "1.0", "1"),
        ("int", "1.5", "range"),
        ("int", "\"1\"", "mismatch"),
        ("bigint", "1e30", "range"),
        ("int", "true", "mismatch"),
        ("decimal(4,1)", "1.5", "1.5"),
        ("decimal(4,1)", "\"1.50\"", "1.5"),
        ("decimal(4,1)", "\"1.55\"", "range"),
        ("decimal(4,1)", "\"AeI6\"", "mismatch"),
        ("decimal(4,1)", "1000", "range"),
        ("decimal(38,4)", r#"{"scale":4,"value":"B1vNFQ=="}"#, "12345.6789"),
        ("decimal(38,3)", r#"{"scale":4,"value":"B1vNFQ=="}"#, "range"),
        ("decimal(38,4)", r#"{"scale":4}"#, "mismatch"),
        ("double", "1.5", "1.5"),
        ("double", "\"NaN\"", "NaN"),
        ("double", "\"-Infinity\"", "-Infinity"),
        ("double", "1e400", "range"),
        ("double", "-0.0", "0.0"),
        ("double", "\"x\"", "mismatch"),
        ("varchar", "\"a\\u0000b\"", "a\0b"),
        ("varchar", "1", "mismatch"),
        ("varchar", "true", "mismatch"),
        ("varchar(2)", "\"äö\"", "äö"),
        ("varchar(2)", "\"äöü\"", "range"),
        ("varchar", "{}", "mismatch"),
        ("json", "\"{\\\"a\\\": 1}\"", "{\"a\": 1}"),
        ("json", "{ \"a\" : [ 1.10 , \"x \\\" y\" ] }", "{\"a\":[1.10,\"x \\\" y\"]}"),
        ("json", "1.0", "1.0"),
        ("decimal(9,2)", "\"POSITIVE_INFINITY\"", "range"),
        ("decimal(9,2)", "\"NEGATIVE_INFINITY\"", "range"),
        ("double", "\"POSITIVE_INFINITY\"", "Infinity"),
        ("double", "\"NEGATIVE_INFINITY\"", "-Infinity"),
        ("double", "\"POSITIVE\"", "mismatch"),
        ("json", "true", "true"),
        ("json", "\"{\"", "mismatch"),
        ("int[]", "[1, 2]", "[1,2]"),
        ("int[]", "\"[1, 2]\"", "[1,2]"),
        ("int[]", "\"x\"", "mismatch"),
        ("int[]", "{}", "mismatch"),
        ("bytes", "\"3q2+7wA=\"", "deadbeef00"),
        ("bytes", "\"deadbeef00\"", "mismatch"),
        ("bytes", "1", "mismatch"),
        ("date", "20541", "2026-03-29"),
        ("date", "\"2026-03-29\"", "2026-03-29"),
        ("date", "99999999999", "range"),
        ("date", "\"2026\"", "mismatch"),
        ("time", "47655123456", "13:14:15.123456"),
        ("time(3)", "47655123", "13:14:15.123"),
        ("time", "999999999999999", "range"),
        ("time(3)", "\"13:14:15.1234\"", "range"),
        ("timestamp", "1774749599999999", "2026-03-29T01:59:59.999999"),
        ("timestamp(3)", "1774749599999", "2026-03-29T01:59:59.999"),
        ("timestamp(3)", "9223372036854775807", "range"),
        ("timestamp(3)", "\"2026-03-29T01:59:59.9999Z\"", "range"),
        ("timestamptz", "\"2026-03-29T03:59:59+02:00\"", "2026-03-29T01:59:59Z"),
        ("timestamp", "true", "mismatch"),
        ("uuid", "\"6F1C8B1E-0D5E-4C7A-9A53-0F4DD3C3B111\"", "6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b111"),
        ("uuid", "\"x\"", "mismatch"),
    ] {
        check(ty, None, json, expected);
    }
}

#[test]
fn values_of_which_the_spelling_is_known() {
    for (ty, spelling, json, expected) in [
        ("decimal(12,2)", Spelling::Unscaled(2), "\"JxA=\"", "100.00"),
        ("decimal(12,4)", Spelling::Unscaled(2), "\"JxA=\"", "100.0000"),
        ("decimal(12,0)", Spelling::Unscaled(2), "\"JxA=\"", "100"),
        ("decimal(12,2)", Spelling::Unscaled(2), "\"1234\"", "-26588.24"),
        ("decimal(12,2)", Spelling::Unscaled(2), "\"12.5\"", "mismatch"),
        ("decimal(12,2)", Spelling::Unscaled(2), "7", "7.00"),
        ("int", Spelling::Unscaled(2), "\"JxA=\"", "100"),
        ("int", Spelling::Unscaled(3), "\"JxA=\"", "10"),
        ("int", Spelling::Unscaled(5), "\"JxA=\"", "range"),
        ("double", Spelling::Unscaled(2), "\"JxA=\"", "100.0"),
        ("varchar", Spelling::Unscaled(2), "\"JxA=\"", "mismatch"),
        ("varchar", Spelling::Raw, "\"JxA=\"", "mismatch"),
        ("bytes", Spelling::Raw, "\"JxA=\"", "2710"),
        ("int", Spelling::Bits, "\"pQE=\"", "421"),
        ("bytes", Spelling::Hex, "\"00ff\"", "00ff"),
        ("bytes", Spelling::Hex, "\"0\"", "mismatch"),
        ("timestamp", Spelling::Count(Unit::Nanos), "1774749599999999000", "2026-03-29T01:59:59.999999"),
        ("timestamp", Spelling::Count(Unit::Nanos), "1", "range"),
        ("timestamp(3)", Spelling::Count(Unit::Micros), "1", "range"),
        ("timestamp", Spelling::Count(Unit::Days), "1", "1970-01-02T00:00:00"),
        ("date", Spelling::Count(Unit::Millis), "86400000", "1970-01-02"),
        ("date", Spelling::Count(Unit::Millis), "86400001", "range"),
        ("time", Spelling::Count(Unit::Days), "1", "mismatch"),
        ("bigint", Spelling::Count(Unit::Micros), "5", "5"),
    ] {
        check(ty, Some(spelling), json, expected);
    }
}

#[test]
fn an_unavailable_value_is_unknown_in_all_its_forms() {
    let numbers = format!("[{}]", UNAVAILABLE.iter().map(u8::to_string).collect::<Vec<_>>().join(","));
    for (ty, json) in [
        ("varchar", "\"__debezium_unavailable_value\""),
        ("varchar(5)", "\"__debezium_unavailable_value\""),
        ("json", "\"__debezium_unavailable_value\""),
        ("int", "\"__debezium_unavailable_value\""),
        ("bytes", "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\""),
        ("bytes", "\"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565\""),
        ("decimal(12,2)", "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\""),
        ("array", "[\"__debezium_unavailable_value\"]"),
        ("array", numbers.as_str()),
        ("json", "{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}"),
        ("varchar", "\"__debezium\\u005funavailable_value\""),
        // hstore as JSON, and uuid[].
        ("json", r#""{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}""#),
        ("varchar", r#""{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}""#),
        ("array", "[\"b68a35a7-17ad-35b3-af2a-ae46edb4545a\"]"),
    ] {
        check(ty, None, json, "unknown");
    }
    check("varchar", None, "\"__debezium_unavailable_valuf\"", "__debezium_unavailable_valuf");
    check("array", None, "[\"b68a35a7-17ad-35b3-af2a-ae46edb4545b\"]", "[\"b68a35a7-17ad-35b3-af2a-ae46edb4545b\"]");
    check("array", None, "[\"__debezium_unavailable_value\",\"x\"]", "[\"__debezium_unavailable_value\",\"x\"]");
}
