//! What anybody may ask a static node, and its answers. Pure: from a state and a question to the answer; what
//! the state does not hold (blocks, cosignatures) the node adds.
//!
//! An answer is worth nothing by itself. Who asks checks a transaction's proof against the genesis
//! ([`AnchorReceipt`](crate::message::AnchorReceipt)), blocks against their certificates, and asks more than
//! [`f`](crate::types::Committee::f) nodes for what has no proof.

mod codec;

use crate::ledger::emergency;
use crate::ledger::query;
use crate::ledger::read::{Entry, Read, ReadError};
use crate::ledger::recovery::{GUARDIANS, KEY_GENERATIONS, RecoveryState, recoveries};
use crate::ledger::rows::{
    ACCESS, Access, COUNTERS, DepositRow, Emergency, GENERATIONS, GrantRow, Head, Missing, Node, OpeningRow,
    SEGMENTS, Segment, Static, VAULTS, Vault,
};
use crate::ledger::snapshot::{self, Offer, Taking};
use crate::message::Violation;
use crate::message::anchor::NodeNumber;
use crate::message::anchor_receipt::{LogProof, RosterStep};
use crate::message::block::Header;
use crate::message::canonical::{
    Canonical, read_bytes, read_list, read_long, write_bytes, write_list, write_long,
};
use crate::message::checkpoint::{Cosignature, Policy};
use crate::message::genesis::Genesis;
use crate::message::member::Roster;
use crate::message::rejection::Rejection;
use crate::message::transaction::{Lane, SignedTransaction};
use crate::types::limits::{
    MAX_ANSWER_BLOCKS, MAX_ANSWER_LEAVES, MAX_ANSWER_LEN, MAX_ANSWER_ROWS, MAX_BLOCK_LEN, MAX_COMMITTEE,
    MAX_RECEIPT_LEN, MAX_RECEIPT_STEPS, MAX_ROW_KEY_LEN, MAX_ROW_LEN, MAX_SNAPSHOT_ROWS,
};
use crate::types::{
    CollectionTag, GrantId, Hash, Height, LogHash, PublicKey, ScopeTag, SegmentId, TransactionId, VaultId,
};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Where is the ledger?
    Tip,
    /// Blocks from a height on, as many as fit.
    Blocks {
        /// The first.
        from: Height,
    },
    /// The number of an author's next transaction that is no anchor.
    Nonce {
        /// The author.
        author: PublicKey,
    },
    /// The head of a collection.
    Head {
        /// The vault.
        vault: VaultId,
        /// The collection.
        collection: CollectionTag,
    },
    /// The collections of a vault, after one.
    Collections {
        /// The vault.
        vault: VaultId,
        /// The last one known.
        after: Option<CollectionTag>,
    },
    /// A transaction, with the proof that it is final.
    Transaction {
        /// Which.
        id: TransactionId,
    },
    /// An anchor and those before it in its collection, the newest first: as many as fit.
    Anchors {
        /// The newest.
        from: TransactionId,
        /// The one before which to stop; none for the first of the collection.
        until: Option<TransactionId>,
    },
    /// The static nodes and what the ledger thinks of them.
    Statics,
    /// The storage nodes, after one.
    Nodes {
        /// The last one known.
        after: Option<NodeNumber>,
    },
    /// The number of the next change of members and rules.
    Sequence,
    /// Who has cosigned the tree head of a block, as far as that is kept.
    Cosignatures {
        /// The block.
        height: Height,
    },
    /// The changes of the static nodes since the genesis, with the proof of each.
    Steps,
    /// A vault.
    Vault {
        /// Which.
        vault: VaultId,
    },
    /// A snapshot of a block after this one.
    Snapshot {
        /// One of this block is of no use to who asks.
        above: Height,
    },
    /// Rows of a snapshot that was offered, as many as fit.
    SnapshotRows {
        /// Its block.
        height: Height,
        /// The key after which to go on.
        after: Option<Vec<u8>>,
    },
    /// Hashes of leaves of the log, as many as fit.
    LogLeaves {
        /// The first.
        from: u64,
    },
    /// The blocks before a height, the newest first, as many as fit.
    BlocksBefore {
        /// The height.
        before: Height,
    },
    /// How much of the ledger the static node has.
    Archive,
    /// The blocks after a height. While there is none the answer waits, but for no longer than
    /// [`BLOCK_WAIT_MILLIS`](crate::types::limits::BLOCK_WAIT_MILLIS): then there are none in it.
    BlocksAfter {
        /// The last one known.
        after: Height,
    },
    /// How high is the ledger?
    Height,
    /// What of access there is in a vault.
    Access {
        /// The vault.
        vault: VaultId,
    },
    /// The grants of a vault, after one.
    Grants {
        /// The vault.
        vault: VaultId,
        /// The last one known.
        after: Option<GrantId>,
    },
    /// The grant that a key is for.
    GrantOf {
        /// The key.
        grantee: PublicKey,
    },
    /// The generation of a scope.
    Generation {
        /// The vault.
        vault: VaultId,
        /// The scope.
        scope: ScopeTag,
    },
    /// The deposits that wait in a vault, by their transactions, after one.
    Deposits {
        /// The vault.
        vault: VaultId,
        /// The last one known.
        after: Option<TransactionId>,
    },
    /// The block in which an erasure of several versions was carried out.
    Erasure {
        /// The vault.
        vault: VaultId,
        /// Which.
        erasure: Hash,
    },
    /// Descriptors of segments of a vault, at most [`MAX_ANSWER_ROWS`].
    Segments {
        /// The vault.
        vault: VaultId,
        /// The segments.
        segments: Vec<SegmentId>,
    },
    /// The emergencies of a vault, also those that are over and still kept.
    Emergencies {
        /// The vault.
        vault: VaultId,
    },
    /// What was opened in an emergency.
    EmergencyOpenings {
        /// The transaction that asked for the emergency.
        request: TransactionId,
    },
    /// The static nodes of some time, by the hash of their roster.
    Roster {
        /// The hash.
        roster: Hash,
    },
    /// A vault's guardians, what is asked of them, and the generation of its keys.
    Recovery {
        /// The vault.
        vault: VaultId,
    },
}

/// How much of the ledger a static node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The block of the snapshot that it took, the newest if there were several.
    pub snapshot: Option<Height>,
    /// The blocks before it that it does not have yet.
    pub missing: Option<Missing>,
    /// The snapshot that it is taking.
    pub taking: Option<Taking>,
}

/// A transaction that is final, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The transaction.
    pub transaction: SignedTransaction,
    /// Its block.
    pub height: Height,
    /// Where it is under the tree head.
    pub proof: LogProof,
    /// The tree head and who signed it, as a signed note.
    pub note: String,
}

impl Proven {
    /// Checks with the genesis alone that the transaction is final.
    ///
    /// # Errors
    /// As [`LogProof::verify`].
    pub fn verify(&self, genesis: &Genesis) -> Result<(), Violation> {
        self.signers(genesis).map(drop)
    }

    /// The same; answers the static nodes of whom a quorum signed the tree head.
    ///
    /// # Errors
    /// As [`LogProof::verify`].
    pub fn signers<'a>(&'a self, genesis: &'a Genesis) -> Result<&'a Roster, Violation> {
        let proven = self.proof.verify(genesis, Policy::Quorum, &self.transaction, &self.note)?;
        Ok(proven.1)
    }
}

/// A block and that it is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    /// The block.
    pub block: Vec<u8>,
    /// Its certificate.
    pub certificate: Vec<u8>,
}

/// What became of a transaction that was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is final.
    Final(Box<Proven>),
    /// It waits still: ask later.
    Waiting,
    /// The ledger does not carry it out.
    Rejected(Rejection),
    /// There is no room for it now: submit it again after so many blocks.
    Busy {
        /// Blocks.
        blocks: u64,
    },
    /// Another transaction of its author and number is waiting.
    NonceTaken,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The last block, and the newest tree head that a quorum cosigned, as a signed note.
    Tip {
        /// Its header.
        header: Box<Header>,
        /// The note; empty while there is none.
        note: String,
        /// Transactions that wait here.
        waiting: u32,
    },
    /// Blocks in the order of their heights.
    Blocks(Vec<FinalBlock>),
    /// An author's next number.
    Nonce(u64),
    /// A collection's head.
    Head(Option<Head>),
    /// Collections and their heads.
    Collections(Vec<(CollectionTag, Head)>),
    /// A transaction; none if it is not final here.
    Transaction(Option<Box<Proven>>),
    /// Anchors, each the one before the last; none if the first is not final here. No proofs: the id of the newest tells
    /// all.
    Anchors(Vec<SignedTransaction>),
    /// Static nodes.
    Statics(Vec<Static>),
    /// Storage nodes.
    Nodes(Vec<(NodeNumber, Node)>),
    /// What became of a submitted transaction.
    Fate(Fate),
    /// The number of the next change.
    Sequence(u64),
    /// Cosignatures by ascending signer; none where none are kept.
    Cosignatures(Vec<Cosignature>),
    /// Changes of the static nodes in their order.
    Steps(Vec<RosterStep>),
    /// A vault; none if it is not registered.
    Vault(Option<Vault>),
    /// A snapshot; none if there is none after that block.
    Snapshot(Option<Box<Offer>>),
    /// Rows in the order of their keys, none when it is over; none at all if the snapshot is not held any more.
    SnapshotRows(Option<Vec<Entry>>),
    /// Hashes of leaves.
    LogLeaves(Vec<LogHash>),
    /// What the static node has.
    Archive(Box<Holdings>),
    /// The height of the last block.
    Height(Height),
    /// What of access there is in a vault; none if its key was never shared.
    Access(Option<Access>),
    /// Grants by their id.
    Grants(Vec<GrantRow>),
    /// A generation; 0 of a scope that was never bumped.
    Generation(u32),
    /// Deposits by their transactions.
    Deposits(Vec<(TransactionId, DepositRow)>),
    /// The block of an erasure; none if it was not carried out.
    Erasure(Option<Height>),
    /// For each segment that was asked for, its descriptor; none where the vault has no such segment.
    Segments(Vec<Option<Segment>>),
    /// Emergencies, by the transaction that asked.
    Emergencies(Vec<(TransactionId, Emergency)>),
    /// What was opened, by the hash of the request to open.
    EmergencyOpenings(Vec<(Hash, OpeningRow)>),
    /// A roster; none if there never was one of this hash.
    Roster(Option<Box<Roster>>),
    /// Guardians, requests, and the generation of a vault's keys.
    Recovery(Box<RecoveryState>),
}

/// Answers what the state alone can answer; `None` for the questions that need more.
///
/// # Errors
/// [`ReadError`].
pub fn answer(state: &impl Read, question: &Question) -> Result<Option<Answer>, ReadError> {
    Ok(Some(match question {
        Question::Tip
        | Question::Blocks { .. }
        | Question::Transaction { .. }
        | Question::Anchors { .. }
        | Question::Cosignatures { .. }
        | Question::BlocksAfter { .. }
        | Question::Steps
        | Question::Snapshot { .. }
        | Question::SnapshotRows { .. }
        | Question::BlocksBefore { .. }
        | Question::Archive => return Ok(None),
        Question::LogLeaves { from } => Answer::LogLeaves(snapshot::leaves(state, *from)?),
        Question::Height => Answer::Height(query::tip(state)?.record.height),
        Question::Sequence => Answer::Sequence(COUNTERS.expect(state, &())?.sequence),
        Question::Nonce { author } => Answer::Nonce(query::next_nonce(state, &Lane::Author(*author))?),
        Question::Head { vault, collection } => Answer::Head(query::head(state, vault, collection)?),
        Question::Collections { vault, after } => {
            Answer::Collections(query::collections(state, vault, after.as_ref(), MAX_ANSWER_ROWS)?)
        }
        Question::Vault { vault } => Answer::Vault(VAULTS.get(state, vault)?),
        Question::Erasure { vault, erasure } => Answer::Erasure(query::erasure(state, vault, erasure)?),
        Question::Access { vault } => Answer::Access(ACCESS.get(state, vault)?),
        Question::Grants { vault, after } => {
            Answer::Grants(query::grants(state, vault, after.as_ref(), MAX_ANSWER_ROWS)?)
        }
        Question::GrantOf { grantee } => {
            Answer::Grants(query::grant_of(state, grantee)?.into_iter().collect())
        }
        Question::Generation { vault, scope } => {
            Answer::Generation(GENERATIONS.get(state, &(*vault, *scope))?.unwrap_or(0))
        }
        Question::Deposits { vault, after } => {
            Answer::Deposits(query::deposits(state, vault, after.as_ref(), MAX_ANSWER_ROWS)?)
        }
        Question::Segments { vault, segments } => {
            let rows = segments.iter().map(|segment| SEGMENTS.get(state, &(*vault, *segment)));
            Answer::Segments(rows.collect::<Result<_, _>>()?)
        }
        Question::Emergencies { vault } => Answer::Emergencies(emergency::emergencies(state, vault)?),
        Question::EmergencyOpenings { request } => {
            Answer::EmergencyOpenings(emergency::openings(state, request, MAX_ANSWER_ROWS)?)
        }
        Question::Roster { roster } => Answer::Roster(query::roster(state, roster)?.map(Box::new)),
        Question::Recovery { vault } => Answer::Recovery(Box::new(RecoveryState {
            guardians: GUARDIANS.get(state, vault)?,
            requests: recoveries(state, vault)?,
            keys: KEY_GENERATIONS.get(state, vault)?,
        })),
        Question::Statics => Answer::Statics(query::statics(state)?),
        Question::Nodes { after } => Answer::Nodes(query::nodes(state, *after, MAX_ANSWER_ROWS)?),
    }))
}

impl Answer {
    /// Reads an answer that travelled.
    ///
    /// # Errors
    /// [`Violation::TooLong`], or as [`Canonical::decode`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_ANSWER_LEN { Err(Violation::TooLong) } else { Self::decode(bytes) }
    }
}
