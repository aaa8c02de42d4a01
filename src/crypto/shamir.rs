//! A secret of 32 bytes cut up for guardians: any threshold of the parts bring it back, fewer tell nothing of it
//! ([Shamir 1979](https://doi.org/10.1145/359168.359176)).
//!
//! Each byte is the value at 0 of a polynomial over GF(256), the field of AES (FIPS 197, section 4), whose other coefficients
//! are random; a part is its value at another place. All of it takes the same time whatever the secrets are: no table is
//! looked up, and no branch taken, by a secret. That a part is the right one is not seen here: who hands parts out commits
//! to each ([`part_hash`]) and to the secret ([`commitment`]).

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::hash::{Context, derive_key};
use crate::types::limits::MAX_GUARDIANS;
use crate::types::{Hash, VaultId};

/// Bytes of the secret and of each part.
const LEN: usize = 32;

/// A part of a secret. Wiped on drop, never shown.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Part {
    /// Where the polynomials were evaluated; never 0, where the secret is.
    #[zeroize(skip)]
    place: u8,
    values: [u8; LEN],
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({}, ..)", self.place)
    }
}

/// Why parts do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// There is none.
    #[error("there is no part")]
    None,
    /// No part is of place 0, and no two are of one place.
    #[error("two parts are of place {0}, or none has it")]
    Place(u8),
}

impl Part {
    /// The part with these values; none of place 0.
    #[must_use]
    pub fn new(place: u8, values: [u8; LEN]) -> Option<Self> {
        (place != 0).then_some(Self { place, values })
    }

    /// Its place, from 1.
    #[must_use]
    pub const fn place(&self) -> u8 {
        self.place
    }

    /// The secret bytes, to be sealed.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.values
    }
}

/// Cuts a secret into `count` parts, at places 1 to `count`, of which any `threshold` bring it back. `random` must be fresh
/// random bytes; should they be weak, the secret itself still makes the coefficients unknown.
///
/// # Panics
/// If the threshold is not from 2 to `count`, or there are more than [`MAX_GUARDIANS`]: a caller's bug.
#[must_use]
pub fn split(secret: &[u8; LEN], threshold: usize, count: usize, random: &[u8; 32]) -> Vec<Part> {
    assert!(2 <= threshold && threshold <= count && count <= MAX_GUARDIANS, "{threshold} of {count}");
    let mut coefficients = Zeroizing::new(vec![0; (threshold - 1) * LEN]);
    let number = [u8::try_from(threshold).unwrap_or(u8::MAX), u8::try_from(count).unwrap_or(u8::MAX)];
    derive_key(Context::GuardianPolynomial, &[secret, random, &number], &mut coefficients);
    let part = |place: u8| {
        let mut values = [0; LEN];
        for (at, value) in values.iter_mut().enumerate() {
            // Horner's rule, from the highest coefficient down to the secret.
            for degree in (0..threshold - 1).rev() {
                *value = multiply(*value ^ coefficients[degree * LEN + at], place);
            }
            *value ^= secret[at];
        }
        Part { place, values }
    };
    (1_u8..).take(count).map(part).collect()
}

/// Brings a secret back from a threshold of its parts. From fewer, or from wrong ones, comes something else, which
/// [`commitment`] tells.
///
/// # Errors
/// [`CombineError`].
pub fn combine(parts: &[Part]) -> Result<Zeroizing<[u8; LEN]>, CombineError> {
    if parts.is_empty() {
        return Err(CombineError::None);
    }
    let mut secret = Zeroizing::new([0; LEN]);
    for (at, part) in parts.iter().enumerate() {
        if part.place == 0 || parts[..at].iter().any(|other| other.place == part.place) {
            return Err(CombineError::Place(part.place));
        }
        // Lagrange's factor at 0; subtraction is addition here.
        let others = parts.iter().filter(|other| other.place != part.place);
        let factor = others.fold(1, |factor, other| {
            multiply(factor, multiply(other.place, invert(other.place ^ part.place)))
        });
        for (byte, value) in secret.iter_mut().zip(&part.values) {
            *byte ^= multiply(factor, *value);
        }
    }
    Ok(secret)
}

/// What a part is known by to who does not have it. 32 uniform bytes are in it, so that it tells nothing.
#[must_use]
pub fn part_hash(vault: &VaultId, set: u32, part: &Part) -> Hash {
    let mut hash = Hash([0; 32]);
    let parts = [&vault.0[..], &set.to_le_bytes(), &[part.place], &part.values];
    derive_key(Context::GuardianPart, &parts, &mut hash.0);
    hash
}

/// What the secret is known by to who does not have it.
#[must_use]
pub fn commitment(vault: &VaultId, set: u32, secret: &[u8; LEN]) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(Context::GuardianCommitment, &[&vault.0, &set.to_le_bytes(), secret], &mut hash.0);
    hash
}

/// The product in GF(256) modulo x⁸ + x⁴ + x³ + x + 1.
const fn multiply(one: u8, other: u8) -> u8 {
    let (mut product, mut shifted, mut bit) = (0, one, 0);
    while bit < 8 {
        // All ones or none, instead of a branch.
        product ^= ((other >> bit) & 1).wrapping_neg() & shifted;
        shifted = (shifted << 1) ^ ((shifted >> 7).wrapping_neg() & 0x1b);
        bit += 1;
    }
    product
}

/// The inverse, which is the 254th power; of 0 it is 0.
const fn invert(of: u8) -> u8 {
    let (mut power, mut product, mut bit) = (of, 1, 1);
    while bit < 8 {
        power = multiply(power, power);
        product = multiply(product, power);
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The product by tables of powers of 3, as others do it: another way to the same field.
    fn product_by_tables() -> impl Fn(u8, u8) -> u8 {
        let (mut powers, mut logarithms, mut power) = ([0_u8; 255], [0_usize; 256], 1_u8);
        for (exponent, slot) in powers.iter_mut().enumerate() {
            (*slot, logarithms[usize::from(power)]) = (power, exponent);
            let doubled = (u16::from(power) << 1) ^ if power & 0x80 == 0 { 0 } else { 0x11b };
            power ^= u8::try_from(doubled).unwrap();
        }
        move |one, other| match (one, other) {
            (0, _) | (_, 0) => 0,
            _ => powers[(logarithms[usize::from(one)] + logarithms[usize::from(other)]) % 255],
        }
    }

    #[test]
    fn the_field_is_that_of_aes() {
        // FIPS 197, sections 4.2 and 4.2.1.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        assert_eq!([0x02, 0x04, 0x08, 0x10].map(|by| multiply(0x57, by)), [0xae, 0x47, 0x8e, 0x07]);
        let by_tables = product_by_tables();
        for one in 0..=u8::MAX {
            for other in 0..=u8::MAX {
                assert_eq!(multiply(one, other), by_tables(one, other), "{one} times {other}");
            }
            assert_eq!(multiply(one, invert(one)), u8::from(one != 0), "{one}");
        }
        assert_eq!(invert(0x53), 0xca, "FIPS 197, section 5.1.1 begins with this inverse");
    }

    /// 3 + 2x + 5x² has the values 4, 0x13 and 0x14 at 1, 2 and 3 by hand: 2·2 = 4, 2·3 = 6, and with 2² = 4 and 3² = 5,
    /// 5·4 = 0x14, 5·5 = 0x11.
    #[test]
    fn a_polynomial_worked_out_by_hand_gives_its_value_at_zero() {
        let part = |place, value| Part::new(place, [value; LEN]).unwrap();
        let parts = [part(1, 4), part(2, 0x13), part(3, 0x14)];
        assert_eq!(*combine(&parts).unwrap(), [3; LEN]);
        assert_ne!(*combine(&parts[..2]).unwrap(), [3; LEN]);
    }

    proptest! {
        #[test]
        fn any_threshold_of_parts_and_no_fewer_bring_the_secret_back(
            secret in any::<[u8; 32]>(),
            random in any::<[u8; 32]>(),
            (threshold, count) in (2..=MAX_GUARDIANS).prop_flat_map(|count| (2..=count, Just(count))),
            rotation in 0..MAX_GUARDIANS,
        ) {
            let mut parts = split(&secret, threshold, count, &random);
            prop_assert_eq!(parts.len(), count);
            parts.rotate_left(rotation % count);
            prop_assert_eq!(*combine(&parts[..threshold]).unwrap(), secret);
            prop_assert_eq!(*combine(&parts).unwrap(), secret, "more than are needed do too");
            prop_assert_ne!(*combine(&parts[..threshold - 1]).unwrap(), secret);
            parts[0].values[0] ^= 1;
            prop_assert_ne!(*combine(&parts[..threshold]).unwrap(), secret, "a wrong part is not made good");
        }
    }

    /// One part of two, over all coefficients that the other may come from, fits every secret as often as any other.
    #[test]
    fn fewer_parts_fit_every_secret() {
        for value in [0, 1, 0x80, 0xff] {
            let mut seen = [false; 256];
            for other in 0..=u8::MAX {
                let parts = [Part::new(1, [value; LEN]).unwrap(), Part::new(2, [other; LEN]).unwrap()];
                seen[usize::from(combine(&parts).unwrap()[0])] = true;
            }
            assert!(seen.iter().all(|seen| *seen), "{value}");
        }
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let parts = split(&[1; 32], 2, 3, &[2; 32]);
        assert_eq!(combine(&[]), Err(CombineError::None));
        assert_eq!(combine(&[parts[0].clone(), parts[0].clone()]), Err(CombineError::Place(1)));
        assert_eq!(Part::new(0, [1; 32]), None);
        for wrong in [(0, 3), (1, 3), (4, 3), (2, MAX_GUARDIANS + 1)] {
            let cut = std::panic::catch_unwind(|| split(&[1; 32], wrong.0, wrong.1, &[2; 32]));
            assert!(cut.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_cut_twice_has_other_parts_and_all_is_bound_to_vault_and_set() {
        let (one, other) = (split(&[1; 32], 2, 3, &[2; 32]), split(&[1; 32], 2, 3, &[3; 32]));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
        let (vault, next) = (VaultId([1; 32]), VaultId([2; 32]));
        let hashes = [
            part_hash(&vault, 1, &one[0]),
            part_hash(&vault, 1, &one[1]),
            part_hash(&vault, 2, &one[0]),
            part_hash(&next, 1, &one[0]),
            commitment(&vault, 1, &[1; 32]),
            commitment(&vault, 2, &[1; 32]),
            commitment(&next, 1, &[1; 32]),
            commitment(&vault, 1, &[2; 32]),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash));
        }
        assert!(!format!("{:?}", one[0]).contains("values"));
    }
}
