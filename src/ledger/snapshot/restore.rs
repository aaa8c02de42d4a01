//! What adds up the rows and the leaves of a snapshot as they come in, and says whether they are those of a header.

use crate::crypto::log_tree::Frontier;
use crate::crypto::lthash::LtHash;
use crate::ledger::apply::Writes;
use crate::ledger::log;
use crate::ledger::read::Entry;
use crate::ledger::rows::{FRONTIER, Peaks, ROSTERS, STATE_SUM, StateSum, TIP};
use crate::ledger::tables::is_hashed;
use crate::message::Violation;
use crate::message::block::Header;
use crate::message::canonical::Canonical as _;
use crate::message::member::Roster;
use crate::types::limits::MAX_SNAPSHOT_LEN;
use crate::types::{Height, LogHash};

/// Why a snapshot is not the state of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A row is of a table that snapshots do not have, or not after the one before.
    #[error("a row of the snapshot is out of its order")]
    WrongRow,
    /// The rows are not those that the header sums up.
    #[error("the snapshot is not the state of the header")]
    WrongState,
    /// The leaves are not those of the log that the header names.
    #[error("the snapshot's log is not the one of the header")]
    WrongLog,
    /// There is no end of its rows.
    #[error("the snapshot is longer than a state may be")]
    TooLong,
    /// It is not newer than what was asked for.
    #[error("the snapshot is of block {height}, and not of one after {above}")]
    Old {
        /// Its block.
        height: Height,
        /// The block that it had to be after.
        above: Height,
    },
    /// It does not follow from the genesis, or the answer is none to the question.
    #[error(transparent)]
    Wrong(#[from] Violation),
    /// The roster is not the one that decides on the next block.
    #[error("the snapshot's roster is not the one of the header")]
    WrongRoster,
}

/// A snapshot that is coming in. Rows may be stored as they come; they count when [`finish`](Self::finish)
/// says so.
///
/// Its memory does not grow with what comes in.
#[derive(Debug, Default)]
pub struct Restore {
    sum: LtHash,
    last: Vec<u8>,
    rows: u64,
    /// Bytes of the rows.
    len: u64,
    log: Frontier,
}

impl Restore {
    /// Takes in the next rows.
    ///
    /// # Errors
    /// [`SnapshotError::WrongRow`] or [`SnapshotError::TooLong`].
    pub fn take(&mut self, rows: &[Entry]) -> Result<(), SnapshotError> {
        for (key, value) in rows {
            if !is_hashed(key) || *key <= self.last {
                return Err(SnapshotError::WrongRow);
            }
            self.sum.add(key, value);
            self.last.clone_from(key);
            self.rows += 1;
            self.len = self.len.saturating_add(u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX));
        }
        if self.len > MAX_SNAPSHOT_LEN { Err(SnapshotError::TooLong) } else { Ok(()) }
    }

    /// The key of the last row.
    #[must_use]
    pub fn last(&self) -> Option<&[u8]> {
        (!self.last.is_empty()).then_some(&self.last)
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the rows are all of the state of this header.
    ///
    /// # Errors
    /// [`SnapshotError::WrongState`].
    pub fn check_state(&self, header: &Header) -> Result<(), SnapshotError> {
        if self.sum.digest() == header.record.state { Ok(()) } else { Err(SnapshotError::WrongState) }
    }

    /// Takes in the next leaf of the log; `store` is given the nodes that are stored of a log.
    pub fn push(&mut self, leaf: LogHash, store: &mut Vec<Entry>) {
        log::push(&mut self.log, leaf, |key, hash| store.push((key, hash.encode())));
    }

    /// The log so far.
    #[must_use]
    pub const fn log(&self) -> &Frontier {
        &self.log
    }

    /// What is to be written beside the rows and the nodes of the log, if they are those of this header, which the
    /// caller has from a certificate of a committee that it trusts.
    ///
    /// # Errors
    /// [`SnapshotError`] names what does not fit.
    pub fn finish(self, header: &Header, next: &Roster) -> Result<Writes, SnapshotError> {
        self.check_state(header)?;
        if (self.log.size(), self.log.root()) != (header.record.log_size, header.log_root) {
            return Err(SnapshotError::WrongLog);
        }
        if next.hash() != header.record.next_roster() {
            return Err(SnapshotError::WrongRoster);
        }
        let beside = [
            (TIP.key(&()), header.encode()),
            (STATE_SUM.key(&()), StateSum(self.sum.to_bytes()).encode()),
            (FRONTIER.key(&()), Peaks(self.log.peaks().to_vec()).encode()),
            (ROSTERS.key(&next.hash()), next.encode()),
        ];
        Ok(beside.into_iter().map(|(key, value)| (key, Some(value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_an_end_is_refused() {
        let row = |nth: u8| (vec![0x20, nth], vec![0; 98]);
        let mut restore = Restore { len: MAX_SNAPSHOT_LEN - 100, ..Restore::default() };
        assert_eq!(restore.take(&[row(1)]), Ok(()));
        assert_eq!(restore.take(&[row(2)]), Err(SnapshotError::TooLong));
    }
}
