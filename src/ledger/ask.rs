//! What anybody may ask a static node, and its answers. Pure: from a state and a question to the answer; what
//! the state does not hold (blocks, cosignatures) the node adds.
//!
//! An answer is worth nothing by itself. Who asks checks a transaction's proof against the genesis
//! ([`AnchorReceipt`](crate::message::AnchorReceipt)), blocks against their certificates, and asks more than
//! [`f`](crate::types::Committee::f) nodes for what has no proof.

use crate::ledger::query;
use crate::ledger::read::{Entry, Read, ReadError};
use crate::ledger::rows::{COUNTERS, Head, Missing, Node, Static, VAULTS, Vault};
use crate::ledger::snapshot::{self, Offer, Taking};
use crate::message::Violation;
use crate::message::anchor::NodeNumber;
use crate::message::anchor_receipt::{LogProof, RosterStep};
use crate::message::block::Header;
use crate::message::canonical::{Canonical, read_bytes, read_list, take, write_bytes, write_list};
use crate::message::checkpoint::{Cosignature, Policy};
use crate::message::genesis::Genesis;
use crate::message::member::Roster;
use crate::message::rejection::Rejection;
use crate::message::transaction::{Lane, SignedTransaction};
use crate::types::limits::{
    MAX_ANSWER_BLOCKS, MAX_ANSWER_LEAVES, MAX_ANSWER_LEN, MAX_ANSWER_ROWS, MAX_BLOCK_LEN, MAX_COMMITTEE,
    MAX_RECEIPT_LEN, MAX_RECEIPT_STEPS, MAX_ROW_KEY_LEN, MAX_ROW_LEN, MAX_SNAPSHOT_ROWS,
};
use crate::types::{CollectionTag, Height, LogHash, PublicKey, TransactionId, VaultId};

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
        Question::Statics => Answer::Statics(query::statics(state)?),
        Question::Nodes { after } => Answer::Nodes(query::nodes(state, *after, MAX_ANSWER_ROWS)?),
    }))
}

impl Canonical for Question {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Tip => to.push(1),
            Self::Blocks { from } => {
                to.push(2);
                from.write(to);
            }
            Self::Nonce { author } => {
                to.push(3);
                author.write(to);
            }
            Self::Head { vault, collection } => {
                to.push(4);
                vault.write(to);
                collection.write(to);
            }
            Self::Collections { vault, after } => {
                to.push(5);
                vault.write(to);
                after.write(to);
            }
            Self::Transaction { id } => {
                to.push(6);
                id.write(to);
            }
            Self::Statics => to.push(7),
            Self::Nodes { after } => {
                to.push(8);
                after.write(to);
            }
            Self::Anchors { from, until } => {
                to.push(9);
                from.write(to);
                until.write(to);
            }
            Self::Sequence => to.push(10),
            Self::Cosignatures { height } => {
                to.push(11);
                height.write(to);
            }
            Self::Steps => to.push(12),
            Self::Vault { vault } => {
                to.push(13);
                vault.write(to);
            }
            Self::Snapshot { above } => {
                to.push(20);
                above.write(to);
            }
            Self::SnapshotRows { height, after } => {
                to.push(21);
                height.write(to);
                after.is_some().write(to);
                if let Some(after) = after {
                    write_bytes(after, to);
                }
            }
            Self::LogLeaves { from } => {
                to.push(22);
                from.write(to);
            }
            Self::BlocksBefore { before } => {
                to.push(23);
                before.write(to);
            }
            Self::Archive => to.push(24),
            Self::BlocksAfter { after } => {
                to.push(40);
                after.write(to);
            }
            Self::Height => to.push(41),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Tip,
            2 => Self::Blocks { from: Canonical::read(from)? },
            3 => Self::Nonce { author: Canonical::read(from)? },
            4 => Self::Head { vault: Canonical::read(from)?, collection: Canonical::read(from)? },
            5 => Self::Collections { vault: Canonical::read(from)?, after: Canonical::read(from)? },
            6 => Self::Transaction { id: Canonical::read(from)? },
            7 => Self::Statics,
            8 => Self::Nodes { after: Canonical::read(from)? },
            9 => Self::Anchors { from: Canonical::read(from)?, until: Canonical::read(from)? },
            10 => Self::Sequence,
            11 => Self::Cosignatures { height: Canonical::read(from)? },
            12 => Self::Steps,
            13 => Self::Vault { vault: Canonical::read(from)? },
            20 => Self::Snapshot { above: Canonical::read(from)? },
            21 => {
                let height = Canonical::read(from)?;
                let after = bool::read(from)?.then(|| read_bytes(from, MAX_ROW_KEY_LEN)).transpose()?;
                Self::SnapshotRows { height, after }
            }
            22 => Self::LogLeaves { from: Canonical::read(from)? },
            23 => Self::BlocksBefore { before: Canonical::read(from)? },
            24 => Self::Archive,
            40 => Self::BlocksAfter { after: Canonical::read(from)? },
            41 => Self::Height,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// Bytes of any length up to `max`, after their length.
fn write_long(bytes: &[u8], to: &mut Vec<u8>) {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).write(to);
    to.extend_from_slice(bytes);
}

fn read_long(from: &mut &[u8], max: usize) -> Result<Vec<u8>, Violation> {
    let len = usize::try_from(u32::read(from)?).map_err(|_| Violation::OutOfBounds)?;
    if len > max {
        return Err(Violation::OutOfBounds);
    }
    take(from, len).map(<[u8]>::to_vec)
}

fn read_note(from: &mut &[u8]) -> Result<String, Violation> {
    String::from_utf8(read_long(from, MAX_RECEIPT_LEN)?).map_err(|_| Violation::Malformed)
}

impl Canonical for FinalBlock {
    fn write(&self, to: &mut Vec<u8>) {
        write_long(&self.block, to);
        write_long(&self.certificate, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { block: read_long(from, MAX_BLOCK_LEN)?, certificate: read_long(from, MAX_BLOCK_LEN)? })
    }
}

impl Canonical for Proven {
    fn write(&self, to: &mut Vec<u8>) {
        self.transaction.write(to);
        self.height.write(to);
        self.proof.write(to);
        write_long(self.note.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            transaction: Canonical::read(from)?,
            height: Canonical::read(from)?,
            proof: Canonical::read(from)?,
            note: read_note(from)?,
        })
    }
}

impl Canonical for Fate {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Final(proven) => {
                to.push(1);
                proven.write(to);
            }
            Self::Waiting => to.push(2),
            Self::Rejected(rejection) => {
                to.push(3);
                rejection.write(to);
            }
            Self::Busy { blocks } => {
                to.push(4);
                blocks.write(to);
            }
            Self::NonceTaken => to.push(5),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Final(Box::new(Canonical::read(from)?)),
            2 => Self::Waiting,
            3 => Self::Rejected(Canonical::read(from)?),
            4 => Self::Busy { blocks: Canonical::read(from)? },
            5 => Self::NonceTaken,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// A pair, one after the other.
struct Pair<A, B>(A, B);

impl<A: Canonical, B: Canonical> Canonical for Pair<A, B> {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?))
    }
}

fn write_pairs<A: Canonical + Clone, B: Canonical + Clone>(pairs: &[(A, B)], to: &mut Vec<u8>) {
    let pairs: Vec<_> = pairs.iter().map(|(one, other)| Pair(one.clone(), other.clone())).collect();
    write_list(&pairs, to);
}

fn read_pairs<A: Canonical, B: Canonical>(from: &mut &[u8]) -> Result<Vec<(A, B)>, Violation> {
    let pairs: Vec<Pair<A, B>> = read_list(from, MAX_ANSWER_ROWS)?;
    Ok(pairs.into_iter().map(|pair| (pair.0, pair.1)).collect())
}

/// A row of the state as it travels.
struct Row(Entry);

impl Canonical for Row {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0.0, to);
        write_long(&self.0.1, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self((read_bytes(from, MAX_ROW_KEY_LEN)?, read_long(from, MAX_ROW_LEN)?)))
    }
}

fn write_rows(rows: &[Entry], to: &mut Vec<u8>) {
    let rows: Vec<_> = rows.iter().cloned().map(Row).collect();
    write_list(&rows, to);
}

fn read_rows(from: &mut &[u8]) -> Result<Vec<Entry>, Violation> {
    let rows: Vec<Row> = read_list(from, MAX_SNAPSHOT_ROWS)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

impl Canonical for Holdings {
    fn write(&self, to: &mut Vec<u8>) {
        self.snapshot.write(to);
        self.missing.write(to);
        self.taking.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            snapshot: Canonical::read(from)?,
            missing: Canonical::read(from)?,
            taking: Canonical::read(from)?,
        })
    }
}

impl Canonical for Answer {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Tip { header, note, waiting } => {
                to.push(1);
                header.write(to);
                write_long(note.as_bytes(), to);
                waiting.write(to);
            }
            Self::Blocks(blocks) => {
                to.push(2);
                write_list(blocks, to);
            }
            Self::Nonce(nonce) => {
                to.push(3);
                nonce.write(to);
            }
            Self::Head(head) => {
                to.push(4);
                head.write(to);
            }
            Self::Collections(collections) => {
                to.push(5);
                write_pairs(collections, to);
            }
            Self::Transaction(proven) => {
                to.push(6);
                proven.is_some().write(to);
                if let Some(proven) = proven {
                    proven.write(to);
                }
            }
            Self::Statics(statics) => {
                to.push(7);
                write_list(statics, to);
            }
            Self::Nodes(nodes) => {
                to.push(8);
                write_pairs(nodes, to);
            }
            Self::Fate(fate) => {
                to.push(9);
                fate.write(to);
            }
            Self::Anchors(anchors) => {
                to.push(10);
                write_list(anchors, to);
            }
            Self::Sequence(sequence) => {
                to.push(11);
                sequence.write(to);
            }
            Self::Cosignatures(cosignatures) => {
                to.push(12);
                write_list(cosignatures, to);
            }
            Self::Steps(steps) => {
                to.push(13);
                write_list(steps, to);
            }
            Self::Vault(vault) => {
                to.push(14);
                vault.write(to);
            }
            Self::Snapshot(offer) => {
                to.push(20);
                offer.is_some().write(to);
                if let Some(offer) = offer {
                    offer.write(to);
                }
            }
            Self::SnapshotRows(rows) => {
                to.push(21);
                rows.is_some().write(to);
                if let Some(rows) = rows {
                    write_rows(rows, to);
                }
            }
            Self::LogLeaves(leaves) => {
                to.push(22);
                write_list(leaves, to);
            }
            Self::Archive(holdings) => {
                to.push(23);
                holdings.write(to);
            }
            Self::Height(height) => {
                to.push(40);
                height.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Tip {
                header: Box::new(Canonical::read(from)?),
                note: read_note(from)?,
                waiting: Canonical::read(from)?,
            },
            2 => Self::Blocks(read_list(from, MAX_ANSWER_BLOCKS)?),
            3 => Self::Nonce(Canonical::read(from)?),
            4 => Self::Head(Canonical::read(from)?),
            5 => Self::Collections(read_pairs(from)?),
            6 => Self::Transaction(Option::<Proven>::read(from)?.map(Box::new)),
            7 => Self::Statics(read_list(from, MAX_ANSWER_ROWS)?),
            8 => Self::Nodes(read_pairs(from)?),
            9 => Self::Fate(Canonical::read(from)?),
            10 => Self::Anchors(read_list(from, MAX_ANSWER_ROWS)?),
            11 => Self::Sequence(Canonical::read(from)?),
            12 => Self::Cosignatures(read_list(from, MAX_COMMITTEE)?),
            13 => Self::Steps(read_list(from, MAX_RECEIPT_STEPS)?),
            14 => Self::Vault(Canonical::read(from)?),
            20 => Self::Snapshot(Option::<Offer>::read(from)?.map(Box::new)),
            21 => Self::SnapshotRows(bool::read(from)?.then(|| read_rows(from)).transpose()?),
            22 => Self::LogLeaves(read_list(from, MAX_ANSWER_LEAVES)?),
            23 => Self::Archive(Box::new(Canonical::read(from)?)),
            40 => Self::Height(Canonical::read(from)?),
            _ => return Err(Violation::Malformed),
        })
    }
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
