//! A proposal of a static node: the block it wants decided in one round.

use crate::crypto::hash::{self, Context};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::fields::{Fields, put_optional_round};
use crate::types::{BlockId, Hash, Height, NetworkId, PublicKey, Round};

/// The hash of a block's bytes that a proposer signs.
///
/// The block id covers only the header, so without this anybody could put another body beside a signed
/// proposal: that would be no proof against the proposer, and a reason for honest nodes to vote no.
#[must_use]
pub fn block_hash(block: &[u8]) -> Hash {
    let mut hash = Hash([0; 32]);
    hash::derive_key(Context::BlockBytes, &[block], &mut hash.0);
    hash
}

/// What is proposed. The bytes of the block travel beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// The network whose chain it is.
    pub network: NetworkId,
    /// As the block of this height.
    pub height: Height,
    /// In this round.
    pub round: Round,
    /// The earlier round in which a quorum prevoted this block, if it is proposed again.
    pub valid_round: Option<Round>,
    /// The block.
    pub block: BlockId,
    /// [`block_hash`] of its bytes.
    pub bytes: Hash,
}

impl Proposal {
    /// Bytes of the statement: the fields in their order, nothing between.
    pub const STATEMENT_LEN: usize = 32 + 8 + 4 + 5 + 32 + 32;

    /// The statement: what is signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::STATEMENT_LEN);
        bytes.extend_from_slice(&self.network.0);
        bytes.extend_from_slice(&self.height.0.to_le_bytes());
        bytes.extend_from_slice(&self.round.0.to_le_bytes());
        put_optional_round(&mut bytes, self.valid_round);
        bytes.extend_from_slice(&self.block.0);
        bytes.extend_from_slice(&self.bytes.0);
        bytes
    }

    /// Reads a statement. Whether anybody signed it is for [`SignedProposal::verify`].
    ///
    /// # Errors
    /// [`Violation::Malformed`] for what no encoding has; [`Violation::OutOfBounds`] for height 0 and for
    /// a valid round that is not before the round.
    pub fn decode(statement: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(statement);
        let proposal = Self {
            network: fields.network()?,
            height: fields.height()?,
            round: fields.round()?,
            valid_round: fields.optional_round()?,
            block: BlockId(fields.array()?),
            bytes: fields.hash()?,
        };
        fields.end()?;
        match proposal.valid_round {
            Some(valid) if valid >= proposal.round => Err(Violation::OutOfBounds),
            _ => Ok(proposal),
        }
    }

    /// Proposes. A node must have noted this durably before anybody sees it: see `consensus`.
    #[must_use]
    pub fn sign(self, proposer: &KeyPair) -> SignedProposal {
        let signature = proposer.sign(Domain::Proposal, &self.encode());
        SignedProposal { proposal: self, proposer: proposer.public(), signature }
    }

    /// Whether no honest node signs both: one proposal in a round.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let place = |proposal: &Self| (proposal.network, proposal.height, proposal.round);
        place(self) == place(other) && self != other
    }
}

/// A proposal with its proposer and signature. It is not checked until [`verify`](Self::verify) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedProposal {
    /// What is proposed: the encoding is unique, so this is also the bytes that were signed.
    pub proposal: Proposal,
    /// Who proposes.
    pub proposer: PublicKey,
    /// Ed25519 signature of the statement.
    pub signature: [u8; 64],
}

impl SignedProposal {
    /// Bytes of the encoding.
    pub const LEN: usize = Proposal::STATEMENT_LEN + 32 + 64;

    /// Statement, proposer, signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.proposal.encode()[..], &self.proposer.0, &self.signature].concat()
    }

    /// Reads what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// As [`Proposal::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(bytes);
        let signed = Self {
            proposal: Proposal::decode(fields.bytes(Proposal::STATEMENT_LEN)?)?,
            proposer: fields.key()?,
            signature: fields.array()?,
        };
        fields.end()?;
        Ok(signed)
    }

    /// That the proposer signed this for this network. Whether it is the proposer's turn is for the
    /// caller to know.
    ///
    /// # Errors
    /// [`Violation::WrongNetwork`] or [`Violation::BadSignature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Violation> {
        if self.proposal.network != network {
            return Err(Violation::WrongNetwork);
        }
        sign::verify(&self.proposer, Domain::Proposal, &self.proposal.encode(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn proposer() -> KeyPair {
        KeyPair::from_secret(&[9; 32])
    }

    fn proposal() -> Proposal {
        Proposal {
            network: NETWORK,
            height: Height(4),
            round: Round(5),
            valid_round: Some(Round(2)),
            block: BlockId([3; 32]),
            bytes: block_hash(b"block"),
        }
    }

    #[test]
    fn a_proposal_that_was_signed_verifies() {
        for proposal in [proposal(), Proposal { valid_round: None, ..proposal() }] {
            assert_eq!(proposal.encode().len(), Proposal::STATEMENT_LEN);
            let signed = proposal.sign(&proposer());
            assert_eq!(signed.verify(NETWORK), Ok(()));
            assert_eq!(SignedProposal::decode(&signed.encode()), Ok(signed));
        }
    }

    #[test]
    fn every_changed_field_is_refused_by_name() {
        type Change = fn(&mut SignedProposal);
        let changes: [(Change, Violation); 9] = [
            (|s| s.proposal.network.0[0] ^= 1, Violation::WrongNetwork),
            (|s| s.proposal.height.0 ^= 1, Violation::BadSignature),
            (|s| s.proposal.round.0 ^= 1, Violation::BadSignature),
            (|s| s.proposal.valid_round = None, Violation::BadSignature),
            (|s| s.proposal.valid_round = Some(Round(3)), Violation::BadSignature),
            (|s| s.proposal.block.0[0] ^= 1, Violation::BadSignature),
            (|s| s.proposal.bytes.0[0] ^= 1, Violation::BadSignature),
            (|s| s.proposer.0[0] ^= 1, Violation::BadSignature),
            (|s| s.signature[63] ^= 1, Violation::BadSignature),
        ];
        for (at, (change, violation)) in changes.into_iter().enumerate() {
            let mut changed = proposal().sign(&proposer());
            change(&mut changed);
            assert_eq!(changed.verify(NETWORK), Err(violation), "change {at}");
        }
    }

    #[test]
    fn what_no_proposal_encodes_to_is_refused() {
        let good = proposal().sign(&proposer()).encode();
        let refused = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            SignedProposal::decode(&bytes)
        };
        assert_eq!(good.len(), SignedProposal::LEN);
        assert_eq!(refused(32, 0), Err(Violation::OutOfBounds), "height 0");
        assert_eq!(refused(44, 2), Err(Violation::Malformed), "neither a valid round nor none");
        assert_eq!(refused(44, 0), Err(Violation::Malformed), "none, yet a valid round");
        assert_eq!(refused(45, 5), Err(Violation::OutOfBounds), "valid in its own round");
        assert_eq!(SignedProposal::decode(&good[1..]), Err(Violation::Malformed));
        assert_eq!(SignedProposal::decode(&good[..good.len() - 1]), Err(Violation::Malformed));
        assert_eq!(SignedProposal::decode(&[&good[..], &[0]].concat()), Err(Violation::Malformed));
    }

    #[test]
    fn any_two_proposals_of_one_round_conflict() {
        let good = proposal();
        assert!(!good.conflicts(&good));
        assert!(good.conflicts(&Proposal { block: BlockId([4; 32]), ..good }));
        assert!(good.conflicts(&Proposal { bytes: block_hash(b"other"), ..good }));
        assert!(good.conflicts(&Proposal { valid_round: None, ..good }));
        assert!(!good.conflicts(&Proposal { round: Round(6), block: BlockId([4; 32]), ..good }));
        assert!(!good.conflicts(&Proposal { height: Height(6), block: BlockId([4; 32]), ..good }));
    }
}
