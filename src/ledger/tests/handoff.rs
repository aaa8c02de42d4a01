//! Rules of handing keys on, without a key: the ledger has hashes only.

use super::access::shared;
use super::*;
use crate::ledger::handoff::{DEALT, HANDOFFS, Handing, PERIOD, Period, bits, chosen, duty, is_due};
use crate::ledger::rows::{ACCESS, Sharing};
use crate::message::access::desk::Ack;
use crate::message::access::{HandOff, HandedVault, KeptBy, KeySharing, TakeShares, TakenShare};
use crate::types::limits::{HANDOFF_LIFE_MICROS, REFRESH_SECONDS};

fn sharing(world: &World, of: u8) -> Sharing {
    ACCESS.get(&world.state, &vault(of)).unwrap().unwrap().sharing
}

fn handing(world: &World, of: u8) -> Option<Handing> {
    HANDOFFS.get(&world.state, &vault(of)).unwrap()
}

fn handed(world: &World, of: u8, attempt: u32) -> HandedVault {
    let Sharing { dealing, epoch, .. } = sharing(world, of);
    HandedVault { vault: vault(of), dealing, epoch, attempt }
}

/// A package of the vaults, kept by these.
fn hand_off(world: &World, package: u8, vaults: Vec<HandedVault>, kept: &[u8]) -> Action {
    let (to, package) = (query::next_roster(&world.state).unwrap().hash(), Hash([package; 32]));
    let kept_by = |nth: &u8| KeptBy {
        member: pair(*nth).public(),
        signature: Ack::sign(&NETWORK, &package.0, &pair(*nth)).signature,
    };
    let mut kept: Vec<_> = kept.iter().map(kept_by).collect();
    kept.sort_by_key(|kept| kept.member);
    Action::HandOff(HandOff { to, package, vaults, kept })
}

fn take(world: &World, of: u8, commitments: u8) -> Action {
    let handing = handing(world, of).unwrap();
    let dealers = chosen(&world.state, &handing).unwrap().map_or(0, |dealers| bits(&dealers));
    let (dealing, epoch, commitments) = (handing.dealing, handing.epoch, Hash([commitments; 32]));
    let share = TakenShare { vault: vault(of), dealing, epoch, dealers, commitments };
    Action::TakeShares(TakeShares { shares: vec![share] })
}

fn replace(world: &mut World, old: u8, new: u8) {
    let voters = query::next_roster(&world.state).unwrap();
    let approvers: Vec<u8> =
        (1..=20).filter(|nth| voters.committee().contains(&pair(*nth).public())).collect();
    let change = Change::ReplaceStatic { old: pair(old).public(), new: member(new) };
    let change = world.governance(change, &approvers[..3], Some(new));
    world.accept(approvers[0], change);
    world.alive.push(new);
}

/// Vault 1 is shared among 1 to 4, and 4 was replaced by 5.
fn moved() -> World {
    let mut world = shared();
    replace(&mut world, 4, 5);
    world
}

fn due(world: &World) -> bool {
    is_due(&world.state, &vault(1), &sharing(world, 1)).unwrap()
}

/// What dealers 1 to `count` deal.
fn dealt(world: &mut World, dealers: &[u8]) {
    for nth in dealers {
        let action = hand_off(world, 100 + nth, vec![handed(world, 1, 0)], &[1, 2, 3]);
        world.accept(*nth, action);
    }
}

#[test]
fn a_key_moves_to_the_static_nodes_of_now_once_a_threshold_dealt_and_a_quorum_took() {
    let mut world = moved();
    assert!(due(&world));
    let before = sharing(&world, 1);
    // Who was replaced deals as well: it has a share.
    dealt(&mut world, &[1, 4]);
    assert_eq!(chosen(&world.state, &handing(&world, 1).unwrap()), Ok(None), "two are too few");
    assert_eq!(world.refusal(1, take(&world, 1, 7)), Rejection::NothingToTake);
    dealt(&mut world, &[3, 2]);
    let dealers = chosen(&world.state, &handing(&world, 1).unwrap()).unwrap().unwrap();
    let packages: std::collections::BTreeSet<u8> = dealers.iter().map(|dealer| dealer.package.0[0]).collect();
    assert_eq!(packages, [101, 103, 104].into(), "the first three");
    assert!(dealers.is_sorted_by(|one, next| one.place < next.place));
    for nth in [1, 5] {
        let action = take(&world, 1, 7);
        world.accept(nth, action);
        assert_eq!(sharing(&world, 1), before, "the old one serves on");
    }
    // Another sum than the others say does not count with theirs.
    let other = take(&world, 1, 8);
    world.accept(2, other);
    assert_eq!(sharing(&world, 1), before);
    let (height, last) = (world.height(), take(&world, 1, 7));
    world.accept(3, last.clone());
    let now = sharing(&world, 1);
    let roster = query::next_roster(&world.state).unwrap().hash();
    let next = Sharing { epoch: 1, roster, commitments: Hash([7; 32]), height, ..before };
    assert_eq!(now, next);
    assert!(!due(&world));
    // Who did not deal in time is forgotten; who has not taken yet still may, the same and nothing else.
    assert!(DEALT.get(&world.state, &Hash([102; 32])).unwrap().is_none());
    let handing = handing(&world, 1).unwrap();
    assert!(handing.switched && handing.taken.len() == 3 && handing.dealers.len() == 3);
    assert_eq!(world.refusal(2, take(&world, 1, 8)), Rejection::NothingToTake);
    assert_eq!(world.refusal(3, last.clone()), Rejection::NothingToTake, "once");
    world.accept(2, last);
    assert!(self::handing(&world, 1).is_none(), "all have their shares");
    assert!(DEALT.scan(&world.state, &(), None, 9).unwrap().is_empty());
}

#[test]
fn only_who_has_a_share_deals_once_for_the_static_nodes_of_now_and_a_quorum_of_them_keeps_it() {
    let mut world = shared();
    let fresh = hand_off(&world, 101, vec![handed(&world, 1, 0)], &[1, 2, 3]);
    assert_eq!(world.refusal(1, fresh), Rejection::NothingToHandOff, "nothing is due");
    let stale = hand_off(&world, 101, vec![handed(&world, 1, 0)], &[1, 2, 3]);
    replace(&mut world, 4, 5);
    assert_eq!(world.refusal(1, stale), Rejection::RosterMoved);
    let of = |world: &World, vaults, kept: &[u8]| hand_off(world, 101, vaults, kept);
    let good = handed(&world, 1, 0);
    assert_eq!(world.refusal(1, of(&world, vec![good], &[1, 2])), Rejection::NotKept { have: 2, need: 3 });
    let stranger = of(&world, vec![good], &[1, 2, 4]);
    assert_eq!(world.refusal(1, stranger), Rejection::NotAMember { key: pair(4).public() });
    assert_eq!(world.refusal(5, of(&world, vec![good], &[1, 2, 3])), Rejection::NothingToHandOff);
    for wrong in [
        HandedVault { vault: vault(2), ..good },
        HandedVault { dealing: 1, ..good },
        HandedVault { epoch: 1, ..good },
        HandedVault { attempt: 1, ..good },
    ] {
        assert_eq!(world.refusal(1, of(&world, vec![wrong], &[1, 2, 3])), Rejection::NothingToHandOff);
    }
    // One that does not hold does not spoil the others.
    let some = vec![good, HandedVault { vault: vault(2), ..good }];
    let action = of(&world, some, &[1, 2, 3, 5]);
    world.accept(1, action);
    let row = DEALT.get(&world.state, &Hash([101; 32])).unwrap().unwrap();
    assert_eq!((row.uses, row.kept), (1, 0b1111));
    let voters = query::next_roster(&world.state).unwrap();
    let place = |nth: u8| ShareIndex::at(voters.committee().position(&pair(nth).public()).unwrap()).unwrap();
    let action = hand_off(&world, 105, vec![good], &[1, 3, 5]);
    world.accept(2, action);
    let row = DEALT.get(&world.state, &Hash([105; 32])).unwrap().unwrap();
    let kept = [1, 2, 3, 5].map(|nth| row.is_kept_by(place(nth)));
    assert_eq!(kept, [true, false, true, true], "who signed, by its place");
    let again = of(&world, vec![good], &[1, 2, 3]);
    assert_eq!(world.refusal(3, again), Rejection::HandoffNamed);
    let twice = hand_off(&world, 102, vec![good], &[1, 2, 3]);
    assert_eq!(world.refusal(1, twice), Rejection::NothingToHandOff);
    // A signature of somebody else does not say that it is kept.
    let Action::HandOff(mut forged) = of(&world, vec![good], &[1, 2, 3]) else { unreachable!() };
    forged.kept[0].signature[0] ^= 1;
    assert!(world.sign(2, Action::HandOff(forged)).verify(&NETWORK).is_err());
}

#[test]
fn a_package_that_more_new_members_reject_than_may_be_faulty_counts_for_nothing() {
    let mut world = moved();
    dealt(&mut world, &[1, 2, 3]);
    let reject = |nth: u8| Action::RejectHandoff { package: Hash([nth; 32]) };
    assert_eq!(world.refusal(1, reject(99)), Rejection::NoSuchHandoff);
    assert_eq!(world.refusal(4, reject(102)), Rejection::NotAMember { key: pair(4).public() });
    let early = take(&world, 1, 7);
    world.accept(5, early.clone());
    world.accept(1, reject(102));
    assert_eq!(world.refusal(1, reject(102)), Rejection::AlreadyRejected);
    assert!(chosen(&world.state, &handing(&world, 1).unwrap()).unwrap().is_some(), "one may lie");
    world.accept(5, reject(102));
    assert_eq!(chosen(&world.state, &handing(&world, 1).unwrap()), Ok(None));
    // What was taken of it counts no more, and the next dealer takes its place.
    dealt(&mut world, &[4]);
    assert_eq!(world.refusal(3, early), Rejection::NothingToTake);
    for nth in [1, 3, 5] {
        assert_eq!(sharing(&world, 1).epoch, 0);
        let action = take(&world, 1, 8);
        world.accept(nth, action);
    }
    assert_eq!((sharing(&world, 1).epoch, sharing(&world, 1).commitments), (1, Hash([8; 32])));
}

#[test]
fn what_turns_out_to_be_wrong_after_it_came_into_effect_is_due_again() {
    let mut world = moved();
    dealt(&mut world, &[1, 2, 3]);
    for nth in [1, 2, 3] {
        let action = take(&world, 1, 7);
        world.accept(nth, action);
    }
    assert!(!due(&world));
    for nth in [5, 2] {
        world.accept(nth, Action::RejectHandoff { package: Hash([103; 32]) });
    }
    assert!(due(&world), "some members may have no share");
    let next = handed(&world, 1, 0);
    assert_eq!(next.epoch, 1);
    let action = hand_off(&world, 111, vec![next], &[1, 2, 3]);
    world.accept(1, action);
    let handing = handing(&world, 1).unwrap();
    assert!(!handing.switched && handing.epoch == 1 && handing.dealers.len() == 1);
    assert!(DEALT.get(&world.state, &Hash([103; 32])).unwrap().is_none());
}

#[test]
fn an_owner_that_deals_anew_meanwhile_wins() {
    let mut world = moved();
    dealt(&mut world, &[1, 2, 3]);
    let late = take(&world, 1, 7);
    let roster = query::next_roster(&world.state).unwrap().hash();
    let (commitments, package) = (Hash([9; 32]), Hash([8; 32]));
    let anew = KeySharing { vault: vault(1), dealing: 0, roster, commitments, package };
    world.accept(9, Action::ShareKey(anew));
    assert!(handing(&world, 1).is_none() && !due(&world));
    assert!(DEALT.scan(&world.state, &(), None, 9).unwrap().is_empty());
    assert_eq!(world.refusal(1, late), Rejection::NothingToTake);
    assert_eq!((sharing(&world, 1).epoch, sharing(&world, 1).commitments), (1, commitments));
}

#[test]
fn static_nodes_that_change_again_meanwhile_get_another_handoff() {
    let mut world = moved();
    dealt(&mut world, &[1, 2, 3]);
    replace(&mut world, 3, 6);
    assert!(due(&world));
    assert_eq!(duty(&world.state, &vault(1), &pair(2).public()).unwrap().unwrap().handed.attempt, 0);
    let action = hand_off(&world, 112, vec![handed(&world, 1, 0)], &[1, 2, 6]);
    world.accept(2, action);
    let now = handing(&world, 1).unwrap();
    assert_eq!(now.to, query::next_roster(&world.state).unwrap().hash());
    assert_eq!(now.dealers.len(), 1, "it begins anew");
    assert_eq!(duty(&world.state, &vault(1), &pair(2).public()), Ok(None), "it has dealt");
    assert!(duty(&world.state, &vault(1), &pair(4).public()).unwrap().is_some(), "who left has a share");
    assert_eq!(duty(&world.state, &vault(1), &pair(6).public()), Ok(None), "who came has none");
}

#[test]
fn a_handoff_that_does_not_come_about_is_begun_anew_with_others_first() {
    let mut world = moved();
    dealt(&mut world, &[1, 2, 3, 4]);
    let early = hand_off(&world, 111, vec![handed(&world, 1, 1)], &[1, 2, 3]);
    assert_eq!(world.refusal(1, early), Rejection::NothingToHandOff, "its time is not over");
    let mut left_out = std::collections::BTreeSet::new();
    for attempt in 1..=24 {
        let mut row = handing(&world, 1).unwrap();
        row.began = Timestamp::ZERO;
        // The sum over all rows is not kept here, so it is brought up to date by hand.
        put(&mut world, HANDOFFS.key(&vault(1)), &row);
        let tip = query::tip(&world.state).unwrap().record.time;
        assert!(tip.unix_micros() < HANDOFF_LIFE_MICROS && !row.is_stale(tip));
        assert!(row.is_stale(Timestamp::from_unix_micros(HANDOFF_LIFE_MICROS)));
        let mut next = row.clone();
        (next.attempt, next.began) = (attempt, tip);
        let dealers = chosen(&world.state, &next).unwrap().unwrap();
        assert_eq!(dealers.len(), 3);
        assert_eq!(chosen(&world.state, &next).unwrap().unwrap(), dealers, "the same for everybody");
        left_out.insert(bits(&dealers));
        put(&mut world, HANDOFFS.key(&vault(1)), &next);
    }
    assert_eq!(left_out.len(), 4, "sooner or later each one is left out");
}

/// Sets a row and the sum that goes with it.
fn put<T: crate::message::canonical::Canonical>(world: &mut World, key: Vec<u8>, row: &T) {
    use crate::ledger::rows::{STATE_SUM, StateSum};
    let value = crate::message::canonical::Canonical::encode(row);
    let mut sum = LtHash::from_bytes(&STATE_SUM.expect(&world.state, &()).unwrap().0).unwrap();
    if let Some(before) = world.state.insert(key.clone(), value.clone()) {
        sum.remove(&key, &before);
    }
    sum.add(&key, &value);
    let sum = crate::message::canonical::Canonical::encode(&StateSum(sum.to_bytes()));
    world.state.insert(STATE_SUM.key(&()), sum);
}

#[test]
fn keys_are_shared_anew_when_a_period_is_over_or_a_quorum_wants_it() {
    let mut world = shared();
    let period = |world: &World| PERIOD.get(&world.state, &()).unwrap().unwrap();
    let first = period(&world);
    assert_eq!((first.number, first.every), (0, REFRESH_SECONDS));
    world.blocks(3);
    assert!(!due(&world) && period(&world) == first);
    let few = world.governance(Change::RefreshShares { every: Some(60) }, &[1, 2], None);
    assert_eq!(world.refusal(1, few), Rejection::NotApproved { have: 2, need: 3 });
    let (height, change) =
        (world.height(), world.governance(Change::RefreshShares { every: Some(60) }, &[1, 2, 3], None));
    world.accept(1, change);
    let now = period(&world);
    assert_eq!((now.number, now.since, now.every), (1, height, 60));
    assert!(due(&world));
    // By the same static nodes, to themselves.
    dealt(&mut world, &[1, 2, 3]);
    for nth in [1, 2, 3] {
        let action = take(&world, 1, 7);
        world.accept(nth, action);
    }
    assert!(!due(&world) && sharing(&world, 1).epoch == 1);
    // The ledger's time brings the next one.
    let over = Period { began: Timestamp::ZERO, every: 1, ..now };
    put(&mut world, PERIOD.key(&()), &over);
    world.blocks(1);
    assert_eq!((period(&world).number, period(&world).every), (2, 1));
    assert!(due(&world));
    let as_before = world.governance(Change::RefreshShares { every: None }, &[1, 2, 3], None);
    world.accept(1, as_before);
    assert_eq!((period(&world).number >= 3, period(&world).every), (true, 1));
}

#[test]
fn a_network_without_shared_keys_has_no_periods() {
    let mut world = World::new(4);
    world.blocks(2);
    assert!(PERIOD.get(&world.state, &()).unwrap().is_none());
    let change = world.governance(Change::RefreshShares { every: None }, &[1, 2, 3], None);
    world.accept(1, change);
    assert_eq!(PERIOD.get(&world.state, &()).unwrap().unwrap().number, 1);
}

#[test]
fn rows_of_handoffs_have_one_encoding() {
    use crate::message::canonical::Canonical as _;
    let mut world = moved();
    dealt(&mut world, &[1, 2]);
    let row = handing(&world, 1).unwrap();
    let bytes = row.encode();
    assert_eq!(Handing::decode(&bytes), Ok(row));
    for len in 0..bytes.len() {
        assert!(Handing::decode(&bytes[..len]).is_err());
    }
    let dealt = DEALT.get(&world.state, &Hash([101; 32])).unwrap().unwrap();
    assert_eq!(crate::ledger::handoff::Dealt::decode(&dealt.encode()), Ok(dealt));
    let care = crate::ledger::handoff::care(&world.state).unwrap();
    assert_eq!((care.vaults, care.former, care.due), (1, 1, 1));
}
