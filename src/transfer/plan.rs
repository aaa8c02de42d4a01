//! Arithmetic between a range of a record and the frames and segments that hold it.

use std::ops::Range;

use crate::crypto::frame::{SEALED_FRAME_LEN, frames_of, sealed_len};
use crate::message::Extent;
use crate::types::limits::{FRAME_LEN, READ_UNIT_LEN};

/// Plaintext bytes of the first unit of a read: one frame. The next are four times as long each, up to
/// [`READ_UNIT_LEN`]. The first byte of a record then waits for no more than this.
const FIRST_UNIT_LEN: u64 = FRAME_LEN as u64;

/// Whole frames of one extent, read and opened as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadUnit {
    /// The extent.
    pub extent: Extent,
    /// Which of its frames.
    pub frames: Range<u64>,
    /// Which of the unit's plaintext bytes are asked for.
    pub keep: Range<usize>,
}

impl ReadUnit {
    /// The frames' ciphertext in the segment.
    #[must_use]
    pub fn in_segment(&self) -> Range<u64> {
        let frame = SEALED_FRAME_LEN as u64;
        let end = (self.frames.end * frame).min(sealed_len(self.extent.plain_len));
        self.extent.offset + self.frames.start * frame..self.extent.offset + end
    }

    /// Frames of the whole extent.
    #[must_use]
    pub const fn total_frames(&self) -> u64 {
        frames_of(self.extent.plain_len)
    }
}

/// Cuts a range of a record's plaintext into units to read, in order. What of the range lies beyond the
/// extents is left out.
pub fn read_units(extents: Vec<Extent>, range: Range<u64>) -> impl Iterator<Item = ReadUnit> {
    let mut extents = extents.into_iter();
    // The extent at hand and where it begins in the record.
    let mut current = extents.next().map(|extent| (extent, 0));
    let mut at = range.start;
    let mut unit_len = FIRST_UNIT_LEN;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (extent, extent_start) = loop {
            let (extent, start) = current?;
            if at < start + extent.plain_len {
                break (extent, start);
            }
            current = extents.next().map(|next| (next, start + extent.plain_len));
        };
        let wanted = at - extent_start..(range.end - extent_start).min(extent.plain_len);
        let unit = unit(extent, wanted, unit_len);
        at += (unit.keep.end - unit.keep.start) as u64;
        unit_len = (unit_len * 4).min(READ_UNIT_LEN as u64);
        Some(unit)
    })
}

/// The first unit of at most `unit_len` bytes that has the beginning of `wanted`.
fn unit(extent: Extent, wanted: Range<u64>, unit_len: u64) -> ReadUnit {
    let frame = FRAME_LEN as u64;
    let first = wanted.start / frame;
    let last = frames_of(wanted.end).min(first + unit_len / frame);
    let end = wanted.end.min(last * frame);
    #[expect(clippy::cast_possible_truncation, reason = "within a unit")]
    let in_unit = |at: u64| (at - first * frame) as usize;
    ReadUnit { extent, frames: first..last, keep: in_unit(wanted.start)..in_unit(end) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SegmentId;
    use crate::types::limits::BODY_SEGMENT_PLAIN_LEN;

    const FRAME: u64 = FRAME_LEN as u64;
    const BODY: u64 = BODY_SEGMENT_PLAIN_LEN as u64;

    fn extents(lens: &[u64]) -> Vec<Extent> {
        let extent = |(n, len): (usize, &u64)| Extent {
            segment: SegmentId([u8::try_from(n).unwrap(); 32]),
            offset: 1_000,
            plain_len: *len,
            salt: [0; 16],
        };
        lens.iter().enumerate().map(extent).collect()
    }

    /// The record offsets that the units cover, which must be the range.
    fn covered(lens: &[u64], range: Range<u64>) -> Vec<ReadUnit> {
        let units: Vec<_> = read_units(extents(lens), range.clone()).collect();
        let mut at = range.start;
        for unit in &units {
            let start: u64 = lens[..usize::from(unit.extent.segment.0[0])].iter().sum();
            assert_eq!(start + unit.frames.start * FRAME + unit.keep.start as u64, at);
            at += (unit.keep.end - unit.keep.start) as u64;
            let cipher = unit.in_segment();
            assert!(cipher.start >= 1_000 && cipher.end <= 1_000 + sealed_len(unit.extent.plain_len));
            assert!(unit.keep.end as u64 <= (unit.frames.end - unit.frames.start) * FRAME);
            assert!(unit.frames.end - unit.frames.start <= READ_UNIT_LEN as u64 / FRAME);
        }
        assert_eq!(at, range.end.min(lens.iter().sum()), "{lens:?} {range:?}");
        units
    }

    #[test]
    fn units_cover_exactly_the_range_in_order() {
        let edges =
            [0, 1, FRAME - 1, FRAME, FRAME + 1, 5 * FRAME, BODY - 1, BODY, BODY + 1, 2 * BODY, 2 * BODY + 77];
        for start in edges {
            for end in edges {
                if start < end {
                    covered(&[BODY, BODY, 100], start..end);
                    covered(&[BODY, BODY, 100], start..end + 1_000);
                }
            }
        }
    }

    #[test]
    fn the_first_unit_is_short_and_a_short_range_reads_no_more_frames_than_it_touches() {
        let units = covered(&[BODY, BODY], 0..2 * BODY);
        assert_eq!(units[0].frames, 0..1);
        assert!(units.len() <= 7, "{}", units.len());
        let units = covered(&[BODY], FRAME + 10..FRAME + 20);
        assert_eq!((units.len(), units[0].frames.clone(), units[0].keep.clone()), (1, 1..2, 10..20));
        assert_eq!(units[0].in_segment(), 1_000 + 65_552..1_000 + 2 * 65_552);
    }

    #[test]
    fn an_empty_record_has_no_units() {
        assert!(covered(&[], 0..10).is_empty());
        assert!(covered(&[5], 3..3).is_empty());
    }
}
