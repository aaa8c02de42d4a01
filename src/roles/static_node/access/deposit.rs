//! Packages that owners and writers bring before the ledger names them. One that is wrong is not kept, so that a quorum's word
//! that it has a package says that it is sound.

use super::handoff::FORMER_KEY_LIFE;
use super::{AccessDesk, RETRY_AFTER_MS, Unanswered, kind_of, require_owner};
use crate::crypto::access::{KeyShare, Purpose, Sharing};
use crate::ledger::query;
use crate::message::access::desk::{DeskAnswer, SignedSealKey, body_hash};
use crate::message::access::{BatchPackage, DealingPackage, DepositKind};
use crate::message::{Refusal, RefusalCode, Violation};
use crate::store::access::{HeldSealKey, batch_hash};
use crate::store::chain::View;
use crate::types::limits::{MAX_GRANT_BODY_LEN, MAX_VAULT_PACKAGE_BYTES, MAX_VAULT_PACKAGES};
use crate::types::{Hash, PublicKey, ShareIndex, VaultId};

impl AccessDesk {
    /// Checks a package and keeps it.
    pub(super) fn deposit(
        &self,
        view: &View,
        from: &PublicKey,
        vault: &VaultId,
        kind: DepositKind,
        bytes: &[u8],
    ) -> Result<DeskAnswer, Unanswered> {
        if query::is_vault_erased(view, vault)? {
            return Err(Refusal::new(RefusalCode::Conflict, "the vault was erased").into());
        }
        let hash = match kind {
            DepositKind::Dealing => {
                require_owner(view, from, vault)?;
                let package = DealingPackage::decode_bounded(bytes)?;
                require(package.vault == *vault && package.network == self.0.network)?;
                self.own_share(view, &package)?;
                package.hash()
            }
            DepositKind::Batch => {
                if !query::may_write(view, vault, from)? {
                    // It may have come in a moment ago.
                    let what = "the ledger does not let this key write to the vault here yet";
                    return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
                }
                self.checked_batch(vault, bytes)?
            }
            DepositKind::GrantBody => {
                require_owner(view, from, vault)?;
                if bytes.len() > MAX_GRANT_BODY_LEN {
                    return Err(Violation::TooLong.into());
                }
                body_hash(bytes)
            }
        };
        let (count, held) = self.0.store.view()?.packages_of(vault)?;
        if count >= MAX_VAULT_PACKAGES || held + bytes.len() > MAX_VAULT_PACKAGE_BYTES {
            let what = "the vault has as many packages here as are kept";
            return Err(Refusal::new(RefusalCode::Full, what).into());
        }
        self.0.store.deposit(vault, &hash, kind_of(kind), bytes, self.0.clock.now())?;
        Ok(self.ack(&hash.0))
    }

    /// This node's share of a package for the static nodes of now, opened and checked.
    pub(super) fn own_share(&self, view: &View, package: &DealingPackage) -> Result<KeyShare, Unanswered> {
        let roster = query::next_roster(view)?;
        let committee = roster.committee();
        let sharing = Sharing::among(committee);
        let fits = package.commitments.threshold() == sharing.threshold()
            && package.shares.len() == sharing.members();
        let place = committee.position(&self.0.key.public());
        let Some((at, place)) = place.and_then(|at| Some((at, ShareIndex::at(at)?))).filter(|_| fits) else {
            let what = "the shares are not dealt for the static nodes of now";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        };
        self.require_lasting(package, at)?;
        self.open_share(package, at, place)
    }

    /// Refuses a package whose share could outlive the key that it is sealed to, before the ledger names it.
    fn require_lasting(&self, package: &DealingPackage, at: usize) -> Result<(), Unanswered> {
        let sealed = package.shares.get(at).ok_or(Violation::OutOfBounds)?;
        let (keys, now) = (self.own_keys(), self.0.clock.now());
        let is_old = |held: &HeldSealKey| {
            sealed.to == SignedSealKey::hash_of(held.key.public())
                && held.replaced.is_some_and(|at| now.since(at) >= FORMER_KEY_LIFE / 2)
        };
        if keys.iter().any(is_old) {
            let what = "the share is sealed to a former key of this static node: ask for the one of now";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        }
        Ok(())
    }

    /// The share at a place, opened and checked.
    pub(super) fn open_share(
        &self,
        package: &DealingPackage,
        at: usize,
        place: ShareIndex,
    ) -> Result<KeyShare, Unanswered> {
        let sealed = package.shares.get(at).ok_or(Violation::OutOfBounds)?;
        let keys = self.own_keys();
        let is_it = |held: &&HeldSealKey| sealed.to == SignedSealKey::hash_of(held.key.public());
        let Some(held) = keys.iter().find(is_it) else {
            let what = "the share is sealed to another key than this static node has now";
            return Err(Refusal::busy(what, RETRY_AFTER_MS).into());
        };
        let context = DealingPackage::share_context(&package.commitments, place);
        let opened = held.key.open(Purpose::Share, &context, &sealed.sealed);
        let share = opened.ok().and_then(|bytes| KeyShare::from_slice(&bytes).ok());
        let share = share.ok_or(Violation::WrongShare)?;
        if share.index() != place || package.commitments.verify(&share).is_err() {
            return Err(Violation::WrongShare.into());
        }
        Ok(share)
    }

    fn checked_batch(&self, vault: &VaultId, bytes: &[u8]) -> Result<Hash, Unanswered> {
        let package = BatchPackage::decode_bounded(bytes)?;
        require(package.vault == *vault && package.is_whole() && !package.entries.is_empty())?;
        let store = self.0.store.view()?;
        for entry in &package.entries {
            let known = store.entry(vault, &entry.record, &entry.version)?;
            let differs = known
                .is_some_and(|known| (known.dek_commit, known.header) != (entry.dek_commit, entry.header));
            if differs {
                let what = "an entry says something else of a version than one before";
                return Err(Refusal::new(RefusalCode::Conflict, what).into());
            }
        }
        Ok(batch_hash(&package.batch()))
    }
}

fn require(holds: bool) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::OutOfBounds) }
}
