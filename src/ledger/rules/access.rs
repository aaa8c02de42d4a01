//! Access: the vault's key in the static nodes' care, grants, entries of records, erasure.
//!
//! Whether shares, keys and slots are what they should be is not on the ledger: static nodes take no package that is wrong,
//! and a grantee notices a key that does not fit.

use crate::ledger::query;
use crate::ledger::read::{Overlay, Read};
use crate::ledger::recovery;
use crate::ledger::rows::{
    ACCESS, Access, BATCH_NUMBERS, BATCHES, Batch, ERASED, GENERATIONS, GRANTEES, GRANTS, GrantRow, Grantee,
    LOG_HEADS, STATICS, Sharing,
};
use crate::ledger::rules::erasure::require_alive;
use crate::ledger::rules::{Context, Outcome, Refused, handoff, require_owner, require_writer};
use crate::message::access::{EntryBatch, Grant, KeySharing, LogHead};
use crate::message::rejection::Rejection;
use crate::types::limits::MAX_VAULT_GRANTS;
use crate::types::{GrantId, PublicKey, RecordTag, ScopeTag, VaultId, VersionId};

/// The vault's key is shared for the first time, shared anew, or followed by the next.
pub(super) fn share<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    shared: &KeySharing,
) -> Outcome {
    require_owner(state, author, &shared.vault)?;
    require_alive(state, &shared.vault)?;
    if query::tip(state)?.record.next_roster() != shared.roster {
        return Err(Rejection::RosterMoved.into());
    }
    let known = ACCESS.get(state, &shared.vault)?;
    let epoch = match known.as_ref().map(|row| &row.sharing) {
        None if shared.dealing == 0 => 0,
        Some(before) if shared.dealing == before.dealing => before.epoch + 1,
        Some(before) if shared.dealing == before.dealing.saturating_add(1) => 0,
        before => {
            let expected = before.map_or(0, |before| before.dealing.saturating_add(1));
            return Err(Rejection::WrongDealing { expected }.into());
        }
    };
    let KeySharing { dealing, roster, commitments, package, .. } = *shared;
    let sharing = Sharing { dealing, epoch, roster, commitments, package, height: context.height };
    // What is handed on of the sharing before is of no use any more.
    handoff::end(state, &shared.vault)?;
    handoff::begin_periods(state)?;
    let access = match known {
        Some(row) => Access { sharing, ..row },
        None => Access { sharing, grants: 0, batches: 0, deposits: 0 },
    };
    ACCESS.put(state, &shared.vault, &access);
    Ok(())
}

pub(super) fn shared(state: &impl Read, vault: &VaultId) -> Result<Access, Refused> {
    Ok(ACCESS.get(state, vault)?.ok_or(Rejection::NotShared)?)
}

pub(super) fn grant<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    grant: &Grant,
) -> Outcome {
    require_owner(state, author, &grant.vault)?;
    require_alive(state, &grant.vault)?;
    let mut row = shared(state, &grant.vault)?;
    let key = (grant.vault, grant.grant);
    if GRANTS.contains(state, &key)? {
        return Err(Rejection::GrantExists.into());
    }
    let before = GRANTEES.get(state, &grant.grantee)?;
    let ended = before.map(|before| end_outdated(state, context, &grant.vault, &before)).transpose()?;
    if ended == Some(false) {
        return Err(Rejection::GranteeKnown.into());
    }
    if ended.is_none() && row.grants >= MAX_VAULT_GRANTS {
        return Err(Rejection::TooManyGrants.into());
    }
    row.grants += u32::from(ended.is_none());
    ACCESS.put(state, &grant.vault, &row);
    GRANTEES.put(state, &grant.grantee, &Grantee { vault: grant.vault, grant: grant.grant });
    let row =
        GrantRow { grant: grant.clone(), height: context.height, revoked: None, brought: 0, deposits: 0 };
    GRANTS.put(state, &key, &row);
    Ok(())
}

/// Whether the grant of a key before ended with a rotation of this vault's keys: then another takes its place. One that still
/// counted as given is taken back by that.
fn end_outdated<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    vault: &VaultId,
    before: &Grantee,
) -> Result<bool, Refused> {
    let key = (before.vault, before.grant);
    let mut row = GRANTS.get(state, &key)?.ok_or(Rejection::NoSuchGrant)?;
    let is_outdated = before.vault == *vault && row.revoked.is_none() && recovery::is_outdated(state, &row)?;
    if is_outdated {
        row.revoked = Some(context.height);
        GRANTS.put(state, &key, &row);
    }
    Ok(is_outdated)
}

/// For good: who is to be let in again gets another grant.
pub(super) fn revoke<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    grant: &GrantId,
) -> Outcome {
    require_owner(state, author, vault)?;
    let key = (*vault, *grant);
    let mut row = GRANTS.get(state, &key)?.ok_or(Rejection::NoSuchGrant)?;
    if row.revoked.is_some() {
        return Err(Rejection::AlreadyRevoked.into());
    }
    row.revoked = Some(context.height);
    let mut access = shared(state, vault)?;
    access.grants -= 1;
    ACCESS.put(state, vault, &access);
    GRANTS.put(state, &key, &row);
    Ok(())
}

pub(super) fn add_entries<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    batch: &EntryBatch,
) -> Outcome {
    require_writer(state, author, &batch.vault)?;
    require_alive(state, &batch.vault)?;
    let mut row = shared(state, &batch.vault)?;
    let id = (batch.vault, batch.batch);
    if BATCH_NUMBERS.contains(state, &id)? {
        return Err(Rejection::BatchExists.into());
    }
    let number = row.batches;
    row.batches += 1;
    ACCESS.put(state, &batch.vault, &row);
    BATCH_NUMBERS.put(state, &id, &number);
    BATCHES.put(state, &(batch.vault, number), &Batch { batch: *batch, height: context.height });
    Ok(())
}

/// A version that no entry is of may be erased too: then none of it is ever taken.
pub(super) fn erase<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    record: RecordTag,
    version: VersionId,
) -> Outcome {
    require_owner(state, author, vault)?;
    shared(state, vault)?;
    let key = (*vault, (record, version));
    if ERASED.contains(state, &key)? {
        return Err(Rejection::AlreadyErased.into());
    }
    ERASED.put(state, &key, &context.height);
    Ok(())
}

pub(super) fn bump<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    scope: ScopeTag,
    generation: u32,
) -> Outcome {
    require_owner(state, author, vault)?;
    shared(state, vault)?;
    let key = (*vault, scope);
    let expected = GENERATIONS.get(state, &key)?.unwrap_or(0).saturating_add(1);
    if generation != expected {
        return Err(Rejection::WrongGeneration { expected }.into());
    }
    GENERATIONS.put(state, &key, &generation);
    Ok(())
}

/// A log only grows. Whether a head continues the one before is seen by who compares entries with both.
pub(super) fn log_head<R: Read>(state: &mut Overlay<'_, R>, author: &PublicKey, head: &LogHead) -> Outcome {
    if !STATICS.contains(state, author)? {
        return Err(Rejection::NotAMember { key: *author }.into());
    }
    if let Some(before) = LOG_HEADS.get(state, author)?.filter(|before| before.size >= head.size) {
        return Err(Rejection::LogBehind { size: before.size }.into());
    }
    LOG_HEADS.put(state, author, head);
    Ok(())
}
