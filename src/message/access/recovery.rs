//! Recovery by guardians: who they are, what each has, what is asked of them, and what they give.
//!
//! The ledger has the guardians by keys that are known for nothing else, hashes of their parts, a commitment to the secret,
//! and how long the owner has to object. A share ([`GuardianShare`]) goes to each by hand; a request ([`RecoveryRequest`]) too,
//! so that guardians see who asks; what they release ([`Release`]) waits at the static nodes.

use zeroize::Zeroizing;

use crate::crypto::access::{Purpose, SUITE, SealKey, SealPublic};
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::shamir::{Part, part_hash};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::body::{MAX_NOTE_LEN, read_text};
use crate::message::access::package::{read_seal_public, read_suite};
use crate::message::base64_lines;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{
    MAX_GUARDIANS, MAX_RECOVERY_DELAY_MICROS, MAX_RECOVERY_REQUEST_LEN, MAX_SEALED_PART_LEN,
};
use crate::types::{Hash, NetworkId, PublicKey, Timestamp, VaultId};

/// What the texts begin and end with.
const SHARE: &str = "XVAULT GUARDIAN SHARE";
const REQUEST: &str = "XVAULT RECOVERY REQUEST";

/// One of a vault's guardians, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guardian {
    /// The key by which it approves: made for this alone, so that the ledger does not show who it is.
    pub key: PublicKey,
    /// [`part_hash`] of its part.
    pub part: Hash,
}

/// A vault's guardians, all cut at once. Its author is the vault's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardianSet {
    /// The vault.
    pub vault: VaultId,
    /// Its number: the vault's first set is 1, and the next one ends it.
    pub number: u32,
    /// How many of them it takes.
    pub threshold: u8,
    /// Microseconds of the ledger's time between a request and its release, in which the owner can object.
    pub delay_micros: u64,
    /// [`commitment`](crate::crypto::shamir::commitment) to the secret.
    pub commitment: Hash,
    /// Them, in the order of their places.
    pub guardians: Vec<Guardian>,
}

impl GuardianSet {
    /// The place of a guardian by its key, from 1.
    #[must_use]
    pub fn place(&self, key: &PublicKey) -> Option<u8> {
        let at = self.guardians.iter().position(|guardian| guardian.key == *key)?;
        u8::try_from(at + 1).ok()
    }

    /// The guardian of a place.
    #[must_use]
    pub fn at(&self, place: u8) -> Option<&Guardian> {
        self.guardians.get(usize::from(place).checked_sub(1)?)
    }
}

/// A guardian's share: a file for it alone, of which nobody else can open the part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardianShare {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// The set.
    pub set: u32,
    /// How many it takes.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
    /// The guardian's place.
    pub place: u8,
    /// The guardian's key, as in its key package.
    pub key: PublicKey,
    /// The number of that package.
    pub package: u32,
    /// [`part_hash`] of the part.
    pub part: Hash,
    /// Commitment to the secret.
    pub commitment: Hash,
    /// What the owner says of it, for the guardian.
    pub note: String,
    /// The part's bytes, sealed to the key package.
    pub sealed: Vec<u8>,
}

impl GuardianShare {
    /// Seals a guardian's part for it; the share's own `sealed` is not looked at. `random` must be fresh.
    #[must_use]
    pub fn seal(mut self, to: &SealPublic, part: &Part, random: &[u8; 64]) -> Self {
        self.sealed = to.seal(Purpose::Guardian, &self.context(), part.as_bytes(), random);
        self
    }

    /// The part, if it is sealed to this key and is the one that its hash names.
    ///
    /// # Errors
    /// [`Violation::WrongShare`].
    pub fn open(&self, key: &SealKey) -> Result<Part, Violation> {
        let plain = key.open(Purpose::Guardian, &self.context(), &self.sealed);
        let plain = plain.map_err(|_| Violation::WrongShare)?;
        part_of(self.place, &plain)
            .filter(|part| part_hash(&self.vault, self.set, part) == self.part)
            .ok_or(Violation::WrongShare)
    }

    /// All that is said of the part: changed in any bit, it does not open.
    fn context(&self) -> [u8; 32] {
        let mut context = [0; 32];
        let header = Self { sealed: Vec::new(), ..self.clone() };
        derive_key(Context::GuardianShare, &[&header.encode()], &mut context);
        context
    }

    /// The share as text, to send it to the guardian.
    #[must_use]
    pub fn to_text(&self) -> String {
        armored(SHARE, &self.encode())
    }

    /// Reads the text of a share.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        Self::decode(&unarmored(SHARE, text)?)
    }
}

/// The part of a place whose bytes these are.
fn part_of(place: u8, bytes: &[u8]) -> Option<Part> {
    let bytes = Zeroizing::new(<[u8; 32]>::try_from(bytes).ok()?);
    Part::new(place, *bytes)
}

/// What somebody who has lost all keys gives to guardians: keys that were made for this, signed with one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryRequest {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// The key that signs it and fetches what is released.
    pub key: PublicKey,
    /// What is released is sealed to this.
    pub seal: SealPublic,
    /// When it was made.
    pub created: Timestamp,
    /// Who asks, in their own words: nothing proves them.
    pub name: String,
    /// The signature.
    pub signature: [u8; 64],
}

impl RecoveryRequest {
    /// Signs what is to be in a request.
    #[must_use]
    pub fn sign(mut self, key: &KeyPair) -> Self {
        self.key = key.public();
        self.signature = key.sign(Domain::RecoveryRequest, &self.statement());
        self
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self) -> Result<(), Violation> {
        sign::verify(&self.key, Domain::RecoveryRequest, &self.statement(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }

    fn statement(&self) -> Vec<u8> {
        Self { signature: [0; 64], ..self.clone() }.encode()
    }

    /// What the ledger knows it by. People compare its beginning.
    #[must_use]
    pub fn id(&self) -> Hash {
        let mut id = Hash([0; 32]);
        derive_key(Context::RecoveryRequest, &[&self.encode()], &mut id.0);
        id
    }

    /// The request as text, to send it to guardians.
    #[must_use]
    pub fn to_text(&self) -> String {
        armored(REQUEST, &self.encode())
    }

    /// Reads the text of a request.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        Self::decode(&unarmored(REQUEST, text)?)
    }

    /// Reads a request that is part of something said to a static node.
    ///
    /// # Errors
    /// [`Violation::TooLong`], or as [`Canonical::decode`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_RECOVERY_REQUEST_LEN { Err(Violation::TooLong) } else { Self::decode(bytes) }
    }
}

/// A guardian's part for who asked, signed by the guardian: whose part is wrong is known then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The guardian's place.
    pub place: u8,
    /// The part's bytes, sealed to the request's key.
    pub sealed: Vec<u8>,
    /// The guardian's signature.
    pub signature: [u8; 64],
}

impl Release {
    /// Seals a part for a request and signs that. `random` must be fresh.
    #[must_use]
    pub fn make(
        request: &RecoveryRequest,
        set: u32,
        part: &Part,
        guardian: &KeyPair,
        random: &[u8; 64],
    ) -> Self {
        let context = Self::context(&request.id(), set, part.place());
        let sealed = request.seal.seal(Purpose::Guardian, &context, part.as_bytes(), random);
        let signature = guardian.sign(Domain::RecoveryRelease, &Self::statement(&context, &sealed));
        Self { place: part.place(), sealed, signature }
    }

    /// Checks that the guardian of this set signed it for this request.
    ///
    /// # Errors
    /// [`Violation::NotAMember`] if the set has no such place, [`Violation::BadSignature`].
    pub fn verify(&self, request: &Hash, set: &GuardianSet) -> Result<(), Violation> {
        let guardian = set.at(self.place).ok_or(Violation::NotAMember)?;
        let statement = Self::statement(&Self::context(request, set.number, self.place), &self.sealed);
        sign::verify(&guardian.key, Domain::RecoveryRelease, &statement, &self.signature)
            .map_err(|_| Violation::BadSignature)
    }

    /// The part, if it is sealed to this key for this request and is the one that the set commits to.
    ///
    /// # Errors
    /// [`Violation::WrongShare`]: the guardian's doing, if the signature is good.
    pub fn open(&self, request: &Hash, set: &GuardianSet, key: &SealKey) -> Result<Part, Violation> {
        let context = Self::context(request, set.number, self.place);
        let plain = key.open(Purpose::Guardian, &context, &self.sealed).map_err(|_| Violation::WrongShare)?;
        let part = part_of(self.place, &plain).ok_or(Violation::WrongShare)?;
        let is_named = set.at(self.place).map(|guardian| guardian.part);
        if is_named == Some(part_hash(&set.vault, set.number, &part)) {
            Ok(part)
        } else {
            Err(Violation::WrongShare)
        }
    }

    /// What a static node signs that it has.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::Package, &[&self.encode()], &mut hash.0);
        hash
    }

    fn context(request: &Hash, set: u32, place: u8) -> [u8; 32] {
        let mut context = [0; 32];
        let parts = [&request.0[..], &set.to_le_bytes(), &[place]];
        derive_key(Context::RecoveryRelease, &parts, &mut context);
        context
    }

    fn statement(context: &[u8; 32], sealed: &[u8]) -> Vec<u8> {
        [&context[..], sealed].concat()
    }
}

fn armored(what: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {what}-----\n");
    base64_lines::write(bytes, &mut text);
    text.push_str(&format!("-----END {what}-----\n"));
    text
}

/// The bytes of a text; white space at line ends and around it is what mail makes of it.
fn unarmored(what: &str, text: &str) -> Result<Vec<u8>, Violation> {
    let begin = format!("-----BEGIN {what}-----");
    let inner =
        text.trim().strip_prefix(&begin).and_then(|rest| rest.strip_suffix(&format!("-----END {what}-----")));
    let inner: Vec<&str> = inner.ok_or(Violation::Malformed)?.split_whitespace().collect();
    base64_lines::read(&inner.concat())
}

impl Canonical for Guardian {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.part.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: Canonical::read(from)?, part: Canonical::read(from)? })
    }
}

/// Whether there may be so many guardians of whom it takes so many: one of them alone would have the whole secret.
fn is_sound(threshold: u8, count: usize) -> bool {
    (2..=MAX_GUARDIANS).contains(&count) && (2..=count).contains(&usize::from(threshold))
}

impl Canonical for GuardianSet {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.number.write(to);
        self.threshold.write(to);
        self.delay_micros.write(to);
        self.commitment.write(to);
        write_list(&self.guardians, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            number: Canonical::read(from)?,
            threshold: Canonical::read(from)?,
            delay_micros: Canonical::read(from)?,
            commitment: Canonical::read(from)?,
            guardians: read_list(from, MAX_GUARDIANS)?,
        };
        let mut keys: Vec<_> = found.guardians.iter().map(|guardian| guardian.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let is_sound = is_sound(found.threshold, found.guardians.len())
            && keys.len() == found.guardians.len()
            && (1..=MAX_RECOVERY_DELAY_MICROS).contains(&found.delay_micros);
        if is_sound { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for GuardianShare {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.vault.write(to);
        self.set.write(to);
        for number in [self.threshold, self.count, self.place] {
            number.write(to);
        }
        self.key.write(to);
        self.package.write(to);
        self.part.write(to);
        self.commitment.write(to);
        write_bytes(self.note.as_bytes(), to);
        write_bytes(&self.sealed, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let found = Self {
            network: Canonical::read(from)?,
            vault: Canonical::read(from)?,
            set: Canonical::read(from)?,
            threshold: Canonical::read(from)?,
            count: Canonical::read(from)?,
            place: Canonical::read(from)?,
            key: Canonical::read(from)?,
            package: Canonical::read(from)?,
            part: Canonical::read(from)?,
            commitment: Canonical::read(from)?,
            note: read_text(from, MAX_NOTE_LEN)?,
            sealed: read_bytes(from, MAX_SEALED_PART_LEN)?,
        };
        let is_sound =
            is_sound(found.threshold, found.count.into()) && (1..=found.count).contains(&found.place);
        if is_sound { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for RecoveryRequest {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.vault.write(to);
        self.key.write(to);
        to.extend_from_slice(&self.seal.to_bytes());
        self.created.write(to);
        write_bytes(self.name.as_bytes(), to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            network: Canonical::read(from)?,
            vault: Canonical::read(from)?,
            key: Canonical::read(from)?,
            seal: read_seal_public(from)?,
            created: Canonical::read(from)?,
            name: read_text(from, MAX_NOTE_LEN)?,
            signature: Canonical::read(from)?,
        })
    }
}

impl Canonical for Release {
    fn write(&self, to: &mut Vec<u8>) {
        self.place.write(to);
        write_bytes(&self.sealed, to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            place: Canonical::read(from)?,
            sealed: read_bytes(from, MAX_SEALED_PART_LEN)?,
            signature: Canonical::read(from)?,
        })
    }
}
