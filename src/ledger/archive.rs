//! The blocks before a snapshot: whoever took one fetches them later, the newest first, until it has all.
//!
//! Nothing of them has to be believed. The id of each block is in the one after it, the certificate's hash too, and its
//! leaves are in the log, whose nodes came with the snapshot. So no signature is looked at, and no rule run again.

use crate::crypto::log_tree::leaf_hash;
use crate::ledger::apply::Writes;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{ARCHIVE, Archive, LAST_LEAVES, LOG_NODES, Missing, PLACES, Place};
use crate::message::Violation;
use crate::message::block::{Block, certificate_hash};
use crate::message::canonical::Canonical as _;
use crate::message::certificate::CommitCertificate;
use crate::types::{BlockId, Height};

/// Why the archive cannot be filled, whoever is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The blocks before the snapshot do not lead to those that were here before it: the static nodes decided on two
    /// ledgers.
    #[error("block {height} of the ledger does not follow the block {below} that this node has before it")]
    Forked {
        /// The first missing block.
        height: Height,
        /// The block that it should follow.
        below: BlockId,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a block does not fill the archive.
enum Unfit {
    /// It is not the block that is missing.
    Wrong(Violation),
    /// No block would do.
    Fatal(FillError),
}

impl From<Violation> for Unfit {
    fn from(violation: Violation) -> Self {
        Self::Wrong(violation)
    }
}

impl From<ReadError> for Unfit {
    fn from(error: ReadError) -> Self {
        Self::Fatal(error.into())
    }
}

/// A block that was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// Its height.
    pub height: Height,
    /// Its bytes.
    pub block: Vec<u8>,
    /// The certificate of the block before it; none in the first.
    pub before: Option<CommitCertificate>,
}

/// Blocks that were missing, and what is to be written with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// The blocks, the newest first.
    pub blocks: Vec<Filling>,
    /// The rows.
    pub writes: Writes,
}

/// Takes in blocks that were asked for, the newest first, on top of which others are here. What fits before the first one
/// that does not is kept; but for the last, whose beginning only the one before it shows.
///
/// # Errors
/// [`FillError`]: this node cannot go on. What is wrong with a block is beside what fits.
pub fn fill(
    state: &impl Read,
    blocks: impl IntoIterator<Item = Vec<u8>>,
) -> Result<(Filled, Option<Violation>), FillError> {
    let mut filled = Filled::default();
    let Some(Archive { snapshot, mut missing }) = ARCHIVE.get(state, &())? else {
        return Ok((filled, None));
    };
    let mut blocks = blocks.into_iter();
    let mut next = blocks.next();
    let mut fault = None;
    while let (Some(wanted), Some(bytes)) = (&missing, next.take()) {
        next = blocks.next();
        match one(state, wanted, bytes, next.as_deref(), &mut filled) {
            Ok(Some(rest)) => missing = rest,
            Ok(None) => break,
            Err(Unfit::Wrong(violation)) => {
                fault = Some(violation);
                break;
            }
            Err(Unfit::Fatal(error)) => return Err(error),
        }
    }
    if !filled.blocks.is_empty() {
        let row = Archive { snapshot, missing };
        filled.writes.insert(ARCHIVE.key(&()), Some(row.encode()));
    }
    Ok((filled, fault))
}

/// Takes in the last of the missing blocks, if the one before it is here; what is missing then.
fn one(
    state: &impl Read,
    missing: &Missing,
    bytes: Vec<u8>,
    before: Option<&[u8]>,
    filled: &mut Filled,
) -> Result<Option<Option<Missing>>, Unfit> {
    let block = read(&bytes, missing.until, missing.last)?;
    let record = block.header.record;
    if record.certificate != certificate_hash(block.certificate.as_ref()) {
        return Err(Violation::WrongBlock.into());
    }
    let (is_first, until) = (missing.from == missing.until, Height(missing.until.0.saturating_sub(1)));
    let begin = match before {
        _ if is_first && record.previous != missing.below => {
            let (height, below) = (missing.from, missing.below);
            return Err(Unfit::Fatal(FillError::Forked { height, below }));
        }
        _ if is_first => missing.below_size,
        Some(before) => read(before, until, record.previous)?.header.record.log_size,
        None => return Ok(None),
    };
    let count = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX).saturating_add(1);
    if begin.checked_add(count) != Some(record.log_size) {
        return Err(Violation::WrongBlock.into());
    }
    for (at, leaf) in (begin..).zip(block.leaves()) {
        if LOG_NODES.get(state, &(0, at))? != Some(leaf_hash(&leaf)) {
            return Err(Violation::WrongBlock.into());
        }
    }
    let last = (LAST_LEAVES.key(&(record.log_size - 1)), record.height.encode());
    let places = (begin..).zip(&block.transactions).map(|(leaf, signed)| {
        let place = Place { height: record.height, leaf };
        (PLACES.key(&signed.id()), place.encode())
    });
    filled.writes.extend(places.chain([last]).map(|(key, value)| (key, Some(value))));
    filled.blocks.push(Filling { height: record.height, block: bytes, before: block.certificate });
    let rest = Missing { until, last: record.previous, ..missing.clone() };
    Ok(Some((!is_first).then_some(rest)))
}

/// The block of a height and an id.
fn read(bytes: &[u8], height: Height, id: BlockId) -> Result<Block, Violation> {
    let block = Block::decode_bounded(bytes)?;
    let is_it = block.header.record.height == height && block.header.id() == id;
    if is_it { Ok(block) } else { Err(Violation::WrongBlock) }
}
