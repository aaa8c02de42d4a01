//! Break-glass: what the ledger takes and refuses, how an emergency goes over the ledger's time, and what a node opens in it.

use super::access::{grant_of, revoke, shared};
use super::opening::{Node, decided, request as open_request};
use super::*;
use crate::ledger::access::{EmergencyUse, decide};
use crate::ledger::rows::{
    EMERGENCIES, EMERGENCY_CLINICIANS, EMERGENCY_DUE, EMERGENCY_OPENINGS, Emergency, EmergencyState,
    OpeningRow, STATE_SUM, StateSum,
};
use crate::ledger::tables::{Key, Table};
use crate::message::CertificateFault;
use crate::message::access::emergency::reason_hash;
use crate::message::access::{
    Denial, EmergencyApproval, EmergencyOpening, EmergencyPolicy, EmergencyRequest, Grant, RoleCertificate,
};
use crate::message::canonical::Canonical;
use crate::types::limits::{
    EMERGENCY_KEPT_MICROS, EMERGENCY_REQUEST_LIFE_MICROS, MAX_CLINICIAN_EMERGENCIES, MAX_EMERGENCY_APPROVERS,
    MAX_EMERGENCY_REQUESTS, MAX_VAULT_EMERGENCIES, MAX_VAULT_EMERGENCIES_KEPT,
};

/// Whose certificates count, who may veto, and whose do not.
const AUTHORITY: u8 = 50;
const GUARDIAN: u8 = 60;
const STRANGER: u8 = 70;
/// Seconds after the epoch at which the tests begin.
const START: u64 = 1_000;
const DELAY: u64 = 100;
const LASTS: u64 = 1_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

fn policy() -> EmergencyPolicy {
    EmergencyPolicy {
        authorities: vec![pair(AUTHORITY).public()],
        approvals: 2,
        institutions: 2,
        delay: 100,
        lasts: 1_000,
        quota: 5,
        vetoers: vec![pair(GUARDIAN).public()],
    }
}

fn emergency_grant(nth: u8, policy: EmergencyPolicy) -> Grant {
    Grant { emergency: Some(policy), expires: at(100_000_000), quota: None, ..grant_of(nth) }
}

/// A world with an emergency grant 2 and an ordinary grant 1 of vault 1, at [`START`].
fn armed() -> World {
    let mut world = shared();
    world.accept(9, Action::Grant(Grant { expires: at(100_000_000), ..grant_of(1) }));
    world.accept(9, Action::Grant(emergency_grant(2, policy())));
    pass(&mut world, START);
    world
}

/// The ledger's time goes on to this second.
fn pass(world: &mut World, seconds: u64) {
    world.clock = at(seconds);
    world.blocks(1);
}

fn certificate(holder: u8, institution: &str) -> RoleCertificate {
    let certificate = RoleCertificate {
        network: NETWORK,
        authority: pair(AUTHORITY).public(),
        holder: pair(holder).public(),
        institution: institution.into(),
        role: "physician".into(),
        expires: at(50_000_000),
        signature: [0; 64],
    };
    certificate.sign(&pair(AUTHORITY))
}

/// A request by this clinician, as it is to be once it is changed.
fn asked(clinician: u8, change: impl FnOnce(&mut EmergencyRequest)) -> Action {
    let mut asked = EmergencyRequest {
        vault: vault(1),
        grant: GrantId([2; 16]),
        grantee: pair(0).public(),
        possession: [0; 64],
        certificate: certificate(clinician, "north"),
        reason: reason_hash(&[1; 16], "unconscious"),
    };
    change(&mut asked);
    Action::EmergencyRequest(Box::new(asked.possess(&NETWORK, &pair(clinician).public(), &pair(102))))
}

fn ask(clinician: u8) -> Action {
    asked(clinician, |_| ())
}

fn approval(clinician: u8, institution: &str, request: TransactionId) -> Action {
    let certificate = certificate(clinician, institution);
    Action::EmergencyApprove(Box::new(EmergencyApproval { vault: vault(1), request, certificate }))
}

fn veto(request: TransactionId) -> Action {
    Action::EmergencyVeto { vault: vault(1), request }
}

fn row(world: &World, id: TransactionId) -> Emergency {
    EMERGENCIES.get(&world.state, &(vault(1), id)).unwrap().unwrap()
}

fn state(world: &World, id: TransactionId) -> EmergencyState {
    let now = query::tip(&world.state).unwrap().record.time;
    row(world, id).state(now, now)
}

fn under_way(world: &World, clinician: u8) -> Option<u32> {
    EMERGENCY_CLINICIANS.get(&world.state, &pair(clinician).public()).unwrap()
}

/// Puts a row where no transaction would, and has the sum over all rows say so.
fn force<K: Key, V: Canonical>(world: &mut World, table: &Table<K, V>, key: &K, value: &V) {
    world.state.insert(table.key(key), value.encode());
    let mut sum = LtHash::default();
    let hashed = world.state.iter().filter(|(key, _)| is_hashed(key));
    hashed.for_each(|(key, value)| sum.add(key, value));
    world.state.insert(STATE_SUM.key(&()), StateSum(sum.to_bytes()).encode());
}

const fn fault(fault: CertificateFault) -> Rejection {
    Rejection::NotCertified { fault }
}

#[test]
fn a_request_is_of_a_certified_clinician_with_the_card_of_a_grant_that_stands() {
    let mut world = armed();
    let refused = |world: &World, change: &dyn Fn(&mut EmergencyRequest)| {
        world.refusal(20, asked(20, |request| change(request)))
    };
    assert_eq!(refused(&world, &|r| r.grant = GrantId([9; 16])), Rejection::NoSuchGrant);
    assert_eq!(refused(&world, &|r| r.vault = vault(2)), Rejection::NoSuchGrant);
    assert_eq!(refused(&world, &|r| r.grant = GrantId([1; 16])), Rejection::NotForEmergencies);
    assert_eq!(
        refused(&world, &|r| r.certificate = certificate(21, "north")),
        fault(CertificateFault::Holder)
    );
    let foreign = |request: &mut EmergencyRequest| {
        request.certificate = certificate(20, "north").sign(&pair(STRANGER));
    };
    assert_eq!(refused(&world, &foreign), fault(CertificateFault::Authority));
    let old = |request: &mut EmergencyRequest| {
        let expires = at(START);
        request.certificate = RoleCertificate { expires, ..certificate(20, "north") }.sign(&pair(AUTHORITY));
    };
    assert_eq!(refused(&world, &old), fault(CertificateFault::Expired));
    // Signed well, with the key of another grant.
    let Action::EmergencyRequest(good) = ask(20) else { unreachable!() };
    let other = good.possess(&NETWORK, &pair(20).public(), &pair(101));
    assert_eq!(world.refusal(20, Action::EmergencyRequest(Box::new(other))), fault(CertificateFault::Card));
    let early = Grant { not_before: at(START + 1), ..emergency_grant(3, policy()) };
    world.accept(9, Action::Grant(early));
    world.accept(9, Action::Grant(Grant { expires: at(START), ..emergency_grant(4, policy()) }));
    world.accept(9, Action::Grant(emergency_grant(5, policy())));
    world.accept(9, revoke(5));
    for nth in 3..=5 {
        let Action::EmergencyRequest(asked) = asked(20, |r| r.grant = GrantId([nth; 16])) else {
            unreachable!()
        };
        let asked = asked.possess(&NETWORK, &pair(20).public(), &pair(100 + nth));
        let refusal = world.refusal(20, Action::EmergencyRequest(Box::new(asked)));
        assert_eq!(refusal, Rejection::GrantNotInForce, "{nth}");
    }
    let id = world.accept(20, ask(20));
    assert_eq!(state(&world, id), EmergencyState::Waiting);
    assert_eq!(row(&world, id).reason, reason_hash(&[1; 16], "unconscious"));
    assert_ne!(reason_hash(&[1; 16], "unconscious"), reason_hash(&[2; 16], "unconscious"));
    assert_eq!(under_way(&world, 20), Some(1));
}

#[test]
fn approvals_are_of_others_and_of_as_many_institutions_as_the_terms_say() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    assert_eq!(world.refusal(21, approval(21, "south", TransactionId([9; 32]))), Rejection::NoSuchEmergency);
    assert_eq!(world.refusal(20, approval(20, "south", id)), Rejection::OwnApproval);
    assert_eq!(world.refusal(21, approval(22, "south", id)), fault(CertificateFault::Holder));
    let with = |certificate: RoleCertificate| {
        Action::EmergencyApprove(Box::new(EmergencyApproval { vault: vault(1), request: id, certificate }))
    };
    let foreign = with(certificate(21, "south").sign(&pair(STRANGER)));
    assert_eq!(world.refusal(21, foreign), fault(CertificateFault::Authority));
    let old = RoleCertificate { expires: at(START), ..certificate(21, "south") };
    assert_eq!(world.refusal(21, with(old.sign(&pair(AUTHORITY)))), fault(CertificateFault::Expired));

    // Two approvals, and all of one institution.
    let signed = world.sign(21, approval(21, "north", id));
    assert_eq!(world.block(std::slice::from_ref(&signed)), []);
    assert_eq!(world.refusal_of(&signed), Rejection::WrongNonce { expected: 1 }, "replayed");
    assert_eq!(world.refusal(21, approval(21, "south", id)), Rejection::ApprovedAlready);
    world.accept(22, approval(22, "north", id));
    assert_eq!(state(&world, id), EmergencyState::Waiting);
    world.accept(23, approval(23, "south", id));
    assert_eq!(state(&world, id), EmergencyState::Delayed);
    assert_eq!(world.refusal(24, approval(24, "east", id)), Rejection::ApprovedAlready, "enough have");
    let keys: Vec<_> = row(&world, id).approvals.iter().map(|clinician| clinician.key).collect();
    assert_eq!(keys, [21, 22, 23].map(|nth| pair(nth).public()));
}

#[test]
fn only_so_many_approvals_are_kept() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    let mut full = row(&world, id);
    full.approvals = vec![full.requester.clone(); MAX_EMERGENCY_APPROVERS];
    force(&mut world, &EMERGENCIES, &(vault(1), id), &full);
    assert_eq!(world.refusal(21, approval(21, "south", id)), Rejection::ApprovedAlready);
    full.approvals.pop();
    force(&mut world, &EMERGENCIES, &(vault(1), id), &full);
    world.accept(21, approval(21, "south", id));
}

#[test]
fn an_emergency_opens_after_its_delay_and_its_approvals_and_ends_by_itself() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    let requested = row(&world, id).requested;
    world.accept(21, approval(21, "south", id));
    world.accept(22, approval(22, "north", id));
    let begins = requested + std::time::Duration::from_secs(DELAY);
    let ends = begins + std::time::Duration::from_secs(LASTS);
    assert_eq!((row(&world, id).begins, row(&world, id).ends), (Some(begins), ends));
    let next = |time: Timestamp| Timestamp::from_unix_micros(time.unix_micros() + 1);
    let before = |time: Timestamp| Timestamp::from_unix_micros(time.unix_micros() - 1);
    // Both clocks must have come so far for it to begin, and either ends it.
    let state = |ledger, clock| row(&world, id).state(ledger, clock);
    assert_eq!(state(before(begins), next(begins)), EmergencyState::Delayed);
    assert_eq!(state(next(begins), before(begins)), EmergencyState::Delayed);
    assert_eq!(state(begins, begins), EmergencyState::Active);
    assert_eq!(state(before(ends), before(ends)), EmergencyState::Active);
    assert_eq!(state(before(ends), ends), EmergencyState::Over);
    assert_eq!(state(ends, before(ends)), EmergencyState::Over);
    world.clock = ends;
    world.blocks(2);
    assert!(row(&world, id).is_over);
    assert_eq!(row(&world, id).state(begins, begins), EmergencyState::Over, "for good");
    assert_eq!(under_way(&world, 20), None);
    assert_eq!(world.refusal(23, approval(23, "east", id)), Rejection::EmergencyOver);
    assert_eq!(world.refusal(9, veto(id)), Rejection::EmergencyOver);

    // Approved after the delay: from then on.
    let late = world.accept(20, ask(20));
    let seconds = row(&world, late).requested.unix_millis() / 1_000 + 5_000;
    pass(&mut world, seconds);
    world.accept(21, approval(21, "south", late));
    world.accept(22, approval(22, "south", late));
    let begins = row(&world, late).begins.unwrap();
    assert!(begins > at(seconds) && begins < at(seconds + 1), "{begins:?}");
}

#[test]
fn what_nobody_approves_ends_and_leaves_the_state_in_the_end() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    let ends = row(&world, id).ends;
    assert_eq!(ends.since(row(&world, id).requested).as_micros(), EMERGENCY_REQUEST_LIFE_MICROS.into());
    let opening = EmergencyOpening { vault: vault(1), request: id, open: Hash([1; 32]), records: 1 };
    world.accept(1, Action::EmergencyOpened(opening));
    world.clock = ends;
    world.blocks(1);
    assert_eq!(world.refusal(21, approval(21, "south", id)), Rejection::EmergencyOver);
    world.blocks(1);
    assert!(row(&world, id).is_over);
    world.clock = Timestamp::from_unix_micros(ends.unix_micros() + EMERGENCY_KEPT_MICROS - 1);
    world.blocks(2);
    assert!(EMERGENCIES.contains(&world.state, &(vault(1), id)).unwrap());
    world.clock = Timestamp::from_unix_micros(ends.unix_micros() + EMERGENCY_KEPT_MICROS);
    world.blocks(2);
    assert_eq!(EMERGENCIES.scan(&world.state, &(), None, 9).unwrap(), []);
    assert_eq!(EMERGENCY_OPENINGS.scan(&world.state, &(), None, 9).unwrap(), []);
    assert_eq!(EMERGENCY_DUE.scan(&world.state, &(), None, 9).unwrap(), []);
    assert_eq!(EMERGENCY_CLINICIANS.scan(&world.state, &(), None, 9).unwrap(), []);
    assert_eq!(world.refusal(1, Action::EmergencyOpened(opening)), Rejection::NoSuchEmergency);
}

#[test]
fn nobody_has_to_approve_where_the_terms_say_so() {
    let mut world = shared();
    let vital = EmergencyPolicy { approvals: 0, institutions: 1, delay: 0, ..policy() };
    world.accept(9, Action::Grant(emergency_grant(2, vital)));
    pass(&mut world, START);
    let id = world.accept(20, ask(20));
    assert_eq!(state(&world, id), EmergencyState::Active);
    assert_eq!(world.refusal(21, approval(21, "south", id)), Rejection::ApprovedAlready);
}

#[test]
fn the_owner_and_guardians_veto_until_the_end() {
    for vetoer in [9, GUARDIAN] {
        for is_active in [false, true] {
            let mut world = armed();
            let id = world.accept(20, ask(20));
            if is_active {
                world.accept(21, approval(21, "south", id));
                world.accept(22, approval(22, "north", id));
                pass(&mut world, START + DELAY + 1);
                assert_eq!(state(&world, id), EmergencyState::Active);
            }
            assert_eq!(world.refusal(9, veto(TransactionId([9; 32]))), Rejection::NoSuchEmergency);
            for other in [20, 21, STRANGER, AUTHORITY] {
                assert_eq!(world.refusal(other, veto(id)), Rejection::MayNotVeto);
            }
            world.accept(vetoer, veto(id));
            assert_eq!(state(&world, id), EmergencyState::Vetoed);
            assert_eq!(row(&world, id).vetoed.unwrap().by, pair(vetoer).public());
            assert_eq!(world.refusal(9, veto(id)), Rejection::EmergencyOver);
            assert_eq!(world.refusal(23, approval(23, "east", id)), Rejection::EmergencyOver);
            // The same clinician waits until the request would have been over; others need not.
            assert_eq!(world.refusal(20, ask(20)), Rejection::TooManyEmergencies);
            world.accept(24, ask(24));
            world.clock = row(&world, id).ends;
            world.blocks(2);
            assert_eq!(state(&world, id), EmergencyState::Vetoed, "also when its time is over");
            world.accept(20, ask(20));
        }
    }
}

#[test]
fn a_vault_and_a_clinician_have_so_many_emergencies_under_way() {
    let mut world = armed();
    for nth in 0..u8::try_from(MAX_VAULT_EMERGENCIES).unwrap() {
        world.accept(110 + nth, ask(110 + nth));
    }
    assert_eq!(world.refusal(20, ask(20)), Rejection::TooManyEmergencies);
    let first = crate::ledger::emergency::emergencies(&world.state, &vault(1)).unwrap()[0].0;
    world.accept(9, veto(first));
    world.accept(20, ask(20));
    // All end at about one time: some with each block.
    world.clock = at(START) + std::time::Duration::from_micros(EMERGENCY_REQUEST_LIFE_MICROS * 2);
    let over = |world: &World| {
        let rows = crate::ledger::emergency::emergencies(&world.state, &vault(1)).unwrap();
        rows.iter().filter(|(_, row)| row.is_over).count()
    };
    world.blocks(2);
    assert!((1..MAX_VAULT_EMERGENCIES).contains(&over(&world)));
    world.blocks(2);
    assert_eq!(over(&world), MAX_VAULT_EMERGENCIES + 1);
    assert_eq!(EMERGENCY_CLINICIANS.scan(&world.state, &(), None, 9).unwrap(), []);

    let mut world = armed();
    force(&mut world, &EMERGENCY_CLINICIANS, &pair(20).public(), &MAX_CLINICIAN_EMERGENCIES);
    assert_eq!(world.refusal(20, ask(20)), Rejection::TooManyEmergencies);
    force(&mut world, &EMERGENCY_CLINICIANS, &pair(20).public(), &(MAX_CLINICIAN_EMERGENCIES - 1));
    world.accept(20, ask(20));
    assert_eq!(world.refusal(20, ask(20)), Rejection::TooManyEmergencies, "one of each vault");
}

#[test]
fn the_oldest_emergency_that_is_over_makes_room() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    let opening = EmergencyOpening { vault: vault(1), request: id, open: Hash([1; 32]), records: 1 };
    world.accept(1, Action::EmergencyOpened(opening));
    world.clock = row(&world, id).ends;
    world.blocks(2);
    let over = row(&world, id);
    for nth in 1..u8::try_from(MAX_VAULT_EMERGENCIES_KEPT).unwrap() {
        let later = Emergency { requested: world.clock, ..over.clone() };
        force(&mut world, &EMERGENCIES, &(vault(1), TransactionId([nth; 32])), &later);
    }
    let kept = |world: &World| EMERGENCIES.scan(&world.state, &(), None, 999).unwrap().len();
    assert_eq!(kept(&world), MAX_VAULT_EMERGENCIES_KEPT);
    world.accept(21, ask(21));
    assert_eq!(kept(&world), MAX_VAULT_EMERGENCIES_KEPT);
    assert!(!EMERGENCIES.contains(&world.state, &(vault(1), id)).unwrap(), "it was the oldest");
    assert_eq!(EMERGENCY_OPENINGS.scan(&world.state, &(), None, 9).unwrap(), []);
    assert_eq!(EMERGENCY_DUE.scan(&world.state, &(), None, 9).unwrap().len(), 1);
}

#[test]
fn openings_are_said_by_static_nodes_each_once() {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    let opened = |open: u8| {
        Action::EmergencyOpened(EmergencyOpening {
            vault: vault(1),
            request: id,
            open: Hash([open; 32]),
            records: 2,
        })
    };
    assert_eq!(world.refusal(9, opened(1)), Rejection::NotAMember { key: pair(9).public() });
    world.accept(1, opened(1));
    for nth in 1..=2 {
        assert_eq!(world.refusal(nth, opened(1)), Rejection::OpeningKnown);
    }
    world.accept(2, opened(2));
    let found = crate::ledger::emergency::openings(&world.state, &id, 9).unwrap();
    let said: Vec<_> = found.iter().map(|(open, row)| (open.0[0], row.node, row.records)).collect();
    assert_eq!(said, [(1, pair(1).public(), 2), (2, pair(2).public(), 2)]);
    assert_eq!((row(&world, id).openings, row(&world, id).records), (2, 4));
    // What was opened before a veto is known a moment later.
    world.accept(9, veto(id));
    world.accept(3, opened(3));
    // Who says so much that it must be wrong is not heard any more; the others are.
    let said = OpeningRow { time: world.clock, node: pair(1).public(), records: 0 };
    for nth in 1..MAX_EMERGENCY_REQUESTS {
        let mut open = [0xff; 32];
        open[..4].copy_from_slice(&nth.to_be_bytes());
        world.state.insert(EMERGENCY_OPENINGS.key(&(id, Hash(open))), said.encode());
    }
    force(&mut world, &EMERGENCY_OPENINGS, &(id, Hash([0xfe; 32])), &OpeningRow { records: 1, ..said });
    assert_eq!(world.refusal(1, opened(4)), Rejection::OpeningKnown);
    world.accept(2, opened(4));
}

#[test]
fn no_signature_of_a_request_is_left_out() {
    let world = armed();
    let bad = |action: Action| world.sign(20, action).verify(&NETWORK).unwrap_err();
    let Action::EmergencyRequest(good) = ask(20) else { unreachable!() };
    let with = |change: &dyn Fn(&mut EmergencyRequest)| {
        let mut changed = (*good).clone();
        change(&mut changed);
        Action::EmergencyRequest(Box::new(changed))
    };
    use crate::message::Violation;
    assert_eq!(bad(with(&|r| r.possession[0] ^= 1)), Violation::BadSignature);
    assert_eq!(bad(with(&|r| r.reason = Hash([9; 32]))), Violation::BadSignature);
    assert_eq!(bad(with(&|r| r.grant = GrantId([9; 16]))), Violation::BadSignature);
    assert_eq!(bad(with(&|r| r.certificate.role = "surgeon".into())), Violation::BadSignature);
    assert_eq!(bad(with(&|r| r.certificate.network = NetworkId([1; 32]))), Violation::WrongNetwork);
    // Of one author nobody else makes a request of its own.
    assert_eq!(
        world.sign(21, ask(20)).verify(&NETWORK),
        Err(Violation::BadSignature),
        "the card's signature names who asks"
    );
    let mut approval = approval(20, "south", TransactionId([1; 32]));
    if let Action::EmergencyApprove(approval) = &mut approval {
        approval.certificate.expires = at(99_000_000);
    }
    assert_eq!(bad(approval), Violation::BadSignature);
}

/// A world in which clinician 20's emergency is active, and which that is.
fn active() -> (World, TransactionId) {
    let mut world = armed();
    let id = world.accept(20, ask(20));
    world.accept(21, approval(21, "south", id));
    world.accept(22, approval(22, "north", id));
    pass(&mut world, START + DELAY + 10);
    assert_eq!(state(&world, id), EmergencyState::Active);
    (world, id)
}

/// What a node says at a time to somebody who opens a record in an emergency.
fn says(
    world: &World,
    node: &Node,
    now: Timestamp,
    signer: u8,
    emergency: Option<TransactionId>,
) -> Result<u32, (Denial, bool)> {
    let mut request = open_request(now);
    (request.grant, request.emergency) = (GrantId([2; 16]), emergency);
    decided(decide(&world.state, node, now, false, &request.sign(&pair(signer))).unwrap())
}

#[test]
fn a_node_opens_an_emergency_grant_to_who_asked_while_it_is_active_and_to_nobody_else() {
    let (mut world, id) = active();
    let node = Node::default();
    let now = query::tip(&world.state).unwrap().record.time;
    assert_eq!(says(&world, &node, now, 20, Some(id)), Ok(1));
    // The card alone does not do, nor does one who approved.
    for (signer, denied) in [(102, Denial::NotTheGrantee), (21, Denial::NotTheGrantee)] {
        assert_eq!(says(&world, &node, now, signer, Some(id)), Err((denied, false)));
    }
    assert_eq!(says(&world, &node, now, 102, None), Err((Denial::NotActivated, true)), "it is logged");
    let other = TransactionId([9; 32]);
    assert_eq!(says(&world, &node, now, 102, Some(other)), Err((Denial::NotActivated, true)));
    assert_eq!(says(&world, &node, now, 20, Some(other)), Err((Denial::NotTheGrantee, false)));
    // Of another grant, to which the same clinician has no right by this emergency.
    world.accept(9, Action::Grant(emergency_grant(3, policy())));
    let mut request = open_request(now);
    (request.grant, request.emergency) = (GrantId([3; 16]), Some(id));
    let decision = decide(&world.state, &node, now, false, &request.sign(&pair(20))).unwrap();
    assert_eq!(decided(decision), Err((Denial::NotTheGrantee, false)));
    // A node whose clock is behind does not open it yet, one whose clock is past its end not any more.
    let begins = row(&world, id).begins.unwrap();
    let before = Timestamp::from_unix_micros(begins.unix_micros() - 1);
    assert_eq!(says(&world, &node, before, 20, Some(id)), Err((Denial::NotActivated, true)));
    assert_eq!(says(&world, &node, begins, 20, Some(id)), Ok(1));
    let vetoed = Node { vetoed: true, ..Node::default() };
    assert_eq!(says(&world, &vetoed, now, 20, Some(id)), Err((Denial::Vetoed, true)), "seen, and not final");
}

#[test]
fn an_emergency_has_a_quota_an_end_a_veto_and_ends_with_its_grant() {
    let (world, id) = active();
    let now = query::tip(&world.state).unwrap().record.time;
    let used =
        |records, requests| Node { in_emergency: EmergencyUse { records, requests }, ..Node::default() };
    assert_eq!(says(&world, &used(4, 9), now, 20, Some(id)), Ok(1));
    let used_up = Err((Denial::OverEmergencyQuota, true));
    assert_eq!(says(&world, &used(5, 9), now, 20, Some(id)), used_up);
    assert_eq!(says(&world, &used(0, MAX_EMERGENCY_REQUESTS - 1), now, 20, Some(id)), Ok(1));
    assert_eq!(says(&world, &used(0, MAX_EMERGENCY_REQUESTS), now, 20, Some(id)), used_up);

    let node = Node::default();
    let later = |world: &World| query::tip(&world.state).unwrap().record.time;
    let (mut ended, _) = active();
    ended.clock = row(&ended, id).ends;
    ended.blocks(1);
    assert_eq!(says(&ended, &node, later(&ended), 20, Some(id)), Err((Denial::EmergencyOver, true)));
    let (mut vetoed, _) = active();
    vetoed.accept(GUARDIAN, veto(id));
    assert_eq!(says(&vetoed, &node, later(&vetoed), 20, Some(id)), Err((Denial::Vetoed, true)));
    let (mut revoked, _) = active();
    revoked.accept(9, revoke(2));
    assert_eq!(says(&revoked, &node, later(&revoked), 20, Some(id)), Err((Denial::Revoked, true)));

    let mut waiting = armed();
    let id = waiting.accept(20, ask(20));
    assert_eq!(says(&waiting, &node, later(&waiting), 20, Some(id)), Err((Denial::NotActivated, true)));
    let clock = later(&waiting);
    let is_open = |world: &World, clock| {
        !crate::ledger::emergency::active(&world.state, &vault(1), &GrantId([2; 16]), clock)
            .unwrap()
            .is_empty()
    };
    assert!(
        !is_open(&waiting, clock) && !is_open(&vetoed, later(&vetoed)) && !is_open(&ended, later(&ended))
    );
    assert!(is_open(&world, now));
}
