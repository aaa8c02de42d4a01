//! What a node answers: plain functions of the store and the request, which the simulator calls as well.

use bytes::Bytes;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::KeyPair;
use crate::crypto::tree::SliceHasher;
use crate::message::{
    CustodyReceipt, PutShard, Refusal, RefusalCode, Request, Response, ShardSlice, SignedReceipt, Violation,
};
use crate::store::{NewShard, ShardReader, StoreError};
use crate::types::limits::MAX_BATCH_ITEMS;
use crate::types::{NetworkId, PublicKey, Timestamp, VaultId};

/// Who signs receipts, and for which network.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The network.
    pub network: NetworkId,
    /// The node's identity.
    pub key: KeyPair,
}

/// Where a node without a ledger keeps what a key stores in a vault. Such a node cannot know whose the vault is, so
/// each key has a namespace of its own there: whoever names the vault of another finds nothing, and is in nobody's way.
#[must_use]
pub fn key_namespace(vault: &VaultId, key: &PublicKey) -> VaultId {
    let mut namespace = [0; 32];
    derive_key(Context::KeyNamespace, &[vault.as_bytes(), key.as_bytes()], &mut namespace);
    VaultId(namespace)
}

/// Checks a shard that came in against its root. `namespace` is where it is kept: its vault on a network with a ledger,
/// else [`key_namespace`]. `stored_at` is the ledger's time, zero where that is not known.
///
/// # Errors
/// [`Violation::WrongShard`] if the bytes are others, [`Violation::WrongLength`] if they are more or fewer.
pub fn verify_shard(
    namespace: VaultId,
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
    Ok(NewShard { vault: namespace, shard: put.shard, root, bytes, leaves, stored_at })
}

/// Signs that the node holds a shard. Call it only once the shard is durable.
#[must_use]
pub fn sign_receipt(signer: &Signer, put: &PutShard, now: Timestamp) -> SignedReceipt {
    let receipt = CustodyReceipt {
        network: signer.network,
        vault: put.vault,
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

/// Answers a request that only reads, from where the shards of its vault are kept: the response and the bytes that
/// follow it. Whether the asker may read them is decided before.
#[must_use]
pub fn answer(reader: &ShardReader, namespace: &VaultId, request: &Request) -> (Response, Bytes) {
    let answered = match request {
        Request::ReadShard(read) => reader.read(namespace, read.shard, read.start, read.len).map(|slice| {
            let header = ShardSlice { shard_len: slice.shard_len, proof: slice.proof };
            (Response::Slice(header), slice.bytes)
        }),
        Request::HaveShards { shards, .. } => {
            let roots: Result<_, _> = shards.iter().map(|shard| reader.root_of(namespace, *shard)).collect();
            roots.map(|roots| (Response::Holdings(roots), Bytes::new()))
        }
        Request::ListShards { after, .. } => {
            let shards = reader.list(namespace, *after, MAX_BATCH_ITEMS);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_namespace_of_its_own_in_each_vault_and_finds_it_again() {
        let (vault, key) = (VaultId([1; 32]), PublicKey([2; 32]));
        // Of another implementation: what is on disks must be found by later versions.
        let frozen = "3c2936a5ef1f3fdfd246c3af18c0acf849efbb9a00e7bab134c2d26e03138c20";
        assert_eq!(Ok(key_namespace(&vault, &key)), frozen.parse());
        for (other_vault, other_key) in [(VaultId([2; 32]), key), (vault, PublicKey([1; 32]))] {
            assert_ne!(key_namespace(&other_vault, &other_key), key_namespace(&vault, &key));
        }
        assert_ne!(key_namespace(&VaultId(key.0), &PublicKey(vault.0)), key_namespace(&vault, &key));
    }
}
