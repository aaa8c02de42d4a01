//! What rests on disk: volumes of shards at a storage node, the ledger at a static node, the sealed index at a
//! client.
//!
//! [`disk`] is the seam to the operating system; everything else is written against it and runs on
//! files and, in tests, on a disk that crashes. Nothing here talks to the network.

pub mod access;
pub mod chain;
pub(crate) mod db;
pub mod disk;
pub mod index;
pub mod sealed_file;
pub mod shards;
pub(crate) mod volume;
pub mod wal;

pub use access::{AccessStore, AccessStoreError};
pub(crate) use disk::says_full;
pub use disk::{Disk, DiskFile, FileDisk};
pub use index::{Index, IndexError, SharedIndex};
pub use shards::{
    HeaderKey, NewShard, ReadSlice, ScrubReport, ShardReader, ShardStore, StoreConfig, StoreError, Usage,
};
