//! What comes in: packages before the ledger names them, and what the ledger then brings into effect.

use redb::{ReadableTable as _, WriteTransaction};

use crate::crypto::access::{Commitments, KeyShare, SealPublic};
use crate::ledger::query::OpenScopes;
use crate::message::Canonical as _;
use crate::message::access::desk::SignedSealKey;
use crate::message::access::{BatchPackage, EntryBatch, RecordEntry, SealedSlot, SlotEntry};
use crate::store::access::tables::{
    self, BATCH_ENTRIES, BATCHES, CURSOR, ENTRIES, LINES, LISTS, MISSING, PACKAGES, PEER_KEYS, PackageKind,
    REVOKED, SHARES, SLOTS,
};
use crate::store::access::{AccessStore, AccessStoreError, Secrets};
use crate::store::access::{erase, slots};
use crate::types::{GrantId, Hash, Height, PublicKey, RecordTag, Timestamp, VaultId, VersionId};

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Keyslots that are there from now on.
    pub slots: usize,
    /// Entries that say something else of a version than one before: they count for nothing.
    pub refused: usize,
}

impl AccessStore {
    /// Keeps a package that the ledger is yet to name.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn deposit(
        &self,
        vault: &VaultId,
        hash: &Hash,
        kind: PackageKind,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), AccessStoreError> {
        let mut secrets = self.secrets();
        let txn = self.write()?;
        if erase::is_vault_deleted(&txn, vault)? {
            return Ok(());
        }
        let stripped = match kind {
            PackageKind::Batch => erase::without_deleted(&txn, vault, bytes)?,
            PackageKind::Dealing | PackageKind::GrantBody => None,
        };
        let key = tables::package_key(vault, hash);
        let wrapped = secrets.rest.clone().wrap(&key, stripped.as_deref().unwrap_or(bytes), secrets.nonce()?);
        txn.open_table(PACKAGES)?.insert(&key, (kind.code(), now.unix_micros(), &wrapped[..]))?;
        txn.commit()?;
        Ok(())
    }

    /// Forgets packages that were brought before a time, but for those of which `is_named` says that the ledger names them.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn forget_packages(
        &self,
        before: Timestamp,
        is_named: impl Fn(&VaultId, &Hash) -> Result<bool, AccessStoreError>,
    ) -> Result<usize, AccessStoreError> {
        let txn = self.write()?;
        let mut gone = Vec::new();
        {
            let mut packages = txn.open_table(PACKAGES)?;
            for row in packages.iter()? {
                let (key, row) = row?;
                let (mut vault, mut hash) = (VaultId([0; 32]), Hash([0; 32]));
                vault.0.copy_from_slice(&key.value()[..32]);
                hash.0.copy_from_slice(&key.value()[32..]);
                if row.value().1 < before.unix_micros() && !is_named(&vault, &hash)? {
                    gone.push(*key.value());
                }
            }
            for key in &gone {
                packages.remove(key)?;
            }
        }
        txn.commit()?;
        Ok(gone.len())
    }

    /// Keeps a share of a vault's key that the ledger names, and drops those of sharings before.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn take_share(
        &self,
        vault: &VaultId,
        (dealing, epoch): (u32, u32),
        share: &KeyShare,
        commitments: &Commitments,
        audit: &SealPublic,
    ) -> Result<(), AccessStoreError> {
        let mut secrets = self.secrets();
        let txn = self.write()?;
        {
            let mut shares = txn.open_table(SHARES)?;
            let first = tables::share_key(vault, 0, 0);
            let key = tables::share_key(vault, dealing, epoch);
            let old: Vec<_> = shares
                .range::<&[u8; 40]>(&first..&key)?
                .map(|row| row.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            for old in old {
                shares.remove(&old)?;
            }
            let wrapped = secrets.rest.clone().wrap(&key, &*share.to_bytes(), secrets.nonce()?);
            let audit = audit.to_bytes();
            shares
                .insert(&key, (share.index().get(), &commitments.to_bytes()[..], &audit[..], &wrapped[..]))?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Carries out a batch that is final, whose package is here; `open_scopes` tells of which scopes the ledger leaves slots.
    ///
    /// Of a version the first entry in the order of the ledger counts: one that says something else of it brings nothing, so
    /// that no writer shows two people two contents.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then nothing of it is done.
    pub fn apply_batch(
        &self,
        number: u64,
        package: &BatchPackage,
        open_scopes: impl Fn(&RecordTag, &VersionId) -> Result<OpenScopes, AccessStoreError>,
    ) -> Result<Applied, AccessStoreError> {
        let mut secrets = self.secrets();
        let txn = self.write()?;
        let mut applied = Applied::default();
        let batch = package.batch();
        let is_vault_deleted = erase::is_vault_deleted(&txn, &package.vault)?;
        for ((entry, slots), at) in package.with_slots().zip(0..) {
            let open = open_scopes(&entry.record, &entry.version)?;
            // It may have been erased by a later block than that of the state which was asked.
            let is_deleted = erase::is_deleted(&txn, &package.vault, &entry.record, &entry.version)?;
            if open == OpenScopes::None || is_deleted || is_vault_deleted {
                continue;
            }
            if take_entry(&txn, &package.vault, entry)? {
                let open = |slot: &&(&SlotEntry, &Option<SealedSlot>)| open.include(&slot.0.scope);
                let slots: Vec<_> = entry.slots.iter().zip(slots).collect();
                let slots = slots.iter().filter(open).copied();
                applied.slots += take_slots(&txn, &mut secrets, &batch, (number, at), entry, slots)?;
            } else {
                applied.refused += 1;
            }
        }
        let key = tables::numbered(&package.vault, number);
        txn.open_table(BATCHES)?.insert(&key, &batch.root.0)?;
        {
            let mut kept = txn.open_table(BATCH_ENTRIES)?;
            for (entry, at) in package.entries.iter().zip(0..) {
                kept.insert(&tables::batch_entry_key(&key, at), &entry.encode()[..])?;
            }
        }
        txn.open_table(MISSING)?.remove(&key)?;
        let named = Hash(batch.root.0);
        txn.open_table(PACKAGES)?.remove(&tables::package_key(&package.vault, &named))?;
        txn.commit()?;
        Ok(applied)
    }

    /// Notes a batch that is final and whose package is not here.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn miss_batch(&self, vault: &VaultId, number: u64) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(MISSING)?.insert(&tables::numbered(vault, number), ())?;
        txn.commit()?;
        Ok(())
    }

    /// Notes a revocation that was seen, final or not: nothing is opened for the grant from here on.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn note_revocation(
        &self,
        vault: &VaultId,
        grant: &GrantId,
        transaction: &[u8],
    ) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(REVOKED)?.insert(&tables::grant_key(vault, grant), transaction)?;
        txn.commit()?;
        Ok(())
    }

    /// Keeps the key to which shares for another static node are sealed.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn keep_peer_key(&self, node: &PublicKey, key: &SignedSealKey) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(PEER_KEYS)?.insert(&node.0, &key.encode()[..])?;
        txn.commit()?;
        Ok(())
    }

    /// Notes that the ledger is carried out up to a block.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn reach(&self, height: Height) -> Result<(), AccessStoreError> {
        let mut txn = self.write()?;
        // What is lost is carried out once more, which does nothing.
        txn.set_durability(redb::Durability::None)?;
        txn.open_table(CURSOR)?.insert((), height.0)?;
        txn.commit()?;
        Ok(())
    }
}

/// Whether the entry says of its version what was said before, or is the first to say it.
fn take_entry(
    txn: &WriteTransaction,
    vault: &VaultId,
    entry: &RecordEntry,
) -> Result<bool, AccessStoreError> {
    let mut entries = txn.open_table(ENTRIES)?;
    let key = tables::entry_key(vault, &entry.record, &entry.version);
    let mut says = [0; 64];
    says[..32].copy_from_slice(&entry.dek_commit.0);
    says[32..].copy_from_slice(&entry.header.0);
    if let Some(known) = entries.get(&key)? {
        return Ok(*known.value() == says);
    }
    entries.insert(&key, &says)?;
    Ok(true)
}

/// Takes slots that are not there yet; how many.
fn take_slots<'a>(
    txn: &WriteTransaction,
    secrets: &mut Secrets,
    batch: &EntryBatch,
    (number, at): (u64, u32),
    entry: &RecordEntry,
    brought: impl Iterator<Item = (&'a SlotEntry, &'a Option<SealedSlot>)>,
) -> Result<usize, AccessStoreError> {
    let mut table = txn.open_table(SLOTS)?;
    let mut lists = txn.open_table(LISTS)?;
    let mut lines = txn.open_table(LINES)?;
    let of = tables::entry_key(&batch.vault, &entry.record, &entry.version);
    let mut taken = 0;
    for (named, slot) in brought {
        let Some(slot) = slot else { continue };
        let key = tables::slot_key(&of, &named.scope, named.generation);
        if table.get(&key)?.is_some() {
            continue;
        }
        table.insert(&key, (number, at, &slots::masked(&secrets.rest, &key, named, &slot.slot)))?;
        let list = tables::list_key(&batch.vault, &named.scope, named.generation, number);
        lists.insert(&list, &batch.batch.0)?;
        let line = tables::line_key(&list, &entry.record, &entry.version);
        let nonce = secrets.nonce()?;
        lines.insert(&line, &secrets.rest.wrap(&line, &slot.line, nonce)[..])?;
        taken += 1;
    }
    Ok(taken)
}

/// What a batch is kept under before it is final: the root of its entries.
#[must_use]
pub fn batch_hash(batch: &EntryBatch) -> Hash {
    Hash(batch.root.0)
}
