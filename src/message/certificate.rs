//! The commit certificate: a quorum's precommits for one block, which make it final.
//!
//! It needs nothing but the committee of its height to be checked. A quorum is
//! [`Committee::quorum`]; more signatures may join it later, up to all of the committee.

use crate::crypto::hash::{self, Context};
use crate::crypto::sign::{self, Domain};
use crate::message::Violation;
use crate::message::fields::{Fields, put_count};
use crate::message::vote::{SignedVote, Vote, VoteKind};
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{BlockId, Committee, Hash, Height, NetworkId, PublicKey, Round};

/// The hash of a committee that headers name.
#[must_use]
pub fn committee_hash(committee: &Committee) -> Hash {
    let members: Vec<&[u8]> = committee.members().iter().map(|key| &key.0[..]).collect();
    let mut hash = Hash([0; 32]);
    hash::derive_key(Context::Committee, &members, &mut hash.0);
    hash
}

/// Precommits of one round for one block, in ascending order of their keys. Not checked until
/// [`verify`](Self::verify) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitCertificate {
    /// The height it decides.
    pub height: Height,
    /// The round in which it was decided.
    pub round: Round,
    /// The block that was decided.
    pub block: BlockId,
    /// Who precommitted, and their signatures.
    pub signatures: Vec<(PublicKey, [u8; 64])>,
}

impl CommitCertificate {
    /// The precommit that everyone here signed.
    #[must_use]
    pub const fn vote(&self, network: NetworkId) -> Vote {
        let (height, round, block) = (self.height, self.round, Some(self.block));
        Vote { network, kind: VoteKind::Precommit, height, round, block }
    }

    /// Height, round, block, count, then key and signature of each.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 4 + 32 + 2 + self.signatures.len() * 96);
        bytes.extend_from_slice(&self.height.0.to_le_bytes());
        bytes.extend_from_slice(&self.round.0.to_le_bytes());
        bytes.extend_from_slice(&self.block.0);
        put_signatures(&mut bytes, &self.signatures);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes.
    ///
    /// # Errors
    /// [`Violation::Malformed`], [`Violation::OutOfBounds`], or [`Violation::DuplicateSigner`] if the keys
    /// are not in ascending order.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(bytes);
        let certificate = Self {
            height: fields.height()?,
            round: fields.round()?,
            block: BlockId(fields.array()?),
            signatures: take_signatures(&mut fields)?,
        };
        fields.end()?;
        Ok(certificate)
    }

    /// That a quorum of this committee signed it for this network: then the block is final.
    ///
    /// # Errors
    /// [`Violation::DuplicateSigner`], [`Violation::NotAMember`], [`Violation::NoQuorum`] or
    /// [`Violation::BadSignature`]; one bad signature is enough, also if the others would do.
    pub fn verify(&self, committee: &Committee, network: NetworkId) -> Result<(), Violation> {
        self.check_signers(committee)?;
        if self.signatures.len() < committee.quorum() {
            return Err(Violation::NoQuorum);
        }
        let statement = self.vote(network).encode();
        self.signatures.iter().try_for_each(|(key, signature)| {
            sign::verify(key, Domain::Vote, &statement, signature).map_err(|_| Violation::BadSignature)
        })
    }

    /// That its signers are distinct members, in order. The signatures are not looked at.
    ///
    /// # Errors
    /// [`Violation::DuplicateSigner`] or [`Violation::NotAMember`].
    pub fn check_signers(&self, committee: &Committee) -> Result<(), Violation> {
        if !ascending(&self.signatures) {
            return Err(Violation::DuplicateSigner);
        }
        match self.signatures.iter().all(|(key, _)| committee.contains(key)) {
            true => Ok(()),
            false => Err(Violation::NotAMember),
        }
    }

    /// The signature of a member, if it is here.
    #[must_use]
    pub fn signature(&self, key: &PublicKey) -> Option<&[u8; 64]> {
        let at = self.signatures.binary_search_by_key(key, |(key, _)| *key).ok()?;
        Some(&self.signatures[at].1)
    }

    /// Adds a verified precommit; false if it is of another decision or its voter is here already.
    pub fn add(&mut self, vote: &SignedVote) -> bool {
        if self.vote(vote.vote.network) != vote.vote {
            return false;
        }
        let Err(at) = self.signatures.binary_search_by_key(&vote.voter, |(key, _)| *key) else {
            return false;
        };
        self.signatures.insert(at, (vote.voter, vote.signature));
        true
    }

    /// Its precommits, one by one.
    pub fn votes(&self, network: NetworkId) -> impl Iterator<Item = SignedVote> + '_ {
        let vote = self.vote(network);
        self.signatures.iter().map(move |&(voter, signature)| SignedVote { vote, voter, signature })
    }
}

/// Whether keys are distinct and in order: the one form that a set of signers has.
fn ascending(signatures: &[(PublicKey, [u8; 64])]) -> bool {
    signatures.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

/// Writes what [`take_signatures`] reads.
///
/// # Panics
/// If there are more than 65,535.
pub fn put_signatures(out: &mut Vec<u8>, signatures: &[(PublicKey, [u8; 64])]) {
    put_count(out, signatures.len());
    for (key, signature) in signatures {
        out.extend_from_slice(&key.0);
        out.extend_from_slice(signature);
    }
}

/// Reads keys with signatures: at most a committee of them, in ascending order.
///
/// # Errors
/// [`Violation::OutOfBounds`] if there are more, [`Violation::DuplicateSigner`] if out of order.
pub fn take_signatures(fields: &mut Fields<'_>) -> Result<Vec<(PublicKey, [u8; 64])>, Violation> {
    let count = fields.count(MAX_COMMITTEE)?;
    let signatures = (0..count).map(|_| Ok((fields.key()?, fields.array()?)));
    let signatures: Vec<_> = signatures.collect::<Result<_, Violation>>()?;
    if ascending(&signatures) { Ok(signatures) } else { Err(Violation::DuplicateSigner) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::KeyPair;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn pairs(n: u8) -> Vec<KeyPair> {
        (1..=n).map(|nth| KeyPair::from_secret(&[nth; 32])).collect()
    }

    fn committee(n: u8) -> Committee {
        Committee::new(pairs(n).iter().map(KeyPair::public).collect()).unwrap()
    }

    /// Signed by the first `signers` of `n`.
    fn certificate(n: u8, signers: usize) -> CommitCertificate {
        let (height, round, block) = (Height(4), Round(1), BlockId([3; 32]));
        let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
        let vote = certificate.vote(NETWORK);
        assert!(pairs(n)[..signers].iter().all(|pair| certificate.add(&vote.sign(pair))));
        certificate
    }

    #[test]
    fn a_quorum_is_enough_and_one_less_is_not() {
        for n in 1..=21 {
            let quorum = committee(n).quorum();
            for signers in 0..=usize::from(n) {
                let expected = if signers < quorum { Err(Violation::NoQuorum) } else { Ok(()) };
                assert_eq!(certificate(n, signers).verify(&committee(n), NETWORK), expected, "{signers}/{n}");
            }
        }
    }

    #[test]
    fn every_changed_field_is_refused_by_name() {
        type Change = fn(&mut CommitCertificate);
        let changes: [(Change, Violation); 9] = [
            (|c| c.height.0 ^= 1, Violation::BadSignature),
            (|c| c.round.0 ^= 1, Violation::BadSignature),
            (|c| c.block.0[0] ^= 1, Violation::BadSignature),
            (|c| c.signatures[1].1[7] ^= 1, Violation::BadSignature),
            (|c| c.signatures[3].0 = PublicKey([0xff; 32]), Violation::NotAMember),
            (|c| c.signatures[2] = c.signatures[1], Violation::DuplicateSigner),
            (|c| c.signatures.swap(0, 1), Violation::DuplicateSigner),
            (|c| c.signatures.truncate(2), Violation::NoQuorum),
            (|c| c.signatures.clear(), Violation::NoQuorum),
        ];
        for (at, (change, violation)) in changes.into_iter().enumerate() {
            let mut changed = certificate(4, 4);
            change(&mut changed);
            assert_eq!(changed.verify(&committee(4), NETWORK), Err(violation), "change {at}");
        }
        let good = certificate(4, 4);
        assert_eq!(good.verify(&committee(4), NetworkId([2; 32])), Err(Violation::BadSignature));
        assert_eq!(good.verify(&committee(3), NETWORK), Err(Violation::NotAMember));
    }

    #[test]
    fn prevotes_and_votes_for_none_make_no_certificate() {
        let good = certificate(4, 3);
        let vote = good.vote(NETWORK);
        for other in [Vote { kind: VoteKind::Prevote, ..vote }, Vote { block: None, ..vote }] {
            let mut forged = good.clone();
            assert!(!forged.add(&other.sign(&pairs(4)[3])));
            for (key, signature) in &mut forged.signatures {
                let pair = pairs(4).into_iter().find(|pair| pair.public() == *key).unwrap();
                *signature = other.sign(&pair).signature;
            }
            assert_eq!(forged.verify(&committee(4), NETWORK), Err(Violation::BadSignature));
        }
    }

    #[test]
    fn a_certificate_grows_to_all_members_and_no_further() {
        let mut grown = certificate(4, 3);
        let last = grown.vote(NETWORK).sign(&pairs(4)[3]);
        assert!(grown.add(&last) && !grown.add(&last));
        assert_eq!(grown, certificate(4, 4));
        assert_eq!(grown.signature(&last.voter), Some(&last.signature));
        assert_eq!(grown.votes(NETWORK).count(), 4);
        assert!(grown.votes(NETWORK).all(|vote| vote.verify(NETWORK).is_ok()));
    }

    #[test]
    fn what_no_certificate_encodes_to_is_refused() {
        let good = certificate(4, 3).encode();
        assert_eq!(CommitCertificate::decode(&good), Ok(certificate(4, 3)));
        assert_eq!(CommitCertificate::decode(&[&good[..], &[0]].concat()), Err(Violation::Malformed));
        for len in 0..good.len() {
            assert!(CommitCertificate::decode(&good[..len]).is_err(), "{len} bytes");
        }
        let mut many = good;
        many[44] = 65;
        assert_eq!(CommitCertificate::decode(&many), Err(Violation::OutOfBounds));
        let mut unsorted = certificate(4, 3);
        unsorted.signatures.swap(0, 1);
        assert_eq!(CommitCertificate::decode(&unsorted.encode()), Err(Violation::DuplicateSigner));
    }

    #[test]
    fn committees_that_differ_hash_differently() {
        assert_eq!(committee_hash(&committee(4)), committee_hash(&committee(4)));
        assert_ne!(committee_hash(&committee(4)), committee_hash(&committee(5)));
    }
}
