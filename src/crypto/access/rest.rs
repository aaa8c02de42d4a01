//! What a static node keeps at rest: shares and keyslots under a key of its own, so that to forget the key is to forget them,
//! whatever a database or a disk keeps of what was deleted.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::SealError;
use crate::crypto::hash::{Context, derive_key};
use crate::types::Hash;
use crate::types::limits::TAG_LEN;

const NONCE_LEN: usize = 24;

/// The key of what is at rest. Wiped on drop, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct RestKey([u8; 32]);

opaque_debug!(RestKey);

impl RestKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells it from others, and tells nothing of it.
    #[must_use]
    pub fn id(&self) -> Hash {
        let mut id = Hash([0; 32]);
        derive_key(Context::RestKeyId, &[&self.0], &mut id.0);
        id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let Ok(cipher) = XChaCha20Poly1305::new_from_slice(&self.0) else {
            unreachable!("a key of 32 bytes")
        };
        cipher
    }

    /// Wraps bytes for a place. `nonce` must be fresh random bytes.
    ///
    /// # Panics
    /// Never: no caller has 256 GiB.
    #[must_use]
    pub fn wrap(&self, place: &[u8], plain: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut bytes = [&nonce[..], plain].concat();
        let sealed = (&mut bytes[NONCE_LEN..]).into();
        let Ok(tag) = self.cipher().encrypt_inout_detached(&nonce.into(), place, sealed) else {
            unreachable!("XChaCha20-Poly1305 seals some kilobytes")
        };
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Wraps, or unwraps, bytes for a place that whoever reads them holds against a hash of them: it is not made longer, and one
    /// pad serves for what has this hash alone. What comes of bytes that were damaged has another hash.
    #[must_use]
    pub fn mask(&self, place: &[u8], hash: &Hash, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut pad = Zeroizing::new(vec![0; bytes.len()]);
        derive_key(Context::RestPad, &[&self.0, place, &hash.0], &mut pad);
        pad.iter_mut().zip(bytes).for_each(|(pad, byte)| *pad ^= byte);
        pad
    }

    /// Gives what was wrapped for this place.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`] if it is of another key or place, or damaged.
    pub fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotAuthentic)?;
        let at = rest.len().checked_sub(TAG_LEN).ok_or(SealError::NotAuthentic)?;
        let (sealed, tag) = rest.split_at(at);
        let tag = Tag::try_from(tag).map_err(|_| SealError::NotAuthentic)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.cipher()
            .decrypt_inout_detached(&(*nonce).into(), place, (&mut plain[..]).into(), &tag)
            .map_err(|_| SealError::NotAuthentic)?;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_is_of_its_key_place_and_hash() {
        let (key, other) = (RestKey::from_bytes([1; 32]), RestKey::from_bytes([2; 32]));
        let wrapped = key.mask(b"place", &Hash([3; 32]), b"slot");
        assert!(wrapped.len() == 4 && *wrapped != b"slot");
        assert_eq!(*key.mask(b"place", &Hash([3; 32]), &wrapped), b"slot");
        for wrong in [
            key.mask(b"elsewhere", &Hash([3; 32]), &wrapped),
            key.mask(b"place", &Hash([4; 32]), &wrapped),
            other.mask(b"place", &Hash([3; 32]), &wrapped),
        ] {
            assert_ne!(*wrong, b"slot");
        }
    }

    #[test]
    fn what_is_at_rest_is_of_its_key_and_place() {
        let (key, other) = (RestKey::from_bytes([1; 32]), RestKey::from_bytes([2; 32]));
        let wrapped = key.wrap(b"place", b"share", [3; 24]);
        assert_eq!(*key.unwrap(b"place", &wrapped).unwrap(), b"share");
        assert_eq!(key.unwrap(b"elsewhere", &wrapped), Err(SealError::NotAuthentic));
        assert_eq!(other.unwrap(b"place", &wrapped), Err(SealError::NotAuthentic));
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert_eq!(key.unwrap(b"place", &changed), Err(SealError::NotAuthentic));
            assert_eq!(key.unwrap(b"place", &wrapped[..at]), Err(SealError::NotAuthentic));
        }
        assert!(key.id() != other.id() && format!("{key:?}") == "RestKey(..)");
    }
}
