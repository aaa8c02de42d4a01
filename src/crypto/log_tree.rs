//! The Merkle tree of RFC 6962 (SHA-256): roots of a growing list, and proofs about it.
//!
//! Of the list itself nothing is kept: a [`Frontier`] is enough to append, and whoever serves proofs
//! keeps the nodes that [`Frontier::push`] hands out. RFC 9162 section 2.1 has the algorithms.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::types::LogHash;

/// Hashes of a proof: a tree of 2^64 leaves has no longer path, and a consistency proof one hash more.
pub const MAX_PROOF_LEN: usize = 65;

/// The hash of a leaf: SHA-256 of 0x00 and its bytes.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> LogHash {
    LogHash(Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
}

/// The hash of an inner node: SHA-256 of 0x01 and the hashes of its two children.
#[must_use]
pub fn node_hash(left: &LogHash, right: &LogHash) -> LogHash {
    LogHash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> LogHash {
    LogHash(Sha256::digest([]).into())
}

/// A complete subtree: the `index`-th of 2^`level` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for leaves.
    pub level: u8,
    /// How many subtrees of its level are to the left of it.
    pub index: u64,
    /// Its hash.
    pub hash: LogHash,
}

/// What has to be remembered of a tree to append to it: the roots of its complete subtrees.
///
/// Invariant: one peak for each bit that is set in `size`, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<LogHash>,
}

impl Frontier {
    /// A frontier from what was stored; `None` unless there is a peak for each bit of the size.
    #[must_use]
    pub fn new(size: u64, peaks: Vec<LogHash>) -> Option<Self> {
        (u32::try_from(peaks.len()) == Ok(size.count_ones())).then_some(Self { size, peaks })
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[LogHash] {
        &self.peaks
    }

    /// Appends a leaf and shows every node that this completes, from the leaf upwards.
    pub fn push(&mut self, leaf: LogHash, mut completed: impl FnMut(Node)) {
        let (mut hash, mut level) = (leaf, 0);
        completed(Node { level, index: self.size, hash });
        while self.size >> level & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            completed(Node { level, index: self.size >> level, hash });
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the whole tree.
    #[must_use]
    pub fn root(&self) -> LogHash {
        let folded = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(empty_root)
    }
}

/// The root over all leaves of a list that is at hand.
#[must_use]
pub fn root(leaves: impl IntoIterator<Item = LogHash>) -> LogHash {
    let mut frontier = Frontier::default();
    leaves.into_iter().for_each(|leaf| frontier.push(leaf, |_| ()));
    frontier.root()
}

/// The path of a leaf of a list that is at hand; `None` if there is no such leaf.
#[must_use]
pub fn inclusion_path(leaves: &[LogHash], index: usize) -> Option<Vec<LogHash>> {
    let number = |n: usize| u64::try_from(n).ok();
    let ranges = inclusion_ranges(number(index)?, number(leaves.len())?)?;
    let place = |n: u64| usize::try_from(n).ok();
    let hash = |range: Range<u64>| {
        let subtree = leaves.get(place(range.start)?..place(range.end)?)?;
        Some(root(subtree.iter().copied()))
    };
    ranges.into_iter().map(hash).collect()
}

/// The subtrees whose hashes prove that leaf `index` is in the tree of `size` leaves, from the leaf
/// upwards; `None` if there is no such leaf.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut span, mut path) = (0..size, Vec::new());
    while span.end - span.start > 1 {
        let (left, right) = split(&span);
        let (inside, beside) = if index < left.end { (left, right) } else { (right, left) };
        path.push(beside);
        span = inside;
    }
    path.reverse();
    Some(path)
}

/// The subtrees whose hashes prove that the tree of `new` leaves begins with that of `old`; `None`
/// if it is shorter. Empty where nothing is to be proved: `old` is 0 or `new`.
#[must_use]
pub fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old > new {
        return None;
    }
    if old == 0 || old == new {
        return Some(Vec::new());
    }
    // SUBPROOF of RFC 6962 section 2.1.2, from the root down.
    let (mut span, mut path, mut is_whole) = (0..new, Vec::new(), true);
    while span.end != old {
        let (left, right) = split(&span);
        if old <= left.end {
            path.push(right);
            span = left;
        } else {
            path.push(left);
            span = right;
            is_whole = false;
        }
    }
    if !is_whole {
        path.push(span);
    }
    path.reverse();
    Some(path)
}

/// The hash of the subtree over `range` from complete nodes, asked for by level and index.
///
/// # Errors
/// Whatever `node` answers.
pub fn range_hash<E>(
    range: &Range<u64>,
    node: &mut impl FnMut(u8, u64) -> Result<LogHash, E>,
) -> Result<LogHash, E> {
    let len = range.end - range.start;
    if len == 0 {
        return Ok(empty_root());
    }
    if len.is_power_of_two() {
        let level = u8::try_from(len.trailing_zeros()).unwrap_or(0);
        return node(level, range.start >> level);
    }
    let (left, right) = split(range);
    Ok(node_hash(&range_hash(&left, node)?, &range_hash(&right, node)?))
}

/// The root that a proof of inclusion leads to; `None` if the proof is not one for this place.
#[must_use]
pub fn root_of_inclusion(leaf: LogHash, index: u64, size: u64, proof: &[LogHash]) -> Option<LogHash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for beside in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(beside, &hash);
            // A node without a sibling is carried up to the level where it has one.
            while at & 1 == 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether a proof shows that the tree of `new_size` leaves begins with that of `old_size`.
#[must_use]
pub fn is_consistent(
    old_size: u64,
    old_root: &LogHash,
    new_size: u64,
    new_root: &LogHash,
    proof: &[LogHash],
) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    roots_of_consistency(old_size, old_root, new_size, proof) == Some((*old_root, *new_root))
}

/// The two roots that a consistency proof leads to, for `0 < old_size < new_size`.
fn roots_of_consistency(
    old_size: u64,
    old_root: &LogHash,
    new_size: u64,
    proof: &[LogHash],
) -> Option<(LogHash, LogHash)> {
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (start, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first()?;
        (*first, rest)
    };
    let (mut old, mut new) = (start, start);
    for beside in rest {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(beside, &old);
            new = node_hash(beside, &new);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = node_hash(&new, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some((old, new))
}

/// Splits a span of at least two leaves at the largest power of two below its length.
fn split(span: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let len = span.end - span.start;
    let left = 1 << (63 - (len - 1).leading_zeros());
    (span.start..span.start + left, span.start + left..span.end)
}

#[cfg(test)]
mod tests;
