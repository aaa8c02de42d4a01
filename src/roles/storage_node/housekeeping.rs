//! What a storage node frees by itself: segments that the ledger released, and shards that no anchor ever named.
//!
//! # Releases
//! Each is a row that came with its block ([`LightChain`](crate::store::chain::light::LightChain)). After a time of grace,
//! and when the row is durable, the segment is freed, and only when that is durable the row goes. If we crash in between, it is freed once more, which
//! does nothing. Nobody stores the segment anew meanwhile: while there is a row the [`Gate`](super::gate::Gate) refuses it.
//!
//! # Unanchored shards
//! A slow walk over all shards frees those whose segment their vault does not have, a long time after they were stored. All
//! times are the ledger's; while the state is not fresh nothing expires.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::watch;

use crate::message::{Response, ShardRef};
use crate::roles::follower::{Ledger, Progress};
use crate::roles::storage_node::writer;
use crate::runtime::Clock;
use crate::store::chain::ChainError;
use crate::store::chain::light::VaultSegment;
use crate::store::{ShardReader, StoreError};
use crate::types::limits::HOUSEKEEPING_BATCH;
use crate::types::{SegmentId, Timestamp, VaultId};

/// Between two steps of the walk: a million shards take an hour.
const STEP_REST: Duration = Duration::from_secs(1);
/// The longest rest between two walks.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// The rest after a failure.
const FAILURE_REST: Duration = Duration::from_secs(10);
/// The shortest rest between two walks.
const SHORTEST_REST: Duration = Duration::from_millis(500);

/// How long a node keeps what the ledger does not want kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lives {
    pub(super) release_grace: Duration,
    pub(super) unanchored: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a worker thread panicked")]
    Panicked,
    #[error("the writer does not free anything now: {0}")]
    Refused(String),
}

/// Frees what is to be freed.
#[derive(Debug, Clone)]
pub(super) struct Housekeeping {
    pub(super) ledger: Ledger,
    pub(super) reader: ShardReader,
    pub(super) writer: writer::Handle,
    pub(super) clock: Clock,
    pub(super) lives: Lives,
}

fn before(time: Timestamp, span: Duration) -> Timestamp {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_unix_micros(time.unix_micros().saturating_sub(micros))
}

impl Housekeeping {
    /// Carries out releases, with each block those that are due. Ends with the follower, or when it is told to.
    pub(super) async fn releases(self, mut stopping: watch::Receiver<bool>) {
        let mut progress = self.ledger.progress();
        loop {
            let tip = Progress::clone(&progress.borrow_and_update()).tip;
            if let Err(error) = self.release_due(before(tip.time, self.lives.release_grace)).await {
                tracing::warn!(%error, "released segments could not be freed; it is tried again");
                if rested(&mut stopping, FAILURE_REST).await.is_break() {
                    return;
                }
                continue;
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                _ = stopping.changed() => return,
            }
        }
    }

    async fn release_due(&self, until: Timestamp) -> Result<(), Failed> {
        loop {
            let ledger = self.ledger.clone();
            let due = blocking(move || due(&ledger, until)).await?;
            let Due { free, done } = due;
            if done.is_empty() {
                return Ok(());
            }
            self.free(free).await?;
            // If we crash here they are freed once more, which does nothing.
            let ledger = self.ledger.clone();
            blocking(move || Ok(ledger.chain().forget_releases(&done)?)).await?;
        }
    }

    async fn free(&self, segments: BTreeMap<VaultId, Vec<SegmentId>>) -> Result<(), Failed> {
        for (vault, segments) in segments {
            match self.writer.release(vault, segments).await {
                Response::Released { shards: 0, .. } => {}
                Response::Released { shards, bytes } => {
                    tracing::info!(vault = %vault.short(), shards, bytes, "freed what the ledger does not have");
                }
                Response::Refusal(refusal) => return Err(Failed::Refused(refusal.message)),
                _ => return Err(Failed::Refused("it answers something else".to_owned())),
            }
        }
        Ok(())
    }

    /// Looks for shards without an anchor, until it is told to end.
    pub(super) async fn expiry(self, mut stopping: watch::Receiver<bool>) {
        let rest = (self.lives.unanchored / 64).clamp(SHORTEST_REST, LONGEST_REST);
        let mut after = None;
        loop {
            let wait = match self.expire_some(after).await {
                Ok(Some(last)) => {
                    after = Some(last);
                    STEP_REST
                }
                Ok(None) => {
                    after = None;
                    rest
                }
                Err(error) => {
                    tracing::warn!(%error, "looking for shards without an anchor failed; it is tried again");
                    FAILURE_REST
                }
            };
            if rested(&mut stopping, wait).await.is_break() {
                return;
            }
        }
    }

    /// One step of the walk; the last shard that was looked at, or none if the walk is over.
    async fn expire_some(
        &self,
        after: Option<(VaultId, ShardRef)>,
    ) -> Result<Option<(VaultId, ShardRef)>, Failed> {
        if !self.ledger.is_fresh(self.clock.now()) {
            return Ok(None);
        }
        let (this, tip) = (self.clone(), self.ledger.tip().time);
        let step = blocking(move || this.expired(after, before(tip, this.lives.unanchored), tip)).await?;
        self.free(step.free).await?;
        Ok(step.last)
    }

    /// Of the next shards the segments that expired: every shard here was stored before a time, and their vault does not
    /// have them.
    fn expired(
        &self,
        after: Option<(VaultId, ShardRef)>,
        stored_before: Timestamp,
        now: Timestamp,
    ) -> Result<Step, Failed> {
        let view = self.ledger.view()?;
        let mut step = Step::default();
        // Those whose time was not noted are as old as the notes.
        let undated = self.ledger.chain().dated_since(now)?;
        for (vault, shard) in self.reader.walk(after, HOUSEKEEPING_BATCH)? {
            step.last = Some((vault, shard));
            if view.is_anchored(&vault, &shard.segment)? {
                continue;
            }
            let stored_at = match self.reader.stored_at(&vault, &shard.segment) {
                Ok(stored_at) => stored_at,
                // It is what the scrub looks after.
                Err(StoreError::Corrupt) => continue,
                Err(error) => return Err(error.into()),
            };
            let dated = |at: Timestamp| if at == Timestamp::ZERO { undated } else { at };
            // A node may hold several shards of a segment: the youngest counts.
            if stored_at.into_iter().map(dated).all(|at| at <= stored_before) {
                step.free.entry(vault).or_default().push(shard.segment);
            }
        }
        Ok(step)
    }
}

/// What a step of the walk found.
#[derive(Debug, Default)]
struct Step {
    free: BTreeMap<VaultId, Vec<SegmentId>>,
    last: Option<(VaultId, ShardRef)>,
}

/// Releases that are due: what to free for them, and their rows.
struct Due {
    free: BTreeMap<VaultId, Vec<SegmentId>>,
    done: Vec<VaultSegment>,
}

fn due(ledger: &Ledger, until: Timestamp) -> Result<Due, Failed> {
    let view = ledger.view()?;
    let done = view.releases(until, HOUSEKEEPING_BATCH)?;
    if !done.is_empty() {
        ledger.chain().sync()?;
    }
    let mut free: BTreeMap<VaultId, Vec<SegmentId>> = BTreeMap::new();
    // None of them is anchored anew: the block that does that takes the row away.
    for (vault, segment) in &done {
        free.entry(*vault).or_default().push(*segment);
    }
    Ok(Due { free, done })
}

/// Rests, unless it is to end.
async fn rested(stopping: &mut watch::Receiver<bool>, rest: Duration) -> ControlFlow<()> {
    match tokio::time::timeout(rest, stopping.changed()).await {
        Ok(_) => ControlFlow::Break(()),
        Err(_) => ControlFlow::Continue(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Failed::Panicked))
}
