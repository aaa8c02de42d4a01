//! What goes wrong in a run, and when.

use std::time::Duration;

use crate::consensus::Timing;
use crate::message::Params;
use crate::testing::sim::rng::Rng;
use crate::testing::sim::validators::Weather;

/// A safeguard that is taken away, to see that the checker notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// None is.
    Off,
    /// Every consensus log is thrown away when its node restarts.
    NoLog,
    /// Disks say that they have synced the chain, and have not.
    NoSync,
}

/// Something that goes wrong, or right again.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A node loses power. As after all faults, it is back soon.
    Crash(usize),
    /// A node loses power before it sends as many more letters.
    Fuse(usize, u64),
    /// A node loses power in the middle of its disk's change of this number from now on.
    Disk(usize, u64),
    /// The network falls into parts; all in one part is healed.
    Split(Vec<u8>),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Static nodes of the genesis: nodes 0 to members - 1.
    pub members: usize,
    /// All nodes; those that are no members follow, and may become some.
    pub nodes: usize,
    /// When nodes start for the first time that are not there from the beginning.
    pub late: Vec<(Duration, usize)>,
    /// The network until everything is mended.
    pub weather: Weather,
    /// By how much a node's clock is ahead of the world's.
    pub skew: Vec<Duration>,
    /// What goes wrong when.
    pub faults: Vec<(Duration, Fault)>,
    /// So often in a thousand a node loses power again while it starts.
    pub stumbles: u64,
    /// When everything is mended.
    pub mended: Duration,
    /// Clients that write anchors: each two of one vault.
    pub writers: usize,
    /// Whether static nodes come and go.
    pub governs: bool,
    /// Blocks that a node may be behind before it takes a snapshot.
    pub snapshot_gap: u64,
    /// The numbers of the network.
    pub params: Params,
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
            late: Vec::new(),
            weather: Weather::CLEAR,
            skew: vec![Duration::ZERO; members],
            faults: Vec::new(),
            stumbles: 0,
            mended: length,
            writers: 3,
            governs: false,
            snapshot_gap: 1_000,
            params: Params::DEFAULT,
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
        let members = *rng.pick(&[4, 4, 4, 4, 4, 4, 5, 7]);
        let mut plan = Self::quiet(members, Duration::from_secs(if members > 4 { 6 } else { 10 }));
        plan.add_nodes(1 + rng.index(2), rng);
        plan.skew = (0..plan.nodes).map(|_| Duration::from_micros(rng.below(1_500_000))).collect();
        plan.writers = 2 + rng.index(4);
        plan.governs = rng.chance(700);
        plan.snapshot_gap = *rng.pick(&[4, 10, 1_000]);
        plan.stumbles = *rng.pick(&[0, 100, 400]);
        plan.weather = Weather {
            least: Duration::from_micros(200 + rng.below(5_000)),
            most: Duration::from_micros(5_000 + rng.below(60_000)),
            loss: *rng.pick(&[0, 0, 5, 30]),
            twice: 0,
        };
        if rng.chance(300) {
            plan.params =
                Params { window: 12, missed_percent: 80, correction: 10, probation: 15, ..plan.params };
        }
        plan.choose_faults(rng);
        plan
    }

    /// Nodes that are no members yet; some of them come late.
    fn add_nodes(&mut self, count: usize, rng: &mut Rng) {
        for node in self.nodes..self.nodes + count {
            if rng.chance(600) {
                self.late.push((self.at(rng), node));
            }
        }
        self.nodes += count;
    }

    fn at(&self, rng: &mut Rng) -> Duration {
        Duration::from_micros(rng.below(u64::try_from(self.mended.as_micros()).unwrap_or(u64::MAX)))
    }

    fn choose_faults(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(8) {
            self.faults.push((self.at(rng), Fault::Crash(rng.index(self.nodes))));
        }
        for _ in 0..rng.below(12) {
            self.faults.push((self.at(rng), Fault::Fuse(rng.index(self.nodes), rng.below(40))));
        }
        for _ in 0..rng.below(12) {
            self.faults.push((self.at(rng), Fault::Disk(rng.index(self.nodes), rng.below(120))));
        }
        for _ in 0..rng.below(4) {
            let when = self.at(rng);
            self.faults.push((when, Fault::Split(self.random_parts(rng))));
            let long = Duration::from_micros(rng.below(4_000_000));
            self.faults.push((when + long, Fault::Split(vec![0; self.nodes])));
        }
        if rng.chance(250) {
            let when = self.at(rng);
            self.faults.extend((0..self.nodes).map(|node| (when, Fault::Crash(node))));
        }
    }

    /// One alone, two halves, or by chance.
    fn random_parts(&self, rng: &mut Rng) -> Vec<u8> {
        let part: Vec<bool> = match rng.below(3) {
            0 => {
                let alone = rng.index(self.nodes);
                (0..self.nodes).map(|node| node == alone).collect()
            }
            1 => (0..self.nodes).map(|node| node % 2 == 0).collect(),
            _ => (0..self.nodes).map(|_| rng.chance(500)).collect(),
        };
        part.into_iter().map(u8::from).collect()
    }
}
