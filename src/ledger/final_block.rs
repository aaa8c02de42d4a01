//! A block that somebody says is final: what shows it, and what of it a follower needs.

use crate::ledger::apply::{ApplyError, Changes, InvalidBlock, check};
use crate::ledger::ask::FinalBlock;
use crate::ledger::execution::committee_of;
use crate::ledger::log;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{LAST_LEAVES, LOG_NODES, PLACES, SEGMENTS, SETTINGS, TIP};
use crate::message::Violation;
use crate::message::block::{Block, Header, certificate_hash};
use crate::message::certificate::CommitCertificate;
use crate::types::{SegmentId, TransactionId, VaultId};

/// Why a block is not the next final one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFinal {
    /// It is no block, not the next one, or not the one that its certificate is about: whoever sent it is wrong.
    #[error("{0}")]
    Block(Violation),
    /// Its certificate makes nothing final: whoever sent it is wrong.
    #[error("its certificate: {0}")]
    Certificate(Violation),
    /// A quorum decided on just these bytes, and this program finds them invalid. It is not the sender who is wrong.
    #[error("a quorum of the static nodes decided on it, but it is not valid here: {0}")]
    Disagrees(InvalidBlock),
    /// Ours: stop.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A block that is the next final one.
#[derive(Debug)]
pub struct NextBlock {
    /// The block.
    pub block: Block,
    /// What makes it final.
    pub certificate: CommitCertificate,
    /// What it changes.
    pub changes: Changes,
}

/// Checks that a block is the next final one after a state: a certificate of the static nodes that the state names, and that
/// it leads to what its header says.
///
/// `is_known` tells transactions whose signatures need not be checked. Whoever trusts the quorum may say so of all: the
/// header that it certified names their bytes by the root of the log, and what they lead to by the state's hash.
///
/// # Errors
/// [`NotFinal`] says who is wrong.
pub fn check_final<R: Read>(
    state: &R,
    found: &FinalBlock,
    is_known: impl Fn(&TransactionId) -> bool,
) -> Result<NextBlock, NotFinal> {
    let tip = TIP.expect(state, &())?;
    let network = SETTINGS.expect(state, &())?.network;
    let committee = committee_of(state, &tip.record.next_roster())?;
    let certificate = CommitCertificate::decode(&found.certificate).map_err(NotFinal::Certificate)?;
    let block = Block::decode_bounded(&found.block).map_err(NotFinal::Block)?;
    if (certificate.height, certificate.block) != (tip.record.height.next(), block.header.id()) {
        return Err(NotFinal::Block(Violation::WrongBlock));
    }
    certificate.verify(&committee, network).map_err(NotFinal::Certificate)?;
    match check(state, &block, is_known) {
        Ok(changes) => Ok(NextBlock { block, certificate, changes }),
        Err(ApplyError::Read(error)) => Err(error.into()),
        Err(ApplyError::Invalid(error)) if is_as_decided(state, &tip, &block)? => {
            Err(NotFinal::Disagrees(error))
        }
        Err(ApplyError::Invalid(_)) => Err(NotFinal::Block(Violation::WrongBlock)),
    }
}

/// Whether the rest of a block is what its header names. The header alone is what a quorum signs.
fn is_as_decided(state: &impl Read, tip: &Header, block: &Block) -> Result<bool, ReadError> {
    let mut frontier = log::frontier(state, tip.record.log_size)?;
    block.leaves().for_each(|leaf| frontier.push(crate::crypto::log_tree::leaf_hash(&leaf), |_| {}));
    Ok(frontier.root() == block.header.log_root
        && certificate_hash(block.certificate.as_ref()) == block.header.record.certificate)
}

/// Whether a follower that proves nothing to others needs a row: it does without the nodes of the log and the places of
/// transactions, which only grow.
#[must_use]
pub fn is_of_light_state(key: &[u8]) -> bool {
    LOG_NODES.rest(key).is_none() && PLACES.rest(key).is_none() && LAST_LEAVES.rest(key).is_none()
}

/// What a block says of shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardNews {
    /// Segments of vaults that are there from now on.
    pub anchored: Vec<(VaultId, SegmentId)>,
    /// Segments of vaults that are there no more.
    pub released: Vec<(VaultId, SegmentId)>,
}

/// What the changes of a block say of shards.
#[must_use]
pub fn shard_news(changes: &Changes) -> ShardNews {
    let mut news = ShardNews::default();
    for (key, value) in &changes.writes {
        let row = SEGMENTS.rest(key).and_then(|rest| rest.split_first_chunk::<32>());
        let Some((vault, Some(segment))) =
            row.map(|(vault, segment)| (VaultId(*vault), SegmentId::from_slice(segment)))
        else {
            continue;
        };
        if value.is_some() { &mut news.anchored } else { &mut news.released }.push((vault, segment));
    }
    news
}
