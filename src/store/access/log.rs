//! The access log: of each vault a chain of sealed entries, and one RFC 6962 tree over the entries of all.

use redb::WriteTransaction;

use crate::crypto::log_tree::{self, Frontier};
use crate::message::access::LogHead;
use crate::message::access::desk::chain;
use crate::store::access::AccessStoreError;
use crate::store::access::tables::{self, LOG, LOG_ENDS, LOG_TREE};
use crate::types::{Hash, LogHash, VaultId};

/// How far the log of a vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Entries.
    pub size: u64,
    /// The head of their chain.
    pub head: Hash,
}

impl LogEnd {
    /// Of a vault without entries.
    pub const EMPTY: Self = Self { size: 0, head: Hash([0; 32]) };
}

/// An entry, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its number in the vault's log.
    pub sequence: u64,
    /// The bytes.
    pub sealed: Vec<u8>,
}

/// The leaf that an entry is in the tree over all vaults' entries.
#[must_use]
pub(super) fn leaf(vault: &VaultId, head: &Hash) -> LogHash {
    log_tree::leaf_hash(&[vault.0, head.0].concat())
}

/// How far a vault's log is.
pub(super) fn end(
    ends: &impl redb::ReadableTable<&'static [u8; 32], (u64, &'static [u8; 32])>,
    vault: &VaultId,
) -> Result<LogEnd, AccessStoreError> {
    let row = ends.get(&vault.0)?;
    Ok(row.map_or(LogEnd::EMPTY, |row| LogEnd { size: row.value().0, head: Hash(*row.value().1) }))
}

/// Adds an entry, as part of a transaction; its number was asked of [`end`].
pub(super) fn append(
    txn: &WriteTransaction,
    vault: &VaultId,
    sequence: u64,
    sealed: &[u8],
) -> Result<LogEnd, AccessStoreError> {
    let mut ends = txn.open_table(LOG_ENDS)?;
    let before = end(&ends, vault)?;
    assert_eq!(before.size, sequence, "one writer at a time");
    let after = LogEnd { size: sequence + 1, head: chain(&before.head, sealed) };
    ends.insert(&vault.0, (after.size, &after.head.0))?;
    txn.open_table(LOG)?.insert(&tables::numbered(vault, sequence), sealed)?;
    let mut tree = txn.open_table(LOG_TREE)?;
    let mut frontier = read_tree(&tree)?;
    frontier.push(leaf(vault, &after.head), |_| {});
    let peaks: Vec<u8> = frontier.peaks().iter().flat_map(|peak| peak.0).collect();
    tree.insert((), (frontier.size(), &peaks[..]))?;
    Ok(after)
}

/// The head of the tree over all entries.
pub(super) fn tree_head(
    tree: &impl redb::ReadableTable<(), (u64, &'static [u8])>,
) -> Result<LogHead, AccessStoreError> {
    let frontier = read_tree(tree)?;
    Ok(LogHead { size: frontier.size(), root: frontier.root() })
}

fn read_tree(
    tree: &impl redb::ReadableTable<(), (u64, &'static [u8])>,
) -> Result<Frontier, AccessStoreError> {
    let damaged = || AccessStoreError::Damaged("log tree");
    let Some(row) = tree.get(())? else { return Frontier::new(0, Vec::new()).ok_or_else(damaged) };
    let (size, peaks) = row.value();
    let peaks = peaks.chunks(32).map(|peak| peak.try_into().map(LogHash)).collect::<Result<_, _>>();
    Frontier::new(size, peaks.map_err(|_| damaged())?).ok_or_else(damaged)
}
