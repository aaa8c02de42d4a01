//! What the client is asked and what it answers: plain values, no behaviour.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::client::{ByteRange, Condition};
use crate::message::access::Provenance;
use crate::message::request::NodeStatus;
use crate::types::{
    Code, CollectionClass, CollectionName, Hash, Height, RecordName, SegmentId, Timestamp, TransactionId,
    VersionId,
};

/// A record's full address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordAddress {
    /// The collection.
    pub collection: CollectionName,
    /// The record in it.
    pub name: RecordName,
}

impl std::fmt::Display for RecordAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "xv://{}/{}", self.collection, self.name)
    }
}

/// Where the bytes of a put come from.
pub enum Source {
    /// A file. A put of a large file that was interrupted resumes when the same file is put again.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
    /// Anything else; it is read once and cannot resume.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Reader(_) => f.write_str("Reader"),
        }
    }
}

/// How far a transfer is, for whoever watches it.
#[derive(Debug, Default)]
pub struct AtomicProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl AtomicProgress {
    /// Bytes of content transferred so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes of content in all; zero while unknown.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// The transfer's end of an [`AtomicProgress`]; several transfers may share one.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<Arc<AtomicProgress>>);

impl Progress {
    /// Nobody watches.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// A transfer and what a watcher reads.
    #[must_use]
    pub fn new() -> (Self, Arc<AtomicProgress>) {
        let shared = Arc::<AtomicProgress>::default();
        (Self(Some(Arc::clone(&shared))), shared)
    }

    pub(crate) fn expect_bytes(&self, bytes: u64) {
        if let Some(progress) = &self.0 {
            progress.total.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        if let Some(progress) = &self.0 {
            progress.done.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// When a put is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Ack {
    /// Its bytes are durable on this machine, sealed; they are stored and anchored later, by this client or the next one of
    /// this home, and cannot be read until then. Not together with a condition either.
    Staged,
    /// Enough nodes hold the record; it is anchored later, by this client or the next one of this home. Not together
    /// with a condition, which only the ledger decides.
    Stored,
    /// It is final on the ledger. Where there is none, as [`Stored`](Self::Stored).
    #[default]
    Anchored,
}

/// How to put a record.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// The user's own words: at most `MAX_METADATA_LEN` bytes in all.
    pub metadata: BTreeMap<String, String>,
    /// What must hold for the put to take effect.
    pub condition: Condition,
    /// When it is done.
    pub ack: Ack,
    /// Who watches.
    pub progress: Progress,
}

/// What a put did. The version is durable, as its [`Ack`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReport {
    /// The new version.
    pub version: VersionId,
    /// Bytes of the record.
    pub size: u64,
    /// Bytes that an earlier, interrupted put had already stored.
    pub resumed_bytes: u64,
    /// Whether the file had changed since an interrupted put of it, so that this one began anew.
    pub restarted: bool,
    /// Shards for which a node signed custody.
    pub shards_held: usize,
    /// Shards of all segments of the record.
    pub shards_total: usize,
    /// Shards that are on a node with another one of their segment: the node's loss takes both.
    pub shards_doubled: usize,
    /// Whether some shard has no node of its own.
    pub degraded: bool,
    /// Where it is degraded: the nodes that did not take their shards, and why.
    pub troubles: Vec<NodeTrouble>,
}

impl PutReport {
    /// Of a put that no node knows of yet.
    pub(crate) const fn new(version: VersionId, size: u64) -> Self {
        Self {
            version,
            size,
            resumed_bytes: 0,
            restarted: false,
            shards_held: 0,
            shards_total: 0,
            shards_doubled: 0,
            degraded: false,
            troubles: Vec::new(),
        }
    }
}

/// A node that did not take its shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeTrouble {
    /// Its name.
    pub node: String,
    /// Why.
    pub kind: TroubleKind,
}

/// Why a node did not take its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// It could not be reached, or the connection broke.
    Down,
    /// Its disk is full.
    Full,
    /// It took too long.
    Slow,
    /// It has too much to do.
    Busy,
    /// It will not store for this vault.
    Refuses,
    /// It is not who it should be, speaks another version, or broke the protocol.
    BrokeProtocol,
}

impl TroubleKind {
    /// The word for it in JSON output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Full => "full",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Refuses => "refuses",
            Self::BrokeProtocol => "broke_protocol",
        }
    }
}

impl std::fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down => "is down",
            Self::Full => "is full",
            Self::Slow => "is slow",
            Self::Busy => "is busy",
            Self::Refuses => "refuses",
            Self::BrokeProtocol => "broke the protocol",
        })
    }
}

/// How to get a record.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Which version; the latest if not said.
    pub version: Option<VersionId>,
    /// Which bytes; all if not said.
    pub range: Option<ByteRange>,
    /// Who watches.
    pub progress: Progress,
}

/// One version of a record, as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordInfo {
    /// The record.
    pub name: RecordName,
    /// The version.
    pub version: VersionId,
    /// When it was committed.
    pub created: Timestamp,
    /// True for the marker of a removal.
    pub deleted: bool,
    /// Bytes.
    pub size: u64,
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// Who brought it, if the owner did not put it.
    pub provenance: Option<Provenance>,
}

/// Which records to list.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Only names that begin so.
    pub prefix: String,
    /// Names that have this character after the prefix are folded into one [`ListEntry::Prefix`].
    pub delimiter: Option<char>,
    /// Go on after here: [`ListPage::next`] of the page before.
    pub after: Option<String>,
    /// Entries of a page, at most 10,000.
    pub limit: usize,
    /// Also list removed records.
    pub include_deleted: bool,
}

/// A page of a listing, in the order of the names' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// Records and folded prefixes.
    pub entries: Vec<ListEntry>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEntry {
    /// A record, in its latest version.
    Record(RecordInfo),
    /// Records whose names go on after the delimiter, as one.
    Prefix(String),
}

/// A collection of the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Whether what it holds can be destroyed by destroying keys.
    pub class: CollectionClass,
    /// Its name.
    pub name: CollectionName,
    /// When its first record was put.
    pub created: Timestamp,
}

/// All that is known of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordStat {
    /// The class of its collection.
    pub class: CollectionClass,
    /// As listings show it.
    pub info: RecordInfo,
    /// The user's own words, read from the sealed header.
    pub metadata: BTreeMap<String, String>,
    /// BLAKE3 of the record.
    pub content: Hash,
    /// The anchor that brought it; none while it is not anchored.
    pub anchor: Option<TransactionId>,
    /// The segments that hold it.
    pub segments: Vec<SegmentHealth>,
}

/// How well a segment is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHealth {
    /// The segment.
    pub segment: SegmentId,
    /// Its code.
    pub code: Code,
    /// Its ciphertext bytes.
    pub len: u64,
    /// Shards for which a node signed custody.
    pub held: usize,
    /// Shards that nodes say they hold now, where they were asked.
    pub reachable: Option<usize>,
}

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// Mark the record as removed; its versions stay readable by id.
    Mark,
    /// Erase one version for good.
    Version(VersionId),
    /// Erase every version for good.
    AllVersions,
}

/// What a removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoveReport {
    /// Versions erased; 0 for a mark.
    pub versions: u64,
    /// Segments that nothing uses any more; the nodes are told to free them.
    pub segments_released: u64,
}

/// What was still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Staged puts that are now anchored.
    pub staged: u64,
    /// Stored packs that are now anchored.
    pub stored: u64,
}

/// What a recovery restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Anchors read.
    pub anchors: u64,
    /// Versions and erasures that they brought.
    pub changes: u64,
    /// Versions that were stored and not anchored, and now are.
    pub stored: u64,
    /// The block in which the vault was erased as a whole: then nothing is restored.
    pub erased: Option<Height>,
}

/// How a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// What it said.
    pub status: NodeStatus,
    /// How long the question and answer took.
    pub round_trip: Duration,
    /// The node's clock minus ours, milliseconds, as well as the round trip lets us tell.
    pub clock_offset_ms: i64,
}
