//! Transactions that wait for a block. No clock, no I/O: the driver inserts what it verified, takes what
//! a block is to hold, and tells what became of it.
//!
//! Bounded in all and for each author, so that no author keeps another out; and a block is filled by
//! authors in turn. Full means refused with the number of blocks after which to try again.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::apply::NotTaken;
use crate::message::rejection::Rejection;
use crate::message::transaction::{Lane, SignedTransaction, VerifiedTransaction};
use crate::types::limits::{
    MAX_AUTHOR_BLOCK_TRANSACTIONS, MAX_BLOCK_LEN, MAX_BLOCK_TRANSACTIONS, MEMPOOL_AUTHOR_BYTES,
    MEMPOOL_AUTHOR_TRANSACTIONS, MEMPOOL_BYTES, MEMPOOL_NEW_AUTHOR_TRANSACTIONS,
};
use crate::types::{Height, PublicKey, TransactionId};

/// Why a transaction may not wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// It is here already: wait for its block.
    #[error("the transaction is waiting already")]
    Waiting,
    /// Its author has another one of this nonce here, for the same collection if it is an anchor.
    #[error("another transaction of this author and nonce is waiting")]
    NonceTaken,
    /// Its author has as much here as is allowed; a block takes some of it.
    #[error("the author has too much waiting: try again after {blocks} blocks")]
    AuthorFull {
        /// After so many.
        blocks: u64,
    },
    /// There is no room at all.
    #[error("the static node is busy: try again after {blocks} blocks")]
    Full {
        /// After so many.
        blocks: u64,
    },
    /// The ledger would refuse it whatever comes before.
    #[error(transparent)]
    Rejected(Rejection),
}

/// What waits of one author.
#[derive(Debug, Default)]
struct Queue {
    by_turn: BTreeMap<(Lane, u64), VerifiedTransaction>,
    bytes: usize,
}

/// The waiting transactions.
#[derive(Debug, Default)]
pub struct Mempool {
    queues: BTreeMap<PublicKey, Queue>,
    /// Invariant: the turns of all that is in `queues`, and whose they are. Writers of one collection share its turns.
    turns: BTreeSet<(Lane, u64, PublicKey)>,
    /// Invariant: the ids of all that is in `queues`.
    ids: BTreeSet<TransactionId>,
    /// Invariant: the sum over `queues`.
    bytes: usize,
    /// The author whose turn ended the last block: the next begins after it.
    last: Option<PublicKey>,
}

impl Mempool {
    /// Transactions that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this transaction waits, so that its signatures are known to be good.
    #[must_use]
    pub fn contains(&self, id: &TransactionId) -> bool {
        self.ids.contains(id)
    }

    /// Whether anything of this author waits.
    #[must_use]
    pub fn has_any_of(&self, author: &PublicKey) -> bool {
        self.queues.contains_key(author)
    }

    /// Lets a transaction wait, of which [`precheck`](crate::ledger::precheck) found nothing to say. `height`
    /// is that of the next block, `next_nonce` the one of its lane in the finalized state.
    ///
    /// # Errors
    /// [`NotQueued`] says why not, and what would help.
    pub fn insert(
        &mut self,
        transaction: VerifiedTransaction,
        height: Height,
        next_nonce: u64,
    ) -> Result<(), NotQueued> {
        let signed = transaction.signed();
        let (id, author, (lane, nonce)) = (signed.id(), signed.transaction().author, turn(signed));
        let len = signed.bytes().len();
        self.admit(signed, height, next_nonce)?;
        let queue = self.queues.entry(author).or_default();
        queue.bytes += len;
        queue.by_turn.insert((lane, nonce), transaction);
        self.turns.insert((lane, nonce, author));
        self.bytes += len;
        self.ids.insert(id);
        Ok(())
    }

    fn admit(&self, signed: &SignedTransaction, height: Height, next_nonce: u64) -> Result<(), NotQueued> {
        let transaction = signed.transaction();
        if self.ids.contains(&signed.id()) {
            return Err(NotQueued::Waiting);
        }
        if transaction.expires < height {
            return Err(NotQueued::Rejected(Rejection::Expired { height }));
        }
        let ahead = u64::try_from(MEMPOOL_AUTHOR_TRANSACTIONS).unwrap_or(u64::MAX);
        if transaction.nonce < next_nonce || transaction.nonce - next_nonce >= ahead {
            return Err(NotQueued::Rejected(Rejection::WrongNonce { expected: next_nonce }));
        }
        let len = signed.bytes().len();
        if self.bytes + len > MEMPOOL_BYTES {
            return Err(NotQueued::Full { blocks: blocks(self.bytes, MAX_BLOCK_LEN) });
        }
        let Some(queue) = self.queues.get(&transaction.author) else {
            let is_stranger = next_nonce == 0 && transaction.nonce > 0;
            let wrong = NotQueued::Rejected(Rejection::WrongNonce { expected: next_nonce });
            return if is_stranger { Err(wrong) } else { Ok(()) };
        };
        if queue.by_turn.contains_key(&turn(signed)) {
            return Err(NotQueued::NonceTaken);
        }
        let most =
            if next_nonce == 0 { MEMPOOL_NEW_AUTHOR_TRANSACTIONS } else { MEMPOOL_AUTHOR_TRANSACTIONS };
        let is_full = queue.by_turn.len() >= most || queue.bytes + len > MEMPOOL_AUTHOR_BYTES;
        let wait = blocks(queue.by_turn.len(), MAX_AUTHOR_BLOCK_TRANSACTIONS);
        if is_full { Err(NotQueued::AuthorFull { blocks: wait }) } else { Ok(()) }
    }

    /// What the next block should try, in this order: one of each author in turn, each lane by ascending nonce,
    /// until a block is full. It all stays here until a block has it.
    #[must_use]
    pub fn candidates(&mut self) -> Vec<VerifiedTransaction> {
        let authors = self.authors_in_turn();
        let queues = authors.iter().filter_map(|author| self.queues.get(author));
        let mut queues: Vec<_> =
            queues.map(|queue| queue.by_turn.values().take(MAX_AUTHOR_BLOCK_TRANSACTIONS)).collect();
        let (mut picked, mut room) = (Vec::new(), MAX_BLOCK_LEN);
        while !queues.is_empty() {
            for next in queues.iter_mut().filter_map(Iterator::next) {
                let len = next.signed().bytes().len();
                if picked.len() == MAX_BLOCK_TRANSACTIONS || len > room {
                    return self.end_turn(picked);
                }
                room -= len;
                picked.push(next.clone());
            }
            queues.retain(|queue| queue.len() > 0);
        }
        self.end_turn(picked)
    }

    fn authors_in_turn(&self) -> Vec<PublicKey> {
        let mut authors: Vec<PublicKey> = self.queues.keys().copied().collect();
        let first = self.last.map_or(0, |last| authors.partition_point(|key| *key <= last));
        authors.rotate_left(first);
        authors
    }

    fn end_turn(&mut self, picked: Vec<VerifiedTransaction>) -> Vec<VerifiedTransaction> {
        if let Some(last) = picked.last() {
            self.last = Some(last.signed().transaction().author);
        }
        picked
    }

    /// A block was decided: what is in it, what it made stale and what has expired go. Answers what can never be
    /// carried out, and why.
    pub fn decided(&mut self, transactions: &[SignedTransaction], next: Height) -> Vec<NotTaken> {
        let mut dead = Vec::new();
        for signed in transactions {
            let (lane, nonce) = turn(signed);
            let rejection = match lane {
                Lane::Collection(..) => Rejection::HeadMoved { head: Some(signed.id()) },
                Lane::Author(_) => Rejection::WrongNonce { expected: nonce + 1 },
            };
            // Everything of this lane up to this turn, whosever it is, is carried out or can never be.
            let (first, last) = (PublicKey([0; 32]), PublicKey([0xff; 32]));
            let over: Vec<_> = self.turns.range((lane, 0, first)..=(lane, nonce, last)).copied().collect();
            for (lane, nonce, author) in over {
                let gone = self.drop_turn(author, (lane, nonce)).filter(|id| *id != signed.id());
                dead.extend(gone.map(|id| NotTaken { author, id, rejection }));
            }
        }
        let authors: Vec<PublicKey> = self.queues.keys().copied().collect();
        for author in authors {
            let gone = self.drop_where(&author, |other| other.transaction().expires < next);
            let rejection = Rejection::Expired { height: next };
            dead.extend(gone.into_iter().map(|id| NotTaken { author, id, rejection }));
        }
        dead
    }

    /// The ledger refused a transaction when a block was built. It goes, unless it only came too early.
    pub fn refused(&mut self, refused: &NotTaken) {
        let stays = |other: &SignedTransaction| match refused.rejection {
            Rejection::WrongNonce { expected } => other.transaction().nonce > expected,
            Rejection::TooManyOfAuthor => true,
            _ => false,
        };
        self.drop_where(&refused.author, |other| other.id() == refused.id && !stays(other));
    }

    /// Answers the ids of those that went.
    fn drop_where(
        &mut self,
        author: &PublicKey,
        is_gone: impl Fn(&SignedTransaction) -> bool,
    ) -> Vec<TransactionId> {
        let Some(queue) = self.queues.get(author) else { return Vec::new() };
        let waiting = queue.by_turn.iter();
        let gone: Vec<_> =
            waiting.filter(|(_, waiting)| is_gone(waiting.signed())).map(|(turn, _)| *turn).collect();
        gone.into_iter().filter_map(|turn| self.drop_turn(*author, turn)).collect()
    }

    /// Answers the id of what went, if there was any.
    fn drop_turn(&mut self, author: PublicKey, turn: (Lane, u64)) -> Option<TransactionId> {
        let queue = self.queues.get_mut(&author)?;
        let waiting = queue.by_turn.remove(&turn)?;
        let (id, len) = (waiting.signed().id(), waiting.signed().bytes().len());
        queue.bytes -= len;
        if queue.by_turn.is_empty() {
            self.queues.remove(&author);
        }
        self.bytes -= len;
        self.ids.remove(&id);
        self.turns.remove(&(turn.0, turn.1, author));
        Some(id)
    }
}

/// When a transaction's turn is.
fn turn(signed: &SignedTransaction) -> (Lane, u64) {
    (signed.transaction().lane(), signed.transaction().nonce)
}

/// Blocks that it takes until what is ahead is done.
fn blocks(ahead: usize, of_a_block: usize) -> u64 {
    u64::try_from(ahead / of_a_block).unwrap_or(u64::MAX) + 1
}
