//! Values as people read and write them: decimals with their declared scale, dates and times in ISO 8601; and the same as
//! JSON.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike};

use super::{Column, Type, Value, unpack_key};

pub(super) const DAY_US: i64 = 86_400_000_000;
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// The value as people read it: decimals with their declared scale, dates and times in ISO 8601, bytes in hex. NULL is empty.
pub fn text_of(ty: Type, value: &Value) -> String {
    match value {
        Value::Null | Value::Unknown => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Decimal(n) => decimal_text(
            *n,
            match ty {
                Type::Decimal(_, s) => s,
                _ => 0,
            },
        ),
        Value::Double(n) => double_text(*n),
        Value::Text(t) => t.clone(),
        Value::Bytes(b) => hex(b),
        Value::Date(days) => date_text(*days),
        Value::Time(us) => time_text(*us, ty),
        Value::Timestamp(us) => {
            let (precision, zone) = match ty {
                Type::Timestamp(p, z) => (p, z),
                _ => (6, false),
            };
            timestamp_text(*us, precision, zone)
        }
        Value::Uuid(u) => uuid_text(u),
    }
}

/// `-1234` at scale 2 is `-12.34`.
pub fn decimal_text(n: i128, scale: u8) -> String {
    if scale == 0 {
        return n.to_string();
    }
    let digits = format!("{:0width$}", n.unsigned_abs(), width = usize::from(scale) + 1);
    let point = digits.len() - usize::from(scale);
    format!("{}{}.{}", if n < 0 { "-" } else { "" }, &digits[..point], &digits[point..])
}

fn double_text(n: f64) -> String {
    if n.is_nan() {
        "NaN".into()
    } else if n.is_infinite() {
        if n > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        serde_json::to_string(&n).unwrap_or_default()
    }
}

/// `2026-03-04`; a day outside the calendar's range as `epoch+DAYSd`.
pub fn date_text(days: i32) -> String {
    days.checked_add(EPOCH_DAYS_FROM_CE)
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .map_or_else(|| format!("epoch{days:+}d"), |d| d.format("%Y-%m-%d").to_string())
}

fn time_text(us: i64, ty: Type) -> String {
    let (sign, us) = if us < 0 { ("-", us.unsigned_abs() as i64) } else { ("", us) };
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction(
        &mut text,
        fraction,
        match ty {
            Type::Time(p) => p,
            _ => 6,
        },
    );
    text
}

fn push_fraction(text: &mut String, us: i64, precision: u8) {
    if us != 0 {
        let _ = if precision == 3 && us % 1000 == 0 { write!(text, ".{:03}", us / 1000) } else { write!(text, ".{us:06}") };
    }
}

/// `2026-03-04T05:06:07.000008`, with `Z` when the type has a zone.
pub fn timestamp_text(us: i64, precision: u8, zone: bool) -> String {
    let Some(time) = DateTime::from_timestamp_micros(us) else { return format!("epoch{us:+}us") };
    let mut text = time.format("%Y-%m-%dT%H:%M:%S").to_string();
    push_fraction(&mut text, us.rem_euclid(1_000_000), precision);
    if zone {
        text.push('Z');
    }
    text
}

/// A source time (milliseconds) as people read it: `2026-03-04T05:06:07.008Z`.
pub fn source_time_text(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).map_or_else(|| format!("epoch{ms:+}ms"), |t| t.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Bytes as pairs of hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What [`hex`] wrote; `None`: it is something else.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pairs = text.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect())?
}

fn uuid_text(u: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, b) in u.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{b:02x}");
    }
    text
}

/// The value as JSON: decimals, dates, times, uuids and bytes as strings (decimals so that nothing is lost), the rest as
/// JSON has it; JSON columns are text.
pub fn json_of(ty: Type, value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Unknown => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Double(n) => serde_json::Number::from_f64(*n).map_or_else(|| double_text(*n).into(), Into::into),
        value => text_of(ty, value).into(),
    }
}

/// A key as text: the value of its one column, or a JSON array of its several.
pub fn key_text(columns: &[Column], key: &[u8]) -> String {
    let types: Vec<Type> = columns.iter().map(|c| c.ty).collect();
    let values = unpack_key(&types, key);
    match values.as_slice() {
        [value] => text_of(types[0], value),
        values => serde_json::Value::Array(values.iter().zip(&types).map(|(v, t)| json_of(*t, v)).collect()).to_string(),
    }
}

/// Reads a value of type `ty` from its text form.
///
/// # Errors
/// A sentence which says why the text is no such value.
pub fn parse_text(ty: Type, text: &str) -> Result<Value, String> {
    let fail = |what: &str| Err(format!("`{}` is not {what}", shorten(text)));
    match ty {
        Type::Bool => match text {
            "true" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "f" | "0" => Ok(Value::Bool(false)),
            _ => fail("a bool"),
        },
        Type::Int(bits) => match text.parse::<i64>() {
            Ok(n) if fits(n, bits) => Ok(Value::Int(n)),
            _ => fail(&format!("an integer of {bits} bits")),
        },
        Type::Decimal(p, s) => parse_decimal(text.as_bytes(), p, s).map(Value::Decimal),
        Type::Double => text.parse::<f64>().map(Value::Double).or_else(|_| fail("a double")),
        Type::Varchar(0) => Ok(Value::Text(text.to_string())),
        Type::Varchar(n) if text.chars().count() > n as usize => fail(&format!("a text of at most {n} characters")),
        Type::Varchar(_) => Ok(Value::Text(text.to_string())),
        Type::Json | Type::Array => Ok(Value::Text(text.to_string())),
        Type::Bytes => {
            let hex = text.as_bytes();
            let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
            let bytes = hex.chunks(2).map(|c| Some(digit(c[0])? << 4 | digit(*c.get(1)?)?)).collect::<Option<Vec<u8>>>();
            bytes.map(Value::Bytes).map_or_else(|| fail("bytes in hex"), Ok)
        }
        Type::Date => parse_date(text).map(Value::Date),
        Type::Time(_) => parse_time(text).map(Value::Time),
        Type::Timestamp(_, zone) => parse_timestamp(text, zone).map(Value::Timestamp),
        Type::Uuid => {
            let hex: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
            if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
                return fail("a uuid");
            }
            let mut uuid = [0; 16];
            for (byte, pair) in uuid.iter_mut().zip(hex.chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).expect("hex digits are text"), 16).expect("hex digits");
            }
            Ok(Value::Uuid(uuid))
        }
    }
}

/// Does `n` fit an integer of so many bits?
#[inline]
pub fn fits(n: i64, bits: u8) -> bool {
    bits == 64 || n >> (bits - 1) == 0 || n >> (bits - 1) == -1
}

pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text.to_string() }
}

/// Reads a decimal exactly: `-12.5`, `1.25e3`; digits that the scale would lose are an error, trailing zeros are not.
///
/// # Errors
/// A sentence which says why it does not fit `decimal(precision,scale)`.
pub fn parse_decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, String> {
    let fail = |why: &str| Err(format!("`{}` {why} decimal({precision},{scale})", shorten(&String::from_utf8_lossy(text))));
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mut n, mut point, mut seen, mut i) = (0i128, None, 0usize, 0);
    while i < digits.len() {
        match digits[i] {
            b @ b'0'..=b'9' => {
                seen += 1;
                n = match n.checked_mul(10).and_then(|n| n.checked_add(i128::from(b - b'0'))) {
                    Some(n) => n,
                    None => return fail("does not fit"),
                };
            }
            b'.' if point.is_none() => point = Some(seen),
            b'e' | b'E' if seen > 0 => break,
            _ => return fail("is not a number for"),
        }
        i += 1;
    }
    if seen == 0 {
        return fail("is not a number for");
    }
    let mut exponent = 0i32;
    if i < digits.len() {
        exponent = match std::str::from_utf8(&digits[i + 1..]).ok().and_then(|e| e.parse().ok()) {
            Some(e) => e,
            None => return fail("is not a number for"),
        };
    }
    let fraction = seen - point.unwrap_or(seen);
    let n = if negative { -n } else { n };
    match rescale(n, i64::from(exponent) - fraction as i64 + i64::from(scale), precision) {
        Some(n) => Ok(n),
        None => fail("does not fit"),
    }
}

/// `n` times ten to the power of `by`, if that is whole and has at most `precision` digits.
pub fn rescale(n: i128, by: i64, precision: u8) -> Option<i128> {
    let mut n = n;
    if n == 0 {
        return Some(0);
    }
    if !(-38..=38).contains(&by) {
        return None;
    }
    if by >= 0 {
        n = n.checked_mul(10i128.pow(by as u32))?;
    } else {
        let by = 10i128.pow(-by as u32);
        if n % by != 0 {
            return None;
        }
        n /= by;
    }
    (n.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(n)
}

/// Days since 1970-01-01 of `2026-03-04` (a trailing `Z`, or a time of midnight, is allowed).
///
/// # Errors
/// A sentence which says that it is no date.
pub fn parse_date(text: &str) -> Result<i32, String> {
    let b = text.as_bytes();
    let digit = |i: usize| (b[i].wrapping_sub(b'0') < 10).then(|| i32::from(b[i] - b'0'));
    if b.len() == 10 && b[4] == b'-' && b[7] == b'-' {
        let number = |from: usize, to: usize| (from..to).try_fold(0, |n, i| Some(n * 10 + digit(i)?));
        if let (Some(y), Some(m), Some(d)) = (number(0, 4), number(5, 7), number(8, 10)) {
            const DAYS: [i32; 13] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
            if (1..=12).contains(&m) && d >= 1 && d <= DAYS[m as usize] + i32::from(m == 2 && leap) {
                return Ok(days_from_civil(y, m, d));
            }
        }
        return Err(format!("`{}` is not a date", shorten(text)));
    }
    let day = text.trim_end_matches('Z').trim_end_matches("T00:00:00");
    day.parse::<NaiveDate>().map(|d| d.num_days_from_ce() - EPOCH_DAYS_FROM_CE).map_err(|_| format!("`{}` is not a date", shorten(text)))
}

/// Howard Hinnant, "chrono-compatible low-level date algorithms".
fn days_from_civil(y: i32, m: i32, d: i32) -> i32 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (m + if m > 2 { -3 } else { 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Microseconds since midnight of `05:06:07.000008` (a trailing `Z` is allowed; so is `24:00:00`, and more than a day, as
/// MariaDB has it).
///
/// # Errors
/// A sentence which says that it is no time.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let fail = || format!("`{}` is not a time", shorten(text));
    let body = text.trim_end_matches('Z');
    if let Ok(t) = body.parse::<NaiveTime>() {
        return Ok(i64::from(t.num_seconds_from_midnight()) * 1_000_000 + i64::from(t.nanosecond() % 1_000_000_000 / 1000));
    }
    let (sign, body) = body.strip_prefix('-').map_or((1, body), |rest| (-1, rest));
    let mut parts = body.split(':');
    let mut number = |most: i64| -> Option<i64> { parts.next()?.parse().ok().filter(|n| (0..=most).contains(n)) };
    let (h, m) = (number(9_999).ok_or_else(fail)?, number(59).ok_or_else(fail)?);
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok().filter(|s| (0.0..60.0).contains(s)).ok_or_else(fail)?;
    if parts.next().is_some() {
        return Err(fail());
    }
    Ok(sign * ((h * 3600 + m * 60) * 1_000_000 + (seconds * 1e6).round() as i64))
}

/// Microseconds since the epoch of `2026-03-04T05:06:07.000008` (or with a space); with `zone`, an offset or `Z` is read,
/// and its lack means UTC; without `zone`, a `Z` is ignored.
///
/// # Errors
/// A sentence which says that it is no timestamp.
pub fn parse_timestamp(text: &str, zone: bool) -> Result<i64, String> {
    let fail = || format!("`{}` is not a timestamp{}", shorten(text), if zone { " with time zone" } else { "" });
    if zone && let Ok(t) = DateTime::parse_from_rfc3339(text) {
        return Ok(t.timestamp_micros());
    }
    let body = text.trim_end_matches('Z');
    let (date, time) = body.split_once(['T', ' ']).unwrap_or((body, "00:00:00"));
    let days = i64::from(parse_date(date).map_err(|_| fail())?);
    if zone && let Some(sign) = time.rfind(['+', '-']) {
        let (time, offset) = time.split_at(sign);
        let padded = if offset.len() == 3 { format!("{offset}:00") } else { offset.to_string() };
        let seconds = DateTime::parse_from_rfc3339(&format!("1970-01-01T00:00:00{padded}")).map_err(|_| fail())?.timestamp();
        return Ok(days * DAY_US + parse_time(time).map_err(|_| fail())? + seconds * 1_000_000);
    }
    Ok(days * DAY_US + parse_time(time).map_err(|_| fail())?)
}
