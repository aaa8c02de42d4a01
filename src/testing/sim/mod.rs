//! A deterministic world in virtual time, in which everything that may go wrong does.
//!
//! Real in a run: the machines, the node's request handling, the stores, the index, every codec. Replaced:
//! the clock, entropy, links, disks, the scheduling of work. One thread and one seed, so a run that
//! finds something wrong is found again by its seed. Read [`world`] first, then [`faults`].
//!
//! Checked: I1 in [`node`], I2 and I6 in [`world`], I5 in [`leak`], I7 by running a seed twice, I11 by [`model`].

pub mod check;
mod client;
pub mod content;
pub mod desks;
pub mod faults;
pub mod keepers;
pub mod leak;
pub mod links;
pub mod model;
pub mod node;
pub mod reshare;
pub mod rng;
pub mod scenario;
pub mod validators;
pub mod world;

pub use check::{Summary, Wrong};
pub use faults::{Fuse, Trouble};
pub use world::World;
