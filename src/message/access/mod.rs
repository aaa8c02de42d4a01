//! Access as the ledger has it, and what goes to the static nodes beside it.
//!
//! The ledger knows of a vault's grants what nodes need to decide by: a key that serves for this grant alone, opaque tags of
//! scopes, times. Packages ([`package`]) have what is for the static nodes' eyes, and are named on the ledger by their hash.

pub mod body;
pub mod card;
pub mod certificate;
pub mod denial;
pub mod deposit;
pub mod desk;
pub mod emergency;
pub mod entry;
pub mod erasure;
pub mod grant;
pub mod handing;
pub mod handoff;
pub mod list_line;
pub mod notes;
pub mod open;
pub mod own_slots;
pub mod package;
pub mod recovery;
pub mod recovery_action;
pub mod sharing;

pub use body::{BodyScope, GrantBody, Inbox, KeyPackage};
pub use card::{EmergencyCard, SealedCard};
pub use certificate::{Certified, ErasureCertificate, ErasureStatement, Remainder};
pub use denial::Denial;
pub use deposit::{Deposit, DepositPack, Provenance, SettleDeposits};
pub use desk::DepositKind;
pub use emergency::{
    EmergencyApproval, EmergencyOpening, EmergencyPolicy, EmergencyRequest, RoleCertificate,
};
pub use entry::{EntryBatch, RecordEntry, SlotEntry};
pub use erasure::{CarriedOut, DeletionReceipt, Erasure, ErasureClaim, ReleaseReceipt, TaggedVersion};
pub use grant::{Grant, GrantedScope, Rights};
pub use handing::{Care, HandOff, HandedVault, KeptBy, TakeShares, TakenShare};
pub use handoff::HandoffPackage;
pub use list_line::ListLine;
pub use notes::{AccessNotes, NotedGrant, NotedScope};
pub use package::{BatchPackage, DealingPackage, SealedShare, SealedSlot};
pub use recovery::{Guardian, GuardianSet, GuardianShare, RecoveryRequest, Release};
pub use recovery_action::RecoveryAction;
pub use sharing::{KeySharing, LogHead};
