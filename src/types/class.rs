//! Whether what a collection holds can be destroyed by destroying keys.

use std::fmt;

/// The class of a collection. It is fixed when the collection is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CollectionClass {
    /// Data keys are in the owner's sealed commits: whoever has the seed and the shards reads what was stored.
    #[default]
    Durable,
    /// The only lasting wrap of a data key is a keyslot at the static nodes: without it nobody reads the version any more,
    /// whatever else they have.
    Shreddable,
}

impl CollectionClass {
    /// Whether erasing keyslots destroys what it holds.
    #[must_use]
    pub const fn is_shreddable(self) -> bool {
        matches!(self, Self::Shreddable)
    }
}

impl fmt::Display for CollectionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Shreddable => "shreddable",
        })
    }
}
