//! The index of the volumes: which shard is where. A cache; see [`ShardStore`](super::ShardStore).

use std::sync::{Mutex, PoisonError};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use crate::message::ShardRef;
use crate::store::shards::{Position, StoreError};
use crate::store::volume::{Header, Kind};
use crate::types::{Hash, PublicKey, SegmentId};

/// owner 32 ‖ segment 32 ‖ index 1 → volume u32le ‖ offset u64le ‖ len u64le ‖ root 32.
const SHARDS: TableDefinition<'_, &[u8; 65], &[u8; 52]> = TableDefinition::new("shards");
/// volume → shards alive in it.
const LIVE: TableDefinition<'_, u32, u64> = TableDefinition::new("live");
/// One row: the end of the log that the index knows, and totals.
const STATE: TableDefinition<'_, (), (u32, u64, u64, u64)> = TableDefinition::new("state");

/// Where a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) owner: PublicKey,
    pub(crate) shard: ShardRef,
    pub(crate) root: Hash,
    pub(crate) len: u64,
    pub(crate) volume: u32,
    /// Of the entry's header.
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) const fn new(header: &Header, at: Position) -> Self {
        Self {
            owner: header.owner,
            shard: header.shard,
            root: header.root,
            len: header.len,
            volume: at.volume,
            offset: at.offset,
        }
    }

    /// The shape of the entry.
    pub(crate) const fn header(&self) -> Header {
        Header {
            kind: Kind::Shard,
            owner: self.owner,
            shard: self.shard,
            root: self.root,
            len: self.len,
            durable_to: 0,
        }
    }

    fn key(&self) -> [u8; 65] {
        key(&self.owner, self.shard)
    }

    fn value(&self) -> [u8; 52] {
        let mut value = [0; 52];
        value[..4].copy_from_slice(&self.volume.to_le_bytes());
        value[4..12].copy_from_slice(&self.offset.to_le_bytes());
        value[12..20].copy_from_slice(&self.len.to_le_bytes());
        value[20..].copy_from_slice(self.root.as_bytes());
        value
    }

    fn decode(key: &[u8; 65], value: &[u8; 52]) -> Option<Self> {
        let segment = SegmentId::from_slice(&key[32..64])?;
        Some(Self {
            owner: PublicKey::from_slice(&key[..32])?,
            shard: ShardRef { segment, index: key[64] },
            root: Hash::from_slice(&value[20..])?,
            len: u64::from_le_bytes(value[12..20].try_into().ok()?),
            volume: u32::from_le_bytes(value[..4].try_into().ok()?),
            offset: u64::from_le_bytes(value[4..12].try_into().ok()?),
        })
    }
}

fn key(owner: &PublicKey, shard: ShardRef) -> [u8; 65] {
    let mut key = [0; 65];
    key[..32].copy_from_slice(owner.as_bytes());
    key[32..64].copy_from_slice(shard.segment.as_bytes());
    key[64] = shard.index;
    key
}

/// What the index knows in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) shards: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Index {
    db: Database,
    totals: Mutex<Totals>,
}

fn failed<E: Into<redb::Error>>(error: E) -> StoreError {
    StoreError::disk("the index")(error.into())
}

impl Index {
    /// Takes over a database; the answer is also the end of the log as far as the index knows it.
    pub(crate) fn new(db: Database) -> Result<(Self, Option<Position>), StoreError> {
        let txn = db.begin_write().map_err(failed)?;
        txn.open_table(SHARDS).map_err(failed)?;
        txn.open_table(LIVE).map_err(failed)?;
        let state = txn.open_table(STATE).map_err(failed)?;
        let row = state.get(()).map_err(failed)?.map(|row| row.value());
        drop(state);
        txn.commit().map_err(failed)?;
        let (volume, offset, shards, bytes) = row.unwrap_or_default();
        let end = row.map(|_| Position { volume, offset });
        Ok((Self { db, totals: Mutex::new(Totals { shards, bytes }) }, end))
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self, owner: &PublicKey, shard: ShardRef) -> Result<Option<Place>, StoreError> {
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(SHARDS).map_err(failed)?;
        let key = key(owner, shard);
        let row = table.get(&key).map_err(failed)?;
        Ok(row.and_then(|row| Place::decode(&key, row.value())))
    }

    /// All shards of a segment that the owner has.
    pub(crate) fn places_of(&self, owner: &PublicKey, segment: &SegmentId) -> Result<Vec<Place>, StoreError> {
        let bound = |index| key(owner, ShardRef { segment: *segment, index });
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(SHARDS).map_err(failed)?;
        let mut places = Vec::new();
        for row in table.range::<&[u8; 65]>(&bound(0)..=&bound(u8::MAX)).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            places.extend(Place::decode(key.value(), value.value()));
        }
        Ok(places)
    }

    /// The next shard in the order of keys; the first for `None`.
    pub(crate) fn next_after(
        &self,
        last: Option<(PublicKey, ShardRef)>,
    ) -> Result<Option<Place>, StoreError> {
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(SHARDS).map_err(failed)?;
        let last = last.map(|(owner, shard)| key(&owner, shard));
        let mut rows = match &last {
            Some(last) => {
                table.range::<&[u8; 65]>((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded))
            }
            None => table.range::<&[u8; 65]>(..),
        }
        .map_err(failed)?;
        let Some(row) = rows.next() else { return Ok(None) };
        let (key, value) = row.map_err(failed)?;
        Ok(Place::decode(key.value(), value.value()))
    }

    /// Shards alive in a volume.
    pub(crate) fn live_in(&self, volume: u32) -> Result<u64, StoreError> {
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(LIVE).map_err(failed)?;
        Ok(table.get(volume).map_err(failed)?.map_or(0, |count| count.value()))
    }

    /// Adds shards; the log is known up to `end` then. Durable at the next [`make_durable`](Self::make_durable).
    pub(crate) fn insert(&self, places: &[Place], end: Position) -> Result<(), StoreError> {
        self.change(end, |txn, totals| {
            let mut shards = txn.open_table(SHARDS).map_err(failed)?;
            let mut live = txn.open_table(LIVE).map_err(failed)?;
            for place in places {
                let before = shards.insert(&place.key(), &place.value()).map_err(failed)?;
                let before = before.and_then(|row| Place::decode(&place.key(), row.value()));
                if let Some(before) = before {
                    count(&mut live, before.volume, -1)?;
                    totals.shards -= 1;
                    totals.bytes -= before.len;
                }
                count(&mut live, place.volume, 1)?;
                totals.shards += 1;
                totals.bytes += place.len;
            }
            Ok(())
        })
    }

    /// Forgets shards; the log is known up to `end` then.
    pub(crate) fn remove(&self, places: &[Place], end: Position) -> Result<(), StoreError> {
        self.change(end, |txn, totals| {
            let mut shards = txn.open_table(SHARDS).map_err(failed)?;
            let mut live = txn.open_table(LIVE).map_err(failed)?;
            for place in places {
                if shards.remove(&place.key()).map_err(failed)?.is_some() {
                    count(&mut live, place.volume, -1)?;
                    totals.shards -= 1;
                    totals.bytes -= place.len;
                }
            }
            Ok(())
        })
    }

    fn change(
        &self,
        end: Position,
        work: impl FnOnce(&WriteTransaction, &mut Totals) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        // The log is durable: what is lost here is replayed from it.
        txn.set_durability(Durability::None).map_err(failed)?;
        let mut totals = self.totals();
        work(&txn, &mut totals)?;
        let row = (end.volume, end.offset, totals.shards, totals.bytes);
        txn.open_table(STATE).map_err(failed)?.insert((), row).map_err(failed)?;
        txn.commit().map_err(failed)?;
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
        Ok(())
    }

    /// Makes all changes so far durable.
    pub(crate) fn make_durable(&self) -> Result<(), StoreError> {
        let txn = self.db.begin_write().map_err(failed)?;
        txn.commit().map_err(failed)
    }
}

fn count(live: &mut redb::Table<'_, u32, u64>, volume: u32, change: i64) -> Result<(), StoreError> {
    let before = live.get(volume).map_err(failed)?.map_or(0, |count| count.value());
    let after = before.saturating_add_signed(change);
    if after == 0 {
        live.remove(volume).map_err(failed)?;
    } else {
        live.insert(volume, after).map_err(failed)?;
    }
    Ok(())
}
