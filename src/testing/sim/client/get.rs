//! Gets: units of a record read by the real machine, verified, decoded, opened and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::{Answer, Call, Client, Died, Job, JobError, JobId, Shared, Target};
use crate::crypto::frame::{Dek, Stream, plain_len};
use crate::crypto::tree;
use crate::message::record::{StoredVersion, VersionState};
use crate::message::request::{ReadShard, ShardRef};
use crate::message::{Descriptor, Extent, RecordHeader, Request, Response, Violation};
use crate::stripe::Layout;
use crate::testing::sim::content::Content;
use crate::transfer::download::{Columns, Download, DownloadConfig, DownloadError, Effect, Event, ReadPlan};
use crate::transfer::open::{ShardBytes, assemble, open_unit};
use crate::transfer::plan::{ReadUnit, read_units};
use crate::transfer::seal::as_usize;
use crate::transfer::{Failure, RequestId, Window};
use crate::types::{Machine as _, PublicKey, RecordName, Timestamp, VersionId};

/// A get under way.
#[derive(Debug)]
pub(super) struct GetJob {
    started: Timestamp,
    name: RecordName,
    version: VersionId,
    dek: Dek,
    content: Content,
    range: Range<u64>,
    /// Units not yet begun, with their place in the range.
    waiting: Vec<(usize, Stream, ReadUnit)>,
    window: Window,
    /// The header's plaintext, where it is read too, and the plaintext of each unit.
    header: Option<Vec<u8>>,
    units: BTreeMap<usize, Vec<u8>>,
    total: usize,
}

/// A read of one unit under way.
#[derive(Debug)]
pub(super) struct DownloadSlot {
    job: JobId,
    nth: usize,
    stream: Stream,
    unit: ReadUnit,
    descriptor: Descriptor,
    layout: Layout,
    machine: Download,
    /// Verified bytes, by the request that brought them.
    bytes: BTreeMap<RequestId, ShardBytes>,
    /// Nodes that have yet to say which shards they hold, and those that failed to.
    asked: BTreeSet<PublicKey>,
    silent: Vec<(PublicKey, Failure)>,
}

impl DownloadSlot {
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.machine.deadline()
    }

    pub(super) fn is_of(&self, job: JobId) -> bool {
        self.job == job
    }
}

/// The place of the header among the units of a get.
const HEADER: usize = usize::MAX;

impl Client {
    /// Begins to read a range of a version that the model says is there; `with_header` reads and compares its header too.
    pub(in crate::testing::sim) fn get(
        &mut self,
        now: Timestamp,
        job: JobId,
        name: &RecordName,
        version: VersionId,
        (range, with_header): (Range<u64>, bool),
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(entry) = self.version(name, &version)? else {
            self.end(job, now, Err(JobError::Wrong(format!("I11: {version} of {name} is not in the index"))));
            return Ok(());
        };
        let (VersionState::Stored(stored), Some(content)) = (&entry.state, shared.model.content(&version))
        else {
            let deleted = entry.state == VersionState::Deleted && shared.model.content(&version).is_none();
            let wrong = JobError::Wrong(format!("I11: {version} of {name} is not what was committed"));
            self.end(job, now, if deleted { Ok(()) } else { Err(wrong) });
            return Ok(());
        };
        let mut waiting: Vec<_> = units_of(stored, &range);
        let total = waiting.len() + usize::from(with_header);
        waiting.reverse();
        if with_header {
            waiting.push((HEADER, Stream::Header, header_unit(stored)));
        }
        let get = GetJob {
            started: now,
            name: name.clone(),
            version,
            dek: stored.dek.clone(),
            content,
            range,
            waiting,
            window: Window::default(),
            header: None,
            units: BTreeMap::new(),
            total,
        };
        self.jobs.insert(job, Job::Get(get));
        self.read_on(now, job, shared)
    }

    fn get_job(&mut self, job: JobId) -> Option<&mut GetJob> {
        match self.jobs.get_mut(&job) {
            Some(Job::Get(get)) => Some(get),
            _ => None,
        }
    }

    /// Starts units as far as the window allows; compares when all are there.
    fn read_on(&mut self, now: Timestamp, job: JobId, shared: &mut Shared) -> Result<(), Died> {
        loop {
            let Some(get) = self.get_job(job) else { return Ok(()) };
            if get.units.len() + usize::from(get.header.is_some()) == get.total {
                let (started, result) = (get.started, get.compare());
                self.end(job, started, result.map_err(JobError::Wrong));
                return Ok(());
            }
            if get.waiting.is_empty() || !get.window.start() {
                return Ok(());
            }
            let Some((nth, stream, unit)) = get.waiting.pop() else { return Ok(()) };
            self.download(now, job, (nth, stream, unit), shared)?;
        }
    }

    fn download(
        &mut self,
        now: Timestamp,
        job: JobId,
        (nth, stream, unit): (usize, Stream, ReadUnit),
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let segment = unit.extent.segment;
        let Some(descriptor) = self.descriptor(&segment)? else {
            return self.fail_get(job, JobError::Wrong(format!("no descriptor of {segment:?}")));
        };
        let Ok(layout) = Layout::new(descriptor.code, descriptor.len) else {
            return self.fail_get(job, JobError::Wrong("a descriptor without layout".into()));
        };
        let wanted = layout.columns(unit.in_segment()).data;
        let len = wanted.iter().flatten().map(|range| range.end - range.start).max().unwrap_or(0);
        let patience = |holder: &Option<PublicKey>| {
            holder.map_or_else(Default::default, |node| self.latencies.patience(&node, len))
        };
        let plan = ReadPlan {
            vault: *self.keys.vault(),
            segment,
            code: descriptor.code,
            hedge_after: descriptor.holders.iter().map(patience).collect(),
            holders: descriptor.holders.clone(),
            wanted,
            suspects: self.suspects.keys().copied().collect(),
        };
        let machine = Download::new(now, plan, DownloadConfig::default());
        let id = self.id();
        let bytes = BTreeMap::new();
        let slot = DownloadSlot {
            job,
            nth,
            stream,
            unit,
            descriptor,
            layout,
            machine,
            bytes,
            asked: BTreeSet::new(),
            silent: Vec::new(),
        };
        self.downloads.insert(id, slot);
        self.run_download(now, id, shared)
    }

    /// What an answer to a request of a read means to its machine; the bytes stay here.
    pub(super) fn download_event(
        &mut self,
        now: Timestamp,
        id: u64,
        request: RequestId,
        read: &ReadShard,
        call: &Call,
        answer: Answer,
    ) -> Event {
        let (response, body) = match answer {
            Answer::Refused(refusal) => return Event::Refused { request, refusal },
            Answer::Failed(failure) => return Event::Failed { request, failure },
            Answer::Response(response, body) => (response, body),
        };
        let Some(slot) = self.downloads.get_mut(&id) else { return Event::Verified { request } };
        if let Err(violation) = slot.verify(read, &response, &body) {
            return Event::Violated { request, violation };
        }
        let shard = usize::from(read.shard.index);
        slot.bytes.insert(request, ShardBytes { shard, start: read.start, bytes: body });
        self.latencies.record(call.node, read.len, now.since(call.sent_at));
        self.suspects.remove(&call.node);
        Event::Verified { request }
    }

    pub(super) fn tell_download(
        &mut self,
        now: Timestamp,
        id: u64,
        event: Event,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        if let Some(slot) = self.downloads.get_mut(&id) {
            slot.machine.handle(now, event);
        }
        self.run_download(now, id, shared)
    }

    pub(super) fn expire_downloads(&mut self, now: Timestamp, shared: &mut Shared) -> Result<(), Died> {
        let due = |slot: &DownloadSlot| slot.deadline().is_some_and(|at| at <= now);
        let ids: Vec<u64> = self.downloads.iter().filter(|(_, slot)| due(slot)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(slot) = self.downloads.get_mut(&id) {
                slot.machine.expire(now);
            }
            self.run_download(now, id, shared)?;
        }
        Ok(())
    }

    /// Carries out what a read wants, in order; the client may die before each.
    fn run_download(&mut self, now: Timestamp, id: u64, shared: &mut Shared) -> Result<(), Died> {
        while let Some(slot) = self.downloads.get_mut(&id) {
            let Some(effect) = slot.machine.poll() else { break };
            self.burn()?;
            match effect {
                Effect::Read { request, node, read, .. } => {
                    self.budget.earn();
                    let target = Target::Download(id, request, read);
                    self.call(now, node, target, &Request::ReadShard(read), Vec::new());
                }
                Effect::Cancel { request } => {
                    self.cancel(
                        |target| matches!(target, Target::Download(of, r, _) if (*of, *r) == (id, request)),
                    );
                }
                Effect::AskHedge { request } => {
                    if self.budget.spend()
                        && let Some(slot) = self.downloads.get_mut(&id)
                    {
                        slot.machine.handle(now, Event::HedgeGranted { request });
                    }
                }
                Effect::Locate => self.locate(now, id),
                Effect::Report(result) => self.read(now, id, result, shared)?,
            }
        }
        Ok(())
    }

    /// Asks all nodes which shards of a read's segment they hold.
    fn locate(&mut self, now: Timestamp, id: u64) {
        let nodes: Vec<PublicKey> = self.network.nodes.iter().map(|node| node.key).collect();
        let Some(slot) = self.downloads.get_mut(&id) else { return };
        let segment = slot.descriptor.segment;
        let shards = (0..).zip(&slot.descriptor.roots).map(|(index, _)| ShardRef { segment, index });
        let request = Request::HaveShards { vault: *self.keys.vault(), shards: shards.collect() };
        slot.asked.extend(&nodes);
        for node in nodes {
            self.call(now, node, Target::Locate(id), &request, Vec::new());
        }
    }

    /// A node said which shards of a read's segment it holds, or failed to.
    pub(super) fn located(
        &mut self,
        now: Timestamp,
        id: u64,
        node: PublicKey,
        answer: Answer,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(slot) = self.downloads.get_mut(&id) else { return Ok(()) };
        slot.asked.remove(&node);
        match answer {
            Answer::Response(Response::Holdings(found), body) if body.is_empty() => {
                let held = found.iter().zip(&slot.descriptor.roots).enumerate();
                let held = held.filter(|(_, (found, root))| found.as_ref() == Some(*root));
                let shards = held.map(|(shard, _)| shard).collect();
                slot.machine.handle(now, Event::Located { node, shards });
            }
            Answer::Response(..) => {
                slot.silent.push((node, Failure::Violation(Violation::WrongResponse)));
            }
            Answer::Refused(refusal) => slot.silent.push((node, Failure::Refused(refusal))),
            Answer::Failed(failure) => slot.silent.push((node, failure)),
        }
        if slot.asked.is_empty() {
            let silent = std::mem::take(&mut slot.silent);
            slot.machine.handle(now, Event::LocateEnded { silent });
        }
        self.run_download(now, id, shared)
    }

    /// Notes in the index where shards were found of which it did not know.
    fn note_found(&mut self, mut descriptor: Descriptor, found: &[(usize, PublicKey)]) -> Result<(), Died> {
        for (shard, node) in found {
            descriptor.holders[*shard] = Some(*node);
        }
        if found.is_empty() { Ok(()) } else { self.amend(&descriptor) }
    }

    fn read(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<Columns, DownloadError>,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(slot) = self.downloads.remove(&id) else { return Ok(()) };
        let columns = match result {
            Ok(columns) => columns,
            Err(error) => {
                let holders = slot.descriptor.holders.iter().flatten().copied().collect();
                let why = error.to_string();
                return self.fail_get(slot.job, JobError::Unavailable { holders, why });
            }
        };
        for node in &columns.late {
            self.suspects.insert(*node, now + super::SUSPICION);
        }
        self.note_found(slot.descriptor.clone(), &columns.found)?;
        let plain = self.open_read(slot.job, &slot, &columns);
        let Some(get) = self.get_job(slot.job) else { return Ok(()) };
        get.window.end();
        match (plain, slot.stream) {
            (Ok(plain), Stream::Header) => get.header = Some(plain),
            (Ok(plain), Stream::Body) => drop(get.units.insert(slot.nth, plain)),
            (Ok(_), Stream::Staged) => unreachable!("nothing staged is at a node"),
            (Err(wrong), _) => return self.fail_get(slot.job, JobError::Wrong(wrong)),
        }
        self.read_on(now, slot.job, shared)
    }

    fn open_read(&mut self, job: JobId, slot: &DownloadSlot, columns: &Columns) -> Result<Vec<u8>, String> {
        let (coder, pool) = (self.coder.clone(), self.pool.clone());
        let Some(get) = self.get_job(job) else { return Err("the job has ended".into()) };
        let key = get.dek.frame_key(&get.version, slot.stream, &slot.unit.extent.salt);
        let parts = columns.parts.iter().filter_map(|part| slot.bytes.get(&part.request).cloned()).collect();
        let range = slot.unit.in_segment();
        let sealed = assemble(&slot.layout, &coder, range, parts, columns.rebuild.as_ref(), &pool);
        let frames = sealed.and_then(|sealed| open_unit(&slot.unit, &key, sealed));
        frames.map(|frames| frames.concat()).map_err(|error| format!("{error} ({error:?})"))
    }

    fn fail_get(&mut self, job: JobId, error: JobError) -> Result<(), Died> {
        if let Some(started) = self.get_job(job).map(|get| get.started) {
            let ids: Vec<u64> =
                self.downloads.iter().filter(|(_, slot)| slot.job == job).map(|(id, _)| *id).collect();
            for id in ids {
                self.downloads.remove(&id);
                self.cancel(|target| matches!(target, Target::Download(of, ..) if *of == id));
            }
            self.end(job, started, Err(error));
        }
        Ok(())
    }
}

impl DownloadSlot {
    /// Checks an answer as the client library does: kind, length, and every slice against the root.
    fn verify(&self, read: &ReadShard, response: &Response, body: &Bytes) -> Result<(), Violation> {
        let Response::Slice(slice) = response else { return Err(Violation::WrongResponse) };
        if body.len() as u64 != read.len || slice.shard_len != self.layout.shard_len() {
            return Err(Violation::WrongLength);
        }
        let root = &self.descriptor.roots[usize::from(read.shard.index)];
        tree::verify(root, slice.shard_len, read.start, body, &slice.proof).map_err(|_| Violation::WrongShard)
    }
}

impl GetJob {
    /// Compares what was read with what was written.
    fn compare(&self) -> Result<(), String> {
        let read: Vec<u8> = self.units.values().flatten().copied().collect();
        let written = self.content.bytes();
        let range = as_usize(self.range.start)..as_usize(self.range.end);
        if written.get(range) != Some(&read[..]) {
            return Err(format!("{} of {} reads back wrong", self.version, self.name));
        }
        let Some(header) = &self.header else { return Ok(()) };
        match RecordHeader::decode(header) {
            Ok(header) if header.size == self.content.len as u64 && header.version == self.version => Ok(()),
            other => Err(format!("the header of {} reads back as {other:?}", self.version)),
        }
    }
}

fn units_of(stored: &StoredVersion, range: &Range<u64>) -> Vec<(usize, Stream, ReadUnit)> {
    let units = read_units(stored.extents.clone(), range.clone()).enumerate();
    units.map(|(nth, unit)| (nth, Stream::Body, unit)).collect()
}

fn header_unit(stored: &StoredVersion) -> ReadUnit {
    let at = &stored.header;
    let len = plain_len(at.len.into()).unwrap_or_default();
    let extent = Extent { segment: at.segment, offset: at.offset, plain_len: len, salt: at.salt };
    let mut units = read_units(vec![extent], 0..len);
    match units.next() {
        Some(unit) => unit,
        None => unreachable!("a header has bytes"),
    }
}
