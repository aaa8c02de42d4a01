//! The order of what the machine does; whole runs are in the simulator.

use super::*;
use crate::crypto::access::SealKey;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::handoff::Duty;
use crate::ledger::rows::Sharing;
use crate::message::access::Care;
use crate::message::access::desk::{Ack, DeskAnswer, DeskRequest};
use crate::message::access::handoff::SignedHandoffKey;
use crate::message::{Member, Roster};
use crate::types::Height;

const NETWORK: NetworkId = NetworkId([3; 32]);
const NONCE: [u8; 16] = [5; 16];

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

fn roster() -> Roster {
    let member = |nth: u8| Member {
        key: pair(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth; 32]).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address: ([127, 0, 0, nth], 4_000).into(),
    };
    let mut members: Vec<_> = (1..=4).map(member).collect();
    members.sort_by_key(|member| member.key);
    Roster::new(members).unwrap()
}

fn look(vaults: u8) -> Look {
    let hash = Hash([9; 32]);
    let duty = |nth: u8| Duty {
        handed: HandedVault { vault: VaultId([nth; 32]), dealing: 0, epoch: 0, attempt: 0 },
        sharing: Sharing {
            dealing: 0,
            epoch: 0,
            roster: hash,
            commitments: hash,
            package: hash,
            height: Height(1),
        },
    };
    Look {
        mark: Hash([1; 32]),
        roster: roster(),
        duties: (0..vaults).map(duty).collect(),
        work: Vec::new(),
        packages: BTreeMap::new(),
        rosters: BTreeMap::new(),
        is_under_way: false,
        care: Care { due: vaults.into(), ..Care::default() },
    }
}

fn looked(look: Option<Look>) -> Event {
    Event::Done(Done::Looked { look: look.map(Box::new), bad: Vec::new(), nonce: NONCE })
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_000_000 + millis)
}

/// A machine that looks, told what there is.
fn machine(now: Timestamp, vaults: u8) -> HandingOn {
    let mut machine = HandingOn::new(NETWORK, pair(1).public());
    machine.expire(now);
    assert!(matches!(machine.poll(), Some(Effect::Do(Task::Look { known: None }))));
    machine.handle(now, looked(Some(look(vaults))));
    machine
}

fn key_of(nth: u8) -> DeskAnswer {
    let of = HandoffKeyOf { dealer: pair(1).public(), to: roster().hash(), nonce: NONCE };
    let key = SealKey::from_seed(&[nth; 32]).public().clone();
    DeskAnswer::HandoffKey(SignedHandoffKey::sign(&NETWORK, &of, key, &pair(nth)))
}

fn answer(machine: &mut HandingOn, now: Timestamp, call: u64, from: u8, answer: Option<DeskAnswer>) {
    machine.handle(now, Event::Answered { call, from: pair(from).public(), answer });
}

fn asked(machine: &mut HandingOn) -> (u64, DeskRequest) {
    match machine.poll() {
        Some(Effect::Ask { call, request, .. }) => (call, request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nothing_is_to_be_done_for_rests_until_there_is_news() {
    let mut machine = machine(at(0), 0);
    assert!(matches!(machine.poll(), Some(Effect::Do(Task::Tidy { forget: true, .. }))));
    assert!(machine.poll().is_none() && machine.deadline().is_none());
    machine.handle(at(1), Event::Done(Done::Tidied));
    assert_eq!(machine.deadline(), Some(at(1) + PAUSE + REST));
    machine.handle(at(2), Event::News);
    assert_eq!(machine.deadline(), Some(at(1) + PAUSE), "blocks may come many times a second");
    machine.expire(at(1) + PAUSE);
    let known = Some(Hash([1; 32]));
    assert!(matches!(machine.poll(), Some(Effect::Do(Task::Look { known: found })) if found == known));
    machine.handle(at(300), looked(None));
    assert!(machine.poll().is_none());
    // A task that fails is tried again.
    machine.expire(at(9_000));
    assert!(machine.poll().is_some());
    machine.handle(at(9_001), Event::Failed);
    assert_eq!(machine.deadline(), Some(at(9_001) + PAUSE + REST));
}

#[test]
fn a_package_is_made_with_all_keys_and_named_when_a_quorum_keeps_it() {
    let mut machine = machine(at(0), 1);
    let (call, request) = asked(&mut machine);
    assert_eq!(request, DeskRequest::HandoffKey { to: roster().hash(), nonce: NONCE });
    answer(&mut machine, at(1), call + 1, 2, Some(key_of(2)));
    answer(&mut machine, at(1), call, 2, Some(key_of(2)));
    answer(&mut machine, at(1), call, 3, Some(key_of(3)));
    assert!(machine.poll().is_none(), "one is waited for");
    answer(&mut machine, at(2), call, 4, Some(key_of(4)));
    let Some(Effect::Do(Task::Deal { keys, duties, roster, .. })) = machine.poll() else { panic!("no deal") };
    assert_eq!((keys.len(), duties.len()), (3, 1));
    let package = Hash([8; 32]);
    let sign = |nth: u8| Ack::sign(&NETWORK, &package.0, &pair(nth));
    let kept_by = |nth: u8| crate::message::access::KeptBy {
        member: pair(nth).public(),
        signature: sign(nth).signature,
    };
    let vaults = vec![duties[0].handed];
    let dealing = Dealing { package, bytes: vec![1], vaults, roster, own: Some(kept_by(1)) };
    machine.handle(at(3), Event::Done(Done::Dealt(Some(dealing))));
    let (call, request) = asked(&mut machine);
    assert_eq!(request, DeskRequest::Handoff(vec![1]));
    answer(&mut machine, at(4), call, 2, Some(DeskAnswer::Done(sign(2))));
    // A signature of another is none.
    answer(&mut machine, at(4), call, 3, Some(DeskAnswer::Done(sign(4))));
    assert!(machine.poll().is_none());
    answer(&mut machine, at(4), call, 4, Some(DeskAnswer::Done(sign(4))));
    let Some(Effect::Say(action)) = machine.poll() else { panic!("nothing is said") };
    let Action::HandOff(handoff) = *action else { panic!("{action:?}") };
    assert_eq!(handoff.kept.len(), 3);
    assert!(handoff.verify(&NETWORK).is_ok() && handoff.kept.is_sorted_by_key(|kept| kept.member));
    // It is not dealt again at once, and once more if the ledger does not take it.
    let again = |machine: &mut HandingOn, now| {
        machine.expire(now);
        assert!(matches!(machine.poll(), Some(Effect::Do(Task::Look { .. }))));
        machine.handle(now, looked(Some(look(1))));
        machine.poll().is_some()
    };
    assert!(!again(&mut machine, at(3_000)));
    assert!(again(&mut machine, at(20_000)));
}

#[test]
fn who_does_not_answer_is_waited_for_at_first_and_too_few_are_dealt_nothing() {
    let mut machine = machine(at(0), 1);
    let few = |machine: &mut HandingOn, now: Timestamp, members: &[u8]| {
        let (call, _) = asked(machine);
        for nth in members {
            answer(machine, now, call, *nth, Some(key_of(*nth)));
        }
        machine.expire(now + CALL_PATIENCE);
        machine.poll()
    };
    assert!(few(&mut machine, at(0), &[2, 3]).is_none(), "three of four, and the fourth may come");
    let later = at(0) + KEY_PATIENCE;
    machine.expire(later);
    assert!(machine.poll().is_some());
    machine.handle(later, looked(Some(look(1))));
    assert!(few(&mut machine, later, &[2]).is_none(), "two of four are no quorum");
    let later = later + KEY_PATIENCE;
    machine.expire(later);
    assert!(machine.poll().is_some());
    machine.handle(later, looked(Some(look(1))));
    let dealt = few(&mut machine, later, &[2, 3]);
    assert!(matches!(dealt, Some(Effect::Do(Task::Deal { .. }))));
    // One keeps it: it is not named.
    let (package, roster) = (Hash([8; 32]), roster());
    let dealing = Dealing { package, bytes: vec![1], vaults: Vec::new(), roster, own: None };
    machine.handle(later, Event::Done(Done::Dealt(Some(dealing))));
    let (call, _) = asked(&mut machine);
    let ack = Ack::sign(&NETWORK, &package.0, &pair(2));
    answer(&mut machine, later, call, 2, Some(DeskAnswer::Done(ack)));
    answer(&mut machine, later, call, 3, None);
    answer(&mut machine, later, call, 4, None);
    assert!(matches!(machine.poll(), Some(Effect::Note(Note::FewKeep { have: 1, need: 3 }))));
    assert!(machine.poll().is_none());
}
