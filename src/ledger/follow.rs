//! Whom a follower of the ledger asks for the next blocks, and what it makes of the answers: a [`Machine`].
//!
//! It asks one static node at a time with a question that waits there for the next block, so that an idle ledger costs a
//! question a block and a new one is here as soon as it can be. It goes on with another when the one it asks is gone,
//! silent, behind or wrong, and so gets on as long as one static node that it knows does its part. It is *not* what checks
//! blocks ([`check_final`](crate::ledger::final_block::check_final)) or keeps them: the driver does, and says what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ledger::ask::FinalBlock;
use crate::message::Violation;
use crate::types::{Committee, Height, Machine, PublicKey, Timestamp};

/// How long one answer may take in all. Silence ends sooner, with the caller's patience; this is for who sends a little at
/// a time for ever. Four megabytes of blocks get through a slow line meanwhile.
const ASK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a static node that is ahead, as was heard, may take for the blocks that are missing here.
const HEARD_PATIENCE: Duration = Duration::from_secs(1);
/// Who answers sooner than this that there is no block did not wait for one.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// How long one that sent what is no final block is asked only if there is nobody else.
const DISTRUST: Duration = Duration::from_secs(300);
/// The same for one that said that it has blocks, and had none.
const BROKEN_PROMISE: Duration = Duration::from_secs(60);
/// The rest after a round in which all failed; doubles with each further one.
const FIRST_REST: Duration = Duration::from_millis(250);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// What a follower is told. Answers to a question that is not the last one asked are stale and ignored.
#[derive(Debug)]
pub enum Event {
    /// The blocks that came in answer to a question; none if there was none in time.
    Answered {
        /// The question.
        ask: u64,
        /// The blocks.
        blocks: Vec<FinalBlock>,
    },
    /// No answer came.
    Failed {
        /// The question.
        ask: u64,
    },
    /// Blocks were checked and kept, up to the first that was not in order.
    Applied {
        /// The question.
        ask: u64,
        /// The last block that is kept now.
        tip: Height,
        /// Who decides on the next.
        members: Vec<PublicKey>,
        /// Why the rest was not kept.
        stopped: Option<Stopped>,
    },
    /// Static nodes say that they are at this height or above.
    Heard {
        /// The height.
        height: Height,
        /// Who.
        by: Vec<PublicKey>,
    },
}

/// Why blocks were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Whoever sent them breaks the protocol.
    Wrong(Violation),
    /// They are final, and this program cannot follow.
    Disagrees,
}

/// What a follower wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the blocks after a height. A question before this one is given up.
    Ask {
        /// The question's number.
        ask: u64,
        /// Whom.
        of: PublicKey,
        /// The height.
        after: Height,
    },
    /// Check blocks and keep them.
    Apply {
        /// The question that they answer.
        ask: u64,
        /// The blocks.
        blocks: Vec<FinalBlock>,
    },
    /// A static node breaks the protocol.
    Blame {
        /// Who.
        peer: PublicKey,
        /// How.
        violation: Violation,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking {
        of: PublicKey,
        since: Timestamp,
        until: Timestamp,
        /// It said that it has blocks.
        promised: bool,
    },
    Applying {
        of: PublicKey,
    },
    Resting {
        until: Timestamp,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    tip: Height,
    /// Never empty: a committee is not.
    members: Vec<PublicKey>,
    /// Who is asked next is at this place, or the first after it that is trusted.
    turn: usize,
    /// The last question. Counted up, never used twice.
    ask: u64,
    stage: Stage,
    /// Questions in a row that brought nothing.
    failures: u32,
    distrusted: BTreeMap<PublicKey, Timestamp>,
    effects: VecDeque<Effect>,
}

impl Follow {
    /// Follows from a block on. `seed` says which static node is asked first, so that followers spread over them.
    #[must_use]
    pub fn new(now: Timestamp, tip: Height, members: Vec<PublicKey>, seed: u64) -> Self {
        let count = u64::try_from(members.len().max(1)).unwrap_or(1);
        let turn = usize::try_from(seed % count).unwrap_or_default();
        let stage = Stage::Resting { until: now };
        let (distrusted, effects) = (BTreeMap::new(), VecDeque::new());
        Self { tip, members, turn, ask: 0, stage, failures: 0, distrusted, effects }
    }

    fn ask(&mut self, now: Timestamp, of: PublicKey, promised: bool) {
        self.ask += 1;
        let patience = if promised { HEARD_PATIENCE } else { ASK_PATIENCE };
        self.stage = Stage::Asking { of, since: now, until: now + patience, promised };
        self.effects.push_back(Effect::Ask { ask: self.ask, of, after: self.tip });
    }

    /// Whose turn it is: one that is trusted, or just the next if none is.
    fn next(&mut self, now: Timestamp) -> Option<PublicKey> {
        self.distrusted.retain(|_, until| *until > now);
        let order = (0..self.members.len()).map(|step| (self.turn + step) % self.members.len());
        let trusted = order.clone().find(|at| !self.distrusted.contains_key(&self.members[*at]));
        let at = trusted.or_else(|| order.clone().next())?;
        self.turn = at + 1;
        Some(self.members[at])
    }

    fn ask_next(&mut self, now: Timestamp) {
        if let Some(of) = self.next(now) {
            self.ask(now, of, false);
        }
    }

    /// The question brought nothing: another is asked, at once while there may be one that answers.
    fn failed(&mut self, now: Timestamp) {
        if let Stage::Asking { of, promised: true, .. } = self.stage {
            self.distrusted.insert(of, now + BROKEN_PROMISE);
        }
        self.failures = self.failures.saturating_add(1);
        let round = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        match self.failures.checked_sub(round) {
            None => self.ask_next(now),
            Some(more) => {
                let rest = FIRST_REST.saturating_mul(1 << (more / round).min(16)).min(LONGEST_REST);
                self.stage = Stage::Resting { until: now + rest };
            }
        }
    }

    fn answered(&mut self, now: Timestamp, blocks: Vec<FinalBlock>) {
        let Stage::Asking { of, since, promised, .. } = self.stage else { return };
        if !blocks.is_empty() {
            self.stage = Stage::Applying { of };
            self.effects.push_back(Effect::Apply { ask: self.ask, blocks });
        } else if promised || now.since(since) < SHORTEST_WAIT {
            self.failed(now);
        } else {
            // It waited and there was none, or it is behind: another may know.
            self.ask_next(now);
        }
    }

    fn applied(&mut self, now: Timestamp, tip: Height, members: Vec<PublicKey>, stopped: Option<Stopped>) {
        let Stage::Applying { of } = self.stage else { return };
        if tip > self.tip {
            self.failures = 0;
        }
        (self.tip, self.members) = (tip, members);
        match stopped {
            // Whoever just had one is the first to have the next.
            None if self.members.contains(&of) => self.ask(now, of, false),
            None => self.ask_next(now),
            Some(Stopped::Disagrees) => self.failed(now),
            Some(Stopped::Wrong(violation)) => {
                self.distrusted.insert(of, now + DISTRUST);
                self.effects.push_back(Effect::Blame { peer: of, violation });
                self.failed(now);
            }
        }
    }

    fn heard(&mut self, now: Timestamp, height: Height, by: &[PublicKey]) {
        if height <= self.tip {
            return;
        }
        match &mut self.stage {
            // What is there already comes first.
            Stage::Applying { .. } => return,
            // It has them, so they are on their way.
            Stage::Asking { of, until, promised, .. } if by.contains(of) => {
                *until = (*until).min(now + HEARD_PATIENCE);
                *promised = true;
                return;
            }
            Stage::Asking { .. } | Stage::Resting { .. } => {}
        }
        self.distrusted.retain(|_, until| *until > now);
        if let Some(of) = by.iter().find(|key| !self.distrusted.contains_key(key)) {
            self.ask(now, *of, true);
        }
    }
}

impl Machine for Follow {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Answered { ask, blocks } if ask == self.ask => self.answered(now, blocks),
            Event::Failed { ask } if ask == self.ask => {
                if matches!(self.stage, Stage::Asking { .. }) {
                    self.failed(now);
                }
            }
            Event::Applied { ask, tip, members, stopped } if ask == self.ask => {
                self.applied(now, tip, members, stopped);
            }
            Event::Heard { height, by } => self.heard(now, height, &by),
            Event::Answered { .. } | Event::Failed { .. } | Event::Applied { .. } => {}
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Asking { until, .. } | Stage::Resting { until } => Some(until),
            Stage::Applying { .. } => None,
        }
    }

    fn expire(&mut self, now: Timestamp) {
        match self.stage {
            Stage::Asking { until, .. } if until <= now => self.failed(now),
            Stage::Resting { until } if until <= now => self.ask_next(now),
            _ => {}
        }
    }
}

/// How high the ledger is, from what static nodes say of themselves: at least as high as any block that was final before they
/// were asked, and no higher than an honest one of them is. None while fewer than a quorum have said so.
///
/// Why that is: whoever knows a block to be final has it from a quorum, of which more than [`Committee::f`] are honest and
/// among any quorum that answers. So more than f of the answers are as high, and f of them at most are too high.
#[must_use]
pub fn height_heard(claims: &[Height], committee: &Committee) -> Option<Height> {
    if claims.len() < committee.quorum() {
        return None;
    }
    let mut claims = claims.to_vec();
    claims.sort_unstable_by(|one, other| other.cmp(one));
    claims.get(committee.f()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(nth: u8) -> PublicKey {
        PublicKey([nth; 32])
    }

    fn members() -> Vec<PublicKey> {
        (1..=4).map(key).collect()
    }

    fn block() -> Vec<FinalBlock> {
        vec![FinalBlock { block: vec![1], certificate: vec![2] }]
    }

    /// A follower with its clock.
    struct World {
        machine: Follow,
        now: Timestamp,
    }

    impl World {
        fn new() -> Self {
            let now = Timestamp::from_unix_millis(1_000);
            let machine = Follow::new(now, Height(5), members(), 0);
            Self { machine, now }
        }

        fn tell(&mut self, event: Event) {
            self.machine.handle(self.now, event);
        }

        /// Lets time pass up to the deadline; how long that was.
        fn sleep(&mut self) -> Duration {
            let until = self.machine.deadline().unwrap();
            let slept = until.since(self.now);
            self.now = self.now.max(until);
            self.machine.expire(self.now);
            slept
        }

        /// The question that comes now.
        fn asked(&mut self) -> (u64, PublicKey, Height) {
            match self.machine.poll() {
                Some(Effect::Ask { ask, of, after }) => (ask, of, after),
                other => panic!("{other:?}"),
            }
        }

        /// Answers a question with blocks that lead to a height.
        fn gets_to(&mut self, ask: u64, tip: u64, stopped: Option<Stopped>) {
            self.tell(Event::Answered { ask, blocks: block() });
            assert!(matches!(self.machine.poll(), Some(Effect::Apply { ask: of, .. }) if of == ask));
            self.tell(Event::Applied { ask, tip: Height(tip), members: members(), stopped });
        }
    }

    #[test]
    fn one_is_asked_on_and_on_while_it_has_blocks() {
        let mut world = World::new();
        assert_eq!(world.sleep(), Duration::ZERO);
        for tip in 5..50 {
            let (ask, of, after) = world.asked();
            assert_eq!((of, after), (key(1), Height(tip)));
            assert_eq!(world.machine.poll(), None);
            world.gets_to(ask, tip + 1, None);
        }
    }

    #[test]
    fn who_has_nothing_in_time_is_followed_by_the_next_without_a_pause() {
        let mut world = World::new();
        world.sleep();
        for nth in [1, 2, 3, 4, 1, 2] {
            let (ask, of, _) = world.asked();
            assert_eq!(of, key(nth));
            world.now = world.now + 15 * SECOND;
            world.tell(Event::Answered { ask, blocks: Vec::new() });
        }
    }

    #[test]
    fn who_never_answers_is_given_up_and_its_late_answer_is_ignored() {
        let mut world = World::new();
        world.sleep();
        let (stale, of, _) = world.asked();
        assert_eq!((of, world.sleep()), (key(1), ASK_PATIENCE));
        let (ask, of, _) = world.asked();
        assert_eq!(of, key(2));
        world.tell(Event::Answered { ask: stale, blocks: block() });
        world.tell(Event::Failed { ask: stale });
        assert_eq!(world.machine.poll(), None);
        world.gets_to(ask, 6, None);
        assert_eq!(world.asked().1, key(2));
    }

    #[test]
    fn when_all_fail_the_rests_grow_and_are_bounded() {
        let mut world = World::new();
        let mut rests = Vec::new();
        for _ in 0..40 {
            rests.push(world.sleep());
            let (ask, ..) = world.asked();
            world.tell(Event::Failed { ask });
            while let Some(Effect::Ask { ask, .. }) = world.machine.poll() {
                world.tell(Event::Failed { ask });
            }
        }
        // All four are tried before the first rest.
        assert_eq!(rests[..2], [Duration::ZERO, FIRST_REST]);
        assert!(rests.is_sorted() && rests.last() == Some(&LONGEST_REST), "{rests:?}");
        world.sleep();
        let (ask, ..) = world.asked();
        world.gets_to(ask, 6, None);
        world.asked();
    }

    #[test]
    fn who_says_at_once_that_there_is_nothing_is_not_asked_in_a_circle() {
        let mut world = World::new();
        world.sleep();
        for _ in 0..4 {
            let (ask, ..) = world.asked();
            world.tell(Event::Answered { ask, blocks: Vec::new() });
        }
        assert_eq!(world.machine.poll(), None);
        assert_eq!(world.sleep(), FIRST_REST);
    }

    #[test]
    fn a_liar_is_blamed_and_asked_again_only_when_nobody_else_is_left() {
        let mut world = World::new();
        world.sleep();
        let (ask, ..) = world.asked();
        world.gets_to(ask, 5, Some(Stopped::Wrong(Violation::NoQuorum)));
        let blame = Effect::Blame { peer: key(1), violation: Violation::NoQuorum };
        assert_eq!(world.machine.poll(), Some(blame));
        for nth in [2, 3, 4, 2, 3] {
            let (ask, of, _) = world.asked();
            assert_eq!(of, key(nth), "not the liar");
            world.now = world.now + 15 * SECOND;
            world.tell(Event::Answered { ask, blocks: Vec::new() });
        }
        // All lie: they are asked all the same, with rests.
        for nth in [4, 2, 3] {
            let (ask, of, _) = world.asked();
            assert_eq!(of, key(nth));
            world.gets_to(ask, 5, Some(Stopped::Wrong(Violation::Malformed)));
            assert!(matches!(world.machine.poll(), Some(Effect::Blame { .. })));
        }
        assert_eq!(world.machine.poll(), None);
        world.sleep();
        world.asked();
    }

    #[test]
    fn what_is_kept_of_a_bad_answer_counts_as_getting_on() {
        let mut world = World::new();
        world.sleep();
        let (ask, ..) = world.asked();
        world.gets_to(ask, 7, Some(Stopped::Wrong(Violation::Malformed)));
        assert!(matches!(world.machine.poll(), Some(Effect::Blame { .. })));
        assert_eq!(world.asked().2, Height(7));
    }

    #[test]
    fn a_final_block_that_is_not_valid_here_is_nobodys_fault() {
        let mut world = World::new();
        world.sleep();
        for nth in [1, 2, 3, 4] {
            let (ask, of, _) = world.asked();
            assert_eq!(of, key(nth));
            world.gets_to(ask, 5, Some(Stopped::Disagrees));
        }
        assert_eq!(world.machine.poll(), None);
        assert!(world.machine.distrusted.is_empty());
    }

    #[test]
    fn who_is_said_to_be_ahead_is_asked_at_once_and_only_for_a_moment() {
        let mut world = World::new();
        world.sleep();
        world.asked();
        // The one that is asked keeps the block back.
        world.tell(Event::Heard { height: Height(6), by: vec![key(3), key(4)] });
        let (_, of, _) = world.asked();
        assert_eq!(of, key(3));
        world.tell(Event::Heard { height: Height(6), by: vec![key(3), key(4)] });
        assert_eq!(world.machine.poll(), None);
        assert!(world.sleep() <= HEARD_PATIENCE);
        let (ask, of, _) = world.asked();
        assert!(world.machine.distrusted.contains_key(&key(3)) && of != key(3));
        world.gets_to(ask, 6, None);
        world.asked();
        // What is here already is no news.
        world.tell(Event::Heard { height: Height(6), by: vec![key(3)] });
        assert_eq!(world.machine.poll(), None);
    }

    #[test]
    fn those_who_decide_now_are_asked() {
        let mut world = World::new();
        world.sleep();
        let (ask, ..) = world.asked();
        world.tell(Event::Answered { ask, blocks: block() });
        assert!(matches!(world.machine.poll(), Some(Effect::Apply { .. })));
        let members = (7..=10).map(key).collect();
        world.tell(Event::Applied { ask, tip: Height(6), members, stopped: None });
        let of = world.asked().1;
        assert!((7..=10).map(key).any(|key| key == of));
    }

    #[test]
    fn liars_neither_raise_nor_lower_the_height_that_is_heard() {
        let committee = Committee::new(members()).unwrap();
        let heard = |claims: &[u64]| {
            height_heard(&claims.iter().copied().map(Height).collect::<Vec<_>>(), &committee)
        };
        assert_eq!(heard(&[7, 7]), None);
        assert_eq!(heard(&[7, 7, u64::MAX]), Some(Height(7)));
        assert_eq!(heard(&[7, 6, 7, 0]), Some(Height(7)));
        assert_eq!(heard(&[7, 6, 0]), Some(Height(6)));
    }
}
