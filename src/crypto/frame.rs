//! Frames: the 64 KiB unit of authenticated encryption, and the data keys they are sealed with.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::crypto::hash::{Context, derive_key};
use crate::types::VersionId;

/// A version's random data key. Wiped on drop, compared in constant time, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Dek([u8; 32]);

/// Public commitment to a data key and its version: nobody can show another key for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DekCommit(pub [u8; 32]);

impl Dek {
    /// The data key of these 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for the sealed index.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Commits to this key for a version.
    #[must_use]
    pub fn commit(&self, version: &VersionId) -> DekCommit {
        let mut commit = [0; 32];
        derive_key(Context::DekCommit, &[&self.0, version.as_bytes()], &mut commit);
        DekCommit(commit)
    }
}

impl PartialEq for Dek {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Dek {}

impl fmt::Debug for Dek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dek(..)")
    }
}
