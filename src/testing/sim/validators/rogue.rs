//! What a rogue static node does to its own messages. It runs the real machine, so it is a rogue that keeps up.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::crypto::sign::KeyPair;
use crate::message::{CommitCertificate, Proposal, SignedProposal, SignedVote, Vote, VoteKind, block_hash};
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::chain;
use crate::types::{BlockId, Height, Round};

/// A way to break the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rogue {
    /// Tells half of the others the opposite of each vote.
    TwoVotes,
    /// Proposes another block to half of the others, and votes for it there.
    TwoProposals(BTreeMap<(Height, Round), BlockId>),
    /// Proposes blocks that are not valid, and sometimes another body under a good header.
    Invalid,
    /// Says nothing, ever.
    Silent,
    /// Sends rubbish beside everything: noise, old and far votes, other's votes, certificates without a quorum.
    Noise,
    /// Loses its log in each crash.
    Forgets,
}

impl Rogue {
    /// One of them.
    pub(super) fn random(rng: &mut Rng) -> Self {
        match rng.below(6) {
            0 => Self::TwoVotes,
            1 => Self::TwoProposals(BTreeMap::new()),
            2 => Self::Invalid,
            3 => Self::Silent,
            4 => Self::Noise,
            _ => Self::Forgets,
        }
    }

    /// What is sent in place of a message to the peer of this number. `tip` is the block it builds on.
    pub(super) fn twist(
        &mut self,
        pair: &KeyPair,
        bytes: &Bytes,
        peer: usize,
        tip: BlockId,
        rng: &mut Rng,
    ) -> Vec<Bytes> {
        let other_half = peer % 2 == 1;
        match self {
            Self::Silent => Vec::new(),
            Self::TwoVotes if other_half => vec![other_vote(pair, bytes, None)],
            Self::TwoProposals(others) if other_half => match bytes.first() {
                Some(2) => other_proposal(pair, bytes, tip, others),
                _ => vec![vote_for_other(pair, bytes, others)],
            },
            Self::Invalid if rng.chance(300) => vec![other_body(bytes)],
            Self::Noise => noise(pair, bytes, rng),
            _ => vec![bytes.clone()],
        }
    }
}

fn vote_bytes(signed: &SignedVote) -> Bytes {
    [&[1][..], &signed.encode()].concat().into()
}

fn read_vote(bytes: &Bytes) -> Option<SignedVote> {
    let (kind, rest) = bytes.split_first()?;
    SignedVote::decode(rest).ok().filter(|_| *kind == 1)
}

fn read_proposal(bytes: &Bytes) -> Option<SignedProposal> {
    let (kind, rest) = bytes.split_first()?;
    let signed = rest.get(..SignedProposal::LEN)?;
    SignedProposal::decode(signed).ok().filter(|_| *kind == 2)
}

/// The opposite vote; another message stays.
fn other_vote(pair: &KeyPair, bytes: &Bytes, other: Option<BlockId>) -> Bytes {
    let Some(signed) = read_vote(bytes) else { return bytes.clone() };
    let block = match signed.vote.block {
        Some(_) => other,
        None => Some(BlockId([7; 32])),
    };
    vote_bytes(&Vote { block, ..signed.vote }.sign(pair))
}

fn vote_for_other(pair: &KeyPair, bytes: &Bytes, others: &BTreeMap<(Height, Round), BlockId>) -> Bytes {
    let other = read_vote(bytes).and_then(|signed| others.get(&(signed.vote.height, signed.vote.round)));
    match other {
        Some(other) => other_vote(pair, bytes, Some(*other)),
        None => bytes.clone(),
    }
}

fn other_proposal(
    pair: &KeyPair,
    bytes: &Bytes,
    tip: BlockId,
    others: &mut BTreeMap<(Height, Round), BlockId>,
) -> Vec<Bytes> {
    let Some(signed) = read_proposal(bytes) else { return vec![bytes.clone()] };
    let proposal = signed.proposal;
    let (block, body) = chain::make(proposal.height, tip, u64::from(proposal.round.0) + 99, true);
    others.insert((proposal.height, proposal.round), block);
    let other = Proposal { block, bytes: block_hash(&body), ..proposal }.sign(pair);
    vec![[&[2][..], &other.encode(), &body].concat().into()]
}

/// Other bytes than were signed.
fn other_body(bytes: &Bytes) -> Bytes {
    if read_proposal(bytes).is_none() {
        return bytes.clone();
    }
    [bytes, &[0][..]].concat().into()
}

fn noise(pair: &KeyPair, bytes: &Bytes, rng: &mut Rng) -> Vec<Bytes> {
    let mut sent = vec![bytes.clone()];
    let mut rubbish = vec![0; rng.index(200)];
    rng.fill(&mut rubbish);
    sent.push(rubbish.into());
    let mut torn = bytes.to_vec();
    let at = rng.index(torn.len());
    torn[at] ^= 1 << rng.below(8);
    sent.push(torn.into());
    if let Some(signed) = read_vote(bytes) {
        let mut vote = signed.vote;
        let far = Vote { height: Height(vote.height.0 + rng.below(2_000)), ..vote };
        sent.push(vote_bytes(&far.sign(pair)));
        let late = Vote { round: Round(vote.round.0 + 1 + rng.below(30) as u32), ..vote };
        sent.push(vote_bytes(&late.sign(pair)));
        vote.kind = VoteKind::Precommit;
        let (height, round, block) = (vote.height, vote.round, BlockId(rng.bytes()));
        let mut forged = CommitCertificate { height, round, block, signatures: Vec::new() };
        let own = forged.vote(vote.network).sign(pair);
        forged.add(&own);
        sent.push([&[5][..], &forged.encode()].concat().into());
    }
    sent
}
