//! The descriptor: what is public about a segment.

use crate::types::{Code, Hash, PublicKey, SegmentId};

/// Public description of a segment: its code, length, shard roots, and which node holds which shard.
///
/// Invariant: `roots.len() == holders.len() == code.total()`, `1 <= len <= MAX_SEGMENT_LEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The segment.
    pub segment: SegmentId,
    /// How it is coded.
    pub code: Code,
    /// Ciphertext bytes, without the zeros that fill the last stripe.
    pub len: u64,
    /// BLAKE3 root of each shard, by index.
    pub roots: Vec<Hash>,
    /// The node that holds each shard, by index; `None` where no node does.
    pub holders: Vec<Option<PublicKey>>,
}
