//! Collects small records, tails and headers into packs, and commits what a pack holds as one.
//!
//! Group commit: while packs are on their way, what comes in meanwhile gathers for the next. So many
//! writers at once share one coding, one upload and one transaction, and one writer alone waits for nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::client::access::Version;
use crate::client::access::deposit::Depositor;
use crate::client::access::shred::{self, Shredder};
use crate::client::anchorer::{Anchorer, Outcome, StoredPack, Want};
use crate::client::context::{Context, guard, random};
use crate::client::holders;
use crate::client::home_key;
use crate::client::upload::{Placed, upload};
use crate::client::vault::Vault;
use crate::client::{Ack, Condition, Error, ErrorKind, RecordAddress};
use crate::crypto::content::{ChunkHash, content_hash};
use crate::crypto::frame::{CommitKey, Dek, Stream, sealed_len};
use crate::message::access::Provenance;
use crate::message::changeset::{RecordChange, What};
use crate::message::{
    Changeset, Descriptor, Extent, Locator, RecordHeader, SlottedVersion, StoredVersion, VersionEntry,
    VersionState,
};
use crate::runtime::wall_time;
use crate::store::index::{Commit, ConditionFailed, UploadId};
use crate::stripe::layout::SegmentLenError;
use crate::transfer::Pack;
use crate::transfer::seal::CodedSegment;
use crate::types::limits::{MAX_CACHED_EXTENTS, PACK_LINGER_MICROS, PACK_MAX_RECORDS, PACK_TARGET_LEN};
use crate::types::{CollectionClass, CollectionName, RecordName, SegmentId, Timestamp, VersionId};

/// Packs on their way at once: one is sent while the next is coded.
const PACKS_IN_FLIGHT: usize = 2;
/// Items that may wait; each is at most a chunk.
const QUEUE_LEN: usize = 256;

/// A change of a record on its way into a pack.
pub(crate) struct Item {
    pub(crate) at: RecordAddress,
    pub(crate) condition: Condition,
    pub(crate) ack: Ack,
    pub(crate) what: ItemKind,
}

pub(crate) enum ItemKind {
    /// New content.
    Record(Box<NewRecord>),
    /// A version whose content is stored already, or a marker of a removal.
    Version(Box<VersionEntry>, Vec<Descriptor>),
    /// A version is erased.
    Erase(VersionId),
}

/// The last part of a put: what goes into a pack, and the version that is then complete.
pub(crate) struct NewRecord {
    /// Complete but for the extent of `tail` and the content hash.
    pub(crate) header: RecordHeader,
    pub(crate) dek: Dek,
    /// What is left of the body, and its padded length.
    pub(crate) tail: Option<(Bytes, usize)>,
    /// The segments of the body so far.
    pub(crate) segments: Vec<Descriptor>,
    /// The hashes of its chunks so far.
    pub(crate) hashes: Vec<ChunkHash>,
    pub(crate) upload: Option<UploadId>,
    pub(crate) provenance: Option<Provenance>,
    pub(crate) salts: [[u8; 16]; 2],
}

/// Bytes that a change takes in a pack besides its content: header, and its part of the commit.
const ITEM_OVERHEAD: usize = 1_024;

impl Item {
    fn len(&self) -> usize {
        let content = match &self.what {
            ItemKind::Record(record) => record.tail.as_ref().map_or(0, |(_, padded)| *padded),
            ItemKind::Version(..) | ItemKind::Erase(_) => 0,
        };
        content + ITEM_OVERHEAD
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({})", self.at)
    }
}

type Answer = oneshot::Sender<Result<Placed, Error>>;

/// Hands items to the packers, one for each collection and way to acknowledge; the last handle that is dropped ends
/// them.
#[derive(Debug, Clone)]
pub(crate) struct Packer {
    ctx: Arc<Context>,
    lanes: Arc<Mutex<Lanes>>,
    /// Who brings packs into a vault that is not its own.
    depositor: Option<Arc<Depositor>>,
}

#[derive(Debug, Default)]
struct Lanes {
    packers: BTreeMap<(CollectionName, Ack), mpsc::Sender<(Item, Answer)>>,
    anchorers: BTreeMap<CollectionName, Anchorer>,
}

impl Packer {
    pub(crate) fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, lanes: Arc::default(), depositor: None }
    }

    /// Has packs deposited, each under a key of its own, instead of committed.
    pub(crate) fn of_depositor(ctx: Arc<Context>, depositor: Depositor) -> Self {
        Self { depositor: Some(Arc::new(depositor)), ..Self::new(ctx) }
    }

    /// Packs, stores and commits an item. When it returns `Ok` the change is durable, and final where there is a ledger.
    pub(crate) async fn commit(&self, item: Item) -> Result<Placed, Error> {
        let gone = || Error::new(ErrorKind::Internal, "the packer is gone");
        let (answer, answered) = oneshot::channel();
        let lane = self.lane(&item.at.collection, item.ack);
        lane.send((item, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn lane(&self, collection: &CollectionName, ack: Ack) -> mpsc::Sender<(Item, Answer)> {
        let key = (collection.clone(), ack);
        let mut lanes = guard(&self.lanes);
        if let Some(lane) = lanes.packers.get(&key) {
            return lane.clone();
        }
        let end = match (&self.depositor, &self.ctx.vault) {
            (Some(depositor), _) => End::Deposited(Arc::clone(depositor)),
            (None, Some(vault)) => End::Anchored(lanes.anchorer(&self.ctx, vault, collection)),
            (None, None) => End::Local,
        };
        let (items, queue) = mpsc::channel(QUEUE_LEN);
        lanes.packers.insert(key, items.clone());
        let (ctx, collection) = (Arc::clone(&self.ctx), collection.clone());
        tokio::spawn(run(Lane { ctx, collection, ack, end }, queue));
        items
    }

    /// Anchors what was stored and is not anchored, by this client or one before it.
    pub(crate) async fn resume(&self) -> Result<(), Error> {
        let pending = self.ctx.index.with(|index| index.pending_anchors()).await?;
        let pack = |(descriptor, changes)| StoredPack::unconditional(descriptor, changes);
        self.anchor_all(pending.into_iter().map(pack).collect()).await
    }

    /// Anchors packs that are stored.
    pub(crate) async fn anchor_all(&self, packs: Vec<StoredPack>) -> Result<(), Error> {
        let Some(vault) = &self.ctx.vault else { return Ok(()) };
        let mut anchoring = JoinSet::new();
        for pack in packs {
            let anchorer = guard(&self.lanes).anchorer(&self.ctx, vault, &pack.changes.collection);
            // In this order: a collection's anchorer takes them as they come.
            let queued = anchorer.queue(pack).await?;
            anchoring.spawn(queued);
        }
        while let Some(done) = anchoring.join_next().await {
            done.map_err(|error| Error::new(ErrorKind::Internal, "anchoring panicked").caused_by(error))??;
        }
        Ok(())
    }
}

impl Lanes {
    fn anchorer(&mut self, ctx: &Arc<Context>, vault: &Arc<Vault>, collection: &CollectionName) -> Anchorer {
        let start = || Anchorer::start(Arc::clone(ctx), Arc::clone(vault), collection.clone());
        self.anchorers.entry(collection.clone()).or_insert_with(start).clone()
    }
}

/// What packs the items of one collection.
#[derive(Clone)]
struct Lane {
    ctx: Arc<Context>,
    collection: CollectionName,
    ack: Ack,
    end: End,
}

/// What brings a pack into effect.
#[derive(Clone)]
enum End {
    /// The local index: the network has no ledger.
    Local,
    /// An anchor of the vault's own.
    Anchored(Anchorer),
    /// A deposit in the vault of somebody else, who takes it in.
    Deposited(Arc<Depositor>),
}

async fn run(lane: Lane, mut queue: mpsc::Receiver<(Item, Answer)>) {
    let in_flight = Arc::new(Semaphore::new(PACKS_IN_FLIGHT));
    while let Some(first) = queue.recv().await {
        let alone = in_flight.available_permits() == PACKS_IN_FLIGHT && queue.is_empty();
        let mut batch = vec![first];
        let mut bytes = batch[0].0.len();
        // The semaphore is never closed.
        let mut permit = std::pin::pin!(Arc::clone(&in_flight).acquire_owned());
        let linger = if alone { Duration::ZERO } else { Duration::from_micros(PACK_LINGER_MICROS) };
        let mut linger = std::pin::pin!(tokio::time::sleep(linger));
        let mut held: Option<OwnedSemaphorePermit> = None;
        let mut over = false;
        while batch.len() < PACK_MAX_RECORDS && bytes < PACK_TARGET_LEN && !(over && held.is_some()) {
            tokio::select! {
                biased;
                Some(next) = queue.recv() => {
                    bytes += next.0.len();
                    batch.push(next);
                }
                taken = &mut permit, if held.is_none() => held = taken.ok(),
                () = &mut linger, if !over => over = true,
            }
        }
        let held = match held {
            Some(held) => Some(held),
            None => permit.await.ok(),
        };
        let Some(held) = held else { return };
        let lane = lane.clone();
        tokio::spawn(async move { lane.flush(batch, held).await });
    }
}

impl Lane {
    /// Stores a pack and commits its changes; then everybody is told.
    async fn flush(&self, batch: Vec<(Item, Answer)>, room: OwnedSemaphorePermit) {
        let (items, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        match self.store(items, room).await {
            Ok(results) => {
                for (result, answer) in results.into_iter().zip(answers) {
                    // Who asked may be gone.
                    drop(answer.send(result));
                }
            }
            Err(error) => {
                for answer in answers {
                    drop(answer.send(Err(error.again())));
                }
            }
        }
    }

    async fn store(
        &self,
        items: Vec<Item>,
        room: OwnedSemaphorePermit,
    ) -> Result<Vec<Result<Placed, Error>>, Error> {
        let ctx = &self.ctx;
        let class = shred::class_of(ctx, &self.collection).await?;
        let shredder = class.is_shreddable().then(|| Shredder::new(ctx)).transpose()?;
        let dealing = match &shredder {
            Some(shredder) => Some(shredder.dealing().await?),
            None => None,
        };
        let key_generation = ctx.vault.as_ref().map_or(0, |vault| vault.keys.generation());
        let of = dealing.map(|dealing| (dealing, key_generation));
        let commit_key = match &self.end {
            End::Local => None,
            End::Anchored(_) => ctx.vault.as_ref().map(|vault| vault.keys.commit_key().clone()),
            End::Deposited(_) => Some(CommitKey::from_bytes(random()?)),
        };
        let (packed, slots, coded) = self.pack(items, of, commit_key.clone()).await?;
        let total = ctx.network.code.total();
        // If we crash here or before the commit, nodes hold a pack that nothing names; nobody was told of it.
        let placed = upload(ctx, coded, vec![None; total], room).await?;
        let mut segments = vec![placed.descriptor.segment];
        segments.extend(packed.segments());
        let versions: Vec<_> =
            packed.0.iter().map(|(change, _)| (change.name.clone(), change.what.version())).collect();
        if let (Some(shredder), Some(dealing)) = (&shredder, dealing) {
            self.keep_slots(shredder, dealing, slots, &packed).await?;
        }
        let committed = match (&self.end, &commit_key) {
            (End::Deposited(depositor), Some(key)) => {
                deposit(ctx, depositor, key, packed, &placed.descriptor).await?
            }
            (End::Anchored(anchorer), _) => {
                let (mut changes, wants) = packed.into_changeset(self.collection.clone(), class);
                changes.standalone = self.ack == Ack::Stored;
                let pack = StoredPack { descriptor: placed.descriptor.clone(), changes, wants };
                match self.ack {
                    Ack::Anchored => anchorer.anchor(pack).await?,
                    Ack::Stored | Ack::Staged => self.anchor_later(anchorer, pack).await?,
                }
            }
            _ => commit_locally(ctx, &self.collection, packed, &placed.descriptor).await?,
        };
        if let Some(shredder) = shredder {
            self.drop_slots(shredder, versions, &committed);
        }
        // Receipts that came before the index knew the segments.
        for late in segments.iter().filter_map(|segment| ctx.late(segment)) {
            if let Err(error) = holders::write(ctx, late).await {
                tracing::warn!(%error, "could not note where the last shards of a segment are");
            }
        }
        let answer = |result: Result<(), _>| result.map(|()| placed.clone()).map_err(condition_failed);
        Ok(committed.into_iter().map(answer).collect())
    }

    /// Commits a pack in the index, and has it anchored while nobody waits.
    async fn anchor_later(&self, anchorer: &Anchorer, mut pack: StoredPack) -> Outcome {
        pack.complete(&self.ctx);
        let (descriptor, changes) = (pack.descriptor.clone(), pack.changes.clone());
        let uploads: Vec<_> = pack.wants.iter().filter_map(|want| want.upload).collect();
        self.ctx.index.with(move |index| index.store(&descriptor, &changes, &uploads)).await?;
        let (count, ctx, anchorer) = (pack.wants.len(), Arc::clone(&self.ctx), anchorer.clone());
        self.ctx.in_background_resumable(async move {
            // If it fails, or we crash, the next client of this home anchors it.
            if let Err(error) = anchorer.anchor(pack).await {
                ctx.notice(&format!("stored and not anchored yet: {error}"));
            }
        });
        Ok(vec![Ok(()); count])
    }

    /// Has the keyslots of a pack's versions kept, before anything names the versions.
    async fn keep_slots(
        &self,
        shredder: &Shredder,
        dealing: u32,
        slots: Vec<NewSlot>,
        packed: &Packed,
    ) -> Result<(), Error> {
        // From here on an upload is not taken up any more: it would be a version of its own, with a keyslot of its own for the
        // same data key, which nobody would know to erase.
        let uploads: Vec<_> = packed.0.iter().filter_map(|(_, want)| want.upload).collect();
        if !uploads.is_empty() {
            let forgotten = uploads.clone();
            self.ctx.index.with(move |index| index.forget_uploads(&forgotten)).await?;
            uploads.iter().try_for_each(|upload| home_key::destroy(&self.ctx.home, upload))?;
        }
        let collection = &self.collection;
        let versions: Vec<_> = slots.into_iter().map(|slot| slot.of(collection.clone())).collect();
        shredder.keep(dealing, &versions).await
    }

    /// Has the keyslots of versions deleted, while nobody waits, whose conditions did not hold.
    fn drop_slots(
        &self,
        shredder: Shredder,
        versions: Vec<(RecordName, Option<VersionId>)>,
        committed: &[Result<(), ConditionFailed>],
    ) {
        let failed = versions.into_iter().zip(committed).filter(|(_, result)| result.is_err());
        let failed: Vec<_> = failed.filter_map(|((name, version), _)| Some((name, version?))).collect();
        if failed.is_empty() {
            return;
        }
        let collection = self.collection.clone();
        self.ctx.in_background(async move {
            for (name, version) in failed {
                let at = RecordAddress { collection: collection.clone(), name };
                if let Err(error) = shredder.drop_slots(&at, version).await {
                    tracing::warn!(%error, "a keyslot of a version that did not come to be stays");
                }
            }
        });
    }

    /// Packs items, and seals their commit if there is a `key`; under `of` are the keyslots of a shreddable collection's versions.
    async fn pack(
        &self,
        items: Vec<Item>,
        of: Option<(u32, u32)>,
        key: Option<CommitKey>,
    ) -> Result<(Packed, Vec<NewSlot>, CodedSegment), Error> {
        let segment = SegmentId(random()?);
        let (coder, pool) = (self.ctx.coder(self.ctx.network.code), self.ctx.pool.clone());
        let (collection, standalone) = (self.collection.clone(), self.ack == Ack::Stored);
        let class = match of {
            Some(_) => CollectionClass::Shreddable,
            None => CollectionClass::Durable,
        };
        let job = move || -> Result<(Packed, Vec<NewSlot>, CodedSegment), SegmentLenError> {
            let expected = items.iter().map(Item::len).sum();
            let mut pack = Pack::with_commit(segment, expected, &pool);
            let mut slots = Vec::new();
            let one = |item| pack_one(&mut pack, item, of, &mut slots);
            let mut packed = Packed(items.into_iter().map(one).collect());
            if let Some(key) = key {
                let (mut changes, wants) = packed.into_changeset(collection, class);
                changes.standalone = standalone;
                pack.commit(&key, &changes.encode());
                packed = Packed(changes.changes.into_iter().zip(wants).collect());
            }
            Ok((packed, slots, pack.into_segment(&coder, &pool)?))
        };
        let packed = self.ctx.workers.run(job).await?;
        packed.map_err(|error| Error::new(ErrorKind::Internal, "a pack became too long").caused_by(error))
    }
}

/// A version whose data key is to be in a keyslot alone.
struct NewSlot {
    name: RecordName,
    version: VersionId,
    created: Timestamp,
    stored: StoredVersion,
}

impl NewSlot {
    fn of(self, collection: CollectionName) -> Version {
        let Self { name, version, created, stored } = self;
        Version { collection, name, version, created, stored }
    }
}

/// The changes of a pack.
struct Packed(Vec<(RecordChange, Want)>);

impl Packed {
    fn into_changeset(self, collection: CollectionName, class: CollectionClass) -> (Changeset, Vec<Want>) {
        let (changes, wants) = self.0.into_iter().unzip();
        (Changeset { collection, changes, standalone: false, class }, wants)
    }

    /// The segments that the changes bring besides the pack.
    fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.0.iter().flat_map(|(change, _)| change.what.segments()).map(|descriptor| descriptor.segment)
    }
}

/// Brings a pack into the vault of somebody else.
async fn deposit(
    ctx: &Context,
    depositor: &Depositor,
    key: &CommitKey,
    packed: Packed,
    pack: &Descriptor,
) -> Outcome {
    let (count, uploads) = (packed.0.len(), packed.0.iter().filter_map(|(_, want)| want.upload));
    let uploads: Vec<_> = uploads.collect();
    let mut bodies: Vec<Descriptor> =
        packed.0.iter().flat_map(|(change, _)| change.what.segments()).cloned().collect();
    let mut pack = pack.clone();
    bodies.iter_mut().chain([&mut pack]).for_each(|descriptor| ctx.complete(descriptor));
    depositor.deposit(ctx, key, bodies, &pack).await?;
    // If we crash here the upload is taken up again, and found to be deposited.
    ctx.index.with(move |index| index.forget_uploads(&uploads)).await?;
    Ok(vec![Ok(()); count])
}

/// Commits the changes of a pack where no ledger does.
async fn commit_locally(
    ctx: &Context,
    collection: &CollectionName,
    packed: Packed,
    pack: &Descriptor,
) -> Result<Vec<Result<(), ConditionFailed>>, Error> {
    let mut commits = Vec::new();
    for (change, want) in packed.0 {
        let name = change.name;
        match change.what {
            What::Version { entry, mut segments } => {
                if commits.is_empty() {
                    segments.push(pack.clone());
                }
                segments.iter_mut().for_each(|descriptor| ctx.complete(descriptor));
                let (collection, Want { condition, upload }) = (collection.clone(), want);
                commits.push(Commit { collection, name, entry, condition, segments, upload });
            }
            What::Erase(_) => unreachable!("without a ledger the index erases by itself"),
        }
    }
    Ok(ctx.index.commit(commits).await?)
}

pub(crate) fn condition_failed(failed: ConditionFailed) -> Error {
    let message = match failed.latest {
        Some(version) => format!("the record exists, its latest version is {version}"),
        None => "the record does not exist".to_owned(),
    };
    Error::new(ErrorKind::Refused, message)
}

/// Seals an item into the pack, if it has something to seal. With a dealing and a generation of the
/// vault's keys the version's data key goes into `slots` and not
/// into the change.
fn pack_one(
    pack: &mut Pack,
    item: Item,
    of: Option<(u32, u32)>,
    slots: &mut Vec<NewSlot>,
) -> (RecordChange, Want) {
    let Item { at, condition, what, .. } = item;
    let mut upload = None;
    let what = match what {
        ItemKind::Record(record) => {
            upload = record.upload;
            let (mut entry, segments) = pack_record(pack, *record);
            if let (Some(of), VersionState::Stored(stored)) = (of, entry.state.clone()) {
                entry.state = VersionState::Slotted(SlottedVersion::of(stored.clone(), entry.version, of));
                let (name, version, created) = (at.name.clone(), entry.version, entry.created);
                slots.push(NewSlot { name, version, created, stored });
            }
            What::Version { entry, segments }
        }
        ItemKind::Version(entry, segments) => What::Version { entry: *entry, segments },
        ItemKind::Erase(version) => What::Erase(version),
    };
    (RecordChange { name: at.name, what }, Want { condition, upload })
}

/// Seals a record into the pack: its tail, then its header.
fn pack_record(pack: &mut Pack, record: NewRecord) -> (VersionEntry, Vec<Descriptor>) {
    let NewRecord {
        mut header,
        dek,
        tail,
        segments,
        mut hashes,
        provenance,
        salts: [tail_salt, header_salt],
        ..
    } = record;
    let version = header.version;
    if let Some((plain, padded)) = tail {
        let offset = pack.append(&dek.frame_key(&version, Stream::Body, &tail_salt), &plain, padded);
        let extent = Extent { segment: pack.segment(), offset, plain_len: padded as u64, salt: tail_salt };
        header.extents.push(extent);
        // A last chunk that is nothing but padding is no part of the content.
        if !plain.is_empty() {
            hashes.push(ChunkHash::of(hashes.len() as u64, [&plain[..]]));
        }
    }
    header.content = content_hash(&hashes);
    let plain = header.encode();
    let offset = pack.append(&dek.frame_key(&version, Stream::Header, &header_salt), &plain, plain.len());
    let len = u32::try_from(sealed_len(plain.len() as u64)).unwrap_or(u32::MAX);
    let locator = Locator { segment: pack.segment(), offset, len, salt: header_salt };
    let state = stored(header, dek, locator);
    (VersionEntry { version, created: wall_time(), state, provenance }, segments)
}

fn stored(header: RecordHeader, dek: Dek, locator: Locator) -> VersionState {
    let dek_commit = dek.commit(&header.version);
    let cached = header.extents.len() <= MAX_CACHED_EXTENTS;
    VersionState::Stored(StoredVersion {
        size: header.size,
        content_version: header.version,
        dek,
        dek_commit,
        header: locator,
        extents: if cached { header.extents } else { Vec::new() },
        content_type: header.content_type,
        modified: header.modified,
        content: header.content,
    })
}

/// A version id of now.
pub(crate) fn new_version() -> Result<VersionId, Error> {
    Ok(VersionId::new(wall_time(), random()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::frame::DekCommit;
    use crate::crypto::sign::KeyPair;
    use crate::net::Peers;
    use crate::store::SharedIndex;
    use crate::types::{Code, Hash, Network, NetworkId, VaultId};

    /// A client that reaches nobody.
    fn context(dir: &std::path::Path) -> Arc<Context> {
        let key = KeyPair::from_secret(&[1; 32]);
        let network =
            Network { id: NetworkId([1; 32]), code: Code::DEFAULT, genesis: None, nodes: Vec::new() };
        let (peers, index) = (Peers::new(&network, &key), SharedIndex::new(dir, &[2; 32]).unwrap());
        Arc::new(Context::new(dir.to_owned(), network, VaultId([3; 32]), peers, index, None))
    }

    fn version(pack: SegmentId) -> VersionEntry {
        let id = VersionId([3; 16]);
        let state = VersionState::Stored(StoredVersion {
            size: 0,
            content_version: id,
            dek: Dek::from_bytes([4; 32]),
            dek_commit: DekCommit([5; 32]),
            header: Locator { segment: pack, offset: 0, len: 80, salt: [6; 16] },
            extents: Vec::new(),
            content_type: None,
            modified: None,
            content: Hash([7; 32]),
        });
        VersionEntry { version: id, created: wall_time(), state, provenance: None }
    }

    #[tokio::test]
    async fn a_receipt_that_came_before_the_commit_is_in_the_index_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(dir.path());
        let holder = |index: u8| Some(KeyPair::from_secret(&[10 + index; 32]).public());
        let mut whole = Descriptor {
            segment: SegmentId([8; 32]),
            code: Code::DEFAULT,
            len: 1_000,
            roots: vec![Hash([9; 32]); 6],
            holders: (0..6).map(holder).collect(),
        };
        let all = whole.clone();
        // The upload reported five receipts; the sixth comes while the commit is made.
        whole.holders[5] = None;
        ctx.note_late(&all);
        let what = What::Version { entry: version(whole.segment), segments: Vec::new() };
        let change = RecordChange { name: "x".parse().unwrap(), what };
        let want = Want { condition: Condition::Any, upload: None };
        let committed =
            commit_locally(&ctx, &"c".parse().unwrap(), Packed(vec![(change, want)]), &whole).await;
        assert_eq!(committed.unwrap(), [Ok(())]);
        let segment = whole.segment;
        let known = ctx.index.with(move |index| index.descriptor(&segment)).await.unwrap().unwrap();
        assert_eq!(known, all);
    }
}
