//! Signature checks, each done once: a vote is checked when it arrives, when the engine takes it, and again
//! in every certificate that has it.

use std::collections::BTreeMap;

use super::codec::{Polka, RoundProof};
use crate::message::{CommitCertificate, SignedProposal, SignedVote, Violation, Vote, VoteKind};
use crate::types::{Committee, NetworkId, PublicKey};

/// Signatures remembered. 64 members give 128 votes a round; a height of 32 rounds fits.
const REMEMBERED: usize = 4_096;

/// Checks signatures of one network and remembers the good ones of votes.
#[derive(Debug)]
pub(super) struct Verified {
    network: NetworkId,
    /// Signature to what it was found to sign, and by whom. At most [`REMEMBERED`].
    votes: BTreeMap<[u8; 64], (PublicKey, Vote)>,
}

impl Verified {
    pub(super) const fn new(network: NetworkId) -> Self {
        Self { network, votes: BTreeMap::new() }
    }

    /// That the vote is its voter's.
    pub(super) fn vote(&mut self, signed: &SignedVote) -> Result<(), Violation> {
        if self.votes.get(&signed.signature) == Some(&(signed.voter, signed.vote)) {
            return Ok(());
        }
        signed.verify(self.network)?;
        if self.votes.len() >= REMEMBERED {
            self.votes.clear();
        }
        self.votes.insert(signed.signature, (signed.voter, signed.vote));
        Ok(())
    }

    /// That the proposal is its proposer's.
    pub(super) fn proposal(&self, signed: &SignedProposal) -> Result<(), Violation> {
        signed.verify(self.network)
    }

    /// That the votes are distinct members', as many as asked for, and signed.
    fn votes(
        &mut self,
        votes: impl ExactSizeIterator<Item = SignedVote>,
        committee: &Committee,
        least: usize,
    ) -> Result<(), Violation> {
        if votes.len() < least {
            return Err(Violation::NoQuorum);
        }
        let mut last = None;
        for signed in votes {
            if last >= Some(signed.voter) {
                return Err(Violation::DuplicateSigner);
            }
            last = Some(signed.voter);
            if !committee.contains(&signed.voter) {
                return Err(Violation::NotAMember);
            }
            self.vote(&signed)?;
        }
        Ok(())
    }

    /// As [`CommitCertificate::verify`].
    pub(super) fn commit(
        &mut self,
        certificate: &CommitCertificate,
        committee: &Committee,
        quorum: usize,
    ) -> Result<(), Violation> {
        let vote = certificate.vote(self.network);
        let votes = certificate.signatures.iter();
        let votes = votes.map(|&(voter, signature)| SignedVote { vote, voter, signature });
        self.votes(votes, committee, quorum)
    }

    /// That a quorum prevoted the block in that round.
    pub(super) fn polka(
        &mut self,
        polka: &Polka,
        committee: &Committee,
        quorum: usize,
    ) -> Result<(), Violation> {
        let Polka { height, round, block, .. } = *polka;
        let kind = VoteKind::Prevote;
        let vote = Vote { network: self.network, kind, height, round, block: Some(block) };
        let votes = polka.signatures.iter();
        let votes = votes.map(|&(voter, signature)| SignedVote { vote, voter, signature });
        self.votes(votes, committee, quorum)
    }

    /// That an honest member is in the round, or that a quorum has precommitted in it.
    pub(super) fn round_proof(
        &mut self,
        proof: &RoundProof,
        committee: &Committee,
        quorum: usize,
    ) -> Result<(), Violation> {
        if !proof.skip && proof.votes.iter().any(|vote| vote.kind != VoteKind::Precommit) {
            return Err(Violation::OutOfBounds);
        }
        let (network, height, round) = (self.network, proof.height, proof.round);
        let votes = proof.votes.iter().map(|entry| SignedVote {
            vote: Vote { network, kind: entry.kind, height, round, block: entry.block },
            voter: entry.voter,
            signature: entry.signature,
        });
        self.votes(votes, committee, if proof.skip { committee.one_honest() } else { quorum })
    }
}
