//! Asking the nodes how they are, which needs no index.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::members::Known;
use crate::client::{ClientConfig, Error, ErrorKind, LedgerClient, NodeReport};
use crate::crypto::sign::KeyPair;
use crate::net::{CallError, Peers};
use crate::runtime::wall_time;
use crate::types::{Network, NetworkId, NodeInfo, Timestamp};

/// What to do when nodes serve another network than the network file names.
pub(crate) const CHECK_NETWORK_ID: &str =
    "check `id` in the network file: it is not that of the network which the nodes serve";

/// The nodes of a network, to be asked how they are. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Nodes {
    peers: Peers,
    network: Network,
    key: KeyPair,
}

impl Nodes {
    /// Connects to none yet. Needs a tokio runtime with time and I/O.
    #[must_use]
    pub fn new(config: &ClientConfig) -> Self {
        Self::asked_by(&config.network, config.keys.signing())
    }

    /// The same, asked by any key: nodes tell everybody how they are.
    #[must_use]
    pub fn asked_by(network: &Network, key: &KeyPair) -> Self {
        Self { peers: Peers::new(network, key), network: network.clone(), key: key.clone() }
    }

    /// Takes in which storage nodes the ledger knows, where there is one. Those that retired go.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]: then those of the network file stay.
    pub async fn learn(&mut self) -> Result<(), Error> {
        if self.network.genesis.is_some() {
            let ledger = LedgerClient::new(&self.network, &self.key)?;
            ledger.follow().await?;
            let rows = ledger.agreed_nodes().await?;
            let known = Known::merged(&self.network.nodes, rows);
            self.network.nodes = known.in_service().cloned().collect();
            self.peers.follow(&self.network.nodes);
        }
        Ok(())
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// How a node is, and how far its clock is from ours.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it does not answer, [`ErrorKind::Config`] if it is another than the network
    /// file says.
    pub async fn status(&self, node: &NodeInfo) -> Result<NodeReport, Error> {
        status(&self.peers, node).await
    }

    /// Checks that the nodes serve this network. With nobody there to ask it may, for all we know.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if those that answer all serve another one.
    pub async fn serve_this_network(&self) -> Result<(), Error> {
        let mut asked = JoinSet::new();
        for node in self.network.nodes.iter().map(|node| node.key) {
            let peers = self.peers.clone();
            asked.spawn(async move { peers.status(&node).await });
        }
        let mut other = None;
        while let Some(answer) = asked.join_next().await {
            let Ok(Ok(status)) = answer else { continue };
            // One that says so is enough: a liar among the others hinders nobody.
            if status.network == self.network.id {
                return Ok(());
            }
            other = Some(status.network);
        }
        other.map_or(Ok(()), |other| Err(another_network(self.network.id, other)))
    }

    /// Closes every connection.
    pub async fn close(self) {
        self.peers.close().await;
    }
}

fn another_network(ours: NetworkId, theirs: NetworkId) -> Error {
    let message = format!("the nodes serve another network: {}, not {}", theirs.short(), ours.short());
    Error::new(ErrorKind::Config, message).with_hint(CHECK_NETWORK_ID)
}

pub(crate) async fn status(peers: &Peers, node: &NodeInfo) -> Result<NodeReport, Error> {
    // The first call also connects: the second tells how long an answer takes.
    peers.status(&node.key).await.map_err(|error| node_error(node, error))?;
    let begun = Instant::now();
    let asked = wall_time();
    let status = peers.status(&node.key).await.map_err(|error| node_error(node, error))?;
    let round_trip = begun.elapsed();
    let ours = asked + round_trip / 2;
    let micros = |at: Timestamp| i64::try_from(at.unix_micros()).unwrap_or(i64::MAX);
    let clock_offset_ms = (micros(status.clock) - micros(ours)) / 1_000;
    Ok(NodeReport { status, round_trip, clock_offset_ms })
}

fn node_error(node: &NodeInfo, error: CallError) -> Error {
    let (name, address) = (&node.name, node.address);
    if matches!(error, CallError::WrongKey) {
        let message = format!("at {address} answers another node than {name}");
        let hint = format!("the key or the address of {name} in the network file is wrong");
        return Error::new(ErrorKind::Config, message).with_hint(hint).caused_by(error);
    }
    let message = format!("node {name} at {address} does not answer");
    Error::new(ErrorKind::Unavailable, message).caused_by(error)
}
