//! Accusations: that a block was invalid shows only against a state that is gone, so it takes the word
//! of as many static nodes as make a block final. Fewer can neither convict nor be convicted for saying so.

use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{ACCUSATIONS, Fault, Present};
use crate::ledger::rules::evidence::{Kind, note, require_member_then};
use crate::ledger::rules::{Context, Outcome, rogue};
use crate::message::rejection::Rejection;
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Height, PublicKey, Round, TransactionId};

pub(super) fn accuse<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    id: TransactionId,
    offender: &PublicKey,
    height: Height,
) -> Outcome {
    if !context.committee.contains(author) {
        return Err(Rejection::NotAMember { key: *author }.into());
    }
    if author == offender {
        return Err(Rejection::NotAnOffence.into());
    }
    require_member_then(state, context, height, offender)?;
    let key = (height, (*offender, *author));
    if ACCUSATIONS.contains(state, &key)? {
        return Err(Rejection::EvidenceKnown.into());
    }
    ACCUSATIONS.put(state, &key, &Present);
    if accusers(state, context, height, offender)? != context.committee.quorum() {
        return Ok(());
    }
    note(state, height, *offender, Round(0), Kind::InvalidProposal)?;
    rogue::convict(state, context, offender, Fault::InvalidProposal, Some(id))
}

/// Accusers that vote now; those who left no longer count.
fn accusers(
    state: &impl Read,
    context: &Context,
    height: Height,
    offender: &PublicKey,
) -> Result<usize, ReadError> {
    // Every key there is one of a committee of the time since, of which few change.
    let rows = ACCUSATIONS.scan(state, &(height, *offender), None, 16 * MAX_COMMITTEE)?;
    let accuser = |key: &[u8]| key.last_chunk().copied().map(PublicKey);
    let accusers = rows.iter().filter_map(|(key, _)| accuser(key));
    Ok(accusers.filter(|key| context.committee.contains(key)).count())
}
