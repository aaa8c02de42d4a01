//! Which node holds which shard: what nodes say when they are asked, and what of it the index is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::client::Error;
use crate::client::context::Context;
use crate::message::{Descriptor, ShardRef};
use crate::net::CallError;
use crate::types::limits::MAX_BATCH_ITEMS;
use crate::types::{Hash, PublicKey};

/// What one node says it holds of the shards that it was asked about, each with the right root.
pub(crate) type Holding = (PublicKey, Result<Vec<ShardRef>, CallError>);

/// Asks all nodes which of these shards they hold. The answers come in any order; a node that is asked about many shards
/// gives several. `insist` also tries nodes that failed a moment ago.
pub(crate) fn ask_all(
    ctx: &Arc<Context>,
    roots: BTreeMap<ShardRef, Hash>,
    insist: bool,
) -> mpsc::Receiver<Holding> {
    let nodes = ctx.nodes();
    let roots = Arc::new(roots);
    let shards: Vec<ShardRef> = roots.keys().copied().collect();
    let batches = nodes.all().len() * shards.len().div_ceil(MAX_BATCH_ITEMS);
    let (answers, answered) = mpsc::channel(batches.max(1));
    for node in nodes.all().iter().map(|node| node.key) {
        if insist {
            ctx.peers.insist(&node);
        }
        for batch in shards.chunks(MAX_BATCH_ITEMS) {
            let (ctx, batch, roots, answers) =
                (Arc::clone(ctx), batch.to_vec(), Arc::clone(&roots), answers.clone());
            tokio::spawn(async move {
                let said = tokio::select! {
                    said = ctx.peers.have_shards(&node, ctx.vault_id, batch.clone()) => said,
                    () = answers.closed() => return,
                };
                let held = said.map(|found| {
                    let is_right =
                        |(shard, root): &(ShardRef, Option<Hash>)| root.as_ref() == roots.get(shard);
                    batch.into_iter().zip(found).filter(is_right).map(|(shard, _)| shard).collect()
                });
                // Who asked may be gone.
                drop(answers.send((node, held)).await);
            });
        }
    }
    answered
}

/// The shards of a segment and their roots.
pub(crate) fn shards_of(descriptor: &Descriptor) -> BTreeMap<ShardRef, Hash> {
    let segment = descriptor.segment;
    (0..).zip(&descriptor.roots).map(|(index, root)| (ShardRef { segment, index }, *root)).collect()
}

/// All nodes that hold each of these shards, as far as nodes answer.
pub(crate) async fn who_holds(
    ctx: &Arc<Context>,
    roots: BTreeMap<ShardRef, Hash>,
) -> BTreeMap<ShardRef, Vec<PublicKey>> {
    let mut answers = ask_all(ctx, roots, false);
    let mut holders = BTreeMap::<ShardRef, Vec<PublicKey>>::new();
    while let Some((node, held)) = answers.recv().await {
        // A node that does not answer holds nothing for now.
        for shard in held.unwrap_or_default() {
            holders.entry(shard).or_default().push(node);
        }
    }
    holders
}

/// Tells the index, in the background, where shards of a segment are that it knows no holder of, or a wrong one.
pub(crate) fn note_found(ctx: &Arc<Context>, descriptor: &Descriptor, found: &[(usize, PublicKey)]) {
    // Nothing but what was found: of the other shards another read may have learned more meanwhile.
    let mut learned = Descriptor { holders: vec![None; descriptor.holders.len()], ..descriptor.clone() };
    for (shard, node) in found {
        learned.holders[*shard] = Some(*node).filter(|node| descriptor.holders[*shard] != Some(*node));
    }
    if learned.holders.iter().any(Option::is_some) {
        amend(ctx, learned);
    }
}

/// Notes who holds the shards of a segment: in the index if it knows the segment, and else for when it is committed.
pub(crate) fn amend(ctx: &Arc<Context>, descriptor: Descriptor) {
    ctx.forget_descriptor(&descriptor.segment);
    ctx.note_late(&descriptor);
    let shared = Arc::clone(ctx);
    ctx.in_background(async move {
        if let Err(error) = write(&shared, descriptor).await {
            tracing::warn!(%error, "could not note where the last shards of a segment are");
        }
    });
}

/// Writes what was noted of a segment. One that the index does not know yet stays noted.
pub(crate) async fn write(ctx: &Context, descriptor: Descriptor) -> Result<(), Error> {
    let segment = descriptor.segment;
    let written = descriptor.clone();
    if ctx.index.with(move |index| index.amend(&descriptor)).await? {
        ctx.forget_late(&written);
        ctx.forget_descriptor(&segment);
    }
    Ok(())
}
