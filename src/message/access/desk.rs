//! What is said to a static node about access, and its answers; the ledger's questions are elsewhere.

use crate::crypto::access::SealPublic;
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::denial::Denial;
use crate::message::access::erasure::{DeletionReceipt, Erasure};
use crate::message::access::handing::Care;
use crate::message::access::handoff::{Complaint, SignedHandoffKey};
use crate::message::access::open::OpenItem;
use crate::message::access::own_slots::{OwnSlot, OwnSlots};
use crate::message::access::package::{MAX_COMMITMENTS_LEN, read_seal_public};
use crate::message::access::recovery::{RecoveryRequest, Release};
use crate::message::canonical::{
    Canonical, read_bytes, read_label, read_list, read_long, write_bytes, write_list, write_long,
};
use crate::types::limits::{
    MAX_ANSWER_ROWS, MAX_COMMITTEE, MAX_GRANT_BODY_LEN, MAX_GUARDIANS, MAX_LABEL_LEN, MAX_PACKAGE_LEN,
    MAX_RELEASE_ITEMS, MAX_TRANSACTION_LEN,
};
use crate::types::{
    BatchId, GrantId, Hash, NetworkId, PublicKey, RecordTag, ScopeTag, Timestamp, TransactionId, VaultId,
    VersionId,
};

/// Bytes of a sealed entry of an access log: 256 items and what seals it.
const MAX_LOG_ENTRY_LEN: usize = 24 << 10;
/// Bytes of a sealed answer to a request that opens: the lines of a batch.
const MAX_OPENED_LEN: usize = 16 << 20;
/// Bytes of a request that opens.
const MAX_OPEN_LEN: usize = 32 << 10;

/// What a deposit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepositKind {
    /// A [`DealingPackage`](crate::message::access::DealingPackage).
    Dealing,
    /// A [`BatchPackage`](crate::message::access::BatchPackage).
    Batch,
    /// A sealed body of a grant.
    GrantBody,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskRequest {
    /// Which key are shares sealed to?
    SealKey,
    /// Which keys are shares sealed to, of all static nodes that are known here? One that is away gets its share all the same.
    SealKeys,
    /// Keep what the ledger is about to name.
    Deposit {
        /// The vault.
        vault: VaultId,
        /// What it is.
        kind: DepositKind,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A signed transaction that revokes a grant: effective at once.
    Revoke(Vec<u8>),
    /// A signed transaction that vetoes an emergency: effective at once.
    Veto(Vec<u8>),
    /// A [`SignedOpenRequest`](crate::message::access::open::SignedOpenRequest).
    Open(Vec<u8>),
    /// The sealed body of the asker's grant.
    GrantBody {
        /// Its hash.
        body: Hash,
    },
    /// The batches that have something for the asker's grant in a scope, after one.
    Batches {
        /// The scope.
        scope: ScopeTag,
        /// Its generation.
        generation: u32,
        /// The number of the last one known.
        after: Option<u64>,
    },
    /// The versions in a scope of the asker's vault, after one.
    Members {
        /// The vault.
        vault: VaultId,
        /// The scope.
        scope: ScopeTag,
        /// Its generation.
        generation: u32,
        /// The last one known.
        after: Option<ScopeMember>,
    },
    /// The commitments to the shares of the key of the asker's grant's vault, or of the asker's own.
    Commitments {
        /// The vault.
        vault: VaultId,
    },
    /// Entries of the access log of the asker's vault, after one.
    Log {
        /// The vault.
        vault: VaultId,
        /// The last one known; none for the first.
        after: Option<u64>,
        /// Random: the answer is signed with it.
        nonce: [u8; 16],
    },
    /// One static node to another: a package that the ledger names.
    Package {
        /// Its vault.
        vault: VaultId,
        /// Its hash, or the root of its entries.
        hash: Hash,
        /// What it is.
        kind: DepositKind,
    },
    /// Keyslots that are the asker's own.
    OwnSlots(OwnSlots),
    /// Is nothing of an erasure of the asker's left here?
    Deleted(Erasure),
    /// What the asker, a guardian, releases for a request to recover.
    Release {
        /// The vault.
        vault: VaultId,
        /// The request.
        request: Hash,
        /// The asker's part.
        release: Release,
    },
    /// What guardians released for the asker's request.
    Releases(Box<RecoveryRequest>),
    /// An old member of sharings to a next one: the key for what the asker deals to it in one package.
    HandoffKey {
        /// The roster of the next members.
        to: Hash,
        /// Drawn for the package.
        nonce: [u8; 16],
    },
    /// A [`HandoffPackage`](crate::message::access::HandoffPackage), to be kept until all have their shares.
    Handoff(Vec<u8>),
    /// One static node to another: a package of a handoff.
    HandoffPackage {
        /// Its hash.
        hash: Hash,
    },
    /// A next member shows that a package has a bad piece.
    Complaint(Complaint),
    /// How many vaults' keys are where they should be?
    Care,
}

/// A version in a scope, after the number of the batch that brought it.
pub type ScopeMember = (u64, RecordTag, VersionId);

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskAnswer {
    /// The key, signed.
    SealKey(SignedSealKey),
    /// The keys of static nodes, each signed by its own.
    SealKeys(Vec<(PublicKey, SignedSealKey)>),
    /// It is kept durably.
    Done(Ack),
    /// Sealed to the request's key.
    Opened(Vec<u8>),
    /// It is not opened.
    Denied(Denial),
    /// A body; none if it is not here.
    GrantBody(Option<Vec<u8>>),
    /// Batches with their numbers.
    Batches(Vec<(u64, BatchId)>),
    /// Versions in a scope.
    Members(Vec<ScopeMember>),
    /// Entries of the log.
    Log(LogPage),
    /// Commitments; none if they are not here.
    Commitments(Option<Vec<u8>>),
    /// A package; none if it is not here.
    Package(Option<Vec<u8>>),
    /// For each version that was asked for, in order.
    OwnSlots(Vec<OwnSlot>),
    /// Nothing is.
    Deleted(DeletionReceipt),
    /// What guardians released.
    Releases(Vec<Release>),
    /// A key for one package of a handoff.
    HandoffKey(SignedHandoffKey),
    /// How the static node finds them.
    Care(Care),
}

/// The key to which shares for a static node are sealed now, signed with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSealKey {
    /// The key.
    pub key: SealPublic,
    /// The node's signature.
    pub signature: [u8; 64],
}

impl SignedSealKey {
    fn statement(network: &NetworkId, key: &SealPublic) -> Vec<u8> {
        [&network.0[..], &key.to_bytes()].concat()
    }

    /// Signs a key.
    #[must_use]
    pub fn sign(network: &NetworkId, key: SealPublic, node: &KeyPair) -> Self {
        let signature = node.sign(Domain::SealKey, &Self::statement(network, &key));
        Self { key, signature }
    }

    /// Checks whose key it is.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId, node: &PublicKey) -> Result<(), Violation> {
        let statement = Self::statement(network, &self.key);
        sign::verify(node, Domain::SealKey, &statement, &self.signature).map_err(|_| Violation::BadSignature)
    }

    /// The hash under which sealed shares name it.
    #[must_use]
    pub fn hash_of(key: &SealPublic) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::SealKeyHash, &[&key.to_bytes()], &mut hash.0);
        hash
    }
}

/// A static node's signed word that it has something durably: a deposit by its hash, a revocation by its transaction's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The signature.
    pub signature: [u8; 64],
}

impl Ack {
    /// Signs.
    #[must_use]
    pub fn sign(network: &NetworkId, what: &[u8; 32], node: &KeyPair) -> Self {
        Self { signature: node.sign(Domain::AccessAck, &[&network.0[..], what].concat()) }
    }

    /// Checks.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId, what: &[u8; 32], node: &PublicKey) -> Result<(), Violation> {
        let statement = [&network.0[..], what].concat();
        sign::verify(node, Domain::AccessAck, &statement, &self.signature)
            .map_err(|_| Violation::BadSignature)
    }
}

/// The hash of a sealed body in its grant.
#[must_use]
pub fn body_hash(body: &[u8]) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(Context::Package, &[body], &mut hash.0);
    hash
}

/// What an entry of the access log says; sealed, so that only the vault's owner reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When, by the node's clock.
    pub time: Timestamp,
    /// The grant.
    pub grant: GrantId,
    /// Hash of the request.
    pub request: Hash,
    /// What was asked for.
    pub items: Vec<OpenItem>,
    /// What for.
    pub purpose: String,
    /// The emergency in which it was opened.
    pub emergency: Option<TransactionId>,
    /// Why it was denied, if it was.
    pub denied: Option<Denial>,
}

impl LogEntry {
    /// What an entry is sealed for, beside its purpose: the node, and its number in the log of the vault.
    #[must_use]
    pub fn context(node: &PublicKey, sequence: u64) -> Vec<u8> {
        [&node.0[..], &sequence.to_le_bytes()].concat()
    }
}

/// Entries of a vault's access log at a static node, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The number of the first.
    pub first: u64,
    /// The sealed entries.
    pub entries: Vec<Vec<u8>>,
    /// Entries of the vault in all.
    pub size: u64,
    /// [`chain`] over all of them.
    pub head: Hash,
    /// The node's signature of size and head, with the nonce of the question.
    pub signature: [u8; 64],
}

/// The head of a vault's log after one more entry.
#[must_use]
pub fn chain(before: &Hash, sealed: &[u8]) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(Context::LogChain, &[&before.0, sealed], &mut hash.0);
    hash
}

impl LogPage {
    /// What is signed.
    #[must_use]
    pub fn statement(
        network: &NetworkId,
        vault: &VaultId,
        size: u64,
        head: &Hash,
        nonce: &[u8; 16],
    ) -> Vec<u8> {
        [&network.0[..], &vault.0, &size.to_le_bytes(), &head.0, nonce].concat()
    }

    /// Checks whose it is.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(
        &self,
        network: &NetworkId,
        vault: &VaultId,
        nonce: &[u8; 16],
        node: &PublicKey,
    ) -> Result<(), Violation> {
        let statement = Self::statement(network, vault, self.size, &self.head, nonce);
        sign::verify(node, Domain::LogHead, &statement, &self.signature).map_err(|_| Violation::BadSignature)
    }
}

impl Canonical for DepositKind {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(match self {
            Self::Dealing => 1,
            Self::Batch => 2,
            Self::GrantBody => 3,
        });
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Dealing,
            2 => Self::Batch,
            3 => Self::GrantBody,
            _ => return Err(Violation::Malformed),
        })
    }
}

impl Canonical for DeskRequest {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::SealKey => to.push(1),
            Self::SealKeys => to.push(10),
            Self::Deposit { vault, kind, bytes } => {
                to.push(2);
                vault.write(to);
                kind.write(to);
                write_long(bytes, to);
            }
            Self::Revoke(transaction) => {
                to.push(3);
                write_bytes(transaction, to);
            }
            Self::Veto(transaction) => {
                to.push(30);
                write_bytes(transaction, to);
            }
            Self::Open(request) => {
                to.push(4);
                write_bytes(request, to);
            }
            Self::GrantBody { body } => {
                to.push(5);
                body.write(to);
            }
            Self::Batches { scope, generation, after } => {
                to.push(6);
                scope.write(to);
                generation.write(to);
                after.write(to);
            }
            Self::Members { vault, scope, generation, after } => {
                to.push(11);
                vault.write(to);
                scope.write(to);
                generation.write(to);
                after.map(Member::of).write(to);
            }
            Self::Log { vault, after, nonce } => {
                to.push(7);
                vault.write(to);
                after.write(to);
                nonce.write(to);
            }
            Self::Commitments { vault } => {
                to.push(9);
                vault.write(to);
            }
            Self::Package { vault, hash, kind } => {
                to.push(8);
                vault.write(to);
                hash.write(to);
                kind.write(to);
            }
            Self::OwnSlots(asked) => {
                to.push(20);
                asked.write(to);
            }
            Self::Deleted(erasure) => {
                to.push(21);
                erasure.write(to);
            }
            Self::Release { vault, request, release } => {
                to.push(40);
                vault.write(to);
                request.write(to);
                release.write(to);
            }
            Self::Releases(request) => {
                to.push(41);
                request.write(to);
            }
            Self::HandoffKey { to: roster, nonce } => {
                to.push(50);
                roster.write(to);
                nonce.write(to);
            }
            Self::Handoff(package) => {
                to.push(51);
                write_long(package, to);
            }
            Self::HandoffPackage { hash } => {
                to.push(52);
                hash.write(to);
            }
            Self::Complaint(complaint) => {
                to.push(53);
                complaint.write(to);
            }
            Self::Care => to.push(54),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::SealKey,
            10 => Self::SealKeys,
            2 => Self::Deposit {
                vault: Canonical::read(from)?,
                kind: Canonical::read(from)?,
                bytes: read_long(from, MAX_PACKAGE_LEN)?,
            },
            3 => Self::Revoke(read_bytes(from, MAX_TRANSACTION_LEN)?),
            30 => Self::Veto(read_bytes(from, MAX_TRANSACTION_LEN)?),
            4 => Self::Open(read_bytes(from, MAX_OPEN_LEN)?),
            5 => Self::GrantBody { body: Canonical::read(from)? },
            6 => Self::Batches {
                scope: Canonical::read(from)?,
                generation: Canonical::read(from)?,
                after: Canonical::read(from)?,
            },
            7 => Self::Log {
                vault: Canonical::read(from)?,
                after: Canonical::read(from)?,
                nonce: Canonical::read(from)?,
            },
            9 => Self::Commitments { vault: Canonical::read(from)? },
            11 => Self::Members {
                vault: Canonical::read(from)?,
                scope: Canonical::read(from)?,
                generation: Canonical::read(from)?,
                after: Option::<Member>::read(from)?.map(Member::into_tuple),
            },
            8 => Self::Package {
                vault: Canonical::read(from)?,
                hash: Canonical::read(from)?,
                kind: Canonical::read(from)?,
            },
            20 => Self::OwnSlots(Canonical::read(from)?),
            21 => Self::Deleted(Canonical::read(from)?),
            40 => Self::Release {
                vault: Canonical::read(from)?,
                request: Canonical::read(from)?,
                release: Canonical::read(from)?,
            },
            41 => Self::Releases(Box::new(Canonical::read(from)?)),
            50 => Self::HandoffKey { to: Canonical::read(from)?, nonce: Canonical::read(from)? },
            51 => Self::Handoff(read_long(from, MAX_PACKAGE_LEN)?),
            52 => Self::HandoffPackage { hash: Canonical::read(from)? },
            53 => Self::Complaint(Canonical::read(from)?),
            54 => Self::Care,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// Bytes of some length, in a list.
struct Blob(Vec<u8>);

impl Canonical for Blob {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_bytes(from, MAX_LOG_ENTRY_LEN).map(Self)
    }
}

/// A batch and its number.
struct Numbered(u64, BatchId);

impl Canonical for Numbered {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?))
    }
}

/// A version in a scope.
struct Member(u64, RecordTag, VersionId);

impl Member {
    const fn of((batch, record, version): ScopeMember) -> Self {
        Self(batch, record, version)
    }

    const fn into_tuple(self) -> ScopeMember {
        (self.0, self.1, self.2)
    }
}

impl Canonical for Member {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
        self.2.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?, Canonical::read(from)?))
    }
}

/// A key and whose it is.
struct NodeKey(PublicKey, SignedSealKey);

impl Canonical for NodeKey {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?))
    }
}

fn write_option(bytes: Option<&[u8]>, to: &mut Vec<u8>) {
    bytes.is_some().write(to);
    if let Some(bytes) = bytes {
        write_long(bytes, to);
    }
}

fn read_option(from: &mut &[u8], max: usize) -> Result<Option<Vec<u8>>, Violation> {
    bool::read(from)?.then(|| read_long(from, max)).transpose()
}

impl Canonical for SignedSealKey {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_bytes());
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: read_seal_public(from)?, signature: Canonical::read(from)? })
    }
}

impl Canonical for LogPage {
    fn write(&self, to: &mut Vec<u8>) {
        self.first.write(to);
        let entries: Vec<_> = self.entries.iter().cloned().map(Blob).collect();
        write_list(&entries, to);
        self.size.write(to);
        self.head.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let first = Canonical::read(from)?;
        let entries: Vec<Blob> = read_list(from, MAX_ANSWER_ROWS)?;
        Ok(Self {
            first,
            entries: entries.into_iter().map(|blob| blob.0).collect(),
            size: Canonical::read(from)?,
            head: Canonical::read(from)?,
            signature: Canonical::read(from)?,
        })
    }
}

impl Canonical for DeskAnswer {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::SealKey(key) => {
                to.push(1);
                key.write(to);
            }
            Self::SealKeys(keys) => {
                to.push(10);
                let keys: Vec<_> = keys.iter().map(|(node, key)| NodeKey(*node, key.clone())).collect();
                write_list(&keys, to);
            }
            Self::Done(ack) => {
                to.push(2);
                ack.signature.write(to);
            }
            Self::Opened(sealed) => {
                to.push(3);
                write_long(sealed, to);
            }
            Self::Denied(denial) => {
                to.push(4);
                denial.write(to);
            }
            Self::GrantBody(body) => {
                to.push(5);
                write_option(body.as_deref(), to);
            }
            Self::Batches(batches) => {
                to.push(6);
                let batches: Vec<_> =
                    batches.iter().map(|(number, batch)| Numbered(*number, *batch)).collect();
                write_list(&batches, to);
            }
            Self::Members(members) => {
                to.push(11);
                write_list(&members.iter().copied().map(Member::of).collect::<Vec<_>>(), to);
            }
            Self::Log(page) => {
                to.push(7);
                page.write(to);
            }
            Self::Package(package) => {
                to.push(8);
                write_option(package.as_deref(), to);
            }
            Self::Commitments(commitments) => {
                to.push(9);
                write_option(commitments.as_deref(), to);
            }
            Self::OwnSlots(slots) => {
                to.push(20);
                write_list(slots, to);
            }
            Self::Deleted(receipt) => {
                to.push(21);
                receipt.write(to);
            }
            Self::Releases(releases) => {
                to.push(40);
                write_list(releases, to);
            }
            Self::HandoffKey(key) => {
                to.push(50);
                key.write(to);
            }
            Self::Care(care) => {
                to.push(54);
                care.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::SealKey(Canonical::read(from)?),
            10 => {
                let keys: Vec<NodeKey> = read_list(from, MAX_COMMITTEE)?;
                Self::SealKeys(keys.into_iter().map(|found| (found.0, found.1)).collect())
            }
            2 => Self::Done(Ack { signature: Canonical::read(from)? }),
            3 => Self::Opened(read_long(from, MAX_OPENED_LEN)?),
            4 => Self::Denied(Canonical::read(from)?),
            5 => Self::GrantBody(read_option(from, MAX_GRANT_BODY_LEN)?),
            6 => {
                let batches: Vec<Numbered> = read_list(from, MAX_ANSWER_ROWS)?;
                Self::Batches(batches.into_iter().map(|found| (found.0, found.1)).collect())
            }
            7 => Self::Log(Canonical::read(from)?),
            8 => Self::Package(read_option(from, MAX_PACKAGE_LEN)?),
            9 => Self::Commitments(read_option(from, MAX_COMMITMENTS_LEN)?),
            11 => {
                let members: Vec<Member> = read_list(from, MAX_ANSWER_ROWS)?;
                Self::Members(members.into_iter().map(Member::into_tuple).collect())
            }
            20 => Self::OwnSlots(read_list(from, MAX_RELEASE_ITEMS)?),
            21 => Self::Deleted(Canonical::read(from)?),
            40 => Self::Releases(read_list(from, MAX_GUARDIANS)?),
            50 => Self::HandoffKey(Canonical::read(from)?),
            54 => Self::Care(Canonical::read(from)?),
            _ => return Err(Violation::Malformed),
        })
    }
}

impl Canonical for LogEntry {
    fn write(&self, to: &mut Vec<u8>) {
        self.time.write(to);
        self.grant.write(to);
        self.request.write(to);
        write_list(&self.items, to);
        write_bytes(self.purpose.as_bytes(), to);
        self.emergency.write(to);
        self.denied.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            time: Canonical::read(from)?,
            grant: Canonical::read(from)?,
            request: Canonical::read(from)?,
            items: read_list(from, MAX_RELEASE_ITEMS)?,
            purpose: read_label(from, MAX_LABEL_LEN)?,
            emergency: Canonical::read(from)?,
            denied: Canonical::read(from)?,
        })
    }
}
