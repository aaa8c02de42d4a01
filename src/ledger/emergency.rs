//! Emergencies as the ledger has them, and whether one opens: a pure function of a row and of time.
//!
//! Two times count, the ledger's and a node's own. What begins has begun by both, what ends has ended by either: so neither a
//! proposer with a wrong clock nor a node with one opens anything early or late.

use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{EMERGENCIES, EMERGENCY_OPENINGS, GRANTS, VAULTS};
use crate::message::Violation;
use crate::message::access::{Denial, RoleCertificate};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{
    MAX_EMERGENCY_APPROVERS, MAX_EMERGENCY_REQUESTS, MAX_LABEL_LEN, MAX_VAULT_EMERGENCIES_KEPT,
};
use crate::types::{GrantId, Hash, Height, PublicKey, Timestamp, TransactionId, VaultId};

/// Who asked or approved, as its certificate said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clinician {
    /// The key.
    pub key: PublicKey,
    /// Who certified it.
    pub authority: PublicKey,
    /// Where the clinician works.
    pub institution: String,
    /// As what.
    pub role: String,
}

/// That somebody vetoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Veto {
    /// Who.
    pub by: PublicKey,
    /// When, by the ledger.
    pub time: Timestamp,
}

/// An emergency that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// The grant.
    pub grant: GrantId,
    /// Who asked.
    pub requester: Clinician,
    /// Hash of why.
    pub reason: Hash,
    /// When, by the ledger.
    pub requested: Timestamp,
    /// In which block.
    pub height: Height,
    /// Who approved, in this order.
    pub approvals: Vec<Clinician>,
    /// From when on it opens; none while approvals are missing.
    pub begins: Option<Timestamp>,
    /// Until before when it opens, or waits for approvals.
    pub ends: Timestamp,
    /// Whether it was vetoed.
    pub vetoed: Option<Veto>,
    /// Requests that static nodes say they answered in it.
    pub openings: u32,
    /// Records that these opened.
    pub records: u32,
    /// Whether the ledger's time has passed its end.
    pub is_over: bool,
}

/// Something that was opened in an emergency, as the first static node that put it on the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpeningRow {
    /// When it was put there.
    pub time: Timestamp,
    /// Who says so.
    pub node: PublicKey,
    /// Records.
    pub records: u32,
}

/// How an emergency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EmergencyState {
    /// Approvals are missing.
    Waiting,
    /// It is approved, and the time for a veto still runs.
    Delayed,
    /// It opens.
    Active,
    /// It was vetoed.
    Vetoed,
    /// Its time is over.
    Over,
}

impl EmergencyState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Active => "active",
            Self::Vetoed => "vetoed",
            Self::Over => "over",
        }
    }
}

impl From<&RoleCertificate> for Clinician {
    fn from(certificate: &RoleCertificate) -> Self {
        Self {
            key: certificate.holder,
            authority: certificate.authority,
            institution: certificate.institution.clone(),
            role: certificate.role.clone(),
        }
    }
}

impl Emergency {
    /// How it is at a time by the ledger, and at a time by a clock.
    #[must_use]
    pub fn state(&self, ledger: Timestamp, clock: Timestamp) -> EmergencyState {
        if self.vetoed.is_some() {
            EmergencyState::Vetoed
        } else if self.is_over || ledger.max(clock) >= self.ends {
            EmergencyState::Over
        } else {
            match self.begins {
                None => EmergencyState::Waiting,
                Some(begins) if ledger.min(clock) < begins => EmergencyState::Delayed,
                Some(_) => EmergencyState::Active,
            }
        }
    }

    /// Why nothing is opened in it, if nothing is.
    #[must_use]
    pub fn denial(&self, ledger: Timestamp, clock: Timestamp) -> Option<Denial> {
        match self.state(ledger, clock) {
            EmergencyState::Waiting | EmergencyState::Delayed => Some(Denial::NotActivated),
            EmergencyState::Vetoed => Some(Denial::Vetoed),
            EmergencyState::Over => Some(Denial::EmergencyOver),
            EmergencyState::Active => None,
        }
    }
}

/// The emergencies of a vault, also those that are over and still kept.
///
/// # Errors
/// [`ReadError`].
pub fn emergencies(state: &impl Read, vault: &VaultId) -> Result<Vec<(TransactionId, Emergency)>, ReadError> {
    let rows = EMERGENCIES.scan(state, vault, None, MAX_VAULT_EMERGENCIES_KEPT)?;
    let id = |key: &[u8]| key.last_chunk().copied().map(TransactionId);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((id(&key)?, row))).collect())
}

/// Whether a key may veto an emergency of this grant: the owner's, and those that the grant names for that.
///
/// # Errors
/// [`ReadError`].
pub fn may_veto(
    state: &impl Read,
    vault: &VaultId,
    grant: &GrantId,
    key: &PublicKey,
) -> Result<bool, ReadError> {
    if VAULTS.get(state, vault)?.is_some_and(|row| row.owner == *key) {
        return Ok(true);
    }
    let policy = GRANTS.get(state, &(*vault, *grant))?.and_then(|row| row.grant.emergency);
    Ok(policy.is_some_and(|policy| policy.vetoers.contains(key)))
}

/// What was opened in an emergency, by the hash of the request to open it.
///
/// # Errors
/// [`ReadError`].
pub fn openings(
    state: &impl Read,
    request: &TransactionId,
    limit: usize,
) -> Result<Vec<(Hash, OpeningRow)>, ReadError> {
    let rows = EMERGENCY_OPENINGS.scan(state, request, None, limit)?;
    let hash = |key: &[u8]| key.last_chunk().copied().map(Hash);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((hash(&key)?, row))).collect())
}

/// Whether a static node has said as many openings of an emergency as it may.
///
/// # Errors
/// [`ReadError`].
pub fn has_said_all(state: &impl Read, request: &TransactionId, node: &PublicKey) -> Result<bool, ReadError> {
    let said = openings(state, request, usize::MAX)?;
    let count = said.iter().filter(|(_, row)| row.node == *node).count();
    Ok(u32::try_from(count).is_ok_and(|count| count >= MAX_EMERGENCY_REQUESTS))
}

/// The emergencies of a grant in which something may be opened now.
///
/// # Errors
/// [`ReadError`].
pub fn active(
    state: &impl Read,
    vault: &VaultId,
    grant: &GrantId,
    clock: Timestamp,
) -> Result<Vec<TransactionId>, ReadError> {
    let ledger = query::tip(state)?.record.time;
    let mut found = emergencies(state, vault)?;
    found.retain(|(_, row)| row.grant == *grant && row.denial(ledger, clock).is_none());
    Ok(found.into_iter().map(|(id, _)| id).collect())
}

fn read_word(from: &mut &[u8]) -> Result<String, Violation> {
    String::from_utf8(read_bytes(from, MAX_LABEL_LEN)?).map_err(|_| Violation::Malformed)
}

impl Canonical for Clinician {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.authority.write(to);
        write_bytes(self.institution.as_bytes(), to);
        write_bytes(self.role.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            key: Canonical::read(from)?,
            authority: Canonical::read(from)?,
            institution: read_word(from)?,
            role: read_word(from)?,
        })
    }
}

impl Canonical for Veto {
    fn write(&self, to: &mut Vec<u8>) {
        self.by.write(to);
        self.time.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { by: Canonical::read(from)?, time: Canonical::read(from)? })
    }
}

impl Canonical for OpeningRow {
    fn write(&self, to: &mut Vec<u8>) {
        self.time.write(to);
        self.node.write(to);
        self.records.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            time: Canonical::read(from)?,
            node: Canonical::read(from)?,
            records: Canonical::read(from)?,
        })
    }
}

impl Canonical for Emergency {
    fn write(&self, to: &mut Vec<u8>) {
        self.grant.write(to);
        self.requester.write(to);
        self.reason.write(to);
        self.requested.write(to);
        self.height.write(to);
        write_list(&self.approvals, to);
        self.begins.write(to);
        self.ends.write(to);
        self.vetoed.write(to);
        self.openings.write(to);
        self.records.write(to);
        self.is_over.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            grant: Canonical::read(from)?,
            requester: Canonical::read(from)?,
            reason: Canonical::read(from)?,
            requested: Canonical::read(from)?,
            height: Canonical::read(from)?,
            approvals: read_list(from, MAX_EMERGENCY_APPROVERS)?,
            begins: Canonical::read(from)?,
            ends: Canonical::read(from)?,
            vetoed: Canonical::read(from)?,
            openings: Canonical::read(from)?,
            records: Canonical::read(from)?,
            is_over: Canonical::read(from)?,
        })
    }
}
