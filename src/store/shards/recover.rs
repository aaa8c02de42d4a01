//! Opening a store: what the index missed is replayed from the log, and a torn end is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use crate::crypto::tree::SliceHasher;
use crate::message::ShardRef;
use crate::store::disk::{Disk, DiskFile};
use crate::store::shards::reader::read_leaves;
use crate::store::shards::{
    HeaderKey, Index, Place, Position, READ_BUFFERS_KEPT, ShardStore, Shared, StoreConfig, StoreError,
    Volumes,
};
use crate::store::volume::{self, Found, Kind, Scan, file_name};
use crate::transfer::BufferPool;
use crate::types::VaultId;

pub(super) fn open(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<ShardStore, StoreError> {
    let (index, known) = Index::open(Arc::clone(&disk))?;
    let volumes = Volumes::find(Arc::clone(&disk)).map_err(StoreError::disk("listing the folder"))?;
    let shared = Arc::new(Shared {
        disk,
        config,
        index,
        volumes,
        problems: Mutex::default(),
        damaged: Mutex::default(),
        pool: BufferPool::new(READ_BUFFERS_KEPT),
    });
    let mut store = ShardStore {
        shared,
        // Numbers are not used twice, also if the volumes are lost.
        end: Position { volume: known.map_or(0, |known| known.volume), offset: 0 },
        punched: BTreeSet::new(),
        reserved_to: 0,
        since_checkpoint: 0,
        failed: false,
        compacted_to: Position { volume: 0, offset: 0 },
        scrub_from: None,
    };
    replay(&mut store, known)?;
    let lost = find_lost(&store, known)?;
    if lost.contains(&store.end.volume) || !store.shared.volumes.numbers().contains(&store.end.volume) {
        store.begin_volume()?;
    }
    store.checkpoint()?;
    Ok(store)
}

fn replay(store: &mut ShardStore, known: Option<Position>) -> Result<(), StoreError> {
    let numbers = store.shared.volumes.numbers();
    let key = store.shared.config.header_key;
    for &number in numbers.range(store.end.volume..) {
        let file = store.shared.volumes.get(number)?;
        let start = known.filter(|known| known.volume == number).map_or(0, |known| known.offset);
        let whole = |found: &Found| Ok(is_whole(&*file, &key, &place_of(number, found)));
        let sealed = numbers.last() != Some(&number);
        let scan = volume::scan(&*file, &key, number, start, sealed, whole)
            .map_err(StoreError::disk("reading a volume"))?;
        store.end = Position { volume: number, offset: scan.end };
        if !sealed {
            cut(store, &*file)?;
        }
        apply(store, number, &scan)?;
    }
    Ok(())
}

/// Names the volumes that are missing or shorter than the index knows them, and takes their shards for damaged.
fn find_lost(store: &ShardStore, known: Option<Position>) -> Result<BTreeSet<u32>, StoreError> {
    let mut lens = BTreeMap::new();
    for (number, end) in expected_ends(store, known)? {
        let len = match store.shared.volumes.get(number) {
            Err(StoreError::Corrupt) => None,
            opened => Some(opened?.len().map_err(StoreError::disk("reading a volume"))?),
        };
        if len.unwrap_or(0) < end {
            lens.insert(number, len);
        }
    }
    let mut shards = Vec::new();
    if !lens.is_empty() {
        let end = |place: &Place| place.offset + place.header().entry_len();
        let is_lost =
            |place: &Place| lens.get(&place.volume).is_some_and(|len| end(place) > len.unwrap_or(0));
        shards = store.shared.index.find(is_lost)?;
    }
    store.shared.damaged().extend(shards.iter().map(|place| (place.vault, place.shard)));
    for (number, len) in &lens {
        let count = shards.iter().filter(|place| place.volume == *number).count();
        // What the index does not know is lost too, but not what was stored anew or released since.
        if count > 0 || known.is_none_or(|known| known.volume == *number) {
            let what = if len.is_some() { "cut short" } else { "missing" };
            store.shared.report(format!("{} is {what}: {count} shards are lost with it", file_name(*number)));
        }
    }
    Ok(lens.into_keys().collect())
}

/// How long the volumes are at least.
fn expected_ends(store: &ShardStore, known: Option<Position>) -> Result<BTreeMap<u32, u64>, StoreError> {
    let live = store.shared.index.volumes()?.into_iter();
    let mut ends: BTreeMap<u32, u64> = live.map(|(number, live)| (number, live.end)).collect();
    if let Some(known) = known {
        let end = ends.entry(known.volume).or_default();
        *end = known.offset.max(*end);
    }
    let numbers = store.shared.volumes.numbers();
    if let (None, Some(first), Some(last)) = (known, numbers.first(), numbers.last()) {
        // An index made anew knows nothing of what is missing; but only the oldest volumes are ever removed.
        ends.extend((*first..*last).filter(|number| !numbers.contains(number)).map(|gap| (gap, 1)));
    }
    Ok(ends)
}

const fn place_of(volume: u32, found: &Found) -> Place {
    Place::new(&found.header, Position { volume, offset: found.offset })
}

/// Brings the index up to date with a volume's entries, and frees the space of those that were released: a crash may have
/// come between a tombstone and its holes, and a hole is punched twice without harm.
fn apply(store: &mut ShardStore, number: u32, scan: &Scan) -> Result<(), StoreError> {
    if scan.unfinished > 0 {
        let (entries, end) = (scan.unfinished, scan.end);
        tracing::warn!(entries, volume = number, end, "the last write was not finished and is cut off");
    }
    for gap in &scan.damaged {
        let bytes = gap.end - gap.start;
        store.shared.report(format!("{bytes} bytes at {} of {} are damaged", gap.start, file_name(number)));
    }
    let mut fresh: BTreeMap<_, Place> = BTreeMap::new();
    let mut freed = BTreeSet::new();
    let mut dead = Vec::new();
    for found in &scan.entries {
        let segment = (found.header.vault, found.header.shard.segment);
        if found.header.kind == Kind::Shard {
            dead.extend(fresh.insert((found.header.vault, found.header.shard), place_of(number, found)));
            continue;
        }
        freed.insert(segment);
        let released =
            |(vault, shard): &(VaultId, ShardRef), _: &mut Place| (*vault, shard.segment) == segment;
        dead.extend(fresh.extract_if(.., released).map(|(_, place)| place));
    }
    let mut gone = Vec::new();
    for (vault, segment) in &freed {
        gone.extend(store.shared.index.places_of(vault, segment)?);
    }
    let fresh: Vec<_> = fresh.into_values().collect();
    // At once: the index must never know an end of the log without all that is before it.
    dead.extend(store.shared.index.change(&gone, &fresh, store.end)?);
    store.free(&dead);
    Ok(())
}

/// Cuts off what follows the end of the log, so that nothing torn is ever taken for an entry. What is before it may be in
/// the page cache alone, if only the process died: the index must not know it before it is durable.
fn cut(store: &mut ShardStore, file: &dyn DiskFile) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::disk("cutting a volume")(error);
    let len = file.len().map_err(failed)?;
    if len > store.end.offset {
        file.set_len(store.end.offset).map_err(failed)?;
    }
    file.sync_data().map_err(failed)?;
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
