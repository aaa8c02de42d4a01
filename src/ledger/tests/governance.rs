use super::*;
use crate::ledger::rows::SPONSORS;
use crate::message::Violation;
use crate::message::governance::SponsorTerms;

#[test]
fn it_takes_a_quorum_of_those_who_vote_now() {
    let world = World::new(4);
    let add = |approvers: &[u8]| world.governance(Change::AddStatic(member(5)), approvers, Some(5));
    assert_eq!(world.refusal(1, add(&[])), Rejection::NotApproved { have: 0, need: 3 });
    assert_eq!(world.refusal(1, add(&[1, 2])), Rejection::NotApproved { have: 2, need: 3 });
    let stranger = Rejection::NotAMember { key: pair(6).public() };
    assert_eq!(world.refusal(1, add(&[1, 2, 6])), stranger);
    assert_eq!(world.refusal(1, add(&[1, 2, 3, 6])), stranger);
    let mut world = World::new(4);
    let add = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    // Anybody may bring it.
    world.accept(77, add);
    assert!(world.votes(5));
    world.alive.push(5);
    world.blocks(2);
}

#[test]
fn an_approval_serves_once_and_for_one_change() {
    let mut world = World::new(4);
    let remove = world.governance(Change::RemoveStatic(pair(4).public()), &[1, 2, 3], None);
    let add = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    world.accept(1, add);
    assert_eq!(world.refusal(1, remove.clone()), Rejection::WrongSequence { expected: 1 });
    let Action::Govern(mut other) = remove else { unreachable!() };
    other.change = Change::RemoveStatic(pair(3).public());
    let signed = world.sign(1, Action::Govern(other));
    assert_eq!(signed.verify(&NETWORK), Err(Violation::BadSignature));
}

#[test]
fn a_newcomer_proves_that_it_has_its_key() {
    let world = World::new(4);
    let without = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], None);
    assert_eq!(world.sign(1, without).verify(&NETWORK), Err(Violation::Malformed));
    let by_another = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(6));
    assert_eq!(world.sign(1, by_another).verify(&NETWORK), Err(Violation::BadSignature));
    let needless = world.governance(Change::RemoveStatic(pair(4).public()), &[1, 2, 3], Some(5));
    assert_eq!(world.sign(1, needless).verify(&NETWORK), Err(Violation::Malformed));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut world = World::new(5);
    let quorum = [1, 2, 3, 4];
    let key = |nth| pair(nth).public();
    let cases = [
        (Change::AddStatic(member(2)), Some(2), Rejection::MemberExists { key: key(2) }),
        (Change::RemoveStatic(key(6)), None, Rejection::NotAMember { key: key(6) }),
        (
            Change::ReplaceStatic { old: key(6), new: member(7) },
            Some(7),
            Rejection::NotAMember { key: key(6) },
        ),
        (
            Change::ReplaceStatic { old: key(1), new: member(2) },
            Some(2),
            Rejection::MemberExists { key: key(2) },
        ),
        (
            Change::RotateStatic { old: key(6), new: member(7) },
            Some(7),
            Rejection::NotAMember { key: key(6) },
        ),
        (
            Change::RotateStatic { old: key(1), new: member(2) },
            Some(2),
            Rejection::MemberExists { key: key(2) },
        ),
        (Change::LiftBlacklist(key(1)), None, Rejection::NotBlacklisted { key: key(1) }),
        (Change::LiftBlacklist(key(6)), None, Rejection::NotBlacklisted { key: key(6) }),
    ];
    for (change, newcomer, rejection) in cases {
        let action = world.governance(change.clone(), &quorum, newcomer);
        assert_eq!(world.refusal(1, action), rejection, "{change:?}");
    }
    let remove = world.governance(Change::RemoveStatic(key(5)), &quorum, None);
    world.accept(1, remove);
    let again = world.governance(Change::AddStatic(member(5)), &quorum, Some(5));
    assert_eq!(
        world.refusal(1, again),
        Rejection::MemberExists { key: key(5) },
        "who left comes under a new key"
    );
}

#[test]
fn the_voters_change_once_a_block() {
    let mut world = World::new(4);
    let add = world.sign(1, world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5)));
    let mut next = Governance::new(1, Change::AddStatic(member(6)));
    [1, 2, 3].iter().for_each(|nth| next.approve(&NETWORK, &pair(*nth)));
    next.possess(&NETWORK, &pair(6));
    let next = world.sign(2, Action::Govern(next));
    assert_eq!(world.block(&[add, next]), [Rejection::AlreadyChanging]);
    // Of five, four are a quorum.
    world.alive.push(5);
    let next = world.governance(Change::AddStatic(member(6)), &[1, 2, 3], Some(6));
    assert_eq!(world.refusal(2, next), Rejection::NotApproved { have: 3, need: 4 });
    let next = world.governance(Change::AddStatic(member(6)), &[1, 2, 3, 5], Some(6));
    world.accept(2, next);
}

#[test]
fn governance_alone_goes_below_four_and_never_to_none() {
    let mut world = World::new(4);
    for (nth, approvers) in [(4, &[1, 2, 3][..]), (3, &[1, 2, 3]), (2, &[1, 2])] {
        let remove = world.governance(Change::RemoveStatic(pair(nth).public()), approvers, None);
        world.accept(1, remove);
        world.blocks(1);
    }
    let last = world.governance(Change::RemoveStatic(pair(1).public()), &[1], None);
    assert_eq!(world.refusal(1, last), Rejection::LastMember);
}

#[test]
fn a_static_node_is_replaced_and_rotates_its_key() {
    let mut world = World::new(4);
    let replace = Change::ReplaceStatic { old: pair(4).public(), new: member(5) };
    let replace = world.governance(replace, &[1, 2, 3], Some(5));
    world.accept(1, replace);
    assert!(world.votes(5) && !world.votes(4));
    assert_eq!(world.standing(4), Standing::Left);
    world.alive = vec![1, 2, 3, 4, 5];
    world.blocks(1);
    let rotate =
        Change::RotateStatic { old: pair(3).public(), new: Member { label: "static-3".into(), ..member(6) } };
    let rotate = world.governance(rotate, &[1, 2, 5], Some(6));
    world.accept(1, rotate);
    assert!(world.votes(6) && !world.votes(3));
    assert_eq!(world.standing(6), Standing::Good);
    world.alive.push(6);
    let moved =
        Change::RotateStatic { old: pair(1).public(), new: Member { address: address(99), ..member(1) } };
    let moved = world.governance(moved, &[1, 2, 5], Some(1));
    world.accept(2, moved);
    let roster = query::next_roster(&world.state).unwrap();
    assert_eq!(roster.member(&pair(1).public()).unwrap().address, address(99));
    world.blocks(2);
    assert_eq!(query::roster_changes(&world.state, Height(0), 9).unwrap().len(), 3);
}

#[test]
fn sponsors_are_set_by_governance() {
    let mut world = World::new(4);
    let terms = SponsorTerms { sponsor: pair(50).public(), vaults: 1, nodes: 2, vault_bytes: 3 };
    let set = world.governance(Change::SetSponsor(terms), &[2, 3, 4], None);
    world.accept(1, set);
    let row = SPONSORS.get(&world.state, &terms.sponsor).unwrap().unwrap();
    assert_eq!((row.vaults, row.nodes, row.vault_bytes), (1, 2, 3));
}

#[test]
fn a_committee_has_room_for_so_many() {
    let mut world = World::new(64);
    let quorum: Vec<u8> = (1..=43).collect();
    let add = world.governance(Change::AddStatic(member(70)), &quorum, Some(70));
    assert_eq!(world.refusal(1, add), Rejection::CommitteeFull);
    world.blocks(1);
}
