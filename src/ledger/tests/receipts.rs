use super::*;
use crate::ledger::log::Paths;
use crate::ledger::receipt::{last_leaf, log_proof, roster_step};
use crate::message::anchor::Opening;
use crate::message::anchor_receipt::{AnchorReceipt, Anchored, CommitmentProof, RosterStep};
use crate::message::checkpoint::{Checkpoint, Policy, SignedCheckpoint};
use crate::message::{Canonical as _, Violation};

fn opening(nth: u8) -> Opening {
    let content = Hash(*blake3::hash(&[nth]).as_bytes());
    Opening { version: VersionId([nth; 16]), content, size: 1, salt: [nth; 32] }
}

/// The checkpoint of the last block, cosigned by these.
pub(super) fn checkpoint(world: &World, signers: &[u8]) -> SignedCheckpoint {
    let header = world.blocks.last().unwrap().header;
    let roster = query::roster(&world.state, &header.record.roster).unwrap().unwrap();
    let mut signed =
        SignedCheckpoint::new(Checkpoint::new(&NETWORK, header.record.log_size, header.log_root));
    for nth in signers {
        let cosignature = signed.checkpoint().cosign(1_000 + u64::from(*nth), &pair(*nth), &pq_pair(*nth));
        assert_eq!(signed.add(cosignature, &roster), Ok(true));
    }
    signed
}

/// A chain of which version 3 of five is anchored; what proves it but the tree head.
fn anchored_world() -> (World, SignedTransaction, CommitmentProof) {
    let mut world = World::new(4);
    world.accept(9, create(9));
    let openings: Vec<_> = (0..5).map(opening).collect();
    let mut anchor = anchor(9, None, 1);
    anchor.commits.push(PackCommit::of(segment(1), &openings));
    let signed = world.sign(9, Action::Anchor(anchor));
    assert_eq!(world.block(std::slice::from_ref(&signed)), []);
    (world, signed, CommitmentProof::of(1, &openings, 3).unwrap())
}

fn receipt(
    world: &World,
    transaction: &SignedTransaction,
    commitment: &CommitmentProof,
    signers: &[u8],
    steps: Vec<RosterStep>,
) -> AnchorReceipt {
    let header = world.blocks.last().unwrap().header;
    let last = last_leaf(&world.state, &header.record).unwrap();
    let mut paths = Paths::new(&world.state);
    let proof = log_proof(&mut paths, &transaction.id(), &last, &steps).unwrap().unwrap();
    let roster = query::roster(&world.state, &header.record.roster).unwrap().unwrap();
    let note = checkpoint(world, signers).to_note(&roster);
    AnchorReceipt { commitment: commitment.clone(), transaction: transaction.clone(), proof, note }
}

fn verify(world: &World, receipt: &AnchorReceipt, policy: Policy) -> Result<Anchored, Violation> {
    AnchorReceipt::from_text(&receipt.to_text())?.verify(&world.genesis, policy)
}

#[test]
fn a_receipt_says_what_when_and_by_whom_with_the_genesis_alone() {
    let (world, transaction, commitment) = anchored_world();
    let receipt = receipt(&world, &transaction, &commitment, &[1, 2, 4], vec![]);
    let found = verify(&world, &receipt, Policy::Quorum).unwrap();
    assert_eq!(found.opening, opening(3));
    assert_eq!((found.id, found.author, found.height), (transaction.id(), pair(9).public(), Height(2)));
    assert_eq!(found.time, world.blocks[1].header.record.time);
    let mut labels: Vec<_> =
        found.signers.iter().map(|(_, label, seconds)| (label.as_str(), *seconds)).collect();
    labels.sort_unstable();
    assert_eq!(labels, [("static-1", 1_001), ("static-2", 1_002), ("static-4", 1_004)]);
    assert_eq!(found.members, 4);
    assert_eq!(verify(&world, &receipt, Policy::All), Err(Violation::NoQuorum));
    println!("{} bytes of receipt by three of four", receipt.to_text().len());
}

#[test]
fn a_checkpoint_grows_from_a_quorum_to_all() {
    let (world, transaction, commitment) = anchored_world();
    let roster = world.genesis.roster.clone();
    let mut signed = checkpoint(&world, &[1, 2]);
    assert!(!signed.satisfies(&roster, Policy::Quorum));
    assert_eq!(signed.verify(&roster, Policy::Quorum), Err(Violation::NoQuorum));
    for (nth, policy) in [(3, Policy::Quorum), (4, Policy::All)] {
        assert!(!signed.satisfies(&roster, policy));
        let late = signed.checkpoint().cosign(9_000, &pair(nth), &pq_pair(nth));
        assert_eq!(signed.add(late.clone(), &roster), Ok(true));
        assert_eq!(signed.add(late, &roster), Ok(false), "once is enough");
        assert_eq!(signed.verify(&roster, policy), Ok(()));
        assert_eq!(SignedCheckpoint::from_note(&signed.to_note(&roster), &roster), Ok(signed.clone()));
    }
    let stranger = signed.checkpoint().cosign(9_000, &pair(5), &pq_pair(5));
    assert_eq!(signed.add(stranger, &roster), Err(Violation::NotAMember));
    let full = receipt(&world, &transaction, &commitment, &[1, 2, 3, 4], vec![]);
    assert_eq!(verify(&world, &full, Policy::All).unwrap().signers.len(), 4);
}

#[test]
fn half_a_cosignature_does_not_count() {
    let (world, ..) = anchored_world();
    let roster = &world.genesis.roster;
    let mut signed = checkpoint(&world, &[1, 2]);
    let good = signed.checkpoint().cosign(9_000, &pair(3), &pq_pair(3));
    let wrong_pq = signed.checkpoint().cosign(9_000, &pair(3), &pq_pair(4));
    let wrong_key = signed.checkpoint().cosign(9_000, &pair(4), &pq_pair(3));
    for bad in [
        wrong_pq,
        crate::message::Cosignature { ed25519: wrong_key.ed25519, ..good.clone() },
        crate::message::Cosignature { seconds: 9_001, ..good },
    ] {
        assert_eq!(signed.add(bad, roster), Err(Violation::BadSignature));
    }
}

#[test]
fn a_receipt_survives_changes_of_the_static_nodes() {
    let (mut world, transaction, commitment) = anchored_world();
    let mut steps = Vec::new();
    let mut step = |world: &World, signers: &[u8]| {
        let header = world.blocks.last().unwrap().header;
        steps.push(roster_step(&world.state, &header, &checkpoint(world, signers)).unwrap());
        steps.clone()
    };
    let add = world.governance(Change::AddStatic(member(5)), &[1, 2, 3], Some(5));
    world.accept(1, add);
    let one = step(&world, &[1, 2, 3]);
    world.alive.push(5);
    let remove = world.governance(Change::RemoveStatic(pair(1).public()), &[2, 3, 4, 5], None);
    world.accept(2, remove);
    let two = step(&world, &[2, 3, 4, 5]);
    world.blocks(1);
    let make = |signers: &[u8], steps: &[RosterStep]| {
        receipt(&world, &transaction, &commitment, signers, steps.to_vec())
    };
    let good = make(&[2, 3, 4, 5], &two);
    assert_eq!(verify(&world, &good, Policy::All).unwrap().members, 4);
    assert!(verify(&world, &make(&[3, 4, 5], &two), Policy::Quorum).is_ok());
    // Each step must be there, in order, and by those who voted then.
    for wrong in
        [vec![], one, two[1..].to_vec(), vec![two[1].clone(), two[0].clone()], vec![two[0].clone(); 2]]
    {
        assert!(verify(&world, &make(&[2, 3, 4, 5], &wrong), Policy::Quorum).is_err());
    }
    let changed = |change: &dyn Fn(&mut RosterStep)| {
        let mut steps = two.clone();
        change(&mut steps[0]);
        verify(&world, &make(&[2, 3, 4, 5], &steps), Policy::Quorum).unwrap_err()
    };
    assert_eq!(changed(&|s| s.cosignatures.truncate(2)), Violation::NoQuorum);
    assert_eq!(changed(&|s| s.cosignatures[1] = s.cosignatures[0].clone()), Violation::DuplicateSigner);
    assert_eq!(changed(&|s| s.root.0[0] ^= 1), Violation::BadSignature);
    assert_eq!(changed(&|s| s.last.record.height.0 += 1), Violation::WrongProof);
    assert_eq!(changed(&|s| s.next = world.genesis.roster.clone()), Violation::WrongRoster);
    // Keys of a static node that left are worth nothing for what came after.
    let header = world.blocks.last().unwrap().header;
    let old = &world.genesis.roster;
    let mut forged =
        SignedCheckpoint::new(Checkpoint::new(&NETWORK, header.record.log_size, header.log_root));
    for nth in 1..=4 {
        forged.add(forged.checkpoint().cosign(1, &pair(nth), &pq_pair(nth)), old).unwrap();
    }
    let forged = AnchorReceipt { note: forged.to_note(old), ..make(&[2, 3, 4, 5], &[]) };
    assert_eq!(verify(&world, &forged, Policy::Quorum), Err(Violation::WrongRoster));
}

#[test]
fn another_networks_receipt_is_refused() {
    let (world, transaction, commitment) = anchored_world();
    let receipt = receipt(&world, &transaction, &commitment, &[1, 2, 3, 4], vec![]);
    let other = Genesis { network: NetworkId([1; 32]), ..world.genesis.clone() };
    assert_eq!(receipt.verify(&other, Policy::Quorum), Err(Violation::WrongNetwork));
    let strangers = Genesis { roster: Roster::new((5..=8).map(member).collect()).unwrap(), ..world.genesis };
    assert!(receipt.verify(&strangers, Policy::Quorum).is_err());
}

#[test]
fn what_is_no_anchor_or_no_version_of_it_is_refused() {
    let (world, transaction, commitment) = anchored_world();
    let good = receipt(&world, &transaction, &commitment, &[1, 2, 3], vec![]);
    let creation = world.blocks[0].transactions[0].clone();
    let no_anchor = receipt(&world, &creation, &commitment, &[1, 2, 3], vec![]);
    assert_eq!(verify(&world, &no_anchor, Policy::Quorum), Err(Violation::WrongReceipt));
    for change in [opening(2), Opening { size: 2, ..opening(3) }, Opening { salt: [0; 32], ..opening(3) }] {
        let mut changed = good.clone();
        changed.commitment.opening = change;
        assert_eq!(verify(&world, &changed, Policy::Quorum), Err(Violation::WrongProof));
    }
    let mut elsewhere = good.clone();
    elsewhere.commitment.index = 4;
    assert_eq!(verify(&world, &elsewhere, Policy::Quorum), Err(Violation::WrongProof));
    let mut leaf = good;
    leaf.proof.index -= 1;
    assert_eq!(verify(&world, &leaf, Policy::Quorum), Err(Violation::WrongProof));
}

/// Changes every `step`-th byte of a receipt, to what keeps it text.
fn change_bytes(genesis: &Genesis, text: &str, step: usize) {
    assert!(AnchorReceipt::from_text(text).unwrap().verify(genesis, Policy::Quorum).is_ok());
    for at in (0..text.len()).step_by(step) {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = match bytes[at] {
            b'A' => b'B',
            b'\n' => b' ',
            byte if byte.is_ascii() => b'A',
            byte => byte ^ 1,
        };
        fails(genesis, &bytes, &format!("byte {at} changed"));
    }
}

fn fails(genesis: &Genesis, bytes: &[u8], what: &str) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let outcome = AnchorReceipt::from_text(text).and_then(|found| found.verify(genesis, Policy::Quorum));
    assert!(outcome.is_err(), "{what}");
}

#[test]
fn every_changed_byte_of_a_receipt_makes_it_fail() {
    let (world, transaction, commitment) = anchored_world();
    let text = receipt(&world, &transaction, &commitment, &[1, 2, 4], vec![]).to_text();
    change_bytes(&world.genesis, &text, 1);
    let bytes = text.as_bytes();
    for at in (0..text.len()).step_by(61) {
        fails(&world.genesis, &bytes[..at], &format!("cut at {at}"));
        fails(&world.genesis, &[&bytes[..at], &bytes[at + 1..]].concat(), &format!("without byte {at}"));
        fails(&world.genesis, &[&bytes[..at], b"\n", &bytes[at..]].concat(), &format!("a line more at {at}"));
    }
    fails(&world.genesis, &[bytes, b"\n"].concat(), "a line more");
    fails(&world.genesis, &[bytes, "\u{2014} x AAAA\n".as_bytes()].concat(), "a signature more");
    // Only what was there before may be missing: one signature of more than a quorum is not one of these.
    let four = receipt(&world, &transaction, &commitment, &[1, 2, 3, 4], vec![]).to_text();
    assert_ne!(four, text);
}

#[test]
fn every_changed_byte_of_a_roster_step_makes_a_receipt_fail() {
    let (mut world, transaction, commitment) = anchored_world();
    let replace = Change::ReplaceStatic { old: pair(4).public(), new: member(5) };
    let replace = world.governance(replace, &[1, 2, 3], Some(5));
    world.accept(1, replace);
    let header = world.blocks.last().unwrap().header;
    let steps = vec![roster_step(&world.state, &header, &checkpoint(&world, &[1, 2, 3])).unwrap()];
    world.alive.push(5);
    world.blocks(1);
    let text = receipt(&world, &transaction, &commitment, &[1, 2, 3, 5], steps).to_text();
    change_bytes(&world.genesis, &text, 23);
}

#[test]
fn the_parts_of_a_receipt_survive_their_encoding() {
    let (world, transaction, commitment) = anchored_world();
    let receipt = receipt(&world, &transaction, &commitment, &[1, 2, 3], vec![]);
    assert_eq!(AnchorReceipt::from_text(&receipt.to_text()), Ok(receipt.clone()));
    let proof = &receipt.proof;
    assert_eq!(crate::message::anchor_receipt::LogProof::decode(&proof.encode()), Ok(proof.clone()));
}
