//! Records: extents, header frames and the rows of the owner's index.

use std::collections::BTreeMap;

use prost::Message as _;
use zeroize::Zeroizing;

use crate::crypto::frame::{Dek, DekCommit};
use crate::message::access::Provenance;
use crate::message::generated as wire_format;
use crate::message::{Opening, SlottedVersion, Violation, wire};
use crate::types::limits::{FRAME_LEN, MAX_CACHED_EXTENTS, MAX_METADATA_LEN, MAX_SEGMENT_LEN, TAG_LEN};
use crate::types::{GrantId, Hash, Locator, RecordName, SegmentId, Timestamp, TransactionId, VersionId};

/// Headers are padded to this, so that their length tells little of a name.
const HEADER_ALIGN: usize = 64;

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
    /// BLAKE3 of the record, padding excluded.
    pub content: Hash,
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
    /// Who brought it, if its owner did not put it. A deletion marker has none.
    pub provenance: Option<Provenance>,
}

/// Whether a version has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionState {
    /// The record was removed here.
    Deleted,
    /// The record has this content.
    Stored(StoredVersion),
    /// The record has this content, and its data key is in a keyslot at the static nodes.
    Slotted(SlottedVersion),
}

/// What the index knows of a version's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Bytes of the record, padding excluded.
    pub size: u64,
    /// The version as which the content was written, to which its keys are bound; a copy has a version of its own.
    pub content_version: VersionId,
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
    /// BLAKE3 of the record, padding excluded.
    pub content: Hash,
}

impl Extent {
    /// Ciphertext bytes: the plaintext and a tag for each frame begun; `None` past 64 bits.
    fn sealed_len(&self) -> Option<u64> {
        let tags = self.plain_len.div_ceil(FRAME_LEN as u64).checked_mul(TAG_LEN as u64)?;
        self.plain_len.checked_add(tags)
    }

    pub(super) fn encode(&self) -> wire_format::Extent {
        wire_format::Extent {
            segment: self.segment.0.to_vec(),
            offset: self.offset,
            plain_len: self.plain_len,
            salt: self.salt.to_vec(),
        }
    }

    fn decode(found: &wire_format::Extent) -> Result<Self, Violation> {
        let extent = Self {
            segment: wire::segment(&found.segment)?,
            offset: found.offset,
            plain_len: found.plain_len,
            salt: wire::array(&found.salt)?,
        };
        let end = extent.sealed_len().and_then(|len| len.checked_add(extent.offset));
        wire::within(extent.plain_len > 0 && end.is_some_and(|end| end <= MAX_SEGMENT_LEN))?;
        Ok(extent)
    }
}

impl Locator {
    pub(super) fn encode(&self) -> wire_format::Locator {
        wire_format::Locator {
            segment: self.segment.0.to_vec(),
            offset: self.offset,
            len: self.len,
            salt: self.salt.to_vec(),
        }
    }

    pub(super) fn decode(found: &wire_format::Locator) -> Result<Self, Violation> {
        let locator = Self {
            segment: wire::segment(&found.segment)?,
            offset: found.offset,
            len: found.len,
            salt: wire::array(&found.salt)?,
        };
        let end = locator.offset.checked_add(locator.len.into());
        let holds_a_frame = usize::try_from(locator.len).is_ok_and(|len| len > TAG_LEN);
        wire::within(holds_a_frame && end.is_some_and(|end| end <= MAX_SEGMENT_LEN))?;
        Ok(locator)
    }
}

impl RecordHeader {
    /// The plaintext of the header frames: u32 little endian length, the protobuf bytes, then zeros up
    /// to a multiple of 64 bytes.
    ///
    /// # Panics
    /// If the header takes 4 GiB or more: its extents then cover more than any segment could hold.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let message = wire_format::RecordHeader {
            name: self.name.as_str().to_owned(),
            version: self.version.0.to_vec(),
            size: self.size,
            content_type: self.content_type.clone(),
            modified_micros: self.modified.map(Timestamp::unix_micros),
            metadata: self.metadata.clone(),
            extents: self.extents.iter().map(Extent::encode).collect(),
            content: self.content.0.to_vec(),
        }
        .encode_to_vec();
        padded(&message)
    }

    /// Reads and checks the plaintext of the header frames.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if it is not the schema's or its padding is not as it should be;
    /// [`Violation::OutOfBounds`] if a name, a length or an extent is not allowed.
    pub fn decode(plain: &[u8]) -> Result<Self, Violation> {
        let found: wire_format::RecordHeader = wire::decode(unpadded(plain)?)?;
        let extents = decode_extents(&found.extents)?;
        check_size(found.size, &extents)?;
        wire::within(found.content_type.as_ref().is_none_or(|text| text.len() <= MAX_METADATA_LEN))?;
        let metadata_len: usize = found.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        wire::within(metadata_len <= MAX_METADATA_LEN)?;
        Ok(Self {
            name: found.name.parse().map_err(|_| Violation::OutOfBounds)?,
            version: VersionId(wire::array(&found.version)?),
            size: found.size,
            content_type: found.content_type,
            modified: found.modified_micros.map(Timestamp::from_unix_micros),
            metadata: found.metadata,
            extents,
            content: wire::hash(&found.content)?,
        })
    }
}

/// A message with its length before it and zeros behind it, so that its length tells little of what is in it.
pub(super) fn padded(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap_or_else(|_| panic!("a header of {} bytes", message.len()));
    let mut plain = Vec::with_capacity((4 + message.len()).next_multiple_of(HEADER_ALIGN));
    plain.extend_from_slice(&len.to_le_bytes());
    plain.extend_from_slice(message);
    plain.resize(plain.len().next_multiple_of(HEADER_ALIGN), 0);
    plain
}

/// The message inside a padded header.
pub(super) fn unpadded(plain: &[u8]) -> Result<&[u8], Violation> {
    let (len, rest) = plain.split_first_chunk().ok_or(Violation::Malformed)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Violation::Malformed)?;
    let (message, padding) = rest.split_at_checked(len).ok_or(Violation::Malformed)?;
    let whole = plain.len().is_multiple_of(HEADER_ALIGN) && padding.len() < HEADER_ALIGN;
    if whole && padding.iter().all(|&byte| byte == 0) { Ok(message) } else { Err(Violation::Malformed) }
}

fn decode_extents(found: &[wire_format::Extent]) -> Result<Vec<Extent>, Violation> {
    found.iter().map(Extent::decode).collect()
}

/// The extents of a row, as far as it caches them.
pub(super) fn decode_cached_extents(
    size: u64,
    found: &[wire_format::Extent],
) -> Result<Vec<Extent>, Violation> {
    wire::within(found.len() <= MAX_CACHED_EXTENTS)?;
    let extents = decode_extents(found)?;
    // None cached: the record is empty, or has more than a row caches.
    if !extents.is_empty() {
        check_size(size, &extents)?;
    }
    Ok(extents)
}

/// The extents cover the record, and an empty record has none.
fn check_size(size: u64, extents: &[Extent]) -> Result<(), Violation> {
    let covered = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.plain_len));
    wire::within(covered.is_some_and(|covered| size <= covered) && (size == 0) == extents.is_empty())
}

impl VersionEntry {
    /// The protobuf bytes. They hold the data key: only for the sealed index.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut row = match &self.state {
            VersionState::Deleted => wire_format::VersionEntry { deleted: true, ..Default::default() },
            VersionState::Stored(stored) => stored.encode(),
            VersionState::Slotted(slotted) => slotted.encode(),
        };
        row.version = self.version.0.to_vec();
        row.created_micros = self.created.unix_micros();
        if let Some(Provenance { grant, deposit }) = &self.provenance {
            (row.grant, row.deposit) = (grant.0.to_vec(), deposit.0.to_vec());
        }
        let bytes = Zeroizing::new(row.encode_to_vec());
        drop(Zeroizing::new(row.dek));
        bytes
    }

    /// Reads and checks a row.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if it is not the schema's or a deletion marker has content;
    /// [`Violation::OutOfBounds`] if a length or an extent is not allowed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut found: wire_format::VersionEntry = wire::decode(bytes)?;
        let version = VersionId(wire::array(&found.version)?);
        let created = Timestamp::from_unix_micros(found.created_micros);
        if found.deleted {
            found.version.clear();
            found.created_micros = 0;
            let marker = wire_format::VersionEntry { deleted: true, ..Default::default() };
            let state = (found == marker).then_some(VersionState::Deleted).ok_or(Violation::Malformed)?;
            return Ok(Self { version, created, state, provenance: None });
        }
        let provenance = decode_provenance(&found)?;
        let state = match found.dealing {
            Some(dealing) => VersionState::Slotted(SlottedVersion::decode(found, dealing)?),
            None => VersionState::Stored(StoredVersion::decode(found)?),
        };
        Ok(Self { version, created, state, provenance })
    }
}

fn decode_provenance(found: &wire_format::VersionEntry) -> Result<Option<Provenance>, Violation> {
    if found.grant.is_empty() && found.deposit.is_empty() {
        return Ok(None);
    }
    let (grant, deposit) = (GrantId(wire::array(&found.grant)?), TransactionId(wire::array(&found.deposit)?));
    Ok(Some(Provenance { grant, deposit }))
}

impl StoredVersion {
    fn encode(&self) -> wire_format::VersionEntry {
        wire_format::VersionEntry {
            size: self.size,
            content_version: self.content_version.0.to_vec(),
            dek: self.dek.as_bytes().to_vec(),
            dek_commit: self.dek_commit.0.to_vec(),
            header: Some(self.header.encode()),
            extents: self.extents.iter().map(Extent::encode).collect(),
            content_type: self.content_type.clone(),
            modified_micros: self.modified.map(Timestamp::unix_micros),
            content: self.content.0.to_vec(),
            ..Default::default()
        }
    }

    fn decode(found: wire_format::VersionEntry) -> Result<Self, Violation> {
        let dek = Zeroizing::new(found.dek);
        let extents = decode_cached_extents(found.size, &found.extents)?;
        wire::within(found.content_type.as_ref().is_none_or(|text| text.len() <= MAX_METADATA_LEN))?;
        if !found.commitment.is_empty() || found.key_generation != 0 {
            return Err(Violation::Malformed);
        }
        Ok(Self {
            size: found.size,
            content_version: VersionId(wire::array(&found.content_version)?),
            dek: Dek::from_bytes(wire::array(&dek)?),
            dek_commit: DekCommit(wire::array(&found.dek_commit)?),
            header: Locator::decode(found.header.as_ref().ok_or(Violation::Malformed)?)?,
            extents,
            content_type: found.content_type,
            modified: found.modified_micros.map(Timestamp::from_unix_micros),
            content: wire::hash(&found.content)?,
        })
    }

    /// What the ledger commits to when this version is anchored.
    #[must_use]
    pub fn opening(&self, version: VersionId) -> Opening {
        Opening { version, content: self.content, size: self.size, salt: self.dek.anchor_salt(&version) }
    }
}
