//! Anchoring: a collection's head moves on by compare and swap, segments come and go with it.

use crate::ledger::read::{Overlay, Read};
use crate::ledger::rows::{COUNTERS, HEADS, Head, SEGMENTS, Segment, VAULTS, Vault};
use crate::ledger::rules::erasure::require_alive;
use crate::ledger::rules::{Context, Outcome, require_writer};
use crate::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, PackCommit};
use crate::message::rejection::Rejection;
use crate::types::{CollectionTag, PublicKey, TransactionId, VaultId};

pub(super) fn advance<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    author: &PublicKey,
    id: TransactionId,
    anchor: &Anchor,
) -> Outcome {
    require_writer(state, author, &anchor.vault)?;
    require_alive(state, &anchor.vault)?;
    let place = (anchor.vault, anchor.collection);
    let head = HEADS.get(state, &place)?;
    let found = head.as_ref().map(|head| head.anchor);
    if found != anchor.previous {
        return Err(Rejection::HeadMoved { head: found }.into());
    }
    let mut vault = VAULTS.expect(state, &anchor.vault)?;
    release(state, &mut vault, anchor)?;
    for segment in &anchor.segments {
        add(state, context, &mut vault, anchor, segment)?;
    }
    check_commits(anchor)?;
    VAULTS.put(state, &anchor.vault, &vault);
    let sequence = head.map_or(0, |head| head.sequence) + 1;
    let head = Head { anchor: id, sequence, height: context.height };
    HEADS.put(state, &place, &head);
    Ok(())
}

/// Drops the descriptors of segments that this collection has no use for any more.
fn release<R: Read>(state: &mut Overlay<'_, R>, vault: &mut Vault, anchor: &Anchor) -> Outcome {
    for segment in &anchor.released {
        let key = (anchor.vault, *segment);
        let row = SEGMENTS.get(state, &key)?.filter(|row| row.collection == anchor.collection);
        let row = row.ok_or(Rejection::NoSuchSegment { segment: *segment })?;
        vault.segments -= 1;
        vault.bytes -= row.len;
        SEGMENTS.delete(state, &key);
    }
    Ok(())
}

fn add<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    vault: &mut Vault,
    anchor: &Anchor,
    added: &AnchoredSegment,
) -> Outcome {
    let segment = added.segment;
    // One that this very anchor releases is as good as there: its shards are about to go.
    if anchor.released.contains(&segment) {
        return Err(Rejection::SegmentExists { segment }.into());
    }
    match SEGMENTS.get(state, &(anchor.vault, segment))? {
        None => place(state, context, vault, &anchor.vault, anchor.collection, added),
        Some(row) if is_deposited(&row, added) => {
            SEGMENTS.put(state, &(anchor.vault, segment), &Segment { collection: anchor.collection, ..row });
            Ok(())
        }
        Some(_) => Err(Rejection::SegmentExists { segment }.into()),
    }
}

/// Whether a segment that is there waits in a deposit, and is the one that is meant: then a collection takes it.
fn is_deposited(row: &Segment, added: &AnchoredSegment) -> bool {
    let roots = |shards: &[AnchoredShard]| shards.iter().map(|shard| shard.root).collect::<Vec<_>>();
    row.collection == CollectionTag::INBOX
        && (row.code, row.len) == (added.code, added.len)
        && roots(&row.shards) == roots(&added.shards)
}

/// Puts the descriptor of a segment that is not there yet.
pub(super) fn place<R: Read>(
    state: &mut Overlay<'_, R>,
    context: &Context,
    row: &mut Vault,
    vault: &VaultId,
    collection: CollectionTag,
    added: &AnchoredSegment,
) -> Outcome {
    let segment = added.segment;
    if added.shards.len() != added.code.total() {
        return Err(Rejection::WrongShardCount { segment }.into());
    }
    require_holders(state, &added.shards)?;
    row.segments += 1;
    row.bytes += added.len;
    let placed = Segment {
        collection,
        height: context.height,
        code: added.code,
        len: added.len,
        shards: added.shards.clone(),
    };
    SEGMENTS.put(state, &(*vault, segment), &placed);
    Ok(())
}

/// Refuses a holder that was never a storage node.
pub(super) fn require_holders(state: &impl Read, shards: &[AnchoredShard]) -> Outcome {
    let nodes = COUNTERS.expect(state, &())?.nodes;
    match shards.iter().filter_map(|shard| shard.holder).find(|holder| holder.0 >= nodes) {
        Some(node) => Err(Rejection::NoSuchHolder { node }.into()),
        None => Ok(()),
    }
}

/// A pack takes effect with the anchor that brings it, and so once.
fn check_commits(anchor: &Anchor) -> Outcome {
    let brings = |pack| anchor.segments.iter().any(|segment| segment.segment == pack);
    match anchor.commits.iter().find(|commit| !brings(commit.pack)) {
        Some(PackCommit { pack, .. }) => Err(Rejection::NoSuchSegment { segment: *pack }.into()),
        None => Ok(()),
    }
}
