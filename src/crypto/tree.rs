//! The BLAKE3 tree of a shard: its root is plain BLAKE3 of the shard's bytes, its leaves are slices
//! of [`SLICE_LEN`] bytes, and a range of whole slices is proved by the chaining values beside it.
//!
//! A proof is the list of chaining values of the largest subtrees outside the range, left to right:
//! the order in which [`verify`] meets them. It needs no lengths or positions of its own, since the
//! shard's length fixes the shape of the tree (BLAKE3 paper, section 2.1).

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

use crate::types::Hash;
use crate::types::limits::SLICE_LEN;

/// [`SLICE_LEN`] as a length of a shard.
const SLICE: u64 = SLICE_LEN as u64;

/// Longest shard that has a tree: BLAKE3 splits no longer input without overflow.
const MAX_LEN: u64 = 1 << 62;

/// Why a range of a shard is not proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The range is empty, not of whole slices, or not inside the shard.
    #[error("not a range of whole slices of the shard")]
    OutOfBounds,
    /// The proof has fewer or more chaining values than the range needs.
    #[error("the proof has the wrong length")]
    ProofLength,
    /// The bytes or the proof are not those under the root.
    #[error("the range does not hash to the shard's root")]
    Mismatch,
}

/// Hashes a shard that arrives in pieces, and keeps the chaining value of every slice.
///
/// It costs what plain BLAKE3 costs as long as pieces are [`SLICE_LEN`] or longer; shorter ones are
/// collected to whole slices first, because BLAKE3 is seven times slower on single packets.
#[derive(Debug, Default)]
pub struct SliceHasher {
    /// Chaining values of the slices before `pending`.
    leaves: Vec<Hash>,
    /// The bytes that are not hashed yet. Invariant: less than a slice of them, except that a first
    /// slice waits here until a byte follows it, because an only slice is hashed as the root.
    pending: Vec<u8>,
}

impl SliceHasher {
    /// A hasher with room for the slices of a shard of `shard_len` bytes; 0 where that is unknown.
    #[must_use]
    pub fn new(shard_len: u64) -> Self {
        let slices = usize::try_from(shard_len.div_ceil(SLICE)).unwrap_or(0);
        Self { leaves: Vec::with_capacity(slices), pending: Vec::new() }
    }

    /// Takes in the next piece of the shard.
    pub fn update(&mut self, mut piece: &[u8]) {
        if !self.pending.is_empty() {
            let room = piece.len().min(SLICE_LEN - self.pending.len());
            let (head, rest) = piece.split_at(room);
            self.pending.extend_from_slice(head);
            piece = rest;
        }
        if piece.is_empty() {
            return;
        }
        if !self.pending.is_empty() {
            self.leaves.push(leaf(self.leaves.len(), &self.pending));
            self.pending.clear();
        }
        while piece.len() > SLICE_LEN || (piece.len() == SLICE_LEN && !self.leaves.is_empty()) {
            let (slice, rest) = piece.split_at(SLICE_LEN);
            self.leaves.push(leaf(self.leaves.len(), slice));
            piece = rest;
        }
        self.pending.extend_from_slice(piece);
    }

    /// The root of the shard and its leaves, as [`root`] and [`proof`] take them.
    ///
    /// A shard of one slice has its root as its only leaf; one without bytes has no leaves.
    #[must_use]
    pub fn finish(mut self) -> (Hash, Vec<Hash>) {
        if self.leaves.is_empty() {
            let root = plain(&self.pending);
            let leaves = if self.pending.is_empty() { Vec::new() } else { vec![root] };
            return (root, leaves);
        }
        if !self.pending.is_empty() {
            self.leaves.push(leaf(self.leaves.len(), &self.pending));
        }
        (fold(&self.leaves, true), self.leaves)
    }
}

/// The root of a shard of `shard_len` bytes from its leaves; `None` unless there are as many leaves
/// as such a shard has.
#[must_use]
pub fn root(leaves: &[Hash], shard_len: u64) -> Option<Hash> {
    fits(leaves, shard_len).then(|| fold(leaves, true))
}

/// Proves the `len` bytes at `start` of a shard of `shard_len` bytes.
///
/// # Errors
/// [`RangeError::OutOfBounds`] if they are not whole slices of the shard, the last of which may be
/// short; [`RangeError::ProofLength`] if these are not the leaves of such a shard.
pub fn proof(leaves: &[Hash], shard_len: u64, start: u64, len: u64) -> Result<Vec<Hash>, RangeError> {
    let range = whole_slices(shard_len, start, len)?;
    if !fits(leaves, shard_len) {
        return Err(RangeError::ProofLength);
    }
    let mut proof = Vec::new();
    collect_outside(leaves, 0..shard_len, &range, &mut proof);
    Ok(proof)
}

/// Checks that `data` is at `start` of the shard of `shard_len` bytes with this root.
///
/// `shard_len` is believed, not proved, unless the range ends with the shard: take it from a
/// descriptor, never from the node that sent the data.
///
/// # Errors
/// [`RangeError`] says what does not fit. Nothing of `data` may be used then.
pub fn verify(
    root: &Hash,
    shard_len: u64,
    start: u64,
    data: &[u8],
    proof: &[Hash],
) -> Result<(), RangeError> {
    let len = u64::try_from(data.len()).map_err(|_| RangeError::OutOfBounds)?;
    let range = whole_slices(shard_len, start, len)?;
    let found = if range == (0..shard_len) {
        plain(data)
    } else {
        let mut walk = Walk { data, range: &range, proof: proof.iter() };
        let (left, right) = walk.children(&(0..shard_len))?;
        if walk.proof.len() > 0 {
            return Err(RangeError::ProofLength);
        }
        merge(&left, &right, true)
    };
    match (range == (0..shard_len) && !proof.is_empty(), found == *root) {
        (true, _) => Err(RangeError::ProofLength),
        (false, false) => Err(RangeError::Mismatch),
        (false, true) => Ok(()),
    }
}

/// One pass over the tree, left to right, with what is left of the proof.
struct Walk<'a> {
    data: &'a [u8],
    /// Where `data` is in the shard.
    range: &'a Range<u64>,
    proof: std::slice::Iter<'a, Hash>,
}

impl Walk<'_> {
    /// The chaining values of the two subtrees of `span`, which is longer than a slice.
    fn children(&mut self, span: &Range<u64>) -> Result<(Hash, Hash), RangeError> {
        let (left, right) = split(span);
        Ok((self.subtree(&left)?, self.subtree(&right)?))
    }

    fn subtree(&mut self, span: &Range<u64>) -> Result<Hash, RangeError> {
        if outside(span, self.range) {
            return self.proof.next().copied().ok_or(RangeError::ProofLength);
        }
        if self.range.start <= span.start && span.end <= self.range.end {
            let offset = |at: u64| usize::try_from(at - self.range.start).ok();
            let bytes = offset(span.start).zip(offset(span.end)).and_then(|(a, b)| self.data.get(a..b));
            return bytes.map(|bytes| subtree(span.start, bytes)).ok_or(RangeError::OutOfBounds);
        }
        let (left, right) = self.children(span)?;
        Ok(merge(&left, &right, false))
    }
}

/// Appends the chaining values of the largest subtrees of `span` outside `range`, left to right.
fn collect_outside(leaves: &[Hash], span: Range<u64>, range: &Range<u64>, proof: &mut Vec<Hash>) {
    if range.start <= span.start && span.end <= range.end {
        return;
    }
    if outside(&span, range) {
        proof.push(fold(leaves, false));
        return;
    }
    let (left, right) = split(&span);
    let (left_leaves, right_leaves) = leaves.split_at(left_leaf_count(leaves.len()));
    collect_outside(left_leaves, left, range, proof);
    collect_outside(right_leaves, right, range, proof);
}

/// The hash of the subtree over these leaves, of which there is at least one.
fn fold(leaves: &[Hash], is_root: bool) -> Hash {
    if let [only] = leaves {
        return *only;
    }
    let (left, right) = leaves.split_at(left_leaf_count(leaves.len()));
    merge(&fold(left, false), &fold(right, false), is_root)
}

/// Leaves of the left subtree over `leaves` of them: the largest power of two below.
const fn left_leaf_count(leaves: usize) -> usize {
    leaves.div_ceil(2).next_power_of_two()
}

fn split(span: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let middle = span.start + left_subtree_len(span.end - span.start);
    (span.start..middle, middle..span.end)
}

const fn outside(span: &Range<u64>, range: &Range<u64>) -> bool {
    span.end <= range.start || range.end <= span.start
}

fn merge(left: &Hash, right: &Hash, is_root: bool) -> Hash {
    if is_root {
        return Hash(merge_subtrees_root(left.as_bytes(), right.as_bytes(), Mode::Hash).into());
    }
    Hash(merge_subtrees_non_root(left.as_bytes(), right.as_bytes(), Mode::Hash))
}

/// The chaining value of slice `index` of a shard of more than one slice.
fn leaf(index: usize, slice: &[u8]) -> Hash {
    subtree(index as u64 * SLICE, slice)
}

/// The chaining value of a subtree below the root that begins at `start`.
fn subtree(start: u64, bytes: &[u8]) -> Hash {
    Hash(Hasher::new().set_input_offset(start).update(bytes).finalize_non_root())
}

fn plain(bytes: &[u8]) -> Hash {
    Hash(blake3::hash(bytes).into())
}

fn fits(leaves: &[Hash], shard_len: u64) -> bool {
    !leaves.is_empty() && u64::try_from(leaves.len()) == Ok(shard_len.div_ceil(SLICE))
}

/// The range, if it is of whole slices of the shard, the last of which may be short.
fn whole_slices(shard_len: u64, start: u64, len: u64) -> Result<Range<u64>, RangeError> {
    let end = start.checked_add(len).ok_or(RangeError::OutOfBounds)?;
    let whole = start.is_multiple_of(SLICE) && (end.is_multiple_of(SLICE) || end == shard_len);
    if len == 0 || end > shard_len || shard_len > MAX_LEN || !whole {
        return Err(RangeError::OutOfBounds);
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes no two slices of which are alike.
    fn shard(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Hasher::new().update(b"shard").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn leaves(bytes: &[u8]) -> Vec<Hash> {
        let mut hasher = SliceHasher::new(bytes.len() as u64);
        hasher.update(bytes);
        let (root, leaves) = hasher.finish();
        assert_eq!(root, plain(bytes), "{}", bytes.len());
        leaves
    }

    fn boundary_lengths() -> Vec<usize> {
        let mut lengths = vec![1, 2, 100];
        for around in [1_024, 2_048, 8_192, SLICE_LEN, 2 * SLICE_LEN, 3 * SLICE_LEN, 4 * SLICE_LEN] {
            lengths.extend([around - 1, around, around + 1]);
        }
        for slices in [7, 8, 9, 15, 16, 17, 32] {
            lengths.extend([slices * SLICE_LEN - 1, slices * SLICE_LEN, slices * SLICE_LEN + 1]);
        }
        lengths
    }

    #[test]
    fn the_root_is_plain_blake3_in_whatever_pieces_the_shard_comes() {
        for len in boundary_lengths() {
            let bytes = shard(len);
            for piece in [1_200, 1_024, 8_191, SLICE_LEN, SLICE_LEN + 1, 3 * SLICE_LEN, len] {
                let mut hasher = SliceHasher::new(len as u64);
                bytes.chunks(piece).for_each(|piece| hasher.update(piece));
                hasher.update(&[]);
                let (found, leaves) = hasher.finish();
                assert_eq!(found, plain(&bytes), "{len} bytes in pieces of {piece}");
                assert_eq!(root(&leaves, len as u64), Some(found));
                assert_eq!(leaves.len(), len.div_ceil(SLICE_LEN));
            }
        }
        let (empty, leaves) = SliceHasher::default().finish();
        assert_eq!((empty, leaves.len()), (plain(&[]), 0));
    }

    #[test]
    fn leaves_of_another_length_have_no_root() {
        let leaves = leaves(&shard(3 * SLICE_LEN));
        assert_eq!(root(&leaves, 4 * SLICE), None);
        assert_eq!(root(&leaves, 2 * SLICE), None);
        assert_eq!(root(&[], 0), None);
        assert_eq!(proof(&leaves, 4 * SLICE, 0, SLICE), Err(RangeError::ProofLength));
    }

    #[test]
    fn every_range_of_whole_slices_is_proved() {
        for len in boundary_lengths() {
            let bytes = shard(len);
            let (leaves, slices) = (leaves(&bytes), len.div_ceil(SLICE_LEN));
            let root = plain(&bytes);
            for first in 0..slices {
                for end in first + 1..=slices {
                    let range = first * SLICE_LEN..(end * SLICE_LEN).min(len);
                    let (start, data) = (range.start as u64, &bytes[range]);
                    let proof = proof(&leaves, len as u64, start, data.len() as u64).unwrap();
                    assert_eq!(verify(&root, len as u64, start, data, &proof), Ok(()));
                }
            }
        }
    }

    #[test]
    fn every_changed_bit_of_data_or_proof_is_noticed() {
        let len = 5 * SLICE_LEN + 700;
        let bytes = shard(len);
        let (leaves, root) = (leaves(&bytes), plain(&bytes));
        for range in [0..SLICE_LEN, SLICE_LEN..3 * SLICE_LEN, 5 * SLICE_LEN..len] {
            let (start, data) = (range.start as u64, bytes[range].to_vec());
            let good = proof(&leaves, len as u64, start, data.len() as u64).unwrap();
            let check = |data: &[u8], proof: &[Hash]| verify(&root, len as u64, start, data, proof);
            assert_eq!(check(&data, &good), Ok(()));
            for at in (0..data.len()).step_by(61).chain([data.len() - 1]) {
                let mut changed = data.clone();
                changed[at] ^= 1;
                assert_eq!(check(&changed, &good), Err(RangeError::Mismatch));
            }
            for (at, byte) in (0..good.len()).flat_map(|at| (0..32).map(move |byte| (at, byte))) {
                let mut changed = good.clone();
                changed[at].0[byte] ^= 0x80;
                assert_eq!(check(&data, &changed), Err(RangeError::Mismatch));
            }
            let longer = [&good[..], &[root]].concat();
            assert_eq!(check(&data, &longer), Err(RangeError::ProofLength));
            assert_eq!(check(&data, &good[..good.len() - 1]), Err(RangeError::ProofLength));
            assert_eq!(check(&data, &[]), Err(RangeError::ProofLength));
        }
    }

    #[test]
    fn a_whole_shard_needs_no_proof_and_accepts_none() {
        for len in [1, SLICE_LEN, 3 * SLICE_LEN + 1] {
            let bytes = shard(len);
            let root = plain(&bytes);
            assert_eq!(verify(&root, len as u64, 0, &bytes, &[]), Ok(()));
            assert_eq!(verify(&root, len as u64, 0, &bytes, &[root]), Err(RangeError::ProofLength));
            assert_eq!(proof(&leaves(&bytes), len as u64, 0, len as u64), Ok(Vec::new()));
        }
    }

    #[test]
    fn a_range_is_proved_only_where_it_is_and_in_a_shard_of_its_length() {
        let bytes = shard(4 * SLICE_LEN);
        let (leaves, root) = (leaves(&bytes), plain(&bytes));
        let good = proof(&leaves, 4 * SLICE, SLICE, SLICE).unwrap();
        let data = &bytes[SLICE_LEN..2 * SLICE_LEN];
        assert_eq!(verify(&root, 4 * SLICE, SLICE, data, &good), Ok(()));
        for start in [0, 2 * SLICE, 3 * SLICE] {
            assert_eq!(verify(&root, 4 * SLICE, start, data, &good), Err(RangeError::Mismatch));
        }
        for shard_len in [2 * SLICE, 5 * SLICE, 8 * SLICE] {
            assert!(verify(&root, shard_len, SLICE, data, &good).is_err());
        }
        assert_eq!(verify(&root, u64::MAX, SLICE, data, &good), Err(RangeError::OutOfBounds));
        for (start, len) in [(0, 0), (1, SLICE), (0, SLICE - 1), (4 * SLICE, SLICE), (u64::MAX, SLICE)] {
            let data = vec![0; usize::try_from(len).unwrap()];
            assert_eq!(verify(&root, 4 * SLICE, start, &data, &good), Err(RangeError::OutOfBounds));
            assert_eq!(proof(&leaves, 4 * SLICE, start, len), Err(RangeError::OutOfBounds));
        }
    }
}
