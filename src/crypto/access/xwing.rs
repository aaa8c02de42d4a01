//! X-Wing whose secret key is expanded once, and not anew for each message that it opens.
//!
//! The secret key of X-Wing is 32 bytes, from which those of ML-KEM-768 and X25519 are made
//! ([draft-connolly-cfrg-xwing-kem](https://datatracker.ietf.org/doc/draft-connolly-cfrg-xwing-kem/), section 5.2). The library makes
//! them for every message, which is much of what opening one costs; whoever asks all static nodes opens many with one key.
//! Only decapsulation is here: public keys, encapsulation and all of HPKE are the library's, and tests have both open the same.

use hpke::kem::{Kem, SharedSecret, XWing};
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, HpkeError, Serializable};
use ml_kem::{Decapsulate as _, FromSeed as _, KeyExport as _, MlKem768, ml_kem_768};
use sha3::{Digest as _, Sha3_256};
use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of a ciphertext of ML-KEM-768; the X25519 key follows.
const LATTICE_LEN: usize = 1_088;
const LABEL: &[u8; 6] = br"\.//^\";

/// The KEM, for opening.
pub(super) enum KeptXWing {}

/// A secret key, expanded. Each part wipes itself on drop.
#[derive(Clone)]
pub(super) struct KeptKey {
    seed: Zeroizing<[u8; 32]>,
    lattice: ml_kem_768::DecapsulationKey,
    curve: StaticSecret,
    curve_public: PublicKey,
    public: <XWing as Kem>::PublicKey,
}

impl KeptKey {
    /// The key of 32 secret bytes.
    ///
    /// # Panics
    /// Never: any 32 bytes are a key.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        let mut expanded = Zeroizing::new([0; 96]);
        let mut hasher = Shake256::default();
        hasher.update(seed);
        hasher.finalize_xof().read(&mut *expanded);
        let (lattice_seed, curve) = expanded.split_at(64);
        let Ok(mut lattice_seed) = ml_kem::Seed::try_from(lattice_seed) else { unreachable!("64 bytes") };
        let (lattice, lattice_public) = MlKem768::from_seed(&lattice_seed);
        zeroize::Zeroize::zeroize(&mut lattice_seed[..]);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(curve);
        let curve = StaticSecret::from(*secret);
        let curve_public = PublicKey::from(&curve);
        let public = [&lattice_public.to_bytes()[..], curve_public.as_bytes()].concat();
        let Ok(public) = Deserializable::from_bytes(&public) else {
            unreachable!("a key that was just made")
        };
        Self { seed: Zeroizing::new(*seed), lattice, curve, curve_public, public }
    }

    /// The key that others seal to.
    pub(super) const fn public(&self) -> &<XWing as Kem>::PublicKey {
        &self.public
    }

    /// Decapsulate of section 5.4, whose combiner is that of section 5.3.
    fn decapsulate(&self, encapsulated: &[u8]) -> Option<[u8; 32]> {
        let (lattice, curve) = encapsulated.split_at_checked(LATTICE_LEN)?;
        let lattice = ml_kem_768::Ciphertext::try_from(lattice).ok()?;
        let curve = PublicKey::from(<[u8; 32]>::try_from(curve).ok()?);
        let mut of_lattice = self.lattice.decapsulate(&lattice);
        let of_curve = self.curve.diffie_hellman(&curve);
        let shared = Sha3_256::new()
            .chain_update(of_lattice)
            .chain_update(of_curve.as_bytes())
            .chain_update(curve.as_bytes())
            .chain_update(self.curve_public.as_bytes())
            .chain_update(LABEL)
            .finalize();
        zeroize::Zeroize::zeroize(&mut of_lattice[..]);
        Some(shared.into())
    }
}

impl ConstantTimeEq for KeptKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.seed.ct_eq(&*other.seed)
    }
}

impl Serializable for KeptKey {
    type OutputSize = <<XWing as Kem>::PrivateKey as Serializable>::OutputSize;

    fn write_exact(&self, to: &mut [u8]) {
        to.copy_from_slice(&*self.seed);
    }
}

impl Deserializable for KeptKey {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let wrong = |_| HpkeError::IncorrectInputLength(32, bytes.len());
        Ok(Self::from_seed(&Zeroizing::new(<[u8; 32]>::try_from(bytes).map_err(wrong)?)))
    }
}

impl Kem for KeptXWing {
    type PublicKey = <XWing as Kem>::PublicKey;
    type PrivateKey = KeptKey;
    type EncappedKey = <XWing as Kem>::EncappedKey;
    type NSecret = <XWing as Kem>::NSecret;

    const KEM_ID: u16 = XWing::KEM_ID;

    fn sk_to_pk(key: &KeptKey) -> Self::PublicKey {
        key.public.clone()
    }

    fn derive_keypair(material: &[u8]) -> (KeptKey, Self::PublicKey) {
        let (secret, public) = XWing::derive_keypair(material);
        let Ok(key) = KeptKey::from_bytes(&secret.to_bytes()) else { unreachable!("a key of 32 bytes") };
        (key, public)
    }

    fn decap(
        key: &KeptKey,
        sender: Option<&Self::PublicKey>,
        encapsulated: &Self::EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        // X-Wing does not authenticate who seals.
        let shared = sender.is_none().then(|| key.decapsulate(&encapsulated.to_bytes())).flatten();
        shared.map(|shared| SharedSecret(shared.into())).ok_or(HpkeError::DecapError)
    }

    fn encap_with_rng(
        public: &Self::PublicKey,
        sender: Option<(&KeptKey, &Self::PublicKey)>,
        random: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, Self::EncappedKey), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let (shared, encapsulated) = XWing::encap_with_rng(public, None, random)?;
        Ok((SharedSecret(shared.0), encapsulated))
    }
}
