//! What the ledger has of a handoff: who dealt what, who took it, and who says that a dealing is wrong.
//!
//! A transaction is about many vaults at once, so that a change of the static nodes costs few of them. None names a key, a
//! commitment or a part of a share: only hashes.

use crate::message::Violation;
use crate::message::access::desk::Ack;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::{MAX_COMMITTEE, MAX_HANDOFF_VAULTS};
use crate::types::{Hash, NetworkId, PublicKey, VaultId};

/// A sharing of a vault's key that is handed on, and which attempt at it this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HandedVault {
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's keys.
    pub dealing: u32,
    /// Which sharing of it is handed on.
    pub epoch: u32,
    /// How often it was begun anew since.
    pub attempt: u32,
}

/// A new member's word that it has a package durably, and that its own part in it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBy {
    /// The new member.
    pub member: PublicKey,
    /// Its [`Ack`].
    pub signature: [u8; 64],
}

/// An old member has dealt its shares of these vaults' keys to the next members, who have the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOff {
    /// The roster of the next members: the one that decides on this block.
    pub to: Hash,
    /// Hash of the package.
    pub package: Hash,
    /// What is in it: one at least, ascending, each vault once.
    pub vaults: Vec<HandedVault>,
    /// Who has it, by ascending key: so many that it cannot get lost.
    pub kept: Vec<KeptBy>,
}

/// What a new member took of one vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakenShare {
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's keys.
    pub dealing: u32,
    /// Which sharing of it was handed on.
    pub epoch: u32,
    /// The old members of whose dealings it is the sum: bit n stands for place n + 1.
    pub dealers: u64,
    /// Hash of the commitments of the sharing that it makes.
    pub commitments: Hash,
}

/// A new member has its shares durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeShares {
    /// What it took: one at least, ascending, each vault once.
    pub shares: Vec<TakenShare>,
}

impl HandOff {
    /// Checks who says that the package is kept. Whether they are members says the ledger.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), Violation> {
        let check =
            |kept: &KeptBy| Ack { signature: kept.signature }.verify(network, &self.package.0, &kept.member);
        self.kept.iter().try_for_each(check)
    }
}

impl Canonical for HandedVault {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.dealing.write(to);
        self.epoch.write(to);
        self.attempt.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            epoch: Canonical::read(from)?,
            attempt: Canonical::read(from)?,
        })
    }
}

impl Canonical for KeptBy {
    fn write(&self, to: &mut Vec<u8>) {
        self.member.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { member: Canonical::read(from)?, signature: Canonical::read(from)? })
    }
}

impl Canonical for HandOff {
    fn write(&self, to: &mut Vec<u8>) {
        self.to.write(to);
        self.package.write(to);
        write_list(&self.vaults, to);
        write_list(&self.kept, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            to: Canonical::read(from)?,
            package: Canonical::read(from)?,
            vaults: read_list(from, MAX_HANDOFF_VAULTS)?,
            kept: read_list(from, MAX_COMMITTEE)?,
        };
        let is_sorted = found.vaults.is_sorted_by(|one, next| one.vault < next.vault)
            && found.kept.is_sorted_by(|one, next| one.member < next.member);
        if is_sorted && !found.vaults.is_empty() { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for TakenShare {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.dealing.write(to);
        self.epoch.write(to);
        self.dealers.write(to);
        self.commitments.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            epoch: Canonical::read(from)?,
            dealers: Canonical::read(from)?,
            commitments: Canonical::read(from)?,
        })
    }
}

impl Canonical for TakeShares {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.shares, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let shares: Vec<TakenShare> = read_list(from, MAX_HANDOFF_VAULTS)?;
        let is_sorted = shares.is_sorted_by(|one, next| one.vault < next.vault);
        if is_sorted && !shares.is_empty() { Ok(Self { shares }) } else { Err(Violation::Malformed) }
    }
}

/// How a static node finds the vaults' keys in the static nodes' care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Care {
    /// Vaults whose key is shared.
    pub vaults: u64,
    /// Those of them whose shares are with other static nodes than those of now.
    pub former: u64,
    /// Those of them whose key is to be shared anew, these included.
    pub due: u64,
    /// Those of which this static node should have a share, and has none.
    pub without: u64,
}

impl Canonical for Care {
    fn write(&self, to: &mut Vec<u8>) {
        self.vaults.write(to);
        self.former.write(to);
        self.due.write(to);
        self.without.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vaults: Canonical::read(from)?,
            former: Canonical::read(from)?,
            due: Canonical::read(from)?,
            without: Canonical::read(from)?,
        })
    }
}
