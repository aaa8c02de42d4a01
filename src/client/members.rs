//! The storage nodes as a client knows them: those of the network file, and those that the ledger knows besides.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;

use crate::client::agreed::NodeList;
use crate::client::context::Context;
use crate::client::kept::{self, Kept};
use crate::types::{Network, NodeInfo, PublicKey, Timestamp};

/// How long what the ledger said of its storage nodes is used without asking again.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// The same when a holder is not among those known. It may be one that nobody will ever know.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// How long the ledger may take; then it is done with those that are known.
const PATIENCE: Duration = Duration::from_secs(2);

/// The storage nodes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    nodes: Vec<NodeInfo>,
    /// Those that take no new shards.
    retired: BTreeSet<PublicKey>,
    /// Whether the ledger said so to this process.
    is_told: bool,
}

impl Known {
    /// All of them: who retired may hold shards still.
    pub(crate) fn all(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Those that new shards may be placed on.
    pub(crate) fn in_service(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| !self.retired.contains(&node.key))
    }

    /// Whether it is what the ledger says, and not just what the network file lists and what was known before.
    pub(crate) const fn is_told(&self) -> bool {
        self.is_told
    }

    /// The node of a key.
    pub(crate) fn get(&self, key: &PublicKey) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// Those of the network file, each as the ledger has it now if it knows it, and then the others of the ledger.
    pub(crate) fn merged(listed: &[NodeInfo], rows: NodeList) -> Self {
        let retired = rows.iter().filter(|(_, row)| row.retired.is_some()).map(|(_, row)| row.key).collect();
        let (mut nodes, mut rows) = (listed.to_vec(), rows);
        for node in &mut nodes {
            if let Some(at) = rows.iter().position(|(_, row)| row.key == node.key) {
                *node = rows.remove(at).1.info();
            }
        }
        nodes.extend(rows.iter().map(|(_, row)| row.info()));
        Self { nodes, retired, is_told: true }
    }
}

/// What is known, and when the ledger was asked.
#[derive(Debug)]
pub(crate) struct Members {
    listed: Vec<NodeInfo>,
    known: RwLock<Arc<Known>>,
    /// Locked while it is asked.
    asked: tokio::sync::Mutex<Option<Timestamp>>,
    /// What the index has of it. Locked while it is written there.
    pub(crate) kept: tokio::sync::Mutex<Kept>,
}

impl Members {
    /// Those of the network file.
    pub(crate) fn new(network: &Network) -> Self {
        let known = Known { nodes: network.nodes.clone(), ..Known::default() };
        Self {
            listed: network.nodes.clone(),
            known: RwLock::new(Arc::new(known)),
            asked: tokio::sync::Mutex::default(),
            kept: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins with the storage nodes that were known before, until the ledger says which there are.
pub(crate) fn recall(ctx: &Context, nodes: NodeList) {
    know(ctx, Known { is_told: false, ..Known::merged(&ctx.members.listed, nodes) });
}

/// From here on these are the storage nodes.
fn know(ctx: &Context, known: Known) {
    ctx.peers.follow(&known.nodes);
    *ctx.members.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
}

/// Asks the ledger for its storage nodes, unless that was done a while ago.
pub(crate) async fn refresh(ctx: &Context) {
    learn(ctx, KNOWN_FOR).await;
}

/// The same when one of these, which hold something, is not known.
pub(crate) async fn reach(ctx: &Context, holders: impl IntoIterator<Item = PublicKey>) {
    let known = ctx.nodes();
    if !holders.into_iter().all(|holder| known.get(&holder).is_some()) {
        learn(ctx, MISSING_FOR).await;
    }
}

async fn learn(ctx: &Context, max_age: Duration) {
    let Some(ledger) = ctx.ledger() else { return };
    let mut asked = ctx.members.asked.lock().await;
    if asked.is_some_and(|at| ctx.clock.now().since(at) < max_age) {
        return;
    }
    let asking = async {
        // More must agree than one who was there at the genesis may be left: those of now are asked.
        ledger.follow().await?;
        ledger.agreed_nodes().await
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(rows)) => {
            know(ctx, Known::merged(&ctx.members.listed, rows.clone()));
            if let Some(vault) = &ctx.vault {
                kept::keep(ctx, vault, Some(&rows)).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "the ledger does not say which storage nodes there are"),
        Err(_) => tracing::debug!("the ledger takes long to say which storage nodes there are"),
    }
    *asked = Some(ctx.clock.now());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rows::Node;
    use crate::message::{NodeEntry, NodeNumber};
    use crate::types::Height;

    fn row(number: u16, port: u16, retired: bool) -> (NodeNumber, Node) {
        let entry = NodeEntry {
            label: format!("node-{number}"),
            operator: "somebody".into(),
            site: "here".into(),
            address: ([127, 0, 0, 1], port).into(),
        };
        let node = Node {
            key: PublicKey([u8::try_from(number).unwrap(); 32]),
            entry,
            since: Height(1),
            retired: retired.then_some(Height(2)),
        };
        (NodeNumber(number), node)
    }

    #[test]
    fn the_ledger_has_the_last_word_and_who_retired_takes_nothing_new() {
        let listed = [row(9, 1_009, false).1.info(), row(2, 1_002, false).1.info()];
        let known =
            Known::merged(&listed, vec![row(1, 1_001, false), row(2, 2_002, false), row(3, 1_003, true)]);
        let ports = |nodes: &mut dyn Iterator<Item = &NodeInfo>| {
            nodes.map(|node| node.address.port()).collect::<Vec<_>>()
        };
        assert_eq!(ports(&mut known.all().iter()), [1_009, 2_002, 1_001, 1_003]);
        assert_eq!(ports(&mut known.in_service()), [1_009, 2_002, 1_001]);
        assert!(known.get(&PublicKey([3; 32])).is_some() && known.get(&PublicKey([4; 32])).is_none());
    }
}
