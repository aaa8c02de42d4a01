//! Entries of records: what the static nodes know of a version that somebody may be let into.

use crate::crypto::frame::DekCommit;
use crate::crypto::log_tree;
use crate::message::Violation;
use crate::message::access::open::LIST_VERSION;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::{MAX_BATCH_ENTRIES, MAX_ENTRY_SLOTS};
use crate::types::{BatchId, Hash, LogHash, RecordTag, ScopeTag, VaultId, VersionId};

/// A keyslot of a version, by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotEntry {
    /// The scope.
    pub scope: ScopeTag,
    /// Its generation.
    pub generation: u32,
    /// [`Keyslot::hash`](crate::crypto::access::Keyslot::hash).
    pub slot: Hash,
    /// BLAKE3 of the sealed line of the scope's list.
    pub line: Hash,
}

/// A version and its keyslots. A later batch may bring more slots of a version under the same commitments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordEntry {
    /// The record.
    pub record: RecordTag,
    /// The version.
    pub version: VersionId,
    /// Commitment to the data key: every slot gives this key or none.
    pub dek_commit: DekCommit,
    /// Commitment, under the data key, to where the header is: every slot leads to this one
    /// ([`SlotContent::header_commit`](crate::crypto::access::SlotContent::header_commit)).
    pub header: Hash,
    /// The slots, ascending by scope and generation.
    pub slots: Vec<SlotEntry>,
}

/// Brings entries into effect. The entries are in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryBatch {
    /// The vault.
    pub vault: VaultId,
    /// The batch.
    pub batch: BatchId,
    /// Root of the RFC 6962 tree over the entries.
    pub root: LogHash,
    /// How many there are.
    pub count: u32,
}

impl EntryBatch {
    /// The batch of these entries.
    ///
    /// # Panics
    /// If there are more than [`MAX_BATCH_ENTRIES`].
    #[must_use]
    pub fn of(vault: VaultId, batch: BatchId, entries: &[RecordEntry]) -> Self {
        assert!(entries.len() <= MAX_BATCH_ENTRIES, "a batch of {}", entries.len());
        let root = log_tree::root(entries.iter().map(|entry| log_tree::leaf_hash(&entry.encode())));
        Self { vault, batch, root, count: u32::try_from(entries.len()).unwrap_or(u32::MAX) }
    }
}

impl Canonical for SlotEntry {
    fn write(&self, to: &mut Vec<u8>) {
        self.scope.write(to);
        self.generation.write(to);
        self.slot.write(to);
        self.line.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            scope: Canonical::read(from)?,
            generation: Canonical::read(from)?,
            slot: Canonical::read(from)?,
            line: Canonical::read(from)?,
        })
    }
}

impl Canonical for RecordEntry {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        self.version.write(to);
        self.dek_commit.0.write(to);
        self.header.write(to);
        write_list(&self.slots, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            record: Canonical::read(from)?,
            version: Canonical::read(from)?,
            dek_commit: DekCommit(Canonical::read(from)?),
            header: Canonical::read(from)?,
            slots: read_list(from, MAX_ENTRY_SLOTS)?,
        };
        if found.version == LIST_VERSION {
            return Err(Violation::OutOfBounds);
        }
        let key = |slot: &SlotEntry| (slot.scope, slot.generation);
        let is_ordered = found.slots.is_sorted_by(|one, next| key(one) < key(next));
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for EntryBatch {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.batch.write(to);
        self.root.write(to);
        self.count.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            batch: Canonical::read(from)?,
            root: Canonical::read(from)?,
            count: Canonical::read(from)?,
        };
        let fits = usize::try_from(found.count).is_ok_and(|count| (1..=MAX_BATCH_ENTRIES).contains(&count));
        if fits { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}
