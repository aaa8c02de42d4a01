//! What a request is judged by, and the entry of the log that comes before its answer.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable as _};

use crate::crypto::access::{Commitments, KeyShare, RestKey, SealPublic};
use crate::crypto::frame::DekCommit;
use crate::ledger::access::{EmergencyUse, Facts};
use crate::message::Canonical as _;
use crate::message::access::desk::{ScopeMember, SignedSealKey};
use crate::message::access::open::ListedLine;
use crate::message::access::{BatchPackage, LogHead, RecordEntry, SealedSlot, SlotEntry};
use crate::store::access::emergency;
use crate::store::access::log::{self, LogEnd, LogRow};
use crate::store::access::tables::{
    self, ANSWERED, ANSWERED_AT, BATCH_ENTRIES, BATCHES, CURSOR, ENTRIES, LINES, LISTS, LOG, LOG_ENDS,
    LOG_TREE, MISSING, OPENED, OPENED_IN, PACKAGES, PEER_KEYS, PackageKind, REVOKED, SHARES, SLOTS, VETOED,
};
use crate::store::access::{AccessStore, AccessStoreError};
use crate::types::limits::OPEN_WINDOW_MICROS;
use crate::types::{
    BatchId, GrantId, Hash, Height, LogHash, PublicKey, RecordTag, ScopeTag, Timestamp, TransactionId,
    VaultId, VersionId,
};

/// Microseconds of a day.
const DAY_MICROS: u64 = 86_400_000_000;

fn day(now: Timestamp) -> u32 {
    u32::try_from(now.unix_micros() / DAY_MICROS).unwrap_or(u32::MAX)
}

/// What is kept as it was at one moment.
pub struct AccessView {
    pub(super) txn: ReadTransaction,
    pub(super) rest: RestKey,
}

impl std::fmt::Debug for AccessView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessView")
    }
}

/// A node's share of a vault's key, and what goes with it.
#[derive(Debug, Clone)]
pub struct HeldShare {
    /// The share.
    pub share: KeyShare,
    /// Commitments to all of them.
    pub commitments: Commitments,
    /// What entries of the log are sealed to.
    pub audit: SealPublic,
}

/// What the static nodes know of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldEntry {
    /// Commitment to its data key.
    pub dek_commit: DekCommit,
    /// Commitment to where its header is.
    pub header: Hash,
}

/// An entry that is to be logged, before anything is answered.
#[derive(Debug, Clone, Copy)]
pub struct Logged<'a> {
    /// The vault.
    pub vault: &'a VaultId,
    /// The grant.
    pub grant: &'a GrantId,
    /// The request's nonce.
    pub nonce: &'a [u8; 16],
    /// The entry's number.
    pub sequence: u64,
    /// The entry, sealed.
    pub sealed: &'a [u8],
    /// Records that it opens.
    pub records: u32,
    /// The emergency in which it opens, and the hash of the request.
    pub emergency: Option<(&'a TransactionId, &'a Hash)>,
    /// The node's clock.
    pub now: Timestamp,
}

impl AccessStore {
    /// Appends an entry to the log, counts what it opens, and notes that the request was answered: durably, before the answer.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then nothing may be answered.
    pub fn log(&self, logged: &Logged<'_>) -> Result<LogEnd, AccessStoreError> {
        let txn = self.write()?;
        let end = log::append(&txn, logged.vault, logged.sequence, logged.sealed)?;
        {
            let mut opened = txn.open_table(OPENED)?;
            let today = day(logged.now);
            let before = opened.get(&logged.grant.0)?.map(|row| row.value());
            let count = before.filter(|(day, _)| *day == today).map_or(0, |(_, count)| count);
            opened.insert(&logged.grant.0, (today, count.saturating_add(logged.records)))?;
            if let Some((request, open)) = logged.emergency {
                emergency::count(&txn, logged, request, open)?;
            }
            let mut answered = txn.open_table(ANSWERED)?;
            let mut by_time = txn.open_table(ANSWERED_AT)?;
            let key = tables::nonce_key(logged.grant, logged.nonce);
            answered.insert(&key, logged.now.unix_micros())?;
            by_time.insert((logged.now.unix_micros(), &key), ())?;
            // A request is taken within a window on both sides of its time: after two of them its nonce is of no use.
            let old = logged.now.unix_micros().saturating_sub(3 * OPEN_WINDOW_MICROS);
            let mut gone = Vec::new();
            for row in by_time.range((0, &[0; 32])..(old, &[0; 32]))? {
                let (key, _) = row?;
                gone.push((key.value().0, *key.value().1));
            }
            for (time, key) in gone {
                by_time.remove((time, &key))?;
                answered.remove(&key)?;
            }
        }
        txn.commit()?;
        Ok(end)
    }
}

impl AccessView {
    pub(super) const fn new(txn: ReadTransaction, rest: RestKey) -> Self {
        Self { txn, rest }
    }

    /// The database as it was.
    pub(super) const fn txn(&self) -> &ReadTransaction {
        &self.txn
    }

    /// This node's share of a vault's key.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn share(
        &self,
        vault: &VaultId,
        (dealing, epoch): (u32, u32),
    ) -> Result<Option<HeldShare>, AccessStoreError> {
        let key = tables::share_key(vault, dealing, epoch);
        let Some(row) = self.txn.open_table(SHARES)?.get(&key)? else { return Ok(None) };
        let (_, commitments, audit, wrapped) = row.value();
        let damaged = || AccessStoreError::Damaged("shares");
        let share = self.rest.unwrap(&key, wrapped).map_err(|_| damaged())?;
        Ok(Some(HeldShare {
            share: KeyShare::from_slice(&share).map_err(|_| damaged())?,
            commitments: Commitments::from_slice(commitments).map_err(|_| damaged())?,
            audit: SealPublic::from_slice(audit).map_err(|_| damaged())?,
        }))
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn entry(
        &self,
        vault: &VaultId,
        record: &RecordTag,
        version: &VersionId,
    ) -> Result<Option<HeldEntry>, AccessStoreError> {
        let key = tables::entry_key(vault, record, version);
        let row = self.txn.open_table(ENTRIES)?.get(&key)?;
        Ok(row.map(|row| {
            let (mut dek_commit, mut header) = ([0; 32], [0; 32]);
            dek_commit.copy_from_slice(&row.value()[..32]);
            header.copy_from_slice(&row.value()[32..]);
            HeldEntry { dek_commit: DekCommit(dek_commit), header: Hash(header) }
        }))
    }

    /// The lines of a batch in a scope, by its number.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn lines(
        &self,
        vault: &VaultId,
        batch: u64,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<Vec<ListedLine>, AccessStoreError> {
        let list = tables::list_key(vault, scope, generation, batch);
        let (mut first, mut last) = ([0; 92], [0xff; 92]);
        first[..60].copy_from_slice(&list);
        last[..60].copy_from_slice(&list);
        let mut found = Vec::new();
        for row in self.txn.open_table(LINES)?.range::<&[u8; 92]>(&first..=&last)? {
            let (key, line) = row?;
            let (record, version) = tables::record_of(key.value());
            let line = self.rest.unwrap(key.value(), line.value());
            let line = line.map_err(|_| AccessStoreError::Damaged("lines"))?.to_vec();
            found.push(ListedLine { record, version, line });
        }
        Ok(found)
    }

    /// The versions in a scope, after one.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn members(
        &self,
        vault: &VaultId,
        scope: &ScopeTag,
        generation: u32,
        after: Option<ScopeMember>,
        limit: usize,
    ) -> Result<Vec<ScopeMember>, AccessStoreError> {
        let line = |(batch, record, version): ScopeMember| {
            tables::line_key(&tables::list_key(vault, scope, generation, batch), &record, &version)
        };
        let last = line((u64::MAX, RecordTag([0xff; 16]), VersionId([0xff; 16])));
        let first = match after {
            Some(after) => Bound::Excluded(line(after)),
            None => Bound::Included(line((0, RecordTag([0; 16]), VersionId([0; 16])))),
        };
        let mut found = Vec::new();
        let bounds = (first.as_ref(), Bound::Included(&last));
        for row in self.txn.open_table(LINES)?.range::<&[u8; 92]>(bounds)?.take(limit) {
            let (key, _) = row?;
            let (record, version) = tables::record_of(key.value());
            found.push((tables::batch_of(key.value()), record, version));
        }
        Ok(found)
    }

    /// The batches that have something in a scope, after the one of a number.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn lists(
        &self,
        vault: &VaultId,
        scope: &ScopeTag,
        generation: u32,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, BatchId)>, AccessStoreError> {
        let from = match after {
            Some(number) => match number.checked_add(1) {
                Some(next) => next,
                None => return Ok(Vec::new()),
            },
            None => 0,
        };
        let first = tables::list_key(vault, scope, generation, from);
        let last = tables::list_key(vault, scope, generation, u64::MAX);
        let table = self.txn.open_table(LISTS)?;
        let mut found = Vec::new();
        for row in table.range::<&[u8; 60]>(&first..=&last)?.take(limit) {
            let (key, batch) = row?;
            found.push((tables::number_of(key.value()), tables::batch(batch.value())));
        }
        Ok(found)
    }

    /// A package.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn package(
        &self,
        vault: &VaultId,
        hash: &Hash,
        kind: PackageKind,
    ) -> Result<Option<Vec<u8>>, AccessStoreError> {
        let key = tables::package_key(vault, hash);
        let row = self.txn.open_table(PACKAGES)?.get(&key)?;
        let Some(row) = row.filter(|row| row.value().0 == kind.code()) else { return Ok(None) };
        let plain = self.rest.unwrap(&key, row.value().2);
        Ok(Some(plain.map_err(|_| AccessStoreError::Damaged("packages"))?.to_vec()))
    }

    /// Batches that are final and whose packages are not here, at most `limit`.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn missing(&self, limit: usize) -> Result<Vec<(VaultId, u64)>, AccessStoreError> {
        let table = self.txn.open_table(MISSING)?;
        let mut found = Vec::new();
        for row in table.iter()?.take(limit) {
            let (key, ()) = row.map(|(key, row)| (key, row.value()))?;
            let mut vault = VaultId([0; 32]);
            vault.0.copy_from_slice(&key.value()[..32]);
            found.push((vault, tables::number_of(key.value())));
        }
        Ok(found)
    }

    /// A batch that was carried out here, with the slots that are left of it.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn batch(
        &self,
        vault: &VaultId,
        number: u64,
        batch: BatchId,
    ) -> Result<Option<BatchPackage>, AccessStoreError> {
        if self.applied(vault, number)?.is_none() {
            return Ok(None);
        }
        let key = tables::numbered(vault, number);
        let (first, last) = (tables::batch_entry_key(&key, 0), tables::batch_entry_key(&key, u32::MAX));
        let (mut entries, mut slots) = (Vec::new(), Vec::new());
        for row in self.txn.open_table(BATCH_ENTRIES)?.range::<&[u8; 44]>(&first..=&last)? {
            let entry = RecordEntry::decode(row?.1.value());
            let entry = entry.map_err(|_| AccessStoreError::Damaged("batch entries"))?;
            for named in &entry.slots {
                slots.push(self.sealed_slot(vault, number, &entry, named)?);
            }
            entries.push(entry);
        }
        Ok(Some(BatchPackage { vault: *vault, batch, entries, slots }))
    }

    /// A slot with its line, if it is this batch's and there still.
    fn sealed_slot(
        &self,
        vault: &VaultId,
        number: u64,
        entry: &RecordEntry,
        named: &SlotEntry,
    ) -> Result<Option<SealedSlot>, AccessStoreError> {
        let (scope, generation) = (&named.scope, named.generation);
        let slot = self.slot(vault, &entry.record, &entry.version, scope, generation)?.map(|(_, slot)| slot);
        let list = tables::list_key(vault, scope, generation, number);
        let line = tables::line_key(&list, &entry.record, &entry.version);
        let wrapped = self.txn.open_table(LINES)?.get(&line)?;
        let line = wrapped.map(|row| self.rest.unwrap(&line, row.value()).map(|line| line.to_vec()));
        let line = line.transpose().map_err(|_| AccessStoreError::Damaged("lines"))?;
        let found = slot.zip(line).map(|(slot, line)| SealedSlot { slot, line });
        Ok(found.filter(|found| found.slot.hash() == named.slot))
    }

    /// Packages of a vault that wait for the ledger, or that it names: how many, and their bytes.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn packages_of(&self, vault: &VaultId) -> Result<(usize, usize), AccessStoreError> {
        let (first, last) =
            (tables::package_key(vault, &Hash([0; 32])), tables::package_key(vault, &Hash([0xff; 32])));
        let table = self.txn.open_table(PACKAGES)?;
        let (mut count, mut bytes) = (0, 0);
        for row in table.range::<&[u8; 64]>(&first..=&last)? {
            (count, bytes) = (count + 1, bytes + row?.1.value().2.len());
        }
        Ok((count, bytes))
    }

    /// The root of a batch that was carried out here.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn applied(&self, vault: &VaultId, number: u64) -> Result<Option<LogHash>, AccessStoreError> {
        let row = self.txn.open_table(BATCHES)?.get(&tables::numbered(vault, number))?;
        Ok(row.map(|row| LogHash(*row.value())))
    }

    /// The keys to which shares for other static nodes are sealed.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn peer_keys(&self) -> Result<Vec<(PublicKey, SignedSealKey)>, AccessStoreError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(PEER_KEYS)?.iter()? {
            let (node, key) = row?;
            let key =
                SignedSealKey::decode(key.value()).map_err(|_| AccessStoreError::Damaged("peer keys"))?;
            found.push((PublicKey(*node.value()), key));
        }
        Ok(found)
    }

    /// The block up to which the ledger was carried out.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn cursor(&self) -> Result<Option<Height>, AccessStoreError> {
        Ok(self.txn.open_table(CURSOR)?.get(())?.map(|row| Height(row.value())))
    }

    /// How far the log of a vault is.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn log_end(&self, vault: &VaultId) -> Result<LogEnd, AccessStoreError> {
        log::end(&self.txn.open_table(LOG_ENDS)?, vault)
    }

    /// The head of the log over all vaults.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn log_head(&self) -> Result<LogHead, AccessStoreError> {
        log::tree_head(&self.txn.open_table(LOG_TREE)?)
    }

    /// Entries of a vault's log from a number on.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn log_rows(
        &self,
        vault: &VaultId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LogRow>, AccessStoreError> {
        let (first, last) = (tables::numbered(vault, from), tables::numbered(vault, u64::MAX));
        let table = self.txn.open_table(LOG)?;
        let mut found = Vec::new();
        for row in table.range::<&[u8; 40]>(&first..=&last)?.take(limit) {
            let (key, sealed) = row?;
            found.push(LogRow { sequence: tables::number_of(key.value()), sealed: sealed.value().to_vec() });
        }
        Ok(found)
    }
}

impl Facts for AccessView {
    type Error = AccessStoreError;

    fn is_revocation_seen(&self, vault: &VaultId, grant: &GrantId) -> Result<bool, AccessStoreError> {
        Ok(self.txn.open_table(REVOKED)?.get(&tables::grant_key(vault, grant))?.is_some())
    }

    fn is_answered(&self, grant: &GrantId, nonce: &[u8; 16]) -> Result<bool, AccessStoreError> {
        Ok(self.txn.open_table(ANSWERED)?.get(&tables::nonce_key(grant, nonce))?.is_some())
    }

    fn opened(&self, grant: &GrantId, now: Timestamp) -> Result<u32, AccessStoreError> {
        let row = self.txn.open_table(OPENED)?.get(&grant.0)?.map(|row| row.value());
        Ok(row.filter(|(of, _)| *of == day(now)).map_or(0, |(_, count)| count))
    }

    fn is_veto_seen(&self, vault: &VaultId, request: &TransactionId) -> Result<bool, AccessStoreError> {
        Ok(self.txn.open_table(VETOED)?.get(&tables::emergency_key(vault, request))?.is_some())
    }

    fn opened_in(&self, vault: &VaultId, request: &TransactionId) -> Result<EmergencyUse, AccessStoreError> {
        let row = self.txn.open_table(OPENED_IN)?.get(&tables::emergency_key(vault, request))?;
        let used = row.map(|row| row.value()).unwrap_or_default();
        Ok(EmergencyUse { records: used.0, requests: used.1 })
    }

    fn has_slot(
        &self,
        vault: &VaultId,
        record: &RecordTag,
        version: &VersionId,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, AccessStoreError> {
        let key = tables::slot_key(&tables::entry_key(vault, record, version), scope, generation);
        Ok(self.txn.open_table(SLOTS)?.get(&key)?.is_some())
    }

    fn has_list(
        &self,
        vault: &VaultId,
        batch: u64,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, AccessStoreError> {
        let key = tables::list_key(vault, scope, generation, batch);
        Ok(self.txn.open_table(LISTS)?.get(&key)?.is_some())
    }
}
