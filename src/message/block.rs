//! The block: transactions in their order, and a header that says what they lead to.
//!
//! A header is a [`BlockRecord`] and the root of the log, of which the record is the last leaf. So a tree
//! head commits to time, members and state as of its block, and a receipt can show them.

use crate::crypto::hash::{Context, derive_key};
use crate::message::Violation;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::message::certificate::CommitCertificate;
use crate::message::transaction::SignedTransaction;
use crate::types::limits::{MAX_BLOCK_LEN, MAX_BLOCK_TRANSACTIONS, MAX_COMMITTEE};
use crate::types::{BlockId, Hash, Height, LogHash, NetworkId, Timestamp};

/// First byte of a record among the leaves of the log; transactions begin with another.
const LEAF_KIND: u8 = 2;

/// Bytes of a certificate with every member's signature.
pub(crate) const MAX_CERTIFICATE_LEN: usize = 64 + MAX_COMMITTEE * 96;

/// What a block leads to; the last of its leaves in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRecord {
    /// The network.
    pub network: NetworkId,
    /// Blocks before it, and the genesis.
    pub height: Height,
    /// The block before; for the first block, the genesis.
    pub previous: BlockId,
    /// The proposer's clock: after that of the block before.
    pub time: Timestamp,
    /// Who built it, by its place in the roster: a byte instead of 32, in every block there is.
    pub proposer: u8,
    /// The roster that decides on it.
    pub roster: Hash,
    /// The roster that decides on the next, if it is another.
    pub new_roster: Option<Hash>,
    /// Leaves of the log with this record.
    pub log_size: u64,
    /// The state after it.
    pub state: Hash,
    /// The certificate of the block before; zeros in the first.
    pub certificate: Hash,
}

impl BlockRecord {
    /// The roster that decides on the next block.
    #[must_use]
    pub fn next_roster(&self) -> Hash {
        self.new_roster.unwrap_or(self.roster)
    }
}

/// What is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the block leads to.
    pub record: BlockRecord,
    /// RFC 6962 root of the log with the record.
    pub log_root: LogHash,
}

impl Header {
    /// The block's id.
    #[must_use]
    pub fn id(&self) -> BlockId {
        let mut id = [0; 32];
        derive_key(Context::Header, &[&self.encode()], &mut id);
        BlockId(id)
    }
}

/// A block. It is not checked until the ledger has applied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is decided on.
    pub header: Header,
    /// The certificate of the block before, with as many signatures as the proposer had; none in the first
    /// block.
    pub certificate: Option<CommitCertificate>,
    /// The transactions.
    pub transactions: Vec<SignedTransaction>,
}

impl Block {
    /// The leaves that it appends to the log: its transactions, and its record.
    pub fn leaves(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let transactions = self.transactions.iter().map(|signed| signed.bytes().to_vec());
        transactions.chain(std::iter::once(self.header.record.encode()))
    }

    /// Reads a block that is all there is.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_BLOCK_LEN { Err(Violation::TooLong) } else { Self::decode(bytes) }
    }
}

/// What a header says of the certificate of the block before.
#[must_use]
pub fn certificate_hash(certificate: Option<&CommitCertificate>) -> Hash {
    let mut hash = [0; 32];
    if let Some(certificate) = certificate {
        derive_key(Context::BlockCertificate, &[&certificate.encode()], &mut hash);
    }
    Hash(hash)
}

impl Canonical for BlockRecord {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(LEAF_KIND);
        self.network.write(to);
        self.height.write(to);
        self.previous.write(to);
        self.time.write(to);
        self.proposer.write(to);
        self.roster.write(to);
        self.new_roster.write(to);
        self.log_size.write(to);
        self.state.write(to);
        self.certificate.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        if u8::read(from)? != LEAF_KIND {
            return Err(Violation::Malformed);
        }
        let found = Self {
            network: Canonical::read(from)?,
            height: Canonical::read(from)?,
            previous: Canonical::read(from)?,
            time: Canonical::read(from)?,
            proposer: Canonical::read(from)?,
            roster: Canonical::read(from)?,
            new_roster: Canonical::read(from)?,
            log_size: Canonical::read(from)?,
            state: Canonical::read(from)?,
            certificate: Canonical::read(from)?,
        };
        if found.new_roster == Some(found.roster) { Err(Violation::Malformed) } else { Ok(found) }
    }
}

impl Canonical for Header {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        self.log_root.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { record: Canonical::read(from)?, log_root: Canonical::read(from)? })
    }
}

impl Canonical for Block {
    fn write(&self, to: &mut Vec<u8>) {
        self.header.write(to);
        let certificate = self.certificate.as_ref().map(CommitCertificate::encode).unwrap_or_default();
        write_bytes(&certificate, to);
        write_list(&self.transactions, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let header = Header::read(from)?;
        let certificate = read_bytes(from, MAX_CERTIFICATE_LEN)?;
        let is_first = certificate.is_empty();
        let certificate = (!is_first).then(|| CommitCertificate::decode(&certificate)).transpose()?;
        Ok(Self { header, certificate, transactions: read_list(from, MAX_BLOCK_TRANSACTIONS)? })
    }
}
