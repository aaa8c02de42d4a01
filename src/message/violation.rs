//! Every way in which a peer or a stored message breaks the protocol, by name.

use crate::message::generated::Violation as Code;

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
    /// A receipt does not answer this request: other shard, vault or nonce.
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
    /// A statement is signed by a key that is not in the committee.
    #[error("signed by a key outside the committee")]
    NotAMember,
    /// A certificate counts one key twice, or not in the order of keys.
    #[error("a certificate with a signer twice or out of order")]
    DuplicateSigner,
    /// A certificate of too few signers.
    #[error("too few signers for a certificate")]
    NoQuorum,
    /// Evidence of two statements that an honest node may both sign.
    #[error("evidence of statements that do not conflict")]
    NoConflict,
    /// The bytes of a block are not those that were proposed or agreed on.
    #[error("block bytes are not those of the proposal or certificate")]
    WrongBlock,
    /// A Merkle path does not lead from a leaf to the root.
    #[error("a proof does not lead to its root")]
    WrongProof,
    /// A statement is by other static nodes than those of its time.
    #[error("not the static nodes of that time")]
    WrongRoster,
    /// Made with cryptographic algorithms that are not known here.
    #[error("of a suite that is not known")]
    UnknownSuite,
    /// What came is not what its hash names.
    #[error("the bytes are not those that the hash names")]
    WrongHash,
    /// A share is not the one that its dealing commits to.
    #[error("a share that its dealing does not commit to")]
    WrongShare,
}

impl Violation {
    /// The number under which it travels.
    pub(super) fn encode(self) -> i32 {
        let code = match self {
            Self::Malformed => Code::Malformed,
            Self::TooLong => Code::TooLong,
            Self::OutOfBounds => Code::OutOfBounds,
            Self::BadSignature => Code::BadSignature,
            Self::WrongSigner => Code::WrongSigner,
            Self::WrongNetwork => Code::WrongNetwork,
            Self::WrongReceipt => Code::WrongReceipt,
            Self::WrongShard => Code::WrongShard,
            Self::WrongLength => Code::WrongLength,
            Self::WrongResponse => Code::WrongResponse,
            Self::NotAMember => Code::NotAMember,
            Self::DuplicateSigner => Code::DuplicateSigner,
            Self::NoQuorum => Code::NoQuorum,
            Self::NoConflict => Code::NoConflict,
            Self::WrongBlock => Code::WrongBlock,
            Self::WrongProof => Code::WrongProof,
            Self::WrongRoster => Code::WrongRoster,
            Self::UnknownSuite => Code::UnknownSuite,
            Self::WrongHash => Code::WrongHash,
            Self::WrongShare => Code::WrongShare,
        };
        code.into()
    }

    /// The violation of a number; none for 0.
    ///
    /// # Errors
    /// [`Violation::OutOfBounds`] for a number that the schema does not have.
    pub(super) fn decode(number: i32) -> Result<Option<Self>, Self> {
        let code = Code::try_from(number).map_err(|_| Self::OutOfBounds)?;
        Ok(Some(match code {
            Code::Unspecified => return Ok(None),
            Code::Malformed => Self::Malformed,
            Code::TooLong => Self::TooLong,
            Code::OutOfBounds => Self::OutOfBounds,
            Code::BadSignature => Self::BadSignature,
            Code::WrongSigner => Self::WrongSigner,
            Code::WrongNetwork => Self::WrongNetwork,
            Code::WrongReceipt => Self::WrongReceipt,
            Code::WrongShard => Self::WrongShard,
            Code::WrongLength => Self::WrongLength,
            Code::WrongResponse => Self::WrongResponse,
            Code::NotAMember => Self::NotAMember,
            Code::DuplicateSigner => Self::DuplicateSigner,
            Code::NoQuorum => Self::NoQuorum,
            Code::NoConflict => Self::NoConflict,
            Code::WrongBlock => Self::WrongBlock,
            Code::WrongProof => Self::WrongProof,
            Code::WrongRoster => Self::WrongRoster,
            Code::UnknownSuite => Self::UnknownSuite,
            Code::WrongHash => Self::WrongHash,
            Code::WrongShare => Self::WrongShare,
        }))
    }
}
