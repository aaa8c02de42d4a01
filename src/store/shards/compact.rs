//! What lives in a volume that is mostly dead moves on, so that the volume can go.
//!
//! A hole gives back all of a shard but its first block, so many small ones keep a volume's space when they are
//! gone. Only the oldest volume is compacted, since only the oldest can be removed: a younger one may hold the
//! tombstones of an older. A shard moves as it came: it is appended to the log once more, and the log is the
//! truth. If we crash at any point, recovery finds one copy or both, and the later counts.

use crate::crypto::tree::SliceHasher;
use crate::store::disk::DiskFile;
use crate::store::shards::reader::read_header;
use crate::store::shards::{NewShard, Place, Position, ShardStore, StoreError};
use crate::store::volume::{self, Kind};

/// Bytes moved by one release at most: those who wait behind it wait for this too.
const STEP_BYTES: u64 = 16 << 20;

impl ShardStore {
    /// Moves some of what lives in the oldest volume, if at least half of what that takes is dead: then every byte
    /// that is copied gives one back.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let oldest = self.shared.volumes.numbers().first().copied();
        let Some(oldest) = oldest.filter(|oldest| *oldest < self.end.volume) else { return Ok(()) };
        let live = self.shared.index.live_in(oldest)?;
        let file = self.shared.volumes.get(oldest)?;
        let taken = file.allocated_bytes().map_err(StoreError::disk("reading a volume"))?;
        if live.bytes * 2 > taken {
            return Ok(());
        }
        let before = self.compacted_to;
        let batch = self.survivors(oldest)?;
        let moved = self.append(&batch.iter().collect::<Vec<_>>());
        if moved.is_err() {
            // They are looked at once more.
            self.compacted_to = before;
        }
        // A full disk is what releases are there for.
        if matches!(moved, Err(StoreError::Full { .. })) { Ok(()) } else { moved }
    }

    /// The next shards that live in a volume; one that is damaged stays where it is. Each is looked at once.
    fn survivors(&mut self, number: u32) -> Result<Vec<NewShard>, StoreError> {
        let start = Some(self.compacted_to).filter(|to| to.volume == number).map_or(0, |to| to.offset);
        let file = self.shared.volumes.get(number)?;
        let scan = volume::scan(&*file, &self.shared.config.header_key, number, start, true, |_| Ok(true))
            .map_err(StoreError::disk("reading a volume"))?;
        let (mut survivors, mut bytes) = (Vec::new(), 0);
        for found in &scan.entries {
            if bytes >= STEP_BYTES {
                break;
            }
            let place = Place::new(&found.header, Position { volume: number, offset: found.offset });
            let end = found.offset + found.header.entry_len();
            let is_shard = found.header.kind == Kind::Shard;
            if is_shard && self.shared.index.place(&place.vault, place.shard)? == Some(place) {
                bytes += found.header.entry_len();
                survivors.extend(self.whole(&*file, &place)?);
            }
            self.compacted_to = Position { volume: number, offset: end };
        }
        Ok(survivors)
    }

    /// The shard of a place, checked: what is appended anew must not make damage look sound.
    fn whole(&self, file: &dyn DiskFile, place: &Place) -> Result<Option<NewShard>, StoreError> {
        let mut bytes = vec![0; usize::try_from(place.len).map_err(|_| StoreError::Corrupt)?];
        file.read_at(place.offset + place.header().data_at(), &mut bytes)
            .map_err(StoreError::disk("reading a volume"))?;
        let mut hasher = SliceHasher::new(place.len);
        hasher.update(&bytes);
        let (root, leaves) = hasher.finish();
        if root != place.root {
            self.shared.damaged().insert((place.vault, place.shard));
            return Ok(None);
        }
        // It stays as old as it is. A header that rotted meanwhile leaves the shard where it is.
        let Ok(header) = read_header(file, &self.shared.config.header_key, place) else { return Ok(None) };
        let (vault, shard, stored_at) = (place.vault, place.shard, header.stored_at);
        Ok(Some(NewShard { vault, shard, root, bytes: bytes.into(), leaves, stored_at }))
    }
}
