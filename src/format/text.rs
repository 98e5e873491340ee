//! Values in text: integers, decimals, base64, ISO 8601. All exact, none through a double.

use crate::row;

/// Why a text is no value of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is something else.
    Mismatch,
    /// It is such a value, but not one that the declared type can hold.
    Range,
}

/// A number of up to 18 digits and the number of digits behind its point; `None` for all that is longer or odder.
#[inline(always)]
fn short_number(text: &[u8]) -> Option<(i64, usize)> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let (mut n, mut seen, mut point) = (0i64, 0usize, None);
    for &b in digits {
        let d = b.wrapping_sub(b'0');
        if d < 10 {
            n = n.wrapping_mul(10).wrapping_add(i64::from(d));
            seen += 1;
        } else if b == b'.' && point.is_none() {
            point = Some(seen);
        } else {
            return None;
        }
    }
    if seen == 0 || seen > 18 {
        return None;
    }
    Some((if negative { -n } else { n }, seen - point.unwrap_or(seen)))
}

const POWERS: [i64; 19] = {
    let mut powers = [1i64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The unscaled integer of a number at a declared precision and scale: `12.5`, `-0.10`, `1.25e3`.
///
/// # Errors
/// It is no number, or digits would be lost.
#[inline]
pub fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Fault> {
    if let Some((n, fraction)) = short_number(text)
        && fraction <= usize::from(scale)
        && let Some(power) = POWERS.get(usize::from(scale) - fraction)
        && let Some(n) = n.checked_mul(*power)
        && POWERS.get(usize::from(precision)).is_none_or(|most| n.unsigned_abs() < most.unsigned_abs())
    {
        return Ok(i128::from(n));
    }
    decimal_any(text, precision, scale)
}

fn decimal_any(text: &[u8], precision: u8, scale: u8) -> Result<i128, Fault> {
    let (negative, body) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if !body.first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        // PostgreSQL's numeric has NaN and infinities, which no decimal of ours has.
        return Err(if double(text).is_ok_and(|n| !n.is_finite()) { Fault::Range } else { Fault::Mismatch });
    }
    let (mantissa, exponent) = match body.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(e) => (&body[..e], exponent(&body[e + 1..])?),
        None => (body, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(point) => (&mantissa[..point], &mantissa[point + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(Fault::Mismatch);
    }
    // Zeros at both ends may be more than an integer holds.
    let mut n = 0i128;
    let mut zeros = 0i64;
    for b in whole.iter().chain(fraction) {
        if *b == b'0' {
            zeros += 1;
            continue;
        }
        let shift = if n == 0 { 0 } else { zeros };
        n = row::rescale(n, shift + 1, 38).and_then(|n| n.checked_add(i128::from(b - b'0'))).ok_or(Fault::Range)?;
        zeros = 0;
    }
    let by = zeros - fraction.len() as i64 + exponent + i64::from(scale);
    row::rescale(if negative { -n } else { n }, by, precision).ok_or(Fault::Range)
}

/// The digits of an exponent; one beyond all reason is as good as the largest.
fn exponent(text: &[u8]) -> Result<i64, Fault> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Mismatch);
    }
    let n = digits.iter().fold(0i64, |n, b| (n * 10 + i64::from(b - b'0')).min(1_000_000_000_000));
    Ok(if negative { -n } else { n })
}

/// The integer of a JSON number; `1.0` and `1e3` are integers too.
///
/// # Errors
/// It is no number, or no integer of 64 bits.
#[inline(always)]
pub fn integer(text: &[u8]) -> Result<i64, Fault> {
    match short_number(text) {
        Some((n, 0)) => Ok(n),
        _ => integer_any(text),
    }
}

fn integer_any(text: &[u8]) -> Result<i64, Fault> {
    i64::try_from(decimal_any(text, 38, 0)?).map_err(|_| Fault::Range)
}

/// A double: a number, `NaN`, `Infinity`, `-Infinity`, `POSITIVE_INFINITY`, `NEGATIVE_INFINITY` (as Debezium spells them, the
/// last two of a numeric), in any case.
///
/// # Errors
/// It is none of these, or larger than any double, or nearer to zero than any but zero itself.
pub fn double(text: &[u8]) -> Result<f64, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Mismatch)?;
    if text.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'-' || b == b'.')
        && text.bytes().all(|b| !b.is_ascii_alphabetic() || matches!(b, b'e' | b'E'))
    {
        let n: f64 = text.parse().map_err(|_| Fault::Mismatch)?;
        let lost = n == 0.0 && text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| matches!(b, b'1'..=b'9'));
        return if n.is_finite() && !lost { Ok(n) } else { Err(Fault::Range) };
    }
    match text.to_ascii_lowercase().as_str() {
        "nan" => Ok(f64::NAN),
        "infinity" | "+infinity" | "positive_infinity" => Ok(f64::INFINITY),
        "-infinity" | "negative_infinity" => Ok(f64::NEG_INFINITY),
        _ => Err(Fault::Mismatch),
    }
}

/// Appends what base64 (the standard alphabet, with its padding) stands for.
///
/// # Errors
/// It is not base64.
pub fn base64(text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if !text.len().is_multiple_of(4) {
        return Err(Fault::Mismatch);
    }
    let body = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] => rest,
        rest => rest,
    };
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for b in group {
            let six = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return Err(Fault::Mismatch),
            };
            bits = bits << 6 | u32::from(six);
        }
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        // Bits that stand for nothing are zero: else several texts would be one value.
        if bytes[group.len()..].iter().any(|rest| *rest != 0) {
            return Err(Fault::Mismatch);
        }
        out.extend_from_slice(&bytes[1..group.len()]);
    }
    Ok(())
}

/// Appends what pairs of hexadecimal digits stand for.
///
/// # Errors
/// They are none.
pub fn hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend(row::unhex(text).ok_or(Fault::Mismatch)?);
    Ok(())
}

/// The integer that bytes, high first, are in two's complement: how Connect writes the unscaled value of a decimal.
///
/// # Errors
/// It needs more than 128 bits, or there are no bytes.
pub fn big_endian(bytes: &[u8]) -> Result<i128, Fault> {
    let first = *bytes.first().ok_or(Fault::Mismatch)?;
    let fill = if first >= 0x80 { 0xff } else { 0 };
    let mut all = [fill; 16];
    let skip = bytes.len().saturating_sub(16);
    if bytes[..skip].iter().any(|b| *b != fill) || (skip > 0 && (bytes[skip] ^ fill) >= 0x80) {
        return Err(Fault::Range);
    }
    let bytes = &bytes[skip..];
    all[16 - bytes.len()..].copy_from_slice(bytes);
    Ok(i128::from_be_bytes(all))
}

fn two(text: &[u8]) -> Option<i64> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

/// PostgreSQL's dates and timestamps beyond all others, which no number of days stands for.
fn is_infinite(text: &[u8]) -> bool {
    text == b"infinity" || text == b"-infinity"
}

/// Days since the epoch of `2026-03-04`, also with a `Z` (Debezium's `isostring`), and with a sign and more digits of the
/// year.
///
/// # Errors
/// It is no date, or beyond 32 bits of days.
#[inline]
pub fn date(text: &[u8]) -> Result<i32, Fault> {
    if is_infinite(text) {
        return Err(Fault::Range);
    }
    let day = days(text.strip_suffix(b"Z").unwrap_or(text)).ok_or(Fault::Mismatch)?;
    i32::try_from(day).map_err(|_| Fault::Range)
}

/// Days since the epoch of a day in the proleptic Gregorian calendar, which has a year 0.
fn days(text: &[u8]) -> Option<i64> {
    let (year, rest) = match text {
        [y @ .., b'-', _, _, b'-', _, _] => (y, &text[y.len()..]),
        _ => return None,
    };
    let (sign, digits) = match year {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        digits if digits.len() == 4 => (1, digits),
        _ => return None,
    };
    if !(4..=9).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let year = sign * digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    let (month, day) = (two(&rest[1..3])?, two(&rest[4..6])?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let most = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].get(usize::try_from(month - 1).ok()?).copied()?;
    if !(1..=most).contains(&day) {
        return None;
    }
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Microseconds of `05:06:07.000008`, `-838:59:59`, `24:00`; digits beyond microseconds must be zeros.
fn clock(text: &[u8]) -> Result<i64, Fault> {
    let (sign, body) = match text {
        [b'-', rest @ ..] => (-1, rest),
        rest => (1, rest),
    };
    let (body, fraction) = match body.iter().position(|b| *b == b'.') {
        Some(point) => (&body[..point], Some(&body[point + 1..])),
        None => (body, None),
    };
    let mut parts = body.split(|b| *b == b':');
    let hours = parts.next().unwrap_or_default();
    if !(2..=3).contains(&hours.len()) || !hours.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Mismatch);
    }
    let hours = hours.iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
    let minutes = parts.next().and_then(two).ok_or(Fault::Mismatch)?;
    let seconds = match parts.next() {
        Some(text) => two(text).ok_or(Fault::Mismatch)?,
        None if fraction.is_none() => 0,
        None => return Err(Fault::Mismatch),
    };
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return Err(Fault::Mismatch);
    }
    let mut us = 0;
    if let Some(fraction) = fraction {
        if fraction.is_empty() || fraction.len() > 12 || !fraction.iter().all(u8::is_ascii_digit) {
            return Err(Fault::Mismatch);
        }
        let (kept, lost) = fraction.split_at(fraction.len().min(6));
        if lost.iter().any(|b| *b != b'0') {
            return Err(Fault::Range);
        }
        us = kept.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')) * POWERS[6 - kept.len()];
    }
    Ok(sign * ((hours * 3600 + minutes * 60 + seconds) * 1_000_000 + us))
}

/// Microseconds since midnight of `05:06:07.000008`, also with a `Z`. Another zone is a mismatch: the day would be lost.
///
/// # Errors
/// It is no time, or finer than microseconds.
pub fn time(text: &[u8]) -> Result<i64, Fault> {
    clock(text.strip_suffix(b"Z").unwrap_or(text))
}

const DAY_US: i64 = 86_400_000_000;

/// Microseconds since the epoch of `2026-03-04T05:06:07.000008Z`, with a space for the `T`, with an offset, or a date
/// alone. Without an offset it is UTC. An offset that is not zero needs a type with zone.
///
/// # Errors
/// It is no timestamp, or finer than microseconds, or out of all bounds.
pub fn timestamp(text: &[u8], zone: bool) -> Result<i64, Fault> {
    let Some(split) = text.iter().position(|b| matches!(b, b'T' | b' ')) else {
        return i64::from(date(text)?).checked_mul(DAY_US).ok_or(Fault::Range);
    };
    let (day, rest) = (&text[..split], &text[split + 1..]);
    let (time, offset) = match rest.iter().position(|b| matches!(b, b'Z' | b'+' | b'-')) {
        Some(at) => (&rest[..at], offset(&rest[at..])?),
        None => (rest, 0),
    };
    if offset != 0 && !zone {
        return Err(Fault::Mismatch);
    }
    let us = clock(time)?;
    if !(0..DAY_US).contains(&us) {
        return Err(Fault::Mismatch);
    }
    let day = days(day).ok_or(Fault::Mismatch)?.checked_mul(DAY_US).ok_or(Fault::Range)?;
    day.checked_add(us - offset * 1_000_000).ok_or(Fault::Range)
}

/// The seconds of `Z`, `+02`, `+0200`, `+02:00` or `+02:00:00`.
fn offset(text: &[u8]) -> Result<i64, Fault> {
    let (sign, rest) = match text {
        b"Z" => return Ok(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(Fault::Mismatch),
    };
    let parts = match rest {
        [_, _] => [Some(rest), None, None],
        [h @ .., _, _] if h.len() == 2 => [Some(h), rest.get(2..), None],
        [_, _, b':', _, _] => [rest.get(..2), rest.get(3..), None],
        [_, _, b':', _, _, b':', _, _] => [rest.get(..2), rest.get(3..5), rest.get(6..)],
        _ => return Err(Fault::Mismatch),
    };
    let mut seconds = 0;
    for (part, (unit, most)) in parts.into_iter().zip([(3600, 18), (60, 59), (1, 59)]) {
        if let Some(part) = part {
            seconds += two(part).filter(|n| *n <= most).ok_or(Fault::Mismatch)? * unit;
        }
    }
    Ok(sign * seconds)
}

/// The 16 bytes of a uuid with or without its hyphens.
///
/// # Errors
/// It is no uuid.
pub fn uuid(text: &[u8]) -> Result<[u8; 16], Fault> {
    let mut digits = [0u8; 32];
    let hyphens = text.len() == 36;
    if !hyphens && text.len() != 32 {
        return Err(Fault::Mismatch);
    }
    let mut n = 0;
    for (i, b) in text.iter().enumerate() {
        if hyphens && matches!(i, 8 | 13 | 18 | 23) {
            if *b != b'-' {
                return Err(Fault::Mismatch);
            }
            continue;
        }
        digits[n] = (*b as char).to_digit(16).ok_or(Fault::Mismatch)? as u8;
        n += 1;
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(uuid)
}

#[cfg(test)]
mod tests;
