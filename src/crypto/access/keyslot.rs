//! Keyslots: a version's data key, wrapped for one scope.
//!
//! ```text
//! suite 1 | nonce 16 | hint 2 | commitment 32 | sealed 104: data key 32, content version 16, segment 32, offset u32le,
//! length u32le, salt 16                                                                           [155 bytes]
//! ```
//! A cipher like XChaCha20-Poly1305 would let one slot open under two keys, and show two people two records as one. So what is in a
//! slot is added to a pad that BLAKE3 makes of key, nonce, slot id and hint, and the slot is authentic by a hash of all these and of
//! what is sealed: one that fits two keys, or two contents, is a collision of BLAKE3
//! ([Chan and Rogaway, on committing authenticated encryption](https://eprint.iacr.org/2022/1260)). The data key inside must be the one
//! that the record's entry commits to ([`DekCommit`]).

use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::day_tree::DayKey;
use crate::crypto::access::dprf::PrfOutput;
use crate::crypto::access::keys::ListKey;
use crate::crypto::access::{DecodeError, SUITE};
use crate::crypto::frame::{Dek, DekCommit};
use crate::crypto::hash::{Context, derive_key};
use crate::types::limits::{MAX_SEGMENT_LEN, TAG_LEN};
use crate::types::{Day, Hash, Locator, SegmentId, SlotId, VersionId};

/// Bytes of what a slot seals.
const CONTENT_LEN: usize = 32 + 16 + 32 + 4 + 4 + 16;
const NONCE_LEN: usize = 16;
const HINT_AT: usize = 1 + NONCE_LEN;
const COMMITMENT_AT: usize = HINT_AT + 2;
const SEALED_AT: usize = COMMITMENT_AT + 32;

const _: () = assert!(MAX_SEGMENT_LEN <= u32::MAX as u64, "offsets in a segment have 32 bits here");

/// What opens one keyslot: derived from both halves, it serves this slot alone.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Kek([u8; 32]);

/// What a keyslot gives: all that it takes to read the version.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotContent {
    /// The version's data key.
    pub dek: Dek,
    /// The version as which the content was written, to which its keys are bound; a copy has a version of its own.
    pub content_version: VersionId,
    /// Where its header is.
    pub header: Locator,
}

opaque_debug!(Kek, SlotContent);

/// A data key wrapped for one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyslot([u8; Self::LEN]);

/// Why a keyslot does not give a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not made with this key for this slot, or changed since.
    #[error("the keyslot is not of this key and record")]
    WrongKey,
    /// Made with this key for this slot, and what is in it is not what a slot holds.
    #[error("the keyslot holds no data key")]
    Damaged,
    /// The data key inside is not the one that the record's entry commits to: whoever wrote the slot shows different
    /// people different content.
    #[error("the data key in the keyslot is not the one that the record's entry commits to")]
    OtherDataKey,
}

impl Kek {
    /// The key of a slot from the key of the record's day and the PRF's output for the slot.
    #[must_use]
    pub fn new(day: &DayKey, output: &PrfOutput, slot: &SlotId) -> Self {
        let mut key = Self([0; 32]);
        derive_key(Context::RecordKek, &[day.as_bytes(), output.as_bytes(), &slot.to_bytes()], &mut key.0);
        key
    }

    /// Seals or opens what a slot has: its pad serves for this nonce, slot id and hint alone.
    fn mask(&self, nonce: &[u8; NONCE_LEN], slot: &[u8], hint: [u8; 2], bytes: &mut [u8; CONTENT_LEN]) {
        let mut pad = Zeroizing::new([0; CONTENT_LEN]);
        derive_key(Context::KeyslotPad, &[&self.0, nonce, slot, &hint], &mut *pad);
        bytes.iter_mut().zip(&*pad).for_each(|(byte, pad)| *byte ^= pad);
    }

    /// What shows that a slot is of this key and id, and whole.
    fn commitment(&self, nonce: &[u8; NONCE_LEN], slot: &[u8], hint: [u8; 2], sealed: &[u8]) -> [u8; 32] {
        let mut commitment = [0; 32];
        derive_key(Context::Keyslot, &[&self.0, nonce, slot, &hint, sealed], &mut commitment);
        commitment
    }
}

impl SlotContent {
    /// What a record's entry commits to beside the data key: where the header is. Under one data key the bytes there give one
    /// header, so two people who hold slots of one entry are told one name. Without the data key it tells nothing.
    #[must_use]
    pub fn header_commit(&self) -> Hash {
        let mut commit = Hash([0; 32]);
        derive_key(Context::HeaderCommit, &[&*self.encode()], &mut commit.0);
        commit
    }

    fn encode(&self) -> Zeroizing<[u8; CONTENT_LEN]> {
        let offset = u32::try_from(self.header.offset).unwrap_or_else(|_| panic!("a header past 4 GiB"));
        let fields: [&[u8]; 6] = [
            self.dek.as_bytes(),
            self.content_version.as_bytes(),
            self.header.segment.as_bytes(),
            &offset.to_le_bytes(),
            &self.header.len.to_le_bytes(),
            &self.header.salt,
        ];
        let mut bytes = Zeroizing::new([0; CONTENT_LEN]);
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }

    /// `None` if the header is not within a segment.
    fn decode(bytes: &[u8; CONTENT_LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let dek = Dek::from_bytes(take(&mut rest)?);
        let content_version = VersionId(take(&mut rest)?);
        let header = Locator {
            segment: SegmentId(take(&mut rest)?),
            offset: u32::from_le_bytes(take(&mut rest)?).into(),
            len: u32::from_le_bytes(take(&mut rest)?),
            salt: take(&mut rest)?,
        };
        let holds_a_frame = usize::try_from(header.len).is_ok_and(|len| len > TAG_LEN);
        let sound = holds_a_frame && header.offset + u64::from(header.len) <= MAX_SEGMENT_LEN;
        sound.then_some(Self { dek, content_version, header })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

impl Keyslot {
    /// Bytes of a keyslot.
    pub const LEN: usize = SEALED_AT + CONTENT_LEN;

    /// Wraps a data key. `nonce` must be fresh random bytes; `list` and `day` make the hint that tells who may list the
    /// scope which day's key opens the slot.
    ///
    /// # Panics
    /// If the header is further into its segment than any segment is long.
    #[must_use]
    pub fn wrap(
        key: &Kek,
        slot: &SlotId,
        content: &SlotContent,
        list: &ListKey,
        day: Day,
        nonce: [u8; NONCE_LEN],
    ) -> Self {
        let slot = slot.to_bytes();
        let hint = list.hint(day, &nonce);
        let mut sealed = content.encode();
        key.mask(&nonce, &slot, hint, &mut sealed);
        let commitment = key.commitment(&nonce, &slot, hint, &*sealed);
        let mut bytes = [SUITE; Self::LEN];
        bytes[1..HINT_AT].copy_from_slice(&nonce);
        bytes[HINT_AT..COMMITMENT_AT].copy_from_slice(&hint);
        bytes[COMMITMENT_AT..SEALED_AT].copy_from_slice(&commitment);
        bytes[SEALED_AT..].copy_from_slice(&*sealed);
        Self(bytes)
    }

    /// Gives the data key, if the slot is of this key and id and holds what the record's entry commits to.
    ///
    /// # Errors
    /// [`SlotError`] tells a slot of another key from one of a writer that lies.
    pub fn unwrap(&self, key: &Kek, slot: &SlotId, entry: &DekCommit) -> Result<SlotContent, SlotError> {
        let slot = slot.to_bytes();
        let (nonce, hint) = (self.nonce(), self.hint());
        let commitment = key.commitment(&nonce, &slot, hint, &self.0[SEALED_AT..]);
        if !bool::from(commitment.ct_eq(&self.0[COMMITMENT_AT..SEALED_AT])) {
            return Err(SlotError::WrongKey);
        }
        let mut sealed = Zeroizing::new([0; CONTENT_LEN]);
        sealed.copy_from_slice(&self.0[SEALED_AT..]);
        key.mask(&nonce, &slot, hint, &mut sealed);
        let content = SlotContent::decode(&sealed).ok_or(SlotError::Damaged)?;
        let own = content.dek.commit(&content.content_version);
        if own == *entry { Ok(content) } else { Err(SlotError::OtherDataKey) }
    }

    /// The day whose key opens the slot, for who may list the scope.
    #[must_use]
    pub fn day(&self, list: &ListKey) -> Day {
        list.day(self.hint(), &self.nonce())
    }

    /// What a record's entry says of this slot.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = [0; 32];
        derive_key(Context::SlotHash, &[&self.0], &mut hash);
        Hash(hash)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// [`DecodeError`] if the length or the suite is not a slot's.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::suited(bytes)?;
        bytes.try_into().map(Self).map_err(|_| DecodeError::Length { len: bytes.len() })
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&self.0[1..HINT_AT]);
        nonce
    }

    const fn hint(&self) -> [u8; 2] {
        [self.0[HINT_AT], self.0[HINT_AT + 1]]
    }
}
