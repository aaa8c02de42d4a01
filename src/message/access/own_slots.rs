//! What an owner asks for of its own at one static node: the keyslots of a shreddable collection's versions.
//!
//! Nothing of an answer is believed: a keyslot opens only under the owner's keys, and gives a data key only against the commitment
//! that the owner's own commit has.

use crate::crypto::access::Keyslot;
use crate::message::Violation;
use crate::message::access::TaggedVersion;
use crate::message::access::package::unsound;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::MAX_RELEASE_ITEMS;
use crate::types::{ScopeTag, VaultId};

/// The question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSlots {
    /// The vault.
    pub vault: VaultId,
    /// The scope that is its owner's.
    pub scope: ScopeTag,
    /// The generation.
    pub generation: u32,
    /// The versions.
    pub versions: Vec<TaggedVersion>,
}

/// What a static node has of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnSlot {
    /// The keyslot.
    Here(Box<Keyslot>),
    /// None, and the ledger says that there is to be none.
    Erased,
    /// None yet.
    Missing,
}

impl Canonical for OwnSlots {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.scope.write(to);
        self.generation.write(to);
        write_list(&self.versions, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            scope: Canonical::read(from)?,
            generation: Canonical::read(from)?,
            versions: read_list(from, MAX_RELEASE_ITEMS)?,
        })
    }
}

impl Canonical for OwnSlot {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Here(slot) => {
                to.push(1);
                to.extend_from_slice(slot.as_bytes());
            }
            Self::Erased => to.push(2),
            Self::Missing => to.push(3),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => {
                let bytes = <[u8; Keyslot::LEN]>::read(from)?;
                Self::Here(Box::new(Keyslot::from_slice(&bytes).map_err(unsound)?))
            }
            2 => Self::Erased,
            3 => Self::Missing,
            _ => return Err(Violation::Malformed),
        })
    }
}
