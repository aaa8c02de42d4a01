//! Whole nodes on a real network: static nodes, storage nodes and clients on loopback, over QUIC, with their files on disk.
//!
//! One binary for all of it, since linking costs more than compiling does.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests are shells: they wait and start tasks"
)]

mod access;
mod anchors;
mod behind;
mod client;
mod deposits;
mod emergency;
mod erasure;
mod follower;
mod generations;
mod handoff;
mod hostile;
mod kept;
mod membership;
mod people;
mod recovery;
mod revocation;
mod rogue_statics;
mod rotation;
mod snapshots;
mod static_nodes;
mod statics;
mod storage_members;
mod tiles;
mod together;
