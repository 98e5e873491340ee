//! Types, values and rows as packed canonical bytes: equality of bytes is equality of values.
//!
//! A *row* is a header and its fields, in the order of a list of columns:
//!
//! ```text
//! header  ceil((columns + 1) / 8) bytes, least significant bit first: bit 0 says that a second bitmap follows,
//!         bit c + 1 says that column c has no value (it is NULL, or unknown)
//! marks   only when bit 0 is set: the same number of bytes; bit c + 1 says that column c is unknown, not NULL, or (where
//!         the header's bit is clear) that the message lacked it, which only rows of source tables tell from NULL
//! fields  the columns that have a value, each as `pack_*` below writes it
//! ```
//!
//! A *key* is written by [`push_key`] so that the order of bytes is the order of values, column by column.
//! This file owns both forms, `text` the form that people read; neither knows of Arrow or tables.

use serde::{Deserialize, Serialize};

/// The type of a column. Times are kept in microseconds whatever their declared precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    Bool,
    /// A signed integer of 8, 16, 32 or 64 bits; all are packed alike, so 7 equals 7 whatever the width.
    Int(u8),
    /// At most 38 digits; the packed form is the unscaled integer.
    Decimal(u8, u8),
    Double,
    /// Text of at most so many characters (0: no limit).
    Varchar(u32),
    Bytes,
    Date,
    /// Digits of the second: 3 or 6.
    Time(u8),
    /// Digits of the second (3 or 6), and whether the value is an instant (`timestamp with time zone`, kept in UTC).
    Timestamp(u8, bool),
    Uuid,
    /// Kept as text.
    Json,
    /// An opaque value: JSON text without insignificant white space.
    Array,
}

impl Type {
    /// Reads a declared type, e.g. `decimal(18,2)`, `timestamp(3) with time zone`, `bigint[]`.
    ///
    /// # Errors
    /// A sentence which says what is wrong and what is known.
    pub fn parse(text: &str) -> Result<Type, String> {
        let lower = text.trim().to_ascii_lowercase();
        let text = lower.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.ends_with("[]") || text == "array" {
            return Ok(Type::Array);
        }
        let (head, arguments, tail) = match text.find('(') {
            None => (text.clone(), Vec::new(), String::new()),
            Some(open) => {
                let close = text[open..].find(')').map(|c| c + open).ok_or("a closing parenthesis is lacking")?;
                let arguments = text[open + 1..close]
                    .split(',')
                    .map(|a| a.trim().parse::<u32>().map_err(|_| format!("`{}` is not a number", a.trim())))
                    .collect::<Result<Vec<_>, _>>()?;
                (text[..open].trim().to_string(), arguments, text[close + 1..].trim().to_string())
            }
        };
        let words = format!("{head} {tail}");
        let words = words.trim();
        let digits = |default: u8| match arguments.as_slice() {
            [] => Ok(default),
            [n] if *n <= 3 => Ok(3),
            [n] if *n <= 6 => Ok(6),
            _ => Err("the precision of a time is at most 6 digits of the second".to_string()),
        };
        let plain = |ty: Type| if arguments.is_empty() { Ok(ty) } else { Err(format!("`{words}` takes no argument")) };
        match words {
            "bool" | "boolean" => plain(Type::Bool),
            "tinyint" | "int8" => Ok(Type::Int(8)),
            "smallint" | "int16" | "int2" => Ok(Type::Int(16)),
            "int" | "integer" | "int32" | "int4" => Ok(Type::Int(32)),
            "bigint" | "int64" | "long" => Ok(Type::Int(64)),
            "decimal" | "numeric" => match arguments.as_slice() {
                [] => Ok(Type::Decimal(38, 10)),
                [p] if (1..=38).contains(p) => Ok(Type::Decimal(*p as u8, 0)),
                [p, s] if (1..=38).contains(p) && s <= p => Ok(Type::Decimal(*p as u8, *s as u8)),
                _ => Err("a decimal has 1 to 38 digits, and its scale is not larger than that".into()),
            },
            "double" | "double precision" | "float" | "real" | "float8" | "float4" | "float64" | "float32" => plain(Type::Double),
            "varchar" | "text" | "string" | "char" | "character varying" | "character" => match arguments.as_slice() {
                [] => Ok(Type::Varchar(0)),
                [n] if *n > 0 => Ok(Type::Varchar(*n)),
                _ => Err("a varchar takes one length, larger than 0".into()),
            },
            "bytes" | "binary" | "varbinary" | "bytea" | "blob" => Ok(Type::Bytes),
            "date" => plain(Type::Date),
            "time" | "time without time zone" => Ok(Type::Time(digits(6)?)),
            "timestamp" | "timestamp without time zone" | "datetime" => Ok(Type::Timestamp(digits(6)?, false)),
            "timestamptz" | "timestamp with time zone" => Ok(Type::Timestamp(digits(6)?, true)),
            "uuid" => plain(Type::Uuid),
            "json" | "jsonb" => plain(Type::Json),
            _ => {
                let best = Type::NAMES.iter().max_by(|a, b| strsim::jaro(words, a).total_cmp(&strsim::jaro(words, b))).unwrap();
                Err(format!("`{words}` is not a type; did you mean `{best}`? known are {}", Type::NAMES.join(", ")))
            }
        }
    }

    /// The names that [`Type::parse`] takes, one spelling each.
    pub const NAMES: [&'static str; 16] = [
        "bool",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "decimal(p,s)",
        "double",
        "varchar",
        "bytes",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
        "json",
        "array",
    ];

    /// Of an exact number: the digits before and behind the point.
    pub fn digits(self) -> Option<(u8, u8)> {
        match self {
            Type::Int(8) => Some((3, 0)),
            Type::Int(16) => Some((5, 0)),
            Type::Int(32) => Some((10, 0)),
            Type::Int(_) => Some((19, 0)),
            Type::Decimal(p, s) => Some((p - s, s)),
            _ => None,
        }
    }

    /// The type that holds the values of both without loss, if values of the two can be compared at all.
    pub fn common(self, other: Type) -> Option<Type> {
        use Type::*;
        Some(match (self, other) {
            (a, b) if a == b => a,
            (Int(a), Int(b)) => Int(a.max(b)),
            (Varchar(_), Varchar(_)) => Varchar(0),
            (Decimal(..), Decimal(..) | Int(_)) | (Int(_), Decimal(..)) => {
                let ((whole, scale), (other, finer)) = (self.digits()?, other.digits()?);
                let (whole, scale) = (whole.max(other), scale.max(finer));
                // More digits are not kept, and a value that does not fit must not be lost.
                if whole + scale > 38 {
                    return None;
                }
                Decimal(whole + scale, scale)
            }
            (Double, Int(_) | Decimal(..)) | (Int(_) | Decimal(..), Double) => Double,
            (Time(a), Time(b)) => Time(a.max(b)),
            (Timestamp(a, z), Timestamp(b, y)) if z == y => Timestamp(a.max(b), z),
            (Date, Timestamp(p, z)) | (Timestamp(p, z), Date) => Timestamp(p, z),
            (Json, Varchar(_)) | (Varchar(_), Json) => Varchar(0),
            (Uuid, Varchar(_)) | (Varchar(_), Uuid) => Varchar(0),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::Int(8) => f.write_str("tinyint"),
            Type::Int(16) => f.write_str("smallint"),
            Type::Int(32) => f.write_str("int"),
            Type::Int(_) => f.write_str("bigint"),
            Type::Decimal(p, s) => write!(f, "decimal({p},{s})"),
            Type::Double => f.write_str("double"),
            Type::Varchar(0) => f.write_str("varchar"),
            Type::Varchar(n) => write!(f, "varchar({n})"),
            Type::Bytes => f.write_str("bytes"),
            Type::Date => f.write_str("date"),
            Type::Time(p) => write!(f, "time({p})"),
            Type::Timestamp(p, false) => write!(f, "timestamp({p})"),
            Type::Timestamp(p, true) => write!(f, "timestamp({p}) with time zone"),
            Type::Uuid => f.write_str("uuid"),
            Type::Json => f.write_str("json"),
            Type::Array => f.write_str("array"),
        }
    }
}

/// One value, for the paths where speed does not matter: literals, tests, answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// Not sent by the connector (an unchanged TOAST value that was never seen). It makes no difference.
    Unknown,
    Bool(bool),
    Int(i64),
    /// Unscaled, at the scale of the column's type.
    Decimal(i128),
    Double(f64),
    /// Of a varchar, json or array column.
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01T00:00:00 (UTC, where the type has a zone).
    Timestamp(i64),
    Uuid([u8; 16]),
}

/// A named, typed column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    pub ty: Type,
}

// ---- fields -------------------------------------------------------------------------------------------------

/// Appends an unsigned LEB128 number.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut n: u128) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends an unsigned LEB128 number of at most 64 bits.
#[inline]
pub fn push_varint64(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads what [`push_varint64`] wrote and moves `at` behind it.
#[inline]
pub fn read_varint64(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut n, mut shift) = (0u64, 0);
    loop {
        let b = bytes[*at];
        *at += 1;
        n |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return n;
        }
        shift += 7;
    }
}

#[inline]
fn read_varint128(bytes: &[u8], at: &mut usize) -> u128 {
    let (mut n, mut shift) = (0u128, 0);
    loop {
        let b = bytes[*at];
        *at += 1;
        n |= u128::from(b & 0x7f) << shift;
        if b < 0x80 {
            return n;
        }
        shift += 7;
    }
}

/// Packs an integer, date, time or timestamp.
#[inline]
pub fn pack_int(out: &mut Vec<u8>, n: i64) {
    push_varint64(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Packs the unscaled integer of a decimal.
#[inline]
pub fn pack_decimal(out: &mut Vec<u8>, n: i128) {
    if let Ok(small) = i64::try_from(n) {
        return pack_int(out, small);
    }
    push_varint(out, ((n << 1) ^ (n >> 127)) as u128);
}

/// Packs a double; all NaNs are one value, and so are the zeros.
#[inline]
pub fn pack_double(out: &mut Vec<u8>, n: f64) {
    let n = if n.is_nan() {
        f64::NAN
    } else if n == 0.0 {
        0.0
    } else {
        n
    };
    out.extend_from_slice(&n.to_le_bytes());
}

/// Packs text, JSON, an array or bytes.
#[inline]
pub fn pack_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Packs a value of a column of type `ty`; nothing is written for NULL and unknown.
pub fn pack_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null | Value::Unknown => {}
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::Int(n) | Value::Time(n) | Value::Timestamp(n) => pack_int(out, *n),
        Value::Decimal(n) => pack_decimal(out, *n),
        Value::Double(n) => pack_double(out, *n),
        Value::Text(t) => pack_bytes(out, t.as_bytes()),
        Value::Bytes(b) => pack_bytes(out, b),
        Value::Date(n) => pack_int(out, i64::from(*n)),
        Value::Uuid(u) => out.extend_from_slice(u),
    }
}

/// The length of the packed field of type `ty` that starts at `at`.
#[inline]
pub fn field_len(ty: Type, bytes: &[u8], at: usize) -> usize {
    match ty {
        Type::Bool => 1,
        Type::Double => 8,
        Type::Uuid => 16,
        Type::Varchar(_) | Type::Bytes | Type::Json | Type::Array => {
            let mut end = at;
            let len = read_varint64(bytes, &mut end) as usize;
            end - at + len
        }
        _ => {
            let mut end = at;
            while bytes[end] >= 0x80 {
                end += 1;
            }
            end + 1 - at
        }
    }
}

/// The integer of a packed integer, date, time or timestamp.
#[inline]
pub fn unpack_int(field: &[u8]) -> i64 {
    read_int(field, &mut 0)
}

/// Reads what [`pack_int`] wrote, and moves on.
#[inline]
pub fn read_int(bytes: &[u8], at: &mut usize) -> i64 {
    let n = read_varint64(bytes, at);
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// The unscaled integer of a packed decimal.
#[inline]
pub fn unpack_decimal(field: &[u8]) -> i128 {
    let n = read_varint128(field, &mut 0);
    (n >> 1) as i128 ^ -((n & 1) as i128)
}

/// The double of a packed double.
#[inline]
pub fn unpack_double(field: &[u8]) -> f64 {
    f64::from_le_bytes(field[..8].try_into().expect("a packed double has 8 bytes"))
}

/// The bytes of packed text, JSON, array or bytes.
#[inline]
pub fn unpack_bytes(field: &[u8]) -> &[u8] {
    let mut at = 0;
    let len = read_varint64(field, &mut at) as usize;
    &field[at..at + len]
}

/// The value of a packed field.
pub fn unpack_value(ty: Type, field: &[u8]) -> Value {
    match ty {
        Type::Bool => Value::Bool(field[0] != 0),
        Type::Int(_) => Value::Int(unpack_int(field)),
        Type::Decimal(..) => Value::Decimal(unpack_decimal(field)),
        Type::Double => Value::Double(unpack_double(field)),
        Type::Varchar(_) | Type::Json | Type::Array => Value::Text(String::from_utf8_lossy(unpack_bytes(field)).into_owned()),
        Type::Bytes => Value::Bytes(unpack_bytes(field).to_vec()),
        Type::Date => Value::Date(unpack_int(field) as i32),
        Type::Time(_) => Value::Time(unpack_int(field)),
        Type::Timestamp(..) => Value::Timestamp(unpack_int(field)),
        Type::Uuid => Value::Uuid(field[..16].try_into().expect("a packed uuid has 16 bytes")),
    }
}

/// Are the packed forms of the two types the same for the same value?
pub fn same_packing(a: Type, b: Type) -> bool {
    use Type::*;
    match (a, b) {
        (Int(_), Int(_)) | (Varchar(_), Varchar(_) | Json) | (Json, Varchar(_)) | (Time(_), Time(_)) => true,
        (Decimal(_, s), Decimal(_, t)) => s == t,
        (Timestamp(_, z), Timestamp(_, y)) => z == y,
        (a, b) => a == b,
    }
}

/// Does every packed value of `from` stand for the same value of `to`?
pub fn holds(from: Type, to: Type) -> bool {
    use Type::*;
    match (from, to) {
        (Int(a), Int(b)) => a <= b,
        (Varchar(a), Varchar(b)) => b == 0 || (a != 0 && a <= b),
        (Json | Array, Varchar(0) | Json | Array) | (Varchar(_), Json | Array) => true,
        (Decimal(p, s), Decimal(q, t)) => s == t && p <= q,
        (Int(bits), Decimal(q, 0)) => {
            q >= match bits {
                8 => 3,
                16 => 5,
                32 => 10,
                _ => 19,
            }
        }
        (Time(a), Time(b)) => a <= b,
        (Timestamp(a, y), Timestamp(b, z)) => y == z && a <= b,
        (a, b) => a == b,
    }
}

/// Can every value of `from` be one of `to`, and two of them never the same?
pub fn widens(from: Type, to: Type) -> bool {
    use Type::*;
    match (from, to) {
        (Decimal(p, s), Decimal(q, t)) => t >= s && q - t >= p - s,
        (Int(_), Decimal(q, t)) => holds(from, Decimal(q - t, 0)),
        (_, Varchar(0)) => true,
        // Not a date as a timestamp: most dates are further away than any timestamp.
        (a, b) => holds(a, b),
    }
}

/// Can some values of type `from` be packed as one of type `to`? Then [`convert`] says which.
pub fn converts(from: Type, to: Type) -> bool {
    use Type::*;
    match (from, to) {
        (Int(_), Int(_) | Decimal(..) | Double) | (Decimal(..), Decimal(..) | Double) | (Time(_), Time(_)) | (Date, Timestamp(..)) => true,
        (Timestamp(_, z), Timestamp(_, y)) => z == y,
        (_, Varchar(_) | Json | Array) => true,
        (a, b) => holds(a, b),
    }
}

/// Packs a value of type `from` again as one of type `to`, exactly or not at all.
///
/// # Errors
/// A sentence, when `to` can't hold the value.
pub fn convert(from: Type, to: Type, field: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    use Type::*;
    let no = || Err(format!("{} does not fit {to}", shorten(&text_of(from, &unpack_value(from, field)))));
    match (from, to) {
        (a, b) if holds(a, b) => out.extend_from_slice(field),
        (Int(_), Int(bits)) if fits(unpack_int(field), bits) => out.extend_from_slice(field),
        // To a coarser precision: microseconds in whole milliseconds.
        (Time(_), Time(_)) if unpack_int(field) % 1000 == 0 => out.extend_from_slice(field),
        (Timestamp(_, z), Timestamp(_, y)) if z == y && unpack_int(field) % 1000 == 0 => out.extend_from_slice(field),
        (Int(_), Int(_)) | (Time(_), Time(_)) => return no(),
        (Timestamp(_, z), Timestamp(_, y)) if z == y => return no(),
        (Decimal(_, s), Decimal(p, t)) => match rescale(unpack_decimal(field), i64::from(t) - i64::from(s), p) {
            Some(n) => pack_decimal(out, n),
            None => return no(),
        },
        (Int(_), Decimal(p, t)) => match rescale(i128::from(unpack_int(field)), i64::from(t), p) {
            Some(n) => pack_decimal(out, n),
            None => return no(),
        },
        (Int(_), Double) => pack_double(out, unpack_int(field) as f64),
        (Decimal(_, s), Double) => pack_double(out, decimal_text(unpack_decimal(field), s).parse().map_err(|_| "not a double".to_string())?),
        (Date, Timestamp(..)) => match unpack_int(field).checked_mul(DAY_US) {
            Some(us) => pack_int(out, us),
            None => return no(),
        },
        (_, Varchar(_) | Json | Array) => {
            let text = text_of(from, &unpack_value(from, field));
            if matches!(to, Varchar(most) if most > 0 && text.chars().count() > most as usize) {
                return no();
            }
            pack_bytes(out, text.as_bytes());
        }
        _ => return Err(format!("a {from} is no {to}")),
    }
    Ok(())
}

/// Packs a value again as one of the type that is [common](Type::common) to both sides of a comparison, so that two different
/// values never become the same. A date further away than any timestamp (PostgreSQL's `infinity`) is none: each of them gets a
/// microsecond of its own, among the first or last there are.
///
/// # Errors
/// A sentence, when it is not a common type.
pub fn convert_common(from: Type, to: Type, field: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if let (Type::Date, Type::Timestamp(..)) = (from, to) {
        let days = unpack_int(field);
        let far = if days < 0 { i64::MIN + (days - i64::from(i32::MIN)) } else { i64::MAX - (i64::from(i32::MAX) - days) };
        pack_int(out, days.checked_mul(DAY_US).unwrap_or(far));
        return Ok(());
    }
    convert(from, to, field, out)
}

// ---- rows ---------------------------------------------------------------------------------------------------

/// One field of a row: its packed bytes, or why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Null,
    Unknown,
    Packed(&'a [u8]),
}

impl Field<'_> {
    /// The value, for a column of type `ty`.
    pub fn value(self, ty: Type) -> Value {
        match self {
            Field::Null => Value::Null,
            Field::Unknown => Value::Unknown,
            Field::Packed(bytes) => unpack_value(ty, bytes),
        }
    }
}

/// Writes rows field by field.
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    header: usize,
    column: usize,
    /// Columns that are unknown or missing.
    marked: Vec<usize>,
}

impl<'a> RowWriter<'a> {
    /// Begins a row of `columns` columns at the end of `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, columns: usize) -> Self {
        let (start, header) = (out.len(), columns / 8 + 1);
        out.resize(start + header, 0);
        RowWriter { out, start, header, column: 0, marked: Vec::new() }
    }

    /// The next column is NULL.
    #[inline]
    pub fn null(&mut self) {
        self.column += 1;
        self.out[self.start + self.column / 8] |= 1 << (self.column % 8);
    }

    /// The next column is unknown.
    pub fn unknown(&mut self) {
        self.null();
        self.marked.push(self.column);
    }

    /// The next column was not in the message; it reads as NULL.
    pub fn missing(&mut self) {
        self.column += 1;
        self.marked.push(self.column);
    }

    /// The next column has this packed value.
    #[inline]
    pub fn packed(&mut self, field: &[u8]) {
        self.column += 1;
        self.out.extend_from_slice(field);
    }

    /// The next column, of any kind.
    #[inline]
    pub fn field(&mut self, field: Field) {
        match field {
            Field::Null => self.null(),
            Field::Unknown => self.unknown(),
            Field::Packed(bytes) => self.packed(bytes),
        }
    }

    /// The next column has a value that the caller packs at the end of the buffer.
    #[inline]
    pub fn pack(&mut self) -> &mut Vec<u8> {
        self.column += 1;
        self.out
    }

    /// Ends the row.
    #[inline]
    pub fn finish(self) {
        if !self.marked.is_empty() {
            self.out[self.start] |= 1;
            let mut bitmap = vec![0u8; self.header];
            for column in self.marked {
                bitmap[column / 8] |= 1 << (column % 8);
            }
            let at = self.start + self.header;
            self.out.splice(at..at, bitmap);
        }
    }
}

/// Reads the fields of a row in order.
#[derive(Clone)]
pub struct RowReader<'a> {
    row: &'a [u8],
    header: usize,
    column: usize,
    at: usize,
}

impl<'a> RowReader<'a> {
    /// Begins with the first of `columns` columns.
    #[inline]
    pub fn new(row: &'a [u8], columns: usize) -> Self {
        let header = columns / 8 + 1;
        let at = if row[0] & 1 == 0 { header } else { 2 * header };
        RowReader { row, header, column: 0, at }
    }

    /// The next field, of a column of type `ty`.
    #[inline]
    pub fn next(&mut self, ty: Type) -> Field<'a> {
        self.column += 1;
        let (byte, bit) = (self.column / 8, 1u8 << (self.column % 8));
        if self.row[byte] & bit != 0 {
            return if self.row[0] & 1 != 0 && self.row[self.header + byte] & bit != 0 { Field::Unknown } else { Field::Null };
        }
        if self.row[0] & 1 != 0 && self.row[self.header + byte] & bit != 0 {
            return Field::Null;
        }
        let len = field_len(ty, self.row, self.at);
        let field = &self.row[self.at..self.at + len];
        self.at += len;
        Field::Packed(field)
    }

    /// Was the next column not in the message?
    #[inline]
    pub fn is_missing(&self) -> bool {
        let (byte, bit) = ((self.column + 1) / 8, 1u8 << ((self.column + 1) % 8));
        self.row[0] & 1 != 0 && self.row[byte] & bit == 0 && self.row[self.header + byte] & bit != 0
    }
}

/// All fields of a row.
pub fn fields<'a>(row: &'a [u8], columns: &[Column]) -> Vec<Field<'a>> {
    let mut reader = RowReader::new(row, columns.len());
    columns.iter().map(|c| reader.next(c.ty)).collect()
}

/// All values of a row.
pub fn values(row: &[u8], columns: &[Column]) -> Vec<Value> {
    let mut reader = RowReader::new(row, columns.len());
    columns.iter().map(|c| reader.next(c.ty).value(c.ty)).collect()
}

/// Packs a row of values.
pub fn pack_row(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RowWriter::new(&mut out, values.len());
    for value in values {
        match value {
            Value::Null => writer.null(),
            Value::Unknown => writer.unknown(),
            value => pack_value(writer.pack(), value),
        }
    }
    writer.finish();
    out
}

/// Does the row have a column whose value is unknown (or, in a source table, missing)?
#[inline]
pub fn has_unknown(row: &[u8]) -> bool {
    row.first().is_some_and(|b| b & 1 != 0)
}

// ---- keys ---------------------------------------------------------------------------------------------------

/// Appends one column of a key; the order of bytes is NULL first, then the order of values. A column that is not the
/// last of its key is self-delimiting.
pub fn push_key(out: &mut Vec<u8>, ty: Type, field: Field, last: bool) {
    let Field::Packed(bytes) = field else { return out.push(0) };
    match ty {
        Type::Bool => out.push(1 + bytes[0]),
        Type::Double => {
            let bits = unpack_double(bytes).to_bits();
            out.push(1);
            out.extend_from_slice(&(if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits }).to_be_bytes());
        }
        Type::Uuid => {
            out.push(1);
            out.extend_from_slice(bytes);
        }
        Type::Varchar(_) | Type::Bytes | Type::Json | Type::Array => {
            out.push(1);
            let text = unpack_bytes(bytes);
            if last {
                return out.extend_from_slice(text);
            }
            for &b in text {
                out.push(b);
                if b == 0 {
                    out.push(0xff);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
        // Length and sign in one byte (0x80 plus or minus the number of bytes), then the bytes, high first.
        _ => {
            let n = unpack_decimal(bytes);
            let magnitude = if n < 0 { !n as u128 } else { n as u128 };
            let len = 16 - magnitude.leading_zeros() as usize / 8;
            out.push(if n < 0 { 0x7f - len as u8 } else { 0x80 + len as u8 });
            out.extend_from_slice(&n.to_be_bytes()[16 - len..]);
        }
    }
}

/// The key of packed fields.
pub fn pack_key(types: &[Type], fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, (ty, field)) in types.iter().zip(fields).enumerate() {
        push_key(&mut out, *ty, *field, i + 1 == types.len());
    }
    out
}

/// The values of a key that [`push_key`] wrote.
pub fn unpack_key(types: &[Type], key: &[u8]) -> Vec<Value> {
    let mut at = 0;
    types
        .iter()
        .enumerate()
        .map(|(i, ty)| {
            let tag = key[at];
            at += 1;
            if tag == 0 {
                return Value::Null;
            }
            match ty {
                Type::Bool => Value::Bool(tag == 2),
                Type::Double => {
                    let bits = u64::from_be_bytes(key[at..at + 8].try_into().expect("8 bytes of a double"));
                    at += 8;
                    Value::Double(f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits }))
                }
                Type::Uuid => {
                    at += 16;
                    Value::Uuid(key[at - 16..at].try_into().expect("16 bytes of a uuid"))
                }
                Type::Varchar(_) | Type::Bytes | Type::Json | Type::Array => {
                    let mut text = Vec::new();
                    if i + 1 == types.len() {
                        text.extend_from_slice(&key[at..]);
                        at = key.len();
                    } else {
                        while !(key[at] == 0 && key[at + 1] == 0) {
                            text.push(key[at]);
                            at += if key[at] == 0 { 2 } else { 1 };
                        }
                        at += 2;
                    }
                    match ty {
                        Type::Bytes => Value::Bytes(text),
                        _ => Value::Text(String::from_utf8_lossy(&text).into_owned()),
                    }
                }
                _ => {
                    let negative = tag < 0x80;
                    let len = if negative { 0x7f - tag } else { tag - 0x80 } as usize;
                    let mut bytes = if negative { [0xff; 16] } else { [0; 16] };
                    bytes[16 - len..].copy_from_slice(&key[at..at + len]);
                    at += len;
                    let n = i128::from_be_bytes(bytes);
                    match ty {
                        Type::Decimal(..) => Value::Decimal(n),
                        Type::Date => Value::Date(n as i32),
                        Type::Time(_) => Value::Time(n as i64),
                        Type::Timestamp(..) => Value::Timestamp(n as i64),
                        _ => Value::Int(n as i64),
                    }
                }
            }
        })
        .collect()
}

/// The columns of a key as packed fields at the end of `out`: where each stands, `None` for NULL.
pub fn repack_key(types: &[Type], key: &[u8], out: &mut Vec<u8>) -> Vec<Option<std::ops::Range<usize>>> {
    if let ([Type::Varchar(_) | Type::Json | Type::Array | Type::Bytes], [1, text @ ..]) = (types, key) {
        let start = out.len();
        pack_bytes(out, text);
        return vec![Some(start..out.len())];
    }
    unpack_key(types, key)
        .iter()
        .map(|value| {
            let start = out.len();
            pack_value(out, value);
            (*value != Value::Null).then_some(start..out.len())
        })
        .collect()
}

/// The hash that routes a key to its worker (high bits) and to its slot (low bits).
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The worker that holds a key.
#[inline]
pub fn worker_of(hash: u64, workers: usize) -> usize {
    ((hash >> 32) as usize * workers) >> 32
}

mod text;

pub use text::*;

#[cfg(test)]
mod tests;
