//! What the ledger has of lost keys: guardians, requests to recover, and each vault's next key.

use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::GrantRow;
use crate::ledger::tables::Table;
use crate::message::Violation;
use crate::message::access::GuardianSet;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::MAX_GUARDIANS;
use crate::types::{Hash, Height, Timestamp, VaultId};

/// Guardians of vaults.
pub const GUARDIANS: Table<VaultId, Guardians> = Table::new(0x4c, "guardians");
/// Requests to recover: at most one for each guardian of the vault, who stands behind one at a time.
pub const RECOVERIES: Table<(VaultId, Hash), Recovery> = Table::new(0x4d, "recovery");
/// Generations of the keys of vaults; none of one whose owner never pledged the next.
pub const KEY_GENERATIONS: Table<VaultId, KeyGeneration> = Table::new(0x4e, "key generation");

/// The guardians of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guardians {
    /// Them.
    pub set: GuardianSet,
    /// Since when.
    pub height: Height,
}

/// A request to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The request.
    pub request: Hash,
    /// The ledger's time when the first guardian approved it: from then on the owner can see it.
    pub opened: Timestamp,
    /// Places of the guardians that stand behind it, ascending.
    pub approvals: Vec<u8>,
    /// When the owner objected.
    pub vetoed: Option<Height>,
}

/// The generation of a vault's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGeneration {
    /// The generation of the owner's key.
    pub generation: u32,
    /// What the next key is known by.
    pub next: Hash,
    /// When this generation began; 0 for the first one.
    pub since: Height,
    /// The vault's PRF key of then: it and those before are of the generations before.
    pub dealing: Option<u32>,
}

/// What the ledger has of a vault's lost keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryState {
    /// The guardians, if there are some.
    pub guardians: Option<Guardians>,
    /// Requests to them.
    pub requests: Vec<Recovery>,
    /// The generation of the keys, if the next key was ever pledged.
    pub keys: Option<KeyGeneration>,
}

/// How far a request to recover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The owner objected.
    Vetoed,
    /// Too few guardians stand behind it.
    Approving {
        /// So many do.
        have: usize,
        /// So many must.
        need: usize,
    },
    /// The owner can still object until this time of the ledger.
    Waiting {
        /// The time.
        until: Timestamp,
    },
    /// Guardians may release.
    Due,
}

impl Recovery {
    /// How far it is at a time of the ledger.
    #[must_use]
    pub fn progress(&self, set: &GuardianSet, now: Timestamp) -> Progress {
        let (have, need) = (self.approvals.len(), usize::from(set.threshold));
        let until = self.due(set);
        if self.vetoed.is_some() {
            Progress::Vetoed
        } else if have < need {
            Progress::Approving { have, need }
        } else if now < until {
            Progress::Waiting { until }
        } else {
            Progress::Due
        }
    }

    /// Until when the owner has to object.
    #[must_use]
    pub const fn due(&self, set: &GuardianSet) -> Timestamp {
        Timestamp::from_unix_micros(self.opened.unix_micros().saturating_add(set.delay_micros))
    }
}

/// The requests to recover a vault.
///
/// # Errors
/// [`ReadError`].
pub fn recoveries(state: &impl Read, vault: &VaultId) -> Result<Vec<Recovery>, ReadError> {
    Ok(RECOVERIES.scan(state, vault, None, MAX_GUARDIANS)?.into_iter().map(|(_, row)| row).collect())
}

/// The guardians of a vault and how far a request is, by the time of the last block; none if the ledger has no such request.
///
/// # Errors
/// [`ReadError`].
pub fn progress(
    state: &impl Read,
    vault: &VaultId,
    request: &Hash,
) -> Result<Option<(GuardianSet, Progress)>, ReadError> {
    let Some(row) = RECOVERIES.get(state, &(*vault, *request))? else { return Ok(None) };
    let set = GUARDIANS.expect(state, vault)?.set;
    let progress = row.progress(&set, query::tip(state)?.record.time);
    Ok(Some((set, progress)))
}

/// Whether a grant was given under keys of before the vault's last rotation, which ended it: who has the old keys could have
/// given it.
///
/// # Errors
/// [`ReadError`].
pub fn is_outdated(state: &impl Read, row: &GrantRow) -> Result<bool, ReadError> {
    let keys = KEY_GENERATIONS.get(state, &row.grant.vault)?;
    Ok(keys.is_some_and(|keys| row.height <= keys.since))
}

impl Canonical for Guardians {
    fn write(&self, to: &mut Vec<u8>) {
        self.set.write(to);
        self.height.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { set: Canonical::read(from)?, height: Canonical::read(from)? })
    }
}

impl Canonical for Recovery {
    fn write(&self, to: &mut Vec<u8>) {
        self.request.write(to);
        self.opened.write(to);
        write_bytes(&self.approvals, to);
        self.vetoed.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            request: Canonical::read(from)?,
            opened: Canonical::read(from)?,
            approvals: read_bytes(from, MAX_GUARDIANS)?,
            vetoed: Canonical::read(from)?,
        };
        let is_ordered = found.approvals.is_sorted_by(|one, next| one < next);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for RecoveryState {
    fn write(&self, to: &mut Vec<u8>) {
        self.guardians.write(to);
        write_list(&self.requests, to);
        self.keys.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            guardians: Canonical::read(from)?,
            requests: read_list(from, MAX_GUARDIANS)?,
            keys: Canonical::read(from)?,
        })
    }
}

impl Canonical for KeyGeneration {
    fn write(&self, to: &mut Vec<u8>) {
        self.generation.write(to);
        self.next.write(to);
        self.since.write(to);
        self.dealing.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            generation: Canonical::read(from)?,
            next: Canonical::read(from)?,
            since: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
        })
    }
}
