//! How much at once and how long to wait: what transfers learn from each other.
//!
//! Plain values that a driver keeps and asks; they are told the time and hold no clock. [`Latencies`]
//! answers "how long does this node usually take for so many bytes", [`HedgeBudget`] keeps the reads made
//! in another's place to a fraction of all, so that a slow network is not made slower, and [`Window`] says
//! whether the next read unit may start (I6).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::PublicKey;
use crate::types::limits::READ_UNITS_IN_FLIGHT;

/// Latencies remembered for each node and size: enough for a p95, few enough to forget a bad minute.
const SAMPLES: usize = 64;

/// Samples below which a node's own p95 says nothing and all nodes' together is taken.
const MIN_SAMPLES: usize = 8;

/// Longer than the p95, so that of the reads of a steady node far fewer than 5 % ask for leave to hedge.
const MARGIN: f64 = 1.25;

/// No hedge sooner than this: below it the scheduling of two cores is what is measured.
const MIN_PATIENCE: Duration = Duration::from_millis(4);

/// How long to wait while nothing is known.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);

/// Reads are compared with reads of like size: up to 64 KiB, up to 512 KiB, longer.
const SIZE_CLASSES: [u64; 3] = [64 << 10, 512 << 10, u64::MAX];

/// The most recent latencies of one node, or of all, for one class of sizes.
#[derive(Debug, Clone, Default)]
struct Recent {
    /// Invariant: at most [`SAMPLES`]; the oldest first.
    samples: VecDeque<Duration>,
}

impl Recent {
    fn record(&mut self, latency: Duration) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(latency);
    }

    /// The latency that 95 % of the samples do not exceed; `None` while there are too few.
    fn p95(&self) -> Option<Duration> {
        if self.samples.len() < MIN_SAMPLES {
            return None;
        }
        let mut sorted: Vec<_> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied()
    }
}

/// Recent latencies of reads, by node and size.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// Invariant: one entry for each node that ever answered, each of bounded size.
    nodes: BTreeMap<(PublicKey, usize), Recent>,
    all: [Recent; SIZE_CLASSES.len()],
}

impl Latencies {
    /// Takes in how long a node took to answer a read of `len` bytes.
    pub fn record(&mut self, node: PublicKey, len: u64, latency: Duration) {
        let class = size_class(len);
        self.nodes.entry((node, class)).or_default().record(latency);
        self.all[class].record(latency);
    }

    /// How long a read of `len` bytes from this node usually takes at most; what takes longer is worth a
    /// hedge. A node is not waited for longer than twice what all nodes take: one that has become slow
    /// would otherwise earn itself ever more patience.
    #[must_use]
    pub fn patience(&self, node: &PublicKey, len: u64) -> Duration {
        let class = size_class(len);
        let own = self.nodes.get(&(*node, class)).and_then(Recent::p95);
        let common = self.all[class].p95();
        let p95 = match (own, common) {
            (Some(own), Some(common)) => own.min(common * 2),
            (own, common) => own.or(common).unwrap_or(FIRST_PATIENCE),
        };
        p95.mul_f64(MARGIN).max(MIN_PATIENCE)
    }
}

fn size_class(len: u64) -> usize {
    SIZE_CLASSES.iter().position(|most| len <= *most).unwrap_or(SIZE_CLASSES.len() - 1)
}

/// Tenths of a hedge that one read earns: hedges stay under 10 % of reads.
const EARNED_TENTHS: u32 = 1;

/// Tenths of a hedge that can be saved up: a burst, as when a node has just died under many reads.
const MAX_SAVED_TENTHS: u32 = 100;

/// Keeps hedges to a fraction of reads.
#[derive(Debug, Clone)]
pub struct HedgeBudget {
    /// Invariant: at most [`MAX_SAVED_TENTHS`].
    saved_tenths: u32,
}

impl Default for HedgeBudget {
    /// With a full purse: the first reads know least of what is slow.
    fn default() -> Self {
        Self { saved_tenths: MAX_SAVED_TENTHS }
    }
}

impl HedgeBudget {
    /// A request was sent, hedge or not.
    pub fn earn(&mut self) {
        self.saved_tenths = (self.saved_tenths + EARNED_TENTHS).min(MAX_SAVED_TENTHS);
    }

    /// Whether one slow request may be worked around; if so it is paid for.
    #[must_use]
    pub fn spend(&mut self) -> bool {
        let left = self.saved_tenths.checked_sub(10);
        self.saved_tenths = left.unwrap_or(self.saved_tenths);
        left.is_some()
    }
}

/// How many read units of one download may be under way or waiting to be taken.
///
/// It starts with two, so that a reader of a few bytes does not draw megabytes it will not look at,
/// and opens by one with each unit that is taken.
#[derive(Debug, Clone)]
pub struct Window {
    /// Invariant: `in_flight <= size <= READ_UNITS_IN_FLIGHT`.
    in_flight: usize,
    size: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { in_flight: 0, size: 2 }
    }
}

impl Window {
    /// Whether the next unit may start; if so it counts as started.
    #[must_use]
    pub fn start(&mut self) -> bool {
        let may = self.in_flight < self.size;
        self.in_flight += usize::from(may);
        may
    }

    /// A unit was taken by the reader, or dropped.
    ///
    /// # Panics
    /// If none was started.
    pub fn end(&mut self) {
        assert!(self.in_flight > 0, "a unit ends that never started");
        self.in_flight -= 1;
        self.size = (self.size + 1).min(READ_UNITS_IN_FLIGHT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: PublicKey = PublicKey([1; 32]);
    const OTHER: PublicKey = PublicKey([2; 32]);
    const LEN: u64 = 1 << 20;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn patience_follows_a_nodes_own_latencies() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.patience(&NODE, LEN), FIRST_PATIENCE.mul_f64(MARGIN));
        (1..=100).for_each(|n| latencies.record(NODE, LEN, millis(n)));
        // The last 64 are 37 to 100: the p95 is 97.
        assert_eq!(latencies.patience(&NODE, LEN), millis(97).mul_f64(MARGIN));
        assert_eq!(latencies.patience(&OTHER, LEN), millis(97).mul_f64(MARGIN), "by what is known of others");
        assert_eq!(latencies.patience(&NODE, 1), FIRST_PATIENCE.mul_f64(MARGIN), "another size");
    }

    #[test]
    fn a_node_that_became_slow_earns_no_patience() {
        let mut latencies = Latencies::default();
        for n in 0..640 {
            latencies.record(PublicKey([n as u8 % 32 + 10; 32]), LEN, millis(10));
            if n % 32 == 0 {
                latencies.record(NODE, LEN, millis(5_000));
            }
        }
        assert!(latencies.patience(&NODE, LEN) <= millis(25));
    }

    #[test]
    fn memory_is_bounded() {
        let mut latencies = Latencies::default();
        (0..10_000).for_each(|n| latencies.record(NODE, LEN, millis(n)));
        assert_eq!(latencies.nodes[&(NODE, 2)].samples.len(), SAMPLES);
        assert_eq!(latencies.all[2].samples.len(), SAMPLES);
    }

    #[test]
    fn hedges_stay_a_tenth_of_reads() {
        let mut budget = HedgeBudget::default();
        let granted = (0..10_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        let granted = granted.count();
        assert!((1_000..=1_011).contains(&granted), "{granted}");
    }

    #[test]
    fn the_window_opens_as_units_are_taken() {
        let mut window = Window::default();
        assert_eq!((window.start(), window.start(), window.start()), (true, true, false));
        window.end();
        assert_eq!((window.start(), window.start(), window.start()), (true, true, false));
        (0..10).for_each(|_| {
            window.end();
            assert!(window.start());
        });
        while window.start() {}
        assert_eq!(window.in_flight, READ_UNITS_IN_FLIGHT);
    }
}
