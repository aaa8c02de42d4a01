//! The roles that a process can play: configuration, wiring and loops around the layers below.

pub mod devnet;
pub mod follower;
pub mod static_node;
pub mod storage_node;

pub use devnet::{Devnet, DevnetConfig, DevnetError};
pub use follower::{Follower, Ledger};
pub use static_node::{KeeperError, StaticConfig, StaticError, StaticNode};
pub use storage_node::{
    Described, LedgerConfig, NodeConfig, NodeError, NodeFolder, NodeFolderError, StorageNode,
};
