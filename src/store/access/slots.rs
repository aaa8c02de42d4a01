//! Keyslots at rest.
//!
//! A keyslot is under a pad of the key of what is at rest, its place and its hash, which the batch's entry has: it takes the bytes that
//! it has, and what was damaged is seen by its hash.

use redb::ReadableTable;

use crate::crypto::access::{Keyslot, RestKey};
use crate::message::Canonical as _;
use crate::message::access::{RecordEntry, SlotEntry};
use crate::store::access::tables::{self, BATCH_ENTRIES, SLOTS, SlotRow};
use crate::store::access::{AccessStoreError, AccessView, HeldEntry};
use crate::types::{RecordTag, ScopeTag, VaultId, VersionId};

const DAMAGED: AccessStoreError = AccessStoreError::Damaged("slots");

/// A keyslot for its row.
pub(super) fn masked(
    rest: &RestKey,
    key: &[u8; 84],
    named: &SlotEntry,
    slot: &Keyslot,
) -> [u8; Keyslot::LEN] {
    let mut bytes = [0; Keyslot::LEN];
    bytes.copy_from_slice(&rest.mask(key, &named.slot, slot.as_bytes()));
    bytes
}

/// The keyslot of a row, and the entry of it in its batch.
pub(super) fn unmasked(
    rest: &RestKey,
    entries: &impl ReadableTable<&'static [u8; 44], &'static [u8]>,
    key: &[u8; 84],
    (number, at, bytes): SlotRow<'_>,
) -> Result<(RecordEntry, SlotEntry, Keyslot), AccessStoreError> {
    let (vault, (scope, generation)) = (tables::vault_of(key), tables::slot_of(key));
    let entry =
        entries.get(&tables::batch_entry_key(&tables::numbered(&vault, number), at))?.ok_or(DAMAGED)?;
    let entry = RecordEntry::decode(entry.value()).map_err(|_| AccessStoreError::Damaged("batch entries"))?;
    let is_it = |named: &&SlotEntry| (named.scope, named.generation) == (scope, generation);
    let named = *entry.slots.iter().find(is_it).ok_or(DAMAGED)?;
    let slot = Keyslot::from_slice(&rest.mask(key, &named.slot, bytes)).map_err(|_| DAMAGED)?;
    if slot.hash() == named.slot { Ok((entry, named, slot)) } else { Err(DAMAGED) }
}

impl AccessView {
    /// A keyslot, and what is known of its version.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn slot(
        &self,
        vault: &VaultId,
        record: &RecordTag,
        version: &VersionId,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<Option<(HeldEntry, Keyslot)>, AccessStoreError> {
        let key = tables::slot_key(&tables::entry_key(vault, record, version), scope, generation);
        let Some(row) = self.txn.open_table(SLOTS)?.get(&key)? else { return Ok(None) };
        let entries = self.txn.open_table(BATCH_ENTRIES)?;
        let (entry, _, slot) = unmasked(&self.rest, &entries, &key, row.value())?;
        Ok(Some((HeldEntry { dek_commit: entry.dek_commit, header: entry.header }, slot)))
    }
}
