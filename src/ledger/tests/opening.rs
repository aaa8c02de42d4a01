//! Claims C3, C10 and C15 of one node's decision: what it opens, and everything that it does not.

use std::collections::BTreeSet;

use super::access::{batch, grant_of, revoke, shared};
use super::*;
use crate::crypto::access::{SealKey, Sharing};
use crate::ledger::access::{Decision, EmergencyUse, Facts, decide};
use crate::ledger::read::ReadError;
use crate::message::Violation;
use crate::message::access::open::{LIST_VERSION, OpenItem, OpenRequest, SignedOpenRequest};
use crate::message::access::{Denial, Grant, Rights, TaggedVersion};
use crate::message::canonical::Canonical as _;
use crate::types::limits::{OPEN_LEASE_MICROS, OPEN_WINDOW_MICROS};

const RECORD: RecordTag = RecordTag([1; 16]);
const VERSION: VersionId = VersionId([2; 16]);
const SCOPE: ScopeTag = ScopeTag([7; 16]);
const BATCH: BatchId = BatchId([3; 16]);

/// A node that has a slot and a list, and remembers what it did.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) revoked: bool,
    pub(super) answered: BTreeSet<[u8; 16]>,
    pub(super) opened: u32,
    pub(super) vetoed: bool,
    pub(super) in_emergency: EmergencyUse,
}

impl Facts for Node {
    type Error = ReadError;

    fn is_revocation_seen(&self, _: &VaultId, _: &GrantId) -> Result<bool, ReadError> {
        Ok(self.revoked)
    }

    fn is_answered(&self, _: &GrantId, nonce: &[u8; 16]) -> Result<bool, ReadError> {
        Ok(self.answered.contains(nonce))
    }

    fn opened(&self, _: &GrantId, _: Timestamp) -> Result<u32, ReadError> {
        Ok(self.opened)
    }

    fn is_veto_seen(&self, _: &VaultId, _: &TransactionId) -> Result<bool, ReadError> {
        Ok(self.vetoed)
    }

    fn opened_in(&self, _: &VaultId, _: &TransactionId) -> Result<EmergencyUse, ReadError> {
        Ok(self.in_emergency)
    }

    fn has_slot(
        &self,
        _: &VaultId,
        record: &RecordTag,
        version: &VersionId,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, ReadError> {
        Ok((*record, *version, *scope, generation) == (RECORD, VERSION, SCOPE, 1))
    }

    fn has_list(
        &self,
        _: &VaultId,
        batch: u64,
        scope: &ScopeTag,
        generation: u32,
    ) -> Result<bool, ReadError> {
        Ok((batch, *scope, generation) == (0, SCOPE, 1))
    }
}

const fn record() -> OpenItem {
    OpenItem::Record { record: RECORD, version: VERSION, scope: SCOPE, generation: 1 }
}

/// A world with a grant that is in its time, and the time of its last block.
fn granted() -> (World, Timestamp) {
    let mut world = shared();
    let now = query::tip(&world.state).unwrap().record.time;
    let far = Timestamp::from_unix_micros(now.unix_micros() + 3_600_000_000);
    world.accept(9, Action::Grant(Grant { expires: far, ..grant_of(1) }));
    world.accept(9, batch(3));
    let now = query::tip(&world.state).unwrap().record.time;
    (world, now)
}

pub(super) fn request(now: Timestamp) -> OpenRequest {
    OpenRequest {
        network: NETWORK,
        vault: vault(1),
        dealing: 0,
        epoch: 0,
        grant: GrantId([1; 16]),
        nonce: [4; 16],
        time: now,
        reply_to: SealKey::from_seed(&[5; 32]).public().clone(),
        items: vec![record()],
        lines_from: ShareIndex::new(1).unwrap(),
        purpose: "read".into(),
        emergency: None,
    }
}

/// What a node says to a request that was changed before it was signed.
fn says(
    (world, now): &(World, Timestamp),
    node: &Node,
    change: impl Fn(&mut OpenRequest),
) -> Result<u32, (Denial, bool)> {
    let mut request = request(*now);
    change(&mut request);
    decided(decide(&world.state, node, *now, false, &request.sign(&pair(101))).unwrap())
}

pub(super) fn decided(decision: Decision) -> Result<u32, (Denial, bool)> {
    match decision {
        Decision::Open { records, .. } => Ok(records),
        Decision::Deny { denial, is_known } => Err((denial, is_known)),
    }
}

#[test]
fn what_a_grant_covers_is_opened() {
    let world = granted();
    assert_eq!(says(&world, &Node::default(), |_| ()), Ok(1));
    let list = OpenItem::List { batch: BATCH, scope: SCOPE, generation: 1 };
    assert_eq!(says(&world, &Node::default(), |r| r.items = vec![list]), Ok(0));
    assert_eq!(says(&world, &Node::default(), |r| r.items.push(list)), Ok(1));
}

#[test]
fn each_check_denies_by_name() {
    let world = granted();
    let node = Node::default();
    let denied = |change: &dyn Fn(&mut OpenRequest)| says(&world, &node, change).unwrap_err();
    // Of somebody whom the node does not know nothing is logged.
    assert_eq!(denied(&|r| r.network = NetworkId([1; 32])), (Denial::OtherNetwork, false));
    assert_eq!(denied(&|r| r.vault = vault(2)), (Denial::NoSuchGrant, false));
    assert_eq!(denied(&|r| r.grant = GrantId([2; 16])), (Denial::NoSuchGrant, false));
    let shifted = |by: i64| {
        move |r: &mut OpenRequest| {
            r.time = Timestamp::from_unix_micros(r.time.unix_micros().saturating_add_signed(by));
        }
    };
    let window = i64::try_from(OPEN_WINDOW_MICROS).unwrap();
    assert_eq!(denied(&shifted(window + 1)), (Denial::WrongClock, false));
    assert_eq!(says(&world, &node, shifted(window)), Ok(1));
    assert_eq!(denied(&|r| r.dealing = 1), (Denial::OtherSharing, true));
    assert_eq!(denied(&|r| r.epoch = 1), (Denial::OtherSharing, true));
    let no_emergency = |r: &mut OpenRequest| r.emergency = Some(TransactionId([1; 32]));
    assert_eq!(denied(&no_emergency), (Denial::NotGranted, true), "the grant is none for emergencies");
    let item = |change: &dyn Fn(&mut RecordTag, &mut VersionId, &mut ScopeTag, &mut u32)| {
        let (mut record, mut version, mut scope, mut generation) = (RECORD, VERSION, SCOPE, 1);
        change(&mut record, &mut version, &mut scope, &mut generation);
        denied(&|r| r.items = vec![OpenItem::Record { record, version, scope, generation }])
    };
    assert_eq!(item(&|record, _, _, _| record.0[0] ^= 1), (Denial::NoSuchEntry, true));
    assert_eq!(item(&|_, version, _, _| version.0[0] ^= 1), (Denial::NoSuchEntry, true));
    assert_eq!(item(&|_, _, scope, _| scope.0[0] ^= 1), (Denial::NotGranted, true));
    assert_eq!(item(&|_, _, _, generation| *generation = 4), (Denial::NotGranted, true));
    let list = |generation| OpenItem::List { batch: BATCH, scope: SCOPE, generation };
    assert_eq!(denied(&|r| r.items = vec![list(0)]), (Denial::NoSuchEntry, true));
    assert_eq!(denied(&|r| r.items = vec![list(9)]), (Denial::NotGranted, true));
    // One item that may not be opened keeps back all of them.
    assert_eq!(denied(&|r| r.items.push(list(9))), (Denial::NotGranted, true));
    // Signed by another key than the grant's.
    let (state, now) = (&world.0.state, world.1);
    let forged = decide(state, &node, now, false, &request(now).sign(&pair(102))).unwrap();
    assert_eq!(decided(forged), Err((Denial::NotTheGrantee, false)));

    let revoked = Node { revoked: true, ..Node::default() };
    assert_eq!(says(&world, &revoked, |_| ()), Err((Denial::Revoked, true)), "seen, and not final");
    let answered = Node { answered: [[4; 16]].into(), ..Node::default() };
    assert_eq!(says(&world, &answered, |_| ()), Err((Denial::Replayed, true)));
    assert_eq!(says(&world, &answered, |r| r.nonce = [5; 16]), Ok(1));
    assert_eq!(says(&world, &Node { opened: 99, ..Node::default() }, |_| ()), Ok(1));
    let full = Node { opened: 100, ..Node::default() };
    assert_eq!(says(&world, &full, |_| ()), Err((Denial::OverQuota, true)));
    assert_eq!(says(&world, &full, |r| r.items = vec![list(1)]), Ok(0), "lists are not counted");
}

/// C10: a node that does not know whether it is up to date opens nothing.
#[test]
fn c10_a_node_that_is_cut_off_or_has_just_started_opens_nothing() {
    let (world, now) = granted();
    let node = Node::default();
    let after = |micros| Timestamp::from_unix_micros(now.unix_micros() + micros);
    let at = |when: Timestamp, is_booting| {
        decided(decide(&world.state, &node, when, is_booting, &request(when).sign(&pair(101))).unwrap())
    };
    assert_eq!(at(now, true), Err((Denial::NotServing, false)));
    assert_eq!(at(after(OPEN_LEASE_MICROS), false), Ok(1));
    assert_eq!(at(after(OPEN_LEASE_MICROS + 1), false), Err((Denial::NotServing, false)));
}

#[test]
fn a_grant_ends_with_the_keys_it_was_given_under() {
    use crate::message::access::RecoveryAction;
    use crate::message::access::recovery_action::next_key_hash;
    let mut world = granted();
    let next = |key: u8, generation| next_key_hash(&vault(1), generation, &pair(key).public());
    let pledge = RecoveryAction::PledgeKey { vault: vault(1), next: next(10, 1) };
    world.0.accept(9, Action::Recovery(pledge));
    assert_eq!(says(&world, &Node::default(), |_| ()), Ok(1));
    let rotate = RecoveryAction::Rotate { vault: vault(1), generation: 1, next: next(11, 2) };
    world.0.accept(10, Action::Recovery(rotate));
    assert_eq!(says(&world, &Node::default(), |_| ()), Err((Denial::Rotated, true)));
}

#[test]
fn a_grant_ends_with_its_time_its_revocation_and_an_erasure() {
    let (mut world, now) = granted();
    let node = Node::default();
    let at = |world: &World, when: Timestamp| {
        decided(decide(&world.state, &node, when, false, &request(when).sign(&pair(101))).unwrap())
    };
    assert_eq!(at(&world, now), Ok(1));
    let row = crate::ledger::rows::GRANTS.get(&world.state, &(vault(1), GrantId([1; 16]))).unwrap().unwrap();
    // The node's clock or the ledger's, whichever is later.
    let mut ending = world.state.clone();
    let mut ended = row;
    ended.grant.expires = now;
    ending.insert(crate::ledger::rows::GRANTS.key(&(vault(1), GrantId([1; 16]))), ended.encode());
    let late = decide(&ending, &node, now, false, &request(now).sign(&pair(101))).unwrap();
    assert_eq!(decided(late), Err((Denial::Expired, true)));
    ended.grant.expires = Timestamp::from_unix_micros(now.unix_micros() + 10);
    ended.grant.not_before = Timestamp::from_unix_micros(now.unix_micros() + 1);
    ending.insert(crate::ledger::rows::GRANTS.key(&(vault(1), GrantId([1; 16]))), ended.encode());
    let early = decide(&ending, &node, now, false, &request(now).sign(&pair(101))).unwrap();
    assert_eq!(decided(early), Err((Denial::NotYet, true)));

    world.accept(9, Action::Erase { vault: vault(1), record: RECORD, version: VERSION });
    let now = query::tip(&world.state).unwrap().record.time;
    assert_eq!(at(&world, now), Err((Denial::Erased, true)));
    world.accept(9, revoke(1));
    let now = query::tip(&world.state).unwrap().record.time;
    assert_eq!(at(&world, now), Err((Denial::Revoked, true)));
}

#[test]
fn a_version_that_was_withdrawn_opens_in_the_scope_that_stays_alone() {
    for (keep, opens) in [(ScopeTag([9; 16]), false), (SCOPE, true)] {
        let (mut world, _) = granted();
        let version = TaggedVersion { record: RECORD, version: VERSION };
        world.accept(9, Action::Withdraw { vault: vault(1), version, keep });
        let now = query::tip(&world.state).unwrap().record.time;
        let signed = request(now).sign(&pair(101));
        let decision = decide(&world.state, &Node::default(), now, false, &signed).unwrap();
        match decided(decision) {
            Err(denied) => assert!(!opens && denied == (Denial::Erased, true), "{denied:?}"),
            Ok(_) => assert!(opens),
        }
    }
}

/// C15: no byte of a signed request can be changed.
#[test]
fn c15_every_changed_byte_of_a_request_is_refused() {
    let (world, now) = granted();
    let good = request(now).sign(&pair(101));
    assert_eq!(SignedOpenRequest::decode(good.bytes()), Ok(good.clone()));
    for at in 0..good.bytes().len() {
        let mut bytes = good.bytes().to_vec();
        bytes[at] ^= 1;
        let Ok(changed) = SignedOpenRequest::decode(&bytes) else { continue };
        let decision = decide(&world.state, &Node::default(), now, false, &changed).unwrap();
        let (_, is_known) = decided(decision).expect_err("opened");
        assert!(!is_known, "byte {at}: nothing is logged as an access");
    }
    for len in 0..good.bytes().len() {
        assert!(SignedOpenRequest::decode(&good.bytes()[..len]).is_err());
    }
    let mut bad = request(now);
    bad.items = vec![];
    assert_eq!(OpenRequest::decode(&bad.encode()), Err(Violation::OutOfBounds));
    bad.items = vec![record(), record()];
    assert_eq!(OpenRequest::decode(&bad.encode()), Err(Violation::Malformed));
    bad.items = vec![OpenItem::Record { record: RECORD, version: LIST_VERSION, scope: SCOPE, generation: 1 }];
    assert_eq!(
        OpenRequest::decode(&bad.encode()),
        Err(Violation::OutOfBounds),
        "a list's slot is no record's"
    );
    let mut suite = good.bytes().to_vec();
    suite[0] = 2;
    assert_eq!(SignedOpenRequest::decode(&suite).map(drop), Err(Violation::UnknownSuite));
}

/// C3: once a quorum has acknowledged a revocation, faulty and stale nodes together are too few, whoever they are; and they
/// would be enough if one more than the faulty ones were.
#[test]
fn c3_after_a_quorum_acknowledged_a_revocation_nothing_opens() {
    for n in 4..=21_u8 {
        let committee = Committee::new((0..n).map(|nth| PublicKey([nth; 32])).collect()).unwrap();
        let (n, f, quorum) = (committee.n(), committee.f(), committee.quorum());
        let needed = Sharing::among(&committee).threshold();
        assert!(needed <= quorum, "n={n}: honest nodes alone open");
        let (mut most, mut too_low_opens) = (0, false);
        for faulty in 0..=f {
            // Of those that acknowledged some may be faulty, and open all the same.
            for acknowledged_by_faulty in 0..=faulty {
                let honest_acknowledged = quorum - acknowledged_by_faulty;
                let stale = (n - faulty).saturating_sub(honest_acknowledged);
                most = most.max(faulty + stale);
                too_low_opens |= faulty + stale > f;
            }
        }
        assert_eq!(most, f + (n - quorum), "n={n}");
        assert!(most < needed, "n={n}: {most} open, {needed} are needed");
        assert!(too_low_opens, "n={n}: with f + 1 it would not hold");
    }
}

#[test]
fn a_right_that_was_not_given_is_not_there() {
    let (mut world, _) = granted();
    let now = query::tip(&world.state).unwrap().record.time;
    let far = Timestamp::from_unix_micros(now.unix_micros() + 3_600_000_000);
    let blind = Grant { expires: far, rights: Rights::APPEND, append_bytes: Some(9), ..grant_of(2) };
    world.accept(9, Action::Grant(blind));
    let now = query::tip(&world.state).unwrap().record.time;
    let mut request = request(now);
    request.grant = GrantId([2; 16]);
    let decision = decide(&world.state, &Node::default(), now, false, &request.sign(&pair(102))).unwrap();
    assert_eq!(decided(decision), Err((Denial::NotGranted, true)));
}
