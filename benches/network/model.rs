//! The limit model: what each stage costs by itself on this machine, and what a put and a get would cost if they
//! were nothing but their stages. Put = seal + code + 1.5 × (client hash + transport + node hash + disk);
//! get = transport + disk cache + hash + open: with 4+2, 1.5 bytes are coded, sent and stored for one of a record.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use xvault::crypto::frame::{Dek, SEALED_FRAME_LEN, Stream};
use xvault::crypto::sign::KeyPair;
use xvault::crypto::tree::{SliceHasher, verify};
use xvault::message::{PutShard, ReadShard, Refusal, RefusalCode, Request, Response, ShardRef, ShardSlice};
use xvault::net::{Body, Handler, Limits, Peers, Reply, Server, ServerEndpoint, serve};
use xvault::store::{FileDisk, NewShard, ShardStore, StoreConfig};
use xvault::stripe::Coder;
use xvault::types::limits::{CELL_LEN, FRAME_LEN};
use xvault::types::{
    Code, Hash, Network, NetworkId, NodeInfo, PublicKey, SegmentId, Timestamp, VaultId, VersionId,
};

use crate::network::own_cpu_s;
use crate::report::Outcome;

/// The vault that all shards are of.
const VAULT: VaultId = VaultId([1; 32]);
/// CPU time to measure each stage for: a hundredth of it is the clock's grain.
const STAGE_CPU_S: f64 = 1.0;
/// Bytes of a shard of an 8 MiB segment under 4+2.
const SHARD_LEN: usize = 2 << 20;
/// Bytes of shards for one byte of a record.
const EXPANSION: f64 = 1.5;
const NODES: u8 = 6;

/// Nanoseconds for each byte that a stage works on.
pub(crate) struct Stages {
    seal: f64,
    open: f64,
    code: f64,
    hash: f64,
    verify: f64,
    send: f64,
    fetch: f64,
    write: f64,
    read: f64,
}

impl Stages {
    pub(crate) fn put(&self) -> f64 {
        self.seal + self.code + EXPANSION * (self.hash + self.send + self.hash + self.write)
    }

    pub(crate) fn get(&self) -> f64 {
        self.fetch + self.read + self.verify + self.open
    }

    pub(crate) fn named(&self) -> Value {
        json!({
            "seal": self.seal, "open": self.open, "code": self.code, "hash": self.hash, "verify": self.verify,
            "send": self.send, "fetch": self.fetch, "write": self.write, "read": self.read,
        })
    }
}

pub(crate) fn measure(runtime: &Runtime, dir: &Path) -> Outcome<Stages> {
    let (seal, open) = sealing()?;
    let (hash, verify) = hashing()?;
    let (write, read) = disk(dir)?;
    let (send, fetch) = runtime.block_on(transport())?;
    Ok(Stages { seal, open, code: coding()?, hash, verify, send, fetch, write, read })
}

/// CPU nanoseconds a byte of work that handles `bytes` each time it is called.
fn cost(bytes: usize, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let (begun, mut calls) = (own_cpu_s()?, 0_u32);
    loop {
        work()?;
        calls += 1;
        let used = own_cpu_s()? - begun;
        if used >= STAGE_CPU_S {
            return Ok(used * 1e9 / f64::from(calls) / bytes as f64);
        }
    }
}

fn sealing() -> Outcome<(f64, f64)> {
    let key = Dek::from_bytes([7; 32]).frame_key(&VersionId([3; 16]), Stream::Body, &[9; 16]);
    let mut plain = vec![1; FRAME_LEN];
    let mut sealed = vec![0; SEALED_FRAME_LEN];
    let seal = cost(FRAME_LEN * 64, || {
        (0..64).for_each(|_| key.seal_into(7, false, black_box(&plain), black_box(&mut sealed)));
        Ok(())
    })?;
    let open = cost(FRAME_LEN * 64, || {
        (0..64).try_for_each(|_| key.open_into(7, false, black_box(&sealed), black_box(&mut plain)))?;
        Ok(())
    })?;
    Ok((seal, open))
}

fn coding() -> Outcome<f64> {
    let coder = Coder::new(Code::DEFAULT);
    let data = vec![vec![5; CELL_LEN]; 4];
    let mut parity = vec![vec![0; CELL_LEN]; 2];
    cost(4 * CELL_LEN * 64, || {
        for _ in 0..64 {
            let data: Vec<_> = data.iter().map(Vec::as_slice).collect();
            let mut parity: Vec<_> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            coder.encode_stripe(black_box(&data), black_box(&mut parity));
        }
        Ok(())
    })
}

fn slices(shard: &[u8]) -> (Hash, Vec<Hash>) {
    let mut hasher = SliceHasher::new(shard.len() as u64);
    shard.chunks(CELL_LEN).for_each(|piece| hasher.update(piece));
    hasher.finish()
}

fn hashing() -> Outcome<(f64, f64)> {
    let shard = vec![7; SHARD_LEN];
    let hash = cost(SHARD_LEN, || {
        black_box(slices(black_box(&shard)));
        Ok(())
    })?;
    let (root, len) = (slices(&shard).0, shard.len() as u64);
    let verify = cost(SHARD_LEN, || Ok(verify(&root, len, 0, black_box(&shard), &[])?))?;
    Ok((hash, verify))
}

fn shard(number: u64) -> ShardRef {
    let mut segment = [0; 32];
    segment[..8].copy_from_slice(&number.to_le_bytes());
    ShardRef { segment: SegmentId(segment), index: 0 }
}

/// Appending shards durably, and reading them back from the page cache.
fn disk(dir: &Path) -> Outcome<(f64, f64)> {
    let folder = tempfile::tempdir_in(dir)?;
    let mut store = ShardStore::open(Arc::new(FileDisk::open(folder.path())?), StoreConfig::default())?;
    let (vault, bytes) = (VAULT, Bytes::from(vec![9; SHARD_LEN]));
    let (root, leaves) = slices(&bytes);
    let mut count = 0;
    let write = cost(SHARD_LEN, || {
        let stored_at = Timestamp::ZERO;
        let (bytes, leaves) = (bytes.clone(), leaves.clone());
        let new = NewShard { vault, shard: shard(count), root, bytes, leaves, stored_at };
        count += 1;
        Ok(store.put_batch(&[new]).into_iter().collect::<Result<_, _>>()?)
    })?;
    let (reader, mut next) = (store.reader(), 0);
    let mut read_all = || {
        next = (next + 1) % count.min(64);
        black_box(reader.read(&VAULT, shard(next), 0, SHARD_LEN as u64)?);
        Ok(())
    };
    // The first time round they come from the disk.
    (0..64).try_for_each(|_| read_all())?;
    Ok((write, cost(SHARD_LEN, read_all)?))
}

/// A node that takes bodies and drops them, and answers every read with the same bytes.
struct Sink(Bytes);

impl Handler for Sink {
    async fn handle(&self, _from: PublicKey, request: Request, body: Body) -> Reply {
        match request {
            Request::PutShard(put) => {
                let len = usize::try_from(put.len).unwrap_or(0);
                drop(body.read(len).await);
                Refusal::new(RefusalCode::Busy, "a sink").into()
            }
            _ => {
                let slice = ShardSlice { shard_len: SHARD_LEN as u64, proof: Vec::new() };
                Reply { response: Response::Slice(slice), body: vec![self.0.clone()] }
            }
        }
    }
}

/// Bodies over QUIC on loopback, there and back, with everything that the network layer does.
async fn transport() -> Outcome<(f64, f64)> {
    let (servers, network) = sinks()?;
    let peers = Peers::new(&network, &KeyPair::from_secret(&[99; 32]));
    let pieces = vec![Bytes::from(vec![3; CELL_LEN]); SHARD_LEN / CELL_LEN];
    let send = flow(&network, async |node: PublicKey| {
        let (shard, root, len) = (shard(1), Hash([0; 32]), SHARD_LEN as u64);
        let put = PutShard { vault: VAULT, shard, root, len, nonce: [0; 16] };
        // The refusal after the body is the sink's only answer.
        peers.put_shard(&node, put, pieces.clone(), &|| {}).await.err();
    })
    .await?;
    let fetch = flow(&network, async |node: PublicKey| {
        let read = ReadShard { vault: VAULT, shard: shard(1), start: 0, len: SHARD_LEN as u64 };
        peers.read_shard(&node, read).await.ok();
    })
    .await?;
    peers.close().await;
    drop(servers);
    Ok((send, fetch))
}

fn sinks() -> Outcome<(Vec<Server>, Network)> {
    let answer = Bytes::from(vec![3; SHARD_LEN]);
    let (mut servers, mut nodes) = (Vec::new(), Vec::new());
    for number in 0..NODES {
        let key = KeyPair::from_secret(&[number + 1; 32]);
        let endpoint = ServerEndpoint::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &key)?;
        let (name, address) = (format!("sink-{number}"), endpoint.address());
        nodes.push(NodeInfo { operator: name.clone(), site: name.clone(), name, key: key.public(), address });
        servers.push(serve(endpoint, Arc::new(Sink(answer.clone())), Limits::default()));
    }
    Ok((servers, Network { id: NetworkId([1; 32]), code: Code::DEFAULT, genesis: None, nodes }))
}

/// CPU nanoseconds a byte of calls that move one shard each, four under way with each node.
async fn flow(network: &Network, call: impl AsyncFn(PublicKey)) -> Outcome<f64> {
    let round = async || {
        let lanes = network.nodes.iter().flat_map(|node| std::iter::repeat_n(node.key, 4));
        let mut calls: Vec<_> = lanes.map(|node| Box::pin(call(node))).collect();
        // Polled together on this task, as the client's driver does.
        std::future::poll_fn(|cx| {
            calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
            if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    };
    // Connections and their path MTU settle.
    for _ in 0..4 {
        round().await;
    }
    let (begun, mut moved) = (own_cpu_s()?, 0_u64);
    while own_cpu_s()? - begun < 2.0 * STAGE_CPU_S {
        round().await;
        moved += 4 * network.nodes.len() as u64 * SHARD_LEN as u64;
    }
    Ok((own_cpu_s()? - begun) * 1e9 / moved as f64)
}
