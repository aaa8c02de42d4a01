//! A storage node: holds shards for their owners, and knows nothing of what is in them.
//!
//! [`serve`](mod@serve) has what it answers, as plain functions; the writer thread has the one place that writes and
//! signs; this file connects them to the network. Reads run on blocking threads, writes wait for the writer's
//! group commit.

mod folder;
mod serve;
mod writer;

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::KeyPair;
use crate::message::{NodeStatus, PutShard, Refusal, RefusalCode, Request, Response};
use crate::net::{
    Body, EndpointError, Handler, Limits, Reply, Server, ServerEndpoint, serve as serve_endpoint,
};
use crate::runtime::Clock;
use crate::store::{FileDisk, HeaderKey, ShardReader, ShardStore, StoreConfig, StoreError};
use crate::types::limits::NODE_INTAKE_BYTES;
use crate::types::{NetworkId, PublicKey};

pub use folder::{Described, NodeFolder, NodeFolderError};
pub use serve::{Signer, answer, refusal, sign_receipt, verify_shard};
use writer::Writer;

/// The folder of a node's volumes, in the node's folder.
const STORE_FOLDER: &str = "store";
/// Held while a node runs.
const LOCK_FILE: &str = "lock";
/// How long a put may wait for its turn to be read; then the client is told to come back.
const INTAKE_PATIENCE: Duration = Duration::from_secs(5);
/// What a client that is told to come back should wait.
const RETRY_AFTER_MS: u32 = 500;
/// How long requests under way may take when the node is stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A read of at most this many bytes is done where it arrives: handing it to another thread would cost more.
const INLINE_READ_BYTES: u64 = 128 << 10;

/// How to run a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its folder: lock and volumes.
    pub dir: PathBuf,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The network it serves.
    pub network: NetworkId,
    /// Its identity.
    pub key: KeyPair,
    /// How it keeps its files.
    pub store: StoreConfig,
}

impl From<NodeFolder> for NodeConfig {
    fn from(folder: NodeFolder) -> Self {
        let store = StoreConfig::default();
        Self { dir: folder.dir, listen: folder.listen, network: folder.network, key: folder.key, store }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another process runs a node in this folder.
    #[error("{} is in use by another node process", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store in {}", dir.display())]
    Store {
        /// The node's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// It cannot listen.
    #[error("cannot listen")]
    Endpoint(#[from] EndpointError),
}

/// A node that runs.
#[derive(Debug)]
pub struct StorageNode {
    server: Server,
    writer: Writer,
    key: PublicKey,
    /// Freed when the process ends, however it ends.
    _lock: File,
}

impl StorageNode {
    /// Opens the store, recovers what a crash left, and begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`] says what is in the way.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let key = config.key.public();
        let dir = config.dir.clone();
        let store_config = StoreConfig { header_key: header_key(&config.key), ..config.store };
        let opened = tokio::task::spawn_blocking(move || open(&dir, store_config)).await;
        let (lock, store) = opened
            .map_err(|panic| NodeError::Io { path: config.dir.clone(), source: io::Error::other(panic) })??;
        let endpoint = ServerEndpoint::bind(config.listen, &config.key)?;
        let reader = store.reader();
        let signer = Signer { network: config.network, key: config.key };
        let writer = Writer::start(store, signer);
        let handler = Node {
            network: config.network,
            reader,
            writer: writer.handle(),
            intake: Arc::new(Semaphore::new(NODE_INTAKE_BYTES)),
            clock: Clock::new(),
            started: Instant::now(),
        };
        let server = serve_endpoint(endpoint, Arc::new(handler), Limits::default());
        Ok(Self { server, writer, key, _lock: lock })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its identity.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.key
    }

    /// Takes no more requests, finishes those under way, and leaves the store so that the next start is quick.
    pub async fn stop(self) {
        self.server.stop(STOP_GRACE).await;
        self.writer.stop().await;
    }
}

/// The secret of a node's volumes: of its identity, so that there is no other to lose.
fn header_key(node: &KeyPair) -> HeaderKey {
    let mut key = HeaderKey::default();
    derive_key(Context::VolumeHeaders, &[&*node.secret()], &mut key.0);
    key
}

fn open(dir: &Path, config: StoreConfig) -> Result<(File, ShardStore), NodeError> {
    let store_dir = dir.join(STORE_FOLDER);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| NodeError::Io { path, source }
    };
    std::fs::create_dir_all(&store_dir).map_err(at(&store_dir))?;
    let lock_path = dir.join(LOCK_FILE);
    let lock =
        File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NodeError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
    }
    let disk = FileDisk::open(&store_dir).map_err(at(&store_dir))?;
    let store = ShardStore::open(Arc::new(disk), config)
        .map_err(|source| NodeError::Store { dir: dir.to_owned(), source })?;
    Ok((lock, store))
}

/// Answers requests.
#[derive(Debug)]
struct Node {
    network: NetworkId,
    reader: ShardReader,
    writer: writer::Handle,
    /// Bytes of shards that may be held in memory.
    intake: Arc<Semaphore>,
    clock: Clock,
    started: Instant,
}

impl Handler for Node {
    async fn handle(&self, from: PublicKey, request: Request, body: Body) -> Reply {
        match request {
            Request::PutShard(put) => self.put(from, put, body).await.unwrap_or_else(Reply::from),
            Request::ReleaseSegments(segments) => self.writer.release(from, segments).await.into(),
            Request::GetStatus => Response::Status(self.status()).into(),
            Request::ReadShard(read) if read.len <= INLINE_READ_BYTES => {
                reply(answer(&self.reader, &from, &Request::ReadShard(read)))
            }
            request => {
                let reader = self.reader.clone();
                let answered = tokio::task::spawn_blocking(move || answer(&reader, &from, &request)).await;
                answered.map_or_else(|_| disk_refusal().into(), reply)
            }
        }
    }
}

impl Node {
    async fn put(&self, from: PublicKey, put: PutShard, body: Body) -> Result<Reply, Refusal> {
        let len = usize::try_from(put.len).map_err(|_| disk_refusal())?;
        let permits = u32::try_from(len).map_err(|_| disk_refusal())?;
        let room = Arc::clone(&self.intake).acquire_many_owned(permits);
        let Ok(Ok(room)) = tokio::time::timeout(INTAKE_PATIENCE, room).await else {
            return Err(Refusal::busy("too many shards at once", RETRY_AFTER_MS));
        };
        let bytes = body.read(len).await?;
        Ok(self.writer.put(from, put, bytes, room).await.into())
    }

    fn status(&self) -> NodeStatus {
        let usage = self.reader.usage();
        NodeStatus {
            network: self.network,
            version: env!("CARGO_PKG_VERSION").into(),
            shards: usage.shards,
            shard_bytes: usage.shard_bytes,
            disk_bytes: usage.disk_bytes,
            free_bytes: usage.free_bytes,
            uptime_seconds: self.started.elapsed().as_secs(),
            clock: self.clock.now(),
            problems: usage.problems,
        }
    }
}

fn reply((response, bytes): (Response, Bytes)) -> Reply {
    let body = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
    Reply { response, body }
}

fn disk_refusal() -> Refusal {
    Refusal::new(RefusalCode::Disk, "the node could not do it; its log says why")
}
