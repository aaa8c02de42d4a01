//! What a storage node's store costs: durable batches of shards, verified reads, and the client's index.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use xvault::crypto::tree::SliceHasher;
use xvault::message::ShardRef;
use xvault::store::{FileDisk, NewShard, ShardStore, StoreConfig};
use xvault::types::{SegmentId, Timestamp, VaultId};

const VAULT: VaultId = VaultId([1; 32]);

fn shard(number: u64) -> ShardRef {
    let mut segment = [0; 32];
    segment[..8].copy_from_slice(&number.to_le_bytes());
    ShardRef { segment: SegmentId(segment), index: 0 }
}

/// A store in a folder that is removed with it.
struct Store {
    store: ShardStore,
    next: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    #[expect(clippy::expect_used, reason = "a benchmark without a disk has nothing to measure")]
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = FileDisk::open(folder.path()).expect("the folder");
        let store = ShardStore::open(Arc::new(disk), StoreConfig::default()).expect("a store");
        Self { store, next: 0, _folder: folder }
    }

    fn batch(&mut self, count: usize, len: usize) -> Vec<NewShard> {
        let bytes = Bytes::from(vec![7; len]);
        let mut hasher = SliceHasher::new(len as u64);
        hasher.update(&bytes);
        let (root, leaves) = hasher.finish();
        let mut new = || {
            self.next += 1;
            NewShard {
                vault: VAULT,
                shard: shard(self.next),
                root,
                bytes: bytes.clone(),
                leaves: leaves.clone(),
                stored_at: Timestamp::ZERO,
            }
        };
        (0..count).map(|_| new()).collect()
    }

    #[expect(clippy::expect_used, reason = "a benchmark that fails has no figures")]
    fn put(&mut self, batch: &[NewShard]) {
        self.store.put_batch(batch).into_iter().for_each(|put| put.expect("a stored shard"));
    }
}

fn put(c: &mut Criterion) {
    let mut group = c.benchmark_group("put batch");
    for (count, len) in [(1, 4 << 10), (64, 4 << 10), (1, 1 << 20), (4, 2 << 20)] {
        group.throughput(Throughput::Bytes((count * len) as u64));
        let mut store = Store::new();
        group.bench_function(format!("{count} of {} KiB", len >> 10), |b| {
            // The batch is made outside what is measured.
            let cell = std::cell::RefCell::new(&mut store);
            b.iter_batched(
                || cell.borrow_mut().batch(count, len),
                |batch| cell.borrow_mut().put(&batch),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut store = Store::new();
    let batch = store.batch(64, 2 << 20);
    store.put(&batch);
    let reader = store.store.reader();
    let mut group = c.benchmark_group("read");
    for len in [16 << 10, 1 << 20, 2 << 20] {
        group.throughput(Throughput::Bytes(len));
        let mut next = 0;
        group.bench_function(format!("{} KiB with proof, from the page cache", len >> 10), |b| {
            b.iter(|| {
                next = next % 64 + 1;
                black_box(reader.read(&VAULT, shard(next), 0, len)).is_ok()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, put, read);
criterion_main!(benches);
