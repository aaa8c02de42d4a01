//! Requests to a node, storage or static, and its responses, as words; their codec is `request_codec`.

use crate::message::Violation;
use crate::message::access::ReleaseReceipt;
use crate::types::{Hash, Height, NetworkId, SegmentId, Timestamp, VaultId};

/// Version of the protocol spoken here.
pub const PROTOCOL: u32 = 1;

/// Why the bytes of a request are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It speaks this version of the protocol, which is not spoken here.
    #[error("protocol version {0} is not spoken here")]
    UnsupportedProtocol(u32),
    /// It breaks the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Store a shard; its bytes follow.
    PutShard(PutShard),
    /// Read a range of a shard.
    ReadShard(ReadShard),
    /// Which of these shards do you hold?
    HaveShards {
        /// The vault that they are of.
        vault: VaultId,
        /// At most [`MAX_BATCH_ITEMS`](crate::types::limits::MAX_BATCH_ITEMS).
        shards: Vec<ShardRef>,
    },
    /// Which shards of a vault do you hold?
    ListShards {
        /// The vault.
        vault: VaultId,
        /// Only those after this one.
        after: Option<ShardRef>,
    },
    /// Free every shard of these segments.
    ReleaseSegments {
        /// The vault that they are of.
        vault: VaultId,
        /// At most [`MAX_BATCH_ITEMS`](crate::types::limits::MAX_BATCH_ITEMS).
        segments: Vec<SegmentId>,
    },
    /// Free every shard of these segments, and sign that there is none of them any more.
    CertifyRelease {
        /// The vault that they are of.
        vault: VaultId,
        /// At most [`MAX_BATCH_ITEMS`](crate::types::limits::MAX_BATCH_ITEMS).
        segments: Vec<SegmentId>,
    },
    /// How are you?
    GetStatus,
    /// One static node to another, while they agree on a block; the message follows.
    Consensus {
        /// Bytes of the message.
        len: u32,
    },
    /// A static node's cosignature of the tree head of a block.
    Cosign {
        /// The block.
        height: Height,
        /// The cosignature, in its canonical encoding.
        cosignature: Vec<u8>,
    },
    /// Put a signed transaction, in its canonical encoding, on the ledger.
    SubmitTransaction(Vec<u8>),
    /// A question about the ledger, in its canonical encoding.
    AskLedger(Vec<u8>),
    /// What is said to a static node about access; it follows.
    Access {
        /// Bytes of it.
        len: u32,
    },
}

impl Request {
    /// Whether bulk bytes follow the header.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        matches!(self, Self::PutShard(_) | Self::Consensus { .. } | Self::Access { .. })
    }

    /// The vault whose shards it is about; none if it is about something else.
    #[must_use]
    pub const fn vault(&self) -> Option<VaultId> {
        match self {
            Self::PutShard(PutShard { vault, .. })
            | Self::ReadShard(ReadShard { vault, .. })
            | Self::HaveShards { vault, .. }
            | Self::ListShards { vault, .. }
            | Self::ReleaseSegments { vault, .. }
            | Self::CertifyRelease { vault, .. } => Some(*vault),
            Self::GetStatus
            | Self::Consensus { .. }
            | Self::Cosign { .. }
            | Self::SubmitTransaction(_)
            | Self::AskLedger(_)
            | Self::Access { .. } => None,
        }
    }
}

/// Store a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutShard {
    /// The vault that it is of.
    pub vault: VaultId,
    /// Which shard.
    pub shard: ShardRef,
    /// BLAKE3 of the shard.
    pub root: Hash,
    /// Bytes of the shard: 1 to `MAX_SHARD_LEN`.
    pub len: u64,
    /// Comes back in the receipt.
    pub nonce: [u8; 16],
}

/// One shard of a segment, in a vault that is said beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardRef {
    /// The segment.
    pub segment: SegmentId,
    /// Index of the shard: data shards first, then parity.
    pub index: u8,
}

/// A shard that a node says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldShard {
    /// Which shard.
    pub shard: ShardRef,
    /// Its BLAKE3 root.
    pub root: Hash,
    /// Its bytes.
    pub len: u64,
}

/// Read a range of a shard: `start` is a multiple of `SLICE_LEN`, and so is `len` unless the range
/// ends with the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadShard {
    /// The vault that it is of.
    pub vault: VaultId,
    /// Which shard.
    pub shard: ShardRef,
    /// First byte.
    pub start: u64,
    /// Bytes: 1 to `MAX_READ_LEN`.
    pub len: u64,
}

/// What a storage node answers; the bytes of a slice follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// No, because.
    Refusal(Refusal),
    /// The shard is durable. Unverified: see [`CustodyReceipt`](crate::message::CustodyReceipt).
    Receipt(SignedReceipt),
    /// The range follows.
    Slice(ShardSlice),
    /// For each shard asked: its root, or `None` where it is not held.
    Holdings(Vec<Option<Hash>>),
    /// Shards that are held, in ascending order; none after the last.
    Shards(Vec<HeldShard>),
    /// What was freed.
    Released {
        /// Shards freed.
        shards: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Of these segments it has no shard any more. Unverified.
    ReleaseReceipt(ReleaseReceipt),
    /// The node's state.
    Status(NodeStatus),
    /// It is done.
    Done,
    /// An answer about the ledger follows, in its canonical encoding.
    Answer {
        /// Bytes of the answer.
        len: u32,
    },
}

/// A receipt as it travels: statement bytes and signature, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The encoded statement.
    pub statement: Vec<u8>,
    /// Ed25519 over the domain tag and the statement.
    pub signature: [u8; 64],
}

/// Header of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSlice {
    /// Bytes of the whole shard.
    pub shard_len: u64,
    /// Chaining values of the subtrees outside the range, left to right.
    pub proof: Vec<Hash>,
}

/// Why a node does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what failed, without secrets.
    pub message: String,
    /// Milliseconds after which to come back; 0 where coming back does not help.
    pub retry_after_ms: u32,
    /// The protocol versions spoken, with [`RefusalCode::UnsupportedProtocol`].
    pub protocols: Vec<u32>,
}

/// Kinds of refusal; the numbers are those of `proto/xvault/v1/request.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// The request breaks the protocol.
    Violation(Violation),
    /// The protocol version is not spoken here.
    UnsupportedProtocol,
    /// The vault has no such shard here.
    NotFound,
    /// Too much at once.
    Busy,
    /// No space or quota left.
    Full,
    /// The shard's bytes are not what they were.
    Corrupt,
    /// The disk failed.
    Disk,
    /// Another shard is stored under this segment and index.
    Conflict,
    /// The finalized ledger does not let this key do that with this vault.
    NotAdmitted,
    /// The finalized ledger still has the segment.
    Anchored,
}

/// How a storage node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The network that it serves: what it promises, it promises there.
    pub network: NetworkId,
    /// Version of the program.
    pub version: String,
    /// Shards held.
    pub shards: u64,
    /// Bytes of shards held.
    pub shard_bytes: u64,
    /// Bytes that the volumes take on disk.
    pub disk_bytes: u64,
    /// Bytes that may still be stored.
    pub free_bytes: u64,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    /// The node's clock.
    pub clock: Timestamp,
    /// What is wrong, for people; empty while all is well.
    pub problems: Vec<String>,
    /// The last block that it has of its network's ledger; none where there is none to follow.
    pub ledger: Option<LedgerTip>,
}

/// How far a node follows the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerTip {
    /// The last block.
    pub height: Height,
    /// When it was made.
    pub time: Timestamp,
}

impl Refusal {
    /// A refusal for good.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: 0, protocols: Vec::new() }
    }

    /// Too much at once: come back after this many milliseconds.
    #[must_use]
    pub fn busy(message: impl Into<String>, retry_after_ms: u32) -> Self {
        Self { retry_after_ms, ..Self::new(RefusalCode::Busy, message) }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::new(RefusalCode::Violation(violation), violation.to_string())
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Violation(violation) => violation.into(),
            RequestError::UnsupportedProtocol(_) => Self {
                protocols: vec![PROTOCOL],
                ..Self::new(RefusalCode::UnsupportedProtocol, error.to_string())
            },
        }
    }
}
