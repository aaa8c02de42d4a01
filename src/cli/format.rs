//! Sizes, times and records as people and programs read them.

use std::time::Duration;

use serde::Serialize;

use crate::client::{RecordAddress, RecordInfo};
use crate::types::{CollectionName, Day, Timestamp};

/// A size in binary units with one decimal: `512.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded down: 1,023.99 KiB must not become 1,024.0 KiB.
    let mut tenths = u128::from(bytes) * 10 / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A rate: `88.1 MiB/s`.
pub(crate) fn rate(bytes: u64, took: Duration) -> String {
    let micros = took.as_micros().max(1);
    let each_second = u128::from(bytes) * 1_000_000 / micros;
    format!("{}/s", size(u64::try_from(each_second).unwrap_or(u64::MAX)))
}

/// A span of time in its two largest units at most: `0.8 s`, `12 s`, `3 min 5 s`, `2 d 1 h`.
pub(crate) fn duration(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = span.as_secs();
    if seconds < 10 {
        // Tenths, rounded down.
        return format!("{seconds}.{} s", span.subsec_millis() / 100);
    }
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut shown = Vec::new();
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        if rest >= *unit {
            shown.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    shown.join(" ")
}

/// A count with its noun: `1 record`, `12 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A day as YYYY-MM-DD.
pub(crate) fn day(day: Day) -> String {
    time(day.start()).chars().take(10).collect()
}

/// A time in UTC as RFC 3339 with seconds.
pub(crate) fn time(at: Timestamp) -> String {
    let seconds = i64::try_from(at.unix_micros() / 1_000_000).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A version of a record as JSON output has it.
#[derive(Debug, Serialize)]
pub(crate) struct RecordJson {
    address: String,
    name: String,
    version: String,
    created: String,
    deleted: bool,
    size: u64,
    content_type: Option<String>,
    modified: Option<String>,
}

impl RecordJson {
    pub(crate) fn new(collection: &CollectionName, info: &RecordInfo) -> Self {
        let address = RecordAddress { collection: collection.clone(), name: info.name.clone() };
        Self {
            address: address.to_string(),
            name: info.name.to_string(),
            version: info.version.to_string(),
            created: time(info.created),
            deleted: info.deleted,
            size: info.size,
            content_type: info.content_type.clone(),
            modified: info.modified.map(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (537_290_342, "512.3 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (millis, shown) in [
            (0, "0.0 s"),
            (899, "0.8 s"),
            (9_999, "9.9 s"),
            (12_345, "12 s"),
            (185_000, "3 min 5 s"),
            (180_000, "3 min"),
            (176_400_000, "2 d 1 h"),
            (86_400_000, "1 d"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(Timestamp::ZERO), "1970-01-01T00:00:00Z");
        assert_eq!(time(Timestamp::from_unix_millis(1_795_478_400_123)), "2026-11-24T00:00:00Z");
        assert!(time(Timestamp::from_unix_micros(u64::MAX)).starts_with("9999"));
    }

    #[test]
    fn a_rate_of_no_time_is_no_panic() {
        assert_eq!(rate(5 << 20, Duration::from_secs(5)), "1.0 MiB/s");
        assert!(rate(u64::MAX, Duration::ZERO).ends_with("EiB/s"));
    }
}
