//! Sharing a PRF key among static nodes, so that each can check its share ([Feldman](https://doi.org/10.1109/SFCS.1987.4)).
//!
//! The shares are values of a random polynomial whose value at 0 is the key; the commitments are its coefficients times
//! the generator. They show the public key, which tells nothing of a key that is uniform, and what each share's public
//! key is. Any threshold of shares give the key, fewer nothing.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity as _, IsIdentity as _};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::dprf::PrfKey;
use crate::crypto::access::group::{self, Element};
use crate::crypto::access::{DecodeError, SUITE};
use crate::crypto::hash::{Context, derive_key};
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Committee, ShareIndex};

/// How many get a share, and how many shares it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    members: usize,
    threshold: usize,
}

impl Sharing {
    /// Among the members of a committee, so that no answer comes together without more honest members than faulty ones.
    #[must_use]
    pub const fn among(committee: &Committee) -> Self {
        Self { members: committee.n(), threshold: committee.threshold() }
    }

    /// How many get a share.
    #[must_use]
    pub const fn members(&self) -> usize {
        self.members
    }

    /// How many shares it takes.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    fn places(&self) -> impl Iterator<Item = ShareIndex> {
        (0..self.members).filter_map(ShareIndex::at)
    }
}

/// A node's share of a key, or, while a committee changes, one old member's part of a new member's share.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct KeyShare {
    #[zeroize(skip)]
    index: ShareIndex,
    secret: Scalar,
}

opaque_debug!(KeyShare);

/// A sharing as it is known to all of its members and to grantees, but not to the public ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitments(Vec<Element>);

/// A key cut into shares: one for each place, in order.
#[derive(Debug)]
pub struct Dealing {
    /// What all get.
    pub commitments: Commitments,
    /// What each gets, sealed.
    pub shares: Vec<KeyShare>,
}

impl PrfKey {
    /// Deals the key. With other `random` bytes the shares are others; bytes that served once must stay secret.
    #[must_use]
    pub fn deal(&self, sharing: Sharing, random: &[u8; 32]) -> Dealing {
        deal(self.scalar(), sharing, random)
    }
}

/// The coefficients are a hash of the secret and of `random`, so that they stay secret where `random` is no good.
pub(super) fn deal(secret: &Scalar, sharing: Sharing, random: &[u8; 32]) -> Dealing {
    let mut wide = Zeroizing::new(vec![0; 64 * (sharing.threshold - 1)]);
    derive_key(Context::SharingPolynomial, &[secret.as_bytes(), random], &mut wide);
    let mut coefficients = Zeroizing::new(Vec::with_capacity(sharing.threshold));
    coefficients.push(*secret);
    for bytes in wide.as_chunks().0 {
        coefficients.push(Scalar::from_bytes_mod_order_wide(bytes));
    }
    let value = |index: ShareIndex| {
        let at = Scalar::from(index.get());
        let secret = coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * at + coefficient);
        KeyShare { index, secret }
    };
    let commitments = Commitments(coefficients.iter().map(Element::mul_base).collect());
    // At once as long as it gets: a vector that grows leaves copies behind.
    let mut shares = Vec::with_capacity(sharing.members);
    shares.extend(sharing.places().map(value));
    Dealing { commitments, shares }
}

impl KeyShare {
    /// Bytes of a share.
    pub const LEN: usize = 1 + 1 + 32;

    pub(super) const fn new(index: ShareIndex, secret: Scalar) -> Self {
        Self { index, secret }
    }

    pub(super) const fn scalar(&self) -> &Scalar {
        &self.secret
    }

    /// Whose it is.
    #[must_use]
    pub const fn index(&self) -> ShareIndex {
        self.index
    }

    /// The share's public key.
    #[must_use]
    pub fn public(&self) -> Element {
        Element::mul_base(&self.secret)
    }

    /// Suite, place and the secret number: only for sealing.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut bytes = Zeroizing::new([SUITE; Self::LEN]);
        bytes[1] = self.index.get();
        bytes[2..].copy_from_slice(self.secret.as_bytes());
        bytes
    }

    /// Reads a share. Whether it is right says [`Commitments::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] if it is not the encoding of one, or if it is zero.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = super::suited(bytes)?;
        let [place] = super::take(&mut rest)?;
        let index = ShareIndex::new(place).ok_or(DecodeError::Index(place))?;
        let mut secret = super::take(&mut rest)?;
        let scalar = group::scalar(secret);
        secret.zeroize();
        super::done(rest)?;
        let secret = scalar?;
        if secret == Scalar::ZERO { Err(DecodeError::Scalar) } else { Ok(Self { index, secret }) }
    }
}

/// A share that does not fit the commitments: it is not what the dealer committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the share of place {index} is not what was committed to")]
pub struct WrongShare {
    /// Whose it is.
    pub index: ShareIndex,
}

impl Commitments {
    pub(super) const fn new(elements: Vec<Element>) -> Self {
        Self(elements)
    }

    pub(super) fn elements(&self) -> &[Element] {
        &self.0
    }

    /// How many shares it takes.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.0.len()
    }

    /// The public key of the whole key: the same for every sharing of it.
    #[must_use]
    pub fn key(&self) -> &Element {
        &self.0[0]
    }

    /// The public key of a share; `None` for the share that would be zero, which no honest dealing has.
    #[must_use]
    pub fn share_key(&self, index: ShareIndex) -> Option<Element> {
        // By Horner's rule: the index is small, so that each step is a few doublings and not all of a multiplication.
        let step = |sum: RistrettoPoint, next: &Element| times(&sum, index.get()) + next.point();
        let sum = self.0.iter().rev().fold(RistrettoPoint::identity(), step);
        (!sum.is_identity()).then(|| Element::new(sum))
    }

    /// Checks a share.
    ///
    /// # Errors
    /// [`WrongShare`] if it is not what the dealer committed to: who deals so is shown by what it signed and sealed.
    pub fn verify(&self, share: &KeyShare) -> Result<(), WrongShare> {
        let right = self.share_key(share.index).is_some_and(|key| key == share.public());
        if right { Ok(()) } else { Err(WrongShare { index: share.index }) }
    }

    /// Suite, threshold, points.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let threshold = u8::try_from(self.threshold()).unwrap_or(u8::MAX);
        let mut bytes = vec![SUITE, threshold];
        self.0.iter().for_each(|element| bytes.extend_from_slice(element.as_bytes()));
        bytes
    }

    /// Reads commitments.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not the encoding of some.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = super::suited(bytes)?;
        let [threshold] = super::take(&mut rest)?;
        let threshold = usize::from(threshold);
        if !(1..=MAX_COMMITTEE).contains(&threshold) {
            return Err(DecodeError::Count(threshold));
        }
        if rest.len() != threshold * 32 {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        let element = |_| Element::from_bytes(super::take(&mut rest)?);
        (0..threshold).map(element).collect::<Result<_, DecodeError>>().map(Self)
    }
}

/// A public point a few times.
fn times(point: &RistrettoPoint, count: u8) -> RistrettoPoint {
    let bits = (0..u8::BITS - count.leading_zeros()).rev();
    bits.fold(RistrettoPoint::identity(), |sum, bit| {
        let doubled = sum + sum;
        if count >> bit & 1 == 1 { doubled + point } else { doubled }
    })
}

/// 1, and the index to every power below `count`.
pub(super) fn powers(index: ShareIndex, count: usize) -> Vec<Scalar> {
    let at = Scalar::from(index.get());
    std::iter::successors(Some(Scalar::ONE), |power| Some(power * at)).take(count).collect()
}
