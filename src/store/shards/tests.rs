#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::*;
use crate::crypto::tree;
use crate::crypto::tree::SliceHasher;
use crate::store::volume;
use crate::testing::{MemDisk, Op, Survivors};

const CONFIG: StoreConfig = StoreConfig {
    free_reserve: 0,
    volume_len: 100_000,
    checkpoint_bytes: 60_000,
    header_key: HeaderKey([7; 32]),
};
const ROOM: u64 = 64 << 20;

fn vault(n: u8) -> VaultId {
    VaultId([n; 32])
}

fn segment(n: u8) -> SegmentId {
    SegmentId([n; 32])
}

fn shard_ref(n: u8, index: u8) -> ShardRef {
    ShardRef { segment: segment(n), index }
}

/// Bytes that differ from shard to shard and hold no zeros.
fn shard(own: u8, n: u8, index: u8, len: usize) -> NewShard {
    let mut state = u32::from_le_bytes([own, n, index, 1]).wrapping_mul(2_654_435_761);
    let bytes: Vec<u8> = (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 | 1
        })
        .collect();
    let mut hasher = SliceHasher::new(len as u64);
    hasher.update(&bytes);
    let (root, leaves) = hasher.finish();
    let stored_at = Timestamp::from_unix_micros(u64::from(n) + 1);
    NewShard { vault: vault(own), shard: shard_ref(n, index), root, bytes: bytes.into(), leaves, stored_at }
}

fn open_with(disk: &MemDisk, config: StoreConfig) -> ShardStore {
    ShardStore::open(Arc::new(disk.clone()), config).unwrap()
}

fn open(disk: &MemDisk) -> ShardStore {
    open_with(disk, CONFIG)
}

fn put(store: &mut ShardStore, batch: &[NewShard]) {
    store.put_batch(batch).into_iter().for_each(Result::unwrap);
}

fn read(store: &ShardStore, new: &NewShard) -> Result<ReadSlice, StoreError> {
    store.reader().read(&new.vault, new.shard, 0, u64::MAX)
}

fn assert_whole(store: &ShardStore, new: &NewShard) {
    let slice = read(store, new).unwrap();
    assert_eq!(slice.bytes, new.bytes);
    assert_eq!(slice.shard_len, new.bytes.len() as u64);
}

fn assert_absent(store: &ShardStore, new: &NewShard) {
    assert!(matches!(read(store, new), Err(StoreError::NotFound)));
}

fn place(store: &ShardStore, new: &NewShard) -> Place {
    store.shared.index.place(&new.vault, new.shard).unwrap().unwrap()
}

fn lose_index(disk: &MemDisk) {
    disk.remove(index::INDEX_FILE).unwrap();
    disk.sync_dir().unwrap();
}

#[test]
fn what_is_put_is_read_with_proofs_in_its_vault_alone() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> = [1, 511, 16_384, 16_385, 70_000]
        .iter()
        .zip(0..)
        .map(|(len, index)| shard(1, 1, index, *len))
        .collect();
    put(&mut store, &news);
    let reader = store.reader();
    for new in &news {
        let len = new.bytes.len() as u64;
        assert_eq!(reader.root_of(&new.vault, new.shard).unwrap(), Some(new.root));
        for start in (0..len).step_by(SLICE_LEN) {
            for wanted in [SLICE_LEN as u64, 2 * SLICE_LEN as u64, u64::MAX] {
                let slice = reader.read(&new.vault, new.shard, start, wanted).unwrap();
                let end = len.min(start.saturating_add(wanted));
                assert_eq!(slice.bytes, new.bytes[start as usize..end as usize]);
                assert!(tree::verify(&new.root, len, start, &slice.bytes, &slice.proof).is_ok());
                let mut wrong = slice.bytes.to_vec();
                wrong[0] ^= 1;
                assert!(tree::verify(&new.root, len, start, &wrong, &slice.proof).is_err());
            }
        }
        assert!(matches!(reader.read(&new.vault, new.shard, 1, 5), Err(StoreError::OutOfBounds)));
        assert!(matches!(reader.read(&new.vault, new.shard, 1 << 20, 5), Err(StoreError::OutOfBounds)));
        assert!(matches!(reader.read(&vault(2), new.shard, 0, len), Err(StoreError::NotFound)));
        assert_eq!(reader.root_of(&vault(2), new.shard).unwrap(), None);
    }
    assert_eq!(store.release(&vault(2), &[segment(1)]).unwrap(), (0, 0));
    assert_whole(&store, &news[0]);
    let usage = reader.usage();
    assert_eq!((usage.shards, usage.shard_bytes), (5, 1 + 511 + 16_384 + 16_385 + 70_000));
    assert!(usage.problems.is_empty());
}

#[test]
fn a_put_again_is_ok_and_another_shard_of_the_name_is_a_conflict() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let new = shard(1, 1, 0, 20_000);
    put(&mut store, &[new.clone(), new.clone()]);
    let end = store.end;
    put(&mut store, std::slice::from_ref(&new));
    assert_eq!(store.end, end, "nothing was written");
    let other = NewShard { shard: new.shard, ..shard(1, 9, 9, 20_000) };
    let foreign = shard(2, 1, 0, 100);
    let results = store.put_batch(&[other, foreign.clone()]);
    assert!(matches!(results[..], [Err(StoreError::Conflict), Ok(())]));
    assert_whole(&store, &new);
    assert_whole(&store, &foreign);
    assert_eq!(store.reader().usage().shards, 2);
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<NewShard>),
    Release(u8, Vec<u8>),
    Reopen { close: bool },
}

fn workload() -> Vec<Step> {
    vec![
        Step::Put(vec![shard(1, 1, 0, 20_000), shard(1, 1, 1, 700), shard(2, 1, 0, 300)]),
        Step::Put(vec![shard(1, 2, 0, 40_000)]),
        Step::Release(1, vec![1]),
        Step::Put(vec![shard(1, 3, 0, 17_000), shard(1, 4, 0, 9_000)]),
        // Begins the second volume.
        Step::Put(vec![shard(1, 5, 0, 30_000), shard(1, 6, 0, 1)]),
        Step::Release(1, vec![3]),
        Step::Reopen { close: false },
        Step::Put(vec![shard(1, 1, 0, 20_000), shard(1, 7, 0, 50_000)]),
        Step::Release(1, vec![2, 4]),
        Step::Release(2, vec![1]),
        Step::Put(vec![shard(1, 8, 0, 5_000)]),
        Step::Reopen { close: true },
        Step::Put(vec![shard(1, 3, 0, 17_000), shard(1, 2, 0, 40_000)]),
        Step::Release(1, vec![5, 6]),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Held,
    Gone,
    Either,
}

/// What was promised of each shard.
type Promises = BTreeMap<(VaultId, ShardRef), (NewShard, Fate)>;

/// Runs the workload until its end or the first error.
fn run(disk: &MemDisk) -> Promises {
    let mut promises = Promises::new();
    let Ok(mut store) = ShardStore::open(Arc::new(disk.clone()), CONFIG) else { return promises };
    for step in workload() {
        match step {
            Step::Put(news) => {
                for (new, result) in news.iter().zip(store.put_batch(&news)) {
                    let fate = if result.is_ok() { Fate::Held } else { Fate::Either };
                    promises.insert((new.vault, new.shard), (new.clone(), fate));
                }
            }
            Step::Release(own, segments) => {
                let ids: Vec<_> = segments.iter().map(|n| segment(*n)).collect();
                let fate = if store.release(&vault(own), &ids).is_ok() { Fate::Gone } else { Fate::Either };
                for ((of, shard), promise) in &mut promises {
                    if *of == vault(own) && ids.contains(&shard.segment) {
                        promise.1 = fate;
                    }
                }
            }
            Step::Reopen { close } => {
                if close {
                    drop(store.close());
                } else {
                    drop(store);
                }
                match ShardStore::open(Arc::new(disk.clone()), CONFIG) {
                    Ok(opened) => store = opened,
                    Err(_) => return promises,
                }
            }
        }
        if disk.is_down() {
            return promises;
        }
    }
    promises
}

fn check(store: &ShardStore, promises: &Promises) {
    for (new, fate) in promises.values() {
        match (fate, read(store, new)) {
            (Fate::Held | Fate::Either, Ok(slice)) => assert_eq!(slice.bytes, new.bytes),
            (Fate::Gone | Fate::Either, Err(StoreError::NotFound)) => {}
            (fate, found) => panic!("{:?} should be {fate:?}: {:?}", new.shard, found.map(|s| s.shard_len)),
        }
    }
    assert_eq!(store.reader().usage().problems, Vec::<String>::new());
}

/// Of what was released the volumes take no more than the headers. To be asked of a store that was just opened:
/// later one has space reserved.
fn assert_nothing_leaks(disk: &MemDisk, store: &ShardStore) {
    for number in store.shared.volumes.numbers() {
        let file = disk.open(&file_name(number)).unwrap();
        let sealed = number < store.end.volume;
        let scan = volume::scan(&*file, &CONFIG.header_key, number, 0, sealed, |_| Ok(true)).unwrap();
        let needed = scan.entries.iter().map(|found| {
            let here = Place::new(&found.header, Position { volume: number, offset: found.offset });
            let place = store.shared.index.place(&here.vault, here.shard).unwrap();
            if place == Some(here) { found.header.entry_len() } else { ENTRY_ALIGN }
        });
        let (needed, taken) = (needed.sum::<u64>(), file.allocated_bytes().unwrap());
        assert!(taken <= needed, "{} takes {taken} bytes, {needed} are needed", file_name(number));
    }
}

#[test]
fn acknowledged_puts_and_releases_survive_a_crash_at_every_operation() {
    let whole = MemDisk::new(ROOM);
    let promises = run(&whole);
    let changes = whole.changes();
    check(&open(&whole), &promises);
    for change in 0..changes {
        let disk = MemDisk::new(ROOM);
        disk.lose_power_at(change);
        let promises = run(&disk);
        assert!(disk.is_down());
        for survivors in
            [Survivors::Nothing, Survivors::Everything, Survivors::Random(change), Survivors::Random(!change)]
        {
            let image = disk.after_power_loss(survivors);
            let rebuilt = disk.after_power_loss(survivors);
            let mut store = open(&image);
            check(&store, &promises);
            assert_nothing_leaks(&image, &store);
            let more = shard(3, 200, 0, 33_000);
            put(&mut store, std::slice::from_ref(&more));
            drop(store);
            let store = open(&image);
            check(&store, &promises);
            assert_whole(&store, &more);
            // The index is only a cache.
            drop(rebuilt.remove(index::INDEX_FILE));
            let store = open(&rebuilt);
            check(&store, &promises);
            assert_nothing_leaks(&rebuilt, &store);
        }
    }
}

#[test]
fn a_crash_during_recovery_loses_nothing() {
    let whole = MemDisk::new(ROOM);
    let promises = run(&whole);
    let image = || {
        let image = whole.after_power_loss(Survivors::Nothing);
        lose_index(&image);
        image
    };
    let first = image();
    let before = first.changes();
    drop(open(&first));
    for change in before..first.changes() {
        let disk = image();
        disk.lose_power_at(change);
        drop(ShardStore::open(Arc::new(disk.clone()), CONFIG));
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Random(change)] {
            check(&open(&disk.after_power_loss(survivors)), &promises);
        }
    }
}

#[test]
fn a_full_disk_refuses_serves_and_recovers() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let first = shard(1, 1, 0, 30_000);
    put(&mut store, std::slice::from_ref(&first));
    let used = ROOM - disk.free_bytes().unwrap();
    disk.set_capacity(used + 8_192);
    let second = [shard(1, 2, 0, 80_000), shard(1, 2, 1, 10)];
    for result in store.put_batch(&second) {
        assert!(matches!(result, Err(StoreError::Full { .. })), "{result:?}");
    }
    assert_whole(&store, &first);
    assert_absent(&store, &second[0]);
    disk.set_capacity(ROOM);
    put(&mut store, &second);
    second.iter().chain([&first]).for_each(|new| assert_whole(&store, new));
    // Space that runs out in the middle of a write.
    let third = shard(1, 3, 0, 40_000);
    disk.fail_next(Op::Write, "volume-", io::ErrorKind::StorageFull);
    assert!(matches!(store.put_batch(std::slice::from_ref(&third))[..], [Err(StoreError::Full { .. })]));
    assert_whole(&store, &second[1]);
    put(&mut store, std::slice::from_ref(&third));
    drop(store);
    lose_index(&disk);
    let store = open(&disk);
    second.iter().chain([&first, &third]).for_each(|new| assert_whole(&store, new));
    assert!(store.reader().usage().problems.is_empty());
}

#[test]
fn the_reserve_stays_free() {
    let disk = MemDisk::new(ROOM);
    let mut store = open_with(&disk, StoreConfig { free_reserve: ROOM - (2 << 20), ..CONFIG });
    let outcomes: Vec<_> =
        (0..60).flat_map(|n| store.put_batch(&[shard(1, n, 0, 60_000)])).map(|r| r.is_ok()).collect();
    assert!(outcomes[0] && !outcomes[59]);
    assert_eq!(
        store.reader().usage().free_bytes,
        disk.free_bytes().unwrap().saturating_sub(ROOM - (2 << 20))
    );
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_reopened() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let (first, second) = (shard(1, 1, 0, 30_000), shard(1, 2, 0, 5_000));
    put(&mut store, std::slice::from_ref(&first));
    disk.fail_next(Op::Sync, "volume-", io::ErrorKind::Other);
    assert!(matches!(store.put_batch(std::slice::from_ref(&second))[..], [Err(StoreError::Disk { .. })]));
    assert!(matches!(store.put_batch(std::slice::from_ref(&second))[..], [Err(StoreError::Failed)]));
    assert!(matches!(store.release(&vault(1), &[segment(1)]), Err(StoreError::Failed)));
    assert_whole(&store, &first);
    assert_eq!(store.reader().usage().problems.len(), 1);
    assert!(matches!(store.close(), Err(StoreError::Failed)));
    let image = disk.after_power_loss(Survivors::Nothing);
    let mut store = open(&image);
    assert_whole(&store, &first);
    put(&mut store, std::slice::from_ref(&second));
    assert_whole(&store, &second);
}

#[test]
fn a_lost_or_garbled_index_is_rebuilt() {
    let whole = MemDisk::new(ROOM);
    let promises = run(&whole);
    let usage = open(&whole).reader().usage();
    let garble = |bytes: &[u8]| {
        let disk = whole.after_power_loss(Survivors::Everything);
        disk.remove(index::INDEX_FILE).unwrap();
        disk.create(index::INDEX_FILE).unwrap().write_at(0, bytes).unwrap();
        disk
    };
    let lost = whole.after_power_loss(Survivors::Everything);
    lose_index(&lost);
    let mut garbage = vec![0xa5; 50_000];
    let mut disks = vec![lost, garble(&garbage), garble(&garbage[..10]), garble(&[0; 9_000])];
    // Redb's magic, then garbage.
    garbage[..9].copy_from_slice(b"redb\x1a\x0a\xa9\x0d\x0a");
    disks.push(garble(&garbage));
    for disk in disks {
        let store = open(&disk);
        check(&store, &promises);
        let found = store.reader().usage();
        assert_eq!((found.shards, found.shard_bytes), (usage.shards, usage.shard_bytes));
    }
}

#[test]
fn a_rebuild_serves_what_shares_a_volumes_last_batch_with_released_shards() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let batch = [shard(1, 1, 0, 30_000), shard(1, 2, 0, 30_000)];
    put(&mut store, &batch);
    put(&mut store, &[shard(1, 3, 0, 80_000)]);
    store.release(&vault(1), &[segment(1)]).unwrap();
    store.close().unwrap();
    lose_index(&disk);
    let store = open(&disk);
    assert_absent(&store, &batch[0]);
    assert_whole(&store, &batch[1]);
    assert!(store.reader().usage().problems.is_empty());
}

#[test]
fn a_scrub_finds_a_flipped_bit_and_a_new_copy_heals_it() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> = (0..4).map(|n| shard(1, n, 0, 30_000)).collect();
    put(&mut store, &news);
    let hit = place(&store, &news[2]);
    disk.flip_bit(&file_name(hit.volume), hit.offset + hit.header().data_at() + 20_000, 3);
    let mut damaged = Vec::new();
    let mut shards = 0;
    loop {
        // In small bites.
        let report = store.scrub(1).unwrap();
        damaged.extend(report.damaged);
        shards += report.shards;
        if report.finished {
            break;
        }
    }
    assert_eq!((shards, damaged), (4, vec![(vault(1), news[2].shard)]));
    assert!(matches!(read(&store, &news[2]), Err(StoreError::Corrupt)));
    assert_eq!(store.reader().root_of(&vault(1), news[2].shard).unwrap(), None);
    assert!(store.reader().usage().problems.iter().any(|problem| problem.contains("damaged")));
    assert_whole(&store, &news[1]);
    assert!(store.scrub(u64::MAX).unwrap().damaged.is_empty(), "reported once");
    put(&mut store, &news[2..3]);
    assert_whole(&store, &news[2]);
    assert!(store.reader().usage().problems.is_empty());
    drop(store);
    assert_whole(&open(&disk), &news[2]);
}

#[test]
fn a_read_that_finds_damage_lets_a_new_copy_heal_it() {
    let (disk, news) = three_volumes();
    let mut store = open(&disk);
    let hit = place(&store, &news[4]);
    disk.flip_bit(&file_name(hit.volume), hit.offset + 20, 3);
    assert!(matches!(read(&store, &news[4]), Err(StoreError::Corrupt)));
    assert_eq!(store.reader().root_of(&vault(1), news[4].shard).unwrap(), None);
    put(&mut store, &news[4..5]);
    assert_whole(&store, &news[4]);
}

#[test]
fn a_damaged_header_is_reported_and_the_other_shards_are_served() {
    // In the middle of the last volume, and of one before it.
    for later in [0, 3] {
        let disk = MemDisk::new(ROOM);
        let mut store = open(&disk);
        let news: Vec<_> = (0..3 + later).map(|n| shard(1, n, 0, 30_000)).collect();
        news.iter().for_each(|new| put(&mut store, std::slice::from_ref(new)));
        let hit = place(&store, &news[1]);
        store.close().unwrap();
        disk.flip_bit(&file_name(hit.volume), hit.offset + 20, 0);
        lose_index(&disk);
        let store = open(&disk);
        assert_absent(&store, &news[1]);
        news.iter().filter(|new| new.shard != news[1].shard).for_each(|new| assert_whole(&store, new));
        let problems = store.reader().usage().problems;
        assert!(matches!(&problems[..], [one] if one.contains(&file_name(hit.volume))), "{problems:?}");
    }
}

#[test]
fn a_damaged_header_at_the_end_of_an_older_volume_is_reported() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> = (0..3).map(|n| shard(1, n, 0, 45_000)).collect();
    news.iter().for_each(|new| put(&mut store, std::slice::from_ref(new)));
    let hit = place(&store, &news[1]);
    assert!(hit.volume < store.end.volume);
    store.close().unwrap();
    disk.flip_bit(&file_name(hit.volume), hit.offset + 20, 0);
    lose_index(&disk);
    let store = open(&disk);
    assert_whole(&store, &news[0]);
    assert_whole(&store, &news[2]);
    assert_eq!(store.reader().usage().problems.len(), 1);
}

#[test]
fn released_space_is_given_back_and_dead_volumes_go() {
    let disk = MemDisk::new(ROOM);
    let mut store = open_with(&disk, StoreConfig { volume_len: 2 << 20, ..CONFIG });
    let news: Vec<_> = (0..10).map(|n| shard(1, n, 0, 600_000)).collect();
    news.iter().for_each(|new| put(&mut store, std::slice::from_ref(new)));
    let volumes = || disk.list().unwrap().iter().filter_map(|n| volume::volume_of(n)).collect::<Vec<_>>();
    let oldest = place(&store, &news[0]).volume;
    assert!(volumes().len() >= 3 && volumes()[0] == oldest);
    // A younger one's death leaves it: it may hold tombstones.
    let before = store.reader().usage().disk_bytes;
    assert_eq!(store.release(&vault(1), &[segment(0), segment(1)]).unwrap(), (2, 1_200_000));
    let after = store.reader().usage().disk_bytes;
    assert!(before - after >= 1_180_000, "{before} {after}");
    assert!(volumes().contains(&oldest));
    let rest: Vec<_> = news.iter().filter(|new| new.shard.segment != segment(0)).collect();
    let in_oldest: Vec<_> = rest[1..]
        .iter()
        .filter(|new| place(&store, new).volume == oldest)
        .map(|new| new.shard.segment)
        .collect();
    store.release(&vault(1), &in_oldest).unwrap();
    assert!(!volumes().contains(&oldest));
    drop(store);
    for lost in [false, true] {
        if lost {
            lose_index(&disk);
        }
        let store = open(&disk);
        assert!(store.reader().usage().problems.is_empty());
        for new in &news {
            let gone = new.shard.segment.0[0] < 2 || in_oldest.contains(&new.shard.segment);
            if gone { assert_absent(&store, new) } else { assert_whole(&store, new) }
        }
    }
}

/// Ends a panic of the code under test quietly; one that escapes fails the test.
fn opened(disk: &MemDisk) -> ShardStore {
    // A panic inside redb may cost one start.
    ShardStore::open(Arc::new(disk.clone()), CONFIG).unwrap_or_else(|_| open(disk))
}

#[test]
fn no_bit_of_the_index_that_flips_costs_a_shard() {
    let whole = MemDisk::new(ROOM);
    let mut store = open(&whole);
    let news: Vec<_> = (0..150).map(|n| shard(1, n, 0, 1_000)).collect();
    news.chunks(10).for_each(|batch| put(&mut store, batch));
    store.release(&vault(1), &[segment(0), segment(77)]).unwrap();
    let crashed = whole.after_power_loss(Survivors::Everything);
    store.close().unwrap();
    let (gone, held): (Vec<_>, Vec<_>) =
        news.iter().partition(|new| [0, 77].contains(&new.shard.segment.0[0]));
    let mut random = 1_u64;
    for flip in 0..400 {
        let disk = [&whole, &crashed][flip % 2].after_power_loss(Survivors::Everything);
        let len = disk.open(index::INDEX_FILE).unwrap().len().unwrap();
        for _ in 0..=flip % 3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            disk.flip_bit(index::INDEX_FILE, (random >> 20) % len, (random >> 12) as u8);
        }
        let store = opened(&disk);
        held.iter().for_each(|new| assert_whole(&store, new));
        gone.iter().for_each(|new| assert_absent(&store, new));
        let usage = store.reader().usage();
        assert_eq!((usage.shards, usage.problems), (held.len() as u64, vec![]), "flip {flip}");
    }
}

#[test]
fn an_error_that_passes_costs_no_index() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let new = shard(1, 1, 0, 30_000);
    put(&mut store, std::slice::from_ref(&new));
    store.close().unwrap();
    let index = || disk.open(index::INDEX_FILE).unwrap();
    let marked = index();
    let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::Interrupted, io::ErrorKind::Other];
    for (op, kind) in [Op::Open, Op::Read].into_iter().flat_map(|op| kinds.map(|kind| (op, kind))) {
        disk.fail_next(op, index::INDEX_FILE, kind);
        let refused = ShardStore::open(Arc::new(disk.clone()), CONFIG);
        assert!(matches!(refused, Err(StoreError::Disk { .. })), "{op:?} {kind:?}");
    }
    // The file is the same, not one made anew.
    assert_eq!(format!("{:?}", index()), format!("{marked:?}"));
    assert_whole(&open(&disk), &new);
}

#[test]
fn an_index_that_rots_under_a_running_node_is_made_anew_at_the_next_start() {
    let mut condemned = 0;
    for seed in 0..60_u64 {
        let disk = MemDisk::new(ROOM);
        let mut store = open(&disk);
        let news: Vec<_> = (0..150).map(|n| shard(1, n, 0, 1_000)).collect();
        news.chunks(10).for_each(|batch| put(&mut store, batch));
        store.close().unwrap();
        let store = open(&disk);
        let file = disk.open(index::INDEX_FILE).unwrap();
        for at in 0..file.len().unwrap() / 512 {
            disk.flip_bit(index::INDEX_FILE, at * 512 + seed * 8_191 % 512, seed as u8);
        }
        for new in &news {
            // Not there, damaged or an error: anything but other bytes.
            if let Ok(slice) = read(&store, new) {
                assert_eq!(slice.bytes, new.bytes);
            }
        }
        if store.shared.index.is_condemned() {
            condemned += 1;
            assert!(store.reader().usage().problems.iter().any(|problem| problem.contains("restart")));
            assert!(!disk.list().unwrap().contains(&index::INDEX_FILE.to_owned()));
        }
        drop(store);
        let store = opened(&disk);
        news.iter().for_each(|new| assert_whole(&store, new));
    }
    assert!(condemned > 0);
}

/// Three volumes: of three shards, of three, of one.
fn three_volumes() -> (MemDisk, Vec<NewShard>) {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> = (0..7).map(|n| shard(1, n, 0, 30_000)).collect();
    news.iter().for_each(|new| put(&mut store, std::slice::from_ref(new)));
    assert_eq!(news.iter().map(|new| place(&store, new).volume).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3]);
    store.close().unwrap();
    (disk, news)
}

#[test]
fn a_volume_that_is_missing_or_cut_short_is_named_and_its_shards_are_taken_anew() {
    for (volume, len, lost) in
        [(1, None, 0..3), (2, None, 3..6), (3, None, 6..7), (1, Some(40_000), 1..3), (3, Some(9_000), 6..7)]
    {
        let (disk, news) = three_volumes();
        match len {
            None => disk.remove(&file_name(volume)).unwrap(),
            Some(len) => disk.open(&file_name(volume)).unwrap().set_len(len).unwrap(),
        }
        let (lost, held) = (&news[lost.clone()], [&news[..lost.start], &news[lost.end..]].concat());
        // However often it is opened.
        drop(open(&disk));
        let mut store = open(&disk);
        let named = format!("{} is", file_name(volume));
        let counted = format!("{} shards are lost", lost.len());
        let problems = store.reader().usage().problems;
        assert!(problems.iter().any(|one| one.contains(&named) && one.contains(&counted)), "{problems:?}");
        for new in lost {
            assert!(matches!(read(&store, new), Err(StoreError::Corrupt)));
            assert_eq!(store.reader().root_of(&new.vault, new.shard).unwrap(), None);
        }
        held.iter().for_each(|new| assert_whole(&store, new));
        put(&mut store, &lost[..1]);
        let rest: Vec<_> = lost[1..].iter().map(|new| new.shard.segment).collect();
        assert_eq!(store.release(&vault(1), &rest).unwrap().0, rest.len() as u64);
        for _ in 0..2 {
            assert_whole(&store, &lost[0]);
            lost[1..].iter().for_each(|new| assert_absent(&store, new));
            held.iter().for_each(|new| assert_whole(&store, new));
            drop(store);
            store = open(&disk);
            assert_eq!(store.reader().usage().problems, Vec::<String>::new(), "{volume} {len:?}");
        }
    }
}

#[test]
fn a_missing_volume_is_named_also_by_an_index_that_never_knew_it() {
    let (disk, news) = three_volumes();
    disk.remove(&file_name(2)).unwrap();
    lose_index(&disk);
    let store = open(&disk);
    assert_absent(&store, &news[4]);
    assert_whole(&store, &news[6]);
    let problems = store.reader().usage().problems;
    assert!(matches!(&problems[..], [one] if one.contains(&file_name(2))), "{problems:?}");
}

#[test]
fn few_volumes_are_open_at_a_time() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> = (0..100).map(|n| shard(1, n, 0, 60_000)).collect();
    news.iter().for_each(|new| put(&mut store, std::slice::from_ref(new)));
    assert_eq!(store.shared.volumes.numbers().len(), 100);
    for again in [false, true] {
        if again {
            lose_index(&disk);
            drop(store);
            store = open(&disk);
        }
        news.iter().for_each(|new| assert_whole(&store, new));
        assert!(store.reader().usage().disk_bytes >= 6_000_000);
        // And the index.
        assert!(disk.open_files() <= volumes::OPEN_MAX + 1, "{}", disk.open_files());
    }
}

#[test]
fn a_read_that_a_release_overtakes_finds_nothing_instead_of_a_hole() {
    let (disk, news) = three_volumes();
    let mut store = open(&disk);
    let reader = store.reader();
    // In a volume that stays, and in one that goes.
    let places = [place(&store, &news[3]), place(&store, &news[0])];
    assert!(reader.read_place(&places[0], 0, u64::MAX).unwrap().is_some());
    let segments: Vec<_> = news[..4].iter().map(|new| new.shard.segment).collect();
    store.release(&vault(1), &segments).unwrap();
    for place in &places {
        assert_eq!(reader.read_place(place, 0, u64::MAX).unwrap(), None);
    }
    assert_absent(&store, &news[3]);
}

#[test]
fn a_hole_that_cannot_be_punched_does_not_undo_a_release() {
    let (disk, news) = three_volumes();
    let mut store = open(&disk);
    disk.fail_next(Op::Punch, "volume-", io::ErrorKind::Other);
    assert_eq!(store.release(&vault(1), &[segment(4), segment(5)]).unwrap(), (2, 60_000));
    assert_absent(&store, &news[4]);
    assert_absent(&store, &news[5]);
    assert_eq!(store.reader().usage().problems.len(), 1);
}

#[test]
fn a_new_copy_of_a_damaged_shard_frees_the_old() {
    let (disk, news) = three_volumes();
    let mut store = open(&disk);
    let hit = place(&store, &news[1]);
    disk.flip_bit(&file_name(hit.volume), hit.offset + 5_000, 3);
    store.scrub(u64::MAX).unwrap();
    put(&mut store, &news[1..2]);
    store.close().unwrap();
    let store = open(&disk);
    assert_nothing_leaks(&disk, &store);
    assert_whole(&store, &news[1]);
}

/// Stores bytes under another vault that hold a tombstone of the victim's segment where an entry may begin, made with
/// `key`; then loses the header before it, or tears it off, so that recovery has to search.
fn attacked(key: HeaderKey, torn: bool) -> (ShardStore, NewShard) {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let victim = shard(1, 1, 0, 20_000);
    put(&mut store, std::slice::from_ref(&victim));
    let start = store.end;
    let attack = shard(2, 2, 0, 30_000);
    let data_at = Place::new(&store_header(&attack), start).header().data_at();
    // The second block of the entry lies wholly in the attacker's bytes.
    let (at, in_shard) = (start.offset + ENTRY_ALIGN, (ENTRY_ALIGN - data_at) as usize);
    let forged = Header { durable_to: at, ..tombstone(victim.vault, victim.shard.segment) };
    let mut bytes = attack.bytes.to_vec();
    bytes[in_shard..in_shard + HEADER_LEN].copy_from_slice(&forged.encode(&key, start.volume, at));
    let mut hasher = SliceHasher::new(bytes.len() as u64);
    hasher.update(&bytes);
    let (root, leaves) = hasher.finish();
    put(&mut store, &[NewShard { bytes: bytes.into(), root, leaves, ..attack }]);
    drop(store);
    let file = disk.open(&file_name(start.volume)).unwrap();
    if torn {
        file.write_at(start.offset, &[0; HEADER_LEN]).unwrap();
    } else {
        disk.flip_bit(&file_name(start.volume), start.offset + 20, 0);
    }
    lose_index(&disk);
    (open(&disk), victim)
}

fn store_header(new: &NewShard) -> Header {
    let len = new.bytes.len() as u64;
    let (vault, shard, root, stored_at) = (new.vault, new.shard, new.root, new.stored_at);
    Header { kind: Kind::Shard, vault, shard, root, len, durable_to: 0, stored_at }
}

#[test]
fn an_entry_that_a_client_forges_in_its_shard_counts_for_nothing() {
    for torn in [false, true] {
        for key in [HeaderKey::default(), HeaderKey([8; 32])] {
            let (store, victim) = attacked(key, torn);
            assert_whole(&store, &victim);
        }
        // The attack is well aimed: with the store's own key, which no client has, it succeeds.
        let (store, victim) = attacked(CONFIG.header_key, torn);
        assert_absent(&store, &victim);
    }
}

#[test]
fn a_tombstone_whose_write_failed_never_counts() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let new = shard(1, 1, 0, 30_000);
    put(&mut store, std::slice::from_ref(&new));
    // The header is written, the rest of its block is not.
    disk.fail_after(1, Op::Write, "volume-", io::ErrorKind::Other);
    store.release(&vault(1), &[segment(1)]).unwrap_err();
    put(&mut store, std::slice::from_ref(&new));
    let store = open(&disk.after_power_loss(Survivors::Everything));
    assert_whole(&store, &new);
}

/// Two volumes of small shards; all but two in the older are of one segment.
fn two_volumes_of_small_shards() -> (MemDisk, Vec<NewShard>, Vec<SegmentId>) {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    let news: Vec<_> =
        (0..40).map(|n| if n < 18 { shard(1, 0, n, 500) } else { shard(1, n, 0, 500) }).collect();
    news.chunks(10).for_each(|batch| put(&mut store, batch));
    assert_eq!((place(&store, &news[19]).volume, place(&store, &news[20]).volume), (1, 2));
    store.close().unwrap();
    (disk, news, vec![segment(0)])
}

#[test]
fn a_volume_of_mostly_released_small_shards_is_compacted_and_goes() {
    let (disk, news, gone) = two_volumes_of_small_shards();
    let mut store = open(&disk);
    let oldest = place(&store, &news[19]).volume;
    let before = store.reader().usage().disk_bytes;
    assert_eq!(store.release(&vault(1), &gone).unwrap(), (18, 9_000));
    assert!(!disk.list().unwrap().contains(&file_name(oldest)));
    for lost in [false, true] {
        news[..18].iter().for_each(|new| assert_absent(&store, new));
        news[18..].iter().for_each(|new| assert_whole(&store, new));
        drop(store);
        if lost {
            lose_index(&disk);
        }
        store = open(&disk);
        let usage = store.reader().usage();
        assert_eq!((usage.disk_bytes, usage.problems), (before - 17 * ENTRY_ALIGN, vec![]));
    }
}

#[test]
fn a_shard_stays_as_old_as_it_is_when_it_moves_and_when_the_index_is_made_anew() {
    let (disk, news, gone) = two_volumes_of_small_shards();
    let mut store = open(&disk);
    let stored_at = |store: &ShardStore, new: &NewShard| {
        store.reader().stored_at(&new.vault, &new.shard.segment).unwrap()
    };
    let before = place(&store, &news[19]);
    assert_eq!(stored_at(&store, &news[0]).len(), 18);
    store.release(&vault(1), &gone).unwrap();
    assert_ne!(place(&store, &news[19]), before, "it moved");
    for lost in [false, true] {
        news[18..].iter().for_each(|new| assert_eq!(stored_at(&store, new), [new.stored_at]));
        assert_eq!(stored_at(&store, &news[0]), []);
        drop(store);
        if lost {
            lose_index(&disk);
        }
        store = open(&disk);
    }
    // All of them, in steps of any length.
    for limit in [1, 7, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let step = store.reader().walk(after, limit).unwrap();
            let Some(last) = step.last().copied() else { break };
            after = Some(last);
            found.extend(step);
        }
        assert_eq!(found, news[18..].iter().map(|new| (new.vault, new.shard)).collect::<Vec<_>>());
    }
}

#[test]
fn a_shard_of_before_times_were_noted_reads_and_has_none() {
    let disk = MemDisk::new(ROOM);
    let mut store = open(&disk);
    // What was zero then is the time now.
    let old = NewShard { stored_at: Timestamp::ZERO, ..shard(1, 1, 0, 20_000) };
    put(&mut store, std::slice::from_ref(&old));
    assert_whole(&store, &old);
    assert_eq!(store.reader().stored_at(&old.vault, &old.shard.segment).unwrap(), [Timestamp::ZERO]);
}

#[test]
fn compaction_leaves_a_damaged_shard_where_it_is() {
    let (disk, news, gone) = two_volumes_of_small_shards();
    let mut store = open(&disk);
    let hit = place(&store, &news[19]);
    disk.flip_bit(&file_name(hit.volume), hit.offset + hit.header().data_at() + 3, 3);
    store.release(&vault(1), &gone).unwrap();
    assert_eq!(place(&store, &news[19]), hit);
    assert!(matches!(read(&store, &news[19]), Err(StoreError::Corrupt)));
    assert!(place(&store, &news[18]).volume > hit.volume);
    // A new copy of it lets the volume go.
    put(&mut store, &news[19..20]);
    store.release(&vault(1), &[segment(39)]).unwrap();
    assert!(!disk.list().unwrap().contains(&file_name(hit.volume)));
    assert_whole(&store, &news[19]);
}

#[test]
fn a_crash_during_compaction_loses_nothing() {
    let (whole, news, gone) = two_volumes_of_small_shards();
    let image = || whole.after_power_loss(Survivors::Nothing);
    let released = |disk: &MemDisk| {
        ShardStore::open(Arc::new(disk.clone()), CONFIG)
            .is_ok_and(|mut s| s.release(&vault(1), &gone).is_ok())
    };
    let first = image();
    let before = first.changes();
    assert!(released(&first));
    for change in before..first.changes() {
        let disk = image();
        disk.lose_power_at(change);
        let is_released = released(&disk);
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Random(change)] {
            for lost in [false, true] {
                let image = disk.after_power_loss(survivors);
                if lost {
                    lose_index(&image);
                }
                let store = open(&image);
                news[18..].iter().for_each(|new| assert_whole(&store, new));
                if is_released {
                    news[..18].iter().for_each(|new| assert_absent(&store, new));
                }
                assert_eq!(store.reader().usage().problems, Vec::<String>::new());
            }
        }
    }
}
