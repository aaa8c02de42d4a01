//! What the driver tells consensus and what it is asked to do.
//!
//! # How to drive it
//! 1. Load the last committed height h, and the log. Give [`Event::Start`] for h+1 with every whole entry
//!    of the log in the order they were appended; a torn end is cut off, an entry of h or before is skipped.
//! 2. Carry out effects in the order polled. [`Effect::Append`] may be buffered; [`Effect::Flush`] is an fsync
//!    of all of them, and nothing after it may begin before it is through.
//! 3. On [`Effect::Decide`] make block and certificate durable in one transaction. It may come again after
//!    a crash, with another round or other signers but the same block. Then drop the log up to that height
//!    and give [`Event::Committed`].
//! 4. On [`Effect::Stop`] stop the node and say why. Its log must not be deleted: a node without its log
//!    votes twice.

use std::time::Duration;

use bytes::Bytes;

use crate::crypto::sign::KeyPair;
use crate::message::{CommitCertificate, Evidence, SignedProposal, Violation};
use crate::types::{BlockId, Committee, Hash, Height, NetworkId, PublicKey, Round};

/// Who this node is, and how patient.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The network whose chain it is.
    pub network: NetworkId,
    /// The key it votes with. One process at a time may have it.
    pub pair: KeyPair,
    /// How long it waits for what.
    pub timing: Timing,
    /// Signers fewer than a quorum that it takes for one. For the control that shows what then happens.
    #[cfg(any(test, feature = "testing"))]
    pub quorum_less: usize,
}

impl Settings {
    /// The settings of an honest node.
    #[must_use]
    pub const fn new(network: NetworkId, pair: KeyPair, timing: Timing) -> Self {
        Self {
            network,
            pair,
            timing,
            #[cfg(any(test, feature = "testing"))]
            quorum_less: 0,
        }
    }

    /// The quorum that this node goes by.
    pub(super) const fn quorum(&self, committee: &Committee) -> usize {
        #[cfg(any(test, feature = "testing"))]
        return committee.quorum() - self.quorum_less;
        #[cfg(not(any(test, feature = "testing")))]
        return committee.quorum();
    }
}

/// How long consensus waits. No safety depends on these; liveness wants `propose` to be longer than
/// building, sending and checking a block takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For a proposal, in round 0.
    pub propose: Duration,
    /// For agreement among votes that a quorum gave for different blocks, in round 0.
    pub vote: Duration,
    /// How much longer for each round, so that in the end it is long enough whatever the network is.
    pub step: Duration,
    /// The longest it gets.
    pub most: Duration,
    /// Until own votes are said again.
    pub rebroadcast: Duration,
    /// Without anything to decide, a block comes this long after the last: it shows who is alive.
    pub heartbeat: Duration,
    /// After a decision, until its certificate is sent to those who do not seem to have it: about one
    /// round trip. Sooner, and they would decide by it before they send a precommit of their own.
    pub certificate_delay: Duration,
    /// Until a block that others have already decided is asked for, and then asked for again.
    pub patience: Duration,
}

impl Default for Timing {
    /// For static nodes in different cities: 20–60 ms apart.
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(1_000),
            vote: Duration::from_millis(400),
            step: Duration::from_millis(200),
            most: Duration::from_secs(20),
            rebroadcast: Duration::from_secs(1),
            heartbeat: Duration::from_secs(10),
            certificate_delay: Duration::from_millis(60),
            patience: Duration::from_millis(500),
        }
    }
}

/// One entry of the log, as it is to be given back. Opaque to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalEntry(pub Bytes);

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Every other static node.
    All,
    /// One of them.
    One(PublicKey),
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The node begins: the first event, once.
    Start {
        /// The height after the last committed block.
        height: Height,
        /// Who decides on it.
        committee: Committee,
        /// What the log holds.
        wal: Vec<WalEntry>,
    },
    /// A message arrived from a static node, whom the transport has authenticated by that key.
    Received {
        /// Who sent it.
        from: PublicKey,
        /// The message.
        bytes: Bytes,
    },
    /// A connection to a static node stands, for the first time or again: what was said in between is lost.
    Connected {
        /// To whom.
        peer: PublicKey,
    },
    /// The block asked for by [`Effect::Build`].
    Built {
        /// The height asked for.
        height: Height,
        /// The round asked for.
        round: Round,
        /// Its id.
        id: BlockId,
        /// Its bytes, at most [`MAX_BLOCK_LEN`](crate::types::limits::MAX_BLOCK_LEN).
        block: Bytes,
    },
    /// The verdict asked for by [`Effect::Check`].
    Checked {
        /// The height asked for.
        height: Height,
        /// The id asked for.
        id: BlockId,
        /// The hash of the bytes asked for.
        bytes: Hash,
        /// Whether these bytes are a valid block of this id on top of the last committed one.
        valid: bool,
    },
    /// The block of [`Effect::Decide`] is durable.
    Committed {
        /// Its height.
        height: Height,
        /// Who decides on the next height.
        next_committee: Committee,
        /// Whether there is already something to decide.
        pending: bool,
    },
    /// A block that others decided, as fetched. One for the height that is being decided is taken, others
    /// are not: feed them in order, each after the [`Event::Committed`] of the one before.
    Synced {
        /// From whom.
        from: PublicKey,
        /// Its id.
        id: BlockId,
        /// Its bytes.
        block: Bytes,
        /// That it is final.
        certificate: CommitCertificate,
    },
    /// There is something to decide.
    Wake,
}

/// What to do, in the order polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Add to the log. It need not be durable yet.
    Append(WalEntry),
    /// Everything appended so far must be durable before what follows.
    Flush,
    /// Send a message. It may be lost with its connection, not otherwise.
    Send {
        /// To whom.
        to: To,
        /// The message.
        bytes: Bytes,
    },
    /// Build a block to propose and answer [`Event::Built`]. None is needed if it takes longer than
    /// [`Timing::propose`].
    Build {
        /// On top of the block before this height.
        height: Height,
        /// For this round.
        round: Round,
    },
    /// Check a proposed block and answer [`Event::Checked`].
    Check {
        /// On top of the block before this height.
        height: Height,
        /// Proposed in this round, or decided in it.
        round: Round,
        /// Who proposed it in this round, which need not be who built it.
        proposer: PublicKey,
        /// The id it is said to have.
        id: BlockId,
        /// The hash of its bytes, for the answer.
        bytes: Hash,
        /// Its bytes.
        block: Bytes,
    },
    /// A block is final: make it durable, then answer [`Event::Committed`].
    Decide {
        /// Its height.
        height: Height,
        /// Its id.
        id: BlockId,
        /// Its bytes.
        block: Bytes,
        /// That it is final.
        certificate: CommitCertificate,
    },
    /// More members turn out to have signed a recent block. Replaces the certificate kept for it.
    Grown(CommitCertificate),
    /// A static node signed what no honest node signs. Emitted before the [`Effect::Decide`] of its height,
    /// with whose block the log goes that could prove it again; keep it as durable as the block. The same
    /// may come again after a crash.
    Misbehaved(Evidence),
    /// A static node signed a proposal of a block that is not valid. Whether that can be proved to others
    /// (a block from the future cannot) is for the ledger to say.
    Invalid {
        /// What it signed.
        proposal: SignedProposal,
        /// The bytes it signed for.
        block: Bytes,
    },
    /// Others have decided this height: fetch block and certificate and give [`Event::Synced`]. Repeated,
    /// with another peer in turn, while it lasts.
    NeedBlock {
        /// The height.
        height: Height,
        /// Someone who claims to have it.
        from: PublicKey,
    },
    /// A peer broke the protocol: worth a count against it, but no proof to others.
    Blame {
        /// Who.
        peer: PublicKey,
        /// How.
        violation: Violation,
    },
    /// The node must stop. Nothing comes after this.
    Stop(Stop),
}

/// Why a node must not go on: anything else could be a second vote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The log does not read as it was written, other than by a torn end.
    #[error("entry {entry} of the consensus log does not read: {violation}; do not delete the log")]
    Log {
        /// Which entry, from 0 on.
        entry: usize,
        /// What is wrong with it.
        violation: Violation,
    },
    /// The log does not lead to what was said before.
    #[error("the consensus log does not lead to what this node signed: {0}; do not delete the log")]
    Diverged(String),
    /// The engine met a state that should not be.
    #[error("the consensus engine failed: {0}")]
    Engine(String),
}
