//! Remembers why the database's storage failed: after the first failure redb says only that there was one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use redb::StorageBackend;

use crate::store::disk::says_full;
use crate::store::index::IndexError;

const SOUND: u8 = 0;
const FAILED: u8 = 1;
const FULL: u8 = 2;

/// What became of a storage's writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<AtomicU8>);

impl Fate {
    /// A write failed: the database is of no use any more until it is opened anew.
    pub(super) fn has_failed(&self) -> bool {
        self.0.load(Ordering::Relaxed) != SOUND
    }

    /// An error of the database with what is known of its storage.
    pub(super) fn explain(&self, error: IndexError) -> IndexError {
        match error {
            IndexError::Database(redb::Error::PreviousIo) if self.0.load(Ordering::Relaxed) == FULL => {
                IndexError::Full
            }
            error => error,
        }
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            // The first failure is the cause of the others, unless a later one says more.
            self.0.fetch_max(if says_full(error) { FULL } else { FAILED }, Ordering::Relaxed);
        }
        result
    }
}

/// A storage whose fate is watched.
#[derive(Debug)]
pub(super) struct Watched<B>(B, Fate);

impl<B: StorageBackend> Watched<B> {
    pub(super) fn new(storage: B) -> (Self, Fate) {
        let fate = Fate::default();
        (Self(storage, fate.clone()), fate)
    }
}

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.note(self.0.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.note(self.0.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.note(self.0.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.1.note(self.0.close())
    }
}
