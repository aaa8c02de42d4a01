//! The anchor: what advances the head of a collection on the ledger.

use std::fmt;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::log_tree;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::message::{Violation, wire};
use crate::types::limits::{MAX_ANCHOR_COMMITS, MAX_ANCHOR_RELEASES, MAX_ANCHOR_SEGMENTS, MAX_SEGMENT_LEN};
use crate::types::{Code, CollectionTag, Hash, LogHash, SegmentId, TransactionId, VaultId, VersionId};

/// The number of a storage node on the ledger: 34 bytes a shard instead of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub u16);

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Stands for "no node holds this shard".
const NO_NODE: u16 = u16::MAX;

/// A shard of an anchored segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchoredShard {
    /// Its BLAKE3 root.
    pub root: Hash,
    /// Which node holds it; `None` where none does.
    pub holder: Option<NodeNumber>,
}

/// A descriptor on the ledger.
///
/// Invariant: one shard for each of the code's, `1 <= len <= MAX_SEGMENT_LEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchoredSegment {
    /// The segment.
    pub segment: SegmentId,
    /// How it is coded.
    pub code: Code,
    /// Ciphertext bytes, without the zeros that fill the last stripe.
    pub len: u64,
    /// Its shards, by index.
    pub shards: Vec<AnchoredShard>,
}

impl AnchoredSegment {
    /// Bytes of one in a transaction, and of its commit if it has one.
    #[must_use]
    pub const fn encoded_len(code: Code) -> usize {
        const COMMIT_LEN: usize = 32 + 32 + 4;
        32 + 2 + 8 + code.total() * 34 + COMMIT_LEN
    }
}

/// A pack whose sealed commit says what changes: what a recovery reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackCommit {
    /// The pack.
    pub pack: SegmentId,
    /// Root of the RFC 6962 tree over the commitments of the versions that it brings. Of each pack its own, so that a
    /// version can be proved when other packs of the anchor are gone.
    pub commitments: LogHash,
    /// How many commitments there are.
    pub count: u32,
}

/// Advances the head of a collection by compare and swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The vault.
    pub vault: VaultId,
    /// The collection.
    pub collection: CollectionTag,
    /// The anchor that is the head now; `None` for the first.
    pub previous: Option<TransactionId>,
    /// New segments, by ascending id.
    pub segments: Vec<AnchoredSegment>,
    /// Segments that nothing refers to any more, by ascending id.
    pub released: Vec<SegmentId>,
    /// The commits that take effect, in this order, each in a pack that this anchor brings. None while a record is brought that has more segments than one
    /// anchor takes.
    pub commits: Vec<PackCommit>,
}

/// The opening of a version's commitment: who has it can show what the ledger committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The version.
    pub version: VersionId,
    /// BLAKE3 of the plaintext.
    pub content: Hash,
    /// Plaintext bytes.
    pub size: u64,
    /// Random, so that nobody finds out by trying whether a guessed content was anchored.
    pub salt: [u8; 32],
}

impl Opening {
    /// The leaf that stands for the version in the tree of an anchor.
    #[must_use]
    pub fn leaf(&self) -> LogHash {
        let mut commitment = [0; 32];
        derive_key(Context::VersionCommitment, &[&self.encode()], &mut commitment);
        log_tree::leaf_hash(&commitment)
    }
}

impl Canonical for NodeNumber {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Canonical::read(from).map(Self)
    }
}

impl Canonical for Code {
    fn write(&self, to: &mut Vec<u8>) {
        for count in [self.k(), self.m()] {
            to.push(u8::try_from(count).unwrap_or(u8::MAX));
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let [k, m] = <[u8; 2]>::read(from)?;
        Self::new(k.into(), m.into()).map_err(|_| Violation::OutOfBounds)
    }
}

impl Canonical for AnchoredShard {
    fn write(&self, to: &mut Vec<u8>) {
        self.root.write(to);
        self.holder.map_or(NO_NODE, |holder| holder.0).write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let (root, holder) = (Canonical::read(from)?, u16::read(from)?);
        Ok(Self { root, holder: (holder != NO_NODE).then_some(NodeNumber(holder)) })
    }
}

impl Canonical for AnchoredSegment {
    fn write(&self, to: &mut Vec<u8>) {
        self.segment.write(to);
        self.code.write(to);
        self.len.write(to);
        self.shards.iter().for_each(|shard| shard.write(to));
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let (segment, code, len) = (Canonical::read(from)?, Code::read(from)?, u64::read(from)?);
        wire::within((1..=MAX_SEGMENT_LEN).contains(&len))?;
        let shards = (0..code.total()).map(|_| Canonical::read(from)).collect::<Result<_, _>>()?;
        Ok(Self { segment, code, len, shards })
    }
}

impl Canonical for PackCommit {
    fn write(&self, to: &mut Vec<u8>) {
        self.pack.write(to);
        self.commitments.write(to);
        self.count.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            pack: Canonical::read(from)?,
            commitments: Canonical::read(from)?,
            count: Canonical::read(from)?,
        })
    }
}

impl Canonical for Anchor {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.collection.write(to);
        self.previous.write(to);
        write_list(&self.segments, to);
        write_list(&self.released, to);
        write_list(&self.commits, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            collection: Canonical::read(from)?,
            previous: Canonical::read(from)?,
            segments: read_list(from, MAX_ANCHOR_SEGMENTS)?,
            released: read_list(from, MAX_ANCHOR_RELEASES)?,
            commits: read_list(from, MAX_ANCHOR_COMMITS)?,
        };
        if found.collection == CollectionTag::INBOX {
            return Err(Violation::OutOfBounds);
        }
        let is_ordered = found.segments.is_sorted_by(|one, next| one.segment < next.segment)
            && found.released.is_sorted_by(|one, next| one < next);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for VersionId {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Canonical::read(from).map(Self)
    }
}

impl Canonical for Opening {
    fn write(&self, to: &mut Vec<u8>) {
        self.version.write(to);
        self.content.write(to);
        self.size.write(to);
        self.salt.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            version: Canonical::read(from)?,
            content: Canonical::read(from)?,
            size: Canonical::read(from)?,
            salt: Canonical::read(from)?,
        })
    }
}
