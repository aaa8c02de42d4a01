//! Break-glass on the ledger: a clinician asks, others approve, the owner or a guardian vetoes, static nodes say what they
//! opened. Time is that of the last block.

use std::time::Duration;

use crate::ledger::emergency::{Clinician, Emergency, OpeningRow, Veto, emergencies, has_said_all, may_veto};
use crate::ledger::query;
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{
    EMERGENCIES, EMERGENCY_CLINICIANS, EMERGENCY_DUE, EMERGENCY_OPENINGS, GRANTS, Present, STATICS,
};
use crate::ledger::rules::{Context, Outcome, Refused};
use crate::message::access::{
    EmergencyApproval, EmergencyOpening, EmergencyPolicy, EmergencyRequest, Grant, RoleCertificate,
};
use crate::message::rejection::{CertificateFault, Rejection};
use crate::types::limits::{
    EMERGENCY_KEPT_MICROS, EMERGENCY_REQUEST_LIFE_MICROS, MAX_CLINICIAN_EMERGENCIES, MAX_EMERGENCY_APPROVERS,
    MAX_VAULT_EMERGENCIES, MAX_VAULT_EMERGENCIES_KEPT,
};
use crate::types::{GrantId, PublicKey, Timestamp, TransactionId, VaultId};

/// Emergencies whose time has come that one block deals with: the rest waits for the next.
const DUE_BATCH: usize = 8;

fn now(state: &impl Read) -> Result<Timestamp, ReadError> {
    Ok(query::tip(state)?.record.time)
}

/// A grant that stands, and the terms under which it opens.
fn standing(
    state: &impl Read,
    now: Timestamp,
    vault: &VaultId,
    grant: &GrantId,
) -> Result<(Grant, EmergencyPolicy), Refused> {
    let row = GRANTS.get(state, &(*vault, *grant))?.ok_or(Rejection::NoSuchGrant)?;
    let policy = row.grant.emergency.clone().ok_or(Rejection::NotForEmergencies)?;
    if row.revoked.is_some() || !row.grant.is_in_time(now) {
        return Err(Rejection::GrantNotInForce.into());
    }
    Ok((row.grant, policy))
}

/// Refuses an author whom the certificate does not make a clinician by these terms. Its signature is checked already.
fn require_clinician(
    policy: &EmergencyPolicy,
    now: Timestamp,
    author: &PublicKey,
    certificate: &RoleCertificate,
) -> Outcome {
    let fault = if certificate.holder != *author {
        CertificateFault::Holder
    } else if !policy.authorities.contains(&certificate.authority) {
        CertificateFault::Authority
    } else if now >= certificate.expires {
        CertificateFault::Expired
    } else {
        return Ok(());
    };
    Err(Rejection::NotCertified { fault }.into())
}

/// When it opens and until when, if these approvals are enough.
fn activation(
    policy: &EmergencyPolicy,
    now: Timestamp,
    requested: Timestamp,
    requester: &Clinician,
    approvals: &[Clinician],
) -> Option<(Timestamp, Timestamp)> {
    let institutions = approvals.iter().map(|clinician| &*clinician.institution);
    if !policy.is_satisfied(&requester.institution, institutions) {
        return None;
    }
    let begins = now.max(requested + Duration::from_secs(policy.delay.into()));
    Some((begins, begins + Duration::from_secs(policy.lasts.into())))
}

pub(super) fn request<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    id: TransactionId,
    asked: &EmergencyRequest,
) -> Outcome {
    // The block's own time: after a ledger that stood still that of the one before would shorten the time to veto.
    let (vault, now) = (asked.vault, context.time);
    let (grant, policy) = standing(state, now, &vault, &asked.grant)?;
    if grant.grantee != asked.grantee {
        return Err(Rejection::NotCertified { fault: CertificateFault::Card }.into());
    }
    require_clinician(&policy, now, author, &asked.certificate)?;
    require_room(state, &vault, author)?;
    let requester = Clinician::from(&asked.certificate);
    let approved = activation(&policy, now, now, &requester, &[]);
    let (begins, ends) = match approved {
        Some((begins, ends)) => (Some(begins), ends),
        None => (None, now + Duration::from_micros(EMERGENCY_REQUEST_LIFE_MICROS)),
    };
    let row = Emergency {
        grant: asked.grant,
        requester,
        reason: asked.reason,
        requested: now,
        height: context.height,
        approvals: Vec::new(),
        begins,
        ends,
        vetoed: None,
        openings: 0,
        records: 0,
        is_over: false,
    };
    make_room(state, &vault)?;
    let under_way = EMERGENCY_CLINICIANS.get(state, author)?.unwrap_or(0);
    EMERGENCY_CLINICIANS.put(state, author, &(under_way + 1));
    EMERGENCY_DUE.put(state, &(ends.unix_micros(), (vault, id)), &Present);
    EMERGENCIES.put(state, &(vault, id), &row);
    Ok(())
}

/// A clinician whose request was vetoed asks again only when that one's time would have been over: an owner is not to veto the
/// same thing all day.
fn require_room(state: &impl Read, vault: &VaultId, author: &PublicKey) -> Outcome {
    let rows = emergencies(state, vault)?;
    let mut under_way = rows.iter().map(|(_, row)| row).filter(|row| !row.is_over);
    let is_full = under_way.clone().filter(|row| row.vetoed.is_none()).count() >= MAX_VAULT_EMERGENCIES;
    let has_one = under_way.any(|row| row.requester.key == *author);
    let elsewhere = EMERGENCY_CLINICIANS.get(state, author)?.unwrap_or(0);
    if is_full || has_one || elsewhere >= MAX_CLINICIAN_EMERGENCIES {
        return Err(Rejection::TooManyEmergencies.into());
    }
    Ok(())
}

/// Takes the oldest emergency of a vault away that is over, where as many are kept as may be; else the oldest that was vetoed.
fn make_room<R: Read>(state: &mut Overlay<'_, R>, vault: &VaultId) -> Outcome {
    let rows = emergencies(state, vault)?;
    if rows.len() < MAX_VAULT_EMERGENCIES_KEPT {
        return Ok(());
    }
    let oldest = rows
        .iter()
        .filter(|(_, row)| row.is_over || row.vetoed.is_some())
        .min_by_key(|(id, row)| (!row.is_over, row.requested, *id));
    let (id, row) = oldest.ok_or(Rejection::TooManyEmergencies)?;
    if !row.is_over {
        count_down(state, &row.requester.key)?;
    }
    EMERGENCY_DUE.delete(state, &(due(row).unix_micros(), (*vault, *id)));
    remove(state, vault, id)?;
    Ok(())
}

/// When something is to be done about it.
fn due(row: &Emergency) -> Timestamp {
    let kept = if row.is_over { EMERGENCY_KEPT_MICROS } else { 0 };
    row.ends + Duration::from_micros(kept)
}

fn remove<R: Read>(state: &mut Overlay<'_, R>, vault: &VaultId, id: &TransactionId) -> Result<(), ReadError> {
    EMERGENCIES.delete(state, &(*vault, *id));
    let openings = EMERGENCY_OPENINGS.scan(state, id, None, usize::MAX)?;
    openings.into_iter().for_each(|(key, _)| state.delete(key));
    Ok(())
}

fn count_down<R: Read>(state: &mut Overlay<'_, R>, clinician: &PublicKey) -> Result<(), ReadError> {
    match EMERGENCY_CLINICIANS.get(state, clinician)? {
        Some(count) if count > 1 => EMERGENCY_CLINICIANS.put(state, clinician, &(count - 1)),
        _ => EMERGENCY_CLINICIANS.delete(state, clinician),
    }
    Ok(())
}

/// An emergency that is neither vetoed nor over.
fn under_way(
    state: &impl Read,
    now: Timestamp,
    vault: &VaultId,
    request: &TransactionId,
) -> Result<Emergency, Refused> {
    let row = EMERGENCIES.get(state, &(*vault, *request))?.ok_or(Rejection::NoSuchEmergency)?;
    if row.vetoed.is_some() || row.is_over || now >= row.ends {
        return Err(Rejection::EmergencyOver.into());
    }
    Ok(row)
}

pub(super) fn approve<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    approval: &EmergencyApproval,
) -> Outcome {
    let (vault, request, now) = (approval.vault, approval.request, now(state)?);
    let mut row = under_way(state, now, &vault, &request)?;
    let (_, policy) = standing(state, now, &vault, &row.grant)?;
    require_clinician(&policy, now, author, &approval.certificate)?;
    if row.requester.key == *author {
        return Err(Rejection::OwnApproval.into());
    }
    let has_approved = row.approvals.iter().any(|clinician| clinician.key == *author);
    if has_approved || row.begins.is_some() || row.approvals.len() >= MAX_EMERGENCY_APPROVERS {
        return Err(Rejection::ApprovedAlready.into());
    }
    row.approvals.push(Clinician::from(&approval.certificate));
    if let Some((begins, ends)) = activation(&policy, now, row.requested, &row.requester, &row.approvals) {
        EMERGENCY_DUE.delete(state, &(row.ends.unix_micros(), (vault, request)));
        EMERGENCY_DUE.put(state, &(ends.unix_micros(), (vault, request)), &Present);
        (row.begins, row.ends) = (Some(begins), ends);
    }
    EMERGENCIES.put(state, &(vault, request), &row);
    Ok(())
}

pub(super) fn veto<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    request: &TransactionId,
) -> Outcome {
    let now = now(state)?;
    let row = under_way(state, now, vault, request)?;
    if !may_veto(state, vault, &row.grant, author)? {
        return Err(Rejection::MayNotVeto.into());
    }
    let vetoed = Some(Veto { by: *author, time: now });
    EMERGENCIES.put(state, &(*vault, *request), &Emergency { vetoed, ..row });
    Ok(())
}

/// Also after its end, or a veto: what was opened before is known a moment later.
pub(super) fn opened<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    opening: &EmergencyOpening,
) -> Outcome {
    if !STATICS.get(state, author)?.is_some_and(|row| row.votes) {
        return Err(Rejection::NotAMember { key: *author }.into());
    }
    let key = (opening.vault, opening.request);
    let row = EMERGENCIES.get(state, &key)?.ok_or(Rejection::NoSuchEmergency)?;
    let is_known = EMERGENCY_OPENINGS.contains(state, &(opening.request, opening.open))?;
    if is_known || has_said_all(state, &opening.request, author)? {
        return Err(Rejection::OpeningKnown.into());
    }
    let found = OpeningRow { time: now(state)?, node: *author, records: opening.records };
    let (openings, records) = (row.openings + 1, row.records.saturating_add(opening.records));
    EMERGENCIES.put(state, &key, &Emergency { openings, records, ..row });
    EMERGENCY_OPENINGS.put(state, &(opening.request, opening.open), &found);
    Ok(())
}

/// Ends emergencies whose time is over by the last block, and takes those away that were kept for long enough.
pub(in crate::ledger) fn settle_due<R: Read>(
    state: &mut Overlay<'_, R>,
    now: Timestamp,
) -> Result<(), ReadError> {
    for (key, _) in EMERGENCY_DUE.scan(state, &(), None, DUE_BATCH)? {
        let Some((time, vault, id)) = EMERGENCY_DUE.rest(&key).and_then(read_due) else { continue };
        if time > now {
            return Ok(());
        }
        state.delete(key);
        let Some(mut row) = EMERGENCIES.get(state, &(vault, id))? else { continue };
        if row.is_over {
            remove(state, &vault, &id)?;
            continue;
        }
        row.is_over = true;
        count_down(state, &row.requester.key)?;
        EMERGENCY_DUE.put(state, &(due(&row).unix_micros(), (vault, id)), &Present);
        EMERGENCIES.put(state, &(vault, id), &row);
    }
    Ok(())
}

fn read_due(rest: &[u8]) -> Option<(Timestamp, VaultId, TransactionId)> {
    let (time, rest) = rest.split_first_chunk()?;
    let (vault, id) = rest.split_first_chunk()?;
    let time = Timestamp::from_unix_micros(u64::from_be_bytes(*time));
    Some((time, VaultId(*vault), TransactionId::from_slice(id)?))
}
