//! What a static node keeps of access beside the ledger: shares, entries with their keyslots, revocations that were seen,
//! what was answered, and the access log.
//!
//! Shares, keyslots and lines are wrapped under a key in a file of its own ([`rest`]). To forget them for good, the key is replaced and
//! what still counts is wrapped anew: whatever the database keeps in freed pages opens with no key any more.
//!
//! One thread writes at a time; each method that writes is one durable transaction.

mod apply;
mod emergency;
mod erase;
mod handoff;
mod log;
mod open;
mod releases;
mod rest;
mod slots;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use redb::{Database, ReadableDatabase as _, WriteTransaction};

use crate::crypto::access::{RestKey, SealKey};
use crate::ledger::ReadError;
use crate::store::db;
use crate::store::disk::Disk;
use crate::store::sealed_file::Entropy;

pub use apply::{Applied, batch_hash};
pub use emergency::Unsaid;
pub use erase::Erased;
pub use handoff::{HeldSealKey, KeptHandoff};
pub use log::{LogEnd, LogRow};
pub use open::{AccessView, HeldEntry, HeldShare, Logged};
pub use tables::PackageKind;

/// The file.
const FILE: &str = "access.redb";
/// Memory of its cache.
const CACHE_BYTES: usize = 16 << 20;

/// Why what is kept of access cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessStoreError {
    /// The database failed.
    #[error("the database of access failed")]
    Database(#[source] Box<redb::Error>),
    /// The file with the key cannot be used.
    #[error("the key of what is kept of access cannot be used")]
    Key(#[source] std::io::Error),
    /// The key is not the one that the database was written with.
    #[error("the key of what is kept of access is missing or another one")]
    WrongKey,
    /// A row does not read.
    #[error("a row of {0} is damaged")]
    Damaged(&'static str),
    /// The ledger's state cannot be read.
    #[error(transparent)]
    Ledger(#[from] ReadError),
}

impl<E: Into<redb::Error>> From<E> for AccessStoreError
where
    E: StoreSide,
{
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Errors of the database.
pub(crate) trait StoreSide {}
impl StoreSide for redb::TransactionError {}
impl StoreSide for redb::TableError {}
impl StoreSide for redb::StorageError {}
impl StoreSide for redb::CommitError {}
impl StoreSide for redb::DatabaseError {}
impl StoreSide for redb::SetDurabilityError {}

/// What is kept of access. Clones share it.
#[derive(Clone)]
pub struct AccessStore(Arc<Inner>);

struct Inner {
    database: Database,
    disk: Arc<dyn Disk>,
    secrets: Mutex<Secrets>,
}

struct Secrets {
    rest: RestKey,
    entropy: Entropy,
}

impl std::fmt::Debug for AccessStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessStore")
    }
}

impl AccessStore {
    /// Opens what is kept, or begins it.
    ///
    /// # Errors
    /// [`AccessStoreError`]; [`AccessStoreError::WrongKey`] if the file of the key was lost: then the shares and keyslots here
    /// are lost too, and the database is to be removed for the node to take them from others.
    pub fn open(disk: Arc<dyn Disk>, mut entropy: Entropy) -> Result<Self, AccessStoreError> {
        let database = db::open_or_create(&*disk, FILE, CACHE_BYTES)?;
        let rest = rest::open(&*disk, &database, &mut entropy)?;
        let txn = database.begin_write()?;
        tables::create_all(&txn)?;
        txn.commit()?;
        Ok(Self(Arc::new(Inner { database, disk, secrets: Mutex::new(Secrets { rest, entropy }) })))
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        // A panic under this lock leaves a key and a generator as they were.
        self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<WriteTransaction, AccessStoreError> {
        Ok(self.0.database.begin_write()?)
    }

    /// What is kept as it is now.
    ///
    /// # Errors
    /// [`AccessStoreError::Database`].
    pub fn view(&self) -> Result<AccessView, AccessStoreError> {
        Ok(AccessView::new(self.0.database.begin_read()?, self.secrets().rest.clone()))
    }

    /// The key that shares for this node are sealed to, made when it is first asked for.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn seal_key(&self) -> Result<SealKey, AccessStoreError> {
        let mut secrets = self.secrets();
        let known = self.0.database.begin_read()?.open_table(tables::SEAL_KEY)?.get(())?;
        let damaged = || AccessStoreError::Damaged("seal key");
        if let Some(row) = known {
            let seed = secrets.rest.unwrap(rest::SEAL_PLACE, row.value()).map_err(|_| damaged())?;
            let seed = Zeroizing::new(<[u8; 32]>::try_from(&seed[..]).map_err(|_| damaged())?);
            return Ok(SealKey::from_seed(&seed));
        }
        let mut seed = Zeroizing::new([0; 32]);
        (secrets.entropy)(&mut *seed).map_err(AccessStoreError::Key)?;
        let nonce = secrets.nonce()?;
        let txn = self.write()?;
        txn.open_table(tables::SEAL_KEY)?
            .insert((), &secrets.rest.wrap(rest::SEAL_PLACE, &*seed, nonce)[..])?;
        txn.commit()?;
        Ok(SealKey::from_seed(&seed))
    }

    /// Fills with random bytes, from where the store has its keys from.
    ///
    /// # Errors
    /// [`AccessStoreError::Key`].
    pub fn draw(&self, out: &mut [u8]) -> Result<(), AccessStoreError> {
        (self.secrets().entropy)(out).map_err(AccessStoreError::Key)
    }

    /// Replaces the key of what is at rest, and wraps anew what still counts.
    ///
    /// # Errors
    /// [`AccessStoreError`]: then the old key counts still.
    pub fn renew_key(&self) -> Result<(), AccessStoreError> {
        let mut secrets = self.secrets();
        let Secrets { rest, entropy } = &mut *secrets;
        *rest = rest::renew(&*self.0.disk, &self.0.database, rest, entropy)?;
        Ok(())
    }
}

impl Secrets {
    fn nonce(&mut self) -> Result<[u8; 24], AccessStoreError> {
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce).map_err(AccessStoreError::Key)?;
        Ok(nonce)
    }
}

#[cfg(test)]
mod tests;
