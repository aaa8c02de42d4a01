//! What the ledger thinks of static nodes: faults, standings, and who was there.

use crate::message::Violation;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::{Height, PublicKey};

/// Why a static node was called to order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It signed two votes or proposals of which it may sign one.
    Equivocation,
    /// It cosigned a tree head that is not this log's.
    FalseCosignature,
    /// It proposed an invalid block, say a quorum of the others.
    InvalidProposal,
    /// It signed too few blocks.
    Absence,
}

impl Canonical for Fault {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(match self {
            Self::Equivocation => 1,
            Self::FalseCosignature => 2,
            Self::InvalidProposal => 3,
            Self::Absence => 4,
        });
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Equivocation,
            2 => Self::FalseCosignature,
            3 => Self::InvalidProposal,
            4 => Self::Absence,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// What the ledger thinks of a static node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Good,
    /// It is asked to answer; it votes all the while.
    Warned {
        /// For this.
        fault: Fault,
        /// At the latest in this block.
        deadline: Height,
    },
    /// It answered, or was let back in: another fault is its last.
    OnProbation {
        /// Until this block.
        until: Height,
    },
    /// It is to leave the voters as soon as they stay four.
    Blacklisted {
        /// For this.
        fault: Fault,
        /// Since this block.
        since: Height,
    },
    /// It left as governance decided.
    Left,
}

impl Canonical for Standing {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Good => to.push(1),
            Self::Warned { fault, deadline } => {
                to.push(2);
                fault.write(to);
                deadline.write(to);
            }
            Self::OnProbation { until } => {
                to.push(3);
                until.write(to);
            }
            Self::Blacklisted { fault, since } => {
                to.push(4);
                fault.write(to);
                since.write(to);
            }
            Self::Left => to.push(5),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Good,
            2 => Self::Warned { fault: Canonical::read(from)?, deadline: Canonical::read(from)? },
            3 => Self::OnProbation { until: Canonical::read(from)? },
            4 => Self::Blacklisted { fault: Canonical::read(from)?, since: Canonical::read(from)? },
            5 => Self::Left,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// Who missed how many certificates of the window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// Certificates so far.
    pub blocks: u32,
    /// Voters by ascending key, with the certificates that lack them.
    pub missed: Vec<Missed>,
}

/// A voter and the certificates of the window that lack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Who.
    pub key: PublicKey,
    /// How many.
    pub count: u32,
}

impl Canonical for Missed {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.count.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: Canonical::read(from)?, count: Canonical::read(from)? })
    }
}

impl Canonical for Presence {
    fn write(&self, to: &mut Vec<u8>) {
        self.blocks.write(to);
        write_list(&self.missed, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        // A window may see several committees.
        Ok(Self { blocks: Canonical::read(from)?, missed: read_list(from, usize::from(u16::MAX))? })
    }
}

/// Static nodes that let a turn to propose pass: theirs come last for some blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turns {
    /// When the last block was voted on.
    pub before: Vec<Late>,
    /// When the next one is.
    pub next: Vec<Late>,
}

/// A static node whose turn comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Who.
    pub key: PublicKey,
    /// Up to this block.
    pub until: Height,
}

impl Canonical for Late {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.until.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: Canonical::read(from)?, until: Canonical::read(from)? })
    }
}

impl Canonical for Turns {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.before, to);
        write_list(&self.next, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        // Members of several committees may be late.
        Ok(Self {
            before: read_list(from, usize::from(u16::MAX))?,
            next: read_list(from, usize::from(u16::MAX))?,
        })
    }
}
