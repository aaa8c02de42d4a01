//! Anchors stored packs: one at a time for each collection, and what was stored meanwhile goes into the next anchor.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::client::context::{Context, random};
use crate::client::settle::{Verdict, refused};
use crate::client::sync;
use crate::client::upload::upload;
use crate::client::vault::{BEHIND_PAUSE, Vault};
use crate::client::{Condition, Error, ErrorKind};
use crate::message::anchor::{Anchor, AnchoredSegment, PackCommit};
use crate::message::changeset::{RecordChange, What};
use crate::message::{Action, Changeset, Descriptor, Rejection, VersionState};
use crate::store::IndexError;
use crate::store::index::{AnchoredCommit, AppliedAnchor, ConditionFailed, Head, Preview, UploadId};
use crate::transfer::Pack;
use crate::types::limits::{MAX_ANCHOR_COMMITS, MAX_ANCHOR_SEGMENTS, MAX_TRANSACTION_LEN};
use crate::types::{CollectionName, LogHash, SegmentId, TransactionId, VersionId};

/// Packs that may wait for an anchor.
const QUEUE_LEN: usize = 256;
/// Segments released by one anchor: 16 KiB of a transaction. What is left goes with the next one.
const RELEASES_AT_ONCE: usize = 512;
/// Bytes of a transaction for the segments that an anchor brings and the commits in them.
const SEGMENT_BYTES: usize = MAX_TRANSACTION_LEN - RELEASES_AT_ONCE * 32 - 1_024;
/// How often an anchor is made anew because another came first. Each time another writer got on.
const MAX_REBASES: usize = 100;
/// How often the ledger is asked for a head that must have moved.
const CATCH_UP_TRIES: usize = 20;

/// A pack with a commit whose shards are held.
#[derive(Debug)]
pub(crate) struct StoredPack {
    pub(crate) descriptor: Descriptor,
    pub(crate) changes: Changeset,
    /// By change.
    pub(crate) wants: Vec<Want>,
}

impl StoredPack {
    /// A pack whose changes take effect whatever is there.
    pub(crate) fn unconditional(descriptor: Descriptor, changes: Changeset) -> Self {
        let wants = vec![Want { condition: Condition::Any, upload: None }; changes.changes.len()];
        Self { descriptor, changes, wants }
    }

    /// Adds what was learned since of where shards are.
    pub(crate) fn complete(&mut self, ctx: &Context) {
        ctx.complete(&mut self.descriptor);
        for change in &mut self.changes.changes {
            if let What::Version { segments, .. } = &mut change.what {
                segments.iter_mut().for_each(|descriptor| ctx.complete(descriptor));
            }
        }
    }
}

/// What comes with a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    /// What must hold when it takes effect.
    pub(crate) condition: Condition,
    /// The upload that ends then.
    pub(crate) upload: Option<UploadId>,
}

/// What became of a pack's changes, each.
pub(crate) type Outcome = Result<Vec<Result<(), ConditionFailed>>, Error>;

type Job = (StoredPack, oneshot::Sender<Outcome>);

/// Hands packs to the task of a collection; the last handle that is dropped ends it.
#[derive(Debug, Clone)]
pub(crate) struct Anchorer(mpsc::Sender<Job>);

impl Anchorer {
    pub(crate) fn start(ctx: Arc<Context>, vault: Arc<Vault>, collection: CollectionName) -> Self {
        let (jobs, mut queue) = mpsc::channel(QUEUE_LEN);
        let lane = Lane { ctx, vault, collection };
        tokio::spawn(async move {
            let mut group = Vec::new();
            while queue.recv_many(&mut group, lane.packs_at_once()).await > 0 {
                lane.anchor_all(std::mem::take(&mut group)).await;
            }
        });
        Self(jobs)
    }

    /// Anchors a pack. When it returns `Ok` those of its changes that are `Ok` are final.
    pub(crate) async fn anchor(&self, pack: StoredPack) -> Outcome {
        self.queue(pack).await?.await
    }

    /// Takes a pack on; the answer tells what becomes of it.
    pub(crate) async fn queue(
        &self,
        pack: StoredPack,
    ) -> Result<impl Future<Output = Outcome> + Send + use<>, Error> {
        let gone = || Error::new(ErrorKind::Internal, "the client is closed");
        let (answer, answered) = oneshot::channel();
        self.0.send((pack, answer)).await.map_err(|_| gone())?;
        Ok(async move { answered.await.map_err(|_| gone())? })
    }
}

struct Lane {
    ctx: Arc<Context>,
    vault: Arc<Vault>,
    collection: CollectionName,
}

/// How an anchor went.
enum Step {
    /// It was the last that the group needs.
    Last,
    /// It brought some of the segments of a large record.
    Further,
    /// It was refused, and what can be done about it is done.
    Refused(Rejection),
}

/// Packs on their way into one anchor.
struct Group {
    packs: Vec<Going>,
    /// Segments that an anchor of this group brought already.
    brought: Vec<SegmentId>,
}

/// A pack on its way. What of it does not come to be is taken out.
struct Going {
    stored: StoredPack,
    /// Of the pack as it came, by change.
    results: Vec<Result<(), ConditionFailed>>,
    /// By change that is left: which it was.
    origins: Vec<usize>,
    /// It changes nothing but begins its collection, and is yet to be anchored.
    begins: bool,
    /// Its pack was made anew, and has no records.
    is_commit_only: bool,
}

impl Lane {
    /// Segments that one anchor can bring.
    fn segments_at_once(&self) -> usize {
        (SEGMENT_BYTES / AnchoredSegment::encoded_len(self.ctx.network.code)).clamp(1, MAX_ANCHOR_SEGMENTS)
    }

    /// Packs that one anchor can bring into effect: half its room, so that bodies have some too.
    fn packs_at_once(&self) -> usize {
        (self.segments_at_once() / 2).clamp(1, MAX_ANCHOR_COMMITS)
    }

    async fn anchor_all(&self, jobs: Vec<Job>) {
        let (packs, answers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let mut group = Group::new(packs);
        match self.run(&mut group).await {
            Ok(()) => {
                for (pack, answer) in group.packs.into_iter().zip(answers) {
                    // Who asked may be gone.
                    drop(answer.send(Ok(pack.results)));
                }
            }
            Err(error) => {
                for answer in answers {
                    drop(answer.send(Err(error.again())));
                }
            }
        }
    }

    async fn run(&self, group: &mut Group) -> Result<(), Error> {
        let (mut rebases, mut reason) = (0, String::new());
        while rebases < MAX_REBASES {
            let preview = self.preview(group).await?;
            self.require_class(group).await?;
            if !preview.failed.is_empty() {
                // What the index says may be old: only what the ledger's head says counts.
                if sync::collection(&self.ctx, &self.vault, &self.collection).await?.anchors == 0 {
                    self.leave_out(group, &preview.failed).await?;
                }
                rebases += 1;
                continue;
            }
            group.settle_anchored(&preview.fresh);
            if group.alive().next().is_none() {
                return Ok(());
            }
            match self.advance(group, preview).await? {
                Step::Last => return Ok(()),
                Step::Further => {}
                Step::Refused(rejection) => {
                    reason = format!(": {rejection}");
                    rebases += 1;
                }
            }
        }
        let message =
            format!("the anchor was made anew {MAX_REBASES} times, since others came first{reason}");
        Err(Error::new(ErrorKind::Unavailable, message).with_hint("try again"))
    }

    async fn preview(&self, group: &mut Group) -> Result<Preview, Error> {
        group.packs.iter_mut().for_each(|going| going.stored.complete(&self.ctx));
        let anchor = group.applied(&self.collection, None, TransactionId([0; 32]), Vec::new());
        let conditions: Vec<_> =
            group.alive().flat_map(|pack| pack.wants.iter().map(|want| want.condition)).collect();
        let index = &self.ctx.index;
        Ok(index.with(move |index| index.preview(&anchor, &conditions, RELEASES_AT_ONCE)).await?)
    }

    /// Refuses packs of another class than the collection has: a device that did not know of it made them.
    async fn require_class(&self, group: &Group) -> Result<(), Error> {
        let collection = self.collection.clone();
        let class = self.ctx.index.with(move |index| index.class(&collection)).await?;
        let Some(expected) = class.or_else(|| group.alive().next().map(|pack| pack.changes.class)) else {
            return Ok(());
        };
        match group.alive().find(|pack| pack.changes.class != expected) {
            None => Ok(()),
            Some(_) => {
                let message = format!("the collection {} was begun as {expected}", self.collection);
                Err(Error::new(ErrorKind::Refused, message)
                    .with_hint("what was put is not part of it: put it again"))
            }
        }
    }

    /// Takes changes whose conditions do not hold out of their packs: a new pack has the commit of what is left.
    async fn leave_out(&self, group: &mut Group, failed: &[(usize, ConditionFailed)]) -> Result<(), Error> {
        let mut before = 0;
        for going in &mut group.packs {
            let count = going.origins.len();
            let of_pack = failed.iter().filter(|(change, _)| (before..before + count).contains(change));
            let of_pack: Vec<_> = of_pack.map(|(change, found)| (change - before, *found)).collect();
            before += count;
            if of_pack.is_empty() {
                continue;
            }
            let (mut segments, uploads) = going.leave_out(&of_pack);
            if going.origins.is_empty() {
                segments.push(going.stored.descriptor.segment);
            } else {
                self.repack(going).await?;
            }
            self.ctx.index.with(move |index| index.give_up(&segments, &uploads)).await?;
        }
        Ok(())
    }

    /// Stores a pack that has nothing but the commit of changes whose records are in another one.
    async fn repack(&self, going: &mut Going) -> Result<(), Error> {
        if let Some(old) = going.let_go_of_pack() {
            self.ctx.index.with(move |index| index.give_up(&[old], &[])).await?;
        }
        let stored = &mut going.stored;
        let (segment, changes) = (SegmentId(random()?), stored.changes.encode());
        let (coder, pool) = (self.ctx.coder(self.ctx.network.code), self.ctx.pool.clone());
        let key = self.vault.keys.commit_key().clone();
        let job = move || {
            let mut pack = Pack::with_commit(segment, changes.len(), &pool);
            pack.commit(&key, &changes);
            pack.into_segment(&coder, &pool)
        };
        let coded = self.ctx.workers.run(job).await?;
        let coded = coded
            .map_err(|error| Error::new(ErrorKind::Internal, "a commit is too long").caused_by(error))?;
        let room = Arc::clone(&self.ctx.segments).acquire_owned().await;
        let room =
            room.map_err(|error| Error::new(ErrorKind::Internal, "the client is closed").caused_by(error))?;
        let total = self.ctx.network.code.total();
        stored.descriptor = upload(&self.ctx, coded, vec![None; total], room).await?.descriptor;
        Ok(())
    }

    /// Submits the next anchor.
    async fn advance(&self, group: &mut Group, preview: Preview) -> Result<Step, Error> {
        let Preview { head, released, fresh, .. } = preview;
        let anchor = group.applied(&self.collection, None, TransactionId([0; 32]), Vec::new());
        let mut new: Vec<&Descriptor> = Vec::new();
        for descriptor in anchor.descriptors() {
            let is_new = fresh.contains(&descriptor.segment) && !group.brought.contains(&descriptor.segment);
            if is_new && !new.iter().any(|known| known.segment == descriptor.segment) {
                new.push(descriptor);
            }
        }
        // The packs come first in that list, and must be in the last anchor.
        let is_last = new.len() <= self.segments_at_once();
        let new = if is_last { &new[..] } else { &new[new.len() - self.segments_at_once()..] };
        let segments = self.vault.anchored(new).await?;
        let ids: Vec<_> = new.iter().map(|descriptor| descriptor.segment).collect();
        let action = Action::Anchor(Anchor {
            vault: *self.vault.keys.vault(),
            collection: self.vault.keys.collection_tag(&self.collection),
            previous: head.map(|head| head.anchor),
            segments,
            released: if is_last { released.iter().copied().collect() } else { Vec::new() },
            commits: if is_last { group.commits() } else { Vec::new() },
        });
        let sequence = head.map_or(0, |head| head.sequence);
        let signed = self.vault.sign(sequence, action).await?;
        match self.vault.settle(&signed, &|text| self.ctx.notice(text)).await? {
            Verdict::Final { .. } => {
                group.brought.extend(ids);
                let released = if is_last { released.into_iter().collect() } else { Vec::new() };
                let mut applied = group.applied(&self.collection, head, signed.id(), released);
                if !is_last {
                    (applied.packs, applied.commits, applied.uploads) = Default::default();
                }
                self.apply(applied).await?;
                Ok(if is_last { Step::Last } else { Step::Further })
            }
            Verdict::Rejected(rejection) => {
                self.mend(group, &rejection).await?;
                Ok(Step::Refused(rejection))
            }
        }
    }

    async fn apply(&self, applied: AppliedAnchor) -> Result<(), Error> {
        match self.ctx.index.with(move |index| index.apply(&[applied])).await {
            // Another process of this home was faster; what it did is the same.
            Err(IndexError::OutOfOrder) => {
                sync::collection(&self.ctx, &self.vault, &self.collection).await.map(drop)
            }
            done => Ok(done?),
        }
    }

    /// Brings the index up to a head that moved. The static node that is asked may be a moment behind.
    async fn catch_up(&self) -> Result<(), Error> {
        for _ in 0..CATCH_UP_TRIES {
            if sync::collection(&self.ctx, &self.vault, &self.collection).await?.anchors > 0 {
                break;
            }
            tokio::time::sleep(BEHIND_PAUSE).await;
        }
        Ok(())
    }

    /// Does what a rejection asks for, if anything can be done.
    async fn mend(&self, group: &mut Group, rejection: &Rejection) -> Result<(), Error> {
        match rejection {
            Rejection::HeadMoved { .. } | Rejection::WrongNonce { .. } => self.catch_up().await,
            Rejection::NoSuchVault => {
                self.vault.create(&|text| self.ctx.notice(text)).await?;
                // It may have been there before: then those who said so are a moment behind.
                tokio::time::sleep(BEHIND_PAUSE).await;
                Ok(())
            }
            // A pack that is anchored already: the index is to learn of it.
            Rejection::SegmentExists { segment }
                if group.alive().any(|pack| pack.descriptor.segment == *segment) =>
            {
                self.catch_up().await
            }
            // By an earlier attempt at a record that takes several anchors.
            Rejection::SegmentExists { segment } if !group.brought.contains(segment) => {
                group.brought.push(*segment);
                Ok(())
            }
            Rejection::NoSuchSegment { segment } => {
                let (collection, segment) = (self.collection.clone(), *segment);
                Ok(self.ctx.index.with(move |index| index.not_anchored(&collection, &segment)).await?)
            }
            Rejection::Expired { .. } => Ok(()),
            other => Err(refused(other)),
        }
    }
}

impl Group {
    fn new(packs: Vec<StoredPack>) -> Self {
        let going = |stored: StoredPack| {
            let count = stored.changes.changes.len();
            let begins = count == 0;
            let (results, origins) = (vec![Ok(()); count], (0..count).collect());
            Going { stored, results, origins, begins, is_commit_only: false }
        };
        Self { packs: packs.into_iter().map(going).collect(), brought: Vec::new() }
    }

    /// A pack that the index knows as anchored was so by another client of this home, or before this one was told.
    fn settle_anchored(&mut self, fresh: &[SegmentId]) {
        for going in &mut self.packs {
            if !fresh.contains(&going.stored.descriptor.segment) {
                going.origins.clear();
                going.begins = false;
            }
        }
    }

    /// The packs of which something is left.
    fn alive(&self) -> impl Iterator<Item = &StoredPack> {
        let is_alive = |going: &&Going| going.begins || !going.origins.is_empty();
        self.packs.iter().filter(is_alive).map(|going| &going.stored)
    }

    fn commits(&self) -> Vec<PackCommit> {
        let commit = |pack: &StoredPack| {
            let leaves: Vec<_> = leaves(&pack.changes).into_iter().map(|(_, leaf)| leaf).collect();
            PackCommit::of_leaves(pack.descriptor.segment, &leaves)
        };
        self.alive().map(commit).collect()
    }

    fn applied(
        &self,
        collection: &CollectionName,
        head: Option<Head>,
        anchor: TransactionId,
        released: Vec<SegmentId>,
    ) -> AppliedAnchor {
        let commit = |pack: &StoredPack| AnchoredCommit {
            pack: pack.descriptor.segment,
            changes: Some(pack.changes.clone()),
        };
        AppliedAnchor {
            collection: collection.clone(),
            anchor,
            previous: head.map(|head| head.anchor),
            sequence: head.map_or(0, |head| head.sequence) + 1,
            packs: self.alive().map(|pack| pack.descriptor.clone()).collect(),
            commits: self.alive().map(commit).collect(),
            released,
            uploads: self.alive().flat_map(|pack| pack.wants.iter().filter_map(|want| want.upload)).collect(),
        }
    }
}

impl Going {
    /// Has another pack take the place of its own one, whose records stay where they are. Answers the pack if nothing uses it: one
    /// that was made anew before, or of whose records none is left.
    fn let_go_of_pack(&mut self) -> Option<SegmentId> {
        let records = self.stored.descriptor.clone();
        let old = records.segment;
        if std::mem::replace(&mut self.is_commit_only, true) {
            return Some(old);
        }
        let mut is_used = false;
        for change in &mut self.stored.changes.changes {
            if let What::Version { segments, .. } = &mut change.what {
                segments.push(records.clone());
                is_used = true;
            }
        }
        (!is_used).then_some(old)
    }

    /// Takes changes out; answers the segments that only they brought, and their uploads. Once a pack was made anew all of its
    /// changes have their records in the one before.
    fn leave_out(&mut self, failed: &[(usize, ConditionFailed)]) -> (Vec<SegmentId>, Vec<UploadId>) {
        let (mut segments, mut uploads) = (Vec::new(), Vec::new());
        for (at, found) in failed.iter().rev() {
            self.results[self.origins.remove(*at)] = Err(*found);
            let gone = self.stored.changes.changes.remove(*at);
            segments.extend(gone.what.segments().iter().map(|descriptor| descriptor.segment));
            uploads.extend(self.stored.wants.remove(*at).upload);
        }
        let left = &self.stored.changes.changes;
        let is_used = |segment: &SegmentId| {
            left.iter().flat_map(|change| change.what.segments()).any(|used| used.segment == *segment)
        };
        segments.retain(|segment| !is_used(segment));
        (segments, uploads)
    }
}

/// What the ledger commits to with a changeset: every version with content, in order, and the leaf that stands for it.
pub(crate) fn leaves(changes: &Changeset) -> Vec<(VersionId, LogHash)> {
    let leaf = |change: &RecordChange| match &change.what {
        What::Version { entry, .. } => match &entry.state {
            VersionState::Stored(stored) => Some((entry.version, stored.opening(entry.version).leaf())),
            VersionState::Slotted(slotted) => Some((entry.version, slotted.commitment)),
            VersionState::Deleted => None,
        },
        What::Erase(_) => None,
    };
    changes.changes.iter().filter_map(leaf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::KeyPair;
    use crate::message::anchor::AnchoredShard;
    use crate::message::{SignedTransaction, Transaction, VersionEntry};
    use crate::types::{Code, CollectionClass, CollectionTag, Hash, Height, NetworkId, Timestamp, VaultId};

    /// A pack that was made anew: three changes, whose records are all in the pack before.
    fn repacked() -> Going {
        let descriptor = |nth| Descriptor {
            segment: SegmentId([nth; 32]),
            code: Code::DEFAULT,
            len: 100,
            roots: vec![Hash([1; 32]); 6],
            holders: vec![None; 6],
        };
        let change = |nth: u8| {
            let state = VersionState::Deleted;
            let (version, created) = (VersionId([nth; 16]), Timestamp::ZERO);
            let entry = VersionEntry { version, created, state, provenance: None };
            let segments = vec![descriptor(1), descriptor(10 + nth)];
            let name = format!("record-{nth}").parse().unwrap();
            RecordChange { name, what: What::Version { entry, segments } }
        };
        let collection = "docs".parse().unwrap();
        let changes = (0..3).map(change).collect();
        let changes = Changeset { collection, changes, standalone: false, class: CollectionClass::Durable };
        let want = Want { condition: Condition::IfAbsent, upload: None };
        let stored = StoredPack { descriptor: descriptor(2), changes, wants: vec![want; 3] };
        let (results, origins) = (vec![Ok(()); 3], vec![0, 1, 2]);
        Going { stored, results, origins, begins: false, is_commit_only: true }
    }

    #[test]
    fn a_pack_that_is_made_anew_twice_leaves_no_commit_behind() {
        let of = |going: &Going| -> Vec<usize> {
            going.stored.changes.changes.iter().map(|change| change.what.segments().len()).collect()
        };
        let mut going = Going { is_commit_only: false, ..repacked() };
        let first = going.stored.descriptor.segment;
        assert_eq!(going.let_go_of_pack(), None, "it has the records");
        assert_eq!(of(&going), [3, 3, 3]);
        going.stored.descriptor.segment = SegmentId([9; 32]);
        assert_eq!(going.let_go_of_pack(), Some(SegmentId([9; 32])), "it has none");
        assert_eq!(of(&going), [3, 3, 3], "no version says that it is in it");
        assert!(
            going
                .stored
                .changes
                .changes
                .iter()
                .all(|change| { change.what.segments().iter().any(|segment| segment.segment == first) })
        );
        let mut erases = Going { is_commit_only: false, ..repacked() };
        erases
            .stored
            .changes
            .changes
            .iter_mut()
            .for_each(|change| change.what = What::Erase(VersionId([1; 16])));
        assert_eq!(erases.let_go_of_pack(), Some(first), "nothing that is left is in it");
    }

    #[test]
    fn what_changes_that_are_left_use_is_not_given_up() {
        let (mut going, failed) = (repacked(), ConditionFailed { latest: None });
        let id = |nth| SegmentId([nth; 32]);
        assert_eq!(going.leave_out(&[(1, failed)]).0, [id(11)], "the others have records in the first pack");
        assert_eq!((going.origins.clone(), going.results[1]), (vec![0, 2], Err(failed)));
        let mut gone = going.leave_out(&[(0, failed), (1, failed)]).0;
        gone.sort_unstable();
        gone.dedup();
        assert_eq!(gone, [id(1), id(10), id(12)], "now nobody has");
    }

    #[test]
    fn the_fullest_anchor_of_any_code_is_no_longer_than_a_transaction() {
        for (k, m) in [(1, 1), (4, 2), (10, 4), (20, 8)] {
            let code = Code::new(k, m).unwrap();
            let most = (SEGMENT_BYTES / AnchoredSegment::encoded_len(code)).clamp(1, MAX_ANCHOR_SEGMENTS);
            let id = |nth: usize| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&(nth as u64).to_be_bytes());
                SegmentId(id)
            };
            let shards = vec![AnchoredShard { root: Hash([1; 32]), holder: None }; code.total()];
            let segment =
                |nth| AnchoredSegment { segment: id(nth), code, len: 1 << 20, shards: shards.clone() };
            let anchor = Anchor {
                vault: VaultId([1; 32]),
                collection: CollectionTag([2; 32]),
                previous: Some(TransactionId([3; 32])),
                segments: (0..most).map(segment).collect(),
                released: (0..RELEASES_AT_ONCE).map(id).collect(),
                commits: (0..most.min(MAX_ANCHOR_COMMITS)).map(|nth| PackCommit::of(id(nth), &[])).collect(),
            };
            let key = KeyPair::from_secret(&[1; 32]);
            let (network, author) = (NetworkId([1; 32]), key.public());
            let action = Action::Anchor(anchor);
            let signed = Transaction { network, author, nonce: 1, expires: Height(9), action }.sign(&key);
            assert!(
                SignedTransaction::decode(signed.bytes()).is_ok(),
                "{code}: {} bytes",
                signed.bytes().len()
            );
            assert!(k != 4 || most >= 150, "a record of 1 GiB is one anchor");
        }
    }
}
