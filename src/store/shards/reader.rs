//! Reading: what serves requests, also while the store writes.

use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::index::Place;
use super::{Shared, StoreError};
use crate::crypto::tree;
use crate::message::{HeldShard, ShardRef};
use crate::store::disk::DiskFile;
use crate::store::volume::{HEADER_LEN, Header, HeaderKey};
use crate::types::{Hash, SegmentId, Timestamp, VaultId};

/// With less than this, beside the reserve, it is said to be full: a shard of a whole segment may not fit.
const FULL_BELOW: u64 = 4 << 20;

/// A verified range of a shard, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSlice {
    /// Bytes of the whole shard.
    pub shard_len: u64,
    /// The range.
    pub bytes: Bytes,
    /// Its proof under the shard's root.
    pub proof: Vec<Hash>,
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Shards.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// Bytes that the volumes take on disk.
    pub disk_bytes: u64,
    /// Bytes that may still be stored.
    pub free_bytes: u64,
    /// What is wrong, for people.
    pub problems: Vec<String>,
}

/// Reads shards, also while others are written. Clones share the store.
#[derive(Debug, Clone)]
pub struct ShardReader(pub(super) Arc<Shared>);

impl ShardReader {
    /// Reads `len` bytes at `start` of a shard, cut at its end, with their proof.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OutOfBounds`], [`StoreError::Corrupt`] or [`StoreError::Disk`].
    pub fn read(
        &self,
        vault: &VaultId,
        shard: ShardRef,
        start: u64,
        len: u64,
    ) -> Result<ReadSlice, StoreError> {
        loop {
            let place = self.0.index.place(vault, shard)?.ok_or(StoreError::NotFound)?;
            if self.0.damaged().contains(&(*vault, shard)) {
                return Err(StoreError::Corrupt);
            }
            if let Some(slice) = self.read_place(&place, start, len)? {
                return Ok(slice);
            }
            // It moved: a shard moves seldom, so this ends.
        }
    }

    /// Reads of a place; `None` if it was given up meanwhile. Then a hole may have been read in the place of the shard,
    /// or there was nothing to read at all, and neither is the fault of the disk.
    pub(super) fn read_place(
        &self,
        place: &Place,
        start: u64,
        len: u64,
    ) -> Result<Option<ReadSlice>, StoreError> {
        let slice =
            self.0.volumes.get(place.volume).and_then(|file| self.read_file(&*file, place, start, len));
        let is_corrupt = matches!(slice, Err(StoreError::Corrupt));
        if is_corrupt {
            // From here on a new copy is taken. Marked before the index is asked: one that came meanwhile is seen there.
            self.0.damaged().insert((place.vault, place.shard));
        }
        if self.0.index.place(&place.vault, place.shard)? == Some(*place) {
            return slice.map(Some);
        }
        if is_corrupt {
            self.0.damaged().remove(&(place.vault, place.shard));
        }
        Ok(None)
    }

    fn read_file(
        &self,
        file: &dyn DiskFile,
        place: &Place,
        start: u64,
        len: u64,
    ) -> Result<ReadSlice, StoreError> {
        let len = place.len.checked_sub(start).map_or(0, |rest| rest.min(len));
        let leaves = read_leaves(file, &self.0.config.header_key, place)?;
        let proof = tree::proof(&leaves, place.len, start, len).map_err(|_| StoreError::OutOfBounds)?;
        let mut bytes = self.0.pool.take(usize::try_from(len).map_err(|_| StoreError::OutOfBounds)?);
        file.read_at(place.offset + place.header().data_at() + start, &mut bytes).map_err(read_error)?;
        Ok(ReadSlice { shard_len: place.len, bytes: Bytes::from_owner(bytes), proof })
    }

    /// The root of a shard; `None` if this vault has none here, or it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn root_of(&self, vault: &VaultId, shard: ShardRef) -> Result<Option<Hash>, StoreError> {
        let sound = !self.0.damaged().contains(&(*vault, shard));
        Ok(self.0.index.place(vault, shard)?.filter(|_| sound).map(|place| place.root))
    }

    /// Shards of a vault after one, in ascending order, at most `limit`; those that are damaged are left out.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn list(
        &self,
        vault: &VaultId,
        after: Option<ShardRef>,
        limit: usize,
    ) -> Result<Vec<HeldShard>, StoreError> {
        let places = self.0.index.list(vault, after, limit)?;
        let damaged = self.0.damaged();
        let sound = places.into_iter().filter(|place| !damaged.contains(&(*vault, place.shard)));
        Ok(sound.map(|place| HeldShard { shard: place.shard, root: place.root, len: place.len }).collect())
    }

    /// When each shard of a segment was stored that this vault has here, by the ledger's time; zero where that was not
    /// known.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Disk`].
    pub fn stored_at(&self, vault: &VaultId, segment: &SegmentId) -> Result<Vec<Timestamp>, StoreError> {
        let places = self.0.index.places_of(vault, segment)?;
        let stored_at = |place: &Place| {
            let file = self.0.volumes.get(place.volume)?;
            Ok(read_header(&*file, &self.0.config.header_key, place)?.stored_at)
        };
        places.iter().map(stored_at).collect()
    }

    /// The next shards in the order of their vaults, after one; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn walk(
        &self,
        mut after: Option<(VaultId, ShardRef)>,
        limit: usize,
    ) -> Result<Vec<(VaultId, ShardRef)>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(place) = self.0.index.next_after(after)?
        {
            after = Some((place.vault, place.shard));
            found.extend(after);
        }
        Ok(found)
    }

    /// What the store holds and what is wrong with it.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let totals = self.0.index.totals();
        let disk_bytes = self.0.volumes.allocated_bytes();
        let free = self.0.disk.free_bytes().unwrap_or(0);
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let damaged = self.0.damaged().len();
        if damaged > 0 {
            problems.push(format!("{damaged} shards are damaged on disk and not served"));
        }
        if self.0.index.is_condemned() {
            problems.push("the index is damaged: restart the node to have it made anew".to_owned());
        }
        let (free_bytes, reserve) =
            (free.saturating_sub(self.0.config.free_reserve), self.0.config.free_reserve);
        if free_bytes < FULL_BELOW {
            problems.push(format!(
                "it is full: {free} bytes are free on its disk, of which {reserve} are kept in reserve"
            ));
        }
        Usage { shards: totals.shards, shard_bytes: totals.bytes, disk_bytes, free_bytes, problems }
    }
}

/// The chaining values of a shard's slices. The header before them must be its own: neither a row of the index
/// that rotted nor a write that went astray may have another's bytes served.
pub(super) fn read_leaves(
    file: &dyn DiskFile,
    key: &HeaderKey,
    place: &Place,
) -> Result<Vec<Hash>, StoreError> {
    let mut bytes = vec![0; usize::try_from(place.header().data_at()).map_err(|_| StoreError::Corrupt)?];
    file.read_at(place.offset, &mut bytes).map_err(read_error)?;
    let (head, leaves) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(StoreError::Corrupt)?;
    let found = Header::decode(head, key, place.volume, place.offset).ok_or(StoreError::Corrupt)?;
    if (Header { durable_to: 0, stored_at: Timestamp::ZERO, ..found }) != place.header() {
        return Err(StoreError::Corrupt);
    }
    Ok(leaves.chunks_exact(32).filter_map(Hash::from_slice).collect())
}

/// The header of a shard's entry, which must be its own.
pub(super) fn read_header(file: &dyn DiskFile, key: &HeaderKey, place: &Place) -> Result<Header, StoreError> {
    let mut head = [0; HEADER_LEN];
    file.read_at(place.offset, &mut head).map_err(read_error)?;
    let found = Header::decode(&head, key, place.volume, place.offset).ok_or(StoreError::Corrupt)?;
    if (Header { durable_to: 0, stored_at: Timestamp::ZERO, ..found }) == place.header() {
        Ok(found)
    } else {
        Err(StoreError::Corrupt)
    }
}

/// A volume that ends too early has lost the shard.
fn read_error(error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return StoreError::Corrupt;
    }
    StoreError::disk("reading a volume")(error)
}
