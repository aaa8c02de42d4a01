//! The states that this node holds for those who take them.
//!
//! A held state is a read transaction: blocks go on beside it, but the database reuses no page that was in use when it
//! began. So few are held, none for long, and none that nobody asks for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::query;
use crate::ledger::read::Entry;
use crate::ledger::snapshot::{self, Offer};
use crate::message::block::Header;
use crate::roles::static_node::prove;
use crate::store::chain::{Chain, ChainError, View};
use crate::types::limits::{
    MAX_SNAPSHOTS, SNAPSHOT_IDLE_MICROS, SNAPSHOT_LIFE_BLOCKS, SNAPSHOT_LIFE_MICROS, SNAPSHOT_RENEW_BLOCKS,
};
use crate::types::{Height, NetworkId, Timestamp};

/// A state that is held.
struct Held {
    view: Arc<View>,
    offer: Offer,
    since: Timestamp,
    used: Timestamp,
}

impl Held {
    const fn height(&self) -> Height {
        self.offer.header.record.height
    }

    fn may_stay(&self, now: Timestamp, tip: Height) -> bool {
        let within =
            |since: Timestamp, micros: u64| now.unix_micros().saturating_sub(since.unix_micros()) < micros;
        within(self.since, SNAPSHOT_LIFE_MICROS)
            && within(self.used, SNAPSHOT_IDLE_MICROS)
            && tip.0.saturating_sub(self.height().0) < SNAPSHOT_LIFE_BLOCKS
    }
}

/// The held states, the oldest first: at most [`MAX_SNAPSHOTS`].
pub(crate) struct Snapshots {
    network: NetworkId,
    chain: Chain,
    held: Mutex<Vec<Held>>,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

impl Snapshots {
    pub(crate) const fn new(network: NetworkId, chain: Chain) -> Self {
        Self { network, chain, held: Mutex::new(Vec::new()) }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the states that were held long enough.
    pub(super) fn let_go(&self, now: Timestamp) -> Result<(), ChainError> {
        let mut held = self.held();
        if !held.is_empty() {
            let tip = self.chain.view()?.tip()?.record.height;
            held.retain(|held| held.may_stay(now, tip));
        }
        Ok(())
    }

    /// A state after this block, if there is one: one that is held already, unless it is old and there is room for another.
    pub(super) fn offer(&self, above: Height, now: Timestamp) -> Result<Option<Offer>, ChainError> {
        let view = self.chain.view()?;
        let tip = view.tip()?;
        let height = tip.record.height;
        if height <= above {
            return Ok(None);
        }
        let mut held = self.held();
        held.retain(|held| held.may_stay(now, height));
        let newest = held.last().map(Held::height);
        let is_new = newest.is_some_and(|newest| height.0 - newest.0 < SNAPSHOT_RENEW_BLOCKS);
        if !(is_new && newest > Some(above))
            && held.len() < MAX_SNAPSHOTS
            && let Some(offer) = self.make(&view, &tip)?
        {
            held.push(Held { view: Arc::new(view), offer, since: now, used: now });
        }
        let found = held.last_mut().filter(|held| held.height() > above);
        Ok(found.map(|held| {
            held.used = now;
            held.offer.clone()
        }))
    }

    /// Rows of a state that is held.
    pub(super) fn rows(
        &self,
        height: Height,
        after: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Option<Vec<Entry>>, ChainError> {
        let view = self.held().iter_mut().find(|held| held.height() == height).map(|held| {
            held.used = now;
            Arc::clone(&held.view)
        });
        Ok(view.map(|view| snapshot::rows(&*view, after)).transpose()?)
    }

    /// The offer of the chain's last block, if this node can prove the static nodes of its time.
    fn make(&self, view: &View, tip: &Header) -> Result<Option<Offer>, ChainError> {
        let height = tip.record.height;
        let Some(certificate) = view.certificate(height)? else { return Ok(None) };
        let gap = prove::unproven_changes(view)?.into_iter().find(|change| *change < height);
        if gap.is_some() {
            return Ok(None);
        }
        let next = query::next_roster(view)?;
        let steps = prove::steps(view, &self.network, height)?;
        Ok(Some(Offer { header: *tip, certificate, steps, next }))
    }
}

#[cfg(test)]
mod tests;
