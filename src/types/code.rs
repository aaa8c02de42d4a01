//! The erasure code of a segment: k data cells and m parity cells a stripe.

use std::fmt;
use std::str::FromStr;

use crate::types::limits::MAX_SHARDS;

/// A systematic code that survives the loss of any `m` of its `k + m` shards.
///
/// Invariant: `k >= 1`, `m >= 1`, `k + m <= MAX_SHARDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    k: u8,
    m: u8,
}

/// A code outside its bounds, or text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an erasure code: expected K+M with K >= 1, M >= 1 and K+M <= {MAX_SHARDS}, for example 4+2")]
pub struct CodeError;

impl Code {
    /// The code of a network that does not choose: four data and two parity shards.
    pub const DEFAULT: Self = Self { k: 4, m: 2 };

    /// A code of `k` data and `m` parity shards.
    ///
    /// # Errors
    /// [`CodeError`] when either is zero or their sum passes [`MAX_SHARDS`].
    pub fn new(k: usize, m: usize) -> Result<Self, CodeError> {
        if k == 0 || m == 0 || k.saturating_add(m) > MAX_SHARDS {
            return Err(CodeError);
        }
        let narrow = |n: usize| u8::try_from(n).map_err(|_| CodeError);
        Ok(Self { k: narrow(k)?, m: narrow(m)? })
    }

    /// Data shards: how many of the shards suffice to read.
    #[must_use]
    pub const fn k(self) -> usize {
        self.k as usize
    }

    /// Parity shards: how many may be lost.
    #[must_use]
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// All shards of a segment.
    #[must_use]
    pub const fn total(self) -> usize {
        self.k() + self.m()
    }

    /// Custody receipts that an acknowledgement needs: k + ⌈m/2⌉, so that an acknowledged segment
    /// survives the loss of half its parity even before the last shards are placed.
    #[must_use]
    pub const fn ack_threshold(self) -> usize {
        self.k() + self.m().div_ceil(2)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for Code {
    type Err = CodeError;
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let (k, m) = text.split_once('+').ok_or(CodeError)?;
        let number = |part: &str| part.parse().map_err(|_| CodeError);
        Self::new(number(k)?, number(m)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_bounded_and_survive_their_text_form() {
        for (k, m, fits) in
            [(4, 2, true), (1, 1, true), (0, 2, false), (4, 0, false), (31, 1, true), (31, 2, false)]
        {
            let code = Code::new(k, m);
            assert_eq!(code.is_ok(), fits, "{k}+{m}");
            if let Ok(code) = code {
                assert_eq!(code.to_string().parse(), Ok(code));
            }
        }
        for text in ["", "4", "4+", "+2", "4-2", "4+2+1", "a+b", "300+1"] {
            assert!(text.parse::<Code>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_acknowledgement_needs_more_than_k_receipts() {
        for (k, m, need) in [(4, 2, 5), (1, 1, 2), (10, 4, 12), (6, 3, 8)] {
            assert_eq!(Code::new(k, m).unwrap().ack_threshold(), need);
        }
    }
}
