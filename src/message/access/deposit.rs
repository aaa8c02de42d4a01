//! Deposits: records that somebody with a grant to append brings into a vault, and cannot read back.
//!
//! A deposit is a pack as its owner's own ones are, with the segments of large records besides. What its commit is sealed with
//! is drawn for it and sealed to the vault's inbox, so that the owner alone learns names and data keys. The segments wait
//! in the vault, in no collection, until the owner takes them into collections or lets them go.

use crate::message::Violation;
use crate::message::anchor::AnchoredSegment;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{MAX_ANCHOR_SEGMENTS, MAX_DEPOSIT_KEY_LEN, MAX_SETTLED_DEPOSITS};
use crate::types::{GrantId, SegmentId, TransactionId, VaultId};

/// The pack of a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositPack {
    /// The pack.
    pub segment: SegmentId,
    /// The key of its commit, sealed to the vault's inbox.
    pub key: Vec<u8>,
}

impl DepositPack {
    /// What the key is sealed for, beside its purpose: the vault, the grant, the pack.
    #[must_use]
    pub fn context(vault: &VaultId, grant: &GrantId, pack: &SegmentId) -> [u8; 80] {
        let mut context = [0; 80];
        context[..32].copy_from_slice(&vault.0);
        context[32..48].copy_from_slice(&grant.0);
        context[48..].copy_from_slice(&pack.0);
        context
    }
}

/// Brings segments into a vault. Its author is the grantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// The vault.
    pub vault: VaultId,
    /// Under which grant.
    pub grant: GrantId,
    /// The segments, by ascending id.
    pub segments: Vec<AnchoredSegment>,
    /// The pack among them that says what it is. None while a record is brought that has more segments than one deposit takes.
    pub pack: Option<DepositPack>,
}

impl Deposit {
    /// Ciphertext bytes that it brings.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.len))
    }
}

/// The owner is done with deposits: those of their segments that no collection took are released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleDeposits {
    /// The vault.
    pub vault: VaultId,
    /// The deposits, ascending; one at least.
    pub deposits: Vec<TransactionId>,
}

/// Under which grant, and with which deposit, a version came that its owner did not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    /// The grant.
    pub grant: GrantId,
    /// The deposit.
    pub deposit: TransactionId,
}

impl Canonical for DepositPack {
    fn write(&self, to: &mut Vec<u8>) {
        self.segment.write(to);
        write_bytes(&self.key, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { segment: Canonical::read(from)?, key: read_bytes(from, MAX_DEPOSIT_KEY_LEN)? })
    }
}

impl Canonical for Deposit {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.grant.write(to);
        write_list(&self.segments, to);
        self.pack.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            grant: Canonical::read(from)?,
            segments: read_list(from, MAX_ANCHOR_SEGMENTS)?,
            pack: Canonical::read(from)?,
        };
        if found.segments.is_empty() {
            return Err(Violation::OutOfBounds);
        }
        let is_ordered = found.segments.is_sorted_by(|one, next| one.segment < next.segment);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for SettleDeposits {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        write_list(&self.deposits, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self { vault: Canonical::read(from)?, deposits: read_list(from, MAX_SETTLED_DEPOSITS)? };
        if found.deposits.is_empty() {
            return Err(Violation::OutOfBounds);
        }
        let is_ordered = found.deposits.is_sorted_by(|one, next| one < next);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}
