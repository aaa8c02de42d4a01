//! What it costs to write and read what travels: requests, responses, signed receipts.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use xvault::crypto::sign::KeyPair;
use xvault::message::{CustodyReceipt, ExpectedReceipt, PutShard, Request, Response, ShardRef, ShardSlice};
use xvault::types::{Hash, NetworkId, SegmentId, Timestamp, VaultId};

const VAULT: VaultId = VaultId([4; 32]);
const SHARD: ShardRef = ShardRef { segment: SegmentId([5; 32]), index: 3 };

fn requests(c: &mut Criterion) {
    let root = Hash([6; 32]);
    let put = PutShard { vault: VAULT, shard: SHARD, root, len: 2 << 20, nonce: [7; 16] };
    let put = Request::PutShard(put);
    let bytes = put.encode();
    c.bench_function("encode a put", |b| b.iter(|| black_box(&put).encode()));
    c.bench_function("decode a put", |b| b.iter(|| Request::decode(black_box(&bytes))));
    let slice = Response::Slice(ShardSlice { shard_len: 2 << 20, proof: vec![Hash([8; 32]); 14] });
    let bytes = slice.encode();
    c.bench_function("encode a slice's header", |b| b.iter(|| black_box(&slice).encode()));
    c.bench_function("decode a slice's header", |b| b.iter(|| Response::decode(black_box(&bytes))));
    let shards = (0..200).map(|index| ShardRef { index, ..SHARD }).collect();
    let many = Request::HaveShards { vault: VAULT, shards };
    let bytes = many.encode();
    c.bench_function("decode a question for 200 shards", |b| b.iter(|| Request::decode(black_box(&bytes))));
}

fn receipts(c: &mut Criterion) {
    let node = KeyPair::from_secret(&[3; 32]);
    let (network, root, len, nonce) = (NetworkId([1; 32]), Hash([6; 32]), 2 << 20, [7; 16]);
    let receipt = CustodyReceipt {
        network,
        vault: VAULT,
        segment: SHARD.segment,
        index: SHARD.index,
        root,
        len,
        nonce,
        issued_at: Timestamp::from_unix_micros(1),
        node: node.public(),
    };
    let signed = receipt.sign(&node);
    let expected =
        ExpectedReceipt { network, vault: VAULT, shard: SHARD, root, len, nonce, node: node.public() };
    c.bench_function("sign a receipt", |b| b.iter(|| black_box(&receipt).sign(&node)));
    c.bench_function("verify a receipt", |b| b.iter(|| black_box(&signed).verify(&expected)));
}

criterion_group!(benches, requests, receipts);
criterion_main!(benches);
