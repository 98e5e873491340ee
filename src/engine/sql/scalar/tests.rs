//! Typing, values, errors and one-to-one functions of scalar expressions.

use super::*;
use crate::{
    format::{Op, Record},
    row::{self, Value},
};

fn columns() -> Vec<Column> {
    let list = [
        ("id", Type::Int(64)),
        ("small", Type::Int(16)),
        ("name", Type::Varchar(0)),
        ("amount", Type::Decimal(18, 2)),
        ("ratio", Type::Double),
        ("open", Type::Bool),
        ("day", Type::Date),
        ("at", Type::Timestamp(6, false)),
        ("instant", Type::Timestamp(3, true)),
        ("uuid", Type::Uuid),
        ("accountId", Type::Int(32)),
        ("clock", Type::Time(6)),
        ("raw", Type::Bytes),
        ("doc", Type::Json),
    ];
    list.into_iter().map(|(name, ty)| Column { name: name.into(), ty }).collect()
}

/// A batch with the named columns set, and NULL elsewhere.
fn batch(rows: &[&[(&str, Value)]]) -> Batch {
    let columns = columns();
    let mut batch = Batch::default();
    batch.clear(columns.len());
    for row in rows {
        for column in &columns {
            let value = row.iter().find(|(name, _)| *name == column.name).map(|(_, value)| value);
            batch.spans.push(match value {
                None | Some(Value::Null) => Span::NULL,
                Some(Value::Unknown) => Span::UNKNOWN,
                Some(value) => {
                    let start = batch.bytes.len();
                    row::pack_value(&mut batch.bytes, value);
                    Span::of(start, batch.bytes.len())
                }
            });
        }
        batch.records.push(Record { op: Op::Upsert, source_time: 0, offset: 0 });
    }
    batch
}

/// The values of an expression over rows, errors as `!why`.
fn run(text: &str, want: Option<Type>, rows: &[&[(&str, Value)]]) -> Vec<String> {
    let scalar = scalar(text, &columns(), want).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    let (batch, mut out) = (batch(rows), Evaluated::default());
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    evaluate(&[&scalar], &batch, &columns(), &all, &mut out);
    let value = |i: usize| match out.errors.iter().find(|(at, ..)| *at == i) {
        Some((_, _, why)) => format!("!{why}"),
        None => match out.spans[i].field(&out.bytes) {
            Field::Null => "NULL".into(),
            Field::Unknown => "unknown".into(),
            Field::Packed(bytes) => row::text_of(scalar.ty(), &row::unpack_value(scalar.ty(), bytes)),
        },
    };
    (0..rows.len()).map(value).collect()
}

fn one(text: &str, row: &[(&str, Value)]) -> String {
    run(text, None, &[row]).remove(0)
}

fn refused(text: &str, want: Option<Type>) -> String {
    let problems = scalar(text, &columns(), want).expect_err(text);
    let lines = problems.iter().map(|p| format!("{:?}: {}{}", &text[p.at.clone()], p.message, p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default()));
    lines.collect::<Vec<_>>().join("\n")
}

fn text(t: &str) -> Value {
    Value::Text(t.into())
}

#[test]
fn types_follow_the_columns() {
    let ty = |text: &str| scalar(text, &columns(), None).unwrap().ty().to_string();
    assert_eq!(ty("id"), "bigint");
    assert_eq!(ty("uuid"), "uuid");
    assert_eq!(ty("doc"), "json");
    assert_eq!(ty("instant"), "timestamp(3) with time zone");
    assert_eq!(ty("lower(name)"), "varchar");
    assert_eq!(ty("amount * 0.1"), "decimal(20,3)");
    assert_eq!(ty("small + 1"), "bigint");
    assert_eq!(ty("CASE WHEN open THEN 'y' ELSE 'n' END"), "varchar");
    assert_eq!(ty("amount > 1.5 AND open"), "bool");
    assert_eq!(ty("CAST(at AS date)"), "date");
    assert_eq!(ty("date_trunc('day', at)"), "timestamp(6)");
    assert_eq!(ty("length(name)"), "int");
    assert_eq!(ty("accountid + id"), "bigint");
    assert_eq!(ty("\"accountId\""), "int");
    assert_eq!(ty("raw"), "bytes");
    assert_eq!(ty("ratio / 2"), "double");
}

#[test]
fn values() {
    assert_eq!(one("lower(name)", &[("name", text("ÄbC"))]), "äbc");
    assert_eq!(one("'SO-' || id", &[("id", Value::Int(7))]), "SO-7");
    assert_eq!(one("'SO-' || id", &[]), "NULL");
    assert_eq!(one("coalesce(name, 'none')", &[]), "none");
    assert_eq!(one("amount * 0.1", &[("amount", Value::Decimal(1234))]), "1.234");
    assert_eq!(one("CASE name WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 0 END", &[("name", text("b"))]), "2");
    assert_eq!(one("uuid", &[("uuid", Value::Uuid([17; 16]))]), "11111111-1111-1111-1111-111111111111");
    assert_eq!(one("upper(uuid)", &[("uuid", Value::Uuid([0xab; 16]))]), "ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB");
    assert_eq!(one("day + interval '1 day'", &[("day", Value::Date(0))]), "1970-01-02");
    assert_eq!(one("extract(year from at)", &[("at", Value::Timestamp(0))]), "1970");
    assert_eq!(one("CAST(instant AS varchar)", &[("instant", Value::Timestamp(0))]), "1970-01-01T00:00:00Z");
    assert_eq!(one("substring(name, 2, 2)", &[("name", text("abcd"))]), "bc");
    assert_eq!(one("name IN ('a','b','c','d','e')", &[("name", text("d"))]), "true");
    assert_eq!(one("NULLIF(name, '')", &[("name", text(""))]), "NULL");
    assert_eq!(one("1 + 1", &[]), "2");
    assert_eq!(one("amount / 3", &[("amount", Value::Decimal(100))]), "0.333333");
    assert_eq!(one("id % 3", &[("id", Value::Int(-7))]), "-1");
}

#[test]
fn unknown_and_missing() {
    assert_eq!(run("lower(name)", None, &[&[("name", Value::Unknown)], &[], &[("name", text("X"))]]), ["unknown", "NULL", "x"]);
    // An unknown value fails nothing, although it stands as NULL in the array.
    assert_eq!(run("10 / coalesce(id, 0)", None, &[&[("id", Value::Unknown)], &[("id", Value::Int(5))]]), ["unknown", "2"]);
}

#[test]
fn only_offending_rows_fail() {
    let rows: Vec<Vec<(&str, Value)>> = ["1", "x", "3", "", "5"].iter().map(|t| vec![("name", text(t))]).collect();
    let rows: Vec<&[(&str, Value)]> = rows.iter().map(Vec::as_slice).collect();
    assert_eq!(
        run("CAST(name AS bigint)", None, &rows),
        ["1", "!cast of 'x' to bigint failed in `CAST(name AS bigint)`", "3", "!cast of '' to bigint failed in `CAST(name AS bigint)`", "5"]
    );
}

#[test]
fn arithmetic_fails_instead_of_wrapping() {
    let most = [("id", Value::Int(i64::MAX)), ("small", Value::Int(0)), ("ratio", Value::Double(0.0)), ("amount", Value::Decimal(0))];
    for (text, why) in [
        ("id + 1", "!overflow of 9223372036854775807 + 1 in `id + 1`"),
        ("id * 2", "!overflow of 9223372036854775807 * 2 in `id * 2`"),
        ("-(0 - id - 1)", "!overflow of 0 - -9223372036854775808 in `-(0 - id - 1)`"),
        ("id / small", "!division by zero in `id / small`"),
        ("id % small", "!division by zero in `id % small`"),
        ("1 / ratio", "!division by zero in `1 / ratio`"),
        ("ratio % ratio", "!division by zero in `ratio % ratio`"),
        ("10 / amount", "!division by zero in `10 / amount`"),
        ("CAST(id AS int)", "!cast of 9223372036854775807 to int failed in `CAST(id AS int)`"),
    ] {
        assert_eq!(one(text, &most), why);
    }
    let wide = [("amount", Value::Decimal(999_999_999_999_999_999))];
    assert!(one("amount * amount * amount", &wide).starts_with("!overflow"), "{}", one("amount * amount * amount", &wide));
    assert!(refused("9223372036854775807 + 1", None).contains("overflow"), "{}", refused("9223372036854775807 + 1", None));
    assert!(refused("id + 1 / 0", None).contains("division by zero"));
}

#[test]
fn guards_hold_row_by_row() {
    let rows: [&[(&str, Value)]; 3] = [&[("id", Value::Int(0))], &[("id", Value::Int(5))], &[]];
    assert_eq!(run("CASE WHEN id <> 0 THEN 10 / id ELSE -1 END", None, &rows), ["-1", "2", "-1"]);
    assert_eq!(run("id <> 0 AND 10 / id > 1", None, &rows), ["false", "true", "NULL"]);
    assert_eq!(run("coalesce(nullif(id, 0), 10 / (id + 1))", None, &rows), ["10", "5", "NULL"]);
}

#[test]
fn conversions_to_a_wanted_type() {
    let name = |t: &str| run("name", Some(Type::Varchar(3)), &[&[("name", text(t))]]).remove(0);
    assert_eq!(name("äöü"), "äöü");
    assert_eq!(name("abcd"), "!'abcd' has 4 characters and does not fit varchar(3) in `name`");
    assert_eq!(run("id", Some(Type::Varchar(0)), &[&[("id", Value::Int(7))]]), ["7"]);
    assert_eq!(run("id", Some(Type::Int(8)), &[&[("id", Value::Int(300))]]), ["!cast of 300 to tinyint failed in `id`"]);
    let tenths = |text: &str, n: i128| run(text, Some(Type::Decimal(10, 1)), &[&[("amount", Value::Decimal(n))]]).remove(0);
    assert_eq!(tenths("amount", 120), "1.2");
    assert_eq!(tenths("amount", 125), "!1.25 is no decimal(10,1) as it stands (`round` or `cast` say how it becomes one) in `amount`");
    assert_eq!(tenths("cast(amount AS decimal(10,1))", 125), "1.3");
    assert_eq!(tenths("round(amount, 1)", 125), "1.3");
    let whole = |v: f64| run("ratio", Some(Type::Int(8)), &[&[("ratio", Value::Double(v))], &[]]);
    assert_eq!(whole(3.0), ["3", "NULL"]);
    assert_eq!(whole(-0.0), ["0", "NULL"]);
    assert_eq!(whole(3.5)[0], "!3.5 is no tinyint as it stands (`round` or `cast` say how it becomes one) in `ratio`");
    assert_eq!(whole(300.0)[0], "!300.0 is no tinyint as it stands (`round` or `cast` say how it becomes one) in `ratio`");
    assert_eq!(
        run("name", Some(Type::Uuid), &[&[("name", text("11111111-1111-1111-1111-111111111111"))], &[("name", text("x"))]]),
        ["11111111-1111-1111-1111-111111111111", "!`x` is not a uuid in `name`"]
    );
    assert_eq!(run("at", Some(Type::Timestamp(3, false)), &[&[("at", Value::Timestamp(1_234_000))]]), ["1970-01-01T00:00:01.234"]);
    assert_eq!(
        run("at", Some(Type::Timestamp(3, false)), &[&[("at", Value::Timestamp(1_234_567))]]),
        ["!1970-01-01T00:00:01.234567 is no timestamp(3) as it stands (`round` or `cast` say how it becomes one) in `at`"]
    );
    assert_eq!(run("NULL", Some(Type::Int(64)), &[&[]]), ["NULL"]);
    assert_eq!(
        refused("id", Some(Type::Date)),
        "\"id\": this is of type bigint, and date is wanted (convert it, e.g. `CAST(… AS date)`, or declare the column with another type)"
    );
    assert_eq!(
        refused("raw", Some(Type::Varchar(0))),
        "\"raw\": this is of type bytes, and varchar is wanted (convert it, e.g. `CAST(… AS varchar)`, or declare the column with another type)"
    );
}

#[test]
fn one_to_one_functions() {
    let injective = |text: &str| scalar(text, &columns(), None).unwrap().injective_in().map(|c| columns()[c].name.clone());
    for (text, column) in [
        ("id", Some("id")),
        ("'SO-' || id", Some("id")),
        ("name || '-x'", Some("name")),
        ("'a' || CAST(id AS varchar) || 'b'", Some("id")),
        ("concat('SO-', id)", Some("id")),
        ("CAST(small AS bigint)", Some("small")),
        ("uuid", Some("uuid")),
        ("'u' || uuid", Some("uuid")),
        ("concat('x', name)", None),
        ("id || name", None),
        ("id + 1", None),
        ("lower(name)", None),
        ("CAST(id AS int)", None),
        ("'x'", None),
        ("coalesce(id, 0)", None),
        ("CAST(ratio AS varchar)", None),
        ("concat(id, id)", None),
        ("NULL || name", None),
        ("CAST(name AS bigint)", None),
    ] {
        assert_eq!(injective(text).as_deref(), column, "{text}");
    }
    assert_eq!(scalar("id", &columns(), Some(Type::Varchar(0))).unwrap().injective_in(), Some(0));
}

/// The type of what is computed is the one that was planned, whatever the simplifier finds out.
#[test]
fn rounded_decimals_keep_their_scale() {
    let amount = |n| [("amount", Value::Decimal(n)), ("small", Value::Int(1))];
    for (text, expected) in [
        ("round(amount, 1)", "2.30"),
        ("round(amount / 7, 2)", "0.320000"),
        ("round(amount, small)", "2.30"),
        ("round(amount)", "2"),
        ("round(amount, -1)", "0.00"),
        ("round(amount, 1) + 1", "3.30"),
        ("round(amount, 1) = 2.3", "true"),
        ("CASE WHEN round(amount, 1) > 1 THEN round(amount, 1) ELSE amount END", "2.30"),
        ("coalesce(round(amount, 0), 1)", "2.00"),
    ] {
        assert_eq!(one(text, &amount(225)), expected, "{text}");
    }
    assert_eq!(one("round(amount, 1)", &amount(-225)), "-2.30");
    // What docs/dataflows.md says of division, casts and round.
    for (text, expected) in [
        ("amount / 7", "0.321428"),
        ("-amount / 7", "-0.321428"),
        ("CAST(amount AS decimal(18,1))", "2.3"),
        ("CAST(-amount AS decimal(18,1))", "-2.3"),
        ("CAST(amount AS bigint)", "2"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
    ] {
        assert_eq!(one(text, &amount(225)), expected, "{text}");
    }
}

#[test]
fn problems_have_places() {
    for (text, expected) in [
        ("lower(nmae)", "\"nmae\": there is no column `nmae` (did you mean `name`?)"),
        ("lwer(name)", "\"lwer\": there is no function `lwer` (did you mean `lower`?)"),
        ("id + ", "\"id +\": expected: an expression, found: EOF (LOOK_HERE)"),
        ("id name", "\"name\": the expression should end before `name` (LOOK_HERE)"),
        ("CASE WHNE id = 1 THEN 2 END", "\"WHNE id = 1 THEN 2 END\": the expression should end before `WHNE` (did you mean `WHEN` where `WHNE` stands?)"),
        ("sum(id)", "\"sum\": `sum` needs all rows, and this expression sees one (use a target with `sql:` and GROUP BY)"),
        (
            "now()",
            "\"now\": `now()` gives another value each time it is asked, so its rows could never be kept (use a column of the source instead, e.g. its time of update)",
        ),
        (
            "current_date",
            "\"current_date\": `current_date()` gives another value each time it is asked, so its rows could never be kept (use a column of the source instead, e.g. its time of update)",
        ),
        ("NULL", "\"NULL\": NULL alone has no type: write which, e.g. `CAST(NULL AS varchar)`"),
    ] {
        assert_eq!(refused(text, None), expected.replace("LOOK_HERE", problems::LOOK_HERE), "{text}");
    }
    assert!(refused("row_number() OVER ()", None).contains("window function"));
    assert!(refused("(SELECT 1)", None).contains("one value"));
    assert!(refused("name + day", None).starts_with("\"name + day\""), "{}", refused("name + day", None));
    assert!(refused("lower(id, id)", None).starts_with("\"lower\""), "{}", refused("lower(id, id)", None));
    assert!(refused("at - at", None).contains("of type interval"), "{}", refused("at - at", None));
}

#[test]
fn no_text_panics() {
    for text in [
        "",
        " ",
        "(",
        "'",
        "\"",
        "\u{0}",
        "id..x",
        "id::",
        "a.b.c.d.e",
        "CASE",
        "{",
        "[1,2]",
        "$1",
        "?",
        ":x",
        "@v",
        "x -> 1",
        "ARRAY[1]",
        "id[1]",
        "ROW(1,2)",
        "repeat('x', 99999999999)",
        "1e999",
        "99999999999999999999999999999999999999999999999",
        "'é' || nöpe",
        "interval 'x'",
        "cast(id as foo)",
        "~id",
        "id::timestamp(99)",
        "exists(select 1)",
        "/*",
        "--",
        "1;2",
    ] {
        let _ = scalar(text, &columns(), None);
    }
}
