//! Notes of the client in its sealed index: small rows under keys of its own making.

use redb::{ReadableDatabase as _, TableDefinition, TableError};

use crate::store::index::{Index, IndexError};

/// Key → value.
const NOTES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("notes");

/// A note: its key and what it says.
pub(crate) type Note = (Vec<u8>, Vec<u8>);

impl Index {
    /// Writes notes, durably and together.
    ///
    /// # Errors
    /// [`IndexError`]: then none is written.
    pub fn note(&mut self, notes: &[Note]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut table = txn.open_table(NOTES)?;
            for (key, value) in notes {
                table.insert(&key[..], &value[..])?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Takes notes away, durably and together.
    ///
    /// # Errors
    /// [`IndexError`]: then all stay.
    pub fn unnote(&mut self, keys: &[Vec<u8>]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut table = txn.open_table(NOTES)?;
            for key in keys {
                table.remove(&key[..])?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// The notes whose keys begin so, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn notes(&self, prefix: &[u8]) -> Result<Vec<Note>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = match txn.open_table(NOTES) {
            // An index of before there were notes.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut found = Vec::new();
        for row in table.range(prefix..)? {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }
}
