//! A put that waits in the home folder: what the index knows of it.

use std::collections::BTreeMap;

use prost::Message as _;
use zeroize::Zeroizing;

use crate::crypto::frame::Dek;
use crate::message::generated as wire_format;
use crate::message::{Violation, wire};
use crate::types::limits::MAX_METADATA_LEN;
use crate::types::{CollectionName, RecordName, Timestamp, VersionId};

/// A put whose bytes wait in a sealed file to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedPut {
    /// The collection.
    pub collection: CollectionName,
    /// The record.
    pub name: RecordName,
    /// The version that it will be.
    pub version: VersionId,
    /// The random key of the file.
    pub dek: Dek,
    /// Bytes of the record.
    pub size: u64,
    /// Media type, where known.
    pub content_type: Option<String>,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// The user's own words.
    pub metadata: BTreeMap<String, String>,
}

impl StagedPut {
    /// The protobuf bytes. They hold the file's key: only for the sealed index.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let row = wire_format::StagedPut {
            collection: self.collection.as_str().to_owned(),
            name: self.name.as_str().to_owned(),
            version: self.version.0.to_vec(),
            dek: self.dek.as_bytes().to_vec(),
            size: self.size,
            content_type: self.content_type.clone(),
            modified_micros: self.modified.map(Timestamp::unix_micros),
            metadata: self.metadata.clone(),
        };
        let bytes = Zeroizing::new(row.encode_to_vec());
        drop(Zeroizing::new(row.dek));
        bytes
    }

    /// Reads and checks a row.
    ///
    /// # Errors
    /// [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let found: wire_format::StagedPut = wire::decode(bytes)?;
        let dek = Zeroizing::new(found.dek);
        let metadata_len: usize = found.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        wire::within(metadata_len <= MAX_METADATA_LEN)?;
        wire::within(found.content_type.as_ref().is_none_or(|text| text.len() <= MAX_METADATA_LEN))?;
        Ok(Self {
            collection: found.collection.parse().map_err(|_| Violation::OutOfBounds)?,
            name: found.name.parse().map_err(|_| Violation::OutOfBounds)?,
            version: VersionId(wire::array(&found.version)?),
            dek: Dek::from_bytes(wire::array(&dek)?),
            size: found.size,
            content_type: found.content_type,
            modified: found.modified_micros.map(Timestamp::from_unix_micros),
            metadata: found.metadata,
        })
    }
}
