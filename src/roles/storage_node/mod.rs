//! A storage node: holds shards of vaults, and knows nothing of what is in them.
//!
//! [`serve`](mod@serve) has what it answers, as plain functions; the writer thread has the one place that writes and
//! signs; this file connects them to the network. Reads run on blocking threads, writes wait for the writer's
//! group commit.

mod folder;
mod gate;
mod housekeeping;
mod serve;
mod writer;

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::KeyPair;
use crate::message::access::ReleaseReceipt;
use crate::message::{
    Genesis, LedgerTip, NodeStatus, PutShard, Refusal, RefusalCode, Request, Response, Violation,
};
use crate::net::{
    Body, EndpointError, Handler, Limits, Reply, Server, ServerEndpoint, serve as serve_endpoint,
};
use crate::roles::follower::{Follower, Ledger};
use crate::runtime::Clock;
use crate::store::chain::ChainError;
use crate::store::chain::light::LightChain;
use crate::store::{FileDisk, HeaderKey, ShardReader, ShardStore, StoreConfig, StoreError};
use crate::types::limits::{NODE_INTAKE_BYTES, RELEASE_GRACE_MICROS, UNANCHORED_LIFE_MICROS};
use crate::types::{NetworkId, PublicKey, SegmentId, VaultId};

pub use folder::{Described, NodeFolder, NodeFolderError};
use gate::{Gate, Right};
use housekeeping::{Housekeeping, Lives};
pub use serve::{Signer, answer, key_namespace, refusal, sign_receipt, verify_shard};
use writer::Writer;

/// The folder of a node's volumes, in the node's folder.
const STORE_FOLDER: &str = "store";
/// The folder of what it keeps of the ledger, in the node's folder.
const LEDGER_FOLDER: &str = "ledger";
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
    /// The ledger that it follows; without one it takes shards of any key, and frees what that key tells it to.
    pub ledger: Option<LedgerConfig>,
}

/// How a node follows its network's ledger.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// What all of it hangs on.
    pub genesis: Arc<Genesis>,
    /// The ledger's time from a segment's release to its end.
    pub release_grace: Duration,
    /// The ledger's time for which a shard is kept that no anchor names.
    pub unanchored_life: Duration,
}

impl LedgerConfig {
    /// As [`limits`](crate::types::limits) has it.
    #[must_use]
    pub const fn new(genesis: Arc<Genesis>) -> Self {
        let release_grace = Duration::from_micros(RELEASE_GRACE_MICROS);
        let unanchored_life = Duration::from_micros(UNANCHORED_LIFE_MICROS);
        Self { genesis, release_grace, unanchored_life }
    }
}

impl NodeConfig {
    /// The node of a folder, which follows the ledger of this genesis if its network has one.
    #[must_use]
    pub fn new(folder: NodeFolder, genesis: Option<Arc<Genesis>>) -> Self {
        let NodeFolder { dir, listen, network, key, .. } = folder;
        let (store, ledger) = (StoreConfig::default(), genesis.map(LedgerConfig::new));
        Self { dir, listen, network, key, store, ledger }
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
    /// What it keeps of the ledger cannot be opened.
    #[error("cannot open the copy of the ledger in {}", dir.display())]
    Ledger {
        /// The node's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// The genesis is of another network than the node.
    #[error("the node in {} serves another network than this genesis is of", dir.display())]
    OtherNetwork {
        /// The node's folder.
        dir: PathBuf,
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
    following: Option<Following>,
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
        if config.ledger.as_ref().is_some_and(|ledger| ledger.genesis.network != config.network) {
            return Err(NodeError::OtherNetwork { dir });
        }
        let genesis = config.ledger.as_ref().map(|ledger| Arc::clone(&ledger.genesis));
        let opened = tokio::task::spawn_blocking(move || open(&dir, store_config, genesis.as_deref())).await;
        let (lock, store, chain) = opened
            .map_err(|panic| NodeError::Io { path: config.dir.clone(), source: io::Error::other(panic) })??;
        let endpoint = ServerEndpoint::bind(config.listen, &config.key)?;
        let (reader, clock) = (store.reader(), Clock::new());
        let follower = match chain.zip(config.ledger.as_ref()) {
            Some((chain, ledger)) => Some(follow(chain, &ledger.genesis, &config)?),
            None => None,
        };
        let ledger = follower.as_ref().map(|follower| follower.ledger().clone());
        let signer = Signer { network: config.network, key: config.key };
        let writer = Writer::start(store, signer.clone());
        let handler = Node {
            network: config.network,
            signer,
            reader: reader.clone(),
            writer: writer.handle(),
            gate: Gate::new(ledger.clone(), clock),
            ledger,
            intake: Arc::new(Semaphore::new(NODE_INTAKE_BYTES)),
            clock,
            started: Instant::now(),
        };
        let following = follower.zip(config.ledger).map(|(follower, config)| {
            let LedgerConfig { release_grace, unanchored_life: unanchored, .. } = config;
            let lives = Lives { release_grace, unanchored };
            let (ledger, writer) = (follower.ledger().clone(), writer.handle());
            Following::start(follower, Housekeeping { ledger, reader, writer, clock, lives })
        });
        let server = serve_endpoint(endpoint, Arc::new(handler), Limits::default());
        Ok(Self { server, writer, following, key, _lock: lock })
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
        if let Some(following) = self.following {
            following.stop().await;
        }
        self.writer.stop().await;
    }

    /// The last block that it has of the ledger, if it follows one.
    #[must_use]
    pub fn ledger_tip(&self) -> Option<LedgerTip> {
        self.following.as_ref().map(|following| following.follower.ledger().tip())
    }
}

fn follow(chain: LightChain, genesis: &Genesis, config: &NodeConfig) -> Result<Follower, NodeError> {
    let followed = Follower::start(chain, genesis, &config.key);
    followed.map_err(|source| NodeError::Ledger { dir: config.dir.clone(), source })
}

/// What a node does because it follows the ledger.
#[derive(Debug)]
struct Following {
    follower: Follower,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Following {
    fn start(follower: Follower, housekeeping: Housekeeping) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(housekeeping.clone().releases(stopping.clone()));
        tasks.spawn(housekeeping.expiry(stopping));
        Self { follower, stop, tasks }
    }

    /// What is under way is done when this returns: the next start opens the same files.
    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.follower.stop().await;
    }
}

/// The secret of a node's volumes: of its identity, so that there is no other to lose.
fn header_key(node: &KeyPair) -> HeaderKey {
    let mut key = HeaderKey::default();
    derive_key(Context::VolumeHeaders, &[&*node.secret()], &mut key.0);
    key
}

type Opened = (File, ShardStore, Option<LightChain>);

fn open(dir: &Path, config: StoreConfig, genesis: Option<&Genesis>) -> Result<Opened, NodeError> {
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
    let chain = genesis.map(|genesis| open_chain(dir, genesis)).transpose()?;
    Ok((lock, store, chain))
}

fn open_chain(dir: &Path, genesis: &Genesis) -> Result<LightChain, NodeError> {
    let folder = dir.join(LEDGER_FOLDER);
    let unusable = |source| NodeError::Io { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(unusable)?;
    let disk = FileDisk::open(&folder).map_err(unusable)?;
    let opened = LightChain::open(&disk, genesis);
    opened.map_err(|source| NodeError::Ledger { dir: dir.to_owned(), source })
}

/// Answers requests.
#[derive(Debug)]
struct Node {
    network: NetworkId,
    signer: Signer,
    reader: ShardReader,
    writer: writer::Handle,
    gate: Gate,
    /// What it follows, if the network has a ledger.
    ledger: Option<Ledger>,
    /// Bytes of shards that may be held in memory.
    intake: Arc<Semaphore>,
    clock: Clock,
    started: Instant,
}

impl Handler for Node {
    async fn handle(&self, from: PublicKey, request: Request, body: Body) -> Reply {
        match request {
            Request::PutShard(put) => self.put(from, put, body).await.unwrap_or_else(Reply::from),
            Request::ReleaseSegments { vault, segments } => {
                self.release(from, vault, segments).await.unwrap_or_else(Response::Refusal).into()
            }
            Request::CertifyRelease { vault, segments } => {
                self.certify_release(from, vault, segments).await.unwrap_or_else(Response::Refusal).into()
            }
            Request::GetStatus => Response::Status(self.status()).into(),
            request => self.read(from, request).await.unwrap_or_else(Reply::from),
        }
    }
}

impl Node {
    async fn put(&self, from: PublicKey, put: PutShard, body: Body) -> Result<Reply, Refusal> {
        let (namespace, stored_at) = self.gate.admit(&from, &put).await?;
        let len = usize::try_from(put.len).map_err(|_| disk_refusal())?;
        let permits = u32::try_from(len).map_err(|_| disk_refusal())?;
        let room = Arc::clone(&self.intake).acquire_many_owned(permits);
        let Ok(Ok(room)) = tokio::time::timeout(INTAKE_PATIENCE, room).await else {
            return Err(Refusal::busy("too many shards at once", RETRY_AFTER_MS));
        };
        let bytes = body.read(len).await?;
        Ok(self.writer.put(namespace, put, bytes, stored_at, room).await.into())
    }

    /// Frees what the ledger does not have; of the rest the refusal tells.
    async fn release(
        &self,
        from: PublicKey,
        vault: VaultId,
        segments: Vec<SegmentId>,
    ) -> Result<Response, Refusal> {
        let namespace = self.gate.admit_to(&from, &vault, Right::Write).await?;
        let (free, refusal) = self.gate.releasable(&vault, segments).await?;
        let freed = self.writer.release(namespace, free).await;
        Ok(refusal.map_or(freed, Response::Refusal))
    }

    /// The same; signs which of them are gone, or says why none is.
    async fn certify_release(
        &self,
        from: PublicKey,
        vault: VaultId,
        mut segments: Vec<SegmentId>,
    ) -> Result<Response, Refusal> {
        segments.sort_unstable();
        segments.dedup();
        let namespace = self.gate.admit_to(&from, &vault, Right::Write).await?;
        let (free, refusal) = self.gate.releasable(&vault, segments).await?;
        if let Some(refusal) = refusal.filter(|_| free.is_empty()) {
            return Err(refusal);
        }
        // Durable before it is signed: the writer answers once the shards are gone.
        match self.writer.release(namespace, free.clone()).await {
            Response::Released { .. } => {
                let Signer { network, key } = &self.signer;
                let receipt = ReleaseReceipt::sign(network, &vault, self.clock.now(), free, key);
                Ok(Response::ReleaseReceipt(receipt))
            }
            other => Ok(other),
        }
    }

    /// Answers what only reads.
    async fn read(&self, from: PublicKey, request: Request) -> Result<Reply, Refusal> {
        let (vault, right) = match &request {
            Request::ReadShard(read) => (read.vault, Right::Read),
            Request::HaveShards { vault, .. } => (*vault, Right::Read),
            // All that a vault has here is its writers' business.
            Request::ListShards { vault, .. } => (*vault, Right::Write),
            _ => return Err(Violation::OutOfBounds.into()),
        };
        let namespace = self.gate.admit_to(&from, &vault, right).await?;
        if matches!(&request, Request::ReadShard(read) if read.len <= INLINE_READ_BYTES) {
            return Ok(reply(answer(&self.reader, &namespace, &request)));
        }
        let reader = self.reader.clone();
        let answered = tokio::task::spawn_blocking(move || answer(&reader, &namespace, &request)).await;
        answered.map(reply).map_err(|_| disk_refusal())
    }

    fn status(&self) -> NodeStatus {
        let usage = self.reader.usage();
        let now = self.clock.now();
        let mut problems = usage.problems;
        problems.extend(self.ledger.as_ref().and_then(|ledger| ledger.problem(now)));
        NodeStatus {
            network: self.network,
            version: env!("CARGO_PKG_VERSION").into(),
            shards: usage.shards,
            shard_bytes: usage.shard_bytes,
            disk_bytes: usage.disk_bytes,
            free_bytes: usage.free_bytes,
            uptime_seconds: self.started.elapsed().as_secs(),
            clock: now,
            problems,
            ledger: self.ledger.as_ref().map(Ledger::tip),
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
