//! What the ledger brings into effect at the access desk. Everything here does nothing when it is done again.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::ledger::query;
use crate::ledger::rows::{ACCESS, BATCH_NUMBERS, BATCHES, ERASED, GRANTS, LOG_HEADS, WITHDRAWN};
use crate::message::access::{BatchPackage, EntryBatch, Grant, LogHead, TaggedVersion};
use crate::message::{Action, Block};
use crate::roles::static_node::access::{AccessDesk, Unanswered};
use crate::store::access::{AccessStoreError, PackageKind, batch_hash};
use crate::store::chain::View;
use crate::types::limits::MAX_ERASURE_VERSIONS;
use crate::types::{Hash, Height, RecordTag, Timestamp, VaultId, VersionId};

/// How long a package that the ledger does not name is kept.
const PACKAGE_LIFE: Duration = Duration::from_secs(3_600);

/// What was carried out.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) wanted: BTreeSet<VaultId>,
    pub(super) bodies: BTreeSet<(VaultId, Hash)>,
}

pub(super) fn is_batch(bytes: &[u8], named: &EntryBatch) -> bool {
    BatchPackage::decode_bounded(bytes).is_ok_and(|package| package.batch() == *named)
}

impl AccessDesk {
    /// The same for a simulator, which fetches for itself: vaults of which the owner's dealing is missing.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn carry_out_blocks(&self, anew: bool) -> Result<BTreeSet<VaultId>, String> {
        let mut carried = self.carry_out(anew).map_err(|error| error.to_string())?;
        carried.wanted.append(&mut self.wants());
        Ok(carried.wanted)
    }

    /// The same for a simulator.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fetched_dealing(&self, vault: &VaultId, hash: &Hash, bytes: &[u8]) -> Result<bool, String> {
        self.keep_dealing(vault, hash, bytes).map_err(|error| error.to_string())
    }

    /// Keeps the dealing of a vault's owner, which the ledger names, and takes this node's share of it or what it was handed. Whether
    /// nothing is left to do.
    pub(super) fn keep_dealing(
        &self,
        vault: &VaultId,
        hash: &Hash,
        bytes: &[u8],
    ) -> Result<bool, Unanswered> {
        self.0.store.deposit(vault, hash, PackageKind::Dealing, bytes, self.0.clock.now())?;
        self.take_share(&self.0.chain.view()?, vault)
    }

    /// Carries out the blocks since the last time; `anew` looks at the whole state as well.
    pub(super) fn carry_out(&self, anew: bool) -> Result<Carried, Unanswered> {
        let mut carried = Carried::default();
        let view = self.0.chain.view()?;
        let tip = query::tip(&view)?.record.height;
        let from = self.0.store.view()?.cursor()?;
        let mut next = from.map_or(Height(1), Height::next);
        let mut all = anew || from.is_none();
        while next <= tip && !all {
            match view.block(next)?.map(|bytes| Block::decode_bounded(&bytes)) {
                Some(Ok(block)) => self.carry_out_block(&view, &block, &mut carried)?,
                // A snapshot passed over it.
                _ => all = true,
            }
            next = next.next();
        }
        if all {
            self.reconcile(&view, &mut carried)?;
        }
        if from != Some(tip) {
            self.0.store.reach(tip)?;
        }
        Ok(carried)
    }

    fn carry_out_block(&self, view: &View, block: &Block, carried: &mut Carried) -> Result<(), Unanswered> {
        for signed in &block.transactions {
            if stirs(&signed.transaction().action) {
                self.0.stirred.store(true, Ordering::Release);
            }
            match &signed.transaction().action {
                Action::ShareKey(sharing) if !self.take_share(view, &sharing.vault)? => {
                    carried.wanted.insert(sharing.vault);
                }
                Action::TakeShares(taken) => {
                    for share in &taken.shares {
                        if !self.take_share(view, &share.vault)? {
                            carried.wanted.insert(share.vault);
                        }
                    }
                }
                Action::Grant(grant) => self.want_body(view, grant, carried)?,
                Action::AddEntries(batch) => self.take_batch(view, batch)?,
                Action::Erase { vault, record, version } => {
                    self.erased(self.0.store.erase(vault, record, version)? > 0);
                }
                Action::EraseVersions(erasure) => {
                    self.erased(self.0.store.erase_all(&erasure.vault, &erasure.versions)? > 0);
                }
                Action::Withdraw { vault, version, keep } => {
                    self.erased(self.0.store.withdraw(vault, version, *keep)? > 0);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares with the whole state.
    fn reconcile(&self, view: &View, carried: &mut Carried) -> Result<(), Unanswered> {
        for (key, access) in ACCESS.scan(view, &(), None, usize::MAX)? {
            let Some(vault) = ACCESS.rest(&key).and_then(VaultId::from_slice) else { continue };
            if !self.take_share(view, &vault)? {
                carried.wanted.insert(vault);
            }
            for number in 0..access.batches {
                if let Some(row) = BATCHES.get(view, &(vault, number))? {
                    self.take_batch(view, &row.batch)?;
                }
            }
            for (key, keep) in WITHDRAWN.scan(view, &vault, None, usize::MAX)? {
                let Some(version) = WITHDRAWN.rest(&key).and_then(tagged) else { continue };
                self.erased(self.0.store.withdraw(&vault, &version, keep)? > 0);
            }
            let erased = ERASED.scan(view, &vault, None, usize::MAX)?;
            let erased: Vec<_> =
                erased.iter().filter_map(|(key, _)| ERASED.rest(key).and_then(tagged)).collect();
            for versions in erased.chunks(MAX_ERASURE_VERSIONS) {
                self.erased(self.0.store.erase_all(&vault, versions)? > 0);
            }
            for row in query::grants(view, &vault, None, usize::MAX)? {
                self.want_body(view, &row.grant, carried)?;
            }
        }
        self.0.stirred.store(true, Ordering::Release);
        Ok(())
    }

    /// Secrets were erased: the key of what is at rest is to be renewed.
    pub(in crate::roles::static_node::access) fn erased(&self, any: bool) {
        if any {
            self.0.erased.store(true, Ordering::Release);
        }
    }

    /// Notes that the body of a grant is not here, if the grant stands.
    fn want_body(&self, view: &View, grant: &Grant, carried: &mut Carried) -> Result<(), Unanswered> {
        let row = GRANTS.get(view, &(grant.vault, grant.grant))?;
        let stands = row.is_some_and(|row| row.revoked.is_none() && self.0.clock.now() < grant.expires);
        let store = self.0.store.view()?;
        if stands && store.package(&grant.vault, &grant.body, PackageKind::GrantBody)?.is_none() {
            carried.bodies.insert((grant.vault, grant.body));
        }
        Ok(())
    }

    fn take_batch(&self, view: &View, batch: &EntryBatch) -> Result<(), Unanswered> {
        let Some(number) = BATCH_NUMBERS.get(view, &(batch.vault, batch.batch))? else { return Ok(()) };
        let store = self.0.store.view()?;
        if store.applied(&batch.vault, number)?.is_some() {
            return Ok(());
        }
        match store.package(&batch.vault, &batch_hash(batch), PackageKind::Batch)? {
            Some(bytes) if is_batch(&bytes, batch) => self.apply_batch(view, &batch.vault, number, &bytes),
            _ => Ok(self.0.store.miss_batch(&batch.vault, number)?),
        }
    }

    pub(super) fn apply_batch(
        &self,
        view: &View,
        vault: &VaultId,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), Unanswered> {
        let package = BatchPackage::decode_bounded(bytes)?;
        let open_scopes = |record: &_, version: &_| {
            query::open_scopes(view, vault, record, version).map_err(AccessStoreError::Ledger)
        };
        let applied = self.0.store.apply_batch(number, &package, open_scopes)?;
        if applied.refused > 0 {
            let refused = applied.refused;
            tracing::warn!(vault = %vault.short(), refused, "entries contradict earlier ones and count for nothing");
        }
        Ok(())
    }

    /// The head of the access log, if the ledger has an older one.
    pub(super) fn log_head_to_say(&self) -> Result<Option<LogHead>, Unanswered> {
        let head = self.0.store.view()?.log_head()?;
        let known = LOG_HEADS.get(&self.0.chain.view()?, &self.0.key.public())?;
        Ok(Some(head).filter(|head| head.size > known.map_or(0, |known| known.size)))
    }

    pub(in crate::roles::static_node::access) fn forget_packages(&self) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        let life = u64::try_from(PACKAGE_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(self.0.clock.now().unix_micros().saturating_sub(life));
        self.0.store.forget_packages(before, |vault, hash| {
            let is_dealing = ACCESS.get(&view, vault)?.is_some_and(|access| access.sharing.package == *hash);
            if is_dealing {
                return Ok(true);
            }
            let grants = query::grants(&view, vault, None, usize::MAX)?;
            Ok(grants.iter().any(|row| row.revoked.is_none() && row.grant.body == *hash))
        })?;
        Ok(())
    }
}

/// Record and version at the end of the key of an erased or withdrawn version, after the vault.
fn tagged(rest: &[u8]) -> Option<TaggedVersion> {
    let rest = rest.strip_prefix(rest.first_chunk::<32>()?)?;
    let (record, version) = rest.split_first_chunk::<16>()?;
    Some(TaggedVersion { record: RecordTag(*record), version: VersionId(version.try_into().ok()?) })
}

/// Whether a handoff may follow from an action.
const fn stirs(action: &Action) -> bool {
    matches!(
        action,
        Action::ShareKey(_) | Action::HandOff(_) | Action::TakeShares(_) | Action::RejectHandoff { .. }
    )
}
