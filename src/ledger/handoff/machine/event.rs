//! What the machine is told, and what it wants done.

use crate::crypto::access::{Commitments, KeyShare, ReshareError, SealPublic};
use crate::ledger::handoff::{Dealt, Duty, Look};
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::access::handoff::{Complaint, HandoffKeyOf, PieceKey};
use crate::message::access::{HandedVault, HandoffPackage, KeptBy};
use crate::message::{Action, Roster};
use crate::types::{Hash, PublicKey, VaultId};

/// What happened. Answers to a call that is not the last one are stale and ignored.
#[derive(Debug)]
pub enum Event {
    /// There is a block more.
    News,
    /// The last task is done.
    Done(Done),
    /// The last task cannot be done; the caller has said why. It is tried again.
    Failed,
    /// One of those who were asked answered, or will not.
    Answered {
        /// The call.
        call: u64,
        /// Who.
        from: PublicKey,
        /// The answer, as it came.
        answer: Option<DeskAnswer>,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Do this with what the node keeps, and tell what came of it.
    Do(Task),
    /// Ask every member of a roster but this node, at once.
    Ask {
        /// The call's number.
        call: u64,
        /// Whom.
        of: Roster,
        /// What.
        request: DeskRequest,
    },
    /// Have this node put something on the ledger. What the ledger then says tells whether it did.
    Say(Box<Action>),
    /// Something that an operator should see.
    Note(Note),
}

/// What is done with the disk, the node's secrets and random numbers: one at a time.
#[derive(Debug)]
pub enum Task {
    /// Look at the ledger; there is nothing to see if nothing has changed since the look of this mark.
    Look {
        /// The mark.
        known: Option<Hash>,
    },
    /// Deal this node's shares, and keep the package durably.
    Deal {
        /// To whom.
        roster: Roster,
        /// For which package the keys are.
        of: HandoffKeyOf,
        /// Which shares.
        duties: Vec<Duty>,
        /// The keys of those who answered.
        keys: Vec<(PublicKey, PieceKey, SealPublic)>,
    },
    /// Open this node's piece of a package that the ledger names, and check it.
    Open {
        /// The package.
        package: Hash,
        /// What the ledger says of it.
        dealt: Dealt,
        /// Its bytes, if another node gave them: to be kept first.
        fetched: Option<Vec<u8>>,
    },
    /// Keep these shares durably beside those that count.
    Keep(Vec<Ready>),
    /// Nothing is due: have another key to be sealed to, if the one of now was not made under this mark.
    Tidy {
        /// The mark.
        mark: Hash,
        /// Forget packages of handoffs that are over.
        forget: bool,
    },
}

/// What a task came to.
#[derive(Debug)]
pub enum Done {
    /// [`Task::Look`].
    Looked {
        /// What there is; none if nothing has changed.
        look: Option<Box<Look>>,
        /// Packages that others showed to be bad, which this node has not rejected yet.
        bad: Vec<Hash>,
        /// Random, for the next package.
        nonce: [u8; 16],
    },
    /// [`Task::Deal`]; none if nothing is left to deal.
    Dealt(Option<Dealing>),
    /// [`Task::Open`].
    Opened(Found),
    /// [`Task::Keep`].
    Kept,
    /// [`Task::Tidy`].
    Tidied,
}

/// A package of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealing {
    /// Its hash.
    pub package: Hash,
    /// The package.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub vaults: Vec<HandedVault>,
    /// To whom.
    pub roster: Roster,
    /// This node's own word that it keeps it, if it is one of those.
    pub own: Option<KeptBy>,
}

/// What a node found in a package.
#[derive(Debug)]
pub enum Found {
    /// It is not here.
    Missing,
    /// Nothing wrong.
    Good(Box<Opened>),
    /// It is wrong, and everybody sees it.
    Wrong,
    /// This node's piece is bad, and others see it by this.
    BadPiece(Complaint),
}

/// A package with this node's parts.
#[derive(Debug)]
pub struct Opened {
    /// The package.
    pub package: HandoffPackage,
    /// None if there are none for it, or none that open.
    pub parts: Option<Vec<KeyShare>>,
}

/// A share that is ready to be kept: the vault, the key's number and the epoch that it is handed on from, the share and the
/// commitments of its sharing.
pub type Ready = (VaultId, (u32, u32), KeyShare, Commitments);

/// What an operator should see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// It is dealt again.
    #[error("too few static nodes keep what is dealt to them, {have} of {need}; it is dealt again")]
    FewKeep {
        /// So many do.
        have: usize,
        /// So many must.
        need: usize,
    },
    /// Cannot be.
    #[error("dealings of the key of vault {vault} that were checked do not add up: {error}")]
    DoesNotAddUp {
        /// The vault.
        vault: VaultId,
        /// Why.
        error: ReshareError,
    },
}
