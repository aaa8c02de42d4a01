//! The custody receipt: a node's signed promise to hold a shard.

use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::request::{ShardRef, SignedReceipt};
use crate::message::{Violation, wire};
use crate::types::limits::MAX_SHARD_LEN;
use crate::types::{Hash, NetworkId, PublicKey, SegmentId, Timestamp, VaultId};

/// What a storage node signs once a shard is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyReceipt {
    /// The network both belong to.
    pub network: NetworkId,
    /// The vault that the shard is of, whoever stored it.
    pub vault: VaultId,
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

/// What a receipt must say to answer a request: all but the time, which is the node's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedReceipt {
    /// The network asked in.
    pub network: NetworkId,
    /// The vault that the shard is of.
    pub vault: VaultId,
    /// The shard that was sent.
    pub shard: ShardRef,
    /// Its BLAKE3 root.
    pub root: Hash,
    /// Its bytes.
    pub len: u64,
    /// The request's nonce.
    pub nonce: [u8; 16],
    /// The node that was asked.
    pub node: PublicKey,
}

impl CustodyReceipt {
    /// Bytes of the statement: the fields in their order, numbers little endian, nothing between.
    pub const STATEMENT_LEN: usize = 5 * 32 + 1 + 8 + 16 + 8;

    /// The statement: what is signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::STATEMENT_LEN);
        bytes.extend_from_slice(&self.network.0);
        bytes.extend_from_slice(&self.vault.0);
        bytes.extend_from_slice(&self.segment.0);
        bytes.push(self.index);
        bytes.extend_from_slice(&self.root.0);
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.issued_at.unix_micros().to_le_bytes());
        bytes.extend_from_slice(&self.node.0);
        bytes
    }

    /// Reads a statement. Who signed it, and whether anybody did, is for [`SignedReceipt::verify`].
    ///
    /// # Errors
    /// [`Violation::Malformed`] for another length than [`Self::STATEMENT_LEN`];
    /// [`Violation::OutOfBounds`] for an index or a length that no shard has.
    pub fn decode(statement: &[u8]) -> Result<Self, Violation> {
        let mut rest = statement;
        let receipt = Self {
            network: NetworkId(take(&mut rest)?),
            vault: VaultId(take(&mut rest)?),
            segment: SegmentId(take(&mut rest)?),
            index: wire::shard_index(take::<1>(&mut rest)?[0].into())?,
            root: Hash(take(&mut rest)?),
            len: u64::from_le_bytes(take(&mut rest)?),
            nonce: take(&mut rest)?,
            issued_at: Timestamp::from_unix_micros(u64::from_le_bytes(take(&mut rest)?)),
            node: PublicKey(take(&mut rest)?),
        };
        if !rest.is_empty() {
            return Err(Violation::Malformed);
        }
        wire::within((1..=MAX_SHARD_LEN).contains(&receipt.len))?;
        Ok(receipt)
    }

    /// Signs the promise. Only after the shard is durable.
    #[must_use]
    pub fn sign(&self, node: &KeyPair) -> SignedReceipt {
        let statement = self.encode();
        let signature = node.sign(Domain::CustodyReceipt, &statement);
        SignedReceipt { statement, signature }
    }

    /// Whether this answers the request; the first difference that names a culprit wins.
    fn check(&self, expected: &ExpectedReceipt) -> Result<(), Violation> {
        if self.network != expected.network {
            return Err(Violation::WrongNetwork);
        }
        if self.node != expected.node {
            return Err(Violation::WrongSigner);
        }
        let answered = (self.vault, self.segment, self.index, self.root, self.len, self.nonce);
        let ExpectedReceipt { vault, shard, root, len, nonce, .. } = *expected;
        if answered != (vault, shard.segment, shard.index, root, len, nonce) {
            return Err(Violation::WrongReceipt);
        }
        Ok(())
    }
}

impl SignedReceipt {
    /// The promise, once it is known to answer this request and to be signed by the node asked.
    ///
    /// # Errors
    /// As [`CustodyReceipt::decode`]; then [`Violation::WrongNetwork`], [`Violation::WrongSigner`],
    /// [`Violation::WrongReceipt`] or [`Violation::BadSignature`].
    pub fn verify(&self, expected: &ExpectedReceipt) -> Result<CustodyReceipt, Violation> {
        let receipt = CustodyReceipt::decode(&self.statement)?;
        receipt.check(expected)?;
        sign::verify(&expected.node, Domain::CustodyReceipt, &self.statement, &self.signature)
            .map_err(|_| Violation::BadSignature)?;
        Ok(receipt)
    }
}

/// Takes the next `N` bytes.
fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Violation> {
    let (head, rest) = from.split_first_chunk().ok_or(Violation::Malformed)?;
    *from = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> KeyPair {
        KeyPair::from_secret(&[9; 32])
    }

    fn receipt() -> CustodyReceipt {
        CustodyReceipt {
            network: NetworkId([1; 32]),
            vault: VaultId([2; 32]),
            segment: SegmentId([3; 32]),
            index: 4,
            root: Hash([5; 32]),
            len: 6,
            nonce: [7; 16],
            issued_at: Timestamp::from_unix_micros(8),
            node: node().public(),
        }
    }

    fn expected() -> ExpectedReceipt {
        let CustodyReceipt { network, vault, segment, index, root, len, nonce, node, .. } = receipt();
        ExpectedReceipt { network, vault, shard: ShardRef { segment, index }, root, len, nonce, node }
    }

    #[test]
    fn a_receipt_that_answers_verifies() {
        assert_eq!(receipt().encode().len(), CustodyReceipt::STATEMENT_LEN);
        assert_eq!(receipt().sign(&node()).verify(&expected()), Ok(receipt()));
    }

    #[test]
    fn each_field_that_differs_is_named_even_if_the_node_signed_it() {
        type Change = fn(&mut CustodyReceipt);
        let changes: [(Change, Violation); 10] = [
            (|r| r.network.0[0] ^= 1, Violation::WrongNetwork),
            (|r| r.node.0[0] ^= 1, Violation::WrongSigner),
            (|r| r.vault.0[0] ^= 1, Violation::WrongReceipt),
            (|r| r.segment.0[0] ^= 1, Violation::WrongReceipt),
            (|r| r.index ^= 1, Violation::WrongReceipt),
            (|r| r.root.0[0] ^= 1, Violation::WrongReceipt),
            (|r| r.len ^= 1, Violation::WrongReceipt),
            (|r| r.nonce[0] ^= 1, Violation::WrongReceipt),
            (|r| r.index = 32, Violation::OutOfBounds),
            (|r| r.len = MAX_SHARD_LEN + 1, Violation::OutOfBounds),
        ];
        for (at, (change, violation)) in changes.into_iter().enumerate() {
            let mut changed = receipt();
            change(&mut changed);
            assert_eq!(changed.sign(&node()).verify(&expected()), Err(violation), "change {at}");
        }
    }

    #[test]
    fn any_changed_byte_of_statement_or_signature_is_refused() {
        let good = receipt().sign(&node());
        for at in 0..good.statement.len() {
            let mut bad = good.clone();
            bad.statement[at] ^= 1;
            assert!(bad.verify(&expected()).is_err(), "byte {at}");
        }
        let issued_at = CustodyReceipt::STATEMENT_LEN - 32 - 8;
        let mut later = good.clone();
        later.statement[issued_at] ^= 1;
        assert_eq!(later.verify(&expected()), Err(Violation::BadSignature));
        for at in 0..64 {
            let mut bad = good.clone();
            bad.signature[at] ^= 1;
            assert_eq!(bad.verify(&expected()), Err(Violation::BadSignature), "byte {at}");
        }
    }

    #[test]
    fn another_length_is_malformed() {
        let good = receipt().sign(&node());
        for len in 0..CustodyReceipt::STATEMENT_LEN {
            let bad = SignedReceipt { statement: good.statement[..len].to_vec(), ..good.clone() };
            assert_eq!(bad.verify(&expected()), Err(Violation::Malformed), "{len} bytes");
        }
        let mut longer = good;
        longer.statement.push(0);
        assert_eq!(longer.verify(&expected()), Err(Violation::Malformed));
    }

    #[test]
    fn a_receipt_signed_by_another_node_is_refused() {
        let other = KeyPair::from_secret(&[8; 32]);
        assert_eq!(receipt().sign(&other).verify(&expected()), Err(Violation::BadSignature));
    }
}
