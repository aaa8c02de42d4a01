//! The client's interface to the ledger: what is restored from it, proved by it, and still on its way to it.

use crate::client::ledger::no_ledger;
use crate::client::packer::condition_failed;
use crate::client::staged;
use crate::client::stored;
use crate::client::sync;
use crate::client::{Client, Error, ErrorKind, RecordAddress, Recovered, Settled};
use crate::message::AnchorReceipt;
use crate::store::index::{Condition, Index};
use crate::types::{CollectionName, VersionId};

impl Client {
    /// Restores in the local index whatever the ledger anchors of the vault, under every name, and anchors what nodes hold
    /// that was acknowledged when it was stored and not anchored since. Of what is known already nothing is read again. `progressed` is told how far it is.
    /// Of a vault that was erased as a whole nothing is restored, and that is said.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the network has no ledger; [`ErrorKind::Unavailable`] or [`ErrorKind::Corrupt`] if a
    /// collection's commits cannot be read: what came before is restored.
    pub async fn recover(&self, mut progressed: impl FnMut(Recovered)) -> Result<Recovered, Error> {
        let vault = self.ctx.vault.as_ref().ok_or_else(no_ledger)?;
        // Of an erased vault the packs are freed, which its anchors tell of. Where the ledger does not say, what follows does.
        let erased = vault.ledger.vault_erased(self.ctx.vault_id).await;
        if let Ok(Some(height)) = erased {
            return Ok(Recovered { erased: Some(height), ..Recovered::default() });
        }
        let mut found =
            Recovered::from(sync::all(&self.ctx, vault, |synced| progressed(synced.into())).await?);
        let mut known = sync::ever_anchored(vault).await?;
        let pending = self.ctx.index.with(|index| index.pending_anchors()).await?;
        known.extend(pending.iter().map(|(pack, _)| pack.segment));
        let stored = stored::find(&self.ctx, vault, &known).await?;
        found.stored = stored.iter().map(|pack| pack.changes.changes.len() as u64).sum();
        self.packer.anchor_all(stored).await?;
        Ok(found)
    }

    /// Stores what is staged and anchors what is stored, by this client or others of this home before it.
    ///
    /// # Errors
    /// Those of [`put`](Self::put): what is not done stays where it is.
    pub async fn settle(&self) -> Result<Settled, Error> {
        let stored = self.ctx.index.with(|index| index.pending_anchors()).await?.len() as u64;
        self.packer.resume().await?;
        let staged = staged::finish(&self.ctx, &self.packer).await?;
        staged::sweep(&self.ctx).await?;
        Ok(Settled { staged, stored })
    }

    /// The receipt of a version, the latest if none is named: proof that the ledger anchored it, which is checked with
    /// the genesis alone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Config`] if the network has no ledger; [`ErrorKind::Unavailable`] if the
    /// ledger cannot be asked, or the version is not anchored yet.
    pub async fn receipt(
        &self,
        at: &RecordAddress,
        version: Option<VersionId>,
    ) -> Result<AnchorReceipt, Error> {
        let vault = self.ctx.vault.as_ref().ok_or_else(no_ledger)?;
        let (info, stored) = self.stored(at, version).await?;
        let (address, version) = (at.clone(), info.version);
        let find = move |index: &mut Index| index.anchor_of(&address.collection, &address.name, &version);
        let anchor = self.ctx.index.with(find).await?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("version {version} of {at} is not anchored yet"))
        })?;
        sync::receipt(&self.ctx, vault, anchor, stored.opening(version)).await
    }

    /// Asks the ledger for what other devices wrote to a collection. If it cannot be asked, what is known has to do, and
    /// what is not known may be there all the same: the error says why.
    pub(super) async fn refresh(&self, collection: &CollectionName) -> Option<Error> {
        let vault = self.ctx.vault.as_ref().filter(|_| !self.ctx.is_fresh(collection))?;
        let error = sync::collection(&self.ctx, vault, collection).await.err()?;
        self.ctx.not_fresh(collection);
        self.ctx.notice(&format!("what other devices wrote may be missing: {error}"));
        Some(error)
    }

    /// Refuses a change at once whose condition does not hold. If the ledger cannot be asked, that shows when it is
    /// anchored.
    pub(super) async fn check(&self, at: &RecordAddress, condition: Condition) -> Result<(), Error> {
        if condition == Condition::Any {
            return Ok(());
        }
        if let Some(vault) = &self.ctx.vault
            && let Err(error) = sync::collection(&self.ctx, vault, &at.collection).await
        {
            tracing::debug!(%error, "a condition cannot be checked in advance");
            return Ok(());
        }
        let address = at.clone();
        let latest =
            self.ctx.index.with(move |index| index.latest(&address.collection, &address.name)).await?;
        condition.check(latest.as_ref()).map_err(condition_failed)
    }
}
