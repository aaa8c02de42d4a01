//! Proofs from the chain: that a transaction is under a tree head that the static nodes cosigned, and how these
//! static nodes follow from the genesis.

use crate::ledger::ask::Proven;
use crate::ledger::log::Paths;
use crate::ledger::rows::{PAST_HEADERS, PLACES};
use crate::ledger::{query, receipt};
use crate::message::anchor_receipt::{LastLeaf, RosterStep};
use crate::message::block::{Block, Header};
use crate::message::{Action, Checkpoint, Cosignature, Roster, SignedCheckpoint, SignedTransaction};
use crate::roles::static_node::tree_heads::{TreeHead, read_cosignatures};
use crate::store::chain::{ChainError, View};
use crate::types::limits::{ANSWER_BLOCKS_LEN, MAX_ANSWER_ROWS, MAX_RECEIPT_STEPS};
use crate::types::{Height, NetworkId, TransactionId};

/// The newest tree head that a quorum has cosigned, and what is the same in all proofs under it.
#[derive(Debug)]
pub(super) struct ProvenHead {
    /// Its block.
    pub(super) height: Height,
    /// How many cosigned it: from a quorum to all.
    pub(super) signers: usize,
    /// The tree head and who signed it, as a signed note.
    pub(super) note: String,
    /// The changes of the static nodes before its block.
    pub(super) steps: Vec<RosterStep>,
    last: LastLeaf,
}

impl ProvenHead {
    /// Of a block whose tree head a quorum has cosigned, with the changes before it.
    pub(super) fn new(view: &View, head: &TreeHead, steps: Vec<RosterStep>) -> Result<Self, ChainError> {
        let record = head.record();
        Ok(Self {
            height: record.height,
            signers: head.signers(),
            note: head.note(),
            steps,
            last: receipt::last_leaf(view, record)?,
        })
    }

    /// A transaction under this tree head; `None` if it is not final there. Who has the transaction at hand gives it, since to
    /// find it is to read its block.
    pub(super) fn prove(
        &self,
        paths: &mut Paths<'_, View>,
        id: &TransactionId,
        known: Option<SignedTransaction>,
    ) -> Result<Option<Proven>, ChainError> {
        let view = paths.state();
        let Some(place) = PLACES.get(view, id)? else { return Ok(None) };
        let Some(proof) = receipt::log_proof(paths, id, &self.last, &self.steps)? else { return Ok(None) };
        let transaction = match known {
            Some(transaction) => transaction,
            None => find(view, place.height, id)?,
        };
        Ok(Some(Proven { transaction, height: place.height, proof, note: self.note.clone() }))
    }
}

fn find(view: &View, height: Height, id: &TransactionId) -> Result<SignedTransaction, ChainError> {
    let transactions = block(view, height)?.transactions;
    transactions.into_iter().find(|signed| signed.id() == *id).ok_or(ChainError::Block(height))
}

/// The header of a final block.
pub(super) fn header(view: &View, height: Height) -> Result<Header, ChainError> {
    // Of blocks that a snapshot passed over, those that matter are here.
    match PAST_HEADERS.get(view, &height)? {
        Some(header) => Ok(header),
        None => Ok(block(view, height)?.header),
    }
}

/// A final block.
pub(super) fn block(view: &View, height: Height) -> Result<Block, ChainError> {
    let bytes = view.block(height)?.ok_or(ChainError::Block(height))?;
    Block::decode_bounded(&bytes).map_err(|_| ChainError::Block(height))
}

/// The static nodes that decided on a block.
pub(super) fn roster(view: &View, header: &Header) -> Result<Roster, ChainError> {
    let missing = ChainError::Block(header.record.height);
    query::roster(view, &header.record.roster)?.ok_or(missing)
}

/// The cosignatures of a block's tree head that were kept.
pub(super) fn cosignatures(view: &View, height: Height) -> Result<Vec<Cosignature>, ChainError> {
    let bytes = view.cosignatures(height)?.unwrap_or_default();
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    read_cosignatures(&bytes).map_err(|_| ChainError::Block(height))
}

/// The tree head of a block with the cosignatures that were kept.
pub(super) fn checkpoint(
    view: &View,
    network: &NetworkId,
    header: &Header,
) -> Result<SignedCheckpoint, ChainError> {
    let height = header.record.height;
    let roster = roster(view, header)?;
    let mut signed = SignedCheckpoint::new(Checkpoint::new(network, header.record.log_size, header.log_root));
    for cosignature in cosignatures(view, height)? {
        if let Err(violation) = signed.add(cosignature, &roster) {
            // It was checked when it was kept.
            tracing::warn!(%height, %violation, "a cosignature that was kept does not count any more");
        }
    }
    Ok(signed)
}

/// The blocks that changed the static nodes of which this node has too few cosignatures to prove it, as is so after it
/// fetched them.
pub(super) fn unproven_changes(view: &View) -> Result<Vec<Height>, ChainError> {
    let mut found = Vec::new();
    for (height, _) in query::roster_changes(view, Height::GENESIS, MAX_RECEIPT_STEPS)? {
        let need = roster(view, &header(view, height)?)?.committee().quorum();
        if cosignatures(view, height)?.len() < need {
            found.push(height);
        }
    }
    Ok(found)
}

/// The blocks before this one that changed the static nodes.
pub(super) fn changes(view: &View, before: Height) -> Result<Vec<Height>, ChainError> {
    let changes = query::roster_changes(view, Height::GENESIS, MAX_RECEIPT_STEPS)?;
    Ok(changes.into_iter().map(|(height, _)| height).take_while(|height| *height < before).collect())
}

/// The changes of the static nodes before a block.
pub(super) fn steps(view: &View, network: &NetworkId, before: Height) -> Result<Vec<RosterStep>, ChainError> {
    let step = |height| {
        let header = header(view, height)?;
        Ok(receipt::roster_step(view, &header, &checkpoint(view, network, &header)?)?)
    };
    changes(view, before)?.into_iter().map(step).collect()
}

/// An anchor and those before it in its collection, as many as fit, down to the one after `until`.
pub(super) fn anchors(
    view: &View,
    from: &TransactionId,
    until: Option<&TransactionId>,
) -> Result<Vec<SignedTransaction>, ChainError> {
    let (mut found, mut len) = (Vec::new(), 0);
    let mut next = Some(*from);
    // Anchors that follow each other are often in one block.
    let mut last: Option<Block> = None;
    while let Some(id) = next.filter(|id| Some(id) != until)
        && found.len() < MAX_ANSWER_ROWS
        && len < ANSWER_BLOCKS_LEN
    {
        let Some(place) = PLACES.get(view, &id)? else { break };
        let known = last.take().filter(|block| block.header.record.height == place.height);
        let at = match known {
            Some(block) => block,
            None => block(view, place.height)?,
        };
        let signed = at.transactions.iter().find(|signed| signed.id() == id).cloned();
        let signed = signed.ok_or(ChainError::Block(place.height))?;
        let Action::Anchor(anchor) = &signed.transaction().action else { break };
        next = anchor.previous;
        len += signed.bytes().len();
        found.push(signed);
        last = Some(at);
    }
    Ok(found)
}
