//! Creating a vault.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{Usage, VAULTS, Vault};
use crate::ledger::rules::admission::{Entry, admit};
use crate::ledger::rules::{Context, Outcome};
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
