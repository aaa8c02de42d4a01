//! Keys, hashes, signatures and sealed frames. Pure: randomness arrives as an argument.

pub mod access;
pub mod content;
pub mod frame;
pub mod hash;
pub mod log_tree;
pub mod lthash;
pub mod ml_dsa;
pub mod padme;
pub mod passphrase;
pub mod seed;
pub mod shamir;
pub mod sign;
pub mod tree;
