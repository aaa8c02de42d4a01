//! Grants, and the packages that owners bring to static nodes, against damage.

use crate::shared::{NETWORK, canonical, pair};
use xvault::crypto::access::{Dealing, KeyShare, Keyslot, PrfKey, Purpose, SealKey, Sharing};
use xvault::crypto::frame::DekCommit;
use xvault::message::access::package::{SealedShare, SealedSlot, line_hash};
use xvault::message::access::{
    BatchPackage, DealingPackage, EntryBatch, Grant, GrantedScope, RecordEntry, Rights, SlotEntry,
};
use xvault::message::{Canonical as _, Violation};
use xvault::types::*;

pub(crate) fn grant() -> Grant {
    let scope = |nth| GrantedScope { scope: ScopeTag([nth; 16]), first: 0, last: u32::from(nth) };
    Grant {
        vault: VaultId([1; 32]),
        grant: GrantId([2; 16]),
        grantee: pair(8).public(),
        scopes: vec![scope(1), scope(2)],
        rights: Rights::READ.and(Rights::LIST),
        not_before: Timestamp::from_unix_millis(1_000),
        expires: Timestamp::from_unix_millis(2_000),
        quota: Some(50),
        append_bytes: None,
        body: Hash([9; 32]),
        emergency: None,
    }
}

pub(crate) fn append_grant() -> Grant {
    Grant { rights: Rights::APPEND, append_bytes: Some(5_000), ..grant() }
}

pub(crate) fn dealing_package() -> DealingPackage {
    let committee = Committee::new((1..=4).map(|nth| pair(nth).public()).collect()).unwrap();
    let Dealing { commitments, shares } =
        PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[1; 32]);
    let seal = |share: &KeyShare| {
        let key = SealKey::from_seed(&[share.index().get(); 32]);
        let context = DealingPackage::share_context(&commitments, share.index());
        let sealed = key.public().seal(Purpose::Share, &context, &*share.to_bytes(), &[5; 64]);
        SealedShare { to: Hash([share.index().get(); 32]), sealed }
    };
    DealingPackage {
        network: NETWORK,
        vault: VaultId([1; 32]),
        dealing: 0,
        inbox: SealKey::from_seed(&[1; 32]).public().clone(),
        audit: SealKey::from_seed(&[2; 32]).public().clone(),
        shares: shares.iter().map(seal).collect(),
        commitments,
    }
}

pub(crate) fn batch_package() -> BatchPackage {
    let slot = |nth: u8| SealedSlot {
        slot: Keyslot::from_slice(&[&[1][..], &[nth; Keyslot::LEN - 1]].concat()).unwrap(),
        line: vec![nth; 40],
    };
    let slots = vec![slot(1), slot(2), slot(3)];
    let entry = |nth: u8, range: std::ops::Range<usize>| RecordEntry {
        record: RecordTag([nth; 16]),
        version: VersionId([nth; 16]),
        dek_commit: DekCommit([nth; 32]),
        header: Hash([nth; 32]),
        slots: slots[range]
            .iter()
            .zip(1..)
            .map(|(slot, scope)| SlotEntry {
                scope: ScopeTag([scope; 16]),
                generation: 1,
                slot: slot.slot.hash(),
                line: line_hash(&slot.line),
            })
            .collect(),
    };
    let entries = vec![entry(1, 0..2), entry(2, 2..2), entry(3, 2..3)];
    let slots = slots.into_iter().map(Some).collect();
    BatchPackage { vault: VaultId([1; 32]), batch: BatchId([6; 16]), entries, slots }
}

#[test]
fn packages_have_one_encoding_and_what_is_in_them_is_what_their_entries_name() {
    canonical(&[dealing_package()]);
    canonical(&[batch_package()]);
    canonical(&batch_package().entries);
    let good = batch_package();
    assert_eq!(BatchPackage::decode_bounded(&good.encode()), Ok(good.clone()));
    let changed = |change: &dyn Fn(&mut BatchPackage)| {
        let mut package = good.clone();
        change(&mut package);
        BatchPackage::decode_bounded(&package.encode())
    };
    assert_eq!(changed(&|p| p.slots[0].as_mut().unwrap().line.push(1)), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.slots.swap(0, 1)), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.entries[0].slots[1].slot = Hash([1; 32])), Err(Violation::WrongHash));
    assert_eq!(changed(&|p| p.entries[0].slots.swap(0, 1)), Err(Violation::Malformed));
    assert_eq!(changed(&|p| drop(p.slots.pop())), Err(Violation::Malformed));
    assert_eq!(changed(&|p| p.slots.push(p.slots[0].clone())), Err(Violation::Malformed));
    let copy = changed(&|p| p.slots[1] = None).unwrap();
    assert!(good.is_whole() && !copy.is_whole() && copy.batch() == good.batch());
    let mut suite = good.encode();
    suite[0] = 2;
    assert_eq!(BatchPackage::decode(&suite), Err(Violation::UnknownSuite));
    let mut suite = dealing_package().encode();
    suite[0] = 2;
    assert_eq!(DealingPackage::decode(&suite), Err(Violation::UnknownSuite));
    assert_eq!(BatchPackage::decode_bounded(&vec![1; (8 << 20) + 1]), Err(Violation::TooLong));
    assert_eq!(DealingPackage::decode_bounded(&vec![1; (8 << 20) + 1]), Err(Violation::TooLong));
}

#[test]
fn grants_are_in_bounds() {
    let changed = |change: &dyn Fn(&mut Grant)| {
        let mut grant = grant();
        change(&mut grant);
        Grant::decode(&grant.encode())
    };
    assert_eq!(changed(&|_| ()), Ok(grant()));
    assert_eq!(changed(&|g| g.scopes.clear()), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.scopes.reverse()), Err(Violation::Malformed));
    assert_eq!(changed(&|g| g.scopes[1] = g.scopes[0]), Err(Violation::Malformed));
    assert_eq!(changed(&|g| g.scopes[0].first = 9), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.expires = g.not_before), Err(Violation::OutOfBounds));
    assert_eq!(changed(&|g| g.quota = Some(0)), Err(Violation::OutOfBounds));
    for (bits, violation) in
        [(0, Violation::OutOfBounds), (8, Violation::Malformed), (255, Violation::Malformed)]
    {
        assert_eq!(Rights::decode(&[bits]), Err(violation));
    }
    assert_eq!(grant().rights.to_string(), "read, list");
    assert!(grant().covers(Rights::READ, &ScopeTag([2; 16]), 2));
    assert!(!grant().covers(Rights::READ, &ScopeTag([2; 16]), 3));
    assert!(!grant().covers(Rights::READ, &ScopeTag([3; 16]), 0));
    assert!(!grant().covers(Rights::APPEND, &ScopeTag([2; 16]), 2));
    let at = |millis| grant().is_in_time(Timestamp::from_unix_millis(millis));
    assert!(!at(999) && at(1_000) && at(1_999) && !at(2_000));
    let batch = EntryBatch { count: 0, ..batch_package().batch() };
    assert_eq!(EntryBatch::decode(&batch.encode()), Err(Violation::OutOfBounds));
    let batch = EntryBatch { count: 4_097, ..batch };
    assert_eq!(EntryBatch::decode(&batch.encode()), Err(Violation::OutOfBounds));
}
