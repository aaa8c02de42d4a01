//! The keys of access: who may open which record, and what it takes.
//!
//! A version's data key is wrapped in a [`Keyslot`] for each scope that the version is in. What opens it takes two
//! halves: a key of the scope for the day of the record ([`DayKey`]), which the owner hands to whom it lets in, and the
//! output of the vault's PRF for just this slot ([`PrfOutput`]), which the static nodes release together, each time anew,
//! as long as the grant stands. Neither half tells anything without the other.
//!
//! Nothing in here asks who may have what: that is the ledger's. Nothing draws randomness: it comes as an argument.
//! Operations on secrets take the same time whatever the secrets are; those that do not say so in their name (`vartime`)
//! and have public numbers, or hashes, to multiply with.
//!
//! Next file to read: [`keys`], then [`keyslot`], [`dprf`], [`dealing`] and [`seal`].

/// Hand-written `Debug` that shows a type's name and nothing of what is in it.
macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

pub mod day_tree;
pub mod dealing;
mod dleq;
pub mod dprf;
mod group;
pub mod keys;
pub mod keyslot;
pub mod line;
pub mod reshare;
pub mod rest;
pub mod seal;
mod xwing;

pub use day_tree::{DayKey, DayNode, DayRange};
pub use dealing::{Commitments, Dealing, KeyShare, Sharing};
pub use dprf::{Inputs, Partial, PartialError, PrfKey, PrfOutput, Release};
pub use group::Element;
pub use keys::{AccessKeys, CardSecret, ListKey, ScopeKey};
pub use keyslot::{Kek, Keyslot, SlotContent, SlotError};
pub use line::{LineOf, SealedLine};
pub use reshare::{Handoff, ReshareError, verify_shares};
pub use rest::RestKey;
pub use seal::{Purpose, SealError, SealKey, SealPublic};

/// The first byte of everything in here that is kept or sent: X-Wing, HKDF-SHA256 and ChaCha20-Poly1305 for sealing,
/// ristretto255 and SHA-512 for the PRF, BLAKE3 for keyslots, XChaCha20-Poly1305 for lines. 2 is reserved for a suite of
/// FIPS-approved algorithms.
pub const SUITE: u8 = 1;

/// Why bytes are not the encoding of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too few or too many bytes.
    #[error("it has {len} bytes, which none has")]
    Length {
        /// Bytes given.
        len: usize,
    },
    /// Made with algorithms that this version does not know.
    #[error("suite {0} is not known to this version")]
    Suite(u8),
    /// A point that is not on the curve, not in its one encoding, or the neutral one.
    #[error("a point is not canonical")]
    Point,
    /// A number that is not in its one encoding, or zero where zero tells a secret.
    #[error("a scalar is not canonical")]
    Scalar,
    /// A place that no committee has.
    #[error("{0} is no place in a committee")]
    Index(u8),
    /// A count outside its bounds.
    #[error("a count of {0} is out of bounds")]
    Count(usize),
    /// A public key that no key generation gives.
    #[error("it is not a public key")]
    PublicKey,
}

/// Takes the suite byte off.
fn suited(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        Some((&SUITE, rest)) => Ok(rest),
        Some((&suite, _)) => Err(DecodeError::Suite(suite)),
        None => Err(DecodeError::Length { len: 0 }),
    }
}

/// Takes the next `N` bytes.
fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = from.split_first_chunk().ok_or(DecodeError::Length { len: from.len() })?;
    *from = rest;
    Ok(*head)
}

/// Nothing may be left.
const fn done(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeError::Length { len: rest.len() }) }
}

#[cfg(test)]
mod claims;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
