//! A segment of many small things: record bodies, tails of bodies, header frames, each a run of its own.

use crate::crypto::frame::{CommitKey, CommitPart, FrameKey, SEALED_FRAME_LEN, sealed_len};
use crate::message::changeset::{Changeset, PLACE_LEN};
use crate::stripe::Coder;
use crate::stripe::layout::SegmentLenError;
use crate::transfer::buffer::{Buffer, BufferPool};
use crate::transfer::seal::{CodedSegment, as_usize, code_segment};
use crate::types::SegmentId;
use crate::types::limits::{FRAME_LEN, TAG_LEN};

/// Bytes of a sealed preamble.
pub const PREAMBLE_LEN: usize = PLACE_LEN + TAG_LEN;

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

    /// An empty pack that will end with a commit. Its preamble, which tells where, comes first.
    #[must_use]
    pub fn with_commit(segment: SegmentId, expected_len: usize, pool: &BufferPool) -> Self {
        let mut pack = Self::new(segment, expected_len + PREAMBLE_LEN, pool);
        pack.len = PREAMBLE_LEN;
        pack.buffer.resize(PREAMBLE_LEN);
        pack
    }

    /// Ends a pack that was begun [`with_commit`](Self::with_commit): seals the changeset and the preamble.
    ///
    /// # Panics
    /// If the pack was not begun so.
    pub fn commit(&mut self, key: &CommitKey, changeset: &[u8]) {
        assert!(self.len >= PREAMBLE_LEN, "a pack without room for a preamble");
        let run = key.frame_key(&self.segment, CommitPart::Changes);
        let offset = self.append(&run, changeset, changeset.len());
        let place = Changeset::encode_place(offset, changeset.len() as u64);
        let preamble = key.frame_key(&self.segment, CommitPart::Preamble);
        preamble.seal_into(0, true, &place, &mut self.buffer[..PREAMBLE_LEN]);
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
    fn a_preamble_tells_where_the_commit_is() {
        let pool = BufferPool::new(8 << 20);
        let (key, id) = (CommitKey::from_bytes([5; 32]), SegmentId([1; 32]));
        let mut pack = Pack::with_commit(id, 10, &pool);
        let body = Dek::from_bytes([1; 32]).frame_key(&VersionId([2; 16]), Stream::Body, &[3; 16]);
        assert_eq!(pack.append(&body, b"body", 64), PREAMBLE_LEN as u64);
        let changeset = vec![7; FRAME_LEN + 64];
        pack.commit(&key, &changeset);
        let coded = pack.into_segment(&Coder::new(Code::new(1, 1).unwrap()), &pool).unwrap();
        let segment = coded.shard(0).concat();
        let open = |part, mut run: Vec<u8>| {
            let frames = run.len().div_ceil(SEALED_FRAME_LEN) as u64;
            open_run_part(&key.frame_key(&id, part), 0, frames, &mut run).unwrap();
            plain_ranges(run.len()).flat_map(|range| run[range].to_vec()).collect::<Vec<u8>>()
        };
        let preamble = open(CommitPart::Preamble, segment[..PREAMBLE_LEN].to_vec());
        let (offset, len) = Changeset::decode_place(preamble.try_into().unwrap());
        let (start, sealed) = (as_usize(offset), as_usize(sealed_len(len)));
        assert_eq!(open(CommitPart::Changes, segment[start..start + sealed].to_vec()), changeset);
    }

    #[test]
    fn an_empty_pack_is_no_segment() {
        let pool = BufferPool::new(8 << 20);
        let pack = Pack::new(SegmentId([1; 32]), 10, &pool);
        assert!(pack.into_segment(&Coder::new(Code::DEFAULT), &pool).is_err());
    }
}
