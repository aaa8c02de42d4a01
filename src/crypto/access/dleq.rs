//! The proof of RFC 9497 section 2.2 that many points were multiplied with one secret number.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::crypto::access::DecodeError;
use crate::crypto::access::group::{self, CONTEXT, Element, hash_to_scalar, i2osp};
use crate::crypto::hash::{Context, derive_key};

/// A proof that the number of a public point is the one that points were multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Bytes of a proof.
    pub(super) const LEN: usize = 64;

    /// Proves that each of `to` is the secret times its fellow of `from`, and `public` the secret times the generator.
    ///
    /// The nonce is a hash of the secret, of what is proved and of `random`: it stays secret and never serves twice even
    /// where `random` is no good.
    pub(super) fn make(
        secret: &Scalar,
        public: &Element,
        from: &[Element],
        to: &[Element],
        random: &[u8; 32],
    ) -> Self {
        let (weights, statement) = weights(public, from, to);
        let mixed = vartime_sum(&weights, from);
        let mut wide = Zeroizing::new([0; 64]);
        derive_key(Context::DleqNonce, &[secret.as_bytes(), &statement, random], &mut *wide);
        let nonce = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
        Self::with_nonce(secret, public, &mixed, &nonce)
    }

    /// GenerateProof after the weights.
    fn with_nonce(secret: &Scalar, public: &Element, mixed: &RistrettoPoint, nonce: &Scalar) -> Self {
        let committed = [mixed, &(mixed * secret), &RistrettoPoint::mul_base(nonce), &(mixed * nonce)];
        let challenge = challenge(public, committed);
        Self { challenge, response: nonce - challenge * secret }
    }

    /// Whether it proves what [`Self::make`] proves. All that goes in is public or a hash, so it takes variable time.
    pub(super) fn verify(&self, public: &Element, from: &[Element], to: &[Element]) -> bool {
        if from.len() != to.len() {
            return false;
        }
        let (weights, _) = weights(public, from, to);
        let (mixed, product) = (vartime_sum(&weights, from), vartime_sum(&weights, to));
        let base = RistrettoPoint::vartime_double_scalar_mul_basepoint(
            &self.challenge,
            public.point(),
            &self.response,
        );
        let other =
            RistrettoPoint::vartime_multiscalar_mul([self.response, self.challenge], [mixed, product]);
        challenge(public, [&mixed, &product, &base, &other]) == self.challenge
    }

    /// The challenge, then the response.
    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(self.challenge.as_bytes());
        bytes[32..].copy_from_slice(self.response.as_bytes());
        bytes
    }

    /// Reads a proof.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let challenge = group::scalar(super::take(&mut bytes)?)?;
        let response = group::scalar(super::take(&mut bytes)?)?;
        super::done(bytes)?;
        Ok(Self { challenge, response })
    }
}

/// What each pair of points counts for (ComputeComposites), and a hash of the public key and all of them.
fn weights(public: &Element, from: &[Element], to: &[Element]) -> (Vec<Scalar>, [u8; 64]) {
    let tag_len = i2osp(b"Seed-".len() + CONTEXT.len());
    let seed = Sha512::new()
        .chain_update(i2osp(32))
        .chain_update(public.as_bytes())
        .chain_update(tag_len)
        .chain_update(b"Seed-")
        .chain_update(CONTEXT)
        .finalize();
    let mut all = Sha512::new().chain_update(public.as_bytes());
    let weight = |(at, (from, to)): (usize, (&Element, &Element))| {
        all.update(from.as_bytes());
        all.update(to.as_bytes());
        let (len, at, point) = (i2osp(64), i2osp(at), i2osp(32));
        let parts: [&[u8]; 8] =
            [&len, &seed, &at, &point, from.as_bytes(), &point, to.as_bytes(), b"Composite"];
        hash_to_scalar(&parts)
    };
    let weights = from.iter().zip(to).enumerate().map(weight).collect();
    (weights, all.finalize().into())
}

/// The sum of public points by weights that are hashes.
fn vartime_sum(weights: &[Scalar], points: &[Element]) -> RistrettoPoint {
    RistrettoPoint::vartime_multiscalar_mul(weights, points.iter().map(Element::point))
}

fn challenge(public: &Element, committed: [&RistrettoPoint; 4]) -> Scalar {
    let len = i2osp(32);
    let [a, b, c, d] = committed.map(|point| point.compress().to_bytes());
    let parts: [&[u8]; 11] = [&len, public.as_bytes(), &len, &a, &len, &b, &len, &c, &len, &d, b"Challenge"];
    hash_to_scalar(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::access::dprf::{Inputs, PrfKey, finalize};
    use crate::crypto::access::vectors::Vectors;

    /// The points of a line that has one or more.
    fn elements(bytes: &[u8]) -> Vec<Element> {
        bytes.chunks(32).map(|point| Element::from_bytes(point.try_into().unwrap()).unwrap()).collect()
    }

    #[test]
    fn all_vectors_of_rfc_9497_pass() {
        let vectors = Vectors::read(include_str!("../../../tests/vectors/voprf.hex"));
        let secret = group::scalar(vectors.array("secret")).unwrap();
        let public = Element::mul_base(&secret);
        assert_eq!(public.as_bytes(), vectors.get("public"));
        for case in ["one", "two", "batch"] {
            let field = |name: &str| vectors.get(&format!("{case}.{name}")).to_vec();
            let inputs: Vec<Vec<u8>> = match case {
                "batch" => vec![vectors.get("one.input").to_vec(), vectors.get("two.input").to_vec()],
                _ => vec![field("input")],
            };
            let blinds: Vec<Scalar> = field("blind")
                .chunks(32)
                .map(|blind| group::scalar(blind.try_into().unwrap()).unwrap())
                .collect();
            // Blind.
            let blinded = elements(&field("blinded"));
            for ((input, blind), blinded) in inputs.iter().zip(&blinds).zip(&blinded) {
                assert_eq!(Element::new(group::hash_to_group(input).point() * blind), *blinded, "{case}");
            }
            // BlindEvaluate: the points, and the proof to the byte.
            let evaluated: Vec<Element> =
                blinded.iter().map(|point| Element::new(point.point() * secret)).collect();
            assert_eq!(evaluated, elements(&field("evaluation")), "{case}");
            let nonce = group::scalar(field("proof_random").try_into().unwrap()).unwrap();
            let mixed = vartime_sum(&weights(&public, &blinded, &evaluated).0, &blinded);
            let proof = Proof::with_nonce(&secret, &public, &mixed, &nonce);
            assert_eq!(proof.to_bytes()[..], field("proof"), "{case}");
            assert!(proof.verify(&public, &blinded, &evaluated));
            assert_eq!(Proof::from_bytes(&field("proof")), Ok(proof));
            // Finalize, and the evaluation without blinding.
            for (at, (input, blind)) in inputs.iter().zip(&blinds).enumerate() {
                let unblinded = evaluated[at].point() * blind.invert();
                let output = finalize(input, &unblinded);
                assert_eq!(output.as_bytes()[..], field("output")[64 * at..64 * (at + 1)], "{case}");
                assert_eq!(PrfKey::from_scalar(secret).evaluate_bytes(input).as_bytes(), output.as_bytes());
            }
        }
    }

    #[test]
    fn a_proof_is_of_one_number_and_of_these_points() {
        let (secret, other) = (Scalar::from(77_u8), Scalar::from(78_u8));
        let public = Element::mul_base(&secret);
        let from: Vec<Element> = Inputs::hash_bytes(&[b"a", b"b", b"c"]);
        let to: Vec<Element> = from.iter().map(|point| Element::new(point.point() * secret)).collect();
        let proof = Proof::make(&secret, &public, &from, &to, &[1; 32]);
        assert!(proof.verify(&public, &from, &to));
        assert!(!proof.verify(&Element::mul_base(&other), &from, &to), "another key");
        assert!(!proof.verify(&public, &from[..2], &to[..2]), "fewer");
        assert!(!proof.verify(&public, &from[..2], &to), "not as many");
        for at in 0..3 {
            let mut wrong = to.clone();
            wrong[at] = Element::new(from[at].point() * other);
            assert!(!proof.verify(&public, &from, &wrong), "point {at}");
            assert!(!Proof::make(&secret, &public, &from, &wrong, &[1; 32]).verify(&public, &from, &wrong));
        }
        let mut swapped = to.clone();
        swapped.swap(0, 1);
        assert!(!proof.verify(&public, &from, &swapped));
        for at in 0..Proof::LEN {
            let mut bytes = proof.to_bytes();
            bytes[at] ^= 1;
            assert!(
                !Proof::from_bytes(&bytes).is_ok_and(|proof| proof.verify(&public, &from, &to)),
                "byte {at}"
            );
        }
        assert!(Proof::from_bytes(&[0; 63]).is_err() && Proof::from_bytes(&[0; 65]).is_err());
        assert_eq!(Proof::from_bytes(&[0xff; 64]), Err(DecodeError::Scalar));
    }

    #[test]
    fn the_nonce_depends_on_the_secret_on_what_is_proved_and_on_randomness() {
        let proof = |secret: u8, input: &[u8], random: u8| {
            let secret = Scalar::from(secret);
            let from = Inputs::hash_bytes(&[input]);
            let to = [Element::new(from[0].point() * secret)];
            let proof = Proof::make(&secret, &Element::mul_base(&secret), &from, &to, &[random; 32]);
            // What the nonce was.
            proof.response + proof.challenge * secret
        };
        let nonces = [proof(7, b"a", 1), proof(8, b"a", 1), proof(7, b"b", 1), proof(7, b"a", 2)];
        for (at, one) in nonces.iter().enumerate() {
            assert!(nonces[at + 1..].iter().all(|other| one != other));
        }
        assert_eq!(nonces[0], proof(7, b"a", 1));
    }
}
