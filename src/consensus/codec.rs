//! The bytes of messages between static nodes and of entries of the log. Strict: one form for one value.
//!
//! A message is a byte for its kind and its fields. Signatures are over the statements inside, so a message
//! itself is not signed; an entry of the log is framed and checksummed by the driver.

use bytes::Bytes;

use crate::message::certificate::{put_signatures, take_signatures};
use crate::message::fields::{Fields, put_count, put_optional_block, put_optional_round};
use crate::message::{CommitCertificate, SignedProposal, SignedVote, Violation, VoteKind};
use crate::types::limits::{MAX_BLOCK_LEN, MAX_COMMITTEE};
use crate::types::{BlockId, Height, PublicKey, Round};

/// A quorum's prevotes for one block in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Polka {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) block: BlockId,
    /// In ascending order of keys.
    pub(super) signatures: Vec<(PublicKey, [u8; 64])>,
}

/// One vote of a [`RoundProof`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundVote {
    pub(super) voter: PublicKey,
    pub(super) kind: VoteKind,
    pub(super) block: Option<BlockId>,
    pub(super) signature: [u8; 64],
}

/// Votes of one round that are reason to enter it, or to leave it for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoundProof {
    pub(super) height: Height,
    pub(super) round: Round,
    /// Some votes of a later round ("come along"), not a quorum of precommits ("this one is over").
    pub(super) skip: bool,
    /// In ascending order of voters.
    pub(super) votes: Vec<RoundVote>,
}

/// What static nodes say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Vote(SignedVote),
    /// With the bytes of the block.
    Proposal(SignedProposal, Bytes),
    Polka(Polka),
    Round(RoundProof),
    Commit(CommitCertificate),
    /// Without the block: for who voted for another.
    Header(SignedProposal),
}

/// The longest message: a proposal.
const MAX_LEN: usize = 1 + SignedProposal::LEN + MAX_BLOCK_LEN;

impl Message {
    pub(super) const fn height(&self) -> Height {
        match self {
            Self::Vote(signed) => signed.vote.height,
            Self::Proposal(signed, _) | Self::Header(signed) => signed.proposal.height,
            Self::Polka(polka) => polka.height,
            Self::Round(proof) => proof.height,
            Self::Commit(certificate) => certificate.height,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let bytes = match self {
            Self::Vote(signed) => [&[1][..], &signed.encode()].concat(),
            Self::Proposal(signed, block) => [&[2][..], &signed.encode(), block].concat(),
            Self::Polka(polka) => put_polka(3, polka),
            Self::Round(proof) => put_round_proof(proof),
            Self::Commit(certificate) => [&[5][..], &certificate.encode()].concat(),
            Self::Header(signed) => [&[6][..], &signed.encode()].concat(),
        };
        bytes.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Violation> {
        if bytes.len() > MAX_LEN {
            return Err(Violation::TooLong);
        }
        let (kind, rest) = bytes.split_first().ok_or(Violation::Malformed)?;
        match kind {
            1 => SignedVote::decode(rest).map(Self::Vote),
            2 => {
                let (signed, _) = rest.split_at_checked(SignedProposal::LEN).ok_or(Violation::Malformed)?;
                Ok(Self::Proposal(SignedProposal::decode(signed)?, bytes.slice(1 + SignedProposal::LEN..)))
            }
            3 => take_polka(rest).map(Self::Polka),
            4 => take_round_proof(rest).map(Self::Round),
            5 => CommitCertificate::decode(rest).map(Self::Commit),
            6 => SignedProposal::decode(rest).map(Self::Header),
            _ => Err(Violation::Malformed),
        }
    }
}

fn put_polka(kind: u8, polka: &Polka) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&polka.height.0.to_le_bytes());
    bytes.extend_from_slice(&polka.round.0.to_le_bytes());
    bytes.extend_from_slice(&polka.block.0);
    put_signatures(&mut bytes, &polka.signatures);
    bytes
}

fn take_polka(bytes: &[u8]) -> Result<Polka, Violation> {
    let mut fields = Fields::new(bytes);
    let polka = Polka {
        height: fields.height()?,
        round: fields.round()?,
        block: BlockId(fields.array()?),
        signatures: take_signatures(&mut fields)?,
    };
    fields.end()?;
    Ok(polka)
}

const fn kind_byte(kind: VoteKind) -> u8 {
    match kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    }
}

fn take_kind(fields: &mut Fields<'_>) -> Result<VoteKind, Violation> {
    match fields.byte()? {
        1 => Ok(VoteKind::Prevote),
        2 => Ok(VoteKind::Precommit),
        _ => Err(Violation::Malformed),
    }
}

fn put_round_proof(proof: &RoundProof) -> Vec<u8> {
    let mut bytes = vec![4];
    bytes.extend_from_slice(&proof.height.0.to_le_bytes());
    bytes.extend_from_slice(&proof.round.0.to_le_bytes());
    bytes.push(u8::from(proof.skip));
    put_count(&mut bytes, proof.votes.len());
    for vote in &proof.votes {
        bytes.extend_from_slice(&vote.voter.0);
        bytes.push(kind_byte(vote.kind));
        put_optional_block(&mut bytes, vote.block);
        bytes.extend_from_slice(&vote.signature);
    }
    bytes
}

fn take_round_proof(bytes: &[u8]) -> Result<RoundProof, Violation> {
    let mut fields = Fields::new(bytes);
    let (height, round, skip) = (fields.height()?, fields.round()?, fields.flag()?);
    let votes = (0..fields.count(MAX_COMMITTEE)?).map(|_| {
        let (voter, kind) = (fields.key()?, take_kind(&mut fields)?);
        Ok(RoundVote { voter, kind, block: fields.optional_block()?, signature: fields.array()? })
    });
    let votes: Vec<_> = votes.collect::<Result<_, Violation>>()?;
    fields.end()?;
    match votes.windows(2).all(|pair| pair[0].voter < pair[1].voter) {
        true => Ok(RoundProof { height, round, skip, votes }),
        false => Err(Violation::DuplicateSigner),
    }
}

/// Which wait of a round is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    Propose,
    Prevote,
    Precommit,
}

/// A verdict on proposed bytes. Bytes of invalid blocks are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) valid_round: Option<Round>,
    pub(super) proposer: PublicKey,
    pub(super) id: BlockId,
    pub(super) bytes: crate::types::Hash,
    pub(super) valid: bool,
    pub(super) block: Bytes,
}

/// What the log remembers: everything on which a vote may depend, and the votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Vote(SignedVote),
    Proposal(SignedProposal),
    Verdict(Verdict),
    Polka(Polka),
    Over(Height, Round, Wait),
}

impl Entry {
    pub(super) const fn height(&self) -> Height {
        match self {
            Self::Vote(signed) => signed.vote.height,
            Self::Proposal(signed) => signed.proposal.height,
            Self::Verdict(verdict) => verdict.height,
            Self::Polka(polka) => polka.height,
            Self::Over(height, ..) => *height,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let bytes = match self {
            Self::Vote(signed) => [&[1][..], &signed.encode()].concat(),
            Self::Proposal(signed) => [&[2][..], &signed.encode()].concat(),
            Self::Polka(polka) => put_polka(3, polka),
            Self::Verdict(verdict) => put_verdict(verdict),
            Self::Over(height, round, wait) => {
                let mut bytes = vec![5];
                bytes.extend_from_slice(&height.0.to_le_bytes());
                bytes.extend_from_slice(&round.0.to_le_bytes());
                bytes.push(*wait as u8);
                bytes
            }
        };
        bytes.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Violation> {
        let (kind, rest) = bytes.split_first().ok_or(Violation::Malformed)?;
        match kind {
            1 => SignedVote::decode(rest).map(Self::Vote),
            2 => SignedProposal::decode(rest).map(Self::Proposal),
            3 => take_polka(rest).map(Self::Polka),
            4 => take_verdict(rest).map(Self::Verdict),
            5 => take_over(rest),
            _ => Err(Violation::Malformed),
        }
    }
}

fn put_verdict(verdict: &Verdict) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160 + verdict.block.len());
    bytes.push(4);
    bytes.extend_from_slice(&verdict.height.0.to_le_bytes());
    bytes.extend_from_slice(&verdict.round.0.to_le_bytes());
    put_optional_round(&mut bytes, verdict.valid_round);
    bytes.extend_from_slice(&verdict.proposer.0);
    bytes.extend_from_slice(&verdict.id.0);
    bytes.extend_from_slice(&verdict.bytes.0);
    bytes.push(u8::from(verdict.valid));
    bytes.extend_from_slice(&verdict.block);
    bytes
}

fn take_verdict(bytes: &[u8]) -> Result<Verdict, Violation> {
    let mut fields = Fields::new(bytes);
    Ok(Verdict {
        height: fields.height()?,
        round: fields.round()?,
        valid_round: fields.optional_round()?,
        proposer: fields.key()?,
        id: BlockId(fields.array()?),
        bytes: fields.hash()?,
        valid: fields.flag()?,
        block: Bytes::copy_from_slice(fields.rest()),
    })
}

fn take_over(bytes: &[u8]) -> Result<Entry, Violation> {
    let mut fields = Fields::new(bytes);
    let (height, round) = (fields.height()?, fields.round()?);
    let wait = match fields.byte()? {
        0 => Wait::Propose,
        1 => Wait::Prevote,
        2 => Wait::Precommit,
        _ => return Err(Violation::Malformed),
    };
    fields.end()?;
    Ok(Entry::Over(height, round, wait))
}

#[cfg(test)]
mod tests;
