//! Brings the local index up to the ledger: reads the commits of a collection's new anchors and applies them. The same
//! from an empty index is a recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use crate::client::anchorer::leaves;
use crate::client::context::Context;
use crate::client::download::read_unit;
use crate::client::vault::Vault;
use crate::client::{Error, ErrorKind, Recovered};
use crate::crypto::frame::{CommitKey, CommitPart};
use crate::ledger::ask::Proven;
use crate::ledger::rows;
use crate::message::anchor::{Anchor, Opening, PackCommit};
use crate::message::anchor_receipt::CommitmentProof;
use crate::message::changeset::PLACE_LEN;
use crate::message::{Action, AnchorReceipt, Changeset, Descriptor, Extent, Policy, Violation};
use crate::store::index::{AnchoredCommit, AppliedAnchor, Head};
use crate::transfer::plan::read_units;
use crate::types::{CollectionName, CollectionTag, SegmentId, TransactionId};

/// Commits read at once.
const COMMITS_AT_ONCE: usize = 16;
/// Anchors applied in one transaction of the index.
const ANCHORS_AT_ONCE: usize = 64;

/// What a synchronization did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Synced {
    pub(crate) anchors: u64,
    pub(crate) changes: u64,
}

impl From<Synced> for Recovered {
    fn from(synced: Synced) -> Self {
        Self { anchors: synced.anchors, changes: synced.changes, stored: 0, erased: None }
    }
}

/// Brings the index up to the ledger's head of a collection whose name is known.
pub(crate) async fn collection(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    name: &CollectionName,
) -> Result<Synced, Error> {
    match vault.head(vault.keys.collection_tag(name)).await? {
        Some(head) => up_to(ctx, vault, name, &head).await,
        None => Ok(Synced::default()),
    }
}

async fn up_to(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    name: &CollectionName,
    head: &rows::Head,
) -> Result<Synced, Error> {
    let asked = name.clone();
    let known = ctx.index.with(move |index| index.head(&asked)).await?;
    if known.is_some_and(|known| known.sequence >= head.sequence) {
        return Ok(Synced::default());
    }
    let tag = vault.keys.collection_tag(name);
    run(ctx, vault, tag, known, head.anchor, Some(name.clone())).await
}

/// Brings the index up to the ledger's heads of all collections, also those of which it does not know the name.
pub(crate) async fn all(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    mut progressed: impl FnMut(Synced),
) -> Result<Synced, Error> {
    let names = ctx.index.with(|index| index.collections()).await?;
    let names: BTreeMap<_, _> =
        names.into_iter().map(|(name, ..)| (vault.keys.collection_tag(&name), name)).collect();
    let mut sum = Synced::default();
    for (tag, head) in vault.collections().await? {
        let synced = match names.get(&tag) {
            Some(name) => up_to(ctx, vault, name, &head).await?,
            None => run(ctx, vault, tag, None, head.anchor, None).await?,
        };
        sum.anchors += synced.anchors;
        sum.changes += synced.changes;
        progressed(sum);
    }
    Ok(sum)
}

async fn run(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    tag: CollectionTag,
    known: Option<Head>,
    head: TransactionId,
    mut name: Option<CollectionName>,
) -> Result<Synced, Error> {
    let chain = vault.anchors(head, known.map(|known| known.anchor)).await?;
    let released: BTreeSet<SegmentId> =
        chain.iter().flat_map(|(_, anchor)| anchor.released.clone()).collect();
    let mut sequence = known.map_or(0, |known| known.sequence);
    let mut synced = Synced::default();
    for part in chain.chunks(ANCHORS_AT_ONCE) {
        let mut changes = read_commits(ctx, vault, tag, part, &released).await?;
        let mut applied = Vec::new();
        for (id, anchor) in part {
            sequence += 1;
            let commits = anchor.commits.iter().map(|PackCommit { pack, .. }| {
                let changes = changes.remove(pack);
                synced.changes += changes.as_ref().map_or(0, |(_, changes)| changes.changes.len() as u64);
                (*pack, changes)
            });
            let commits: Vec<_> = commits.collect();
            if name.is_none() {
                name = commits.iter().find_map(|(_, found)| Some(found.as_ref()?.1.collection.clone()));
            }
            let packs = commits.iter().filter_map(|(_, found)| Some(found.as_ref()?.0.clone())).collect();
            let commits = commits.into_iter();
            let commits = commits
                .map(|(pack, found)| AnchoredCommit { pack, changes: found.map(|(_, changes)| changes) });
            applied.push((*id, anchor.previous, sequence, packs, commits.collect(), anchor.released.clone()));
        }
        // Of a collection of which nothing is left nobody needs the name.
        let Some(name) = &name else { continue };
        let applied = applied.into_iter().map(|(anchor, previous, sequence, packs, commits, released)| {
            let (collection, uploads) = (name.clone(), Vec::new());
            AppliedAnchor { collection, anchor, previous, sequence, packs, commits, released, uploads }
        });
        let applied: Vec<_> = applied.collect();
        synced.anchors += applied.len() as u64;
        ctx.index.with(move |index| index.apply(&applied)).await?;
    }
    tracing::debug!(anchors = synced.anchors, changes = synced.changes, "brought the index up to the ledger");
    Ok(synced)
}

type Commits = BTreeMap<SegmentId, (Descriptor, Changeset)>;

/// Reads the commits of anchors whose packs were not released since.
async fn read_commits(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    tag: CollectionTag,
    anchors: &[(TransactionId, Anchor)],
    released: &BTreeSet<SegmentId>,
) -> Result<Commits, Error> {
    let mut wanted = Vec::new();
    for (_, anchor) in anchors {
        for segment in &anchor.segments {
            let has_commit = anchor.commits.iter().any(|commit| commit.pack == segment.segment);
            if has_commit && !released.contains(&segment.segment) {
                wanted.push(vault.descriptor(segment).await?);
            }
        }
    }
    let mut commits = Commits::new();
    let mut reading = JoinSet::new();
    let mut wanted = wanted.into_iter();
    loop {
        while reading.len() < COMMITS_AT_ONCE
            && let Some(descriptor) = wanted.next()
        {
            let (ctx, vault) = (Arc::clone(ctx), Arc::clone(vault));
            reading.spawn(async move {
                let changes = read_commit(&ctx, &vault, &descriptor).await;
                changes.map(|changes| (descriptor, changes))
            });
        }
        let Some(read) = reading.join_next().await else { return Ok(commits) };
        let (descriptor, changes) =
            read.map_err(|error| Error::new(ErrorKind::Internal, "a transfer panicked").caused_by(error))??;
        if vault.keys.collection_tag(&changes.collection) != tag {
            return Err(wrong_commit(&descriptor));
        }
        commits.insert(descriptor.segment, (descriptor, changes));
    }
}

/// Reads the commit of a pack.
async fn read_commit(ctx: &Arc<Context>, vault: &Vault, pack: &Descriptor) -> Result<Changeset, Error> {
    read_commit_at(ctx, vault, pack).await.map(|(changes, ..)| changes)
}

/// Reads the commit of a pack; also the offset of its run and its bytes of plaintext.
pub(crate) async fn read_commit_at(
    ctx: &Arc<Context>,
    vault: &Vault,
    pack: &Descriptor,
) -> Result<(Changeset, u64, u64), Error> {
    ctx.know_descriptor(pack);
    let (key, place) = read_place(ctx, vault, pack).await?;
    read_changes(ctx, &key, place, pack).await
}

/// Reads the commit of a pack that somebody else sealed with a key of its own.
pub(crate) async fn read_deposit(
    ctx: &Arc<Context>,
    key: &CommitKey,
    pack: &Descriptor,
) -> Result<Changeset, Error> {
    let place = read_run(ctx, key, pack, CommitPart::Preamble, (0, PLACE_LEN as u64)).await?;
    read_changes(ctx, key, place, pack).await.map(|(changes, ..)| changes)
}

async fn read_changes(
    ctx: &Arc<Context>,
    key: &CommitKey,
    place: Vec<u8>,
    pack: &Descriptor,
) -> Result<(Changeset, u64, u64), Error> {
    let place = place.try_into().map_err(|_| wrong_commit(pack))?;
    let (offset, len) = Changeset::decode_place(place);
    if offset.checked_add(len).is_none_or(|end| end > pack.len) || len == 0 {
        return Err(wrong_commit(pack).caused_by(Violation::OutOfBounds));
    }
    let plain = read_run(ctx, key, pack, CommitPart::Changes, (offset, len)).await?;
    let changes = Changeset::decode(&plain).map_err(|violation| wrong_commit(pack).caused_by(violation))?;
    Ok((changes, offset, len))
}

/// Every segment that the ledger ever anchored in the vault's collections, released or not.
pub(crate) async fn ever_anchored(vault: &Vault) -> Result<BTreeSet<SegmentId>, Error> {
    let mut segments = BTreeSet::new();
    for (_, head) in vault.collections().await? {
        for (_, anchor) in vault.anchors(head.anchor, None).await? {
            segments.extend(anchor.segments.iter().map(|segment| segment.segment));
        }
    }
    Ok(segments)
}

/// Where the commit is, and the key that opens it: of the generation of keys that sealed it, which nothing says. The one that
/// opened the last commit is tried first.
async fn read_place(
    ctx: &Arc<Context>,
    vault: &Vault,
    pack: &Descriptor,
) -> Result<(CommitKey, Vec<u8>), Error> {
    let keys = vault.keys.commit_keys();
    let last = vault.commit_generation.load(Ordering::Relaxed);
    let mut wrong = None;
    for at in std::iter::once(last).chain((0..keys.len()).rev().filter(|at| *at != last)) {
        let Some(key) = keys.get(at) else { continue };
        match read_run(ctx, key, pack, CommitPart::Preamble, (0, PLACE_LEN as u64)).await {
            Ok(place) => {
                vault.commit_generation.store(at, Ordering::Relaxed);
                return Ok((key.clone(), place));
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => wrong = wrong.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(wrong.unwrap_or_else(|| wrong_commit(pack)))
}

async fn read_run(
    ctx: &Arc<Context>,
    key: &CommitKey,
    pack: &Descriptor,
    part: CommitPart,
    (offset, plain_len): (u64, u64),
) -> Result<Vec<u8>, Error> {
    let key = key.frame_key(&pack.segment, part);
    let extent = Extent { segment: pack.segment, offset, plain_len, salt: [0; 16] };
    let mut plain = Vec::new();
    for unit in read_units(vec![extent], 0..plain_len) {
        for frame in read_unit(ctx, unit, key.clone()).await? {
            plain.extend_from_slice(&frame);
        }
    }
    Ok(plain)
}

fn wrong_commit(pack: &Descriptor) -> Error {
    let message =
        format!("the commit in segment {} is not one of this vault's collection", pack.segment.short());
    Error::new(ErrorKind::Corrupt, message)
}

/// The receipt of an anchored version.
pub(crate) async fn receipt(
    ctx: &Arc<Context>,
    vault: &Arc<Vault>,
    anchor: TransactionId,
    opening: Opening,
) -> Result<AnchorReceipt, Error> {
    let Proven { transaction, proof, note, .. } = vault.transaction(anchor).await?;
    let missing = || Error::new(ErrorKind::Corrupt, format!("anchor {anchor} does not bring the version"));
    let Action::Anchor(anchor) = &transaction.transaction().action else { return Err(missing()) };
    for (number, commit) in (0..).zip(&anchor.commits) {
        // Of a pack that was released nothing can be proved any more; the version is in another one then.
        let Some(pack) = anchor.segments.iter().find(|segment| segment.segment == commit.pack) else {
            continue;
        };
        let pack = vault.descriptor(pack).await?;
        let is_known = ctx.index.with(move |index| index.descriptor(&pack.segment)).await?;
        let Some(pack) = is_known else { continue };
        let leaves = leaves(&read_commit(ctx, vault, &pack).await?);
        if let Some(at) = leaves.iter().position(|(version, _)| *version == opening.version) {
            let leaves: Vec<_> = leaves.into_iter().map(|(_, leaf)| leaf).collect();
            let commitment = CommitmentProof::of_leaves(number, &leaves, at, opening).ok_or_else(missing)?;
            let receipt = AnchorReceipt { commitment, transaction, proof, note };
            receipt
                .verify(vault.ledger.genesis(), Policy::Quorum)
                .map_err(|error| missing().caused_by(error))?;
            return Ok(receipt);
        }
    }
    Err(missing())
}
