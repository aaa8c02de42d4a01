//! What guardians released, each part sealed to who asked: the last one of each guardian of each vault.

use crate::store::access::tables::{self, RELEASES};
use crate::store::access::{AccessStore, AccessStoreError, AccessView};
use crate::types::{Hash, VaultId};

impl AccessStore {
    /// Keeps what the guardian of a place released for a request, in the place of what it released before.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn keep_release(
        &self,
        vault: &VaultId,
        place: u8,
        request: &Hash,
        bytes: &[u8],
    ) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(RELEASES)?.insert(&tables::release_key(vault, place), (&request.0, bytes))?;
        txn.commit()?;
        Ok(())
    }
}

impl AccessView {
    /// What guardians released for a request, by their place.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn releases(&self, vault: &VaultId, request: &Hash) -> Result<Vec<Vec<u8>>, AccessStoreError> {
        let table = self.txn().open_table(RELEASES)?;
        let (first, last) = (tables::release_key(vault, 0), tables::release_key(vault, u8::MAX));
        let mut found = Vec::new();
        for row in table.range::<&[u8; 33]>(&first..=&last)? {
            let (_, row) = row?;
            let (of, bytes) = row.value();
            if *of == request.0 {
                found.push(bytes.to_vec());
            }
        }
        Ok(found)
    }
}
