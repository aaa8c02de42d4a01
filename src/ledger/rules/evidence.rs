//! Evidence: two signed statements that convict by themselves, or a signed tree head beside our own.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{COMMITTEES, Fault, HISTORY, OFFENCES, Past, Present};
use crate::ledger::rules::{Context, Outcome, Refused, rogue};
use crate::message::checkpoint::FalseCosignature;
use crate::message::evidence::Evidence;
use crate::message::rejection::Rejection;
use crate::message::vote::VoteKind;
use crate::types::{Height, PublicKey, Round, TransactionId};

/// What an offence is known under, beside who, when and in which round.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Prevotes = 1,
    Precommits = 2,
    Proposals = 3,
    FalseCosignature = 4,
    InvalidProposal = 5,
}

pub(super) fn equivocation<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    id: TransactionId,
    evidence: &Evidence,
) -> Outcome {
    let (offender, (height, round)) = (evidence.offender(), evidence.place());
    require_member_then(state, context, height, &offender)?;
    let kind = match evidence {
        Evidence::Votes(vote, _) if vote.vote.kind == VoteKind::Prevote => Kind::Prevotes,
        Evidence::Votes(..) => Kind::Precommits,
        Evidence::Proposals(..) => Kind::Proposals,
    };
    note(state, height, offender, round, kind)?;
    rogue::convict(state, context, &offender, Fault::Equivocation, Some(id))
}

pub(super) fn false_cosignature<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    id: TransactionId,
    proof: &FalseCosignature,
) -> Outcome {
    let past = require_member_then(state, context, proof.height, &proof.offender)?;
    if !is_false(state, &past, proof)? {
        return Err(Rejection::NotAnOffence.into());
    }
    note(state, proof.height, proof.offender, Round(0), Kind::FalseCosignature)?;
    rogue::convict(state, context, &proof.offender, Fault::FalseCosignature, Some(id))
}

/// A tree head of the block's size must be the block's; one between two blocks is nobody's.
fn is_false(state: &impl Read, past: &Past, proof: &FalseCosignature) -> Result<bool, Refused> {
    if proof.size <= past.log_size {
        return Ok(proof.size == past.log_size && proof.root != past.log_root);
    }
    let next = HISTORY.get(state, &proof.height.next())?.ok_or(Rejection::EvidenceAhead)?;
    Ok(proof.size < next.log_size)
}

/// The block of a height of which evidence is taken, if this key voted on it.
pub(super) fn require_member_then(
    state: &impl Read,
    context: &Context,
    height: Height,
    key: &PublicKey,
) -> Result<Past, Refused> {
    if height >= context.height {
        return Err(Rejection::EvidenceAhead.into());
    }
    let past = HISTORY.get(state, &height)?.ok_or(Rejection::EvidenceExpired)?;
    let committee = COMMITTEES.expect(state, &past.roster)?;
    let was_member = committee.0.binary_search(key).is_ok();
    if was_member { Ok(past) } else { Err(Rejection::NotAMember { key: *key }.into()) }
}

/// Refuses an offence that is known; from now on it is.
pub(super) fn note<R: Read>(
    state: &mut Overlay<'_, R>,
    height: Height,
    offender: PublicKey,
    round: Round,
    kind: Kind,
) -> Outcome {
    let key = (height, (offender, (round.0, kind as u8)));
    if OFFENCES.contains(state, &key)? {
        return Err(Rejection::EvidenceKnown.into());
    }
    OFFENCES.put(state, &key, &Present);
    Ok(())
}
