//! What `proto/` says, as prost generates it; `tests/proto.rs` compares and rewrites it.
//!
//! Nothing outside [`message`](crate::message) sees these unchecked types.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unnameable_types,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated code is not edited"
)]

include!("xvault.v1.rs");
