//! Who votes from the next height on. At most one change a block, whoever asks for it, so that one
//! header never stands between two committees that share too few members.

use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{COUNTERS, STATICS, Standing, Static};
use crate::ledger::rules::{Context, Outcome, Refused};
use crate::message::member::Roster;
use crate::message::rejection::Rejection;
use crate::types::PublicKey;
use crate::types::limits::MAX_COMMITTEE;

/// Static nodes there may ever have been, for one pass over all of them.
const MAX_STATICS: usize = 100_000;

/// The static nodes that vote from the next height on, by ascending key.
pub(in crate::ledger) fn voters(state: &impl Read) -> Result<Vec<Static>, ReadError> {
    let rows = STATICS.scan(state, &(), None, MAX_STATICS)?;
    Ok(rows.into_iter().map(|(_, row)| row).filter(|row| row.votes).collect())
}

/// Their roster.
pub(in crate::ledger) fn roster(state: &impl Read) -> Result<Roster, ReadError> {
    let members = voters(state)?.into_iter().map(|row| row.member).collect();
    Roster::new(members).map_err(|_| ReadError::Missing("committee"))
}

/// The row of a static node that votes from the next height on.
pub(super) fn voter(state: &impl Read, key: &PublicKey) -> Result<Static, Refused> {
    let row = STATICS.get(state, key)?.filter(|row| row.votes);
    Ok(row.ok_or(Rejection::NotAMember { key: *key })?)
}

/// Whether the voters changed in this block.
pub(super) fn is_changing(state: &impl Read, context: &Context) -> Result<bool, ReadError> {
    Ok(COUNTERS.expect(state, &())?.voters_changed == context.height)
}

/// Takes the one change of this block.
pub(super) fn begin_change<R: Read>(state: &mut Overlay<'_, R>, context: &Context) -> Outcome {
    let mut counters = COUNTERS.expect(state, &())?;
    if counters.voters_changed == context.height {
        return Err(Rejection::AlreadyChanging.into());
    }
    counters.voters_changed = context.height;
    COUNTERS.put(state, &(), &counters);
    Ok(())
}

/// Lets a static node vote that does not, if there is room.
pub(super) fn bring_in<R: Read>(state: &mut Overlay<'_, R>, context: &Context, row: Static) -> Outcome {
    if voters(state)?.len() >= MAX_COMMITTEE {
        return Err(Rejection::CommitteeFull.into());
    }
    begin_change(state, context)?;
    put(state, &Static { votes: true, ..row });
    Ok(())
}

/// Takes a static node out that votes, leaving this of it.
pub(super) fn take_out<R: Read>(state: &mut Overlay<'_, R>, row: Static, standing: Standing) {
    put(state, &Static { votes: false, standing, ..row });
}

/// Sets the row of a static node.
pub(super) fn put<R: Read>(state: &mut Overlay<'_, R>, row: &Static) {
    STATICS.put(state, &row.member.key, row);
}
