//! What must hold, checked from outside: on the wire, on the disks, in what clients were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ledger::ask::Proven;
use crate::message::block::{Block, Header};
use crate::message::{Genesis, SignedCheckpoint};
use crate::store::chain::View;
use crate::testing::sim::validators::audit::Audit;
use crate::types::{Hash, Height, LogHash, TransactionId};

/// Something that must not be. Its text ends with the command that shows it again.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "after {after:?}: {what}\nXVAULT_SEED={seed} cargo test --features testing --test simulator keepers::swarm"
)]
pub struct Wrong {
    /// The seed of the run.
    pub seed: u64,
    /// How far the run was, in virtual time.
    pub after: Duration,
    /// What is wrong, beginning with the invariant that is broken where it has a number.
    pub what: String,
}

/// What happened in a run that went well.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The seed of the run.
    pub seed: u64,
    /// Static nodes of the genesis.
    pub members: usize,
    /// Hash of everything delivered: the same seed gives the same (I7).
    pub trace: Option<Hash>,
    /// Blocks of the longest chain.
    pub blocks: u64,
    /// Letters delivered.
    pub letters: u64,
    /// Times a node lost power.
    pub crashes: u64,
    /// Of these, in the middle of a change of the disk or between two letters.
    pub midway: u64,
    /// Changes of the static nodes.
    pub changes: u64,
    /// Starts under another key.
    pub successions: u64,
    /// Blocks that a snapshot passed over, over all nodes.
    pub passed_over: u64,
    /// Transactions that were called final.
    pub finals: usize,
    /// Transactions that were given up as refused.
    pub refused: u64,
    /// Proofs that were given out.
    pub proofs: usize,
}

/// A node said that a transaction cannot be carried out.
#[derive(Debug)]
struct Refusal {
    node: usize,
    /// The node's last block then.
    tip: Height,
    id: TransactionId,
    reason: String,
}

/// What all nodes have said, decided and promised.
pub(super) struct Checker {
    genesis: Arc<Genesis>,
    audit: Audit,
    blocks: BTreeMap<Height, Header>,
    /// Tree heads by their size.
    heads: BTreeMap<u64, LogHash>,
    finals: BTreeMap<TransactionId, Height>,
    refusals: Vec<Refusal>,
    proofs: Vec<Proven>,
    pub(super) summary: Summary,
}

impl Checker {
    pub(super) fn new(genesis: Arc<Genesis>, seed: u64) -> Self {
        let members = genesis.roster.members().len();
        Self {
            audit: Audit::new(genesis.network, seed, members),
            genesis,
            blocks: BTreeMap::new(),
            heads: BTreeMap::new(),
            finals: BTreeMap::new(),
            refusals: Vec::new(),
            proofs: Vec::new(),
            summary: Summary { seed, members, ..Summary::default() },
        }
    }

    /// I4, by the number of the key.
    pub(super) fn said(&mut self, key: usize, message: &Bytes) -> Result<(), String> {
        self.audit.sent(key, message)
    }

    /// I3: a node has this block.
    pub(super) fn block(&mut self, node: usize, header: &Header) -> Result<(), String> {
        let height = header.record.height;
        let known = self.blocks.entry(height).or_insert(*header);
        if (known.id(), known.record.state, known.log_root)
            != (header.id(), header.record.state, header.log_root)
        {
            return Err(format!("I3: at {height} node {node} has {header:?}, another has {known:?}"));
        }
        if self.summary.blocks < height.0 {
            self.summary.blocks = height.0;
            self.summary.changes += u64::from(header.record.new_roster.is_some());
        }
        let (size, root) = (header.record.log_size, header.log_root);
        self.head(size, root)
    }

    fn head(&mut self, size: u64, root: LogHash) -> Result<(), String> {
        let known = *self.heads.entry(size).or_insert(root);
        if known == root {
            Ok(())
        } else {
            Err(format!("I3: two logs of {size} leaves: {known:?}, {root:?}"))
        }
    }

    /// Somebody was told that a transaction is final, and why.
    pub(super) fn proof(&mut self, id: TransactionId, proven: Proven) -> Result<(), String> {
        proven.verify(&self.genesis).map_err(|violation| format!("a proof of {id:?} with {violation}"))?;
        if proven.transaction.id() != id {
            return Err(format!("a proof of another transaction than {id:?}"));
        }
        self.note(&proven.note)?;
        let height = *self.finals.entry(id).or_insert(proven.height);
        if height != proven.height {
            return Err(format!("I3: {id:?} is in block {height} and in {}", proven.height));
        }
        self.proofs.push(proven);
        Ok(())
    }

    /// Somebody was shown a tree head that a quorum signed.
    pub(super) fn note(&mut self, note: &str) -> Result<(), String> {
        let head = SignedCheckpoint::head_of_note(note)
            .map_err(|violation| format!("a note that is {violation}"))?;
        self.head(head.size, head.root)
    }

    /// Somebody was told that a transaction is refused.
    pub(super) fn refused(&mut self, node: usize, tip: Height, id: TransactionId, reason: String) {
        self.refusals.push(Refusal { node, tip, id, reason });
    }

    /// Transactions that are final.
    pub(super) fn finals(&self) -> impl Iterator<Item = TransactionId> {
        self.finals.keys().copied()
    }

    /// One of those in the newest block that has any.
    pub(super) fn newest_final(&self) -> Option<TransactionId> {
        self.finals.iter().max_by_key(|(_, height)| **height).map(|(id, _)| *id)
    }

    /// At the end a node has all blocks, whatever came over it; I11: and in them all that anybody was told is final.
    pub(super) fn chain(&mut self, node: usize, view: &View) -> Result<(), String> {
        let tip = view.tip().map_err(|error| error.to_string())?.record.height;
        let mut places = BTreeMap::new();
        for height in (1..=tip.0).map(Height) {
            let bytes = view.block(height).map_err(|error| error.to_string())?;
            let bytes = bytes.ok_or_else(|| format!("node {node} has no block {height} at the end"))?;
            let block =
                Block::decode_bounded(&bytes).map_err(|violation| format!("a block that is {violation}"))?;
            self.block(node, &block.header)?;
            certified(view, &self.genesis, &block.header).map_err(|what| format!("{what} of node {node}"))?;
            places.extend(block.transactions.iter().map(|signed| (signed.id(), height)));
        }
        if let Some((id, height)) = self.finals.iter().find(|(id, height)| places.get(id) != Some(height)) {
            return Err(format!(
                "I11: {id:?} was final in block {height}, node {node} does not have it there"
            ));
        }
        let false_refusal = |refusal: &&Refusal| places.get(&refusal.id).is_some_and(|at| *at <= refusal.tip);
        match self.refusals.iter().find(false_refusal) {
            Some(Refusal { node: by, tip, id, reason }) => Err(format!(
                "{id:?} was in block {}, but node {by} refused it when it had block {tip}: {reason}",
                places[id]
            )),
            None => Ok(()),
        }
    }

    /// At the end every proof verifies still, and is of the log that there is.
    pub(super) fn proofs(&self) -> Result<(), String> {
        let sizes: BTreeMap<u64, LogHash> =
            self.blocks.values().map(|header| (header.record.log_size, header.log_root)).collect();
        if let Some((size, _)) = self.heads.iter().find(|(size, root)| sizes.get(size) != Some(root)) {
            return Err(format!("a tree head of {size} leaves was signed, but no block has it"));
        }
        self.proofs.iter().try_for_each(|proven| {
            proven.verify(&self.genesis).map_err(|violation| format!("a proof with {violation} at the end"))
        })
    }

    pub(super) fn summary(&self) -> Summary {
        Summary { finals: self.finals.len(), proofs: self.proofs.len(), ..self.summary.clone() }
    }
}

/// The certificate of a block, as a stranger checks it.
fn certified(view: &View, genesis: &Genesis, header: &Header) -> Result<(), String> {
    let height = header.record.height;
    let certificate = view.certificate(height).map_err(|error| error.to_string())?;
    let certificate = certificate.ok_or_else(|| format!("no certificate of block {height}"))?;
    let roster =
        crate::ledger::query::roster(view, &header.record.roster).map_err(|error| error.to_string())?;
    let roster = roster.ok_or_else(|| format!("no roster of block {height}"))?;
    if certificate.block != header.id() {
        return Err(format!("I3: the certificate of {height} is of another block"));
    }
    certificate
        .verify(roster.committee(), genesis.network)
        .map_err(|violation| format!("I3: the certificate of {height}: {violation}"))
}
