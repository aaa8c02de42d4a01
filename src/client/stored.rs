//! Finds what was stored and never anchored, when the index that knew of it is lost: the nodes are asked what they
//! hold, and packs whose commits may take effect by themselves are anchored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::client::anchorer::StoredPack;
use crate::client::context::Context;
use crate::client::download::read_sealed;
use crate::client::members;
use crate::client::sync::read_commit_at;
use crate::client::vault::Vault;
use crate::client::{Error, ErrorKind};
use crate::crypto::frame::sealed_len;
use crate::message::{Descriptor, HeldShard, RefusalCode};
use crate::net::CallError;
use crate::stripe::Layout;
use crate::transfer::seal::code_segment;
use crate::types::{Hash, PublicKey, SegmentId};

/// The shards of a segment that nodes say they hold, by index.
type Found = BTreeMap<u8, (HeldShard, PublicKey)>;

/// The packs that were stored by themselves and are not among those that the ledger ever anchored.
pub(crate) async fn find(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    anchored: &BTreeSet<SegmentId>,
) -> Result<Vec<StoredPack>, Error> {
    let mut packs = Vec::new();
    for (segment, found) in list(ctx).await {
        if anchored.contains(&segment) || found.len() < ctx.network.code.k() {
            continue;
        }
        match read(ctx, vault, segment, &found).await {
            Ok(Some(pack)) => packs.push(pack),
            // A body, or a pack that only its own client may anchor.
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(segment = %segment.short(), %error, "holds no commit that can be read");
            }
        }
    }
    // Version ids begin with the time: so they come back in the order in which they were put.
    packs.sort_by_key(|pack| pack.changes.changes.iter().filter_map(|change| change.what.version()).min());
    Ok(packs)
}

/// What all nodes hold for this vault. One that does not answer holds nothing for now.
async fn list(ctx: &Arc<Context>) -> BTreeMap<SegmentId, Found> {
    let mut found = BTreeMap::<SegmentId, Found>::new();
    members::refresh(ctx).await;
    for node in ctx.nodes().all().iter().map(|node| node.key) {
        let mut after = None;
        loop {
            let page = match ctx.peers.list_shards(&node, ctx.vault_id, after).await {
                Ok(page) => page,
                // A node takes nothing from a key that the ledger does not let write: there is nothing to be found.
                Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::NotAdmitted => break,
                Err(error) => {
                    ctx.notice(&format!("{} {error}: what only it holds is not found", ctx.node_name(&node)));
                    break;
                }
            };
            // In ascending order, so that it ends.
            let page: Vec<_> = page.into_iter().filter(|held| Some(held.shard) > after).collect();
            let Some(last) = page.last() else { break };
            after = Some(last.shard);
            for held in page {
                found.entry(held.shard.segment).or_default().insert(held.shard.index, (held, node));
            }
        }
    }
    found
}

async fn read(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    segment: SegmentId,
    found: &Found,
) -> Result<Option<StoredPack>, Error> {
    let code = ctx.network.code;
    let Some(shard_len) = found.values().map(|(held, _)| held.len).next() else { return Ok(None) };
    let of = |index: usize| u8::try_from(index).ok().and_then(|index| found.get(&index));
    let mut descriptor = Descriptor {
        segment,
        code,
        // Shards are as long as if the last stripe were full: near enough to find the commit.
        len: shard_len * code.k() as u64,
        roots: (0..code.total())
            .map(|index| of(index).map_or(Hash([0; 32]), |(held, _)| held.root))
            .collect(),
        holders: (0..code.total()).map(|index| of(index).map(|(_, node)| *node)).collect(),
    };
    let Ok((changes, offset, len)) = read_commit_at(ctx, vault, &descriptor).await else { return Ok(None) };
    if !changes.standalone {
        return Ok(None);
    }
    // The commit is the last of a pack.
    descriptor.len = offset + sealed_len(len);
    ctx.forget_descriptor(&segment);
    descriptor.roots = roots(ctx, &descriptor).await?;
    ctx.know_descriptor(&descriptor);
    Ok(Some(StoredPack::unconditional(descriptor, changes)))
}

/// The roots of all shards of a segment, also those that no node has: it is read and coded again.
async fn roots(ctx: &Arc<Context>, descriptor: &Descriptor) -> Result<Vec<Hash>, Error> {
    if descriptor.holders.iter().all(Option::is_some) {
        return Ok(descriptor.roots.clone());
    }
    let wrong = || Error::new(ErrorKind::Corrupt, "a segment is not what its shards say");
    let known = Arc::new(descriptor.clone());
    let layout = Layout::new(known.code, known.len).map_err(|error| wrong().caused_by(error))?;
    let sealed = read_sealed(ctx, &known, &layout, 0..known.len).await?;
    let (coder, pool, segment) = (ctx.coder(known.code), ctx.pool.clone(), known.segment);
    let len = sealed.len();
    let coded = ctx.workers.run(move || code_segment(segment, sealed, len, &coder, &pool, |_, _| {})).await?;
    let roots = coded.map_err(|error| wrong().caused_by(error))?.roots;
    let fits = known.holders.iter().zip(&known.roots).zip(&roots);
    let fits = fits.filter(|((holder, _), _)| holder.is_some()).all(|((_, known), root)| known == root);
    if fits { Ok(roots) } else { Err(wrong()) }
}
