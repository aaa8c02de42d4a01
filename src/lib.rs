#![doc = include_str!("ARCHITECTURE.md")]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "tests count in small numbers"
    )
)]

#[expect(clippy::disallowed_methods, reason = "a shell: it talks to people and files")]
pub mod cli;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads files and clocks")]
pub mod client;
pub mod consensus;
pub mod crypto;
pub mod ledger;
pub mod message;
#[expect(clippy::disallowed_methods, reason = "a shell: it talks to the network")]
pub mod net;
#[expect(clippy::disallowed_methods, reason = "a shell: processes of their own")]
pub mod roles;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and starts threads")]
pub mod runtime;
#[expect(clippy::disallowed_methods, reason = "a shell: it touches files")]
pub mod store;
pub mod stripe;
#[cfg(any(test, feature = "testing"))]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of a simulated world")]
pub mod testing;
pub mod transfer;
pub mod types;
