//! ML-DSA-44 signatures (FIPS 204), so that what is signed for decades outlives Ed25519.
//!
//! Signing is the deterministic variant: a seed and a message give one signature, so a simulation
//! repeats and no entropy is asked for.

use std::fmt;

use ml_dsa::{ExpandedSigningKey, MlDsa44, Signature, VerifyingKey};
use zeroize::Zeroizing;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::BadSignature;

/// Bytes of a public key.
pub const PUBLIC_LEN: usize = 1_312;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 2_420;

/// An ML-DSA-44 key pair of a static node.
pub struct PqKeyPair {
    key: ExpandedSigningKey<MlDsa44>,
    public: Box<[u8; PUBLIC_LEN]>,
}

impl PqKeyPair {
    /// The key pair that belongs to an Ed25519 secret: a node keeps one secret, not two.
    ///
    /// The two schemes fail apart all the same: who breaks Ed25519 learns its scalar, a half of SHA-512
    /// of the secret, and who breaks ML-DSA learns a BLAKE3 output of it; neither leads to the secret.
    #[must_use]
    pub fn from_node_secret(secret: &[u8; 32]) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        derive_key(Context::PqSigning, &[secret], &mut *seed);
        Self::from_seed(&seed)
    }

    /// The key pair of a FIPS 204 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = ExpandedSigningKey::<MlDsa44>::from_seed(&(*seed).into());
        let public = Box::new(key.verifying_key().encode().into());
        Self { key, public }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// Signs a message that names its own domain, with an empty context.
    ///
    /// # Panics
    /// Never: only a context of more than 255 bytes is refused.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the context is empty")]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.key.sign_deterministic(message, &[]).expect("an empty context is allowed");
        signature.encode().to_vec()
    }
}

impl fmt::Debug for PqKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PqKeyPair(..)")
    }
}

/// Checks a signature with an empty context.
///
/// # Errors
/// [`BadSignature`] if it is not this key's signature of this message.
pub fn verify(public: &[u8; PUBLIC_LEN], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let key = VerifyingKey::<MlDsa44>::decode(&(*public).into());
    let signature = Signature::<MlDsa44>::try_from(signature).map_err(|_| BadSignature)?;
    if key.verify_with_context(message, &[], &signature) { Ok(()) } else { Err(BadSignature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_message_and_signature_verify() {
        let pair = PqKeyPair::from_seed(&[1; 32]);
        let signature = pair.sign(b"message");
        assert_eq!(signature.len(), SIGNATURE_LEN);
        assert_eq!(signature, pair.sign(b"message"), "deterministic");
        assert_eq!(verify(pair.public(), b"message", &signature), Ok(()));
        assert!(verify(pair.public(), b"massage", &signature).is_err());
        assert!(verify(PqKeyPair::from_seed(&[2; 32]).public(), b"message", &signature).is_err());
        for at in (0..SIGNATURE_LEN).step_by(37).chain([SIGNATURE_LEN - 1]) {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert!(verify(pair.public(), b"message", &changed).is_err(), "byte {at}");
        }
        assert!(verify(pair.public(), b"message", &signature[1..]).is_err());
        assert!(verify(pair.public(), b"message", &[]).is_err());
    }

    #[test]
    fn the_pair_of_a_node_is_its_own_and_not_shown() {
        let pair = PqKeyPair::from_node_secret(&[1; 32]);
        assert_ne!(pair.public(), PqKeyPair::from_seed(&[1; 32]).public());
        assert_eq!(format!("{pair:?}"), "PqKeyPair(..)");
    }
}
