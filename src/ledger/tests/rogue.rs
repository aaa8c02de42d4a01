use super::*;
use crate::ledger::rows::{Fault, OFFENCES};
use crate::message::checkpoint::{Checkpoint, FalseCosignature};
use crate::message::evidence::Evidence;
use crate::message::vote::{Vote, VoteKind};

fn double_vote(nth: u8, height: u64, round: u32) -> Action {
    let vote = |block| {
        let (kind, height, round) = (VoteKind::Prevote, Height(height), Round(round));
        Vote { network: NETWORK, kind, height, round, block }.sign(&pair(nth))
    };
    Action::Evidence(Evidence::of_votes(vote(None), vote(Some(BlockId([1; 32])))))
}

fn false_head(nth: u8, height: u64, size: u64, root: LogHash) -> Action {
    let text = Checkpoint::new(&NETWORK, size, root).text();
    let (offender, signature) = (pair(nth).public(), pair(nth).cosign(5, &text));
    Action::FalseCosignature(FalseCosignature {
        offender,
        height: Height(height),
        size,
        root,
        seconds: 5,
        signature,
    })
}

fn accuse(offender: u8, height: u64) -> Action {
    Action::Accuse { offender: pair(offender).public(), height: Height(height) }
}

fn is_blacklisted(world: &World, nth: u8, for_fault: Fault) -> bool {
    matches!(world.standing(nth), Standing::Blacklisted { fault, .. } if fault == for_fault)
}

#[test]
fn equivocation_blacklists_at_once_and_takes_the_vote() {
    let mut world = World::new(5);
    world.blocks(2);
    let proof = world.accept(1, double_vote(5, 2, 0));
    assert!(is_blacklisted(&world, 5, Fault::Equivocation));
    assert!(!world.votes(5), "out of the next committee");
    let row = STATICS.get(&world.state, &pair(5).public()).unwrap().unwrap();
    assert_eq!((row.faults, row.proof), (1, Some(proof)), "the log says why");
    world.blocks(2);
    assert_eq!(world.refusal(5, Action::Correct), Rejection::NothingToCorrect);
}

#[test]
fn evidence_may_wait_as_soon_as_its_block_is_final() {
    let mut world = World::new(5);
    world.blocks(2);
    let last = world.height().0 - 1;
    let root = LogHash([9; 32]);
    let size = query::tip(&world.state).unwrap().record.log_size;
    for action in [double_vote(5, last, 0), false_head(5, last, size, root)] {
        let signed = world.sign(1, action);
        assert_eq!(precheck(&world.state, &signed), Ok(None));
    }
    let early = world.sign(1, double_vote(5, last + 1, 0));
    assert_eq!(precheck(&world.state, &early), Ok(Some(Rejection::EvidenceAhead)));
}

#[test]
fn four_stay_four_until_governance_brings_another() {
    let mut world = World::new(4);
    world.blocks(2);
    world.accept(1, double_vote(4, 2, 0));
    assert!(is_blacklisted(&world, 4, Fault::Equivocation) && world.votes(4));
    world.blocks(3);
    assert!(world.votes(4));
    let add = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    world.accept(1, add);
    assert!(world.votes(5) && world.votes(4), "one change a block");
    world.alive.push(5);
    world.blocks(1);
    assert!(!world.votes(4), "then the rogue goes");
}

#[test]
fn one_a_block_leaves_and_never_below_four() {
    let mut world = World::new(7);
    world.blocks(1);
    let evidence: Vec<_> = (4..=7).map(|nth| world.sign(10 + nth, double_vote(nth, 1, 0))).collect();
    assert_eq!(world.block(&evidence), []);
    let voting = |world: &World| (4..=7).filter(|nth| world.votes(*nth)).count();
    assert_eq!(voting(&world), 3);
    world.blocks(1);
    assert_eq!(voting(&world), 2);
    world.blocks(5);
    assert_eq!(voting(&world), 1, "three good ones and a rogue are four");
}

#[test]
fn evidence_counts_once_in_its_time_and_of_members() {
    let mut world = World::new(7);
    world.blocks(2);
    assert_eq!(world.refusal(1, double_vote(7, 3, 0)), Rejection::EvidenceAhead);
    let stranger = Rejection::NotAMember { key: pair(20).public() };
    assert_eq!(world.refusal(1, double_vote(20, 1, 0)), stranger);
    world.accept(1, double_vote(7, 1, 0));
    assert_eq!(world.refusal(2, double_vote(7, 1, 0)), Rejection::EvidenceKnown);
    world.accept(2, double_vote(7, 1, 1));
    assert_eq!(query::statics(&world.state).unwrap().iter().map(|row| row.faults).sum::<u32>(), 2);
    // Taken for 30 blocks, then forgotten with all that was known of it.
    world.until(30);
    world.accept(1, double_vote(6, 1, 5));
    assert_eq!(OFFENCES.scan(&world.state, &(), None, 9).unwrap().len(), 3);
    world.until(32);
    assert_eq!(world.refusal(1, double_vote(6, 1, 6)), Rejection::EvidenceExpired);
    assert_eq!(OFFENCES.scan(&world.state, &(), None, 9).unwrap(), []);
}

#[test]
fn who_left_is_convicted_for_the_time_when_it_voted() {
    let mut world = World::new(5);
    let remove = world.governance(Change::RemoveStatic(pair(5).public()), &[1, 2, 3, 4], None);
    world.accept(1, remove);
    world.blocks(2);
    world.accept(1, double_vote(5, 1, 0));
    assert_eq!(world.standing(5), Standing::Left);
    let member = Rejection::NotAMember { key: pair(5).public() };
    assert_eq!(world.refusal(1, double_vote(5, 3, 0)), member);
}

#[test]
fn a_false_tree_head_is_warned_of_and_the_second_blacklists() {
    let mut world = World::new(5);
    world.accept(9, create(9));
    world.blocks(2);
    let size = world.blocks[0].header.record.log_size;
    assert_eq!(size, 2, "a transaction and the record");
    let root = world.blocks[0].header.log_root;
    let other = LogHash([1; 32]);
    assert_eq!(world.refusal(1, false_head(5, 1, size, root)), Rejection::NotAnOffence);
    assert_eq!(world.refusal(1, false_head(5, 1, 1, other)), Rejection::NotAnOffence);
    assert_eq!(
        world.refusal(1, false_head(5, 1, size + 1, other)),
        Rejection::NotAnOffence,
        "of the next block"
    );
    assert_eq!(world.refusal(1, false_head(5, 3, 40, other)), Rejection::EvidenceAhead);
    assert_eq!(world.refusal(1, false_head(5, 4, 40, other)), Rejection::EvidenceAhead);
    world.accept(1, false_head(5, 1, size, other));
    let fault = Fault::FalseCosignature;
    assert_eq!(world.standing(5), Standing::Warned { fault, deadline: Height(19) });
    assert!(world.votes(5), "it votes while it is warned");
    assert_eq!(world.refusal(2, false_head(5, 1, size, other)), Rejection::EvidenceKnown);
    world.accept(1, false_head(5, 2, size + 1, other));
    assert!(is_blacklisted(&world, 5, fault) && !world.votes(5));
}

#[test]
fn a_tree_head_between_two_blocks_is_nobodys() {
    let mut world = World::new(5);
    world.accept(9, create(9));
    world.accept(9, Action::AddWriter { vault: vault(9), writer: pair(8).public() });
    world.blocks(1);
    // Block 1 ends at 2, block 2 at 4.
    world.accept(1, false_head(5, 1, 3, LogHash([1; 32])));
    assert!(matches!(world.standing(5), Standing::Warned { .. }));
}

#[test]
fn who_answers_in_time_is_watched_and_then_good_again() {
    let mut world = World::new(5);
    world.blocks(2);
    world.accept(1, false_head(5, 1, 1, LogHash([1; 32])));
    assert_eq!(world.refusal(4, Action::Correct), Rejection::NothingToCorrect);
    let stranger = Rejection::NotAMember { key: pair(20).public() };
    assert_eq!(world.refusal(20, Action::Correct), stranger);
    world.accept(5, Action::Correct);
    assert_eq!(world.standing(5), Standing::OnProbation { until: Height(24) });
    world.until(23);
    assert!(matches!(world.standing(5), Standing::OnProbation { .. }));
    world.until(24);
    assert_eq!(world.standing(5), Standing::Good);
}

#[test]
fn a_fault_on_probation_is_the_last() {
    let mut world = World::new(5);
    world.blocks(2);
    world.accept(1, false_head(5, 1, 1, LogHash([1; 32])));
    world.accept(5, Action::Correct);
    world.accept(1, false_head(5, 2, 2, LogHash([1; 32])));
    assert!(is_blacklisted(&world, 5, Fault::FalseCosignature) && !world.votes(5));
    assert_eq!(world.refusal(5, Action::Correct), Rejection::NothingToCorrect);
    let lift = world.governance(Change::LiftBlacklist(pair(5).public()), &[1, 2, 3], None);
    world.accept(1, lift);
    assert!(world.votes(5) && matches!(world.standing(5), Standing::OnProbation { .. }));
}

#[test]
fn who_does_not_answer_is_blacklisted_at_the_deadline() {
    let mut world = World::new(5);
    world.blocks(2);
    world.accept(1, false_head(5, 1, 1, LogHash([1; 32])));
    world.until(17);
    assert!(world.votes(5));
    world.until(18);
    assert!(is_blacklisted(&world, 5, Fault::FalseCosignature) && !world.votes(5));
}

#[test]
fn a_crash_however_long_is_no_crime() {
    let mut world = World::new(5);
    world.alive = vec![1, 2, 3, 4];
    // Certificates of blocks 1 to 10 are in blocks 2 to 11: one window.
    world.until(10);
    assert_eq!(world.standing(5), Standing::Good);
    world.until(11);
    assert_eq!(world.standing(5), Standing::Warned { fault: Fault::Absence, deadline: Height(26) });
    world.until(25);
    assert!(world.votes(5), "a second window of absence changes nothing before the deadline");
    world.until(26);
    assert!(is_blacklisted(&world, 5, Fault::Absence) && !world.votes(5));
    world.blocks(20);
    world.accept(5, Action::Correct);
    assert!(world.votes(5));
    world.alive.push(5);
    world.until(80);
    assert_eq!(world.standing(5), Standing::Good);
}

#[test]
fn who_misses_few_blocks_is_not_absent() {
    let mut world = World::new(4);
    for block in 0..40 {
        world.alive = if block % 5 == 0 { vec![1, 2, 3, 4] } else { vec![1, 2, 3] };
        world.blocks(1);
    }
    assert_eq!(world.standing(4), Standing::Good, "80 of 100 are allowed here");
}

#[test]
fn as_many_as_make_a_block_final_convict_by_their_word() {
    let mut world = World::new(5);
    world.blocks(2);
    assert_eq!(world.refusal(20, accuse(5, 1)), Rejection::NotAMember { key: pair(20).public() });
    assert_eq!(world.refusal(1, accuse(20, 1)), Rejection::NotAMember { key: pair(20).public() });
    assert_eq!(world.refusal(5, accuse(5, 1)), Rejection::NotAnOffence);
    assert_eq!(world.refusal(1, accuse(5, 3)), Rejection::EvidenceAhead);
    world.accept(1, accuse(5, 1));
    assert_eq!(world.refusal(1, accuse(5, 1)), Rejection::EvidenceKnown);
    world.accept(2, accuse(5, 1));
    world.accept(3, accuse(5, 1));
    assert_eq!(world.standing(5), Standing::Good, "three of five are no quorum");
    world.accept(4, accuse(5, 1));
    assert!(matches!(world.standing(5), Standing::Warned { fault: Fault::InvalidProposal, .. }));
}

#[test]
fn a_new_key_answers_for_the_old_one() {
    let mut world = World::new(5);
    world.blocks(2);
    world.accept(1, double_vote(5, 1, 0));
    assert!(!world.votes(5));
    let rotate = Change::RotateStatic { old: pair(5).public(), new: member(6) };
    let rotate = world.governance(rotate, &[1, 2, 3], Some(6));
    world.accept(1, rotate);
    assert!(world.votes(6) && !world.votes(5));
    assert!(matches!(world.standing(6), Standing::OnProbation { .. }));
    assert_eq!(world.standing(5), Standing::Left);
}
