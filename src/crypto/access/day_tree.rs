//! The tree of a scope's days ([Goldreich, Goldwasser and Micali](https://doi.org/10.1145/6490.6503)).
//!
//! The scope's key is the root, each node gives two below it, and the leaf 16 levels down is the key of a day. A range of
//! days is given away as the few nodes that have just these leaves below them, so that limits of time hold without any
//! node learning a date.

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::DecodeError;
use crate::crypto::hash::{Context, derive_key};
use crate::types::Day;
use crate::types::limits::{DAY_TREE_LEVELS, MAX_DAY_NODES};

/// A key of the tree, and which days are below it.
#[derive(Clone, ZeroizeOnDrop)]
pub struct DayNode {
    /// Levels below the root: 0 to [`DAY_TREE_LEVELS`].
    depth: u8,
    /// The first day below the node. The bits that days below it differ in are zero.
    first: u16,
    key: [u8; 32],
}

/// The key of one day of a scope, called a in the design.
#[derive(Clone, ZeroizeOnDrop)]
pub struct DayKey([u8; 32]);

opaque_debug!(DayNode, DayKey);

/// Days in a row, from `first` to `last`, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange {
    first: Day,
    last: Day,
}

impl DayRange {
    /// All days.
    pub const ALL: Self = Self { first: Day(0), last: Day(u16::MAX) };

    /// The days from `first` to `last`; `None` if that is before it.
    #[must_use]
    pub fn new(first: Day, last: Day) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The first day.
    #[must_use]
    pub const fn first(&self) -> Day {
        self.first
    }

    /// The last day.
    #[must_use]
    pub const fn last(&self) -> Day {
        self.last
    }

    /// Whether the day is one of them.
    #[must_use]
    pub fn contains(&self, day: Day) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

impl DayNode {
    /// Bytes of [`Self::to_bytes`].
    pub const LEN: usize = 1 + 2 + 32;

    pub(super) const fn root(key: &[u8; 32]) -> Self {
        Self { depth: 0, first: 0, key: *key }
    }

    /// The days whose keys this node gives.
    #[must_use]
    pub const fn days(&self) -> DayRange {
        let below = self.last_below();
        DayRange { first: Day(self.first), last: Day(below) }
    }

    const fn last_below(&self) -> u16 {
        match u16::MAX.checked_shr(self.depth as u32) {
            Some(span) => self.first | span,
            None => self.first,
        }
    }

    /// The key of a day; `None` if the day is not below this node.
    #[must_use]
    pub fn key(&self, day: Day) -> Option<DayKey> {
        self.days().contains(day).then(|| self.descend(day))
    }

    pub(super) fn descend(&self, day: Day) -> DayKey {
        let mut node = self.clone();
        while node.depth < DAY_TREE_LEVELS {
            node = node.child(day.0 & node.half() != 0);
        }
        DayKey(node.key)
    }

    /// The fewest nodes below this one that give the keys of the days that are in the range too: at most
    /// [`MAX_DAY_NODES`].
    #[must_use]
    pub fn cover(&self, days: DayRange) -> Vec<Self> {
        // At once as long as it gets: a vector that grows leaves copies behind.
        let mut nodes = Vec::with_capacity(MAX_DAY_NODES);
        self.cover_into(days, &mut nodes);
        nodes
    }

    fn cover_into(&self, days: DayRange, nodes: &mut Vec<Self>) {
        let own = self.days();
        if days.first <= own.first && own.last <= days.last {
            nodes.push(self.clone());
        } else if own.first <= days.last && days.first <= own.last {
            self.child(false).cover_into(days, nodes);
            self.child(true).cover_into(days, nodes);
        }
    }

    /// The depth, the first day below (little endian) and the key: secret, for the sealed body of a grant.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        bytes[0] = self.depth;
        bytes[1..3].copy_from_slice(&self.first.to_le_bytes());
        bytes[3..].copy_from_slice(&self.key);
        bytes
    }

    /// Reads a node.
    ///
    /// # Errors
    /// [`DecodeError::Count`] if no node of the tree has this depth and first day.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, DecodeError> {
        let (head, key) = bytes.split_at(3);
        let depth = head[0];
        let first = u16::from_le_bytes([head[1], head[2]]);
        let span = u16::MAX.checked_shr(depth.into()).unwrap_or(0);
        if depth > DAY_TREE_LEVELS || first & span != 0 {
            return Err(DecodeError::Count(depth.into()));
        }
        let mut node = Self { depth, first, key: [0; 32] };
        node.key.copy_from_slice(key);
        Ok(node)
    }

    /// The bit that tells the halves of the days below this node apart. Only for nodes above the leaves.
    const fn half(&self) -> u16 {
        0x8000 >> self.depth
    }

    fn child(&self, late: bool) -> Self {
        let first = if late { self.first | self.half() } else { self.first };
        let mut child = Self { depth: self.depth + 1, first, key: [0; 32] };
        derive_key(Context::TimeTree, &[&self.key, &[u8::from(late)]], &mut child.key);
        child
    }
}

impl DayKey {
    /// The key of these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of a day from the nodes of a grant; `None` if it is not of the days that they give.
    #[must_use]
    pub fn find(nodes: &[DayNode], day: Day) -> Option<Self> {
        nodes.iter().find_map(|node| node.key(day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> DayNode {
        DayNode::root(&[7; 32])
    }

    fn range(first: u16, last: u16) -> DayRange {
        DayRange::new(Day(first), Day(last)).unwrap()
    }

    #[test]
    fn a_cover_gives_the_days_of_its_range_and_no_other() {
        for (first, last) in [
            (0, u16::MAX),
            (0, 0),
            (u16::MAX, u16::MAX),
            (1, u16::MAX - 1),
            (365, 730),
            (9_000, 9_001),
            (77, 77),
        ] {
            let days = range(first, last);
            let nodes = root().cover(days);
            assert!((1..=MAX_DAY_NODES).contains(&nodes.len()), "{} nodes for {days:?}", nodes.len());
            let mut next = u32::from(first);
            for node in &nodes {
                assert_eq!(u32::from(node.days().first().0), next, "in order and without gaps");
                next = u32::from(node.days().last().0) + 1;
            }
            assert_eq!(next, u32::from(last) + 1);
            for day in [0, 1, 76, 77, 78, 365, 400, 730, 731, 9_000, 9_001, 40_000, u16::MAX - 1, u16::MAX] {
                let found = DayKey::find(&nodes, Day(day)).map(|key| key.0);
                let own = root().key(Day(day)).map(|key| key.0);
                assert_eq!(found, own.filter(|_| days.contains(Day(day))), "day {day} of {days:?}");
            }
        }
        assert_eq!(root().cover(range(1, u16::MAX - 1)).len(), MAX_DAY_NODES, "the most there are");
        assert_eq!(DayRange::new(Day(2), Day(1)), None);
    }

    #[test]
    fn every_day_has_a_key_of_its_own() {
        let mut keys: Vec<_> = (0..u16::MAX).step_by(37).map(|day| root().key(Day(day)).unwrap().0).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_node_has_one_encoding() {
        for node in root().cover(range(1, u16::MAX - 1)).into_iter().chain([root()]) {
            let bytes = node.to_bytes();
            let read = DayNode::from_bytes(&bytes).unwrap();
            assert_eq!((read.depth, read.first, read.key), (node.depth, node.first, node.key));
            let mut odd = *bytes;
            odd[0] = 17;
            assert!(DayNode::from_bytes(&odd).is_err(), "deeper than the leaves");
            if node.depth < DAY_TREE_LEVELS {
                let mut odd = *bytes;
                odd[1] |= 1;
                assert!(DayNode::from_bytes(&odd).is_err(), "a first day that is not the first below it");
            }
        }
    }
}
