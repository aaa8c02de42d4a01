//! What sealing and opening frames costs, a byte of plaintext.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xvault::crypto::frame::{Dek, FrameKey, SEALED_FRAME_LEN, Stream, open_run_part, seal_run};
use xvault::types::VersionId;
use xvault::types::limits::FRAME_LEN;

/// Frames of a run: as many as stay in the second-level cache.
const FRAMES: usize = 4;

fn key() -> FrameKey {
    Dek::from_bytes([7; 32]).frame_key(&VersionId([3; 16]), Stream::Body, &[9; 16])
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    let key = key();
    for len in [4 * 1024, FRAME_LEN] {
        let mut frame = vec![1; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("in place, {} KiB frame", len / 1024), |b| {
            b.iter(|| key.seal_in_place(7, false, black_box(&mut frame)));
        });
    }
    let (plain, mut sealed) = (vec![1; FRAME_LEN], vec![0; SEALED_FRAME_LEN]);
    group.bench_function("between buffers, 64 KiB frame", |b| {
        b.iter(|| key.seal_into(7, false, black_box(&plain), black_box(&mut sealed)));
    });
    let mut opened = vec![0; FRAME_LEN];
    group.bench_function("open between buffers, 64 KiB frame", |b| {
        b.iter(|| key.open_into(7, false, black_box(&sealed), black_box(&mut opened)));
    });
    group.finish();
}

fn runs(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let key = key();
    let mut run = vec![1; FRAMES * SEALED_FRAME_LEN];
    group.throughput(Throughput::Bytes((FRAMES * FRAME_LEN) as u64));
    group.bench_function("seal", |b| b.iter(|| seal_run(&key, black_box(&mut run))));
    seal_run(&key, &mut run).ok();
    let mut copy = run.clone();
    // The copy puts the sealed bytes back: about a twentieth of what is measured.
    group.bench_function("copy and open", |b| {
        b.iter(|| {
            copy.copy_from_slice(&run);
            open_run_part(&key, 0, FRAMES as u64, black_box(&mut copy))
        });
    });
    group.finish();
    c.bench_function("key of a run", |b| b.iter(|| black_box(self::key())));
}

criterion_group!(benches, frames, runs);
criterion_main!(benches);
