//! One height in the engine: an input goes in, steps come out in order.
//!
//! Each height gets a fresh engine, so nothing of one is left over in the next. Commit certificates never go
//! in: the engine would enter their round without logging it (upstream issue 1445), and a restart would then not
//! get back to where it had voted. [`machine`](super::machine) decides by them itself.
//!
//! Pitfalls of the engine that are dealt with here: the payload is "proposal and parts" although there are no
//! parts, because with "proposal only" the engine takes every proposal as valid without asking. There is no
//! target time, with which it would read a clock; late precommits are taken by [`recent`](super::recent).

use std::collections::BTreeMap;
use std::convert::Infallible;

use arc_malachitebft_core_consensus::{
    ConsensusMsg, Effect, Error, Input, LivenessMsg, LocallyProposedValue, MisbehaviorEvidence, Params,
    Resumable, Resume, SignedConsensusMsg, State, ThresholdParams, process,
};
use arc_malachitebft_core_types as core;
use core::{CertificateError, SignedMessage, ThresholdParam, Timeout, ValuePayload, VoteExtensionPolicy};

use super::codec::{Entry, Polka, RoundProof};
use super::context::{self, Ctx, Value};
use super::convert;
use super::event::{Settings, Stop};
use super::verified::Verified;
use crate::crypto::sign::KeyPair;
use crate::message::{
    CommitCertificate, Evidence, Proposal, SignedProposal, SignedVote, Violation, VoteKind,
};
use crate::types::{BlockId, Committee, Height, NetworkId, Round};

/// What the engine wants done, in its order.
#[derive(Debug)]
pub(super) enum Step {
    /// Log it. A verdict comes without the block's bytes.
    Log(Entry),
    Vote(SignedVote),
    Propose(SignedProposal),
    Polka(Polka),
    RoundProof(RoundProof),
    /// Ask for a block to propose in this round.
    Build(Round),
    Schedule(Timeout),
    Cancel(Timeout),
    CancelAll,
    /// The height is decided, by votes.
    Decided(CommitCertificate, Vec<Evidence>),
}

/// The engine at one height.
pub(super) struct Engine {
    state: State<Ctx>,
    hands: Hands,
}

/// What the engine reaches for while it runs.
struct Hands {
    network: NetworkId,
    pair: KeyPair,
    quorum: usize,
    verified: Verified,
    /// What this node has voted at this height, from the log and since. The engine has guards of its own; this
    /// one holds whatever the engine does.
    voted: BTreeMap<(VoteKind, Round), Option<BlockId>>,
    /// What it has proposed.
    proposed: BTreeMap<Round, Proposal>,
    steps: Vec<Step>,
    fault: Option<Stop>,
}

impl Engine {
    /// The engine at this height, not yet started. `log` is what was logged of it before a crash.
    pub(super) fn new(settings: &Settings, height: Height, committee: &Committee, log: &[Entry]) -> Self {
        let quorum = settings.quorum(committee);
        // Every weight is 1. "More than q-1 of n" is "at least q": so the numbers are those of `Committee`.
        let least = |count: usize| ThresholdParam::new(count as u64 - 1, committee.n() as u64);
        let params = Params {
            address: settings.pair.public(),
            threshold_params: ThresholdParams {
                quorum: least(quorum),
                honest: least(committee.one_honest()),
            },
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The engine's queue for other heights stays empty: `inbox` keeps those, with bounds per peer.
        let mut state = State::new(Ctx, height, committee.clone(), params, 1, 1);
        let mut hands = Hands::new(settings, quorum);
        log.iter().for_each(|entry| hands.remember(entry));
        if !log.is_empty() {
            let inputs: Vec<_> = log.iter().map(convert::input).collect();
            state.index_wal_entries(&inputs);
        }
        Self { state, hands }
    }

    /// Enters round 0.
    pub(super) fn start(&mut self) -> Result<(), Stop> {
        let (height, committee) = (self.state.height(), self.state.validator_set().clone());
        self.run(Input::StartHeight(height, committee, false, None, VoteExtensionPolicy::Disabled))
    }

    /// The log is replayed: from here on inputs come from outside.
    pub(super) fn end_replay(&mut self) {
        self.state.reset_entries_index();
    }

    /// Takes in what an entry says, be it from the log or just arrived.
    pub(super) fn input(&mut self, entry: &Entry) -> Result<(), Stop> {
        self.run(convert::input(entry))
    }

    pub(super) fn round_proof(&mut self, proof: &RoundProof) -> Result<(), Stop> {
        self.run(Input::RoundCertificate(convert::engine_round_proof(proof)))
    }

    /// Proposes a block that this node built.
    pub(super) fn propose(&mut self, round: Round, value: Value) -> Result<(), Stop> {
        let (height, round) = (self.state.height(), convert::engine_round(round));
        self.run(Input::Propose(LocallyProposedValue { height, round, value }))
    }

    pub(super) fn elapsed(&mut self, timeout: Timeout) -> Result<(), Stop> {
        self.run(Input::TimeoutElapsed(timeout))
    }

    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.hands.steps)
    }

    pub(super) fn round(&self) -> Round {
        convert::round(self.state.round())
    }

    /// Whether a block may still be proposed in the current round.
    pub(super) fn wants_proposal(&self) -> bool {
        self.state.driver.step_is_propose()
    }

    /// The block that this node would propose again.
    pub(super) fn valid_block(&self) -> Option<BlockId> {
        self.state.driver.valid_value().map(|valid| valid.value.id)
    }

    pub(super) const fn verified(&mut self) -> &mut Verified {
        &mut self.hands.verified
    }

    /// The votes that this node gave in the current round.
    pub(super) fn own_votes(&self) -> impl Iterator<Item = SignedVote> + '_ {
        let votes = self.state.last_signed_prevote.iter().chain(&self.state.last_signed_precommit);
        votes.map(|signed| convert::signed_vote(self.hands.network, signed))
    }

    /// Notes the verified votes of a certificate: a rogue may have voted otherwise to this node.
    pub(super) fn witness(&mut self, certificate: &CommitCertificate) {
        for signed in certificate.votes(self.hands.network) {
            let signed = convert::engine_vote(&signed);
            if self.state.can_record_equivocation(&signed) {
                self.state.record_vote_evidence(signed);
            }
        }
    }

    /// The precommits of a round that are not for the block decided in it.
    pub(super) fn strays(&self, certificate: &CommitCertificate) -> Vec<SignedVote> {
        let decided = certificate.vote(self.hands.network);
        let round = self.state.driver.votes().per_round(convert::engine_round(certificate.round));
        let votes = round.map(|round| round.received_votes()).into_iter().flatten();
        let votes = votes.map(|signed| convert::signed_vote(self.hands.network, signed));
        votes.filter(|signed| signed.vote.conflicts(&decided)).collect()
    }

    /// Evidence that has come together so far, once.
    pub(super) fn take_evidence(&mut self) -> Vec<Evidence> {
        let found = MisbehaviorEvidence {
            proposals: self.state.driver.take_proposal_evidence(),
            votes: self.state.driver.take_vote_evidence(),
        };
        convert::evidence(self.hands.network, found)
    }

    fn run(&mut self, input: Input<Ctx>) -> Result<(), Stop> {
        let Self { state, hands } = self;
        let result: Result<(), Error<Ctx>> =
            process!(input: input, state: state, metrics: &(), with: effect => hands.act(effect));
        match (self.hands.fault.take(), result) {
            (Some(fault), _) => Err(fault),
            (None, Ok(())) => Ok(()),
            (None, Err(error @ Error::ReplayDivergence(..))) => Err(Stop::Diverged(error.to_string())),
            (None, Err(error)) => Err(Stop::Engine(error.to_string())),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("height", &self.state.height()).finish_non_exhaustive()
    }
}

impl Hands {
    fn new(settings: &Settings, quorum: usize) -> Self {
        Self {
            network: settings.network,
            pair: settings.pair.clone(),
            quorum,
            verified: Verified::new(settings.network),
            voted: BTreeMap::new(),
            proposed: BTreeMap::new(),
            steps: Vec::new(),
            fault: None,
        }
    }

    /// Notes what this node once signed.
    fn remember(&mut self, entry: &Entry) {
        let own = self.pair.public();
        match entry {
            Entry::Vote(SignedVote { vote, voter, .. }) if *voter == own => {
                self.voted.entry((vote.kind, vote.round)).or_insert(vote.block);
            }
            Entry::Proposal(SignedProposal { proposal, proposer, .. }) if *proposer == own => {
                self.proposed.entry(proposal.round).or_insert(*proposal);
            }
            _ => {}
        }
    }

    /// Carries out one effect. Follow-up inputs cannot be fed from here: they are steps, taken up when the engine
    /// is done.
    fn act(&mut self, effect: Effect<Ctx>) -> Result<Resume<Ctx>, Infallible> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => self.step(Step::CancelAll, r),
            Effect::CancelTimeout(timeout, r) => self.step(Step::Cancel(timeout), r),
            Effect::ScheduleTimeout(timeout, r) => self.step(Step::Schedule(timeout), r),
            Effect::GetValue(_, round, _, r) => self.step(Step::Build(convert::round(round)), r),
            Effect::PublishConsensusMsg(SignedConsensusMsg::Vote(signed), r)
            | Effect::PublishLivenessMsg(LivenessMsg::Vote(signed), r)
            | Effect::RepublishVote(signed, r) => {
                self.step(Step::Vote(convert::signed_vote(self.network, &signed)), r)
            }
            Effect::PublishConsensusMsg(SignedConsensusMsg::Proposal(signed), r) => {
                self.step(Step::Propose(convert::signed_proposal(self.network, &signed)), r)
            }
            Effect::PublishLivenessMsg(LivenessMsg::PolkaCertificate(polka), r) => {
                self.step(Step::Polka(convert::polka(&polka)), r)
            }
            Effect::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(proof), r)
            | Effect::RepublishRoundCertificate(proof, r) => {
                self.step(Step::RoundProof(convert::round_proof(&proof)), r)
            }
            Effect::WalAppend(height, input, r) => match convert::entry(self.network, height, &input) {
                Some(entry) => self.step(Step::Log(entry), r),
                None => self.stop(Stop::Engine(format!("it wants to log {input:?}"))),
            },
            Effect::SignVote(vote, r) => match self.sign_vote(&vote) {
                Some(signature) => r.resume_with(SignedMessage::new(vote, signature)),
                None => self.stop(Stop::Diverged(format!("a second {vote:?}"))),
            },
            Effect::SignProposal(proposal, r) => match self.sign_proposal(&proposal) {
                Some(signature) => r.resume_with(SignedMessage::new(proposal, signature)),
                None => self.stop(Stop::Diverged(format!("a second {proposal:?}"))),
            },
            Effect::VerifySignature(signed, _, r) => r.resume_with(self.verify(&signed)),
            Effect::VerifyCommitCertificate(certificate, committee, _, r) => {
                let certificate = convert::commit(&certificate);
                r.resume_with(verdict(self.verified.commit(&certificate, &committee, self.quorum)))
            }
            Effect::VerifyPolkaCertificate(polka, committee, _, r) => {
                let polka = convert::polka(&polka);
                r.resume_with(verdict(self.verified.polka(&polka, &committee, self.quorum)))
            }
            Effect::VerifyRoundCertificate(proof, committee, _, r) => {
                let proof = convert::round_proof(&proof);
                r.resume_with(verdict(self.verified.round_proof(&proof, &committee, self.quorum)))
            }
            Effect::Finalize(certificate, _, evidence, r) => {
                let evidence = convert::evidence(self.network, evidence);
                self.step(Step::Decided(convert::commit(&certificate), evidence), r)
            }
            // A round's start is said to nobody. A proposal is sent again by the Publish that follows a Restream.
            // Finalize follows Decide at once.
            Effect::StartRound(.., r) | Effect::RestreamProposal(.., r) | Effect::Decide(_, _, r) => {
                r.resume_with(())
            }
            // Certificates and synced values are never fed, extensions are disabled.
            Effect::CertVerifiedSyncValue(.., r) => r.resume_with(()),
            Effect::CertRejectedSyncValue(.., r) => r.resume_with(()),
            Effect::VerifyExtendedCommitCertificate(.., r) => {
                r.resume_with(Err(CertificateError::VerificationError(None)))
            }
            Effect::ExtendVote(.., r) => r.resume_with(None),
            Effect::VerifyVoteExtension(.., r) => r.resume_with(Ok(())),
        })
    }

    fn step(&mut self, step: Step, resume: impl Resumable<Ctx, Value = ()>) -> Resume<Ctx> {
        self.steps.push(step);
        resume.resume_with(())
    }

    /// The engine gets no answer that it understands, so it gives up what it is doing.
    fn stop(&mut self, fault: Stop) -> Resume<Ctx> {
        self.fault = Some(fault);
        Resume::Continue
    }

    /// `None` if this node has voted otherwise in that round.
    fn sign_vote(&mut self, vote: &context::Vote) -> Option<[u8; 64]> {
        let vote = convert::vote(self.network, vote);
        let voted = *self.voted.entry((vote.kind, vote.round)).or_insert(vote.block);
        (voted == vote.block).then(|| vote.sign(&self.pair).signature)
    }

    /// `None` if this node has proposed otherwise in that round.
    fn sign_proposal(&mut self, proposal: &context::Proposal) -> Option<[u8; 64]> {
        let proposal = convert::proposal(self.network, proposal);
        let proposed = *self.proposed.entry(proposal.round).or_insert(proposal);
        (proposed == proposal).then(|| proposal.sign(&self.pair).signature)
    }

    fn verify(&mut self, signed: &SignedMessage<Ctx, ConsensusMsg<Ctx>>) -> bool {
        let signature = signed.signature;
        match &signed.message {
            ConsensusMsg::Vote(vote) => {
                let signed = SignedMessage::new(vote.clone(), signature);
                self.verified.vote(&convert::signed_vote(self.network, &signed)).is_ok()
            }
            ConsensusMsg::Proposal(proposal) => {
                let signed = SignedMessage::new(proposal.clone(), signature);
                self.verified.proposal(&convert::signed_proposal(self.network, &signed)).is_ok()
            }
        }
    }
}

#[expect(clippy::result_large_err, reason = "the engine's type")]
fn verdict(found: Result<(), Violation>) -> Result<(), CertificateError<Ctx>> {
    found.map_err(|_| CertificateError::VerificationError(None))
}
