//! Changes of the network's members and rules, approved by a quorum of the static nodes.

use std::fmt;

use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::message::member::Member;
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{NetworkId, PublicKey};

/// What a sponsor may pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SponsorTerms {
    /// The sponsor.
    pub sponsor: PublicKey,
    /// Vaults it may still admit.
    pub vaults: u32,
    /// Storage nodes it may still admit.
    pub nodes: u32,
    /// Ledger bytes an epoch that each of its vaults may use.
    pub vault_bytes: u64,
}

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new static node votes from the next height on.
    AddStatic(Member),
    /// A static node leaves for good.
    RemoveStatic(PublicKey),
    /// One static node leaves and another takes its place.
    ReplaceStatic {
        /// Who leaves.
        old: PublicKey,
        /// Who comes.
        new: Member,
    },
    /// A static node goes on under a new key, or with another address under its own.
    RotateStatic {
        /// Its key so far.
        old: PublicKey,
        /// What it is from the next height on.
        new: Member,
    },
    /// A blacklisted static node may come back, on probation.
    LiftBlacklist(PublicKey),
    /// A sponsor gets these terms in place of those it has.
    SetSponsor(SponsorTerms),
    /// All vaults' keys are shared anew among the static nodes, now and from then on every so often.
    RefreshShares {
        /// Seconds between two times; as before if it is none.
        every: Option<u32>,
    },
}

impl Change {
    /// The static node that comes in with a key that may be new, if one does.
    #[must_use]
    pub const fn newcomer(&self) -> Option<&Member> {
        match self {
            Self::AddStatic(new) | Self::ReplaceStatic { new, .. } | Self::RotateStatic { new, .. } => {
                Some(new)
            }
            Self::RemoveStatic(_)
            | Self::LiftBlacklist(_)
            | Self::SetSponsor(_)
            | Self::RefreshShares { .. } => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddStatic(new) => write!(f, "add static node {}", In(new)),
            Self::RemoveStatic(key) => write!(f, "remove static node {key}"),
            Self::ReplaceStatic { old, new } => write!(f, "replace static node {old} by {}", In(new)),
            Self::RotateStatic { old, new } if *old == new.key => {
                write!(f, "change what is listed of a static node: {}", In(new))
            }
            Self::RotateStatic { old, new } => write!(f, "rotate the key of static node {old}: {}", In(new)),
            Self::LiftBlacklist(key) => write!(f, "readmit static node {key}, on probation"),
            Self::RefreshShares { every: None } => write!(f, "share all vaults' keys anew"),
            Self::RefreshShares { every: Some(every) } => {
                write!(f, "share all vaults' keys anew, and from then on every {every} seconds")
            }
            Self::SetSponsor(SponsorTerms { sponsor, vaults, nodes, vault_bytes }) => write!(
                f,
                "let {sponsor} sponsor {vaults} vaults of {vault_bytes} ledger bytes an epoch and {nodes} storage nodes"
            ),
        }
    }
}

/// A member in words.
struct In<'a>(&'a Member);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Member { key, label, operator, address, .. } = self.0;
        write!(f, "{label} of {operator} at {address} with key {key}")
    }
}

/// A static node's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// Who approves.
    pub member: PublicKey,
    /// Its signature of the statement.
    pub signature: [u8; 64],
}

/// A change with its approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governance {
    /// How many changes were carried out before: an approval serves once.
    pub sequence: u64,
    /// The change.
    pub change: Change,
    /// The newcomer's signature of the statement: it has the key that becomes a member.
    pub possession: Option<[u8; 64]>,
    /// Approvals by ascending key.
    pub approvals: Vec<Approval>,
}

impl Governance {
    /// A change that nobody has approved yet.
    #[must_use]
    pub const fn new(sequence: u64, change: Change) -> Self {
        Self { sequence, change, possession: None, approvals: Vec::new() }
    }

    /// Adds a static node's approval.
    pub fn approve(&mut self, network: &NetworkId, member: &KeyPair) {
        let signature = member.sign(Domain::Governance, &self.statement(network));
        self.approvals.retain(|approval| approval.member != member.public());
        self.approvals.push(Approval { member: member.public(), signature });
        self.approvals.sort_unstable_by_key(|approval| approval.member);
    }

    /// Adds the newcomer's proof that it has its key.
    pub fn possess(&mut self, network: &NetworkId, newcomer: &KeyPair) {
        self.possession = Some(newcomer.sign(Domain::StaticKey, &self.statement(network)));
    }

    /// Checks every signature; whether the approvals are enough is for the ledger.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if the proof of possession is missing, or there without a newcomer;
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), Violation> {
        let statement = self.statement(network);
        let check = |key: &PublicKey, domain, signature| {
            sign::verify(key, domain, &statement, signature).map_err(|_| Violation::BadSignature)
        };
        match (self.change.newcomer(), &self.possession) {
            (Some(new), Some(signature)) => check(&new.key, Domain::StaticKey, signature)?,
            (None, None) => (),
            _ => return Err(Violation::Malformed),
        }
        self.approvals
            .iter()
            .try_for_each(|approval| check(&approval.member, Domain::Governance, &approval.signature))
    }

    fn statement(&self, network: &NetworkId) -> Vec<u8> {
        let mut statement = network.encode();
        self.sequence.write(&mut statement);
        self.change.write(&mut statement);
        statement
    }
}

impl Canonical for Governance {
    fn write(&self, to: &mut Vec<u8>) {
        self.sequence.write(to);
        self.change.write(to);
        self.possession.write(to);
        write_list(&self.approvals, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            sequence: Canonical::read(from)?,
            change: Canonical::read(from)?,
            possession: Canonical::read(from)?,
            approvals: read_list(from, MAX_COMMITTEE)?,
        };
        let is_ordered = found.approvals.is_sorted_by(|one, next| one.member < next.member);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for Approval {
    fn write(&self, to: &mut Vec<u8>) {
        self.member.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { member: Canonical::read(from)?, signature: Canonical::read(from)? })
    }
}

impl Canonical for SponsorTerms {
    fn write(&self, to: &mut Vec<u8>) {
        self.sponsor.write(to);
        self.vaults.write(to);
        self.nodes.write(to);
        self.vault_bytes.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            sponsor: Canonical::read(from)?,
            vaults: Canonical::read(from)?,
            nodes: Canonical::read(from)?,
            vault_bytes: Canonical::read(from)?,
        })
    }
}

impl Canonical for Change {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::AddStatic(new) => {
                to.push(1);
                new.write(to);
            }
            Self::RemoveStatic(key) => {
                to.push(2);
                key.write(to);
            }
            Self::ReplaceStatic { old, new } => {
                to.push(3);
                old.write(to);
                new.write(to);
            }
            Self::RotateStatic { old, new } => {
                to.push(4);
                old.write(to);
                new.write(to);
            }
            Self::LiftBlacklist(key) => {
                to.push(5);
                key.write(to);
            }
            Self::SetSponsor(terms) => {
                to.push(6);
                terms.write(to);
            }
            Self::RefreshShares { every } => {
                to.push(80);
                every.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::AddStatic(Canonical::read(from)?),
            2 => Self::RemoveStatic(Canonical::read(from)?),
            3 => Self::ReplaceStatic { old: Canonical::read(from)?, new: Canonical::read(from)? },
            4 => Self::RotateStatic { old: Canonical::read(from)?, new: Canonical::read(from)? },
            5 => Self::LiftBlacklist(Canonical::read(from)?),
            6 => Self::SetSponsor(Canonical::read(from)?),
            80 => {
                let every = Canonical::read(from)?;
                if every == Some(0) {
                    return Err(Violation::OutOfBounds);
                }
                Self::RefreshShares { every }
            }
            _ => return Err(Violation::Malformed),
        })
    }
}
