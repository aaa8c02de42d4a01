//! The erasure certificate: what was erased, who signed that nothing of it is left, and what remains with whom. It needs nothing
//! but the genesis to be checked.
//!
//! The owner states it and puts the statement's hash on the ledger, which takes it only if it has carried out the erasures
//! that it is of. So one proof, that of the claim, says when all of it was erased at the latest.
//!
//! The file is a C2SP `tlog-proof` of the claim, <https://c2sp.org/tlog-proof>, as an
//! [`AnchorReceipt`](crate::message::AnchorReceipt) is one of an anchor; statement and the rest are in its `extra` line.

use std::collections::BTreeSet;

use data_encoding::BASE64;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::log_tree::MAX_PROOF_LEN;
use crate::message::Violation;
use crate::message::access::erasure::{CarriedOut, DeletionReceipt, Erasure, ErasureClaim, ReleaseReceipt};
use crate::message::anchor_receipt::{FILE_HEADER, LogProof, parse_hash};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::message::checkpoint::Policy;
use crate::message::genesis::Genesis;
use crate::message::member::Roster;
use crate::message::transaction::{Action, SignedTransaction};
use crate::types::limits::{
    MAX_CERTIFICATE_LEN, MAX_CERTIFICATE_ROWS, MAX_CLAIM_ERASURES, MAX_RECEIPT_STEPS, MAX_SUBJECT_LEN,
};
use crate::types::{
    GrantId, Hash, Height, NetworkId, PublicKey, RecordTag, SegmentId, Timestamp, VaultId, VersionId,
};

/// Which statements are written and read here.
const FORMAT: u8 = 1;

/// An erasure and its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedErasure {
    /// Its block.
    pub height: Height,
    /// What was erased.
    pub erasure: Erasure,
}

/// What the owner calls a record of which something was erased. Nobody else can tell names from tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRecord {
    /// The record.
    pub record: RecordTag,
    /// Its address.
    pub name: String,
}

/// What remains after an erasure, and with whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remainder {
    /// A static node that has not signed yet that its keyslots are gone.
    Keyslots {
        /// The static node.
        node: PublicKey,
    },
    /// Ciphertext that nobody can open any more, in a segment that other records use.
    Shared {
        /// The segment.
        segment: SegmentId,
    },
    /// Ciphertext that nobody can open any more, at a storage node that has not signed that it is gone.
    Shard {
        /// The segment.
        segment: SegmentId,
        /// The storage node.
        node: PublicKey,
    },
    /// A durable collection, whose data keys are in commits: whoever has the seed and kept enough shards reads it.
    Durable {
        /// What the owner calls it.
        collection: String,
    },
    /// What somebody made of a record that they opened before it was erased.
    Opened {
        /// The grant by which it was opened.
        grant: GrantId,
        /// The record.
        record: RecordTag,
        /// The version.
        version: VersionId,
        /// When, by the clock of the static node that was first.
        time: Timestamp,
    },
}

/// What a certificate states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureStatement {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// What the owner calls what was erased.
    pub subject: String,
    /// When it was stated, by the owner's clock.
    pub stated: Timestamp,
    /// What was erased.
    pub erasures: Vec<CertifiedErasure>,
    /// What the owner calls the records, where it still knew.
    pub names: Vec<NamedRecord>,
    /// Of static nodes.
    pub deletions: Vec<DeletionReceipt>,
    /// Of storage nodes.
    pub releases: Vec<ReleaseReceipt>,
    /// What remains.
    pub remains: Vec<Remainder>,
    /// What remains besides, for which there is no room here.
    pub unlisted: u32,
}

impl ErasureStatement {
    /// The hash that the ledger has.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::ErasureCertificate, &[&self.encode()], &mut hash.0);
        hash
    }

    /// What the ledger is told.
    #[must_use]
    pub fn claim(&self) -> ErasureClaim {
        let carried_out =
            |found: &CertifiedErasure| CarriedOut { erasure: found.erasure.hash(), height: found.height };
        let erasures = self.erasures.iter().map(carried_out).collect();
        ErasureClaim { vault: self.vault, certificate: self.hash(), erasures }
    }

    /// Those of these static nodes that signed for every erasure.
    #[must_use]
    pub fn signers(&self, roster: &Roster) -> BTreeSet<PublicKey> {
        let hashes: Vec<Hash> = self.erasures.iter().map(|found| found.erasure.hash()).collect();
        let has_signed = |node: &PublicKey, erasure: &Hash| {
            self.deletions.iter().any(|receipt| receipt.node == *node && receipt.erasure == *erasure)
        };
        let members = roster.members().iter().map(|member| member.key);
        members.filter(|node| hashes.iter().all(|erasure| has_signed(node, erasure))).collect()
    }

    /// Checks all signatures, and that a quorum of the static nodes signed.
    fn verify(&self, network: &NetworkId, roster: &Roster) -> Result<(), Violation> {
        if self.network != *network {
            return Err(Violation::WrongNetwork);
        }
        let hashes: BTreeSet<Hash> = self.erasures.iter().map(|found| found.erasure.hash()).collect();
        for found in &self.erasures {
            if found.erasure.vault != self.vault {
                return Err(Violation::WrongReceipt);
            }
        }
        for receipt in &self.deletions {
            if !hashes.contains(&receipt.erasure) {
                return Err(Violation::WrongReceipt);
            }
            receipt.verify(network, &self.vault)?;
        }
        self.releases.iter().try_for_each(|receipt| receipt.verify(network, &self.vault))?;
        if self.signers(roster).len() < roster.committee().quorum() {
            return Err(Violation::NoQuorum);
        }
        Ok(())
    }
}

/// A certificate. It proves nothing until [`verify`](Self::verify) says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureCertificate {
    /// What it states.
    pub statement: ErasureStatement,
    /// The claim on the ledger.
    pub transaction: SignedTransaction,
    /// What leads from the claim to the tree head.
    pub proof: LogProof,
    /// The tree head and who signed it, as a signed note.
    pub note: String,
}

/// What a certificate proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Who owns the vault, and states it.
    pub owner: PublicKey,
    /// A block that had the claim in its past.
    pub height: Height,
    /// When that block was proposed: it was all erased by then.
    pub time: Timestamp,
    /// The static nodes that signed that the keyslots are gone, and what people call them.
    pub signers: Vec<(PublicKey, String)>,
    /// How many could have.
    pub members: usize,
}

impl ErasureCertificate {
    /// Checks every link, offline.
    ///
    /// # Errors
    /// [`Violation::NoQuorum`] if too few static nodes signed, [`Violation::WrongReceipt`] if the transaction is no claim of
    /// this statement, or what [`LogProof::verify`] says.
    pub fn verify(&self, genesis: &Genesis, policy: Policy) -> Result<Certified, Violation> {
        let (_, roster) = self.proof.verify(genesis, policy, &self.transaction, &self.note)?;
        let Action::CertifyErasure(claim) = &self.transaction.transaction().action else {
            return Err(Violation::WrongReceipt);
        };
        if *claim != self.statement.claim() {
            return Err(Violation::WrongReceipt);
        }
        self.statement.verify(&genesis.network, roster)?;
        let label = |key: PublicKey| {
            let label = roster.member(&key).map(|member| member.label.clone());
            (key, label.unwrap_or_default())
        };
        Ok(Certified {
            owner: self.transaction.transaction().author,
            height: self.proof.last.record.height,
            time: self.proof.last.record.time,
            signers: self.statement.signers(roster).into_iter().map(label).collect(),
            members: roster.members().len(),
        })
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut extra = self.statement.encode();
        self.transaction.write(&mut extra);
        self.proof.last.write(&mut extra);
        write_list(&self.proof.steps, &mut extra);
        let extra = BASE64.encode(&extra);
        let mut text = format!("{FILE_HEADER}extra {extra}\nindex {}\n", self.proof.index);
        for hash in &self.proof.path {
            text.push_str(&BASE64.encode(&hash.0));
            text.push('\n');
        }
        text + "\n" + &self.note
    }

    /// Reads a file: exactly what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        if text.len() > MAX_CERTIFICATE_LEN {
            return Err(Violation::TooLong);
        }
        let (head, note) = text.split_once("\n\n").ok_or(Violation::Malformed)?;
        let body = head.strip_prefix(FILE_HEADER).ok_or(Violation::Malformed)?;
        let mut lines = body.split('\n');
        let mut field =
            |name| lines.next().and_then(|line| line.strip_prefix(name)).ok_or(Violation::Malformed);
        let (extra, index) = (field("extra ")?, field("index ")?);
        let extra = BASE64.decode(extra.as_bytes()).map_err(|_| Violation::Malformed)?;
        let index = index.parse().map_err(|_| Violation::Malformed)?;
        let path = lines.map(parse_hash).collect::<Result<Vec<_>, _>>()?;
        if path.len() > MAX_PROOF_LEN {
            return Err(Violation::OutOfBounds);
        }
        let from = &mut &extra[..];
        let (statement, transaction) = (Canonical::read(from)?, Canonical::read(from)?);
        let (last, steps) = (Canonical::read(from)?, read_list(from, MAX_RECEIPT_STEPS)?);
        let proof = LogProof { index, path, last, steps };
        let found = Self { statement, transaction, proof, note: note.to_owned() };
        let is_it = from.is_empty() && found.to_text() == text;
        if is_it { Ok(found) } else { Err(Violation::Malformed) }
    }
}

/// What a record is called may have any character that its name may have: who shows it escapes it.
fn read_text(from: &mut &[u8]) -> Result<String, Violation> {
    let text = String::from_utf8(read_bytes(from, MAX_SUBJECT_LEN)?).map_err(|_| Violation::Malformed)?;
    if text.contains('\0') { Err(Violation::OutOfBounds) } else { Ok(text) }
}

impl Canonical for CertifiedErasure {
    fn write(&self, to: &mut Vec<u8>) {
        self.height.write(to);
        self.erasure.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { height: Canonical::read(from)?, erasure: Canonical::read(from)? })
    }
}

impl Canonical for NamedRecord {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        write_bytes(self.name.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { record: Canonical::read(from)?, name: read_text(from)? })
    }
}

impl Canonical for Remainder {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Keyslots { node } => {
                to.push(1);
                node.write(to);
            }
            Self::Shared { segment } => {
                to.push(2);
                segment.write(to);
            }
            Self::Shard { segment, node } => {
                to.push(3);
                segment.write(to);
                node.write(to);
            }
            Self::Opened { grant, record, version, time } => {
                to.push(4);
                grant.write(to);
                record.write(to);
                version.write(to);
                time.write(to);
            }
            Self::Durable { collection } => {
                to.push(5);
                write_bytes(collection.as_bytes(), to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Keyslots { node: Canonical::read(from)? },
            2 => Self::Shared { segment: Canonical::read(from)? },
            3 => Self::Shard { segment: Canonical::read(from)?, node: Canonical::read(from)? },
            4 => Self::Opened {
                grant: Canonical::read(from)?,
                record: Canonical::read(from)?,
                version: Canonical::read(from)?,
                time: Canonical::read(from)?,
            },
            5 => Self::Durable { collection: read_text(from)? },
            _ => return Err(Violation::Malformed),
        })
    }
}

impl Canonical for ErasureStatement {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(FORMAT);
        self.network.write(to);
        self.vault.write(to);
        write_bytes(self.subject.as_bytes(), to);
        self.stated.write(to);
        write_list(&self.erasures, to);
        write_list(&self.names, to);
        write_list(&self.deletions, to);
        write_list(&self.releases, to);
        write_list(&self.remains, to);
        self.unlisted.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        if u8::read(from)? != FORMAT {
            return Err(Violation::Malformed);
        }
        Ok(Self {
            network: Canonical::read(from)?,
            vault: Canonical::read(from)?,
            subject: read_text(from)?,
            stated: Canonical::read(from)?,
            erasures: read_list(from, MAX_CLAIM_ERASURES)?,
            names: read_list(from, MAX_CERTIFICATE_ROWS)?,
            deletions: read_list(from, MAX_CERTIFICATE_ROWS)?,
            releases: read_list(from, MAX_CERTIFICATE_ROWS)?,
            remains: read_list(from, MAX_CERTIFICATE_ROWS)?,
            unlisted: Canonical::read(from)?,
        })
    }
}
