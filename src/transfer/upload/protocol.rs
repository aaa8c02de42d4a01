//! The words of an upload: what it is given, what it is told, what it wants done.

use std::time::Duration;

use crate::message::request::PutShard;
use crate::message::{CustodyReceipt, Descriptor, Refusal, Violation};
use crate::transfer::failure::{Failure, Reasons, RequestId};
use crate::types::limits::{UPLOAD_GRACE_MAX_MILLIS, UPLOAD_GRACE_MILLIS};
use crate::types::{Code, Hash, PublicKey, SegmentId, VaultId};

/// What is to be placed where.
#[derive(Debug, Clone)]
pub struct UploadPlan {
    /// The vault that it is of.
    pub vault: VaultId,
    /// The segment.
    pub segment: SegmentId,
    /// How it is coded.
    pub code: Code,
    /// Ciphertext bytes of the segment.
    pub len: u64,
    /// Bytes of each shard.
    pub shard_len: u64,
    /// BLAKE3 root of each shard, by index.
    pub roots: Vec<Hash>,
    /// For each shard the nodes that may hold it, the best first: its place, then its spares.
    pub ranking: Vec<Vec<PublicKey>>,
    /// By shard: the node whose receipt is in from an earlier, interrupted upload of the same segment. Where a node
    /// has several while another has none, one of them is sent again to where it belongs.
    pub held: Vec<Option<PublicKey>>,
    /// 32 fresh random bytes: the nonces of all requests derive from them, so no node can foresee one.
    pub nonce_seed: [u8; 32],
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadConfig {
    /// A shard of which no byte was acknowledged for this long is also sent to another node, and once enough receipts are
    /// in it is not waited for any more.
    pub slow_after: Duration,
    /// A request of which no byte was acknowledged for this long is given up.
    pub stall: Duration,
    /// A shard that takes less than this longer than others is not late.
    pub tail_min: Duration,
    /// Longest wait for the last shards once enough receipts are in, while their nodes go on taking bytes.
    pub grace_max: Duration,
    /// Wait before a failed node is tried again; doubles each time.
    pub backoff: Duration,
    /// Failures in a row after which a node is not tried again.
    pub tries: u32,
    /// Shards that are not placed this long after the report are given up, for their bytes are in memory.
    pub settle: Duration,
    /// The upload ends after this long whatever happens, so that no node can hold it up forever.
    pub limit: Duration,
}

impl Default for UploadConfig {
    /// For a network whose round trips take less than a second.
    fn default() -> Self {
        Self {
            slow_after: Duration::from_millis(UPLOAD_GRACE_MILLIS),
            stall: Duration::from_secs(10),
            tail_min: Duration::from_millis(50),
            grace_max: Duration::from_millis(UPLOAD_GRACE_MAX_MILLIS),
            backoff: Duration::from_millis(100),
            tries: 4,
            settle: Duration::from_secs(30),
            limit: Duration::from_secs(900),
        }
    }
}

/// What happened to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A receipt came, already verified by the driver against the request.
    Accepted {
        /// The request that it answers.
        request: RequestId,
        /// The promise.
        receipt: CustodyReceipt,
    },
    /// The node will not hold the shard.
    Refused {
        /// The request that it answers.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// The request brought no answer, or one that breaks the protocol.
    Failed {
        /// The request that failed.
        request: RequestId,
        /// How.
        failure: Failure,
    },
    /// The node acknowledged some bytes of the shard since the last such event.
    Progressed {
        /// The request that goes on.
        request: RequestId,
    },
    /// The descriptor of [`Effect::Persist`] is durable.
    Persisted,
}

/// What an upload wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a shard to a node.
    Send {
        /// Comes back in the events about it.
        request: RequestId,
        /// To whom.
        node: PublicKey,
        /// The request; the shard's bytes follow it.
        put: PutShard,
        /// The node failed before in this upload, and there is none better: go to it even if it is taken for dead.
        again: bool,
    },
    /// The request is of no use any more.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// The node keeps a request waiting for much longer than others do: avoid it for the next uploads, each of which would
    /// otherwise keep its bytes in memory until this node answers.
    Suspect {
        /// Whom.
        node: PublicKey,
    },
    /// Enough receipts are in; only the last shards are waited for, so another segment may begin.
    Enough,
    /// Make the descriptor durable, then say [`Event::Persisted`].
    Persist(Descriptor),
    /// The answer for who asked for the upload. Shards may still be on their way: see [`Upload::is_finished`](super::Upload::is_finished).
    Report(Result<Outcome, UploadError>),
    /// A shard was placed after the report: replace the persisted descriptor. Losing this loses only knowledge
    /// of spare shards, which a read that needs them finds again.
    Amend(Descriptor),
    /// The last effect of every upload: nothing is under way any more, and the shards may be forgotten.
    Finished,
}

/// A segment that is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As it was persisted.
    pub descriptor: Descriptor,
    /// Shards with a receipt.
    pub held: usize,
    /// Some shards have no holder, or some node holds more than one.
    pub degraded: bool,
    /// Who broke the protocol, and how.
    pub violations: Vec<(PublicKey, Violation)>,
    /// Nodes that were sent a shard and hold none, and why.
    pub troubles: Vec<(PublicKey, Trouble)>,
}

/// Why a node that was sent a shard does not hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It took too long.
    Slow,
    /// It failed or refused.
    Failed(Failure),
}

/// Why a segment could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Too few nodes promised to hold shards, or too few different ones to survive the loss of one.
    #[error("{have} of the {need} custody receipts needed for segment {}{}", segment.short(), Reasons(reasons))]
    NotEnoughReceipts {
        /// The segment.
        segment: SegmentId,
        /// Receipts held.
        have: usize,
        /// Receipts needed: the threshold, and more only where that is reached but one node holds too many of them.
        need: usize,
        /// The last failure of each node that failed.
        reasons: Vec<(PublicKey, Failure)>,
    },
}
