//! The machine alone: what it does with what it is told. Many of them together are in `testing::sim::validators`.

use super::*;
use crate::crypto::sign::KeyPair;
use crate::message::{
    CommitCertificate, Evidence, Proposal, SignedProposal, Violation, Vote, VoteKind, block_hash,
};
use crate::types::{BlockId, Committee, Height, Machine as _, NetworkId, PublicKey, Round, Timestamp};
use bytes::Bytes;

const NETWORK: NetworkId = NetworkId([1; 32]);
const GOOD: BlockId = BlockId([5; 32]);
const OTHER: BlockId = BlockId([6; 32]);
const BODY: &[u8] = b"a block";

/// A machine with the keys of all four members; it is member 0.
struct Bench {
    machine: Consensus,
    pairs: Vec<KeyPair>,
    now: Timestamp,
}

fn members() -> Vec<KeyPair> {
    let mut pairs: Vec<KeyPair> = (1..5).map(|nth| KeyPair::from_secret(&[nth; 32])).collect();
    pairs.sort_by_key(KeyPair::public);
    pairs
}

fn committee() -> Committee {
    Committee::new(members().iter().map(KeyPair::public).collect()).unwrap()
}

fn settings() -> Settings {
    Settings::new(NETWORK, members()[0].clone(), Timing::default())
}

impl Bench {
    /// At a height of which member `height % 4` is the first proposer.
    fn at(height: u64, wal: Vec<WalEntry>) -> Self {
        let mut bench = Self {
            machine: Consensus::new(settings()),
            pairs: members(),
            now: Timestamp::from_unix_millis(1_000),
        };
        bench.tell(Event::Start { height: Height(height), committee: committee(), wal });
        bench
    }

    fn running(height: u64) -> Self {
        let mut bench = Self::at(height, vec![]);
        bench.tell(Event::Wake);
        bench
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(self.now, event);
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    fn key(&self, member: usize) -> PublicKey {
        self.pairs[member].public()
    }

    fn hear(&mut self, member: usize, bytes: impl Into<Bytes>) {
        let from = self.key(member);
        self.tell(Event::Received { from, bytes: bytes.into() });
    }

    fn vote(&self, member: usize, kind: VoteKind, block: Option<BlockId>) -> Vec<u8> {
        let (height, round) = (self.machine.height(), Round(0));
        let vote = Vote { network: NETWORK, kind, height, round, block };
        [&[1][..], &vote.sign(&self.pairs[member]).encode()].concat()
    }

    fn propose(&self, member: usize, block: BlockId, body: &[u8]) -> Vec<u8> {
        let (height, round, bytes) = (self.machine.height(), Round(0), block_hash(body));
        let proposal = Proposal { network: NETWORK, height, round, valid_round: None, block, bytes };
        [&[2][..], &proposal.sign(&self.pairs[member]).encode(), body].concat()
    }

    fn checked(&mut self, body: &[u8], valid: bool) {
        let (height, id, bytes) = (self.machine.height(), GOOD, block_hash(body));
        self.tell(Event::Checked { height, id, bytes, valid });
    }

    fn certificate(&self, signers: &[usize]) -> CommitCertificate {
        let (height, round, block) = (self.machine.height(), Round(0), GOOD);
        let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
        for member in signers {
            assert!(certificate.add(&certificate.vote(NETWORK).sign(&self.pairs[*member])));
        }
        certificate
    }

    fn synced(&mut self, from: usize, body: &'static [u8], certificate: CommitCertificate) {
        let (from, block) = (self.key(from), Bytes::from_static(body));
        self.tell(Event::Synced { from, id: GOOD, block, certificate });
    }

    fn pass(&mut self, time: std::time::Duration) {
        self.now = self.now + time;
        self.machine.expire(self.now);
    }

    /// Decides the height by the votes of the others.
    fn decide(&mut self) -> Vec<Effect> {
        self.hear(1, self.propose(1, GOOD, BODY));
        self.checked(BODY, true);
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            (1..4).for_each(|member| self.hear(member, self.vote(member, kind, Some(GOOD))));
        }
        self.effects()
    }
}

fn blames(effects: &[Effect]) -> Vec<(PublicKey, Violation)> {
    let blamed = effects.iter().filter_map(|effect| match effect {
        Effect::Blame { peer, violation } => Some((*peer, *violation)),
        _ => None,
    });
    blamed.collect()
}

fn decisions(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Decide { .. })).count()
}

fn sent_votes(effects: &[Effect]) -> Vec<Vote> {
    let votes = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to: To::All, bytes } if bytes[0] == 1 => Vote::decode(&bytes[1..79]).ok(),
        _ => None,
    });
    votes.collect()
}

fn appended(effects: &[Effect]) -> Vec<WalEntry> {
    let entries = effects.iter().filter_map(|effect| match effect {
        Effect::Append(entry) => Some(entry.clone()),
        _ => None,
    });
    entries.collect()
}

#[test]
fn nothing_is_said_that_is_not_flushed() {
    let mut bench = Bench::running(1);
    let effects = bench.decide();
    assert_eq!(decisions(&effects), 1);
    assert_eq!(sent_votes(&effects).len(), 2);
    let mut dirty = false;
    for effect in &effects {
        match effect {
            Effect::Append(_) => dirty = true,
            Effect::Flush => dirty = false,
            Effect::Send { .. } => assert!(!dirty, "said before it was flushed"),
            _ => {}
        }
    }
}

#[test]
fn a_replayed_log_says_the_same_and_appends_nothing_twice() {
    let mut bench = Bench::running(1);
    bench.hear(1, bench.propose(1, GOOD, BODY));
    bench.checked(BODY, true);
    bench.hear(2, bench.vote(2, VoteKind::Prevote, Some(GOOD)));
    bench.hear(3, bench.vote(3, VoteKind::Prevote, Some(GOOD)));
    let effects = bench.effects();
    let (wal, votes) = (appended(&effects), sent_votes(&effects));
    assert_eq!(votes.len(), 2, "prevote and precommit");
    for whole in 0..=wal.len() {
        let mut again = Bench::at(1, wal[..whole].to_vec());
        let effects = again.effects();
        let said = sent_votes(&effects);
        assert!(votes.starts_with(&said), "{whole} entries: {said:?}");
        assert!(said.len() + 1 >= votes.len() || whole < wal.len());
        let twice = appended(&effects).iter().any(|entry| wal[..whole].contains(entry));
        assert!(!twice, "{whole} entries");
    }
    let mut again = Bench::at(1, wal);
    (1..4).for_each(|member| again.hear(member, again.vote(member, VoteKind::Precommit, Some(GOOD))));
    assert_eq!(decisions(&again.effects()), 1, "the block is in the log");
}

#[test]
fn a_proposal_in_the_log_is_not_built_again() {
    let mut bench = Bench::running(4);
    let effects = bench.effects();
    assert!(effects.contains(&Effect::Build { height: Height(4), round: Round(0) }));
    let block = Bytes::from_static(BODY);
    bench.tell(Event::Built { height: Height(4), round: Round(0), id: GOOD, block });
    let effects = bench.effects();
    let wal = appended(&effects);
    let proposals = |effects: &[Effect]| -> Vec<Bytes> {
        let sent = effects.iter().filter_map(|effect| match effect {
            Effect::Send { bytes, .. } if bytes[0] == 2 => Some(bytes.clone()),
            _ => None,
        });
        sent.collect()
    };
    assert_eq!(proposals(&effects).len(), 1);
    for whole in 1..=wal.len() {
        let effects = Bench::at(4, wal[..whole].to_vec()).effects();
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Build { .. })), "{whole} entries");
        assert_eq!(proposals(&effects), proposals(&bench_proposal()), "{whole} entries");
    }
}

/// What the node of [`a_proposal_in_the_log_is_not_built_again`] says without any crash.
fn bench_proposal() -> Vec<Effect> {
    let mut bench = Bench::running(4);
    let block = Bytes::from_static(BODY);
    bench.tell(Event::Built { height: Height(4), round: Round(0), id: GOOD, block });
    bench.effects()
}

#[test]
fn a_log_that_leads_elsewhere_stops_the_node() {
    let mut bench = Bench::running(1);
    bench.hear(1, bench.propose(1, GOOD, BODY));
    bench.checked(BODY, true);
    let mut wal = appended(&bench.effects());
    // In place of its own vote, a vote for another block: what this node never would have derived.
    let vote = bench.vote(0, VoteKind::Prevote, Some(OTHER));
    *wal.last_mut().unwrap() = WalEntry(vote.into());
    let effects = Bench::at(1, wal).effects();
    assert!(matches!(effects[..], [Effect::Stop(Stop::Diverged(_))]), "{effects:?}");
}

#[test]
fn a_log_that_does_not_read_stops_the_node() {
    let torn = WalEntry(Bytes::from_static(&[1, 2, 3]));
    let mut bench = Bench::at(1, vec![torn]);
    let stop = Stop::Log { entry: 0, violation: Violation::Malformed };
    assert_eq!(bench.effects(), [Effect::Stop(stop)]);
    bench.tell(Event::Wake);
    bench.hear(1, bench.vote(1, VoteKind::Prevote, None));
    assert_eq!((bench.effects(), bench.machine.deadline()), (vec![], None), "nothing comes after a stop");
    let mut later = Bench::running(2);
    later.hear(1, later.vote(1, VoteKind::Prevote, None));
    let wal = appended(&later.effects());
    assert!(matches!(Bench::at(1, wal.clone()).effects()[..], [Effect::Stop(Stop::Log { .. })]));
    assert_eq!(Bench::at(3, wal).effects(), [], "entries of heights before are over");
}

#[test]
fn what_breaks_the_protocol_is_blamed_on_who_sent_it() {
    let mut bench = Bench::running(1);
    bench.effects();
    let mut forged = bench.vote(1, VoteKind::Prevote, Some(GOOD));
    *forged.last_mut().unwrap() ^= 1;
    let mut body = bench.propose(1, GOOD, BODY);
    body.push(0);
    let stranger = KeyPair::from_secret(&[9; 32]);
    let small = [&[5][..], &bench.certificate(&[1, 2]).encode()].concat();
    let sent: [(usize, Vec<u8>, Violation); 7] = [
        (1, vec![], Violation::Malformed),
        (1, vec![9, 9], Violation::Malformed),
        (1, forged, Violation::BadSignature),
        (2, bench.vote(1, VoteKind::Prevote, Some(GOOD)), Violation::WrongSigner),
        (2, bench.propose(2, GOOD, BODY), Violation::WrongSigner),
        (3, body, Violation::WrongBlock),
        (3, small, Violation::NoQuorum),
    ];
    for (member, bytes, violation) in sent {
        bench.hear(member, bytes);
        assert_eq!(blames(&bench.effects()), [(bench.key(member), violation)]);
    }
    let (height, round, kind) = (Height(1), Round(0), VoteKind::Prevote);
    let vote = Vote { network: NETWORK, kind, height, round, block: None }.sign(&stranger);
    let bytes = [&[1][..], &vote.encode()].concat().into();
    bench.tell(Event::Received { from: stranger.public(), bytes });
    assert_eq!(blames(&bench.effects()), [(stranger.public(), Violation::NotAMember)]);
}

#[test]
fn a_certificate_without_its_block_asks_for_it() {
    let mut bench = Bench::running(1);
    bench.effects();
    let certificate = bench.certificate(&[1, 2, 3]);
    bench.hear(2, [&[5][..], &certificate.encode()].concat());
    let need = |from| Effect::NeedBlock { height: Height(1), from };
    assert_eq!(bench.effects(), [need(bench.key(2))]);
    bench.pass(Timing::default().patience);
    assert!(bench.effects().contains(&need(bench.key(2))), "asked again");
    // Bytes that are not the block: who served them is blamed, and another is asked.
    bench.synced(2, b"rubbish", certificate.clone());
    assert!(matches!(bench.effects()[..], [Effect::Check { .. }]));
    bench.checked(b"rubbish", false);
    assert_eq!(blames(&bench.effects()), [(bench.key(2), Violation::WrongBlock)]);
    bench.pass(std::time::Duration::ZERO);
    assert!(bench.effects().iter().any(|effect| matches!(effect, Effect::NeedBlock { .. })));
    bench.synced(3, BODY, certificate.clone());
    bench.effects();
    bench.checked(BODY, true);
    let (height, id, block) = (Height(1), GOOD, Bytes::from_static(BODY));
    assert_eq!(bench.effects(), [Effect::Decide { height, id, block, certificate }]);
}

#[test]
fn an_idle_node_begins_for_more_than_all_rogues_only() {
    let mut bench = Bench::at(1, vec![]);
    bench.hear(2, bench.vote(2, VoteKind::Prevote, None));
    bench.hear(2, bench.vote(2, VoteKind::Precommit, None));
    assert_eq!(bench.effects(), []);
    bench.hear(3, bench.vote(3, VoteKind::Prevote, None));
    assert!(!appended(&bench.effects()).is_empty(), "it begins, and logs what it had heard");
    let mut beaten = Bench::at(4, vec![]);
    beaten.pass(Timing::default().heartbeat);
    assert!(beaten.effects().contains(&Effect::Build { height: Height(4), round: Round(0) }));
}

#[test]
fn late_precommits_grow_the_certificate_once() {
    let mut bench = Bench::running(1);
    let effects = bench.decide();
    // Its own and two others' decide; the third other's is late.
    let certificates = effects.iter().filter_map(|effect| match effect {
        Effect::Decide { certificate, .. } | Effect::Grown(certificate) => Some(certificate),
        _ => None,
    });
    assert_eq!(certificates.map(|certificate| certificate.signatures.len()).collect::<Vec<_>>(), [3, 4]);
    bench.hear(3, bench.vote(3, VoteKind::Precommit, Some(GOOD)));
    assert_eq!(bench.effects(), []);
    let next = committee();
    bench.tell(Event::Committed { height: Height(1), next_committee: next, pending: false });
    assert_eq!(bench.machine.height(), Height(2));
    // After the delay, whoever was not heard at the next height is sent the certificate.
    bench.pass(Timing::default().certificate_delay);
    let sends = bench.effects().iter().filter(|e| matches!(e, Effect::Send { to: To::One(_), .. })).count();
    assert_eq!(sends, 3);
}

#[test]
fn evidence_comes_before_the_block_whose_log_has_it() {
    let mut bench = Bench::running(1);
    bench.hear(3, bench.vote(3, VoteKind::Prevote, Some(GOOD)));
    bench.hear(3, bench.vote(3, VoteKind::Prevote, Some(OTHER)));
    let effects = bench.decide();
    let accused = effects.iter().position(|effect| matches!(effect, Effect::Misbehaved(_)));
    let decided = effects.iter().position(|effect| matches!(effect, Effect::Decide { .. }));
    assert!(accused.is_some() && accused < decided, "{effects:?}");
    let Some(Effect::Misbehaved(evidence)) = accused.map(|at| &effects[at]) else { unreachable!() };
    assert_eq!((evidence.verify(NETWORK), evidence.offender()), (Ok(()), bench.key(3)));
    assert!(matches!(evidence, Evidence::Votes(..)));
}

#[test]
fn an_invalid_block_is_reported_with_the_signature_of_its_proposer() {
    let mut bench = Bench::running(1);
    bench.hear(1, bench.propose(1, GOOD, BODY));
    bench.effects();
    bench.checked(BODY, false);
    let effects = bench.effects();
    let reported = effects.iter().find_map(|effect| match effect {
        Effect::Invalid { proposal, block } => Some((*proposal, block.clone())),
        _ => None,
    });
    let (proposal, block): (SignedProposal, Bytes) = reported.unwrap();
    assert_eq!((proposal.proposer, &block[..]), (bench.key(1), BODY));
    assert_eq!(sent_votes(&effects)[0].block, None, "and voted against");
}

#[test]
fn who_connects_is_told_what_it_missed() {
    let mut bench = Bench::running(4);
    let block = Bytes::from_static(BODY);
    bench.tell(Event::Built { height: Height(4), round: Round(0), id: GOOD, block });
    bench.effects();
    let peer = bench.key(2);
    bench.tell(Event::Connected { peer });
    let kinds = bench.effects().into_iter().map(|effect| match effect {
        Effect::Send { to, bytes } if to == To::One(peer) => bytes[0],
        other => unreachable!("{other:?}"),
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [2, 1], "its proposal and its prevote");
}

#[test]
fn a_late_precommit_against_the_decided_block_convicts_who_signed_for_it() {
    let mut bench = Bench::running(1);
    bench.decide();
    for _ in 0..2 {
        bench.hear(2, bench.vote(2, VoteKind::Precommit, None));
    }
    let effects = bench.effects();
    let [Effect::Misbehaved(evidence)] = effects[..] else { unreachable!("{effects:?}") };
    assert_eq!((evidence.verify(NETWORK), evidence.offender()), (Ok(()), bench.key(2)));
}

#[test]
fn a_certificate_convicts_who_voted_otherwise_to_this_node() {
    let mut bench = Bench::running(1);
    bench.hear(1, bench.propose(1, GOOD, BODY));
    bench.checked(BODY, true);
    bench.hear(3, bench.vote(3, VoteKind::Precommit, Some(OTHER)));
    bench.effects();
    let certificate = bench.certificate(&[1, 2, 3]);
    bench.hear(2, [&[5][..], &certificate.encode()].concat());
    let effects = bench.effects();
    assert!(matches!(effects[..], [Effect::Misbehaved(_), Effect::Decide { .. }]), "{effects:?}");
}

#[test]
fn two_proposals_come_together_among_those_who_got_one_each() {
    let mut bench = Bench::running(1);
    bench.hear(1, bench.propose(1, GOOD, BODY));
    bench.checked(BODY, true);
    bench.effects();
    for _ in 0..2 {
        bench.hear(2, bench.vote(2, VoteKind::Prevote, Some(OTHER)));
    }
    let shown: Vec<_> = bench.effects().into_iter().filter(|e| matches!(e, Effect::Send { .. })).collect();
    let Effect::Send { to, bytes } = &shown[0] else { unreachable!() };
    assert_eq!((shown.len(), *to, bytes[0]), (1, To::One(bench.key(2)), 6));
    // And the other way round: this node is shown what the other got.
    let other = bench.propose(1, OTHER, b"another");
    let header = [&[6][..], &other[1..=SignedProposal::LEN]].concat();
    bench.hear(2, header);
    let effects = bench.decide();
    let convicted = effects.iter().find_map(|effect| match effect {
        Effect::Misbehaved(evidence @ Evidence::Proposals(..)) => Some(*evidence),
        _ => None,
    });
    let evidence = convicted.unwrap();
    assert_eq!((evidence.verify(NETWORK), evidence.offender()), (Ok(()), bench.key(1)));
}
