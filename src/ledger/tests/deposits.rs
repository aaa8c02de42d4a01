use super::access::{grant_of, revoke, shared};
use super::*;
use crate::ledger::rows::{ACCESS, DEPOSITS, GRANTS, GrantRow, SEGMENTS, VAULTS};
use crate::message::access::{Deposit, DepositPack, Erasure, Grant, Rights, SettleDeposits};
use crate::message::canonical::Canonical as _;
use crate::types::limits::{MAX_GRANT_DEPOSITS, MAX_VAULT_DEPOSITS};

/// The grantee of grant 1, which lets 5,000 bytes be brought.
const GRANTEE: u8 = 101;

fn appends(nth: u8, bytes: u64) -> Grant {
    let expires = Timestamp::from_unix_millis(1_000_000);
    Grant { rights: Rights::APPEND, append_bytes: Some(bytes), expires, ..grant_of(nth) }
}

fn world() -> World {
    let mut world = shared();
    world.accept(9, Action::Grant(appends(1, 5_000)));
    world
}

/// Brings segments of 1,000 bytes; the last of them is the pack.
fn deposit_of(segments: &[u8]) -> Deposit {
    let pack = segments.last().map(|nth| DepositPack { segment: segment(*nth), key: vec![1; 1_168] });
    let segments = segments.iter().map(|nth| anchored(*nth)).collect();
    Deposit { vault: vault(1), grant: GrantId([1; 16]), segments, pack }
}

fn deposit(segments: &[u8]) -> Action {
    Action::Deposit(deposit_of(segments))
}

fn settle(deposits: &[TransactionId]) -> Action {
    let mut deposits = deposits.to_vec();
    deposits.sort_unstable();
    Action::SettleDeposits(SettleDeposits { vault: vault(1), deposits })
}

fn segments_of(world: &World) -> Vec<(SegmentId, CollectionTag)> {
    let rows = query::segments(&world.state, &vault(1), None, 99).unwrap();
    rows.into_iter().map(|(id, row)| (id, row.collection)).collect()
}

fn sums(world: &World) -> (u64, u64, u32) {
    let row = VAULTS.get(&world.state, &vault(1)).unwrap().unwrap();
    (row.segments, row.bytes, ACCESS.get(&world.state, &vault(1)).unwrap().unwrap().deposits)
}

#[test]
fn what_a_grantee_brings_waits_in_no_collection_until_the_owner_is_done_with_it() {
    let mut world = world();
    let id = world.accept(GRANTEE, deposit(&[1, 2]));
    assert_eq!(segments_of(&world), [(segment(1), CollectionTag::INBOX), (segment(2), CollectionTag::INBOX)]);
    assert_eq!(sums(&world), (2, 2_000, 1));
    let row = DEPOSITS.get(&world.state, &(vault(1), id)).unwrap().unwrap();
    assert_eq!((row.grant, row.segments), (GrantId([1; 16]), vec![segment(1), segment(2)]));
    assert_eq!(GRANTS.get(&world.state, &(vault(1), GrantId([1; 16]))).unwrap().unwrap().brought, 2_000);
    assert_eq!(world.refusal(GRANTEE, settle(&[id])), Rejection::NotTheOwner);
    let other = world.accept(GRANTEE, deposit(&[3]));
    let found = query::deposits(&world.state, &vault(1), Some(&id.min(other)), 9).unwrap();
    assert_eq!(found.iter().map(|(found, _)| *found).collect::<Vec<_>>(), [id.max(other)]);
    world.accept(9, settle(&[id, other]));
    assert_eq!((segments_of(&world), sums(&world)), (vec![], (0, 0, 0)));
    assert_eq!(world.refusal(9, settle(&[id])), Rejection::NoSuchDeposit);
}

#[test]
fn an_anchor_takes_what_waits_and_settling_leaves_that_alone() {
    let mut world = world();
    let id = world.accept(GRANTEE, deposit(&[1, 2, 3]));
    let takes = |change: fn(&mut Anchor)| {
        let (mut anchor, pack) = (anchor(1, None, 4), anchored(1));
        anchor.segments.insert(0, pack);
        change(&mut anchor);
        Action::Anchor(anchor)
    };
    let exists = Rejection::SegmentExists { segment: segment(1) };
    assert_eq!(world.refusal(9, takes(|anchor| anchor.segments[0].len += 1)), exists);
    assert_eq!(world.refusal(9, takes(|anchor| anchor.segments[0].shards[5].root = Hash([9; 32]))), exists);
    // What waits is of no collection, so that none releases it.
    let foreign = Rejection::NoSuchSegment { segment: segment(2) };
    assert_eq!(world.refusal(9, takes(|anchor| anchor.released = vec![segment(2)])), foreign);
    let head = world.accept(9, takes(|_| ()));
    assert_eq!(sums(&world), (4, 4_000, 1));
    // What a collection has is taken once.
    let again = Anchor { segments: vec![anchored(1)], commits: vec![], ..anchor(1, Some(head), 5) };
    assert_eq!(world.refusal(9, Action::Anchor(again)), exists);
    world.accept(9, settle(&[id]));
    assert_eq!(segments_of(&world), [(segment(1), TAG), (segment(4), TAG)]);
    assert_eq!(sums(&world), (2, 2_000, 0));
}

#[test]
fn no_anchor_is_of_the_collection_that_deposits_wait_in() {
    let anchor = Anchor { collection: CollectionTag::INBOX, ..anchor(1, None, 1) };
    assert_eq!(Anchor::decode(&anchor.encode()), Err(crate::message::Violation::OutOfBounds));
}

#[test]
fn only_under_a_grant_that_lets_it_and_within_its_bound() {
    let mut world = world();
    world.accept(9, Action::Grant(grant_of(2)));
    let of = |grant: u8, segments: &[u8]| {
        Action::Deposit(Deposit { grant: GrantId([grant; 16]), ..deposit_of(segments) })
    };
    assert_eq!(world.refusal(GRANTEE, of(7, &[1])), Rejection::NoSuchGrant);
    assert_eq!(world.refusal(102, of(1, &[1])), Rejection::NotTheGrantee);
    assert_eq!(world.refusal(9, of(1, &[1])), Rejection::NotTheGrantee, "not the owner either");
    assert_eq!(world.refusal(102, of(2, &[1])), Rejection::NoRightToAppend);
    let elsewhere = Action::Deposit(Deposit { vault: vault(5), ..deposit_of(&[1]) });
    assert_eq!(world.refusal(GRANTEE, elsewhere), Rejection::NoSuchGrant);
    let over = Rejection::OverAppendBytes { limit: 5_000 };
    assert_eq!(world.refusal(GRANTEE, deposit(&[1, 2, 3, 4, 5, 6])), over);
    let id = world.accept(GRANTEE, deposit(&[1, 2, 3, 4]));
    assert_eq!(world.refusal(GRANTEE, deposit(&[5, 6])), over);
    // Also once the owner is done with it: the bound is of all that is ever brought.
    world.accept(9, settle(&[id]));
    assert_eq!(world.refusal(GRANTEE, deposit(&[5, 6])), over);
    world.accept(GRANTEE, deposit(&[5]));
}

#[test]
fn nothing_is_brought_under_a_grant_that_does_not_stand() {
    let mut world = shared();
    let at = Timestamp::from_unix_millis;
    let now = |world: &World| query::tip(&world.state).unwrap().record.time;
    let early = Grant { not_before: at(900_000), ..appends(1, 5_000) };
    world.accept(9, Action::Grant(early));
    assert_eq!(world.refusal(GRANTEE, deposit(&[1])), Rejection::GrantNotInForce);
    let soon = at(now(&world).unix_micros() / 1_000 + 10_000);
    world.accept(9, Action::Grant(Grant { expires: soon, ..appends(2, 5_000) }));
    let of_two =
        |segments: &[u8]| Action::Deposit(Deposit { grant: GrantId([2; 16]), ..deposit_of(segments) });
    world.accept(102, of_two(&[1]));
    world.clock = soon;
    world.blocks(1);
    assert_eq!(world.refusal(102, of_two(&[2])), Rejection::GrantNotInForce);
    world.accept(9, Action::Grant(appends(3, 5_000)));
    let of_three =
        |segments: &[u8]| Action::Deposit(Deposit { grant: GrantId([3; 16]), ..deposit_of(segments) });
    world.accept(103, of_three(&[3]));
    world.accept(9, revoke(3));
    assert_eq!(world.refusal(103, of_three(&[4])), Rejection::GrantNotInForce);
}

#[test]
fn what_a_deposit_says_of_segments_must_be_so() {
    let mut world = world();
    world.accept(9, Action::Anchor(anchor(1, None, 1)));
    type Change = fn(&mut Deposit);
    let changes: [(Change, Rejection); 4] = [
        (
            |d| (d.pack, d.segments[0].segment) = (None, segment(1)),
            Rejection::SegmentExists { segment: segment(1) },
        ),
        (|d| d.segments[0].shards.truncate(5), Rejection::WrongShardCount { segment: segment(2) }),
        (
            |d| d.segments[0].shards[5].holder = Some(NodeNumber(6)),
            Rejection::NoSuchHolder { node: NodeNumber(6) },
        ),
        (|d| d.pack.as_mut().unwrap().segment = segment(8), Rejection::NoSuchSegment { segment: segment(8) }),
    ];
    for (change, rejection) in changes {
        let mut changed = deposit_of(&[2]);
        change(&mut changed);
        assert_eq!(world.refusal(GRANTEE, Action::Deposit(changed)), rejection);
    }
    let part = Deposit { pack: None, ..deposit_of(&[2]) };
    world.accept(GRANTEE, Action::Deposit(part));
    let there = Rejection::SegmentExists { segment: segment(2) };
    assert_eq!(world.refusal(GRANTEE, deposit(&[2, 3])), there);
}

#[test]
fn so_many_deposits_wait_and_no_more() {
    let mut world = world();
    let mut access = ACCESS.get(&world.state, &vault(1)).unwrap().unwrap();
    access.deposits = MAX_VAULT_DEPOSITS;
    world.state.insert(ACCESS.key(&vault(1)), access.encode());
    assert_eq!(world.refusal(GRANTEE, deposit(&[1])), Rejection::TooManyDeposits);
}

#[test]
fn one_provider_leaves_room_for_others() {
    let mut world = world();
    let key = (vault(1), GrantId([1; 16]));
    let row = |world: &World| GRANTS.get(&world.state, &key).unwrap().unwrap();
    let id = world.accept(GRANTEE, deposit(&[1]));
    assert_eq!(row(&world).deposits, 1);
    world.accept(9, settle(&[id]));
    assert_eq!(row(&world).deposits, 0);
    let full = GrantRow { deposits: MAX_GRANT_DEPOSITS, ..row(&world) };
    world.state.insert(GRANTS.key(&key), full.encode());
    assert_eq!(world.refusal(GRANTEE, deposit(&[2])), Rejection::TooManyDeposits);
}

#[test]
fn with_an_erased_vault_its_deposits_are_over() {
    let mut world = world();
    let id = world.accept(GRANTEE, deposit(&[1, 2]));
    world.accept(9, Action::EraseVersions(Erasure::of_vault(vault(1))));
    assert_eq!((segments_of(&world), sums(&world)), (vec![], (0, 0, 0)));
    assert_eq!(world.refusal(9, settle(&[id])), Rejection::NoSuchDeposit);
    assert_eq!(world.refusal(GRANTEE, deposit(&[3])), Rejection::VaultErased);
    assert_eq!(SEGMENTS.get(&world.state, &(vault(1), segment(1))), Ok(None));
}

#[test]
fn who_brings_something_pays_with_its_own_bytes() {
    let mut world = world();
    let used = |world: &World| VAULTS.get(&world.state, &vault(1)).unwrap().unwrap().usage.bytes;
    let before = used(&world);
    world.accept(GRANTEE, deposit(&[1]));
    assert_eq!(used(&world), before);
}
