//! The emergency card: what it takes, beside an activation on the ledger, to open an emergency grant.
//!
//! It is a secret, however short: whoever holds it can ask for an emergency, and read what is opened then. It is given as
//! it is (for any emergency department), or sealed to the key package of one ([`SealedCard`]), which is no secret.

use zeroize::Zeroizing;

use crate::crypto::access::{CardSecret, Purpose, SUITE, SealKey, SealPublic};
use crate::crypto::hash::{Context, derive_key};
use crate::message::Violation;
use crate::message::access::emergency::{from_text, to_text};
use crate::message::access::package::read_suite;
use crate::message::canonical::{Canonical, read_bytes, write_bytes};
use crate::types::{GrantId, Hash, NetworkId, VaultId};

const BEGIN: &str = "-----BEGIN XVAULT EMERGENCY CARD-----\n";
const END: &str = "-----END XVAULT EMERGENCY CARD-----\n";
const BEGIN_SEALED: &str = "-----BEGIN XVAULT SEALED EMERGENCY CARD-----\n";
const END_SEALED: &str = "-----END XVAULT SEALED EMERGENCY CARD-----\n";
/// Bytes of a sealed card: the card, the key that it is sealed with, and the tag.
const MAX_SEALED_LEN: usize = 1_400;

/// An emergency card.
#[derive(Debug, Clone)]
pub struct EmergencyCard {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// The grant.
    pub grant: GrantId,
    /// What the grant's keys derive from.
    pub secret: CardSecret,
}

impl EmergencyCard {
    /// So that a mistyped letter is found here, and not by a static node.
    fn checksum(&self) -> [u8; 8] {
        let mut sum = [0; 8];
        let parts = [&self.network.0[..], &self.vault.0, &self.grant.0, self.secret.as_bytes()];
        derive_key(Context::EmergencyCard, &parts, &mut sum);
        sum
    }

    /// The card as text. It is a secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.encode());
        Zeroizing::new(to_text(BEGIN, END, &bytes))
    }

    /// Reads the text of a card.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        Self::decode(&Zeroizing::new(from_text(BEGIN, END, text)?))
    }

    /// Seals the card to a key package's key. `random` must be fresh random bytes.
    #[must_use]
    pub fn seal(&self, number: u32, to: &SealPublic, random: &[u8; 64]) -> SealedCard {
        let plain = Zeroizing::new(self.encode());
        let context = SealedCard::context(&self.network, to);
        let sealed = to.seal(Purpose::Grant, &context.0, &plain, random);
        SealedCard { network: self.network, number, sealed }
    }
}

/// A card that only the owner of a key package can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCard {
    /// The network.
    pub network: NetworkId,
    /// Which of its owner's key packages it is sealed to.
    pub number: u32,
    /// The card, sealed.
    pub sealed: Vec<u8>,
}

impl SealedCard {
    fn context(network: &NetworkId, to: &SealPublic) -> Hash {
        let mut context = Hash([0; 32]);
        derive_key(Context::EmergencyCard, &[&network.0, &to.to_bytes()], &mut context.0);
        context
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`Violation::WrongSigner`] if it is sealed to another key, or as [`Canonical::decode`].
    pub fn open(&self, key: &SealKey) -> Result<EmergencyCard, Violation> {
        let context = Self::context(&self.network, key.public());
        let plain = key.open(Purpose::Grant, &context.0, &self.sealed);
        let card = EmergencyCard::decode(&plain.map_err(|_| Violation::WrongSigner)?)?;
        if card.network == self.network { Ok(card) } else { Err(Violation::WrongNetwork) }
    }

    /// The sealed card as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_text(BEGIN_SEALED, END_SEALED, &self.encode())
    }

    /// Reads the text of a sealed card.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        Self::decode(&from_text(BEGIN_SEALED, END_SEALED, text)?)
    }
}

impl Canonical for EmergencyCard {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.vault.write(to);
        self.grant.write(to);
        self.secret.as_bytes().write(to);
        self.checksum().write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let (network, vault, grant) =
            (Canonical::read(from)?, Canonical::read(from)?, Canonical::read(from)?);
        let secret = Zeroizing::new(<[u8; 32]>::read(from)?);
        let found = Self { network, vault, grant, secret: CardSecret::from_bytes(*secret) };
        if <[u8; 8]>::read(from)? == found.checksum() { Ok(found) } else { Err(Violation::WrongHash) }
    }
}

impl Canonical for SealedCard {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.number.write(to);
        write_bytes(&self.sealed, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            network: Canonical::read(from)?,
            number: Canonical::read(from)?,
            sealed: read_bytes(from, MAX_SEALED_LEN)?,
        })
    }
}
