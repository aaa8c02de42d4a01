//! What all operations of a client share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::access::desk::Desks;
use crate::client::members::{self, Known, Members};
use crate::client::vault::Vault;
use crate::client::{Error, ErrorKind, LedgerClient, TroubleKind};
use crate::message::Descriptor;
use crate::net::Peers;
use crate::runtime::{Clock, Workers};
use crate::store::{IndexError, SharedIndex};
use crate::stripe::Coder;
use crate::transfer::BufferPool;
use crate::transfer::inflight::{HedgeBudget, Latencies};
use crate::types::limits::{BODY_SEGMENT_PLAIN_LEN, UPLOAD_SEGMENTS_IN_FLIGHT, UPLOAD_SEGMENTS_IN_GRACE};
use crate::types::{Code, CollectionName, Network, PublicKey, SegmentId, Timestamp, VaultId};

/// Descriptors kept in memory: 250 bytes each.
const DESCRIPTORS_CACHED: usize = 4_096;
/// Segments of which receipts came late and whose record is not committed: those of puts that failed stay here. 250 bytes each.
const LATE_KEPT: usize = 65_536;
/// How long a node that was worked around because it was slow is avoided.
const SLOW_FOR: Duration = Duration::from_secs(5);
/// How long the index is taken for what the ledger says: reads may be so much behind writes of other devices.
const FRESH_FOR: Duration = Duration::from_millis(500);
/// Bytes of buffers kept for the next segment: data and, with 4+2, half as much parity of each upload in flight.
const BUFFERS_KEPT: usize = UPLOAD_SEGMENTS_IN_FLIGHT * BODY_SEGMENT_PLAIN_LEN * 7 / 4;

/// Tells a user something.
struct Notice(Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notice")
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) network: Network,
    pub(crate) members: Members,
    /// The folder of the vault's state.
    pub(crate) home: PathBuf,
    /// The vault that all shards are of.
    pub(crate) vault_id: VaultId,
    pub(crate) peers: Peers,
    pub(crate) index: SharedIndex,
    /// The vault on the network's ledger, where there is one.
    pub(crate) vault: Option<Arc<Vault>>,
    /// The ledger, of somebody who was let into the vault.
    guest_ledger: Option<LedgerClient>,
    pub(crate) workers: Workers,
    pub(crate) pool: BufferPool,
    pub(crate) clock: Clock,
    /// One permit for each body segment in memory.
    pub(crate) segments: Arc<Semaphore>,
    /// One permit for each segment that holds enough shards and waits only for the last ones.
    pub(crate) in_grace: Arc<Semaphore>,
    pub(crate) latencies: Mutex<Latencies>,
    pub(crate) hedges: Mutex<HedgeBudget>,
    coder: Arc<Coder>,
    slow: Mutex<BTreeMap<PublicKey, Timestamp>>,
    descriptors: Mutex<BTreeMap<SegmentId, Arc<Descriptor>>>,
    /// Why the last upload to a node failed; nothing once one succeeds.
    troubles: Mutex<BTreeMap<PublicKey, TroubleKind>>,
    /// Holders that were learned after the upload's report and that the index does not have yet.
    late: Mutex<BTreeMap<SegmentId, Descriptor>>,
    background: Mutex<JoinSet<()>>,
    /// What the next client of this home would do as well.
    resumable: Mutex<JoinSet<()>>,
    /// Whether the ledger knows the vault for sure.
    pub(crate) is_registered: AtomicBool,
    /// Who is told what a user should know while a call goes on.
    notice: OnceLock<Notice>,
    /// What it was told.
    noticed: Mutex<BTreeSet<String>>,
    /// The static nodes' access desks, once they were called for keyslots of the owner's own.
    desks: OnceLock<Desks>,
    /// Until when what the index says of a collection is new enough to be read.
    fresh: Mutex<BTreeMap<CollectionName, Timestamp>>,
}

pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks leaves a value half changed when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(crate) fn new(
        home: PathBuf,
        network: Network,
        vault_id: VaultId,
        peers: Peers,
        index: SharedIndex,
        vault: Option<Arc<Vault>>,
    ) -> Self {
        let coder = Arc::new(Coder::new(network.code));
        Self {
            home,
            members: Members::new(&network),
            network,
            vault_id,
            peers,
            index,
            vault,
            guest_ledger: None,
            workers: Workers::new(),
            pool: BufferPool::new(BUFFERS_KEPT),
            clock: Clock::new(),
            segments: Arc::new(Semaphore::new(UPLOAD_SEGMENTS_IN_FLIGHT)),
            in_grace: Arc::new(Semaphore::new(UPLOAD_SEGMENTS_IN_GRACE)),
            latencies: Mutex::default(),
            hedges: Mutex::default(),
            coder,
            slow: Mutex::default(),
            descriptors: Mutex::default(),
            troubles: Mutex::default(),
            late: Mutex::default(),
            background: Mutex::default(),
            resumable: Mutex::default(),
            is_registered: AtomicBool::new(false),
            notice: OnceLock::new(),
            noticed: Mutex::default(),
            desks: OnceLock::new(),
            fresh: Mutex::default(),
        }
    }

    /// Of somebody who was let into the vault, and asks this ledger.
    pub(crate) fn of_guest(self, ledger: LedgerClient) -> Self {
        Self { guest_ledger: Some(ledger), ..self }
    }

    /// The network's ledger, where there is one.
    pub(crate) fn ledger(&self) -> Option<&LedgerClient> {
        self.vault.as_ref().map(|vault| &vault.ledger).or(self.guest_ledger.as_ref())
    }

    /// The storage nodes, as far as they are known.
    pub(crate) fn nodes(&self) -> Arc<Known> {
        self.members.known()
    }

    /// A coder for a segment's code; that of the network is made once.
    pub(crate) fn coder(&self, code: Code) -> Arc<Coder> {
        if code == self.network.code { Arc::clone(&self.coder) } else { Arc::new(Coder::new(code)) }
    }

    pub(crate) async fn descriptor(&self, segment: SegmentId) -> Result<Arc<Descriptor>, Error> {
        if let Some(known) = guard(&self.descriptors).get(&segment) {
            return Ok(Arc::clone(known));
        }
        let found = self.index.with(move |index| index.descriptor(&segment)).await?;
        let found = found.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("the local index does not know segment {}", segment.short()),
            )
        })?;
        let mut found = found;
        self.complete(&mut found);
        members::reach(self, found.holders.iter().flatten().copied()).await;
        let found = Arc::new(found);
        let mut cache = guard(&self.descriptors);
        if cache.len() >= DESCRIPTORS_CACHED {
            cache.clear();
        }
        cache.insert(segment, Arc::clone(&found));
        Ok(found)
    }

    /// Keeps a descriptor that the index does not have yet.
    pub(crate) fn know_descriptor(&self, descriptor: &Descriptor) {
        let mut cache = guard(&self.descriptors);
        cache.entry(descriptor.segment).or_insert_with(|| Arc::new(descriptor.clone()));
    }

    pub(crate) fn forget_descriptor(&self, segment: &SegmentId) {
        guard(&self.descriptors).remove(segment);
    }

    /// Keeps what is known of a segment's holders until the index has it.
    pub(crate) fn note_late(&self, descriptor: &Descriptor) {
        let mut late = guard(&self.late);
        if late.len() >= LATE_KEPT {
            late.clear();
        }
        late.entry(descriptor.segment).or_insert_with(|| descriptor.clone()).learn(&descriptor.holders);
    }

    /// Forgets what was noted of a segment, unless more has been noted since.
    pub(crate) fn forget_late(&self, written: &Descriptor) {
        let mut late = guard(&self.late);
        if late.get(&written.segment) == Some(written) {
            late.remove(&written.segment);
        }
    }

    /// What was noted of a segment's holders and is not in the index.
    pub(crate) fn late(&self, segment: &SegmentId) -> Option<Descriptor> {
        guard(&self.late).get(segment).cloned()
    }

    /// Adds what was noted late of a segment.
    pub(crate) fn complete(&self, descriptor: &mut Descriptor) {
        if let Some(late) = self.late(&descriptor.segment) {
            descriptor.learn(&late.holders);
        }
    }

    /// Notes how an upload to a node went.
    pub(crate) fn note_upload(&self, node: &PublicKey, trouble: Option<TroubleKind>) {
        let mut troubles = guard(&self.troubles);
        match trouble {
            Some(kind) => drop(troubles.insert(*node, kind)),
            None => drop(troubles.remove(node)),
        }
    }

    /// Why uploads avoid a node at present, if they do.
    pub(crate) fn avoided(&self, node: &PublicKey) -> Option<TroubleKind> {
        if self.peers.is_suspect(node) {
            return Some(guard(&self.troubles).get(node).copied().unwrap_or(TroubleKind::Down));
        }
        self.is_suspect(node).then_some(TroubleKind::Slow)
    }

    /// Whether a node failed or was slow a moment ago.
    pub(crate) fn is_suspect(&self, node: &PublicKey) -> bool {
        let slow = guard(&self.slow).get(node).is_some_and(|until| *until > self.clock.now());
        slow || self.peers.is_suspect(node)
    }

    pub(crate) fn note_slow(&self, nodes: &[PublicKey]) {
        let until = self.clock.now() + SLOW_FOR;
        guard(&self.slow).extend(nodes.iter().map(|node| (*node, until)));
    }

    /// The ledger could not be asked about a collection: it is to be asked again at once.
    pub(crate) fn not_fresh(&self, collection: &CollectionName) {
        guard(&self.fresh).remove(collection);
    }

    /// Notices go here from now on. The first that is given stays.
    pub(crate) fn on_notice(&self, notice: impl Fn(&str) + Send + Sync + 'static) {
        drop(self.notice.set(Notice(Box::new(notice))));
    }

    /// Tells the user something that matters and is no error.
    pub(crate) fn notice(&self, text: &str) {
        tracing::warn!("{text}");
        // Once a command: each of a thousand records would say the same.
        if !guard(&self.noticed).insert(text.to_owned()) {
            return;
        }
        if let Some(Notice(notice)) = self.notice.get() {
            notice(text);
        }
    }

    /// Whether the ledger was asked about a collection a moment ago; if not, it is to be asked now.
    pub(crate) fn is_fresh(&self, collection: &CollectionName) -> bool {
        let now = self.clock.now();
        let mut fresh = guard(&self.fresh);
        let is_fresh = fresh.get(collection).is_some_and(|until| *until > now);
        if !is_fresh {
            fresh.insert(collection.clone(), now + FRESH_FOR);
        }
        is_fresh
    }

    /// The static nodes' access desks, called with the owner's key: connections last from one call to the next.
    pub(crate) fn desks(&self, vault: &Vault) -> Desks {
        self.desks.get_or_init(|| Desks::new(vault.ledger.clone(), vault.keys.signing())).clone()
    }

    /// Runs something that nobody waits for until the client is closed.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut background = guard(&self.background);
        while background.try_join_next().is_some() {}
        background.spawn(work);
    }

    /// Runs something that need not end before the client is closed.
    pub(crate) fn in_background_resumable(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut resumable = guard(&self.resumable);
        while resumable.try_join_next().is_some() {}
        resumable.spawn(work);
    }

    /// Takes over what need not end.
    pub(crate) fn resumable(&self) -> JoinSet<()> {
        std::mem::take(&mut *guard(&self.resumable))
    }

    /// Takes over what runs in the background.
    pub(crate) fn background(&self) -> JoinSet<()> {
        std::mem::take(&mut *guard(&self.background))
    }

    /// What people call a node.
    pub(crate) fn node_name(&self, node: &PublicKey) -> String {
        self.nodes().get(node).map_or_else(|| node.short(), |info| info.name.clone())
    }
}

/// Fresh random bytes.
pub(crate) fn random<const LEN: usize>() -> Result<[u8; LEN], Error> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "the system gives no random bytes").caused_by(error)
    })?;
    Ok(bytes)
}

/// Whether the system lets us read but not write.
fn is_forbidden(error: &IndexError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let IndexError::Database(redb::Error::Io(error)) = error else { return false };
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        if is_forbidden(&error) {
            let hint = "make the home folder and what is in it writable for you, or copy it and name the copy with --home";
            return Self::new(ErrorKind::Config, "the local index cannot be used")
                .with_hint(hint)
                .caused_by(error);
        }
        let (kind, hint) = match &error {
            IndexError::Locked => (ErrorKind::Locked, "wait for the other command to end"),
            IndexError::WrongKey => {
                (ErrorKind::Config, "use the key with which this folder was made, or another --home")
            }
            IndexError::Damaged { .. } => (
                ErrorKind::Corrupt,
                "move index.sealed out of the vault's folder and run `xvault recover`: the network has all of it; without a ledger, restore the home folder from a backup",
            ),
            IndexError::Full => (ErrorKind::Full, "free some disk space"),
            IndexError::Database(_) | IndexError::Closed | IndexError::OutOfOrder => {
                (ErrorKind::Internal, "check the disk of the home folder")
            }
        };
        Self::new(kind, error.to_string()).with_hint(hint).caused_by(error)
    }
}

impl From<crate::runtime::JobPanicked> for Error {
    fn from(error: crate::runtime::JobPanicked) -> Self {
        Self::new(ErrorKind::Internal, error.to_string())
    }
}
