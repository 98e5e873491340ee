//! Rows and keys as JSON text, for exports: what `row::json_of` says, without building a value first.
//!
//! Decimals are strings with their declared scale, dates and times ISO 8601, bytes hexadecimal digits, NULL and unknown are
//! null.

use crate::row::{self, Column, Field, RowReader, Type, Value};

/// Writes the rows of a table as JSON objects.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    /// What stands before each value: `{"name":` or `,"name":`.
    heads: Vec<Vec<u8>>,
    types: Vec<Type>,
}

impl RowEncoder {
    /// For the rows of these columns; also for keys, of the key's columns.
    pub fn new(columns: &[Column]) -> Self {
        let head = |(i, column): (usize, &Column)| {
            let mut head = vec![if i == 0 { b'{' } else { b',' }];
            push_string(&mut head, column.name.as_bytes());
            head.push(b':');
            head
        };
        RowEncoder { heads: columns.iter().enumerate().map(head).collect(), types: columns.iter().map(|c| c.ty).collect() }
    }

    /// Appends a packed row as an object.
    pub fn row(&self, row: &[u8], out: &mut Vec<u8>) {
        let mut fields = RowReader::new(row, self.types.len());
        for (head, &ty) in self.heads.iter().zip(&self.types) {
            out.extend_from_slice(head);
            self.field(ty, fields.next(ty), out);
        }
        self.close(out);
    }

    /// Appends the columns of a row that are `places`, in that order, as an object: the key of a row.
    pub fn columns_of_row(&self, row: &[u8], places: &[usize], out: &mut Vec<u8>) {
        let mut reader = RowReader::new(row, self.types.len());
        let fields: Vec<Field> = self.types.iter().map(|ty| reader.next(*ty)).collect();
        out.push(b'{');
        for (i, &c) in places.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&self.heads[c][1..]);
            self.field(self.types[c], fields[c], out);
        }
        out.push(b'}');
    }

    /// Appends a key that `row::push_key` wrote as an object; the encoder is that of the key's columns.
    pub fn key(&self, key: &[u8], out: &mut Vec<u8>) {
        let mut packed = Vec::new();
        for ((head, &ty), value) in self.heads.iter().zip(&self.types).zip(row::unpack_key(&self.types, key)) {
            out.extend_from_slice(head);
            packed.clear();
            row::pack_value(&mut packed, &value);
            self.field(ty, if value == Value::Null { Field::Null } else { Field::Packed(&packed) }, out);
        }
        self.close(out);
    }

    fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.heads.is_empty() { b"{}" } else { b"}" });
    }

    #[inline]
    fn field(&self, ty: Type, field: Field, out: &mut Vec<u8>) {
        let Field::Packed(bytes) = field else { return out.extend_from_slice(b"null") };
        match ty {
            Type::Bool => out.extend_from_slice(if bytes[0] != 0 { b"true" } else { b"false" }),
            Type::Int(_) => push_int(out, row::unpack_int(bytes)),
            Type::Decimal(_, scale) => quoted(out, |out| push_decimal(out, row::unpack_decimal(bytes), scale)),
            Type::Double => push_double(out, row::unpack_double(bytes)),
            Type::Varchar(_) | Type::Json | Type::Array => push_string(out, row::unpack_bytes(bytes)),
            Type::Bytes => quoted(out, |out| push_hex(out, row::unpack_bytes(bytes))),
            Type::Date => quoted(out, |out| push_date(out, row::unpack_int(bytes))),
            Type::Time(precision) => quoted(out, |out| push_time(out, row::unpack_int(bytes), precision)),
            Type::Timestamp(precision, zone) => quoted(out, |out| push_timestamp(out, row::unpack_int(bytes), precision, zone)),
            Type::Uuid => quoted(out, |out| {
                push_hex(out, &bytes[..4]);
                for part in [4..6, 6..8, 8..10, 10..16] {
                    out.push(b'-');
                    push_hex(out, &bytes[part]);
                }
            }),
        }
    }
}

#[inline]
fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut i = 0;
    while i < 100 {
        pairs[2 * i] = b'0' + (i / 10) as u8;
        pairs[2 * i + 1] = b'0' + (i % 10) as u8;
        i += 1;
    }
    pairs
};

/// Two digits.
#[inline]
fn push_pair(out: &mut Vec<u8>, n: u64) {
    let at = (n % 100) as usize * 2;
    out.extend_from_slice(&[PAIRS[at], PAIRS[at + 1]]);
}

/// The digits of `n`, with zeros in front up to `width` of them, and a point before the last `scale`.
#[inline]
fn push_digits(out: &mut Vec<u8>, mut n: u64, width: usize, scale: usize) {
    let mut digits = [b'0'; 41];
    let mut at = digits.len();
    let mut written = 0;
    while n > 0 || written < width {
        if written == scale && scale > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        written += 1;
    }
    out.extend_from_slice(&digits[at..]);
}

#[inline]
fn push_int(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    push_digits(out, n.unsigned_abs(), 1, 0);
}

#[inline]
fn push_decimal(out: &mut Vec<u8>, n: i128, scale: u8) {
    match u64::try_from(n.unsigned_abs()) {
        Ok(small) if scale < 20 => {
            if n < 0 {
                out.push(b'-');
            }
            push_digits(out, small, usize::from(scale) + 1, usize::from(scale));
        }
        _ => out.extend_from_slice(row::decimal_text(n, scale).as_bytes()),
    }
}

fn push_double(out: &mut Vec<u8>, n: f64) {
    match serde_json::Number::from_f64(n) {
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None => push_string(out, row::text_of(Type::Double, &Value::Double(n)).as_bytes()),
    }
}

/// A JSON string.
#[inline]
pub(super) fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut plain = 0;
    for (i, &b) in text.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..i]);
        plain = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, &[b]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for b in bytes {
        out.extend_from_slice(&[b"0123456789abcdef"[usize::from(b >> 4)], b"0123456789abcdef"[usize::from(b & 15)]]);
    }
}

pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            out.push(if i <= group.len() { DIGITS[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' });
        }
    }
}

const DAY_US: i64 = 86_400_000_000;
/// 0000-01-01 and 9999-12-31: the years of four digits.
const FOUR_DIGITS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

#[inline]
fn push_date(out: &mut Vec<u8>, days: i64) {
    if !FOUR_DIGITS.contains(&days) {
        return out.extend_from_slice(row::date_text(days as i32).as_bytes());
    }
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    push_pair(out, year as u64 / 100);
    push_pair(out, year as u64);
    out.push(b'-');
    push_pair(out, month as u64);
    out.push(b'-');
    push_pair(out, day as u64);
}

#[inline]
fn push_time(out: &mut Vec<u8>, us: i64, precision: u8) {
    if !(0..100 * 3_600_000_000).contains(&us) {
        return out.extend_from_slice(row::text_of(Type::Time(precision), &Value::Time(us)).as_bytes());
    }
    let seconds = us as u64 / 1_000_000;
    push_pair(out, seconds / 3600);
    out.push(b':');
    push_pair(out, seconds / 60 % 60);
    out.push(b':');
    push_pair(out, seconds % 60);
    let us = us as u64 % 1_000_000;
    if us != 0 {
        out.push(b'.');
        if precision == 3 && us.is_multiple_of(1000) { push_digits(out, us / 1000, 3, 0) } else { push_digits(out, us, 6, 0) }
    }
}

#[inline]
fn push_timestamp(out: &mut Vec<u8>, us: i64, precision: u8, zone: bool) {
    let days = us.div_euclid(DAY_US);
    if !FOUR_DIGITS.contains(&days) {
        return out.extend_from_slice(row::timestamp_text(us, precision, zone).as_bytes());
    }
    push_date(out, days);
    out.push(b'T');
    push_time(out, us.rem_euclid(DAY_US), precision);
    if zone {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests;
