//! Collects small records, tails and headers into packs, and commits what a pack holds as one.
//!
//! Group commit: while packs are on their way, what comes in meanwhile gathers for the next. So many
//! writers at once share one coding, one upload and one transaction, and one writer alone waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::client::context::{Context, random};
use crate::client::holders;
use crate::client::upload::{Placed, upload};
use crate::client::{Condition, Error, ErrorKind, RecordAddress};
use crate::crypto::frame::{Dek, Stream, sealed_len};
use crate::message::{Descriptor, Extent, Locator, RecordHeader, StoredVersion, VersionEntry, VersionState};
use crate::runtime::wall_time;
use crate::store::index::{Commit, UploadId};
use crate::stripe::layout::SegmentLenError;
use crate::transfer::Pack;
use crate::transfer::seal::CodedSegment;
use crate::types::limits::{MAX_CACHED_EXTENTS, PACK_LINGER_MICROS, PACK_MAX_RECORDS, PACK_TARGET_LEN};
use crate::types::{SegmentId, VersionId};

/// Packs on their way at once: one is sent while the next is coded.
const PACKS_IN_FLIGHT: usize = 2;
/// Items that may wait; each is at most a chunk.
const QUEUE_LEN: usize = 256;

/// The last part of a put: what goes into a pack, and the version that is then complete.
pub(crate) struct Item {
    pub(crate) at: RecordAddress,
    /// Complete but for the extent of `tail`.
    pub(crate) header: RecordHeader,
    pub(crate) dek: Dek,
    pub(crate) condition: Condition,
    /// What is left of the body, and its padded length.
    pub(crate) tail: Option<(Bytes, usize)>,
    /// The segments of the body so far.
    pub(crate) segments: Vec<Descriptor>,
    pub(crate) upload: Option<UploadId>,
    pub(crate) salts: [[u8; 16]; 2],
}

impl Item {
    fn len(&self) -> usize {
        self.tail.as_ref().map_or(0, |(_, padded)| *padded) + 512
    }
}

type Answer = oneshot::Sender<Result<Placed, Error>>;

/// Hands items to the packer; the last handle that is dropped ends it.
#[derive(Debug, Clone)]
pub(crate) struct Packer(mpsc::Sender<(Item, Answer)>);

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({})", self.header.version)
    }
}

impl Packer {
    pub(crate) fn start(ctx: Arc<Context>) -> Self {
        let (items, queue) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(run(ctx, queue));
        Self(items)
    }

    /// Packs, stores and commits an item. When it returns `Ok` the version is durable.
    pub(crate) async fn commit(&self, item: Item) -> Result<Placed, Error> {
        let gone = || Error::new(ErrorKind::Internal, "the packer is gone");
        let (answer, answered) = oneshot::channel();
        self.0.send((item, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn run(ctx: Arc<Context>, mut queue: mpsc::Receiver<(Item, Answer)>) {
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
        let ctx = Arc::clone(&ctx);
        tokio::spawn(async move { flush(&ctx, batch, held).await });
    }
}

/// Stores a pack and commits its records; then everybody is told.
async fn flush(ctx: &Arc<Context>, batch: Vec<(Item, Answer)>, room: OwnedSemaphorePermit) {
    let (items, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    match store(ctx, items, room).await {
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
    ctx: &Arc<Context>,
    items: Vec<Item>,
    room: OwnedSemaphorePermit,
) -> Result<Vec<Result<Placed, Error>>, Error> {
    let segment = SegmentId(random()?);
    let (coder, pool) = (ctx.coder(ctx.network.code), ctx.pool.clone());
    let job = move || -> Result<(CodedSegment, Vec<Commit>), SegmentLenError> {
        let expected = items.iter().map(Item::len).sum();
        let mut pack = Pack::new(segment, expected, &pool);
        let commits = items.into_iter().map(|item| pack_one(&mut pack, item)).collect();
        Ok((pack.into_segment(&coder, &pool)?, commits))
    };
    let packed = ctx.workers.run(job).await?;
    let (coded, mut commits) =
        packed.map_err(|error| Error::new(ErrorKind::Internal, "a pack became too long").caused_by(error))?;
    let total = ctx.network.code.total();
    // If we crash here or before the commit, nodes hold a pack that no index knows; nobody was told of it.
    let placed = upload(ctx, coded, vec![None; total], room).await?;
    if let Some(first) = commits.first_mut() {
        first.segments.push(placed.descriptor.clone());
    }
    let mut segments = Vec::new();
    for descriptor in commits.iter_mut().flat_map(|commit| &mut commit.segments) {
        ctx.complete(descriptor);
        segments.push(descriptor.segment);
    }
    let committed = ctx.index.commit(commits).await?;
    // Receipts that came before the index knew the segments.
    for late in segments.iter().filter_map(|segment| ctx.late(segment)) {
        if let Err(error) = holders::write(ctx, late).await {
            tracing::warn!(%error, "could not note where the last shards of a segment are");
        }
    }
    let answer = |result: Result<(), _>| result.map(|()| placed.clone()).map_err(condition_failed);
    Ok(committed.into_iter().map(answer).collect())
}

fn condition_failed(failed: crate::store::index::ConditionFailed) -> Error {
    let message = match failed.latest {
        Some(version) => format!("the record exists, its latest version is {version}"),
        None => "the record does not exist".to_owned(),
    };
    Error::new(ErrorKind::Refused, message).caused_by(failed)
}

/// Seals an item into the pack: its tail, then its header.
fn pack_one(pack: &mut Pack, item: Item) -> Commit {
    let Item { at, mut header, dek, condition, tail, segments, upload, salts: [tail_salt, header_salt] } =
        item;
    let version = header.version;
    if let Some((plain, padded)) = tail {
        let offset = pack.append(&dek.frame_key(&version, Stream::Body, &tail_salt), &plain, padded);
        let extent = Extent { segment: pack.segment(), offset, plain_len: padded as u64, salt: tail_salt };
        header.extents.push(extent);
    }
    let plain = header.encode();
    let offset = pack.append(&dek.frame_key(&version, Stream::Header, &header_salt), &plain, plain.len());
    let len = u32::try_from(sealed_len(plain.len() as u64)).unwrap_or(u32::MAX);
    let locator = Locator { segment: pack.segment(), offset, len, salt: header_salt };
    let entry = VersionEntry { version, created: wall_time(), state: stored(header, dek, locator) };
    Commit { collection: at.collection, name: at.name, entry, condition, segments, upload }
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
    })
}

/// A version id of now.
pub(crate) fn new_version() -> Result<VersionId, Error> {
    Ok(VersionId::new(wall_time(), random()?))
}
