//! A grantee's request that static nodes release what opens records, and a static node's answer.
//!
//! The request is signed with the grant's key and goes to every static node of the sharing alike. The answer is sealed to a key
//! that the request brings, so that who carries it learns nothing, and signed inside, so that a wrong one can be shown to others.

use crate::crypto::access::{Inputs, Keyslot, SUITE, SealPublic};
use crate::crypto::frame::DekCommit;
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::package::{read_seal_public, read_suite, unsound};
use crate::message::canonical::{Canonical, read_bytes, read_label, read_list, write_bytes, write_list};
use crate::types::limits::{
    MAX_BATCH_ENTRIES, MAX_COMMITTEE, MAX_LABEL_LEN, MAX_LINE_LEN, MAX_RELEASE_ITEMS,
};
use crate::types::{
    BatchId, GrantId, Hash, NetworkId, PublicKey, RecordTag, ScopeTag, ShareIndex, SlotId, Timestamp,
    TransactionId, VaultId, VersionId,
};

const SIGNATURE_LEN: usize = 64;
/// Bytes of a signed request: the key to answer to, and 256 items.
const MAX_REQUEST_LEN: usize = 32 << 10;
/// Bytes of a partial evaluation of 256 items.
const MAX_PARTIAL_LEN: usize = 256 + 32 * MAX_RELEASE_ITEMS;

/// The version that stands for a batch's list: no version of a record has this id.
pub const LIST_VERSION: VersionId = VersionId([0; 16]);

/// What a grantee wants opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenItem {
    /// A version of a record.
    Record {
        /// The record.
        record: RecordTag,
        /// The version.
        version: VersionId,
        /// The scope by which it is opened.
        scope: ScopeTag,
        /// The generation of the keyslot.
        generation: u32,
    },
    /// What a batch lists in a scope.
    List {
        /// The batch.
        batch: BatchId,
        /// The scope.
        scope: ScopeTag,
        /// Its generation.
        generation: u32,
    },
}

impl OpenItem {
    /// What the PRF is evaluated on for it.
    #[must_use]
    pub const fn slot(&self, network: NetworkId, vault: VaultId, dealing: u32) -> SlotId {
        match *self {
            Self::Record { record, version, scope, generation } => {
                SlotId { network, vault, dealing, scope, generation, record, version }
            }
            Self::List { batch, scope, generation } => SlotId {
                network,
                vault,
                dealing,
                scope,
                generation,
                record: RecordTag(batch.0),
                version: LIST_VERSION,
            },
        }
    }
}

/// What a grantee asks of the static nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's keys.
    pub dealing: u32,
    /// Which sharing of it.
    pub epoch: u32,
    /// The grant.
    pub grant: GrantId,
    /// Random: no node answers the same request twice.
    pub nonce: [u8; 16],
    /// The grantee's clock.
    pub time: Timestamp,
    /// What the answer is sealed to.
    pub reply_to: SealPublic,
    /// What is to be opened: one to 256, each once, ascending.
    pub items: Vec<OpenItem>,
    /// The member that is to send the lines of lists as well; the others send what opens them only.
    pub lines_from: ShareIndex,
    /// What for, in a word, for the owner's eyes.
    pub purpose: String,
    /// The emergency in which it is opened, by the transaction that asked for it: then the clinician who asked signs, and not
    /// the grant's key.
    pub emergency: Option<TransactionId>,
}

/// A request with its signature. Nobody has checked it until [`verify`](Self::verify) is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOpenRequest {
    bytes: Vec<u8>,
    request: OpenRequest,
}

impl OpenRequest {
    /// Signs it with the grant's key, or with the clinician's.
    #[must_use]
    pub fn sign(self, grantee: &KeyPair) -> SignedOpenRequest {
        let mut bytes = self.encode();
        let signature = grantee.sign(Domain::OpenRequest, &bytes);
        bytes.extend_from_slice(&signature);
        SignedOpenRequest { bytes, request: self }
    }

    /// What the PRF is evaluated on, item by item.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotId> {
        self.items.iter().map(|item| item.slot(self.network, self.vault, self.dealing)).collect()
    }

    /// The same as points; none if one of them is the neutral one, which happens to nobody.
    #[must_use]
    pub fn inputs(&self) -> Option<Inputs> {
        Inputs::new(&self.slots())
    }
}

impl SignedOpenRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Violation::TooLong`], or as [`Canonical::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_REQUEST_LEN {
            return Err(Violation::TooLong);
        }
        let (body, _) = bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(Violation::Malformed)?;
        Ok(Self { request: OpenRequest::decode(body)?, bytes: bytes.to_vec() })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is asked.
    #[must_use]
    pub const fn request(&self) -> &OpenRequest {
        &self.request
    }

    /// What the answers are bound to.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::OpenRequest, &[&self.bytes], &mut hash.0);
        hash
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, grantee: &PublicKey) -> Result<(), Violation> {
        let (body, signature) = self.bytes.split_last_chunk().ok_or(Violation::Malformed)?;
        sign::verify(grantee, Domain::OpenRequest, body, signature).map_err(|_| Violation::BadSignature)
    }
}

/// What a static node has of an item, beside its part of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenedItem {
    /// Of a version.
    Record {
        /// What the version's entry commits to.
        dek_commit: DekCommit,
        /// Commitment to where its header is.
        header: Hash,
        /// The keyslot.
        slot: Box<Keyslot>,
    },
    /// Of a list.
    List {
        /// [`lines_digest`] of its lines: one node sends them, and as many must say that these are all as release it.
        digest: Hash,
        /// Its lines, if this node was to send them.
        lines: Vec<ListedLine>,
    },
}

/// A line of a list, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLine {
    /// The record.
    pub record: RecordTag,
    /// The version.
    pub version: VersionId,
    /// The line.
    pub line: Vec<u8>,
}

/// What nodes say of a list whose lines another one sends.
#[must_use]
pub fn lines_digest(lines: &[ListedLine]) -> Hash {
    let mut bytes = Vec::new();
    write_list(lines, &mut bytes);
    let mut hash = Hash([0; 32]);
    derive_key(Context::ListLines, &[&bytes], &mut hash.0);
    hash
}

/// A static node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReply {
    /// The request that it answers.
    pub request: Hash,
    /// [`Partial::to_bytes`](crate::crypto::access::Partial::to_bytes).
    pub partial: Vec<u8>,
    /// By item.
    pub items: Vec<OpenedItem>,
    /// The entry of the node's access log of the vault that says so.
    pub log_sequence: u64,
}

impl OpenReply {
    /// What answers are sealed for, beside their purpose: the request, the node's place, the sharing's epoch.
    #[must_use]
    pub fn context(request: &Hash, place: ShareIndex, epoch: u32) -> Vec<u8> {
        [&request.0[..], &[place.get()], &epoch.to_le_bytes()].concat()
    }

    /// Signs it.
    #[must_use]
    pub fn sign(&self, node: &KeyPair) -> Vec<u8> {
        let mut bytes = self.encode();
        let signature = node.sign(Domain::OpenReply, &bytes);
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// Reads an answer that was opened, and checks whose it is and what it answers.
    ///
    /// # Errors
    /// [`Violation::BadSignature`], [`Violation::WrongResponse`], or as [`Canonical::decode`].
    pub fn verify(bytes: &[u8], node: &PublicKey, request: &Hash) -> Result<Self, Violation> {
        let (body, signature) = bytes.split_last_chunk().ok_or(Violation::Malformed)?;
        sign::verify(node, Domain::OpenReply, body, signature).map_err(|_| Violation::BadSignature)?;
        let found = Self::decode(body)?;
        if found.request == *request { Ok(found) } else { Err(Violation::WrongResponse) }
    }
}

impl Canonical for OpenItem {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Record { record, version, scope, generation } => {
                to.push(1);
                record.write(to);
                version.write(to);
                scope.write(to);
                generation.write(to);
            }
            Self::List { batch, scope, generation } => {
                to.push(2);
                batch.write(to);
                scope.write(to);
                generation.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => {
                let (record, version) = (Canonical::read(from)?, Canonical::read(from)?);
                if version == LIST_VERSION {
                    return Err(Violation::OutOfBounds);
                }
                let (scope, generation) = (Canonical::read(from)?, Canonical::read(from)?);
                Self::Record { record, version, scope, generation }
            }
            2 => Self::List {
                batch: Canonical::read(from)?,
                scope: Canonical::read(from)?,
                generation: Canonical::read(from)?,
            },
            _ => return Err(Violation::Malformed),
        })
    }
}

impl Canonical for OpenRequest {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.vault.write(to);
        self.dealing.write(to);
        self.epoch.write(to);
        self.grant.write(to);
        self.nonce.write(to);
        self.time.write(to);
        to.extend_from_slice(&self.reply_to.to_bytes());
        write_list(&self.items, to);
        to.push(self.lines_from.get());
        write_bytes(self.purpose.as_bytes(), to);
        self.emergency.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let found = Self {
            network: Canonical::read(from)?,
            vault: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            epoch: Canonical::read(from)?,
            grant: Canonical::read(from)?,
            nonce: Canonical::read(from)?,
            time: Canonical::read(from)?,
            reply_to: read_seal_public(from)?,
            items: read_list(from, MAX_RELEASE_ITEMS)?,
            lines_from: ShareIndex::new(u8::read(from)?).ok_or(Violation::OutOfBounds)?,
            purpose: read_label(from, MAX_LABEL_LEN)?,
            emergency: Canonical::read(from)?,
        };
        if found.items.is_empty() {
            return Err(Violation::OutOfBounds);
        }
        if found.items.is_sorted_by(|one, next| one < next) { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for ListedLine {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        self.version.write(to);
        write_bytes(&self.line, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            record: Canonical::read(from)?,
            version: Canonical::read(from)?,
            line: read_bytes(from, MAX_LINE_LEN)?,
        })
    }
}

impl Canonical for OpenedItem {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Record { dek_commit, header, slot } => {
                to.push(1);
                dek_commit.0.write(to);
                header.write(to);
                to.extend_from_slice(slot.as_bytes());
            }
            Self::List { digest, lines } => {
                to.push(2);
                digest.write(to);
                write_list(lines, to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => {
                let (dek_commit, header) = (DekCommit(Canonical::read(from)?), Canonical::read(from)?);
                let slot = <[u8; Keyslot::LEN]>::read(from)?;
                Self::Record {
                    dek_commit,
                    header,
                    slot: Box::new(Keyslot::from_slice(&slot).map_err(unsound)?),
                }
            }
            2 => Self::List { digest: Canonical::read(from)?, lines: read_list(from, MAX_BATCH_ENTRIES)? },
            _ => return Err(Violation::Malformed),
        })
    }
}

impl Canonical for OpenReply {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.request.write(to);
        write_bytes(&self.partial, to);
        write_list(&self.items, to);
        self.log_sequence.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            request: Canonical::read(from)?,
            partial: read_bytes(from, MAX_PARTIAL_LEN)?,
            items: read_list(from, MAX_RELEASE_ITEMS)?,
            log_sequence: Canonical::read(from)?,
        })
    }
}

// A place in a committee has a byte.
const _: () = assert!(MAX_COMMITTEE <= u8::MAX as usize);
