//! The words of a read: what it is given, what it is told, what it wants done.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::message::request::ReadShard;
use crate::message::{Refusal, Violation};
use crate::transfer::failure::{Failure, Reasons, RequestId};
use crate::types::{Code, PublicKey, SegmentId, VaultId};

/// What is to be read from where.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    /// The vault that it is of.
    pub vault: VaultId,
    /// The segment.
    pub segment: SegmentId,
    /// How it is coded.
    pub code: Code,
    /// By shard: the node that holds it.
    pub holders: Vec<Option<PublicKey>>,
    /// By data shard: the whole slices of it that the range touches, as
    /// [`Layout::columns`](crate::stripe::layout::Layout::columns) gives them; `None` where none.
    pub wanted: Vec<Option<Range<u64>>>,
    /// By shard: how long an answer usually takes at most; after that the read asks for leave to hedge.
    pub hedge_after: Vec<Duration>,
    /// Nodes to avoid from the start if enough others are left.
    pub suspects: BTreeSet<PublicKey>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadConfig {
    /// An answer that takes this long is worked around without asking for leave.
    pub late_after: Duration,
    /// A request that takes this long is given up.
    pub stall: Duration,
    /// Wait before a failed node is asked again; doubles each time.
    pub backoff: Duration,
    /// Failures after which a shard counts as lost to this read: with the waits between them some ten seconds, so that a
    /// read with no node to spare outlasts one that is starved or restarts.
    pub tries: u32,
    /// The read ends after this long whatever happens.
    pub limit: Duration,
}

impl Default for DownloadConfig {
    /// For a network whose round trips take less than a second.
    fn default() -> Self {
        Self {
            late_after: Duration::from_secs(2),
            stall: Duration::from_secs(20),
            backoff: Duration::from_millis(100),
            tries: 8,
            limit: Duration::from_secs(120),
        }
    }
}

/// What happened to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The bytes came and belong to the shard: the driver keeps them under the request.
    Verified {
        /// The request that they answer.
        request: RequestId,
    },
    /// The answer breaks the protocol: wrong bytes, wrong length, wrong kind.
    Violated {
        /// The request that it answers.
        request: RequestId,
        /// How.
        violation: Violation,
    },
    /// The node will not serve the shard.
    Refused {
        /// The request that it answers.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// The request brought no answer.
    Failed {
        /// The request that failed.
        request: RequestId,
        /// How.
        failure: Failure,
    },
    /// The answer to [`Effect::Locate`] of one node; others may follow.
    Located {
        /// Who answered.
        node: PublicKey,
        /// Shards of the segment, by index, that it says it holds, with the right roots.
        shards: Vec<usize>,
    },
    /// Every node that was asked by [`Effect::Locate`] has answered, or failed to.
    LocateEnded {
        /// Those that failed to, and how.
        silent: Vec<(PublicKey, Failure)>,
    },
    /// Leave to work around the request of an [`Effect::AskHedge`]. To deny it, say nothing.
    HedgeGranted {
        /// The request that is slow.
        request: RequestId,
    },
}

/// What a read wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a node for bytes of a shard.
    Read {
        /// Comes back in the events about it.
        request: RequestId,
        /// Whom.
        node: PublicKey,
        /// The request.
        read: ReadShard,
        /// The shard is asked for again because no other will do: go to the node even if it is taken for dead.
        again: bool,
    },
    /// The request is of no use any more; so are its bytes.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// A request is slower than usual: may other shards be read in its place? The budget for that is shared by
    /// all reads, so it is not this machine's to grant.
    AskHedge {
        /// The slow request.
        request: RequestId,
    },
    /// The nodes that are known to hold shards are too few: ask all nodes which they hold. Once for each read.
    Locate,
    /// The end; no effect follows but cancellations before it.
    Report(Result<Columns, DownloadError>),
}

/// The verified bytes that make up the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Verified parts, by shard and offset. They cover what is wanted of every data shard that is not
    /// rebuilt, and the range to rebuild of every shard to rebuild from.
    pub parts: Vec<Part>,
    /// What has to be decoded; nothing in a healthy read.
    pub rebuild: Option<Rebuild>,
    /// Nodes that were worked around because they were slow: suspects for the next reads.
    pub late: Vec<PublicKey>,
    /// Who broke the protocol, and how.
    pub violations: Vec<(PublicKey, Violation)>,
    /// Shards that were read from nodes which the plan did not name as their holders.
    pub found: Vec<(usize, PublicKey)>,
}

/// Verified bytes of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The request that brought them.
    pub request: RequestId,
    /// Index of the shard.
    pub shard: usize,
    /// Which of its bytes.
    pub range: Range<u64>,
}

/// Columns to decode from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// The bytes of each shard: begins and ends on a slice or with the shard.
    pub range: Range<u64>,
    /// Data shards to rebuild.
    pub missing: Vec<usize>,
    /// Exactly k shards to rebuild from.
    pub from: Vec<usize>,
}

/// Why a range could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// Fewer than k shards can be read.
    #[error("{have} of the {need} shards needed of segment {}{}", segment.short(), Reasons(reasons))]
    NotEnoughShards {
        /// The segment.
        segment: SegmentId,
        /// Shards that were read, or whose nodes have not failed.
        have: usize,
        /// Shards needed: k.
        need: usize,
        /// The last failure of each node that failed.
        reasons: Vec<(PublicKey, Failure)>,
    },
}
