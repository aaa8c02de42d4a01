//! Arguments that several commands read alike.

use crate::crypto::access::DayRange;
use crate::types::{Day, GrantId, Timestamp};

pub(crate) fn parse_grant(text: &str) -> Result<GrantId, String> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(GrantId).ok_or_else(|| "a grant's id has 32 hexadecimal digits".to_owned())
}

fn seconds_of(text: &str) -> Result<i64, String> {
    if text.contains('T') {
        let wrong = |_| "say a time as YYYY-MM-DDTHH:MM:SSZ, or with +02:00 instead of Z".to_owned();
        return text.parse::<jiff::Timestamp>().map(|time| time.as_second()).map_err(wrong);
    }
    let date: jiff::civil::Date = text.parse().map_err(|_| "say a day as YYYY-MM-DD".to_owned())?;
    let midnight = date.to_datetime(jiff::civil::Time::midnight());
    let found = jiff::tz::TimeZone::UTC
        .to_timestamp(midnight)
        .map_err(|_| "a day before the year 9999".to_owned())?;
    Ok(found.as_second())
}

pub(crate) fn parse_date(text: &str) -> Result<Timestamp, String> {
    let seconds = u64::try_from(seconds_of(text)?).map_err(|_| "a day after 1970".to_owned())?;
    Ok(Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000)))
}

pub(crate) fn parse_days(text: &str) -> Result<DayRange, String> {
    let (first, last) = text.split_once("..").ok_or_else(|| "say two days as A..B".to_owned())?;
    let (first, last) = (Day::of(parse_date(first)?), Day::of(parse_date(last)?));
    DayRange::new(first, last).ok_or_else(|| "the first day comes before the last".to_owned())
}

/// Seconds, minutes, hours or days, in seconds.
pub(crate) fn parse_span(text: &str) -> Result<u32, String> {
    let wrong = || "say a time as 90s, 30m, 4h or 3d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u32 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

/// A number of bytes, with k, M, G or T for powers of 1,000.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "say bytes as a number, or as 500M, 2G".to_owned();
    let (digits, unit) = match text.char_indices().last().ok_or_else(wrong)? {
        (_, last) if last.is_ascii_digit() => (text, 1),
        (at, 'k' | 'K') => (&text[..at], 1_000),
        (at, 'M') => (&text[..at], 1_000_000),
        (at, 'G') => (&text[..at], 1_000_000_000),
        (at, 'T') => (&text[..at], 1_000_000_000_000),
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_and_times_are_exact() {
        let at = |text: &str| parse_date(text).map(|time| time.unix_micros() / 1_000_000);
        assert_eq!(at("2026-11-28"), Ok(1_795_824_000));
        assert_eq!(at("2026-11-28T09:30:00Z"), Ok(1_795_858_200));
        assert_eq!(at("2026-11-28T10:30:00+01:00"), Ok(1_795_858_200));
        for wrong in ["", "2026-13-01", "2026-11-28T09:30", "1969-12-31", "9999-12-31", "soon"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_have_a_number_and_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1_800), ("72h", 259_200), ("5d", 432_000)] {
            assert_eq!(parse_span(text), Ok(seconds));
        }
        for wrong in ["", "4", "h", "-1h", "4 h", "4w", "1.5h", "99999999d", "4ß", "é"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_numbers_with_units() {
        let good = [("1", 1), ("20k", 20_000), ("500M", 500_000_000), ("2G", 2_000_000_000)];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "G", "1.5G", "2GB", "-1", "99999999999999999999", "99999999999T"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
