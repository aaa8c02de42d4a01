//! Every format against frozen bytes and against damage: messages, files, text, cryptography.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests that take their seed from outside and rewrite their vectors"
)]

mod access_wire;
mod deposit_wire;
mod fuzz;
mod handoff_wire;
mod ledger_wire;
mod random;
mod recovery_wire;
mod vectors;
mod wire;
