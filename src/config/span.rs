//! Time spans: `50ms`, `30s`, `5m`, `1h`, `1d`.

use std::time::Duration;

/// Reads a time span.
///
/// # Errors
/// A sentence which says what is wrong.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        _ if number.is_empty() => return Err(format!("`{text}` is not a time span")),
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("`{text}` lacks its unit")),
        _ => return Err(format!("`{text}` is not a time span")),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or_else(|| format!("`{text}` is too long a time"))?;
    Ok(Duration::from_millis(ms))
}

/// As people write it: the largest unit that divides it.
pub fn text(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    units.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)).map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}
