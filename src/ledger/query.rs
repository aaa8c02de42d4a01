//! What nodes and clients ask of the finalized state.

use crate::ledger::log;
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{
    AUTHORS, BATCHES, Batch, DEPOSITS, DepositRow, ERASED, ERASURES, GRANTEES, GRANTS, GrantRow, Grantee,
    HEADS, Head, LAST_LEAVES, NODE_NUMBERS, NODES, Node, PLACES, ROSTER_CHANGES, ROSTERS, SEGMENTS, STATICS,
    Segment, Static, TIP, VAULTS, WITHDRAWN, WRITERS,
};
use crate::ledger::rules::turns;
use crate::message::access::TaggedVersion;
use crate::message::anchor::NodeNumber;
use crate::message::block::Header;
use crate::message::member::Roster;
use crate::message::transaction::Lane;
use crate::types::{
    CollectionTag, Committee, GrantId, Hash, Height, LogHash, PublicKey, RecordTag, ScopeTag, SegmentId,
    TransactionId, VaultId, VersionId,
};

/// The header of the last block.
///
/// # Errors
/// [`ReadError`], as for all here.
pub fn tip(state: &impl Read) -> Result<Header, ReadError> {
    TIP.expect(state, &())
}

/// Who decides on the next block.
///
/// # Errors
/// [`ReadError`].
pub fn next_roster(state: &impl Read) -> Result<Roster, ReadError> {
    ROSTERS.expect(state, &tip(state)?.record.next_roster())
}

/// The committee of the next block, with whose turn it is to propose.
///
/// # Errors
/// [`ReadError`].
pub fn next_committee(state: &impl Read) -> Result<Committee, ReadError> {
    turns::in_turn(state, next_roster(state)?.committee().clone())
}

/// A roster of some time, by its hash.
///
/// # Errors
/// [`ReadError`].
pub fn roster(state: &impl Read, hash: &Hash) -> Result<Option<Roster>, ReadError> {
    ROSTERS.get(state, hash)
}

/// The number of a lane's next transaction.
///
/// # Errors
/// [`ReadError`].
pub fn next_nonce(state: &impl Read, lane: &Lane) -> Result<u64, ReadError> {
    Ok(match lane {
        Lane::Author(author) => AUTHORS.get(state, author)?.map_or(0, |row| row.nonce),
        Lane::Collection(vault, collection) => {
            HEADS.get(state, &(*vault, *collection))?.map_or(0, |head| head.sequence)
        }
    })
}

/// The head of a collection.
///
/// # Errors
/// [`ReadError`].
pub fn head(
    state: &impl Read,
    vault: &VaultId,
    collection: &CollectionTag,
) -> Result<Option<Head>, ReadError> {
    HEADS.get(state, &(*vault, *collection))
}

/// The collections of a vault with their heads, after the one given.
///
/// # Errors
/// [`ReadError`].
pub fn collections(
    state: &impl Read,
    vault: &VaultId,
    after: Option<&CollectionTag>,
    limit: usize,
) -> Result<Vec<(CollectionTag, Head)>, ReadError> {
    let after = after.map(|tag| HEADS.key(&(*vault, *tag)));
    let rows = HEADS.scan(state, vault, after.as_deref(), limit)?;
    let tag = |key: &[u8]| key.last_chunk().copied().map(CollectionTag);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((tag(&key)?, row))).collect())
}

/// The segments of a vault, after the one given.
///
/// # Errors
/// [`ReadError`].
pub fn segments(
    state: &impl Read,
    vault: &VaultId,
    after: Option<&SegmentId>,
    limit: usize,
) -> Result<Vec<(SegmentId, Segment)>, ReadError> {
    let after = after.map(|segment| SEGMENTS.key(&(*vault, *segment)));
    let rows = SEGMENTS.scan(state, vault, after.as_deref(), limit)?;
    let id = |key: &[u8]| key.last_chunk().copied().map(SegmentId);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((id(&key)?, row))).collect())
}

/// Whether this key may write to the vault.
///
/// # Errors
/// [`ReadError`].
pub fn may_write(state: &impl Read, vault: &VaultId, key: &PublicKey) -> Result<bool, ReadError> {
    let owner = VAULTS.get(state, vault)?.map(|row| row.owner);
    Ok(owner == Some(*key) || (owner.is_some() && WRITERS.contains(state, &(*vault, *key))?))
}

/// The batches of a vault's entries in their order, after the one given.
///
/// # Errors
/// [`ReadError`].
pub fn batches(
    state: &impl Read,
    vault: &VaultId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Batch)>, ReadError> {
    let after = after.map(|number| BATCHES.key(&(*vault, number)));
    let rows = BATCHES.scan(state, vault, after.as_deref(), limit)?;
    let number = |key: &[u8]| key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((number(&key)?, row))).collect())
}

/// The deposits that wait in a vault, after the one given.
///
/// # Errors
/// [`ReadError`].
pub fn deposits(
    state: &impl Read,
    vault: &VaultId,
    after: Option<&TransactionId>,
    limit: usize,
) -> Result<Vec<(TransactionId, DepositRow)>, ReadError> {
    let after = after.map(|deposit| DEPOSITS.key(&(*vault, *deposit)));
    let rows = DEPOSITS.scan(state, vault, after.as_deref(), limit)?;
    let id = |key: &[u8]| key.last_chunk().copied().map(TransactionId);
    Ok(rows.into_iter().filter_map(|(key, row)| Some((id(&key)?, row))).collect())
}

/// The grants of a vault by their id, after the one given, also those that were revoked.
///
/// # Errors
/// [`ReadError`].
pub fn grants(
    state: &impl Read,
    vault: &VaultId,
    after: Option<&GrantId>,
    limit: usize,
) -> Result<Vec<GrantRow>, ReadError> {
    let after = after.map(|grant| GRANTS.key(&(*vault, *grant)));
    Ok(GRANTS.scan(state, vault, after.as_deref(), limit)?.into_iter().map(|(_, row)| row).collect())
}

/// The grant that a key is for.
///
/// # Errors
/// [`ReadError`].
pub fn grant_of(state: &impl Read, grantee: &PublicKey) -> Result<Option<GrantRow>, ReadError> {
    let Some(Grantee { vault, grant }) = GRANTEES.get(state, grantee)? else { return Ok(None) };
    GRANTS.expect(state, &(vault, grant)).map(Some)
}

/// Whether a version was erased.
///
/// # Errors
/// [`ReadError`].
pub fn is_erased(
    state: &impl Read,
    vault: &VaultId,
    record: &RecordTag,
    version: &VersionId,
) -> Result<bool, ReadError> {
    ERASED.contains(state, &(*vault, (*record, *version)))
}

/// Whether all that a vault has was erased.
///
/// # Errors
/// [`ReadError`].
pub fn is_vault_erased(state: &impl Read, vault: &VaultId) -> Result<bool, ReadError> {
    let TaggedVersion { record, version } = TaggedVersion::WHOLE_VAULT;
    is_erased(state, vault, &record, &version)
}

/// The scopes of which a version may have keyslots.
///
/// # Errors
/// [`ReadError`].
pub fn open_scopes(
    state: &impl Read,
    vault: &VaultId,
    record: &RecordTag,
    version: &VersionId,
) -> Result<OpenScopes, ReadError> {
    if is_erased(state, vault, record, version)? || is_vault_erased(state, vault)? {
        return Ok(OpenScopes::None);
    }
    Ok(WITHDRAWN.get(state, &(*vault, (*record, *version)))?.map_or(OpenScopes::All, OpenScopes::Only))
}

/// The block in which an erasure of several versions was carried out.
///
/// # Errors
/// [`ReadError`].
pub fn erasure(state: &impl Read, vault: &VaultId, erasure: &Hash) -> Result<Option<Height>, ReadError> {
    ERASURES.get(state, &(*vault, *erasure))
}

/// The scopes of which a version may have keyslots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenScopes {
    /// Any.
    All,
    /// Of this one alone: it was withdrawn from the others.
    Only(ScopeTag),
    /// Of none: it was erased.
    None,
}

impl OpenScopes {
    /// Whether there may be a keyslot of this scope.
    #[must_use]
    pub fn include(self, scope: &ScopeTag) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == *scope,
            Self::None => false,
        }
    }
}

/// The storage nodes by number, after the one given, also those that retired.
///
/// # Errors
/// [`ReadError`].
pub fn nodes(
    state: &impl Read,
    after: Option<NodeNumber>,
    limit: usize,
) -> Result<Vec<(NodeNumber, Node)>, ReadError> {
    let after = after.map(|number| NODES.key(&number.0));
    let rows = NODES.scan(state, &(), after.as_deref(), limit)?;
    let number = |key: &[u8]| key.last_chunk().map(|bytes| NodeNumber(u16::from_be_bytes(*bytes)));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((number(&key)?, row))).collect())
}

/// The number of a storage node.
///
/// # Errors
/// [`ReadError`].
pub fn node_number(state: &impl Read, key: &PublicKey) -> Result<Option<NodeNumber>, ReadError> {
    NODE_NUMBERS.get(state, key)
}

/// Every static node there is or was, with its standing.
///
/// # Errors
/// [`ReadError`].
pub fn statics(state: &impl Read) -> Result<Vec<Static>, ReadError> {
    Ok(STATICS.scan(state, &(), None, usize::MAX)?.into_iter().map(|(_, row)| row).collect())
}

/// Heights, after the one given, whose block changed the roster, with the hash of the new one: where a
/// receipt's steps are.
///
/// # Errors
/// [`ReadError`].
pub fn roster_changes(
    state: &impl Read,
    after: Height,
    limit: usize,
) -> Result<Vec<(Height, Hash)>, ReadError> {
    let rows = ROSTER_CHANGES.scan(state, &(), Some(&ROSTER_CHANGES.key(&after)), limit)?;
    let height = |key: &[u8]| key.last_chunk().map(|bytes| Height(u64::from_be_bytes(*bytes)));
    Ok(rows.into_iter().filter_map(|(key, hash)| Some((height(&key)?, hash))).collect())
}

/// The block that has a leaf of the log; `None` if none has it yet.
///
/// # Errors
/// [`ReadError`].
pub fn block_of_leaf(state: &impl Read, leaf: u64) -> Result<Option<Height>, ReadError> {
    let after = leaf.checked_sub(1).map(|before| LAST_LEAVES.key(&before));
    let rows = LAST_LEAVES.scan(state, &(), after.as_deref(), 1)?;
    Ok(rows.into_iter().next().map(|(_, height)| height))
}

/// The block of a transaction, its leaf, and the path to the root of the first `size` leaves; `None` if it
/// is not among them.
///
/// # Errors
/// [`ReadError`].
pub fn prove_transaction(
    state: &impl Read,
    id: &TransactionId,
    size: u64,
) -> Result<Option<(Height, u64, Vec<LogHash>)>, ReadError> {
    let Some(place) = PLACES.get(state, id)? else { return Ok(None) };
    let path = log::prove_inclusion(state, place.leaf, size)?;
    Ok(path.map(|path| (place.height, place.leaf, path)))
}
