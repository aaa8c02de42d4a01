//! Saying where the shards of a segment are now: late receipts, repair, moving.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::SEGMENTS;
use crate::ledger::rules::anchor::require_holders;
use crate::ledger::rules::{Outcome, require_writer};
use crate::message::anchor::NodeNumber;
use crate::message::rejection::Rejection;
use crate::types::{PublicKey, SegmentId, VaultId};

pub(super) fn place<R: Read>(
    state: &mut Overlay<'_, R>,
    author: &PublicKey,
    vault: &VaultId,
    segment: &SegmentId,
    holders: &[Option<NodeNumber>],
) -> Outcome {
    require_writer(state, author, vault)?;
    let key = (*vault, *segment);
    let mut row = SEGMENTS.get(state, &key)?.ok_or(Rejection::NoSuchSegment { segment: *segment })?;
    if holders.len() != row.shards.len() {
        return Err(Rejection::WrongShardCount { segment: *segment }.into());
    }
    for (shard, holder) in row.shards.iter_mut().zip(holders) {
        shard.holder = *holder;
    }
    require_holders(state, &row.shards)?;
    SEGMENTS.put(state, &key, &row);
    Ok(())
}
