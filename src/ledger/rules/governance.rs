//! Governance: what a quorum of the static nodes may change.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{COUNTERS, SPONSORS, STATICS, Sponsor, Standing, Static};
use crate::ledger::rules::handoff;
use crate::ledger::rules::voters::{begin_change, bring_in, take_out, voter, voters};
use crate::ledger::rules::{Context, Outcome};
use crate::message::governance::{Change, Governance, SponsorTerms};
use crate::message::member::Member;
use crate::message::rejection::Rejection;
use crate::types::{Height, PublicKey};

pub(super) fn change<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    governance: &Governance,
) -> Outcome {
    let mut counters = COUNTERS.expect(state, &())?;
    if governance.sequence != counters.sequence {
        return Err(Rejection::WrongSequence { expected: counters.sequence }.into());
    }
    require_quorum(context, governance)?;
    counters.sequence += 1;
    COUNTERS.put(state, &(), &counters);
    match &governance.change {
        Change::AddStatic(new) => add(state, context, new),
        Change::RemoveStatic(key) => remove(state, context, key),
        Change::ReplaceStatic { old, new } => replace(state, context, old, new),
        Change::RotateStatic { old, new } => rotate(state, context, old, new),
        Change::LiftBlacklist(key) => lift(state, context, key),
        Change::SetSponsor(SponsorTerms { sponsor, vaults, nodes, vault_bytes }) => {
            let row = Sponsor { vaults: *vaults, nodes: *nodes, vault_bytes: *vault_bytes };
            SPONSORS.put(state, sponsor, &row);
            Ok(())
        }
        Change::RefreshShares { every } => handoff::refresh(state, context, *every),
    }
}

/// Refuses unless a quorum of those who decide on this block approved, and nobody else did.
fn require_quorum(context: &Context, governance: &Governance) -> Result<(), Rejection> {
    let committee = &context.committee;
    let stranger = governance.approvals.iter().find(|approval| !committee.contains(&approval.member));
    if let Some(approval) = stranger {
        return Err(Rejection::NotAMember { key: approval.member });
    }
    // The decoder took approvals in ascending order only, so they are of distinct members.
    let (have, need) = (governance.approvals.len(), committee.quorum());
    if have >= need {
        return Ok(());
    }
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    Err(Rejection::NotApproved { have: count(have), need: count(need) })
}

/// Refuses a key that is or was a static node's: its past would be mixed up with the newcomer's.
fn require_new(state: &impl Read, member: &Member) -> Outcome {
    let is_known = STATICS.contains(state, &member.key)?;
    if is_known { Err(Rejection::MemberExists { key: member.key }.into()) } else { Ok(()) }
}

const fn newcomer(member: Member, standing: Standing) -> Static {
    Static { member, votes: true, standing, faults: 0, proof: None }
}

fn add<R: Read>(state: &mut Overlay<'_, R>, context: &Context, new: &Member) -> Outcome {
    require_new(state, new)?;
    bring_in(state, context, newcomer(new.clone(), Standing::Good))
}

fn remove<R: Read>(state: &mut Overlay<'_, R>, context: &Context, key: &PublicKey) -> Outcome {
    let row = voter(state, key)?;
    if voters(state)?.len() == 1 {
        return Err(Rejection::LastMember.into());
    }
    begin_change(state, context)?;
    take_out(state, row, Standing::Left);
    Ok(())
}

fn replace<R: Read>(state: &mut Overlay<'_, R>, context: &Context, old: &PublicKey, new: &Member) -> Outcome {
    let row = voter(state, old)?;
    require_new(state, new)?;
    begin_change(state, context)?;
    take_out(state, row, Standing::Left);
    STATICS.put(state, &new.key, &newcomer(new.clone(), Standing::Good));
    Ok(())
}

/// The same static node under what is new about it. A new key answers for whatever the old one did,
/// so what it was warned or blacklisted for becomes probation.
fn rotate<R: Read>(state: &mut Overlay<'_, R>, context: &Context, old: &PublicKey, new: &Member) -> Outcome {
    let row = STATICS.get(state, old)?.filter(|row| row.standing != Standing::Left);
    let row = row.ok_or(Rejection::NotAMember { key: *old })?;
    if new.key == *old {
        begin_change(state, context)?;
        STATICS.put(state, old, &Static { member: new.clone(), ..row });
        return Ok(());
    }
    require_new(state, new)?;
    let standing = match row.standing {
        Standing::Good => Standing::Good,
        _ => Standing::OnProbation { until: probation_end(context) },
    };
    let renewed = Static { faults: row.faults, proof: row.proof, ..newcomer(new.clone(), standing) };
    take_out(state, row, Standing::Left);
    bring_in(state, context, renewed)
}

fn lift<R: Read>(state: &mut Overlay<'_, R>, context: &Context, key: &PublicKey) -> Outcome {
    let is_blacklisted = |row: &Static| matches!(row.standing, Standing::Blacklisted { .. });
    let row = STATICS.get(state, key)?.filter(is_blacklisted);
    let mut row = row.ok_or(Rejection::NotBlacklisted { key: *key })?;
    row.standing = Standing::OnProbation { until: probation_end(context) };
    if row.votes {
        STATICS.put(state, key, &row);
        return Ok(());
    }
    bring_in(state, context, row)
}

/// The last block of a probation that begins now.
pub(super) fn probation_end(context: &Context) -> Height {
    Height(context.height.0 + u64::from(context.settings.params.probation))
}
