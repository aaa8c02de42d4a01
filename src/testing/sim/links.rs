//! The network between clients and nodes: delay, loss, duplication, reordering, partitions.
//!
//! A delivery stands for a whole request or response on its stream, as QUIC gives it to the program: so
//! "lost" is a stream that never ends, for the caller to time out, and "duplicated" is a request that its
//! sender repeated although the first one arrived. Deliveries overtake each other because each
//! has a delay of its own.

use std::time::Duration;

use crate::testing::sim::rng::Rng;

/// How bad the network is. Probabilities are per mille.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Mean one-way delay.
    pub delay: Duration,
    /// Deliveries that are lost.
    pub loss: u64,
    /// Requests that arrive twice.
    pub duplicate: u64,
    /// Deliveries that take ten times as long.
    pub straggle: u64,
}

impl Weather {
    /// No faults: a local network.
    pub const CLEAR: Self = Self { delay: Duration::from_micros(500), loss: 0, duplicate: 0, straggle: 0 };

    /// The weather of a run.
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            delay: Duration::from_micros(200 + rng.below(20_000)),
            loss: *rng.pick(&[0, 0, 2, 10, 30]),
            duplicate: *rng.pick(&[0, 5, 30]),
            straggle: *rng.pick(&[0, 10, 50]),
        }
    }
}

/// The link between the clients and one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Nothing from the clients arrives.
    pub deaf: bool,
    /// Nothing from the node arrives.
    pub mute: bool,
}

/// All links.
#[derive(Debug)]
pub struct Links {
    weather: Weather,
    links: Vec<Link>,
    rng: Rng,
}

/// Bytes that a link carries in a microsecond: 100 MB/s.
const BYTES_PER_MICRO: u64 = 100;

impl Links {
    /// Links to `nodes` nodes.
    #[must_use]
    pub fn new(nodes: usize, weather: Weather, rng: Rng) -> Self {
        Self { weather, links: vec![Link::default(); nodes], rng }
    }

    /// From now on the weather is this one.
    pub const fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Cuts or heals a link.
    pub fn set(&mut self, node: usize, link: Link) {
        self.links[node] = link;
    }

    /// The delays after which a request of so many bytes arrives at a node: none, one or two.
    pub fn to_node(&mut self, node: usize, len: usize) -> Vec<Duration> {
        if self.links[node].deaf || self.rng.chance(self.weather.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.rng.chance(self.weather.duplicate));
        (0..copies).map(|_| self.delay(len)).collect()
    }

    /// The delay after which a response arrives; `None` if it is lost.
    pub fn from_node(&mut self, node: usize, len: usize) -> Option<Duration> {
        let lost = self.links[node].mute || self.rng.chance(self.weather.loss);
        (!lost).then(|| self.delay(len))
    }

    fn delay(&mut self, len: usize) -> Duration {
        let mean = u64::try_from(self.weather.delay.as_micros()).unwrap_or(u64::MAX);
        let factor = if self.rng.chance(self.weather.straggle) { 10 } else { 1 };
        let travel = (mean / 2 + self.rng.below(mean + 1)) * factor;
        Duration::from_micros(travel + len as u64 / BYTES_PER_MICRO)
    }
}
