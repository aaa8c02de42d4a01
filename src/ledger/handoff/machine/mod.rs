//! Handing vaults' keys on, as one static node does it: a [`Machine`] that deals the node's shares to the next static nodes, takes
//! its shares of what others dealt, and shows them what is bad. It touches no disk, draws nothing and opens no piece: that is
//! asked for as a [`Task`].
//!
//! It goes in rounds: look at the ledger, deal, take, then rest until there is news. All that it knows may be forgotten at any
//! effect: what is due is found again on the ledger, what was taken in the store, and nothing is said on the ledger that is
//! not durable before.
//!
//! Next file to read: `deal`, then `take`.

mod calls;
mod deal;
mod event;
mod take;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ledger::handoff::{Look, Work};
use crate::message::Action;
use crate::message::access::HandedVault;
use crate::message::access::handoff::HandoffKeyOf;
use crate::types::{Hash, Machine, NetworkId, PublicKey, Timestamp, VaultId};

use calls::Asked;
pub use event::{Dealing, Done, Effect, Event, Found, Note, Opened, Ready, Task};
use take::Taking;

/// The longest rest between two looks.
const REST: Duration = Duration::from_secs(2);
/// The shortest: blocks may come many times a second.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a dealer waits for keys of next members that do not answer, before it deals without them.
const KEY_PATIENCE: Duration = Duration::from_secs(20);
/// How long one call to other static nodes may take.
pub const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a next member waits for those who did not sign that their part of a dealing is good, before it says that it took its
/// share: they may be down, and have to show first that the part is bad. What is in effect without them could leave too few
/// who have a share, and nothing is in a hurry: the old sharing serves until then.
const ABSENCE: Duration = Duration::from_secs(60);
/// How long it waits if somebody has rejected a dealing that it found nothing wrong with.
const DISPUTE: Duration = Duration::from_secs(30);
/// After so long something is said on the ledger again that is not there.
const SAY_AGAIN: Duration = Duration::from_secs(15);
/// Opened packages that are held in memory.
const OPENED_KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct HandingOn {
    network: NetworkId,
    own: PublicKey,
    /// Static nodes and period of the last look, and since when it is these.
    mark: Option<(Hash, Timestamp)>,
    /// Whether something was due or under way at the last look.
    pending: bool,
    /// What was said on the ledger, and when.
    said: BTreeMap<Said, Timestamp>,
    /// Whose dealings were to be taken of a vault, and since when it is these.
    settling: BTreeMap<VaultId, (u64, Timestamp)>,
    /// Packages that somebody rejected, and since when that is known here.
    disputed: BTreeMap<Hash, Timestamp>,
    /// Packages that were opened.
    opened: BTreeMap<Hash, Opened>,
    /// The last call to others. Counted up, never used twice.
    call: u64,
    step: Step,
    /// Blocks came since the last look.
    has_news: bool,
    effects: VecDeque<Effect>,
}

/// What was said of a vault's key or of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Dealt { of: HandedVault, to: Hash },
    Taken { vault: VaultId, dealing: u32, epoch: u32, dealers: u64 },
    Rejected(Hash),
}

/// What a round found, and has not come to yet.
#[derive(Debug)]
struct Round {
    look: Look,
    /// Packages that others showed to be bad.
    bad: Vec<Hash>,
    was_pending: bool,
    /// There is more to deal than one package takes.
    has_more: bool,
}

#[derive(Debug)]
enum Step {
    Resting {
        until: Timestamp,
        not_before: Timestamp,
    },
    Looking,
    /// The next members are asked for keys.
    Keys {
        round: Box<Round>,
        of: HandoffKeyOf,
        asked: Asked,
    },
    /// The package is made.
    Dealing {
        round: Box<Round>,
    },
    /// The next members are asked to keep it.
    Offering {
        round: Box<Round>,
        dealing: Dealing,
        asked: Asked,
    },
    /// A package is opened.
    Opening {
        round: Box<Round>,
        taking: Taking,
        package: Hash,
    },
    /// A package is fetched.
    Fetching {
        round: Box<Round>,
        taking: Taking,
        package: Hash,
        asked: Asked,
    },
    /// Shares are kept.
    Keeping {
        round: Box<Round>,
        taking: Taking,
        action: Box<Action>,
    },
    Tidying,
}

impl HandingOn {
    /// The machine of a static node.
    #[must_use]
    pub const fn new(network: NetworkId, own: PublicKey) -> Self {
        Self {
            network,
            own,
            mark: None,
            pending: true,
            said: BTreeMap::new(),
            settling: BTreeMap::new(),
            disputed: BTreeMap::new(),
            opened: BTreeMap::new(),
            call: 0,
            step: Step::Resting { until: Timestamp::ZERO, not_before: Timestamp::ZERO },
            has_news: false,
            effects: VecDeque::new(),
        }
    }

    fn task(&mut self, task: Task) {
        self.effects.push_back(Effect::Do(task));
    }

    fn say(&mut self, action: Action) {
        self.effects.push_back(Effect::Say(Box::new(action)));
    }

    /// Whether this was not said a moment ago; then it is noted as said now.
    fn is_news(&mut self, said: Said, now: Timestamp) -> bool {
        self.said.insert(said, now).is_none()
    }

    fn begin(&mut self) {
        let known = self.mark.map(|(mark, _)| mark).filter(|_| !self.pending);
        (self.step, self.has_news) = (Step::Looking, false);
        self.task(Task::Look { known });
    }

    fn rest(&mut self, now: Timestamp, at_once: bool) {
        let not_before = now + PAUSE;
        let until = if at_once || self.has_news { not_before } else { not_before + REST };
        self.step = Step::Resting { until, not_before };
    }

    fn looked(&mut self, now: Timestamp, look: Look, bad: Vec<Hash>, nonce: [u8; 16]) {
        if self.mark.is_none_or(|(known, _)| known != look.mark) {
            self.mark = Some((look.mark, now));
        }
        let was_pending = self.pending;
        self.pending = look.care.due > 0 || look.is_under_way;
        self.said.retain(|_, at| now.since(*at) < SAY_AGAIN);
        self.deal(now, Box::new(Round { look, bad, was_pending, has_more: false }), nonce);
    }

    /// All is dealt and taken that could be.
    fn end(&mut self, now: Timestamp, round: &Round) {
        for package in &round.bad {
            self.reject(now, *package);
        }
        if self.pending {
            self.rest(now, round.has_more);
            return;
        }
        (self.settling, self.disputed, self.opened) = Default::default();
        self.step = Step::Tidying;
        self.task(Task::Tidy { mark: round.look.mark, forget: round.was_pending });
    }

    fn reject(&mut self, now: Timestamp, package: Hash) {
        if self.is_news(Said::Rejected(package), now) {
            self.say(Action::RejectHandoff { package });
        }
    }

    fn done(&mut self, now: Timestamp, done: Done) {
        let step = std::mem::replace(&mut self.step, Step::Looking);
        match (step, done) {
            (Step::Looking, Done::Looked { look, bad, nonce }) => match look {
                Some(look) => self.looked(now, *look, bad, nonce),
                None => self.rest(now, false),
            },
            (Step::Dealing { round }, Done::Dealt(dealing)) => match dealing {
                Some(dealing) => self.offer(now, round, dealing),
                None => self.take(now, round),
            },
            (Step::Opening { round, taking, package }, Done::Opened(found)) => {
                self.found(now, round, taking, package, found);
            }
            (Step::Keeping { round, taking, action }, Done::Kept) => {
                // Only now: what is said here may bring it into effect.
                self.say(*action);
                self.take_next(now, round, taking);
            }
            (Step::Tidying, Done::Tidied) => self.rest(now, false),
            // What a task before a failure came to.
            (step, _) => self.step = step,
        }
    }
}

impl Machine for HandingOn {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::News => {
                self.has_news = true;
                if let Step::Resting { until, not_before } = &mut self.step {
                    *until = (*until).min(now.max(*not_before));
                }
            }
            Event::Done(done) => self.done(now, done),
            Event::Failed => self.rest(now, false),
            Event::Answered { call, from, answer } => self.answered(now, call, from, answer),
        }
        self.expire(now);
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.step {
            Step::Resting { until, .. } => Some(*until),
            Step::Keys { asked, .. } | Step::Offering { asked, .. } | Step::Fetching { asked, .. } => {
                Some(asked.until())
            }
            _ => None,
        }
    }

    fn expire(&mut self, now: Timestamp) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match std::mem::replace(&mut self.step, Step::Looking) {
            Step::Keys { round, of, asked } => self.keys(now, round, of, asked),
            Step::Offering { round, dealing, asked } => self.offered(now, round, dealing, asked),
            Step::Fetching { round, taking, .. } => self.open_next(now, round, taking),
            _ => self.begin(),
        }
    }
}

/// Vaults of the same packages side by side.
fn by_packages(work: &Work) -> Vec<Hash> {
    work.dealers.iter().map(|dealer| dealer.package).collect()
}

#[cfg(test)]
mod tests;
