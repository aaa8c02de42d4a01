//! What the ledger says of requests: whose shards are taken, and what may be freed.
//!
//! The node decides by its own copy of the finalized state. What that copy does not have yet is refused only after it has
//! caught up with what the static nodes have, so that a vault is admitted as soon as its registration is final.

use crate::message::{Refusal, RefusalCode, ShardRef};
use crate::roles::follower::{Behind, Ledger};
use crate::roles::storage_node::disk_refusal;
use crate::runtime::Clock;
use crate::store::chain::ChainError;
use crate::types::{PublicKey, SegmentId, Timestamp};

/// What who is told to come back should wait.
const RETRY_AFTER_MS: u32 = 1_000;
/// A segment that is being freed is free after this at the earliest.
const FREED_AFTER_MS: u32 = 10_000;

/// Decides by the ledger, if the network has one.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    ledger: Option<Ledger>,
    clock: Clock,
}

impl Gate {
    pub(super) const fn new(ledger: Option<Ledger>, clock: Clock) -> Self {
        Self { ledger, clock }
    }

    /// Whether a shard of this key is taken; and the ledger's time at which it is stored, zero where there is no ledger.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn admit(&self, from: &PublicKey, shard: ShardRef) -> Result<Timestamp, Refusal> {
        let Some(ledger) = &self.ledger else { return Ok(Timestamp::ZERO) };
        let is_owner = || ledger.view().and_then(|view| view.is_owner(from)).map_err(|error| broken(&error));
        if !is_owner()? {
            ledger.catch_up().await.map_err(|behind| busy(&behind))?;
            if !is_owner()? {
                return Err(not_admitted(ledger));
            }
        }
        let view = ledger.view().map_err(|error| broken(&error))?;
        // Its shards that are here are about to go: a receipt for one would be a lie.
        if view.is_being_released(from, &shard.segment).map_err(|error| broken(&error))? {
            let what = "the ledger released this segment and its shards are being freed";
            return Err(Refusal::busy(what, FREED_AFTER_MS));
        }
        // The later of the two: a shard is rather kept too long.
        Ok(ledger.tip().time.max(self.clock.now()))
    }

    /// Which of these segments may be freed, and the refusal for the rest.
    ///
    /// # Errors
    /// The refusal, if none may.
    pub(super) async fn releasable(
        &self,
        from: &PublicKey,
        segments: Vec<SegmentId>,
    ) -> Result<(Vec<SegmentId>, Option<Refusal>), Refusal> {
        let Some(ledger) = &self.ledger else { return Ok((segments, None)) };
        let alive = |segments: &[SegmentId]| -> Result<Vec<SegmentId>, Refusal> {
            let view = ledger.view().map_err(|error| broken(&error))?;
            let mut alive = Vec::new();
            for segment in segments {
                let is_alive = view.is_anchored(from, segment).map_err(|error| broken(&error))?;
                alive.extend(is_alive.then_some(*segment));
            }
            Ok(alive)
        };
        let mut kept = alive(&segments)?;
        let mut refusal = None;
        if !kept.is_empty() {
            // The release may be final already, and not be here yet.
            refusal = ledger.catch_up().await.err().map(|behind| busy(&behind));
            kept = alive(&kept)?;
        }
        let free = segments.into_iter().filter(|segment| !kept.contains(segment)).collect();
        if kept.is_empty() {
            return Ok((free, None));
        }
        Ok((free, Some(refusal.unwrap_or_else(|| anchored(&kept)))))
    }
}

fn not_admitted(ledger: &Ledger) -> Refusal {
    let height = ledger.tip().height;
    let what = format!(
        "the ledger has no vault of this key as of block {height}: register the vault, and store when that is final"
    );
    Refusal::new(RefusalCode::NotAdmitted, what)
}

fn anchored(kept: &[SegmentId]) -> Refusal {
    let (count, first) = (kept.len(), kept.first().map(SegmentId::short).unwrap_or_default());
    let what =
        format!("the ledger still has {count} of these segments, {first} first: release them there before");
    Refusal::new(RefusalCode::Anchored, what)
}

fn busy(behind: &Behind) -> Refusal {
    Refusal::busy(format!("the node cannot tell what the ledger says: {behind}"), RETRY_AFTER_MS)
}

fn broken(error: &ChainError) -> Refusal {
    tracing::error!(%error, "the copy of the ledger cannot be read");
    disk_refusal()
}
