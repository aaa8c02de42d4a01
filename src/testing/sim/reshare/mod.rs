//! Vaults' keys handed on in virtual time: static nodes come, go, are replaced, and share anew, while those that deal and those that
//! take are killed at any effect.
//!
//! Real in a run: the machine of the handoff ([`HandingOn`](crate::ledger::handoff::machine::HandingOn)), the desk with its
//! checks, its store and its chain on disks in memory that lose what is not synced, the ledger's rules, and every message as bytes.
//! Replaced: the clock, links, and consensus: one hand makes the blocks, of what nodes say and in the order in which it comes,
//! and nodes get them late or not at all. Messages are lost, late, twice and out of order.
//!
//! As many as the static nodes bear deal wrong shares, bad pieces, different packages to different nodes or nothing; sign
//! for what they did not check, complain without cause, say what they did not take, or nothing ([`rogue`]). Who is
//! down or cut off for long counts among them.
//!
//! Checked all the time ([`check`]): a share that an honest node had is gone only when the ledger has a newer sharing; when that comes
//! into effect, all honest nodes of the quorum have theirs on what their disks would keep; no honest node's dealing is rejected by
//! an honest node or excluded. At the end, within bounded time: the static nodes of now have the shares of each vault, any
//! threshold of them give what its owner computes and fewer do not, and a share of a former sharing counts for nothing. One
//! seed gives one trace. Runs with a bug that is put in must fail ([`Control`]).
//!
//! Next file to read: [`world`].

mod check;
mod links;
mod plan;
mod rogue;
pub mod world;

pub use world::{Control, Reshare, Summary, Wrong};
