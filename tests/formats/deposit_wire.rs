//! Deposits against damage, and what grants say of them.

use crate::access_wire::{append_body, body, grant};
use crate::shared::canonical;
use xvault::ledger::ask::{Answer, Question};
use xvault::ledger::rows::DepositRow;
use xvault::message::access::{Deposit, DepositPack, EmergencyPolicy, Grant, Rights, SettleDeposits};
use xvault::message::anchor::{AnchoredSegment, AnchoredShard};
use xvault::message::{Canonical as _, Violation};
use xvault::types::limits::{MAX_ANCHOR_SEGMENTS, MAX_DEPOSIT_KEY_LEN, MAX_SETTLED_DEPOSITS};
use xvault::types::*;

pub(crate) fn deposit() -> Deposit {
    let segment = |nth: u8| AnchoredSegment {
        segment: SegmentId([nth; 32]),
        code: Code::DEFAULT,
        len: 1_000,
        shards: vec![AnchoredShard { root: Hash([nth; 32]), holder: None }; 6],
    };
    let pack = Some(DepositPack { segment: SegmentId([2; 32]), key: vec![7; 1_168] });
    Deposit { vault: VaultId([1; 32]), grant: GrantId([2; 16]), segments: vec![segment(1), segment(2)], pack }
}

pub(crate) fn settled() -> SettleDeposits {
    let deposits = vec![TransactionId([3; 32]), TransactionId([4; 32])];
    SettleDeposits { vault: VaultId([1; 32]), deposits }
}

#[test]
fn deposits_survive_damage() {
    canonical(&[deposit(), Deposit { pack: None, ..deposit() }]);
    canonical(&[settled()]);
    canonical(&[append_body(), body()]);
    let row = DepositRow {
        grant: GrantId([2; 16]),
        height: Height(3),
        time: Timestamp::from_unix_millis(4),
        pack: deposit().pack,
        segments: vec![SegmentId([1; 32])],
    };
    canonical(&[row.clone(), DepositRow { pack: None, ..row.clone() }]);
    let vault = VaultId([1; 32]);
    canonical(&[
        Question::Deposits { vault, after: None },
        Question::Deposits { vault, after: Some(TransactionId([5; 32])) },
    ]);
    canonical(&[Answer::Deposits(vec![]), Answer::Deposits(vec![(TransactionId([5; 32]), row)])]);
}

#[test]
fn deposits_keep_to_their_bounds() {
    let decoded = |deposit: &Deposit| Deposit::decode(&deposit.encode()).map(drop);
    let with_key = |len| {
        let pack = DepositPack { segment: SegmentId([2; 32]), key: vec![7; len] };
        Deposit { pack: Some(pack), ..deposit() }
    };
    assert_eq!(decoded(&with_key(MAX_DEPOSIT_KEY_LEN)), Ok(()));
    assert!(decoded(&with_key(MAX_DEPOSIT_KEY_LEN + 1)).is_err());
    let with = |count: usize| {
        let id = |nth: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(nth as u64).to_be_bytes());
            SegmentId(id)
        };
        let segment = |nth| AnchoredSegment { segment: id(nth), ..deposit().segments[0].clone() };
        Deposit { segments: (0..count).map(segment).collect(), ..deposit() }
    };
    assert_eq!(decoded(&with(MAX_ANCHOR_SEGMENTS)), Ok(()));
    assert!(decoded(&with(MAX_ANCHOR_SEGMENTS + 1)).is_err());
    assert_eq!(decoded(&with(0)), Err(Violation::OutOfBounds));
    let mut twisted = deposit();
    twisted.segments.reverse();
    assert_eq!(decoded(&twisted), Err(Violation::Malformed));
    let settles = |count: u16| {
        let id = |nth: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&nth.to_be_bytes());
            TransactionId(id)
        };
        let settled = SettleDeposits { deposits: (0..count).map(id).collect(), ..settled() };
        SettleDeposits::decode(&settled.encode()).map(drop)
    };
    let most = u16::try_from(MAX_SETTLED_DEPOSITS).unwrap();
    assert_eq!((settles(most), settles(0)), (Ok(()), Err(Violation::OutOfBounds)));
    assert!(settles(most + 1).is_err());
    let mut twisted = settled();
    twisted.deposits.reverse();
    assert_eq!(SettleDeposits::decode(&twisted.encode()), Err(Violation::Malformed));
}

#[test]
fn a_right_to_append_has_a_bound_and_is_none_of_emergencies() {
    let decoded = |grant: &Grant| Grant::decode(&grant.encode()).map(drop);
    let appends = Grant { rights: Rights::APPEND.and(Rights::READ), append_bytes: Some(1), ..grant() };
    assert_eq!(decoded(&appends), Ok(()));
    let policy = EmergencyPolicy {
        authorities: vec![PublicKey([1; 32])],
        approvals: 0,
        institutions: 1,
        delay: 0,
        lasts: 1,
        quota: 1,
        vetoers: vec![],
    };
    for wrong in [
        Grant { append_bytes: None, ..appends.clone() },
        Grant { append_bytes: Some(0), ..appends.clone() },
        Grant { append_bytes: Some(1), ..grant() },
        Grant { emergency: Some(policy), ..appends },
    ] {
        assert_eq!(decoded(&wrong), Err(Violation::OutOfBounds), "{wrong:?}");
    }
}
