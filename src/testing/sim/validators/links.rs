//! Links between static nodes: ordered streams that may break, and weather worse than that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::testing::sim::rng::Rng;
use crate::types::Timestamp;

/// How bad the network is. Probabilities are per mille.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The shortest one-way delay.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
    /// Messages that are lost although the connection stands.
    pub loss: u64,
    /// Messages that come twice.
    pub twice: u64,
}

impl Weather {
    /// Cities apart, no faults.
    pub const CLEAR: Self =
        Self { least: Duration::from_millis(2), most: Duration::from_millis(32), loss: 0, twice: 0 };
}

/// All links.
#[derive(Debug)]
pub(in crate::testing::sim) struct Links {
    pub(in crate::testing::sim) weather: Weather,
    /// The part of a split network that each node is in.
    parts: Vec<u8>,
    /// When the last message on each link arrives: none overtakes another.
    last: BTreeMap<(usize, usize), Timestamp>,
    rng: Rng,
}

impl Links {
    pub(in crate::testing::sim) fn new(nodes: usize, weather: Weather, rng: Rng) -> Self {
        Self { weather, parts: vec![0; nodes], last: BTreeMap::new(), rng }
    }

    /// Splits the network, or heals it where all parts are one.
    pub(in crate::testing::sim) fn split(&mut self, parts: Vec<u8>) {
        self.parts = parts;
    }

    pub(in crate::testing::sim) fn connected(&self, one: usize, other: usize) -> bool {
        self.parts[one] == self.parts[other]
    }

    /// When a message sent now arrives: never, once, or twice.
    pub(in crate::testing::sim) fn arrivals(
        &mut self,
        now: Timestamp,
        from: usize,
        to: usize,
    ) -> Vec<Timestamp> {
        if !self.connected(from, to) || self.rng.chance(self.weather.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.rng.chance(self.weather.twice));
        (0..copies).map(|_| self.arrival(now, from, to)).collect()
    }

    fn arrival(&mut self, now: Timestamp, from: usize, to: usize) -> Timestamp {
        let spread = self.weather.most.saturating_sub(self.weather.least);
        let spread = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
        let delay = self.weather.least + Duration::from_micros(self.rng.below(spread + 1));
        let last = self.last.entry((from, to)).or_default();
        *last = (now + delay).max(*last);
        *last
    }
}
