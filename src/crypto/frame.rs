//! Frames: the 64 KiB unit of authenticated encryption, and the data keys they are sealed with.
//!
//! A *run* is a sequence of frames under one [`FrameKey`], the STREAM construction of
//! [Hoang, Reyhanitabar, Rogaway and Vizár](https://eprint.iacr.org/2015/189) as age uses it: the
//! nonce is three zero bytes, the frame's index (u64 big endian) and a flag that is 1 on the last
//! frame of the run, so that frames cannot be moved, dropped or cut off. Every frame but the last
//! has [`FRAME_LEN`] bytes of plaintext; sealed, frame `i` is at `i *` [`SEALED_FRAME_LEN`].
//!
//! The key of a run comes from the version's data key and a salt drawn for that run alone, so that
//! an upload that resumes over a changed source never uses a key and nonce twice.

use std::fmt;
use std::ops::Range;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::hash::{Context, derive_key};
use crate::types::limits::{FRAME_LEN, TAG_LEN};
use crate::types::{SegmentId, VersionId};

/// Bytes of a whole sealed frame.
pub const SEALED_FRAME_LEN: usize = FRAME_LEN + TAG_LEN;

/// A version's random data key. Wiped on drop, compared in constant time, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Dek([u8; 32]);

/// Public commitment to a data key and its version: nobody can show another key for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DekCommit(pub [u8; 32]);

/// What a run of frames holds: a header can never be passed off as a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Bytes of the record.
    Body,
    /// The record's header.
    Header,
    /// Bytes of a record in a file of the home folder, on their way.
    Staged,
}

impl Stream {
    const fn byte(self) -> u8 {
        match self {
            Self::Body => 0,
            Self::Header => 1,
            Self::Staged => 2,
        }
    }
}

impl Dek {
    /// The data key of these 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for the sealed index.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Commits to this key for a version.
    #[must_use]
    pub fn commit(&self, version: &VersionId) -> DekCommit {
        let mut commit = [0; 32];
        derive_key(Context::DekCommit, &[&self.0, version.as_bytes()], &mut commit);
        DekCommit(commit)
    }

    /// The salt of the version's commitment on the ledger: who has no data key cannot find out by trying whether a
    /// content that it guesses was anchored.
    #[must_use]
    pub fn anchor_salt(&self, version: &VersionId) -> [u8; 32] {
        let mut salt = [0; 32];
        derive_key(Context::AnchorSalt, &[&self.0, version.as_bytes()], &mut salt);
        salt
    }

    /// The key of one run of frames. A salt must be random and may serve one run only.
    #[must_use]
    pub fn frame_key(&self, version: &VersionId, stream: Stream, salt: &[u8; 16]) -> FrameKey {
        let mut key = Zeroizing::new([0; 32]);
        derive_key(Context::Payload, &[&self.0, version.as_bytes(), &[stream.byte()], salt], &mut *key);
        FrameKey(ChaCha20Poly1305::new(&(*key).into()))
    }
}

/// What a vault's commits are sealed with. Wiped on drop, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct CommitKey([u8; 32]);

/// The parts of a commit in a pack: each is a run of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitPart {
    /// Where the other is.
    Preamble,
    /// What changes.
    Changes,
}

impl CommitKey {
    /// The commit key of these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes: a secret.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of a part of the commit in a segment. A segment's id is random and has one commit at most, so each key
    /// serves one run.
    #[must_use]
    pub fn frame_key(&self, segment: &SegmentId, part: CommitPart) -> FrameKey {
        let part = match part {
            CommitPart::Preamble => 0,
            CommitPart::Changes => 1,
        };
        let mut key = Zeroizing::new([0; 32]);
        derive_key(Context::Commit, &[&self.0, segment.as_bytes(), &[part]], &mut *key);
        FrameKey(ChaCha20Poly1305::new(&(*key).into()))
    }
}

impl fmt::Debug for CommitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitKey(..)")
    }
}

impl PartialEq for Dek {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Dek {}

impl fmt::Debug for Dek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dek(..)")
    }
}

/// Why sealed bytes give no plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The key, the place in the run or the bytes are not those that were sealed.
    #[error("frame {index} does not authenticate")]
    NotAuthentic {
        /// Which frame of the run.
        index: u64,
    },
    /// No run, or no such part of a run, has this many bytes.
    #[error("{len} bytes are not whole frames of the run")]
    Length {
        /// Bytes given.
        len: usize,
    },
}

/// The key of one run of frames. Wiped on drop, never shown.
#[derive(Clone)]
pub struct FrameKey(ChaCha20Poly1305);

impl FrameKey {
    /// Encrypts a frame where it lies; the answer is its tag.
    ///
    /// # Panics
    /// If `frame` is longer than [`FRAME_LEN`].
    #[must_use = "without its tag a frame can never be opened"]
    pub fn seal_in_place(&self, index: u64, last: bool, frame: &mut [u8]) -> [u8; TAG_LEN] {
        self.seal(index, last, frame.into())
    }

    /// Encrypts a frame from one buffer into another, which takes the tag as well.
    ///
    /// # Panics
    /// If `plain` is longer than [`FRAME_LEN`] or `sealed` is not [`TAG_LEN`] bytes longer than it.
    pub fn seal_into(&self, index: u64, last: bool, plain: &[u8], sealed: &mut [u8]) {
        assert_eq!(sealed.len(), plain.len() + TAG_LEN, "room for a frame of {}", plain.len());
        let (cipher, tag) = sealed.split_at_mut(plain.len());
        tag.copy_from_slice(&self.seal(index, last, between(plain, cipher)));
    }

    /// Decrypts a frame where it lies, or leaves it as it is.
    ///
    /// # Errors
    /// [`FrameError::NotAuthentic`] if this is not what was sealed here.
    pub fn open_in_place(
        &self,
        index: u64,
        last: bool,
        frame: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), FrameError> {
        self.open(index, last, frame.into(), tag)
    }

    /// Decrypts a frame and its tag from one buffer into another.
    ///
    /// # Errors
    /// [`FrameError::NotAuthentic`] if this is not what was sealed here; `plain` is then untouched.
    ///
    /// # Panics
    /// If `sealed` is not [`TAG_LEN`] bytes longer than `plain`.
    pub fn open_into(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), FrameError> {
        assert_eq!(sealed.len(), plain.len() + TAG_LEN, "room for a frame of {}", sealed.len());
        let (cipher, tag) = sealed.split_at(plain.len());
        let tag = tag.try_into().map_err(|_| FrameError::Length { len: sealed.len() })?;
        self.open(index, last, between(cipher, plain), tag)
    }

    fn seal(&self, index: u64, last: bool, frame: InOutBuf<'_, '_, u8>) -> [u8; TAG_LEN] {
        assert!(frame.len() <= FRAME_LEN, "a frame of {} bytes", frame.len());
        match self.0.encrypt_inout_detached(&nonce(index, last), &[], frame) {
            Ok(tag) => tag.into(),
            Err(_) => unreachable!("ChaCha20-Poly1305 seals up to 256 GiB"),
        }
    }

    fn open(
        &self,
        index: u64,
        last: bool,
        frame: InOutBuf<'_, '_, u8>,
        tag: &[u8; TAG_LEN],
    ) -> Result<(), FrameError> {
        self.0
            .decrypt_inout_detached(&nonce(index, last), &[], frame, &Tag::from(*tag))
            .map_err(|_| FrameError::NotAuthentic { index })
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKey(..)")
    }
}

/// Seals a whole run where it lies: the plaintext of frame `i` is at `i *` [`SEALED_FRAME_LEN`], with
/// room for its tag behind it.
///
/// # Errors
/// [`FrameError::Length`] if no run has as many bytes as `run`; nothing is sealed then.
pub fn seal_run(key: &FrameKey, run: &mut [u8]) -> Result<(), FrameError> {
    let frames = frame_count(run.len())?;
    for (index, sealed) in (0..).zip(run.chunks_mut(SEALED_FRAME_LEN)) {
        let (frame, tag) = sealed.split_at_mut(sealed.len() - TAG_LEN);
        tag.copy_from_slice(&key.seal_in_place(index, index + 1 == frames, frame));
    }
    Ok(())
}

/// Opens consecutive whole frames of a run where they lie, the first of which is `first_frame` of the
/// run's `total_frames`. The plaintext is then where [`plain_ranges`] says.
///
/// # Errors
/// [`FrameError::Length`] if `part` is not whole frames that the run can have there;
/// [`FrameError::NotAuthentic`] names the first frame that is not what was sealed: frames before it
/// are open then, the others untouched.
pub fn open_run_part(
    key: &FrameKey,
    first_frame: u64,
    total_frames: u64,
    part: &mut [u8],
) -> Result<(), FrameError> {
    let wrong = FrameError::Length { len: part.len() };
    let end = first_frame.checked_add(frame_count(part.len())?).ok_or(wrong)?;
    let short = !part.len().is_multiple_of(SEALED_FRAME_LEN);
    if end > total_frames || (short && end != total_frames) {
        return Err(wrong);
    }
    for (index, sealed) in (first_frame..).zip(part.chunks_mut(SEALED_FRAME_LEN)) {
        let (frame, tag) = sealed.split_at_mut(sealed.len() - TAG_LEN);
        let tag = (&*tag).try_into().map_err(|_| wrong)?;
        key.open_in_place(index, index + 1 == total_frames, frame, tag)?;
    }
    Ok(())
}

/// Where the plaintext of each frame is in `sealed_len` bytes of whole frames.
pub fn plain_ranges(sealed_len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..sealed_len)
        .step_by(SEALED_FRAME_LEN)
        .map(move |start| start..(start + FRAME_LEN).min(sealed_len.saturating_sub(TAG_LEN)))
}

/// Bytes of the run that seals `plain_len` bytes; 0 for 0, as there is no empty run.
#[must_use]
pub const fn sealed_len(plain_len: u64) -> u64 {
    plain_len + frames_of(plain_len) * TAG_LEN as u64
}

/// Frames of the run that seals `plain_len` bytes.
#[must_use]
pub const fn frames_of(plain_len: u64) -> u64 {
    plain_len.div_ceil(FRAME_LEN as u64)
}

/// Bytes of plaintext in a run of `sealed_len` bytes; `None` if no run has that many.
#[must_use]
pub const fn plain_len(sealed_len: u64) -> Option<u64> {
    let short = sealed_len % SEALED_FRAME_LEN as u64;
    if short != 0 && short <= TAG_LEN as u64 {
        return None;
    }
    Some(sealed_len - sealed_len.div_ceil(SEALED_FRAME_LEN as u64) * TAG_LEN as u64)
}

/// Frames in `len` bytes, the last of which may be short but not empty.
fn frame_count(len: usize) -> Result<u64, FrameError> {
    let wrong = FrameError::Length { len };
    let bytes = u64::try_from(len).map_err(|_| wrong)?;
    match plain_len(bytes) {
        Some(plain) if plain > 0 => Ok(frames_of(plain)),
        _ => Err(wrong),
    }
}

fn nonce(index: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce.into()
}

/// The two buffers as one of the cipher's; both have one length, as the callers made them.
fn between<'from, 'to>(from: &'from [u8], to: &'to mut [u8]) -> InOutBuf<'from, 'to, u8> {
    match InOutBuf::new(from, to) {
        Ok(buffer) => buffer,
        Err(_) => unreachable!("the caller gave both buffers one length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: VersionId = VersionId([3; 16]);

    fn key() -> FrameKey {
        Dek::from_bytes([7; 32]).frame_key(&VERSION, Stream::Body, &[9; 16])
    }

    /// A run of `plain` bytes of plaintext, laid out for [`seal_run`].
    fn laid_out(plain: usize) -> Vec<u8> {
        let mut run = vec![0; usize::try_from(sealed_len(plain as u64)).unwrap()];
        for (frame, range) in plain_ranges(run.len()).enumerate() {
            run[range].fill(u8::try_from(frame + 1).unwrap());
        }
        run
    }

    #[test]
    fn runs_of_boundary_lengths_open_as_they_were() {
        for plain in [1, 2, 15, 16, 17, FRAME_LEN - 1, FRAME_LEN, FRAME_LEN + 1, 3 * FRAME_LEN] {
            let before = laid_out(plain);
            let mut run = before.clone();
            seal_run(&key(), &mut run).unwrap();
            assert_ne!(run, before);
            open_run_part(&key(), 0, frames_of(plain as u64), &mut run).unwrap();
            for range in plain_ranges(run.len()) {
                assert_eq!(run[range.clone()], before[range]);
            }
            let bytes: usize = plain_ranges(run.len()).map(|range| range.len()).sum();
            assert_eq!(bytes, plain);
        }
    }

    #[test]
    fn any_part_of_whole_frames_opens_alone() {
        let before = laid_out(3 * FRAME_LEN + 5);
        let mut run = before.clone();
        seal_run(&key(), &mut run).unwrap();
        for first in 0..4_usize {
            for end in first + 1..=4 {
                let bytes = first * SEALED_FRAME_LEN..(end * SEALED_FRAME_LEN).min(run.len());
                let mut part = run[bytes.clone()].to_vec();
                open_run_part(&key(), first as u64, 4, &mut part).unwrap();
                for range in plain_ranges(part.len()) {
                    assert_eq!(part[range.clone()], before[bytes.clone()][range]);
                }
            }
        }
    }

    #[test]
    fn moved_cut_and_extended_runs_do_not_open() {
        let mut run = laid_out(2 * FRAME_LEN);
        seal_run(&key(), &mut run).unwrap();
        let open = |first, total, bytes: &[u8]| open_run_part(&key(), first, total, &mut bytes.to_vec());
        assert_eq!(open(0, 2, &run), Ok(()));
        let (one, two) = run.split_at(SEALED_FRAME_LEN);
        let refused = Err(FrameError::NotAuthentic { index: 0 });
        assert_eq!(open(0, 1, one), refused, "cut at a frame's edge");
        assert_eq!(open(0, 2, &[two, one].concat()), refused, "swapped");
        assert_eq!(open(0, 3, two), refused, "moved to the front");
        assert_eq!(open(1, 3, two), Err(FrameError::NotAuthentic { index: 1 }), "extended");
        for len in [0, 1, TAG_LEN, SEALED_FRAME_LEN + 1, SEALED_FRAME_LEN + TAG_LEN] {
            assert_eq!(open(0, 2, &run[..len]), Err(FrameError::Length { len }));
        }
        let short = SEALED_FRAME_LEN - 1;
        assert_eq!(open(0, 2, &run[..short]), Err(FrameError::Length { len: short }), "short in the middle");
        assert_eq!(open(1, 2, &run), Err(FrameError::Length { len: run.len() }), "past the end");
        assert_eq!(open(u64::MAX, u64::MAX, one), Err(FrameError::Length { len: SEALED_FRAME_LEN }));
        assert_eq!(seal_run(&key(), &mut []), Err(FrameError::Length { len: 0 }));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut run = laid_out(40);
        seal_run(&key(), &mut run).unwrap();
        for at in 0..run.len() {
            let mut changed = run.clone();
            changed[at] ^= 0x10;
            let before = changed.clone();
            assert_eq!(open_run_part(&key(), 0, 1, &mut changed), Err(FrameError::NotAuthentic { index: 0 }));
            assert_eq!(changed, before, "left as it was");
        }
    }

    #[test]
    fn a_run_opens_under_its_own_key_only() {
        let dek = Dek::from_bytes([7; 32]);
        let mut run = laid_out(40);
        seal_run(&key(), &mut run).unwrap();
        for other in [
            Dek::from_bytes([8; 32]).frame_key(&VERSION, Stream::Body, &[9; 16]),
            dek.frame_key(&VersionId([4; 16]), Stream::Body, &[9; 16]),
            dek.frame_key(&VERSION, Stream::Header, &[9; 16]),
            dek.frame_key(&VERSION, Stream::Body, &[8; 16]),
        ] {
            assert!(open_run_part(&other, 0, 1, &mut run.clone()).is_err());
        }
    }

    #[test]
    fn between_buffers_a_frame_is_what_it_is_in_place() {
        let plain = [5; 100];
        let mut sealed = [0; 100 + TAG_LEN];
        key().seal_into(3, true, &plain, &mut sealed);
        let mut in_place = plain;
        let tag = key().seal_in_place(3, true, &mut in_place);
        assert_eq!((&sealed[..100], &sealed[100..]), (&in_place[..], &tag[..]));
        let mut opened = [0; 100];
        key().open_into(3, true, &sealed, &mut opened).unwrap();
        assert_eq!(opened, plain);
        let refused = key().open_into(3, false, &sealed, &mut [0; 100]);
        assert_eq!(refused, Err(FrameError::NotAuthentic { index: 3 }));
    }

    #[test]
    fn lengths_agree_with_each_other() {
        assert_eq!((sealed_len(0), plain_len(0)), (0, Some(0)));
        let frame = FRAME_LEN as u64;
        for plain in [1, 2, frame - 1, frame, frame + 1, 5 * frame, 5 * frame + 1] {
            assert_eq!(plain_len(sealed_len(plain)), Some(plain), "{plain}");
        }
        let sealed = SEALED_FRAME_LEN as u64;
        for len in [1, 16, sealed + 1, sealed + 16] {
            assert_eq!(plain_len(len), None, "{len}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let dek = Dek::from_bytes([0xab; 32]);
        let shown = format!("{dek:?} {:?}", dek.frame_key(&VERSION, Stream::Body, &[0; 16]));
        assert_eq!(shown, "Dek(..) FrameKey(..)");
    }
}
