//! The machine that takes a snapshot: it asks one static node after another until one gave a whole state, and believes
//! none. Never does I/O.
//!
//! Told whom it may ask ([`Event::Look`]), it asks for an [`Offer`], checks it, then asks the same node for the rows and for
//! the leaves of the log. Rows are stored as they come, in a place of their own ([`Effect::Store`]); they count when
//! [`Effect::Adopt`] says so, and not before. A node that lies, or has no end, costs what it took until that was noticed,
//! and is not asked again; one that falls silent costs [`PATIENCE`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::ask::{Answer, Question};
use crate::ledger::read::Entry;
use crate::ledger::snapshot::offer::{Adoption, Offer, Own};
use crate::ledger::snapshot::restore::{Restore, SnapshotError};
use crate::message::Violation;
use crate::message::canonical::Canonical;
use crate::message::genesis::Genesis;
use crate::types::limits::{MAX_ANSWER_LEAVES, MAX_COMMITTEE};
use crate::types::{Height, LogHash, Machine, PublicKey, Timestamp};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nodes that are remembered as liars: more than there are static nodes at a time.
const LIARS: usize = 2 * MAX_COMMITTEE;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node is behind, and may ask this one for a snapshot. Nothing happens while one is being taken.
    Look {
        /// Whom to ask.
        peer: PublicKey,
        /// What it has of its own.
        own: Box<Own>,
        /// A snapshot of this block or one before it is of no use.
        above: Height,
    },
    /// An answer came to the question of this number.
    Answered {
        /// The question's number.
        number: u64,
        /// The answer.
        answer: Box<Answer>,
    },
    /// None came.
    Failed {
        /// The question's number.
        number: u64,
    },
}

/// What to do, in the order polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a node and answer [`Event::Answered`] or [`Event::Failed`].
    Ask {
        /// Whom.
        to: PublicKey,
        /// The question's number.
        number: u64,
        /// What.
        question: Question,
    },
    /// Drop all that was stored.
    Clear,
    /// Store rows, apart from the state. They need not be durable.
    Store(Vec<Entry>),
    /// What was stored is the state: put it in the place of what there was, with all that is here, in one durable step.
    Adopt(Box<Adoption>),
    /// This node has no snapshot that helps: blocks will do.
    NoSnapshot {
        /// Who.
        peer: PublicKey,
    },
    /// A node broke the protocol.
    Blame {
        /// Who.
        peer: PublicKey,
        /// How.
        fault: SnapshotError,
    },
    /// A quorum signed a ledger that does not begin with this node's own: it must stop.
    Forked {
        /// The last block that this node has.
        own: Height,
        /// The block that does not follow from it.
        other: Height,
    },
}

/// How far a snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taking {
    /// Its block.
    pub height: Height,
    /// Rows so far.
    pub rows: u64,
    /// Leaves of the log so far.
    pub leaves: u64,
    /// Leaves of the log in all.
    pub log_size: u64,
}

impl Canonical for Taking {
    fn write(&self, to: &mut Vec<u8>) {
        self.height.write(to);
        self.rows.write(to);
        self.leaves.write(to);
        self.log_size.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            height: Canonical::read(from)?,
            rows: Canonical::read(from)?,
            leaves: Canonical::read(from)?,
            log_size: Canonical::read(from)?,
        })
    }
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// An offer was asked for.
    Asked {
        above: Height,
    },
    Rows {
        offer: Box<Offer>,
        restore: Restore,
    },
    Leaves {
        offer: Box<Offer>,
        restore: Restore,
        is_fork: bool,
    },
}

/// The download of a snapshot.
#[derive(Debug)]
pub struct SnapshotDownload {
    genesis: Arc<Genesis>,
    phase: Phase,
    /// Who is asked, while it is not idle.
    peer: PublicKey,
    own: Option<Box<Own>>,
    /// The number of the last question.
    number: u64,
    /// When the answer to it is too late.
    late_at: Option<Timestamp>,
    liars: BTreeSet<PublicKey>,
    effects: VecDeque<Effect>,
}

impl SnapshotDownload {
    /// Of a network's ledger; asks nobody yet.
    #[must_use]
    pub const fn new(genesis: Arc<Genesis>) -> Self {
        Self {
            genesis,
            phase: Phase::Idle,
            peer: PublicKey([0; 32]),
            own: None,
            number: 0,
            late_at: None,
            liars: BTreeSet::new(),
            effects: VecDeque::new(),
        }
    }

    /// Whether it waits for something: then nothing else need be fetched.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// How far it is; none while nothing is being taken.
    #[must_use]
    pub fn taking(&self) -> Option<Taking> {
        let (Phase::Rows { offer, restore } | Phase::Leaves { offer, restore, .. }) = &self.phase else {
            return None;
        };
        let record = &offer.header.record;
        let (height, log_size) = (record.height, record.log_size);
        Some(Taking { height, rows: restore.rows(), leaves: restore.log().size(), log_size })
    }

    fn look(&mut self, peer: PublicKey, own: Box<Own>, above: Height) {
        if self.is_busy() {
            return;
        }
        if self.liars.contains(&peer) {
            self.effects.push_back(Effect::NoSnapshot { peer });
            return;
        }
        (self.peer, self.own, self.phase) = (peer, Some(own), Phase::Asked { above });
        self.ask(Question::Snapshot { above });
    }

    fn ask(&mut self, question: Question) {
        self.number += 1;
        self.late_at = None;
        self.effects.push_back(Effect::Ask { to: self.peer, number: self.number, question });
    }

    fn answered(&mut self, answer: Answer) {
        let taken = match (std::mem::replace(&mut self.phase, Phase::Idle), answer) {
            (Phase::Asked { above }, Answer::Snapshot(Some(offer))) => self.begin(above, offer),
            (Phase::Asked { .. }, Answer::Snapshot(None)) => {
                self.effects.push_back(Effect::NoSnapshot { peer: self.peer });
                self.end();
                Ok(())
            }
            (Phase::Rows { offer, restore }, Answer::SnapshotRows(Some(rows))) => {
                self.rows(offer, restore, rows)
            }
            // It holds the state no more: that is no lie, but what came is of no use.
            (Phase::Rows { .. }, Answer::SnapshotRows(None)) => {
                self.give_up();
                Ok(())
            }
            (Phase::Leaves { offer, restore, is_fork }, Answer::LogLeaves(leaves)) => {
                self.leaves(offer, restore, is_fork, leaves)
            }
            _ => Err(Violation::WrongResponse.into()),
        };
        if let Err(fault) = taken {
            self.blame(fault);
        }
    }

    fn begin(&mut self, above: Height, offer: Box<Offer>) -> Result<(), SnapshotError> {
        let height = offer.header.record.height;
        let own = self.own.as_ref().map_or(Height::GENESIS, |own| own.tip.record.height);
        if height <= above || height <= own {
            return Err(SnapshotError::Old { height, above });
        }
        offer.verify(&self.genesis)?;
        self.effects.push_back(Effect::Clear);
        self.ask(Question::SnapshotRows { height, after: None });
        self.phase = Phase::Rows { offer, restore: Restore::default() };
        Ok(())
    }

    fn rows(
        &mut self,
        offer: Box<Offer>,
        mut restore: Restore,
        rows: Vec<Entry>,
    ) -> Result<(), SnapshotError> {
        if rows.is_empty() {
            restore.check_state(&offer.header)?;
            self.ask(Question::LogLeaves { from: 0 });
            self.phase = Phase::Leaves { offer, restore, is_fork: false };
            return Ok(());
        }
        restore.take(&rows)?;
        self.effects.push_back(Effect::Store(rows));
        let (height, after) = (offer.header.record.height, restore.last().map(<[u8]>::to_vec));
        self.ask(Question::SnapshotRows { height, after });
        self.phase = Phase::Rows { offer, restore };
        Ok(())
    }

    fn leaves(
        &mut self,
        offer: Box<Offer>,
        mut restore: Restore,
        mut is_fork: bool,
        leaves: Vec<LogHash>,
    ) -> Result<(), SnapshotError> {
        // The node may have more by now than the snapshot has.
        let left = usize::try_from(offer.header.record.log_size - restore.log().size()).unwrap_or(usize::MAX);
        if leaves.is_empty() || leaves.len() > MAX_ANSWER_LEAVES {
            return Err(SnapshotError::WrongLog);
        }
        let mut nodes = Vec::new();
        for leaf in leaves.into_iter().take(left) {
            restore.push(leaf, &mut nodes);
            let own = self.own.as_ref().map(|own| &own.tip);
            is_fork |= own.is_some_and(|own| {
                own.record.log_size == restore.log().size() && own.log_root != restore.log().root()
            });
        }
        self.effects.push_back(Effect::Store(nodes));
        if restore.log().size() < offer.header.record.log_size {
            self.ask(Question::LogLeaves { from: restore.log().size() });
            self.phase = Phase::Leaves { offer, restore, is_fork };
            return Ok(());
        }
        let beside = restore.finish(&offer.header, &offer.next)?;
        if let Some(own) = self.own.take() {
            let (own_height, other) = (own.tip.record.height, offer.header.record.height);
            self.effects.push_back(match is_fork {
                true => Effect::Forked { own: own_height, other },
                false => Effect::Adopt(Box::new(offer.adopt(&own, beside))),
            });
        }
        self.end();
        Ok(())
    }

    fn blame(&mut self, fault: SnapshotError) {
        if self.liars.len() >= LIARS {
            self.liars.clear();
        }
        self.liars.insert(self.peer);
        self.effects.push_back(Effect::Blame { peer: self.peer, fault });
        self.give_up();
    }

    fn give_up(&mut self) {
        self.effects.push_back(Effect::Clear);
        self.end();
    }

    fn end(&mut self) {
        (self.phase, self.own, self.late_at) = (Phase::Idle, None, None);
        // A late answer is one to nothing.
        self.number += 1;
    }
}

impl Machine for SnapshotDownload {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Look { peer, own, above } => self.look(peer, own, above),
            Event::Answered { number, answer } if number == self.number && self.is_busy() => {
                self.answered(*answer);
            }
            Event::Failed { number } if number == self.number && self.is_busy() => self.give_up(),
            Event::Answered { .. } | Event::Failed { .. } => {}
        }
        if self.is_busy() {
            self.late_at.get_or_insert(now + PATIENCE);
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.late_at
    }

    fn expire(&mut self, now: Timestamp) {
        if self.late_at.is_some_and(|at| at <= now) {
            self.give_up();
        }
    }
}
