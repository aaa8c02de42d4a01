//! What the ledger brings: the index as the cache of a collection's anchors. Own anchors and those of other devices are
//! applied by the same code, in the order of the ledger.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableError, WriteTransaction};

use crate::message::changeset::What;
use crate::message::{Changeset, Descriptor, VersionEntry, VersionState};
use crate::store::index::commit::{SHREDDABLE, Tables};
use crate::store::index::journal::drop_upload;
use crate::store::index::tables::{
    self, ANCHORS, CLASSES, HEADS, LATEST, PENDING, RELEASES, SEGMENTS, UNANCHORS,
};
use crate::store::index::{Condition, ConditionFailed, Index, IndexError, UploadId, damaged};
use crate::types::{
    CollectionClass, CollectionName, RecordName, SegmentId, Timestamp, TransactionId, VersionId,
};

/// Bits of a commit sequence that number the changes of one anchor: 64 packs of 4,096 changes, and some to spare.
const CHANGE_BITS: u32 = 20;

/// How far the index knows a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last anchor.
    pub anchor: TransactionId,
    /// Anchors so far.
    pub sequence: u64,
}

/// A commit that an anchor brings into effect.
#[derive(Debug, Clone)]
pub struct AnchoredCommit {
    /// The pack that it is in.
    pub pack: SegmentId,
    /// What changes; `None` if the pack was released since, as is done once all that it brought is gone.
    pub changes: Option<Changeset>,
}

/// An anchor as the index applies it.
#[derive(Debug, Clone)]
pub struct AppliedAnchor {
    /// The collection.
    pub collection: CollectionName,
    /// The anchor.
    pub anchor: TransactionId,
    /// The anchor before.
    pub previous: Option<TransactionId>,
    /// Its number in the collection, from 1.
    pub sequence: u64,
    /// The packs with commits that it adds.
    pub packs: Vec<Descriptor>,
    /// What changes.
    pub commits: Vec<AnchoredCommit>,
    /// Segments that are no more part of the vault.
    pub released: Vec<SegmentId>,
    /// Uploads of this device that end with it.
    pub uploads: Vec<UploadId>,
}

impl AppliedAnchor {
    fn changes(&self) -> impl Iterator<Item = (SegmentId, &Changeset)> {
        self.commits.iter().filter_map(|commit| Some((commit.pack, commit.changes.as_ref()?)))
    }

    /// The descriptors of all segments that it or its changes name.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let changes = self.changes().flat_map(|(_, changes)| &changes.changes);
        self.packs.iter().chain(changes.flat_map(|change| change.what.segments()))
    }
}

/// What an anchor would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The index's head, on top of which all this holds.
    pub head: Option<Head>,
    /// Changes, counted over all commits, whose condition does not hold, and what is there instead.
    pub failed: Vec<(usize, ConditionFailed)>,
    /// Segments that nothing would use any more, and some that nothing uses since earlier.
    pub released: BTreeSet<SegmentId>,
    /// Segments that the ledger does not know yet.
    pub fresh: Vec<SegmentId>,
}

impl Index {
    /// How far the index knows a collection.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn head(&self, collection: &CollectionName) -> Result<Option<Head>, IndexError> {
        let Some(number) = self.collection(collection)? else { return Ok(None) };
        let txn = self.db.begin_read()?;
        let row = txn.open_table(HEADS)?.get(number)?;
        Ok(row.map(|row| Head { anchor: TransactionId(*row.value().0), sequence: row.value().1 }))
    }

    /// The class of a collection; none while nothing of it is anchored as far as the index knows.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn class(&self, collection: &CollectionName) -> Result<Option<CollectionClass>, IndexError> {
        let Some(number) = self.collection(collection)? else { return Ok(None) };
        let txn = self.db.begin_read()?;
        if is_shreddable(&txn, number)? {
            return Ok(Some(CollectionClass::Shreddable));
        }
        let has_head = txn.open_table(HEADS)?.get(number)?.is_some();
        Ok(has_head.then_some(CollectionClass::Durable))
    }

    /// Whether no collection was ever anchored, as far as the index knows.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn has_no_heads(&self) -> Result<bool, IndexError> {
        let txn = self.db.begin_read()?;
        Ok(txn.open_table(HEADS)?.first()?.is_none())
    }

    /// The anchor that brought a version; `None` while there is none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn anchor_of(
        &self,
        collection: &CollectionName,
        name: &RecordName,
        version: &VersionId,
    ) -> Result<Option<TransactionId>, IndexError> {
        let Some(number) = self.collection(collection)? else { return Ok(None) };
        let found = self.sequence_of((number, name.as_str()), version)?;
        let txn = self.db.begin_read()?;
        let anchors = txn.open_table(ANCHORS)?;
        let Some(sequence) = found else { return Ok(None) };
        Ok(anchors.get((number, sequence >> CHANGE_BITS))?.map(|row| TransactionId(*row.value())))
    }

    /// What an anchor on top of the index's head would do, without doing it. Its id and number do not matter; `conditions`
    /// are those of its changes, in their order, and `limit` bounds what is released.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn preview(
        &mut self,
        anchor: &AppliedAnchor,
        conditions: &[Condition],
        limit: usize,
    ) -> Result<Preview, IndexError> {
        let head = self.head(&anchor.collection)?;
        let mut preview = Preview { head, ..Preview::default() };
        let txn = self.begin_write()?;
        {
            let mut tables = Tables::open(&txn)?;
            let number = tables.collection(&txn, &anchor.collection, Timestamp::ZERO)?;
            let sequence = head.map_or(0, |head| head.sequence) + 1;
            let anchor = AppliedAnchor { sequence, ..anchor.clone() };
            preview.fresh = tables.unknown(anchor.descriptors())?;
            preview.fresh.extend(pending_segments(&txn, &anchor)?);
            let mut conditions = conditions.iter().copied();
            let mut at = 0;
            let mut holds = |latest: Option<&VersionEntry>| {
                at += 1;
                match conditions.next().unwrap_or_default().check(latest) {
                    Ok(()) => true,
                    Err(failed) => {
                        preview.failed.push((at - 1, failed));
                        false
                    }
                }
            };
            let pending = take_pending(&txn, &anchor)?;
            let unused = apply_changes(&mut tables, number, &anchor, &pending, &mut holds)?;
            preview.released.extend(unused);
            for row in txn.open_table(UNANCHORS)?.range((number, &[0; 32])..=(number, &[0xff; 32]))? {
                preview.released.insert(SegmentId(*row?.0.value().1));
            }
        }
        // It was only to see.
        txn.abort()?;
        let fresh = |segment: &SegmentId| anchor.packs.iter().any(|pack| pack.segment == *segment);
        preview.released.retain(|segment| !fresh(segment));
        while preview.released.len() > limit {
            preview.released.pop_last();
        }
        Ok(preview)
    }

    /// Applies the next anchors of collections, in one transaction. One that was applied before changes nothing.
    ///
    /// # Errors
    /// [`IndexError::OutOfOrder`] if one is not the next: then none is applied.
    pub fn apply(&mut self, anchors: &[AppliedAnchor]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        for anchor in anchors {
            apply_one(&txn, anchor)?;
        }
        txn.commit()?;
        Ok(())
    }
}

impl Index {
    /// Commits the versions of a stored pack that is yet to be anchored: they come after all that is anchored.
    ///
    /// # Errors
    /// [`IndexError`]: then nothing is committed.
    pub fn store(
        &mut self,
        pack: &Descriptor,
        changes: &Changeset,
        uploads: &[UploadId],
    ) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut tables = Tables::open(&txn)?;
            let brought = || changes.changes.iter().flat_map(|change| change.what.segments());
            tables.add(brought().chain([pack]))?;
            let begun = begun(changes).unwrap_or(Timestamp::ZERO);
            let number = tables.collection(&txn, &changes.collection, begun)?;
            let turn = tables.next_sequence();
            for change in &changes.changes {
                let What::Version { entry, segments } = &change.what else { continue };
                let mut used = tables::segments_of(entry);
                used.extend(segments.iter().map(|descriptor| descriptor.segment));
                used.insert(pack.segment);
                let sequence = tables.next_sequence();
                tables.push((number, change.name.as_str()), sequence, entry, &used)?;
            }
            tables.close(&txn)?;
            let row = (turn, &pack.encode()[..], &changes.encode()[..]);
            txn.open_table(PENDING)?.insert(pack.segment.as_bytes(), row)?;
        }
        uploads.iter().try_for_each(|upload| drop_upload(&txn, upload))?;
        txn.commit()?;
        Ok(())
    }

    /// The stored packs that are yet to be anchored, in the order in which they were stored.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn pending_anchors(&self) -> Result<Vec<(Descriptor, Changeset)>, IndexError> {
        let txn = self.db.begin_read()?;
        let mut found = Vec::new();
        for row in txn.open_table(PENDING)?.iter()? {
            let (_, row) = row?;
            let (turn, descriptor, changes) = row.value();
            let changes = Changeset::decode(changes).map_err(|_| damaged("a stored commit"))?;
            found.push((turn, tables::decode_descriptor(descriptor)?, changes));
        }
        found.sort_by_key(|(turn, ..)| *turn);
        Ok(found.into_iter().map(|(_, descriptor, changes)| (descriptor, changes)).collect())
    }

    /// Gives up segments that were sent and that no version uses, and uploads: nodes are to be told.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn give_up(&mut self, segments: &[SegmentId], uploads: &[UploadId]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let known = txn.open_table(SEGMENTS)?;
            let mut releases = txn.open_table(RELEASES)?;
            for segment in segments {
                if known.get(segment.as_bytes())?.is_none() {
                    releases.insert(segment.as_bytes(), ())?;
                }
            }
        }
        uploads.iter().try_for_each(|upload| drop_upload(&txn, upload))?;
        txn.commit()?;
        Ok(())
    }

    /// The ledger does not know a segment that it was to release: nodes may be told at once.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn not_anchored(
        &mut self,
        collection: &CollectionName,
        segment: &SegmentId,
    ) -> Result<(), IndexError> {
        let Some(number) = self.collection(collection)? else { return Ok(()) };
        let txn = self.begin_write()?;
        if txn.open_table(UNANCHORS)?.remove((number, segment.as_bytes()))?.is_some() {
            txn.open_table(RELEASES)?.insert(segment.as_bytes(), ())?;
        }
        txn.commit()?;
        Ok(())
    }
}

/// Whether a collection is noted as shreddable.
pub(super) fn is_shreddable(txn: &ReadTransaction, number: u32) -> Result<bool, IndexError> {
    match txn.open_table(CLASSES) {
        // An index of before there were classes.
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        opened => Ok(opened?.get(number)?.is_some_and(|row| row.value() == SHREDDABLE)),
    }
}

fn apply_one(txn: &WriteTransaction, anchor: &AppliedAnchor) -> Result<(), IndexError> {
    let mut tables = Tables::open(txn)?;
    let begun = anchor.commits.iter().find_map(|commit| begun(commit.changes.as_ref()?));
    let number = tables.collection(txn, &anchor.collection, begun.unwrap_or(Timestamp::ZERO))?;
    let mut heads = txn.open_table(HEADS)?;
    let head = heads.get(number)?.map(|row| (TransactionId(*row.value().0), row.value().1));
    if head.is_some_and(|(_, sequence)| sequence >= anchor.sequence) {
        return Ok(());
    }
    let next = head.map_or(0, |(_, sequence)| sequence) + 1;
    if anchor.sequence != next || anchor.previous != head.map(|(anchor, _)| anchor) {
        return Err(IndexError::OutOfOrder);
    }
    let pending = take_pending(txn, anchor)?;
    let unused = apply_changes(&mut tables, number, anchor, &pending, &mut |_| true)?;
    tables.close(txn)?;
    note_unused(txn, number, &anchor.released, unused)?;
    heads.insert(number, (&anchor.anchor.0, anchor.sequence))?;
    txn.open_table(ANCHORS)?.insert((number, anchor.sequence), &anchor.anchor.0)?;
    anchor.uploads.iter().try_for_each(|upload| drop_upload(txn, upload))
}

fn begun(changes: &Changeset) -> Option<Timestamp> {
    changes.changes.iter().find_map(|change| match &change.what {
        What::Version { entry, .. } => Some(entry.created),
        What::Erase(_) => None,
    })
}

/// Carries out the changes of an anchor that `holds` does not keep back, when told what is the latest of the record;
/// answers the segments that nothing uses any more.
fn apply_changes(
    tables: &mut Tables<'_>,
    number: u32,
    anchor: &AppliedAnchor,
    pending: &BTreeSet<SegmentId>,
    holds: &mut dyn FnMut(Option<&VersionEntry>) -> bool,
) -> Result<Vec<SegmentId>, IndexError> {
    let fresh = tables.add(anchor.descriptors())?;
    let mut unused = Vec::new();
    let mut sequence = anchor.sequence << CHANGE_BITS;
    for (pack, changes) in anchor.changes() {
        if anchor.previous.is_none() && changes.class.is_shreddable() {
            tables.begin_shreddable(number, &pack)?;
        }
        for change in &changes.changes {
            let key = (number, change.name.as_str());
            sequence += 1;
            let latest = tables.latest(key)?.map(|(_, entry)| entry);
            if !holds(latest.as_ref()) {
                continue;
            }
            match &change.what {
                What::Version { entry, segments } => {
                    let mut used = tables::segments_of(entry);
                    if has_more_segments(&entry.state) {
                        used.extend(segments.iter().map(|descriptor| descriptor.segment));
                    }
                    used.insert(pack);
                    // It was only stored before; or it was anchored, and a client that did not hear of it did it again.
                    let is_known = latest.is_some_and(|latest| latest.version == entry.version);
                    let before = match is_known || pending.contains(&pack) {
                        true => tables.take(key, |known| known.version == entry.version)?,
                        false => Vec::new(),
                    };
                    tables.push(key, sequence - 1, entry, &used)?;
                    for (at, entry) in before {
                        unused.extend(tables.forget((number, at), &entry)?);
                    }
                }
                What::Erase(version) => {
                    for (at, entry) in tables.take(key, |entry| entry.version == *version)? {
                        let segments = tables.segments_of((number, at), &entry)?;
                        unused.extend(tables.forget((number, at), &entry)?);
                        tables.keep_eraser(&pack, &segments)?;
                    }
                }
            }
        }
    }
    drop_released(tables, number, &anchor.released, &mut unused)?;
    unused.extend(tables.drop_unused(&fresh)?);
    Ok(unused)
}

/// Those of an anchor's packs that this device stored before; they are not pending any more.
fn take_pending(txn: &WriteTransaction, anchor: &AppliedAnchor) -> Result<BTreeSet<SegmentId>, IndexError> {
    let mut rows = txn.open_table(PENDING)?;
    let mut found = BTreeSet::new();
    for commit in &anchor.commits {
        if rows.remove(commit.pack.as_bytes())?.is_some() {
            found.insert(commit.pack);
        }
    }
    Ok(found)
}

/// The segments that the index knows because this device stored them, and the ledger does not.
fn pending_segments(txn: &WriteTransaction, anchor: &AppliedAnchor) -> Result<Vec<SegmentId>, IndexError> {
    let rows = txn.open_table(PENDING)?;
    let mut found = Vec::new();
    for (pack, changes) in anchor.changes() {
        if rows.get(pack.as_bytes())?.is_some() {
            let brought = changes.changes.iter().flat_map(|change| change.what.segments());
            found.extend(brought.map(|descriptor| descriptor.segment).chain([pack]));
        }
    }
    Ok(found)
}

/// Whether the row of a version does not name all its segments.
fn has_more_segments(state: &VersionState) -> bool {
    match state {
        VersionState::Deleted => false,
        VersionState::Stored(stored) => stored.size > 0 && stored.extents.is_empty(),
        VersionState::Slotted(slotted) => slotted.size > 0 && slotted.extents.is_empty(),
    }
}

/// Drops versions that use a released segment: the commit that erased them was released as well, before this device
/// read it.
fn drop_released(
    tables: &mut Tables<'_>,
    number: u32,
    released: &[SegmentId],
    unused: &mut Vec<SegmentId>,
) -> Result<(), IndexError> {
    let gone = tables.known(released)?;
    if gone.is_empty() {
        return Ok(());
    }
    for name in tables.names(number)? {
        let key = (number, name.as_str());
        for (at, entry) in tables.take_using(key, &gone)? {
            unused.extend(tables.forget((number, at), &entry)?);
        }
    }
    Ok(())
}

/// Nodes are told of what the ledger has released; the ledger, with the collection's next anchor, of the rest.
fn note_unused(
    txn: &WriteTransaction,
    number: u32,
    released: &[SegmentId],
    unused: Vec<SegmentId>,
) -> Result<(), IndexError> {
    let mut releases = txn.open_table(RELEASES)?;
    let mut unanchors = txn.open_table(UNANCHORS)?;
    for segment in unused {
        unanchors.insert((number, segment.as_bytes()), ())?;
    }
    for segment in released {
        unanchors.remove((number, segment.as_bytes()))?;
        releases.insert(segment.as_bytes(), ())?;
    }
    Ok(())
}

impl Index {
    pub(super) fn sequence_of(
        &self,
        key: (u32, &str),
        version: &VersionId,
    ) -> Result<Option<u64>, IndexError> {
        let txn = self.db.begin_read()?;
        if let Some(row) = txn.open_table(LATEST)?.get(key)?
            && tables::decode_entry(row.value().1)?.version == *version
        {
            return Ok(Some(row.value().0));
        }
        let older = txn.open_table(tables::VERSIONS)?;
        for row in older.range((key.0, key.1, 0)..=(key.0, key.1, u64::MAX))? {
            let (at, bytes) = row?;
            if tables::decode_entry(bytes.value())?.version == *version {
                return Ok(Some(at.value().2));
            }
        }
        Ok(None)
    }
}
