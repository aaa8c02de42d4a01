//! A static node: one of the known set that signs the ledger.
//!
//! [`access`] opens records for who has a grant; [`keeper`] decides and makes durable; [`serve`] answers requests, what is about the ledger from the [`library`]; [`http`] has
//! the log for everybody; [`outbox`] brings the others what the keeper says; [`prove`] makes proofs from the chain; [`snapshots`] holds the states that newcomers take. Consensus and the ledger's rules are pure and live
//! in [`consensus`](crate::consensus) and [`ledger`](crate::ledger).

pub(crate) mod access;
mod http;
pub(crate) mod keeper;
pub(crate) mod library;
mod outbox;
mod prove;
mod serve;
pub(crate) mod shared;
pub(crate) mod snapshots;
pub(crate) mod tree_heads;

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::client::ledger::static_peers;
use crate::consensus::Timing;
use crate::crypto::sign::KeyPair;
use crate::ledger::query;
use crate::message::Genesis;
use crate::net::{EndpointError, Limits, Peers, Server, ServerEndpoint, serve as serve_endpoint};
use crate::roles::storage_node::{NodeFolder, NodeFolderError};
use crate::runtime::Clock;
use crate::store::FileDisk;
use crate::store::access::{AccessStore, AccessStoreError};
use crate::store::chain::{Chain, ChainError};
use crate::store::sealed_file::system_entropy;
use crate::store::wal::{FILE as WAL_FILE, Wal, WalError};
use crate::types::limits::MAX_BLOCK_WAITERS;
use crate::types::{Committee, PublicKey};

use access::{AccessDesk, Following};
use http::{LogDesk, LogServer};
pub use keeper::KeeperError;
use keeper::{Command, Keeper, Parts};
use library::Library;
use outbox::Outbox;
use serve::Desk;
use shared::Shared;
use snapshots::Snapshots;

/// The folder of the ledger, in the node's folder.
const LEDGER_FOLDER: &str = "ledger";
/// The folder of what is kept of access, in the node's folder.
const ACCESS_FOLDER: &str = "access";
/// Held while a node runs: two processes with one key would sign two votes.
const LOCK_FILE: &str = "lock";
/// How long requests under way may take when the node is stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long a key that gave up its vote serves on: the block that says so still wants its cosignature.
const HANDOVER: Duration = Duration::from_secs(2);

/// How to run a static node.
#[derive(Debug, Clone)]
pub struct StaticConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where to serve the log (HTTP over TCP), if at all; port 0 lets the system choose.
    pub http: Option<SocketAddr>,
    /// The network.
    pub genesis: Arc<Genesis>,
    /// Its identity; the next key of its folder, once the ledger says that it goes on under that one.
    pub key: KeyPair,
    /// How patient it is.
    pub timing: Timing,
    /// Blocks that it may be behind the others before it takes a snapshot: else it fetches them
    /// ([`SNAPSHOT_GAP`](crate::types::limits::SNAPSHOT_GAP)).
    pub snapshot_gap: u64,
}

/// Why a static node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
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
    /// The ledger cannot be opened.
    #[error("cannot open the ledger in {}", dir.display())]
    Chain {
        /// The node's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// The log of consensus cannot be opened.
    #[error("cannot open the consensus log in {}", dir.display())]
    Wal {
        /// The node's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: WalError,
    },
    /// What is kept of access cannot be opened.
    #[error("cannot open what is kept of access in {}", dir.display())]
    Access {
        /// The node's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: AccessStoreError,
    },
    /// The key that is to take the place of its own cannot be used.
    #[error(transparent)]
    Key(#[from] NodeFolderError),
    /// The key was set aside, and no other one is in its place: without its log it would vote twice.
    #[error("the key {} of {} signs nothing any more: start with the key that took its place", key.short(), dir.display())]
    RetiredKey {
        /// The node's folder.
        dir: PathBuf,
        /// The key.
        key: PublicKey,
    },
    /// It cannot listen.
    #[error("cannot listen")]
    Endpoint(#[from] EndpointError),
    /// It cannot listen for HTTP.
    #[error("cannot listen for HTTP on {address}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A static node that runs.
#[derive(Debug)]
pub struct StaticNode {
    server: Server,
    http: Option<LogServer>,
    following: Following,
    keeper: SyncSender<Command>,
    thread: JoinHandle<()>,
    ended: watch::Receiver<Option<String>>,
    voters: watch::Receiver<Option<Committee>>,
    shared: Arc<Shared>,
    dir: PathBuf,
    key: PublicKey,
    /// Freed when the process ends, however it ends.
    _lock: File,
}

impl StaticNode {
    /// Opens the ledger, recovers what a crash left, and begins to take part. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StaticError`] says what is in the way.
    pub async fn start(config: StaticConfig) -> Result<Self, StaticError> {
        let (dir, genesis, key) = (config.dir.clone(), Arc::clone(&config.genesis), config.key);
        let opened = tokio::task::spawn_blocking(move || open(&dir, &genesis, key)).await;
        let panicked = |panic| StaticError::Io { path: config.dir.clone(), source: io::Error::other(panic) };
        let Opened { lock, key: pair, chain, access, wal, log } = opened.map_err(panicked)??;
        let key = pair.public();
        let endpoint = ServerEndpoint::bind(config.listen, &pair)?;
        let shared = Arc::<Shared>::default();
        let desk = LogDesk::new(chain.clone(), Arc::clone(&shared));
        let http = serve_log(config.http, desk).await?;
        let snapshots = Arc::new(Snapshots::new(config.genesis.network, chain.clone()));
        let (keeper, queue) = keeper::thread::queue();
        let peers = Peers::new(&static_peers(&config.genesis), &pair);
        let (voters, changed) = watch::channel(None);
        let unusable = |source| StaticError::Access { dir: config.dir.clone(), source };
        let access =
            AccessDesk::new(config.genesis.network, pair.clone(), access, chain.clone(), Clock::new());
        let access = access.map_err(unusable)?;
        let others = [(); 2].map(|()| Peers::new(&static_peers(&config.genesis), &pair));
        let parts = Parts {
            outside: Box::new(Outbox::new(key, peers, keeper.clone(), Handle::current())),
            genesis: Arc::clone(&config.genesis),
            key: pair,
            chain: chain.clone(),
            wal,
            shared: Arc::clone(&shared),
            timing: config.timing,
            snapshot_gap: config.snapshot_gap,
            snapshots: Arc::clone(&snapshots),
            voters,
        };
        let (report, ended) = watch::channel(None);
        let thread = keeper::thread::spawn(Keeper::new(parts), log, queue, move |result| {
            if let Err(error) = result {
                tracing::error!(%error, "the static node stops");
                report.send_replace(Some(chain_of(&error)));
            }
        });
        let thread = thread.map_err(|source| StaticError::Io { path: config.dir.clone(), source })?;
        let following = Following::start(access.clone(), others, keeper.clone(), shared.news());
        let desk = Desk {
            access,
            network: config.genesis.network,
            library: Library { chain, shared: Arc::clone(&shared), snapshots },
            keeper: keeper.clone(),
            waiters: Semaphore::new(MAX_BLOCK_WAITERS),
            clock: Clock::new(),
            started: Instant::now(),
        };
        let server = serve_endpoint(endpoint, Arc::new(desk), Limits::default());
        let dir = config.dir;
        Ok(Self {
            server,
            http,
            following,
            keeper,
            thread,
            ended,
            voters: changed,
            shared,
            dir,
            key,
            _lock: lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where it serves its log, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(LogServer::address)
    }

    /// Its identity.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.key
    }

    /// Who votes on the next block, as it changes; none until the ledger is read.
    #[must_use]
    pub fn voters(&self) -> watch::Receiver<Option<Committee>> {
        self.voters.clone()
    }

    /// Waits until the ledger says that the node goes on under the next key of its folder, and the others have heard the
    /// old one's last word. Then stop it, and start it again.
    pub async fn succeeded(&self) {
        let mut voters = self.voters();
        loop {
            let now = voters.borrow_and_update().clone();
            if let Some(now) = now.filter(|now| !now.contains(&self.key))
                && let Ok(Some(next)) = NodeFolder::next_key(&self.dir)
                && is_succeeded(&now, &self.key, &next.public())
            {
                return tokio::time::sleep(HANDOVER).await;
            }
            if voters.changed().await.is_err() {
                // It ended; others say why.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the node must stop by itself, and says why.
    pub async fn failed(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // It ended as it was told to.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes no more requests and leaves.
    pub async fn stop(self) {
        if let Some(http) = self.http {
            http.stop(STOP_GRACE).await;
        }
        self.shared.leave();
        self.server.stop(STOP_GRACE).await;
        self.following.stop().await;
        let stopped = tokio::task::spawn_blocking(move || {
            // Gone already is as good as stopped.
            drop(self.keeper.send(Command::Stop));
            self.thread.join().is_ok()
        });
        if !stopped.await.unwrap_or(false) {
            tracing::error!("the ledger's thread panicked");
        }
    }
}

async fn serve_log(address: Option<SocketAddr>, desk: LogDesk) -> Result<Option<LogServer>, StaticError> {
    let Some(address) = address else { return Ok(None) };
    let started = LogServer::start(address, desk).await;
    started.map(Some).map_err(|source| StaticError::Http { address, source })
}

/// An error and what caused it, on one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

struct Opened {
    lock: File,
    key: KeyPair,
    chain: Chain,
    access: AccessStore,
    wal: Wal,
    log: Vec<Vec<u8>>,
}

fn open(dir: &Path, genesis: &Genesis, key: KeyPair) -> Result<Opened, StaticError> {
    let folder = dir.join(LEDGER_FOLDER);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StaticError::Io { path, source }
    };
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let lock_path = dir.join(LOCK_FILE);
    let options = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = options.map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StaticError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
    }
    let disk = FileDisk::open(&folder).map_err(at(&folder))?;
    let chain =
        Chain::open(&disk, genesis).map_err(|source| StaticError::Chain { dir: dir.to_owned(), source })?;
    let unreadable = |source| StaticError::Chain { dir: dir.to_owned(), source };
    let voters = chain.view().and_then(|view| Ok(query::next_roster(&view)?)).map_err(unreadable)?;
    let wal = || Wal::open(&disk).map_err(|source| StaticError::Wal { dir: dir.to_owned(), source });
    let next = NodeFolder::next_key(dir)?;
    let (key, (wal, log)) = match (next, wal()) {
        (Some(next), opened) if is_over(dir, &key, &next, voters.committee(), &opened)? => {
            set_key_aside(dir, &key)?;
            (next, wal()?)
        }
        (None, _) if NodeFolder::is_retired(dir, &key)? => {
            return Err(StaticError::RetiredKey { dir: dir.to_owned(), key: key.public() });
        }
        (_, opened) => (key, opened?),
    };
    let access = dir.join(ACCESS_FOLDER);
    std::fs::create_dir_all(&access).map_err(at(&access))?;
    let disk = FileDisk::open(&access).map_err(at(&access))?;
    let access = AccessStore::open(Arc::new(disk), system_entropy());
    let access = access.map_err(|source| StaticError::Access { dir: dir.to_owned(), source })?;
    Ok(Opened { lock, key, chain, access, wal, log })
}

/// Whether a key is to be used no more and the folder's next one in its place: because the ledger says so, or because the
/// key's log is damaged. In that case the next key waits without a vote until the ledger knows it.
fn is_over<T>(
    dir: &Path,
    key: &KeyPair,
    next: &KeyPair,
    voters: &Committee,
    log: &Result<T, StaticError>,
) -> Result<bool, StaticError> {
    let is_damaged = matches!(log, Err(StaticError::Wal { source: WalError::Damaged { .. }, .. }));
    let is_over = is_damaged || is_succeeded(voters, &key.public(), &next.public());
    Ok(is_over || NodeFolder::is_retired(dir, key)?)
}

/// Puts the folder's next key in the place of this one, which never signs again. The consensus log goes with it: it does
/// not lead to anything that the new key signs.
fn set_key_aside(dir: &Path, key: &KeyPair) -> Result<(), StaticError> {
    // If we crash after this the next start goes on here: without its log the old key would vote twice.
    NodeFolder::retire_key(dir)?;
    let log = dir.join(LEDGER_FOLDER).join(WAL_FILE);
    let aside = log.with_file_name(format!("{WAL_FILE}.{}", key.public().short()));
    let moved = match std::fs::rename(&log, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Before the new key is there, which would read it.
        moved => moved.and_then(|()| File::open(dir.join(LEDGER_FOLDER))?.sync_all()),
    };
    moved.map_err(|source| StaticError::Io { path: log, source })?;
    NodeFolder::take_next_key(dir)?;
    tracing::info!(old = %key.public().short(), "goes on under another key");
    Ok(())
}

/// Whether a node whose key does not vote any more is to go on under the other one.
fn is_succeeded(voters: &Committee, key: &PublicKey, next: &PublicKey) -> bool {
    voters.contains(next) && !voters.contains(key)
}
