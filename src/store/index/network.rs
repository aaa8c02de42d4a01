//! What the index keeps of the network: how its static nodes changed, and which storage nodes there are.
//!
//! Here these are bytes; whoever reads them checks them. They are kept by genesis, so that what was learned of another network
//! is never found. The tables come with the first row: an index from before has none, which is the same as no rows.

use redb::{ReadableDatabase as _, ReadableTable as _, TableError};

use crate::store::index::tables::{ROSTER_STEPS, STORAGE_NODES};
use crate::store::index::{Index, IndexError};
use crate::types::BlockId;

impl Index {
    /// The changes of the static nodes since this genesis, the oldest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn roster_steps(&self, genesis: &BlockId) -> Result<Vec<Vec<u8>>, IndexError> {
        let txn = self.db.begin_read()?;
        let Some(table) = if_there(txn.open_table(ROSTER_STEPS))? else { return Ok(Vec::new()) };
        let rows = table.range((genesis.as_bytes(), 0)..=(genesis.as_bytes(), u32::MAX))?;
        rows.map(|row| Ok(row?.1.value().to_vec())).collect()
    }

    /// Keeps these changes of the static nodes since the genesis, all of them and no others. What is there already is not
    /// written again.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn keep_roster_steps(&mut self, genesis: &BlockId, steps: &[Vec<u8>]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut table = txn.open_table(ROSTER_STEPS)?;
            let mut end = 0;
            for (number, step) in (0..).zip(steps) {
                let key = (genesis.as_bytes(), number);
                let is_there = table.get(key)?.is_some_and(|row| row.value() == step);
                if !is_there {
                    table.insert(key, &step[..])?;
                }
                end = number + 1;
            }
            table.retain_in((genesis.as_bytes(), end)..=(genesis.as_bytes(), u32::MAX), |_, _| false)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// The storage nodes of the network of this genesis, as they were last learned.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn storage_nodes(&self, genesis: &BlockId) -> Result<Option<Vec<u8>>, IndexError> {
        let txn = self.db.begin_read()?;
        let Some(table) = if_there(txn.open_table(STORAGE_NODES))? else { return Ok(None) };
        Ok(table.get(genesis.as_bytes())?.map(|row| row.value().to_vec()))
    }

    /// Keeps the storage nodes in the place of those before.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn keep_storage_nodes(&mut self, genesis: &BlockId, nodes: &[u8]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        txn.open_table(STORAGE_NODES)?.insert(genesis.as_bytes(), nodes)?;
        txn.commit()?;
        Ok(())
    }
}

/// A table, or that it was never written to.
fn if_there<T>(opened: Result<T, TableError>) -> Result<Option<T>, IndexError> {
    match opened {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
