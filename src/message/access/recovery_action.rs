//! What changes on the ledger when keys are lost: guardians and what they approve, and the vault's next key.

use crate::crypto::hash::{Context, derive_key};
use crate::message::Violation;
use crate::message::access::recovery::GuardianSet;
use crate::message::canonical::Canonical;
use crate::types::{Hash, PublicKey, VaultId};

/// What an author wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryAction {
    /// The owner names the vault's guardians; those before are none any more.
    SetGuardians(GuardianSet),
    /// The author, a guardian, stands behind a request to recover. The first one puts it on the ledger.
    Approve {
        /// The vault.
        vault: VaultId,
        /// The set that the author is of.
        set: u32,
        /// The request.
        request: Hash,
    },
    /// The owner objects to a request.
    Veto {
        /// The vault.
        vault: VaultId,
        /// The request.
        request: Hash,
    },
    /// The owner pledges the vault's next key before it is needed.
    PledgeKey {
        /// The vault.
        vault: VaultId,
        /// [`next_key_hash`] of the key of the generation after this one.
        next: Hash,
    },
    /// The author, whose key was pledged, owns the vault from here on.
    Rotate {
        /// The vault.
        vault: VaultId,
        /// The generation that begins.
        generation: u32,
        /// [`next_key_hash`] of the key after the author's.
        next: Hash,
    },
}

/// What the ledger knows a key by that is not used yet.
#[must_use]
pub fn next_key_hash(vault: &VaultId, generation: u32, key: &PublicKey) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(Context::NextKey, &[&vault.0, &generation.to_le_bytes(), &key.0], &mut hash.0);
    hash
}

impl RecoveryAction {
    /// The first and the last number under which one is encoded.
    pub const KINDS: std::ops::RangeInclusive<u8> = 70..=74;

    /// The number under which it is encoded.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::SetGuardians(_) => 70,
            Self::Approve { .. } => 71,
            Self::Veto { .. } => 72,
            Self::PledgeKey { .. } => 73,
            Self::Rotate { .. } => 74,
        }
    }

    /// The vault whose quota pays. Who approves, objects or rotates pays out of its own, which a thief of the vault's key
    /// cannot use up.
    #[must_use]
    pub const fn payer(&self) -> Option<&VaultId> {
        match self {
            Self::SetGuardians(set) => Some(&set.vault),
            Self::PledgeKey { vault, .. } => Some(vault),
            Self::Approve { .. } | Self::Veto { .. } | Self::Rotate { .. } => None,
        }
    }

    /// Appends what follows the number.
    pub(in crate::message) fn write_body(&self, to: &mut Vec<u8>) {
        match self {
            Self::SetGuardians(set) => set.write(to),
            Self::Approve { vault, set, request } => {
                vault.write(to);
                set.write(to);
                request.write(to);
            }
            Self::Veto { vault, request } => {
                vault.write(to);
                request.write(to);
            }
            Self::PledgeKey { vault, next } => {
                vault.write(to);
                next.write(to);
            }
            Self::Rotate { vault, generation, next } => {
                vault.write(to);
                generation.write(to);
                next.write(to);
            }
        }
    }

    /// Reads what follows the number.
    pub(in crate::message) fn read_body(kind: u8, from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match kind {
            70 => Self::SetGuardians(Canonical::read(from)?),
            71 => Self::Approve {
                vault: Canonical::read(from)?,
                set: Canonical::read(from)?,
                request: Canonical::read(from)?,
            },
            72 => Self::Veto { vault: Canonical::read(from)?, request: Canonical::read(from)? },
            73 => Self::PledgeKey { vault: Canonical::read(from)?, next: Canonical::read(from)? },
            74 => Self::Rotate {
                vault: Canonical::read(from)?,
                generation: Canonical::read(from)?,
                next: Canonical::read(from)?,
            },
            _ => return Err(Violation::Malformed),
        })
    }
}
