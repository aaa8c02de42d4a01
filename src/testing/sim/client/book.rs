//! What a client writes into its index, and what it does because of what the index says.

use std::collections::BTreeSet;

use super::put::Packed;
use super::{Answer, Client, Died, Shared, Target};
use crate::message::record::{StoredVersion, VersionState};
use crate::message::{Descriptor, Request, Response, VersionEntry};
use crate::store::IndexError;
use crate::store::index::{Commit, Condition, JournaledChunk, UploadId, UploadRow, Which};
use crate::types::{PublicKey, RecordName, SegmentId, Timestamp, VersionId};

/// Segments that a client has nodes release at a time.
const RELEASES_AT_ONCE: usize = 16;

/// I2, at the moment of the commit: whichever node is lost, k shards are left.
fn survives_any_node(descriptor: &Descriptor) -> Result<(), Died> {
    let held: Vec<_> = descriptor.holders.iter().flatten().collect();
    let without = |node: &PublicKey| held.iter().filter(|holder| **holder != node).count();
    let least = held.iter().map(|node| without(node)).min().unwrap_or(0);
    if held.len() >= descriptor.code.ack_threshold() && least >= descriptor.code.k() {
        return Ok(());
    }
    Err(Died::Broken(format!("I2: a commit of a segment that may be lost with one node: {descriptor:?}")))
}

/// A release under way.
#[derive(Debug, Default)]
pub(super) struct Releasing {
    segments: Vec<SegmentId>,
    /// Nodes that have not confirmed it.
    unconfirmed: BTreeSet<PublicKey>,
}

impl Client {
    /// An error of the index ends the client: of its disk, or of the index, which is wrong.
    fn check<T>(&self, result: Result<T, IndexError>) -> Result<T, Died> {
        result.map_err(|error| {
            if self.disk.is_down() { Died::Killed } else { Died::Broken(format!("{error} ({error:?})")) }
        })
    }

    /// The commit point of every record in a pack: with the pack's and the bodies' descriptors their versions
    /// become visible at once.
    pub(super) fn commit(
        &mut self,
        pack: &Descriptor,
        records: &[Packed],
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let mut commits = Vec::new();
        for record in records {
            let Some(put) = self.put_job(record.job) else { continue };
            let stored = StoredVersion {
                size: put.content.len as u64,
                content_version: put.version,
                dek: put.dek.clone(),
                dek_commit: put.dek.commit(&put.version),
                header: record.header,
                extents: record.extents.clone(),
                content_type: None,
                modified: None,
                content: put.hash(),
            };
            let state = VersionState::Stored(stored);
            let mut segments = put.descriptors.clone();
            segments.push(pack.clone());
            let (name, created, upload) = (put.name.clone(), put.started, put.upload);
            let entry = VersionEntry { version: put.version, created, state, provenance: None };
            commits.push(self.commit_of(name, entry, segments, upload));
        }
        self.commit_all(&commits, shared)
    }

    fn commit_of(
        &self,
        name: RecordName,
        entry: VersionEntry,
        segments: Vec<Descriptor>,
        upload: Option<UploadId>,
    ) -> Commit {
        let collection = self.collection.clone();
        Commit { collection, name, entry, condition: Condition::Any, segments, upload }
    }

    fn commit_all(&mut self, commits: &[Commit], shared: &mut Shared) -> Result<(), Died> {
        commits.iter().flat_map(|commit| &commit.segments).try_for_each(survives_any_node)?;
        let record = |commit: &Commit| ((self.number, commit.name.clone()), commit.entry.version);
        let expected = commits.iter().map(record).collect();
        let result = self.index.commit(commits);
        match self.check(result) {
            Ok(results) if results.iter().all(Result::is_ok) => shared.model.committed(expected),
            Ok(results) => return Err(Died::Broken(format!("commits without condition: {results:?}"))),
            Err(died) => {
                shared.model.uncertain(expected);
                return Err(died);
            }
        }
        Ok(())
    }

    /// Removes a record: a mark on top of its versions, or all of them for good.
    pub(in crate::testing::sim) fn remove(
        &mut self,
        now: Timestamp,
        name: &RecordName,
        for_good: bool,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        if for_good {
            let record = (self.number, name.clone());
            let result = self.index.erase(&self.collection, name, Which::All);
            match self.check(result) {
                Ok(_) => shared.model.erased(&record),
                Err(died) => {
                    shared.model.erasure_uncertain(record);
                    return Err(died);
                }
            }
            return self.release(now);
        }
        let version = VersionId::new(now, self.rng.bytes());
        shared.model.intend(version, None);
        let state = VersionState::Deleted;
        let entry = VersionEntry { version, created: now, state, provenance: None };
        let commit = self.commit_of(name.clone(), entry, Vec::new(), None);
        self.commit_all(&[commit], shared)
    }

    pub(super) fn amend(&mut self, descriptor: &Descriptor) -> Result<(), Died> {
        let result = self.index.amend(descriptor);
        self.check(result).map(drop)
    }

    pub(super) fn descriptor(&self, segment: &SegmentId) -> Result<Option<Descriptor>, Died> {
        self.check(self.index.descriptor(segment))
    }

    /// The versions of a record that the index has, the newest first.
    pub(in crate::testing::sim) fn versions(&self, name: &RecordName) -> Result<Vec<VersionId>, Died> {
        let entries = self.check(self.index.versions(&self.collection, name))?;
        Ok(entries.into_iter().map(|entry| entry.version).collect())
    }

    /// The holders of every segment of a record's latest version, as the index has them.
    pub(in crate::testing::sim) fn holders(
        &self,
        name: &RecordName,
    ) -> Result<Vec<Vec<Option<PublicKey>>>, Died> {
        let latest = self.check(self.index.latest(&self.collection, name))?;
        let Some(VersionState::Stored(stored)) = latest.map(|entry| entry.state) else {
            return Ok(Vec::new());
        };
        let body = stored.extents.iter().map(|extent| extent.segment);
        let segments: BTreeSet<_> = body.chain([stored.header.segment]).collect();
        let found = segments.iter().map(|segment| Ok(self.descriptor(segment)?.map(|found| found.holders)));
        found.filter_map(Result::transpose).collect()
    }

    pub(super) fn version(
        &self,
        name: &RecordName,
        version: &VersionId,
    ) -> Result<Option<VersionEntry>, Died> {
        self.check(self.index.version(&self.collection, name, version))
    }

    /// What the journal has of an upload; begins it if it has nothing.
    pub(super) fn begin_upload(
        &mut self,
        id: &UploadId,
        row: UploadRow,
    ) -> Result<(UploadRow, Vec<JournaledChunk>), Died> {
        if let Some(found) = self.check(self.index.upload(id))? {
            return Ok(found);
        }
        let result = self.index.begin_upload(id, &row);
        self.check(result)?;
        Ok((row, Vec::new()))
    }

    pub(super) fn journal(&mut self, id: &UploadId, chunk: &JournaledChunk) -> Result<(), Died> {
        let result = self.index.put_chunk(id, chunk);
        self.check(result)
    }

    /// Gives up uploads that nobody went on with.
    pub(in crate::testing::sim) fn abandon_uploads(&mut self, now: Timestamp) -> Result<(), Died> {
        let result = self.index.abandon_uploads(now);
        self.check(result)?;
        self.release(now)
    }

    /// Tells every node of segments that nothing uses any more, unless it is being told already.
    pub(in crate::testing::sim) fn release(&mut self, now: Timestamp) -> Result<(), Died> {
        if self.releasing.is_some() {
            return Ok(());
        }
        let segments = self.check(self.index.pending_releases(RELEASES_AT_ONCE))?;
        if segments.is_empty() {
            return Ok(());
        }
        let nodes: Vec<PublicKey> = self.network.nodes.iter().map(|node| node.key).collect();
        for node in &nodes {
            let request = Request::ReleaseSegments { vault: *self.keys.vault(), segments: segments.clone() };
            self.call(now, *node, Target::Release, &request, Vec::new());
        }
        self.releasing = Some(Releasing { segments, unconfirmed: nodes.into_iter().collect() });
        Ok(())
    }

    /// Segments that nodes have yet to be told of.
    pub(in crate::testing::sim) fn unreleased(&self) -> Result<usize, Died> {
        Ok(self.check(self.index.pending_releases(usize::MAX))?.len())
    }

    pub(super) fn release_answered(
        &mut self,
        now: Timestamp,
        node: PublicKey,
        answer: &Answer,
    ) -> Result<(), Died> {
        let Some(releasing) = &mut self.releasing else { return Ok(()) };
        if !matches!(answer, Answer::Response(Response::Released { .. }, _)) {
            // Another time: it is still in the index.
            self.releasing = None;
            return Ok(());
        }
        releasing.unconfirmed.remove(&node);
        if releasing.unconfirmed.is_empty() {
            let segments = std::mem::take(&mut releasing.segments);
            self.releasing = None;
            let result = self.index.released(&segments);
            self.check(result)?;
            return self.release(now);
        }
        Ok(())
    }
}
