//! The tables of the index, and how their rows are read and written.

use std::collections::BTreeSet;

use redb::{ReadableTable as _, Table, TableDefinition, WriteTransaction};

use crate::message::{Descriptor, VersionEntry, VersionState};
use crate::store::index::{IndexError, damaged};
use crate::types::SegmentId;

/// Name → number, and when it was begun in microseconds since the Unix epoch.
pub(super) const COLLECTIONS: TableDefinition<'_, &str, (u32, u64)> = TableDefinition::new("collections");
/// Record → its latest version: commit sequence and `VersionEntry`.
pub(super) const LATEST: TableDefinition<'_, (u32, &str), (u64, &[u8])> = TableDefinition::new("latest");
/// Record and commit sequence → an older version.
pub(super) const VERSIONS: TableDefinition<'_, (u32, &str, u64), &[u8]> = TableDefinition::new("versions");
/// Collection and commit sequence → the segments of a version that its row does not name: it has too many extents.
pub(super) const LARGE: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("large");
/// Segment → how many versions use it, and its `Descriptor`.
pub(super) const SEGMENTS: TableDefinition<'_, &[u8; 32], (u64, &[u8])> = TableDefinition::new("segments");
/// Segments that nothing uses and that nodes have yet to be told of.
pub(super) const RELEASES: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("releases");
/// Collection and anchored segment that nothing uses, and that the ledger has yet to be told of.
pub(super) const UNANCHORS: TableDefinition<'_, (u32, &[u8; 32]), ()> = TableDefinition::new("unanchors");
/// Collection → the anchor up to which the index knows it, and how many anchors that are.
pub(super) const HEADS: TableDefinition<'_, u32, (&[u8; 32], u64)> = TableDefinition::new("heads");
/// Pack that is stored and not anchored → its turn, its descriptor and its changeset.
pub(super) const PENDING: TableDefinition<'_, &[u8; 32], Stored> = TableDefinition::new("pending");
/// Turn → a put whose bytes wait in a file.
pub(super) const STAGED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("staged");
/// Collection and number of an anchor in it, from 1 → the anchor.
pub(super) const ANCHORS: TableDefinition<'_, (u32, u64), &[u8; 32]> = TableDefinition::new("anchors");
/// Segment of a commit, and segment of a later commit that erases what the first brought: as long as the first can be
/// read, a recovery must find the second.
pub(super) const ERASURES: TableDefinition<'_, Erasure, ()> = TableDefinition::new("erasures");
type Erasure = (&'static [u8; 32], &'static [u8; 32]);
type Stored = (u64, &'static [u8], &'static [u8]);
type Upload = (&'static [u8; 16], &'static [u8; 32], u64);
type Chunk = (&'static [u8; 16], u64, &'static [u8]);

/// Upload → version, data key, when it began.
pub(super) const UPLOADS: TableDefinition<'_, &[u8; 32], Upload> = TableDefinition::new("uploads");
/// Upload and chunk → salt, plaintext length, `Descriptor`.
pub(super) const CHUNKS: TableDefinition<'_, (&[u8; 32], u64), Chunk> = TableDefinition::new("chunks");
/// Collections of another class than most → which. Made with its first row.
pub(super) const CLASSES: TableDefinition<'_, u32, u8> = TableDefinition::new("classes");
/// The next commit sequence of what is not anchored, and the next collection number.
pub(super) const NEXT: TableDefinition<'_, (), (u64, u32)> = TableDefinition::new("next");

/// Genesis and number of a change of the static nodes, from 0 → the `RosterStep`. Made with its first row.
pub(super) const ROSTER_STEPS: TableDefinition<'_, (&[u8; 32], u32), &[u8]> =
    TableDefinition::new("roster_steps");
/// Genesis → the storage nodes as they were last learned. Made with its first row.
pub(super) const STORAGE_NODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("storage_nodes");

pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), IndexError> {
    txn.open_table(COLLECTIONS)?;
    txn.open_table(LATEST)?;
    txn.open_table(VERSIONS)?;
    txn.open_table(LARGE)?;
    txn.open_table(SEGMENTS)?;
    txn.open_table(RELEASES)?;
    txn.open_table(UNANCHORS)?;
    txn.open_table(HEADS)?;
    txn.open_table(ANCHORS)?;
    txn.open_table(PENDING)?;
    txn.open_table(STAGED)?;
    txn.open_table(ERASURES)?;
    txn.open_table(UPLOADS)?;
    txn.open_table(CHUNKS)?;
    txn.open_table(NEXT)?;
    Ok(())
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<VersionEntry, IndexError> {
    VersionEntry::decode(bytes).map_err(|_| damaged("a version's row"))
}

pub(super) fn decode_descriptor(bytes: &[u8]) -> Result<Descriptor, IndexError> {
    Descriptor::decode(bytes).map_err(|_| damaged("a segment's row"))
}

/// The segments that a version's row names.
pub(super) fn segments_of(entry: &VersionEntry) -> BTreeSet<SegmentId> {
    match &entry.state {
        VersionState::Deleted => BTreeSet::new(),
        VersionState::Stored(stored) => {
            let body = stored.extents.iter().map(|extent| extent.segment);
            body.chain([stored.header.segment]).collect()
        }
        VersionState::Slotted(slotted) => {
            let body = slotted.extents.iter().map(|extent| extent.segment);
            body.chain([slotted.header.segment]).collect()
        }
    }
}

/// All segments of a version, also those that its row has no room for.
pub(super) fn all_segments(
    entry: &VersionEntry,
    at: (u32, u64),
    large: &impl redb::ReadableTable<(u32, u64), &'static [u8]>,
) -> Result<BTreeSet<SegmentId>, IndexError> {
    let mut segments = segments_of(entry);
    if let Some(row) = large.get(at)? {
        segments.extend(row.value().chunks_exact(32).filter_map(SegmentId::from_slice));
    }
    Ok(segments)
}

/// Counts one use of a segment more.
pub(super) fn retain(
    table: &mut Table<'_, &'static [u8; 32], (u64, &'static [u8])>,
    segment: &SegmentId,
) -> Result<(), IndexError> {
    let row = table.get(segment.as_bytes())?.map(|row| (row.value().0, row.value().1.to_vec()));
    let (refs, descriptor) = row.ok_or(damaged("a segment that a version uses"))?;
    table.insert(segment.as_bytes(), (refs + 1, &descriptor[..]))?;
    Ok(())
}
