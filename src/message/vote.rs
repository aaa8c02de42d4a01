//! A vote of a static node in one round: for a block, or for none.

use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::fields::{Fields, put_optional_block};
use crate::types::{BlockId, Height, NetworkId, PublicKey, Round};

/// Which of the two votes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteKind {
    /// "I have this block, it is valid, and nothing keeps me from it."
    Prevote,
    /// "A quorum prevoted it." A quorum of these is the proof that a block is final.
    Precommit,
}

/// What is voted. Who votes is not part of it: the key that verifies the signature says that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// The network whose chain it is.
    pub network: NetworkId,
    /// Which vote.
    pub kind: VoteKind,
    /// On the block of this height.
    pub height: Height,
    /// In this round.
    pub round: Round,
    /// The block; none for "not in this round".
    pub block: Option<BlockId>,
}

impl Vote {
    /// Bytes of the statement: network, kind, height, round, block, nothing between.
    pub const STATEMENT_LEN: usize = 32 + 1 + 8 + 4 + 33;

    /// The statement: what is signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::STATEMENT_LEN);
        bytes.extend_from_slice(&self.network.0);
        bytes.push(match self.kind {
            VoteKind::Prevote => 1,
            VoteKind::Precommit => 2,
        });
        bytes.extend_from_slice(&self.height.0.to_le_bytes());
        bytes.extend_from_slice(&self.round.0.to_le_bytes());
        put_optional_block(&mut bytes, self.block);
        bytes
    }

    /// Reads a statement. Whether anybody signed it is for [`SignedVote::verify`].
    ///
    /// # Errors
    /// [`Violation::Malformed`] for what no encoding has; [`Violation::OutOfBounds`] for height 0.
    pub fn decode(statement: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(statement);
        let vote = Self {
            network: fields.network()?,
            kind: match fields.byte()? {
                1 => VoteKind::Prevote,
                2 => VoteKind::Precommit,
                _ => return Err(Violation::Malformed),
            },
            height: fields.height()?,
            round: fields.round()?,
            block: fields.optional_block()?,
        };
        fields.end()?;
        Ok(vote)
    }

    /// Votes. A node must have noted this durably before anybody sees it: see `consensus`.
    #[must_use]
    pub fn sign(self, voter: &KeyPair) -> SignedVote {
        let signature = voter.sign(Domain::Vote, &self.encode());
        SignedVote { vote: self, voter: voter.public(), signature }
    }

    /// Whether no honest node signs both: one vote of a kind in a round.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let place = |vote: &Self| (vote.network, vote.kind, vote.height, vote.round);
        place(self) == place(other) && self.block != other.block
    }
}

/// A vote with its voter and signature. It is not checked until [`verify`](Self::verify) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedVote {
    /// What is voted: the encoding is unique, so this is also the bytes that were signed.
    pub vote: Vote,
    /// Who votes.
    pub voter: PublicKey,
    /// Ed25519 signature of the statement.
    pub signature: [u8; 64],
}

impl SignedVote {
    /// Statement, voter, signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.vote.encode()[..], &self.voter.0, &self.signature].concat()
    }

    /// Reads what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// As [`Vote::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(bytes);
        let signed = Self {
            vote: Vote::decode(fields.bytes(Vote::STATEMENT_LEN)?)?,
            voter: fields.key()?,
            signature: fields.array()?,
        };
        fields.end()?;
        Ok(signed)
    }

    /// That the voter signed this for this network. Whether the voter has a say is for the caller to know.
    ///
    /// # Errors
    /// [`Violation::WrongNetwork`] or [`Violation::BadSignature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Violation> {
        if self.vote.network != network {
            return Err(Violation::WrongNetwork);
        }
        sign::verify(&self.voter, Domain::Vote, &self.vote.encode(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn voter() -> KeyPair {
        KeyPair::from_secret(&[9; 32])
    }

    fn vote() -> Vote {
        let block = Some(BlockId([3; 32]));
        Vote { network: NETWORK, kind: VoteKind::Precommit, height: Height(4), round: Round(5), block }
    }

    #[test]
    fn a_vote_that_was_signed_verifies() {
        for vote in [vote(), Vote { block: None, kind: VoteKind::Prevote, ..vote() }] {
            assert_eq!(vote.encode().len(), Vote::STATEMENT_LEN);
            let signed = vote.sign(&voter());
            assert_eq!(signed.verify(NETWORK), Ok(()));
            assert_eq!(SignedVote::decode(&signed.encode()), Ok(signed));
        }
    }

    #[test]
    fn every_changed_field_is_refused_by_name() {
        type Change = fn(&mut SignedVote);
        let changes: [(Change, Violation); 8] = [
            (|s| s.vote.network.0[0] ^= 1, Violation::WrongNetwork),
            (|s| s.vote.kind = VoteKind::Prevote, Violation::BadSignature),
            (|s| s.vote.height.0 ^= 1, Violation::BadSignature),
            (|s| s.vote.round.0 ^= 1, Violation::BadSignature),
            (|s| s.vote.block = None, Violation::BadSignature),
            (|s| s.vote.block = Some(BlockId([4; 32])), Violation::BadSignature),
            (|s| s.voter.0[0] ^= 1, Violation::BadSignature),
            (|s| s.signature[63] ^= 1, Violation::BadSignature),
        ];
        for (at, (change, violation)) in changes.into_iter().enumerate() {
            let mut changed = vote().sign(&voter());
            change(&mut changed);
            assert_eq!(changed.verify(NETWORK), Err(violation), "change {at}");
        }
    }

    #[test]
    fn what_no_vote_encodes_to_is_refused() {
        let good = vote().sign(&voter()).encode();
        let refused = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            SignedVote::decode(&bytes)
        };
        assert_eq!(refused(32, 0), Err(Violation::Malformed), "no such kind");
        assert_eq!(refused(33, 0), Err(Violation::OutOfBounds), "height 0");
        assert_eq!(refused(45, 2), Err(Violation::Malformed), "neither block nor none");
        assert_eq!(refused(45, 0), Err(Violation::Malformed), "none, yet a block");
        assert_eq!(SignedVote::decode(&good[1..]), Err(Violation::Malformed));
        assert_eq!(SignedVote::decode(&[&good[..], &[0]].concat()), Err(Violation::Malformed));
    }

    #[test]
    fn only_votes_of_one_place_conflict() {
        let other = Vote { block: None, ..vote() };
        assert!(vote().conflicts(&other) && other.conflicts(&vote()));
        assert!(!vote().conflicts(&vote()));
        assert!(!vote().conflicts(&Vote { kind: VoteKind::Prevote, ..other }));
        assert!(!vote().conflicts(&Vote { round: Round(6), ..other }));
        assert!(!vote().conflicts(&Vote { height: Height(6), ..other }));
        assert!(!vote().conflicts(&Vote { network: NetworkId([2; 32]), ..other }));
    }
}
