//! Text forms, one case a line.

use super::*;

#[test]
fn decimals_are_exact_or_refused() {
    for (text, expected) in [
        ("12.5", Ok(1250)),
        ("-0.1", Ok(-10)),
        ("1.25e2", Ok(12500)),
        ("125E-1", Ok(1250)),
        ("0012.50", Ok(1250)),
        ("+3", Ok(300)),
        (".5", Ok(50)),
        ("5.", Ok(500)),
        ("1.000000000000000000000000000000000000000000000", Ok(100)),
        ("000000000000000000000000000000000000000000000001", Ok(100)),
        ("0e999999999999999999999", Ok(0)),
        ("1e999999999999999999999", Err(Fault::Range)),
        ("1e-999999999999999999999", Err(Fault::Range)),
        ("1.234", Err(Fault::Range)),
        ("9999.99", Ok(999_999)),
        ("10000", Err(Fault::Range)),
        ("99999999999999999999999999999999999999999999", Err(Fault::Range)),
        ("NaN", Err(Fault::Range)),
        ("NAN", Err(Fault::Range)),
        ("", Err(Fault::Mismatch)),
        ("-", Err(Fault::Mismatch)),
        (".", Err(Fault::Mismatch)),
        ("1e", Err(Fault::Mismatch)),
        ("1.2.3", Err(Fault::Mismatch)),
        ("0x1", Err(Fault::Mismatch)),
        ("1 ", Err(Fault::Mismatch)),
        ("--1", Err(Fault::Mismatch)),
    ] {
        assert_eq!(decimal(text.as_bytes(), 6, 2), expected, "{text}");
    }
    assert_eq!(decimal(b"-99999999999999999999999999999999999999", 38, 0), Ok(-99_999_999_999_999_999_999_999_999_999_999_999_999));
    assert_eq!(decimal(b"999999999999999999", 18, 0), Ok(999_999_999_999_999_999));
}

#[test]
fn integers() {
    for (text, expected) in [
        ("0", Ok(0)),
        ("-0", Ok(0)),
        ("7.0", Ok(7)),
        ("1e3", Ok(1000)),
        ("9223372036854775807", Ok(i64::MAX)),
        ("-9223372036854775808", Ok(i64::MIN)),
        ("9223372036854775808", Err(Fault::Range)),
        ("1.5", Err(Fault::Range)),
    ] {
        assert_eq!(integer(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn base64_and_unscaled_values() {
    let check = |text: &str, expected: Result<&[u8], Fault>| {
        let mut out = Vec::new();
        assert_eq!(base64(text.as_bytes(), &mut out).map(|()| out.as_slice()), expected, "{text}");
    };
    check("", Ok(b""));
    check("3q2+7wA=", Ok(&[0xde, 0xad, 0xbe, 0xef, 0]));
    check("AA==", Ok(&[0]));
    check("////", Ok(&[255, 255, 255]));
    for bad in ["A", "AA", "AAA", "A===", "====", "AA=A", "A-_A", "deadbeef00", "AA\n=", "AR==", "AAF="] {
        check(bad, Err(Fault::Mismatch));
    }
    assert_eq!(big_endian(&[0x27, 0x10]), Ok(10_000));
    assert_eq!(big_endian(&[0xff]), Ok(-1));
    assert_eq!(big_endian(&[0; 40]), Ok(0));
    assert_eq!(big_endian(&[0xff; 40]), Ok(-1));
    assert_eq!(big_endian(&[1; 17]), Err(Fault::Range));
    assert_eq!(big_endian(&[[0].as_slice(), &[0xff; 16]].concat()), Err(Fault::Range));
    assert_eq!(big_endian(&[]), Err(Fault::Mismatch));
}

#[test]
fn dates() {
    for (text, expected) in [
        ("1970-01-01", Ok(0)),
        ("2026-03-29Z", Ok(20_541)),
        ("0000-12-30", Ok(-719_164)),
        ("2024-02-29", Ok(19_782)),
        ("-0043-03-15", Ok(-735_160)),
        ("+10000-01-01", Ok(2_932_897)),
        ("+292278994-08-16", Err(Fault::Range)),
        ("infinity", Err(Fault::Range)),
        ("2026-02-29", Err(Fault::Mismatch)),
        ("2026-13-01", Err(Fault::Mismatch)),
        ("2026-00-01", Err(Fault::Mismatch)),
        ("2026-01-00", Err(Fault::Mismatch)),
        ("26-01-01", Err(Fault::Mismatch)),
        ("2026-1-1", Err(Fault::Mismatch)),
        ("2026-01-01ZZ", Err(Fault::Mismatch)),
        ("", Err(Fault::Mismatch)),
        ("-01-01", Err(Fault::Mismatch)),
        ("2026-01-01T00:00:00", Err(Fault::Mismatch)),
    ] {
        assert_eq!(date(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn times() {
    for (text, expected) in [
        ("00:00", Ok(0)),
        ("13:14:15.123456", Ok(47_655_123_456)),
        ("13:14:15.5Z", Ok(47_655_500_000)),
        ("13:14:15.1234560", Ok(47_655_123_456)),
        ("24:00:00", Ok(86_400_000_000)),
        ("-838:59:59", Ok(-3_020_399_000_000)),
        ("13:14:15.1234567", Err(Fault::Range)),
        ("13:60", Err(Fault::Mismatch)),
        ("1:00", Err(Fault::Mismatch)),
        ("13:14:15.", Err(Fault::Mismatch)),
        ("13:14.5", Err(Fault::Mismatch)),
        ("13:14:15+02", Err(Fault::Mismatch)),
        ("", Err(Fault::Mismatch)),
        ("13:14:15:16", Err(Fault::Mismatch)),
    ] {
        assert_eq!(time(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn timestamps() {
    let hour = 3_600_000_000;
    for (text, zone, expected) in [
        ("1970-01-01T01:00:00", false, Ok(hour)),
        ("1970-01-01 01:00:00.000001", false, Ok(hour + 1)),
        ("1970-01-01T01:00:00Z", false, Ok(hour)),
        ("1970-01-01", false, Ok(0)),
        ("1970-01-01T01:00:00+00:00", false, Ok(hour)),
        ("1970-01-01T01:00:00+02:00", false, Err(Fault::Mismatch)),
        ("1970-01-01T03:00:00+02:00", true, Ok(hour)),
        ("1970-01-01T03:00:00+02", true, Ok(hour)),
        ("1970-01-01T03:00:00+0200", true, Ok(hour)),
        ("1969-12-31T23:00:00-02:00:00", true, Ok(hour)),
        ("1970-01-01 01:00:00", true, Ok(hour)),
        ("1970-01-01T01:00", true, Ok(hour)),
        ("1970-01-01T01:00:00+19", true, Err(Fault::Mismatch)),
        ("1970-01-01T24:00:00", true, Err(Fault::Mismatch)),
        ("1970-01-01T-1:00:00", true, Err(Fault::Mismatch)),
        ("1970-01-01T01:00:00ZZ", true, Err(Fault::Mismatch)),
        ("1970-01-01T", true, Err(Fault::Mismatch)),
        ("infinity", true, Err(Fault::Range)),
        ("+294247-01-10T04:00:25.2Z", false, Ok(9_223_372_036_825_200_000)),
        ("+294248-01-10T04:00:25.2Z", false, Err(Fault::Range)),
        ("1970-01-01T00:00:00.0000001Z", true, Err(Fault::Range)),
    ] {
        assert_eq!(timestamp(text.as_bytes(), zone), expected, "{text}");
    }
}

#[test]
fn uuids() {
    assert_eq!(uuid(b"6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b111"), uuid(b"6F1C8B1E0D5E4C7A9A530F4DD3C3B111"));
    for bad in ["", "6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b11", "6f1c8b1e00d5e-4c7a-9a53-0f4dd3c3b111", "6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b11g"] {
        assert_eq!(uuid(bad.as_bytes()), Err(Fault::Mismatch), "{bad}");
    }
}

/// The nearest double, save where nothing would be left of the number.
#[test]
fn doubles() {
    for (text, expected) in [
        ("0.1", Ok(0.1)),
        ("-0.0", Ok(0.0)),
        ("0e400", Ok(0.0)),
        ("0.000", Ok(0.0)),
        ("5e-324", Ok(5e-324)),
        ("1e400", Err(Fault::Range)),
        ("1e-400", Err(Fault::Range)),
        ("-0.01E-400", Err(Fault::Range)),
        ("Infinity", Ok(f64::INFINITY)),
        ("1.5x", Err(Fault::Mismatch)),
    ] {
        assert_eq!(double(text.as_bytes()), expected, "{text}");
    }
}
