//! The roles that a process can play: configuration, wiring and loops around the layers below.

pub mod devnet;
pub mod storage_node;

pub use devnet::{Devnet, DevnetConfig, DevnetError};
pub use storage_node::{NodeConfig, NodeError, NodeFolder, NodeFolderError, StorageNode};
