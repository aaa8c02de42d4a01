//! New keys for a vault, when a device that had them is lost: nothing that the old ones sign counts from then on.
//!
//! The keys of the next generation were pledged on the ledger before, so that whoever has the old ones can neither begin the
//! next generation nor keep the owner from it. Every step can be done again: a rotation that was interrupted goes on where it
//! was.

use std::collections::BTreeSet;
use std::path::Path;

use crate::client::access::desk::Desks;
use crate::client::access::erase::ended;
use crate::client::access::owner::Renewed;
use crate::client::access::recovery;
use crate::client::ledger::LedgerClient;
use crate::client::{Client, ClientConfig, Error, ErrorKind, Recovered};
use crate::crypto::seed::VaultKeys;
use crate::message::access::RecoveryAction;
use crate::message::access::recovery_action::next_key_hash;
use crate::message::{Action, Rejection};
use crate::store::SharedIndex;
use crate::store::index::Note;
use crate::types::Height;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The generation of the keys of now.
    pub generation: u32,
    /// The block in which they came into effect; none if that was before.
    pub height: Option<Height>,
    /// What was read into the new home.
    pub recovered: Recovered,
    /// What became of the grants that stood.
    pub renewed: Renewed,
    /// Whether the old home stays, since something in it was never anchored.
    pub kept: bool,
}

/// The generation of a vault's keys as the ledger has it; none if the vault is not registered.
///
/// # Errors
/// [`ErrorKind::Config`] if the network has no ledger, [`ErrorKind::Unavailable`].
pub async fn generation_of_now(config: &ClientConfig) -> Result<Option<u32>, Error> {
    let ledger = LedgerClient::new(&config.network, config.keys.signing())?;
    // Whoever cannot be asked now is asked again.
    drop(ledger.follow().await);
    let vault = *config.keys.vault();
    if ledger.vault(vault).await?.is_none() {
        return Ok(None);
    }
    let desks = Desks::new(ledger, config.keys.signing());
    desks.follow(&desks.ledger.roster());
    let keys = recovery::state(&desks, vault).await?.keys;
    Ok(Some(keys.map_or(0, |keys| keys.generation)))
}

/// The same, of a vault whose keys are to be rotated.
///
/// # Errors
/// [`ErrorKind::Refused`] of one that was erased, [`ErrorKind::Unavailable`].
pub async fn generation_to_follow(config: &ClientConfig) -> Result<Option<u32>, Error> {
    let now = generation_of_now(config).await?;
    let ledger = LedgerClient::new(&config.network, config.keys.signing())?;
    match ledger.vault_erased(*config.keys.vault()).await? {
        Some(height) if now.is_some() => Err(ended(height)),
        _ => Ok(now),
    }
}

/// Pledges the vault's next key on the ledger, unless one is already; nothing where the owner's root is not known.
///
/// # Errors
/// [`ErrorKind::Refused`] if these are not the owner's keys, [`ErrorKind::Unavailable`].
pub async fn pledge(
    ledger: &LedgerClient,
    keys: &VaultKeys,
    notice: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    let Some(next) = keys.next_key() else { return Ok(()) };
    let vault = *keys.vault();
    let next = next_key_hash(&vault, keys.generation() + 1, next);
    let action = Action::Recovery(RecoveryAction::PledgeKey { vault, next });
    match ledger.carry_out(keys.signing(), action, notice).await {
        Err(error) if error.rejection() == Some(&Rejection::AlreadyPledged) => Ok(()),
        done => done.map(drop),
    }
}

/// Makes sure that the next key is pledged, before a device gets the keys of now.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the vault is not registered, [`ErrorKind::Refused`] if another key than the owner's next one is
/// pledged: these keys were stolen before; [`ErrorKind::Unavailable`].
pub async fn let_device_in(config: &ClientConfig, notice: &(dyn Fn(&str) + Sync)) -> Result<(), Error> {
    let (ledger, keys) = (LedgerClient::new(&config.network, config.keys.signing())?, &config.keys);
    drop(ledger.follow().await);
    if ledger.vault(*keys.vault()).await?.is_none() {
        return Err(Error::new(ErrorKind::NotFound, "the vault is not on the ledger yet")
            .with_hint("`xvault vault register`, or the first `put`, registers it"));
    }
    let desks = Desks::new(ledger, keys.signing());
    desks.follow(&desks.ledger.roster());
    let known = recovery::state(&desks, *keys.vault()).await?.keys;
    let Some(known) = known else { return pledge(&desks.ledger, keys, notice).await };
    let own = keys.next_key().map(|next| next_key_hash(keys.vault(), keys.generation() + 1, next));
    if own == Some(known.next) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "the ledger has another key pledged as the vault's next than yours")
        .with_hint("somebody had the vault's key before: move your records to a new vault"))
}

/// Replaces the keys of `from` by those of `to`, the next generation; then brings all that there is into the home of `to`, and gives
/// the grants again. Done before, it goes on from there. `settle` has what is staged or stored and not anchored anchored first. The
/// home of `from` goes at the end, unless there is such a thing in it still.
///
/// # Errors
/// [`ErrorKind::Refused`] if the ledger does not take it, [`ErrorKind::Unavailable`]; and those of the home folders. Nothing is lost:
/// the same call goes on.
pub async fn rotate(
    from: &ClientConfig,
    to: &ClientConfig,
    settle: bool,
    notice: &(dyn Fn(&str) + Sync),
) -> Result<Rotated, Error> {
    let generation = to.keys.generation();
    let now = generation_of_now(to).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the vault is not on the ledger")
            .with_hint("a key that was never used is replaced by `xvault key new --force`")
    })?;
    if now > generation || now < from.keys.generation() {
        let message = format!("the ledger has generation {now} of the vault's keys");
        return Err(Error::new(ErrorKind::Refused, message).with_hint("`xvault recover` takes it up here"));
    }
    let mut height = None;
    if now < generation {
        if settle && from.home.exists() {
            settle_old(from).await?;
        }
        height = Some(replace_key(from, to, notice).await?);
    }
    let notes = notes_of(from).await?;
    let client = Client::open(to.clone()).await?;
    let restored = restore(&client, notes).await;
    client.close().await;
    let (recovered, renewed) = restored?;
    let kept = !is_done(from).await?;
    if !kept {
        forget(&from.home)?;
    }
    Ok(Rotated { generation, height, recovered, renewed, kept })
}

/// Has all that the old home has yet to do done while its key still counts.
async fn settle_old(from: &ClientConfig) -> Result<(), Error> {
    let client = Client::open(from.clone()).await?;
    let settled = client.settle().await;
    client.close().await;
    settled.map(drop)
}

async fn replace_key(
    from: &ClientConfig,
    to: &ClientConfig,
    notice: &(dyn Fn(&str) + Sync),
) -> Result<Height, Error> {
    let ledger = LedgerClient::new(&to.network, from.keys.signing())?;
    drop(ledger.follow().await);
    if from.keys.generation() == 0 {
        // One that was never pledged, because the vault is older than pledges.
        pledge(&ledger, &from.keys, notice).await?;
    }
    let (id, generation) = (*to.keys.vault(), to.keys.generation());
    let next = to.keys.next_key().ok_or_else(|| {
        Error::new(ErrorKind::Config, "a device's keys cannot begin the next generation")
            .with_hint("rotate where the 24 words are")
    })?;
    let next = next_key_hash(&id, generation + 1, next);
    let action = Action::Recovery(RecoveryAction::Rotate { vault: id, generation, next });
    ledger.carry_out(to.keys.signing(), action, notice).await
}

/// What the old home knows that is nowhere else.
async fn notes_of(from: &ClientConfig) -> Result<Vec<Note>, Error> {
    if !from.home.exists() {
        return Ok(Vec::new());
    }
    let index = crate::client::access::grantee::open_index(from).await?;
    Client::kept_notes(&index).await
}

async fn restore(client: &Client, mut notes: Vec<Note>) -> Result<(Recovered, Renewed), Error> {
    let index: &SharedIndex = &client.ctx.index;
    // What was noted since an attempt before this one is newer.
    let known: BTreeSet<Vec<u8>> = Client::kept_notes(index).await?.into_iter().map(|(key, _)| key).collect();
    notes.retain(|(key, _)| !known.contains(key));
    index.with(move |index| index.note(&notes)).await?;
    let recovered = client.recover(|_| {}).await?;
    Ok((recovered, client.renew_grants().await?))
}

/// Whether nothing in the old home was acknowledged and not anchored.
async fn is_done(from: &ClientConfig) -> Result<bool, Error> {
    if !from.home.exists() {
        return Ok(true);
    }
    let index = crate::client::access::grantee::open_index(from).await?;
    let staged = index.with(|index| index.staged()).await?;
    Ok(staged.is_empty() && index.with(|index| index.pending_anchors()).await?.is_empty())
}

/// The old home's index opens with keys that a thief may have.
fn forget(home: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let kind = ErrorKind::of_io(&error, ErrorKind::Config);
            Err(Error::new(kind, format!("cannot remove {}", home.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}
