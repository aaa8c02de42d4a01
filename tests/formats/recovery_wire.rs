//! What is said when keys are lost, against damage: guardians' shares, requests, what is released, and what the ledger has of
//! them. `XVAULT_REGENERATE=1` rewrites the frozen bytes.

use crate::shared::{
    NETWORK, are_frozen, canonical, holds_in_every_byte, pair, seal, transactions_hold_in_every_byte,
};
use xvault::crypto::shamir::{Part, commitment, part_hash, split};
use xvault::ledger::ask::{Answer, Question};
use xvault::ledger::recovery::{Guardians, KeyGeneration, Recovery, RecoveryState};
use xvault::message::access::desk::{DeskAnswer, DeskRequest};
use xvault::message::access::recovery_action::next_key_hash;
use xvault::message::access::{
    Guardian, GuardianSet, GuardianShare, RecoveryAction, RecoveryRequest, Release,
};
use xvault::message::{Action, Canonical as _, SignedTransaction, Transaction, Violation};
use xvault::types::limits::{
    MAX_GUARDIANS, MAX_RECOVERY_DELAY_MICROS, MAX_RECOVERY_REQUEST_LEN, MAX_SEALED_PART_LEN,
};
use xvault::types::*;

const VAULT: VaultId = VaultId([1; 32]);
const SECRET: [u8; 32] = [0x5e; 32];

fn parts() -> Vec<Part> {
    split(&SECRET, 2, 3, &[4; 32])
}

fn set() -> GuardianSet {
    let guardian =
        |part: &Part| Guardian { key: pair(10 + part.place()).public(), part: part_hash(&VAULT, 2, part) };
    GuardianSet {
        vault: VAULT,
        number: 2,
        threshold: 2,
        delay_micros: 72 * 3_600 * 1_000_000,
        commitment: commitment(&VAULT, 2, &SECRET),
        guardians: parts().iter().map(guardian).collect(),
    }
}

fn share() -> GuardianShare {
    let (part, set) = (&parts()[0], set());
    let share = GuardianShare {
        network: NETWORK,
        vault: VAULT,
        set: 2,
        threshold: 2,
        count: 3,
        place: 1,
        key: set.guardians[0].key,
        package: 7,
        part: set.guardians[0].part,
        commitment: set.commitment,
        note: "keep it well".into(),
        sealed: vec![],
    };
    share.seal(seal(3).public(), part, &[5; 64])
}

fn request() -> RecoveryRequest {
    let request = RecoveryRequest {
        network: NETWORK,
        vault: VAULT,
        key: pair(0).public(),
        seal: seal(6).public().clone(),
        created: Timestamp::from_unix_millis(9),
        name: "It is me".into(),
        signature: [0; 64],
    };
    request.sign(&pair(20))
}

fn release() -> Release {
    Release::make(&request(), 2, &parts()[0], &pair(11), &[8; 64])
}

fn actions() -> Vec<(&'static str, RecoveryAction)> {
    let (vault, request, next) = (VAULT, request().id(), next_key_hash(&VAULT, 1, &pair(1).public()));
    vec![
        ("set_guardians", RecoveryAction::SetGuardians(set())),
        ("approve", RecoveryAction::Approve { vault, set: 2, request }),
        ("veto", RecoveryAction::Veto { vault, request }),
        ("pledge_key", RecoveryAction::PledgeKey { vault, next }),
        ("rotate", RecoveryAction::Rotate { vault, generation: 1, next }),
    ]
}

fn sign(action: RecoveryAction) -> SignedTransaction {
    let (network, author, expires) = (NETWORK, pair(9).public(), Height(1_000));
    Transaction { network, author, nonce: 6, expires, action: Action::Recovery(action) }.sign(&pair(9))
}

#[test]
fn all_of_it_has_one_encoding() {
    let transactions: Vec<_> = actions().into_iter().map(|(_, action)| sign(action)).collect();
    canonical(&transactions);
    canonical(&[set()]);
    canonical(&[share()]);
    canonical(&[request()]);
    canonical(&[release()]);
    canonical(&[
        DeskRequest::Release { vault: VAULT, request: request().id(), release: release() },
        DeskRequest::Releases(Box::new(request())),
    ]);
    canonical(&[DeskAnswer::Releases(vec![release(), release()]), DeskAnswer::Releases(vec![])]);
    canonical(&[Question::Recovery { vault: VAULT }]);
    let row = Recovery {
        request: Hash([1; 32]),
        opened: Timestamp::from_unix_millis(3),
        approvals: vec![1, 3],
        vetoed: Some(Height(5)),
    };
    let keys = KeyGeneration { generation: 2, next: Hash([3; 32]), since: Height(4), dealing: Some(1) };
    let state = RecoveryState {
        guardians: Some(Guardians { set: set(), height: Height(2) }),
        requests: vec![row.clone()],
        keys: Some(keys),
    };
    canonical(&[Answer::Recovery(Box::new(state)), Answer::Recovery(Box::default())]);
    canonical(std::slice::from_ref(&row));
    for approvals in [vec![3, 1], vec![1, 1]] {
        let odd = Recovery { approvals, ..row.clone() };
        assert_eq!(Recovery::decode(&odd.encode()), Err(Violation::Malformed));
    }
    let many = Recovery { approvals: (1..=17).collect(), ..row };
    assert_eq!(Recovery::decode(&many.encode()), Err(Violation::OutOfBounds));
}

#[test]
fn guardians_are_in_bounds() {
    let changed = |change: &dyn Fn(&mut GuardianSet)| {
        let mut set = set();
        change(&mut set);
        GuardianSet::decode(&set.encode())
    };
    assert_eq!(changed(&|_| ()), Ok(set()));
    let out = Err(Violation::OutOfBounds);
    for threshold in [0, 1, 4] {
        assert_eq!(changed(&|set| set.threshold = threshold), out, "{threshold} of 3");
    }
    assert_eq!(changed(&|set| set.guardians.truncate(1)), out);
    assert_eq!(changed(&|set| set.guardians[1].key = set.guardians[0].key), out, "one twice");
    let many = |count: usize| {
        let guardian =
            |nth: usize| Guardian { key: PublicKey([u8::try_from(nth).unwrap(); 32]), part: Hash([0; 32]) };
        changed(&|set| set.guardians = (0..count).map(guardian).collect())
    };
    assert!(many(MAX_GUARDIANS).is_ok());
    assert_eq!(many(MAX_GUARDIANS + 1), out);
    assert!(changed(&|set| set.delay_micros = MAX_RECOVERY_DELAY_MICROS).is_ok());
    for delay in [0, MAX_RECOVERY_DELAY_MICROS + 1] {
        assert_eq!(changed(&|set| set.delay_micros = delay), out);
    }
    assert_eq!((set().place(&pair(12).public()), set().place(&pair(1).public())), (Some(2), None));
    assert_eq!((set().at(0), set().at(4), set().at(3)), (None, None, Some(&set().guardians[2])));
}

#[test]
fn a_share_opens_for_its_guardian_and_no_byte_of_it_can_be_changed() {
    assert_eq!(share().open(&seal(3)), Ok(parts().remove(0)));
    assert_eq!(share().open(&seal(4)), Err(Violation::WrongShare));
    let text = share().to_text();
    assert_eq!(GuardianShare::from_text(&text), Ok(share()));
    assert_eq!(GuardianShare::from_text(&format!("\n{} ", text.replace('\n', "\r\n"))), Ok(share()));
    for wrong in ["", &text.replace("SHARE", "STARE"), &text[..text.len() / 2]] {
        assert!(GuardianShare::from_text(wrong).is_err());
    }
    holds_in_every_byte("share", &share().encode(), |bytes| {
        GuardianShare::decode(bytes).and_then(|found| found.open(&seal(3))).map(drop)
    });
    // Another part than the one that is named, however well it is sealed.
    let other = share().seal(seal(3).public(), &Part::new(1, [9; 32]).unwrap(), &[5; 64]);
    assert_eq!(other.open(&seal(3)), Err(Violation::WrongShare));
    let place = GuardianShare { place: 4, ..share() };
    assert_eq!(GuardianShare::decode(&place.encode()), Err(Violation::OutOfBounds));
    let shown = GuardianShare { note: "a\x1b[2J".into(), ..share() };
    assert_eq!(GuardianShare::decode(&shown.encode()), Err(Violation::OutOfBounds));
}

#[test]
fn no_byte_of_a_request_can_be_changed() {
    assert_eq!(request().verify(), Ok(()));
    assert_eq!(RecoveryRequest::from_text(&request().to_text()), Ok(request()));
    let bytes = request().encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let read = RecoveryRequest::decode(&changed);
        assert!(read.as_ref().is_ok_and(|read| read.id() != request().id()) || read.is_err(), "byte {at}");
        assert!(read.and_then(|read| read.verify()).is_err(), "byte {at}");
    }
    let long = vec![1; MAX_RECOVERY_REQUEST_LEN + 1];
    assert_eq!(RecoveryRequest::decode_bounded(&long), Err(Violation::TooLong));
    assert_eq!(RecoveryRequest::decode_bounded(&bytes), Ok(request()));
}

#[test]
fn what_is_released_is_for_one_request_of_one_set_by_one_guardian() {
    let (id, set, part) = (request().id(), set(), parts().remove(0));
    assert_eq!(release().verify(&id, &set), Ok(()));
    assert_eq!(release().open(&id, &set, &seal(6)), Ok(part));
    assert_eq!(release().open(&id, &set, &seal(7)), Err(Violation::WrongShare));
    let bad = Err(Violation::BadSignature);
    assert_eq!(release().verify(&Hash([1; 32]), &set), bad);
    assert_eq!(release().verify(&id, &GuardianSet { number: 3, ..set.clone() }), bad);
    assert_eq!(Release { place: 2, ..release() }.verify(&id, &set), bad);
    assert_eq!(Release { place: 9, ..release() }.verify(&id, &set), Err(Violation::NotAMember));
    holds_in_every_byte("release", &release().encode(), |bytes| {
        Release::decode(bytes).and_then(|read| read.verify(&id, &set))
    });
    let long = |len| Release { sealed: vec![1; len], ..release() };
    assert!(Release::decode(&long(MAX_SEALED_PART_LEN).encode()).is_ok());
    assert_eq!(Release::decode(&long(MAX_SEALED_PART_LEN + 1).encode()), Err(Violation::OutOfBounds));
    // Signed by the guardian, and not what the owner cut: it is told whose it is.
    let wrong = Release::make(&request(), 2, &Part::new(1, [9; 32]).unwrap(), &pair(11), &[8; 64]);
    assert_eq!(wrong.verify(&id, &set), Ok(()));
    assert_eq!(wrong.open(&id, &set, &seal(6)), Err(Violation::WrongShare));
    assert_ne!(wrong.hash(), release().hash());
}

#[test]
fn every_changed_byte_of_a_signed_action_is_refused() {
    let signed: Vec<_> = actions().into_iter().map(|(name, action)| (name, sign(action))).collect();
    transactions_hold_in_every_byte(&signed);
}

#[test]
fn a_pledge_is_of_its_vault_generation_and_key() {
    let hash = next_key_hash(&VAULT, 1, &pair(1).public());
    assert_ne!(hash, next_key_hash(&VaultId([2; 32]), 1, &pair(1).public()));
    assert_ne!(hash, next_key_hash(&VAULT, 2, &pair(1).public()));
    assert_ne!(hash, next_key_hash(&VAULT, 1, &pair(2).public()));
}

#[test]
fn the_bytes_of_recovery_are_frozen() {
    let mut vectors: Vec<(String, Vec<u8>)> = actions()
        .into_iter()
        .map(|(name, action)| (format!("transaction.{name}"), sign(action).bytes().to_vec()))
        .collect();
    for part in parts() {
        vectors.push((format!("part.{}", part.place()), part.as_bytes().to_vec()));
    }
    vectors.push(("share".into(), share().encode()));
    vectors.push(("request".into(), request().encode()));
    vectors.push(("request.id".into(), request().id().0.to_vec()));
    vectors.push(("release".into(), release().encode()));
    are_frozen("recovery.hex", "tests/formats/recovery_wire.rs", &vectors);
}
