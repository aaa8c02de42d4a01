//! Records: extents, header frames and the rows of the owner's index.

use std::collections::BTreeMap;

use crate::crypto::frame::{Dek, DekCommit};
use crate::types::{RecordName, SegmentId, Timestamp, VersionId};

/// A run of frames of one record in one segment, sealed under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The segment.
    pub segment: SegmentId,
    /// Offset of the first frame in the segment's ciphertext.
    pub offset: u64,
    /// Plaintext bytes, padding included.
    pub plain_len: u64,
    /// With the data key it gives the extent's frame key.
    pub salt: [u8; 16],
}

/// Where the sealed header frame of a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// The segment.
    pub segment: SegmentId,
    /// Offset in the segment's ciphertext.
    pub offset: u64,
    /// Ciphertext bytes.
    pub len: u32,
    /// With the data key it gives the header frame's key.
    pub salt: [u8; 16],
}

/// The plaintext of a version's header frame: all that a reader with the data key needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The record's name when this version was written.
    pub name: RecordName,
    /// This version.
    pub version: VersionId,
    /// Bytes of the record, padding excluded.
    pub size: u64,
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// The user's own words.
    pub metadata: BTreeMap<String, String>,
    /// The body, in order.
    pub extents: Vec<Extent>,
}

/// A row of the owner's index: one version of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionEntry {
    /// This version.
    pub version: VersionId,
    /// When it was committed, by the client's clock.
    pub created: Timestamp,
    /// What it is: data or a deletion marker.
    pub state: VersionState,
}

/// Whether a version has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionState {
    /// The record was removed here.
    Deleted,
    /// The record has this content.
    Stored(StoredVersion),
}

/// What the index knows of a version's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Bytes of the record, padding excluded.
    pub size: u64,
    /// The version's random data key.
    pub dek: Dek,
    /// Commitment to the data key and version.
    pub dek_commit: DekCommit,
    /// The header frame.
    pub header: Locator,
    /// The header's extents where they are at most `MAX_CACHED_EXTENTS`; else empty, read the header.
    pub extents: Vec<Extent>,
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
}
