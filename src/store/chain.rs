//! The ledger as a node keeps it: blocks with their certificates, tree heads with their cosignatures, and the
//! state after the last block, in one redb file.
//!
//! A block, its certificate and all that it changes are one durable transaction: after a crash the state is
//! that of some block, and the blocks before it are all there, but for those that a snapshot passed over.

pub mod light;

use std::sync::Arc;

use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition,
};

use crate::ledger::archive::Filled;
use crate::ledger::read::Entry;
use crate::ledger::snapshot::Adoption;
use crate::ledger::tables::LAST_UNHASHED;
use crate::ledger::{Changes, Read, ReadError, Writes, genesis_state, query};
use crate::message::CommitCertificate;
use crate::message::block::Header;
use crate::message::canonical::write_list;
use crate::message::genesis::Genesis;
use crate::store::db;
use crate::store::disk::Disk;
use crate::types::Height;

/// The file.
const FILE: &str = "chain.redb";
/// Memory of its cache: the upper levels of a million rows, and the busiest of the rest.
const CACHE_BYTES: usize = 64 << 20;

/// The state: see [`tables`](crate::ledger::tables).
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Rows of a snapshot that is coming in: they are nothing until they are all moved to the others.
const STAGED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("staged rows");
/// Height → block.
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height → certificate, with as many signatures as have come in.
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
/// Height → cosignatures of its tree head.
const COSIGNATURES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("cosignatures");
/// One row: the genesis that all of it hangs on.
const GENESIS: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("genesis");

/// Why the chain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The database failed.
    #[error("{during} the ledger's database failed")]
    Database {
        /// What failed.
        during: &'static str,
        /// How.
        #[source]
        source: Box<redb::Error>,
    },
    /// The file is of another network.
    #[error("the folder holds the ledger of another genesis")]
    WrongGenesis,
    /// The state cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block that should be there is not, or does not read.
    #[error("block {0} is missing or damaged in the ledger's database")]
    Block(Height),
    /// The database panicked.
    #[error("the ledger's database broke")]
    Panicked,
}

fn failed<E: Into<redb::Error>>(during: &'static str) -> impl Fn(E) -> ChainError {
    move |error| ChainError::Database { during, source: Box::new(error.into()) }
}

/// The chain. Clones share it; one of them, at most, commits.
#[derive(Debug, Clone)]
pub struct Chain(Arc<Database>);

/// The chain as it was at one moment.
pub struct View {
    txn: ReadTransaction,
    /// Open once for all reads: the rules read a great many rows.
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl Chain {
    /// Opens the chain of a genesis, or begins it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn open(disk: &dyn Disk, genesis: &Genesis) -> Result<Self, ChainError> {
        let opening = failed::<redb::Error>("opening");
        let database = db::open_or_create(disk, FILE, CACHE_BYTES).map_err(|error| opening(error.into()))?;
        let chain = Self(Arc::new(database));
        chain.begin(genesis)?;
        Ok(chain)
    }

    /// Writes the genesis' state into an empty database.
    fn begin(&self, genesis: &Genesis) -> Result<(), ChainError> {
        let txn = self.0.begin_write().map_err(failed("opening"))?;
        {
            let mut row = txn.open_table(GENESIS).map_err(failed("opening"))?;
            let known = row.get(()).map_err(failed("opening"))?.map(|id| *id.value());
            if let Some(known) = known {
                if known != genesis.id().0 {
                    return Err(ChainError::WrongGenesis);
                }
            } else {
                row.insert((), &genesis.id().0).map_err(failed("opening"))?;
                write_rows(&txn, &genesis_state(genesis)?.writes)?;
            }
        }
        // A snapshot that was coming in when we crashed is begun anew.
        txn.delete_table(STAGED).map_err(failed("opening"))?;
        txn.open_table(BLOCKS).map_err(failed("opening"))?;
        txn.open_table(CERTIFICATES).map_err(failed("opening"))?;
        txn.open_table(COSIGNATURES).map_err(failed("opening"))?;
        // If we crash before this there is nothing, and the next start begins anew.
        txn.commit().map_err(failed("opening"))
    }

    /// The chain as it is now.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn view(&self) -> Result<View, ChainError> {
        let txn = self.0.begin_read().map_err(failed("reading"))?;
        let rows = txn.open_table(ROWS).map_err(failed("reading"))?;
        Ok(View { txn, rows })
    }

    /// Makes a block durable with all that it changes. A block that is there already is left as it is, but for
    /// its certificate.
    ///
    /// # Errors
    /// [`ChainError::Database`]: then it is unknown whether the block is there until the chain is opened anew.
    pub fn commit(
        &self,
        block: &[u8],
        certificate: &CommitCertificate,
        changes: &Changes,
    ) -> Result<(), ChainError> {
        self.put_block(block, certificate, changes, Durability::Immediate)
    }

    /// The same for a block that costs nothing but asking for it again: durable with the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn replay(
        &self,
        block: &[u8],
        certificate: &CommitCertificate,
        changes: &Changes,
    ) -> Result<(), ChainError> {
        self.put_block(block, certificate, changes, Durability::None)
    }

    fn put_block(
        &self,
        block: &[u8],
        certificate: &CommitCertificate,
        changes: &Changes,
        durability: Durability,
    ) -> Result<(), ChainError> {
        let height = changes.header.record.height;
        if self.view()?.tip()?.record.height >= height {
            return self.grow(certificate);
        }
        let mut txn = self.0.begin_write().map_err(failed("committing to"))?;
        txn.set_durability(durability).map_err(failed("committing to"))?;
        write_rows(&txn, &changes.writes)?;
        {
            let mut blocks = txn.open_table(BLOCKS).map_err(failed("committing to"))?;
            blocks.insert(height.0, block).map_err(failed("committing to"))?;
            let mut certificates = txn.open_table(CERTIFICATES).map_err(failed("committing to"))?;
            certificates.insert(height.0, &certificate.encode()[..]).map_err(failed("committing to"))?;
        }
        // If we crash here nothing of the block is there; the log of consensus decides it again.
        txn.commit().map_err(failed("committing to"))
    }

    /// Makes all that was written before durable.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn sync(&self) -> Result<(), ChainError> {
        // An empty transaction takes the ones before it along.
        let txn = self.0.begin_write().map_err(failed("writing to"))?;
        txn.commit().map_err(failed("writing to"))
    }

    /// Puts a longer certificate in the place of a block's. Durable with the next block.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn grow(&self, certificate: &CommitCertificate) -> Result<(), ChainError> {
        self.note(CERTIFICATES, certificate.height, &certificate.encode())
    }

    /// Keeps the cosignatures of a block's tree head. Durable with the next block.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn put_cosignatures(&self, height: Height, cosignatures: &[u8]) -> Result<(), ChainError> {
        self.note(COSIGNATURES, height, cosignatures)
    }

    /// Drops the cosignatures of a block's tree head: ten kilobytes that a later tree head makes needless.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn drop_cosignatures(&self, height: Height) -> Result<(), ChainError> {
        let mut txn = self.0.begin_write().map_err(failed("writing to"))?;
        // What comes back after a crash does no harm.
        txn.set_durability(Durability::None).map_err(failed("writing to"))?;
        txn.open_table(COSIGNATURES)
            .map_err(failed("writing to"))?
            .remove(height.0)
            .map_err(failed("writing to"))?;
        txn.commit().map_err(failed("writing to"))
    }

    /// Stores rows of a snapshot apart from the state.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn stage(&self, rows: &[Entry]) -> Result<(), ChainError> {
        let txn = self.0.begin_write().map_err(failed("writing to"))?;
        {
            let mut staged = txn.open_table(STAGED).map_err(failed("writing to"))?;
            for (key, value) in rows {
                staged.insert(&key[..], &value[..]).map_err(failed("writing to"))?;
            }
        }
        // Durable, though it need not be: else the database could not use the pages again that each batch frees.
        txn.commit().map_err(failed("writing to"))
    }

    /// Drops what was staged.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn clear_staged(&self) -> Result<(), ChainError> {
        let txn = self.0.begin_write().map_err(failed("writing to"))?;
        txn.delete_table(STAGED).map_err(failed("writing to"))?;
        txn.commit().map_err(failed("writing to"))
    }

    /// Puts the snapshot that was staged in the place of the state, unless the chain is as far already. Blocks that are
    /// there stay.
    ///
    /// # Errors
    /// [`ChainError::Database`]: then it is unknown which of the two states there is until the chain is opened anew.
    pub fn adopt(&self, snapshot: &Adoption) -> Result<(), ChainError> {
        let height = snapshot.header.record.height;
        if self.view()?.tip()?.record.height >= height {
            return self.clear_staged();
        }
        let txn = self.0.begin_write().map_err(failed("committing to"))?;
        move_staged(&txn)?;
        write_rows(&txn, &snapshot.writes)?;
        {
            let mut certificates = txn.open_table(CERTIFICATES).map_err(failed("committing to"))?;
            certificates
                .insert(height.0, &snapshot.certificate.encode()[..])
                .map_err(failed("committing to"))?;
            let mut kept = txn.open_table(COSIGNATURES).map_err(failed("committing to"))?;
            for (height, cosignatures) in &snapshot.cosigned {
                let mut bytes = Vec::new();
                write_list(cosignatures, &mut bytes);
                kept.insert(height.0, &bytes[..]).map_err(failed("committing to"))?;
            }
        }
        // If we crash here the state is the old one, and the snapshot is begun anew.
        txn.commit().map_err(failed("committing to"))
    }

    /// Adds blocks of before a snapshot.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn fill(&self, filled: &Filled) -> Result<(), ChainError> {
        let txn = self.0.begin_write().map_err(failed("committing to"))?;
        write_rows(&txn, &filled.writes)?;
        {
            let mut blocks = txn.open_table(BLOCKS).map_err(failed("committing to"))?;
            let mut certificates = txn.open_table(CERTIFICATES).map_err(failed("committing to"))?;
            for found in &filled.blocks {
                blocks.insert(found.height.0, &found.block[..]).map_err(failed("committing to"))?;
                let Some(before) = &found.before else { continue };
                certificates
                    .insert(before.height.0, &before.encode()[..])
                    .map_err(failed("committing to"))?;
            }
        }
        // If we crash here these blocks are asked for again.
        txn.commit().map_err(failed("committing to"))
    }

    fn note(
        &self,
        table: TableDefinition<'_, u64, &[u8]>,
        height: Height,
        value: &[u8],
    ) -> Result<(), ChainError> {
        let mut txn = self.0.begin_write().map_err(failed("writing to"))?;
        // What is lost here, others still have.
        txn.set_durability(Durability::None).map_err(failed("writing to"))?;
        txn.open_table(table)
            .map_err(failed("writing to"))?
            .insert(height.0, value)
            .map_err(failed("writing to"))?;
        txn.commit().map_err(failed("writing to"))
    }
}

fn write_rows(txn: &redb::WriteTransaction, writes: &Writes) -> Result<(), ChainError> {
    let mut rows = txn.open_table(ROWS).map_err(failed("writing to"))?;
    for (key, value) in writes {
        match value {
            Some(value) => drop(rows.insert(&key[..], &value[..]).map_err(failed("writing to"))?),
            None => drop(rows.remove(&key[..]).map_err(failed("writing to"))?),
        }
    }
    Ok(())
}

/// Rows of the state are those that were staged, all of them; of others, those that were staged are added.
fn move_staged(txn: &redb::WriteTransaction) -> Result<(), ChainError> {
    let mut rows = txn.open_table(ROWS).map_err(failed("committing to"))?;
    let first = [LAST_UNHASHED + 1];
    rows.retain_in(&first[..].., |_, _| false).map_err(failed("committing to"))?;
    {
        let staged = txn.open_table(STAGED).map_err(failed("committing to"))?;
        for row in staged.iter().map_err(failed("committing to"))? {
            let (key, value) = row.map_err(failed("committing to"))?;
            rows.insert(key.value(), value.value()).map_err(failed("committing to"))?;
        }
    }
    txn.delete_table(STAGED).map(drop).map_err(failed("committing to"))
}

impl View {
    /// The header of the last block.
    ///
    /// # Errors
    /// [`ChainError::Read`].
    pub fn tip(&self) -> Result<Header, ChainError> {
        Ok(query::tip(self)?)
    }

    /// A block's bytes; `None` if there is none yet.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn block(&self, height: Height) -> Result<Option<Vec<u8>>, ChainError> {
        self.bytes(BLOCKS, height)
    }

    /// A block's certificate; `None` if there is none yet.
    ///
    /// # Errors
    /// [`ChainError::Database`], [`ChainError::Block`].
    pub fn certificate(&self, height: Height) -> Result<Option<CommitCertificate>, ChainError> {
        let bytes = self.bytes(CERTIFICATES, height)?;
        let read = |bytes: Vec<u8>| CommitCertificate::decode(&bytes).map_err(|_| ChainError::Block(height));
        bytes.map(read).transpose()
    }

    /// The cosignatures of a block's tree head, as they were put.
    ///
    /// # Errors
    /// [`ChainError::Database`].
    pub fn cosignatures(&self, height: Height) -> Result<Option<Vec<u8>>, ChainError> {
        self.bytes(COSIGNATURES, height)
    }

    fn bytes(
        &self,
        table: TableDefinition<'_, u64, &[u8]>,
        height: Height,
    ) -> Result<Option<Vec<u8>>, ChainError> {
        let table = self.txn.open_table(table).map_err(failed("reading"))?;
        let row = table.get(height.0).map_err(failed("reading"))?;
        Ok(row.map(|row| row.value().to_vec()))
    }
}

fn unreadable<E: std::fmt::Display>(error: E) -> ReadError {
    ReadError::Storage(error.to_string())
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let row = self.rows.get(key).map_err(unreadable)?;
        Ok(row.map(|row| row.value().to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
        let mut found = Vec::new();
        for row in self.rows.range::<&[u8]>(prefix.max(from)..).map_err(unreadable)?.take(limit) {
            let (key, value) = row.map_err(unreadable)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
