mod handoff;

use super::*;
use crate::crypto::access::{Dealing, Keyslot, PrfKey, Sharing};
use crate::crypto::frame::DekCommit;
use crate::ledger::access::Facts as _;
use crate::ledger::query::OpenScopes;
use crate::message::access::package::line_hash;
use crate::message::access::{BatchPackage, RecordEntry, SealedSlot, SlotEntry};
use crate::testing::{MemDisk, Survivors};
use crate::types::limits::OPEN_WINDOW_MICROS;
use crate::types::{
    BatchId, Committee, GrantId, Hash, Height, PublicKey, RecordTag, ScopeTag, Timestamp, VaultId, VersionId,
};

const ROOM: u64 = 256 << 20;
const VAULT: VaultId = VaultId([1; 32]);
const SCOPE: ScopeTag = ScopeTag([2; 16]);

/// Bytes that never repeat.
fn entropy() -> Entropy {
    let mut at = 0_u64;
    Box::new(move |out| {
        at += 1;
        blake3::Hasher::new().update(&at.to_le_bytes()).finalize_xof().fill(out);
        Ok(())
    })
}

fn open(disk: &MemDisk) -> Result<AccessStore, AccessStoreError> {
    AccessStore::open(Arc::new(disk.clone()), entropy())
}

fn slot(nth: u8) -> SealedSlot {
    let bytes = [&[1][..], &[nth; Keyslot::LEN - 1]].concat();
    SealedSlot { slot: Keyslot::from_slice(&bytes).unwrap(), line: vec![nth + 100; 50] }
}

fn entry(nth: u8, says: u8, slots: &[SealedSlot]) -> RecordEntry {
    let named = |(slot, at): (&SealedSlot, u8)| SlotEntry {
        scope: ScopeTag([2 + at; 16]),
        generation: 0,
        slot: slot.slot.hash(),
        line: line_hash(&slot.line),
    };
    RecordEntry {
        record: RecordTag([nth; 16]),
        version: VersionId([nth; 16]),
        dek_commit: DekCommit([says; 32]),
        header: Hash([says; 32]),
        slots: slots.iter().zip(0..).map(named).collect(),
    }
}

/// Two records, of which the first is in two scopes.
fn package(batch: u8) -> BatchPackage {
    let slots = vec![slot(10), slot(11), slot(20)];
    let entries = vec![entry(1, 1, &slots[..2]), entry(2, 2, &slots[2..])];
    BatchPackage {
        vault: VAULT,
        batch: BatchId([batch; 16]),
        entries,
        slots: slots.into_iter().map(Some).collect(),
    }
}

fn found(store: &AccessStore, nth: u8, scope: u8) -> Option<Keyslot> {
    let view = store.view().unwrap();
    let found = view.slot(&VAULT, &RecordTag([nth; 16]), &VersionId([nth; 16]), &ScopeTag([scope; 16]), 0);
    found.unwrap().map(|(_, slot)| slot)
}

const fn none_erased(_: &RecordTag, _: &VersionId) -> Result<OpenScopes, AccessStoreError> {
    Ok(OpenScopes::All)
}

#[test]
fn a_batch_brings_slots_and_lines_and_an_erasure_takes_them() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    store.miss_batch(&VAULT, 0).unwrap();
    assert_eq!(store.view().unwrap().missing(9).unwrap(), [(VAULT, 0)]);
    let applied = store.apply_batch(0, &package(5), none_erased).unwrap();
    assert_eq!(applied, Applied { slots: 3, refused: 0 });
    let view = store.view().unwrap();
    assert_eq!(view.missing(9).unwrap(), []);
    assert_eq!(view.applied(&VAULT, 0).unwrap(), Some(package(5).batch().root));
    assert_eq!(found(&store, 1, 2), Some(slot(10).slot));
    assert_eq!(found(&store, 1, 3), Some(slot(11).slot));
    assert_eq!(found(&store, 2, 3), None);
    assert_eq!(view.lists(&VAULT, &SCOPE, 0, None, 9).unwrap(), [(0, BatchId([5; 16]))]);
    assert_eq!(view.lists(&VAULT, &SCOPE, 0, Some(0), 9).unwrap(), []);
    assert!(view.has_list(&VAULT, 0, &SCOPE, 0).unwrap());
    assert!(!view.has_list(&VAULT, 0, &SCOPE, 1).unwrap());
    let member = |nth: u8| (0, RecordTag([nth; 16]), VersionId([nth; 16]));
    assert_eq!(view.members(&VAULT, &SCOPE, 0, None, 9).unwrap(), [member(1), member(2)]);
    assert_eq!(view.members(&VAULT, &SCOPE, 0, None, 1).unwrap(), [member(1)]);
    assert_eq!(view.members(&VAULT, &SCOPE, 0, Some(member(1)), 9).unwrap(), [member(2)]);
    assert_eq!(view.members(&VAULT, &SCOPE, 0, Some(member(2)), 9).unwrap(), []);
    assert_eq!(view.members(&VAULT, &SCOPE, 1, None, 9).unwrap(), []);
    let lines = view.lines(&VAULT, 0, &SCOPE, 0).unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (line.record, line.line[0])).collect();
    assert_eq!(lines, [(RecordTag([1; 16]), 110), (RecordTag([2; 16]), 120)]);

    assert_eq!(view.batch(&VAULT, 0, BatchId([5; 16])).unwrap(), Some(package(5)));
    assert_eq!(view.batch(&VAULT, 1, BatchId([5; 16])).unwrap(), None);
    // Once more it does nothing.
    assert_eq!(store.apply_batch(0, &package(5), none_erased).unwrap(), Applied::default());
    assert_eq!(store.erase(&VAULT, &RecordTag([1; 16]), &VersionId([1; 16])).unwrap(), 2);
    assert_eq!(store.erase(&VAULT, &RecordTag([1; 16]), &VersionId([1; 16])).unwrap(), 0);
    assert_eq!((found(&store, 1, 2), found(&store, 1, 3)), (None, None));
    assert_eq!(found(&store, 2, 2), Some(slot(20).slot));
    assert_eq!(store.view().unwrap().lines(&VAULT, 0, &SCOPE, 0).unwrap().len(), 1);
    // Whoever misses the batch gets what is left of it, and sees that it is of the batch.
    let copy = store.view().unwrap().batch(&VAULT, 0, BatchId([5; 16])).unwrap().unwrap();
    assert!(copy.batch() == package(5).batch() && !copy.is_whole());
    let other = open(&MemDisk::new(ROOM)).unwrap();
    assert_eq!(other.apply_batch(0, &copy, none_erased).unwrap(), Applied { slots: 1, refused: 0 });
    // What is erased does not come back with another batch.
    let erased = |record: &RecordTag, _: &VersionId| {
        Ok(if *record == RecordTag([1; 16]) { OpenScopes::None } else { OpenScopes::All })
    };
    assert_eq!(store.apply_batch(1, &package(6), erased).unwrap().slots, 0);
    assert_eq!(found(&store, 1, 2), None);
}

#[test]
fn of_two_entries_of_a_version_the_first_counts() {
    let store = open(&MemDisk::new(ROOM)).unwrap();
    store.apply_batch(0, &package(5), none_erased).unwrap();
    let slots = vec![slot(30), slot(31), slot(32)];
    let other = entry(1, 9, &slots);
    let lying =
        BatchPackage { entries: vec![other], slots: slots.iter().cloned().map(Some).collect(), ..package(6) };
    assert_eq!(store.apply_batch(1, &lying, none_erased).unwrap(), Applied { slots: 0, refused: 1 });
    assert_eq!(found(&store, 1, 4), None);
    // The same commitments with another slot are more of the same.
    let more = BatchPackage {
        entries: vec![entry(1, 1, &slots)],
        slots: slots.iter().cloned().map(Some).collect(),
        ..package(7)
    };
    assert_eq!(store.apply_batch(2, &more, none_erased).unwrap(), Applied { slots: 1, refused: 0 });
    assert_eq!(found(&store, 1, 2), Some(slot(10).slot), "what is there stays");
    assert_eq!(found(&store, 1, 4), Some(slot(32).slot));
}

fn share() -> (Dealing, SealKey) {
    let committee = Committee::new((0..4).map(|nth| PublicKey([nth; 32])).collect()).unwrap();
    (PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[1; 32]), SealKey::from_seed(&[2; 32]))
}

fn all_bytes(disk: &MemDisk) -> Vec<u8> {
    let file = disk.open(FILE).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// C13, at rest: nothing of a share or a slot is in the file, and with another key nothing opens.
#[test]
fn c13_what_is_at_rest_is_sealed_and_a_renewed_key_leaves_only_what_counts() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let (dealing, audit) = share();
    store.take_share(&VAULT, (0, 0), &dealing.shares[1], &dealing.commitments, audit.public()).unwrap();
    store.apply_batch(0, &package(5), none_erased).unwrap();
    let held = store.view().unwrap().share(&VAULT, (0, 0)).unwrap().unwrap();
    assert!(held.share == dealing.shares[1] && held.commitments == dealing.commitments);
    assert_eq!(held.audit, *audit.public());
    assert!(store.view().unwrap().share(&VAULT, (0, 1)).unwrap().is_none());
    let (bytes, secret) = (all_bytes(&disk), dealing.shares[1].to_bytes());
    assert!(!bytes.windows(32).any(|at| *at == secret[secret.len() - 32..]));
    for secret in [10, 110] {
        assert!(!bytes.windows(32).any(|at| at == [secret; 32]), "no slot and no line in the clear");
    }

    let old = disk.open("access.key").unwrap();
    let mut old_key = [0; 32];
    old.read_at(0, &mut old_key).unwrap();
    store.erase(&VAULT, &RecordTag([1; 16]), &VersionId([1; 16])).unwrap();
    store.renew_key().unwrap();
    let mut new_key = [0; 32];
    disk.open("access.key").unwrap().read_at(0, &mut new_key).unwrap();
    assert_ne!(old_key, new_key);
    assert_eq!(disk.list().unwrap().iter().filter(|name| name.starts_with("access.key")).count(), 1);
    assert_eq!((found(&store, 1, 2), found(&store, 2, 2)), (None, Some(slot(20).slot)));
    assert_eq!(store.view().unwrap().lines(&VAULT, 0, &SCOPE, 0).unwrap()[0].line, [120; 50]);
    assert!(store.view().unwrap().share(&VAULT, (0, 0)).unwrap().is_some());
    // A new dealing takes the place of the old.
    store.take_share(&VAULT, (0, 1), &dealing.shares[1], &dealing.commitments, audit.public()).unwrap();
    assert!(store.view().unwrap().share(&VAULT, (0, 0)).unwrap().is_none());
    let seal = store.seal_key().unwrap();
    store.renew_key().unwrap();
    drop(store);
    assert_eq!(open(&disk).unwrap().seal_key().unwrap().public(), seal.public());
    disk.remove("access.key").unwrap();
    assert!(matches!(open(&disk), Err(AccessStoreError::WrongKey)));
}

/// What a keyslot is under has no tag: its hash in the batch's entry says that it is whole, and of its place.
#[test]
fn a_damaged_keyslot_is_not_given() {
    let store = open(&MemDisk::new(ROOM)).unwrap();
    store.apply_batch(0, &package(5), none_erased).unwrap();
    let row = |nth: u8, scope: u8| {
        let entry = tables::entry_key(&VAULT, &RecordTag([nth; 16]), &VersionId([nth; 16]));
        tables::slot_key(&entry, &ScopeTag([scope; 16]), 0)
    };
    let put = |key: &[u8; 84], number: u64, at: u32, bytes: &[u8; Keyslot::LEN]| {
        let txn = store.write().unwrap();
        txn.open_table(tables::SLOTS).unwrap().insert(key, (number, at, bytes)).unwrap();
        txn.commit().unwrap();
    };
    let read = || {
        let txn = store.0.database.begin_read().unwrap();
        let found = txn.open_table(tables::SLOTS).unwrap().get(&row(1, 2)).unwrap().unwrap();
        let (number, at, bytes) = found.value();
        (number, at, *bytes)
    };
    let given = || {
        let view = store.view().unwrap();
        view.slot(&VAULT, &RecordTag([1; 16]), &VersionId([1; 16]), &ScopeTag([2; 16]), 0)
    };
    let (number, at, bytes) = read();
    assert!(given().unwrap().is_some() && !bytes.windows(32).any(|some| some == [10; 32]));
    for nth in 0..Keyslot::LEN {
        let mut changed = bytes;
        changed[nth] ^= 1;
        put(&row(1, 2), number, at, &changed);
        assert!(matches!(given(), Err(AccessStoreError::Damaged("slots"))), "byte {nth}");
    }
    // Of another place, or said to be of another entry.
    put(&row(1, 3), number, at, &bytes);
    let moved =
        store.view().unwrap().slot(&VAULT, &RecordTag([1; 16]), &VersionId([1; 16]), &ScopeTag([3; 16]), 0);
    assert!(matches!(moved, Err(AccessStoreError::Damaged("slots"))));
    for (number, at) in [(number + 1, at), (number, at + 1), (number, at + 9)] {
        put(&row(1, 2), number, at, &bytes);
        assert!(matches!(given(), Err(AccessStoreError::Damaged("slots"))), "{number} {at}");
    }
    put(&row(1, 2), number, at, &bytes);
    assert_eq!(given().unwrap().unwrap().1, slot(10).slot);
}

#[test]
fn a_crash_at_any_moment_of_a_renewal_leaves_a_key_that_opens() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    store.apply_batch(0, &package(5), none_erased).unwrap();
    drop(store);
    for seed in 0.. {
        let crashing = disk.after_power_loss(Survivors::Everything);
        let store = open(&crashing).unwrap();
        crashing.lose_power_at(crashing.changes() + seed);
        let renewed = store.renew_key();
        drop(store);
        let image = crashing.after_power_loss(Survivors::Random(seed));
        let store = open(&image).unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert_eq!(found(&store, 1, 2), Some(slot(10).slot), "{seed}: {renewed:?}");
        if !crashing.is_down() {
            assert!(seed > 10, "it did crash");
            return;
        }
    }
}

#[test]
fn the_log_is_a_chain_and_a_request_is_answered_once() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let grant = GrantId([3; 16]);
    let now = |seconds: u64| Timestamp::from_unix_micros(1_800_000_000_000_000 + seconds * 1_000_000);
    let log = |nth: u8, sequence, records, at| {
        store.log(&Logged {
            vault: &VAULT,
            grant: &grant,
            nonce: &[nth; 16],
            sequence,
            sealed: &[nth; 40],
            records,
            emergency: None,
            now: at,
        })
    };
    let first = log(1, 0, 5, now(0)).unwrap();
    let second = log(2, 1, 6, now(1)).unwrap();
    let view = store.view().unwrap();
    assert_eq!(view.log_end(&VAULT).unwrap(), second);
    assert_eq!(second.head, crate::message::access::desk::chain(&first.head, &[2; 40]));
    assert_eq!(view.log_rows(&VAULT, 1, 9).unwrap(), [LogRow { sequence: 1, sealed: vec![2; 40] }]);
    assert_eq!(view.log_head().unwrap().size, 2);
    let leaves = [log::leaf(&VAULT, &first.head), log::leaf(&VAULT, &second.head)];
    assert_eq!(view.log_head().unwrap().root, crate::crypto::log_tree::root(leaves));
    assert!(view.is_answered(&grant, &[1; 16]).unwrap() && !view.is_answered(&grant, &[3; 16]).unwrap());
    assert!(!view.is_answered(&GrantId([4; 16]), &[1; 16]).unwrap());
    assert_eq!((view.opened(&grant, now(2)).unwrap(), view.opened(&grant, now(86_400)).unwrap()), (11, 0));
    // Nonces are forgotten when the window is past, and what was opened when the day is.
    log(3, 2, 7, now(2 + 4 * OPEN_WINDOW_MICROS / 1_000_000)).unwrap();
    let view = store.view().unwrap();
    assert!(!view.is_answered(&grant, &[1; 16]).unwrap() && view.is_answered(&grant, &[3; 16]).unwrap());
    assert_eq!(view.opened(&grant, now(3)).unwrap(), 18);
    log(4, 3, 1, now(86_400)).unwrap();
    assert_eq!(store.view().unwrap().opened(&grant, now(86_401)).unwrap(), 1);
    // Acknowledged is durable.
    let crashed = disk.after_power_loss(Survivors::Nothing);
    let again = open(&crashed).unwrap();
    assert_eq!(again.view().unwrap().log_end(&VAULT).unwrap().size, 4);
}

#[test]
fn packages_wait_for_the_ledger_and_are_forgotten_if_it_never_names_them() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let at = Timestamp::from_unix_millis;
    let hash = |nth| Hash([nth; 32]);
    store.deposit(&VAULT, &hash(1), PackageKind::Dealing, b"one", at(1)).unwrap();
    store.deposit(&VAULT, &hash(2), PackageKind::GrantBody, b"two", at(2)).unwrap();
    store.deposit(&VAULT, &hash(3), PackageKind::Batch, b"three", at(9)).unwrap();
    let package =
        |store: &AccessStore, nth, kind| store.view().unwrap().package(&VAULT, &hash(nth), kind).unwrap();
    assert_eq!(package(&store, 1, PackageKind::Dealing), Some(b"one".to_vec()));
    assert_eq!(package(&store, 1, PackageKind::Batch), None);
    assert_eq!(store.forget_packages(at(5), |_, found| Ok(*found == hash(2))).unwrap(), 1);
    assert_eq!(package(&store, 1, PackageKind::Dealing), None);
    assert!(package(&store, 2, PackageKind::GrantBody).is_some());
    assert!(package(&store, 3, PackageKind::Batch).is_some());
    store.note_revocation(&VAULT, &GrantId([1; 16]), b"signed").unwrap();
    store.reach(Height(7)).unwrap();
    assert_eq!(store.view().unwrap().cursor().unwrap(), Some(Height(7)));
    let crashed = open(&disk.after_power_loss(Survivors::Nothing)).unwrap();
    let view = crashed.view().unwrap();
    assert!(view.is_revocation_seen(&VAULT, &GrantId([1; 16])).unwrap());
    assert!(!view.is_revocation_seen(&VAULT, &GrantId([2; 16])).unwrap());
    assert!(package(&crashed, 3, PackageKind::Batch).is_some());
}

#[test]
fn what_is_opened_in_an_emergency_is_counted_and_waits_for_the_ledger_across_a_crash() {
    use crate::ledger::access::EmergencyUse;
    use crate::message::access::EmergencyOpening;
    use crate::types::TransactionId;
    let (disk, grant, request) = (MemDisk::new(ROOM), GrantId([3; 16]), TransactionId([4; 32]));
    let now = Timestamp::from_unix_micros(1_800_000_000_000_000);
    let log = |store: &AccessStore, nth: u8, sequence, records, emergency: bool| {
        let open = Hash([nth; 32]);
        let (nonce, sealed) = ([nth; 16], [nth; 40]);
        let emergency = emergency.then_some((&request, &open));
        let (vault, grant) = (&VAULT, &grant);
        let logged =
            Logged { vault, grant, nonce: &nonce, sequence, sealed: &sealed, records, emergency, now };
        store.log(&logged).unwrap();
    };
    let store = open(&disk).unwrap();
    log(&store, 1, 0, 0, true);
    log(&store, 2, 1, 3, true);
    log(&store, 5, 2, 7, false);
    store.note_veto(&VAULT, &TransactionId([9; 32]), b"veto").unwrap();
    drop(store);
    // What was answered was durable before: nothing of it is lost with the power.
    let disk = disk.after_power_loss(Survivors::Nothing);
    let store = open(&disk).unwrap();
    let view = store.view().unwrap();
    assert_eq!(view.opened_in(&VAULT, &request).unwrap(), EmergencyUse { records: 3, requests: 2 });
    let other = TransactionId([9; 32]);
    assert_eq!(view.opened_in(&VAULT, &other).unwrap(), EmergencyUse::default());
    assert!(view.is_veto_seen(&VAULT, &other).unwrap() && !view.is_veto_seen(&VAULT, &request).unwrap());
    assert!(!view.is_veto_seen(&VaultId([9; 32]), &other).unwrap());
    let opening =
        |nth: u8, records| EmergencyOpening { vault: VAULT, request, open: Hash([nth; 32]), records };
    assert_eq!(view.unsaid(9).unwrap(), [opening(1, 0), opening(2, 3)]);
    assert_eq!(view.unsaid(1).unwrap(), [opening(1, 0)]);
    store.said(&[opening(1, 0)]).unwrap();
    assert_eq!(store.view().unwrap().unsaid(9).unwrap(), [opening(2, 3)]);
    assert_eq!(store.forget_emergencies(|_, id| Ok(*id == request)).unwrap(), 1);
    let view = store.view().unwrap();
    assert!(!view.is_veto_seen(&VAULT, &other).unwrap());
    assert_eq!(view.opened_in(&VAULT, &request).unwrap().records, 3);
    assert_eq!(store.forget_emergencies(|_, _| Ok(false)).unwrap(), 1);
    assert_eq!(store.view().unwrap().opened_in(&VAULT, &request).unwrap(), EmergencyUse::default());
}

#[test]
fn what_guardians_release_is_kept_for_its_request_the_last_of_each() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let (request, other, vault) = (Hash([1; 32]), Hash([2; 32]), VaultId([9; 32]));
    for (of, place, request, bytes) in [
        (VAULT, 1, request, b"one"),
        (VAULT, 2, request, b"two"),
        (VAULT, 2, request, b"new"),
        (VAULT, 255, other, b"odd"),
        (vault, 3, request, b"far"),
    ] {
        store.keep_release(&of, place, &request, bytes).unwrap();
    }
    let kept = |store: &AccessStore, request| store.view().unwrap().releases(&VAULT, request).unwrap();
    assert_eq!(kept(&store, &request), [b"one", b"new"]);
    assert_eq!(kept(&store, &other), [b"odd"]);
    // A guardian that stands behind another request has released nothing for the one before.
    store.keep_release(&VAULT, 1, &other, b"1st").unwrap();
    assert_eq!(kept(&store, &request), [b"new"]);
    drop(store);
    let again = open(&disk.after_power_loss(Survivors::Nothing)).unwrap();
    assert_eq!(kept(&again, &other), [b"1st", b"odd"]);
}
