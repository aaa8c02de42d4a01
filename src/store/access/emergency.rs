//! What is kept of emergencies: vetoes that were seen, what was opened, and what of it the ledger does not have yet.
//!
//! An opening is noted in the transaction that logs it, before the answer leaves: whatever happens to the node then, it is put on the
//! ledger later.

use redb::{ReadableTable as _, WriteTransaction};

use crate::message::access::EmergencyOpening;
use crate::store::access::open::{AccessView, Logged};
use crate::store::access::tables::{self, OPENED_IN, UNSAID, VETOED};
use crate::store::access::{AccessStore, AccessStoreError};
use crate::types::{Hash, TransactionId, VaultId};

/// Openings that the ledger does not have yet.
pub type Unsaid = Vec<EmergencyOpening>;

/// Counts a request that is about to be answered, and notes that it is to be put on the ledger.
pub(super) fn count(
    txn: &WriteTransaction,
    logged: &Logged<'_>,
    request: &TransactionId,
    open: &Hash,
) -> Result<(), AccessStoreError> {
    let key = tables::emergency_key(logged.vault, request);
    let mut opened = txn.open_table(OPENED_IN)?;
    let (records, requests) = opened.get(&key)?.map(|row| row.value()).unwrap_or_default();
    opened.insert(&key, (records.saturating_add(logged.records), requests.saturating_add(1)))?;
    txn.open_table(UNSAID)?.insert(&tables::opening_key(logged.vault, request, open), logged.records)?;
    Ok(())
}

impl AccessStore {
    /// Notes a veto that was seen, final or not: nothing is opened in the emergency from here on.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn note_veto(
        &self,
        vault: &VaultId,
        request: &TransactionId,
        transaction: &[u8],
    ) -> Result<(), AccessStoreError> {
        let txn = self.write()?;
        txn.open_table(VETOED)?.insert(&tables::emergency_key(vault, request), transaction)?;
        txn.commit()?;
        Ok(())
    }

    /// Forgets openings that the ledger has by now, or will never take.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn said(&self, openings: &[EmergencyOpening]) -> Result<(), AccessStoreError> {
        if openings.is_empty() {
            return Ok(());
        }
        let txn = self.write()?;
        {
            let mut unsaid = txn.open_table(UNSAID)?;
            for opening in openings {
                unsaid.remove(&tables::opening_key(&opening.vault, &opening.request, &opening.open))?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Forgets emergencies of which `is_kept` says that the ledger has them no more; how many rows that were.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn forget_emergencies(
        &self,
        is_kept: impl Fn(&VaultId, &TransactionId) -> Result<bool, AccessStoreError>,
    ) -> Result<usize, AccessStoreError> {
        let txn = self.write()?;
        let mut count = 0;
        {
            let mut vetoed = txn.open_table(VETOED)?;
            let mut opened = txn.open_table(OPENED_IN)?;
            let mut keys = Vec::new();
            for row in vetoed.iter()? {
                keys.push(*row?.0.value());
            }
            for row in opened.iter()? {
                keys.push(*row?.0.value());
            }
            for key in keys {
                let (vault, request) = emergency_of(&key);
                if !is_kept(&vault, &request)? {
                    count += usize::from(vetoed.remove(&key)?.is_some());
                    count += usize::from(opened.remove(&key)?.is_some());
                }
            }
        }
        txn.commit()?;
        Ok(count)
    }
}

impl AccessView {
    /// The first openings that the ledger does not have yet.
    ///
    /// # Errors
    /// [`AccessStoreError`].
    pub fn unsaid(&self, limit: usize) -> Result<Unsaid, AccessStoreError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(UNSAID)?.iter()?.take(limit) {
            let (key, records) = row?;
            let (emergency, open) = key.value().split_at(64);
            let Some((vault, request)) = emergency.first_chunk().map(emergency_of) else { continue };
            let open = Hash::from_slice(open).ok_or(AccessStoreError::Damaged("unsaid openings"))?;
            found.push(EmergencyOpening { vault, request, open, records: records.value() });
        }
        Ok(found)
    }
}

/// Vault and request of a key.
fn emergency_of(key: &[u8; 64]) -> (VaultId, TransactionId) {
    let (mut vault, mut request) = (VaultId([0; 32]), TransactionId([0; 32]));
    vault.0.copy_from_slice(&key[..32]);
    request.0.copy_from_slice(&key[32..]);
    (vault, request)
}
