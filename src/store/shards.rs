//! The shards of a storage node: a log of volumes that is the truth, and an index that is a cache of it.
//!
//! [`ShardStore`] writes, [`ShardReader`] reads; both are synchronous and start no threads. A batch of shards
//! costs one `fdatasync` of the volume; the index commits without a sync and is made durable at checkpoints.
//! Whatever is lost of it is replayed from the volumes. So a put that answered `Ok` survives a crash at any
//! moment (I1, I11), and an index that is lost or damaged costs a scan, not data.
//!
//! Shards belong to a vault: the same segment id in another vault is another shard. Who may do what with a vault is not
//! known here.

mod compact;
mod index;
mod reader;
mod recover;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::message::ShardRef;
use crate::store::disk::{Disk, DiskFile, says_full};
use crate::store::volume::{ENTRY_ALIGN, ENTRY_ALIGN_LEN, HEADER_LEN, Header, Kind, file_name};

pub use crate::store::volume::HeaderKey;
use crate::transfer::BufferPool;
use crate::types::limits::{NODE_FREE_RESERVE, SLICE_LEN, VOLUME_LEN};
use crate::types::{Hash, SegmentId, Timestamp, VaultId};
pub use reader::{ReadSlice, ShardReader, Usage};

use index::{Index, Place};
use volumes::Volumes;

/// How a store keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Free bytes to leave on the disk.
    pub free_reserve: u64,
    /// Bytes after which a new volume is begun.
    pub volume_len: u64,
    /// Bytes of log between two durable states of the index: what a restart may have to replay and verify.
    pub checkpoint_bytes: u64,
    /// Secret of this store; another cannot read its volumes.
    pub header_key: HeaderKey,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            free_reserve: NODE_FREE_RESERVE,
            volume_len: VOLUME_LEN,
            checkpoint_bytes: 128 << 20,
            header_key: HeaderKey::default(),
        }
    }
}

/// A shard to store, already verified: its bytes hash to the root, and these are its leaves.
#[derive(Debug, Clone)]
pub struct NewShard {
    /// The vault that it is of.
    pub vault: VaultId,
    /// Which it is.
    pub shard: ShardRef,
    /// BLAKE3 of its bytes.
    pub root: Hash,
    /// Its bytes.
    pub bytes: Bytes,
    /// Chaining values of its slices, as [`SliceHasher`](crate::crypto::tree::SliceHasher) gives them.
    pub leaves: Vec<Hash>,
    /// When it is stored, by the ledger's time; zero where that is not known.
    pub stored_at: Timestamp,
}

/// Why the store does not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// This vault has no such shard here.
    #[error("no such shard")]
    NotFound,
    /// Another shard is stored under this vault, segment and index.
    #[error("another shard is stored under this segment and index")]
    Conflict,
    /// No space left, with the reserve counted.
    #[error("no space left: {free} bytes are free, of which {reserve} are kept in reserve")]
    Full {
        /// Bytes free on the disk.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The shard's bytes are not what was stored.
    #[error("the shard is damaged on disk")]
    Corrupt,
    /// Not a range of whole slices of the shard.
    #[error("not a range of whole slices of the shard")]
    OutOfBounds,
    /// The disk failed.
    #[error("{during} failed")]
    Disk {
        /// What failed.
        during: &'static str,
        /// How.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier sync failed, so it is unknown what is on disk: nothing is written until the store is opened anew.
    #[error("the disk failed earlier; restart the node to recover")]
    Failed,
}

impl StoreError {
    pub(crate) fn disk<E: std::error::Error + Send + Sync + 'static>(
        during: &'static str,
    ) -> impl Fn(E) -> Self {
        move |source| Self::Disk { during, source: Arc::new(source) }
    }

    /// Whether it is for want of space, be it inside the database.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Disk { source, .. } => io_error(&**source).is_some_and(says_full),
            _ => false,
        }
    }
}

/// The error of the system in an error, also where the database wraps it and shows it to nobody.
fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    use redb::StorageError::Io;
    let in_storage = |storage: &'a redb::StorageError| match storage {
        Io(error) => Some(error),
        _ => None,
    };
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(redb::Error::Io(error)) => return Some(error),
        Some(_) => return None,
        None => {}
    }
    let storage = error.downcast_ref().or_else(|| match error.downcast_ref()? {
        redb::DatabaseError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        redb::TransactionError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        redb::TableError::Storage(storage) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match error.downcast_ref()? {
        redb::CommitError::Storage(storage) => Some(storage),
        _ => None,
    });
    storage.and_then(in_storage).or_else(|| error.source().and_then(io_error))
}

/// What a scrub found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// Shards checked.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Shards found damaged by this scrub.
    pub damaged: Vec<(VaultId, ShardRef)>,
    /// Whether the scrub came to the end and will begin anew.
    pub finished: bool,
}

/// Bytes of buffers kept for the next reads.
const READ_BUFFERS_KEPT: usize = 32 << 20;

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    index: Index,
    volumes: Volumes,
    /// Damage found so far, for people.
    problems: Mutex<Vec<String>>,
    /// Shards found damaged, or whose volume is lost: not served, and taken anew.
    damaged: Mutex<BTreeSet<(VaultId, ShardRef)>>,
    /// For the bytes of reads.
    pool: BufferPool,
}

impl Shared {
    fn damaged(&self) -> MutexGuard<'_, BTreeSet<(VaultId, ShardRef)>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, problem: String) {
        tracing::error!(problem, "damage on disk");
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }
}

/// Where the next entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) volume: u32,
    pub(crate) offset: u64,
}

/// Writes shards. One for each folder: the node's lock file sees to that.
#[derive(Debug)]
pub struct ShardStore {
    shared: Arc<Shared>,
    /// Invariant: everything before it is durable.
    end: Position,
    /// Volumes with holes that may not be durable yet.
    punched: BTreeSet<u32>,
    /// Space of the last volume that is reserved.
    reserved_to: u64,
    /// Log written since the index was durable last.
    since_checkpoint: u64,
    /// A sync failed.
    failed: bool,
    /// How far the oldest volume was looked through for what can be moved.
    compacted_to: Position,
    /// Where the next scrub begins.
    scrub_from: Option<(VaultId, ShardRef)>,
}

impl ShardStore {
    /// Opens the store on a disk, or begins one. Replays what the index missed, and cuts off what was being
    /// written when the node stopped.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn open(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<Self, StoreError> {
        recover::open(disk, config)
    }

    /// A handle that reads.
    #[must_use]
    pub fn reader(&self) -> ShardReader {
        ShardReader(Arc::clone(&self.shared))
    }

    /// Stores shards. When it returns, each that is `Ok` is durable. A shard that is there already is `Ok`.
    ///
    /// # Errors
    /// Each shard has its own: [`StoreError::Conflict`], [`StoreError::Full`], [`StoreError::Disk`] or
    /// [`StoreError::Failed`].
    pub fn put_batch(&mut self, batch: &[NewShard]) -> Vec<Result<(), StoreError>> {
        let mut results: Vec<_> = batch.iter().map(|new| self.admit(new)).collect();
        let mut root_of = BTreeMap::new();
        let mut fresh = Vec::with_capacity(batch.len());
        for (at, new) in batch.iter().enumerate() {
            if !matches!(results[at], Ok(false)) {
                continue;
            }
            match root_of.insert((new.vault, new.shard), new.root) {
                None => fresh.push(at),
                // The same shard again: it waits for the first like everybody else.
                Some(first) if first == new.root => {}
                // Only the first is stored: nobody may be told that this one is held.
                Some(first) => {
                    root_of.insert((new.vault, new.shard), first);
                    results[at] = Err(StoreError::Conflict);
                }
            }
        }
        let news: Vec<&NewShard> = fresh.iter().map(|at| &batch[*at]).collect();
        if let Err(error) = self.append(&news) {
            results
                .iter_mut()
                .filter(|result| matches!(result, Ok(false)))
                .for_each(|r| *r = Err(error.clone()));
        }
        results.into_iter().map(|result| result.map(drop)).collect()
    }

    /// Whether the shard is there already; an error if another is.
    fn admit(&self, new: &NewShard) -> Result<bool, StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let damaged = self.shared.damaged().contains(&(new.vault, new.shard));
        match self.shared.index.place(&new.vault, new.shard)? {
            Some(place) if place.root != new.root => Err(StoreError::Conflict),
            Some(_) => Ok(!damaged),
            None => Ok(false),
        }
    }

    fn append(&mut self, shards: &[&NewShard]) -> Result<(), StoreError> {
        if shards.is_empty() {
            return Ok(());
        }
        let headers: Vec<_> = shards
            .iter()
            .map(|new| Header {
                kind: Kind::Shard,
                vault: new.vault,
                shard: new.shard,
                root: new.root,
                len: new.bytes.len() as u64,
                durable_to: 0,
                stored_at: new.stored_at,
            })
            .collect();
        let contents: Vec<(&[Hash], &[u8])> =
            shards.iter().map(|new| (&new.leaves[..], &new.bytes[..])).collect();
        let places = self.write_log(&headers, &contents)?;
        // If we crash here the entries are durable but unknown to the index: recovery finds them in the log.
        let left = self.tell_index(&[], &places)?;
        for new in shards {
            self.shared.damaged().remove(&(new.vault, new.shard));
        }
        // What a new copy replaces.
        self.free(&left);
        self.checkpoint_if_due()
    }

    /// Brings the index up to the end of the log; the places that hold nothing any more.
    fn tell_index(&mut self, gone: &[Place], fresh: &[Place]) -> Result<Vec<Place>, StoreError> {
        let told = self.shared.index.change(gone, fresh, self.end);
        // Index and log disagree now, and only a replay brings them together: a shard that the log has released would
        // pass for one that is held.
        self.failed |= told.is_err();
        told
    }

    /// Writes entries at the end of the log and syncs them.
    fn write_log(
        &mut self,
        headers: &[Header],
        contents: &[(&[Hash], &[u8])],
    ) -> Result<Vec<Place>, StoreError> {
        let batch_len: u64 = headers.iter().map(Header::entry_len).sum();
        self.check_space(batch_len)?;
        if self.end.offset > 0 && self.end.offset + batch_len > self.shared.config.volume_len {
            self.begin_volume()?;
        }
        let file = self.shared.volumes.get(self.end.volume)?;
        self.reserve(&*file, batch_len)?;
        let (start, volume) = (self.end.offset, self.end.volume);
        let mut offset = start;
        let mut heads = Vec::with_capacity(headers.len());
        let mut places = Vec::with_capacity(headers.len());
        for (header, (leaves, _)) in headers.iter().zip(contents) {
            let header = Header { durable_to: start, ..*header };
            let mut head = header.encode(&self.shared.config.header_key, volume, offset).to_vec();
            leaves.iter().for_each(|leaf| head.extend_from_slice(leaf.as_bytes()));
            heads.push(head);
            places.push(Place::new(&header, Position { volume, offset }));
            offset += header.entry_len();
        }
        let zeros = [0; ENTRY_ALIGN_LEN];
        let mut parts: Vec<&[u8]> = Vec::with_capacity(headers.len() * 3);
        for ((header, head), (_, data)) in headers.iter().zip(&heads).zip(contents) {
            let fill = header.entry_len() - header.data_at() - header.len;
            parts.extend([&head[..], data, &zeros[..usize::try_from(fill).unwrap_or(0)]]);
        }
        // If we crash here recovery finds a torn end and cuts it off.
        if let Err(error) = file.write_parts_at(start, &parts) {
            self.take_back(&*file);
            return Err(self.write_error(error));
        }
        // Only from here on may anybody be told that the shards are held.
        if let Err(error) = file.sync_data() {
            self.failed = true;
            self.shared.report(format!("fdatasync of {} failed: {error}", file_name(volume)));
            return Err(StoreError::disk("syncing a volume")(error));
        }
        self.end.offset = offset;
        self.since_checkpoint += batch_len;
        Ok(places)
    }

    /// Cuts off what a failed write left, before anything is answered that it would belie: recovery may find a whole
    /// tombstone in it, after its shards were acknowledged once more.
    fn take_back(&mut self, file: &dyn DiskFile) {
        let cut = file.set_len(self.end.offset).and_then(|()| file.sync_data());
        self.failed |= cut.is_err();
        self.reserved_to = self.end.offset;
    }

    fn check_space(&self, batch_len: u64) -> Result<(), StoreError> {
        let free = self.shared.disk.free_bytes().map_err(StoreError::disk("asking for free space"))?;
        let reserve = self.shared.config.free_reserve;
        if free < reserve.saturating_add(batch_len) {
            return Err(StoreError::Full { free, reserve });
        }
        Ok(())
    }

    /// Reserves space ahead of the log, so that most syncs need not write the file's metadata.
    fn reserve(&mut self, file: &dyn DiskFile, batch_len: u64) -> Result<(), StoreError> {
        const STEPS: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
        let need = self.end.offset + batch_len;
        if need <= self.reserved_to {
            return Ok(());
        }
        // In proportion, so that a small store stays small.
        let ahead = (need / 8).clamp(*STEPS.start(), *STEPS.end());
        let to = (need + ahead).next_multiple_of(1 << 20);
        file.preallocate(self.reserved_to, to - self.reserved_to).map_err(|error| self.write_error(error))?;
        self.reserved_to = to;
        Ok(())
    }

    fn write_error(&self, error: io::Error) -> StoreError {
        if says_full(&error) {
            let free = self.shared.disk.free_bytes().unwrap_or(0);
            return StoreError::Full { free, reserve: self.shared.config.free_reserve };
        }
        StoreError::disk("writing a volume")(error)
    }

    /// Cuts the volume that ends off at its last entry: of one with another after it, recovery takes every byte
    /// for durable. It also gives the space reserved ahead back.
    fn seal_volume(&mut self) -> Result<(), StoreError> {
        let file = match self.shared.volumes.get(self.end.volume) {
            // There is none yet, or it is lost.
            Err(StoreError::Corrupt) => return Ok(()),
            opened => opened?,
        };
        let failed = StoreError::disk("cutting a volume");
        // One that lost its end stays short: that is how the next start sees what is lost.
        if file.len().map_err(&failed)? > self.end.offset {
            file.set_len(self.end.offset).map_err(&failed)?;
        }
        self.reserved_to = self.end.offset;
        file.sync_data().map_err(|error| {
            self.failed = true;
            StoreError::disk("syncing a volume")(error)
        })
    }

    fn begin_volume(&mut self) -> Result<(), StoreError> {
        self.seal_volume()?;
        self.checkpoint()?;
        let next = self.end.volume + 1;
        self.shared.volumes.create(next).map_err(|error| self.write_error(error))?;
        if let Err(error) = self.shared.disk.sync_dir() {
            // The name may survive: the volume before it must not grow any more.
            self.failed = true;
            return Err(StoreError::disk("syncing the folder")(error));
        }
        self.end = Position { volume: next, offset: 0 };
        self.reserved_to = 0;
        Ok(())
    }

    fn checkpoint_if_due(&mut self) -> Result<(), StoreError> {
        if self.since_checkpoint >= self.shared.config.checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes the index durable.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        // First the holes: recovery punches again what the log says after the checkpoint, and nothing before it.
        self.sync_holes()?;
        self.shared.index.make_durable()?;
        self.since_checkpoint = 0;
        Ok(())
    }

    fn sync_holes(&mut self) -> Result<(), StoreError> {
        while let Some(volume) = self.punched.pop_first() {
            // Gone with its holes, or lost.
            let Ok(file) = self.shared.volumes.get(volume) else { continue };
            file.sync_data().map_err(|error| {
                self.failed = true;
                StoreError::disk("syncing a volume")(error)
            })?;
        }
        Ok(())
    }

    /// Frees every shard of these segments that the vault has here: how many, and their bytes. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`].
    pub fn release(&mut self, vault: &VaultId, segments: &[SegmentId]) -> Result<(u64, u64), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let mut held = Vec::new();
        for segment in segments {
            held.extend(self.shared.index.places_of(vault, segment)?);
        }
        let gone: BTreeSet<SegmentId> = held.iter().map(|place| place.shard.segment).collect();
        if gone.is_empty() {
            return Ok((0, 0));
        }
        let headers: Vec<_> = gone.iter().map(|segment| tombstone(*vault, *segment)).collect();
        // If we crash here nothing is released, or recovery finds the tombstones and goes on from there.
        self.write_log(&headers, &vec![(&[][..], &[][..]); headers.len()])?;
        // If we crash here recovery finds the tombstones, forgets the shards and frees their space.
        let left = self.tell_index(&held, &[])?;
        for place in &left {
            self.shared.damaged().remove(&(place.vault, place.shard));
        }
        self.free(&left);
        if let Err(error) = self.compact() {
            // The release is done. If the log is in doubt, whatever is next is refused.
            tracing::error!(%error, "the oldest volume could not be compacted");
        }
        self.drop_dead_volumes()?;
        Ok((held.len() as u64, held.iter().map(|place| place.len).sum()))
    }

    /// Gives the space of entries back; their headers stay, so that the log can still be walked. What goes wrong
    /// here costs space until the volume goes, and is no reason to take back what the log says.
    fn free(&mut self, places: &[Place]) {
        for place in places {
            let Ok(file) = self.shared.volumes.get(place.volume) else { continue };
            let start = place.offset + HEADER_LEN as u64;
            match file.punch_hole(start, place.header().entry_len() - HEADER_LEN as u64) {
                Ok(()) => drop(self.punched.insert(place.volume)),
                Err(error) => self
                    .shared
                    .report(format!("space in {} could not be given back: {error}", file_name(place.volume))),
            }
        }
    }

    /// Removes the oldest volumes while nothing lives in them. Only the oldest: a younger one may hold the
    /// tombstone of a shard in an older.
    fn drop_dead_volumes(&mut self) -> Result<(), StoreError> {
        loop {
            let oldest = self.shared.volumes.numbers().first().copied();
            let Some(oldest) = oldest.filter(|oldest| *oldest < self.end.volume) else { return Ok(()) };
            if self.shared.index.live_in(oldest)?.shards > 0 {
                return Ok(());
            }
            // The index must not go back to a time when it needed the volume.
            self.checkpoint()?;
            self.shared.volumes.remove(oldest)?;
        }
    }

    /// Checks stored shards against their roots, going on where the last call ended, until about
    /// `budget_bytes` are read.
    ///
    /// # Errors
    /// [`StoreError::Disk`] if the index fails; a volume that cannot be read is damage, not an error.
    pub fn scrub(&mut self, budget_bytes: u64) -> Result<ScrubReport, StoreError> {
        let mut report = ScrubReport::default();
        let key = &self.shared.config.header_key;
        while report.bytes < budget_bytes {
            let Some(place) = self.shared.index.next_after(self.scrub_from)? else {
                self.scrub_from = None;
                report.finished = true;
                break;
            };
            let name = (place.vault, place.shard);
            self.scrub_from = Some(name);
            report.shards += 1;
            report.bytes += place.len;
            let whole = self
                .shared
                .volumes
                .get(place.volume)
                .is_ok_and(|file| recover::is_whole(&*file, key, &place));
            if !whole && self.shared.damaged().insert(name) {
                tracing::error!(segment = %place.shard.segment, index = place.shard.index, "shard is damaged on disk");
                report.damaged.push(name);
            }
        }
        Ok(report)
    }

    /// Makes the index durable and ends. Without it, the next start replays the last entries.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn close(mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        self.checkpoint()
    }
}

impl Drop for ShardStore {
    fn drop(&mut self) {
        // redb makes the index durable when it is dropped, so the holes go first, as at every checkpoint. If this
        // fails, or the process is killed in between, some space is lost until its volume goes.
        if !self.failed && self.sync_holes().is_err() {
            tracing::warn!("holes in the volumes may not be durable");
        }
    }
}

const fn tombstone(vault: VaultId, segment: SegmentId) -> Header {
    let shard = ShardRef { segment, index: 0 };
    let stored_at = Timestamp::ZERO;
    Header { kind: Kind::Tombstone, vault, shard, root: Hash([0; 32]), len: 0, durable_to: 0, stored_at }
}

const _: () = assert!((SLICE_LEN as u64).is_multiple_of(ENTRY_ALIGN));
