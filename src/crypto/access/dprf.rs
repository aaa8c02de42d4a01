//! The vault's pseudorandom function, held by its owner and, in shares, by the static nodes.
//!
//! It is the one of RFC 9497 (ristretto255-SHA512, mode VOPRF) without blinding, as everybody who takes part knows the
//! input. The owner evaluates it alone. A node multiplies with its share and proves that it did; any threshold of such
//! partials give what the owner has ([Naor, Pinkas and Reingold](https://doi.org/10.1007/3-540-48910-X_23)), fewer tell
//! nothing.
//!
//! A node never evaluates a point or an input that it was sent: [`Inputs`] are made of the slot ids that it knows.

use std::collections::BTreeMap;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::crypto::access::dealing::{Commitments, KeyShare};
use crate::crypto::access::dleq::Proof;
use crate::crypto::access::group::{self, Element, hash_to_group, i2osp};
use crate::crypto::access::{DecodeError, SUITE};
use crate::types::limits::MAX_RELEASE_ITEMS;
use crate::types::{ShareIndex, SlotId};

/// A vault's whole PRF key.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PrfKey(Scalar);

/// The output of the PRF for one slot, called b in the design: the half of a slot's key that the static nodes release.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PrfOutput([u8; 64]);

opaque_debug!(PrfKey, PrfOutput, Partial);

impl PrfKey {
    /// The key of 64 secret bytes, reduced.
    #[must_use]
    pub fn from_wide(bytes: &[u8; 64]) -> Self {
        Self(Scalar::from_bytes_mod_order_wide(bytes))
    }

    #[cfg(test)]
    pub(super) const fn from_scalar(scalar: Scalar) -> Self {
        Self(scalar)
    }

    pub(super) const fn scalar(&self) -> &Scalar {
        &self.0
    }

    /// What the sharing's first commitment is if it is of this key.
    #[must_use]
    pub fn public(&self) -> Element {
        Element::mul_base(&self.0)
    }

    /// The output for a slot.
    #[must_use]
    pub fn evaluate(&self, slot: &SlotId) -> PrfOutput {
        self.evaluate_bytes(&slot.to_bytes())
    }

    pub(super) fn evaluate_bytes(&self, input: &[u8]) -> PrfOutput {
        finalize(input, &Zeroizing::new(hash_to_group(input).point() * self.0))
    }
}

impl PrfOutput {
    /// The output of these 64 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl PartialEq for PrfOutput {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PrfOutput {}

/// The output for an input from the point that it leads to, which is as secret (RFC 9497 section 3.3.2).
pub(super) fn finalize(input: &[u8], product: &RistrettoPoint) -> PrfOutput {
    let product = Zeroizing::new(product.compress().to_bytes());
    let output = Sha512::new()
        .chain_update(i2osp(input.len()))
        .chain_update(input)
        .chain_update(i2osp(32))
        .chain_update(*product)
        .chain_update(b"Finalize")
        .finalize();
    PrfOutput(output.into())
}

/// The slots of one request, hashed to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    slots: Vec<[u8; SlotId::LEN]>,
    points: Vec<Element>,
}

impl Inputs {
    /// The inputs of these slots; `None` if there is none, or more than [`MAX_RELEASE_ITEMS`].
    #[must_use]
    pub fn new(slots: &[SlotId]) -> Option<Self> {
        if !(1..=MAX_RELEASE_ITEMS).contains(&slots.len()) {
            return None;
        }
        let slots: Vec<_> = slots.iter().map(SlotId::to_bytes).collect();
        let points = slots.iter().map(|slot| hash_to_group(slot)).collect();
        Some(Self { slots, points })
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub const fn len(&self) -> usize {
        self.points.len()
    }

    #[cfg(test)]
    pub(super) fn hash_bytes(inputs: &[&[u8]]) -> Vec<Element> {
        inputs.iter().map(|input| hash_to_group(input)).collect()
    }
}

/// What one node answers: a point for each input, and one proof that all are made with its share. A threshold of them
/// give the outputs, so each is sealed to who asked.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Partial {
    #[zeroize(skip)]
    from: ShareIndex,
    points: Vec<Element>,
    #[zeroize(skip)]
    proof: Proof,
}

impl KeyShare {
    /// This share's part of the outputs for the inputs. `random` must be fresh random bytes.
    #[must_use]
    pub fn evaluate(&self, inputs: &Inputs, random: &[u8; 32]) -> Partial {
        let secret = self.scalar();
        let points: Vec<_> = inputs.points.iter().map(|point| Element::new(point.point() * secret)).collect();
        let proof = Proof::make(secret, &self.public(), &inputs.points, &points, random);
        Partial { from: self.index(), points, proof }
    }
}

impl Partial {
    /// Whose share made it.
    #[must_use]
    pub const fn from(&self) -> ShareIndex {
        self.from
    }

    /// Suite, place, number of points (u16 little endian), points, proof: only for sealing.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let count = u16::try_from(self.points.len()).unwrap_or(u16::MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 + 32 * self.points.len() + Proof::LEN));
        bytes.extend_from_slice(&[SUITE, self.from.get()]);
        bytes.extend_from_slice(&count.to_le_bytes());
        self.points.iter().for_each(|point| bytes.extend_from_slice(point.as_bytes()));
        bytes.extend_from_slice(&self.proof.to_bytes());
        bytes
    }

    /// Reads a partial.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not the encoding of one. Whether it is right says [`Release::add`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = super::suited(bytes)?;
        let [place] = super::take(&mut rest)?;
        let from = ShareIndex::new(place).ok_or(DecodeError::Index(place))?;
        let count = usize::from(u16::from_le_bytes(super::take(&mut rest)?));
        if !(1..=MAX_RELEASE_ITEMS).contains(&count) {
            return Err(DecodeError::Count(count));
        }
        if rest.len() != count * 32 + Proof::LEN {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        let points = (0..count)
            .map(|_| Element::from_bytes(super::take(&mut rest)?))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { from, points, proof: Proof::from_bytes(rest)? })
    }
}

/// Why a node's partial does not count. All but the last two are the node's fault, and its signature of the partial
/// proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// Not a point for each input.
    #[error("the answer of place {from} has {have} points for {want} inputs")]
    Count {
        /// Whose it is.
        from: ShareIndex,
        /// Points in it.
        have: usize,
        /// Inputs asked for.
        want: usize,
    },
    /// Not made with the share that the sharing's commitments say.
    #[error("the answer of place {from} is not of its share")]
    Proof {
        /// Whose it is.
        from: ShareIndex,
    },
    /// The same node twice.
    #[error("place {from} has answered already")]
    Twice {
        /// Whose it is.
        from: ShareIndex,
    },
    /// Fewer nodes answered than it takes.
    #[error("{have} of {want} answers are there")]
    TooFew {
        /// Answers that count.
        have: usize,
        /// Answers that it takes.
        want: usize,
    },
}

/// Gathers partials until there are enough. Only what verifies against the sharing is taken.
#[derive(Debug, Clone)]
pub struct Release<'a> {
    inputs: &'a Inputs,
    sharing: &'a Commitments,
    partials: BTreeMap<ShareIndex, Partial>,
}

impl<'a> Release<'a> {
    /// Of these inputs, under the key of this sharing.
    #[must_use]
    pub const fn new(inputs: &'a Inputs, sharing: &'a Commitments) -> Self {
        Self { inputs, sharing, partials: BTreeMap::new() }
    }

    /// Checks a partial and keeps it.
    ///
    /// # Errors
    /// [`PartialError`] says what is wrong and whose it is.
    pub fn add(&mut self, partial: Partial) -> Result<(), PartialError> {
        let (from, have) = (partial.from, partial.points.len());
        if self.partials.contains_key(&from) {
            return Err(PartialError::Twice { from });
        }
        if have != self.inputs.len() {
            return Err(PartialError::Count { from, have, want: self.inputs.len() });
        }
        let key = self.sharing.share_key(from).ok_or(PartialError::Proof { from })?;
        if !partial.proof.verify(&key, &self.inputs.points, &partial.points) {
            return Err(PartialError::Proof { from });
        }
        self.partials.insert(from, partial);
        Ok(())
    }

    /// Whether there are enough.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.partials.len() >= self.sharing.threshold()
    }

    /// The outputs, in the order of the inputs: what the owner of the key computes alone.
    ///
    /// # Errors
    /// [`PartialError::TooFew`] if the threshold is not reached.
    pub fn finish(&self) -> Result<Vec<PrfOutput>, PartialError> {
        let want = self.sharing.threshold();
        let have = self.partials.len();
        if have < want {
            return Err(PartialError::TooFew { have, want });
        }
        let chosen: Vec<_> = self.partials.iter().take(want).collect();
        let places: Vec<_> = chosen.iter().map(|(from, _)| **from).collect();
        let factors = group::lagrange(&places);
        let output = |(at, slot): (usize, &[u8; SlotId::LEN])| {
            let points = chosen.iter().map(|(_, partial)| partial.points[at].point());
            // Variable in the factors, which are public, and not in the points.
            let product = Zeroizing::new(RistrettoPoint::vartime_multiscalar_mul(&factors, points));
            finalize(slot, &product)
        };
        Ok(self.inputs.slots.iter().enumerate().map(output).collect())
    }
}
