//! What changes the index: new versions, copies, removals. Each call is one durable transaction.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::message::{Descriptor, VersionEntry, VersionState};
use crate::store::index::journal::{UploadId, drop_upload};
use crate::store::index::tables::{self, COLLECTIONS, LARGE, LATEST, NEXT, RELEASES, SEGMENTS, VERSIONS};
use crate::store::index::{Index, IndexError};
use crate::types::limits::MAX_CACHED_EXTENTS;
use crate::types::{CollectionName, RecordName, SegmentId, VersionId};

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

/// Row of a record: its number and name.
type Key<'a> = (u32, &'a str);

/// The tables that versions live in.
struct Tables<'txn> {
    latest: Table<'txn, (u32, &'static str), (u64, &'static [u8])>,
    versions: Table<'txn, (u32, &'static str, u64), &'static [u8]>,
    large: Table<'txn, u64, &'static [u8]>,
    segments: Table<'txn, &'static [u8; 32], (u64, &'static [u8])>,
    releases: Table<'txn, &'static [u8; 32], ()>,
    next: (u64, u32),
}

impl<'txn> Tables<'txn> {
    fn open(txn: &'txn WriteTransaction) -> Result<Self, IndexError> {
        let next = txn.open_table(NEXT)?.get(())?.map_or((1, 1), |row| row.value());
        Ok(Self {
            latest: txn.open_table(LATEST)?,
            versions: txn.open_table(VERSIONS)?,
            large: txn.open_table(LARGE)?,
            segments: txn.open_table(SEGMENTS)?,
            releases: txn.open_table(RELEASES)?,
            next,
        })
    }

    fn latest(&self, key: Key<'_>) -> Result<Option<(u64, VersionEntry)>, IndexError> {
        let row = self.latest.get(key)?;
        row.map(|row| Ok((row.value().0, tables::decode_entry(row.value().1)?))).transpose()
    }

    /// Makes `entry` the latest version of a record.
    fn push(
        &mut self,
        key: Key<'_>,
        entry: &VersionEntry,
        used: &BTreeSet<SegmentId>,
    ) -> Result<(), IndexError> {
        let sequence = self.next.0;
        self.next.0 += 1;
        let before = self.latest.insert(key, (sequence, &entry.encode()[..]))?;
        let before = before.map(|row| (row.value().0, row.value().1.to_vec()));
        if let Some((sequence, bytes)) = before {
            self.versions.insert((key.0, key.1, sequence), &bytes[..])?;
        }
        used.iter().try_for_each(|segment| tables::retain(&mut self.segments, segment))?;
        let named = tables::segments_of(entry);
        let unnamed: Vec<u8> = used.difference(&named).flat_map(|segment| segment.0).collect();
        if !unnamed.is_empty() {
            self.large.insert(sequence, &unnamed[..])?;
        }
        Ok(())
    }

    /// Lets go of a version's segments; how many nothing uses any more.
    fn forget(&mut self, sequence: u64, entry: &VersionEntry) -> Result<u64, IndexError> {
        let mut released = 0;
        for segment in tables::all_segments(entry, sequence, &self.large)? {
            released += u64::from(tables::let_go(&mut self.segments, &mut self.releases, &segment)?);
        }
        self.large.remove(sequence)?;
        Ok(released)
    }

    /// All versions of a record: sequence and row.
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

fn check(condition: Condition, latest: Option<&VersionEntry>) -> Result<(), ConditionFailed> {
    let live = latest.filter(|entry| entry.state != VersionState::Deleted).map(|entry| entry.version);
    let holds = match condition {
        Condition::Any => true,
        Condition::IfAbsent => live.is_none(),
        Condition::IfVersion(version) => live == Some(version),
    };
    if holds { Ok(()) } else { Err(ConditionFailed { latest: live }) }
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
            let fresh = add_segments(&mut tables, commits)?;
            for commit in commits {
                let number = match numbers.get(&commit.collection) {
                    Some(number) => *number,
                    None => collection_number(&txn, &mut tables, commit)?,
                };
                numbers.insert(commit.collection.clone(), number);
                results.push(commit_one(&mut tables, number, commit)?);
            }
            drop_unused(&mut tables, &fresh)?;
            txn.open_table(NEXT)?.insert((), tables.next)?;
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
            let all = tables.all(key)?;
            let goes = |entry: &VersionEntry| match which {
                Which::All => true,
                Which::Version(version) => entry.version == version,
            };
            for (sequence, entry) in all.iter().filter(|(_, entry)| goes(entry)) {
                tables.versions.remove((key.0, key.1, *sequence))?;
                erased.versions += 1;
                erased.segments_released += tables.forget(*sequence, entry)?;
            }
            // The newest that is left is the latest now.
            tables.latest.remove(key)?;
            if let Some((sequence, entry)) = all.iter().rfind(|(_, entry)| !goes(entry)) {
                tables.versions.remove((key.0, key.1, *sequence))?;
                tables.latest.insert(key, (*sequence, &entry.encode()[..]))?;
            }
        }
        txn.commit()?;
        Ok(erased)
    }
}

/// Adds the segments that the index does not know, used by nobody yet; which they are.
fn add_segments(tables: &mut Tables<'_>, commits: &[Commit]) -> Result<Vec<SegmentId>, IndexError> {
    let mut fresh = Vec::new();
    for descriptor in commits.iter().flat_map(|commit| &commit.segments) {
        if tables.segments.get(descriptor.segment.as_bytes())?.is_none() {
            tables.segments.insert(descriptor.segment.as_bytes(), (0, &descriptor.encode()[..]))?;
            fresh.push(descriptor.segment);
        }
        tables.releases.remove(descriptor.segment.as_bytes())?;
    }
    Ok(fresh)
}

/// Releases segments that were added for versions whose condition failed.
fn drop_unused(tables: &mut Tables<'_>, fresh: &[SegmentId]) -> Result<(), IndexError> {
    for segment in fresh {
        let unused = tables.segments.get(segment.as_bytes())?.is_some_and(|row| row.value().0 == 0);
        if unused {
            tables.segments.remove(segment.as_bytes())?;
            tables.releases.insert(segment.as_bytes(), ())?;
        }
    }
    Ok(())
}

fn collection_number(
    txn: &WriteTransaction,
    tables: &mut Tables<'_>,
    commit: &Commit,
) -> Result<u32, IndexError> {
    let mut collections = txn.open_table(COLLECTIONS)?;
    let name = commit.collection.as_str();
    if let Some(number) = collections.get(name)?.map(|row| row.value().0) {
        return Ok(number);
    }
    let number = tables.next.1;
    tables.next.1 += 1;
    collections.insert(name, (number, commit.entry.created.unix_micros()))?;
    Ok(number)
}

fn commit_one(
    tables: &mut Tables<'_>,
    number: u32,
    commit: &Commit,
) -> Result<Result<(), ConditionFailed>, IndexError> {
    let key = (number, commit.name.as_str());
    let latest = tables.latest(key)?;
    if let Err(failed) = check(commit.condition, latest.as_ref().map(|(_, entry)| entry)) {
        return Ok(Err(failed));
    }
    let mut used = tables::segments_of(&commit.entry);
    let extents_cached = match &commit.entry.state {
        VersionState::Deleted => true,
        VersionState::Stored(stored) => stored.size == 0 || !stored.extents.is_empty(),
    };
    if !extents_cached {
        // More than MAX_CACHED_EXTENTS: the commit names them all.
        debug_assert!(commit.segments.len() > MAX_CACHED_EXTENTS / 2);
        used.extend(commit.segments.iter().map(|descriptor| descriptor.segment));
    }
    tables.push(key, &commit.entry, &used)?;
    Ok(Ok(()))
}
