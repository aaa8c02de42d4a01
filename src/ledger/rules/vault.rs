//! Creating a vault, and what its sponsor lets it use.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{SPONSORS, Usage, VAULTS, Vault};
use crate::ledger::rules::admission::{Entry, admit};
use crate::ledger::rules::{Context, Outcome, quota};
use crate::message::rejection::Rejection;
use crate::message::sponsorship::Sponsorship;
use crate::types::{PublicKey, VaultId};

pub(super) fn create<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    sponsorship: Option<&Sponsorship>,
) -> Outcome {
    if VAULTS.contains(state, vault)? {
        return Err(Rejection::VaultExists.into());
    }
    let sponsor = admit(state, context, Entry::Vault, sponsorship)?;
    let quota = sponsor.as_ref().map_or(context.settings.params.vault_bytes, |(_, row)| row.vault_bytes);
    let row = Vault {
        owner: *author,
        sponsor: sponsor.map(|(key, _)| key),
        quota,
        usage: Usage::NONE,
        segments: 0,
        bytes: 0,
        writers: 0,
    };
    VAULTS.put(state, vault, &row);
    Ok(())
}

/// Changes the quota of a vault within what its sponsor's terms say now. It never falls below what the vault has used
/// of this epoch. An old transaction of this kind cannot come back: the sponsor's nonce has moved on.
pub(super) fn set_quota<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    vault: &VaultId,
    quota: u64,
) -> Outcome {
    let row = VAULTS.get(state, vault)?.ok_or(Rejection::NoSuchVault)?;
    if row.sponsor != Some(*author) {
        return Err(Rejection::NotTheSponsor.into());
    }
    let limit = SPONSORS.get(state, author)?.map_or(0, |terms| terms.vault_bytes);
    if quota > limit {
        return Err(Rejection::BeyondTerms { limit }.into());
    }
    let used = quota::used(&row.usage, context);
    if quota < used {
        return Err(Rejection::BelowUse { used }.into());
    }
    let usage = Usage { epoch: quota::epoch(context), bytes: used };
    VAULTS.put(state, vault, &Vault { quota, usage, ..row });
    Ok(())
}
