//! What goes wrong in a run, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::consensus::Timing;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::links::Weather;
use crate::testing::sim::validators::node::SKEW_BASE;
use crate::testing::sim::validators::rogue::Rogue;
use crate::types::Height;

/// A safeguard that is taken away, to see that the audit notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// None is.
    Off,
    /// Every log is thrown away when its node restarts.
    NoLog,
    /// Every node takes one signer less than a quorum for one.
    SmallQuorum,
}

/// Something that goes wrong, or right again.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A node loses power.
    Crash(usize),
    /// A node loses power before it carries out as many more effects, and is back soon after.
    Fuse(usize, u64),
    /// A node that is down starts.
    Start(usize),
    /// The network falls into parts; all in one part is healed.
    Split(Vec<u8>),
    /// A node's clock is set, to so many microseconds off plus [`SKEW_BASE`].
    Skew(usize, u64),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Members of the first committee: nodes 0 to members - 1.
    pub members: usize,
    /// All nodes; those that are no members follow.
    pub nodes: usize,
    /// Nodes that break the protocol.
    pub rogues: BTreeMap<usize, Rogue>,
    /// From which height on which nodes are the committee.
    pub committees: Vec<(Height, Vec<usize>)>,
    /// The network until everything is mended.
    pub weather: Weather,
    /// The longest that a disk takes to sync, in microseconds.
    pub sync_micros: u64,
    /// What goes wrong when.
    pub faults: Vec<(Duration, Fault)>,
    /// When everything is mended.
    pub mended: Duration,
    /// Whether there is always something to decide.
    pub busy: bool,
    /// A safeguard that is missing.
    pub control: Control,
    /// How patient the nodes are.
    pub timing: Timing,
}

impl Plan {
    /// Nothing goes wrong for so long.
    #[must_use]
    pub fn quiet(members: usize, length: Duration) -> Self {
        Self {
            members,
            nodes: members,
            rogues: BTreeMap::new(),
            committees: vec![(Height::FIRST, (0..members).collect())],
            weather: Weather::CLEAR,
            sync_micros: 2_000,
            faults: Vec::new(),
            mended: length,
            busy: true,
            control: Control::Off,
            timing: Timing {
                propose: Duration::from_millis(400),
                vote: Duration::from_millis(200),
                step: Duration::from_millis(100),
                most: Duration::from_secs(5),
                rebroadcast: Duration::from_secs(1),
                heartbeat: Duration::from_secs(2),
                certificate_delay: Duration::from_millis(40),
                patience: Duration::from_millis(300),
            },
        }
    }

    /// Everything goes wrong that may.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let members = *rng.pick(&[4, 4, 4, 4, 5, 6, 7, 7, 10, 21]);
        let seconds = match members {
            0..=7 => 20,
            8..=12 => 10,
            _ => 5,
        };
        let mut plan = Self::quiet(members, Duration::from_secs(seconds));
        plan.nodes = members + rng.index(3);
        plan.busy = rng.chance(700);
        plan.sync_micros = *rng.pick(&[200, 2_000, 10_000]);
        plan.weather = Weather {
            least: Duration::from_micros(200 + rng.below(5_000)),
            most: Duration::from_micros(5_000 + rng.below(60_000)),
            loss: *rng.pick(&[0, 0, 5, 30, 100]),
            twice: *rng.pick(&[0, 0, 20]),
        };
        plan.choose_rogues(rng);
        plan.change_committees(rng);
        plan.choose_faults(rng);
        plan
    }

    /// At most f of the committee. Rogues are among the first nodes, which stay members.
    fn choose_rogues(&mut self, rng: &mut Rng) {
        let f = (self.members - 1) / 3;
        for _ in 0..rng.index(f + 1) {
            self.rogues.insert(rng.index(self.members), Rogue::random(rng));
        }
        if self.rogues.is_empty() && rng.chance(500) && f > 0 {
            self.rogues.insert(rng.index(self.members), Rogue::random(rng));
        }
    }

    /// Honest members leave, followers join, the number stays.
    fn change_committees(&mut self, rng: &mut Rng) {
        let mut height = 5;
        while self.nodes > self.members && rng.chance(800) && height < 200 {
            height += 1 + rng.below(40);
            let (_, last) = self.committees[self.committees.len() - 1].clone();
            let honest: Vec<usize> =
                (0..last.len()).filter(|at| !self.rogues.contains_key(&last[*at])).collect();
            let outside: Vec<usize> = (0..self.nodes).filter(|node| !last.contains(node)).collect();
            let mut next = last;
            next[*rng.pick(&honest)] = *rng.pick(&outside);
            self.committees.push((Height(height), next));
        }
    }

    fn choose_faults(&mut self, rng: &mut Rng) {
        let micros = u64::try_from(self.mended.as_micros()).unwrap_or(u64::MAX);
        let at = |rng: &mut Rng| Duration::from_micros(rng.below(micros));
        for _ in 0..rng.below(20) {
            let (when, node) = (at(rng), rng.index(self.nodes));
            self.faults.push((when, Fault::Crash(node)));
            let down = Duration::from_micros(20_000 + rng.below(3_000_000));
            self.faults.push((when + down, Fault::Start(node)));
        }
        for _ in 0..rng.below(30) {
            self.faults.push((at(rng), Fault::Fuse(rng.index(self.nodes), rng.below(60))));
        }
        for _ in 0..rng.below(4) {
            let when = at(rng);
            self.faults.push((when, Fault::Split(self.random_parts(rng))));
            let long = Duration::from_micros(rng.below(4_000_000));
            self.faults.push((when + long, Fault::Split(vec![0; self.nodes])));
        }
        for _ in 0..rng.below(4) {
            let off = SKEW_BASE - 1_000_000 + rng.below(2_000_000);
            self.faults.push((at(rng), Fault::Skew(rng.index(self.nodes), off)));
        }
        if rng.chance(200) {
            let when = at(rng);
            self.faults.extend((0..self.nodes).map(|node| (when, Fault::Crash(node))));
            let back = when + Duration::from_millis(500);
            self.faults.extend((0..self.nodes).map(|node| (back, Fault::Start(node))));
        }
    }

    fn random_parts(&self, rng: &mut Rng) -> Vec<u8> {
        if rng.chance(400) {
            let alone = rng.index(self.nodes);
            return (0..self.nodes).map(|node| u8::from(node == alone)).collect();
        }
        (0..self.nodes).map(|_| u8::from(rng.chance(500))).collect()
    }
}
