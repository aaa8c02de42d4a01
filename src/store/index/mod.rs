//! The owner's index on this device: which records there are, their versions and keys, which node holds which
//! shard, and who the network's nodes were when it was last asked. It is sealed as a whole (see [`sealed_file`](crate::store::sealed_file)).
//!
//! [`Index`] is the database, used by one process at a time; [`SharedIndex`] shares it among tasks and
//! processes and commits in groups. A commit is durable when it returns (I11).

mod anchored;
mod commit;
mod journal;
mod list;
mod network;
mod notes;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod watched;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use crate::message::{Descriptor, VersionEntry};
use crate::store::disk::{Disk, says_full};
use crate::store::sealed_file::{Entropy, SealedFile, UnsealError};
use crate::types::{CollectionClass, CollectionName, RecordName, SegmentId, Timestamp, VersionId};

pub use anchored::{AnchoredCommit, AppliedAnchor, Head, Preview};
pub use commit::{Commit, Condition, ConditionFailed, Erased, Which};
pub use journal::{JournaledChunk, UploadId, UploadRow};
pub use list::{ListItem, ListQuery, Listing};
pub(crate) use notes::Note;
pub use shared::SharedIndex;

use watched::{Fate, Watched};

use tables::{COLLECTIONS, LATEST, RELEASES, SEGMENTS, VERSIONS};

/// The sealed database in the index's folder. It is whole from the moment that it has this name.
const INDEX_FILE: &str = "index.sealed";
/// Its name while it is being made: what a crash leaves of it then was promised to nobody.
const MAKING_FILE: &str = "index.making";
const CACHE_BYTES: usize = 48 << 20;

/// Why the index does not do something.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process uses it, and went on doing so.
    #[error("the local index is in use by another process")]
    Locked,
    /// It belongs to another vault.
    #[error("the local index was made with another key")]
    WrongKey,
    /// What it holds is not what was written.
    #[error("the local index is damaged: {what}")]
    Damaged {
        /// What is damaged.
        what: &'static str,
    },
    /// An anchor is not the next one of its collection.
    #[error("the local index is not as far as the anchor before")]
    OutOfOrder,
    /// The disk is full.
    #[error("no space left for the local index")]
    Full,
    /// The database or the disk failed.
    #[error("the local index failed")]
    Database(#[source] redb::Error),
    /// The thread that owns the index is gone: a bug.
    #[error("the local index is closed")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for IndexError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) if says_full(&error) => Self::Full,
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged { what: "a sector" }
            }
            redb::Error::Corrupted(_) => Self::Damaged { what: "the database" },
            error => Self::Database(error),
        }
    }
}

const fn damaged(what: &'static str) -> IndexError {
    IndexError::Damaged { what }
}

/// The index, open.
#[derive(Debug)]
pub struct Index {
    db: Database,
    fate: Fate,
}

impl Index {
    /// Opens the index on a disk, or begins an empty one.
    ///
    /// # Errors
    /// [`IndexError::WrongKey`], [`IndexError::Damaged`] or what the disk says.
    pub fn open(disk: &dyn Disk, key: &[u8; 32], entropy: Entropy) -> Result<Self, IndexError> {
        let entropy = Arc::new(Mutex::new(entropy));
        let draw = || -> Entropy {
            let entropy = Arc::clone(&entropy);
            Box::new(move |out| entropy.lock().unwrap_or_else(PoisonError::into_inner)(out))
        };
        let file = match disk.open(INDEX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(disk, key, draw())?;
                disk.open(INDEX_FILE)
            }
            opened => opened,
        };
        let sealed = SealedFile::open(file.map_err(redb::Error::Io)?, key, draw());
        Self::from_sealed(sealed.map_err(|error| match error {
            UnsealError::WrongKey => IndexError::WrongKey,
            UnsealError::Io(error) => redb::Error::Io(error).into(),
            UnsealError::Damaged(what) => damaged(what),
            UnsealError::NotSealed | UnsealError::UnknownFormat { .. } => damaged("its beginning"),
        })?)
    }

    /// Makes an empty index. If we crash before the last line the next attempt begins anew.
    fn make(disk: &dyn Disk, key: &[u8; 32], entropy: Entropy) -> Result<(), IndexError> {
        match disk.remove(MAKING_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(redb::Error::Io(error).into());
            }
            _ => {}
        }
        let file = disk.create(MAKING_FILE).map_err(redb::Error::Io)?;
        let sealed = SealedFile::create(file, key, entropy).map_err(redb::Error::Io)?;
        let index = Self::from_sealed(sealed)?;
        let made = index.make_tables();
        made.map_err(|error| index.explain(error))?;
        drop(index);
        disk.rename(MAKING_FILE, INDEX_FILE).map_err(redb::Error::Io)?;
        Ok(disk.sync_dir().map_err(redb::Error::Io)?)
    }

    fn from_sealed(sealed: SealedFile) -> Result<Self, IndexError> {
        let (sealed, fate) = Watched::new(sealed);
        let db = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(sealed);
        Ok(Self { db: db.map_err(|error| fate.explain(error.into()))?, fate })
    }

    fn make_tables(&self) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        tables::create_all(&txn)?;
        Ok(txn.commit()?)
    }

    /// An error of this index, with what its storage said before.
    pub(crate) fn explain(&self, error: IndexError) -> IndexError {
        self.fate.explain(error)
    }

    /// Its storage failed: it is of no use any more until it is opened anew.
    pub(crate) fn has_failed(&self) -> bool {
        self.fate.has_failed()
    }

    /// A transaction that is durable once committed. Two phases, as the sealed file needs them.
    fn begin_write(&self) -> Result<WriteTransaction, IndexError> {
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// The collections that have records, be it removed ones, and when each was begun, in order of name.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn collections(&self) -> Result<Vec<(CollectionName, Timestamp, CollectionClass)>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(COLLECTIONS)?;
        let records = txn.open_table(LATEST)?;
        let mut found = Vec::new();
        for row in table.iter()? {
            let (name, row) = row?;
            let number = row.value().0;
            let first = records.range((number, "")..)?.next().transpose()?;
            let class = match anchored::is_shreddable(&txn, number)? {
                true => CollectionClass::Shreddable,
                false => CollectionClass::Durable,
            };
            // One that was begun as shreddable is there before its first record.
            if !class.is_shreddable() && first.is_none_or(|(key, _)| key.value().0 != number) {
                continue;
            }
            let name = name.value().parse().map_err(|_| damaged("a collection's name"))?;
            found.push((name, Timestamp::from_unix_micros(row.value().1), class));
        }
        Ok(found)
    }

    /// The number of a collection, if there is one.
    fn collection(&self, name: &CollectionName) -> Result<Option<u32>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(COLLECTIONS)?;
        Ok(table.get(name.as_str())?.map(|row| row.value().0))
    }

    /// The latest version of a record; it may be a deletion marker.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn latest(
        &self,
        collection: &CollectionName,
        name: &RecordName,
    ) -> Result<Option<VersionEntry>, IndexError> {
        let Some(collection) = self.collection(collection)? else { return Ok(None) };
        let txn = self.db.begin_read()?;
        let table = txn.open_table(LATEST)?;
        let row = table.get((collection, name.as_str()))?;
        row.map(|row| tables::decode_entry(row.value().1)).transpose()
    }

    /// All versions of a record, the newest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn versions(
        &self,
        collection: &CollectionName,
        name: &RecordName,
    ) -> Result<Vec<VersionEntry>, IndexError> {
        let Some(collection) = self.collection(collection)? else { return Ok(Vec::new()) };
        let txn = self.db.begin_read()?;
        let latest = txn.open_table(LATEST)?;
        let older = txn.open_table(VERSIONS)?;
        let mut entries = Vec::new();
        if let Some(row) = latest.get((collection, name.as_str()))? {
            entries.push(tables::decode_entry(row.value().1)?);
        }
        let range = (collection, name.as_str(), 0)..=(collection, name.as_str(), u64::MAX);
        for row in older.range(range)?.rev() {
            entries.push(tables::decode_entry(row?.1.value())?);
        }
        Ok(entries)
    }

    /// One version of a record.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn version(
        &self,
        collection: &CollectionName,
        name: &RecordName,
        version: &VersionId,
    ) -> Result<Option<VersionEntry>, IndexError> {
        Ok(self.versions(collection, name)?.into_iter().find(|entry| entry.version == *version))
    }

    /// All segments that are known.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn descriptors(&self) -> Result<Vec<Descriptor>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(SEGMENTS)?;
        table.iter()?.map(|row| tables::decode_descriptor(row?.1.value().1)).collect()
    }

    /// The segments that a version uses, as far as their descriptors are known.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn segments_of(
        &self,
        collection: &CollectionName,
        name: &RecordName,
        version: &VersionId,
    ) -> Result<Vec<Descriptor>, IndexError> {
        let (Some(number), Some(entry)) =
            (self.collection(collection)?, self.version(collection, name, version)?)
        else {
            return Ok(Vec::new());
        };
        let Some(sequence) = self.sequence_of((number, name.as_str()), version)? else {
            return Ok(Vec::new());
        };
        let segments = {
            let txn = self.db.begin_read()?;
            tables::all_segments(&entry, (number, sequence), &txn.open_table(tables::LARGE)?)?
        };
        let mut found = Vec::new();
        for segment in segments {
            found.extend(self.descriptor(&segment)?);
        }
        Ok(found)
    }

    /// What is known of a segment.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn descriptor(&self, segment: &SegmentId) -> Result<Option<Descriptor>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(SEGMENTS)?;
        let row = table.get(segment.as_bytes())?;
        row.map(|row| tables::decode_descriptor(row.value().1)).transpose()
    }

    /// Takes over holders of a segment's shards: those that are given replace those that are known. Whether the index knows
    /// the segment; one that it does not know stays so.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn amend(&mut self, descriptor: &Descriptor) -> Result<bool, IndexError> {
        let Some(mut known) = self.descriptor(&descriptor.segment)? else { return Ok(false) };
        if known.roots != descriptor.roots || !known.learn(&descriptor.holders) {
            return Ok(true);
        }
        let txn = self.begin_write()?;
        let mut table = txn.open_table(SEGMENTS)?;
        let refs = table.get(descriptor.segment.as_bytes())?.map(|row| row.value().0);
        if let Some(refs) = refs {
            table.insert(descriptor.segment.as_bytes(), (refs, &known.encode()[..]))?;
        }
        drop(table);
        txn.commit()?;
        Ok(true)
    }

    /// Segments that nothing uses any more and that nodes have yet to be told of, at most `limit`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn pending_releases(&self, limit: usize) -> Result<Vec<SegmentId>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(RELEASES)?;
        table.iter()?.take(limit).map(|row| Ok(SegmentId(*row?.0.value()))).collect()
    }

    /// Notes that every node was told to free these segments.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn released(&mut self, segments: &[SegmentId]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        let mut table = txn.open_table(RELEASES)?;
        for segment in segments {
            table.remove(segment.as_bytes())?;
        }
        drop(table);
        txn.commit()?;
        Ok(())
    }
}
