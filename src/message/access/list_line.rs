//! What a line of a scope's list says of a record.

use crate::message::Violation;
use crate::message::canonical::{Canonical, read_bytes, write_bytes};
use crate::types::limits::{MAX_COLLECTION_NAME_LEN, MAX_METADATA_LEN, MAX_RECORD_NAME_LEN};
use crate::types::{CollectionName, RecordName, Timestamp};

/// Lines are padded to this, so that their length tells little of a name.
const ALIGN: usize = 64;
/// Bytes of a media type in a line; a longer one is left out.
const MAX_TYPE_LEN: usize = 128;

const _: () = assert!(MAX_TYPE_LEN <= MAX_METADATA_LEN);

/// A record as who may list a scope sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListLine {
    /// Its collection.
    pub collection: CollectionName,
    /// Its name.
    pub name: RecordName,
    /// Bytes.
    pub size: u64,
    /// When the version was put.
    pub created: Timestamp,
    /// Last modification of the source, where known.
    pub modified: Option<Timestamp>,
    /// Media type, where known.
    pub content_type: Option<String>,
}

impl ListLine {
    /// The bytes to seal.
    #[must_use]
    pub fn to_padded(&self) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    /// Reads what [`to_padded`](Self::to_padded) made.
    ///
    /// # Errors
    /// [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn from_padded(bytes: &[u8]) -> Result<Self, Violation> {
        let mut rest = bytes;
        let found = Self::read(&mut rest)?;
        let is_padding = rest.len() < ALIGN && rest.iter().all(|byte| *byte == 0);
        if is_padding { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for ListLine {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.collection.as_str().as_bytes(), to);
        write_bytes(self.name.as_str().as_bytes(), to);
        self.size.write(to);
        self.created.write(to);
        self.modified.write(to);
        let content_type = self.content_type.as_deref().filter(|text| text.len() <= MAX_TYPE_LEN);
        content_type.is_some().write(to);
        if let Some(text) = content_type {
            write_bytes(text.as_bytes(), to);
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let collection = text(from, MAX_COLLECTION_NAME_LEN)?.parse().map_err(|_| Violation::OutOfBounds)?;
        let name = text(from, MAX_RECORD_NAME_LEN)?.parse().map_err(|_| Violation::OutOfBounds)?;
        Ok(Self {
            collection,
            name,
            size: Canonical::read(from)?,
            created: Canonical::read(from)?,
            modified: Canonical::read(from)?,
            content_type: bool::read(from)?.then(|| text(from, MAX_TYPE_LEN)).transpose()?,
        })
    }
}

fn text(from: &mut &[u8], max: usize) -> Result<String, Violation> {
    String::from_utf8(read_bytes(from, max)?).map_err(|_| Violation::Malformed)
}
