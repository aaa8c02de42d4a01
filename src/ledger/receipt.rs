//! What a static node gives for a receipt: paths from its log, around headers and checkpoints of its archive.

use crate::ledger::log::{Paths, prove_inclusion};
use crate::ledger::read::{Read, ReadError};
use crate::ledger::rows::{PLACES, ROSTERS};
use crate::message::anchor_receipt::{LastLeaf, LogProof, RosterStep};
use crate::message::block::{BlockRecord, Header};
use crate::message::checkpoint::SignedCheckpoint;
use crate::types::TransactionId;

/// The record of a block as the last leaf of the log of that time.
///
/// # Errors
/// [`ReadError`], as for all here.
pub fn last_leaf(state: &impl Read, record: &BlockRecord) -> Result<LastLeaf, ReadError> {
    let size = record.log_size;
    let path = prove_inclusion(state, size.saturating_sub(1), size)?;
    Ok(LastLeaf { record: *record, path: path.ok_or(ReadError::Missing("leaf of a block"))? })
}

/// The step over a block that changed the roster, from its checkpoint with the cosignatures of the old
/// one. It never changes again once a quorum has signed: keep it.
///
/// # Errors
/// [`ReadError`].
pub fn roster_step(
    state: &impl Read,
    header: &Header,
    checkpoint: &SignedCheckpoint,
) -> Result<RosterStep, ReadError> {
    Ok(RosterStep {
        cosignatures: checkpoint.cosignatures().to_vec(),
        root: header.log_root,
        last: last_leaf(state, &header.record)?,
        next: ROSTERS.expect(state, &header.record.next_roster())?,
    })
}

/// Proves a transaction under the checkpoint of a block, given that block's last leaf and the steps over all blocks before
/// it that changed the roster; `None` if it is not in the log of that block.
///
/// # Errors
/// [`ReadError`].
pub fn log_proof(
    paths: &mut Paths<'_, impl Read>,
    id: &TransactionId,
    last: &LastLeaf,
    steps: &[RosterStep],
) -> Result<Option<LogProof>, ReadError> {
    let Some(place) = PLACES.get(paths.state(), id)? else { return Ok(None) };
    let Some(path) = paths.inclusion(place.leaf, last.record.log_size)? else { return Ok(None) };
    Ok(Some(LogProof { index: place.leaf, path, last: last.clone(), steps: steps.to_vec() }))
}
