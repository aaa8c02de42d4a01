//! The transaction: one author's signed wish to change the ledger.

use std::net::SocketAddr;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::{
    Deposit, EmergencyApproval, EmergencyOpening, EmergencyRequest, EntryBatch, Erasure, ErasureClaim, Grant,
    HandOff, KeySharing, LogHead, RecoveryAction, SettleDeposits, TaggedVersion, TakeShares,
};
use crate::message::anchor::{Anchor, NodeNumber};
use crate::message::canonical::{Canonical, read_bytes, read_label, take, write_bytes};
use crate::message::checkpoint::{Checkpoint, FalseCosignature};
use crate::message::evidence::Evidence;
use crate::message::governance::Governance;
use crate::message::sponsorship::Sponsorship;
use crate::types::limits::{MAX_LABEL_LEN, MAX_SHARDS, MAX_TRANSACTION_LEN};
use crate::types::{
    CollectionTag, GrantId, Hash, Height, NetworkId, PublicKey, RecordTag, ScopeTag, SegmentId,
    TransactionId, VaultId, VersionId,
};

/// First byte of a transaction among the leaves of the log; records of blocks begin with another.
const LEAF_KIND: u8 = 1;

const SIGNATURE_LEN: usize = 64;

/// A storage node as it registers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// What people call it.
    pub label: String,
    /// Who runs it: the first failure domain.
    pub operator: String,
    /// Where it stands: the second failure domain.
    pub site: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What an author wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Registers a vault; the author owns it.
    CreateVault {
        /// Chosen at random by the owner.
        vault: VaultId,
        /// Who pays, where the network asks for that.
        sponsor: Option<Sponsorship>,
    },
    /// Advances a collection.
    Anchor(Anchor),
    /// Says where the shards of an anchored segment are now.
    PlaceShards {
        /// The vault.
        vault: VaultId,
        /// The segment.
        segment: SegmentId,
        /// Its holders, by shard.
        holders: Vec<Option<NodeNumber>>,
    },
    /// Lets another key write to the vault.
    AddWriter {
        /// The vault.
        vault: VaultId,
        /// The key.
        writer: PublicKey,
    },
    /// Takes that back.
    RemoveWriter {
        /// The vault.
        vault: VaultId,
        /// The key.
        writer: PublicKey,
    },
    /// Registers the author as a storage node.
    RegisterNode {
        /// The node.
        node: NodeEntry,
        /// Who vouches, where the network asks for that.
        sponsor: Option<Sponsorship>,
    },
    /// Changes what the author's entry says.
    UpdateNode(NodeEntry),
    /// The author takes no new shards and is to be emptied.
    RetireNode,
    /// Changes members or rules.
    Govern(Governance),
    /// Shows that a static node signed two things of which it may sign one.
    Evidence(Evidence),
    /// Shows that a static node cosigned a tree head that is not this log's.
    FalseCosignature(FalseCosignature),
    /// A static node says that another proposed an invalid block, which needs others to say it too.
    Accuse {
        /// Who proposed.
        offender: PublicKey,
        /// At this height.
        height: Height,
    },
    /// A static node answers the ledger's request to mend its ways.
    Correct,
    /// The author, which sponsors the vault, changes what the vault may use.
    SetQuota {
        /// The vault.
        vault: VaultId,
        /// Ledger bytes an epoch.
        quota: u64,
    },
    /// Gives the shares of the vault's PRF key to the static nodes.
    ShareKey(KeySharing),
    /// Lets somebody in.
    Grant(Grant),
    /// Takes that back, for good.
    Revoke {
        /// The vault.
        vault: VaultId,
        /// The grant.
        grant: GrantId,
    },
    /// Brings entries of records into effect.
    AddEntries(EntryBatch),
    /// Erases a version: its keyslots go, and no slot of it is ever taken again.
    Erase {
        /// The vault.
        vault: VaultId,
        /// The record.
        record: RecordTag,
        /// The version.
        version: VersionId,
    },
    /// Begins the next generation of a scope: slots of those that come are of it.
    BumpScope {
        /// The vault.
        vault: VaultId,
        /// The scope.
        scope: ScopeTag,
        /// The generation that begins.
        generation: u32,
    },
    /// A static node's head of its access log.
    LogHead(LogHead),
    /// A clinician asks that an emergency grant opens.
    EmergencyRequest(Box<EmergencyRequest>),
    /// Another clinician approves.
    EmergencyApprove(Box<EmergencyApproval>),
    /// The owner, or whom the grant names for that, forbids it: before it opens, or while it does.
    EmergencyVeto {
        /// The vault.
        vault: VaultId,
        /// The transaction that asked.
        request: TransactionId,
    },
    /// A static node says that it opened something in an emergency.
    EmergencyOpened(EmergencyOpening),
    /// Erases versions, as [`Erase`](Self::Erase) does one.
    EraseVersions(Erasure),
    /// Takes a version out of all scopes but one, which stays its owner's.
    Withdraw {
        /// The vault.
        vault: VaultId,
        /// The version.
        version: TaggedVersion,
        /// The scope whose keyslot stays.
        keep: ScopeTag,
    },
    /// Says that there is a certificate of erasures.
    CertifyErasure(ErasureClaim),
    /// What is done when keys are lost.
    Recovery(RecoveryAction),
    /// An old member of sharings has dealt its shares to the static nodes of now.
    HandOff(HandOff),
    /// A static node has its shares of what was handed on.
    TakeShares(TakeShares),
    /// A static node says that a package of a handoff is wrong: it has seen why.
    RejectHandoff {
        /// The package.
        package: Hash,
    },
    /// A grantee brings segments into a vault.
    Deposit(Deposit),
    /// The owner is done with deposits.
    SettleDeposits(SettleDeposits),
}

/// What a transaction's nonce counts. Anchors of different collections do not wait for each other, and two devices of one
/// owner do not compete for the numbers of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The anchors of a collection, whoever signs them.
    Collection(VaultId, CollectionTag),
    /// All else of an author.
    Author(PublicKey),
}

/// A transaction as its author means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The network.
    pub network: NetworkId,
    /// Who signs.
    pub author: PublicKey,
    /// How many transactions of its [`lane`](Self::lane) came before: each is carried out once, in this order.
    pub nonce: u64,
    /// The last height at which it may be carried out.
    pub expires: Height,
    /// What is to be done.
    pub action: Action,
}

/// A transaction with the bytes that were signed. Nobody has checked the signatures until
/// [`verify`](Self::verify) is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    bytes: Vec<u8>,
    id: TransactionId,
    transaction: Transaction,
}

/// A transaction whose signatures were checked: the only kind that waits in a mempool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTransaction(SignedTransaction);

impl VerifiedTransaction {
    /// The transaction.
    #[must_use]
    pub const fn signed(&self) -> &SignedTransaction {
        &self.0
    }

    /// The transaction, to put it in a block.
    #[must_use]
    pub fn into_signed(self) -> SignedTransaction {
        self.0
    }
}

impl Transaction {
    /// What its nonce counts.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match &self.action {
            Action::Anchor(anchor) => Lane::Collection(anchor.vault, anchor.collection),
            _ => Lane::Author(self.author),
        }
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, author: &KeyPair) -> SignedTransaction {
        let mut bytes = self.encode();
        let signature = author.sign(Domain::Transaction, &bytes);
        bytes.extend_from_slice(&signature);
        SignedTransaction::new(bytes, self)
    }
}

impl SignedTransaction {
    fn new(bytes: Vec<u8>, transaction: Transaction) -> Self {
        let mut id = [0; 32];
        derive_key(Context::Transaction, &[&bytes], &mut id);
        Self { bytes, id: TransactionId(id), transaction }
    }

    /// Reads a transaction and its signature.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_TRANSACTION_LEN {
            return Err(Violation::TooLong);
        }
        let (body, _) = bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(Violation::Malformed)?;
        Ok(Self::new(bytes.to_vec(), Transaction::decode(body)?))
    }

    /// The bytes: what travels, what a block holds, and the leaf of the log.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> TransactionId {
        self.id
    }

    /// What the author means.
    #[must_use]
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Checks all that can be checked without the ledger's state: the network and every signature.
    ///
    /// # Errors
    /// [`Violation::WrongNetwork`], [`Violation::BadSignature`], or what a signed part inside is guilty of.
    pub fn verify(&self, network: &NetworkId) -> Result<(), Violation> {
        let Transaction { network: named, author, .. } = &self.transaction;
        if named != network {
            return Err(Violation::WrongNetwork);
        }
        let (body, signature) = self.bytes.split_last_chunk().ok_or(Violation::Malformed)?;
        sign::verify(author, Domain::Transaction, body, signature).map_err(|_| Violation::BadSignature)?;
        self.verify_inner(network)
    }

    /// The transaction as one whose signatures are known to be good.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn into_verified(self, network: &NetworkId) -> Result<VerifiedTransaction, Violation> {
        self.verify(network).map(|()| VerifiedTransaction(self))
    }

    fn verify_inner(&self, network: &NetworkId) -> Result<(), Violation> {
        let author = &self.transaction.author;
        match &self.transaction.action {
            Action::CreateVault { vault, sponsor: Some(sponsor) } => {
                sponsor.verify(network, author, &vault.0)
            }
            Action::RegisterNode { sponsor: Some(sponsor), .. } => sponsor.verify(network, author, &author.0),
            Action::Govern(governance) => governance.verify(network),
            Action::HandOff(handoff) => handoff.verify(network),
            Action::Evidence(evidence) => evidence.verify(*network),
            Action::FalseCosignature(proof) => proof.verify(&Checkpoint::origin_of(network)),
            Action::EmergencyRequest(request) => request.verify(network, author),
            Action::EmergencyApprove(approval) => approval.certificate.verify(network),
            _ => Ok(()),
        }
    }
}

impl Canonical for Transaction {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(LEAF_KIND);
        self.network.write(to);
        self.author.write(to);
        self.nonce.write(to);
        self.expires.write(to);
        self.action.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        if u8::read(from)? != LEAF_KIND {
            return Err(Violation::Malformed);
        }
        Ok(Self {
            network: Canonical::read(from)?,
            author: Canonical::read(from)?,
            nonce: Canonical::read(from)?,
            expires: Canonical::read(from)?,
            action: Canonical::read(from)?,
        })
    }
}

impl Canonical for SignedTransaction {
    fn write(&self, to: &mut Vec<u8>) {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).write(to);
        to.extend_from_slice(&self.bytes);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let len = usize::try_from(u32::read(from)?).map_err(|_| Violation::TooLong)?;
        Self::decode(take(from, len)?)
    }
}

impl Canonical for NodeEntry {
    fn write(&self, to: &mut Vec<u8>) {
        for label in [&self.label, &self.operator, &self.site] {
            write_bytes(label.as_bytes(), to);
        }
        self.address.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            label: read_label(from, MAX_LABEL_LEN)?,
            operator: read_label(from, MAX_LABEL_LEN)?,
            site: read_label(from, MAX_LABEL_LEN)?,
            address: SocketAddr::read(from)?,
        })
    }
}

impl Canonical for Action {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(self.kind());
        match self {
            Self::CreateVault { vault, sponsor } => {
                vault.write(to);
                sponsor.write(to);
            }
            Self::Anchor(anchor) => anchor.write(to),
            Self::PlaceShards { vault, segment, holders } => {
                vault.write(to);
                segment.write(to);
                let holders: Vec<u8> = holders.iter().flat_map(|holder| holder.encode()).collect();
                write_bytes(&holders, to);
            }
            Self::AddWriter { vault, writer } | Self::RemoveWriter { vault, writer } => {
                vault.write(to);
                writer.write(to);
            }
            Self::RegisterNode { node, sponsor } => {
                node.write(to);
                sponsor.write(to);
            }
            Self::UpdateNode(node) => node.write(to),
            Self::RetireNode | Self::Correct => (),
            Self::Govern(governance) => governance.write(to),
            Self::Evidence(evidence) => write_bytes(&evidence.encode(), to),
            Self::FalseCosignature(proof) => proof.write(to),
            Self::Accuse { offender, height } => {
                offender.write(to);
                height.write(to);
            }
            Self::SetQuota { vault, quota } => {
                vault.write(to);
                quota.write(to);
            }
            Self::ShareKey(sharing) => sharing.write(to),
            Self::Grant(grant) => grant.write(to),
            Self::Revoke { vault, grant } => {
                vault.write(to);
                grant.write(to);
            }
            Self::AddEntries(batch) => batch.write(to),
            Self::Erase { vault, record, version } => {
                vault.write(to);
                record.write(to);
                version.write(to);
            }
            Self::BumpScope { vault, scope, generation } => {
                vault.write(to);
                scope.write(to);
                generation.write(to);
            }
            Self::LogHead(head) => head.write(to),
            Self::EmergencyRequest(request) => request.write(to),
            Self::EmergencyApprove(approval) => approval.write(to),
            Self::EmergencyVeto { vault, request } => {
                vault.write(to);
                request.write(to);
            }
            Self::EmergencyOpened(opening) => opening.write(to),
            Self::EraseVersions(erasure) => erasure.write(to),
            Self::Withdraw { vault, version, keep } => {
                vault.write(to);
                version.write(to);
                keep.write(to);
            }
            Self::CertifyErasure(claim) => claim.write(to),
            Self::Recovery(action) => action.write_body(to),
            Self::HandOff(handoff) => handoff.write(to),
            Self::TakeShares(taken) => taken.write(to),
            Self::RejectHandoff { package } => package.write(to),
            Self::Deposit(deposit) => deposit.write(to),
            Self::SettleDeposits(settled) => settled.write(to),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::CreateVault { vault: Canonical::read(from)?, sponsor: Canonical::read(from)? },
            2 => Self::Anchor(Canonical::read(from)?),
            3 => Self::PlaceShards {
                vault: Canonical::read(from)?,
                segment: Canonical::read(from)?,
                holders: read_holders(from)?,
            },
            4 => Self::AddWriter { vault: Canonical::read(from)?, writer: Canonical::read(from)? },
            5 => Self::RemoveWriter { vault: Canonical::read(from)?, writer: Canonical::read(from)? },
            6 => Self::RegisterNode { node: Canonical::read(from)?, sponsor: Canonical::read(from)? },
            7 => Self::UpdateNode(Canonical::read(from)?),
            8 => Self::RetireNode,
            9 => Self::Govern(Canonical::read(from)?),
            10 => Self::Evidence(Evidence::decode(&read_bytes(from, MAX_EVIDENCE_LEN)?)?),
            11 => Self::FalseCosignature(Canonical::read(from)?),
            12 => Self::Accuse { offender: Canonical::read(from)?, height: Canonical::read(from)? },
            13 => Self::Correct,
            14 => Self::SetQuota { vault: Canonical::read(from)?, quota: Canonical::read(from)? },
            40 => Self::ShareKey(Canonical::read(from)?),
            41 => Self::Grant(Canonical::read(from)?),
            42 => Self::Revoke { vault: Canonical::read(from)?, grant: Canonical::read(from)? },
            43 => Self::AddEntries(Canonical::read(from)?),
            44 => Self::Erase {
                vault: Canonical::read(from)?,
                record: Canonical::read(from)?,
                version: Canonical::read(from)?,
            },
            45 => Self::BumpScope {
                vault: Canonical::read(from)?,
                scope: Canonical::read(from)?,
                generation: Canonical::read(from)?,
            },
            46 => Self::LogHead(Canonical::read(from)?),
            60 => Self::EmergencyRequest(Box::new(Canonical::read(from)?)),
            61 => Self::EmergencyApprove(Box::new(Canonical::read(from)?)),
            62 => Self::EmergencyVeto { vault: Canonical::read(from)?, request: Canonical::read(from)? },
            63 => Self::EmergencyOpened(Canonical::read(from)?),
            50 => Self::EraseVersions(Canonical::read(from)?),
            51 => Self::Withdraw {
                vault: Canonical::read(from)?,
                version: Canonical::read(from)?,
                keep: Canonical::read(from)?,
            },
            52 => Self::CertifyErasure(Canonical::read(from)?),
            kind if RecoveryAction::KINDS.contains(&kind) => {
                Self::Recovery(RecoveryAction::read_body(kind, from)?)
            }
            80 => Self::HandOff(Canonical::read(from)?),
            81 => Self::TakeShares(Canonical::read(from)?),
            82 => Self::RejectHandoff { package: Canonical::read(from)? },
            64 => Self::Deposit(Canonical::read(from)?),
            65 => Self::SettleDeposits(Canonical::read(from)?),
            _ => return Err(Violation::Malformed),
        })
    }
}

/// Bytes of evidence: two signed statements of a few hundred bytes.
const MAX_EVIDENCE_LEN: usize = 1_024;

/// Bytes of the longest list of holders: three for each shard that has one.
const MAX_HOLDERS_LEN: usize = 3 * MAX_SHARDS;

fn read_holders(from: &mut &[u8]) -> Result<Vec<Option<NodeNumber>>, Violation> {
    let bytes = read_bytes(from, MAX_HOLDERS_LEN)?;
    let (mut rest, mut holders) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        holders.push(Canonical::read(&mut rest)?);
    }
    if holders.len() <= MAX_SHARDS { Ok(holders) } else { Err(Violation::OutOfBounds) }
}

impl Action {
    /// The number under which it is encoded.
    const fn kind(&self) -> u8 {
        match self {
            Self::CreateVault { .. } => 1,
            Self::Anchor(_) => 2,
            Self::PlaceShards { .. } => 3,
            Self::AddWriter { .. } => 4,
            Self::RemoveWriter { .. } => 5,
            Self::RegisterNode { .. } => 6,
            Self::UpdateNode(_) => 7,
            Self::RetireNode => 8,
            Self::Govern(_) => 9,
            Self::Evidence(_) => 10,
            Self::FalseCosignature(_) => 11,
            Self::Accuse { .. } => 12,
            Self::Correct => 13,
            Self::SetQuota { .. } => 14,
            Self::ShareKey(_) => 40,
            Self::Grant(_) => 41,
            Self::Revoke { .. } => 42,
            Self::AddEntries(_) => 43,
            Self::Erase { .. } => 44,
            Self::BumpScope { .. } => 45,
            Self::LogHead(_) => 46,
            Self::EmergencyRequest(_) => 60,
            Self::EmergencyApprove(_) => 61,
            Self::EmergencyVeto { .. } => 62,
            Self::EmergencyOpened(_) => 63,
            Self::EraseVersions(_) => 50,
            Self::Withdraw { .. } => 51,
            Self::CertifyErasure(_) => 52,
            Self::Recovery(action) => action.kind(),
            Self::HandOff(_) => 80,
            Self::TakeShares(_) => 81,
            Self::RejectHandoff { .. } => 82,
            Self::Deposit(_) => 64,
            Self::SettleDeposits(_) => 65,
        }
    }
}
