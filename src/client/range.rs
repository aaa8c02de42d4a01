//! Byte ranges as people and HTTP write them.

use std::ops::Range;
use std::str::FromStr;

/// A range of a record's bytes, before the record's size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to before the second.
    FromTo(u64, u64),
    /// From here to the end.
    From(u64),
    /// The last so many bytes.
    Last(u64),
}

/// Text that is not a byte range, or a range that a record does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ByteRangeError {
    /// Not a range.
    #[error("not a byte range: expected FIRST-LAST, FIRST- or -COUNT, for example 0-499")]
    Syntax,
    /// It begins at or after the end of the record.
    #[error("the range begins at byte {start}, but the record has {size} bytes")]
    Unsatisfiable {
        /// First byte asked.
        start: u64,
        /// Bytes of the record.
        size: u64,
    },
}

impl ByteRange {
    /// The range in a record of `size` bytes; what passes the end is cut off (RFC 9110 section 14.1.2).
    ///
    /// # Errors
    /// [`ByteRangeError::Unsatisfiable`] when not one byte of it is in the record.
    pub fn within(self, size: u64) -> Result<Range<u64>, ByteRangeError> {
        let range = match self {
            Self::FromTo(start, end) => start..end.min(size),
            Self::From(start) => start..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.is_empty() {
            return Err(ByteRangeError::Unsatisfiable { start: range.start, size });
        }
        Ok(range)
    }
}

impl FromStr for ByteRange {
    type Err = ByteRangeError;
    fn from_str(text: &str) -> Result<Self, ByteRangeError> {
        let (first, last) = text.split_once('-').ok_or(ByteRangeError::Syntax)?;
        let number = |digits: &str| {
            let plain = digits.bytes().all(|c| c.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain).ok_or(ByteRangeError::Syntax)
        };
        match (first, last) {
            ("", count) => Ok(Self::Last(number(count)?)),
            (first, "") => Ok(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                let end = last.checked_add(1).filter(|_| first <= last).ok_or(ByteRangeError::Syntax)?;
                Ok(Self::FromTo(first, end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_http_writes_them() {
        for (text, want) in [
            ("0-499", ByteRange::FromTo(0, 500)),
            ("7-7", ByteRange::FromTo(7, 8)),
            ("500-", ByteRange::From(500)),
            ("-500", ByteRange::Last(500)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for text in ["", "-", "5", "9-3", "a-b", "+1-2", "1--2", "0-18446744073709551615", "1-2,4-5"] {
            assert_eq!(text.parse::<ByteRange>(), Err(ByteRangeError::Syntax), "{text}");
        }
    }

    #[test]
    fn ranges_are_cut_at_the_end_and_refused_beyond_it() {
        assert_eq!(ByteRange::FromTo(2, 500).within(10), Ok(2..10));
        assert_eq!(ByteRange::Last(500).within(10), Ok(0..10));
        assert_eq!(ByteRange::From(9).within(10), Ok(9..10));
        for range in [ByteRange::From(10), ByteRange::FromTo(10, 11), ByteRange::Last(0)] {
            assert!(range.within(10).is_err(), "{range:?}");
        }
        assert!(ByteRange::From(0).within(0).is_err());
    }
}
