//! xvault: a decentralized, end-to-end-encrypted storage network.

pub mod crypto;
pub mod message;
#[expect(clippy::disallowed_methods, reason = "a shell")]
pub mod net;
pub mod types;
