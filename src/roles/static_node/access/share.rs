//! This node's shares of vaults' keys, as the ledger brings them into effect and ends them.

use std::sync::atomic::Ordering;

use super::{AccessDesk, Unanswered};
use crate::crypto::access::SealPublic;
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, Sharing};
use crate::message::access::DealingPackage;
use crate::message::access::package::commitments_hash;
use crate::store::access::{AccessView, PackageKind};
use crate::store::chain::View;
use crate::types::{ShareIndex, VaultId};

impl AccessDesk {
    /// Takes this node's share of a vault's key, if its package is here or if it was handed to it; and erases those of before.
    /// Whether nothing is left to do.
    pub(super) fn take_share(&self, view: &View, vault: &VaultId) -> Result<bool, Unanswered> {
        let Some(access) = ACCESS.get(view, vault)? else { return Ok(true) };
        if query::is_vault_erased(view, vault)? {
            return Ok(true);
        }
        let (sharing, store) = (access.sharing, self.0.store.view()?);
        let of = (sharing.dealing, sharing.epoch);
        if store.has_share(vault, of)? {
            self.erased(self.0.store.drop_shares(vault, of)?);
            return Ok(true);
        }
        if let Some(from) = sharing.epoch.checked_sub(1)
            && store.candidate(vault, (sharing.dealing, from), &sharing.commitments)?.is_some()
        {
            let Some(audit) = self.audit_key(&store, vault, &sharing)? else { return Ok(false) };
            self.erased(self.0.store.promote(vault, of, &sharing.commitments, &audit)?);
            self.0.stirred.store(true, Ordering::Release);
            return Ok(true);
        }
        let roster = query::roster(view, &sharing.roster)?;
        let place = roster.and_then(|roster| roster.committee().position(&self.0.key.public()));
        let Some((at, place)) = place.and_then(|at| Some((at, ShareIndex::at(at)?))) else {
            // What this node has is of former sharings.
            self.erased(self.0.store.drop_shares(vault, of)?);
            return Ok(true);
        };
        let Some(bytes) = store.package(vault, &sharing.package, PackageKind::Dealing)? else {
            return Ok(false);
        };
        let Ok(package) = DealingPackage::decode_bounded(&bytes) else { return Ok(false) };
        if commitments_hash(&package.commitments) == sharing.commitments {
            self.take_dealt(vault, of, &package, (at, place))?;
        }
        // Otherwise it was handed on since, and the other task takes the share.
        self.erased(self.0.store.drop_shares(vault, of)?);
        Ok(true)
    }

    fn take_dealt(
        &self,
        vault: &VaultId,
        of: (u32, u32),
        package: &DealingPackage,
        (at, place): (usize, ShareIndex),
    ) -> Result<(), Unanswered> {
        match self.open_share(package, at, place) {
            Ok(share) => {
                self.0.store.take_share(vault, of, &share, &package.commitments, &package.audit)?;
                self.erased(true);
                // How many keys this node is without was counted before.
                self.0.stirred.store(true, Ordering::Release);
                Ok(())
            }
            // The owner dealt it wrong, and has no use of this node until it deals anew.
            Err(Unanswered::Refused(refusal)) => {
                tracing::warn!(vault = %vault.short(), %refusal, "the share of a vault's key is of no use");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What entries of a vault's log are sealed to, from a former share or from the owner's dealing; none if neither is here.
    pub(super) fn audit_key(
        &self,
        store: &AccessView,
        vault: &VaultId,
        sharing: &Sharing,
    ) -> Result<Option<SealPublic>, Unanswered> {
        if let Some(audit) = store.audit_key(vault)? {
            return Ok(Some(audit));
        }
        let bytes = store.package(vault, &sharing.package, PackageKind::Dealing)?;
        let package = bytes.and_then(|bytes| DealingPackage::decode_bounded(&bytes).ok());
        Ok(package.map(|package| package.audit))
    }
}
