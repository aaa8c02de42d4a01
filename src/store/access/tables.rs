//! The tables, and how their keys are made.

use redb::{TableDefinition, WriteTransaction};

use crate::crypto::access::Keyslot;
use crate::store::access::AccessStoreError;
use crate::types::{BatchId, GrantId, Hash, RecordTag, ScopeTag, TransactionId, VaultId, VersionId};

/// Place, commitments, audit key, wrapped share.
type ShareRow<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);
/// Batch's number, place of the entry in the batch, keyslot under a pad that the hash in the entry leads to.
pub(super) type SlotRow<'a> = (u64, u32, &'a [u8; Keyslot::LEN]);
/// Dealer, since when in microseconds, bytes.
type HandoffRow<'a> = (&'a [u8; 32], u64, &'a [u8]);

/// One row: the id of the key that all wrapped rows are under.
pub(super) const REST_KEY: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("rest key");
/// One row: the block up to which the ledger was carried out.
pub(super) const CURSOR: TableDefinition<'_, (), u64> = TableDefinition::new("cursor");
/// vault 32 ‖ hash 32 → (kind, since when in microseconds, wrapped bytes).
pub(super) const PACKAGES: TableDefinition<'_, &[u8; 64], (u8, u64, &[u8])> =
    TableDefinition::new("packages");
/// vault 32 ‖ dealing 4 ‖ epoch 4 → (place, commitments, audit key, wrapped share).
pub(super) const SHARES: TableDefinition<'_, &[u8; 40], ShareRow<'_>> = TableDefinition::new("shares");
/// vault 32 ‖ record 16 ‖ version 16 → commitments to the data key 32 and to where the header is 32.
pub(super) const ENTRIES: TableDefinition<'_, &[u8; 64], &[u8; 64]> = TableDefinition::new("entries");
/// vault 32 ‖ record 16 ‖ version 16 ‖ scope 16 ‖ generation 4 → (batch's number, place of the entry in it, masked keyslot).
pub(super) const SLOTS: TableDefinition<'_, &[u8; 84], SlotRow<'_>> = TableDefinition::new("slots");
/// vault 32 ‖ scope 16 ‖ generation 4 ‖ batch's number 8 → batch.
pub(super) const LISTS: TableDefinition<'_, &[u8; 60], &[u8; 16]> = TableDefinition::new("lists");
/// vault 32 ‖ scope 16 ‖ generation 4 ‖ batch's number 8 ‖ record 16 ‖ version 16 → wrapped line.
pub(super) const LINES: TableDefinition<'_, &[u8; 92], &[u8]> = TableDefinition::new("lines");
/// vault 32 ‖ batch's number 8 → (), of batches that are final and whose package is not here.
pub(super) const MISSING: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("missing");
/// vault 32 ‖ batch's number 8 → root of the entries, of batches that were carried out.
pub(super) const BATCHES: TableDefinition<'_, &[u8; 40], &[u8; 32]> = TableDefinition::new("batches");
/// vault 32 ‖ batch's number 8 ‖ place 4 → entry, of batches that were carried out: for static nodes that miss them.
pub(super) const BATCH_ENTRIES: TableDefinition<'_, &[u8; 44], &[u8]> = TableDefinition::new("batch entries");
/// One row: the wrapped seed of the key that shares are sealed to.
pub(super) const SEAL_KEY: TableDefinition<'_, (), &[u8]> = TableDefinition::new("seal key");
/// One row: what the key that shares are sealed to was made under.
pub(super) const SEAL_MARK: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("seal mark");
/// Microseconds when it was replaced → wrapped seed of a former key.
pub(super) const FORMER_SEAL_KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("former seal keys");
/// Hash → (dealer, since when in microseconds, bytes).
pub(super) const HANDOFF_PACKAGES: TableDefinition<'_, &[u8; 32], HandoffRow<'_>> =
    TableDefinition::new("handoff packages");
/// vault 32 ‖ dealing 4 ‖ epoch that is handed on 4 ‖ hash of the commitments 32 → (commitments, wrapped share).
pub(super) const CANDIDATES: TableDefinition<'_, &[u8; 72], (&[u8], &[u8])> =
    TableDefinition::new("candidates");
/// Static node → the key that shares for it are sealed to, signed by it.
pub(super) const PEER_KEYS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("peer keys");
/// vault 32 ‖ grant 16 → the signed transaction.
pub(super) const REVOKED: TableDefinition<'_, &[u8; 48], &[u8]> = TableDefinition::new("revoked");
/// grant 16 ‖ nonce 16 → microseconds.
pub(super) const ANSWERED: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("answered");
/// microseconds ‖ grant ‖ nonce → (), to forget the old ones.
pub(super) const ANSWERED_AT: TableDefinition<'_, (u64, &[u8; 32]), ()> = TableDefinition::new("answered at");
/// grant 16 → (day, records opened in it).
pub(super) const OPENED: TableDefinition<'_, &[u8; 16], (u32, u32)> = TableDefinition::new("opened");
/// vault 32 ‖ sequence 8 → sealed entry.
pub(super) const LOG: TableDefinition<'_, &[u8; 40], &[u8]> = TableDefinition::new("log");
/// vault 32 → (entries, head of their chain).
pub(super) const LOG_ENDS: TableDefinition<'_, &[u8; 32], (u64, &[u8; 32])> =
    TableDefinition::new("log ends");
/// One row: (entries of all vaults, peaks of their tree, 32 bytes each).
pub(super) const LOG_TREE: TableDefinition<'_, (), (u64, &[u8])> = TableDefinition::new("log tree");

/// vault 32 ‖ the transaction that asked for an emergency 32 → the signed transaction that vetoes it.
pub(super) const VETOED: TableDefinition<'_, &[u8; 64], &[u8]> = TableDefinition::new("vetoed");
/// vault 32 ‖ the transaction that asked for an emergency 32 → (records opened in it, requests answered).
pub(super) const OPENED_IN: TableDefinition<'_, &[u8; 64], (u32, u32)> =
    TableDefinition::new("opened in emergencies");
/// vault 32 ‖ the transaction that asked 32 ‖ hash of the request to open 32 → records, of what is not on the ledger yet.
pub(super) const UNSAID: TableDefinition<'_, &[u8; 96], u32> = TableDefinition::new("unsaid openings");

/// vault 32 ‖ record 16 ‖ version 16 → id of the key that was in use when what was here of an erased version was deleted.
pub(super) const DELETED: TableDefinition<'_, &[u8; 64], &[u8; 32]> = TableDefinition::new("deleted");

/// vault 32 ‖ place 1 → (request, what the guardian released for it).
pub(super) const RELEASES: TableDefinition<'_, &[u8; 33], (&[u8; 32], &[u8])> =
    TableDefinition::new("releases");

/// What a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageKind {
    /// A dealing.
    Dealing,
    /// A batch of entries.
    Batch,
    /// A grant's body.
    GrantBody,
}

impl PackageKind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Dealing => 1,
            Self::Batch => 2,
            Self::GrantBody => 3,
        }
    }
}

pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), AccessStoreError> {
    txn.open_table(CURSOR)?;
    txn.open_table(PACKAGES)?;
    txn.open_table(SHARES)?;
    txn.open_table(ENTRIES)?;
    txn.open_table(SLOTS)?;
    txn.open_table(LISTS)?;
    txn.open_table(LINES)?;
    txn.open_table(MISSING)?;
    txn.open_table(BATCHES)?;
    txn.open_table(BATCH_ENTRIES)?;
    txn.open_table(SEAL_KEY)?;
    txn.open_table(SEAL_MARK)?;
    txn.open_table(FORMER_SEAL_KEYS)?;
    txn.open_table(HANDOFF_PACKAGES)?;
    txn.open_table(CANDIDATES)?;
    txn.open_table(PEER_KEYS)?;
    txn.open_table(REVOKED)?;
    txn.open_table(ANSWERED)?;
    txn.open_table(ANSWERED_AT)?;
    txn.open_table(OPENED)?;
    txn.open_table(LOG)?;
    txn.open_table(LOG_ENDS)?;
    txn.open_table(LOG_TREE)?;
    txn.open_table(VETOED)?;
    txn.open_table(OPENED_IN)?;
    txn.open_table(UNSAID)?;
    txn.open_table(DELETED)?;
    txn.open_table(RELEASES)?;
    Ok(())
}

/// Fields side by side.
fn joined<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    for field in fields {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    bytes
}

pub(super) fn package_key(vault: &VaultId, hash: &Hash) -> [u8; 64] {
    joined(&[&vault.0, &hash.0])
}

pub(super) fn release_key(vault: &VaultId, place: u8) -> [u8; 33] {
    joined(&[&vault.0, &[place]])
}

pub(super) fn share_key(vault: &VaultId, dealing: u32, epoch: u32) -> [u8; 40] {
    joined(&[&vault.0, &dealing.to_be_bytes(), &epoch.to_be_bytes()])
}

pub(super) fn candidate_key(vault: &VaultId, dealing: u32, from: u32, commitments: &Hash) -> [u8; 72] {
    joined(&[&vault.0, &dealing.to_be_bytes(), &from.to_be_bytes(), &commitments.0])
}

pub(super) fn entry_key(vault: &VaultId, record: &RecordTag, version: &VersionId) -> [u8; 64] {
    joined(&[&vault.0, &record.0, &version.0])
}

pub(super) fn slot_key(entry: &[u8; 64], scope: &ScopeTag, generation: u32) -> [u8; 84] {
    joined(&[entry, &scope.0, &generation.to_be_bytes()])
}

pub(super) fn list_key(vault: &VaultId, scope: &ScopeTag, generation: u32, batch: u64) -> [u8; 60] {
    joined(&[&vault.0, &scope.0, &generation.to_be_bytes(), &batch.to_be_bytes()])
}

pub(super) fn line_key(list: &[u8; 60], record: &RecordTag, version: &VersionId) -> [u8; 92] {
    joined(&[list, &record.0, &version.0])
}

pub(super) fn numbered(vault: &VaultId, number: u64) -> [u8; 40] {
    joined(&[&vault.0, &number.to_be_bytes()])
}

pub(super) fn batch_entry_key(batch: &[u8; 40], at: u32) -> [u8; 44] {
    joined(&[batch, &at.to_be_bytes()])
}

pub(super) fn grant_key(vault: &VaultId, grant: &GrantId) -> [u8; 48] {
    joined(&[&vault.0, &grant.0])
}

pub(super) fn emergency_key(vault: &VaultId, request: &TransactionId) -> [u8; 64] {
    joined(&[&vault.0, &request.0])
}

pub(super) fn opening_key(vault: &VaultId, request: &TransactionId, open: &Hash) -> [u8; 96] {
    joined(&[&vault.0, &request.0, &open.0])
}

pub(super) fn nonce_key(grant: &GrantId, nonce: &[u8; 16]) -> [u8; 32] {
    joined(&[&grant.0, nonce])
}

/// What a slot's key says beside the entry.
pub(super) fn slot_of(key: &[u8; 84]) -> (ScopeTag, u32) {
    let (mut scope, mut generation) = (ScopeTag([0; 16]), [0; 4]);
    scope.0.copy_from_slice(&key[64..80]);
    generation.copy_from_slice(&key[80..]);
    (scope, u32::from_be_bytes(generation))
}

/// The vault that a slot's key begins with.
pub(super) fn vault_of(key: &[u8; 84]) -> VaultId {
    let mut vault = VaultId([0; 32]);
    vault.0.copy_from_slice(&key[..32]);
    vault
}

/// The number at the end of a key.
pub(super) fn number_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Record and version at the end of a line's key.
pub(super) fn record_of(key: &[u8; 92]) -> (RecordTag, VersionId) {
    let (mut record, mut version) = (RecordTag([0; 16]), VersionId([0; 16]));
    record.0.copy_from_slice(&key[60..76]);
    version.0.copy_from_slice(&key[76..]);
    (record, version)
}

/// The batch's number in a line's key.
pub(super) fn batch_of(key: &[u8; 92]) -> u64 {
    number_of(&key[..60])
}

pub(super) const fn batch(bytes: &[u8; 16]) -> BatchId {
    BatchId(*bytes)
}
