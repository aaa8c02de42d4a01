//! What goes wrong in a run, and when: never more than the design promises to survive, so every red is real.
//!
//! At any time at most m nodes are in trouble. One of them, the *lost* node, may lose shards for good (a wiped
//! disk, rotten bytes, promises it did not keep): an acknowledged segment survives any one node even
//! before its last shards are placed. The troubles of the others pass.

use std::ops::Range;
use std::time::Duration;

use crate::testing::sim::rng::Rng;
use crate::types::{Code, Timestamp};

/// What may be wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The process is killed, possibly in the middle of a write; the disk keeps what was promised of it.
    Crash,
    /// Nothing from clients arrives.
    Deaf,
    /// Nothing from the node arrives.
    Mute,
    /// Nothing passes.
    Cut,
    /// Answers take a hundred times as long.
    Slow,
    /// Its machine is busy with other things: answers take seconds, and some connections time out. Not drawn for runs, which
    /// expect progress sooner.
    Starved,
    /// It takes requests and never answers.
    Hangs,
    /// It serves wrong bytes of the right length.
    Corrupts,
    /// It says it has nothing.
    Withholds,
    /// It signs receipts with another key.
    Forges,
    /// It answers with receipts of earlier requests.
    Replays,
    /// Its disk has no space.
    Full,
    /// It signs receipts for shards it throws away. Only the lost node.
    Discards,
    /// Its disk is replaced by an empty one. Only the lost node.
    Wiped,
    /// Bytes on its disk change. Only the lost node.
    Rots,
}

impl Trouble {
    /// The troubles that leave nothing broken.
    pub const PASSING: [Self; 12] = [
        Self::Crash,
        Self::Crash,
        Self::Deaf,
        Self::Mute,
        Self::Cut,
        Self::Slow,
        Self::Hangs,
        Self::Corrupts,
        Self::Withholds,
        Self::Forges,
        Self::Replays,
        Self::Full,
    ];
    /// Whether what it breaks stays broken.
    #[must_use]
    pub fn is_lasting(self) -> bool {
        Self::LASTING.contains(&self)
    }

    /// The troubles that cost shards.
    pub const LASTING: [Self; 3] = [Self::Discards, Self::Wiped, Self::Rots];
}

/// One trouble of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose.
    pub node: usize,
    /// What.
    pub trouble: Trouble,
    /// From when to when; what a lasting trouble broke stays broken.
    pub during: Range<Timestamp>,
}

/// All that goes wrong in a run.
#[derive(Debug)]
pub struct Plan {
    /// The troubles of nodes, by begin.
    pub faults: Vec<Fault>,
    /// The node whose shards may be gone for good, if there is one.
    pub lost: Option<usize>,
    /// When a fuse is lit under a client.
    pub deaths: Vec<(Timestamp, usize, Fuse)>,
}

/// How long a client has to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuse {
    /// It dies before its nth effect from now.
    Effects(u32),
    /// Its disk loses power at the nth change from now, and the client with it.
    Changes(u64),
}

/// A node is counted as in trouble for so long after its trouble ends: calls to it may still hang, and
/// clients may still avoid it.
pub const AFTERMATH: Duration = Duration::from_secs(20);

impl Plan {
    /// What goes wrong between `start` and `end`.
    pub fn random(rng: &mut Rng, code: Code, nodes: usize, clients: usize, span: &Range<Timestamp>) -> Self {
        let lost = rng.chance(600).then(|| rng.index(nodes));
        let mut faults = Vec::new();
        if let Some(node) = lost {
            let trouble = *rng.pick(&Trouble::LASTING);
            faults.push(Fault { node, trouble, during: within(rng, span) });
        }
        // Each lane is one more node that may be in trouble at a time.
        for lane in usize::from(lost.is_some())..code.m() {
            let mut at = span.start + Duration::from_millis(rng.below(10_000));
            while at < span.end {
                let length = Duration::from_millis(500 + rng.below(15_000));
                let end = (at + length).min(span.end);
                // Lanes own disjoint nodes, so that two lanes never trouble the same one.
                let own: Vec<usize> =
                    (0..nodes).filter(|node| node % code.m() == lane && Some(*node) != lost).collect();
                if !own.is_empty() {
                    let (node, trouble) = (*rng.pick(&own), *rng.pick(&Trouble::PASSING));
                    faults.push(Fault { node, trouble, during: at..end });
                }
                at = end + Duration::from_millis(rng.below(8_000));
            }
        }
        faults.sort_by_key(|fault| (fault.during.start, fault.node));
        let deaths = (0..rng.below(6)).map(|_| {
            let at = within(rng, span).start;
            let fuse = match u32::try_from(rng.below(200)) {
                Ok(effects) if rng.chance(500) => Fuse::Effects(effects),
                _ => Fuse::Changes(rng.below(300)),
            };
            (at, rng.index(clients), fuse)
        });
        let deaths = deaths.collect();
        Self { faults, lost, deaths }
    }

    /// Whether a node was in no trouble of any kind between two times.
    #[must_use]
    pub fn was_sound(&self, node: usize, span: &Range<Timestamp>) -> bool {
        let overlaps =
            |during: &Range<Timestamp>| during.start <= span.end && span.start <= during.end + AFTERMATH;
        !self.faults.iter().any(|fault| fault.node == node && overlaps(&fault.during))
    }

    /// Whether a node's shards may be gone at this time.
    #[must_use]
    pub fn may_have_lost(&self, node: usize, now: Timestamp) -> bool {
        self.lost == Some(node)
            && self.faults.iter().any(|fault| fault.node == node && fault.during.start <= now)
    }
}

fn within(rng: &mut Rng, span: &Range<Timestamp>) -> Range<Timestamp> {
    let micros = u64::try_from(span.end.since(span.start).as_micros()).unwrap_or(u64::MAX);
    let (a, b) = (rng.below(micros), rng.below(micros));
    let at = |micros: u64| span.start + Duration::from_micros(micros);
    at(a.min(b))..at(a.max(b))
}
