//! The ledger as a follower keeps it: the state after the last block and nothing else, with what a storage node looks up.
//!
//! Block bodies, certificates, the nodes of the log and the places of transactions are dropped: a follower proves nothing
//! to others, static nodes do, and what it drops is all that grows with the ledger's age rather than with what is alive.
//!
//! What blocks release is written in the transaction of the block and stays until whoever frees it says that this is
//! durable: however the two stores are torn by a crash, a release is carried out once at least, and carried out again it
//! does nothing. All of it is a copy of what the static nodes have: a damaged file is removed, and the ledger followed anew.

use std::sync::Arc;

use redb::{Durability, TableDefinition};

use super::{Chain, ChainError, View, failed, write_rows};
use crate::ledger::final_block::{is_of_light_state, shard_news};
use crate::ledger::rows::SEGMENTS;
use crate::ledger::{Changes, Writes};
use crate::message::genesis::Genesis;
use crate::store::db;
use crate::store::disk::Disk;
use crate::types::limits::FOLLOWER_CACHE_BYTES;
use crate::types::{SegmentId, Timestamp, VaultId};

/// The file.
const FILE: &str = "state.redb";

/// vault 32 ‖ segment 32 → time of the block that released it, microseconds.
const RELEASES: TableDefinition<'_, &[u8; 64], u64> = TableDefinition::new("releases");
/// One row: since when this node knows the time at which it stores, microseconds of the ledger's time.
const DATED_SINCE: TableDefinition<'_, (), u64> = TableDefinition::new("dated since");

/// A segment of a vault.
pub type VaultSegment = (VaultId, SegmentId);

/// The state that a follower keeps. Clones share it; one of them, at most, commits.
#[derive(Debug, Clone)]
pub struct LightChain(Chain);

/// The state as it was at one moment.
#[derive(Debug)]
pub struct LightView(View);

impl LightChain {
    /// Opens the state of a genesis, or begins it; begins anew one that is damaged.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn open(disk: &dyn Disk, genesis: &Genesis) -> Result<Self, ChainError> {
        match Self::open_as_it_is(disk, genesis) {
            Err(ChainError::Database { source, .. }) if is_damage(&source) => {
                tracing::warn!(%source, "the copy of the ledger's state is damaged; it is followed anew");
                let removed = disk.remove(FILE).and_then(|()| disk.sync_dir());
                removed.map_err(|error| failed("removing")(redb::Error::Io(error)))?;
                Self::open_as_it_is(disk, genesis)
            }
            opened => opened,
        }
    }

    fn open_as_it_is(disk: &dyn Disk, genesis: &Genesis) -> Result<Self, ChainError> {
        let opening = failed::<redb::Error>("opening");
        let database = db::open_or_create(disk, FILE, FOLLOWER_CACHE_BYTES);
        let chain = Chain(Arc::new(database.map_err(|error| opening(error.into()))?));
        chain.begin(genesis)?;
        let txn = chain.0.begin_write().map_err(failed("opening"))?;
        txn.open_table(RELEASES).map_err(failed("opening"))?;
        txn.open_table(DATED_SINCE).map_err(failed("opening"))?;
        txn.commit().map_err(failed("opening"))?;
        Ok(Self(chain))
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn view(&self) -> Result<LightView, ChainError> {
        self.0.view().map(LightView)
    }

    /// Takes over what the next block changes, and notes what it releases. What is not made durable is so with the next
    /// commit that is; after a crash the state is that of some block before, and what is missing is asked for again.
    ///
    /// # Errors
    /// [`ChainError`]: then it is unknown where the state is until it is opened anew.
    pub fn commit(&self, changes: &Changes, is_durable: bool) -> Result<(), ChainError> {
        let news = shard_news(changes);
        let time = changes.header.record.time.unix_micros();
        let kept = |(key, _): &(&Vec<u8>, &Option<Vec<u8>>)| is_of_light_state(key);
        let writes = changes.writes.iter().filter(kept);
        let writes = writes.map(|(key, value)| (key.clone(), value.clone())).collect::<Writes>();
        let mut txn = self.0.0.begin_write().map_err(failed("committing to"))?;
        if !is_durable {
            txn.set_durability(Durability::None).map_err(failed("committing to"))?;
        }
        write_rows(&txn, &writes)?;
        {
            let mut releases = txn.open_table(RELEASES).map_err(failed("committing to"))?;
            for segment in &news.released {
                releases.insert(&release_key(segment), time).map_err(failed("committing to"))?;
            }
            for segment in &news.anchored {
                releases.remove(&release_key(segment)).map_err(failed("committing to"))?;
            }
        }
        // If we crash here nothing of the block is there, and it is fetched again.
        txn.commit().map_err(failed("committing to"))
    }

    /// Makes all that was taken over durable. Before a release is carried out: else a crash could take the row of a
    /// segment whose shards are gone, the segment be stored anew, and the row come back with its block and free it.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn sync(&self) -> Result<(), ChainError> {
        self.0.sync()
    }

    /// Forgets releases that were carried out, durably: only then may shards of these segments be taken anew, which a
    /// release that came back would free.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn forget_releases(&self, done: &[VaultSegment]) -> Result<(), ChainError> {
        let txn = self.0.0.begin_write().map_err(failed("writing to"))?;
        {
            let mut releases = txn.open_table(RELEASES).map_err(failed("writing to"))?;
            for segment in done {
                releases.remove(&release_key(segment)).map_err(failed("writing to"))?;
            }
        }
        txn.commit().map_err(failed("writing to"))
    }

    /// Since when shards are stored here with their time, which is now if that was never asked before.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn dated_since(&self, now: Timestamp) -> Result<Timestamp, ChainError> {
        let table = self.0.view()?.txn.open_table(DATED_SINCE).map_err(failed("reading"))?;
        if let Some(since) = table.get(()).map_err(failed("reading"))? {
            return Ok(Timestamp::from_unix_micros(since.value()));
        }
        let txn = self.0.0.begin_write().map_err(failed("writing to"))?;
        txn.open_table(DATED_SINCE)
            .map_err(failed("writing to"))?
            .insert((), now.unix_micros())
            .map_err(failed("writing to"))?;
        txn.commit().map_err(failed("writing to"))?;
        Ok(now)
    }
}

fn is_damage(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::Io(error) => matches!(error.kind(), UnexpectedEof | InvalidData),
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        redb::Error::TableTypeMismatch { .. } | redb::Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

/// The key of a release.
fn release_key((vault, segment): &VaultSegment) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(&vault.0);
    key[32..].copy_from_slice(&segment.0);
    key
}

/// What [`release_key`] made.
fn segment_of(key: &[u8; 64]) -> VaultSegment {
    let (mut vault, mut segment) = ([0; 32], [0; 32]);
    vault.copy_from_slice(&key[..32]);
    segment.copy_from_slice(&key[32..]);
    (VaultId(vault), SegmentId(segment))
}

impl LightView {
    /// The ledger's state.
    #[must_use]
    pub const fn state(&self) -> &View {
        &self.0
    }

    /// Whether the vault has the segment.
    ///
    /// # Errors
    /// [`ChainError::Read`].
    pub fn is_anchored(&self, vault: &VaultId, segment: &SegmentId) -> Result<bool, ChainError> {
        Ok(SEGMENTS.contains(&self.0, &(*vault, *segment))?)
    }

    /// Whether the segment was released and that is not carried out yet.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn is_being_released(&self, vault: &VaultId, segment: &SegmentId) -> Result<bool, ChainError> {
        let table = self.0.txn.open_table(RELEASES).map_err(failed("reading"))?;
        let row = table.get(&release_key(&(*vault, *segment))).map_err(failed("reading"))?;
        Ok(row.is_some())
    }

    /// Releases of blocks that are not after a time, at most `limit`.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn releases(&self, until: Timestamp, limit: usize) -> Result<Vec<VaultSegment>, ChainError> {
        let table = self.0.txn.open_table(RELEASES).map_err(failed("reading"))?;
        let mut due = Vec::new();
        for row in table.range::<&[u8; 64]>(..).map_err(failed("reading"))? {
            let (key, time) = row.map_err(failed("reading"))?;
            if time.value() <= until.unix_micros() {
                due.push(segment_of(key.value()));
            }
            if due.len() == limit {
                break;
            }
        }
        Ok(due)
    }
}

#[cfg(test)]
mod tests;
