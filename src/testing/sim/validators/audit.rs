//! What must hold, checked from outside: on the wire, on the disks, by the certificates alone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::message::{CommitCertificate, Evidence, Proposal, SignedProposal, SignedVote, VoteKind};
use crate::types::{BlockId, Committee, Hash, Height, NetworkId, Round};

/// Something that must not be. Its text ends with the command that shows it again.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "after {after:?}: {what}\nXVAULT_SEED={seed} cargo test --features testing --test simulator consensus::swarm"
)]
pub struct Wrong {
    /// The seed of the run.
    pub seed: u64,
    /// How far the run was, in virtual time.
    pub after: Duration,
    /// What is wrong, beginning with the invariant that is broken where it has a number.
    pub what: String,
}

/// What happened in a run that went well.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The seed of the run.
    pub seed: u64,
    /// Members at the start.
    pub members: usize,
    /// Hash of everything delivered: the same seed gives the same (I7).
    pub trace: Option<Hash>,
    /// Blocks of the longest chain.
    pub blocks: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Times a node crashed.
    pub crashes: u64,
    /// Entries of logs replayed.
    pub replayed: u64,
    /// Pieces of evidence reported.
    pub evidence: u64,
    /// Invalid proposals reported.
    pub invalid: u64,
    /// Rogue peers blamed.
    pub blamed: u64,
    /// Blocks taken from others.
    pub fetched: u64,
    /// Certificates that grew after their decision.
    pub grown: u64,
    /// Effects that all nodes carried out.
    pub effects: u64,
}

/// What all nodes have said and decided.
#[derive(Debug)]
pub(in crate::testing::sim) struct Audit {
    network: NetworkId,
    /// The key's number, so that texts are short.
    votes: BTreeMap<(usize, VoteKind, Height, Round), Option<BlockId>>,
    proposals: BTreeMap<(usize, Height, Round), Proposal>,
    decided: BTreeMap<Height, BlockId>,
    pub(super) summary: Summary,
}

impl Audit {
    pub(in crate::testing::sim) fn new(network: NetworkId, seed: u64, members: usize) -> Self {
        let summary = Summary { seed, members, ..Summary::default() };
        Self {
            network,
            votes: BTreeMap::new(),
            proposals: BTreeMap::new(),
            decided: BTreeMap::new(),
            summary,
        }
    }

    /// I4: what an honest node sends, also after restarts, is one vote and one proposal a round.
    pub(in crate::testing::sim) fn sent(&mut self, node: usize, bytes: &Bytes) -> Result<(), String> {
        let Some((kind, rest)) = bytes.split_first() else { return Err("an empty message".into()) };
        match kind {
            1 => self.voted(node, rest),
            2 => self.proposed(node, rest),
            _ => Ok(()),
        }
    }

    fn voted(&mut self, node: usize, bytes: &[u8]) -> Result<(), String> {
        let signed = SignedVote::decode(bytes).map_err(|violation| format!("a vote that is {violation}"))?;
        signed.verify(self.network).map_err(|violation| format!("a vote with {violation}"))?;
        let vote = signed.vote;
        let place = (node, vote.kind, vote.height, vote.round);
        let voted = *self.votes.entry(place).or_insert(vote.block);
        if voted == vote.block {
            return Ok(());
        }
        Err(format!("I4: {place:?}: {voted:?}, now {:?}", vote.block))
    }

    fn proposed(&mut self, node: usize, bytes: &[u8]) -> Result<(), String> {
        let signed = bytes.get(..SignedProposal::LEN).unwrap_or_default();
        let signed = SignedProposal::decode(signed).map_err(|violation| format!("a proposal {violation}"))?;
        signed.verify(self.network).map_err(|violation| format!("a proposal with {violation}"))?;
        let proposal = signed.proposal;
        let place = (node, proposal.height, proposal.round);
        let proposed = *self.proposals.entry(place).or_insert(proposal);
        if proposed == proposal { Ok(()) } else { Err(format!("I4: {place:?}: a second proposal")) }
    }

    /// I3: one block a height. The certificate is checked as a stranger would.
    pub(super) fn decided(
        &mut self,
        node: usize,
        certificate: &CommitCertificate,
        committee: Option<&Committee>,
    ) -> Result<(), String> {
        let (height, block) = (certificate.height, certificate.block);
        let decided = *self.decided.entry(height).or_insert(block);
        if decided != block {
            return Err(format!("I3: at {height} {decided:?} was decided, now {block:?} by {node}"));
        }
        self.summary.blocks = self.summary.blocks.max(height.0);
        let Some(committee) = committee else { return Ok(()) };
        certificate
            .verify(committee, self.network)
            .map_err(|violation| format!("I3: the certificate of {height} at {node}: {violation}"))
    }

    /// Evidence proves itself, and never against an honest node.
    pub(super) fn accused(&mut self, evidence: &Evidence, rogue: bool) -> Result<(), String> {
        self.summary.evidence += 1;
        evidence.verify(self.network).map_err(|violation| format!("evidence with {violation}"))?;
        if rogue { Ok(()) } else { Err(format!("evidence against an honest node: {evidence:?}")) }
    }
}
