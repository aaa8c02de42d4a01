//! Agreement of the static nodes on one block for each height, as a machine that performs no I/O.
//!
//! The protocol is Tendermint (Buchman, Kwon, Milosevic: "The latest gossip on BFT consensus") by
//! `arc-malachitebft-core-consensus`; what is here feeds it, keeps its log, and stands between it and the
//! network. No type of that engine leaves this folder. To consensus a block is bytes with an id: what
//! they mean, and whether they are valid, it asks the driver.
//!
//! Kept here: **I3** no two blocks are decided at one height, and **I4** an honest node votes once in a
//! round, also across restarts: what it says was appended to its log and synced before
//! ([`Effect::Append`], [`Effect::Flush`], [`Effect::Send`], in that order).
//!
//! Not here: fetching missed blocks (the driver's, asked by [`Effect::NeedBlock`]), connections, and what
//! follows from misbehaviour. Next file to read: [`event`], then [`machine`].

mod bodies;
mod codec;
mod context;
mod convert;
mod engine;
pub mod event;
mod inbox;
pub mod machine;
mod peers;
mod receive;
mod recent;
mod replay;
mod settle;
mod timers;
mod verified;

#[cfg(test)]
mod tests;

pub use event::{Effect, Event, Settings, Stop, Timing, To, WalEntry};
pub use machine::Consensus;
