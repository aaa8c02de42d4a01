//! Shares, packages and keys while keys are handed on, over power loss at any moment.

use super::*;
use crate::crypto::access::{Commitments, KeyShare, Purpose, SealPublic};
use crate::message::access::handoff::HandoffKeyOf;
use crate::message::access::package::commitments_hash;

const MARKS: [Hash; 3] = [Hash([1; 32]), Hash([2; 32]), Hash([3; 32])];

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_000 * seconds)
}

fn dealt(seed: u8) -> (KeyShare, Commitments) {
    let committee = Committee::new((0..4).map(|nth| PublicKey([nth; 32])).collect()).unwrap();
    let Dealing { commitments, mut shares } =
        PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[seed; 32]);
    (shares.remove(1), commitments)
}

fn audit() -> SealPublic {
    SealKey::from_seed(&[8; 32]).public().clone()
}

/// A store with a share of epoch 0, and what was taken for epoch 1.
fn begun(disk: &MemDisk) -> AccessStore {
    let store = open(disk).unwrap();
    let (share, commitments) = dealt(1);
    store.take_share(&VAULT, (0, 0), &share, &commitments, &audit()).unwrap();
    let (share, commitments) = dealt(2);
    store.keep_candidates(&[(VAULT, (0, 0), share, commitments)]).unwrap();
    store
}

fn share_of(store: &AccessStore, epoch: u32) -> Option<KeyShare> {
    store.view().unwrap().share(&VAULT, (0, epoch)).unwrap().map(|held| held.share)
}

#[test]
fn a_share_that_was_taken_survives_power_loss_at_any_moment_until_it_counts() {
    let next = commitments_hash(&dealt(2).1);
    for seed in 1.. {
        let disk = MemDisk::new(ROOM);
        drop(begun(&disk));
        // Durable before anything is said of it.
        let crashing = disk.after_power_loss(Survivors::Nothing);
        let store = open(&crashing).unwrap();
        crashing.lose_power_at(crashing.changes() + seed);
        let promoted = store.promote(&VAULT, (0, 1), &next, &audit());
        drop(store);
        let store = open(&crashing.after_power_loss(Survivors::Random(seed))).unwrap();
        match (share_of(&store, 0), share_of(&store, 1)) {
            (Some(old), None) => {
                assert_eq!(old, dealt(1).0);
                assert!(promoted.is_err(), "what was answered is durable");
                assert!(store.view().unwrap().candidate(&VAULT, (0, 0), &next).unwrap().is_some());
                assert!(store.promote(&VAULT, (0, 1), &next, &audit()).unwrap());
            }
            (None, Some(new)) => assert_eq!(new, dealt(2).0),
            other => panic!("{seed}: {other:?}"),
        }
        assert_eq!((share_of(&store, 0), share_of(&store, 1)), (None, Some(dealt(2).0)));
        assert!(store.view().unwrap().candidate(&VAULT, (0, 0), &next).unwrap().is_none());
        assert!(!store.promote(&VAULT, (0, 1), &next, &audit()).unwrap(), "once");
        if !crashing.is_down() {
            assert!(seed > 3, "it did lose power");
            return;
        }
    }
}

#[test]
fn shares_of_before_go_and_those_of_now_stay() {
    let disk = MemDisk::new(ROOM);
    let store = begun(&disk);
    assert!(!store.promote(&VAULT, (0, 1), &Hash([9; 32]), &audit()).unwrap(), "of another sum");
    assert!(!store.promote(&VAULT, (0, 0), &Hash([9; 32]), &audit()).unwrap(), "nothing is before the first");
    assert!(!store.drop_shares(&VAULT, (0, 0)).unwrap(), "it is of now");
    assert!(!store.drop_shares(&VaultId([9; 32]), (0, 5)).unwrap());
    assert_eq!(store.view().unwrap().audit_key(&VAULT).unwrap(), Some(audit()));
    assert!(store.view().unwrap().has_share(&VAULT, (0, 0)).unwrap());
    // The owner dealt anew: what was taken of the handoff is of no use.
    assert!(store.drop_shares(&VAULT, (0, 1)).unwrap());
    let view = store.view().unwrap();
    assert!(!view.has_share(&VAULT, (0, 0)).unwrap());
    assert!(view.candidate(&VAULT, (0, 0), &commitments_hash(&dealt(2).1)).unwrap().is_none());
    assert_eq!(view.audit_key(&VAULT).unwrap(), None);
}

/// C6 by name: what was sealed to a former key opens with none that is here once the former one is forgotten, and what the
/// database keeps of it in freed pages is under a key that is gone.
#[test]
fn c6_old_dealings_do_not_open_with_present_keys() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let first = store.seal_keys().unwrap().remove(0);
    let sealed = first.key.public().seal(Purpose::Share, b"", b"a share", &[5; 64]);
    let opens = |store: &AccessStore| {
        let keys = store.seal_keys().unwrap();
        keys.iter().any(|held| held.key.open(Purpose::Share, b"", &sealed).is_ok())
    };
    assert!(!store.renew_seal_key(&MARKS[0], at(1)).unwrap(), "the first was made for no other");
    assert!(store.renew_seal_key(&MARKS[1], at(2)).unwrap());
    assert!(!store.renew_seal_key(&MARKS[1], at(3)).unwrap(), "once");
    let keys = store.seal_keys().unwrap();
    assert_eq!((keys.len(), keys[0].replaced, keys[1].replaced), (2, None, Some(at(2))));
    assert_ne!(keys[0].key.public(), first.key.public());
    assert!(opens(&store), "what is on its way still opens");
    let before = disk.after_power_loss(Survivors::Everything);
    let old_key = read_file(&before, "access.key");
    assert_eq!(store.forget_seal_keys(at(2)).unwrap(), 0);
    assert_eq!(store.forget_seal_keys(at(3)).unwrap(), 1);
    assert!(!opens(&store));
    store.renew_key().unwrap();
    assert_ne!(read_file(&disk, "access.key"), old_key);
    let again = open(&disk.after_power_loss(Survivors::Nothing)).unwrap();
    assert!(!opens(&again) && again.seal_keys().unwrap().len() == 1);
    // Two in one moment of the clock are two.
    assert!(
        again.renew_seal_key(&MARKS[2], at(9)).unwrap() && again.renew_seal_key(&MARKS[0], at(9)).unwrap()
    );
    assert_eq!(again.seal_keys().unwrap().len(), 3);
}

fn read_file(disk: &MemDisk, name: &str) -> Vec<u8> {
    let file = Disk::open(disk, name).unwrap();
    let mut bytes = vec![0; 32];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_key_for_a_package_is_of_this_dealer_roster_and_package_alone() {
    let disk = MemDisk::new(ROOM);
    let store = open(&disk).unwrap();
    let of = HandoffKeyOf { dealer: PublicKey([1; 32]), to: Hash([2; 32]), nonce: [3; 16] };
    let held = store.seal_keys().unwrap().remove(0);
    let secret = held.handoff_secret(&of);
    for other in [
        HandoffKeyOf { dealer: PublicKey([9; 32]), ..of },
        HandoffKeyOf { to: Hash([9; 32]), ..of },
        HandoffKeyOf { nonce: [9; 16], ..of },
    ] {
        assert_ne!(held.handoff_secret(&other), secret);
    }
    drop(store);
    let again = open(&disk.after_power_loss(Survivors::Nothing)).unwrap();
    assert_eq!(again.seal_keys().unwrap()[0].handoff_secret(&of), secret, "the same after a crash");
}

#[test]
fn packages_and_what_is_wrapped_outlive_a_renewal_of_the_key_at_rest() {
    let disk = MemDisk::new(ROOM);
    let store = begun(&disk);
    let (one, two, dealer) = (Hash([1; 32]), Hash([2; 32]), PublicKey([4; 32]));
    store.keep_handoff(&one, &dealer, b"one", at(1)).unwrap();
    store.keep_handoff(&two, &dealer, b"two", at(2)).unwrap();
    store.renew_seal_key(&MARKS[0], at(1)).unwrap();
    store.renew_seal_key(&MARKS[1], at(2)).unwrap();
    let publics = |store: &AccessStore| -> Vec<SealPublic> {
        store.seal_keys().unwrap().iter().map(|held| held.key.public().clone()).collect()
    };
    let keys = publics(&store);
    store.renew_key().unwrap();
    assert_eq!(publics(&store), keys);
    let store = open(&disk.after_power_loss(Survivors::Nothing)).unwrap();
    assert_eq!(publics(&store), keys);
    let view = store.view().unwrap();
    let next = commitments_hash(&dealt(2).1);
    assert_eq!(view.candidate(&VAULT, (0, 0), &next).unwrap().unwrap().0, dealt(2).0);
    assert_eq!(view.handoff(&one).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(view.handoffs().unwrap().len(), 2);
    assert_eq!(store.forget_handoffs(&[one, Hash([9; 32])]).unwrap(), 1);
    assert_eq!(store.view().unwrap().handoff(&one).unwrap(), None);
    store.note_revocation(&VAULT, &GrantId([1; 16]), b"signed").unwrap();
    let found = store.view().unwrap().revocations(&VAULT).unwrap();
    assert_eq!(found, [(GrantId([1; 16]), b"signed".to_vec())]);
    assert!(store.view().unwrap().revocations(&VaultId([2; 32])).unwrap().is_empty());
}
