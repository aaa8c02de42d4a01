//! Packages: what goes to the static nodes beside the ledger, which names each by its hash.
//!
//! A package begins with a suite byte, so that one of other algorithms is refused by name.

use crate::crypto::access::{Commitments, DecodeError, Keyslot, SUITE, SealPublic};
use crate::crypto::hash::{Context, derive_key};
use crate::message::Violation;
use crate::message::access::entry::{EntryBatch, RecordEntry};
use crate::message::access::sharing::KeySharing;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{MAX_BATCH_ENTRIES, MAX_COMMITTEE, MAX_LINE_LEN, MAX_PACKAGE_LEN};
use crate::types::{BatchId, Hash, NetworkId, ShareIndex, VaultId};

/// Bytes of a sealed share: the share, the key that it is sealed with, and the tag.
const MAX_SHARE_LEN: usize = 1_280;
/// Bytes of commitments: a count and a point for each of the threshold.
pub(super) const MAX_COMMITMENTS_LEN: usize = 8 + 32 * MAX_COMMITTEE;

fn hash(context: Context, bytes: &[u8]) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(context, &[bytes], &mut hash.0);
    hash
}

/// The hash of commitments that the ledger has.
#[must_use]
pub fn commitments_hash(commitments: &Commitments) -> Hash {
    hash(Context::Commitments, &commitments.to_bytes())
}

/// A share as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedShare {
    /// Hash of the key that it is sealed to: a static node has one for each epoch.
    pub to: Hash,
    /// The sealed share.
    pub sealed: Vec<u8>,
}

/// A vault's PRF key, cut up and sealed for each static node of a roster; and what else a static node needs to know of the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DealingPackage {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's keys.
    pub dealing: u32,
    /// What writers seal to who have no scope key.
    pub inbox: SealPublic,
    /// What entries of the access log are sealed to.
    pub audit: SealPublic,
    /// Commitments to the shares.
    pub commitments: Commitments,
    /// The shares, in the order of the roster's members.
    pub shares: Vec<SealedShare>,
}

impl DealingPackage {
    /// What a share is sealed for, beside its purpose: these commitments, this place.
    #[must_use]
    pub fn share_context(commitments: &Commitments, place: ShareIndex) -> Vec<u8> {
        [&commitments_hash(commitments).0[..], &[place.get()]].concat()
    }

    /// What the ledger has of it.
    #[must_use]
    pub fn sharing(&self, roster: Hash) -> KeySharing {
        KeySharing {
            vault: self.vault,
            dealing: self.dealing,
            roster,
            commitments: commitments_hash(&self.commitments),
            package: self.hash(),
        }
    }

    /// The hash that the ledger has.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash(Context::Package, &self.encode())
    }

    /// Reads a package.
    ///
    /// # Errors
    /// [`Violation::TooLong`], or as [`Canonical::decode`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_PACKAGE_LEN { Err(Violation::TooLong) } else { Self::decode(bytes) }
    }
}

/// A keyslot with the line of its scope's list, in which the record's name is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSlot {
    /// The keyslot.
    pub slot: Keyslot,
    /// The line.
    pub line: Vec<u8>,
}

/// Entries with their keyslots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPackage {
    /// The vault.
    pub vault: VaultId,
    /// The batch.
    pub batch: BatchId,
    /// The entries.
    pub entries: Vec<RecordEntry>,
    /// The slots of the first entry in its order, of the second, and so on. None of those that were erased since: such a
    /// package is a copy from one static node to another.
    pub slots: Vec<Option<SealedSlot>>,
}

impl BatchPackage {
    /// What the ledger has of it.
    #[must_use]
    pub fn batch(&self) -> EntryBatch {
        EntryBatch::of(self.vault, self.batch, &self.entries)
    }

    /// Whether every slot is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// The entries, each with its slots.
    pub fn with_slots(&self) -> impl Iterator<Item = (&RecordEntry, &[Option<SealedSlot>])> {
        let mut rest = &self.slots[..];
        self.entries.iter().map(move |entry| {
            let (slots, after) = rest.split_at(entry.slots.len().min(rest.len()));
            rest = after;
            (entry, slots)
        })
    }

    /// Reads a package and checks that every slot and line is the one that its entry names.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::WrongHash`], or as [`Canonical::decode`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_PACKAGE_LEN {
            return Err(Violation::TooLong);
        }
        let found = Self::decode(bytes)?;
        let named = found.with_slots().all(|(entry, slots)| {
            let fits = |(named, slot): (&super::SlotEntry, &Option<SealedSlot>)| {
                let is_it =
                    |slot: &SealedSlot| named.slot == slot.slot.hash() && named.line == line_hash(&slot.line);
                slot.as_ref().is_none_or(is_it)
            };
            entry.slots.len() == slots.len() && entry.slots.iter().zip(slots).all(fits)
        });
        if named { Ok(found) } else { Err(Violation::WrongHash) }
    }
}

/// The hash of a sealed line in its entry.
#[must_use]
pub fn line_hash(line: &[u8]) -> Hash {
    Hash(*blake3::hash(line).as_bytes())
}

pub(super) fn read_suite(from: &mut &[u8]) -> Result<(), Violation> {
    if u8::read(from)? == SUITE { Ok(()) } else { Err(Violation::UnknownSuite) }
}

pub(super) fn unsound(error: DecodeError) -> Violation {
    match error {
        DecodeError::Suite(_) => Violation::UnknownSuite,
        DecodeError::Length { .. } => Violation::Malformed,
        _ => Violation::OutOfBounds,
    }
}

pub(super) fn read_seal_public(from: &mut &[u8]) -> Result<SealPublic, Violation> {
    let bytes = <[u8; SealPublic::LEN]>::read(from)?;
    SealPublic::from_slice(&bytes).map_err(unsound)
}

impl Canonical for SealedShare {
    fn write(&self, to: &mut Vec<u8>) {
        self.to.write(to);
        write_bytes(&self.sealed, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { to: Canonical::read(from)?, sealed: read_bytes(from, MAX_SHARE_LEN)? })
    }
}

impl Canonical for DealingPackage {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.vault.write(to);
        self.dealing.write(to);
        to.extend_from_slice(&self.inbox.to_bytes());
        to.extend_from_slice(&self.audit.to_bytes());
        write_bytes(&self.commitments.to_bytes(), to);
        write_list(&self.shares, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            network: Canonical::read(from)?,
            vault: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            inbox: read_seal_public(from)?,
            audit: read_seal_public(from)?,
            commitments: Commitments::from_slice(&read_bytes(from, MAX_COMMITMENTS_LEN)?).map_err(unsound)?,
            shares: read_list(from, MAX_COMMITTEE)?,
        })
    }
}

impl Canonical for SealedSlot {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.slot.as_bytes());
        write_bytes(&self.line, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let slot = <[u8; Keyslot::LEN]>::read(from)?;
        let slot = Keyslot::from_slice(&slot).map_err(unsound)?;
        Ok(Self { slot, line: read_bytes(from, MAX_LINE_LEN)? })
    }
}

impl Canonical for BatchPackage {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.vault.write(to);
        self.batch.write(to);
        write_list(&self.entries, to);
        self.slots.iter().for_each(|slot| slot.write(to));
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let (vault, batch) = (Canonical::read(from)?, Canonical::read(from)?);
        let entries: Vec<RecordEntry> = read_list(from, MAX_BATCH_ENTRIES)?;
        let count: usize = entries.iter().map(|entry| entry.slots.len()).sum();
        let slots = (0..count).map(|_| Canonical::read(from)).collect::<Result<_, _>>()?;
        Ok(Self { vault, batch, entries, slots })
    }
}
