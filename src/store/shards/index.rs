//! The index of the volumes: which shard is where. A cache; see [`ShardStore`](super::ShardStore).
//!
//! # Damage
//! redb checks its pages only when it is told to, and believes them otherwise: a bit that rots hides rows or makes it
//! panic. So every page is checked when the index is opened, which for a million shards is to read 290 MB (0.9 s
//! from the page cache), and a panic at any time is caught. An index found damaged is removed there and then and
//! answers nothing more; the next open makes a new one of the volumes. An error of the disk that may pass condemns
//! nothing.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use crate::message::ShardRef;
use crate::store::db;
use crate::store::disk::Disk;
use crate::store::shards::{Position, StoreError};
use crate::store::volume::{Header, Kind};
use crate::types::limits::MAX_SHARD_LEN;
use crate::types::{Hash, SegmentId, Timestamp, VaultId};

/// vault 32 ‖ segment 32 ‖ index 1 → volume u32le ‖ offset u64le ‖ len u64le ‖ root 32.
const SHARDS: TableDefinition<'_, &[u8; 65], &[u8; 52]> = TableDefinition::new("shards");
/// volume → shards alive in it, bytes of their entries, end of the last entry that ever was of a shard.
const LIVE: TableDefinition<'_, u32, (u64, u64, u64)> = TableDefinition::new("live");
/// One row: the end of the log that the index knows, and totals.
const STATE: TableDefinition<'_, (), State> = TableDefinition::new("state");
type State = (u32, u64, u64, u64);

/// The file of the index.
pub(crate) const INDEX_FILE: &str = "index.redb";
/// Memory of the index's cache: enough for the upper levels of a million shards.
const CACHE_BYTES: usize = 32 << 20;

/// Where a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) vault: VaultId,
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
            vault: header.vault,
            shard: header.shard,
            root: header.root,
            len: header.len,
            volume: at.volume,
            offset: at.offset,
        }
    }

    /// The shape of the entry; what the index does not know is zero.
    pub(crate) const fn header(&self) -> Header {
        Header {
            kind: Kind::Shard,
            vault: self.vault,
            shard: self.shard,
            root: self.root,
            len: self.len,
            durable_to: 0,
            stored_at: Timestamp::ZERO,
        }
    }

    fn key(&self) -> [u8; 65] {
        key(&self.vault, self.shard)
    }

    fn value(&self) -> [u8; 52] {
        let mut value = [0; 52];
        value[..4].copy_from_slice(&self.volume.to_le_bytes());
        value[4..12].copy_from_slice(&self.offset.to_le_bytes());
        value[12..20].copy_from_slice(&self.len.to_le_bytes());
        value[20..].copy_from_slice(self.root.as_bytes());
        value
    }

    fn decode(key: &[u8; 65], value: &[u8; 52]) -> Result<Self, IndexError> {
        let possible = |place: &Self| place.len <= MAX_SHARD_LEN && place.offset <= u64::MAX / 2;
        Self::parse(key, value).filter(possible).ok_or_else(|| damaged("a row"))
    }

    fn parse(key: &[u8; 65], value: &[u8; 52]) -> Option<Self> {
        let segment = SegmentId::from_slice(&key[32..64])?;
        Some(Self {
            vault: VaultId::from_slice(&key[..32])?,
            shard: ShardRef { segment, index: key[64] },
            root: Hash::from_slice(&value[20..])?,
            len: u64::from_le_bytes(value[12..20].try_into().ok()?),
            volume: u32::from_le_bytes(value[..4].try_into().ok()?),
            offset: u64::from_le_bytes(value[4..12].try_into().ok()?),
        })
    }
}

fn key(vault: &VaultId, shard: ShardRef) -> [u8; 65] {
    let mut key = [0; 65];
    key[..32].copy_from_slice(vault.as_bytes());
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

/// What the index knows of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Live {
    /// Shards alive in it.
    pub(crate) shards: u64,
    /// Bytes of their entries.
    pub(crate) bytes: u64,
    /// The volume was at least this long when the index was told of it last.
    pub(crate) end: u64,
}

impl From<(u64, u64, u64)> for Live {
    fn from((shards, bytes, end): (u64, u64, u64)) -> Self {
        Self { shards, bytes, end }
    }
}

/// Why the index does not answer.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    /// It does not hold what was written.
    #[error("the index is damaged: {0}; the next start of the node makes a new one")]
    Damaged(String),
    /// Something else, which may pass.
    #[error(transparent)]
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for IndexError {
    fn from(error: E) -> Self {
        match error.into() {
            // A file that ends before what redb looks for in it, and one that is no database at all.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Self::Damaged(error.to_string())
            }
            error @ (redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::LockPoisoned(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Damaged(error.to_string()),
            error => Self::Failed(error),
        }
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        Self::disk("the index")(error)
    }
}

/// redb panics where it finds what it cannot have written.
fn contained<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(IndexError::Damaged("redb panicked".to_owned())))
}

fn damaged(what: &str) -> IndexError {
    IndexError::Damaged(what.to_owned())
}

#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    /// `None` only while it is dropped.
    db: Option<Database>,
    totals: Mutex<Totals>,
    condemned: AtomicBool,
}

impl Index {
    /// Opens the index, or begins one; the answer is also the end of the log as far as the index knows it. One that is
    /// damaged is begun anew.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<(Self, Option<Position>), StoreError> {
        let (db, state) = match contained(|| load(&*disk)) {
            Err(IndexError::Damaged(what)) => {
                tracing::warn!(what, "the index is damaged and is made anew from the volumes");
                disk.remove(INDEX_FILE).map_err(StoreError::disk("removing the damaged index"))?;
                disk.sync_dir().map_err(StoreError::disk("removing the damaged index"))?;
                contained(|| load(&*disk))?
            }
            loaded => loaded?,
        };
        let (volume, offset, shards, bytes) = state.unwrap_or_default();
        let totals = Mutex::new(Totals { shards, bytes });
        let index = Self { disk, db: Some(db), totals, condemned: AtomicBool::new(false) };
        Ok((index, state.map(|_| Position { volume, offset })))
    }

    /// Whether damage was found since it was opened.
    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Acquire)
    }

    fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T, IndexError>) -> Result<T, StoreError> {
        let Some(db) = self.db.as_ref().filter(|_| !self.is_condemned()) else {
            return Err(damaged("it was found so before").into());
        };
        let done = contained(|| work(db));
        if let Err(IndexError::Damaged(what)) = &done {
            self.condemn(what);
        }
        Ok(done?)
    }

    fn condemn(&self, what: &str) {
        tracing::error!(what, "the index is damaged; restart the node to have it made anew");
        if !self.condemned.swap(true, Ordering::AcqRel) {
            // If this fails the next open finds the damage by itself, unless it was in memory alone.
            drop(self.disk.remove(INDEX_FILE).and_then(|()| self.disk.sync_dir()));
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self, vault: &VaultId, shard: ShardRef) -> Result<Option<Place>, StoreError> {
        self.work(|db| {
            let table = db.begin_read()?.open_table(SHARDS)?;
            let key = key(vault, shard);
            table.get(&key)?.map(|row| Place::decode(&key, row.value())).transpose()
        })
    }

    /// All shards of a segment that the vault has.
    pub(crate) fn places_of(&self, vault: &VaultId, segment: &SegmentId) -> Result<Vec<Place>, StoreError> {
        let bound = |index| key(vault, ShardRef { segment: *segment, index });
        self.work(|db| {
            let table = db.begin_read()?.open_table(SHARDS)?;
            let mut places = Vec::new();
            for row in table.range::<&[u8; 65]>(&bound(0)..=&bound(u8::MAX))? {
                let (key, value) = row?;
                places.push(Place::decode(key.value(), value.value())?);
            }
            Ok(places)
        })
    }

    /// Shards of a vault after one, at most `limit`.
    pub(crate) fn list(
        &self,
        vault: &VaultId,
        after: Option<ShardRef>,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        use std::ops::Bound::{Excluded, Included};
        let bound = |byte, index| key(vault, ShardRef { segment: SegmentId([byte; 32]), index });
        let (zero, last) = (bound(0, 0), bound(u8::MAX, u8::MAX));
        let after = after.map(|after| key(vault, after));
        self.work(|db| {
            let table = db.begin_read()?.open_table(SHARDS)?;
            let first = after.as_ref().map_or(Included(&zero), Excluded);
            let mut places = Vec::new();
            for row in table.range::<&[u8; 65]>((first, Included(&last)))?.take(limit) {
                let (key, value) = row?;
                places.push(Place::decode(key.value(), value.value())?);
            }
            Ok(places)
        })
    }

    /// The next shard in the order of keys; the first for `None`.
    pub(crate) fn next_after(&self, last: Option<(VaultId, ShardRef)>) -> Result<Option<Place>, StoreError> {
        let last = last.map(|(vault, shard)| key(&vault, shard));
        self.work(|db| {
            let table = db.begin_read()?.open_table(SHARDS)?;
            let mut rows = match &last {
                Some(last) => {
                    table.range::<&[u8; 65]>((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded))
                }
                None => table.range::<&[u8; 65]>(..),
            }?;
            let Some(row) = rows.next() else { return Ok(None) };
            let (key, value) = row?;
            Place::decode(key.value(), value.value()).map(Some)
        })
    }

    /// Every shard of which `wanted` says so. Reads the whole index.
    pub(crate) fn find(&self, wanted: impl Fn(&Place) -> bool) -> Result<Vec<Place>, StoreError> {
        self.work(|db| {
            let table = db.begin_read()?.open_table(SHARDS)?;
            let mut places = Vec::new();
            for row in table.range::<&[u8; 65]>(..)? {
                let (key, value) = row?;
                places.extend(Some(Place::decode(key.value(), value.value())?).filter(&wanted));
            }
            Ok(places)
        })
    }

    /// What lives in a volume.
    pub(crate) fn live_in(&self, volume: u32) -> Result<Live, StoreError> {
        self.work(|db| {
            let table = db.begin_read()?.open_table(LIVE)?;
            Ok(table.get(volume)?.map(|row| row.value().into()).unwrap_or_default())
        })
    }

    /// The volumes in which something lives.
    pub(crate) fn volumes(&self) -> Result<Vec<(u32, Live)>, StoreError> {
        self.work(|db| {
            let table = db.begin_read()?.open_table(LIVE)?;
            let mut volumes = Vec::new();
            for row in table.range::<u32>(..)? {
                let (volume, live) = row?;
                volumes.push((volume.value(), live.value().into()));
            }
            Ok(volumes)
        })
    }

    /// Forgets shards and adds others, at once; the log is known up to `end` then. Durable at the next
    /// [`make_durable`](Self::make_durable). The answer is what had a place before that it has not any more.
    pub(crate) fn change(
        &self,
        gone: &[Place],
        fresh: &[Place],
        end: Position,
    ) -> Result<Vec<Place>, StoreError> {
        self.work(|db| {
            let mut txn = db.begin_write()?;
            // The log is durable: what is lost here is replayed from it.
            txn.set_durability(Durability::None)?;
            let mut change = Change::begin(&txn, self.totals())?;
            gone.iter().try_for_each(|place| change.remove(place))?;
            fresh.iter().try_for_each(|place| change.insert(place))?;
            let (totals, left) = change.end();
            txn.open_table(STATE)?.insert((), (end.volume, end.offset, totals.shards, totals.bytes))?;
            txn.commit()?;
            *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
            Ok(left)
        })
    }

    /// Makes all changes so far durable.
    pub(crate) fn make_durable(&self) -> Result<(), StoreError> {
        self.work(|db| Ok(db.begin_write()?.commit()?))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // redb writes once more when it is dropped, and may panic over what it finds then.
        drop(contained(|| {
            drop(self.db.take());
            Ok(())
        }));
    }
}

/// Reads the database; makes an empty one if there is none.
fn load(disk: &dyn Disk) -> Result<(Database, Option<State>), IndexError> {
    let db = db::open_or_create(disk, INDEX_FILE, CACHE_BYTES)?;
    let txn = db.begin_write()?;
    txn.open_table(SHARDS)?;
    txn.open_table(LIVE)?;
    let state = txn.open_table(STATE)?.get(())?.map(|row| row.value());
    txn.commit()?;
    Ok((db, state))
}

/// A transaction at work.
struct Change<'txn> {
    shards: redb::Table<'txn, &'static [u8; 65], &'static [u8; 52]>,
    live: redb::Table<'txn, u32, (u64, u64, u64)>,
    totals: Totals,
    /// Places that are no shard's any more.
    left: Vec<Place>,
}

impl<'txn> Change<'txn> {
    fn begin(txn: &'txn WriteTransaction, totals: Totals) -> Result<Self, IndexError> {
        Ok(Self { shards: txn.open_table(SHARDS)?, live: txn.open_table(LIVE)?, totals, left: Vec::new() })
    }

    fn end(self) -> (Totals, Vec<Place>) {
        (self.totals, self.left)
    }

    fn insert(&mut self, place: &Place) -> Result<(), IndexError> {
        let before = self.shards.insert(&place.key(), &place.value())?;
        let before = before.map(|row| Place::decode(&place.key(), row.value())).transpose()?;
        if let Some(before) = before {
            self.leave(&before)?;
            // A place that is told again is not left.
            self.left.extend(Some(before).filter(|before| before != place));
        }
        self.totals.shards += 1;
        self.totals.bytes += place.len;
        let mut live = self.live_in(place.volume)?;
        live.shards += 1;
        live.bytes += place.header().entry_len();
        live.end = live.end.max(place.offset + place.header().entry_len());
        self.live.insert(place.volume, (live.shards, live.bytes, live.end))?;
        Ok(())
    }

    fn remove(&mut self, place: &Place) -> Result<(), IndexError> {
        let before = self.shards.remove(&place.key())?;
        let before = before.map(|row| Place::decode(&place.key(), row.value())).transpose()?;
        if let Some(before) = before {
            self.leave(&before)?;
            self.left.push(before);
        }
        Ok(())
    }

    /// Counts a shard out.
    fn leave(&mut self, place: &Place) -> Result<(), IndexError> {
        let less = |sum: u64, part| sum.checked_sub(part).ok_or_else(|| damaged("a total"));
        self.totals.shards = less(self.totals.shards, 1)?;
        self.totals.bytes = less(self.totals.bytes, place.len)?;
        let mut live = self.live_in(place.volume)?;
        live.shards = less(live.shards, 1)?;
        live.bytes = less(live.bytes, place.header().entry_len())?;
        if live.shards == 0 {
            self.live.remove(place.volume)?;
        } else {
            self.live.insert(place.volume, (live.shards, live.bytes, live.end))?;
        }
        Ok(())
    }

    fn live_in(&self, volume: u32) -> Result<Live, IndexError> {
        Ok(self.live.get(volume)?.map(|row| row.value().into()).unwrap_or_default())
    }
}
