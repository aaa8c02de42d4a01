//! Puts: bodies in segments of their own, small things in packs, and the commit that makes them visible.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Answer, Client, Died, Job, JobError, JobId, Shared, Target};
use crate::crypto::frame::{Dek, Stream, plain_ranges};
use crate::crypto::padme;
use crate::message::custody_receipt::ExpectedReceipt;
use crate::message::request::PutShard;
use crate::message::{Descriptor, Extent, Locator, RecordHeader, Request, Response, Violation};
use crate::store::index::{JournaledChunk, UploadId, UploadRow};
use crate::stripe::{Coder, place};
use crate::testing::sim::content::Content;
use crate::testing::sim::leak::Needle;
use crate::transfer::pack::Pack;
use crate::transfer::seal::{Chunk, CodedSegment, as_usize};
use crate::transfer::upload::{Effect, Event, Outcome, Upload, UploadConfig, UploadError, UploadPlan};
use crate::transfer::{BufferPool, Failure, RequestId};
use crate::types::limits::{READ_UNITS_IN_FLIGHT, UPLOAD_SEGMENTS_IN_FLIGHT};
use crate::types::{Machine as _, PublicKey, RecordName, SegmentId, Timestamp, VersionId};

/// Plaintext bytes of a body segment: as `BODY_SEGMENT_PLAIN_LEN`, but so small that short records have several.
const CHUNK_LEN: usize = 300_000;

/// Chunks shorter than this go into the pack.
const PACK_CHUNK_MAX_LEN: usize = 60_000;

/// A pack is sealed when it has this many bytes.
const PACK_TARGET_LEN: usize = 400_000;

/// A pack is sealed this long after its first record.
const PACK_LINGER: Duration = Duration::from_millis(2);

/// Uploads that may still be placing their last shards after their report; the oldest is let go of for another, since
/// each keeps its segment in memory.
const SETTLING: usize = 4;

/// Every data key begins with these bytes, so that one search finds any of them.
pub(in crate::testing::sim) const DEK_NEEDLE: Needle = *b"xvDatKey";

/// A put under way.
#[derive(Debug)]
pub(super) struct PutJob {
    pub(super) started: Timestamp,
    pub(super) name: RecordName,
    pub(super) content: Content,
    pub(super) version: VersionId,
    pub(super) dek: Dek,
    /// The record's bytes, padded.
    plain: Vec<u8>,
    /// By chunk; `None` until it is sealed.
    extents: Vec<Option<Extent>>,
    /// Under which it resumes, if it has body segments.
    pub(super) upload: Option<UploadId>,
    /// Chunks that an earlier attempt noted in the journal, by number.
    journaled: BTreeMap<usize, JournaledChunk>,
    /// Body segments that are placed.
    pub(super) descriptors: Vec<Descriptor>,
    /// Chunks with a segment of their own that are not yet begun, the next last.
    waiting: Vec<usize>,
    /// Uploads of body segments under way. Invariant: at most `UPLOAD_SEGMENTS_IN_FLIGHT`.
    in_flight: usize,
}

impl PutJob {
    /// BLAKE3 of the record.
    pub(super) fn hash(&self) -> crate::types::Hash {
        let len = self.plain.len().min(self.content.len);
        crate::types::Hash(blake3::hash(&self.plain[..len]).into())
    }
}

/// The version of a put whose runs are all in a pack.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) job: JobId,
    pub(super) header: Locator,
    pub(super) extents: Vec<Extent>,
}

/// The pack that takes small things at present.
#[derive(Debug)]
pub(super) struct OpenPack {
    pack: Pack,
    len: usize,
    records: Vec<Packed>,
    deadline: Timestamp,
}

impl OpenPack {
    pub(super) const fn deadline(&self) -> Timestamp {
        self.deadline
    }
}

/// What an upload is for.
#[derive(Debug)]
enum Purpose {
    Body(JobId),
    Pack(Vec<Packed>),
    /// It is reported; the last shards are still under way.
    Settling,
}

/// An upload under way.
#[derive(Debug)]
pub(super) struct UploadSlot {
    machine: Upload,
    coded: CodedSegment,
    purpose: Purpose,
}

impl UploadSlot {
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.machine.deadline()
    }
}

impl Client {
    /// Begins a put, or goes on with one of the same content that an earlier life of the client did not finish.
    pub(in crate::testing::sim) fn put(
        &mut self,
        now: Timestamp,
        job: JobId,
        name: RecordName,
        content: Content,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let mut dek: [u8; 32] = self.rng.bytes();
        dek[..8].copy_from_slice(&DEK_NEEDLE);
        let fresh = UploadRow {
            version: VersionId::new(now, self.rng.bytes()),
            dek: Dek::from_bytes(dek),
            begun: now,
        };
        let mut plain = content.bytes();
        plain.resize(as_usize(padme::padded_len(plain.len() as u64)), 0);
        let chunks = plain.len().div_ceil(CHUNK_LEN);
        let waiting: Vec<_> = (0..chunks).rev().filter(|chunk| !is_packed(plain.len(), *chunk)).collect();
        let upload = (!waiting.is_empty()).then(|| upload_id(&name, &content));
        let (row, journaled) = match &upload {
            Some(id) => self.begin_upload(id, fresh)?,
            None => (fresh, Vec::new()),
        };
        shared.model.intend(row.version, Some(content));
        let put = PutJob {
            started: now,
            name,
            content,
            version: row.version,
            dek: row.dek,
            extents: vec![None; chunks],
            descriptors: Vec::new(),
            upload,
            journaled: journaled.into_iter().map(|chunk| (as_usize(chunk.number), chunk)).collect(),
            waiting,
            in_flight: 0,
            plain,
        };
        self.jobs.insert(job, Job::Put(put));
        self.go_on_with(now, job, shared)
    }

    pub(super) fn put_job(&mut self, job: JobId) -> Option<&mut PutJob> {
        match self.jobs.get_mut(&job) {
            Some(Job::Put(put)) => Some(put),
            _ => None,
        }
    }

    /// Starts body segments as far as the window allows; when all are placed, packs the rest.
    fn go_on_with(&mut self, now: Timestamp, job: JobId, shared: &mut Shared) -> Result<(), Died> {
        loop {
            let Some(put) = self.put_job(job) else { return Ok(()) };
            if put.in_flight == UPLOAD_SEGMENTS_IN_FLIGHT {
                return Ok(());
            }
            let Some(chunk) = put.waiting.pop() else { break };
            put.in_flight += 1;
            let (coded, held) = self.seal_chunk(job, chunk)?;
            self.upload(now, coded, held, Purpose::Body(job), shared)?;
        }
        if self.put_job(job).is_some_and(|put| put.in_flight == 0) {
            self.pack(now, job, shared)?;
        }
        Ok(())
    }

    /// Seals and codes a chunk as a segment of its own, and notes it in the journal before anything is sent. If an
    /// earlier attempt had got there and the source is still the same, it goes on with that segment and
    /// the shards that nodes hold of it.
    fn seal_chunk(
        &mut self,
        job: JobId,
        chunk: usize,
    ) -> Result<(CodedSegment, Vec<Option<PublicKey>>), Died> {
        let fresh = (SegmentId(self.rng.bytes()), self.rng.bytes());
        let (coder, pool) = (self.coder.clone(), self.pool.clone());
        let Some(put) = self.put_job(job) else { unreachable!("the job of a chunk") };
        if let Some(earlier) = put.journaled.remove(&chunk) {
            let coded = put.code_chunk(chunk, earlier.descriptor.segment, earlier.salt, &coder, &pool);
            if coded.roots == earlier.descriptor.roots {
                return Ok((coded, earlier.descriptor.holders));
            }
        }
        let coded = put.code_chunk(chunk, fresh.0, fresh.1, &coder, &pool);
        let (total, code) = (self.network.code.total(), self.network.code);
        let descriptor = Descriptor {
            segment: coded.segment,
            code,
            len: coded.layout.len(),
            roots: coded.roots.clone(),
            holders: vec![None; total],
        };
        self.note_holders(job, descriptor)?;
        Ok((coded, Vec::new()))
    }

    /// Writes what is known of a body segment into the journal.
    fn note_holders(&mut self, job: JobId, descriptor: Descriptor) -> Result<(), Died> {
        let Some(put) = self.put_job(job) else { return Ok(()) };
        let mut extents = put.extents.iter().enumerate();
        let is_it =
            |extent: &Option<Extent>| extent.is_some_and(|extent| extent.segment == descriptor.segment);
        let found = extents.find_map(|(chunk, extent)| extent.filter(|_| is_it(extent)).map(|e| (chunk, e)));
        let (Some(id), Some((chunk, extent))) = (put.upload, found) else { return Ok(()) };
        let number = chunk as u64;
        let (salt, plain_len) = (extent.salt, extent.plain_len);
        self.journal(&id, &JournaledChunk { number, salt, plain_len, descriptor })
    }

    /// The last shards of a segment are placed: the index or the journal is to know.
    fn amend_segment(&mut self, descriptor: Descriptor) -> Result<(), Died> {
        self.amend(&descriptor)?;
        let has = |put: &PutJob| put.descriptors.iter().any(|found| found.segment == descriptor.segment);
        let job = self.jobs.iter().find_map(|(job, kind)| match kind {
            Job::Put(put) if has(put) => Some(*job),
            _ => None,
        });
        let Some(job) = job else { return Ok(()) };
        if let Some(put) = self.put_job(job) {
            put.descriptors.retain(|found| found.segment != descriptor.segment);
            put.descriptors.push(descriptor.clone());
        }
        self.note_holders(job, descriptor)
    }

    /// Appends the short chunks and the header to the open pack.
    fn pack(&mut self, now: Timestamp, job: JobId, shared: &mut Shared) -> Result<(), Died> {
        let mut open = match self.pack.take() {
            Some(open) => open,
            None => OpenPack {
                pack: Pack::new(SegmentId(self.rng.bytes()), PACK_TARGET_LEN, &self.pool),
                len: 0,
                records: Vec::new(),
                deadline: now + PACK_LINGER,
            },
        };
        let segment = open.pack.segment();
        let salts: Vec<[u8; 16]> = (0..2).map(|_| self.rng.bytes()).collect();
        let Some(put) = self.put_job(job) else { unreachable!("the job that is packed") };
        for chunk in 0..put.extents.len() {
            if put.extents[chunk].is_none() {
                let plain = &put.plain[chunk_range(put.plain.len(), chunk)];
                let key = put.dek.frame_key(&put.version, Stream::Body, &salts[0]);
                let offset = open.pack.append(&key, plain, plain.len());
                put.extents[chunk] =
                    Some(Extent { segment, offset, plain_len: plain.len() as u64, salt: salts[0] });
            }
        }
        let extents: Vec<Extent> = put.extents.iter().flatten().copied().collect();
        let header = RecordHeader {
            name: put.name.clone(),
            version: put.version,
            size: put.content.len as u64,
            content_type: None,
            modified: None,
            metadata: BTreeMap::new(),
            extents: extents.clone(),
            content: put.hash(),
        }
        .encode();
        let key = put.dek.frame_key(&put.version, Stream::Header, &salts[1]);
        let offset = open.pack.append(&key, &header, header.len());
        let len = crate::crypto::frame::sealed_len(header.len() as u64);
        let Ok(sealed_len) = u32::try_from(len) else { unreachable!("a short header") };
        let header = Locator { segment, offset, len: sealed_len, salt: salts[1] };
        open.records.push(Packed { job, header, extents });
        open.len = as_usize(offset + len);
        let is_full = open.len >= PACK_TARGET_LEN;
        self.pack = Some(open);
        if is_full { self.seal_pack(now, shared) } else { Ok(()) }
    }

    fn seal_pack(&mut self, now: Timestamp, shared: &mut Shared) -> Result<(), Died> {
        let Some(open) = self.pack.take() else { return Ok(()) };
        match open.pack.into_segment(&self.coder, &self.pool) {
            Ok(coded) => self.upload(now, coded, Vec::new(), Purpose::Pack(open.records), shared),
            Err(error) => unreachable!("{error}"),
        }
    }

    fn upload(
        &mut self,
        now: Timestamp,
        coded: CodedSegment,
        mut held: Vec<Option<PublicKey>>,
        purpose: Purpose,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let code = self.network.code;
        held.resize(code.total(), None);
        let nonce_seed = self.rng.bytes();
        let Some(placement) = place(&coded.segment, code, &self.candidates(now)) else {
            unreachable!("a network has nodes")
        };
        let ranking = placement.shards.into_iter().map(|place| {
            let mut nodes = vec![place.node];
            nodes.extend(place.spares);
            nodes
        });
        let plan = UploadPlan {
            vault: *self.keys.vault(),
            segment: coded.segment,
            code,
            len: coded.layout.len(),
            shard_len: coded.layout.shard_len(),
            roots: coded.roots.clone(),
            ranking: ranking.collect(),
            held,
            nonce_seed,
        };
        let machine = Upload::new(now, plan, UploadConfig::default());
        let id = self.id();
        self.uploads.insert(id, UploadSlot { machine, coded, purpose });
        self.run_upload(now, id, shared)
    }

    /// What an answer to a request of an upload means to its machine.
    pub(super) fn upload_event(
        &self,
        request: RequestId,
        node: PublicKey,
        put: &PutShard,
        answer: Answer,
    ) -> Event {
        let failed = |failure| Event::Failed { request, failure };
        match answer {
            Answer::Refused(refusal) => Event::Refused { request, refusal },
            Answer::Failed(failure) => failed(failure),
            Answer::Response(Response::Receipt(receipt), body) if body.is_empty() => {
                let expected = ExpectedReceipt {
                    network: self.network.id,
                    vault: put.vault,
                    shard: put.shard,
                    root: put.root,
                    len: put.len,
                    nonce: put.nonce,
                    node,
                };
                match receipt.verify(&expected) {
                    Ok(receipt) => Event::Accepted { request, receipt },
                    Err(violation) => failed(Failure::Violation(violation)),
                }
            }
            Answer::Response(..) => failed(Failure::Violation(Violation::WrongResponse)),
        }
    }

    pub(super) fn tell_upload(
        &mut self,
        now: Timestamp,
        id: u64,
        event: Event,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        if let Some(slot) = self.uploads.get_mut(&id) {
            slot.machine.handle(now, event);
        }
        self.run_upload(now, id, shared)
    }

    pub(super) fn expire_uploads(&mut self, now: Timestamp, shared: &mut Shared) -> Result<(), Died> {
        let due = |slot: &UploadSlot| slot.deadline().is_some_and(|at| at <= now);
        let ids: Vec<u64> = self.uploads.iter().filter(|(_, slot)| due(slot)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(slot) = self.uploads.get_mut(&id) {
                slot.machine.expire(now);
            }
            self.run_upload(now, id, shared)?;
        }
        if self.pack.as_ref().is_some_and(|open| open.deadline <= now) {
            self.seal_pack(now, shared)?;
        }
        Ok(())
    }

    /// Carries out what an upload wants, in order; the client may die before each.
    fn run_upload(&mut self, now: Timestamp, id: u64, shared: &mut Shared) -> Result<(), Died> {
        while let Some(effect) = self.uploads.get_mut(&id).and_then(|slot| slot.machine.poll()) {
            self.burn()?;
            match effect {
                Effect::Send { request, node, put, .. } => {
                    let shard = self.uploads[&id].coded.shard(usize::from(put.shard.index)).concat();
                    let target = Target::Upload(id, request, put);
                    self.call(now, node, target, &Request::PutShard(put), shard);
                }
                Effect::Cancel { request } => {
                    self.cancel(
                        |target| matches!(target, Target::Upload(of, r, _) if (*of, *r) == (id, request)),
                    );
                }
                Effect::Persist(descriptor) => {
                    self.persist(id, descriptor, shared)?;
                    if let Some(slot) = self.uploads.get_mut(&id) {
                        slot.machine.handle(now, Event::Persisted);
                    }
                }
                Effect::Report(result) => self.reported(now, id, result, shared)?,
                Effect::Amend(descriptor) => self.amend_segment(descriptor)?,
                // A segment more or less at a time: its window is wide enough.
                Effect::Enough => {}
                Effect::Suspect { node } => drop(self.suspects.insert(node, now + super::SUSPICION)),
                Effect::Finished => drop(self.uploads.remove(&id)),
            }
        }
        Ok(())
    }

    /// Body segments are in the journal until the record is committed; a pack *is* the commit.
    fn persist(&mut self, id: u64, descriptor: Descriptor, shared: &mut Shared) -> Result<(), Died> {
        let Some(slot) = self.uploads.get_mut(&id) else { return Ok(()) };
        match std::mem::replace(&mut slot.purpose, Purpose::Settling) {
            Purpose::Body(job) => {
                slot.purpose = Purpose::Body(job);
                let Some(put) = self.put_job(job) else { return Ok(()) };
                put.descriptors.push(descriptor.clone());
                self.note_holders(job, descriptor)
            }
            Purpose::Pack(records) => {
                let done = self.commit(&descriptor, &records, shared);
                if let Some(slot) = self.uploads.get_mut(&id) {
                    slot.purpose = Purpose::Pack(records);
                }
                done
            }
            Purpose::Settling => unreachable!("persisted twice"),
        }
    }

    /// Lets go of the oldest upload that is settling if there are too many.
    fn let_go(&mut self) {
        let settling = || self.uploads.iter().filter(|(_, slot)| matches!(slot.purpose, Purpose::Settling));
        let oldest = settling().next().map(|(id, _)| *id).filter(|_| settling().count() > SETTLING);
        if let Some(id) = oldest {
            self.uploads.remove(&id);
            self.cancel(|target| matches!(target, Target::Upload(of, ..) if *of == id));
        }
    }

    /// I6: no window of this client is wider than it may be.
    pub(in crate::testing::sim) fn check_windows(&self) -> Result<(), String> {
        let settling = self.uploads.values().filter(|slot| matches!(slot.purpose, Purpose::Settling)).count();
        let too_wide = |job: &&JobId| match &self.jobs[*job] {
            Job::Put(put) => put.in_flight > UPLOAD_SEGMENTS_IN_FLIGHT,
            Job::Get(_) => {
                let reads = self.downloads.values().filter(|slot| slot.is_of(**job)).count();
                reads > READ_UNITS_IN_FLIGHT
            }
        };
        match self.jobs.keys().find(too_wide) {
            Some(job) => Err(format!("I6: job {job} has too much in flight")),
            None if settling > SETTLING + 1 => Err(format!("I6: {settling} uploads keep their segments")),
            None => Ok(()),
        }
    }

    fn reported(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<Outcome, UploadError>,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(slot) = self.uploads.get_mut(&id) else { return Ok(()) };
        let purpose = std::mem::replace(&mut slot.purpose, Purpose::Settling);
        self.let_go();
        let jobs = match (&purpose, &result) {
            (Purpose::Body(job), Ok(_)) => {
                if let Some(put) = self.put_job(*job) {
                    put.in_flight -= 1;
                }
                return self.go_on_with(now, *job, shared);
            }
            (Purpose::Body(job), Err(_)) => vec![*job],
            (Purpose::Pack(records), _) => records.iter().map(|record| record.job).collect(),
            (Purpose::Settling, _) => unreachable!("reported twice"),
        };
        for job in jobs {
            let Some(started) = self.put_job(job).map(|put| put.started) else { continue };
            let result = match &result {
                Ok(_) => Ok(()),
                Err(error) => Err(JobError::Unavailable { holders: Vec::new(), why: error.to_string() }),
            };
            self.end(job, started, result);
        }
        Ok(())
    }
}

impl PutJob {
    /// Seals and codes a chunk under the salt.
    fn code_chunk(
        &mut self,
        chunk: usize,
        segment: SegmentId,
        salt: [u8; 16],
        coder: &Coder,
        pool: &BufferPool,
    ) -> CodedSegment {
        let plain = &self.plain[chunk_range(self.plain.len(), chunk)];
        let mut frames = Chunk::new(pool, plain.len());
        let mut at = 0;
        for range in plain_ranges(frames.sealed_len()) {
            let len = range.len();
            frames.frames_mut()[range].copy_from_slice(&plain[at..at + len]);
            at += len;
        }
        self.extents[chunk] = Some(Extent { segment, offset: 0, plain_len: plain.len() as u64, salt });
        let key = self.dek.frame_key(&self.version, Stream::Body, &salt);
        match frames.into_segment(segment, &key, coder, pool) {
            Ok(coded) => coded,
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// As a client derives it from a file: the same source, the same upload.
fn upload_id(name: &RecordName, content: &Content) -> UploadId {
    UploadId(*blake3::hash(format!("{name} {content:?}").as_bytes()).as_bytes())
}

const fn chunk_range(len: usize, chunk: usize) -> std::ops::Range<usize> {
    let start = chunk * CHUNK_LEN;
    let end = if start + CHUNK_LEN < len { start + CHUNK_LEN } else { len };
    start..end
}

const fn is_packed(len: usize, chunk: usize) -> bool {
    let range = chunk_range(len, chunk);
    range.end - range.start < PACK_CHUNK_MAX_LEN
}
