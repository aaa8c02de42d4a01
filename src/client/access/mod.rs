//! Access as its parties use it: an owner lets others in, and sees what they open; a grantee reads what it was let into.
//!
//! [`scope`] is how owners say which records they mean; [`owner`] deals keys, writes keyslots, grants and revokes; [`grantee`]
//! accepts and reads; [`care`] tells whether enough static nodes have the vault's key; [`desk`] has the calls to the static
//! nodes' access desks that all need, and [`gathering`] what becomes of their answers to one that opens.

pub mod care;
pub(crate) mod desk;
mod gathering;
pub mod grantee;
pub(crate) mod notes;
pub mod owner;
pub mod scope;
mod slots;

pub use care::KeyCare;
pub use grantee::{Shared, SharedRecord};
pub use owner::{AccessEvent, GrantReport, GrantTerms, Granted, Revoked};
pub use scope::{Scope, ScopeError, Subject};
