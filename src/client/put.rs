//! Putting a record: cut, seal, place, and commit at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::client::access::shred;
use crate::client::context::{Context, random};
use crate::client::holders;
use crate::client::home_key;
use crate::client::packer::{Item, ItemKind, NewRecord, Packer, new_version};
use crate::client::source::{self, Opened, Sized};
use crate::client::upload::{Placed, upload};
use crate::client::{
    Ack, Condition, Error, ErrorKind, NodeTrouble, Progress, PutOptions, PutReport, RecordAddress, Source,
    TroubleKind,
};
use crate::crypto::content::ChunkHash;
use crate::crypto::frame::{Dek, Stream, plain_ranges};
use crate::crypto::hash::{Context as HashContext, derive_key};
use crate::crypto::padme::padded_len;
use crate::message::access::Provenance;
use crate::message::{Extent, RecordHeader, ShardRef};
use crate::runtime::wall_time;
use crate::store::index::{JournaledChunk, UploadId, UploadRow};
use crate::transfer::seal::{Chunk, CodedSegment};
use crate::types::limits::{BODY_SEGMENT_PLAIN_LEN, MAX_METADATA_LEN, PACK_CHUNK_MAX_LEN};
use crate::types::{CollectionClass, Hash, PublicKey, SegmentId, VersionId};

const CHUNK: u64 = BODY_SEGMENT_PLAIN_LEN as u64;

/// Refuses what no put can be.
pub(crate) fn check(options: &PutOptions) -> Result<(), Error> {
    let metadata_len: usize = options.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata_len > MAX_METADATA_LEN {
        let message =
            format!("{metadata_len} bytes of metadata are too many: at most {MAX_METADATA_LEN} are allowed");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    if options.ack < Ack::Anchored && options.condition != Condition::Any {
        let message =
            "a put with a condition is done when it is anchored: the ledger decides on the condition";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

/// What of a new version is given already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given {
    /// Its id.
    pub(crate) version: Option<VersionId>,
    /// Who brought it.
    pub(crate) provenance: Option<Provenance>,
}

/// Puts a record.
pub(crate) async fn put(
    ctx: &Arc<Context>,
    packer: &Packer,
    at: &RecordAddress,
    source: Source,
    options: PutOptions,
    given: Given,
) -> Result<PutReport, Error> {
    check(&options)?;
    let class = shred::class_of(ctx, &at.collection).await?;
    let resumable = match &source {
        Source::File(path) => Some(path.clone()),
        Source::Bytes(_) | Source::Reader(_) => None,
    };
    match source::open(source, &ctx.workers).await? {
        Opened::Small(bytes) => put_small(ctx, packer, at, bytes, options, given).await,
        Opened::Sized(sized) => {
            let (id, lock) = match resumable {
                Some(path) => claim(ctx, file_upload_id(ctx, at, &path, &sized)?)?,
                None => (UploadId(random()?), None),
            };
            let mut body = Body::begin(ctx, id, lock, given, class, &options.progress).await?;
            options.progress.expect_bytes(sized.len());
            body.send_sized(&sized).await?;
            let len = sized.len();
            body.finish(packer, at, len, options).await
        }
        Opened::Stream(start, reader) => {
            let mut body =
                Body::begin(ctx, UploadId(random()?), None, given, class, &options.progress).await?;
            let len = body.send_stream(start, reader).await?;
            body.finish(packer, at, len, options).await
        }
    }
}

async fn put_small(
    ctx: &Context,
    packer: &Packer,
    at: &RecordAddress,
    bytes: Bytes,
    options: PutOptions,
    given: Given,
) -> Result<PutReport, Error> {
    let size = bytes.len() as u64;
    let (version, dek) = (given.version.map_or_else(new_version, Ok)?, Dek::from_bytes(random()?));
    let padded = usize::try_from(padded_len(size)).unwrap_or(bytes.len());
    let tail = (size > 0).then_some((bytes, padded));
    let progress = options.progress.clone();
    progress.expect_bytes(size);
    let (condition, ack) = (options.condition, options.ack);
    let record =
        NewRecord { tail, provenance: given.provenance, ..new_record(at, options, version, dek, size)? };
    let placed =
        packer.commit(Item { at: at.clone(), condition, ack, what: ItemKind::Record(record.into()) }).await?;
    progress.add(size);
    Ok(report(ctx, (version, size, 0), vec![placed]))
}

fn new_record(
    at: &RecordAddress,
    options: PutOptions,
    version: VersionId,
    dek: Dek,
    size: u64,
) -> Result<NewRecord, Error> {
    let header = RecordHeader {
        name: at.name.clone(),
        version,
        size,
        content_type: options.content_type,
        modified: options.modified,
        metadata: options.metadata,
        extents: Vec::new(),
        // Known once it is packed.
        content: Hash([0; 32]),
    };
    let (salts, segments, hashes) = ([random()?, random()?], Vec::new(), Vec::new());
    let (tail, upload, provenance) = (None, None, None);
    Ok(NewRecord { header, dek, tail, segments, hashes, upload, provenance, salts })
}

fn report(
    ctx: &Context,
    (version, size, resumed_bytes): (VersionId, u64, u64),
    segments: Vec<Placed>,
) -> PutReport {
    let mut report = PutReport { resumed_bytes, ..PutReport::new(version, size) };
    let mut troubles = BTreeMap::<PublicKey, TroubleKind>::new();
    for mut placed in segments {
        ctx.complete(&mut placed.descriptor);
        let holders = &placed.descriptor.holders;
        let (held, total) = (holders.iter().flatten().count(), holders.len());
        let distinct = holders.iter().flatten().collect::<BTreeSet<_>>().len();
        report.shards_held += held;
        report.shards_total += total;
        report.shards_doubled += held - distinct;
        if distinct < total {
            report.degraded = true;
            let still = |(node, _): &(PublicKey, TroubleKind)| !holders.contains(&Some(*node));
            troubles.extend(placed.troubles.into_iter().filter(still));
        }
    }
    let named = troubles.into_iter().map(|(node, kind)| NodeTrouble { node: ctx.node_name(&node), kind });
    report.troubles = named.collect();
    report.troubles.sort();
    report
}

/// The same file put to the same name is the same upload.
fn file_upload_id(ctx: &Context, at: &RecordAddress, path: &Path, file: &Sized) -> Result<UploadId, Error> {
    let read_error = |error| source::read_error(&path.display().to_string(), error);
    let path = path.canonicalize().map_err(read_error)?;
    let modified = path.metadata().and_then(|meta| meta.modified()).map_err(read_error)?;
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut id = [0; 32];
    let parts: [&[u8]; 6] = [
        ctx.vault_id.as_bytes(),
        at.collection.as_str().as_bytes(),
        at.name.as_str().as_bytes(),
        path.as_os_str().as_encoded_bytes(),
        &file.len().to_le_bytes(),
        &modified.as_nanos().to_le_bytes(),
    ];
    derive_key(HashContext::UploadId, &parts, &mut id);
    Ok(UploadId(id))
}

/// Held while an upload that can resume is under way, so that no other process takes it up meanwhile.
struct UploadLock {
    _file: File,
    path: PathBuf,
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        // Another process may hold the next file of this name by now; a leftover does no harm.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Claims an upload. If another process is at it, this is an upload of its own that cannot resume.
fn claim(ctx: &Context, id: UploadId) -> Result<(UploadId, Option<UploadLock>), Error> {
    let path = ctx.home.join(format!("upload-{}", data_encoding::HEXLOWER.encode(&id.0[..16])));
    let failed = |error: std::io::Error| {
        let kind = ErrorKind::of_io(&error, ErrorKind::Config);
        Error::new(kind, format!("cannot use {}", path.display())).caused_by(error)
    };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok((id, Some(UploadLock { _file: file, path }))),
        Err(TryLockError::WouldBlock) => Ok((UploadId(random()?), None)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The body of a large record on its way.
struct Body {
    ctx: Arc<Context>,
    id: UploadId,
    _lock: Option<UploadLock>,
    row: UploadRow,
    /// Chunks of an earlier attempt, by number.
    journaled: BTreeMap<u64, JournaledChunk>,
    /// Which nodes hold which shard of them.
    held: Arc<BTreeMap<ShardRef, Vec<PublicKey>>>,
    tasks: JoinSet<Result<Sent, Error>>,
    sent: Vec<Sent>,
    /// What is left for the pack, and its padded length.
    tail: Option<(Bytes, usize)>,
    provenance: Option<Provenance>,
    progress: Progress,
}

/// A chunk that is placed.
struct Sent {
    number: u64,
    extent: Extent,
    placed: Placed,
    resumed: bool,
    /// Of its content; none if it is nothing but padding.
    hash: Option<ChunkHash>,
}

impl Body {
    /// Takes up an earlier upload of this id, or begins one.
    async fn begin(
        ctx: &Arc<Context>,
        id: UploadId,
        lock: Option<UploadLock>,
        given: Given,
        class: CollectionClass,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let found = ctx.index.with(move |index| index.upload(&id)).await?;
        let (mut row, chunks) = match found {
            Some(found) => found,
            None => {
                let row = UploadRow {
                    version: given.version.map_or_else(new_version, Ok)?,
                    dek: Dek::from_bytes(random()?),
                    begun: wall_time(),
                };
                let begun = row.clone();
                ctx.index.with(move |index| index.begin_upload(&id, &begun)).await?;
                (row, Vec::new())
            }
        };
        if class.is_shreddable() {
            // What the journal has is a number, of which the data key follows with a key in a file of its own.
            row.dek = home_key::journaled_dek(&ctx.home, &id, &row.dek)?;
        }
        let roots = chunks.iter().flat_map(|chunk| holders::shards_of(&chunk.descriptor)).collect();
        let held = Arc::new(holders::who_holds(ctx, roots).await);
        let journaled = chunks.into_iter().map(|chunk| (chunk.number, chunk)).collect();
        let progress = progress.clone();
        Ok(Self {
            ctx: Arc::clone(ctx),
            id,
            _lock: lock,
            row,
            journaled,
            held,
            tasks: JoinSet::new(),
            sent: Vec::new(),
            tail: None,
            provenance: given.provenance,
            progress,
        })
    }

    /// Sends all chunks of a source whose length is known.
    async fn send_sized(&mut self, source: &Sized) -> Result<(), Error> {
        let padded = padded_len(source.len());
        for number in 0..padded.div_ceil(CHUNK) {
            let offset = number * CHUNK;
            let plain_len = usize::try_from((padded - offset).min(CHUNK)).unwrap_or(BODY_SEGMENT_PLAIN_LEN);
            let real = source.len().saturating_sub(offset).min(plain_len as u64);
            let permit = self.room().await?;
            let (pool, source) = (self.ctx.pool.clone(), source.clone());
            let fill = move || {
                let mut chunk = Chunk::new(&pool, plain_len);
                source.fill(offset, &mut chunk).map(|()| chunk)
            };
            if plain_len < PACK_CHUNK_MAX_LEN {
                let chunk = self
                    .ctx
                    .workers
                    .run(fill)
                    .await?
                    .map_err(|error| source::read_error("the file", error))?;
                self.keep_tail(&chunk, real);
            } else {
                self.send(number, real, permit, fill);
            }
        }
        Ok(())
    }

    /// Sends all chunks of a source that is read to its end: how long it was.
    async fn send_stream(
        &mut self,
        mut start: Bytes,
        mut reader: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<u64, Error> {
        let (mut read, mut placed) = (0_u64, 0_u64);
        let mut ended = false;
        for number in 0.. {
            let permit = self.room().await?;
            let mut chunk = Chunk::new(&self.ctx.pool, BODY_SEGMENT_PLAIN_LEN);
            let mut real = 0;
            if ended {
                plain_ranges(chunk.sealed_len()).for_each(|range| chunk.frames_mut()[range].fill(0));
            } else {
                let filled = source::fill_from(&mut start, &mut *reader, &mut chunk).await;
                real = filled.map_err(|error| source::read_error("the input", error))?;
                ended = real < BODY_SEGMENT_PLAIN_LEN;
                zero_from(&mut chunk, real);
            }
            read += real as u64;
            let left = if ended { padded_len(read) - placed } else { CHUNK };
            if left == 0 {
                break;
            }
            let plain_len = usize::try_from(left.min(CHUNK)).unwrap_or(BODY_SEGMENT_PLAIN_LEN);
            chunk.resize(plain_len);
            placed += plain_len as u64;
            if plain_len < PACK_CHUNK_MAX_LEN {
                self.keep_tail(&chunk, real as u64);
            } else {
                self.send(number, real as u64, permit, move || Ok(chunk));
            }
        }
        Ok(read)
    }

    /// Room for one more chunk in memory; takes in those that are done.
    async fn room(&mut self) -> Result<OwnedSemaphorePermit, Error> {
        while let Some(done) = self.tasks.try_join_next() {
            self.sent.push(joined(done)?);
        }
        let closed = |error| Error::new(ErrorKind::Internal, "the client is closed").caused_by(error);
        Arc::clone(&self.ctx.segments).acquire_owned().await.map_err(closed)
    }

    fn keep_tail(&mut self, chunk: &Chunk, real: u64) {
        let plain: Vec<u8> = plain_ranges(chunk.sealed_len())
            .flat_map(|range| chunk.frames()[range].iter().copied())
            .collect();
        let padded = plain.len();
        let plain = Bytes::from(plain).slice(..usize::try_from(real).unwrap_or(padded).min(padded));
        self.progress.add(real);
        self.tail = Some((plain, padded));
    }

    fn send(
        &mut self,
        number: u64,
        real: u64,
        permit: OwnedSemaphorePermit,
        fill: impl FnOnce() -> std::io::Result<Chunk> + Send + 'static,
    ) {
        let task = SendChunk {
            ctx: Arc::clone(&self.ctx),
            id: self.id,
            row: self.row.clone(),
            number,
            real,
            earlier: self.journaled.remove(&number),
            held: Arc::clone(&self.held),
        };
        let progress = self.progress.clone();
        self.tasks.spawn(async move {
            let sent = task.run(permit, fill).await;
            progress.add(real);
            sent
        });
    }

    /// Waits for all chunks and commits the record.
    async fn finish(
        mut self,
        packer: &Packer,
        at: &RecordAddress,
        size: u64,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        while let Some(done) = self.tasks.join_next().await {
            self.sent.push(joined(done)?);
        }
        self.sent.sort_by_key(|sent| sent.number);
        let version = self.row.version;
        let (condition, ack) = (options.condition, options.ack);
        let mut record = new_record(at, options, version, self.row.dek.clone(), size)?;
        record.header.extents = self.sent.iter().map(|sent| sent.extent).collect();
        record.segments = self.sent.iter().map(|sent| sent.placed.descriptor.clone()).collect();
        record.hashes = self.sent.iter().filter_map(|sent| sent.hash).collect();
        record.tail = self.tail;
        record.provenance = self.provenance;
        record.upload = Some(self.id);
        let item = Item { at: at.clone(), condition, ack, what: ItemKind::Record(record.into()) };
        let resumed =
            self.sent.iter().filter(|sent| sent.resumed).map(|sent| sent.extent.plain_len).sum::<u64>();
        let mut segments: Vec<_> = self.sent.into_iter().map(|sent| sent.placed).collect();
        segments.push(packer.commit(item).await?);
        Ok(report(&self.ctx, (version, size, resumed.min(size)), segments))
    }
}

fn joined(done: Result<Result<Sent, Error>, tokio::task::JoinError>) -> Result<Sent, Error> {
    done.map_err(|error| Error::new(ErrorKind::Internal, "a transfer panicked").caused_by(error))?
}

/// Zeros what of a chunk was not filled.
fn zero_from(chunk: &mut Chunk, filled: usize) {
    let mut before = 0;
    for range in plain_ranges(chunk.sealed_len()) {
        let len = range.len();
        let skip = filled.saturating_sub(before).min(len);
        chunk.frames_mut()[range][skip..].fill(0);
        before += len;
    }
}

/// By shard the node that is to count as its holder: each another one, as far as that can be.
fn assign(total: usize, holders_of: impl Fn(usize) -> Vec<PublicKey>) -> Vec<Option<PublicKey>> {
    let held: Vec<_> = (0..total).map(holders_of).collect();
    // Shards with the fewest holders choose first: good enough, and what is left over is sent again.
    let mut order: Vec<_> = (0..total).collect();
    order.sort_by_key(|&shard| held[shard].len());
    let mut used = BTreeSet::new();
    let mut chosen = vec![None; total];
    for shard in order {
        let fresh = held[shard].iter().find(|node| !used.contains(*node));
        chosen[shard] = fresh.or_else(|| held[shard].first()).copied();
        used.extend(chosen[shard]);
    }
    chosen
}

/// A chunk that was sealed and coded.
struct Coded {
    segment: CodedSegment,
    plain_len: u64,
    hash: Option<ChunkHash>,
}

/// Hashes what of a chunk is no padding.
fn hash_content(chunk: &Chunk, number: u64, real: u64) -> ChunkHash {
    let mut left = usize::try_from(real).unwrap_or(usize::MAX);
    let pieces = plain_ranges(chunk.sealed_len()).map(|range| {
        let have = range.len().min(left);
        left -= have;
        &chunk.frames()[range.start..range.start + have]
    });
    ChunkHash::of(number, pieces)
}

/// One chunk on its way.
struct SendChunk {
    ctx: Arc<Context>,
    id: UploadId,
    row: UploadRow,
    number: u64,
    /// Bytes of it that are no padding.
    real: u64,
    earlier: Option<JournaledChunk>,
    held: Arc<BTreeMap<ShardRef, Vec<PublicKey>>>,
}

impl SendChunk {
    async fn run(
        self,
        room: OwnedSemaphorePermit,
        fill: impl FnOnce() -> std::io::Result<Chunk> + Send + 'static,
    ) -> Result<Sent, Error> {
        let (salt, segment) = match &self.earlier {
            Some(earlier) => (earlier.salt, earlier.descriptor.segment),
            None => (random()?, SegmentId(random()?)),
        };
        let Coded { segment: coded, plain_len, hash } = self.code(salt, segment, fill).await?;
        let same = self.earlier.as_ref().is_some_and(|earlier| earlier.descriptor.roots == coded.roots);
        if self.earlier.is_some() && !same {
            // The file has changed since: what was sealed just now must never be sent, because the same key and
            // nonce sealed other bytes before. Nothing of it has been.
            let id = self.id;
            self.ctx.index.with(move |index| index.abandon_upload(&id)).await?;
            let message = "the file has changed since its interrupted upload began";
            return Err(
                Error::new(ErrorKind::Changed, message).with_hint("put it again: a new upload begins")
            );
        }
        let extent = Extent { segment, offset: 0, plain_len, salt };
        let total = coded.layout.code().total();
        let descriptor = crate::message::Descriptor {
            segment,
            code: coded.layout.code(),
            len: coded.layout.len(),
            roots: coded.roots.clone(),
            holders: vec![None; total],
        };
        let held = assign(total, |index| {
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            self.held.get(&ShardRef { segment, index }).cloned().unwrap_or_default()
        });
        if !same {
            let (id, number) = (self.id, self.number);
            let chunk = JournaledChunk { number, salt, plain_len, descriptor };
            // Before the first shard leaves: what may be at a node is never forgotten.
            self.ctx.index.with(move |index| index.put_chunk(&id, &chunk)).await?;
        }
        let resumed = held.iter().all(Option::is_some);
        tracing::debug!(segment = %segment.short(), number = self.number, plain_len, resumed, "places a chunk");
        let placed = upload(&self.ctx, coded, held, room).await?;
        Ok(Sent { number: self.number, extent, placed, resumed, hash })
    }

    async fn code(
        &self,
        salt: [u8; 16],
        segment: SegmentId,
        fill: impl FnOnce() -> std::io::Result<Chunk> + Send + 'static,
    ) -> Result<Coded, Error> {
        let key = self.row.dek.frame_key(&self.row.version, Stream::Body, &salt);
        let (coder, pool) = (self.ctx.coder(self.ctx.network.code), self.ctx.pool.clone());
        let (number, real) = (self.number, self.real);
        let job = move || -> Result<Coded, Error> {
            let chunk = fill().map_err(|error| source::read_error("the file", error))?;
            let plain_len = chunk.plain_len() as u64;
            let hash = (real > 0).then(|| hash_content(&chunk, number, real));
            let coded = chunk.into_segment(segment, &key, &coder, &pool);
            let coded = coded
                .map_err(|error| Error::new(ErrorKind::Internal, "a chunk is too long").caused_by(error))?;
            Ok(Coded { segment: coded, plain_len, hash })
        };
        self.ctx.workers.run(job).await?
    }
}
