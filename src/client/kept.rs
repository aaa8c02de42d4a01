//! What a client keeps of the network in its index, so that the next process of the home knows whom to ask: the changes of
//! the static nodes, and the storage nodes as they were last learned.
//!
//! It is a beginning, never an answer: what the ledger says replaces it as soon as it can be asked. The changes prove
//! themselves from the genesis and are verified again when they are read. The storage nodes are what more static nodes said than
//! can be wrong, and since then nobody but the vault's owner could write them.

use crate::client::agreed::NodeList;
use crate::client::context::Context;
use crate::client::vault::Vault;
use crate::client::{Error, members};
use crate::ledger::rows::Node;
use crate::message::anchor_receipt::RosterStep;
use crate::message::canonical::{read_list, write_list};
use crate::message::{Canonical, Genesis, NodeNumber, Violation};
use crate::runtime::wall_time;
use crate::store::IndexError;
use crate::types::{Height, Timestamp};

/// What of it is in the index: who knows more or else writes it there.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// So many changes of the static nodes.
    steps: usize,
    /// Whether there are rows after them that are of no use.
    has_wrong_steps: bool,
    /// The storage nodes, if any were ever learned.
    nodes: Option<NodeList>,
}

/// Storage nodes as the index has them.
struct KeptNodes {
    /// When they were first learned to be these.
    learned: Timestamp,
    nodes: NodeList,
}

/// A row of them.
struct Row(NodeNumber, Node);

impl Canonical for Row {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?))
    }
}

impl Canonical for KeptNodes {
    fn write(&self, to: &mut Vec<u8>) {
        self.learned.write(to);
        let rows: Vec<_> = self.nodes.iter().map(|(number, node)| Row(*number, node.clone())).collect();
        write_list(&rows, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let learned = Canonical::read(from)?;
        let rows: Vec<Row> = read_list(from, usize::from(u16::MAX))?;
        Ok(Self { learned, nodes: rows.into_iter().map(|Row(number, node)| (number, node)).collect() })
    }
}

/// Takes in what the index has. What of it is damaged or does not verify is left out, with a warning.
///
/// # Errors
/// [`ErrorKind::Locked`](crate::client::ErrorKind::Locked) if another process does not let go of the index.
pub(crate) async fn recall(ctx: &Context, vault: &Vault) -> Result<(), Error> {
    let genesis = vault.ledger.genesis().clone();
    let id = genesis.id();
    let read = ctx.index.with(move |index| Ok((index.roster_steps(&id)?, index.storage_nodes(&id)?))).await;
    let (steps, nodes) = match read {
        Ok(found) => found,
        // Whoever waits for it next would wait as long again.
        Err(error @ IndexError::Locked) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the nodes that were known before cannot be read from the local index");
            return Ok(());
        }
    };
    let rows = steps.len();
    let steps = ctx.workers.run(move || verified(&genesis, &steps)).await?;
    vault.ledger.recall(&steps);
    let nodes = nodes.and_then(|bytes| decode_nodes(&bytes));
    if let Some(KeptNodes { learned, nodes }) = &nodes {
        tracing::debug!(count = nodes.len(), ?learned, "the storage nodes are those that were known before");
        members::recall(ctx, nodes.clone());
    }
    *ctx.members.kept.lock().await =
        Kept { steps: steps.len(), has_wrong_steps: steps.len() < rows, nodes: nodes.map(|kept| kept.nodes) };
    Ok(())
}

/// The changes up to the first that does not verify.
fn verified(genesis: &Genesis, rows: &[Vec<u8>]) -> Vec<RosterStep> {
    let mut steps: Vec<RosterStep> = Vec::new();
    for row in rows {
        let last = steps.last().map(|step| (&step.next, step.last.record.height));
        let (roster, after) = last.unwrap_or((&genesis.roster, Height::GENESIS));
        let step = RosterStep::decode(row)
            .and_then(|step| step.verify(&genesis.network, roster, after).map(|()| step));
        match step {
            Ok(step) => steps.push(step),
            Err(violation) => {
                tracing::warn!(
                    number = steps.len(), %violation,
                    "a change of the static nodes in the local index is wrong: it and what follows are left out"
                );
                break;
            }
        }
    }
    steps
}

fn decode_nodes(bytes: &[u8]) -> Option<KeptNodes> {
    KeptNodes::decode(bytes)
        .inspect_err(|violation| {
            tracing::warn!(%violation, "the storage nodes in the local index are damaged: they are left out");
        })
        .ok()
}

/// Writes what is known now to the index, if it has not got it: the changes of the static nodes, and the storage nodes if they were
/// just learned. If it cannot be written the client goes on, and the next one learns it anew.
pub(crate) async fn keep(ctx: &Context, vault: &Vault, learned: Option<&NodeList>) {
    let mut kept = ctx.members.kept.lock().await;
    let id = vault.ledger.genesis().id();
    let steps = vault.ledger.steps();
    let new_steps = kept.has_wrong_steps || steps.len() > kept.steps;
    let new_nodes = learned.filter(|nodes| kept.nodes.as_ref() != Some(nodes));
    if !new_steps && new_nodes.is_none() {
        return;
    }
    let rows = new_steps.then(|| steps.iter().map(Canonical::encode).collect::<Vec<_>>());
    let nodes = new_nodes.map(|nodes| KeptNodes { learned: wall_time(), nodes: nodes.clone() }.encode());
    let written = ctx.index.with(move |index| {
        if let Some(rows) = rows {
            index.keep_roster_steps(&id, &rows)?;
        }
        nodes.map_or(Ok(()), |nodes| index.keep_storage_nodes(&id, &nodes))
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "the nodes of now cannot be kept for the next command");
        return;
    }
    if new_steps {
        (kept.steps, kept.has_wrong_steps) = (steps.len(), false);
    }
    if let Some(nodes) = new_nodes {
        kept.nodes = Some(nodes.clone());
    }
}
