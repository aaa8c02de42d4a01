//! Every way in which a peer or a stored message breaks the protocol, by name.

/// A named breach of the protocol: logged, counted per node, and asserted exactly in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Violation {
    /// A message is not what its schema says: truncated, wrong lengths, unknown kind.
    #[error("malformed message")]
    Malformed,
    /// A header or body is longer than its limit.
    #[error("message over its length limit")]
    TooLong,
    /// A field is outside its bounds.
    #[error("field out of bounds")]
    OutOfBounds,
    /// A signature does not verify under the key it should.
    #[error("signature does not verify")]
    BadSignature,
    /// A statement was signed by another key than the one asked.
    #[error("signed by another key")]
    WrongSigner,
    /// A statement names another network.
    #[error("statement of another network")]
    WrongNetwork,
    /// A receipt does not answer this request: other shard, owner or nonce.
    #[error("receipt does not answer this request")]
    WrongReceipt,
    /// Shard bytes do not hash to the shard's root.
    #[error("shard bytes do not match their root")]
    WrongShard,
    /// Fewer or more bytes than announced.
    #[error("length is not the one announced")]
    WrongLength,
    /// A response of a kind that the request does not have.
    #[error("response does not fit the request")]
    WrongResponse,
}
