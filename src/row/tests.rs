//! Packed values and keys: text and back, and the order of bytes.

use super::*;

fn check(ty: &str, text: &str, shown: &str) {
    let ty = Type::parse(ty).unwrap();
    let value = parse_text(ty, text).unwrap();
    assert_eq!(text_of(ty, &value), shown);
    let column = [Column { name: "c".into(), ty }];
    let row = pack_row(std::slice::from_ref(&value));
    assert_eq!(values(&row, &column), std::slice::from_ref(&value));
    let key = pack_key(&[ty, ty], &[fields(&row, &column)[0], fields(&row, &column)[0]]);
    assert_eq!(unpack_key(&[ty, ty], &key), [value.clone(), value]);
}

#[test]
fn text_and_back() {
    check("bool", "true", "true");
    check("int", "-2147483648", "-2147483648");
    check("bigint", "-9223372036854775808", "-9223372036854775808");
    check("decimal(38,2)", "-999999999999999999999999999999999999.99", "-999999999999999999999999999999999999.99");
    check("decimal(18,2)", "1.5", "1.50");
    check("decimal(18,2)", "1.250e1", "12.50");
    check("double", "-0.25", "-0.25");
    check("varchar", "a\0b", "a\0b");
    check("date", "0044-03-15", "0044-03-15");
    check("date", "2024-02-29", "2024-02-29");
    check("time", "24:00:00", "24:00:00");
    check("time", "-00:00:00.5", "-00:00:00.500000");
    check("timestamp", "2026-03-04 05:06:07.000008", "2026-03-04T05:06:07.000008");
    check("timestamptz", "2026-03-04T05:06:07+02:00", "2026-03-04T03:06:07Z");
    check("uuid", "00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff");
}

#[test]
fn what_does_not_fit_is_refused() {
    for (ty, text) in [("tinyint", "128"), ("decimal(4,2)", "100"), ("decimal(4,2)", "1.005"), ("date", "2026-02-29"), ("varchar(2)", "abc"), ("uuid", "x")] {
        assert!(parse_text(Type::parse(ty).unwrap(), text).is_err(), "{text} is no {ty}");
    }
    assert!(Type::parse("bigin").unwrap_err().contains("`bigint`"));
}

#[test]
fn keys_sort_as_their_values() {
    let ints = [i64::MIN, -65_537, -256, -255, -1, 0, 1, 127, 128, 255, 256, 65_536, i64::MAX];
    let keys: Vec<_> = ints
        .iter()
        .map(|n| {
            let mut f = vec![];
            pack_int(&mut f, *n);
            pack_key(&[Type::Int(64)], &[Field::Packed(&f)])
        })
        .collect();
    assert!(keys.is_sorted());
    let texts: [&[u8]; 5] = [b"", b"\0", b"a", b"a\0", b"ab"];
    let keys: Vec<_> = texts
        .iter()
        .map(|t| {
            let mut f = vec![];
            pack_bytes(&mut f, t);
            pack_key(&[Type::Varchar(0), Type::Bool], &[Field::Packed(&f), Field::Null])
        })
        .collect();
    assert!(keys.is_sorted());
}

#[test]
fn null_and_unknown_are_kept_apart() {
    let columns: Vec<_> = (0..9).map(|i| Column { name: format!("c{i}"), ty: Type::Int(64) }).collect();
    let mut row = vec![Value::Int(1); 9];
    row[7] = Value::Unknown;
    row[8] = Value::Null;
    let packed = pack_row(&row);
    assert!(has_unknown(&packed));
    assert_eq!(values(&packed, &columns), row);
}

#[test]
fn a_value_is_converted_exactly_or_not_at_all() {
    let converted = |from: Type, to: &str, value: Value| {
        let (mut field, mut out) = (Vec::new(), Vec::new());
        pack_value(&mut field, &value);
        let to = Type::parse(to).unwrap();
        convert(from, to, &field, &mut out).map(|()| text_of(to, &unpack_value(to, &out)))
    };
    let no = |why: &str| Err(why.to_string());
    assert_eq!(converted(Type::Int(64), "tinyint", Value::Int(-128)), Ok("-128".into()));
    assert_eq!(converted(Type::Int(64), "tinyint", Value::Int(128)), no("128 does not fit tinyint"));
    assert_eq!(converted(Type::Int(8), "bigint", Value::Int(-7)), Ok("-7".into()));
    assert_eq!(converted(Type::Int(64), "decimal(4,2)", Value::Int(100)), no("100 does not fit decimal(4,2)"));
    assert_eq!(converted(Type::Int(64), "varchar(2)", Value::Int(100)), no("100 does not fit varchar(2)"));
    assert_eq!(converted(Type::Decimal(9, 2), "decimal(4,2)", Value::Decimal(9999)), Ok("99.99".into()));
    assert_eq!(converted(Type::Decimal(9, 2), "decimal(4,2)", Value::Decimal(10000)), no("100.00 does not fit decimal(4,2)"));
    assert_eq!(converted(Type::Decimal(9, 2), "decimal(9,1)", Value::Decimal(150)), Ok("1.5".into()));
    assert_eq!(converted(Type::Decimal(9, 2), "decimal(9,1)", Value::Decimal(155)), no("1.55 does not fit decimal(9,1)"));
    assert_eq!(converted(Type::Varchar(0), "varchar(2)", Value::Text("é😀".into())), Ok("é😀".into()));
    assert_eq!(converted(Type::Varchar(9), "varchar(2)", Value::Text("abc".into())), no("abc does not fit varchar(2)"));
    assert_eq!(converted(Type::Date, "timestamp", Value::Date(20541)), Ok("2026-03-29T00:00:00".into()));
    assert_eq!(converted(Type::Date, "timestamp", Value::Date(106_751_991)), Ok("epoch+9223372022400000000us".into()));
    // PostgreSQL's `infinity`, as two versions of a connector have it.
    assert_eq!(converted(Type::Date, "timestamp", Value::Date(-622_191_234)), no("epoch-622191234d does not fit timestamp(6)"));
    assert_eq!(converted(Type::Date, "timestamptz", Value::Date(-2_147_472_692)), no("epoch-2147472692d does not fit timestamp(6) with time zone"));
    assert_eq!(converted(Type::Time(6), "time(3)", Value::Time(1_000)), Ok("00:00:00.001".into()));
    assert_eq!(converted(Type::Time(6), "time(3)", Value::Time(1)), no("00:00:00.000001 does not fit time(3)"));
    assert_eq!(
        converted(Type::Timestamp(6, true), "timestamptz(3)", Value::Timestamp(-1)),
        no("1969-12-31T23:59:59.999999Z does not fit timestamp(3) with time zone")
    );
}

#[test]
fn in_a_comparison_no_date_is_lost_or_taken_for_another() {
    let to = Type::Timestamp(6, false);
    let common = |days: i32| {
        let (mut field, mut out) = (Vec::new(), Vec::new());
        pack_value(&mut field, &Value::Date(days));
        convert_common(Type::Date, to, &field, &mut out).unwrap();
        unpack_int(&out)
    };
    let days = [i32::MIN, -2_147_472_692, -622_191_234, -106_751_992, -106_751_991, -1, 0, 20541, 106_751_991, 106_751_992, i32::MAX];
    let all = days.map(common);
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    assert_eq!((all[5], all[7]), (-DAY_US, 20541 * DAY_US));
}

/// What `widens` promises, `convert` keeps: tried with the ends of each type.
#[test]
fn what_a_wider_type_is_holds_every_value() {
    let types = [
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "decimal(4,2)",
        "decimal(6,2)",
        "decimal(6,4)",
        "decimal(38,0)",
        "decimal(38,10)",
        "varchar(3)",
        "varchar",
        "time(3)",
        "time(6)",
        "date",
        "timestamp(3)",
        "timestamp(6)",
    ]
    .map(|text| Type::parse(text).unwrap());
    let most = |ty: Type| match ty {
        Type::Int(bits) => Value::Int(i64::MAX >> (64 - bits)),
        Type::Decimal(p, _) => Value::Decimal(10i128.pow(p.into()) - 1),
        Type::Varchar(n) => Value::Text("x".repeat(if n == 0 { 99 } else { n as usize })),
        Type::Time(p) => Value::Time(if p == 3 { 1_000 } else { 1 }),
        Type::Timestamp(p, _) => Value::Timestamp(if p == 3 { 1_000 } else { 1 }),
        Type::Date => Value::Date(i32::MAX),
        other => unreachable!("{other}"),
    };
    let least = |ty: Type| match most(ty) {
        Value::Int(_) => Value::Int(0),
        Value::Decimal(_) => Value::Decimal(0),
        Value::Text(_) => Value::Text(String::new()),
        Value::Time(_) => Value::Time(0),
        Value::Timestamp(_) => Value::Timestamp(0),
        Value::Date(_) => Value::Date(0),
        other => other,
    };
    for from in types {
        for to in types {
            let (mut field, mut out) = (Vec::new(), Vec::new());
            pack_value(&mut field, &most(from));
            let fits = convert(from, to, &field, &mut out);
            assert!(!widens(from, to) || fits.is_ok(), "{from} to {to}: {fits:?}");
            assert!(!holds(from, to) || out == field, "{from} to {to}");
            // What is refused beforehand never goes, and what goes for some value is not refused.
            let (mut zero, mut out) = (Vec::new(), Vec::new());
            pack_value(&mut zero, &least(from));
            let some = convert(from, to, &zero, &mut out).is_ok() || fits.is_ok();
            assert!(converts(from, to) == some || to == Type::Varchar(3), "{from} to {to}");
        }
    }
}

#[test]
fn a_common_type_holds_all_values_of_both() {
    let common = |a: &str, b: &str| Type::parse(a).unwrap().common(Type::parse(b).unwrap()).map(|ty| ty.to_string());
    let known = |a: &str, b: &str, ty: &str| {
        assert_eq!((common(a, b).as_deref(), common(b, a).as_deref()), (Some(ty), Some(ty)), "{a} and {b}");
    };
    known("decimal(18,2)", "decimal(10,4)", "decimal(20,4)");
    known("decimal(38,10)", "decimal(30,2)", "decimal(38,10)");
    known("bigint", "decimal(12,2)", "decimal(21,2)");
    known("int", "decimal(38,28)", "decimal(38,28)");
    // 46, 49 and 39 digits.
    for (a, b) in [("decimal(38,10)", "decimal(38,2)"), ("bigint", "decimal(38,30)"), ("bigint", "decimal(20,20)")] {
        assert_eq!((common(a, b), common(b, a)), (None, None), "{a} and {b}");
    }
}
