//! Handing a key from one committee to the next, without its owner and without anybody ever having it whole.
//!
//! Each old member deals its own share to the new members. Of a threshold of such dealings each new member adds up its
//! parts by Lagrange's coefficients, and so has a share of the same key under a new polynomial: old and new shares do not
//! fit together. With the same committee again it makes shares useless that were stolen before.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use zeroize::Zeroizing;

use crate::crypto::access::dealing::{self, Commitments, Dealing, KeyShare, Sharing, WrongShare, powers};
use crate::crypto::access::group::{self, Element};
use crate::crypto::hash::{Context, derive_key};
use crate::types::ShareIndex;

impl KeyShare {
    /// Deals this share to the members of the next sharing.
    #[must_use]
    pub fn deal(&self, sharing: Sharing, random: &[u8; 32]) -> Dealing {
        dealing::deal(self.scalar(), sharing, random)
    }
}

/// Why old members' dealings, or parts of shares, make no new sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReshareError {
    /// It takes a threshold of different dealers in the order of their places.
    #[error("{have} dealings, in order and each of another member, where {want} are needed")]
    Dealers {
        /// Dealings given.
        have: usize,
        /// Dealings needed.
        want: usize,
    },
    /// A dealer dealt something else than its share.
    #[error("the dealing of place {dealer} is not of its share")]
    NotItsShare {
        /// The dealer.
        dealer: ShareIndex,
    },
    /// A dealer dealt so that it takes another number of shares than it should.
    #[error("the dealing of place {dealer} has another threshold than the next sharing")]
    Threshold {
        /// The dealer.
        dealer: ShareIndex,
    },
    /// A dealer sent a part that it did not commit to.
    #[error("the part from place {dealer} is not what it committed to")]
    WrongPart {
        /// The dealer.
        dealer: ShareIndex,
    },
    /// Not one part of each dealing, all for the same place.
    #[error("there is not one part of each dealing for one place")]
    Parts,
    /// The parts sum up to nothing that fits: cannot be with honest dealers.
    #[error("the dealings do not add up")]
    Sum,
}

/// Dealings of a threshold of old members that were checked against the old sharing, and the sharing that they make.
#[derive(Debug, Clone)]
pub struct Handoff {
    dealings: Vec<(ShareIndex, Commitments)>,
    factors: Vec<Scalar>,
    commitments: Commitments,
}

impl Handoff {
    /// Checks the commitments of old members' dealings to the next sharing, as many as the old threshold and in the order
    /// of their places.
    ///
    /// # Errors
    /// [`ReshareError`] names the dealer whose dealing is not of its share; it is to be left out.
    pub fn new(
        old: &Commitments,
        next: Sharing,
        dealings: Vec<(ShareIndex, Commitments)>,
    ) -> Result<Self, ReshareError> {
        let (have, want) = (dealings.len(), old.threshold());
        if have != want || !dealings.is_sorted_by(|(one, _), (other, _)| one < other) {
            return Err(ReshareError::Dealers { have, want });
        }
        for (dealer, dealing) in &dealings {
            let dealer = *dealer;
            if old.share_key(dealer) != Some(*dealing.key()) {
                return Err(ReshareError::NotItsShare { dealer });
            }
            if dealing.threshold() != next.threshold() {
                return Err(ReshareError::Threshold { dealer });
            }
        }
        let places: Vec<_> = dealings.iter().map(|(dealer, _)| *dealer).collect();
        let factors = group::lagrange(&places);
        let sum = |at: usize| {
            let points = dealings.iter().map(|(_, dealing)| dealing.elements()[at].point());
            let sum = RistrettoPoint::vartime_multiscalar_mul(&factors, points);
            if sum.is_identity() { Err(ReshareError::Sum) } else { Ok(Element::new(sum)) }
        };
        let commitments = Commitments::new((0..next.threshold()).map(sum).collect::<Result<_, _>>()?);
        if commitments.key() != old.key() {
            return Err(ReshareError::Sum);
        }
        Ok(Self { dealings, factors, commitments })
    }

    /// The new sharing.
    #[must_use]
    pub const fn commitments(&self) -> &Commitments {
        &self.commitments
    }

    /// A new member's share from its parts of all dealings, in their order.
    ///
    /// The sum is checked, not each part: what is wrong with some of them and not with their sum does no harm.
    ///
    /// # Errors
    /// [`ReshareError::WrongPart`] names a dealer that sent something else than it committed to, which can be shown to
    /// others with the part.
    pub fn combine(&self, parts: &[KeyShare]) -> Result<KeyShare, ReshareError> {
        let index = parts.first().ok_or(ReshareError::Parts)?.index();
        if parts.len() != self.dealings.len() || parts.iter().any(|part| part.index() != index) {
            return Err(ReshareError::Parts);
        }
        let sum = Zeroizing::new(parts.iter().zip(&self.factors).map(|(part, f)| part.scalar() * f).sum());
        let share = KeyShare::new(index, *sum);
        if self.commitments.verify(&share).is_ok() {
            return Ok(share);
        }
        for ((dealer, dealing), part) in self.dealings.iter().zip(parts) {
            dealing.verify(part).map_err(|WrongShare { .. }| ReshareError::WrongPart { dealer: *dealer })?;
        }
        Err(ReshareError::Sum)
    }
}

/// Checks many shares, or parts of shares, of many sharings at once: for a handful of them it takes little more than for
/// one. `random` must be random bytes that nobody knew when the shares were made.
///
/// # Errors
/// Which of them are wrong, as [`Commitments::verify`] says for each.
pub fn verify_shares(batch: &[(&Commitments, &KeyShare)], random: &[u8; 32]) -> Result<(), Vec<usize>> {
    if batch.is_empty() || sum_is_right(batch, random) {
        return Ok(());
    }
    let wrong = batch.iter().enumerate().filter(|(_, (sharing, share))| sharing.verify(share).is_err());
    Err(wrong.map(|(at, _)| at).collect())
}

/// Whether the shares, each times a random weight, sum up to what their commitments say (small exponents test of
/// [Bellare, Garay and Rabin](https://doi.org/10.1007/BFb0054130)): a wrong one passes once in 2^128.
fn sum_is_right(batch: &[(&Commitments, &KeyShare)], random: &[u8; 32]) -> bool {
    let mut bytes = vec![0; 16 * batch.len()];
    derive_key(Context::BatchWeights, &[random], &mut bytes);
    let weights = bytes.as_chunks().0.iter().map(|bytes| Scalar::from(u128::from_le_bytes(*bytes)));
    let mut secret = Zeroizing::new(Scalar::ZERO);
    let (mut factors, mut points) = (Vec::<Scalar>::new(), Vec::<&RistrettoPoint>::new());
    for ((sharing, share), weight) in batch.iter().zip(weights) {
        *secret += weight * share.scalar();
        factors.extend(powers(share.index(), sharing.threshold()).iter().map(|power| weight * power));
        points.extend(sharing.elements().iter().map(Element::point));
    }
    RistrettoPoint::mul_base(&secret) == RistrettoPoint::vartime_multiscalar_mul(factors, points)
}
