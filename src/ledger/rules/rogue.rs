//! Rogue static nodes: a warning with a deadline, probation, the blacklist.
//!
//! Good → Warned → (answered) OnProbation → Good, or → Blacklisted: by equivocation at once, by a fault while
//! warned or on probation, by not answering. A warned node votes on, or f+1 warnings would stop the
//! chain. A blacklisted one leaves the voters at the next height, one a block and never below
//! [`MIN_COMMITTEE`]: then it stays until governance brings another.

use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{
    ACCUSATIONS, Fault, HISTORY, Missed, OFFENCES, PRESENCE, Presence, STATICS, Standing, Static,
};
use crate::ledger::rules::voters::{begin_change, is_changing, put, take_out, voters};
use crate::ledger::rules::{Context, Outcome};
use crate::message::certificate::CommitCertificate;
use crate::types::limits::MIN_COMMITTEE;
use crate::types::{Committee, Height, PublicKey, TransactionId};

/// Rows that one pass takes away.
const PRUNE_BATCH: usize = 256;

/// A fault is proved, by a transaction if not by certificates.
pub(super) fn convict<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    offender: &PublicKey,
    fault: Fault,
    proof: Option<TransactionId>,
) -> Outcome {
    // It left meanwhile, and was never a static node if it is not there: nothing to do either way.
    if let Some(row) = STATICS.get(state, offender)? {
        let standing = after(row.standing, fault, context);
        let faults = row.faults.saturating_add(1);
        STATICS.put(state, offender, &Static { standing, faults, proof, ..row });
    }
    Ok(())
}

/// What a fault makes of a standing.
fn after(standing: Standing, fault: Fault, context: &Context) -> Standing {
    let blacklisted = Standing::Blacklisted { fault, since: context.height };
    match (standing, fault) {
        (Standing::Left | Standing::Blacklisted { .. }, _) => standing,
        (_, Fault::Equivocation) | (Standing::OnProbation { .. }, _) => blacklisted,
        // Still away: the deadline that it has will tell.
        (Standing::Warned { .. }, Fault::Absence) => standing,
        (Standing::Warned { .. }, _) => blacklisted,
        (Standing::Good, _) => {
            let deadline = Height(context.height.0 + u64::from(context.settings.params.correction));
            Standing::Warned { fault, deadline }
        }
    }
}

/// Notes who signed the block before, and judges at the end of a window.
pub(in crate::ledger) fn note_presence<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    committee: &Committee,
    certificate: &CommitCertificate,
) -> Outcome {
    let mut presence = PRESENCE.get(state, &())?.unwrap_or_default();
    presence.blocks += 1;
    for key in committee.members().iter().filter(|key| certificate.signature(key).is_none()) {
        match presence.missed.binary_search_by_key(key, |missed| missed.key) {
            Ok(at) => presence.missed[at].count += 1,
            Err(at) => presence.missed.insert(at, Missed { key: *key, count: 1 }),
        }
    }
    if presence.blocks >= context.settings.params.window {
        judge_presence(state, context, &presence)?;
        presence = Presence::default();
    }
    PRESENCE.put(state, &(), &presence);
    Ok(())
}

fn judge_presence<R: Read>(state: &mut Overlay<'_, R>, context: &Context, presence: &Presence) -> Outcome {
    let allowed = u64::from(presence.blocks) * u64::from(context.settings.params.missed_percent);
    for missed in presence.missed.iter().filter(|missed| u64::from(missed.count) * 100 > allowed) {
        if STATICS.get(state, &missed.key)?.is_some_and(|row| row.votes) {
            convict(state, context, &missed.key, Fault::Absence, None)?;
        }
    }
    Ok(())
}

/// After all transactions: deadlines and probations end, and one blacklisted node leaves the voters.
pub(in crate::ledger) fn settle<R: Read>(state: &mut Overlay<'_, R>, context: &Context) -> Outcome {
    for row in voters(state)? {
        let standing = at_height(row.standing, context.height);
        if standing != row.standing {
            put(state, &Static { standing, ..row });
        }
    }
    let voters = voters(state)?;
    if voters.len() <= MIN_COMMITTEE || is_changing(state, context)? {
        return Ok(());
    }
    let is_blacklisted = |row: &Static| matches!(row.standing, Standing::Blacklisted { .. });
    if let Some(row) = voters.into_iter().find(is_blacklisted) {
        begin_change(state, context)?;
        let standing = row.standing;
        take_out(state, row, standing);
    }
    Ok(())
}

/// What time alone makes of a standing.
fn at_height(standing: Standing, height: Height) -> Standing {
    match standing {
        Standing::Warned { fault, deadline } if deadline <= height => {
            Standing::Blacklisted { fault, since: height }
        }
        Standing::OnProbation { until } if until <= height => Standing::Good,
        _ => standing,
    }
}

/// Forgets the block of which evidence is no longer taken, with what was shown about it.
pub(in crate::ledger) fn prune<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
) -> Result<(), ReadError> {
    let age = u64::from(context.settings.params.evidence) + 1;
    let Some(height) = context.height.0.checked_sub(age).map(Height) else { return Ok(()) };
    HISTORY.delete(state, &height);
    loop {
        let mut keys: Vec<_> = OFFENCES.scan(state, &height, None, PRUNE_BATCH)?;
        keys.extend(ACCUSATIONS.scan(state, &height, None, PRUNE_BATCH)?);
        if keys.is_empty() {
            return Ok(());
        }
        keys.into_iter().for_each(|(key, _)| state.delete(key));
    }
}
