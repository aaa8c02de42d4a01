//! Stripes: how a segment's bytes lie in shards, the erasure code over them, and which nodes hold them.
//!
//! Pure arithmetic: no I/O, no clock, no randomness. Next file to read: [`layout`].

pub mod code;
pub mod layout;
pub mod placement;

pub use code::Coder;
pub use layout::Layout;
pub use placement::{Candidate, Placement, place};
