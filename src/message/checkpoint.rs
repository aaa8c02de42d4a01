//! The checkpoint: a tree head of the ledger's log, cosigned by the static nodes one after the other.
//!
//! Text and signatures are those of C2SP: <https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/signed-note>, and
//! <https://c2sp.org/tlog-cosignature> with Ed25519 (type 4) and ML-DSA-44 (type 6). A static node signs with both at
//! one time, and counts only with both, so that what is signed today stays sound when one of the two schemes does not.
//!
//! The log has no key of its own: that a quorum of its cosigners signed *is* its signature, so no line has the
//! origin as its key's name, as tlog-checkpoint ("Signatures") says it should. To others each static node is a
//! cosigner with two keys, its [`vkeys`].
//!
//! Stricter than C2SP: a line by anybody but a member, or out of order, is refused, where signed-note would have it
//! ignored. So a checkpoint of ours has one text for a set of signers, and no byte of it can be changed.

use std::collections::BTreeSet;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

use crate::crypto::ml_dsa::{self, PqKeyPair};
use crate::crypto::sign::{self, KeyPair};
use crate::message::Violation;
use crate::message::canonical::Canonical;
use crate::message::member::{Member, Roster};
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Height, LogHash, NetworkId, PublicKey};

/// Begins each line with a signature: an em dash and a space.
const SIGNATURE_LINE: &str = "\u{2014} ";

/// signed-note, "Signature types": "Timestamped Ed25519 checkpoint cosignatures".
const ED25519_TYPE: u8 = 0x04;
/// signed-note, "Signature types": "Timestamped ML-DSA-44 (sub)tree cosignatures".
const ML_DSA_TYPE: u8 = 0x06;
/// tlog-cosignature, "Format": the timestamp "MUST NOT exceed 2^63 - 1".
const MAX_SECONDS: u64 = u64::MAX >> 1;

/// A tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: see [`Self::origin_of`].
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Their RFC 6962 root.
    pub root: LogHash,
}

impl Checkpoint {
    /// The name of a network's log, and the first part of its cosigners' names.
    #[must_use]
    pub fn origin_of(network: &NetworkId) -> String {
        format!("xvault/{network}")
    }

    /// The tree head of a network's log.
    #[must_use]
    pub fn new(network: &NetworkId, size: u64, root: LogHash) -> Self {
        Self { origin: Self::origin_of(network), size, root }
    }

    /// The text that is signed, tlog-checkpoint, "Note text": origin, size and root, each on a line; no extension lines,
    /// "as they are not auditable by log monitors".
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(&self.root.0))
    }

    /// Reads the three lines.
    fn parse(text: &str) -> Result<Self, Violation> {
        let mut lines = text.split_terminator('\n');
        let mut line = || lines.next().ok_or(Violation::Malformed);
        let (origin, size, root) = (line()?.to_owned(), line()?, line()?);
        let root = BASE64.decode(root.as_bytes()).ok().and_then(|root| LogHash::from_slice(&root));
        let found = Self {
            origin,
            size: size.parse().map_err(|_| Violation::Malformed)?,
            root: root.ok_or(Violation::Malformed)?,
        };
        // Whatever else the number could be written like, and further lines, are not ours.
        if found.text() == text { Ok(found) } else { Err(Violation::Malformed) }
    }

    /// What a cosigner calls itself: tlog-cosignature, "Format", has it like a URL without its scheme.
    fn cosigner(&self, key: &PublicKey) -> String {
        cosigner(&self.origin, key)
    }

    /// `cosigned_message` of tlog-cosignature, "ML-DSA-44 signed message": what the ML-DSA signature is of. For a
    /// checkpoint its `start` is 0 and its `end` the size of the tree.
    fn pq_message(&self, signer: &PublicKey, seconds: u64) -> Vec<u8> {
        let mut message = b"subtree/v1\n\0".to_vec();
        push_name(&self.cosigner(signer), &mut message);
        message.extend_from_slice(&seconds.to_be_bytes());
        push_name(&self.origin, &mut message);
        message.extend_from_slice(&0_u64.to_be_bytes());
        message.extend_from_slice(&self.size.to_be_bytes());
        message.extend_from_slice(&self.root.0);
        message
    }

    /// Cosigns the tree head. Only after the block that leads to it is final and durable.
    #[must_use]
    pub fn cosign(&self, seconds: u64, key: &KeyPair, pq_key: &PqKeyPair) -> Cosignature {
        let signer = key.public();
        Cosignature {
            signer,
            seconds,
            ed25519: key.cosign(seconds, &self.text()),
            ml_dsa: pq_key.sign(&self.pq_message(&signer, seconds)),
        }
    }
}

/// Appends a name after its length in one byte.
fn push_name(name: &str, to: &mut Vec<u8>) {
    to.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(name.as_bytes());
}

fn cosigner(origin: &str, key: &PublicKey) -> String {
    format!("{origin}/{key}")
}

/// A static node's Ed25519 and ML-DSA-44 keys as other clients of logs take them: signed-note, "Verifier keys".
#[must_use]
pub fn vkeys(network: &NetworkId, member: &Member) -> [String; 2] {
    let name = cosigner(&Checkpoint::origin_of(network), &member.key);
    let vkey = |kind, key: &[u8]| {
        let id = HEXLOWER.encode(&key_id(&name, kind, key));
        format!("{name}+{id}+{}", BASE64.encode(&[&[kind], key].concat()))
    };
    [vkey(ED25519_TYPE, member.key.as_bytes()), vkey(ML_DSA_TYPE, &member.pq_key[..])]
}

/// The id of a key in a signed note, tlog-cosignature, "Format": the first four bytes of
/// `SHA-256(<name> || "\n" || <type> || <public key>)`.
fn key_id(name: &str, kind: u8, key: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(key).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// A static node's signatures of a tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Who signed.
    pub signer: PublicKey,
    /// Unix seconds by the signer's clock.
    pub seconds: u64,
    /// Ed25519 signature.
    pub ed25519: [u8; 64],
    /// ML-DSA-44 signature.
    pub ml_dsa: Vec<u8>,
}

impl Cosignature {
    /// Checks both signatures.
    ///
    /// # Errors
    /// [`Violation::BadSignature`], or [`Violation::OutOfBounds`] for a time that the format does not have.
    pub fn verify(&self, checkpoint: &Checkpoint, member: &Member) -> Result<(), Violation> {
        if self.seconds > MAX_SECONDS {
            return Err(Violation::OutOfBounds);
        }
        let message = checkpoint.pq_message(&self.signer, self.seconds);
        sign::verify_cosignature(&member.key, self.seconds, &checkpoint.text(), &self.ed25519)
            .and_then(|()| ml_dsa::verify(&member.pq_key, &message, &self.ml_dsa))
            .map_err(|_| Violation::BadSignature)
    }

    /// The two lines in a signed note, tlog-cosignature, "Format": each is the key's id and a `timestamped_signature`.
    fn lines(&self, checkpoint: &Checkpoint, pq_key: &[u8]) -> String {
        let name = checkpoint.cosigner(&self.signer);
        let line = |kind, key: &[u8], signature: &[u8]| {
            let blob = [&key_id(&name, kind, key)[..], &self.seconds.to_be_bytes(), signature].concat();
            format!("{SIGNATURE_LINE}{name} {}\n", BASE64.encode(&blob))
        };
        let ed25519 = line(ED25519_TYPE, self.signer.as_bytes(), &self.ed25519);
        ed25519 + &line(ML_DSA_TYPE, pq_key, &self.ml_dsa)
    }
}

impl Canonical for Cosignature {
    fn write(&self, to: &mut Vec<u8>) {
        self.signer.write(to);
        self.seconds.write(to);
        self.ed25519.write(to);
        to.extend_from_slice(&self.ml_dsa);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            signer: Canonical::read(from)?,
            seconds: Canonical::read(from)?,
            ed25519: Canonical::read(from)?,
            ml_dsa: <[u8; ml_dsa::SIGNATURE_LEN]>::read(from)?.to_vec(),
        })
    }
}

/// How many static nodes a verifier wants to have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// As many as make a block final.
    Quorum,
    /// Every one, so that to forge a tree head takes every key.
    All,
}

/// A tree head with the cosignatures that are in so far.
///
/// Invariant: cosignatures by ascending signer, one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    cosignatures: Vec<Cosignature>,
}

impl SignedCheckpoint {
    /// A tree head that nobody has signed yet.
    #[must_use]
    pub const fn new(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, cosignatures: Vec::new() }
    }

    /// The tree head.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The cosignatures, by ascending signer.
    #[must_use]
    pub fn cosignatures(&self) -> &[Cosignature] {
        &self.cosignatures
    }

    /// Adds a cosignature that has come in, whenever that is; false if its signer is here already.
    ///
    /// # Errors
    /// [`Violation::NotAMember`], or what [`Cosignature::verify`] says.
    pub fn add(&mut self, cosignature: Cosignature, roster: &Roster) -> Result<bool, Violation> {
        let member = roster.member(&cosignature.signer).ok_or(Violation::NotAMember)?;
        let signer = cosignature.signer;
        let Err(at) = self.cosignatures.binary_search_by_key(&signer, |found| found.signer) else {
            return Ok(false);
        };
        cosignature.verify(&self.checkpoint, member)?;
        self.cosignatures.insert(at, cosignature);
        Ok(true)
    }

    /// Whether enough have signed, without looking at the signatures again.
    #[must_use]
    pub fn satisfies(&self, roster: &Roster, policy: Policy) -> bool {
        let committee = roster.committee();
        let need = match policy {
            Policy::Quorum => committee.quorum(),
            Policy::All => committee.n(),
        };
        self.cosignatures.len() >= need
    }

    /// Checks every cosignature, and that they are enough.
    ///
    /// # Errors
    /// [`Violation::DuplicateSigner`], [`Violation::NotAMember`], [`Violation::NoQuorum`], or what
    /// [`Cosignature::verify`] says; one bad signature is enough.
    pub fn verify(&self, roster: &Roster, policy: Policy) -> Result<(), Violation> {
        let signers: BTreeSet<_> = self.cosignatures.iter().map(|cosignature| cosignature.signer).collect();
        if signers.len() != self.cosignatures.len() {
            return Err(Violation::DuplicateSigner);
        }
        if !signers.iter().all(|signer| roster.committee().contains(signer)) {
            return Err(Violation::NotAMember);
        }
        if !self.satisfies(roster, policy) {
            return Err(Violation::NoQuorum);
        }
        self.cosignatures.iter().try_for_each(|cosignature| {
            let member = roster.member(&cosignature.signer).ok_or(Violation::NotAMember)?;
            cosignature.verify(&self.checkpoint, member)
        })
    }

    /// The signed note that any client of such logs reads. A signer outside the roster is left out.
    #[must_use]
    pub fn to_note(&self, roster: &Roster) -> String {
        let mut note = self.checkpoint.text() + "\n";
        for cosignature in &self.cosignatures {
            if let Some(member) = roster.member(&cosignature.signer) {
                note.push_str(&cosignature.lines(&self.checkpoint, &member.pq_key[..]));
            }
        }
        note
    }

    /// Reads a signed note: exactly what [`to_note`](Self::to_note) writes with this roster.
    /// Nothing is verified.
    ///
    /// # Errors
    /// [`Violation::Malformed`].
    pub fn from_note(note: &str, roster: &Roster) -> Result<Self, Violation> {
        let (_, signatures) = split_note(note)?;
        let checkpoint = Self::head_of_note(note)?;
        let lines: Vec<&str> = signatures.split_terminator('\n').collect();
        let (pairs, odd) = lines.as_chunks::<2>();
        if !odd.is_empty() || pairs.len() > MAX_COMMITTEE {
            return Err(Violation::Malformed);
        }
        let cosignatures = pairs.iter().map(parse_pair).collect::<Result<Vec<_>, _>>()?;
        let found = Self { checkpoint, cosignatures };
        let is_ordered = found.cosignatures.is_sorted_by(|one, next| one.signer < next.signer);
        if is_ordered && found.to_note(roster) == note { Ok(found) } else { Err(Violation::Malformed) }
    }

    /// The tree head of a signed note, whoever signed it.
    ///
    /// # Errors
    /// [`Violation::Malformed`].
    pub fn head_of_note(note: &str) -> Result<Checkpoint, Violation> {
        Checkpoint::parse(split_note(note)?.0)
    }
}

/// The text of a note, with its last newline, and its signatures.
fn split_note(note: &str) -> Result<(&str, &str), Violation> {
    let at = note.find("\n\n").ok_or(Violation::Malformed)?;
    Ok((&note[..=at], &note[at + 2..]))
}

/// Reads the two lines of a cosigner. Names, key ids and times that do not fit show when the note is
/// written again.
fn parse_pair([ed25519, ml_dsa]: &[&str; 2]) -> Result<Cosignature, Violation> {
    let (signer, seconds, ed25519) = parse_line(ed25519)?;
    let (_, _, ml_dsa) = parse_line(ml_dsa)?;
    if ml_dsa.len() != ml_dsa::SIGNATURE_LEN {
        return Err(Violation::Malformed);
    }
    let ed25519 = ed25519.try_into().map_err(|_| Violation::Malformed)?;
    Ok(Cosignature { signer, seconds, ed25519, ml_dsa })
}

fn parse_line(line: &str) -> Result<(PublicKey, u64, Vec<u8>), Violation> {
    let (name, blob) = line
        .strip_prefix(SIGNATURE_LINE)
        .and_then(|rest| rest.split_once(' '))
        .ok_or(Violation::Malformed)?;
    let (_, key) = name.rsplit_once('/').ok_or(Violation::Malformed)?;
    let blob = BASE64.decode(blob.as_bytes()).map_err(|_| Violation::Malformed)?;
    let (_key_id, rest) = blob.split_first_chunk::<4>().ok_or(Violation::Malformed)?;
    let (seconds, signature) = rest.split_first_chunk::<8>().ok_or(Violation::Malformed)?;
    let signer = key.parse().map_err(|_| Violation::Malformed)?;
    Ok((signer, u64::from_be_bytes(*seconds), signature.to_vec()))
}

/// Proof that a static node cosigned a tree head: evidence, if it is not one of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseCosignature {
    /// Who signed.
    pub offender: PublicKey,
    /// The last block whose log is not longer.
    pub height: Height,
    /// Leaves of the tree head.
    pub size: u64,
    /// Its root.
    pub root: LogHash,
    /// Unix seconds.
    pub seconds: u64,
    /// The Ed25519 signature.
    pub signature: [u8; 64],
}

impl FalseCosignature {
    /// Checks that the offender signed the tree head; whether it is false is for the ledger.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, origin: &str) -> Result<(), Violation> {
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: self.size, root: self.root };
        sign::verify_cosignature(&self.offender, self.seconds, &checkpoint.text(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

impl Canonical for FalseCosignature {
    fn write(&self, to: &mut Vec<u8>) {
        self.offender.write(to);
        self.height.write(to);
        self.size.write(to);
        self.root.write(to);
        self.seconds.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            offender: Canonical::read(from)?,
            height: Canonical::read(from)?,
            size: Canonical::read(from)?,
            root: Canonical::read(from)?,
            seconds: Canonical::read(from)?,
            signature: Canonical::read(from)?,
        })
    }
}
