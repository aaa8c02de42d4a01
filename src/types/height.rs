//! Where a block stands in the chain, and which attempt at it is meant.

use std::fmt;

/// The number of a block: 0 is the genesis, the first block is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Height(pub u64);

impl Height {
    /// The genesis: agreed on before there is a network, so no block stands there.
    pub const GENESIS: Self = Self(0);

    /// The first block.
    pub const FIRST: Self = Self(1);

    /// The height after this one; saturates, which no chain lives to see.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An attempt to agree on the block of a height, from 0 on; each has a proposer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Round(pub u32);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
