//! Static nodes with the real ledger, in virtual time: everything but threads, clocks and the network is theirs.
//!
//! Real in a run: the [`Keeper`](crate::roles::static_node::keeper::Keeper) with its mempool, proofs, catching up and
//! snapshots, the chain (redb) and the consensus log on disks in memory, what is answered to questions, and every
//! message as bytes. Replaced: the clock, links, disks, and the outbox ([`node`]). No node breaks the protocol here, that
//! is for [`validators`](super::validators); but each may lose power at any change of its disk and between any two
//! letters, with torn writes, also while it starts. Read [`world`] first, then [`plan`]; [`client`] says what is asked
//! of the ledger, governance included.
//!
//! Checked by [`check`]: I1 no cosignature of a block that a restart has not; I3 the same block and state hash at a
//! height; I4 one vote a round, across restarts and by key; I11 what was called final is on every chain at the end; every
//! proof that was given out verifies with the genesis alone, then and at the end, and its tree head is of the one log;
//! nothing is called rejected that is in a block; no node stops by itself; I7 by running a seed twice; and once all is
//! mended, blocks, whole archives and answers within bounded time.

pub mod check;
mod client;
mod node;
pub mod plan;
pub mod world;

pub use check::{Summary, Wrong};
pub use plan::{Control, Fault, Plan};
pub use world::Keepers;
