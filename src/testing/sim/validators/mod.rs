//! Static nodes that agree on blocks, in virtual time, with everything that may go wrong.
//!
//! Real in a run: [`Consensus`](crate::consensus::Consensus) and every message and entry of its log as bytes. Replaced: the
//! clock, links, disks, and the ledger, of which only "this block is valid here" is left ([`chain`]). Faults stay
//! within what is promised: fewer than a third of the members are rogues, the others may crash at any
//! effect and lose what they had not synced. Read [`world`] first, then [`plan`].
//!
//! Checked by [`audit`]: I3 one block a height, I4 one vote a round (on the wire, across restarts), every certificate
//! by itself, no honest node accused or blamed, none stops; I7 by running a seed twice; and once all
//! faults are mended, blocks within bounded time.

pub mod audit;
mod chain;
pub mod links;
mod node;
pub mod plan;
mod rogue;
pub mod world;

pub use audit::{Summary, Wrong};
pub use links::Weather;
pub use plan::{Control, Fault, Plan};
pub use rogue::Rogue;
pub use world::Validators;
