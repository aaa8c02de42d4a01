//! What a guardian does: keeps its share, stands behind a request once it knows who asks, and releases its part when the
//! ledger says that it is due.

use super::{desks, ledger_time, refuse, state};
use crate::client::access::desk::Desks;
use crate::client::access::grantee::open_index;
use crate::client::context::random;
use crate::client::{ClientConfig, Error, ErrorKind};
use crate::crypto::access::SealKey;
use crate::crypto::sign::KeyPair;
use crate::ledger::recovery::{Progress, RecoveryState};
use crate::message::access::desk::DeskRequest;
use crate::message::access::{
    Guardian, GuardianSet, GuardianShare, RecoveryAction, RecoveryRequest, Release,
};
use crate::message::{Action, Canonical as _, Rejection};
use crate::types::{Height, VaultId};

/// Shares that a home keeps, by vault.
const SHARES: &[u8] = b"guardian/";

/// How a share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is of the vault's guardians of now.
    Current,
    /// The owner named others since: it brings nothing back.
    Replaced,
    /// The ledger has no such guardians.
    Unknown,
}

/// A share that this home keeps.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// The share.
    pub share: GuardianShare,
    /// How it stands.
    pub standing: Standing,
    /// What the ledger has of the vault.
    pub state: RecoveryState,
}

/// Keeps a share in this home, once it is known to be sealed to it and to be what the ledger says of it.
///
/// # Errors
/// [`ErrorKind::Refused`] if it is for other keys, of an old set, or not what the ledger says; [`ErrorKind::Unavailable`].
pub async fn accept(config: &ClientConfig, share: &GuardianShare) -> Result<(), Error> {
    let (key, seal) = keys_of(config, share)?;
    if share.network != config.network.id {
        return Err(refuse("the share is of another network"));
    }
    let desks = desks(&config.network, &key).await?;
    let found = state(&desks, share.vault).await?;
    match standing(&found, share) {
        Standing::Current => {}
        Standing::Replaced => return Err(replaced()),
        Standing::Unknown => {
            return Err(refuse("the ledger does not name this share's guardians")
                .with_hint("ask the vault's owner whether `xvault key split` has ended well"));
        }
    }
    share.open(&seal).map_err(|wrong| {
        let what = "the share is not sealed to this home, or was changed: its part is not the one that the ledger names";
        Error::new(ErrorKind::Corrupt, what).caused_by(wrong)
    })?;
    let notes = [([SHARES, &share.vault.0].concat(), share.encode())];
    Ok(open_index(config).await?.with(move |index| index.note(&notes)).await?)
}

/// The shares that this home keeps.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Locked`] if the home cannot be used, [`ErrorKind::Unavailable`].
pub async fn guarded(config: &ClientConfig) -> Result<Vec<Guarded>, Error> {
    let notes = open_index(config).await?.with(|index| index.notes(SHARES)).await?;
    let mut found = Vec::new();
    for (_, value) in notes {
        let Ok(share) = GuardianShare::decode(&value) else { continue };
        let desks = desks(&config.network, config.keys.signing()).await?;
        let state = state(&desks, share.vault).await?;
        found.push(Guarded { standing: standing(&state, &share), share, state });
    }
    Ok(found)
}

/// Stands behind a request. Who calls this has made sure who asks; the ledger shows it to the owner from then on. Done before,
/// it does nothing.
///
/// # Errors
/// [`ErrorKind::Refused`] if the request is not good, the share is of an old set, or the owner objected;
/// [`ErrorKind::NotFound`] if this home has no share of the vault; [`ErrorKind::Unavailable`].
pub async fn approve(
    config: &ClientConfig,
    request: &RecoveryRequest,
    notice: &(dyn Fn(&str) + Sync),
) -> Result<Option<Height>, Error> {
    let (share, key, _) = held(config, request).await?;
    let desks = desks(&config.network, &key).await?;
    current_set(&desks, &share).await?;
    let (vault, set) = (share.vault, share.set);
    let action = Action::Recovery(RecoveryAction::Approve { vault, set, request: request.id() });
    match desks.ledger.carry_out(&key, action, notice).await {
        Err(error) if error.rejection() == Some(&Rejection::AlreadyApproved) => Ok(None),
        settled => settled.map(Some),
    }
}

/// Seals this home's part to who asked, and has it kept for them by the static nodes, if the ledger says that it is due.
///
/// # Errors
/// [`ErrorKind::Unavailable`] while it is not due yet, [`ErrorKind::Refused`] if the owner objected or the share is of an old
/// set, [`ErrorKind::NotFound`].
pub async fn release(config: &ClientConfig, request: &RecoveryRequest) -> Result<(), Error> {
    let (share, key, seal) = held(config, request).await?;
    let desks = desks(&config.network, &key).await?;
    let (set, state) = current_set(&desks, &share).await?;
    let id = request.id();
    let row = state.requests.iter().find(|row| row.request == id);
    let row = row.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "no guardian has approved this request yet")
            .with_hint("`xvault guardian approve` does, once you know who asks")
    })?;
    must_be_due(row.progress(&set, ledger_time(&desks).await?))?;
    let part = share.open(&seal).map_err(|wrong| {
        Error::new(ErrorKind::Corrupt, "the share that this home keeps is damaged").caused_by(wrong)
    })?;
    let release = Release::make(request, set.number, &part, &key, &random()?);
    deposit(&desks, share.vault, request, release).await
}

/// Has the static nodes keep what a guardian releases.
pub(super) async fn deposit(
    desks: &Desks,
    vault: VaultId,
    request: &RecoveryRequest,
    release: Release,
) -> Result<(), Error> {
    let hash = release.hash();
    let said = DeskRequest::Release { vault, request: request.id(), release };
    desks.have_kept(&desks.ledger.roster(), &said, &hash.0).await.map(drop)
}

/// The same for a test of what a faulty guardian does: any release goes to the desks as it is.
///
/// # Errors
/// [`ErrorKind::Unavailable`].
#[cfg(feature = "testing")]
pub async fn deposit_as_is(
    config: &ClientConfig,
    package: u32,
    request: &RecoveryRequest,
    release: Release,
) -> Result<(), Error> {
    let (key, _) = config.keys.access().grantee(package);
    deposit(&desks(&config.network, &key).await?, request.vault, request, release).await
}

fn must_be_due(progress: Progress) -> Result<(), Error> {
    let not_yet =
        |message: String| Err(Error::new(ErrorKind::Unavailable, message).with_hint("try again then"));
    match progress {
        Progress::Due => Ok(()),
        Progress::Vetoed => Err(refuse("the vault's owner has objected to this request")
            .with_hint("ask the owner; whoever made the request may be somebody else")),
        Progress::Approving { have, need } => {
            not_yet(format!("{have} of the {need} guardians that it takes have approved the request"))
        }
        Progress::Waiting { until } => {
            let seconds = until.unix_micros() / 1_000_000;
            let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX));
            let time = time.map_or_else(|_| seconds.to_string(), |time| time.to_string());
            not_yet(format!("the vault's owner can object until {time}"))
        }
    }
}

/// The keys that a share is for, if they are of this home.
fn keys_of(config: &ClientConfig, share: &GuardianShare) -> Result<(KeyPair, SealKey), Error> {
    config.keys.access().grantee_with(share.package, &share.key).ok_or_else(|| {
        refuse("the share is not for this home's keys")
            .with_hint("use the home that made the key package, or give it to whom it is for")
    })
}

/// This home's share of the vault of a request that is good.
async fn held(
    config: &ClientConfig,
    request: &RecoveryRequest,
) -> Result<(GuardianShare, KeyPair, SealKey), Error> {
    if request.network != config.network.id {
        return Err(refuse("the request is for another network"));
    }
    request.verify().map_err(|wrong| {
        Error::new(ErrorKind::Corrupt, "the request's signature is not good").caused_by(wrong)
    })?;
    let key = [SHARES, &request.vault.0].concat();
    let notes = open_index(config).await?.with(move |index| index.notes(&key)).await?;
    let share = notes.first().and_then(|(_, value)| GuardianShare::decode(value).ok()).ok_or_else(|| {
        let message = format!("this home has no share of vault {}", request.vault.short());
        Error::new(ErrorKind::NotFound, message).with_hint("`xvault guardian ls` lists those that it has")
    })?;
    let (key, seal) = keys_of(config, &share)?;
    Ok((share, key, seal))
}

/// The vault's guardians, if the share is of them.
async fn current_set(desks: &Desks, share: &GuardianShare) -> Result<(GuardianSet, RecoveryState), Error> {
    let found = state(desks, share.vault).await?;
    match (standing(&found, share), &found.guardians) {
        (Standing::Current, Some(known)) => Ok((known.set.clone(), found)),
        (Standing::Replaced, _) => Err(replaced()),
        _ => Err(refuse("the ledger does not name this share's guardians")),
    }
}

fn replaced() -> Error {
    refuse("the share is of an old set: the vault's owner has named guardians anew")
        .with_hint("ask the owner for the new share")
}

fn standing(state: &RecoveryState, share: &GuardianShare) -> Standing {
    let Some(known) = &state.guardians else { return Standing::Unknown };
    let (set, own) = (&known.set, Guardian { key: share.key, part: share.part });
    let is_it = (set.number, set.threshold, set.commitment) == (share.set, share.threshold, share.commitment)
        && set.at(share.place) == Some(&own)
        && set.guardians.len() == usize::from(share.count);
    match share.set.cmp(&set.number) {
        std::cmp::Ordering::Less => Standing::Replaced,
        std::cmp::Ordering::Equal if is_it => Standing::Current,
        _ => Standing::Unknown,
    }
}
