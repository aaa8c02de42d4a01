//! Scripted nodes in virtual time: what an upload does with the dead, the slow, the full and the lying.

use super::*;
use crate::message::Refusal;
use crate::types::{Code, Hash, SegmentId, VaultId};

const SEGMENT: SegmentId = SegmentId([9; 32]);
const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

/// How a node treats every shard that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// A receipt after so many milliseconds.
    Takes(u64),
    /// A receipt for the first shard only; then it is full.
    TakesOne,
    /// Busy so many times, then as `Takes(10)`.
    Busy(u32),
    Full,
    Unreachable,
    /// Never an answer.
    Hangs,
    /// Acknowledges some bytes every 100 ms and never finishes.
    Trickles,
    /// Acknowledges some bytes every 100 ms, and a receipt after so many milliseconds.
    Crawls(u64),
    /// A receipt that the driver finds forged.
    Forges,
    /// A sound receipt of an earlier request.
    Replays,
}
use Script::*;

#[derive(Debug)]
struct Run {
    report: Result<Outcome, UploadError>,
    reported_at: u64,
    amended: Option<Descriptor>,
    amended_at: u64,
    finished_at: u64,
    /// Requests sent.
    sends: usize,
    strays: usize,
    suspects: BTreeSet<PublicKey>,
}

struct World {
    upload: Upload,
    nodes: Vec<Script>,
    now: Timestamp,
    events: BTreeMap<(Timestamp, u64), Event>,
    seq: u64,
    sent: BTreeMap<PublicKey, u32>,
    nonces: BTreeSet<[u8; 16]>,
}

fn key(node: usize) -> PublicKey {
    PublicKey([u8::try_from(node).unwrap() + 1; 32])
}

fn plan(code: Code, nodes: usize) -> UploadPlan {
    let ranking = |shard: usize| (0..nodes).map(|rank| key((shard + rank) % nodes)).collect();
    UploadPlan {
        vault: VaultId([9; 32]),
        segment: SEGMENT,
        code,
        len: 1_000,
        shard_len: 512,
        roots: (0..code.total()).map(|shard| Hash([u8::try_from(shard).unwrap(); 32])).collect(),
        ranking: (0..code.total()).map(ranking).collect(),
        held: vec![None; code.total()],
        nonce_seed: [3; 32],
    }
}

fn receipt(put: &PutShard, node: PublicKey) -> CustodyReceipt {
    CustodyReceipt {
        network: crate::types::NetworkId([0; 32]),
        vault: put.vault,
        segment: put.shard.segment,
        index: put.shard.index,
        root: put.root,
        len: put.len,
        nonce: put.nonce,
        issued_at: START,
        node,
    }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal { code, message: format!("{code:?}"), retry_after_ms: 20, protocols: Vec::new() }
}

impl World {
    fn after(&mut self, millis: u64, event: Event) {
        self.seq += 1;
        self.events.insert((self.now + Duration::from_millis(millis), self.seq), event);
    }

    fn send(&mut self, request: RequestId, node: PublicKey, put: &PutShard) {
        assert!(self.nonces.insert(put.nonce), "a nonce was used twice");
        let count = self.sent.entry(node).or_default();
        *count += 1;
        let nth = *count;
        let accepted = Event::Accepted { request, receipt: receipt(put, node) };
        let refused = |code| Event::Refused { request, refusal: refusal(code) };
        let failed = |failure| Event::Failed { request, failure };
        match self.nodes[usize::from(node.0[0]) - 1] {
            Takes(millis) => self.after(millis, accepted),
            TakesOne if nth == 1 => self.after(10, accepted),
            Busy(times) if nth <= times => self.after(1, refused(RefusalCode::Busy)),
            Busy(_) => self.after(10, accepted),
            Full | TakesOne => self.after(1, refused(RefusalCode::Full)),
            Unreachable => self.after(5, failed(Failure::Unreachable)),
            Hangs => {}
            Trickles => {
                (1..3_000).for_each(|i| self.after(i * 100, Event::Progressed { request }));
            }
            Crawls(millis) => {
                (1..millis / 100).for_each(|i| self.after(i * 100, Event::Progressed { request }));
                self.after(millis, accepted);
            }
            Forges => self.after(5, failed(Failure::Violation(Violation::BadSignature))),
            Replays => {
                let old = CustodyReceipt { nonce: [0; 16], ..receipt(put, node) };
                self.after(5, Event::Accepted { request, receipt: old });
            }
        }
    }

    fn run(mut self) -> Run {
        let (mut report, mut amended, mut reported_at, mut sends) = (None, None, 0, 0);
        let mut amended_at = 0;
        let (mut enough, mut persisted, mut finished, mut suspects) = (false, false, false, BTreeSet::new());
        for _ in 0..100_000 {
            while let Some(effect) = self.upload.poll() {
                match effect {
                    Effect::Send { request, node, put, .. } => {
                        sends += 1;
                        self.send(request, node, &put);
                    }
                    Effect::Cancel { .. } => {}
                    Effect::Enough => {
                        assert!(report.is_none() && !std::mem::replace(&mut enough, true), "enough once");
                    }
                    Effect::Suspect { node } => drop(suspects.insert(node)),
                    Effect::Persist(_) => {
                        assert!(!std::mem::replace(&mut persisted, true), "persisted twice");
                        self.after(2, Event::Persisted);
                    }
                    Effect::Report(result) => {
                        assert_eq!(result.is_ok(), persisted, "persist before you speak");
                        reported_at = self.now.since(START).as_millis().try_into().unwrap();
                        assert!(report.replace(result).is_none(), "reported twice");
                    }
                    Effect::Amend(descriptor) => {
                        assert!(report.is_some() && amended != Some(descriptor.clone()));
                        amended = Some(descriptor);
                        amended_at = self.now.since(START).as_millis().try_into().unwrap();
                    }
                    Effect::Finished => finished = true,
                }
            }
            assert_eq!(self.upload.is_finished(), finished, "every upload ends with an effect");
            if finished {
                let finished_at = self.now.since(START).as_millis().try_into().unwrap();
                let report = report.expect("a finished upload has reported");
                let strays = self.upload.strays().len();
                return Run {
                    report,
                    reported_at,
                    amended,
                    amended_at,
                    finished_at,
                    sends,
                    strays,
                    suspects,
                };
            }
            let next = self.events.keys().next().copied();
            let deadline = self.upload.deadline().filter(|at| next.is_none_or(|(due, _)| *at < due));
            match (deadline, next) {
                (Some(at), _) => {
                    assert!(at >= self.now, "a deadline in the past: {at:?}");
                    self.now = at;
                    self.upload.expire(at);
                    assert!(
                        self.upload.deadline().is_none_or(|next| next > at) || self.upload.is_finished(),
                        "a deadline that expire does not act on"
                    );
                }
                (None, Some(due)) => {
                    let event = self.events.remove(&due).unwrap();
                    self.now = due.0;
                    self.upload.handle(self.now, event);
                }
                (None, None) => panic!("the upload waits for nothing"),
            }
        }
        panic!("the upload does not end");
    }
}

fn run_with(code: Code, nodes: &[Script], config: UploadConfig) -> Run {
    run_plan(plan(code, nodes.len()), nodes, config)
}

fn run_plan(plan: UploadPlan, nodes: &[Script], config: UploadConfig) -> Run {
    let world = World {
        upload: Upload::new(START, plan, config),
        nodes: nodes.to_vec(),
        now: START,
        events: BTreeMap::new(),
        seq: 0,
        sent: BTreeMap::new(),
        nonces: BTreeSet::new(),
    };
    world.run()
}

fn run(nodes: &[Script]) -> Run {
    run_with(Code::DEFAULT, nodes, UploadConfig::default())
}

/// I2 at the moment of the acknowledgement: any one node may vanish.
fn assert_survives_any_node(descriptor: &Descriptor) {
    let holders: Vec<_> = descriptor.holders.iter().flatten().collect();
    assert!(holders.len() >= descriptor.code.ack_threshold());
    for lost in &holders {
        let left = holders.iter().filter(|holder| holder != &lost).count();
        assert!(left >= descriptor.code.k(), "{descriptor:?}");
    }
}

#[test]
fn healthy_nodes_take_one_shard_each() {
    let run = run(&[Takes(10); 6]);
    let outcome = run.report.unwrap();
    assert_eq!((outcome.held, outcome.degraded, run.sends, run.strays), (6, false, 6, 0));
    assert_eq!((run.reported_at, run.finished_at), (12, 12));
    assert_eq!(outcome.descriptor.holders, (0..6).map(|node| Some(key(node))).collect::<Vec<_>>());
    assert!(run.amended.is_none() && outcome.violations.is_empty() && run.suspects.is_empty());
}

#[test]
fn any_set_of_dead_nodes_that_leaves_three_is_survived() {
    for dead in 0..64_u32 {
        let nodes: Vec<_> =
            (0..6).map(|node| if dead >> node & 1 == 1 { Unreachable } else { Takes(10) }).collect();
        let run = run(&nodes);
        let living = 6 - dead.count_ones();
        assert_eq!(run.report.is_ok(), living >= 3, "dead nodes {dead:06b}: {run:?}");
        match run.report {
            Ok(outcome) => {
                assert_survives_any_node(&outcome.descriptor);
                assert_eq!((outcome.held, outcome.degraded), (6, living < 6));
                assert!(run.reported_at < 100, "{} ms", run.reported_at);
            }
            Err(UploadError::NotEnoughReceipts { have, need, reasons, .. }) => {
                assert!(have < need && run.finished_at < 3_000, "{} ms", run.finished_at);
                assert_eq!(reasons.len(), usize::try_from(dead.count_ones()).unwrap());
            }
        }
    }
}

#[test]
fn trouble_is_worked_around() {
    struct Case {
        name: &'static str,
        nodes: Vec<Script>,
        held: usize,
        degraded: bool,
        violations: usize,
        within_ms: u64,
    }
    let case = |name, nodes: &[Script], held, degraded, violations, within_ms| Case {
        name,
        nodes: nodes.to_vec(),
        held,
        degraded,
        violations,
        within_ms,
    };
    let t = Takes(10);
    let cases = [
        case("spare for a dead node", &[Unreachable, t, t, t, t, t, t], 6, false, 0, 40),
        case("spare for a full node", &[t, Full, t, t, t, t, t], 6, false, 0, 40),
        case("one hanging node", &[t, t, Hangs, t, t, t], 6, true, 0, 2_100),
        case("one hanging node and a spare", &[t, t, Hangs, t, t, t, t], 6, false, 0, 80),
        case("two hanging nodes", &[t, t, Hangs, t, Hangs, t], 6, true, 0, 2_100),
        case("a trickling node", &[t, Trickles, t, t, t, t], 6, true, 0, 4_100),
        case("two trickling nodes", &[Trickles, Trickles, t, t, t, t], 6, true, 0, 2_100),
        case("a slow node is left behind", &[Takes(5_000), t, t, t, t, t], 6, true, 0, 2_100),
        case("a busy node is waited for", &[Takes(1_900), t, t, t, t, t], 6, false, 0, 1_910),
        case(
            "a busy network",
            &[Takes(1_800), t, Takes(1_200), Takes(900), Takes(1_900), t],
            6,
            false,
            0,
            1_910,
        ),
        case("while bytes make progress", &[Crawls(3_500), t, t, t, t, t], 6, false, 0, 3_510),
        case("a dead node is not waited for", &[t, t, t, t, Unreachable, t], 6, true, 0, 60),
        case("a node a little slower is waited for", &[Takes(40), t, t, t, t, t], 6, false, 0, 60),
        case("a forger", &[t, t, t, Forges, t, t], 6, true, 1, 60),
        case("a forger and a spare", &[t, t, t, Forges, t, t, t], 6, false, 1, 60),
        case("a replayer", &[t, t, t, t, t, Replays], 6, true, 1, 60),
        case("two liars", &[t, Forges, t, t, t, Replays], 6, true, 2, 60),
        case("busy for a while", &[Busy(2), t, t, t, t, t], 6, false, 0, 100),
        case("all busy for a while", &[Busy(4); 6], 6, false, 0, 200),
        case("busy forever", &[Busy(u32::MAX), t, t, t, t, t], 6, true, 0, 200),
        case("three living nodes", &[t, Full, t, Unreachable, t, Forges], 6, true, 1, 100),
        case("nodes with room for one", &[TakesOne; 7], 6, false, 0, 60),
    ];
    for case in cases {
        let run = run(&case.nodes);
        let outcome = run.report.as_ref().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_survives_any_node(&outcome.descriptor);
        assert_eq!(
            (outcome.held, outcome.degraded, outcome.violations.len()),
            (case.held, case.degraded, case.violations),
            "{}: {run:?}",
            case.name
        );
        assert!(run.reported_at <= case.within_ms, "{}: {} ms", case.name, run.reported_at);
    }
}

#[test]
fn receipts_after_the_report_amend_the_descriptor_at_once() {
    // Nobody has room for a second shard, so the slow one is left behind.
    let run = run(&[Takes(3_000), TakesOne, TakesOne, TakesOne, TakesOne, TakesOne]);
    let outcome = run.report.unwrap();
    assert_eq!((outcome.held, outcome.troubles), (5, vec![(key(0), Trouble::Slow)]));
    assert!((2_000..2_100).contains(&run.reported_at), "{} ms", run.reported_at);
    assert_eq!(run.amended.unwrap().holders[0], Some(key(0)));
    assert_eq!((run.amended_at, run.finished_at), (3_000, 3_000));
}

#[test]
fn a_hanging_node_loses_its_shard_to_another() {
    let t = Takes(10);
    let run = run(&[t, t, Hangs, t, t, t]);
    let outcome = run.report.unwrap();
    let holders = outcome.descriptor.holders;
    assert!(holders.iter().all(Option::is_some) && !holders.contains(&Some(key(2))));
    assert_eq!(outcome.troubles, [(key(2), Trouble::Slow)]);
    assert_eq!(run.strays, 1, "the hanging node may hold a shard");
    assert_eq!(run.suspects, BTreeSet::from([key(2)]));
}

#[test]
fn a_trickling_node_does_not_keep_the_bytes_in_memory() {
    let t = Takes(10);
    let run = run(&[t, t, Trickles, t, t, t]);
    assert_eq!(run.report.unwrap().held, 6);
    assert_eq!((run.finished_at, run.suspects), (run.reported_at, BTreeSet::from([key(2)])));
}

#[test]
fn the_report_names_who_did_not_take_its_shard() {
    let t = Takes(10);
    let troubles = run(&[t, Full, t, Unreachable, t, Forges]).report.unwrap().troubles;
    let is = |nth: usize, node: usize, is_it: &dyn Fn(&Failure) -> bool| matches!(&troubles[nth], (key_, Trouble::Failed(failure)) if *key_ == key(node) && is_it(failure));
    assert_eq!(troubles.len(), 3, "{troubles:?}");
    assert!(is(
        0,
        1,
        &|failure| matches!(failure, Failure::Refused(refusal) if refusal.code == RefusalCode::Full)
    ));
    assert!(is(1, 3, &|failure| *failure == Failure::Unreachable));
    assert!(is(2, 5, &|failure| *failure == Failure::Violation(Violation::BadSignature)));
    assert_eq!(run(&[t; 6]).report.unwrap().troubles, []);
}

#[test]
fn shards_that_share_a_node_are_moved_to_one_that_has_none() {
    let t = Takes(10);
    let doubled = || {
        let mut plan = plan(Code::DEFAULT, 6);
        plan.held = [0, 1, 2, 3, 0, 1].map(|node| Some(key(node))).to_vec();
        plan
    };
    let moved = run_plan(doubled(), &[t; 6], UploadConfig::default());
    let outcome = moved.report.unwrap();
    assert_eq!((outcome.held, outcome.degraded, moved.sends), (6, false, 2));
    assert_eq!(outcome.descriptor.holders, (0..6).map(|node| Some(key(node))).collect::<Vec<_>>());
    // Where that fails they stay where they are, and nothing is lost or waited for.
    for (script, within_ms) in [
        (Unreachable, 50),
        (Full, 50),
        (Forges, 50),
        (Busy(u32::MAX), 300),
        (Hangs, 2_100),
        (Trickles, 6_100),
    ] {
        let run = run_plan(doubled(), &[t, t, t, t, script, t], UploadConfig::default());
        let outcome = run.report.unwrap();
        assert_eq!((outcome.held, outcome.degraded), (6, true), "{script:?}");
        assert_eq!(outcome.descriptor.holders[4], Some(key(0)), "{script:?}");
        assert_eq!(outcome.descriptor.holders[5], Some(key(5)), "{script:?}");
        assert_survives_any_node(&outcome.descriptor);
        assert!(run.reported_at <= within_ms, "{script:?}: {} ms", run.reported_at);
        assert_eq!(outcome.troubles.len(), 1, "{script:?}");
    }
    // With no node free there is nothing to move.
    let mut plan = plan(Code::DEFAULT, 4);
    plan.held = [0, 1, 2, 3, 0, 1].map(|node| Some(key(node))).to_vec();
    assert_eq!(run_plan(plan, &[t; 4], UploadConfig::default()).sends, 0);
}

#[test]
fn what_cannot_be_placed_is_refused_with_reasons() {
    let t = Takes(10);
    let cases: [(&[Script], RefusalCode); 2] = [
        (&[t, t, Full, Full, Full, Full], RefusalCode::Full),
        (&[t, t, t, Busy(u32::MAX), Busy(u32::MAX), Busy(u32::MAX)], RefusalCode::Busy),
    ];
    for (nodes, code) in cases {
        match run(nodes).report {
            Err(UploadError::NotEnoughReceipts { have, reasons, need, segment }) => {
                assert_eq!(segment, SEGMENT);
                assert!(have < need);
                let is_it = |failure: &Failure| matches!(failure, Failure::Refused(r) if r.code == code);
                assert!(reasons.iter().all(|(_, failure)| is_it(failure)));
            }
            // Three takers hold two shards each: busy nodes do not matter.
            Ok(outcome) => assert_eq!((code, outcome.held), (RefusalCode::Busy, 6)),
        }
    }
    let text = run(&[Unreachable; 6]).report.unwrap_err().to_string();
    assert!(text.starts_with("0 of the 5 custody receipts needed for segment 09090909; node"), "{text}");
}

#[test]
fn two_nodes_may_not_hold_a_segment_that_either_could_take_away() {
    let error = run(&[Takes(10), Takes(10)]).report.unwrap_err();
    let UploadError::NotEnoughReceipts { have, need, .. } = error;
    assert_eq!((have, need), (4, 5));
    // With 1+1 two nodes are all that is needed.
    let run = run_with(Code::new(1, 1).unwrap(), &[Takes(10), Takes(10)], UploadConfig::default());
    assert_eq!(run.report.unwrap().held, 2);
}

#[test]
fn an_upload_ends_even_if_every_node_trickles_forever() {
    let config = UploadConfig { limit: Duration::from_secs(60), ..UploadConfig::default() };
    let run = run_with(Code::DEFAULT, &[Trickles; 6], config);
    assert!(run.report.is_err());
    assert_eq!(run.finished_at, 60_000);
}

#[test]
fn shards_held_from_an_earlier_attempt_are_not_sent_again() {
    for held in 0..64_u32 {
        let mut plan = plan(Code::DEFAULT, 6);
        let is_held = |shard: &usize| held >> shard & 1 == 1;
        (0..6).filter(is_held).for_each(|shard| plan.held[shard] = Some(key(shard)));
        let run = run_plan(plan, &[Takes(10); 6], UploadConfig::default());
        assert_eq!(run.sends, 6 - (0..6).filter(is_held).count());
        let outcome = run.report.unwrap();
        assert_eq!((outcome.held, outcome.degraded), (6, false));
    }
}

#[test]
fn a_hanging_network_fails_in_bounded_time() {
    let run = run(&[Hangs; 6]);
    assert!(run.report.is_err());
    assert!(run.finished_at < 120_000, "{} ms", run.finished_at);
}

#[test]
fn wide_codes_never_put_more_than_m_shards_on_a_node() {
    let code = Code::new(10, 4).unwrap();
    for nodes in 1..=16 {
        let run = run_with(code, &vec![Takes(10); nodes], UploadConfig::default());
        assert_eq!(run.report.is_ok(), nodes >= 4, "{nodes} nodes");
        if let Ok(outcome) = run.report {
            assert_survives_any_node(&outcome.descriptor);
            assert_eq!((outcome.held, outcome.degraded), (14, nodes < 14));
        }
    }
}
