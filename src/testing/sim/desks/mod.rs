//! The access desks of static nodes in virtual time: revocations, erasures and openings, with nodes that are faulty, cut off,
//! killed, or restored from an old copy.
//!
//! Real in a run: the [`AccessDesk`](crate::roles::static_node::access::AccessDesk) with its decisions and its log, the
//! [`AccessStore`](crate::store::access::AccessStore) and the [`Chain`](crate::store::chain::Chain) on disks in memory that lose
//! power at any change, the ledger's rules, and every message as bytes. Replaced: the clock, links, and consensus, which has its
//! own simulators: here one hand makes the blocks ([`ledger`]), and nodes get them late or not at all. A faulty node opens
//! whatever it is asked to. A node that was restored from a copy counts as faulty until all is final that it had acknowledged.
//!
//! Checked at every opening: C3 after a quorum acknowledged a revocation nobody collects enough parts, whoever is faulty, stale, or
//! was killed; C10 a node that is cut off, hears only faulty ones, or was restored opens nothing until it knows how high the ledger
//! is; C13 an erased version is opened by no honest node that has the block, and its keyslot is gone. Once a quorum gave receipts
//! for it nobody collects enough parts, and what an honest one signed for is not on its disk. At the end: C11 each opening is in
//! the logs of f + 1 honest nodes at least, read from their disks. The same plan with f + 1 parts in place of 2f + 1 must fail (the
//! control).
//!
//! Next file to read: [`world`].

mod cut;
pub(crate) mod ledger;
pub(super) mod node;
pub mod world;

pub use world::{Control, Desks, Summary, Wrong};
