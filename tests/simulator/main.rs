//! The machines of nodes and clients in virtual time, with every fault there is.
#![cfg(feature = "testing")]
#![expect(clippy::disallowed_methods, reason = "the seed to run again comes from the environment")]

mod consensus;
mod desks;
mod keepers;
mod reshare;
mod seeds;
mod storage;
