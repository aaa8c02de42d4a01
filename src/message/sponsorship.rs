//! A sponsor's promise to pay for one vault or one storage node.

use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::canonical::Canonical;
use crate::types::{NetworkId, PublicKey};

/// The promise. It names the author and the vault or node, of which there is one each, so it serves once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sponsorship {
    /// Who pays.
    pub sponsor: PublicKey,
    /// The sponsor's signature.
    pub signature: [u8; 64],
}

impl Sponsorship {
    /// Signs the promise for an author and the 32 bytes that name the vault or the node.
    #[must_use]
    pub fn sign(network: &NetworkId, sponsor: &KeyPair, author: &PublicKey, subject: &[u8; 32]) -> Self {
        let statement = statement(network, author, subject);
        Self { sponsor: sponsor.public(), signature: sponsor.sign(Domain::Sponsorship, &statement) }
    }

    /// Checks the signature; whether the sponsor is one is for the ledger.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(
        &self,
        network: &NetworkId,
        author: &PublicKey,
        subject: &[u8; 32],
    ) -> Result<(), Violation> {
        let statement = statement(network, author, subject);
        sign::verify(&self.sponsor, Domain::Sponsorship, &statement, &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

fn statement(network: &NetworkId, author: &PublicKey, subject: &[u8; 32]) -> Vec<u8> {
    [&network.0[..], &author.0, subject].concat()
}

impl Canonical for Sponsorship {
    fn write(&self, to: &mut Vec<u8>) {
        self.sponsor.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { sponsor: Canonical::read(from)?, signature: Canonical::read(from)? })
    }
}
