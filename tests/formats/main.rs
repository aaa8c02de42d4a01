//! Every format against frozen bytes and against damage: messages, files, text, cryptography.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests that take their seed from outside and rewrite their vectors"
)]

mod access_wire;
mod asked_wire;
mod deposit_wire;
mod emergency_wire;
mod erasure_wire;
mod fuzz;
mod handoff_wire;
mod ledger_wire;
mod package_wire;
mod random;
mod recovery_wire;
mod shared;
mod vectors;
mod wire;
