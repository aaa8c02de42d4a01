//! Opening a store: what the index missed is replayed from the log, and a torn end is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use crate::crypto::tree::SliceHasher;
use crate::store::disk::{Disk, DiskFile};
use crate::store::shards::{
    HeaderKey, Index, Place, Position, ShardStore, Shared, StoreConfig, StoreError, read_leaves,
};
use crate::store::volume::{self, Found, Kind, Scan, file_name};

pub(super) fn open(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<ShardStore, StoreError> {
    let (index, known) = Index::open(Arc::clone(&disk))?;
    let volumes = open_volumes(&*disk)?;
    let shared = Arc::new(Shared {
        disk,
        config,
        index,
        volumes: RwLock::new(volumes.clone()),
        problems: Mutex::default(),
        damaged: Mutex::default(),
    });
    let mut store = ShardStore {
        shared,
        end: Position { volume: 0, offset: 0 },
        reserved_to: 0,
        since_checkpoint: 0,
        failed: false,
        scrub_from: None,
    };
    replay(&mut store, &volumes, known)?;
    if volumes.is_empty() {
        store.begin_volume()?;
    }
    store.checkpoint()?;
    Ok(store)
}

fn open_volumes(disk: &dyn Disk) -> Result<BTreeMap<u32, Arc<dyn DiskFile>>, StoreError> {
    let names = disk.list().map_err(StoreError::disk("listing the folder"))?;
    let numbers = names.iter().filter_map(|name| volume::volume_of(name));
    let open = |number| Ok((number, disk.open(&file_name(number))?));
    numbers.map(open).collect::<io::Result<_>>().map_err(StoreError::disk("opening a volume"))
}

fn replay(
    store: &mut ShardStore,
    volumes: &BTreeMap<u32, Arc<dyn DiskFile>>,
    known: Option<Position>,
) -> Result<(), StoreError> {
    let first = known.map_or(0, |known| known.volume);
    let last = volumes.keys().next_back().copied();
    if let Some(known) = known.filter(|known| !volumes.contains_key(&known.volume)) {
        store.shared.report(format!("{} is missing", file_name(known.volume)));
    }
    for (number, file) in volumes.range(first..) {
        let start = known.filter(|known| known.volume == *number).map_or(0, |known| known.offset);
        let key = store.shared.config.header_key;
        let whole = |found: &Found| Ok(is_whole(&**file, &key, &place_of(*number, found)));
        let sealed = Some(*number) != last;
        let scan = volume::scan(&**file, &key, *number, start, sealed, whole)
            .map_err(StoreError::disk("reading a volume"))?;
        store.end = Position { volume: *number, offset: scan.end };
        apply(store, *number, &scan)?;
        if !sealed {
            cut(store, &**file)?;
        }
    }
    Ok(())
}

const fn place_of(volume: u32, found: &Found) -> Place {
    Place::new(&found.header, Position { volume, offset: found.offset })
}

/// Brings the index up to date with a volume's entries.
fn apply(store: &mut ShardStore, number: u32, scan: &Scan) -> Result<(), StoreError> {
    for gap in &scan.damaged {
        let bytes = gap.end - gap.start;
        store.shared.report(format!("{bytes} bytes at {} of {} are damaged", gap.start, file_name(number)));
    }
    let mut fresh: BTreeMap<_, Place> = BTreeMap::new();
    let mut freed = BTreeSet::new();
    for found in &scan.entries {
        let segment = (found.header.owner, found.header.shard.segment);
        if found.header.kind == Kind::Shard {
            fresh.insert((found.header.owner, found.header.shard), place_of(number, found));
            continue;
        }
        freed.insert(segment);
        fresh.retain(|(owner, shard), _| (*owner, shard.segment) != segment);
    }
    let mut gone = Vec::new();
    for (owner, segment) in &freed {
        gone.extend(store.shared.index.places_of(owner, segment)?);
    }
    let fresh: Vec<_> = fresh.into_values().collect();
    // At once: the index must never know an end of the log without all that is before it.
    let left = store.shared.index.change(&gone, &fresh, store.end)?;
    left.iter().try_for_each(|place| store.free(place))
}

/// Cuts off what follows the end of the log, so that nothing torn is ever taken for an entry.
fn cut(store: &mut ShardStore, file: &dyn DiskFile) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::disk("cutting a volume")(error);
    if file.len().map_err(failed)? > store.end.offset {
        file.set_len(store.end.offset).map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    store.reserved_to = store.end.offset;
    Ok(())
}

/// Whether a shard's bytes on disk hash to its root and its leaves are the stored ones.
pub(super) fn is_whole(file: &dyn DiskFile, key: &HeaderKey, place: &Place) -> bool {
    const PIECE: u64 = 1 << 20;
    if place.header().kind != Kind::Shard || place.len == 0 {
        return true;
    }
    let Ok(stored) = read_leaves(file, key, place) else { return false };
    let mut hasher = SliceHasher::new(place.len);
    let start = place.offset + place.header().data_at();
    let mut at = 0;
    let mut piece = Vec::new();
    while at < place.len {
        let len = PIECE.min(place.len - at);
        piece.resize(usize::try_from(len).unwrap_or(0), 0);
        if file.read_at(start + at, &mut piece).is_err() {
            return false;
        }
        hasher.update(&piece);
        at += len;
    }
    let (root, leaves) = hasher.finish();
    root == place.root && leaves == stored
}
