//! The client's end: one connection to each node, opened when first needed and shared by all calls.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use quinn::Connection;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::crypto::sign::KeyPair;
use crate::message::access::ReleaseReceipt;
use crate::message::{
    HeldShard, NodeStatus, PutShard, ReadShard, Request, Response, ShardRef, ShardSlice, SignedReceipt,
    Violation,
};
use crate::net::call::{self, Answer, CallError, Patience};
use crate::net::codec::{self, BODIES_KEPT};
use crate::net::endpoint::ClientEndpoint;
use crate::net::health::{Health, Record};
use crate::transfer::BufferPool;
use crate::types::{Hash, Height, Network, NodeInfo, PublicKey, SegmentId, VaultId};

/// The nodes of a network, as one client calls them. A clone is another handle on the same.
///
/// Every call ends: with an answer, or with an error once the node made no progress for a time. A
/// dropped call is cancelled at the node too. Whether receipts and slices are true is for the caller
/// to check, on a worker.
#[derive(Debug, Clone)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: ClientEndpoint,
    /// Those that are called now: see [`Peers::follow`].
    peers: RwLock<BTreeMap<PublicKey, Arc<Peer>>>,
    patience: Patience,
    /// For the bodies of answers.
    pool: BufferPool,
}

#[derive(Debug)]
struct Peer {
    info: NodeInfo,
    /// Locked while a connection is made, so that all who want one wait for the same attempt.
    connection: tokio::sync::Mutex<Option<Connection>>,
    record: Mutex<Record>,
    /// Why the last attempt at a connection failed, where trying again does not help: whoever asks while the peer
    /// is suspect is told this, not that it is down.
    misfit: Mutex<Option<CallError>>,
}

impl Peer {
    fn new(info: &NodeInfo) -> Self {
        Self {
            info: info.clone(),
            connection: tokio::sync::Mutex::default(),
            record: Mutex::default(),
            misfit: Mutex::default(),
        }
    }

    fn misfit(&self) -> MutexGuard<'_, Option<CallError>> {
        self.misfit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// The nodes of the network, for a client with this key. Connects to none yet.
    #[must_use]
    pub fn new(network: &Network, key: &KeyPair) -> Self {
        Self::with_patience(network, key, Patience::DEFAULT)
    }

    pub(super) fn with_patience(network: &Network, key: &KeyPair, patience: Patience) -> Self {
        let pool = BufferPool::new(BODIES_KEPT);
        let endpoint = ClientEndpoint::new(key);
        let peers = Self(Arc::new(Inner { endpoint, peers: RwLock::default(), patience, pool }));
        peers.follow(&network.nodes);
        peers
    }

    /// From here on these are the nodes. One that comes is connected to when it is first called; of one that is unchanged
    /// everything stays; one that goes, or is somewhere else now, loses its connection once no call uses it.
    pub fn follow(&self, nodes: &[NodeInfo]) {
        let mut peers = self.0.peers.write().unwrap_or_else(PoisonError::into_inner);
        let kept = |info: &NodeInfo| peers.get(&info.key).filter(|peer| peer.info == *info).map(Arc::clone);
        let peer = |info| kept(info).unwrap_or_else(|| Arc::new(Peer::new(info)));
        let next = nodes.iter().map(|info| (info.key, peer(info))).collect();
        *peers = next;
    }

    fn peer(&self, node: &PublicKey) -> Option<Arc<Peer>> {
        self.0.peers.read().unwrap_or_else(PoisonError::into_inner).get(node).map(Arc::clone)
    }

    /// Stores a shard, whose bytes are the pieces of `body` in order. The receipt is not verified.
    /// `progressed` is called whenever some of them were sent.
    ///
    /// # Errors
    /// [`CallError`]. Sent again after any error, it does no harm.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been done.
    pub async fn put_shard(
        &self,
        node: &PublicKey,
        put: PutShard,
        body: Vec<Bytes>,
        progressed: &(dyn Fn() + Sync),
    ) -> Result<SignedReceipt, CallError> {
        let request = Request::PutShard(put);
        let fits = |response: &Response| no_body(matches!(response, Response::Receipt(_)));
        match self.exchange(node, &request, body, fits, progressed).await?.response {
            Response::Receipt(receipt) => Ok(receipt),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// Reads a range of a shard: exactly the bytes asked for, or those up to the shard's end. They are
    /// not verified against the proof.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Dropped, it has no effect but on the node's load.
    pub async fn read_shard(
        &self,
        node: &PublicKey,
        read: ReadShard,
    ) -> Result<(ShardSlice, Bytes), CallError> {
        let body_len = |response: &Response| match response {
            Response::Slice(slice) => slice_len(read, slice.shard_len),
            _ => Err(Violation::WrongResponse),
        };
        let answer = self.exchange(node, &Request::ReadShard(read), Vec::new(), body_len, &|| {}).await?;
        match answer.response {
            Response::Slice(slice) => Ok((slice, answer.body)),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// For each shard of a vault its root, or `None` where the node does not hold it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn have_shards(
        &self,
        node: &PublicKey,
        vault: VaultId,
        shards: Vec<ShardRef>,
    ) -> Result<Vec<Option<Hash>>, CallError> {
        let asked = shards.len();
        let fits = |response: &Response| match response {
            Response::Holdings(roots) if roots.len() != asked => Err(Violation::WrongLength),
            other => no_body(matches!(other, Response::Holdings(_))),
        };
        match self.ask(node, &Request::HaveShards { vault, shards }, fits).await? {
            Response::Holdings(roots) => Ok(roots),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// The shards of a vault that the node holds, after one: as many as an answer takes, none after the last.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_shards(
        &self,
        node: &PublicKey,
        vault: VaultId,
        after: Option<ShardRef>,
    ) -> Result<Vec<HeldShard>, CallError> {
        let fits = |response: &Response| no_body(matches!(response, Response::Shards(_)));
        match self.ask(node, &Request::ListShards { vault, after }, fits).await? {
            Response::Shards(shards) => Ok(shards),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// Frees every shard of these segments of a vault that the node holds: how many, and their bytes.
    ///
    /// # Errors
    /// [`CallError`]. Sent again after any error, it does no harm.
    pub async fn release_segments(
        &self,
        node: &PublicKey,
        vault: VaultId,
        segments: Vec<SegmentId>,
    ) -> Result<(u64, u64), CallError> {
        let fits = |response: &Response| no_body(matches!(response, Response::Released { .. }));
        match self.ask(node, &Request::ReleaseSegments { vault, segments }, fits).await? {
            Response::Released { shards, bytes } => Ok((shards, bytes)),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// The same; the node signs which of them it has no shard of any more.
    ///
    /// # Errors
    /// [`CallError`]. Sent again after any error, it does no harm.
    pub async fn certify_release(
        &self,
        node: &PublicKey,
        vault: VaultId,
        segments: Vec<SegmentId>,
    ) -> Result<ReleaseReceipt, CallError> {
        let fits = |response: &Response| no_body(matches!(response, Response::ReleaseReceipt(_)));
        match self.ask(node, &Request::CertifyRelease { vault, segments }, fits).await? {
            Response::ReleaseReceipt(receipt) => Ok(receipt),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// The node's state.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self, node: &PublicKey) -> Result<NodeStatus, CallError> {
        let fits = |response: &Response| no_body(matches!(response, Response::Status(_)));
        match self.ask(node, &Request::GetStatus, fits).await? {
            Response::Status(status) => Ok(status),
            _ => Err(Violation::WrongResponse.into()),
        }
    }

    /// Tells another static node something of consensus.
    ///
    /// # Errors
    /// [`CallError`]; then it may or may not have heard it.
    pub async fn consensus(&self, node: &PublicKey, message: Bytes) -> Result<(), CallError> {
        let len = u32::try_from(message.len()).map_err(|_| Violation::TooLong)?;
        self.tell(node, &Request::Consensus { len }, vec![message]).await
    }

    /// Gives another static node a cosignature of the tree head of a block.
    ///
    /// # Errors
    /// [`CallError`]. Sent again after any error, it does no harm.
    pub async fn cosign(
        &self,
        node: &PublicKey,
        height: Height,
        cosignature: Vec<u8>,
    ) -> Result<(), CallError> {
        self.tell(node, &Request::Cosign { height, cosignature }, Vec::new()).await
    }

    async fn tell(&self, node: &PublicKey, request: &Request, body: Vec<Bytes>) -> Result<(), CallError> {
        let fits = |response: &Response| no_body(matches!(response, Response::Done));
        self.exchange(node, request, body, fits, &|| {}).await.map(drop)
    }

    /// Submits a signed transaction to a static node. The answer is in its canonical encoding; it comes when
    /// the transaction is final, or after some time that the node chooses.
    ///
    /// # Errors
    /// [`CallError`]. Sent again after any error, it does no harm.
    pub async fn submit(&self, node: &PublicKey, transaction: Vec<u8>) -> Result<Bytes, CallError> {
        self.question(node, &Request::SubmitTransaction(transaction)).await
    }

    /// Asks a static node about the ledger. Question and answer are in their canonical encoding; nothing of
    /// the answer is verified.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask_ledger(&self, node: &PublicKey, question: Vec<u8>) -> Result<Bytes, CallError> {
        self.question(node, &Request::AskLedger(question)).await
    }

    /// Says something about access to a static node. Both ways in the canonical encoding; nothing of the answer is verified.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn access(&self, node: &PublicKey, message: Vec<u8>) -> Result<Bytes, CallError> {
        let len = u32::try_from(message.len()).map_err(|_| Violation::TooLong)?;
        let body_len = |response: &Response| match response {
            Response::Answer { len } => Ok(usize::try_from(*len).unwrap_or(usize::MAX)),
            _ => Err(Violation::WrongResponse),
        };
        let body = vec![Bytes::from(message)];
        Ok(self.exchange(node, &Request::Access { len }, body, body_len, &|| {}).await?.body)
    }

    async fn question(&self, node: &PublicKey, request: &Request) -> Result<Bytes, CallError> {
        let body_len = |response: &Response| match response {
            Response::Answer { len } => Ok(usize::try_from(*len).unwrap_or(usize::MAX)),
            _ => Err(Violation::WrongResponse),
        };
        Ok(self.exchange(node, request, Vec::new(), body_len, &|| {}).await?.body)
    }

    /// Whether the node failed a moment ago. A node that is not in the network is.
    #[must_use]
    pub fn is_suspect(&self, node: &PublicKey) -> bool {
        self.peer(node).is_none_or(|peer| peer.record().is_suspect(Instant::now()))
    }

    /// The next call goes to the node even if it failed a moment ago: for a caller that has no other node to ask. Without
    /// it such a call ends at once, so that nobody waits for the dead while others could answer.
    pub fn insist(&self, node: &PublicKey) {
        if let Some(peer) = self.peer(node) {
            peer.record().insist();
        }
    }

    /// What is known of the node; `None` if it is not in the network.
    #[must_use]
    pub fn health(&self, node: &PublicKey) -> Option<Health> {
        Some(self.peer(node)?.record().health(Instant::now()))
    }

    /// The open connection's path and counters; `None` while there is no connection.
    pub async fn connection_stats(&self, node: &PublicKey) -> Option<quinn::ConnectionStats> {
        let peer = self.peer(node)?;
        let connection = peer.connection.lock().await;
        connection.as_ref().map(Connection::stats)
    }

    /// Closes every connection. Calls under way end with [`CallError::Disconnected`].
    pub async fn close(&self) {
        self.0.endpoint.close().await;
    }

    /// A call without a body.
    async fn ask(
        &self,
        node: &PublicKey,
        request: &Request,
        fits: impl Fn(&Response) -> Result<usize, Violation>,
    ) -> Result<Response, CallError> {
        Ok(self.exchange(node, request, Vec::new(), fits, &|| {}).await?.response)
    }

    /// One call, on an open connection where there is one. `body_len` judges the response: a violation
    /// counts against the node, as it would not if the caller found it afterwards.
    async fn exchange(
        &self,
        node: &PublicKey,
        request: &Request,
        body: Vec<Bytes>,
        body_len: impl Fn(&Response) -> Result<usize, Violation>,
        progressed: &(dyn Fn() + Sync),
    ) -> Result<Answer, CallError> {
        let peer = self.peer(node).ok_or(CallError::UnknownNode(*node))?;
        let mut pieces = vec![codec::frame(&request.encode())];
        pieces.extend(body);
        let mut outcome = self.attempt(&peer, &pieces, &body_len, progressed).await;
        // The node may have restarted since the connection was made. Every request may be repeated.
        if let Err((CallError::Disconnected(_), Reused(true))) = outcome {
            outcome = self.attempt(&peer, &pieces, &body_len, progressed).await;
        }
        let outcome = outcome.map_err(|(error, _)| error);
        self.note(&peer, request, &outcome);
        outcome
    }

    async fn attempt(
        &self,
        peer: &Peer,
        pieces: &[Bytes],
        body_len: impl FnOnce(&Response) -> Result<usize, Violation>,
        progressed: &(dyn Fn() + Sync),
    ) -> Result<Answer, (CallError, Reused)> {
        let (connection, reused) = self.connection(peer).await.map_err(|error| (error, Reused(false)))?;
        let answer =
            call::call(&connection, pieces, body_len, self.0.patience, progressed, &self.0.pool).await;
        answer.map_err(|error| (error, reused))
    }

    /// Learns from a call.
    fn note(&self, peer: &Peer, request: &Request, outcome: &Result<Answer, CallError>) {
        match outcome {
            // A put's latency is that of its body.
            Ok(_) if matches!(request, Request::PutShard(_)) => peer.record().succeeded(None),
            Ok(answer) => peer.record().succeeded(Some(answer.latency)),
            Err(CallError::Refused(_)) => peer.record().succeeded(None),
            Err(CallError::UnknownNode(_) | CallError::Local(_)) => {}
            Err(error) => {
                tracing::debug!(node = peer.info.name, %error, "call failed");
                peer.record().failed(Instant::now(), &error.cause());
            }
        }
    }

    /// The peer's connection, made where there is none and the last attempt was not a moment ago.
    async fn connection(&self, peer: &Peer) -> Result<(Connection, Reused), CallError> {
        let mut slot = peer.connection.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.close_reason().is_none()) {
            return Ok((open.clone(), Reused(true)));
        }
        if let Some(reason) = peer.record().suspicion(Instant::now()) {
            return Err(peer.misfit().clone().unwrap_or(CallError::Unreachable(reason)));
        }
        let made = self.connect(peer).await;
        let is_misfit = |error: &&CallError| matches!(error, CallError::WrongKey | CallError::Version { .. });
        *peer.misfit() = made.as_ref().err().filter(is_misfit).cloned();
        if let Err(error) = &made {
            // Before the lock is free: who waits for it shares the outcome.
            peer.record().failed(Instant::now(), &error.cause());
        }
        *slot = Some(made?);
        slot.clone().map(|made| (made, Reused(false))).ok_or(CallError::TimedOut)
    }

    async fn connect(&self, peer: &Peer) -> Result<Connection, CallError> {
        let address = peer.info.address;
        let connecting = self.0.endpoint.connect(address, peer.info.key)?;
        let handshake = async {
            tokio::select! {
                made = connecting => made.map_err(|error| CallError::handshake(&error)),
                () = refused(address) => Err(CallError::Unreachable("nothing listens there".into())),
            }
        };
        let late = || Err(CallError::Unreachable("no answer to the handshake".into()));
        timeout(self.0.patience.connect, handshake).await.unwrap_or_else(|_| late())
    }
}

/// Whether a call used a connection that was there before it.
#[derive(Debug, Clone, Copy)]
struct Reused(bool);

/// Nothing follows the response, which must be of the request's kind.
const fn no_body(fits: bool) -> Result<usize, Violation> {
    if fits { Ok(0) } else { Err(Violation::WrongResponse) }
}

/// Bytes that answer a read: those asked for, as far as the shard has them.
fn slice_len(read: ReadShard, shard_len: u64) -> Result<usize, Violation> {
    let rest = shard_len.checked_sub(read.start).filter(|&rest| rest > 0).ok_or(Violation::WrongLength)?;
    usize::try_from(rest.min(read.len)).map_err(|_| Violation::OutOfBounds)
}

/// Ends when the host says that nothing listens at the address, which QUIC's socket is not told: a
/// node that is down then costs a round trip instead of a timeout. Otherwise it never ends.
async fn refused(address: SocketAddr) {
    if let Err(error) = probe(address).await
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Sends one byte that no QUIC stack answers, and waits for anything.
async fn probe(address: SocketAddr) -> std::io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0]).await.map(drop)
}
