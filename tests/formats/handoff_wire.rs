//! What is said while keys are handed on, against damage; every byte of what is signed and sealed changed and refused.

use crate::shared::{NETWORK, canonical, pair, seal};
use xvault::crypto::access::{Commitments, Dealing, KeyShare, PrfKey, Sharing};
use xvault::message::access::desk::{Ack, DeskAnswer, DeskRequest, SignedSealKey};
use xvault::message::access::handoff::{
    Complaint, DealtVault, HandoffKeyOf, HandoffPackage, Piece, PieceKey, SignedHandoffKey,
};
use xvault::message::access::{Care, HandOff, HandedVault, KeptBy, TakeShares, TakenShare};
use xvault::message::{Canonical as _, Violation};
use xvault::types::limits::{
    MAX_COMMITTEE, MAX_HANDOFF_REVOCATIONS, MAX_HANDOFF_VAULTS, MAX_PACKAGE_LEN, MAX_REVOCATION_LEN,
    MAX_TRANSACTION_LEN,
};
use xvault::types::*;

fn members() -> Committee {
    Committee::new((1..=4).map(|nth| pair(nth).public()).collect()).unwrap()
}

fn dealt(seed: u8) -> (Commitments, Vec<KeyShare>) {
    let Dealing { commitments, shares } =
        PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&members()), &[seed; 32]);
    (commitments, shares)
}

fn handed(nth: u8) -> HandedVault {
    HandedVault { vault: VaultId([nth; 32]), dealing: 1, epoch: 2, attempt: 3 }
}

fn of() -> HandoffKeyOf {
    HandoffKeyOf { dealer: pair(1).public(), to: Hash([5; 32]), nonce: [6; 16] }
}

/// Two vaults, for four members: of one no key is known, of one an old one.
pub(crate) fn package() -> HandoffPackage {
    let (old, shares) = dealt(1);
    let mut vaults = Vec::new();
    let mut parts = Vec::new();
    for nth in 1..=2 {
        let dealing = shares[0].deal(Sharing::among(&members()), &[nth; 32]);
        vaults.push(DealtVault { of: handed(nth), old: old.clone(), dealt: dealing.commitments });
        parts.push(dealing.shares);
    }
    let piece = |at: usize, to| {
        let place = ShareIndex::at(at).unwrap();
        let context = HandoffPackage::piece_context(&of(), &vaults, place);
        let parts: Vec<_> = parts.iter().map(|shares| &shares[at]).collect();
        let key = seal(u8::try_from(at).unwrap());
        Piece::seal((to, key.public()), &context, &parts, &[8; 64])
    };
    let handoff = |at: u8| {
        let signer = members().members()[usize::from(at)];
        let nth = (1..=4).find(|nth| pair(*nth).public() == signer).unwrap();
        let signed = SignedHandoffKey::sign(&NETWORK, &of(), seal(at).public().clone(), &pair(nth));
        PieceKey::Handoff { key: SignedSealKey::hash_of(seal(at).public()), signature: signed.signature }
    };
    let pieces = vec![
        piece(0, handoff(0)),
        piece(1, handoff(1)),
        Piece::nothing(),
        piece(3, PieceKey::Seal(SignedSealKey::hash_of(seal(3).public()))),
    ];
    let revocations = vec![vec![1; 180], vec![2; 190]];
    HandoffPackage { network: NETWORK, of: of(), vaults, pieces, revocations }
}

pub(crate) fn hand_off() -> HandOff {
    let package = Hash([7; 32]);
    let kept_by = |nth: u8| KeptBy {
        member: pair(nth).public(),
        signature: Ack::sign(&NETWORK, &package.0, &pair(nth)).signature,
    };
    let mut kept: Vec<_> = (1..=3).map(kept_by).collect();
    kept.sort_by_key(|kept| kept.member);
    HandOff { to: Hash([5; 32]), package, vaults: vec![handed(1), handed(2)], kept }
}

pub(crate) fn take_shares() -> TakeShares {
    let share = |nth: u8| TakenShare {
        vault: VaultId([nth; 32]),
        dealing: 1,
        epoch: 2,
        dealers: 0b1011,
        commitments: Hash([nth; 32]),
    };
    TakeShares { shares: vec![share(1), share(2)] }
}

fn complaint() -> Complaint {
    Complaint { package: Hash([1; 32]), place: ShareIndex::at(2).unwrap(), secret: [3; 32] }
}

#[test]
fn what_is_said_of_handoffs_has_one_encoding() {
    canonical(&[package()]);
    canonical(&[hand_off()]);
    canonical(&[take_shares()]);
    canonical(&[complaint()]);
    canonical(&[Care { vaults: 9, former: 3, due: 4, without: 1 }]);
    let signed = SignedHandoffKey::sign(&NETWORK, &of(), seal(1).public().clone(), &pair(1));
    canonical(std::slice::from_ref(&signed));
    canonical(&[
        DeskRequest::HandoffKey { to: Hash([1; 32]), nonce: [2; 16] },
        DeskRequest::Handoff(package().encode()),
        DeskRequest::HandoffPackage { hash: Hash([3; 32]) },
        DeskRequest::Complaint(complaint()),
        DeskRequest::Care,
    ]);
    canonical(&[DeskAnswer::HandoffKey(signed), DeskAnswer::Care(Care::default())]);
}

#[test]
fn lists_of_handoffs_are_in_order_and_in_bounds() {
    let malformed = |changed: HandOff| HandOff::decode(&changed.encode()).map(drop);
    let good = hand_off();
    let swapped = |change: &dyn Fn(&mut HandOff)| {
        let mut changed = good.clone();
        change(&mut changed);
        malformed(changed)
    };
    assert_eq!(swapped(&|h| h.vaults.reverse()), Err(Violation::Malformed));
    assert_eq!(swapped(&|h| h.vaults[1] = h.vaults[0]), Err(Violation::Malformed));
    assert_eq!(swapped(&|h| h.vaults.clear()), Err(Violation::Malformed));
    assert_eq!(swapped(&|h| h.kept.reverse()), Err(Violation::Malformed));
    assert_eq!(swapped(&|h| h.kept[1] = h.kept[0]), Err(Violation::Malformed));
    assert_eq!(swapped(&|h| h.kept.clear()), Ok(()), "how many it takes says the ledger");
    let mut taken = take_shares();
    taken.shares.reverse();
    assert_eq!(TakeShares::decode(&taken.encode()), Err(Violation::Malformed));
    taken.shares.clear();
    assert_eq!(TakeShares::decode(&taken.encode()), Err(Violation::Malformed));
    let wrong = |change: &dyn Fn(&mut HandoffPackage)| {
        let mut changed = package();
        change(&mut changed);
        HandoffPackage::decode_bounded(&changed.encode()).map(drop)
    };
    assert_eq!(wrong(&|p| p.vaults.reverse()), Err(Violation::Malformed));
    assert_eq!(wrong(&|p| p.vaults.clear()), Err(Violation::Malformed));
    assert_eq!(wrong(&|p| p.pieces = vec![Piece::nothing(); MAX_COMMITTEE]), Ok(()));
    assert_eq!(wrong(&|p| p.pieces = vec![Piece::nothing(); MAX_COMMITTEE + 1]), Err(Violation::OutOfBounds));
    let many = |count: usize, len: usize| vec![vec![0; len]; count];
    assert_eq!(wrong(&|p| p.revocations = many(MAX_HANDOFF_REVOCATIONS, MAX_REVOCATION_LEN)), Ok(()));
    assert_eq!(wrong(&|p| p.revocations = many(MAX_HANDOFF_REVOCATIONS + 1, 1)), Err(Violation::OutOfBounds));
    assert_eq!(wrong(&|p| p.revocations = many(1, MAX_REVOCATION_LEN + 1)), Err(Violation::OutOfBounds));
    assert_eq!(HandoffPackage::decode_bounded(&vec![1; MAX_PACKAGE_LEN + 1]), Err(Violation::TooLong));
    let mut suite = package().encode();
    suite[0] = 2;
    assert_eq!(HandoffPackage::decode(&suite), Err(Violation::UnknownSuite));
    let nowhere = [&[1; 32][..], &[0], &[3; 32]].concat();
    assert_eq!(Complaint::decode(&nowhere), Err(Violation::OutOfBounds));
}

/// As many vaults as one package may have fit a transaction, with the word of the largest committee; one more is refused.
#[test]
fn the_longest_lists_fit_a_transaction() {
    let vault = |nth: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&nth.to_be_bytes());
        VaultId(id)
    };
    let many = |count: usize| {
        let vaults = (0..count).map(|nth| HandedVault { vault: vault(nth), ..handed(1) }).collect();
        let kept = (0..MAX_COMMITTEE).map(|nth| {
            let mut member = [0; 32];
            member[0] = u8::try_from(nth).unwrap();
            KeptBy { member: PublicKey(member), signature: [0; 64] }
        });
        HandOff { vaults, kept: kept.collect(), ..hand_off() }
    };
    let long = many(MAX_HANDOFF_VAULTS).encode();
    assert!(long.len() + 200 < MAX_TRANSACTION_LEN, "{}", long.len());
    assert!(HandOff::decode(&long).is_ok());
    assert_eq!(HandOff::decode(&many(MAX_HANDOFF_VAULTS + 1).encode()), Err(Violation::OutOfBounds));
    let taken = |count: usize| {
        let share = take_shares().shares[0];
        let shares = (0..count).map(|nth| TakenShare { vault: vault(nth), ..share }).collect();
        TakeShares { shares }.encode()
    };
    assert!(taken(MAX_HANDOFF_VAULTS).len() + 200 < MAX_TRANSACTION_LEN);
    assert!(TakeShares::decode(&taken(MAX_HANDOFF_VAULTS)).is_ok());
    assert_eq!(TakeShares::decode(&taken(MAX_HANDOFF_VAULTS + 1)), Err(Violation::OutOfBounds));
}

/// C15: a key is of one member, network, dealer, roster and package; and a piece opens for nothing else.
#[test]
fn c15_no_byte_of_a_handoff_key_or_a_piece_can_be_changed() {
    let signed = SignedHandoffKey::sign(&NETWORK, &of(), seal(1).public().clone(), &pair(1));
    let member = pair(1).public();
    assert_eq!(signed.verify(&NETWORK, &of(), &member), Ok(()));
    let bad = Err(Violation::BadSignature);
    assert_eq!(signed.verify(&NetworkId([1; 32]), &of(), &member), bad);
    assert_eq!(signed.verify(&NETWORK, &of(), &pair(2).public()), bad);
    for other in [
        HandoffKeyOf { dealer: pair(9).public(), ..of() },
        HandoffKeyOf { to: Hash([9; 32]), ..of() },
        HandoffKeyOf { nonce: [9; 16], ..of() },
    ] {
        assert_eq!(signed.verify(&NETWORK, &other, &member), bad);
    }
    let bytes = signed.encode();
    for at in (0..bytes.len()).step_by(7).chain(bytes.len() - 64..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let verified =
            SignedHandoffKey::decode(&changed).and_then(|key| key.verify(&NETWORK, &of(), &member));
        assert!(verified.is_err(), "byte {at}");
    }
    let good = package();
    let place = ShareIndex::at(0).unwrap();
    assert_eq!(good.open(place, &seal(0), &[1; 32]).unwrap().len(), 2);
    for at in (0..good.pieces[0].sealed.len()).step_by(13) {
        let mut changed = good.clone();
        changed.pieces[0].sealed[at] ^= 1;
        assert!(changed.open(place, &seal(0), &[1; 32]).is_err(), "byte {at}");
    }
    // What it is sealed for: who deals, to whom, for which package, which vaults in which attempt.
    let changes: [&dyn Fn(&mut HandoffPackage); 6] = [
        &|p| p.of.dealer = pair(9).public(),
        &|p| p.of.to = Hash([9; 32]),
        &|p| p.of.nonce = [9; 16],
        &|p| p.vaults[1].of.epoch += 1,
        &|p| p.vaults[1].of.attempt += 1,
        &|p| p.vaults[1].old = p.vaults[1].dealt.clone(),
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(changed.open(place, &seal(0), &[1; 32]).is_err(), "change {nth}");
    }
    let mut moved = good.clone();
    moved.pieces.swap(0, 1);
    assert!(moved.open(ShareIndex::at(1).unwrap(), &seal(0), &[1; 32]).is_err(), "another place");
    assert_ne!(moved.hash(), good.hash());
}
