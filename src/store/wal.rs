//! The log of consensus: what a static node has said, durable before it says it.
//!
//! One file of entries, each `len u32 | durable_to u64 | hash 16 | bytes`, numbers little endian. The hash is of
//! all the rest and keyed by where the entry begins, so that no entry of an earlier time is taken for one.
//! `durable_to` is how much of the file was synced when the entry was written: that tells the torn end of a
//! crash (never synced, so nothing was said of it: cut off) from damage, after which the node must not vote.
//!
//! Entries say themselves to which height they belong; [`Wal::restart`] begins anew when all are of the past.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::store::disk::{Disk, DiskFile};

/// The log's file.
pub(crate) const FILE: &str = "consensus.log";
const HEAD_LEN: usize = 4 + 8 + HASH_LEN;
const HASH_LEN: usize = 16;
/// The longest entry: a block and what is said of it.
const MAX_ENTRY_LEN: usize = 4 << 20;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk failed.
    #[error("{during} the consensus log failed")]
    Disk {
        /// What failed.
        during: &'static str,
        /// How.
        #[source]
        source: io::Error,
    },
    /// What was synced does not read any more.
    #[error(
        "the consensus log is damaged at byte {at}: this node can no longer know what it signed, and must not \
         sign with this key again; replace it on the ledger"
    )]
    Damaged {
        /// Where.
        at: u64,
    },
}

fn failed(during: &'static str) -> impl Fn(io::Error) -> WalError {
    move |source| WalError::Disk { during, source }
}

/// The log, open for more.
pub struct Wal {
    file: Arc<dyn DiskFile>,
    /// Bytes of the file that are synced.
    durable_to: u64,
    /// Appended and not yet written.
    pending: Vec<u8>,
    /// A sync failed: it is unknown what is on disk.
    failed: bool,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("durable_to", &self.durable_to).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log, or begins one; with what it holds, in order.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open(disk: &dyn Disk) -> Result<(Self, Vec<Vec<u8>>), WalError> {
        let file = match disk.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(FILE).map_err(failed("making"))?;
                disk.sync_dir().map_err(failed("making"))?;
                file
            }
            opened => opened.map_err(failed("opening"))?,
        };
        let len = file.len().map_err(failed("reading"))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_at(0, &mut bytes).map_err(failed("reading"))?;
        let (entries, end) = read_entries(&bytes)?;
        if end < len {
            file.set_len(end).map_err(failed("cutting"))?;
            file.sync_data().map_err(failed("cutting"))?;
        }
        Ok((Self { file, durable_to: end, pending: Vec::new(), failed: false }, entries))
    }

    /// Adds an entry; durable after the next [`flush`](Self::flush).
    pub fn append(&mut self, entry: &[u8]) {
        let at = self.durable_to + self.pending.len() as u64;
        let head = head(at, self.durable_to, entry);
        self.pending.extend_from_slice(&head);
        self.pending.extend_from_slice(entry);
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`WalError::Disk`]; after it nothing may be said any more, also not when it succeeds later.
    pub fn flush(&mut self) -> Result<(), WalError> {
        if self.failed {
            return Err(failed("syncing")(io::ErrorKind::Other.into()));
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        self.failed = true;
        // If we crash here, or the write fails midway, a torn end is cut off; nothing was said of it.
        self.file.write_at(self.durable_to, &self.pending).map_err(failed("writing"))?;
        self.file.sync_data().map_err(failed("syncing"))?;
        self.failed = false;
        self.durable_to += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Bytes of the log.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.durable_to
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.durable_to == 0 && self.pending.is_empty()
    }

    /// Drops all entries: they are of heights whose blocks are durable.
    ///
    /// # Errors
    /// [`WalError::Disk`].
    pub fn restart(&mut self) -> Result<(), WalError> {
        self.pending.clear();
        // If we crash here the old entries are read again, and skipped for their heights.
        self.file.set_len(0).map_err(failed("cutting"))?;
        self.file.sync_data().map_err(failed("cutting"))?;
        self.durable_to = 0;
        Ok(())
    }
}

fn head(at: u64, durable_to: u64, entry: &[u8]) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    // Longer entries are never written: consensus bounds its messages.
    head[..4].copy_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
    head[4..12].copy_from_slice(&durable_to.to_le_bytes());
    let hash = hash(at, &head[..12], entry);
    head[12..].copy_from_slice(&hash);
    head
}

fn hash(at: u64, fields: &[u8], entry: &[u8]) -> [u8; HASH_LEN] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&at.to_le_bytes());
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(fields).update(entry);
    let mut hash = [0; HASH_LEN];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

/// An entry at an offset: its bytes and its `durable_to`; `None` if there is none.
fn entry_at(bytes: &[u8], at: usize) -> Option<(&[u8], u64)> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD_LEN>()?;
    let len = usize::try_from(u32::from_le_bytes(head[..4].try_into().ok()?)).ok()?;
    let entry = rest.get(..len).filter(|_| len <= MAX_ENTRY_LEN)?;
    let is_whole = hash(at as u64, &head[..12], entry) == head[12..];
    is_whole.then(|| Some((entry, u64::from_le_bytes(head[4..12].try_into().ok()?))))?
}

/// All entries, and where the log ends.
fn read_entries(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), WalError> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some((entry, _)) = entry_at(bytes, at) {
        entries.push(entry.to_vec());
        at += HEAD_LEN + entry.len();
    }
    // An entry further on that was written when this place was already synced shows that it was whole once.
    let synced = |later: usize| entry_at(bytes, later).is_some_and(|(_, durable_to)| durable_to > at as u64);
    if (at + 1..bytes.len()).any(synced) {
        return Err(WalError::Damaged { at: at as u64 });
    }
    Ok((entries, at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemDisk, Op, Survivors};

    const ROOM: u64 = 64 << 20;

    fn entry(nth: u8) -> Vec<u8> {
        vec![nth; 10 + usize::from(nth)]
    }

    fn read(disk: &MemDisk) -> Vec<Vec<u8>> {
        Wal::open(disk).unwrap().1
    }

    #[test]
    fn what_is_flushed_is_read_back_in_order_over_restarts() {
        let disk = MemDisk::new(ROOM);
        for start in [0, 3, 6] {
            let (mut wal, entries) = Wal::open(&disk).unwrap();
            assert_eq!(entries, (0..start).map(entry).collect::<Vec<_>>());
            (start..start + 3).for_each(|nth| wal.append(&entry(nth)));
            wal.flush().unwrap();
        }
        let (mut wal, _) = Wal::open(&disk).unwrap();
        wal.restart().unwrap();
        wal.append(&entry(9));
        wal.flush().unwrap();
        assert_eq!(read(&disk), [entry(9)]);
    }

    /// Appends and flushes entry after entry, restarting the log now and then; how many were flushed since.
    fn work(disk: &MemDisk) -> Vec<Vec<u8>> {
        let mut flushed = Vec::new();
        let Ok((mut wal, _)) = Wal::open(disk) else { return flushed };
        for nth in 0..12 {
            if nth == 6 {
                if wal.restart().is_err() {
                    return flushed;
                }
                flushed.clear();
            }
            wal.append(&entry(nth));
            if wal.flush().is_err() {
                return flushed;
            }
            flushed.push(entry(nth));
        }
        flushed
    }

    #[test]
    fn a_crash_at_any_operation_loses_nothing_that_was_flushed() {
        for survivors in
            [Survivors::Nothing, Survivors::Everything, Survivors::Random(1), Survivors::Random(2)]
        {
            for change in 0.. {
                let disk = MemDisk::new(ROOM);
                disk.lose_power_at(change);
                let flushed = work(&disk);
                if !disk.is_down() {
                    break;
                }
                let found = read(&disk.after_power_loss(survivors));
                // While it is begun anew the old entries may be there still.
                let anew = (0..6).map(entry).chain(flushed.iter().cloned()).collect::<Vec<_>>();
                let holds = found.starts_with(&flushed) || flushed.is_empty() || anew.starts_with(&found);
                assert!(holds, "{change} {survivors:?}: {} of {}", found.len(), flushed.len());
            }
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_damage_before_it_is_named() {
        let disk = MemDisk::new(ROOM);
        let (mut wal, _) = Wal::open(&disk).unwrap();
        for nth in 0..5 {
            wal.append(&entry(nth));
            wal.flush().unwrap();
        }
        let ends: Vec<u64> = (0..5)
            .scan(0, |end, nth| {
                *end += (HEAD_LEN + entry(nth).len()) as u64;
                Some(*end)
            })
            .collect();
        for at in 0..wal.len() {
            let damaged = disk.after_power_loss(Survivors::Everything);
            damaged.flip_bit(FILE, at, 3);
            // The last entry cannot be told from one that was being written.
            if at >= ends[3] {
                assert_eq!(read(&damaged).len(), 4);
            } else {
                assert!(matches!(Wal::open(&damaged), Err(WalError::Damaged { .. })), "byte {at}");
            }
        }
    }

    #[test]
    fn after_a_failed_sync_nothing_more_is_durable() {
        let disk = MemDisk::new(ROOM);
        let (mut wal, _) = Wal::open(&disk).unwrap();
        wal.append(&entry(1));
        disk.fail_next(Op::Sync, FILE, io::ErrorKind::Other);
        assert!(wal.flush().is_err());
        assert!(wal.flush().is_err(), "a later sync says nothing of what the failed one lost");
    }
}
