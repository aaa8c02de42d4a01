//! What goes: keyslots and lines of versions that were erased, or withdrawn from the scopes that others are in.
//!
//! A row tells which key was in use when something of a version was deleted. Once another key is, nothing of it opens any more,
//! whatever the database keeps in freed pages: only then may the node sign that it has nothing left.

use redb::{ReadableTable as _, WriteTransaction};

use crate::ledger::query::OpenScopes;
use crate::message::Canonical as _;
use crate::message::access::{BatchPackage, Erasure, TaggedVersion};
use crate::store::access::tables::{
    self, CANDIDATES, DELETED, ENTRIES, LINES, LISTS, MISSING, PACKAGES, PackageKind, SHARES, SLOTS,
};
use crate::store::access::{AccessStore, AccessStoreError, AccessView, Secrets};
use crate::types::{RecordTag, ScopeTag, VaultId, VersionId};

/// What a node can say of the versions of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// Not all of them are deleted here yet.
    NotYet,
    /// They are deleted, and the key under which they were is in use still.
    KeyInUse,
    /// Nothing of them opens any more.
    Gone,
}

impl AccessStore {
    /// Deletes the keyslots and lines of a version; how many slots there were. What the database keeps of them in freed pages
    /// opens until the key of what is at rest is renewed.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn erase(
        &self,
        vault: &VaultId,
        record: &RecordTag,
        version: &VersionId,
    ) -> Result<usize, AccessStoreError> {
        self.erase_all(vault, &[TaggedVersion { record: *record, version: *version }])
    }

    /// The same of many versions, in one transaction; also slots in packages that wait for the ledger go.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then nothing of it is done.
    pub fn erase_all(&self, vault: &VaultId, versions: &[TaggedVersion]) -> Result<usize, AccessStoreError> {
        let mut secrets = self.secrets();
        let txn = self.write()?;
        let mut gone = 0;
        for version in versions {
            if *version == TaggedVersion::WHOLE_VAULT {
                gone += remove_vault(&txn, vault)?;
                note_deleted(&txn, &secrets, vault, version, gone > 0)?;
                continue;
            }
            let removed = remove_slots(&txn, vault, version, OpenScopes::None)?;
            note_deleted(&txn, &secrets, vault, version, removed > 0)?;
            gone += removed;
        }
        gone += strip_packages(&txn, &mut secrets, vault, versions)?;
        txn.commit()?;
        Ok(gone)
    }

    /// Deletes the keyslots and lines of a version but those of one scope; how many slots there were.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn withdraw(
        &self,
        vault: &VaultId,
        version: &TaggedVersion,
        keep: ScopeTag,
    ) -> Result<usize, AccessStoreError> {
        let txn = self.write()?;
        let gone = remove_slots(&txn, vault, version, OpenScopes::Only(keep))?;
        txn.commit()?;
        Ok(gone)
    }
}

impl AccessView {
    /// What can be said of an erasure.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn erased(&self, erasure: &Erasure) -> Result<Erased, AccessStoreError> {
        let table = self.txn.open_table(DELETED)?;
        let current = self.rest.id();
        let mut found = Erased::Gone;
        for TaggedVersion { record, version } in &erasure.versions {
            match table.get(&tables::entry_key(&erasure.vault, record, version))? {
                None => return Ok(Erased::NotYet),
                Some(row) if *row.value() == current.0 => found = Erased::KeyInUse,
                Some(_) => {}
            }
        }
        Ok(found)
    }
}

/// Removes all that is kept of a vault but the log of who opened what and what the ledger names anyway; how much that was.
fn remove_vault(txn: &WriteTransaction, vault: &VaultId) -> Result<usize, AccessStoreError> {
    let mut gone = 0;
    macro_rules! empty {
        ($($table:ident: $len:literal),*) => {$({
            let (mut first, mut last) = ([0; $len], [0xff; $len]);
            first[..32].copy_from_slice(&vault.0);
            last[..32].copy_from_slice(&vault.0);
            let mut table = txn.open_table($table)?;
            for row in table.extract_from_if::<&[u8; $len], _>(&first..=&last, |_, _| true)? {
                row?;
                gone += 1;
            }
        })*};
    }
    empty!(SHARES: 40, CANDIDATES: 72, ENTRIES: 64, SLOTS: 84, LISTS: 60, LINES: 92, PACKAGES: 64, MISSING: 40);
    Ok(gone)
}

/// Notes under which key what is deleted was. What was noted before stands, unless more came to light.
fn note_deleted(
    txn: &WriteTransaction,
    secrets: &Secrets,
    vault: &VaultId,
    version: &TaggedVersion,
    had_some: bool,
) -> Result<(), AccessStoreError> {
    let mut table = txn.open_table(DELETED)?;
    let key = tables::entry_key(vault, &version.record, &version.version);
    if had_some || table.get(&key)?.is_none() {
        table.insert(&key, &secrets.rest.id().0)?;
    }
    Ok(())
}

/// Removes the slots of a version that are not of a scope which stays.
fn remove_slots(
    txn: &WriteTransaction,
    vault: &VaultId,
    version: &TaggedVersion,
    stay: OpenScopes,
) -> Result<usize, AccessStoreError> {
    let entry = tables::entry_key(vault, &version.record, &version.version);
    let mut gone = Vec::new();
    let mut slots = txn.open_table(SLOTS)?;
    let (first, last) = (bounded(&entry, 0), bounded(&entry, 0xff));
    for row in slots.range::<&[u8; 84]>(&first..=&last)? {
        let (key, row) = row?;
        if !stay.include(&tables::slot_of(key.value()).0) {
            gone.push((*key.value(), row.value().0));
        }
    }
    let mut lines = txn.open_table(LINES)?;
    for (key, number) in &gone {
        slots.remove(key)?;
        let (scope, generation) = tables::slot_of(key);
        let list = tables::list_key(vault, &scope, generation, *number);
        lines.remove(&tables::line_key(&list, &version.record, &version.version))?;
    }
    Ok(gone.len())
}

/// The slot key of an entry before or after all its slots.
fn bounded(entry: &[u8; 64], fill: u8) -> [u8; 84] {
    let mut key = [fill; 84];
    key[..64].copy_from_slice(entry);
    key
}

/// Takes the slots of these versions out of the packages of a vault that wait for the ledger; how many there were. The packages
/// keep their hash, which is of entries.
fn strip_packages(
    txn: &WriteTransaction,
    secrets: &mut Secrets,
    vault: &VaultId,
    versions: &[TaggedVersion],
) -> Result<usize, AccessStoreError> {
    let mut packages = txn.open_table(PACKAGES)?;
    let mut changed = Vec::new();
    let (first, last) = (joined(vault, 0), joined(vault, 0xff));
    let mut stripped = 0;
    for row in packages.range::<&[u8; 64]>(&first..=&last)? {
        let (key, row) = row?;
        let (kind, since, wrapped) = row.value();
        if kind != PackageKind::Batch.code() {
            continue;
        }
        let plain = secrets.rest.unwrap(key.value(), wrapped);
        let plain = plain.map_err(|_| AccessStoreError::Damaged("packages"))?;
        let Ok(mut package) = BatchPackage::decode_bounded(&plain) else { continue };
        let removed = strip(&mut package, |version| versions.contains(version));
        if removed > 0 {
            stripped += removed;
            let wrapped = secrets.rest.clone().wrap(key.value(), &package.encode(), secrets.nonce()?);
            changed.push((*key.value(), kind, since, wrapped));
        }
    }
    for (key, kind, since, wrapped) in &changed {
        packages.insert(key, (*kind, *since, &wrapped[..]))?;
    }
    drop(packages);
    // Of which version they were does not matter: the key is to be renewed for all of them.
    if stripped > 0 {
        for version in versions {
            note_deleted(txn, secrets, vault, version, true)?;
        }
    }
    Ok(stripped)
}

/// Takes out the slots of the versions that go; how many there were.
fn strip(package: &mut BatchPackage, goes: impl Fn(&TaggedVersion) -> bool) -> usize {
    let (mut at, mut removed) = (0, 0);
    for entry in &package.entries {
        let of_entry = at..(at + entry.slots.len()).min(package.slots.len());
        at = of_entry.end;
        if goes(&TaggedVersion { record: entry.record, version: entry.version }) {
            let slots = package.slots[of_entry].iter_mut();
            removed += slots.filter_map(Option::take).count();
        }
    }
    removed
}

/// A batch as it may be kept: without the slots of versions that were erased here. `None` if it may be as it is.
pub(super) fn without_deleted(
    txn: &WriteTransaction,
    vault: &VaultId,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, AccessStoreError> {
    let Ok(mut package) = BatchPackage::decode_bounded(bytes) else { return Ok(None) };
    let deleted = txn.open_table(DELETED)?;
    let mut gone = Vec::new();
    for entry in &package.entries {
        if deleted.get(&tables::entry_key(vault, &entry.record, &entry.version))?.is_some() {
            gone.push(TaggedVersion { record: entry.record, version: entry.version });
        }
    }
    let stripped = !gone.is_empty() && strip(&mut package, |version| gone.contains(version)) > 0;
    Ok(stripped.then(|| package.encode()))
}

/// Whether something of a version was erased here.
pub(super) fn is_deleted(
    txn: &WriteTransaction,
    vault: &VaultId,
    record: &RecordTag,
    version: &VersionId,
) -> Result<bool, AccessStoreError> {
    Ok(txn.open_table(DELETED)?.get(&tables::entry_key(vault, record, version))?.is_some())
}

/// Whether all of a vault was erased here.
pub(super) fn is_vault_deleted(txn: &WriteTransaction, vault: &VaultId) -> Result<bool, AccessStoreError> {
    let TaggedVersion { record, version } = TaggedVersion::WHOLE_VAULT;
    is_deleted(txn, vault, &record, &version)
}

fn joined(vault: &VaultId, fill: u8) -> [u8; 64] {
    let mut key = [fill; 64];
    key[..32].copy_from_slice(&vault.0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::access::{Keyslot, PrfKey, SealKey, Sharing};
    use crate::crypto::frame::DekCommit;
    use crate::message::access::package::line_hash;
    use crate::message::access::{RecordEntry, SealedSlot, SlotEntry};
    use crate::store::access::batch_hash;
    use crate::testing::{MemDisk, Survivors};
    use crate::types::{BatchId, Committee, Hash, PublicKey, Timestamp};
    use std::sync::Arc;

    const VAULT: VaultId = VaultId([1; 32]);
    const OWN: ScopeTag = ScopeTag([2; 16]);
    const KNEE: ScopeTag = ScopeTag([3; 16]);

    fn open(disk: &MemDisk) -> AccessStore {
        let mut at = 0_u64;
        let entropy = Box::new(move |out: &mut [u8]| {
            at += 1;
            blake3::Hasher::new().update(&at.to_le_bytes()).finalize_xof().fill(out);
            Ok(())
        });
        AccessStore::open(Arc::new(disk.clone()), entropy).unwrap()
    }

    const fn tagged(nth: u8) -> TaggedVersion {
        TaggedVersion { record: RecordTag([nth; 16]), version: VersionId([nth; 16]) }
    }

    fn erasure(versions: &[u8]) -> Erasure {
        Erasure { vault: VAULT, versions: versions.iter().copied().map(tagged).collect() }
    }

    /// Versions 1 and 2, each in two scopes.
    fn package(batch: u8) -> BatchPackage {
        let (mut entries, mut slots) = (Vec::new(), Vec::new());
        for nth in [1, 2] {
            let mut named = Vec::new();
            for (at, scope) in [(0, OWN), (1, KNEE)] {
                let bytes = [&[1][..], &[nth * 16 + at; Keyslot::LEN - 1]].concat();
                let slot = Keyslot::from_slice(&bytes).unwrap();
                let line = vec![nth * 16 + at + 100; 50];
                named.push(SlotEntry { scope, generation: 0, slot: slot.hash(), line: line_hash(&line) });
                slots.push(Some(SealedSlot { slot, line }));
            }
            let TaggedVersion { record, version } = tagged(nth);
            let (dek_commit, header) = (DekCommit([nth; 32]), Hash([nth; 32]));
            entries.push(RecordEntry { record, version, dek_commit, header, slots: named });
        }
        BatchPackage { vault: VAULT, batch: BatchId([batch; 16]), entries, slots }
    }

    fn deposit(store: &AccessStore, package: &BatchPackage) {
        let (hash, bytes) = (batch_hash(&package.batch()), package.encode());
        store.deposit(&VAULT, &hash, PackageKind::Batch, &bytes, Timestamp::from_unix_millis(1)).unwrap();
    }

    fn deposited(store: &AccessStore, package: &BatchPackage) -> BatchPackage {
        let view = store.view().unwrap();
        let bytes = view.package(&VAULT, &batch_hash(&package.batch()), PackageKind::Batch).unwrap().unwrap();
        BatchPackage::decode_bounded(&bytes).unwrap()
    }

    fn scopes(store: &AccessStore, nth: u8) -> Vec<ScopeTag> {
        let (view, TaggedVersion { record, version }) = (store.view().unwrap(), tagged(nth));
        let has = |scope: &ScopeTag| view.slot(&VAULT, &record, &version, scope, 0).unwrap().is_some();
        [OWN, KNEE].into_iter().filter(has).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the ledger's answer has it")]
    const fn all(_: &RecordTag, _: &VersionId) -> Result<OpenScopes, AccessStoreError> {
        Ok(OpenScopes::All)
    }

    fn all_bytes(disk: &MemDisk) -> Vec<u8> {
        use crate::store::disk::Disk as _;
        let file = disk.open("access.redb").unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// C13, at rest: also of a package that waits for the ledger nothing is in the file.
    #[test]
    fn c13_a_node_says_that_versions_are_gone_once_they_are_and_the_key_is_another() {
        let disk = MemDisk::new(256 << 20);
        let store = open(&disk);
        deposit(&store, &package(5));
        store.apply_batch(0, &package(5), all).unwrap();
        for secret in [16, 17, 116, 117] {
            let is_there = all_bytes(&disk).windows(32).any(|at| *at == [secret; 32]);
            assert!(!is_there, "no slot and no line in the clear, also of a package");
        }
        let says = |versions: &[u8]| store.view().unwrap().erased(&erasure(versions)).unwrap();
        assert_eq!(says(&[1]), Erased::NotYet);
        assert_eq!(store.erase_all(&VAULT, &[tagged(1)]).unwrap(), 2);
        assert_eq!((says(&[1]), says(&[1, 2])), (Erased::KeyInUse, Erased::NotYet));
        store.renew_key().unwrap();
        assert_eq!(says(&[1]), Erased::Gone);
        // Carried out again, as after a start, it changes nothing.
        assert_eq!(store.erase_all(&VAULT, &[tagged(1)]).unwrap(), 0);
        assert_eq!(says(&[1]), Erased::Gone);
        // Of one that was never here the key is to be another all the same: a package may have been.
        store.erase_all(&VAULT, &[tagged(9)]).unwrap();
        assert_eq!(says(&[9]), Erased::KeyInUse);
        assert_eq!(scopes(&store, 2), [OWN, KNEE]);
        let crashed = open(&disk.after_power_loss(Survivors::Nothing));
        assert_eq!(crashed.view().unwrap().erased(&erasure(&[1])).unwrap(), Erased::Gone);
    }

    #[test]
    fn packages_that_wait_lose_the_slots_of_what_is_erased_and_none_come_later() {
        let store = open(&MemDisk::new(256 << 20));
        deposit(&store, &package(5));
        store.erase_all(&VAULT, &[tagged(1)]).unwrap();
        let left = deposited(&store, &package(5));
        assert_eq!(left.batch(), package(5).batch());
        let there: Vec<_> = left.slots.iter().map(Option::is_some).collect();
        assert_eq!(there, [false, false, true, true]);
        store.renew_key().unwrap();
        assert_eq!(deposited(&store, &package(5)), left, "it is under the next key");
        // Brought after the erasure.
        deposit(&store, &package(6));
        assert!(!deposited(&store, &package(6)).is_whole());
        // However old the state by which it is carried out.
        assert_eq!(store.apply_batch(0, &package(6), all).unwrap().slots, 2);
        assert_eq!((scopes(&store, 1), scopes(&store, 2)), (vec![], vec![OWN, KNEE]));
        assert_eq!(store.view().unwrap().erased(&erasure(&[1])).unwrap(), Erased::Gone);
    }

    #[test]
    fn of_a_vault_that_is_erased_nothing_is_kept_and_nothing_comes() {
        let committee = Committee::new((0..4).map(|nth| PublicKey([nth; 32])).collect()).unwrap();
        let dealing = PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[1; 32]);
        let audit = SealKey::from_seed(&[2; 32]);
        let store = open(&MemDisk::new(256 << 20));
        for vault in [VAULT, VaultId([9; 32])] {
            let share = &dealing.shares[1];
            store.take_share(&vault, (0, 0), share, &dealing.commitments, audit.public()).unwrap();
        }
        store.apply_batch(0, &package(5), all).unwrap();
        store.deposit(&VAULT, &Hash([4; 32]), PackageKind::GrantBody, b"body", Timestamp::ZERO).unwrap();
        let whole = Erasure::of_vault(VAULT);
        assert!(store.erase_all(&VAULT, &whole.versions).unwrap() > 5);
        deposit(&store, &package(6));
        assert_eq!(store.apply_batch(1, &package(7), all).unwrap().slots, 0);
        let view = store.view().unwrap();
        assert!(view.share(&VAULT, (0, 0)).unwrap().is_none());
        assert!(view.share(&VaultId([9; 32]), (0, 0)).unwrap().is_some(), "others have theirs");
        assert!(scopes(&store, 1).is_empty() && scopes(&store, 2).is_empty());
        assert_eq!(view.packages_of(&VAULT).unwrap(), (0, 0));
        assert!(view.lines(&VAULT, 0, &OWN, 0).unwrap().is_empty());
        assert_eq!(view.erased(&whole).unwrap(), Erased::KeyInUse);
        store.renew_key().unwrap();
        assert_eq!(store.view().unwrap().erased(&whole).unwrap(), Erased::Gone);
        store.erase_all(&VAULT, &whole.versions).unwrap();
        assert_eq!(store.view().unwrap().erased(&whole).unwrap(), Erased::Gone);
    }

    #[test]
    fn what_is_withdrawn_stays_in_the_scope_of_its_owner() {
        let store = open(&MemDisk::new(256 << 20));
        store.apply_batch(0, &package(5), all).unwrap();
        assert_eq!(store.withdraw(&VAULT, &tagged(1), OWN).unwrap(), 1);
        assert_eq!(store.withdraw(&VAULT, &tagged(1), OWN).unwrap(), 0);
        assert_eq!((scopes(&store, 1), scopes(&store, 2)), (vec![OWN], vec![OWN, KNEE]));
        let only = |_: &RecordTag, _: &VersionId| Ok(OpenScopes::Only(OWN));
        let other = open(&MemDisk::new(256 << 20));
        assert_eq!(other.apply_batch(0, &package(5), only).unwrap().slots, 2);
        assert_eq!(scopes(&other, 1), [OWN]);
    }
}
