//! Snapshots: a state that is taken over from somebody else, once it is known to be the one of a header.

use crate::crypto::log_tree::Frontier;
use crate::crypto::lthash::LtHash;
use crate::ledger::apply::Writes;
use crate::ledger::read::{Entry, Read, ReadError};
use crate::ledger::rows::{FRONTIER, Peaks, ROSTERS, STATE_SUM, StateSum, TIP};
use crate::ledger::tables::{LAST_UNHASHED, is_hashed};
use crate::message::block::Header;
use crate::message::canonical::Canonical as _;
use crate::message::member::Roster;
use crate::types::LogHash;

/// Why a snapshot is not the state of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A row is of a table that snapshots do not have, or not after the one before.
    #[error("a row of the snapshot is out of its order")]
    WrongRow,
    /// The rows are not those that the header sums up.
    #[error("the snapshot is not the state of the header")]
    WrongState,
    /// The peaks are not those of the log that the header names.
    #[error("the snapshot's log is not the one of the header")]
    WrongLog,
    /// The roster is not the one that decides on the next block.
    #[error("the snapshot's roster is not the one of the header")]
    WrongRoster,
}

/// The next rows of a snapshot, in order, after the key given; none when it is over.
///
/// # Errors
/// [`ReadError`].
pub fn rows(state: &impl Read, after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, ReadError> {
    let from = match after {
        Some(key) => [key, &[0]].concat(),
        None => vec![LAST_UNHASHED + 1],
    };
    state.scan(&[], &from, limit)
}

/// A snapshot that is coming in. Rows may be stored as they come; they count when [`finish`](Self::finish)
/// says so.
#[derive(Debug, Default)]
pub struct Restore {
    sum: LtHash,
    last: Vec<u8>,
}

impl Restore {
    /// Takes in the next rows.
    ///
    /// # Errors
    /// [`SnapshotError::WrongRow`].
    pub fn take(&mut self, rows: &[Entry]) -> Result<(), SnapshotError> {
        for (key, value) in rows {
            if !is_hashed(key) || *key <= self.last {
                return Err(SnapshotError::WrongRow);
            }
            self.sum.add(key, value);
            self.last.clone_from(key);
        }
        Ok(())
    }

    /// What is to be written beside the rows, if they are the state of this header, which the caller has
    /// from a certificate of a committee that it trusts.
    ///
    /// # Errors
    /// [`SnapshotError`] names what does not fit.
    pub fn finish(
        self,
        header: &Header,
        peaks: Vec<LogHash>,
        next: &Roster,
    ) -> Result<Writes, SnapshotError> {
        if self.sum.digest() != header.record.state {
            return Err(SnapshotError::WrongState);
        }
        let log = Frontier::new(header.record.log_size, peaks.clone());
        if log.map(|log| log.root()) != Some(header.log_root) {
            return Err(SnapshotError::WrongLog);
        }
        if next.hash() != header.record.next_roster() {
            return Err(SnapshotError::WrongRoster);
        }
        let beside = [
            (TIP.key(&()), header.encode()),
            (STATE_SUM.key(&()), StateSum(self.sum.to_bytes()).encode()),
            (FRONTIER.key(&()), Peaks(peaks).encode()),
            (ROSTERS.key(&next.hash()), next.encode()),
        ];
        Ok(beside.into_iter().map(|(key, value)| (key, Some(value))).collect())
    }
}
