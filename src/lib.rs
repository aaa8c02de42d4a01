//! xvault: a decentralized, end-to-end-encrypted storage network.

pub mod crypto;
pub mod message;
pub mod stripe;
pub mod types;
