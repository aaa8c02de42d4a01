//! Access as its parties use it: an owner lets others in, and sees what they open; a grantee reads what it was let into.
//!
//! [`scope`] is how owners say which records they mean; [`owner`] deals keys, writes keyslots, grants and revokes; [`grantee`]
//! accepts and reads; [`deposit`] has it bring records, and [`inbox`] has the owner take them in; [`emergency`] is break-glass; [`recovery`] has guardians give a lost secret back; [`care`] tells whether enough
//! static nodes have the vault's key; [`desk`] has the calls to the static nodes' access desks that all need, and [`gathering`] what
//! becomes of their answers to one that opens.

pub mod care;
pub(crate) mod deposit;
pub(crate) mod desk;
pub mod emergency;
pub mod erase;
mod gathering;
pub mod grantee;
pub mod inbox;
pub(crate) mod notes;
pub mod owner;
pub mod recovery;
pub mod scope;
pub(crate) mod shred;
mod slots;

pub use care::KeyCare;
pub use emergency::{Asked, HeldCard, SeenEmergency};
pub use erase::EraseTarget;
pub use grantee::{OpenRecord, Shared, SharedRecord};
pub use inbox::{Brought, TakenIn};
pub use owner::{AccessEvent, AccessLog, GrantReport, GrantTerms, Granted, Revoked};
pub use recovery::{Cut, Guarded, OpenRecovery, Recovering, SplitTerms, Stage, Standing};
pub use scope::{Scope, ScopeError, Subject};
pub(crate) use slots::Version;
