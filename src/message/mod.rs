//! Messages: what travels or is stored, as types with one strict decoder each.
//!
//! `generated` is what `proto/` says; the other files turn it into checked values. What is signed is a
//! fixed encoding, never protobuf. Nothing downstream accepts an unchecked message.

pub mod certificate;
pub mod custody_receipt;
pub mod descriptor;
pub mod evidence;
pub mod fields;
mod generated;
pub mod proposal;
pub mod record;
pub mod request;
mod request_codec;
pub mod violation;
pub mod vote;
mod wire;

pub use certificate::{CommitCertificate, committee_hash};
pub use custody_receipt::{CustodyReceipt, ExpectedReceipt};
pub use descriptor::Descriptor;
pub use evidence::Evidence;
pub use proposal::{Proposal, SignedProposal, block_hash};
pub use record::{Extent, Locator, RecordHeader, StoredVersion, VersionEntry, VersionState};
pub use request::{
    NodeStatus, PutShard, ReadShard, Refusal, RefusalCode, Request, RequestError, Response, ShardRef,
    ShardSlice, SignedReceipt,
};
pub use violation::Violation;
pub use vote::{SignedVote, Vote, VoteKind};
