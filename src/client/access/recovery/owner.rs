//! What an owner does: cuts its secret up, names the guardians, and objects to a request that is a trick.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{refuse, state};
use crate::client::access::erase::ended;
use crate::client::context::random;
use crate::client::ledger::no_ledger;
use crate::client::{Ack, Client, Error, ErrorKind, vault};
use crate::crypto::seed::Seed;
use crate::crypto::shamir::{commitment, part_hash, split};
use crate::ledger::recovery::{Guardians, Recovery, RecoveryState};
use crate::message::Action;
use crate::message::access::body::MAX_NOTE_LEN;
use crate::message::access::{Guardian, GuardianSet, GuardianShare, KeyPackage, RecoveryAction};
use crate::runtime::wall_time;
use crate::types::limits::{MAX_GUARDIANS, MAX_RECOVERY_DELAY_MICROS};
use crate::types::{Hash, Height, Timestamp};

/// How guardians are to give a secret back.
#[derive(Debug, Clone)]
pub struct SplitTerms {
    /// How many of them it takes.
    pub threshold: usize,
    /// How long the owner has to object, by the ledger's time.
    pub delay: Duration,
    /// What the owner tells them.
    pub note: String,
}

/// A secret that was cut up: what goes to the ledger, and what to each guardian.
#[derive(Debug, Clone)]
pub struct Cut {
    /// For the ledger.
    pub set: GuardianSet,
    /// For the guardians, in the order of their places; with what each calls itself.
    pub shares: Vec<(String, GuardianShare)>,
}

/// A request to recover to which nobody objected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRecovery {
    /// The request.
    pub request: Recovery,
    /// Until when the owner can object.
    pub due: Timestamp,
    /// Whether guardians may have released their parts by now: then an objection may be too late.
    pub is_due: bool,
}

impl Client {
    /// Cuts the secret up for the makers of these key packages. Nothing is on the ledger yet: the shares are to be durable before
    /// [`set_guardians`](Self::set_guardians) ends the set before.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for numbers that make no sense, [`ErrorKind::Refused`] for a package that is not good,
    /// [`ErrorKind::Unavailable`].
    pub async fn cut_for_guardians(
        &self,
        seed: &Seed,
        packages: &[KeyPackage],
        terms: &SplitTerms,
    ) -> Result<Cut, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        if let Some(height) = vault.ledger.vault_erased(*vault.keys.vault()).await? {
            return Err(ended(height));
        }
        check(packages, terms)?;
        let network = vault.ledger.genesis().network;
        packages.iter().try_for_each(|package| check_package(package, &network))?;
        let id = *vault.keys.vault();
        if *seed.vault(0, 0).vault() != id {
            return Err(refuse("the seed is of another vault"));
        }
        let number = self.recovery_state().await?.guardians.map_or(0, |known| known.set.number) + 1;
        let parts = {
            let random = Zeroizing::new(random()?);
            split(seed.entropy(), terms.threshold, packages.len(), &random)
        };
        let commitment = commitment(&id, number, seed.entropy());
        let of =
            |package: &KeyPackage, part| Guardian { key: package.auth, part: part_hash(&id, number, part) };
        let guardians: Vec<Guardian> =
            packages.iter().zip(&parts).map(|(package, part)| of(package, part)).collect();
        let (threshold, count) = (small(terms.threshold), small(packages.len()));
        let mut shares = Vec::with_capacity(parts.len());
        for ((package, part), guardian) in packages.iter().zip(&parts).zip(&guardians) {
            let share = GuardianShare {
                network,
                vault: id,
                set: number,
                threshold,
                count,
                place: part.place(),
                key: package.auth,
                package: package.number,
                part: guardian.part,
                commitment,
                note: terms.note.clone(),
                sealed: Vec::new(),
            };
            shares.push((package.name.clone(), share.seal(&package.seal, part, &random()?)));
        }
        let delay_micros = u64::try_from(terms.delay.as_micros()).unwrap_or(u64::MAX);
        let set = GuardianSet { vault: id, number, threshold, delay_micros, commitment, guardians };
        Ok(Cut { set, shares })
    }

    /// Names the guardians on the ledger. Those before are none any more, and requests to them end.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`], also if another device named some since; [`ErrorKind::Unavailable`].
    pub async fn set_guardians(&self, cut: &Cut) -> Result<Height, Error> {
        vault::register(&self.ctx, Ack::Anchored).await?;
        self.carry_out_recovery(RecoveryAction::SetGuardians(cut.set.clone())).await
    }

    /// What the ledger has of this vault's guardians, of requests to recover it, and of its keys.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few static nodes say the same.
    pub async fn recovery_state(&self) -> Result<RecoveryState, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        let desks = crate::client::access::desk::Desks::new(vault.ledger.clone(), vault.keys.signing());
        state(&desks, *vault.keys.vault()).await
    }

    /// Requests to recover this vault to which nobody objected: the owner is to see them. None without a ledger.
    ///
    /// # Errors
    /// As [`recovery_state`](Self::recovery_state).
    pub async fn open_recoveries(&self) -> Result<Vec<OpenRecovery>, Error> {
        if self.ctx.vault.is_none() {
            return Ok(Vec::new());
        }
        let state = self.recovery_state().await?;
        let Some(Guardians { set, .. }) = &state.guardians else { return Ok(Vec::new()) };
        let open = state.requests.into_iter().filter(|request| request.vetoed.is_none());
        let now = wall_time();
        let with_due = |request: Recovery| {
            let due = request.due(set);
            let is_due = request.approvals.len() >= usize::from(set.threshold) && due <= now;
            OpenRecovery { request, due, is_due }
        };
        Ok(open.map(with_due).collect())
    }

    /// Objects to a request: no guardian releases anything for it from then on.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`], [`ErrorKind::Unavailable`].
    pub async fn veto(&self, request: Hash) -> Result<Height, Error> {
        let vault = *self.ctx.vault.as_deref().ok_or_else(no_ledger)?.keys.vault();
        self.carry_out_recovery(RecoveryAction::Veto { vault, request }).await
    }

    /// Puts one of these actions on the ledger, with the owner's key.
    pub(in crate::client) async fn carry_out_recovery(
        &self,
        action: RecoveryAction,
    ) -> Result<Height, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        let notice = |text: &str| self.ctx.notice(text);
        vault.ledger.carry_out(vault.keys.signing(), Action::Recovery(action), &notice).await
    }
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

fn check(packages: &[KeyPackage], terms: &SplitTerms) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    let count = packages.len();
    if !(2..=MAX_GUARDIANS).contains(&count) {
        return invalid(format!("a vault has 2 to {MAX_GUARDIANS} guardians, not {count}"));
    }
    if !(2..=count).contains(&terms.threshold) {
        let of = terms.threshold;
        return invalid(format!(
            "{of} of {count} guardians make no sense: 2 at least, since one alone would have the key"
        ));
    }
    let micros = terms.delay.as_micros();
    if micros == 0 || micros > u128::from(MAX_RECOVERY_DELAY_MICROS) {
        let days = MAX_RECOVERY_DELAY_MICROS / 86_400_000_000;
        return invalid(format!("the time to object is at least a microsecond and at most {days} days"));
    }
    if terms.note.len() > MAX_NOTE_LEN || terms.note.chars().any(char::is_control) {
        return invalid(format!("a note has at most {MAX_NOTE_LEN} bytes and no control characters"));
    }
    let mut keys: Vec<_> = packages.iter().map(|package| package.auth).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return invalid("a key package is named twice: each guardian makes one of its own".to_owned());
    }
    Ok(())
}

fn check_package(package: &KeyPackage, network: &crate::types::NetworkId) -> Result<(), Error> {
    let name = &package.name;
    if package.network != *network {
        return Err(refuse(format!("the key package of {name} is for another network")));
    }
    if let Err(wrong) = package.verify() {
        return Err(
            refuse(format!("the signature of the key package of {name} is not good")).caused_by(wrong)
        );
    }
    if package.expires <= wall_time() {
        return Err(refuse(format!("the key package of {name} has expired")).with_hint("ask for a new one"));
    }
    Ok(())
}
