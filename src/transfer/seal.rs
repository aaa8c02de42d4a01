//! From plaintext to shards: a CPU job that seals, codes and hashes a segment stripe by stripe, while
//! each stripe is in the cache.

use bytes::Bytes;

use crate::crypto::frame::{FrameKey, SEALED_FRAME_LEN, sealed_len};
use crate::stripe::layout::SegmentLenError;
use crate::stripe::{Coder, Layout};
use crate::transfer::buffer::{Buffer, BufferPool};
use crate::types::limits::TAG_LEN;
use crate::types::{Hash, SegmentId};

/// A segment ready to be sent: its shards are borrowed from two buffers, never copied.
#[derive(Debug, Clone)]
pub struct CodedSegment {
    /// Its id.
    pub segment: SegmentId,
    /// Its shape.
    pub layout: Layout,
    /// BLAKE3 root of each shard, by index.
    pub roots: Vec<Hash>,
    /// The padded segment.
    data: Bytes,
    /// The parity shards, one after the other.
    parity: Bytes,
}

impl CodedSegment {
    /// The bytes of a shard, in pieces.
    ///
    /// # Panics
    /// If the code has no such shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> Vec<Bytes> {
        let code = self.layout.code();
        assert!(index < code.total(), "shard {index} of {code}");
        if index < code.k() {
            let cells = (0..self.layout.stripes()).map(|stripe| self.layout.cell(stripe, index));
            return cells.map(|cell| self.data.slice(as_usize(cell.start)..as_usize(cell.end))).collect();
        }
        let shard_len = as_usize(self.layout.shard_len());
        let start = (index - code.k()) * shard_len;
        vec![self.parity.slice(start..start + shard_len)]
    }
}

/// Where a chunk's plaintext goes before it is sealed: frame by frame, with room for each tag.
///
/// The caller fills the ranges that [`plain_ranges`](crate::crypto::frame::plain_ranges) gives for
/// [`Self::sealed_len`] bytes.
#[derive(Debug)]
pub struct Chunk {
    buffer: Buffer,
    sealed_len: usize,
}

impl Chunk {
    /// Room for `plain_len` bytes of plaintext.
    #[must_use]
    pub fn new(pool: &BufferPool, plain_len: usize) -> Self {
        let sealed_len = sealed_usize(plain_len);
        Self { buffer: pool.take(sealed_len), sealed_len }
    }

    /// Bytes of the chunk once sealed.
    #[must_use]
    pub const fn sealed_len(&self) -> usize {
        self.sealed_len
    }

    /// Bytes of its plaintext.
    #[must_use]
    pub const fn plain_len(&self) -> usize {
        self.sealed_len - self.sealed_len.div_ceil(SEALED_FRAME_LEN) * TAG_LEN
    }

    /// Makes the chunk `plain_len` bytes long: what was filled stays, what is new must be filled.
    pub fn resize(&mut self, plain_len: usize) {
        self.sealed_len = sealed_usize(plain_len);
        self.buffer.resize(self.sealed_len);
    }

    /// The frames with their gaps.
    pub fn frames_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The frames with their gaps.
    #[must_use]
    pub fn frames(&self) -> &[u8] {
        &self.buffer
    }

    /// Seals the chunk as one run and codes it as a segment of its own.
    ///
    /// # Errors
    /// [`SegmentLenError`] if the chunk is empty or too long for a segment.
    pub fn into_segment(
        self,
        segment: SegmentId,
        key: &FrameKey,
        coder: &Coder,
        pool: &BufferPool,
    ) -> Result<CodedSegment, SegmentLenError> {
        let mut sealer = Sealer { key, frames: self.sealed_len.div_ceil(SEALED_FRAME_LEN), next: 0 };
        let len = self.sealed_len;
        code_segment(segment, self.buffer, len, coder, pool, |data, end| {
            sealer.seal_before(&mut data[..len], end);
        })
    }
}

/// Seals the frames of a run in order, each when the first stripe that has bytes of it is coded.
struct Sealer<'a> {
    key: &'a FrameKey,
    frames: usize,
    /// The first frame that is not sealed.
    next: usize,
}

impl Sealer<'_> {
    fn seal_before(&mut self, run: &mut [u8], end: usize) {
        while self.next < self.frames && self.next * SEALED_FRAME_LEN < end {
            let start = self.next * SEALED_FRAME_LEN;
            let frame_end = (start + SEALED_FRAME_LEN).min(run.len());
            let (frame, tag) = run[start..frame_end].split_at_mut(frame_end - start - TAG_LEN);
            self.next += 1;
            let index = u64::try_from(self.next - 1).unwrap_or(u64::MAX);
            tag.copy_from_slice(&self.key.seal_in_place(index, self.next == self.frames, frame));
        }
    }
}

/// Codes and hashes the first `len` bytes of `data` as a segment. `prepare(data, end)` is called before each
/// stripe and must have the bytes before `end` ready to be sent.
pub(crate) fn code_segment(
    segment: SegmentId,
    mut data: Buffer,
    len: usize,
    coder: &Coder,
    pool: &BufferPool,
    mut prepare: impl FnMut(&mut [u8], usize),
) -> Result<CodedSegment, SegmentLenError> {
    let code = coder.code();
    let layout = Layout::new(code, u64::try_from(len).unwrap_or(u64::MAX))?;
    let shard_len = as_usize(layout.shard_len());
    data.resize(as_usize(layout.padded_len()));
    data[len..].fill(0);
    let mut parity = pool.take(code.m() * shard_len);
    let mut hashers = vec![blake3::Hasher::new(); code.total()];
    for stripe in 0..layout.stripes() {
        let first = as_usize(layout.cell(stripe, 0).start);
        let last = as_usize(layout.cell(stripe, code.k() - 1).end);
        prepare(&mut data, last);
        let in_shard = layout.cell_in_shard(stripe);
        let in_shard = as_usize(in_shard.start)..as_usize(in_shard.end);
        let cells: Vec<&[u8]> = data[first..last].chunks_exact(in_shard.len()).collect();
        let mut parity_cells: Vec<&mut [u8]> =
            parity.chunks_exact_mut(shard_len).map(|shard| &mut shard[in_shard.clone()]).collect();
        coder.encode_stripe(&cells, &mut parity_cells);
        let parity_cells = parity_cells.iter().map(|cell| &**cell);
        for (hasher, cell) in hashers.iter_mut().zip(cells.iter().copied().chain(parity_cells)) {
            hasher.update(cell);
        }
    }
    let roots = hashers.iter().map(|hasher| Hash(hasher.finalize().into())).collect();
    Ok(CodedSegment {
        segment,
        layout,
        roots,
        data: Bytes::from_owner(data),
        parity: Bytes::from_owner(parity),
    })
}

fn sealed_usize(plain_len: usize) -> usize {
    as_usize(sealed_len(u64::try_from(plain_len).unwrap_or(u64::MAX)))
}

/// Lengths within a segment fit any address space.
#[expect(clippy::cast_possible_truncation, reason = "at most MAX_SEGMENT_LEN plus a stripe")]
pub(crate) const fn as_usize(len: u64) -> usize {
    len as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::frame::{Dek, Stream, open_run_part, plain_ranges};
    use crate::types::limits::{CELL_LEN, FRAME_LEN};
    use crate::types::{Code, VersionId};

    fn key() -> FrameKey {
        Dek::from_bytes([1; 32]).frame_key(&VersionId([2; 16]), Stream::Body, &[3; 16])
    }

    /// A chunk whose plaintext counts its bytes.
    fn chunk(pool: &BufferPool, plain_len: usize) -> Chunk {
        let mut chunk = Chunk::new(pool, plain_len);
        let mut counter = (0..=250_u8).cycle();
        for range in plain_ranges(chunk.sealed_len()) {
            for byte in &mut chunk.frames_mut()[range] {
                *byte = counter.next().unwrap();
            }
        }
        chunk
    }

    fn column(coded: &CodedSegment, index: usize) -> Vec<u8> {
        coded.shard(index).concat()
    }

    #[test]
    fn a_coded_chunk_holds_its_frames_and_every_shard_has_its_root() {
        let (pool, coder) = (BufferPool::new(8 << 20), Coder::new(Code::DEFAULT));
        let stripe = CELL_LEN * 4;
        for plain_len in
            [1, 15, FRAME_LEN - 1, FRAME_LEN, FRAME_LEN + 1, stripe - 64, stripe, stripe + 1, 3 * stripe]
        {
            let coded =
                chunk(&pool, plain_len).into_segment(SegmentId([9; 32]), &key(), &coder, &pool).unwrap();
            let layout = coded.layout;
            let mut segment = vec![0; as_usize(layout.padded_len())];
            for index in 0..4 {
                let shard = column(&coded, index);
                for stripe in 0..layout.stripes() {
                    let (to, from) = (layout.cell(stripe, index), layout.cell_in_shard(stripe));
                    segment[as_usize(to.start)..as_usize(to.end)]
                        .copy_from_slice(&shard[as_usize(from.start)..as_usize(from.end)]);
                }
            }
            for index in 0..6 {
                let shard = column(&coded, index);
                assert_eq!(shard.len(), as_usize(layout.shard_len()));
                assert_eq!(coded.roots[index], Hash(blake3::hash(&shard).into()), "shard {index}");
            }
            segment.truncate(as_usize(layout.len()));
            let frames = u64::try_from(plain_len.div_ceil(FRAME_LEN)).unwrap();
            open_run_part(&key(), 0, frames, &mut segment).unwrap();
            let plain: Vec<u8> =
                plain_ranges(segment.len()).flat_map(|range| segment[range].to_vec()).collect();
            assert!(plain.iter().copied().eq((0..=250).cycle().take(plain_len)), "{plain_len} bytes");
        }
    }

    #[test]
    fn nothing_left_over_in_a_buffer_reaches_a_shard() {
        let (pool, coder) = (BufferPool::new(8 << 20), Coder::new(Code::DEFAULT));
        let fresh = chunk(&BufferPool::new(0), 1_000)
            .into_segment(SegmentId([9; 32]), &key(), &coder, &pool)
            .unwrap();
        pool.take(2_000_000).fill(0xee);
        pool.take(2_000_000).fill(0xee);
        let reused = chunk(&pool, 1_000).into_segment(SegmentId([9; 32]), &key(), &coder, &pool).unwrap();
        assert_eq!(fresh.roots, reused.roots);
    }
}
