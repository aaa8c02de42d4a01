use super::*;
use crate::crypto::frame::DekCommit;
use crate::ledger::rows::{ACCESS, GENERATIONS, GRANTS, LOG_HEADS, Sharing};
use crate::message::access::{EntryBatch, Grant, GrantedScope, KeySharing, LogHead, RecordEntry, Rights};
use crate::types::limits::MAX_VAULT_GRANTS;

/// A world in which author 9 owns vault 1, whose key is shared.
pub(super) fn shared() -> World {
    let mut world = World::new(4);
    world.accept(9, create(1));
    let sharing = sharing(&world, 0);
    world.accept(9, sharing);
    world
}

pub(super) fn sharing(world: &World, dealing: u32) -> Action {
    let roster = query::next_roster(&world.state).unwrap().hash();
    Action::ShareKey(KeySharing {
        vault: vault(1),
        dealing,
        roster,
        commitments: Hash([1; 32]),
        package: Hash([2; 32]),
    })
}

pub(super) fn grant_of(nth: u8) -> Grant {
    Grant {
        vault: vault(1),
        grant: GrantId([nth; 16]),
        grantee: pair(100 + nth).public(),
        scopes: vec![GrantedScope { scope: ScopeTag([7; 16]), first: 0, last: 3 }],
        rights: Rights::READ.and(Rights::LIST),
        not_before: Timestamp::from_unix_millis(0),
        expires: Timestamp::from_unix_millis(9_000),
        quota: Some(100),
        append_bytes: None,
        body: Hash([3; 32]),
        emergency: None,
    }
}

fn grant(nth: u8) -> Action {
    Action::Grant(grant_of(nth))
}

pub(super) const fn revoke(nth: u8) -> Action {
    Action::Revoke { vault: VaultId([1; 32]), grant: GrantId([nth; 16]) }
}

pub(super) fn batch(nth: u8) -> Action {
    let entry = RecordEntry {
        record: RecordTag([nth; 16]),
        version: VersionId([nth; 16]),
        dek_commit: DekCommit([4; 32]),
        header: Hash([5; 32]),
        slots: vec![],
    };
    Action::AddEntries(EntryBatch::of(vault(1), BatchId([nth; 16]), &[entry]))
}

fn access_of(world: &World) -> crate::ledger::rows::Access {
    ACCESS.get(&world.state, &vault(1)).unwrap().unwrap()
}

#[test]
fn a_key_is_shared_with_those_who_decide_and_each_sharing_is_of_another_epoch() {
    let mut world = World::new(4);
    world.accept(9, create(1));
    assert_eq!(world.refusal(9, sharing(&world, 1)), Rejection::WrongDealing { expected: 0 });
    assert_eq!(world.refusal(8, sharing(&world, 0)), Rejection::NotTheOwner);
    let Action::ShareKey(other) = sharing(&world, 0) else { unreachable!() };
    let moved = Action::ShareKey(KeySharing { roster: Hash([9; 32]), ..other });
    assert_eq!(world.refusal(9, moved), Rejection::RosterMoved);
    let nowhere = Action::ShareKey(KeySharing { vault: vault(2), ..other });
    assert_eq!(world.refusal(9, nowhere), Rejection::NoSuchVault);
    for (dealing, epoch) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let action = sharing(&world, dealing);
        world.accept(9, action);
        let Sharing { dealing: is, epoch: nth, roster, .. } = access_of(&world).sharing;
        assert_eq!((is, nth), (dealing, epoch));
        assert_eq!(roster, query::next_roster(&world.state).unwrap().hash());
    }
    for wrong in [0, 3] {
        assert_eq!(world.refusal(9, sharing(&world, wrong)), Rejection::WrongDealing { expected: 2 });
    }
    // Who decides on the next block is another: what was dealt for those before is of no use.
    let stale = sharing(&world, 1);
    let change = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    world.accept(1, change);
    assert_eq!(world.refusal(9, stale), Rejection::RosterMoved);
    let fresh = sharing(&world, 1);
    world.accept(9, fresh);
}

#[test]
fn a_grant_is_given_once_and_taken_back_for_good() {
    let mut world = World::new(4);
    world.accept(9, create(1));
    assert_eq!(world.refusal(9, grant(1)), Rejection::NotShared);
    assert_eq!(world.refusal(9, revoke(1)), Rejection::NoSuchGrant);
    let mut world = shared();
    assert_eq!(world.refusal(8, grant(1)), Rejection::NotTheOwner);
    world.accept(9, grant(1));
    assert_eq!(world.refusal(9, grant(1)), Rejection::GrantExists);
    let same_key = Action::Grant(Grant { grant: GrantId([2; 16]), ..grant_of(1) });
    assert_eq!(world.refusal(9, same_key), Rejection::GranteeKnown);
    assert_eq!(access_of(&world).grants, 1);
    assert_eq!(world.refusal(8, revoke(1)), Rejection::NotTheOwner);
    assert_eq!(world.refusal(9, revoke(2)), Rejection::NoSuchGrant);
    let at = world.height();
    world.accept(9, revoke(1));
    assert_eq!(world.refusal(9, revoke(1)), Rejection::AlreadyRevoked);
    assert_eq!(world.refusal(9, grant(1)), Rejection::GrantExists, "a revoked grant does not come back");
    let row = GRANTS.get(&world.state, &(vault(1), GrantId([1; 16]))).unwrap().unwrap();
    assert_eq!((row.revoked, row.grant), (Some(at), grant_of(1)));
    assert_eq!(access_of(&world).grants, 0);
}

#[test]
fn a_vault_has_no_more_grants_than_are_allowed() {
    let mut world = shared();
    let mut row = access_of(&world);
    row.grants = MAX_VAULT_GRANTS;
    // The sum over all rows is not kept here, so no block is made of it.
    world.state.insert(ACCESS.key(&vault(1)), crate::message::canonical::Canonical::encode(&row));
    let signed = world.sign(9, grant(1));
    assert_eq!(precheck(&world.state, &signed), Ok(Some(Rejection::TooManyGrants)));
    row.grants -= 1;
    world.state.insert(ACCESS.key(&vault(1)), crate::message::canonical::Canonical::encode(&row));
    assert_eq!(precheck(&world.state, &signed), Ok(None));
}

#[test]
fn entries_come_in_batches_each_once_from_writers() {
    let mut world = World::new(4);
    world.accept(9, create(1));
    assert_eq!(world.refusal(9, batch(1)), Rejection::NotShared);
    let mut world = shared();
    assert_eq!(world.refusal(8, batch(1)), Rejection::NotAWriter);
    world.accept(9, batch(1));
    assert_eq!(world.refusal(9, batch(1)), Rejection::BatchExists);
    world.accept(9, Action::AddWriter { vault: vault(1), writer: pair(8).public() });
    world.accept(8, batch(2));
    let found = query::batches(&world.state, &vault(1), None, 9).unwrap();
    let ids: Vec<_> = found.iter().map(|(number, row)| (*number, row.batch.batch)).collect();
    assert_eq!(ids, [(0, BatchId([1; 16])), (1, BatchId([2; 16]))]);
    assert_eq!(query::batches(&world.state, &vault(1), Some(0), 9).unwrap(), found[1..]);
}

#[test]
fn what_is_erased_stays_so() {
    let mut world = shared();
    let erase =
        |nth| Action::Erase { vault: vault(1), record: RecordTag([nth; 16]), version: VersionId([nth; 16]) };
    assert_eq!(world.refusal(8, erase(1)), Rejection::NotTheOwner);
    world.accept(9, erase(1));
    assert_eq!(world.refusal(9, erase(1)), Rejection::AlreadyErased);
    world.accept(9, erase(2));
    let is_erased = |nth| {
        query::is_erased(&world.state, &vault(1), &RecordTag([nth; 16]), &VersionId([nth; 16])).unwrap()
    };
    assert!(is_erased(1) && is_erased(2) && !is_erased(3));
}

#[test]
fn generations_of_a_scope_count_up() {
    let mut world = shared();
    let scope = ScopeTag([7; 16]);
    let bump = |generation| Action::BumpScope { vault: vault(1), scope, generation };
    for wrong in [0, 2] {
        assert_eq!(world.refusal(9, bump(wrong)), Rejection::WrongGeneration { expected: 1 });
    }
    assert_eq!(world.refusal(8, bump(1)), Rejection::NotTheOwner);
    world.accept(9, bump(1));
    world.accept(9, bump(2));
    assert_eq!(GENERATIONS.get(&world.state, &(vault(1), scope)), Ok(Some(2)));
}

#[test]
fn heads_of_access_logs_only_grow_and_are_of_static_nodes() {
    let mut world = World::new(4);
    let head = |size| Action::LogHead(LogHead { size, root: LogHash([1; 32]) });
    assert_eq!(world.refusal(9, head(1)), Rejection::NotAMember { key: pair(9).public() });
    world.accept(1, head(5));
    for old in [0, 5] {
        assert_eq!(world.refusal(1, head(old)), Rejection::LogBehind { size: 5 });
    }
    world.accept(1, head(6));
    world.accept(2, head(1));
    let found = LOG_HEADS.get(&world.state, &pair(1).public()).unwrap().unwrap();
    assert_eq!(found.size, 6);
}

#[test]
fn what_a_vault_does_with_access_is_charged_to_it() {
    let mut world = shared();
    let before = crate::ledger::rows::VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().usage.bytes;
    let len = world.sign(9, grant(1)).bytes().len();
    world.accept(9, grant(1));
    let after = crate::ledger::rows::VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().usage.bytes;
    assert_eq!(after - before, u64::try_from(len).unwrap());
}
