//! A storage node in memory that is honest until it is told a [`Vice`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use xvault::crypto::sign::{Domain, KeyPair};
use xvault::crypto::tree::{self, SliceHasher};
use xvault::message::*;
use xvault::roles::storage_node::{Signer, sign_receipt};
use xvault::types::{Hash, NetworkId, PublicKey, Timestamp};

use super::tls;

/// How a node breaks its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    /// Not at all.
    None,
    /// Bytes of the right length, one bit of them wrong.
    WrongBytes,
    /// Right bytes, with a proof of others.
    WrongProof,
    /// A byte too few.
    TooShort,
    /// A byte too many.
    TooLong,
    /// The shard's length is another.
    WrongShardLength,
    /// It says that it has no such shard.
    Withholds,
    /// It is always busy, and promises not to be in a moment.
    Busy,
    /// Every answer takes seconds.
    Slow,
    /// It is full for a second shard of a segment.
    RoomForOne,
    /// It takes every request and never answers.
    Hangs,
    /// It sends half an answer and then nothing.
    HangsMidway,
    /// It resets the stream in the middle of bodies and answers.
    ResetsMidway,
    /// It closes the connection in the middle of bodies and answers.
    LeavesMidway,
    /// Its answers are of the wrong kind.
    WrongKind,
    /// Its answers are random bytes.
    Garbage,
    /// It announces a header of four gigabytes.
    HugeHeader,
    /// It answers with the first receipt it ever signed.
    Replays,
    /// Its receipts are signed with another key.
    Forges,
    /// Its receipts name another key, and are signed with it.
    SignsAsAnother,
    /// It speaks another version of the protocol only.
    OtherVersion,
}

/// A node that listens.
#[derive(Clone)]
pub(crate) struct BadNode(Arc<Inner>);

struct Inner {
    signer: Signer,
    endpoint: quinn::Endpoint,
    vice: Mutex<Vice>,
    shards: Mutex<BTreeMap<(PublicKey, ShardRef), Bytes>>,
    first_receipt: Mutex<Option<SignedReceipt>>,
    /// Requests since the vice began.
    asked: AtomicUsize,
}

/// What to send: a header and the bytes after it.
type Answer = (Vec<u8>, Vec<u8>);

impl BadNode {
    /// Listens on loopback with the identity `key`, as a node of the network.
    pub(crate) fn start(network: NetworkId, key: KeyPair, alpn: &[u8]) -> Self {
        let endpoint = tls::server(&key, alpn);
        let node = Self(Arc::new(Inner {
            signer: Signer { network, key },
            endpoint,
            vice: Mutex::new(Vice::None),
            shards: Mutex::default(),
            first_receipt: Mutex::default(),
            asked: AtomicUsize::new(0),
        }));
        tokio::spawn(node.clone().accept());
        node
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.endpoint.local_addr().unwrap()
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.0.signer.key.public()
    }

    /// From now on the node is so.
    pub(crate) fn become_so(&self, vice: Vice) {
        *self.0.vice.lock().unwrap() = vice;
        self.0.asked.store(0, Ordering::Relaxed);
    }

    /// Requests that came since then.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }

    async fn accept(self) {
        while let Some(incoming) = self.0.endpoint.accept().await {
            let node = self.clone();
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, recv)) = connection.accept_bi().await {
                    // A client that gives up in the middle is no failure of this node.
                    tokio::spawn(node.clone().serve(connection.clone(), send, recv));
                }
            });
        }
    }

    async fn serve(self, connection: Connection, mut send: SendStream, mut recv: RecvStream) {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let vice = *self.0.vice.lock().unwrap();
        let Some(request) = read_request(&mut recv).await else { return };
        let is_put = matches!(request, Request::PutShard(_));
        match vice {
            Vice::Hangs => return std::future::pending().await,
            Vice::Slow => tokio::time::sleep(Duration::from_secs(3)).await,
            Vice::ResetsMidway | Vice::LeavesMidway if is_put => {
                recv.read_exact(&mut [0; 10_000]).await.ok();
                return leave(&connection, &mut send, vice);
            }
            _ => {}
        }
        let Ok(body) = recv.read_to_end(16 << 20).await else { return };
        let (header, body) = match self.vicious(vice) {
            Some(answer) => answer,
            None => self.answer(vice, tls::peer_key(&connection), request, body.into()),
        };
        let whole = [&u32::try_from(header.len()).unwrap().to_be_bytes()[..], &header, &body].concat();
        let half = &whole[..whole.len() / 2];
        match vice {
            Vice::HugeHeader => send.write_all(&[0xff; 100]).await.ok(),
            Vice::HangsMidway | Vice::ResetsMidway | Vice::LeavesMidway => send.write_all(half).await.ok(),
            _ => send.write_all(&whole).await.ok(),
        };
        match vice {
            Vice::HangsMidway => std::future::pending().await,
            Vice::ResetsMidway | Vice::LeavesMidway => leave(&connection, &mut send, vice),
            _ => {
                send.finish().ok();
                send.stopped().await.ok();
            }
        }
    }

    /// The answer to every request, whatever it is.
    fn vicious(&self, vice: Vice) -> Option<Answer> {
        let refusal = match vice {
            Vice::Garbage => return Some((vec![0xa5; 77], Vec::new())),
            Vice::WrongKind => {
                return Some((Response::Released { shards: 1, bytes: 1 }.encode(), Vec::new()));
            }
            Vice::Busy => Refusal::busy("in a moment", 1),
            Vice::OtherVersion => Refusal {
                protocols: vec![2],
                ..Refusal::new(RefusalCode::UnsupportedProtocol, "that is how one spoke last year")
            },
            _ => return None,
        };
        Some((Response::Refusal(refusal).encode(), Vec::new()))
    }

    fn answer(&self, vice: Vice, from: PublicKey, request: Request, body: Bytes) -> Answer {
        let (response, body) = match request {
            Request::PutShard(put) if vice == Vice::RoomForOne && self.has_another(from, put.shard) => {
                (Response::Refusal(Refusal::new(RefusalCode::Full, "no space left")), Vec::new())
            }
            Request::PutShard(put) => {
                self.0.shards.lock().unwrap().insert((from, put.shard), body);
                (Response::Receipt(self.sign(vice, &put)), Vec::new())
            }
            Request::ReadShard(read) => self.slice(vice, from, read),
            Request::HaveShards { shards: asked, .. } => {
                let shards = self.0.shards.lock().unwrap();
                let root = |shard: &ShardRef| Some(hashed(shards.get(&(from, *shard))?).0);
                (Response::Holdings(asked.iter().map(root).collect()), Vec::new())
            }
            Request::ReleaseSegments { .. } => (Response::Released { shards: 0, bytes: 0 }, Vec::new()),
            Request::GetStatus => (Response::Status(self.status()), Vec::new()),
            // Asked of static nodes only.
            _ => (Response::Done, Vec::new()),
        };
        (response.encode(), body)
    }

    /// Whether it holds another shard of the segment.
    fn has_another(&self, from: PublicKey, of: ShardRef) -> bool {
        let shards = self.0.shards.lock().unwrap();
        shards.keys().any(|(owner, held)| *owner == from && held.segment == of.segment && *held != of)
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            network: self.0.signer.network,
            version: String::new(),
            shards: 0,
            shard_bytes: 0,
            disk_bytes: 0,
            free_bytes: 0,
            uptime_seconds: 0,
            clock: Timestamp::from_unix_millis(1),
            problems: Vec::new(),
            ledger: None,
        }
    }

    fn sign(&self, vice: Vice, put: &PutShard) -> SignedReceipt {
        let signer = &self.0.signer;
        let honest = sign_receipt(signer, put, Timestamp::from_unix_millis(1));
        let first = self.0.first_receipt.lock().unwrap().get_or_insert_with(|| honest.clone()).clone();
        let other = KeyPair::from_secret(&[0x66; 32]);
        match vice {
            Vice::Replays => first,
            Vice::Forges => {
                let signature = other.sign(Domain::CustodyReceipt, &honest.statement);
                SignedReceipt { signature, ..honest }
            }
            Vice::SignsAsAnother => {
                let signer = Signer { key: other, network: signer.network };
                sign_receipt(&signer, put, Timestamp::from_unix_millis(1))
            }
            _ => honest,
        }
    }

    fn slice(&self, vice: Vice, from: PublicKey, read: ReadShard) -> (Response, Vec<u8>) {
        let shards = self.0.shards.lock().unwrap();
        let found = shards.get(&(from, read.shard)).filter(|_| vice != Vice::Withholds);
        let Some(shard) = found else {
            return (Response::Refusal(Refusal::new(RefusalCode::NotFound, "no such shard")), Vec::new());
        };
        let shard_len = shard.len() as u64;
        let (start, end) = (read.start, shard_len.min(read.start + read.len));
        let (_, leaves) = hashed(shard);
        let mut proof = tree::proof(&leaves, shard_len, start, end - start).unwrap();
        let mut bytes = shard[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].to_vec();
        match vice {
            Vice::WrongBytes => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
            Vice::WrongProof => match proof.first_mut() {
                Some(first) => first.0[0] ^= 1,
                None => proof.push(Hash([7; 32])),
            },
            Vice::TooShort => drop(bytes.pop()),
            Vice::TooLong => bytes.push(0),
            _ => {}
        }
        let shard_len = shard_len + u64::from(vice == Vice::WrongShardLength);
        (Response::Slice(ShardSlice { shard_len, proof }), bytes)
    }
}

fn hashed(shard: &Bytes) -> (Hash, Vec<Hash>) {
    let mut hasher = SliceHasher::new(shard.len() as u64);
    hasher.update(shard);
    hasher.finish()
}

fn leave(connection: &Connection, send: &mut SendStream, vice: Vice) {
    if vice == Vice::LeavesMidway {
        connection.close(9_u32.into(), b"off");
    } else {
        send.reset(9_u32.into()).ok();
    }
}

async fn read_request(recv: &mut RecvStream) -> Option<Request> {
    let mut len = [0; 4];
    recv.read_exact(&mut len).await.ok()?;
    let mut header = vec![0; usize::try_from(u32::from_be_bytes(len)).unwrap()];
    recv.read_exact(&mut header).await.ok()?;
    Request::decode(&header).ok()
}
