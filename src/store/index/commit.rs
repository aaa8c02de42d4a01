//! What changes the index: new versions, copies, removals. Each call is one durable transaction.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::message::{Descriptor, VersionEntry, VersionState};
use crate::store::index::journal::{UploadId, drop_upload};
use crate::store::index::tables::{
    self, CLASSES, COLLECTIONS, ERASURES, LARGE, LATEST, NEXT, RELEASES, SEGMENTS, VERSIONS,
};
use crate::store::index::{Index, IndexError};
use crate::types::limits::MAX_CACHED_EXTENTS;
use crate::types::{CollectionName, RecordName, SegmentId, Timestamp, VersionId};

/// What must hold of a record for a change of it to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// There is no such record, or it was removed.
    IfAbsent,
    /// This is its latest version.
    IfVersion(VersionId),
}

/// The condition does not hold: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is not as the condition says")]
pub struct ConditionFailed {
    /// The record's latest version, if it has one that is not a removal.
    pub latest: Option<VersionId>,
}

/// A new version of a record.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The collection; made if need be.
    pub collection: CollectionName,
    /// The record.
    pub name: RecordName,
    /// The version.
    pub entry: VersionEntry,
    /// What must hold.
    pub condition: Condition,
    /// The segments that it uses and the index may not know yet.
    pub segments: Vec<Descriptor>,
    /// The upload that ends with it.
    pub upload: Option<UploadId>,
}

/// Which versions to erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// One.
    Version(VersionId),
    /// All.
    All,
}

/// What an erasure did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Versions erased.
    pub versions: u64,
    /// Segments that nothing uses any more.
    pub segments_released: u64,
}

/// Row of a record: its collection's number and its name.
type Key<'a> = (u32, &'a str);

/// The row of a shreddable collection among the classes.
pub(super) const SHREDDABLE: u8 = 1;

/// What is not anchored counts from here, so that it comes after all that is.
const FIRST_UNANCHORED: u64 = 1 << 63;

/// The tables that versions live in.
pub(super) struct Tables<'txn> {
    latest: Table<'txn, (u32, &'static str), (u64, &'static [u8])>,
    versions: Table<'txn, (u32, &'static str, u64), &'static [u8]>,
    large: Table<'txn, (u32, u64), &'static [u8]>,
    segments: Table<'txn, &'static [u8; 32], (u64, &'static [u8])>,
    erasures: Table<'txn, (&'static [u8; 32], &'static [u8; 32]), ()>,
    classes: Table<'txn, u32, u8>,
    next: (u64, u32),
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, IndexError> {
        let next = txn.open_table(NEXT)?.get(())?.map_or((FIRST_UNANCHORED, 1), |row| row.value());
        Ok(Self {
            latest: txn.open_table(LATEST)?,
            versions: txn.open_table(VERSIONS)?,
            large: txn.open_table(LARGE)?,
            segments: txn.open_table(SEGMENTS)?,
            erasures: txn.open_table(ERASURES)?,
            classes: txn.open_table(CLASSES)?,
            next,
        })
    }

    /// Must be called last.
    pub(super) fn close(self, txn: &WriteTransaction) -> Result<(), IndexError> {
        txn.open_table(NEXT)?.insert((), self.next)?;
        Ok(())
    }

    /// The number of something that is not anchored.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.next.0 += 1;
        self.next.0 - 1
    }

    pub(super) fn latest(&self, key: Key<'_>) -> Result<Option<(u64, VersionEntry)>, IndexError> {
        let row = self.latest.get(key)?;
        row.map(|row| Ok((row.value().0, tables::decode_entry(row.value().1)?))).transpose()
    }

    /// Adds a version of a record: it is the latest, unless one of a later sequence is.
    pub(super) fn push(
        &mut self,
        key: Key<'_>,
        sequence: u64,
        entry: &VersionEntry,
        used: &BTreeSet<SegmentId>,
    ) -> Result<(), IndexError> {
        let bytes = entry.encode();
        let latest = self.latest.get(key)?.map(|row| (row.value().0, row.value().1.to_vec()));
        match latest {
            Some((later, _)) if later > sequence => {
                self.versions.insert((key.0, key.1, sequence), &bytes[..])?;
            }
            before => {
                self.latest.insert(key, (sequence, &bytes[..]))?;
                if let Some((sequence, bytes)) = before {
                    self.versions.insert((key.0, key.1, sequence), &bytes[..])?;
                }
            }
        }
        used.iter().try_for_each(|segment| tables::retain(&mut self.segments, segment))?;
        let named = tables::segments_of(entry);
        let unnamed: Vec<u8> = used.difference(&named).flat_map(|segment| segment.0).collect();
        if !unnamed.is_empty() {
            self.large.insert((key.0, sequence), &unnamed[..])?;
        }
        Ok(())
    }

    /// Removes some versions of a record; those that went: sequence and row.
    pub(super) fn take(
        &mut self,
        key: Key<'_>,
        goes: impl Fn(&VersionEntry) -> bool,
    ) -> Result<Vec<(u64, VersionEntry)>, IndexError> {
        let (gone, left): (Vec<_>, Vec<_>) = self.all(key)?.into_iter().partition(|(_, entry)| goes(entry));
        for (sequence, _) in &gone {
            self.versions.remove((key.0, key.1, *sequence))?;
        }
        // The newest that is left is the latest now.
        self.latest.remove(key)?;
        if let Some((sequence, entry)) = left.last() {
            self.versions.remove((key.0, key.1, *sequence))?;
            self.latest.insert(key, (*sequence, &entry.encode()[..]))?;
        }
        Ok(gone)
    }

    /// Lets go of a version's segments; answers those that nothing uses any more.
    pub(super) fn forget(
        &mut self,
        at: (u32, u64),
        entry: &VersionEntry,
    ) -> Result<Vec<SegmentId>, IndexError> {
        let mut unused = Vec::new();
        for segment in tables::all_segments(entry, at, &self.large)? {
            self.let_go(segment, &mut unused)?;
        }
        self.large.remove(at)?;
        Ok(unused)
    }

    /// Counts one use of a segment less. Those that nothing uses any more, with what was kept for their sake, are
    /// dropped and added to `unused`.
    pub(super) fn let_go(
        &mut self,
        segment: SegmentId,
        unused: &mut Vec<SegmentId>,
    ) -> Result<(), IndexError> {
        let mut pending = vec![segment];
        while let Some(segment) = pending.pop() {
            let row = self.segments.get(segment.as_bytes())?;
            let Some((refs, descriptor)) = row.map(|row| (row.value().0, row.value().1.to_vec())) else {
                continue;
            };
            if refs > 1 {
                self.segments.insert(segment.as_bytes(), (refs - 1, &descriptor[..]))?;
                continue;
            }
            self.segments.remove(segment.as_bytes())?;
            unused.push(segment);
            pending.extend(self.erasers(&segment)?);
        }
        Ok(())
    }

    /// Takes the commits that were kept because they erase what a segment's commit brought.
    fn erasers(&mut self, segment: &SegmentId) -> Result<Vec<SegmentId>, IndexError> {
        let mut found = Vec::new();
        let (first, last) = ([0; 32], [0xff; 32]);
        for row in self.erasures.range((segment.as_bytes(), &first)..=(segment.as_bytes(), &last))? {
            found.push(SegmentId(*row?.0.value().1));
        }
        for eraser in &found {
            self.erasures.remove((segment.as_bytes(), eraser.as_bytes()))?;
        }
        Ok(found)
    }

    /// Keeps the commit that erased a version as long as one of the version's segments is there, from which a recovery
    /// would bring it back.
    pub(super) fn keep_eraser(
        &mut self,
        eraser: &SegmentId,
        erased: &BTreeSet<SegmentId>,
    ) -> Result<(), IndexError> {
        for segment in erased {
            if self.segments.get(segment.as_bytes())?.is_some()
                && self.erasures.insert((segment.as_bytes(), eraser.as_bytes()), ())?.is_none()
            {
                tables::retain(&mut self.segments, eraser)?;
            }
        }
        Ok(())
    }

    /// Notes that a collection is shreddable since its first commit, and keeps the pack of that commit for good: from it every
    /// home learns of it.
    pub(super) fn begin_shreddable(&mut self, number: u32, pack: &SegmentId) -> Result<(), IndexError> {
        if self.classes.insert(number, SHREDDABLE)?.is_none() {
            tables::retain(&mut self.segments, pack)?;
        }
        Ok(())
    }

    /// All segments of a version.
    pub(super) fn segments_of(
        &self,
        at: (u32, u64),
        entry: &VersionEntry,
    ) -> Result<BTreeSet<SegmentId>, IndexError> {
        tables::all_segments(entry, at, &self.large)
    }

    /// Adds the segments that the index does not know, used by nobody yet; which they are.
    pub(super) fn add<'d>(
        &mut self,
        descriptors: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Result<Vec<SegmentId>, IndexError> {
        let mut fresh = Vec::new();
        for descriptor in descriptors {
            if self.segments.get(descriptor.segment.as_bytes())?.is_none() {
                self.segments.insert(descriptor.segment.as_bytes(), (0, &descriptor.encode()[..]))?;
                fresh.push(descriptor.segment);
            }
        }
        Ok(fresh)
    }

    /// Those of these segments that the index does not know, each once.
    pub(super) fn unknown<'d>(
        &self,
        descriptors: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Result<Vec<SegmentId>, IndexError> {
        let mut unknown = BTreeSet::new();
        for descriptor in descriptors {
            if self.segments.get(descriptor.segment.as_bytes())?.is_none() {
                unknown.insert(descriptor.segment);
            }
        }
        Ok(unknown.into_iter().collect())
    }

    /// Drops those of these segments that nothing uses; which they were.
    pub(super) fn drop_unused(&mut self, segments: &[SegmentId]) -> Result<Vec<SegmentId>, IndexError> {
        let mut dropped = Vec::new();
        for segment in segments {
            let unused = self.segments.get(segment.as_bytes())?.is_some_and(|row| row.value().0 == 0);
            if unused {
                self.segments.remove(segment.as_bytes())?;
                dropped.push(*segment);
            }
        }
        Ok(dropped)
    }

    /// The number of a collection; made if need be.
    pub(super) fn collection(
        &mut self,
        txn: &WriteTransaction,
        name: &CollectionName,
        begun: Timestamp,
    ) -> Result<u32, IndexError> {
        let mut collections = txn.open_table(COLLECTIONS)?;
        if let Some(number) = collections.get(name.as_str())?.map(|row| row.value().0) {
            return Ok(number);
        }
        let number = self.next.1;
        self.next.1 += 1;
        collections.insert(name.as_str(), (number, begun.unix_micros()))?;
        Ok(number)
    }

    /// Those of these segments that some version uses.
    pub(super) fn known(&self, segments: &[SegmentId]) -> Result<BTreeSet<SegmentId>, IndexError> {
        let mut known = BTreeSet::new();
        for segment in segments {
            if self.segments.get(segment.as_bytes())?.is_some() {
                known.insert(*segment);
            }
        }
        Ok(known)
    }

    /// The names of a collection's records.
    pub(super) fn names(&self, number: u32) -> Result<Vec<String>, IndexError> {
        let mut names = Vec::new();
        for row in self.latest.range((number, "")..(number + 1, ""))? {
            names.push(row?.0.value().1.to_owned());
        }
        Ok(names)
    }

    /// Removes the versions of a record that use one of these segments.
    pub(super) fn take_using(
        &mut self,
        key: Key<'_>,
        segments: &BTreeSet<SegmentId>,
    ) -> Result<Vec<(u64, VersionEntry)>, IndexError> {
        let mut using = BTreeSet::new();
        for (sequence, entry) in self.all(key)? {
            if !self.segments_of((key.0, sequence), &entry)?.is_disjoint(segments) {
                using.insert(entry.version);
            }
        }
        if using.is_empty() { Ok(Vec::new()) } else { self.take(key, |entry| using.contains(&entry.version)) }
    }

    /// All versions of a record, the latest last: sequence and row.
    fn all(&self, key: Key<'_>) -> Result<Vec<(u64, VersionEntry)>, IndexError> {
        let mut found = Vec::new();
        for row in self.versions.range((key.0, key.1, 0)..=(key.0, key.1, u64::MAX))? {
            let (at, bytes) = row?;
            found.push((at.value().2, tables::decode_entry(bytes.value())?));
        }
        found.extend(self.latest(key)?);
        Ok(found)
    }
}

impl Condition {
    /// Whether it holds where this is a record's latest version.
    ///
    /// # Errors
    /// [`ConditionFailed`] if not.
    pub fn check(self, latest: Option<&VersionEntry>) -> Result<(), ConditionFailed> {
        let live = latest.filter(|entry| entry.state != VersionState::Deleted).map(|entry| entry.version);
        let holds = match self {
            Self::Any => true,
            Self::IfAbsent => live.is_none(),
            Self::IfVersion(version) => live == Some(version),
        };
        if holds { Ok(()) } else { Err(ConditionFailed { latest: live }) }
    }
}

impl Index {
    /// Commits new versions, all in one transaction. One whose condition fails does not keep the others back;
    /// segments that only it used are to be released then.
    ///
    /// # Errors
    /// [`IndexError`]: then none is committed.
    pub fn commit(&mut self, commits: &[Commit]) -> Result<Vec<Result<(), ConditionFailed>>, IndexError> {
        let txn = self.begin_write()?;
        let mut numbers = BTreeMap::new();
        let mut results = Vec::with_capacity(commits.len());
        {
            let mut tables = Tables::open(&txn)?;
            let descriptors = || commits.iter().flat_map(|commit| &commit.segments);
            let fresh = tables.add(descriptors())?;
            for commit in commits {
                let number = match numbers.get(&commit.collection) {
                    Some(number) => *number,
                    None => tables.collection(&txn, &commit.collection, commit.entry.created)?,
                };
                numbers.insert(commit.collection.clone(), number);
                results.push(commit_one(&mut tables, number, commit)?);
            }
            let unused = tables.drop_unused(&fresh)?;
            tables.close(&txn)?;
            let mut releases = txn.open_table(RELEASES)?;
            for descriptor in descriptors() {
                releases.remove(descriptor.segment.as_bytes())?;
            }
            for segment in unused {
                releases.insert(segment.as_bytes(), ())?;
            }
        }
        for commit in commits {
            if let Some(upload) = &commit.upload {
                drop_upload(&txn, upload)?;
            }
        }
        // If we crash here nothing of it happened; nobody was told otherwise.
        txn.commit()?;
        Ok(results)
    }

    /// Erases versions for good.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn erase(
        &mut self,
        collection: &CollectionName,
        name: &RecordName,
        which: Which,
    ) -> Result<Erased, IndexError> {
        let Some(number) = self.collection(collection)? else { return Ok(Erased::default()) };
        let key = (number, name.as_str());
        let txn = self.begin_write()?;
        let mut erased = Erased::default();
        {
            let mut tables = Tables::open(&txn)?;
            let gone = tables.take(key, |entry| match which {
                Which::All => true,
                Which::Version(version) => entry.version == version,
            })?;
            let mut releases = txn.open_table(RELEASES)?;
            for (sequence, entry) in gone {
                erased.versions += 1;
                for segment in tables.forget((number, sequence), &entry)? {
                    releases.insert(segment.as_bytes(), ())?;
                    erased.segments_released += 1;
                }
            }
            tables.close(&txn)?;
        }
        txn.commit()?;
        Ok(erased)
    }
}

fn commit_one(
    tables: &mut Tables<'_>,
    number: u32,
    commit: &Commit,
) -> Result<Result<(), ConditionFailed>, IndexError> {
    let key = (number, commit.name.as_str());
    let latest = tables.latest(key)?;
    if let Err(failed) = commit.condition.check(latest.as_ref().map(|(_, entry)| entry)) {
        return Ok(Err(failed));
    }
    let mut used = tables::segments_of(&commit.entry);
    let extents_cached = match &commit.entry.state {
        VersionState::Deleted => true,
        VersionState::Stored(stored) => stored.size == 0 || !stored.extents.is_empty(),
        VersionState::Slotted(slotted) => slotted.size == 0 || !slotted.extents.is_empty(),
    };
    if !extents_cached {
        // More than MAX_CACHED_EXTENTS: the commit names them all.
        debug_assert!(commit.segments.len() > MAX_CACHED_EXTENTS / 2);
        used.extend(commit.segments.iter().map(|descriptor| descriptor.segment));
    }
    let sequence = tables.next_sequence();
    tables.push(key, sequence, &commit.entry, &used)?;
    Ok(Ok(()))
}
