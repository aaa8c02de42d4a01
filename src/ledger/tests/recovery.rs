//! Guardians, the owner's objection over the ledger's time, and the rotation of a vault's keys.

use std::time::Duration;

use super::access::{grant_of, revoke, shared};
use super::*;
use crate::ledger::recovery::{
    GUARDIANS, KEY_GENERATIONS, KeyGeneration, Progress, Recovery, is_outdated, progress, recoveries,
};
use crate::ledger::rows::{ACCESS, GRANTS, VAULTS, WRITERS};
use crate::message::access::recovery_action::next_key_hash;
use crate::message::access::{Grant, Guardian, GuardianSet, RecoveryAction};

/// The owner, and three guardians.
const OWNER: u8 = 9;
const GUARDIANS_OF: [u8; 3] = [31, 32, 33];
const DELAY: Duration = Duration::from_secs(10);

fn set(number: u32, guardians: &[u8]) -> GuardianSet {
    let guardian = |nth: &u8| Guardian { key: pair(*nth).public(), part: Hash([*nth; 32]) };
    GuardianSet {
        vault: vault(1),
        number,
        threshold: 2,
        delay_micros: u64::try_from(DELAY.as_micros()).unwrap(),
        commitment: Hash([7; 32]),
        guardians: guardians.iter().map(guardian).collect(),
    }
}

fn name(number: u32, guardians: &[u8]) -> Action {
    Action::Recovery(RecoveryAction::SetGuardians(set(number, guardians)))
}

fn request(nth: u8) -> Hash {
    Hash([nth; 32])
}

fn approve(set: u32, nth: u8) -> Action {
    Action::Recovery(RecoveryAction::Approve { vault: vault(1), set, request: request(nth) })
}

fn veto(nth: u8) -> Action {
    Action::Recovery(RecoveryAction::Veto { vault: vault(1), request: request(nth) })
}

/// A world in which author 9 owns vault 1 and named three guardians, of whom two are needed.
fn guarded() -> World {
    let mut world = World::new(4);
    world.accept(OWNER, create(1));
    world.accept(OWNER, name(1, &GUARDIANS_OF));
    world
}

fn open(world: &World) -> Vec<Recovery> {
    recoveries(&world.state, &vault(1)).unwrap()
}

fn progress_of(world: &World, nth: u8) -> Option<Progress> {
    progress(&world.state, &vault(1), &request(nth)).unwrap().map(|(_, progress)| progress)
}

fn wait(world: &mut World, time: Duration) {
    world.clock = query::tip(&world.state).unwrap().record.time + time;
    world.blocks(1);
}

#[test]
fn guardians_are_named_by_the_owner_one_set_after_the_other() {
    let mut world = World::new(4);
    assert_eq!(world.refusal(OWNER, name(1, &GUARDIANS_OF)), Rejection::NoSuchVault);
    world.accept(OWNER, create(1));
    assert_eq!(world.refusal(8, name(1, &GUARDIANS_OF)), Rejection::NotTheOwner);
    for wrong in [0, 2] {
        let refusal = world.refusal(OWNER, name(wrong, &GUARDIANS_OF));
        assert_eq!(refusal, Rejection::WrongGuardianSet { expected: 1 });
    }
    assert_eq!(world.refusal(31, approve(1, 1)), Rejection::NoGuardians);
    let at = world.height();
    world.accept(OWNER, name(1, &GUARDIANS_OF));
    let row = GUARDIANS.get(&world.state, &vault(1)).unwrap().unwrap();
    assert_eq!((row.set, row.height), (set(1, &GUARDIANS_OF), at));
    let replayed = world.refusal(OWNER, name(1, &GUARDIANS_OF));
    assert_eq!(replayed, Rejection::WrongGuardianSet { expected: 2 });
    world.accept(OWNER, name(2, &[31, 40]));
}

#[test]
fn only_guardians_of_the_set_of_now_approve_each_once() {
    let mut world = guarded();
    for stranger in [8, OWNER, 1] {
        assert_eq!(world.refusal(stranger, approve(1, 1)), Rejection::NotAGuardian);
    }
    assert_eq!(world.refusal(31, approve(2, 1)), Rejection::WrongGuardianSet { expected: 1 });
    let first = world.sign(31, approve(1, 1));
    assert_eq!(world.block(std::slice::from_ref(&first)), []);
    assert_eq!(world.refusal(31, approve(1, 1)), Rejection::AlreadyApproved);
    assert_eq!(world.refusal_of(&first), Rejection::WrongNonce { expected: 1 }, "a replay");
    assert_eq!(open(&world)[0].approvals, [1]);
    world.accept(33, approve(1, 1));
    assert_eq!(open(&world)[0].approvals, [1, 3]);
    // Guardians named anew: what those of before approved is over, and they approve nothing more.
    world.accept(OWNER, name(2, &[31, 40, 41]));
    assert_eq!(open(&world), []);
    assert_eq!(progress_of(&world, 1), None);
    assert_eq!(world.refusal(33, approve(1, 1)), Rejection::NotAGuardian);
    assert_eq!(world.refusal(31, approve(1, 1)), Rejection::WrongGuardianSet { expected: 2 });
    world.accept(31, approve(2, 1));
}

#[test]
fn a_request_is_due_with_enough_guardians_after_the_delay_and_without_a_veto() {
    let mut world = guarded();
    // The ledger stood still for long: that is no time to object.
    world.clock = query::tip(&world.state).unwrap().record.time + 10 * DELAY;
    world.accept(31, approve(1, 1));
    let until = world.clock + DELAY;
    assert_eq!(progress_of(&world, 1), Some(Progress::Approving { have: 1, need: 2 }));
    // Time alone is not enough.
    wait(&mut world, DELAY);
    assert_eq!(progress_of(&world, 1), Some(Progress::Approving { have: 1, need: 2 }));
    world.accept(32, approve(1, 1));
    assert_eq!(progress_of(&world, 1), Some(Progress::Due));

    // Nor are guardians: of another request.
    world.accept(33, approve(1, 2));
    let next = query::tip(&world.state).unwrap().record.time + DELAY;
    world.accept(31, approve(1, 2));
    assert_eq!(progress_of(&world, 2), Some(Progress::Waiting { until: next }));
    assert!(next > until);
    world.clock = Timestamp::from_unix_micros(next.unix_micros() - 1);
    world.blocks(1);
    assert_eq!(progress_of(&world, 2), Some(Progress::Waiting { until: next }));
    wait(&mut world, Duration::from_micros(1));
    assert_eq!(progress_of(&world, 2), Some(Progress::Due));
    // The guardian that went over to the second does not stand behind the first any more.
    assert_eq!(progress_of(&world, 1), Some(Progress::Approving { have: 1, need: 2 }));
}

#[test]
fn the_owner_objects_before_and_after_it_is_due() {
    let mut world = guarded();
    assert_eq!(world.refusal(OWNER, veto(1)), Rejection::NoSuchRecovery);
    world.accept(31, approve(1, 1));
    world.accept(32, approve(1, 1));
    for stranger in [8, 31] {
        assert_eq!(world.refusal(stranger, veto(1)), Rejection::NotTheOwner);
    }
    world.accept(OWNER, veto(1));
    assert_eq!(world.refusal(OWNER, veto(1)), Rejection::Vetoed);
    assert_eq!(world.refusal(33, approve(1, 1)), Rejection::Vetoed);
    wait(&mut world, DELAY);
    assert_eq!(progress_of(&world, 1), Some(Progress::Vetoed), "for good");

    // Another one, which was due already.
    world.accept(31, approve(1, 2));
    world.accept(32, approve(1, 2));
    wait(&mut world, DELAY);
    assert_eq!(progress_of(&world, 2), Some(Progress::Due));
    world.accept(OWNER, veto(2));
    assert_eq!(progress_of(&world, 2), Some(Progress::Vetoed));
    let nowhere = RecoveryAction::Veto { vault: vault(2), request: request(1) };
    assert_eq!(world.refusal(OWNER, Action::Recovery(nowhere)), Rejection::NoSuchVault);
}

#[test]
fn a_guardian_stands_behind_one_request_so_that_there_are_never_more_than_guardians() {
    let mut world = guarded();
    for nth in 1..=20 {
        world.accept(GUARDIANS_OF[usize::from(nth) % 3], approve(1, nth));
        assert!(open(&world).len() <= GUARDIANS_OF.len());
    }
    let standing: usize = open(&world).iter().map(|row| row.approvals.len()).sum();
    assert_eq!(standing, 3);
    // One that was objected to is gone with its last guardian, and begins anew if it comes back.
    let old = open(&world)[0].request;
    world.accept(OWNER, Action::Recovery(RecoveryAction::Veto { vault: vault(1), request: old }));
    for nth in [101, 102, 103] {
        world.accept(GUARDIANS_OF[usize::from(nth) % 3], approve(1, nth));
    }
    assert!(open(&world).iter().all(|row| row.vetoed.is_none() && row.request != old));
}

#[test]
fn who_approves_objects_or_rotates_pays_itself() {
    let mut world = guarded();
    let used = |world: &World| VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().usage.bytes;
    let before = used(&world);
    world.accept(31, approve(1, 1));
    world.accept(OWNER, veto(1));
    assert_eq!(used(&world), before);
    world.accept(OWNER, pledge(10, 1));
    let pledged = used(&world);
    assert!(pledged > before);
    world.accept(10, rotate(1, 11, 2));
    assert_eq!(used(&world), pledged);
}

fn hash_of(key: u8, generation: u32) -> Hash {
    next_key_hash(&vault(1), generation, &pair(key).public())
}

fn pledge(key: u8, generation: u32) -> Action {
    Action::Recovery(RecoveryAction::PledgeKey { vault: vault(1), next: hash_of(key, generation) })
}

fn rotate(generation: u32, next: u8, of: u32) -> Action {
    Action::Recovery(RecoveryAction::Rotate { vault: vault(1), generation, next: hash_of(next, of) })
}

#[test]
fn a_key_is_pledged_once_and_only_it_takes_the_vault_over() {
    let mut world = World::new(4);
    assert_eq!(world.refusal(OWNER, pledge(10, 1)), Rejection::NoSuchVault);
    assert_eq!(world.refusal(10, rotate(1, 11, 2)), Rejection::NoSuchVault);
    world.accept(OWNER, create(1));
    assert_eq!(world.refusal(8, pledge(10, 1)), Rejection::NotTheOwner);
    assert_eq!(world.refusal(10, rotate(1, 11, 2)), Rejection::NotPledged);
    world.accept(OWNER, pledge(10, 1));
    assert_eq!(world.refusal(OWNER, pledge(66, 1)), Rejection::AlreadyPledged, "by a thief of the key");
    for author in [OWNER, 66] {
        assert_eq!(world.refusal(author, rotate(1, 66, 2)), Rejection::NotThePledgedKey);
    }
    for wrong in [0, 2] {
        let refusal = world.refusal(10, rotate(wrong, 11, 2));
        assert_eq!(refusal, Rejection::WrongKeyGeneration { expected: 1 });
    }
    world.accept(OWNER, Action::AddWriter { vault: vault(1), writer: pair(8).public() });
    let at = world.height();
    world.accept(10, rotate(1, 11, 2));
    let row = VAULTS.get(&world.state, &vault(1)).unwrap().unwrap();
    assert_eq!((row.owner, row.writers), (pair(10).public(), 0));
    assert_eq!(WRITERS.scan(&world.state, &vault(1), None, 9).unwrap(), []);
    let keys = KEY_GENERATIONS.get(&world.state, &vault(1)).unwrap().unwrap();
    assert_eq!(keys, KeyGeneration { generation: 1, next: hash_of(11, 2), since: at, dealing: None });

    // The old key, and whom it let write, do nothing any more.
    assert_eq!(world.refusal(OWNER, pledge(66, 2)), Rejection::NotTheOwner);
    let anchored = Action::Anchor(anchor(1, None, 1));
    for old in [OWNER, 8] {
        assert_eq!(world.refusal(old, anchored.clone()), Rejection::NotAWriter);
    }
    assert_eq!(world.refusal(OWNER, name(1, &GUARDIANS_OF)), Rejection::NotTheOwner);
    assert_eq!(world.refusal(10, rotate(1, 11, 2)), Rejection::WrongKeyGeneration { expected: 2 }, "twice");
    assert_eq!(world.refusal(10, rotate(2, 12, 3)), Rejection::NotThePledgedKey);
    // The new one does, and the one after it.
    world.accept(10, anchored);
    world.accept(11, rotate(2, 12, 3));
    assert_eq!(VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().owner, pair(11).public());
}

#[test]
fn grants_of_before_a_rotation_are_over_until_the_new_key_gives_them_again() {
    let mut world = shared();
    world.accept(OWNER, Action::Grant(grant_of(1)));
    world.accept(OWNER, Action::Grant(grant_of(2)));
    world.accept(OWNER, revoke(2));
    world.accept(OWNER, pledge(10, 1));
    let row =
        |world: &World, nth: u8| GRANTS.get(&world.state, &(vault(1), GrantId([nth; 16]))).unwrap().unwrap();
    let is_over = |world: &World, nth| is_outdated(&world.state, &row(world, nth)).unwrap();
    assert!(!is_over(&world, 1));
    let again = |nth: u8, of: u8| Action::Grant(Grant { grant: GrantId([nth; 16]), ..grant_of(of) });
    assert_eq!(world.refusal(OWNER, again(3, 1)), Rejection::GranteeKnown);
    world.accept(10, rotate(1, 11, 2));
    assert!(is_over(&world, 1));
    let keys = KEY_GENERATIONS.get(&world.state, &vault(1)).unwrap().unwrap();
    assert_eq!(keys.dealing, Some(0));
    assert_eq!(world.refusal(OWNER, again(3, 1)), Rejection::NotTheOwner);
    assert_eq!(world.refusal(10, again(3, 2)), Rejection::GranteeKnown, "that one was taken back");
    let count = |world: &World| ACCESS.get(&world.state, &vault(1)).unwrap().unwrap().grants;
    assert_eq!(count(&world), 1);
    world.accept(10, again(3, 1));
    assert_eq!(count(&world), 1, "one in the place of the other");
    assert!(row(&world, 1).revoked.is_some() && !is_over(&world, 3));
    assert_eq!(
        query::grant_of(&world.state, &grant_of(1).grantee).unwrap().unwrap().grant.grant,
        GrantId([3; 16])
    );
    assert_eq!(world.refusal(10, again(4, 1)), Rejection::GranteeKnown);
    world.accept(10, revoke(3));
    assert_eq!(count(&world), 0);
}
