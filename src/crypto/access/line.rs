//! Lines of a scope's list: what a record is called, for who may list the scope on the record's day.
//!
//! ```text
//! suite 1 | nonce 24 | hint 2 | sealed | tag 16
//! ```
//! One release for a batch gives its lines to a grantee, and of them those whose day's keys it has: to list ten thousand records
//! costs the static nodes three evaluations, and tells nobody a name of another day.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::crypto::access::day_tree::DayKey;
use crate::crypto::access::dprf::PrfOutput;
use crate::crypto::access::keys::ListKey;
use crate::crypto::access::{DecodeError, SUITE, SealError};
use crate::crypto::hash::{Context, derive_key};
use crate::types::limits::{MAX_LINE_LEN, TAG_LEN};
use crate::types::{Day, RecordTag, SlotId, VersionId};

const HINT_AT: usize = 1 + 24;
const SEALED_AT: usize = HINT_AT + 2;
/// Bytes by which sealing makes a line longer.
pub const LINE_OVERHEAD: usize = SEALED_AT + TAG_LEN;

/// A sealed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedLine(Vec<u8>);

/// Whose line it is: its batch's slot, the record and the version.
#[derive(Debug, Clone, Copy)]
pub struct LineOf<'a> {
    /// What the PRF is evaluated on for the batch.
    pub list: &'a SlotId,
    /// The record.
    pub record: RecordTag,
    /// The version.
    pub version: VersionId,
}

impl LineOf<'_> {
    fn cipher(&self, day: &DayKey, output: &PrfOutput, nonce: &[u8; 24], hint: [u8; 2]) -> XChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        let slot = self.list.to_bytes();
        let parts: [&[u8]; 7] = [
            day.as_bytes(),
            output.as_bytes(),
            &slot,
            self.record.as_bytes(),
            self.version.as_bytes(),
            nonce,
            &hint,
        ];
        derive_key(Context::ListLine, &parts, &mut *key);
        let Ok(cipher) = XChaCha20Poly1305::new_from_slice(&*key) else { unreachable!("a key of 32 bytes") };
        cipher
    }
}

impl SealedLine {
    /// Seals a line. `nonce` must be fresh random bytes.
    ///
    /// # Panics
    /// If the line is longer than [`MAX_LINE_LEN`] less [`LINE_OVERHEAD`].
    #[must_use]
    pub fn seal(
        of: &LineOf<'_>,
        day_key: &DayKey,
        output: &PrfOutput,
        list: &ListKey,
        day: Day,
        nonce: [u8; 24],
        line: &[u8],
    ) -> Self {
        assert!(line.len() + LINE_OVERHEAD <= MAX_LINE_LEN, "a line of {} bytes", line.len());
        let hint = list.hint(day, &nonce);
        let mut bytes = [&[SUITE][..], &nonce, &hint, line].concat();
        let cipher = of.cipher(day_key, output, &nonce, hint);
        let Ok(tag) = cipher.encrypt_inout_detached(&nonce.into(), &[], (&mut bytes[SEALED_AT..]).into())
        else {
            unreachable!("XChaCha20-Poly1305 seals two kilobytes")
        };
        bytes.extend_from_slice(&tag);
        Self(bytes)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`] if it is not of these keys and this record, or was changed.
    pub fn open(&self, of: &LineOf<'_>, day: &DayKey, output: &PrfOutput) -> Result<Vec<u8>, SealError> {
        let cipher = of.cipher(day, output, &self.nonce(), self.hint());
        let (sealed, tag) = self.0[SEALED_AT..].split_at(self.0.len() - LINE_OVERHEAD);
        let tag = Tag::try_from(tag).map_err(|_| SealError::NotAuthentic)?;
        let mut line = sealed.to_vec();
        cipher
            .decrypt_inout_detached(&self.nonce().into(), &[], (&mut line[..]).into(), &tag)
            .map_err(|_| SealError::NotAuthentic)?;
        Ok(line)
    }

    /// The record's day, for who may list the scope.
    #[must_use]
    pub fn day(&self, list: &ListKey) -> Day {
        list.day(self.hint(), &self.nonce())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`DecodeError`] if the length or the suite is not a line's.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::suited(bytes)?;
        if !(LINE_OVERHEAD..=MAX_LINE_LEN).contains(&bytes.len()) {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    fn nonce(&self) -> [u8; 24] {
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&self.0[1..HINT_AT]);
        nonce
    }

    fn hint(&self) -> [u8; 2] {
        [self.0[HINT_AT], self.0[HINT_AT + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::access::{PrfKey, ScopeKey};
    use crate::types::{NetworkId, ScopeTag, VaultId};

    #[test]
    fn a_line_opens_for_its_day_and_record_alone() {
        let list_slot = SlotId {
            network: NetworkId([1; 32]),
            vault: VaultId([2; 32]),
            dealing: 0,
            scope: ScopeTag([3; 16]),
            generation: 4,
            record: RecordTag([5; 16]),
            version: VersionId([0; 16]),
        };
        let of = LineOf { list: &list_slot, record: RecordTag([6; 16]), version: VersionId([7; 16]) };
        let scope = ScopeKey::from_bytes([8; 32]);
        let output = PrfKey::from_wide(&[9; 64]).evaluate(&list_slot);
        let (day, list) = (Day(9_827), scope.list_key());
        let line = SealedLine::seal(&of, &scope.day(day), &output, &list, day, [1; 24], b"knee.dcm");
        assert_eq!(line.day(&list), day);
        assert_eq!(SealedLine::from_slice(line.as_bytes()), Ok(line.clone()));
        assert_eq!(line.open(&of, &scope.day(day), &output).unwrap(), b"knee.dcm");
        let other_output = PrfKey::from_wide(&[8; 64]).evaluate(&list_slot);
        let others = [
            line.open(&of, &scope.day(Day(9_828)), &output),
            line.open(&of, &scope.day(day), &other_output),
            line.open(&LineOf { record: RecordTag([7; 16]), ..of }, &scope.day(day), &output),
            line.open(&LineOf { version: VersionId([6; 16]), ..of }, &scope.day(day), &output),
            line.open(
                &LineOf { list: &SlotId { generation: 5, ..list_slot }, ..of },
                &scope.day(day),
                &output,
            ),
        ];
        assert!(others.iter().all(|opened| *opened == Err(SealError::NotAuthentic)));
        for at in 1..line.as_bytes().len() {
            let mut bytes = line.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = SealedLine::from_slice(&bytes).unwrap();
            assert_eq!(
                changed.open(&of, &scope.day(day), &output),
                Err(SealError::NotAuthentic),
                "byte {at}"
            );
        }
        assert_eq!(SealedLine::from_slice(&[2; 60]), Err(DecodeError::Suite(2)));
        assert_eq!(
            SealedLine::from_slice(&[1; LINE_OVERHEAD - 1]),
            Err(DecodeError::Length { len: LINE_OVERHEAD - 1 })
        );
        assert_eq!(
            SealedLine::from_slice(&[1; MAX_LINE_LEN + 1]),
            Err(DecodeError::Length { len: MAX_LINE_LEN + 1 })
        );
    }
}
