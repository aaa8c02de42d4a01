//! What the ledger has of a vault's PRF key, and of the static nodes' access logs.

use crate::message::Violation;
use crate::message::canonical::Canonical;
use crate::types::{Hash, LogHash, VaultId};

/// Gives the shares of a vault's PRF key to the static nodes. Neither the key's commitments nor a sealed share is on the
/// ledger: who can compute discrete logarithms one day learns nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySharing {
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's keys: the one shared before, to share it anew, or the next.
    pub dealing: u32,
    /// The roster whose members have the shares, each by its place in it: the one that decides on this block.
    pub roster: Hash,
    /// Hash of the commitments.
    pub commitments: Hash,
    /// Hash of the package with the shares.
    pub package: Hash,
}

impl Canonical for KeySharing {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.dealing.write(to);
        self.roster.write(to);
        self.commitments.write(to);
        self.package.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            roster: Canonical::read(from)?,
            commitments: Canonical::read(from)?,
            package: Canonical::read(from)?,
        })
    }
}

/// A head of a static node's access log (RFC 6962 tree over its entries): from then on it cannot change what is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Entries.
    pub size: u64,
    /// Their root.
    pub root: LogHash,
}

impl Canonical for LogHead {
    fn write(&self, to: &mut Vec<u8>) {
        self.size.write(to);
        self.root.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { size: Canonical::read(from)?, root: Canonical::read(from)? })
    }
}
