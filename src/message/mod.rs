//! Messages: what travels or is stored, as types with one strict decoder each.
//!
//! `generated` is what `proto/` says; the other files turn it into checked values. What is signed is a
//! fixed encoding, never protobuf. Nothing downstream accepts an unchecked message.

pub mod custody_receipt;
pub mod descriptor;
mod generated;
pub mod record;
pub mod request;
mod request_codec;
pub mod violation;
mod wire;

pub use custody_receipt::{CustodyReceipt, ExpectedReceipt};
pub use descriptor::Descriptor;
pub use record::{Extent, Locator, RecordHeader, StoredVersion, VersionEntry, VersionState};
pub use request::{
    NodeStatus, PutShard, ReadShard, Refusal, RefusalCode, Request, RequestError, Response, ShardRef,
    ShardSlice, SignedReceipt,
};
pub use violation::Violation;
