//! A segment of many small things: record bodies, tails of bodies, header frames, each a run of its own.

use crate::crypto::frame::{FrameKey, SEALED_FRAME_LEN, sealed_len};
use crate::stripe::Coder;
use crate::stripe::layout::SegmentLenError;
use crate::transfer::buffer::{Buffer, BufferPool};
use crate::transfer::seal::{CodedSegment, as_usize, code_segment};
use crate::types::SegmentId;
use crate::types::limits::{FRAME_LEN, TAG_LEN};

/// The open pack: sealed runs, one after the other.
#[derive(Debug)]
pub struct Pack {
    segment: SegmentId,
    buffer: Buffer,
    /// Sealed bytes. Invariant: `len == buffer.len()`.
    len: usize,
}

impl Pack {
    /// An empty pack, with a buffer that has room for about `expected_len` bytes.
    #[must_use]
    pub fn new(segment: SegmentId, expected_len: usize, pool: &BufferPool) -> Self {
        let mut buffer = pool.take(expected_len);
        buffer.resize(0);
        Self { segment, buffer, len: 0 }
    }

    /// The segment that the pack becomes.
    #[must_use]
    pub const fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Seals `plain` and zeros up to `padded_len` bytes as a run at the end of the pack; the answer
    /// is the run's offset.
    ///
    /// # Panics
    /// If `padded_len` is 0 or less than the bytes given.
    pub fn append(&mut self, key: &FrameKey, plain: &[u8], padded_len: usize) -> u64 {
        assert!(padded_len > 0 && plain.len() <= padded_len, "{} bytes padded to {padded_len}", plain.len());
        let offset = self.len;
        self.len += as_usize(sealed_len(padded_len as u64));
        self.buffer.resize(self.len);
        let run = &mut self.buffer[offset..];
        let frames = padded_len.div_ceil(FRAME_LEN);
        for (index, sealed) in run.chunks_mut(SEALED_FRAME_LEN).enumerate() {
            let (frame, tag) = sealed.split_at_mut(sealed.len() - TAG_LEN);
            let have = plain.get(index * FRAME_LEN..).unwrap_or_default();
            let have = &have[..have.len().min(frame.len())];
            frame[..have.len()].copy_from_slice(have);
            frame[have.len()..].fill(0);
            tag.copy_from_slice(&key.seal_in_place(index as u64, index + 1 == frames, frame));
        }
        offset as u64
    }

    /// Codes the pack as a segment.
    ///
    /// # Errors
    /// [`SegmentLenError`] if nothing was appended, or more than a segment holds.
    pub fn into_segment(self, coder: &Coder, pool: &BufferPool) -> Result<CodedSegment, SegmentLenError> {
        code_segment(self.segment, self.buffer, self.len, coder, pool, |_, _| {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::frame::{Dek, Stream, open_run_part, plain_ranges};
    use crate::types::{Code, VersionId};

    #[test]
    fn every_run_of_a_pack_opens_under_its_own_key_only() {
        let pool = BufferPool::new(8 << 20);
        let mut pack = Pack::new(SegmentId([1; 32]), 10, &pool);
        let key = |salt| Dek::from_bytes([1; 32]).frame_key(&VersionId([2; 16]), Stream::Body, &[salt; 16]);
        let records = [
            (0_u8, 1_usize, 1_usize),
            (1, 100, 128),
            (2, FRAME_LEN, FRAME_LEN),
            (3, FRAME_LEN + 5, 3 * FRAME_LEN),
            (4, 0, 64),
        ];
        let offsets: Vec<_> = records
            .iter()
            .map(|(salt, len, padded)| pack.append(&key(*salt), &vec![*salt + 7; *len], *padded))
            .collect();
        let coded = pack.into_segment(&Coder::new(Code::new(1, 1).unwrap()), &pool).unwrap();
        let segment = coded.shard(0).concat();
        for ((salt, len, padded), offset) in records.iter().zip(offsets) {
            let start = as_usize(offset);
            let mut run = segment[start..start + as_usize(sealed_len(*padded as u64))].to_vec();
            let frames = padded.div_ceil(FRAME_LEN) as u64;
            assert!(open_run_part(&key(salt + 1), 0, frames, &mut run.clone()).is_err());
            open_run_part(&key(*salt), 0, frames, &mut run).unwrap();
            let plain: Vec<u8> = plain_ranges(run.len()).flat_map(|range| run[range].to_vec()).collect();
            assert_eq!(plain.len(), *padded);
            assert!(
                plain[..*len].iter().all(|byte| *byte == salt + 7)
                    && plain[*len..].iter().all(|byte| *byte == 0)
            );
        }
    }

    #[test]
    fn an_empty_pack_is_no_segment() {
        let pool = BufferPool::new(8 << 20);
        let pack = Pack::new(SegmentId([1; 32]), 10, &pool);
        assert!(pack.into_segment(&Coder::new(Code::DEFAULT), &pool).is_err());
    }
}
