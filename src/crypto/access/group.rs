//! ristretto255 and SHA-512 as RFC 9497 has them: points and numbers with one encoding, hashes to both, and the
//! coefficients of Lagrange.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroize;

use crate::crypto::access::DecodeError;
use crate::types::ShareIndex;

/// Mode VOPRF of suite ristretto255-SHA512 (RFC 9497 section 3.1).
pub(super) const CONTEXT: &[u8] = b"OPRFV1-\x01-ristretto255-SHA512";

/// A point and its encoding.
#[derive(Debug, Clone, Copy, Zeroize)]
pub struct Element {
    point: RistrettoPoint,
    bytes: [u8; 32],
}

impl Element {
    /// The point with its encoding.
    pub(super) fn new(point: RistrettoPoint) -> Self {
        Self { point, bytes: point.compress().to_bytes() }
    }

    /// The generator times a secret number.
    pub(super) fn mul_base(secret: &Scalar) -> Self {
        Self::new(RistrettoPoint::mul_base(secret))
    }

    pub(super) const fn point(&self) -> &RistrettoPoint {
        &self.point
    }

    /// The encoding.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Reads a point.
    ///
    /// # Errors
    /// [`DecodeError::Point`] if it is not the encoding of a point, or of the neutral one.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, DecodeError> {
        let point = CompressedRistretto(bytes).decompress().ok_or(DecodeError::Point)?;
        if point.is_identity() { Err(DecodeError::Point) } else { Ok(Self { point, bytes }) }
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Element {}

/// Reads a number.
pub(super) fn scalar(bytes: [u8; 32]) -> Result<Scalar, DecodeError> {
    Option::from(Scalar::from_canonical_bytes(bytes)).ok_or(DecodeError::Scalar)
}

/// HashToGroup of RFC 9497 section 4.1.
pub(super) fn hash_to_group(input: &[u8]) -> Element {
    Element::new(RistrettoPoint::from_uniform_bytes(&expand(b"HashToGroup-", &[input])))
}

/// HashToScalar of RFC 9497 section 4.1.
pub(super) fn hash_to_scalar(input: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&expand(b"HashToScalar-", input))
}

/// `expand_message_xmd` of RFC 9380 section 5.3.1 to 64 bytes, which are one block of SHA-512.
fn expand(tag: &[u8], message: &[&[u8]]) -> [u8; 64] {
    let tag_len = [u8::try_from(tag.len() + CONTEXT.len()).unwrap_or(u8::MAX)];
    let ends = |hasher: Sha512| hasher.chain_update(tag).chain_update(CONTEXT).chain_update(tag_len);
    let mut hasher = Sha512::new().chain_update([0; 128]);
    message.iter().for_each(|part| hasher.update(part));
    let first = ends(hasher.chain_update([0, 64, 0])).finalize();
    ends(Sha512::new().chain_update(first).chain_update([1])).finalize().into()
}

/// I2OSP of 2 bytes of a length: the parts here are all short.
pub(super) fn i2osp(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or_else(|_| panic!("a part of {len} bytes")).to_be_bytes()
}

/// What each of the shares counts for in the value at 0. The indices are public.
///
/// # Panics
/// If one of them is there twice: nothing fits through two points at one place.
pub(super) fn lagrange(indices: &[ShareIndex]) -> Vec<Scalar> {
    let of = |index: &ShareIndex| Scalar::from(index.get());
    let fraction = |own: &ShareIndex| {
        let others = || indices.iter().filter(move |other| *other != own);
        assert_eq!(others().count() + 1, indices.len(), "place {own} is there twice");
        let above: Scalar = others().map(of).product();
        let below: Scalar = others().map(|other| of(other) - of(own)).product();
        (above, below)
    };
    let (above, mut below): (Vec<_>, Vec<_>) = indices.iter().map(fraction).unzip();
    // At once: an inversion costs as much as some hundred multiplications.
    Scalar::invert_batch_alloc(&mut below);
    above.into_iter().zip(below).map(|(above, below)| above * below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_points_and_numbers_are_read() {
        let point = hash_to_group(b"a");
        assert_eq!(Element::from_bytes(*point.as_bytes()), Ok(point));
        assert_eq!(Element::from_bytes([0; 32]), Err(DecodeError::Point), "the neutral point");
        assert_eq!(Element::from_bytes([0xff; 32]), Err(DecodeError::Point));
        // RFC 9496 appendix A.2: a field element that is not reduced, a negative one, one that is no point.
        for hex in [
            "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
        ] {
            let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
            assert_eq!(Element::from_bytes(bytes.try_into().unwrap()), Err(DecodeError::Point), "{hex}");
        }
        // The order of the group, and one less.
        let mut order = [0; 32];
        order[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
        order[31] = 0x10;
        assert_eq!(scalar(order), Err(DecodeError::Scalar));
        order[0] -= 1;
        assert_eq!(scalar(order), Ok(-Scalar::ONE));
    }

    #[test]
    fn coefficients_find_the_value_at_zero() {
        let place = |number| ShareIndex::new(number).unwrap();
        let line = |at: u8| Scalar::from(17_u8) + Scalar::from(3_u8) * Scalar::from(at);
        let places = [place(9), place(2)];
        let sum: Scalar =
            lagrange(&places).iter().zip(places).map(|(factor, at)| factor * line(at.get())).sum();
        assert_eq!(sum, Scalar::from(17_u8));
    }
}
