//! The custody receipt: a node's signed promise to hold a shard.

use crate::types::{Hash, NetworkId, PublicKey, SegmentId, Timestamp};

/// What a storage node signs once a shard is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyReceipt {
    /// The network both belong to.
    pub network: NetworkId,
    /// Whose shard it is.
    pub owner: PublicKey,
    /// The segment.
    pub segment: SegmentId,
    /// Which shard of it.
    pub index: u8,
    /// BLAKE3 root of the shard.
    pub root: Hash,
    /// Bytes of the shard.
    pub len: u64,
    /// The request's nonce: an older receipt cannot answer a newer request.
    pub nonce: [u8; 16],
    /// The node's clock when it signed.
    pub issued_at: Timestamp,
    /// The node that promises.
    pub node: PublicKey,
}
