//! Ed25519 signatures over domain-separated bytes.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::crypto::hash::length_prefix;
use crate::types::PublicKey;

/// What a signature is for: the tag is signed before the message, so that no signature of one kind
/// passes as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A storage node's promise to hold a shard.
    CustodyReceipt,
    /// An author's wish to change the ledger.
    Transaction,
    /// A static node's approval of a change of the network's rules or members.
    Governance,
    /// A new static node's proof that it has the key that is to become a member.
    StaticKey,
    /// A sponsor's promise to pay for a vault or a storage node.
    Sponsorship,
    /// A static node's vote on a block.
    Vote,
    /// A static node's proposal of a block.
    Proposal,
    /// A grantee's request that records be opened for it.
    OpenRequest,
    /// A static node's answer to that.
    OpenReply,
    /// A static node's key to seal shares to.
    SealKey,
    /// A static node's word that it has a package or a revocation durably.
    AccessAck,
    /// A key package, by the key that the owner knows.
    KeyPackage,
    /// A static node's word of how far its access log of a vault is.
    LogHead,
    /// An authority's word that a key is of a clinician.
    RoleCertificate,
    /// Proof that who asks for an emergency has the grant's key.
    EmergencyRequest,
    /// A static node's word that keyslots are gone.
    DeletionReceipt,
    /// A storage node's word that shards are gone.
    ReleaseReceipt,
    /// A request to recover a vault, by the key that was made for it.
    RecoveryRequest,
    /// A guardian's word of what it released for a request.
    RecoveryRelease,
    /// A static node's key for what one old member deals to it in one package.
    HandoffKey,
}

impl Domain {
    const fn tag(self) -> &'static [u8] {
        match self {
            Self::CustodyReceipt => b"xvault v1 custody receipt",
            Self::Transaction => b"xvault v1 transaction",
            Self::Governance => b"xvault v1 governance",
            Self::StaticKey => b"xvault v1 static key",
            Self::Sponsorship => b"xvault v1 sponsorship",
            Self::Vote => b"xvault v1 vote",
            Self::Proposal => b"xvault v1 proposal",
            Self::OpenRequest => b"xvault v1 open request",
            Self::OpenReply => b"xvault v1 open reply",
            Self::SealKey => b"xvault v1 seal key",
            Self::AccessAck => b"xvault v1 access ack",
            Self::KeyPackage => b"xvault v1 key package",
            Self::LogHead => b"xvault v1 access log head",
            Self::RoleCertificate => b"xvault v1 role certificate",
            Self::EmergencyRequest => b"xvault v1 emergency request",
            Self::DeletionReceipt => b"xvault v1 deletion receipt",
            Self::ReleaseReceipt => b"xvault v1 release receipt",
            Self::RecoveryRequest => b"xvault v1 recovery request",
            Self::RecoveryRelease => b"xvault v1 recovery release",
            Self::HandoffKey => b"xvault v1 handoff key",
        }
    }
}

/// The signature does not verify, or the key is not a sound one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// An Ed25519 key pair: the identity of a node or of a vault's owner. The secret is wiped on drop.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// The key pair of a 32-byte secret (RFC 8032 section 5.1.5).
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The identity that others see.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The secret, for the TLS stack and the key file.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Signs a message of the domain.
    #[must_use]
    pub fn sign(&self, domain: Domain, message: &[u8]) -> [u8; 64] {
        self.0.sign(&tagged(domain, message)).to_bytes()
    }

    /// Cosigns a checkpoint of the transparency log as C2SP tlog-cosignature has it, in which the
    /// message has no tag of ours but begins with a line of its own.
    #[must_use]
    pub fn cosign(&self, seconds: u64, checkpoint: &str) -> [u8; 64] {
        self.0.sign(&cosigned(seconds, checkpoint)).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public().short())
    }
}

/// Checks a signature strictly: small-order and non-canonical keys and points are refused.
///
/// # Errors
/// [`BadSignature`] if it is not this key's signature of this message in this domain.
pub fn verify(
    key: &PublicKey,
    domain: Domain,
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| BadSignature)?;
    key.verify_strict(&tagged(domain, message), &Signature::from_bytes(signature)).map_err(|_| BadSignature)
}

/// Checks a cosignature of a checkpoint, as strictly as [`verify`].
///
/// # Errors
/// [`BadSignature`] if it is not this key's cosignature of this checkpoint at this time.
pub fn verify_cosignature(
    key: &PublicKey,
    seconds: u64,
    checkpoint: &str,
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| BadSignature)?;
    key.verify_strict(&cosigned(seconds, checkpoint), &Signature::from_bytes(signature))
        .map_err(|_| BadSignature)
}

/// What a cosignature of a checkpoint signs. Read as the length of a tag its first four bytes are
/// over a billion, so no message of a [`Domain`] is one of these.
fn cosigned(seconds: u64, checkpoint: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{checkpoint}").into_bytes()
}

/// What is signed: the length of the domain's tag (u32 little endian), the tag, the message.
fn tagged(domain: Domain, message: &[u8]) -> Vec<u8> {
    let tag = domain.tag();
    [&length_prefix(tag)[..], tag, message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_domain_message_and_signature_verify() {
        let pair = KeyPair::from_secret(&[1; 32]);
        let signature = pair.sign(Domain::CustodyReceipt, b"message");
        assert_eq!(verify(&pair.public(), Domain::CustodyReceipt, b"message", &signature), Ok(()));
        assert!(verify(&pair.public(), Domain::CustodyReceipt, b"massage", &signature).is_err());
        let other = KeyPair::from_secret(&[2; 32]).public();
        assert!(verify(&other, Domain::CustodyReceipt, b"message", &signature).is_err());
        assert!(verify(&PublicKey([0; 32]), Domain::CustodyReceipt, b"message", &signature).is_err());
        for at in 0..64 {
            let mut changed = signature;
            changed[at] ^= 1;
            assert!(verify(&pair.public(), Domain::CustodyReceipt, b"message", &changed).is_err());
        }
    }

    #[test]
    fn a_cosignature_is_of_one_checkpoint_and_time_and_of_no_domain() {
        let pair = KeyPair::from_secret(&[1; 32]);
        let signature = pair.cosign(7, "o\n1\nh\n");
        assert_eq!(verify_cosignature(&pair.public(), 7, "o\n1\nh\n", &signature), Ok(()));
        assert!(verify_cosignature(&pair.public(), 8, "o\n1\nh\n", &signature).is_err());
        assert!(verify_cosignature(&pair.public(), 7, "o\n2\nh\n", &signature).is_err());
        assert!(u32::from_le_bytes(*b"cosi") > 1_000_000_000);
    }

    #[test]
    fn a_key_pair_does_not_show_its_secret() {
        let text = format!("{:?}", KeyPair::from_secret(&[0xab; 32]));
        assert!(!text.contains("abab") && !text.contains("171"), "{text}");
    }
}
