//! Sizes of memory: `512MiB`, `4GiB`, `2GB`.

const UNITS: [(&str, u64); 6] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("MB", 1_000_000), ("GB", 1_000_000_000)];

/// Reads a size in bytes.
///
/// # Errors
/// A sentence which says what is wrong.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    if number.is_empty() {
        return Err(format!("`{text}` is not a size"));
    }
    if unit.is_empty() {
        return Err(format!("`{text}` lacks its unit"));
    }
    let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(|| format!("`{text}` is not a size"))?;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*bytes)).ok_or_else(|| format!("`{text}` is too large a size"))
}

/// As people write it: the largest binary unit that divides it.
pub fn text(bytes: u64) -> String {
    let found = UNITS[..4].iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    found.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (size, bytes) in [("512MiB", 512 << 20), ("4 GiB", 4 << 30), ("2gb", 2_000_000_000), ("1024KiB", 1 << 20)] {
            assert_eq!(parse(size), Ok(bytes));
        }
        for (size, why) in [("512", "`512` lacks its unit"), ("many", "`many` is not a size"), ("1XB", "`1XB` is not a size"), ("", "`` is not a size")] {
            assert_eq!(parse(size).unwrap_err(), why);
        }
        assert_eq!(parse("99999999999999TiB").unwrap_err(), "`99999999999999TiB` is too large a size");
        assert_eq!((text(512 << 20).as_str(), text(4 << 30).as_str(), text(1000).as_str()), ("512MiB", "4GiB", "1000 bytes"));
    }
}
