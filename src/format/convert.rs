//! A token of a message to the packed field of a declared type: exact, range checked, never a guess.
//!
//! How a value is spelled is decided by the declared type, by the schema of the message where it has one, and else by
//! the source's `wire` setting: see [`Spelling`].

use super::{
    Span,
    scan::{self, Kind, Scan, Token},
    text::{self, Fault},
};
use crate::{
    plan::{Wire, WireDecimals, WireTimes},
    row::{self, Type},
};

/// How values of a column are spelled in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As JSON has it: numbers as numbers, or decimals as text; times as ISO text; bytes in base64.
    Plain,
    /// Bytes in hexadecimal digits, as tieout itself writes them.
    Hex,
    /// A decimal as base64 of its unscaled value, at this scale.
    Unscaled(i32),
    /// A number counts these units since the epoch (or since midnight).
    Count(Unit),
    /// Bits in base64, the lowest byte first.
    Bits,
    /// Bytes in base64 of which the message's schema says that they are nothing else.
    Raw,
}

/// What a number that stands for a date or time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

impl Spelling {
    /// Of a column in a message that has no schema.
    pub fn of(ty: Type, wire: Wire) -> Spelling {
        match ty {
            Type::Decimal(_, scale) if wire.decimals == WireDecimals::Precise => Spelling::Unscaled(i32::from(scale)),
            Type::Bytes if wire.hex => Spelling::Hex,
            Type::Date => Spelling::Count(Unit::Days),
            Type::Time(_) if wire.times == WireTimes::AdaptiveTimeMicroseconds => Spelling::Count(Unit::Micros),
            Type::Time(precision) | Type::Timestamp(precision, _) => Spelling::Count(match wire.times {
                WireTimes::Adaptive | WireTimes::AdaptiveTimeMicroseconds if precision <= 3 => Unit::Millis,
                WireTimes::Adaptive | WireTimes::AdaptiveTimeMicroseconds | WireTimes::Microseconds => Unit::Micros,
                WireTimes::Connect => Unit::Millis,
                WireTimes::Nanoseconds => Unit::Nanos,
            }),
            _ => Spelling::Plain,
        }
    }
}

/// What Debezium sends for a value that it could not know (an unchanged TOAST value).
pub(super) const UNAVAILABLE: &[u8] = b"__debezium_unavailable_value";
const UNAVAILABLE_BASE64: &[u8] = b"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
const UNAVAILABLE_HEX: &[u8] = b"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565";

/// The same of a map (hstore) that is written as JSON text, and of a UUID: the one that Java makes of the text.
const UNAVAILABLE_MAP: &[u8] = br#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;
const UNAVAILABLE_UUID: &[u8] = b"b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// Is this text what Debezium sends for a value of such a type that it could not know?
#[inline]
pub(super) fn is_unavailable_text(ty: Type, text: &[u8]) -> bool {
    let of_bytes = || matches!(ty, Type::Bytes | Type::Decimal(..)) && (text == UNAVAILABLE_BASE64 || text == UNAVAILABLE_HEX);
    text == UNAVAILABLE || text == UNAVAILABLE_MAP || of_bytes()
}

/// The longest time of day, either way: MariaDB's `838:59:59.999999`.
const TIME_MAX_US: i64 = 839 * 3_600_000_000 - 1;
const DAY_US: i64 = 86_400_000_000;

/// Packs the value of `token` at the end of `out`. `message` is what the token was scanned from.
///
/// # Errors
/// The value is not one of the declared type; `out` may then have bytes too many.
#[inline(always)]
pub fn convert(ty: Type, spelling: Spelling, token: Token, message: &[u8], out: &mut Vec<u8>) -> Result<Span, Fault> {
    let start = out.len();
    match token.kind {
        Kind::Missing => return Ok(Span::MISSING),
        Kind::Null => return Ok(Span::NULL),
        // The frequent cases, without a call.
        Kind::Text => {
            let text = token.of(message);
            match ty {
                Type::Varchar(0) if text.len() != UNAVAILABLE.len() && spelling == Spelling::Plain => {
                    pack_text(token, message, out);
                    return Ok(Span::of(start, out.len()));
                }
                _ => {}
            }
        }
        Kind::Integer => {
            if let Type::Int(bits) = ty
                && let Ok(n) = text::integer(token.of(message))
                && row::fits(n, bits)
            {
                row::pack_int(out, n);
                return Ok(Span::of(start, out.len()));
            }
        }
        _ => {}
    }
    convert_any(ty, spelling, token, message, out)
}

/// Packs unescaped text. A short one is copied as 16 bytes at once, which needs no call.
#[inline(always)]
fn pack_text(token: Token, message: &[u8], out: &mut Vec<u8>) {
    let text = token.of(message);
    if let Some(chunk) = token.chunk(message)
        && text.len() <= 16
    {
        out.push(text.len() as u8);
        let start = out.len();
        out.extend_from_slice(chunk);
        out.truncate(start + text.len());
    } else {
        row::pack_bytes(out, text);
    }
}

fn convert_any(ty: Type, spelling: Spelling, token: Token, message: &[u8], out: &mut Vec<u8>) -> Result<Span, Fault> {
    let start = out.len();
    if matches!(token.kind, Kind::Text | Kind::Escaped) {
        let mut unescaped = Vec::new();
        let text = scan::text_of(token, message, &mut unescaped);
        if is_unavailable_text(ty, text) {
            return Ok(Span::UNKNOWN);
        }
        from_text(ty, spelling, text, out)?;
        return Ok(Span::of(start, out.len()));
    }
    let text = token.of(message);
    match token.kind {
        Kind::Integer | Kind::Number => from_number(ty, spelling, text, out)?,
        Kind::True | Kind::False => match ty {
            Type::Bool => out.push(u8::from(token.kind == Kind::True)),
            Type::Json => row::pack_bytes(out, text),
            _ => return Err(Fault::Mismatch),
        },
        Kind::Object | Kind::Array => match ty {
            _ if is_unavailable(text) => return Ok(Span::UNKNOWN),
            Type::Json => pack_compact(text, out),
            Type::Array if token.kind == Kind::Array => pack_compact(text, out),
            Type::Decimal(..) | Type::Int(_) | Type::Double if token.kind == Kind::Object => {
                let (n, scale) = variable_scale(text)?;
                from_unscaled(ty, n, scale, out)?;
            }
            _ => return Err(Fault::Mismatch),
        },
        _ => return Err(Fault::Mismatch),
    }
    Ok(Span::of(start, out.len()))
}

pub(super) fn from_text(ty: Type, spelling: Spelling, text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    match (ty, spelling) {
        (Type::Decimal(..) | Type::Int(_) | Type::Double, Spelling::Unscaled(scale)) => {
            from_unscaled(ty, unscaled(text)?, scale, out)?;
        }
        (Type::Decimal(p, s), Spelling::Plain | Spelling::Hex) => row::pack_decimal(out, text::decimal(text, p, s)?),
        (Type::Double, Spelling::Plain | Spelling::Hex) => row::pack_double(out, text::double(text)?),
        (Type::Int(bits), Spelling::Bits) => {
            let mut bytes = Vec::new();
            text::base64(text, &mut bytes)?;
            bytes.reverse();
            bytes.insert(0, 0);
            let n = i64::try_from(text::big_endian(&bytes)?).map_err(|_| Fault::Range)?;
            pack_fitting(n, bits, out)?;
        }
        // The schema says that this text stands for bytes or for a number.
        (Type::Varchar(_) | Type::Json, Spelling::Unscaled(_) | Spelling::Bits | Spelling::Raw) => return Err(Fault::Mismatch),
        (Type::Varchar(most), _) => {
            if most > 0 && text.len() > most as usize && String::from_utf8_lossy(text).chars().count() > most as usize {
                return Err(Fault::Range);
            }
            row::pack_bytes(out, text);
        }
        (Type::Json, _) => {
            if !scan::is_json(text) {
                return Err(Fault::Mismatch);
            }
            row::pack_bytes(out, text);
        }
        (Type::Array, _) => {
            if text.first() != Some(&b'[') || !scan::is_json(text) {
                return Err(Fault::Mismatch);
            }
            pack_compact(text, out);
        }
        (Type::Bytes, Spelling::Hex) => {
            let mut bytes = Vec::with_capacity(text.len() / 2);
            text::hex(text, &mut bytes)?;
            row::pack_bytes(out, &bytes);
        }
        (Type::Bytes, _) => {
            let mut bytes = Vec::with_capacity(text.len());
            text::base64(text, &mut bytes)?;
            row::pack_bytes(out, &bytes);
        }
        (Type::Date, _) => row::pack_int(out, i64::from(text::date(text)?)),
        (Type::Time(precision), _) => pack_time(text::time(text)?, precision, out)?,
        (Type::Timestamp(precision, zone), _) => pack_timestamp(text::timestamp(text, zone)?, precision, out)?,
        (Type::Uuid, _) => out.extend_from_slice(&text::uuid(text)?),
        (Type::Bool | Type::Int(_), _) => return Err(Fault::Mismatch),
        (Type::Decimal(..) | Type::Double, _) => return Err(Fault::Mismatch),
    }
    Ok(())
}

pub(super) fn from_number(ty: Type, spelling: Spelling, text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    match (ty, spelling) {
        (Type::Bool, _) => match text::integer(text)? {
            n @ (0 | 1) => out.push(n as u8),
            _ => return Err(Fault::Range),
        },
        (Type::Int(bits), _) => pack_fitting(text::integer(text)?, bits, out)?,
        (Type::Decimal(p, s), _) => row::pack_decimal(out, text::decimal(text, p, s)?),
        (Type::Double, _) => row::pack_double(out, text::double(text)?),
        (Type::Json, _) => row::pack_bytes(out, text),
        (Type::Date | Type::Time(_) | Type::Timestamp(..), Spelling::Count(unit)) => from_count(ty, unit, text::integer(text)?, out)?,
        _ => return Err(Fault::Mismatch),
    }
    Ok(())
}

/// Packs a date or time that is so many units.
pub(super) fn from_count(ty: Type, unit: Unit, n: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    match ty {
        Type::Date => {
            let days = if unit == Unit::Days {
                n
            } else {
                let us = micros(n, unit)?;
                if us % DAY_US != 0 {
                    return Err(Fault::Range);
                }
                us / DAY_US
            };
            row::pack_int(out, i64::from(i32::try_from(days).map_err(|_| Fault::Range)?));
            Ok(())
        }
        Type::Time(precision) if unit != Unit::Days => pack_time(micros(n, unit)?, precision, out),
        Type::Timestamp(precision, _) => pack_timestamp(micros(n, unit)?, precision, out),
        _ => Err(Fault::Mismatch),
    }
}

pub(super) fn pack_fitting(n: i64, bits: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !row::fits(n, bits) {
        return Err(Fault::Range);
    }
    row::pack_int(out, n);
    Ok(())
}

/// A count in microseconds; nanoseconds that are no whole microseconds do not fit.
fn micros(n: i64, unit: Unit) -> Result<i64, Fault> {
    match unit {
        Unit::Days => n.checked_mul(DAY_US).ok_or(Fault::Range),
        Unit::Millis => n.checked_mul(1000).ok_or(Fault::Range),
        Unit::Micros => Ok(n),
        Unit::Nanos if n % 1000 != 0 => Err(Fault::Range),
        Unit::Nanos => Ok(n / 1000),
    }
}

fn pack_time(us: i64, precision: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !(-TIME_MAX_US..=TIME_MAX_US).contains(&us) {
        return Err(Fault::Range);
    }
    pack_timestamp(us, precision, out)
}

fn pack_timestamp(us: i64, precision: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
    if precision <= 3 && us % 1000 != 0 {
        return Err(Fault::Range);
    }
    row::pack_int(out, us);
    Ok(())
}

fn pack_compact(json: &[u8], out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(json.len());
    scan::compact(json, &mut text);
    row::pack_bytes(out, &text);
}

fn unscaled(base64: &[u8]) -> Result<i128, Fault> {
    let mut bytes = Vec::with_capacity(24);
    text::base64(base64, &mut bytes)?;
    text::big_endian(&bytes)
}

/// Packs `n` times ten to the power of `-scale`.
pub(super) fn from_unscaled(ty: Type, n: i128, scale: i32, out: &mut Vec<u8>) -> Result<(), Fault> {
    match ty {
        Type::Decimal(precision, to) => {
            let n = row::rescale(n, i64::from(to) - i64::from(scale), precision).ok_or(Fault::Range)?;
            row::pack_decimal(out, n);
        }
        Type::Int(bits) => {
            let n = row::rescale(n, -i64::from(scale), 38).and_then(|n| i64::try_from(n).ok()).ok_or(Fault::Range)?;
            pack_fitting(n, bits, out)?;
        }
        _ => row::pack_double(out, text::double(format!("{n}e{}", -i64::from(scale)).as_bytes())?),
    }
    Ok(())
}

/// Debezium's `VariableScaleDecimal`: `{"scale":4,"value":"B1vNFQ=="}`.
fn variable_scale(object: &[u8]) -> Result<(i128, i32), Fault> {
    let (mut scale, mut value) = (Token::MISSING, Token::MISSING);
    let mut scan = Scan::new(object);
    scan.walk(|scan, name| {
        let name = match name {
            b"scale" => &mut scale,
            b"value" => &mut value,
            _ => return scan.value().map(|_| ()),
        };
        *name = scan.value()?;
        Ok(())
    })
    .map_err(|_| Fault::Mismatch)?;
    if scale.kind != Kind::Integer || !matches!(value.kind, Kind::Text | Kind::Escaped) {
        return Err(Fault::Mismatch);
    }
    let scale = i32::try_from(text::integer(scale.of(object))?).map_err(|_| Fault::Range)?;
    let mut unescaped = Vec::new();
    Ok((unscaled(scan::text_of(value, object, &mut unescaped))?, scale))
}

/// Is this array or object the form that Debezium gives an unknown value of such a type?
///
/// An array has the text as its only element, or its bytes as numbers, or the UUID that is made of it; a map has it as its key
/// and its value.
pub(super) fn is_unavailable(json: &[u8]) -> bool {
    if json.len() > 200 || !(json.starts_with(b"[\"") || json.starts_with(b"[95,") || json.starts_with(b"{\"__d")) {
        return false;
    }
    let quoted = |t: &[u8]| [b"\"", t, b"\""].concat();
    let forms = [UNAVAILABLE, UNAVAILABLE_BASE64, UNAVAILABLE_UUID].map(quoted);
    let numbers = UNAVAILABLE.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    let inner = &json[1..json.len() - 1];
    forms.iter().any(|form| inner == form) || inner == numbers.as_bytes() || json == UNAVAILABLE_MAP
}

#[cfg(test)]
mod tests;
