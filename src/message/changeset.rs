//! What a commit changes in a collection. It is sealed in a pack, and takes effect with the anchor that names the pack.
//!
//! A changeset does not say what it builds on: the order of anchors on the ledger does. So one that was stored and not
//! anchored can be anchored later, by whoever holds the vault's keys.

use prost::Message as _;
use zeroize::Zeroizing;

use crate::message::generated as wire_format;
use crate::message::record::{padded, unpadded};
use crate::message::{Descriptor, VersionEntry, VersionState, Violation, wire};
use crate::types::limits::PACK_MAX_RECORDS;
use crate::types::{CollectionClass, CollectionName, RecordName, VersionId};

/// What happens to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most changes are new versions")]
pub enum What {
    /// This is its latest version from now on.
    Version {
        /// The version.
        entry: VersionEntry,
        /// The segments that it uses, but for the pack that the commit is in.
        segments: Vec<Descriptor>,
    },
    /// This version of it is erased.
    Erase(VersionId),
}

/// A change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// The record.
    pub name: RecordName,
    /// What happens to it.
    pub what: What,
}

/// What a commit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changeset {
    /// The collection.
    pub collection: CollectionName,
    /// In this order; at most [`PACK_MAX_RECORDS`].
    pub changes: Vec<RecordChange>,
    /// Whoever finds the pack may anchor it: its changes are under no condition and were acknowledged once it was stored.
    pub standalone: bool,
    /// The class of the collection. A commit without changes begins a shreddable one.
    pub class: CollectionClass,
}

impl Changeset {
    /// The padded plaintext of the commit. It holds data keys.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let changes = self.changes.iter().map(|change| {
            let (what, segments) = match &change.what {
                What::Version { entry, segments } => {
                    (wire_format::change::What::Version(entry.encode().to_vec()), &segments[..])
                }
                What::Erase(version) => (wire_format::change::What::Erased(version.0.to_vec()), &[][..]),
            };
            wire_format::Change {
                name: change.name.as_str().to_owned(),
                what: Some(what),
                segments: segments.iter().map(Descriptor::encode).collect(),
            }
        });
        let message = wire_format::Changeset {
            collection: self.collection.as_str().to_owned(),
            changes: changes.collect(),
            standalone: self.standalone,
            shreddable: self.class.is_shreddable(),
        };
        let bytes = Zeroizing::new(message.encode_to_vec());
        message.changes.into_iter().for_each(wipe);
        Zeroizing::new(padded(&bytes))
    }

    /// Reads and checks the plaintext of a commit.
    ///
    /// # Errors
    /// [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode(plain: &[u8]) -> Result<Self, Violation> {
        let found: wire_format::Changeset = wire::decode(unpadded(plain)?)?;
        wire::within(found.changes.len() <= PACK_MAX_RECORDS)?;
        let collection = found.collection.parse().map_err(|_| Violation::OutOfBounds)?;
        let changes: Vec<_> = found.changes.into_iter().map(decode_change).collect::<Result<_, _>>()?;
        let class = match found.shreddable {
            true => CollectionClass::Shreddable,
            false => CollectionClass::Durable,
        };
        // No commit of a shreddable collection has a data key, and no other leaves one out.
        let fits = |change: &RecordChange| match &change.what {
            What::Version { entry, .. } => match &entry.state {
                VersionState::Stored(_) => !class.is_shreddable(),
                VersionState::Slotted(_) => class.is_shreddable(),
                VersionState::Deleted => true,
            },
            What::Erase(_) => true,
        };
        wire::within(changes.iter().all(fits))?;
        Ok(Self { collection, changes, standalone: found.standalone, class })
    }

    /// Where a changeset is in its pack: the plaintext of the preamble.
    #[must_use]
    pub fn encode_place(offset: u64, len: u64) -> [u8; PLACE_LEN] {
        let mut plain = [0; PLACE_LEN];
        plain[..8].copy_from_slice(&offset.to_le_bytes());
        plain[8..].copy_from_slice(&len.to_le_bytes());
        plain
    }

    /// Reads a preamble: the offset of the commit's run in the pack and its bytes of plaintext.
    #[must_use]
    pub fn decode_place(plain: [u8; PLACE_LEN]) -> (u64, u64) {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| plain[at + byte]));
        (number(0), number(8))
    }
}

/// Bytes of a preamble's plaintext.
pub const PLACE_LEN: usize = 16;

fn wipe(change: wire_format::Change) {
    if let Some(wire_format::change::What::Version(bytes)) = change.what {
        drop(Zeroizing::new(bytes));
    }
}

fn decode_change(found: wire_format::Change) -> Result<RecordChange, Violation> {
    let name = found.name.parse().map_err(|_| Violation::OutOfBounds)?;
    let what = match found.what.ok_or(Violation::Malformed)? {
        wire_format::change::What::Version(bytes) => {
            let entry = VersionEntry::decode(&Zeroizing::new(bytes))?;
            let segments = found.segments.iter().map(|bytes| Descriptor::decode(bytes));
            What::Version { entry, segments: segments.collect::<Result<_, _>>()? }
        }
        wire_format::change::What::Erased(version) if found.segments.is_empty() => {
            What::Erase(VersionId(wire::array(&version)?))
        }
        wire_format::change::What::Erased(_) => return Err(Violation::Malformed),
    };
    Ok(RecordChange { name, what })
}

impl What {
    /// The version that comes; none if one goes.
    #[must_use]
    pub const fn version(&self) -> Option<VersionId> {
        match self {
            Self::Version { entry, .. } => Some(entry.version),
            Self::Erase(_) => None,
        }
    }

    /// The segments that a version brings besides its pack.
    #[must_use]
    pub fn segments(&self) -> &[Descriptor] {
        match self {
            Self::Version { segments, .. } => segments,
            Self::Erase(_) => &[],
        }
    }
}
