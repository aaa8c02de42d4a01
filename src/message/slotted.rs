//! A version of a shreddable collection, as the owner's index and its sealed commits know it: all but the data key, and nothing
//! from which its content could be guessed.

use crate::crypto::frame::{Dek, DekCommit};
use crate::message::generated as wire_format;
use crate::message::record::decode_cached_extents;
use crate::message::{Extent, StoredVersion, Violation, wire};
use crate::types::limits::MAX_METADATA_LEN;
use crate::types::{Hash, Locator, LogHash, Timestamp, VersionId};

/// What the index knows of a version whose data key is in a keyslot at the static nodes. The hash of its content is not here,
/// for who has it finds out by trying what a short record said: it is in the header, under the data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlottedVersion {
    /// Bytes of the record, padding excluded.
    pub size: u64,
    /// The version as which the content was written, to which its keys are bound.
    pub content_version: VersionId,
    /// Commitment to the data key and version: what a keyslot gives must be this.
    pub dek_commit: DekCommit,
    /// The header frame.
    pub header: Locator,
    /// The header's extents where they are at most `MAX_CACHED_EXTENTS`; else empty, read the header.
    pub extents: Vec<Extent>,
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// Under which of the vault's PRF keys the owner's keyslot is.
    pub dealing: u32,
    /// Under which generation of the vault's keys it is.
    pub key_generation: u32,
    /// The leaf that stands for the version in the tree of its anchor.
    pub commitment: LogHash,
}

impl SlottedVersion {
    /// What of a version stays once its data key is in a keyslot.
    #[must_use]
    pub fn of(stored: StoredVersion, version: VersionId, (dealing, key_generation): (u32, u32)) -> Self {
        let commitment = stored.opening(version).leaf();
        let StoredVersion {
            size, content_version, dek_commit, header, extents, content_type, modified, ..
        } = stored;
        Self {
            size,
            content_version,
            dek_commit,
            header,
            extents,
            content_type,
            modified,
            dealing,
            key_generation,
            commitment,
        }
    }

    /// The version with what its keyslot and its header say.
    #[must_use]
    pub fn complete(self, dek: Dek, content: Hash) -> StoredVersion {
        let Self { size, content_version, dek_commit, header, extents, content_type, modified, .. } = self;
        StoredVersion {
            size,
            content_version,
            dek,
            dek_commit,
            header,
            extents,
            content_type,
            modified,
            content,
        }
    }

    pub(super) fn encode(&self) -> wire_format::VersionEntry {
        wire_format::VersionEntry {
            size: self.size,
            content_version: self.content_version.0.to_vec(),
            dek_commit: self.dek_commit.0.to_vec(),
            header: Some(self.header.encode()),
            extents: self.extents.iter().map(Extent::encode).collect(),
            content_type: self.content_type.clone(),
            modified_micros: self.modified.map(Timestamp::unix_micros),
            dealing: Some(self.dealing),
            key_generation: self.key_generation,
            commitment: self.commitment.0.to_vec(),
            ..Default::default()
        }
    }

    pub(super) fn decode(found: wire_format::VersionEntry, dealing: u32) -> Result<Self, Violation> {
        if !found.dek.is_empty() || !found.content.is_empty() {
            return Err(Violation::Malformed);
        }
        wire::within(found.content_type.as_ref().is_none_or(|text| text.len() <= MAX_METADATA_LEN))?;
        Ok(Self {
            size: found.size,
            content_version: VersionId(wire::array(&found.content_version)?),
            dek_commit: DekCommit(wire::array(&found.dek_commit)?),
            header: Locator::decode(found.header.as_ref().ok_or(Violation::Malformed)?)?,
            extents: decode_cached_extents(found.size, &found.extents)?,
            content_type: found.content_type,
            modified: found.modified_micros.map(Timestamp::from_unix_micros),
            dealing,
            key_generation: found.key_generation,
            commitment: LogHash(wire::array(&found.commitment)?),
        })
    }
}
