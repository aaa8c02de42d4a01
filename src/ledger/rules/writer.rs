//! Letting other keys write to a vault, which only its owner may.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{Present, VAULTS, WRITERS};
use crate::ledger::rules::{Outcome, require_owner};
use crate::message::rejection::Rejection;
use crate::types::limits::MAX_VAULT_WRITERS;
use crate::types::{PublicKey, VaultId};

pub(super) fn add<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    writer: &PublicKey,
) -> Outcome {
    let mut row = require_owner(state, author, vault)?;
    if *writer == row.owner || WRITERS.contains(state, &(*vault, *writer))? {
        return Err(Rejection::WriterExists.into());
    }
    if row.writers >= MAX_VAULT_WRITERS {
        return Err(Rejection::TooManyWriters.into());
    }
    row.writers += 1;
    VAULTS.put(state, vault, &row);
    WRITERS.put(state, &(*vault, *writer), &Present);
    Ok(())
}

pub(super) fn remove<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    writer: &PublicKey,
) -> Outcome {
    let mut row = require_owner(state, author, vault)?;
    if !WRITERS.contains(state, &(*vault, *writer))? {
        return Err(Rejection::NoSuchWriter.into());
    }
    row.writers -= 1;
    VAULTS.put(state, vault, &row);
    WRITERS.delete(state, &(*vault, *writer));
    Ok(())
}
