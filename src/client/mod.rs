//! The client: puts records into a network and gets them back. Keys and plaintext never leave it.
//!
//! [`Client`] is the whole interface; [`api`] has its values. Behind it: `put` cuts a record into chunks and
//! seals them, `packer` collects small things into packs and commits, `upload` and `download` drive the pure
//! machines of [`transfer`](crate::transfer) over real connections. Whom to ask is in `members` and [`ledger`], and in `kept` what
//! the next process begins with.

pub mod access;
mod agreed;
mod anchored;
mod anchorer;
pub mod api;
mod collection;
mod context;
mod download;
mod error;
mod failures;
mod get;
pub mod governance;
mod holders;
mod home_key;
mod kept;
pub mod keystore;
pub mod ledger;
mod members;
mod nodes;
mod packer;
mod put;
mod range;
mod records;
pub mod rotation;
mod settle;
mod source;
mod staged;
mod stored;
mod sync;
mod upload;
mod vault;

pub use api::{
    Ack, AtomicProgress, CollectionInfo, GetOptions, ListEntry, ListOptions, ListPage, NodeReport,
    NodeTrouble, Progress, PutOptions, PutReport, RecordAddress, RecordInfo, RecordStat, Recovered, Remove,
    RemoveReport, SegmentHealth, Settled, Source, TroubleKind,
};
pub use error::{Error, ErrorKind};
pub use get::Download;
pub use ledger::LedgerClient;
pub use nodes::Nodes;
pub use range::{ByteRange, ByteRangeError};
pub use records::{Client, ClientConfig};
pub use settle::Verdict;

pub use crate::store::index::Condition;
