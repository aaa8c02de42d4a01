//! Between the engine's types and ours.

use arc_malachitebft_core_consensus::{Input, MisbehaviorEvidence, ProposedValue};
use arc_malachitebft_core_types as core;
use core::{NilOrVal, Timeout, TimeoutKind, Validity, ValueOrigin, VoteType};

use super::codec::{Entry, Polka, RoundProof, RoundVote, Verdict, Wait};
use super::context::{self, Ctx, Value};
use crate::message::{CommitCertificate, Evidence, Proposal, SignedProposal, SignedVote, Vote, VoteKind};
use crate::types::{BlockId, NetworkId, PublicKey, Round};

/// A round of ours. The engine's nil round stands in no vote, proposal or certificate.
pub(super) fn round(round: core::Round) -> Round {
    Round(round.as_u32().unwrap_or_default())
}

pub(super) const fn engine_round(round: Round) -> core::Round {
    core::Round::Some(round.0)
}

fn optional_round(round: core::Round) -> Option<Round> {
    round.as_u32().map(Round)
}

fn engine_optional_round(round: Option<Round>) -> core::Round {
    round.map_or(core::Round::Nil, engine_round)
}

pub(super) const fn kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

const fn engine_kind(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

const fn block(value: NilOrVal<BlockId>) -> Option<BlockId> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(id),
    }
}

fn value(block: Option<BlockId>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

pub(super) fn vote(network: NetworkId, vote: &context::Vote) -> Vote {
    Vote {
        network,
        kind: kind(vote.kind),
        height: vote.height,
        round: round(vote.round),
        block: block(vote.value),
    }
}

pub(super) fn signed_vote(network: NetworkId, signed: &core::SignedVote<Ctx>) -> SignedVote {
    SignedVote {
        vote: vote(network, &signed.message),
        voter: signed.message.voter,
        signature: signed.signature,
    }
}

pub(super) fn engine_vote(signed: &SignedVote) -> core::SignedVote<Ctx> {
    let vote = context::Vote {
        kind: engine_kind(signed.vote.kind),
        height: signed.vote.height,
        round: engine_round(signed.vote.round),
        value: value(signed.vote.block),
        voter: signed.voter,
    };
    core::SignedVote::new(vote, signed.signature)
}

pub(super) fn proposal(network: NetworkId, proposal: &context::Proposal) -> Proposal {
    Proposal {
        network,
        height: proposal.height,
        round: round(proposal.round),
        valid_round: optional_round(proposal.valid_round),
        block: proposal.value.id,
        bytes: proposal.value.bytes,
    }
}

pub(super) fn signed_proposal(network: NetworkId, signed: &core::SignedProposal<Ctx>) -> SignedProposal {
    SignedProposal {
        proposal: proposal(network, &signed.message),
        proposer: signed.message.proposer,
        signature: signed.signature,
    }
}

pub(super) fn engine_proposal(signed: &SignedProposal) -> core::SignedProposal<Ctx> {
    let proposal = context::Proposal {
        height: signed.proposal.height,
        round: engine_round(signed.proposal.round),
        value: Value { id: signed.proposal.block, bytes: signed.proposal.bytes },
        valid_round: engine_optional_round(signed.proposal.valid_round),
        proposer: signed.proposer,
    };
    core::SignedProposal::new(proposal, signed.signature)
}

pub(super) fn polka(certificate: &core::PolkaCertificate<Ctx>) -> Polka {
    let signatures = certificate.polka_signatures.iter().map(|entry| (entry.address, entry.signature));
    Polka {
        height: certificate.height,
        round: round(certificate.round),
        block: certificate.value_id,
        signatures: sorted(signatures),
    }
}

pub(super) fn engine_polka(polka: &Polka) -> core::PolkaCertificate<Ctx> {
    let signatures = polka.signatures.iter();
    core::PolkaCertificate {
        height: polka.height,
        round: engine_round(polka.round),
        value_id: polka.block,
        polka_signatures: signatures.map(|&(key, with)| core::PolkaSignature::new(key, with)).collect(),
    }
}

pub(super) fn round_proof(certificate: &core::RoundCertificate<Ctx>) -> RoundProof {
    let vote = |entry: &core::RoundSignature<Ctx>| RoundVote {
        voter: entry.address,
        kind: kind(entry.vote_type),
        block: block(entry.value_id),
        signature: entry.signature,
    };
    let mut votes: Vec<_> = certificate.round_signatures.iter().map(vote).collect();
    votes.sort_unstable_by_key(|vote| vote.voter);
    votes.dedup_by_key(|vote| vote.voter);
    RoundProof {
        height: certificate.height,
        round: round(certificate.round),
        skip: certificate.cert_type == core::RoundCertificateType::Skip,
        votes,
    }
}

pub(super) fn engine_round_proof(proof: &RoundProof) -> core::RoundCertificate<Ctx> {
    let signature = |vote: &RoundVote| {
        core::RoundSignature::new(engine_kind(vote.kind), value(vote.block), vote.voter, vote.signature)
    };
    core::RoundCertificate {
        height: proof.height,
        round: engine_round(proof.round),
        cert_type: match proof.skip {
            true => core::RoundCertificateType::Skip,
            false => core::RoundCertificateType::Precommit,
        },
        round_signatures: proof.votes.iter().map(signature).collect(),
    }
}

pub(super) fn commit(certificate: &core::CommitCertificate<Ctx>) -> CommitCertificate {
    let signatures = certificate.commit_signatures.iter().map(|entry| (entry.address, entry.signature));
    CommitCertificate {
        height: certificate.height,
        round: round(certificate.round),
        block: certificate.value_id,
        signatures: sorted(signatures),
    }
}

fn sorted(signatures: impl Iterator<Item = (PublicKey, [u8; 64])>) -> Vec<(PublicKey, [u8; 64])> {
    let mut signatures: Vec<_> = signatures.collect();
    signatures.sort_unstable();
    signatures.dedup_by_key(|(key, _)| *key);
    signatures
}

pub(super) fn evidence(network: NetworkId, found: MisbehaviorEvidence<Ctx>) -> Vec<Evidence> {
    let votes = found.votes.into_iter().flat_map(|(_, pairs)| pairs);
    let votes = votes
        .map(|(one, other)| Evidence::of_votes(signed_vote(network, &one), signed_vote(network, &other)));
    let proposals = found.proposals.into_iter().flat_map(|(_, pairs)| pairs);
    let proposals = proposals.map(|(one, other)| {
        Evidence::of_proposals(signed_proposal(network, &one), signed_proposal(network, &other))
    });
    votes.chain(proposals).collect()
}

/// The entry of an input that the engine wants logged; `None` for one that it never does.
pub(super) fn entry(network: NetworkId, height: crate::types::Height, input: &Input<Ctx>) -> Option<Entry> {
    Some(match input {
        Input::Vote(signed) => Entry::Vote(signed_vote(network, signed)),
        Input::Proposal(signed) => Entry::Proposal(signed_proposal(network, signed)),
        Input::ProposedValue(proposed, _) => Entry::Verdict(verdict(proposed)),
        Input::PolkaCertificate(certificate) => Entry::Polka(polka(certificate)),
        Input::TimeoutElapsed(timeout) => Entry::Over(height, round(timeout.round), wait(timeout.kind)?),
        _ => return None,
    })
}

/// Without the bytes of the block: whoever logs it has them.
fn verdict(proposed: &ProposedValue<Ctx>) -> Verdict {
    Verdict {
        height: proposed.height,
        round: round(proposed.round),
        valid_round: optional_round(proposed.valid_round),
        proposer: proposed.proposer,
        id: proposed.value.id,
        bytes: proposed.value.bytes,
        valid: proposed.validity.is_valid(),
        block: bytes::Bytes::new(),
    }
}

/// The input that an entry was, or that an event is.
pub(super) fn input(entry: &Entry) -> Input<Ctx> {
    match entry {
        Entry::Vote(signed) => Input::Vote(engine_vote(signed)),
        Entry::Proposal(signed) => Input::Proposal(engine_proposal(signed)),
        Entry::Polka(polka) => Input::PolkaCertificate(engine_polka(polka)),
        Entry::Over(_, round, wait) => {
            Input::TimeoutElapsed(Timeout::new(engine_round(*round), engine_wait(*wait)))
        }
        Entry::Verdict(verdict) => {
            let proposed = ProposedValue {
                height: verdict.height,
                round: engine_round(verdict.round),
                valid_round: engine_optional_round(verdict.valid_round),
                proposer: verdict.proposer,
                value: Value { id: verdict.id, bytes: verdict.bytes },
                validity: Validity::from_bool(verdict.valid),
            };
            Input::ProposedValue(proposed, ValueOrigin::Consensus)
        }
    }
}

/// `None` for the engine's timers that are no wait of a round.
pub(super) const fn wait(kind: TimeoutKind) -> Option<Wait> {
    match kind {
        TimeoutKind::Propose => Some(Wait::Propose),
        TimeoutKind::Prevote => Some(Wait::Prevote),
        TimeoutKind::Precommit => Some(Wait::Precommit),
        TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => None,
    }
}

pub(super) const fn engine_wait(wait: Wait) -> TimeoutKind {
    match wait {
        Wait::Propose => TimeoutKind::Propose,
        Wait::Prevote => TimeoutKind::Prevote,
        Wait::Precommit => TimeoutKind::Precommit,
    }
}
