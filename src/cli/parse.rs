//! Arguments that several commands read alike.

use crate::crypto::access::DayRange;
use crate::types::{Day, GrantId, Timestamp};

pub(crate) fn parse_grant(text: &str) -> Result<GrantId, String> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(GrantId).ok_or_else(|| "a grant's id has 32 hexadecimal digits".to_owned())
}

fn seconds_of(text: &str) -> Result<i64, String> {
    let date: jiff::civil::Date = text.parse().map_err(|_| "say a day as YYYY-MM-DD".to_owned())?;
    let midnight = date.to_datetime(jiff::civil::Time::midnight());
    let found = jiff::tz::TimeZone::UTC.to_timestamp(midnight).map_err(|error| error.to_string())?;
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
