//! The transparency log: every transaction is a leaf, and the record of each block after those of its own.
//!
//! Stored are the nodes of every eighth level, which are the hashes in the tiles of C2SP `tlog-tiles`;
//! the levels between follow from them. Proofs are RFC 6962's and need only those nodes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::crypto::log_tree::{
    self, Frontier, consistency_ranges, inclusion_ranges, leaf_hash, node_hash, range_hash,
};
use crate::ledger::read::{Overlay, Read, ReadError};
use crate::ledger::rows::{FRONTIER, LOG_NODES, Peaks};
use crate::message::canonical::Canonical as _;
use crate::types::LogHash;

/// Levels of a tile: `tlog-tiles` fixes it.
pub const TILE_HEIGHT: u8 = 8;

/// Hashes of a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// The frontier of a log of this size.
///
/// # Errors
/// [`ReadError`].
pub fn frontier(state: &impl Read, size: u64) -> Result<Frontier, ReadError> {
    let Peaks(peaks) = FRONTIER.expect(state, &())?;
    Frontier::new(size, peaks).ok_or(ReadError::Missing("log frontier of the tip's size"))
}

/// Appends leaves and stores the nodes that they complete.
pub(super) fn append<'l, R: Read>(
    state: &mut Overlay<'_, R>,
    frontier: &mut Frontier,
    leaves: impl IntoIterator<Item = &'l [u8]>,
) {
    for leaf in leaves {
        push(frontier, leaf_hash(leaf), |key, hash| state.put(key, hash.encode()));
    }
    FRONTIER.put(state, &(), &Peaks(frontier.peaks().to_vec()));
}

/// Appends a leaf of this hash; `store` is given the rows of the nodes that it completes.
pub(super) fn push(frontier: &mut Frontier, leaf: LogHash, mut store: impl FnMut(Vec<u8>, LogHash)) {
    frontier.push(leaf, |node| {
        if node.level % TILE_HEIGHT == 0 {
            store(LOG_NODES.key(&(node.level / TILE_HEIGHT, node.index)), node.hash);
        }
    });
}

/// Proofs from one state. What is folded from stored nodes for one proof serves those after it: transactions of one
/// block are in one tile or two.
#[derive(Debug)]
pub struct Paths<'s, R> {
    state: &'s R,
    /// Nodes that were read or folded, by level and index.
    known: BTreeMap<(u8, u64), LogHash>,
}

impl<'s, R: Read> Paths<'s, R> {
    /// Nothing is folded yet.
    #[must_use]
    pub fn new(state: &'s R) -> Self {
        Self { state, known: BTreeMap::new() }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &'s R {
        self.state
    }

    /// Proves that leaf `index` is in the log of its first `size` leaves; `None` if it has no such leaf.
    ///
    /// # Errors
    /// [`ReadError`], also for a size that the log does not have yet.
    pub fn inclusion(&mut self, index: u64, size: u64) -> Result<Option<Vec<LogHash>>, ReadError> {
        self.hashes(inclusion_ranges(index, size))
    }

    fn hashes(&mut self, ranges: Option<Vec<Range<u64>>>) -> Result<Option<Vec<LogHash>>, ReadError> {
        let mut hash = |range| range_hash(&range, &mut |level, index| self.node(level, index));
        ranges.map(|ranges| ranges.into_iter().map(&mut hash).collect()).transpose()
    }

    /// A complete node: stored, or folded from those below it.
    fn node(&mut self, level: u8, index: u64) -> Result<LogHash, ReadError> {
        if let Some(known) = self.known.get(&(level, index)) {
            return Ok(*known);
        }
        let hash = if level.is_multiple_of(TILE_HEIGHT) {
            LOG_NODES.expect(self.state, &(level / TILE_HEIGHT, index))?
        } else {
            node_hash(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?)
        };
        self.known.insert((level, index), hash);
        Ok(hash)
    }
}

/// One such proof: [`Paths::inclusion`].
///
/// # Errors
/// As there.
pub fn prove_inclusion(state: &impl Read, index: u64, size: u64) -> Result<Option<Vec<LogHash>>, ReadError> {
    Paths::new(state).inclusion(index, size)
}

/// Proves that the log of `new` leaves begins with that of `old`; `None` if it is shorter.
///
/// # Errors
/// As [`prove_inclusion`].
pub fn prove_consistency(state: &impl Read, old: u64, new: u64) -> Result<Option<Vec<LogHash>>, ReadError> {
    Paths::new(state).hashes(consistency_ranges(old, new))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// As [`prove_inclusion`].
pub fn root_at(state: &impl Read, size: u64) -> Result<LogHash, ReadError> {
    let mut paths = Paths::new(state);
    range_hash(&(0..size), &mut |level, index| paths.node(level, index))
}

/// The hashes of a tile of `width` hashes, as `tlog-tiles` serves them; `None` if it is not there yet.
///
/// # Errors
/// [`ReadError`].
pub fn tile(state: &impl Read, level: u8, index: u64, width: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(first) = index.checked_mul(TILE_WIDTH).filter(|_| (1..=TILE_WIDTH).contains(&width)) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for at in first..first.saturating_add(width) {
        let Some(hash) = LOG_NODES.get(state, &(level, at))? else { return Ok(None) };
        bytes.extend_from_slice(&hash.0);
    }
    Ok(Some(bytes))
}

/// Whether a proof shows that a leaf is in a log.
#[must_use]
pub fn includes(leaf: &[u8], index: u64, size: u64, root: &LogHash, proof: &[LogHash]) -> bool {
    log_tree::root_of_inclusion(leaf_hash(leaf), index, size, proof) == Some(*root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(leaves: u64) -> (BTreeMap<Vec<u8>, Vec<u8>>, Vec<LogHash>) {
        let (mut state, mut frontier) = (BTreeMap::new(), Frontier::default());
        let mut roots = vec![frontier.root()];
        for leaf in 0..leaves {
            let mut overlay = Overlay::new(&state);
            append(&mut overlay, &mut frontier, [&leaf.to_le_bytes()[..]]);
            let writes = overlay.into_writes();
            state.extend(writes.into_iter().map(|(key, value)| (key, value.unwrap())));
            roots.push(frontier.root());
        }
        (state, roots)
    }

    #[test]
    fn every_leaf_and_every_growth_is_proved_from_tiles() {
        const SIZE: u64 = 600;
        let (state, roots) = log(SIZE);
        assert_eq!(frontier(&state, SIZE).unwrap().root(), roots[600]);
        for size in [1, 2, 7, 255, 256, 257, 511, 512, 513, SIZE] {
            let root = roots[size as usize];
            assert_eq!(root_at(&state, size), Ok(root));
            for index in (0..size).step_by(37).chain([size - 1]) {
                let proof = prove_inclusion(&state, index, size).unwrap().unwrap();
                assert!(includes(&index.to_le_bytes(), index, size, &root, &proof), "{index} of {size}");
                assert!(!includes(&[1], index, size, &root, &proof));
            }
            for old in (0..=size).step_by(29) {
                let proof = prove_consistency(&state, old, size).unwrap().unwrap();
                assert!(log_tree::is_consistent(old, &roots[old as usize], size, &root, &proof));
            }
        }
        assert_eq!(prove_inclusion(&state, 5, 5), Ok(None));
        assert_eq!(prove_consistency(&state, 6, 5), Ok(None));
        assert!(root_at(&state, SIZE + 1).is_err());
    }

    #[test]
    fn tiles_hold_the_hashes_of_every_eighth_level() {
        let (state, _) = log(600);
        let full = tile(&state, 0, 1, 256).unwrap().unwrap();
        assert_eq!(full.len(), 256 * 32);
        let leaves = full.as_chunks::<32>().0.iter().map(|hash| LogHash(*hash));
        let above = tile(&state, 1, 0, 2).unwrap().unwrap();
        assert_eq!(above[32..], log_tree::root(leaves).0);
        assert_eq!(tile(&state, 0, 2, 88).unwrap().unwrap().len(), 88 * 32);
        for (level, index, width) in
            [(0, 2, 89), (1, 0, 3), (2, 0, 1), (0, 0, 0), (0, 0, 257), (0, u64::MAX, 1)]
        {
            assert_eq!(tile(&state, level, index, width), Ok(None), "{level} {index} {width}");
        }
    }
}
