//! Static nodes that do not have yet what a client knows to be final.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use xvault::client::{Client, ClientConfig, LedgerClient, PutOptions, RecordAddress, Source};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate};
use xvault::message::{
    Action, Canonical as _, NodeEntry, Refusal, Rejection, Request, Response, SignedTransaction,
};
use xvault::net::{Body, CallError, Handler, Limits, Peers, Reply, Server, ServerEndpoint, serve};
use xvault::roles::{LedgerConfig, NodeConfig, StaticConfig, StaticNode, StorageNode};
use xvault::store::StoreConfig;
use xvault::types::{Network, NodeInfo, PublicKey};

use crate::statics::{NETWORK, Statics, key};

/// For how long no static node takes an anchor. Far more than a hundred attempts take that do not wait in between, and less than
/// they take with a wait.
const BEHIND_FOR: Duration = Duration::from_secs(3);

/// Stands before a static node, with its key, and passes on what is said to it, but anchors.
struct Front {
    node: PublicKey,
    /// By who asks, so that the node behind hears each under its name; the last one for all others.
    peers: BTreeMap<PublicKey, Peers>,
    others: Peers,
    /// Whether it says of anchors that there is no such vault; else it is silent for as long.
    refuses: bool,
    /// From the first anchor that any of them is given.
    began: Arc<std::sync::OnceLock<Instant>>,
}

impl Handler for Front {
    async fn handle(&self, from: PublicKey, request: Request, body: Body) -> Reply {
        let peers = self.peers.get(&from).unwrap_or(&self.others);
        let passed = match request {
            Request::SubmitTransaction(bytes) => {
                if let Some(fate) = self.fate(&bytes).await {
                    return answer(&Answer::Fate(fate).encode());
                }
                peers.submit(&self.node, bytes).await.map(|bytes| answer(&bytes))
            }
            Request::AskLedger(question) => {
                peers.ask_ledger(&self.node, question).await.map(|bytes| answer(&bytes))
            }
            Request::Consensus { len } => {
                let Ok(message) = body.read(usize::try_from(len).unwrap()).await else {
                    return Response::Done.into();
                };
                peers.consensus(&self.node, message).await.map(|()| Response::Done.into())
            }
            Request::Cosign { height, cosignature } => {
                peers.cosign(&self.node, height, cosignature).await.map(|()| Response::Done.into())
            }
            other => panic!("{other:?}"),
        };
        passed.unwrap_or_else(|error| match error {
            CallError::Refused(refusal) => refusal.into(),
            error => Refusal::busy(error.to_string(), 100).into(),
        })
    }
}

impl Front {
    /// What becomes of an anchor while the vault is not known yet.
    async fn fate(&self, bytes: &[u8]) -> Option<Fate> {
        let signed = SignedTransaction::decode(bytes).unwrap();
        if !matches!(signed.transaction().action, Action::Anchor(_)) {
            return None;
        }
        let left = BEHIND_FOR.saturating_sub(self.began.get_or_init(Instant::now).elapsed());
        if self.refuses && !left.is_zero() {
            return Some(Fate::Rejected(Rejection::NoSuchVault));
        }
        tokio::time::sleep(left).await;
        None
    }
}

fn answer(bytes: &[u8]) -> Reply {
    let len = u32::try_from(bytes.len()).unwrap();
    Reply { response: Response::Answer { len }, body: vec![Bytes::copy_from_slice(bytes)] }
}

/// Four static nodes, each behind a front; two of the fronts refuse.
async fn fronted() -> (Statics, Vec<Server>) {
    let mut statics = Statics::new(xvault::consensus::Timing::default(), 1_000);
    let began = Arc::default();
    let mut fronts = Vec::new();
    for nth in 0..4 {
        let hidden = statics.addresses[usize::from(nth) + 4];
        let node = key(nth).public();
        let info = NodeInfo {
            name: "hidden".into(),
            key: node,
            address: hidden,
            operator: "o".into(),
            site: "s".into(),
        };
        let network = Network { id: NETWORK, code: statics.genesis.code, genesis: None, nodes: vec![info] };
        let front = Front {
            node,
            peers: (0..4).map(|from| (key(from).public(), Peers::new(&network, &key(from)))).collect(),
            others: Peers::new(&network, &KeyPair::from_secret(&[98; 32])),
            refuses: nth >= 2,
            began: Arc::clone(&began),
        };
        let endpoint = ServerEndpoint::bind(statics.addresses[usize::from(nth)], &key(nth)).unwrap();
        fronts.push(serve(endpoint, Arc::new(front), Limits::default()));
        let config = StaticConfig { listen: hidden, ..statics.config(nth) };
        statics.running.insert(nth, StaticNode::start(config).await.unwrap());
    }
    (statics, fronts)
}

/// A storage node that is on the ledger.
async fn storage_node(statics: &Statics, network: &Network, nth: u8) -> StorageNode {
    let key = KeyPair::from_secret(&[150 + nth; 32]);
    let config = NodeConfig {
        dir: statics.dir.path().join(format!("node-{nth}")),
        listen: ([127, 0, 0, 1], 0).into(),
        network: NETWORK,
        key: key.clone(),
        store: StoreConfig { free_reserve: 0, ..StoreConfig::default() },
        ledger: Some(LedgerConfig::new(Arc::clone(&statics.genesis))),
    };
    let running = StorageNode::start(config).await.unwrap();
    let node = NodeEntry {
        label: format!("node-{nth}"),
        operator: format!("operator-{nth}"),
        site: "here".into(),
        address: running.address(),
    };
    let ledger = LedgerClient::new(network, &key).unwrap();
    ledger.carry_out(&key, Action::RegisterNode { node, sponsor: None }, &|_| {}).await.unwrap();
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_waits_for_static_nodes_that_do_not_have_the_vault_yet() {
    let (statics, fronts) = fronted().await;
    let (code, genesis) = (statics.genesis.code, Some(statics.genesis.to_text()));
    let network = Network { id: NETWORK, code, genesis, nodes: Vec::new() };
    let mut nodes = Vec::new();
    for nth in 0..3 {
        nodes.push(storage_node(&statics, &network, nth).await);
    }
    let (keys, home) = (Seed::from_entropy([1; 32]).vault(0, 0), statics.dir.path().join("home"));
    let client = Client::open(ClientConfig { network, keys, home }).await.unwrap();
    let at = RecordAddress { collection: "scans".parse().unwrap(), name: "ct".parse().unwrap() };
    let bytes = Source::Bytes(Bytes::from(vec![7; 5_000]));
    client.put(&at, bytes, PutOptions::default()).await.unwrap();
    assert!(client.stat(&at, None, false).await.unwrap().anchor.is_some());
    client.close().await;
    for node in nodes {
        node.stop().await;
    }
    statics.stop_all().await;
    for front in fronts {
        front.stop(Duration::ZERO).await;
    }
}
