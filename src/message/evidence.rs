//! Evidence that a static node signed two things of which an honest one signs one.
//!
//! Anyone can check it with the network's id alone. Whether the offender was a member at that height, and
//! what follows from it, is for the ledger to say.

use crate::message::Violation;
use crate::message::fields::Fields;
use crate::message::proposal::{Proposal, SignedProposal};
use crate::message::vote::{SignedVote, Vote};
use crate::types::{Height, NetworkId, PublicKey, Round};

/// Two signed statements of one key that conflict, the lesser first: one offence has one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Two votes of one kind in one round.
    Votes(SignedVote, SignedVote),
    /// Two proposals in one round.
    Proposals(SignedProposal, SignedProposal),
}

/// Bytes of one signed vote.
const VOTE_LEN: usize = Vote::STATEMENT_LEN + 32 + 64;

impl Evidence {
    /// Of two votes, in whatever order.
    #[must_use]
    pub fn of_votes(one: SignedVote, other: SignedVote) -> Self {
        Self::Votes(one.min(other), one.max(other))
    }

    /// Of two proposals, in whatever order.
    #[must_use]
    pub fn of_proposals(one: SignedProposal, other: SignedProposal) -> Self {
        Self::Proposals(one.min(other), one.max(other))
    }

    /// Whose offence it is.
    #[must_use]
    pub const fn offender(&self) -> PublicKey {
        match self {
            Self::Votes(one, _) => one.voter,
            Self::Proposals(one, _) => one.proposer,
        }
    }

    /// At which height and in which round.
    #[must_use]
    pub const fn place(&self) -> (Height, Round) {
        match self {
            Self::Votes(SignedVote { vote: Vote { height, round, .. }, .. }, _)
            | Self::Proposals(SignedProposal { proposal: Proposal { height, round, .. }, .. }, _) => {
                (*height, *round)
            }
        }
    }

    /// A byte for the kind (1 votes, 2 proposals), then both statements with key and signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Votes(one, other) => [&[1][..], &one.encode(), &other.encode()].concat(),
            Self::Proposals(one, other) => [&[2][..], &one.encode(), &other.encode()].concat(),
        }
    }

    /// Reads what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// [`Violation::Malformed`], also if the greater statement is first; [`Violation::OutOfBounds`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(bytes);
        let kind = fields.byte()?;
        let evidence = match kind {
            1 => {
                let mut vote = || SignedVote::decode(fields.bytes(VOTE_LEN)?);
                Self::Votes(vote()?, vote()?)
            }
            2 => {
                let mut proposal = || SignedProposal::decode(fields.bytes(SignedProposal::LEN)?);
                Self::Proposals(proposal()?, proposal()?)
            }
            _ => return Err(Violation::Malformed),
        };
        fields.end()?;
        if evidence.in_order() { Ok(evidence) } else { Err(Violation::Malformed) }
    }

    fn in_order(&self) -> bool {
        match self {
            Self::Votes(one, other) => one < other,
            Self::Proposals(one, other) => one < other,
        }
    }

    /// That it proves an offence of [`offender`](Self::offender) in this network.
    ///
    /// # Errors
    /// [`Violation::WrongSigner`] for statements of two keys, [`Violation::NoConflict`] for statements that
    /// an honest node may both sign, [`Violation::WrongNetwork`] or [`Violation::BadSignature`].
    pub fn verify(&self, network: NetworkId) -> Result<(), Violation> {
        let (one_key, conflict) = match self {
            Self::Votes(one, other) => (one.voter == other.voter, one.vote.conflicts(&other.vote)),
            Self::Proposals(one, other) => {
                (one.proposer == other.proposer, one.proposal.conflicts(&other.proposal))
            }
        };
        if !one_key {
            return Err(Violation::WrongSigner);
        }
        if !conflict {
            return Err(Violation::NoConflict);
        }
        match self {
            Self::Votes(one, other) => one.verify(network).and_then(|()| other.verify(network)),
            Self::Proposals(one, other) => one.verify(network).and_then(|()| other.verify(network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::KeyPair;
    use crate::message::{VoteKind, block_hash};
    use crate::types::BlockId;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn rogue() -> KeyPair {
        KeyPair::from_secret(&[9; 32])
    }

    fn vote() -> Vote {
        let block = Some(BlockId([3; 32]));
        Vote { network: NETWORK, kind: VoteKind::Prevote, height: Height(4), round: Round(5), block }
    }

    fn proposal() -> Proposal {
        Proposal {
            network: NETWORK,
            height: Height(4),
            round: Round(5),
            valid_round: None,
            block: BlockId([3; 32]),
            bytes: block_hash(b"block"),
        }
    }

    fn votes(other: Vote, by: &KeyPair) -> Evidence {
        Evidence::of_votes(vote().sign(&rogue()), other.sign(by))
    }

    fn proposals(other: Proposal, by: &KeyPair) -> Evidence {
        Evidence::of_proposals(proposal().sign(&rogue()), other.sign(by))
    }

    fn both() -> [Evidence; 2] {
        let other = Vote { block: None, ..vote() };
        let moved = Proposal { block: BlockId([4; 32]), ..proposal() };
        [votes(other, &rogue()), proposals(moved, &rogue())]
    }

    #[test]
    fn conflicting_statements_of_one_key_convict_it() {
        for evidence in both() {
            assert_eq!(evidence.verify(NETWORK), Ok(()));
            assert_eq!(evidence.offender(), rogue().public());
            assert_eq!(evidence.place(), (Height(4), Round(5)));
            assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
            assert_eq!(evidence.verify(NetworkId([2; 32])), Err(Violation::WrongNetwork));
        }
    }

    #[test]
    fn an_honest_node_cannot_be_convicted() {
        let nobody = KeyPair::from_secret(&[8; 32]);
        let other = Vote { block: None, ..vote() };
        assert_eq!(votes(other, &nobody).verify(NETWORK), Err(Violation::WrongSigner));
        let harmless = [
            vote(),
            Vote { kind: VoteKind::Precommit, ..other },
            Vote { round: Round(6), ..other },
            Vote { height: Height(5), ..other },
            Vote { network: NetworkId([2; 32]), ..other },
        ];
        for other in harmless {
            assert_eq!(votes(other, &rogue()).verify(NETWORK), Err(Violation::NoConflict), "{other:?}");
        }
        let moved = Proposal { block: BlockId([4; 32]), ..proposal() };
        assert_eq!(proposals(moved, &nobody).verify(NETWORK), Err(Violation::WrongSigner));
        let later = Proposal { round: Round(6), ..moved };
        assert_eq!(proposals(later, &rogue()).verify(NETWORK), Err(Violation::NoConflict));
    }

    #[test]
    fn a_changed_byte_of_a_signature_or_statement_is_refused() {
        for evidence in both() {
            let good = evidence.encode();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                let found = Evidence::decode(&bad).and_then(|bad| bad.verify(NETWORK));
                assert!(found.is_err(), "byte {at} of {evidence:?}");
            }
            assert_eq!(Evidence::decode(&good[..good.len() - 1]), Err(Violation::Malformed));
            assert_eq!(Evidence::decode(&[&good[..], &[0]].concat()), Err(Violation::Malformed));
        }
        assert_eq!(Evidence::decode(&[3]), Err(Violation::Malformed));
    }

    #[test]
    fn one_offence_has_one_form() {
        let (one, other) = (vote().sign(&rogue()), Vote { block: None, ..vote() }.sign(&rogue()));
        assert_eq!(Evidence::of_votes(one, other), Evidence::of_votes(other, one));
        let turned = [&[1][..], &one.max(other).encode(), &one.min(other).encode()].concat();
        assert_eq!(Evidence::decode(&turned), Err(Violation::Malformed));
    }
}
