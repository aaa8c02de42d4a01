//! Erasure: which versions the ledger erases, and what nodes sign when they have nothing of them any more.

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::open::LIST_VERSION;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::{MAX_BATCH_ITEMS, MAX_CLAIM_ERASURES, MAX_ERASURE_VERSIONS};
use crate::types::{Hash, Height, NetworkId, PublicKey, RecordTag, SegmentId, Timestamp, VaultId, VersionId};

/// A version of a record, as the ledger and the static nodes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaggedVersion {
    /// The record.
    pub record: RecordTag,
    /// The version.
    pub version: VersionId,
}

impl TaggedVersion {
    /// Stands for all that a vault has, and sorts before all of it: its shares, its keyslots, its segments. No entry is of such a
    /// version.
    pub const WHOLE_VAULT: Self = Self { record: RecordTag([0; 16]), version: LIST_VERSION };
}

/// Erases versions: their keyslots go, and no slot of them is ever taken again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The vault.
    pub vault: VaultId,
    /// The versions, ascending, at least one.
    pub versions: Vec<TaggedVersion>,
}

impl Erasure {
    /// The erasure of all that a vault has.
    #[must_use]
    pub fn of_vault(vault: VaultId) -> Self {
        Self { vault, versions: vec![TaggedVersion::WHOLE_VAULT] }
    }

    /// Whether the whole vault is erased.
    #[must_use]
    pub fn is_of_vault(&self) -> bool {
        self.versions.first() == Some(&TaggedVersion::WHOLE_VAULT)
    }

    /// The name by which the ledger, receipts and certificates know it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::Erasure, &[&self.encode()], &mut hash.0);
        hash
    }
}

/// An erasure that the ledger carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarriedOut {
    /// [`Erasure::hash`].
    pub erasure: Hash,
    /// Its block.
    pub height: Height,
}

/// Says on the ledger that there is a certificate of erasures, which it checks that it has carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureClaim {
    /// The vault.
    pub vault: VaultId,
    /// Hash of what the certificate states.
    pub certificate: Hash,
    /// The erasures that it is of.
    pub erasures: Vec<CarriedOut>,
}

/// A static node's signed word that it has no keyslot of the versions of an erasure any more, and has replaced the key under
/// which it had them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionReceipt {
    /// The static node.
    pub node: PublicKey,
    /// The erasure.
    pub erasure: Hash,
    /// When it signed, by its clock.
    pub time: Timestamp,
    /// The signature.
    pub signature: [u8; 64],
}

impl DeletionReceipt {
    fn statement(network: &NetworkId, vault: &VaultId, erasure: &Hash, time: Timestamp) -> Vec<u8> {
        [&network.0[..], &vault.0, &erasure.0, &time.unix_micros().to_le_bytes()].concat()
    }

    /// Signs. Call it only once nothing of the slots is left.
    #[must_use]
    pub fn sign(
        network: &NetworkId,
        vault: &VaultId,
        erasure: Hash,
        time: Timestamp,
        node: &KeyPair,
    ) -> Self {
        let statement = Self::statement(network, vault, &erasure, time);
        let signature = node.sign(Domain::DeletionReceipt, &statement);
        Self { node: node.public(), erasure, time, signature }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId, vault: &VaultId) -> Result<(), Violation> {
        let statement = Self::statement(network, vault, &self.erasure, self.time);
        sign::verify(&self.node, Domain::DeletionReceipt, &statement, &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

/// A storage node's signed word that it has no shard of some segments any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseReceipt {
    /// The storage node.
    pub node: PublicKey,
    /// When it signed, by its clock.
    pub time: Timestamp,
    /// The segments, ascending.
    pub segments: Vec<SegmentId>,
    /// The signature.
    pub signature: [u8; 64],
}

impl ReleaseReceipt {
    fn statement(network: &NetworkId, vault: &VaultId, time: Timestamp, segments: &[SegmentId]) -> Vec<u8> {
        let mut statement = [&network.0[..], &vault.0, &time.unix_micros().to_le_bytes()].concat();
        write_list(segments, &mut statement);
        statement
    }

    /// Signs. Call it only once the shards are durably gone.
    #[must_use]
    pub fn sign(
        network: &NetworkId,
        vault: &VaultId,
        time: Timestamp,
        segments: Vec<SegmentId>,
        node: &KeyPair,
    ) -> Self {
        let statement = Self::statement(network, vault, time, &segments);
        let signature = node.sign(Domain::ReleaseReceipt, &statement);
        Self { node: node.public(), time, segments, signature }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId, vault: &VaultId) -> Result<(), Violation> {
        let statement = Self::statement(network, vault, self.time, &self.segments);
        sign::verify(&self.node, Domain::ReleaseReceipt, &statement, &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

impl Canonical for TaggedVersion {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        self.version.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { record: Canonical::read(from)?, version: Canonical::read(from)? })
    }
}

impl Canonical for Erasure {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        write_list(&self.versions, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self { vault: Canonical::read(from)?, versions: read_list(from, MAX_ERASURE_VERSIONS)? };
        if found.versions.is_empty() {
            return Err(Violation::OutOfBounds);
        }
        let is_ordered = found.versions.is_sorted_by(|one, next| one < next);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for CarriedOut {
    fn write(&self, to: &mut Vec<u8>) {
        self.erasure.write(to);
        self.height.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { erasure: Canonical::read(from)?, height: Canonical::read(from)? })
    }
}

impl Canonical for ErasureClaim {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.certificate.write(to);
        write_list(&self.erasures, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            certificate: Canonical::read(from)?,
            erasures: read_list(from, MAX_CLAIM_ERASURES)?,
        };
        if found.erasures.is_empty() { Err(Violation::OutOfBounds) } else { Ok(found) }
    }
}

impl Canonical for DeletionReceipt {
    fn write(&self, to: &mut Vec<u8>) {
        self.node.write(to);
        self.erasure.write(to);
        self.time.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            node: Canonical::read(from)?,
            erasure: Canonical::read(from)?,
            time: Canonical::read(from)?,
            signature: Canonical::read(from)?,
        })
    }
}

impl Canonical for ReleaseReceipt {
    fn write(&self, to: &mut Vec<u8>) {
        self.node.write(to);
        self.time.write(to);
        write_list(&self.segments, to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            node: Canonical::read(from)?,
            time: Canonical::read(from)?,
            segments: read_list(from, MAX_BATCH_ITEMS)?,
            signature: Canonical::read(from)?,
        };
        let is_ordered = found.segments.is_sorted_by(|one, next| one < next);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}
