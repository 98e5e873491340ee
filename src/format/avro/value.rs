//! A value of Avro to the packed field of a declared type: exact, range checked, and the same bytes as the same value gives
//! in JSON.

use super::{
    read::{Broken, Cursor, Place},
    schema::{Id, Kind, Says, Schema},
};
use crate::{
    format::{
        Span,
        convert::{self, Spelling, UNAVAILABLE},
        encode::{push_base64, push_string},
        text::{self, Fault},
    },
    row::{self, Type, Value},
};

/// Text of a nested value; names of fields can make it much longer than its bytes.
const TEXT_MAX: usize = 64 << 20;

/// What has been stepped over is there to be read.
impl From<Broken> for Fault {
    fn from(_: Broken) -> Fault {
        Fault::Mismatch
    }
}

/// Packs the value at `place` at the end of `out`. `spelling` is how the source declares such values where the schema does
/// not say it.
///
/// # Errors
/// The value is none of the declared type; `out` may then have bytes too many.
pub fn convert(schema: &Schema, place: Place, message: &[u8], ty: Type, spelling: Spelling, out: &mut Vec<u8>) -> Result<Span, Fault> {
    if place.is_missing() {
        return Ok(Span::MISSING);
    }
    let start = out.len();
    let mut cursor = Cursor::new(message, place.start as usize);
    let says = schema.says(place.id);
    match schema.kind(place.id) {
        Kind::Null => return Ok(Span::NULL),
        Kind::Int | Kind::Long => from_integer(ty, says, spelling, cursor.long()?, out)?,
        Kind::String => {
            let text = cursor.sized()?;
            if ty == Type::Varchar(0) && !convert::is_unavailable_text(ty, text) {
                row::pack_bytes(out, text);
            } else if !from_text(ty, spelling, text, out)? {
                return Ok(Span::UNKNOWN);
            }
        }
        Kind::Enum(symbols) => {
            let symbol = &symbols[cursor.symbol(symbols.len())?];
            if !from_text(ty, spelling, symbol.as_bytes(), out)? {
                return Ok(Span::UNKNOWN);
            }
        }
        Kind::Boolean => {
            let yes = cursor.take(1)?[0] != 0;
            match ty {
                Type::Bool => out.push(u8::from(yes)),
                Type::Json => row::pack_bytes(out, if yes { b"true" } else { b"false" }),
                _ => return Err(Fault::Mismatch),
            }
        }
        Kind::Double => {
            let n = f64::from_le_bytes(*cursor.take(8)?.first_chunk().ok_or(Fault::Mismatch)?);
            match ty {
                Type::Double => row::pack_double(out, n),
                _ => from_float(ty, n.is_finite(), &format!("{n:?}"), out)?,
            }
        }
        // A float stands for the shortest number that is told apart from other floats: 0.1, not 0.10000000149011612.
        Kind::Float => {
            let n = f32::from_le_bytes(*cursor.take(4)?.first_chunk().ok_or(Fault::Mismatch)?);
            match ty {
                Type::Double if !n.is_finite() => row::pack_double(out, f64::from(n)),
                _ => from_float(ty, n.is_finite(), &format!("{n:?}"), out)?,
            }
        }
        Kind::Bytes => {
            if !from_bytes(ty, says, cursor.sized()?, out)? {
                return Ok(Span::UNKNOWN);
            }
        }
        Kind::Fixed(size) => {
            if !from_bytes(ty, says, cursor.take(*size)?, out)? {
                return Ok(Span::UNKNOWN);
            }
        }
        Kind::Record(fields) if matches!(ty, Type::Decimal(..) | Type::Int(_) | Type::Double) => {
            let (n, scale) = variable_scale(schema, fields, &mut cursor)?;
            convert::from_unscaled(ty, n, scale, out)?;
        }
        Kind::Array(_) if matches!(ty, Type::Json | Type::Array) => return nested(schema, place.id, cursor, out),
        Kind::Record(_) | Kind::Map(_) if ty == Type::Json => return nested(schema, place.id, cursor, out),
        Kind::Record(_) | Kind::Map(_) | Kind::Array(_) | Kind::Union(_) => return Err(Fault::Mismatch),
    }
    Ok(Span::of(start, out.len()))
}

fn from_integer(ty: Type, says: Says, spelling: Spelling, n: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    match ty {
        Type::Int(bits) => convert::pack_fitting(n, bits, out),
        Type::Bool => match n {
            0 | 1 => {
                out.push(n as u8);
                Ok(())
            }
            _ => Err(Fault::Range),
        },
        Type::Decimal(precision, scale) => {
            row::pack_decimal(out, row::rescale(i128::from(n), i64::from(scale), precision).ok_or(Fault::Range)?);
            Ok(())
        }
        Type::Double => {
            row::pack_double(out, n as f64);
            Ok(())
        }
        Type::Json => {
            row::pack_bytes(out, n.to_string().as_bytes());
            Ok(())
        }
        Type::Date | Type::Time(_) | Type::Timestamp(..) => match (says, spelling) {
            (Says::Count(unit), _) | (_, Spelling::Count(unit)) => convert::from_count(ty, unit, n, out),
            _ => Err(Fault::Mismatch),
        },
        _ => Err(Fault::Mismatch),
    }
}

/// A floating number as text; one that is not finite has no place in JSON and in decimals.
fn from_float(ty: Type, finite: bool, text: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !finite {
        return Err(if matches!(ty, Type::Decimal(..) | Type::Int(_)) { Fault::Range } else { Fault::Mismatch });
    }
    convert::from_number(ty, Spelling::Plain, text.as_bytes(), out)
}

/// False: the connector did not know the value.
fn from_text(ty: Type, spelling: Spelling, text: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
    if convert::is_unavailable_text(ty, text) {
        return Ok(false);
    }
    // The schema says that it is text, whatever the source declares of decimals in bytes.
    let spelling = if matches!(ty, Type::Decimal(..)) { Spelling::Plain } else { spelling };
    convert::from_text(ty, spelling, text, out)?;
    Ok(true)
}

/// False: the connector did not know the value.
fn from_bytes(ty: Type, says: Says, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
    if bytes == UNAVAILABLE && matches!(ty, Type::Bytes | Type::Decimal(..)) {
        return Ok(false);
    }
    match (ty, says) {
        (Type::Decimal(..) | Type::Int(_) | Type::Double, Says::Decimal(scale)) => convert::from_unscaled(ty, text::big_endian(bytes)?, scale, out)?,
        (Type::Int(bits), Says::Bits) => {
            let high_first: Vec<u8> = std::iter::once(0).chain(bytes.iter().rev().copied()).collect();
            let n = i64::try_from(text::big_endian(&high_first)?).map_err(|_| Fault::Range)?;
            convert::pack_fitting(n, bits, out)?;
        }
        (Type::Uuid, Says::Uuid) => out.extend_from_slice(bytes.first_chunk::<16>().ok_or(Fault::Mismatch)?),
        (Type::Varchar(0), Says::Uuid) => {
            let uuid = *bytes.first_chunk::<16>().ok_or(Fault::Mismatch)?;
            row::pack_bytes(out, row::text_of(Type::Uuid, &Value::Uuid(uuid)).as_bytes());
        }
        (Type::Bytes, _) => row::pack_bytes(out, bytes),
        _ => return Err(Fault::Mismatch),
    }
    Ok(true)
}

/// Debezium's `VariableScaleDecimal`: a record of `scale` and `value`.
fn variable_scale(schema: &Schema, fields: &[(String, Id)], cursor: &mut Cursor) -> Result<(i128, i32), Fault> {
    let (mut scale, mut value) = (None, None);
    for (name, field) in fields {
        let (leaf, _) = cursor.branch(schema, *field)?;
        match (name.as_str(), schema.kind(leaf)) {
            ("scale", Kind::Int | Kind::Long) => scale = Some(i32::try_from(cursor.long()?).map_err(|_| Fault::Range)?),
            ("value", Kind::Bytes) => value = Some(text::big_endian(cursor.sized()?)?),
            _ => cursor.skip(schema, leaf)?,
        }
    }
    Ok((value.ok_or(Fault::Mismatch)?, scale.ok_or(Fault::Mismatch)?))
}

/// An array, map or record as compact JSON, as Connect's own JSON has it.
fn nested(schema: &Schema, id: Id, mut cursor: Cursor, out: &mut Vec<u8>) -> Result<Span, Fault> {
    let start = out.len();
    let mut text = Vec::new();
    json(schema, id, &mut cursor, &mut text)?;
    if convert::is_unavailable(&text) {
        return Ok(Span::UNKNOWN);
    }
    if std::str::from_utf8(&text).is_err() {
        return Err(Fault::Mismatch);
    }
    row::pack_bytes(out, &text);
    Ok(Span::of(start, out.len()))
}

/// Appends a value that has been stepped over as JSON: bytes in base64, symbols as text.
fn json(schema: &Schema, id: Id, cursor: &mut Cursor, out: &mut Vec<u8>) -> Result<(), Broken> {
    if out.len() > TEXT_MAX {
        return cursor.broken("a nested value is too large");
    }
    match schema.kind(id) {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Boolean => out.extend_from_slice(if cursor.take(1)?[0] != 0 { b"true" } else { b"false" }),
        Kind::Int | Kind::Long => out.extend_from_slice(cursor.long()?.to_string().as_bytes()),
        Kind::Float => {
            let n = f32::from_le_bytes(cursor.take(4)?.try_into().unwrap_or_default());
            push_float(n.is_finite(), f64::from(n), &format!("{n:?}"), out);
        }
        Kind::Double => {
            let n = f64::from_le_bytes(cursor.take(8)?.try_into().unwrap_or_default());
            push_float(n.is_finite(), n, &format!("{n:?}"), out);
        }
        Kind::Bytes => push_quoted_base64(cursor.sized()?, out),
        Kind::Fixed(size) => push_quoted_base64(cursor.take(*size)?, out),
        Kind::String => push_string(out, cursor.sized()?),
        Kind::Enum(symbols) => push_string(out, symbols[cursor.symbol(symbols.len())?].as_bytes()),
        Kind::Union(_) => {
            let (leaf, _) = cursor.branch(schema, id)?;
            json(schema, leaf, cursor, out)?;
        }
        Kind::Array(items) => {
            out.push(b'[');
            cursor.items(schema.is_empty(*items), |cursor, first| {
                if !first {
                    out.push(b',');
                }
                json(schema, *items, cursor, out)
            })?;
            out.push(b']');
        }
        Kind::Map(values) => {
            out.push(b'{');
            cursor.items(false, |cursor, first| {
                if !first {
                    out.push(b',');
                }
                push_string(out, cursor.sized()?);
                out.push(b':');
                json(schema, *values, cursor, out)
            })?;
            out.push(b'}');
        }
        Kind::Record(fields) => {
            out.push(b'{');
            for (i, (name, field)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_string(out, name.as_bytes());
                out.push(b':');
                json(schema, *field, cursor, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn push_float(finite: bool, n: f64, text: &str, out: &mut Vec<u8>) {
    if finite { out.extend_from_slice(text.as_bytes()) } else { push_string(out, row::text_of(Type::Double, &Value::Double(n)).as_bytes()) }
}

fn push_quoted_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_base64(out, bytes);
    out.push(b'"');
}

/// A value for people: as JSON, but decimals as numbers.
pub fn text(schema: &Schema, place: Place, message: &[u8]) -> String {
    if place.is_missing() {
        return String::new();
    }
    let mut cursor = Cursor::new(message, place.start as usize);
    if let (Kind::Bytes, Says::Decimal(scale @ 0..=38)) = (schema.kind(place.id), schema.says(place.id))
        && let Ok(Ok(n)) = Cursor::new(message, place.start as usize).sized().map(text::big_endian)
    {
        return row::decimal_text(n, scale as u8);
    }
    let mut out = Vec::new();
    let _ = json(schema, place.id, &mut cursor, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
