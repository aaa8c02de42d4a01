//! Reed-Solomon over the columns of a stripe: the only file that knows the erasure-code library.
//!
//! The code is systematic and linear byte by byte, so a stripe can be coded or rebuilt over any equal
//! byte ranges of its columns. Columns are never copied: coding reads borrowed cells.

use std::fmt;

use reed_solomon_erasure::galois_8::{ReedSolomon, mul_slice, mul_slice_xor};

use crate::types::Code;

/// Bytes of each column that are worked on at once, so that `k` inputs and the outputs stay in the
/// first-level cache while each output is summed up.
const BLOCK_LEN: usize = 4 * 1024;

/// Codes and rebuilds the columns of stripes. Make one for each code and keep it: making one inverts
/// a matrix.
pub struct Coder {
    code: Code,
    inner: ReedSolomon,
}

/// Why missing columns cannot be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Fewer than `k` columns were given.
    #[error("{have} columns are too few to rebuild from: {need} are needed")]
    TooFew {
        /// Columns given.
        have: usize,
        /// `k` of the code.
        need: usize,
    },
    /// A column has an index outside the code, or is given twice.
    #[error("column {index} is not a column of the code, or it is given twice")]
    Index {
        /// The column.
        index: usize,
    },
    /// Columns of several lengths.
    #[error("columns of {one} and {other} bytes")]
    Length {
        /// Bytes of the first column.
        one: usize,
        /// Bytes of one that differs.
        other: usize,
    },
}

/// How each missing column is made of the present ones.
///
/// Invariant: `rows[i].len() == sources.len() == k`, one row for each missing column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildPlan {
    sources: Vec<usize>,
    rows: Vec<Vec<u8>>,
}

impl Coder {
    /// A coder for this code.
    #[must_use]
    pub fn new(code: Code) -> Self {
        match ReedSolomon::new(code.k(), code.m()) {
            Ok(inner) => Self { code, inner },
            Err(_) => unreachable!("every code within its bounds has a matrix"),
        }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Fills the parity cells of a stripe from its data cells.
    ///
    /// # Panics
    /// If there are not `k` data and `m` parity cells, or they are not all of one length of at least 1.
    pub fn encode_stripe(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        if let Err(wrong) = self.inner.encode_sep(data, parity) {
            panic!("{} data and {} parity cells: {wrong}", data.len(), parity.len());
        }
    }

    /// Plans how the data columns `missing` are made of `present`; any plan serves every stripe.
    ///
    /// Only the first `k` of `present` are used, so put the cheapest first.
    ///
    /// # Errors
    /// [`RebuildError::TooFew`] without `k` present columns, [`RebuildError::Index`] if a present one
    /// is not a column of the code or a missing one not a data column, or one is named twice.
    pub fn plan(&self, present: &[usize], missing: &[usize]) -> Result<RebuildPlan, RebuildError> {
        let (k, total) = (self.code.k(), self.code.total());
        let sources = present.get(..k).ok_or(RebuildError::TooFew { have: present.len(), need: k })?;
        check_indices(sources.iter().chain(missing), total)?;
        check_indices(missing.iter(), k)?;
        // The library keeps its matrices to itself. But what it rebuilds from the unit vectors is the
        // matrix: column `sources[i]` is given as the i-th unit vector.
        let mut columns = vec![None; total];
        for (i, &source) in sources.iter().enumerate() {
            let mut unit = vec![0_u8; k];
            unit[i] = 1;
            columns[source] = Some(unit);
        }
        if self.inner.reconstruct_data(&mut columns).is_err() {
            return Err(RebuildError::TooFew { have: sources.len(), need: k });
        }
        let rows = missing.iter().filter_map(|&index| columns[index].take()).collect();
        Ok(RebuildPlan { sources: sources.to_vec(), rows })
    }

    /// Rebuilds missing data columns from equal byte ranges of `k` present ones, data or parity.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan), and [`RebuildError::Length`] if the columns are not all of one
    /// length. Nothing is written then.
    pub fn reconstruct(
        &self,
        present: &[(usize, &[u8])],
        missing: &mut [(usize, &mut [u8])],
    ) -> Result<(), RebuildError> {
        let indices: Vec<_> = present.iter().map(|(index, _)| *index).collect();
        let wanted: Vec<_> = missing.iter().map(|(index, _)| *index).collect();
        let plan = self.plan(&indices, &wanted)?;
        let sources: Vec<_> = present.iter().take(self.code.k()).map(|(_, bytes)| *bytes).collect();
        let mut outputs: Vec<_> = missing.iter_mut().map(|(_, bytes)| &mut **bytes).collect();
        plan.run(&sources, &mut outputs)
    }
}

impl RebuildPlan {
    /// The columns that [`run`](Self::run) reads, in the order it wants them.
    #[must_use]
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// Rebuilds each missing column, in the order planned, from the same byte range of the sources.
    ///
    /// # Errors
    /// [`RebuildError::TooFew`] unless there are as many sources as planned, [`RebuildError::Length`]
    /// if columns differ in length. Nothing is written then.
    ///
    /// # Panics
    /// If there are not as many outputs as columns were planned.
    pub fn run(&self, sources: &[&[u8]], missing: &mut [&mut [u8]]) -> Result<(), RebuildError> {
        assert_eq!(missing.len(), self.rows.len(), "outputs as planned");
        let Some(first) = sources.first().filter(|_| sources.len() == self.sources.len()) else {
            return Err(RebuildError::TooFew { have: sources.len(), need: self.sources.len() });
        };
        let len = first.len();
        let mut lengths = sources.iter().map(|column| column.len()).chain(missing.iter().map(|m| m.len()));
        if let Some(other) = lengths.find(|other| *other != len) {
            return Err(RebuildError::Length { one: len, other });
        }
        for start in (0..len).step_by(BLOCK_LEN) {
            let block = start..(start + BLOCK_LEN).min(len);
            for (row, output) in self.rows.iter().zip(&mut *missing) {
                combine(row, sources, block.clone(), &mut output[block.clone()]);
            }
        }
        Ok(())
    }
}

/// Sums up the sources' bytes in `block`, each times its factor.
fn combine(factors: &[u8], sources: &[&[u8]], block: std::ops::Range<usize>, output: &mut [u8]) {
    let mut terms = factors.iter().zip(sources).filter(|(factor, _)| **factor != 0);
    let Some((factor, source)) = terms.next() else {
        output.fill(0);
        return;
    };
    mul_slice(*factor, &source[block.clone()], output);
    for (factor, source) in terms {
        mul_slice_xor(*factor, &source[block.clone()], output);
    }
}

/// Refuses an index that is not below `bound` or comes twice.
fn check_indices<'a>(
    indices: impl Iterator<Item = &'a usize> + Clone,
    bound: usize,
) -> Result<(), RebuildError> {
    for (at, &index) in indices.clone().enumerate() {
        if index >= bound || indices.clone().take(at).any(|&other| other == index) {
            return Err(RebuildError::Index { index });
        }
    }
    Ok(())
}

impl fmt::Debug for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coder({})", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coder(k: usize, m: usize) -> Coder {
        Coder::new(Code::new(k, m).unwrap())
    }

    /// All columns of a stripe of random cells of `len` bytes.
    fn stripe(coder: &Coder, len: usize) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; coder.code().k() * len];
        blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let mut columns: Vec<_> = bytes.chunks(len).map(<[u8]>::to_vec).collect();
        columns.resize(coder.code().total(), vec![0; len]);
        let (data, parity) = columns.split_at_mut(coder.code().k());
        let data: Vec<_> = data.iter().map(Vec::as_slice).collect();
        let mut parity: Vec<_> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        coder.encode_stripe(&data, &mut parity);
        columns
    }

    /// Rebuilds every data column that is not in `kept` and compares it.
    fn check_subset(coder: &Coder, columns: &[Vec<u8>], kept: &[usize]) {
        let present: Vec<_> = kept.iter().map(|&index| (index, columns[index].as_slice())).collect();
        let lost: Vec<_> = (0..coder.code().k()).filter(|index| !kept.contains(index)).collect();
        let mut rebuilt = vec![vec![0xee; columns[0].len()]; lost.len()];
        let mut missing: Vec<_> =
            lost.iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice)).collect();
        coder.reconstruct(&present, &mut missing).unwrap();
        for (index, rebuilt) in lost.iter().zip(&rebuilt) {
            assert_eq!(rebuilt, &columns[*index], "column {index} from {kept:?}");
        }
    }

    #[test]
    fn any_k_columns_rebuild_the_rest() {
        for (k, m) in [(4, 2), (2, 1), (3, 2), (1, 1), (1, 3)] {
            let coder = coder(k, m);
            for len in [1, 2, 15, 16, 17, 31, 32, 33, 512, 4_095, 4_096, 4_097, 65_536] {
                let columns = stripe(&coder, len);
                for set in 0_u32..1 << (k + m) {
                    if set.count_ones() as usize == k {
                        let kept: Vec<_> = (0..k + m).filter(|index| set >> index & 1 == 1).collect();
                        check_subset(&coder, &columns, &kept);
                        let reversed: Vec<_> = kept.iter().rev().copied().collect();
                        check_subset(&coder, &columns, &reversed);
                    }
                }
            }
        }
    }

    #[test]
    fn wide_codes_rebuild_too() {
        for (k, m) in [(20, 8), (31, 1), (1, 31)] {
            let coder = coder(k, m);
            let columns = stripe(&coder, 100);
            check_subset(&coder, &columns, &(m..k + m).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_range_of_columns_rebuilds_as_the_whole_does() {
        let coder = coder(4, 2);
        let columns = stripe(&coder, 9_000);
        let present: Vec<_> = [1, 3, 4, 5].map(|index| (index, &columns[index][4_000..8_500])).to_vec();
        let mut rebuilt = vec![0; 4_500];
        coder.reconstruct(&present, &mut [(2, &mut rebuilt)]).unwrap();
        assert_eq!(rebuilt, columns[2][4_000..8_500], "only the column asked for");
    }

    #[test]
    fn what_cannot_be_rebuilt_is_named() {
        let coder = coder(4, 2);
        let column = [0; 8];
        let rebuild = |present: &[usize], missing: &[usize]| {
            let present: Vec<_> = present.iter().map(|&index| (index, &column[..])).collect();
            let mut room = vec![[0; 8]; missing.len()];
            let mut missing: Vec<_> =
                missing.iter().copied().zip(room.iter_mut().map(|room| &mut room[..])).collect();
            coder.reconstruct(&present, &mut missing)
        };
        assert_eq!(rebuild(&[1, 2, 3], &[0]), Err(RebuildError::TooFew { have: 3, need: 4 }));
        assert_eq!(rebuild(&[1, 2, 3, 3], &[0]), Err(RebuildError::Index { index: 3 }));
        assert_eq!(rebuild(&[1, 2, 3, 6], &[0]), Err(RebuildError::Index { index: 6 }));
        assert_eq!(rebuild(&[1, 2, 3, 4], &[3]), Err(RebuildError::Index { index: 3 }));
        assert_eq!(rebuild(&[0, 1, 2, 3], &[5]), Err(RebuildError::Index { index: 5 }));
        assert_eq!(rebuild(&[0, 1, 2, 3], &[]), Ok(()));
        let present = [(1, &column[..]), (2, &column), (3, &column[1..]), (4, &column)];
        let refused = coder.reconstruct(&present, &mut [(0, &mut [0; 8])]);
        assert_eq!(refused, Err(RebuildError::Length { one: 8, other: 7 }));
    }
}
