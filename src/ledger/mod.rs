//! The ledger's state machine: from a state and a block to the changes that the block makes.
//!
//! Pure: it reads the state through [`Read`], writes nothing, and knows no clock; time is what headers
//! say. It is *not* consensus, which decides whose block is next and never looks into one, and not storage,
//! which makes [`Changes`] durable. Next file to read: `apply`; then the rule of the transaction in question.
//!
//! What it keeps: one state hash for the same blocks on every node; a head moves only by compare and swap;
//! a transaction is carried out once; the rules leave at least
//! [`MIN_COMMITTEE`](crate::types::limits::MIN_COMMITTEE) static nodes.

pub mod access;
mod apply;
pub mod archive;
pub mod ask;
pub mod emergency;
mod execution;
pub mod final_block;
pub mod follow;
mod genesis;
pub mod handoff;
pub mod log;
pub mod mempool;
pub mod query;
pub mod read;
pub mod receipt;
pub mod recovery;
pub mod rows;
mod rules;
pub mod snapshot;
mod standing;
pub mod tables;
pub mod tiles;

pub use apply::{
    ApplyError, Built, Changes, Draft, Field, InvalidBlock, NotTaken, Writes, build, check, precheck,
};
pub use genesis::genesis_state;
pub use mempool::Mempool;
pub use read::{Overlay, Read, ReadError};

#[cfg(test)]
mod tests;
