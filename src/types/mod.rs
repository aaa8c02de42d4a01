//! The words of the system as types: ids, names, times, codes and every limit.
//!
//! Row 1: imports nothing of the crate, does no I/O, reads no clock. Next file to read: [`limits`].

pub mod access;
pub mod class;
pub mod code;
pub mod committee;
pub mod height;
pub mod id;
pub mod limits;
pub mod locator;
pub mod machine;
pub mod name;
pub mod network;
pub mod time;

pub use access::{BatchId, Day, GrantId, RecordTag, ScopePath, ScopePathError, ScopeTag, ShareIndex, SlotId};
pub use class::CollectionClass;
pub use code::Code;
pub use committee::{Committee, CommitteeError};
pub use height::{Height, Round};
pub use id::{
    BlockId, CollectionTag, Hash, LogHash, NetworkId, PublicKey, SegmentId, TransactionId, VaultId, VersionId,
};
pub use locator::Locator;
pub use machine::Machine;
pub use name::{CollectionName, RecordName, RecordPath};
pub use network::{Network, NodeInfo};
pub use time::Timestamp;
