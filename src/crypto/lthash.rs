//! LtHash: the hash of a set that is updated in the size of a change, not of the set.
//!
//! Each element becomes 1,024 numbers of 16 bits (BLAKE3 as an XOF) and the hash of a set is their sum,
//! lane by lane, modulo 2^16. Order does not matter, and removing is subtracting. Lewi, Kim, Maykov,
//! Weis, *Securing Update Propagation with Homomorphic Hashing* (IACR 2019/227) shows that finding two
//! sets of one sum is as hard as a lattice problem, with over 200 bits for these numbers.
//!
//! It hashes *multisets*: that no element is added twice is for the caller, whose elements are rows
//! of a table, one for each key.

use std::fmt;

use crate::crypto::hash::{Context, derive_key};
use crate::types::Hash;

const LANES: usize = 1_024;

/// The sum over a set of rows.
#[derive(Clone, PartialEq, Eq)]
pub struct LtHash(Box<[u16; LANES]>);

impl LtHash {
    /// Bytes of a sum when it is stored.
    pub const LEN: usize = 2 * LANES;

    /// Adds a row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, value, u16::wrapping_add);
    }

    /// Takes away a row that was added.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, value, u16::wrapping_sub);
    }

    fn change(&mut self, key: &[u8], value: &[u8], combine: fn(u16, u16) -> u16) {
        let mut lanes = [0; Self::LEN];
        derive_key(Context::StateRow, &[key, value], &mut lanes);
        for (sum, lane) in self.0.iter_mut().zip(lanes.as_chunks().0) {
            *sum = combine(*sum, u16::from_le_bytes(*lane));
        }
    }

    /// What stands for the set in a block's header.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut digest = [0; 32];
        derive_key(Context::StateSum, &[&self.to_bytes()], &mut digest);
        Hash(digest)
    }

    /// The sum, to be stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// A sum that was stored; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lanes, rest) = bytes.as_chunks::<2>();
        let lanes: Vec<u16> = lanes.iter().map(|lane| u16::from_le_bytes(*lane)).collect();
        rest.is_empty().then_some(())?;
        Some(Self(lanes.into_boxed_slice().try_into().ok()?))
    }
}

impl Default for LtHash {
    /// The sum of no rows.
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl fmt::Debug for LtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LtHash({})", self.digest().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(&str, &str)]) -> LtHash {
        let mut sum = LtHash::default();
        rows.iter().for_each(|(key, value)| sum.add(key.as_bytes(), value.as_bytes()));
        sum
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        let one = of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(one, of(&[("c", "3"), ("a", "1"), ("b", "2")]));
        for other in [&[("a", "1"), ("b", "2")][..], &[("a", "2"), ("b", "1"), ("c", "3")], &[("a1", "")]] {
            assert_ne!(one.digest(), of(other).digest());
        }
        assert_ne!(of(&[("ab", "c")]).digest(), of(&[("a", "bc")]).digest());
        assert_ne!(of(&[("a", "1"), ("a", "1")]).digest(), of(&[("a", "1")]).digest());
    }

    #[test]
    fn removing_undoes_adding() {
        let mut sum = of(&[("a", "1"), ("b", "2")]);
        sum.remove(b"a", b"1");
        assert_eq!(sum, of(&[("b", "2")]));
        sum.remove(b"b", b"2");
        assert_eq!(sum, LtHash::default());
        sum.remove(b"x", b"y");
        sum.add(b"x", b"y");
        assert_eq!(sum, LtHash::default());
    }

    #[test]
    fn a_sum_survives_being_stored() {
        let sum = of(&[("a", "1")]);
        assert_eq!(LtHash::from_bytes(&sum.to_bytes()), Some(sum.clone()));
        assert_eq!(sum.to_bytes().len(), LtHash::LEN);
        assert_eq!(LtHash::from_bytes(&sum.to_bytes()[1..]), None);
        assert_eq!(LtHash::from_bytes(&[]), None);
    }
}
