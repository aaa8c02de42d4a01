//! What a node answers: plain functions of the store and the request, which the simulator calls as well.

use bytes::Bytes;

use crate::crypto::sign::KeyPair;
use crate::crypto::tree::SliceHasher;
use crate::message::{
    CustodyReceipt, PutShard, Refusal, RefusalCode, Request, Response, ShardSlice, SignedReceipt, Violation,
};
use crate::store::{NewShard, ShardReader, StoreError};
use crate::types::limits::MAX_BATCH_ITEMS;
use crate::types::{NetworkId, PublicKey, Timestamp};

/// Who signs receipts, and for which network.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The network.
    pub network: NetworkId,
    /// The node's identity.
    pub key: KeyPair,
}

/// Checks a shard that came in against its root. `stored_at` is the ledger's time, zero where that is not known.
///
/// # Errors
/// [`Violation::WrongShard`] if the bytes are others, [`Violation::WrongLength`] if they are more or fewer.
pub fn verify_shard(
    owner: PublicKey,
    put: &PutShard,
    bytes: Bytes,
    stored_at: Timestamp,
) -> Result<NewShard, Violation> {
    if bytes.len() as u64 != put.len {
        return Err(Violation::WrongLength);
    }
    let mut hasher = SliceHasher::new(put.len);
    hasher.update(&bytes);
    let (root, leaves) = hasher.finish();
    if root != put.root {
        return Err(Violation::WrongShard);
    }
    Ok(NewShard { owner, shard: put.shard, root, bytes, leaves, stored_at })
}

/// Signs that the node holds a shard. Call it only once the shard is durable.
#[must_use]
pub fn sign_receipt(signer: &Signer, owner: PublicKey, put: &PutShard, now: Timestamp) -> SignedReceipt {
    let receipt = CustodyReceipt {
        network: signer.network,
        owner,
        segment: put.shard.segment,
        index: put.shard.index,
        root: put.root,
        len: put.len,
        nonce: put.nonce,
        issued_at: now,
        node: signer.key.public(),
    };
    receipt.sign(&signer.key)
}

/// Answers a request that only reads: the response and the bytes that follow it.
#[must_use]
pub fn answer(reader: &ShardReader, from: &PublicKey, request: &Request) -> (Response, Bytes) {
    let answered = match request {
        Request::ReadShard(read) => reader.read(from, read.shard, read.start, read.len).map(|slice| {
            let header = ShardSlice { shard_len: slice.shard_len, proof: slice.proof };
            (Response::Slice(header), slice.bytes)
        }),
        Request::HaveShards(shards) => {
            let roots: Result<_, _> = shards.iter().map(|shard| reader.root_of(from, *shard)).collect();
            roots.map(|roots| (Response::Holdings(roots), Bytes::new()))
        }
        Request::ListShards(after) => {
            let shards = reader.list(from, *after, MAX_BATCH_ITEMS);
            shards.map(|shards| (Response::Shards(shards), Bytes::new()))
        }
        _ => return (Response::Refusal(Violation::OutOfBounds.into()), Bytes::new()),
    };
    answered.unwrap_or_else(|error| (Response::Refusal(refusal(&error)), Bytes::new()))
}

/// How a client is told of an error of the store. What the disk says stays in the node's log.
#[must_use]
pub fn refusal(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::NotFound => RefusalCode::NotFound,
        StoreError::Conflict => RefusalCode::Conflict,
        StoreError::Full { .. } => RefusalCode::Full,
        StoreError::Corrupt => RefusalCode::Corrupt,
        StoreError::OutOfBounds => RefusalCode::Violation(Violation::OutOfBounds),
        StoreError::Disk { .. } | StoreError::Failed => {
            tracing::error!(error = %chain(error), "the store failed");
            RefusalCode::Disk
        }
    };
    Refusal::new(code, error.to_string())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
