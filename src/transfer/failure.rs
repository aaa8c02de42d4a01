//! How a request to a node can end badly, in the terms that the machines decide by.

use std::fmt;

use crate::message::{Refusal, RefusalCode, Violation};
use crate::types::PublicKey;

/// A request of one machine; unique within the machine, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a request to a node brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be made.
    #[error("cannot be reached")]
    Unreachable,
    /// The connection broke before the answer was complete.
    #[error("disconnected")]
    Disconnected,
    /// It was connected but stopped answering.
    #[error("does not answer")]
    TimedOut,
    /// Who answers at the node's address has another key.
    #[error("has another key than the network file says")]
    WrongKey,
    /// It speaks no version of the protocol that is spoken here.
    #[error("speaks another version of the protocol")]
    Version,
    /// It answered: no.
    #[error("refuses: {0}")]
    Refused(Refusal),
    /// It broke the protocol.
    #[error("broke the protocol: {0}")]
    Violation(Violation),
}

impl Failure {
    /// The same, said of several nodes.
    #[must_use]
    pub fn of_several(&self) -> String {
        match self {
            Self::TimedOut => "do not answer".to_owned(),
            Self::WrongKey => "have other keys than the network file says".to_owned(),
            Self::Version => "speak another version of the protocol".to_owned(),
            Self::Refused(refusal) => format!("refuse: {refusal}"),
            Self::Unreachable | Self::Disconnected | Self::Violation(_) => self.to_string(),
        }
    }

    /// Whether the same request to the same node may succeed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable | Self::Disconnected | Self::TimedOut => true,
            Self::Refused(refusal) => refusal.code == RefusalCode::Busy,
            Self::WrongKey | Self::Version | Self::Violation(_) => false,
        }
    }

    /// Whether it tells that the network file is about other nodes or another network than these.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::WrongKey | Self::Violation(Violation::WrongNetwork))
    }

    /// Whether it tells of the shard, not of the node: that it is not there, or not as it was stored.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Violation(_) => true,
            Self::Refused(refusal) => matches!(refusal.code, RefusalCode::NotFound | RefusalCode::Corrupt),
            _ => false,
        }
    }
}

/// "; node 01234567 cannot be reached; ..." for messages.
pub(super) struct Reasons<'a>(pub(super) &'a [(PublicKey, Failure)]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(node, failure)| write!(f, "; node {} {failure}", node.short()))
    }
}
