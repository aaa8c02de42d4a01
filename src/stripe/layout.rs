//! Which byte of a segment is where: segment ↔ stripe, cell, shard.
//!
//! A segment is cut row by row: stripe `s` is `k` data cells side by side, and shard `j` is cell `j`
//! of every stripe, one after the other. Whole cells have [`CELL_LEN`] bytes. The cells of a shorter
//! last stripe share its bytes evenly, rounded up to [`TAIL_CELL_ALIGN`]; zeros fill what is left.
//! So a buffer of [`Layout::padded_len`] bytes, the segment first and zeros behind it, holds every
//! data cell where it belongs.

use std::ops::Range;

use crate::types::Code;
use crate::types::limits::{CELL_LEN, MAX_SEGMENT_LEN, SLICE_LEN, TAIL_CELL_ALIGN};

/// [`CELL_LEN`] as a length of a segment.
const CELL: u64 = CELL_LEN as u64;
/// [`SLICE_LEN`] as a length of a shard.
const SLICE: u64 = SLICE_LEN as u64;

/// The shape of a segment of a given length under a given code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    code: Code,
    /// Invariant: `1 <= len <= MAX_SEGMENT_LEN`.
    len: u64,
}

/// A segment must have 1 to [`MAX_SEGMENT_LEN`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a segment of {len} bytes: 1 to {MAX_SEGMENT_LEN} are allowed")]
pub struct SegmentLenError {
    /// Bytes of the refused segment.
    pub len: u64,
}

/// Consecutive bytes of a segment that lie side by side in one shard too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which data shard.
    pub shard: usize,
    /// Where in the shard.
    pub in_shard: Range<u64>,
}

/// What a read of a segment needs of its shards. All ranges are of whole slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// For each data shard the range it must give; `None` where the read does not touch it.
    pub data: Vec<Option<Range<u64>>>,
    /// The range that any `k` shards must give so that all of `data` can be reconstructed.
    pub hull: Range<u64>,
}

impl Layout {
    /// The shape of a segment of `len` bytes.
    ///
    /// # Errors
    /// [`SegmentLenError`] if it has no bytes or more than [`MAX_SEGMENT_LEN`].
    pub const fn new(code: Code, len: u64) -> Result<Self, SegmentLenError> {
        if len == 0 || len > MAX_SEGMENT_LEN {
            return Err(SegmentLenError { len });
        }
        Ok(Self { code, len })
    }

    /// The code of the segment.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Bytes of the segment.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Stripes, of which only the last may be short.
    #[must_use]
    pub const fn stripes(&self) -> u64 {
        self.len.div_ceil(self.full_stripe_len())
    }

    /// Bytes of every cell of a stripe.
    #[must_use]
    pub const fn cell_len(&self, stripe: u64) -> u64 {
        if stripe < self.full_stripes() { CELL } else { self.tail_cell_len() }
    }

    /// Bytes of every shard, parity too.
    #[must_use]
    pub const fn shard_len(&self) -> u64 {
        self.full_stripes() * CELL + self.tail_cell_len()
    }

    /// Bytes of the segment with the zeros that fill its last stripe.
    #[must_use]
    pub const fn padded_len(&self) -> u64 {
        self.shard_len() * self.data_shards()
    }

    /// Where a data cell is in the padded segment.
    #[must_use]
    pub const fn cell(&self, stripe: u64, shard: usize) -> Range<u64> {
        let len = self.cell_len(stripe);
        let start = stripe * self.full_stripe_len() + shard as u64 * len;
        start..start + len
    }

    /// Where a stripe's cell is in its shard.
    #[must_use]
    pub const fn cell_in_shard(&self, stripe: u64) -> Range<u64> {
        let start = stripe * CELL;
        start..start + self.cell_len(stripe)
    }

    /// The data shard that has this byte of the padded segment, and where.
    #[must_use]
    pub const fn to_shard(&self, offset: u64) -> (usize, u64) {
        let stripe = offset / self.full_stripe_len();
        let (in_stripe, cell) = (offset % self.full_stripe_len(), self.cell_len(stripe));
        #[expect(clippy::cast_possible_truncation, reason = "less than k")]
        let shard = (in_stripe / cell) as usize;
        (shard, stripe * CELL + in_stripe % cell)
    }

    /// The byte of the padded segment that is at `offset` of a data shard.
    #[must_use]
    pub const fn to_segment(&self, shard: usize, offset: u64) -> u64 {
        self.cell(offset / CELL, shard).start + offset % CELL
    }

    /// The bytes of `range` of the segment in order, cell by cell.
    ///
    /// # Panics
    /// If the range is empty or goes past the segment.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<> {
        self.check(&range);
        let layout = *self;
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (shard, start) = layout.to_shard(at);
            let cell_end = layout.cell_in_shard(start / CELL).end;
            let len = (cell_end - start).min(range.end - at);
            at += len;
            Some(Piece { shard, in_shard: start..start + len })
        })
    }

    /// What a read of `range` of the segment needs of the shards, in whole slices.
    ///
    /// # Panics
    /// If the range is empty or goes past the segment.
    #[must_use]
    pub fn columns(&self, range: Range<u64>) -> Columns {
        self.check(&range);
        let data: Vec<_> = (0..self.code.k()).map(|shard| self.column(shard, &range)).collect();
        let touched = || data.iter().flatten();
        let start = touched().map(|column| column.start).min().unwrap_or(0);
        let end = touched().map(|column| column.end).max().unwrap_or(0);
        Columns { data, hull: start..end }
    }

    /// The slices of a data shard that `range` touches: always one range, since whatever lies between
    /// two stripes of the range is inside it.
    fn column(&self, shard: usize, range: &Range<u64>) -> Option<Range<u64>> {
        let first = range.start / self.full_stripe_len();
        let last = (range.end - 1) / self.full_stripe_len();
        let touched = |stripe: u64| {
            let cell = self.cell(stripe, shard);
            let (start, end) = (range.start.max(cell.start), range.end.min(cell.end));
            let in_shard = |at: u64| stripe * CELL + (at - cell.start);
            (start < end).then(|| in_shard(start)..in_shard(end))
        };
        let start = (first..=last).find_map(touched)?.start;
        let end = (first..=last).rev().find_map(touched)?.end;
        Some(start / SLICE * SLICE..end.next_multiple_of(SLICE).min(self.shard_len()))
    }

    #[track_caller]
    fn check(&self, range: &Range<u64>) {
        assert!(
            range.start < range.end && range.end <= self.len,
            "bytes {range:?} of a segment of {}",
            self.len
        );
    }

    const fn data_shards(&self) -> u64 {
        self.code.k() as u64
    }

    const fn full_stripe_len(&self) -> u64 {
        self.data_shards() * CELL
    }

    const fn full_stripes(&self) -> u64 {
        self.len / self.full_stripe_len()
    }

    /// Bytes of a cell of the short last stripe; 0 if there is none.
    const fn tail_cell_len(&self) -> u64 {
        let rest = self.len % self.full_stripe_len();
        rest.div_ceil(self.data_shards()).next_multiple_of(TAIL_CELL_ALIGN as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(k: usize, len: u64) -> Layout {
        Layout::new(Code::new(k, 2).unwrap(), len).unwrap()
    }

    #[test]
    fn boundary_lengths_have_the_shards_they_should() {
        let (cell, stripe) = (CELL, 4 * CELL);
        // Bytes of the segment, of a shard, stripes.
        let table = [
            (1, 512, 1),
            (2_048, 512, 1),
            (2_049, 1_024, 1),
            (65_551, 16_896, 1),
            (65_552, 16_896, 1),
            (65_553, 16_896, 1),
            (cell - 1, cell / 4, 1),
            (cell, cell / 4, 1),
            (cell + 1, cell / 4 + 512, 1),
            (stripe - 1, cell, 1),
            (stripe, cell, 1),
            (stripe + 1, cell + 512, 2),
            (32 * stripe - 1, 32 * cell, 32),
            (32 * stripe, 32 * cell, 32),
            (32 * stripe + 1, 32 * cell + 512, 33),
            (MAX_SEGMENT_LEN - 1, MAX_SEGMENT_LEN / 4, 256),
            (MAX_SEGMENT_LEN, MAX_SEGMENT_LEN / 4, 256),
        ];
        for (len, shard_len, stripes) in table {
            let layout = layout(4, len);
            assert_eq!((layout.shard_len(), layout.stripes()), (shard_len, stripes), "{len}");
            assert!(layout.padded_len() >= len);
            let cells: u64 = (0..stripes).map(|stripe| layout.cell_len(stripe)).sum();
            assert_eq!(cells, shard_len, "{len}");
        }
        for len in [0, MAX_SEGMENT_LEN + 1, u64::MAX] {
            assert_eq!(Layout::new(Code::DEFAULT, len), Err(SegmentLenError { len }));
        }
    }

    #[test]
    fn every_byte_of_the_padded_segment_is_in_one_place() {
        for (k, len) in [(4, 5 * CELL + 700), (1, CELL + 1), (3, 1), (5, 4 * CELL), (2, 2 * CELL)] {
            let layout = layout(k, len);
            let mut expected = 0;
            for stripe in 0..layout.stripes() {
                for shard in 0..k {
                    let cell = layout.cell(stripe, shard);
                    assert_eq!(cell.start, expected, "cells are side by side");
                    expected = cell.end;
                    for (at, offset) in cell.zip(layout.cell_in_shard(stripe)).step_by(97) {
                        assert_eq!(layout.to_shard(at), (shard, offset));
                        assert_eq!(layout.to_segment(shard, offset), at);
                    }
                }
            }
            assert_eq!(expected, layout.padded_len());
        }
    }

    /// A segment and a range of it, near the boundaries more often than not.
    fn reads() -> impl Strategy<Value = (Layout, Range<u64>)> {
        let near = |max: u64| {
            let cells = max / CELL + 1;
            prop_oneof![0..max, (0..cells, 0_u64..3).prop_map(|(n, d)| (n * CELL + d).saturating_sub(1))]
        };
        (1..7_usize, near(40 * CELL)).prop_flat_map(move |(k, len)| {
            let len = len.max(1);
            (near(len), near(len)).prop_map(move |(a, b)| {
                let (a, b) = (a.min(len - 1), b.min(len - 1));
                (layout(k, len), a.min(b)..a.max(b) + 1)
            })
        })
    }

    proptest! {
        #[test]
        fn pieces_are_the_range_in_order((layout, range) in reads()) {
            let mut at = range.start;
            for piece in layout.pieces(range.clone()) {
                prop_assert_eq!(layout.to_shard(at), (piece.shard, piece.in_shard.start));
                prop_assert!(piece.in_shard.end <= layout.shard_len());
                at += piece.in_shard.end - piece.in_shard.start;
            }
            prop_assert_eq!(at, range.end);
        }

        #[test]
        fn columns_are_exactly_the_slices_that_the_pieces_touch((layout, range) in reads()) {
            let columns = layout.columns(range.clone());
            let mut touched = vec![None::<Range<u64>>; layout.code().k()];
            for piece in layout.pieces(range) {
                let slices = piece.in_shard.start / SLICE * SLICE
                    ..piece.in_shard.end.next_multiple_of(SLICE).min(layout.shard_len());
                let hull = touched[piece.shard].get_or_insert_with(|| slices.clone());
                *hull = hull.start.min(slices.start)..hull.end.max(slices.end);
            }
            prop_assert_eq!(&columns.data, &touched);
            for column in touched.iter().flatten() {
                prop_assert!(columns.hull.start <= column.start && column.end <= columns.hull.end);
            }
            prop_assert!(touched.iter().flatten().any(|column| column.start == columns.hull.start));
            prop_assert!(touched.iter().flatten().any(|column| column.end == columns.hull.end));
        }
    }

    #[test]
    fn a_small_read_touches_one_shard() {
        let columns = layout(4, 40 * CELL).columns(5 * CELL + 20_000..5 * CELL + 20_100);
        let slice = CELL + SLICE..CELL + 2 * SLICE;
        assert_eq!(columns.data, [None, Some(slice.clone()), None, None]);
        assert_eq!(columns.hull, slice);
    }
}
