//! Values as the oracle sees them: by what they mean, how messages spell them and how answers show them, written by hand.

use serde_json::Value as Json;

/// A column type of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum T {
    Bool,
    Int(u8),
    Dec(u8, u8),
    Double,
    /// At most so many characters; 0: no limit.
    Text(u32),
    Bytes,
    Date,
    Time(u8),
    Stamp(u8, bool),
    Uuid,
    Json,
    Array,
}

pub const ALL: [T; 20] = [
    T::Int(64),
    T::Text(0),
    T::Dec(12, 2),
    T::Int(32),
    T::Bool,
    T::Date,
    T::Int(8),
    T::Int(16),
    T::Dec(18, 4),
    T::Dec(38, 3),
    T::Double,
    T::Text(4),
    T::Bytes,
    T::Time(3),
    T::Time(6),
    T::Stamp(3, false),
    T::Stamp(6, false),
    T::Stamp(6, true),
    T::Uuid,
    T::Json,
];
pub const KEYS: [T; 8] = [T::Int(64), T::Text(0), T::Int(32), T::Dec(12, 2), T::Date, T::Uuid, T::Stamp(3, true), T::Int(16)];

#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum V {
    Bool(bool),
    Int(i128),
    /// Unscaled, scale; without trailing zeros.
    Dec(i128, u8),
    Double(f64),
    Text(String),
    /// `HH:MM:SS.ffffff`, or a date before that and `T`.
    Clock(String),
    /// What is shown as it is: dates, uuids, bytes in hex, JSON, arrays.
    Plain(String),
}

/// What a column of a row holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Missing,
    Unknown,
    Is(V),
}

impl Cell {
    pub fn value(&self) -> Option<&V> {
        if let Cell::Is(v) = self { Some(v) } else { None }
    }
    /// As a row of a table has it: what is missing is NULL.
    pub fn settled(self) -> Cell {
        if self == Cell::Missing { Cell::Null } else { self }
    }
}

pub fn dec(mut n: i128, mut scale: u8) -> V {
    while scale > 0 && n % 10 == 0 {
        n /= 10;
        scale -= 1;
    }
    V::Dec(n, scale)
}

/// Equal as values, whatever the types.
pub fn same(a: &Cell, b: &Cell) -> bool {
    let number = |v: &V| match v {
        V::Int(n) => Some((*n, 0)),
        V::Dec(n, s) => Some((*n, *s)),
        _ => None,
    };
    match (a, b) {
        (Cell::Is(a), Cell::Is(b)) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        (a, b) => a == b,
    }
}

impl T {
    pub fn name(self) -> String {
        match self {
            T::Bool => "bool".into(),
            T::Int(8) => "tinyint".into(),
            T::Int(16) => "smallint".into(),
            T::Int(32) => "int".into(),
            T::Int(_) => "bigint".into(),
            T::Dec(p, s) => format!("decimal({p},{s})"),
            T::Double => "double".into(),
            T::Text(0) => "varchar".into(),
            T::Text(n) => format!("varchar({n})"),
            T::Bytes => "bytes".into(),
            T::Date => "date".into(),
            T::Time(p) => format!("time({p})"),
            T::Stamp(p, false) => format!("timestamp({p})"),
            T::Stamp(p, true) => format!("timestamp({p}) with time zone"),
            T::Uuid => "uuid".into(),
            T::Json => "json".into(),
            T::Array => "array".into(),
        }
    }

    /// The text of a value, as keys and CSV have it.
    pub fn text(self, v: &V) -> String {
        let fraction = |text: &str, p: u8| {
            let (whole, digits) = text.split_once('.').unwrap();
            if digits == "000000" {
                whole.to_string()
            } else if p == 3 {
                format!("{whole}.{}", &digits[..3])
            } else {
                text.to_string()
            }
        };
        match (self, v) {
            (_, V::Bool(b)) => b.to_string(),
            (T::Dec(_, scale), V::Dec(..) | V::Int(_)) => {
                let (n, s) = match v {
                    V::Dec(n, s) => (*n, *s),
                    V::Int(n) => (*n, 0),
                    _ => unreachable!(),
                };
                let n = n * 10i128.pow(u32::from(scale - s));
                let digits = format!("{:0>width$}", n.unsigned_abs(), width = usize::from(scale) + 1);
                let (whole, part) = digits.split_at(digits.len() - usize::from(scale));
                format!("{}{whole}{}{part}", if n < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" })
            }
            (_, V::Int(n)) => n.to_string(),
            (_, V::Dec(n, s)) => T::Dec(38, *s).text(&V::Dec(*n, *s)),
            (_, V::Double(n)) => format!("{n:?}"),
            (_, V::Text(t) | V::Plain(t)) => t.clone(),
            (T::Time(p), V::Clock(t)) => fraction(t, p),
            (T::Stamp(p, zone), V::Clock(t)) => format!("{}{}", fraction(t, p), if zone { "Z" } else { "" }),
            (t, v) => panic!("{v:?} is no {t:?}"),
        }
    }

    /// The value as answers in JSON have it.
    pub fn json(self, cell: &Cell) -> Json {
        match cell {
            Cell::Is(V::Bool(b)) => (*b).into(),
            Cell::Is(V::Int(n)) if matches!(self, T::Int(_)) => (*n as i64).into(),
            Cell::Is(V::Double(n)) => serde_json::Number::from_f64(*n).unwrap().into(),
            Cell::Is(v) => self.text(v).into(),
            _ => Json::Null,
        }
    }

    /// Can a column of this type have the value?
    pub fn holds(self, v: &V) -> bool {
        match (self, v) {
            (T::Int(bits), V::Int(n)) => (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(n),
            (T::Dec(p, scale), V::Dec(n, s)) => {
                *s <= scale && n.unsigned_abs().checked_mul(10u128.pow(u32::from(scale - s))).is_some_and(|n| n < 10u128.pow(p.into()))
            }
            (T::Text(most), V::Text(t)) => most == 0 || t.chars().count() <= most as usize,
            (T::Time(3) | T::Stamp(3, _), V::Clock(t)) => t.ends_with("000"),
            _ => true,
        }
    }

    /// A literal of this type in YAML.
    pub fn yaml(self, v: &V) -> String {
        match v {
            V::Bool(_) | V::Int(_) | V::Double(_) => self.text(v),
            v => format!("{:?}", self.text(v)),
        }
    }

    /// Values with the ways in which Debezium messages spell them (JSON texts). The first is the plainest.
    pub fn pool(self) -> Vec<(V, Vec<String>)> {
        let s = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        match self {
            T::Bool => vec![(V::Bool(true), s(&["true", "1"])), (V::Bool(false), s(&["false", "0"]))],
            T::Int(bits) => {
                let (least, most) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
                // One of the first three does not fit one byte, for types that are declared too narrow.
                [1, 2, if bits == 8 { 3 } else { 300 }, 0, -1, 7, 42, most, least]
                    .into_iter()
                    .map(|n| (V::Int(n), if n == 7 { s(&["7", "7.0", "70e-1"]) } else { s(&[&n.to_string()]) }))
                    .collect()
            }
            T::Dec(p, scale) => {
                let top = 10i128.pow(u32::from(p)) - 1;
                vec![
                    (dec(15, 1), s(&["\"1.50\"", "\"1.5\"", "1.5", "15e-1", "\"0001.500000\""])),
                    (dec(0, 0), s(&["\"0\"", "0", "\"-0.00\"", "0.0"])),
                    (dec(-225, 2), s(&["\"-2.25\"", "-2.25", "\"-225e-2\""])),
                    (dec(7, 0), s(&["\"7.00\"", "7", "\"7\""])),
                    (dec(top, scale), s(&[&format!("{:?}", self.text(&V::Dec(top, scale)))])),
                    (dec(-top, scale), s(&[&format!("{:?}", self.text(&V::Dec(-top, scale)))])),
                ]
            }
            T::Double => vec![
                (V::Double(0.5), s(&["0.5", "5e-1", "\"0.5\""])),
                (V::Double(-3.25), s(&["-3.25"])),
                (V::Double(1e10), s(&["10000000000", "1e10"])),
                (V::Double(0.0), s(&["0", "-0.0", "0.0"])),
            ],
            T::Text(most) => {
                let mut pool: Vec<(V, Vec<String>)> = ["Ann", "ann", "", "7", "42", "b", "O'H", "é😀", "x\"\\"]
                    .iter()
                    .map(|t| (V::Text(t.to_string()), vec![Json::from(*t).to_string()]))
                    .collect();
                pool[0].1.push("\"\\u0041nn\"".into());
                pool[7].1.push("\"\\u00e9\\ud83d\\ude00\"".into());
                if most == 0 {
                    pool.push((V::Text("a longer text of many bytes, more than sixteen".into()), s(&["\"a longer text of many bytes, more than sixteen\""])));
                }
                pool.retain(|(v, _)| self.holds(v));
                pool
            }
            T::Bytes => vec![(V::Plain("0102".into()), s(&["\"AQI=\""])), (V::Plain(String::new()), s(&["\"\""])), (V::Plain("ff".into()), s(&["\"/w==\""]))],
            T::Date => vec![
                (V::Plain("2026-03-29".into()), s(&["20541", "\"2026-03-29\"", "\"2026-03-29Z\""])),
                (V::Plain("1970-01-01".into()), s(&["0"])),
                (V::Plain("1969-12-31".into()), s(&["-1", "\"1969-12-31\""])),
                (V::Plain("2024-02-29".into()), s(&["19782", "\"2024-02-29\""])),
            ],
            T::Time(p) => {
                let count = |us: i64| if p == 3 { us / 1000 } else { us }.to_string();
                let mut pool = vec![
                    (V::Clock("05:06:07.008000".into()), s(&[&count(18_367_008_000), "\"05:06:07.008\"", "\"05:06:07.008Z\""])),
                    (V::Clock("00:00:00.000000".into()), s(&["0", "\"00:00:00\""])),
                    (V::Clock("23:59:59.000000".into()), s(&[&count(86_399_000_000)])),
                ];
                if p == 6 {
                    pool.push((V::Clock("00:00:00.000001".into()), s(&["1", "\"00:00:00.000001\""])));
                }
                pool
            }
            T::Stamp(p, zone) => {
                let count = |us: i64| if p == 3 { us / 1000 } else { us }.to_string();
                let mut pool = vec![
                    (
                        V::Clock("2026-03-29T01:59:59.999000".into()),
                        s(&[&count(1_774_749_599_999_000), "\"2026-03-29T01:59:59.999Z\"", "\"2026-03-29 01:59:59.999000\""]),
                    ),
                    (V::Clock("1970-01-01T00:00:00.000000".into()), s(&["0", "\"1970-01-01T00:00:00Z\"", "\"1970-01-01\""])),
                    (V::Clock("1969-12-31T23:59:59.500000".into()), s(&[&count(-500_000), "\"1969-12-31T23:59:59.5\""])),
                ];
                if zone {
                    pool[0].1.push("\"2026-03-29T03:59:59.999+02:00\"".into());
                }
                if p == 6 {
                    pool.push((V::Clock("1970-01-01T00:00:00.000001".into()), s(&["1", "\"1970-01-01T00:00:00.000001\""])));
                }
                pool
            }
            T::Uuid => vec![
                (
                    V::Plain("00112233-4455-6677-8899-aabbccddeeff".into()),
                    s(&["\"00112233-4455-6677-8899-aabbccddeeff\"", "\"00112233445566778899AABBCCDDEEFF\""]),
                ),
                (V::Plain("ffffffff-ffff-ffff-ffff-ffffffffffff".into()), s(&["\"FFFFFFFF-ffff-ffff-ffff-ffffffffffff\""])),
                (V::Plain("00000000-0000-0000-0000-000000000000".into()), s(&["\"00000000-0000-0000-0000-000000000000\""])),
            ],
            T::Json => vec![
                (V::Plain("{\"a\":1}".into()), s(&["\"{\\\"a\\\":1}\"", "{\"a\":1}", "{ \"a\" : 1 }"])),
                (V::Plain("[true,null]".into()), s(&["\"[true,null]\"", "[true, null]"])),
                (V::Plain("7".into()), s(&["7", "\"7\""])),
            ],
            T::Array => vec![(V::Plain("[1,2]".into()), s(&["[1,2]", "[1, 2]", "\"[1, 2]\""])), (V::Plain("[]".into()), s(&["[]", "[ ]"]))],
        }
    }

    /// Spellings which are no value of this type, with the code of the reject.
    pub fn bad(self) -> Vec<(&'static str, &'static str)> {
        let (m, r) = ("TYPE_MISMATCH", "VALUE_OUT_OF_RANGE");
        match self {
            T::Bool => vec![("\"yes\"", m), ("2", r)],
            T::Int(8) => vec![("\"x\"", m), ("128", r), ("1.5", r), ("true", m), ("[1]", m)],
            T::Int(_) => vec![("\"x\"", m), ("99999999999999999999", r), ("1.5", r), ("true", m), ("[1]", m)],
            T::Dec(..) => vec![("\"abc\"", m), ("\"1.23456\"", r), ("true", m), ("\"1e40\"", r), ("[1]", m)],
            T::Double => vec![("\"x\"", m), ("true", m), ("1e999", r)],
            T::Text(0) => vec![("7", m), ("true", m), ("[1]", m)],
            T::Text(_) => vec![("\"abcde\"", r), ("7", m)],
            T::Bytes => vec![("\"*\"", m), ("7", m)],
            T::Date => vec![("\"2026-02-30\"", m), ("true", m), ("999999999999", r)],
            T::Time(3) => vec![("\"05:61:00\"", m), ("\"05:06:07.0001\"", r), ("true", m)],
            T::Time(_) => vec![("\"05:61:00\"", m), ("\"05:06:07.0000001\"", r), ("true", m)],
            T::Stamp(p, _) => vec![("\"soon\"", m), (if p == 3 { "\"2026-03-29T01:59:59.0001\"" } else { "\"2026-03-29T01:59:59.0000001\"" }, r), ("true", m)],
            T::Uuid => vec![("\"zz\"", m), ("7", m)],
            T::Json => vec![("\"{\"", m)],
            T::Array => vec![("{\"a\":1}", m), ("7", m)],
        }
    }
}
