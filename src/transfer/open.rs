//! From verified columns back to plaintext: a CPU job that rebuilds what is missing, puts the cells in
//! order and opens the frames.

use std::ops::Range;

use bytes::Bytes;

use crate::crypto::frame::{FrameError, FrameKey, open_run_part, plain_ranges};
use crate::stripe::code::RebuildError;
use crate::stripe::{Coder, Layout};
use crate::transfer::buffer::{Buffer, BufferPool};
use crate::transfer::download::Rebuild;
use crate::transfer::plan::ReadUnit;
use crate::transfer::seal::as_usize;

/// Verified bytes of a shard.
#[derive(Debug, Clone)]
pub struct ShardBytes {
    /// Which shard.
    pub shard: usize,
    /// Offset of the first byte in the shard.
    pub start: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl ShardBytes {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes.len() as u64
    }
}

/// Why a unit could not be opened although its shards were verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The frames are not what the owner sealed: the index row and the segment do not belong together.
    #[error("the record's frames do not authenticate")]
    Frame(#[source] FrameError),
    /// The columns given do not suffice; a bug of who gave them.
    #[error("missing columns cannot be rebuilt")]
    Rebuild(#[source] RebuildError),
    /// The columns given have a hole; a bug of who gave them.
    #[error("bytes {range:?} of shard {shard} are missing")]
    Missing {
        /// The shard.
        shard: usize,
        /// Which bytes.
        range: Range<u64>,
    },
}

/// Puts the bytes of `range` of a segment in order from verified columns, rebuilding those that `rebuild` names.
///
/// # Errors
/// [`OpenError::Missing`] or [`OpenError::Rebuild`] if the columns do not suffice.
pub fn assemble(
    layout: &Layout,
    coder: &Coder,
    range: Range<u64>,
    mut columns: Vec<ShardBytes>,
    rebuild: Option<&Rebuild>,
    pool: &BufferPool,
) -> Result<Buffer, OpenError> {
    columns.sort_by_key(|column| (column.shard, column.start));
    if let Some(rebuild) = rebuild {
        let rebuilt = rebuild_columns(coder, rebuild, &columns)?;
        columns.retain(|column| !rebuild.missing.contains(&column.shard));
        columns.extend(rebuilt);
        columns.sort_by_key(|column| (column.shard, column.start));
    }
    let mut segment = pool.take(as_usize(range.end - range.start));
    let mut at = 0;
    for piece in layout.pieces(range) {
        let len = as_usize(piece.in_shard.end - piece.in_shard.start);
        copy_column(&columns, piece.shard, piece.in_shard, &mut segment[at..at + len])?;
        at += len;
    }
    Ok(segment)
}

/// Opens a unit's ciphertext, as [`assemble`] put it in order; the answer is the plaintext asked for, frame by frame.
///
/// # Errors
/// [`OpenError::Frame`] if it is not what the owner sealed.
pub fn open_unit(unit: &ReadUnit, key: &FrameKey, mut sealed: Buffer) -> Result<Vec<Bytes>, OpenError> {
    open_run_part(key, unit.frames.start, unit.total_frames(), &mut sealed).map_err(OpenError::Frame)?;
    let opened = Bytes::from_owner(sealed);
    let mut frames = Vec::new();
    let mut before = 0;
    for frame in plain_ranges(opened.len()) {
        let skip = unit.keep.start.saturating_sub(before).min(frame.len());
        let take = unit.keep.end.saturating_sub(before).min(frame.len());
        if skip < take {
            frames.push(opened.slice(frame.start + skip..frame.start + take));
        }
        before += frame.len();
    }
    Ok(frames)
}

fn rebuild_columns(
    coder: &Coder,
    rebuild: &Rebuild,
    columns: &[ShardBytes],
) -> Result<Vec<ShardBytes>, OpenError> {
    let len = as_usize(rebuild.range.end - rebuild.range.start);
    let sources: Vec<_> = rebuild
        .from
        .iter()
        .map(|shard| Ok((*shard, whole_column(columns, *shard, &rebuild.range)?)))
        .collect::<Result<_, OpenError>>()?;
    let present: Vec<_> = sources.iter().map(|(shard, bytes)| (*shard, &bytes[..])).collect();
    let mut rebuilt: Vec<_> = rebuild.missing.iter().map(|shard| (*shard, vec![0; len])).collect();
    let mut missing: Vec<_> = rebuilt.iter_mut().map(|(shard, bytes)| (*shard, &mut bytes[..])).collect();
    coder.reconstruct(&present, &mut missing).map_err(OpenError::Rebuild)?;
    let start = rebuild.range.start;
    Ok(rebuilt.into_iter().map(|(shard, bytes)| ShardBytes { shard, start, bytes: bytes.into() }).collect())
}

/// A range of a shard as one piece: borrowed where one answer has it all, which is the usual case.
fn whole_column(columns: &[ShardBytes], shard: usize, range: &Range<u64>) -> Result<Bytes, OpenError> {
    let whole = columns.iter().find(|column| column.shard == shard && contains(&column.range(), range));
    if let Some(column) = whole {
        let start = as_usize(range.start - column.start);
        return Ok(column.bytes.slice(start..start + as_usize(range.end - range.start)));
    }
    let mut bytes = vec![0; as_usize(range.end - range.start)];
    copy_column(columns, shard, range.clone(), &mut bytes)?;
    Ok(bytes.into())
}

/// Copies a range of a shard from the columns that have it, which are in order.
fn copy_column(
    columns: &[ShardBytes],
    shard: usize,
    range: Range<u64>,
    to: &mut [u8],
) -> Result<(), OpenError> {
    let mut at = range.start;
    for column in columns.iter().filter(|column| column.shard == shard) {
        let have = column.range();
        if at >= range.end || !have.contains(&at) {
            continue;
        }
        let end = have.end.min(range.end);
        let from = &column.bytes[as_usize(at - have.start)..as_usize(end - have.start)];
        to[as_usize(at - range.start)..as_usize(end - range.start)].copy_from_slice(from);
        at = end;
    }
    if at < range.end {
        return Err(OpenError::Missing { shard, range: at..range.end });
    }
    Ok(())
}

const fn contains(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::frame::{Dek, Stream};
    use crate::message::Extent;
    use crate::transfer::plan::read_units;
    use crate::transfer::seal::{Chunk, CodedSegment};
    use crate::types::limits::FRAME_LEN;
    use crate::types::{Code, SegmentId, VersionId};

    const PLAIN_LEN: usize = 40 * FRAME_LEN + 123;

    fn key() -> FrameKey {
        Dek::from_bytes([1; 32]).frame_key(&VersionId([2; 16]), Stream::Body, &[3; 16])
    }

    fn byte_at(at: u64) -> u8 {
        u8::try_from(at % 251).unwrap()
    }

    fn coded(coder: &Coder, pool: &BufferPool) -> (CodedSegment, Extent) {
        let mut chunk = Chunk::new(pool, PLAIN_LEN);
        let mut at = 0;
        for range in plain_ranges(chunk.sealed_len()) {
            for byte in &mut chunk.frames_mut()[range] {
                *byte = byte_at(at);
                at += 1;
            }
        }
        let segment = SegmentId([9; 32]);
        let extent = Extent { segment, offset: 0, plain_len: PLAIN_LEN as u64, salt: [3; 16] };
        (chunk.into_segment(segment, &key(), coder, pool).unwrap(), extent)
    }

    /// Reads a range as a download would that finds only the shards in `alive`.
    fn read(
        coded: &CodedSegment,
        unit: &ReadUnit,
        alive: &[usize],
        coder: &Coder,
    ) -> Result<Vec<u8>, OpenError> {
        let layout = coded.layout;
        let wanted = layout.columns(unit.in_segment());
        let missing: Vec<usize> =
            (0..4).filter(|s| wanted.data[*s].is_some() && !alive.contains(s)).collect();
        let rebuild = (!missing.is_empty()).then(|| Rebuild {
            range: wanted.hull.clone(),
            missing,
            from: alive[..4].to_vec(),
        });
        let columns = alive
            .iter()
            .flat_map(|shard| {
                let bytes = Bytes::from(coded.shard(*shard).concat());
                // In two answers, to have a seam.
                let middle = (wanted.hull.start + wanted.hull.end) / 2;
                [wanted.hull.start..middle, middle..wanted.hull.end].map(|range| ShardBytes {
                    shard: *shard,
                    start: range.start,
                    bytes: bytes.slice(as_usize(range.start)..as_usize(range.end)),
                })
            })
            .collect();
        let pool = BufferPool::new(1 << 20);
        let sealed = assemble(&layout, coder, unit.in_segment(), columns, rebuild.as_ref(), &pool)?;
        Ok(open_unit(unit, &key(), sealed)?.concat())
    }

    #[test]
    fn every_range_reads_back_from_every_four_shards() {
        let (pool, coder) = (BufferPool::new(64 << 20), Coder::new(Code::DEFAULT));
        let (coded, extent) = coded(&coder, &pool);
        let end = PLAIN_LEN as u64;
        let ranges = [0..end, 0..1, end - 1..end, 65_535..65_537, 1_000_000..1_000_001, 262_100..524_400];
        for dead in 0..6 {
            for also in dead..6 {
                let alive: Vec<usize> = (0..6).filter(|shard| *shard != dead && *shard != also).collect();
                for range in &ranges {
                    let mut at = range.start;
                    for unit in read_units(vec![extent], range.clone()) {
                        for byte in read(&coded, &unit, &alive, &coder).unwrap() {
                            assert_eq!(byte, byte_at(at), "byte {at} without shards {dead} and {also}");
                            at += 1;
                        }
                    }
                    assert_eq!(at, range.end);
                }
            }
        }
    }

    #[test]
    fn holes_and_wrong_frames_are_errors() {
        let (pool, coder) = (BufferPool::new(64 << 20), Coder::new(Code::DEFAULT));
        let (coded, extent) = coded(&coder, &pool);
        let unit = read_units(vec![extent], 0..10).next().unwrap();
        let nothing = assemble(&coded.layout, &coder, unit.in_segment(), Vec::new(), None, &pool);
        assert!(matches!(nothing, Err(OpenError::Missing { shard: 0, .. })));
        let moved = ReadUnit { frames: 1..2, ..unit.clone() };
        let sealed = pool.take(as_usize(unit.in_segment().end));
        assert!(matches!(open_unit(&moved, &key(), sealed), Err(OpenError::Frame(_))));
    }
}
