//! What the ledger names and is not here is fetched from the other static nodes, which are asked until one has it.

use super::carry::is_batch;
use super::{Work, in_turn};
use crate::client::ledger::roster_peers;
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, BATCHES};
use crate::message::Canonical as _;
use crate::message::access::desk::{DeskAnswer, DeskRequest, body_hash};
use crate::message::access::{DealingPackage, DepositKind};
use crate::roles::static_node::access::Unanswered;
use crate::store::access::{PackageKind, batch_hash};
use crate::types::{Hash, PublicKey, VaultId};

/// So often the body of a grant is asked for that no other static node has.
const BODY_TRIES: u32 = 30;
/// Batches that are fetched at a time.
const FETCH_AT_ONCE: usize = 16;

impl Work {
    /// Asks the others for what the ledger names and is not here.
    pub(super) async fn fetch(&mut self) -> Result<(), Unanswered> {
        let missing = self.desk.0.store.view()?.missing(FETCH_AT_ONCE)?;
        if missing.is_empty() && self.wanted.is_empty() {
            return Ok(());
        }
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        self.peers.follow(&roster_peers(&roster));
        let own = self.desk.0.key.public();
        let others: Vec<PublicKey> =
            roster.committee().members().iter().copied().filter(|key| *key != own).collect();
        for (vault, number) in missing {
            let Some(row) = BATCHES.get(&view, &(vault, number))? else { continue };
            let hash = batch_hash(&row.batch);
            let Some(bytes) =
                self.ask(&others, vault, hash, DepositKind::Batch, |bytes| is_batch(bytes, &row.batch)).await
            else {
                continue;
            };
            self.on_disk(move |desk| desk.apply_batch(&desk.0.chain.view()?, &vault, number, &bytes)).await?;
        }
        for vault in self.wanted.clone() {
            let Some(access) = ACCESS.get(&view, &vault)? else { continue };
            let hash = access.sharing.package;
            let is_it =
                |bytes: &[u8]| DealingPackage::decode_bounded(bytes).is_ok_and(|found| found.hash() == hash);
            let Some(bytes) = self.ask(&others, vault, hash, DepositKind::Dealing, is_it).await else {
                continue;
            };
            // One that is of no use to this node is not asked for again.
            self.on_disk(move |desk| desk.keep_dealing(&vault, &hash, &bytes)).await?;
            self.wanted.remove(&vault);
        }
        Ok(())
    }

    /// Asks the others for bodies of grants that were given before this node was one of them: their grantees ask for them again.
    pub(super) async fn fetch_bodies(&mut self) -> Result<(), Unanswered> {
        let view = self.desk.0.chain.view()?;
        let (roster, own) = (query::next_roster(&view)?, self.desk.0.key.public());
        // Who does not vote is told nothing.
        if self.bodies.is_empty() || !roster.committee().contains(&own) {
            return Ok(());
        }
        self.peers.follow(&roster_peers(&roster));
        let others: Vec<PublicKey> =
            roster.committee().members().iter().copied().filter(|key| *key != own).collect();
        let some: Vec<_> = self.bodies.keys().take(FETCH_AT_ONCE).copied().collect();
        for (vault, hash) in some {
            let is_it = |bytes: &[u8]| body_hash(bytes) == hash;
            let Some(bytes) = self.ask(&others, vault, hash, DepositKind::GrantBody, is_it).await else {
                let tries = self.bodies.remove(&(vault, hash)).unwrap_or_default() + 1;
                if tries < BODY_TRIES {
                    self.bodies.insert((vault, hash), tries);
                }
                continue;
            };
            let desk = self.desk.clone();
            let kind = PackageKind::GrantBody;
            let keep = move || Ok(desk.0.store.deposit(&vault, &hash, kind, &bytes, desk.0.clock.now())?);
            in_turn(&self.disk, keep).await?;
            self.bodies.remove(&(vault, hash));
        }
        Ok(())
    }

    /// The first answer that is what was asked for.
    async fn ask(
        &self,
        others: &[PublicKey],
        vault: VaultId,
        hash: Hash,
        kind: DepositKind,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let question = DeskRequest::Package { vault, hash, kind }.encode();
        for key in others {
            let Ok(answer) = self.peers.access(key, question.clone()).await else { continue };
            if let Ok(DeskAnswer::Package(Some(bytes))) = DeskAnswer::decode(&answer)
                && is_it(&bytes)
            {
                return Some(bytes);
            }
        }
        None
    }
}
