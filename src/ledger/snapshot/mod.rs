//! Snapshots: a state that is taken over from somebody else, once it is known to be the one of a header.
//!
//! What travels are the rows that are in the state hash, and the hashes of all leaves of the log: of those follow all
//! nodes of the log, so whoever took a snapshot proves what comes after it, and serves tiles. Where transactions are,
//! and the blocks themselves, comes later: [`archive`](crate::ledger::archive).
//!
//! [`Offer`] is what is offered and why it may be believed; [`Restore`] adds up what comes in; [`SnapshotDownload`] asks
//! for it. Next file to read: `download`.

mod download;
mod offer;
mod restore;

pub use download::{Effect, Event, SnapshotDownload, Taking};
pub use offer::{Adoption, Offer, Own, leaves, rows};
pub use restore::{Restore, SnapshotError};
