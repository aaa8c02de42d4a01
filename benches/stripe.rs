//! What coding, rebuilding and hashing a stripe cost, a byte of the segment, and all of it together.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xvault::crypto::frame::{Dek, SEALED_FRAME_LEN, Stream};
use xvault::crypto::tree::{SliceHasher, proof, verify};
use xvault::stripe::{Candidate, Coder, placement};
use xvault::types::limits::{CELL_LEN, FRAME_LEN};
use xvault::types::{Code, NodeInfo, PublicKey, SegmentId, VersionId};

const CODE: Code = Code::DEFAULT;
/// Stripes of the segments measured: 8 MiB, as a client writes them.
const STRIPES: usize = 32;

fn cells(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|cell| vec![u8::try_from(cell).unwrap_or(0); CELL_LEN]).collect()
}

fn code(c: &mut Criterion) {
    let coder = Coder::new(CODE);
    let mut group = c.benchmark_group("code");
    group.throughput(Throughput::Bytes((CODE.k() * CELL_LEN) as u64));
    let data = cells(CODE.k());
    let data: Vec<_> = data.iter().map(Vec::as_slice).collect();
    let mut parity = cells(CODE.m());
    let mut outputs: Vec<_> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    group.bench_function("encode 4+2", |b| {
        b.iter(|| coder.encode_stripe(black_box(&data), black_box(&mut outputs)));
    });
    for (name, missing) in [("rebuild 1 lost", &[0][..]), ("rebuild 2 lost", &[0, 1][..])] {
        let Ok(plan) = coder.plan(&[2, 3, 4, 5], missing) else { panic!("four columns of a 4+2") };
        let mut rebuilt = cells(missing.len());
        let mut outputs: Vec<_> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
        group.bench_function(name, |b| b.iter(|| plan.run(black_box(&data), black_box(&mut outputs))));
    }
    group.finish();
    c.bench_function("plan a rebuild", |b| b.iter(|| coder.plan(&[2, 3, 4, 5], &[0, 1])));
}

fn tree(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree");
    let shard = vec![7; STRIPES * CELL_LEN];
    let len = shard.len() as u64;
    group.throughput(Throughput::Bytes(len));
    group.bench_function("plain BLAKE3", |b| b.iter(|| blake3::hash(black_box(&shard))));
    for piece in [1_200, 16 * 1024, CELL_LEN] {
        group.bench_function(format!("slices from pieces of {piece}"), |b| {
            b.iter(|| hash(black_box(&shard), piece));
        });
    }
    let (root, leaves) = hash(&shard, CELL_LEN);
    let part = &shard[CELL_LEN..17 * CELL_LEN];
    let (start, part_len) = (CELL_LEN as u64, part.len() as u64);
    group.throughput(Throughput::Bytes(part_len));
    group.bench_function("prove 1 MiB", |b| b.iter(|| proof(black_box(&leaves), len, start, part_len)));
    let Ok(proof) = proof(&leaves, len, start, part_len) else { panic!("whole slices of the shard") };
    group.bench_function("verify 1 MiB", |b| b.iter(|| verify(&root, len, start, black_box(part), &proof)));
    group.finish();
}

fn hash(shard: &[u8], piece: usize) -> (xvault::types::Hash, Vec<xvault::types::Hash>) {
    let mut hasher = SliceHasher::new(shard.len() as u64);
    shard.chunks(piece).for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// Seal, encode and hash a segment stripe by stripe while it is in the cache, as an upload does.
fn whole(c: &mut Criterion) {
    let coder = Coder::new(CODE);
    let key = Dek::from_bytes([7; 32]).frame_key(&VersionId([3; 16]), Stream::Body, &[9; 16]);
    let frames = STRIPES * CODE.k() * CELL_LEN / SEALED_FRAME_LEN;
    let plain = vec![5; frames * FRAME_LEN];
    let mut data = vec![0; STRIPES * CODE.k() * CELL_LEN];
    let mut parity = vec![0; STRIPES * CODE.m() * CELL_LEN];
    let mut group = c.benchmark_group("stripe hot");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("seal, encode 4+2, hash", |b| {
        b.iter(|| {
            let mut hashers: Vec<_> =
                (0..CODE.total()).map(|_| SliceHasher::new((STRIPES * CELL_LEN) as u64)).collect();
            let mut sealed = 0;
            for stripe in 0..STRIPES {
                let end = (stripe + 1) * CODE.k() * CELL_LEN;
                while sealed < frames && sealed * SEALED_FRAME_LEN < end {
                    let frame = &plain[sealed * FRAME_LEN..][..FRAME_LEN];
                    let room = &mut data[sealed * SEALED_FRAME_LEN..][..SEALED_FRAME_LEN];
                    key.seal_into(sealed as u64, sealed + 1 == frames, frame, room);
                    sealed += 1;
                }
                let cells: Vec<_> = data[end - CODE.k() * CELL_LEN..end].chunks(CELL_LEN).collect();
                let parity = &mut parity[stripe * CODE.m() * CELL_LEN..][..CODE.m() * CELL_LEN];
                let mut outputs: Vec<_> = parity.chunks_mut(CELL_LEN).collect();
                coder.encode_stripe(&cells, &mut outputs);
                let columns = cells.iter().copied().chain(parity.chunks(CELL_LEN));
                hashers.iter_mut().zip(columns).for_each(|(hasher, cell)| hasher.update(cell));
            }
            hashers.into_iter().map(|hasher| hasher.finish().0).collect::<Vec<_>>()
        });
    });
    group.finish();
}

fn place(c: &mut Criterion) {
    let node = |n: u8| NodeInfo {
        name: n.to_string(),
        key: PublicKey([n; 32]),
        address: ([10, 0, n, 1], 4_000).into(),
        operator: n.to_string(),
        site: n.to_string(),
    };
    let mut group = c.benchmark_group("placement");
    for count in [6, 100] {
        let nodes: Vec<_> = (0..count).map(node).collect();
        let candidates: Vec<_> = nodes.iter().map(|node| Candidate::new(node, false)).collect();
        group.bench_function(format!("4+2 on {count} nodes"), |b| {
            b.iter(|| placement::place(black_box(&SegmentId([1; 32])), CODE, &candidates));
        });
    }
    group.finish();
}

criterion_group!(benches, code, tree, whole, place);
criterion_main!(benches);
