//! Messages: what travels or is stored, as types with one strict decoder each.
//!
//! `generated` is what `proto/` says; the other files turn it into checked values. What is signed is a
//! fixed encoding, never protobuf. Nothing downstream accepts an unchecked message.

pub mod access;
pub mod anchor;
pub mod anchor_receipt;
mod base64_lines;
pub mod block;
pub mod canonical;
pub mod certificate;
pub mod change_file;
pub mod changeset;
pub mod checkpoint;
pub mod custody_receipt;
pub mod descriptor;
pub mod evidence;
pub mod fields;
mod generated;
pub mod genesis;
pub mod governance;
pub mod member;
pub mod proposal;
pub mod record;
pub mod rejection;
pub mod request;
mod request_codec;
pub mod slotted;
pub mod sponsorship;
pub mod staged_put;
pub mod transaction;
pub mod violation;
pub mod vote;
mod wire;

pub use access::{
    BatchPackage, DealingPackage, EmergencyApproval, EmergencyOpening, EmergencyPolicy, EmergencyRequest,
    EntryBatch, Grant, GrantedScope, KeySharing, LogHead, RecordEntry, RecoveryAction, Rights,
    RoleCertificate, SlotEntry,
};
pub use anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber, Opening, PackCommit};
pub use anchor_receipt::{AnchorReceipt, Anchored};
pub use block::{Block, BlockRecord, Header};
pub use canonical::Canonical;
pub use certificate::{CommitCertificate, committee_hash};
pub use change_file::ChangeFile;
pub use changeset::Changeset;
pub use checkpoint::{Checkpoint, Cosignature, Policy, SignedCheckpoint};
pub use custody_receipt::{CustodyReceipt, ExpectedReceipt};
pub use descriptor::Descriptor;
pub use evidence::Evidence;
pub use genesis::{Admission, Genesis, Params};
pub use governance::{Change, Governance};
pub use member::{Member, Roster};
pub use proposal::{Proposal, SignedProposal, block_hash};
pub use record::{Extent, RecordHeader, StoredVersion, VersionEntry, VersionState};
pub use rejection::{CertificateFault, Rejection};
pub use request::{
    HeldShard, LedgerTip, NodeStatus, PutShard, ReadShard, Refusal, RefusalCode, Request, RequestError,
    Response, ShardRef, ShardSlice, SignedReceipt,
};
pub use slotted::SlottedVersion;
pub use sponsorship::Sponsorship;
pub use staged_put::StagedPut;
pub use transaction::{Action, NodeEntry, SignedTransaction, Transaction, VerifiedTransaction};
pub use violation::Violation;
pub use vote::{SignedVote, Vote, VoteKind};

pub use crate::types::Locator;
