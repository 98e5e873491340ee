//! Rows as text against `row::json_of`, and back through the decoders.

use proptest::prelude::*;

use super::*;
use crate::format::testing::{feed, source};
use crate::format::upsert_json::UpsertJson;

const TYPES: [Type; 18] = [
    Type::Bool,
    Type::Int(8),
    Type::Int(64),
    Type::Decimal(18, 2),
    Type::Decimal(38, 0),
    Type::Decimal(38, 30),
    Type::Double,
    Type::Varchar(0),
    Type::Bytes,
    Type::Date,
    Type::Time(3),
    Type::Time(6),
    Type::Timestamp(3, false),
    Type::Timestamp(6, false),
    Type::Timestamp(6, true),
    Type::Uuid,
    Type::Json,
    Type::Array,
];

fn value_of(ty: Type) -> BoxedStrategy<Value> {
    let some = match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Int(bits) => any::<i64>().prop_map(move |n| Value::Int(n >> (64 - bits))).boxed(),
        Type::Decimal(precision, _) => {
            (any::<i128>(), 0..127u32).prop_map(move |(n, shift)| Value::Decimal((n >> shift) % 10i128.pow(u32::from(precision)))).boxed()
        }
        Type::Double => prop_oneof![any::<f64>(), (-1_000_000..1_000_000i64).prop_map(|n| n as f64 / 100.0), Just(f64::NAN), Just(f64::INFINITY)]
            .prop_map(|n| {
                Value::Double(if n.is_nan() {
                    f64::NAN
                } else if n == 0.0 {
                    0.0
                } else {
                    n
                })
            })
            .boxed(),
        Type::Varchar(_) => any::<String>().prop_map(Value::Text).boxed(),
        Type::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        Type::Date => prop_oneof![-800_000..3_000_000, any::<i32>()].prop_map(Value::Date).boxed(),
        Type::Time(3) => (0..86_400_000i64).prop_map(|ms| Value::Time(ms * 1000)).boxed(),
        Type::Time(_) => prop_oneof![0..86_400_000_000i64, -3_020_399_999_999..3_020_399_999_999i64].prop_map(Value::Time).boxed(),
        Type::Timestamp(3, _) => (-70_000_000_000_000..260_000_000_000_000i64).prop_map(|ms| Value::Timestamp(ms * 1000)).boxed(),
        Type::Timestamp(..) => prop_oneof![-70_000_000_000_000_000..260_000_000_000_000_000i64, any::<i64>()].prop_map(Value::Timestamp).boxed(),
        Type::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        Type::Json => prop::sample::select(vec!["null", "{\"a\": [1.10, null]}", "\"é\\n\""]).prop_map(|t| Value::Text(t.into())).boxed(),
        Type::Array => prop::sample::select(vec!["[]", "[1,\"a b\",null]"]).prop_map(|t| Value::Text(t.into())).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 1 => Just(Value::Unknown), 8 => some].boxed()
}

fn rows() -> impl Strategy<Value = Vec<(Type, Value)>> {
    prop::collection::vec(prop::sample::select(TYPES.to_vec()).prop_flat_map(|ty| (Just(ty), value_of(ty))), 0..12)
}

fn columns(row: &[(Type, Value)]) -> Vec<Column> {
    row.iter().enumerate().map(|(i, (ty, _))| Column { name: format!("column \"{i}\""), ty: *ty }).collect()
}

proptest! {
    #[test]
    fn a_row_is_what_json_of_says(row in rows()) {
        let columns = columns(&row);
        let values: Vec<Value> = row.iter().map(|(_, v)| v.clone()).collect();
        let mut out = Vec::new();
        RowEncoder::new(&columns).row(&row::pack_row(&values), &mut out);
        let expected: serde_json::Map<_, _> = columns.iter().zip(&values).map(|(c, v)| (c.name.clone(), row::json_of(c.ty, v))).collect();
        prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), serde_json::to_string(&expected).expect("JSON"));
    }

    #[test]
    fn a_key_is_what_json_of_says(row in rows()) {
        let row: Vec<(Type, Value)> = row.into_iter().map(|(t, v)| (t, if v == Value::Unknown { Value::Null } else { v })).collect();
        let columns = columns(&row);
        let mut key = Vec::new();
        let mut object = serde_json::Map::new();
        for (i, (ty, value)) in row.iter().enumerate() {
            let mut packed = Vec::new();
            row::pack_value(&mut packed, value);
            row::push_key(&mut key, *ty, if *value == Value::Null { Field::Null } else { Field::Packed(&packed) }, i + 1 == row.len());
            object.insert(columns[i].name.clone(), row::json_of(*ty, value));
        }
        let mut out = Vec::new();
        RowEncoder::new(&columns).key(&key, &mut out);
        let object = serde_json::to_string(&object).expect("JSON");
        prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), object.clone());
        let values: Vec<Value> = row.iter().map(|(_, v)| v.clone()).collect();
        let mut out = Vec::new();
        RowEncoder::new(&columns).columns_of_row(&row::pack_row(&values), &(0..row.len()).collect::<Vec<_>>(), &mut out);
        prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), object);
    }
}

const ALL: &str =
    "id bigint, b bool, d decimal(38,30), f double, t varchar, x bytes, day date, time time, at timestamp, zoned timestamptz, u uuid, j json, a array";

fn all() -> Vec<Value> {
    vec![
        Value::Int(-7),
        Value::Bool(true),
        Value::Decimal(-1),
        Value::Double(f64::NEG_INFINITY),
        Value::Text("a\"\\\u{1}é".into()),
        Value::Bytes(vec![0, 255, 7]),
        Value::Date(20541),
        Value::Time(47_655_123_456),
        Value::Timestamp(1_774_749_599_999_999),
        Value::Timestamp(1_774_749_600_000_000),
        Value::Uuid([0xab; 16]),
        Value::Text("{\"a\": 1}".into()),
        Value::Text("[1,null]".into()),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    let row = row::pack_row(&all());
    let shown = "id=-7 b=true d=-0.000000000000000000000000000001 f=-Infinity t=a\"\\\u{1}é x=00ff07 day=2026-03-29 time=13:14:15.123456 \
        at=2026-03-29T01:59:59.999999 zoned=2026-03-29T02:00:00Z u=abababab-abab-abab-abab-abababababab j={\"a\": 1} a=[1,null]";
    let upsert = source("upsert-json", ALL, "id");
    let mut line = br#"{"key":{"id":-7},"value":"#.to_vec();
    RowEncoder::new(&upsert.columns).row(&row, &mut line);
    line.push(b'}');
    let line = String::from_utf8(line).expect("UTF-8");
    assert_eq!(feed(&mut UpsertJson::new(&upsert, &[true; 13]), &upsert, &[(None, Some(&line))]), format!("upsert {shown}"));
}
