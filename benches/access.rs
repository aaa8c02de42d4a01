//! What access costs: dealing a vault's key, releasing outputs of it, wrapping data keys, sealing.

#![expect(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvault::crypto::access::{
    Dealing, Handoff, Inputs, Kek, Keyslot, PrfKey, Purpose, Release, ScopeKey, SealKey, Sharing,
    SlotContent, verify_shares,
};
use xvault::crypto::frame::Dek;
use xvault::types::{
    Committee, Day, Locator, NetworkId, PublicKey, RecordTag, ScopeTag, SegmentId, SlotId, VaultId, VersionId,
};

const RANDOM: [u8; 32] = [9; 32];

fn slot(number: u16) -> SlotId {
    let mut record = [0; 16];
    record[..2].copy_from_slice(&number.to_le_bytes());
    SlotId {
        network: NetworkId([1; 32]),
        vault: VaultId([2; 32]),
        dealing: 3,
        scope: ScopeTag([4; 16]),
        generation: 5,
        record: RecordTag(record),
        version: VersionId([7; 16]),
    }
}

fn inputs(count: u16) -> Inputs {
    Inputs::new(&(0..count).map(slot).collect::<Vec<_>>()).unwrap()
}

fn among(n: u8) -> Sharing {
    Sharing::among(&Committee::new((0..n).map(|nth| PublicKey([nth; 32])).collect()).unwrap())
}

fn dealing(c: &mut Criterion) {
    let key = PrfKey::from_wide(&[7; 64]);
    for n in [4, 7, 21] {
        let sharing = among(n);
        let Dealing { commitments, shares } = key.deal(sharing, &RANDOM);
        c.bench_with_input(BenchmarkId::new("deal a key", n), &n, |b, _| {
            b.iter(|| black_box(&key).deal(sharing, &RANDOM));
        });
        c.bench_with_input(BenchmarkId::new("verify a share", n), &n, |b, _| {
            b.iter(|| black_box(&commitments).verify(&shares[0]));
        });
        let dealt: Vec<_> =
            shares[..sharing.threshold()].iter().map(|share| share.deal(sharing, &RANDOM)).collect();
        let known: Vec<_> = shares
            .iter()
            .zip(&dealt)
            .map(|(share, dealt)| (share.index(), dealt.commitments.clone()))
            .collect();
        let parts: Vec<_> = dealt.iter().map(|dealt| dealt.shares[0].clone()).collect();
        c.bench_with_input(BenchmarkId::new("reshare as a new member", n), &n, |b, _| {
            b.iter(|| Handoff::new(&commitments, sharing, known.clone()).unwrap().combine(&parts));
        });
    }
    let Dealing { commitments, shares } = key.deal(among(7), &RANDOM);
    let batch = vec![(&commitments, &shares[0]); 256];
    c.bench_function("verify 256 shares at once (7)", |b| {
        b.iter(|| verify_shares(black_box(&batch), &RANDOM).is_ok());
    });
}

fn release(c: &mut Criterion) {
    let key = PrfKey::from_wide(&[7; 64]);
    c.bench_function("evaluate as the owner", |b| b.iter(|| key.evaluate(black_box(&slot(1)))));
    let Dealing { commitments, shares } = key.deal(among(7), &RANDOM);
    let mut group = c.benchmark_group("release");
    for count in [1, 64, 256] {
        let inputs = inputs(count);
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::new("hash the slots", count), &count, |b, count| {
            b.iter(|| self::inputs(black_box(*count)));
        });
        group.bench_with_input(BenchmarkId::new("partial", count), &inputs, |b, inputs| {
            b.iter(|| shares[0].evaluate(black_box(inputs), &RANDOM));
        });
        let partial = shares[0].evaluate(&inputs, &RANDOM);
        group.bench_with_input(BenchmarkId::new("verify a partial", count), &inputs, |b, inputs| {
            b.iter(|| Release::new(inputs, &commitments).add(black_box(&partial).clone()));
        });
    }
    group.finish();
    for n in [4, 7, 21] {
        let Dealing { commitments, shares } = key.deal(among(n), &RANDOM);
        let inputs = inputs(1);
        let mut full = Release::new(&inputs, &commitments);
        for share in &shares[..commitments.threshold()] {
            full.add(share.evaluate(&inputs, &RANDOM)).unwrap();
        }
        c.bench_with_input(BenchmarkId::new("combine", n), &n, |b, _| b.iter(|| black_box(&full).finish()));
    }
}

fn slots(c: &mut Criterion) {
    let scope = ScopeKey::from_bytes([1; 32]);
    let (day, list) = (scope.day(Day(9_827)), scope.list_key());
    let output = PrfKey::from_wide(&[7; 64]).evaluate(&slot(1));
    let header = Locator { segment: SegmentId([1; 32]), offset: 4_096, len: 336, salt: [2; 16] };
    let version = VersionId([3; 16]);
    let content = SlotContent { dek: Dek::from_bytes([4; 32]), content_version: version, header };
    let key = Kek::new(&day, &output, &slot(1));
    let wrapped = Keyslot::wrap(&key, &slot(1), &content, &list, Day(9_827), [5; 16]);
    let commit = content.dek.commit(&version);
    c.bench_function("key of a day", |b| b.iter(|| black_box(&scope).day(Day(9_827))));
    c.bench_function("wrap a data key", |b| {
        b.iter(|| {
            let key = Kek::new(&day, &output, &slot(1));
            Keyslot::wrap(&key, &slot(1), black_box(&content), &list, Day(9_827), [5; 16])
        });
    });
    c.bench_function("unwrap a data key", |b| {
        b.iter(|| {
            let key = Kek::new(&day, &output, &slot(1));
            black_box(&wrapped).unwrap(&key, &slot(1), &commit)
        });
    });
}

fn seals(c: &mut Criterion) {
    let key = SealKey::from_seed(&[1; 32]);
    let sealed = key.public().seal(Purpose::Share, &[2; 33], &[3; 34], &[4; 64]);
    c.bench_function("make a key to seal to", |b| b.iter(|| SealKey::from_seed(black_box(&[1; 32]))));
    c.bench_function("seal a share", |b| {
        b.iter(|| key.public().seal(Purpose::Share, &[2; 33], black_box(&[3; 34]), &[4; 64]));
    });
    c.bench_function("open a share", |b| b.iter(|| key.open(Purpose::Share, &[2; 33], black_box(&sealed))));
}

criterion_group!(benches, dealing, release, slots, seals);
criterion_main!(benches);
