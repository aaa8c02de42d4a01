//! Sealing to a public key: HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305, the suite that
//! age uses.
//!
//! X-Wing is X25519 and ML-KEM-768 together ([Barbosa et al.](https://eprint.iacr.org/2024/039)): what is sealed stays sealed
//! while one of them holds. The sender is not authenticated, and what is sealed does not commit to one key: both is for what
//! is inside, or around it.
//!
//! ```text
//! suite 1 | encapsulated key 1120 | ciphertext | tag 16
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use crate::crypto::access::xwing::{KeptKey, KeptXWing};
use crate::crypto::access::{DecodeError, SUITE};
use crate::types::limits::TAG_LEN;

/// Bytes of an encapsulated key.
const ENCAPSULATED_LEN: usize = 1_120;

/// Bytes by which sealing makes something longer.
pub const SEAL_OVERHEAD: usize = 1 + ENCAPSULATED_LEN + TAG_LEN;

/// What something is sealed for. Each has a label of its own, so that nothing sealed for one purpose opens for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The body of a grant, or an emergency card, which stands for one. Context: BLAKE3 of the grant's header, or of whom the card
    /// is for, each under a context of its own.
    Grant,
    /// A static node's share of a vault's key. Context: BLAKE3 of the dealing's commitments, and the place.
    Share,
    /// What an old member deals to a new one. Context: BLAKE3 of who deals, to whom and what, and the new one's place.
    Handoff,
    /// A static node's answer to a request for access. Context: hash of the request, the node's place, the sharing's epoch.
    Partial,
    /// An entry of the access log, for the owner. Context: the node's key and the entry's number.
    Audit,
    /// A data key for a vault's owner from a writer that has no scope key. Context: the record's tag and version.
    Inbox,
    /// A guardian's share of a seed. Context: hash of the share and commitment to the root.
    Guardian,
}

impl Purpose {
    /// Every purpose, so that a test can tell them apart.
    pub const ALL: [Self; 7] =
        [Self::Grant, Self::Share, Self::Handoff, Self::Partial, Self::Audit, Self::Inbox, Self::Guardian];

    /// What HPKE's `info` begins with. No label is the beginning of another.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grant => "xvault/v1/grant",
            Self::Share => "xvault/v1/share",
            Self::Handoff => "xvault/v1/handoff",
            Self::Partial => "xvault/v1/partial",
            Self::Audit => "xvault/v1/audit",
            Self::Inbox => "xvault/v1/inbox",
            Self::Guardian => "xvault/v1/guardian",
        }
    }

    fn info(self, context: &[u8]) -> Vec<u8> {
        [self.label().as_bytes(), context].concat()
    }
}

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not the encoding of anything that was sealed.
    #[error("it is not a sealed message: {0}")]
    Malformed(#[from] DecodeError),
    /// Sealed to another key, for another purpose or context, or changed since.
    #[error("it is not sealed to this key for this purpose, or was changed")]
    NotAuthentic,
}

/// A public key to seal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealPublic(<XWing as hpke::Kem>::PublicKey);

impl SealPublic {
    /// Bytes of a public key.
    pub const LEN: usize = 1_216;

    /// The bytes: the key of ML-KEM-768, then that of X25519.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        self.0.write_exact(&mut bytes);
        bytes
    }

    /// Reads a public key.
    ///
    /// # Errors
    /// [`DecodeError`] if it has not [`Self::LEN`] bytes, or its numbers are not reduced (FIPS 203 section 7.2).
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != Self::LEN {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        hpke::Deserializable::from_bytes(bytes).map(Self).map_err(|_| DecodeError::PublicKey)
    }

    /// Seals to this key. `random` must be fresh random bytes; the caller wipes them.
    ///
    /// # Panics
    /// If the context has 60 KiB or more: HPKE's `info` is bounded.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, context: &[u8], plain: &[u8], random: &[u8; 64]) -> Vec<u8> {
        let info = purpose.info(context);
        let mut random = Drawn(random);
        let sealed = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            &info,
            plain,
            &[],
            &mut random,
        );
        match sealed {
            Ok((key, sealed)) => [&[SUITE], &*key.to_bytes(), &sealed].concat(),
            Err(_) => unreachable!("a sound key and less than 256 GiB always seal"),
        }
    }
}

/// A secret key that opens what is sealed to its public key. Wiped on drop, never shown.
#[derive(Clone)]
pub struct SealKey {
    secret: Arc<KeptKey>,
    public: SealPublic,
}

opaque_debug!(SealKey);

impl SealKey {
    /// The key of 32 secret bytes, which are X-Wing's own secret key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = Arc::new(KeptKey::from_seed(seed));
        let public = SealPublic(secret.public().clone());
        Self { secret, public }
    }

    /// The key that others seal to.
    #[must_use]
    pub const fn public(&self) -> &SealPublic {
        &self.public
    }

    /// Opens what was sealed to this key for this purpose and context.
    ///
    /// # Errors
    /// [`SealError`] if it was not, or if it was changed.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = super::suited(sealed)?;
        if sealed.len() < SEAL_OVERHEAD {
            return Err(DecodeError::Length { len: sealed.len() }.into());
        }
        let (key, rest) = rest.split_at(ENCAPSULATED_LEN);
        let key = hpke::Deserializable::from_bytes(key).map_err(|_| SealError::NotAuthentic)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(
            &OpModeR::Base,
            &self.secret,
            &key,
            &purpose.info(context),
            rest,
            &[],
        )
        .map(Zeroizing::new)
        .map_err(|_| SealError::NotAuthentic)
    }
}

/// Random bytes that were drawn before, as a generator: no byte is given twice.
struct Drawn<'a>(&'a [u8]);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        let (head, rest) = self.0.split_at(to.len());
        to.copy_from_slice(head);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::access::vectors::Vectors;

    fn vectors() -> Vectors {
        Vectors::read(include_str!("../../../tests/vectors/seal.hex"))
    }

    #[test]
    fn what_others_seal_opens_and_what_is_sealed_here_is_frozen() {
        let vectors = vectors();
        let key = SealKey::from_seed(&vectors.array("seed"));
        assert_eq!(key.public().to_bytes()[..], *vectors.get("public"));
        assert_eq!(SealPublic::from_slice(vectors.get("public")), Ok(key.public().clone()));
        for purpose in Purpose::ALL {
            let name = purpose.label().strip_prefix("xvault/v1/").unwrap();
            let opened = key.open(purpose, vectors.get("context"), vectors.get(name)).unwrap();
            assert_eq!(*opened, vectors.get("text"), "{name}");
        }
        let random = vectors.array("random");
        let sealed = key.public().seal(Purpose::Grant, vectors.get("context"), vectors.get("text"), &random);
        assert_eq!(sealed, vectors.get("ours"));
    }

    #[test]
    fn nothing_sealed_for_one_purpose_opens_for_another() {
        let key = SealKey::from_seed(&[1; 32]);
        for purpose in Purpose::ALL {
            let sealed = key.public().seal(purpose, b"context", b"text", &[2; 64]);
            assert_eq!(sealed.len(), 4 + SEAL_OVERHEAD);
            for other in Purpose::ALL {
                let opened = key.open(other, b"context", &sealed);
                assert_eq!(opened.is_ok(), other == purpose, "{purpose:?} as {other:?}");
                assert!(!other.label().starts_with(purpose.label()) || other == purpose);
            }
            assert_eq!(key.open(purpose, b"another", &sealed), Err(SealError::NotAuthentic));
            let stranger = SealKey::from_seed(&[3; 32]);
            assert_eq!(stranger.open(purpose, b"context", &sealed), Err(SealError::NotAuthentic));
        }
    }

    #[test]
    fn changed_cut_and_odd_messages_do_not_open() {
        let key = SealKey::from_seed(&[1; 32]);
        let sealed = key.public().seal(Purpose::Share, b"", b"text", &[2; 64]);
        for at in (1..sealed.len()).step_by(97).chain([1_120, 1_121, sealed.len() - 1]) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(Purpose::Share, b"", &changed), Err(SealError::NotAuthentic), "byte {at}");
        }
        for len in [0, 1, 1_120, SEAL_OVERHEAD - 1, SEAL_OVERHEAD, sealed.len() - 1] {
            assert!(key.open(Purpose::Share, b"", &sealed[..len]).is_err(), "cut to {len}");
        }
        let mut odd = sealed;
        odd[0] = 2;
        assert_eq!(key.open(Purpose::Share, b"", &odd), Err(DecodeError::Suite(2).into()));
    }

    #[test]
    fn only_sound_public_keys_are_read() {
        let bytes = SealKey::from_seed(&[1; 32]).public().to_bytes();
        assert!(SealPublic::from_slice(&bytes).is_ok());
        assert_eq!(SealPublic::from_slice(&bytes[1..]), Err(DecodeError::Length { len: 1_215 }));
        assert_eq!(
            SealPublic::from_slice(&[&bytes[..], &[0]].concat()),
            Err(DecodeError::Length { len: 1_217 })
        );
        let mut odd = bytes;
        odd[..3].fill(0xff);
        assert_eq!(SealPublic::from_slice(&odd), Err(DecodeError::PublicKey), "numbers past the modulus");
    }

    #[test]
    fn the_library_opens_the_same_and_refuses_the_same() {
        let open = |seed: &[u8; 32], sealed: &[u8]| {
            let secret =
                <<XWing as hpke::Kem>::PrivateKey as hpke::Deserializable>::from_bytes(seed).unwrap();
            let (key, rest) = sealed[1..].split_at(ENCAPSULATED_LEN);
            let key = hpke::Deserializable::from_bytes(key).unwrap();
            let info = Purpose::Audit.info(b"context");
            hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
                &OpModeR::Base,
                &secret,
                &key,
                &info,
                rest,
                &[],
            )
        };
        for nth in 0..20_u8 {
            let seed = *blake3::hash(&[nth]).as_bytes();
            let key = SealKey::from_seed(&seed);
            let theirs =
                <<XWing as hpke::Kem>::PrivateKey as hpke::Deserializable>::from_bytes(&seed).unwrap();
            assert_eq!(key.public().0, <XWing as hpke::Kem>::sk_to_pk(&theirs));
            let sealed = key.public().seal(Purpose::Audit, b"context", &[nth; 33], &[nth; 64]);
            assert_eq!(open(&seed, &sealed).unwrap(), [nth; 33]);
            assert_eq!(*key.open(Purpose::Audit, b"context", &sealed).unwrap(), [nth; 33]);
            // ML-KEM rejects what was changed by giving another secret: both give none that opens it.
            for at in [1, 700, 1_088, 1_089, 1_120] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(open(&seed, &changed).is_err());
                assert_eq!(key.open(Purpose::Audit, b"context", &changed), Err(SealError::NotAuthentic));
            }
        }
    }

    #[test]
    fn what_is_sealed_twice_is_not_the_same() {
        let key = SealKey::from_seed(&[1; 32]);
        let seal = |random| key.public().seal(Purpose::Inbox, b"", b"", &[random; 64]);
        assert_ne!(seal(1), seal(2));
    }
}
