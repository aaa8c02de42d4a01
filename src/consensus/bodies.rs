//! The bytes of the blocks proposed at one height, and the verdicts on them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::message::SignedProposal;
use crate::types::{BlockId, Hash, Round};

/// Different bytes taken for one round: two already convict the proposer.
const PER_ROUND: usize = 2;

/// Bodies kept at once. Rounds go on while a height is stuck; what is dropped can be fetched when it is decided
/// after all.
const KEPT: usize = 24;

/// The bytes of one block.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) id: BlockId,
    /// Empty once they are found to be invalid.
    pub(super) block: Bytes,
    /// In which they were first seen.
    pub(super) round: Round,
    /// Who put them there; `None` if they were fetched, built here or come from the log.
    pub(super) proposal: Option<SignedProposal>,
    /// Whether they are valid, once that is known.
    pub(super) valid: Option<bool>,
}

/// What came of putting bytes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// They are to be checked.
    New,
    /// They are there already.
    Known,
    /// The proposer has sent too many for this round.
    Full,
}

/// All of one height, by the hash of their bytes. At most [`KEPT`] of them.
#[derive(Debug, Default)]
pub(super) struct Bodies(BTreeMap<Hash, Body>);

impl Bodies {
    /// Takes in bytes as proposed. `keep` is the block that this node may propose again.
    pub(super) fn propose(&mut self, signed: &SignedProposal, block: Bytes, keep: Option<BlockId>) -> Put {
        let proposal = signed.proposal;
        if self.0.contains_key(&proposal.bytes) {
            return Put::Known;
        }
        if self.0.values().filter(|body| body.round == proposal.round).count() >= PER_ROUND {
            return Put::Full;
        }
        let (id, round) = (proposal.block, proposal.round);
        self.put(proposal.bytes, Body { id, block, round, proposal: Some(*signed), valid: None }, keep);
        Put::New
    }

    /// Takes in bytes from elsewhere.
    pub(super) fn put(&mut self, bytes: Hash, body: Body, keep: Option<BlockId>) {
        while self.0.len() >= KEPT {
            let others = self.0.iter().filter(|(_, body)| Some(body.id) != keep);
            let Some((&oldest, _)) = others.min_by_key(|(_, body)| body.round) else { break };
            self.0.remove(&oldest);
        }
        self.0.insert(bytes, body);
    }

    pub(super) fn get(&self, bytes: &Hash) -> Option<&Body> {
        self.0.get(bytes)
    }

    pub(super) fn get_mut(&mut self, bytes: &Hash) -> Option<&mut Body> {
        self.0.get_mut(bytes)
    }

    /// What was proposed in a round, first of all.
    pub(super) fn proposal(&self, round: Round) -> Option<SignedProposal> {
        let mut proposals = self.0.values().filter_map(|body| body.proposal);
        proposals.find(|signed| signed.proposal.round == round)
    }

    /// The bytes of a block that is known to be valid.
    pub(super) fn valid(&self, id: BlockId) -> Option<&Bytes> {
        let mut bodies = self.0.values();
        bodies.find(|body| body.id == id && body.valid == Some(true)).map(|body| &body.block)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
