//! Lost keys: guardians and what they approve, the owner's objection, and the vault's next key.
//!
//! Strangers put nothing here: a request to recover comes with the approval of one of the vault's guardians, and each of them
//! stands behind one request at a time.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::recovery::{
    GUARDIANS, Guardians, KEY_GENERATIONS, KeyGeneration, RECOVERIES, Recovery, recoveries,
};
use crate::ledger::rows::{ACCESS, VAULTS, Vault, WRITERS};
use crate::ledger::rules::erasure::require_alive;
use crate::ledger::rules::{Context, Outcome, require_owner};
use crate::message::access::recovery_action::next_key_hash;
use crate::message::access::{GuardianSet, RecoveryAction};
use crate::message::rejection::Rejection;
use crate::types::limits::MAX_VAULT_WRITERS;
use crate::types::{Hash, Height, PublicKey, VaultId};

pub(super) fn carry_out<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    action: &RecoveryAction,
) -> Outcome {
    match action {
        RecoveryAction::SetGuardians(set) => set_guardians(state, context, author, set),
        RecoveryAction::Approve { vault, set, request } => {
            approve(state, context, author, vault, *set, *request)
        }
        RecoveryAction::Veto { vault, request } => veto(state, context, author, vault, *request),
        RecoveryAction::PledgeKey { vault, next } => pledge(state, author, vault, *next),
        RecoveryAction::Rotate { vault, generation, next } => {
            rotate(state, context, author, vault, *generation, *next)
        }
    }
}

/// Requests to the guardians of before end with them.
fn set_guardians<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    set: &GuardianSet,
) -> Outcome {
    require_owner(state, author, &set.vault)?;
    require_alive(state, &set.vault)?;
    let expected = GUARDIANS.get(state, &set.vault)?.map_or(0, |known| known.set.number).saturating_add(1);
    if set.number != expected {
        return Err(Rejection::WrongGuardianSet { expected }.into());
    }
    for row in recoveries(state, &set.vault)? {
        RECOVERIES.delete(state, &(set.vault, row.request));
    }
    GUARDIANS.put(state, &set.vault, &Guardians { set: set.clone(), height: context.height });
    Ok(())
}

/// The time to object begins with the block that has the first approval: if the ledger stood still before, for however long, none
/// of that counts.
fn approve<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    number: u32,
    request: Hash,
) -> Outcome {
    let known = GUARDIANS.get(state, vault)?.ok_or(Rejection::NoGuardians)?;
    let place = known.set.place(author).ok_or(Rejection::NotAGuardian)?;
    if number != known.set.number {
        return Err(Rejection::WrongGuardianSet { expected: known.set.number }.into());
    }
    let rows = recoveries(state, vault)?;
    let row = rows.iter().find(|row| row.request == request).cloned();
    let mut row = match row {
        Some(row) if row.vetoed.is_some() => return Err(Rejection::Vetoed.into()),
        Some(row) if row.approvals.contains(&place) => return Err(Rejection::AlreadyApproved.into()),
        Some(row) => row,
        None => Recovery { request, opened: context.time, approvals: Vec::new(), vetoed: None },
    };
    for other in rows.into_iter().filter(|other| other.approvals.contains(&place)) {
        leave(state, vault, other, place);
    }
    row.approvals.push(place);
    row.approvals.sort_unstable();
    RECOVERIES.put(state, &(*vault, request), &row);
    Ok(())
}

/// A guardian stands behind a request no more; one behind which nobody stands is gone.
fn leave<R: Read>(state: &mut Overlay<'_, R>, vault: &VaultId, mut row: Recovery, place: u8) {
    let key = (*vault, row.request);
    row.approvals.retain(|other| *other != place);
    if row.approvals.is_empty() {
        RECOVERIES.delete(state, &key);
    } else {
        RECOVERIES.put(state, &key, &row);
    }
}

/// Also when the time to object is over: then it keeps those guardians from releasing that have not yet.
fn veto<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    request: Hash,
) -> Outcome {
    require_owner(state, author, vault)?;
    let key = (*vault, request);
    let mut row = RECOVERIES.get(state, &key)?.ok_or(Rejection::NoSuchRecovery)?;
    if row.vetoed.is_some() {
        return Err(Rejection::Vetoed.into());
    }
    row.vetoed = Some(context.height);
    RECOVERIES.put(state, &key, &row);
    Ok(())
}

/// Once, since whoever steals the owner's key could otherwise pledge another: from then on only a rotation changes it.
fn pledge<R: Read>(state: &mut Overlay<'_, R>, author: &PublicKey, vault: &VaultId, next: Hash) -> Outcome {
    require_owner(state, author, vault)?;
    if KEY_GENERATIONS.contains(state, vault)? {
        return Err(Rejection::AlreadyPledged.into());
    }
    let first = KeyGeneration { generation: 0, next, since: Height::GENESIS, dealing: None };
    KEY_GENERATIONS.put(state, vault, &first);
    Ok(())
}

/// The author's signature is that of the pledged key. Writers go with the old key: who had it could have let itself in.
fn rotate<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    generation: u32,
    next: Hash,
) -> Outcome {
    let row = VAULTS.get(state, vault)?.ok_or(Rejection::NoSuchVault)?;
    require_alive(state, vault)?;
    let keys = KEY_GENERATIONS.get(state, vault)?.ok_or(Rejection::NotPledged)?;
    let expected = keys.generation.saturating_add(1);
    if generation != expected {
        return Err(Rejection::WrongKeyGeneration { expected }.into());
    }
    if next_key_hash(vault, generation, author) != keys.next {
        return Err(Rejection::NotThePledgedKey.into());
    }
    let writers = WRITERS.scan(state, vault, None, usize::from(MAX_VAULT_WRITERS))?;
    for (key, _) in writers {
        state.delete(key);
    }
    VAULTS.put(state, vault, &Vault { owner: *author, writers: 0, ..row });
    let (since, dealing) = (context.height, ACCESS.get(state, vault)?.map(|row| row.sharing.dealing));
    KEY_GENERATIONS.put(state, vault, &KeyGeneration { generation, next, since, dealing });
    Ok(())
}
