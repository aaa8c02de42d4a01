//! Vaults' keys on their way from the static nodes that have the shares to those of now: what the ledger keeps of it, when a
//! key is due, and whose dealings count.
//!
//! A key is due when the static nodes are not those that it was shared among, when its sharing is older than the period, or
//! when what it was made of turned out to be wrong. Nothing here deals or checks a share: packages go beside the ledger
//! ([`message::access::handoff`](crate::message::access::handoff)), and members say what they found.
//!
//! Next file to read: `due`, then `work` for what dealers and takers compute, then [`machine`] for how a static node does it.

mod due;
mod look;
pub mod machine;
mod rows;
mod work;

pub use due::{Duty, bits, care, chosen, duty, handings, is_due, period, vaults};
pub use look::{Look, Work, look, mark, place_in};
pub use rows::{DEALT, Dealer, Dealt, HANDOFFS, Handing, PERIOD, Period, Taken};
pub use work::{Deal, Took, deal, take};
