//! Storage nodes that come and go on the ledger, as a client sees them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use xvault::client::{
    Client, ClientConfig, GetOptions, LedgerClient, Nodes, PutOptions, RecordAddress, Source,
};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::message::{Action, Genesis, NodeEntry};
use xvault::roles::{Devnet, DevnetConfig, LedgerConfig, NodeConfig, StorageNode};
use xvault::store::StoreConfig;
use xvault::types::{Network, NodeInfo};

fn config(dir: &Path, network: &Network, home: &str) -> ClientConfig {
    let keys = Seed::from_entropy([1; 32]).vault(0, 0);
    ClientConfig { network: network.clone(), keys, home: dir.join(home) }
}

fn at(number: u8) -> RecordAddress {
    RecordAddress { collection: "scans".parse().unwrap(), name: format!("{number}").parse().unwrap() }
}

async fn put(client: &Client, number: u8) {
    let content = Bytes::from(vec![number; 5_000]);
    let report = client.put(&at(number), Source::Bytes(content), PutOptions::default()).await.unwrap();
    assert!(report.troubles.is_empty(), "{report:?}");
}

async fn read(client: &Client, number: u8) {
    let mut download = client.get(&at(number), GetOptions::default()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    assert_eq!(bytes, [number; 5_000]);
}

/// How many shards each node of the ledger that is in service holds.
async fn shards(dir: &Path, network: &Network) -> Vec<(NodeInfo, u64)> {
    let mut nodes = Nodes::new(&config(dir, network, "nobody"));
    nodes.learn().await.unwrap();
    let mut found = Vec::new();
    for node in nodes.network().nodes.clone() {
        let report = nodes.status(&node).await.unwrap();
        found.push((node, report.status.shards));
    }
    nodes.close().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_file_need_not_list_nodes_that_the_ledger_knows() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(DevnetConfig {
        dir: dir.path().join("devnet"),
        nodes: None,
        code: None,
        statics: None,
        base_port: None,
    })
    .await
    .unwrap();
    let network = Network { nodes: Vec::new(), ..devnet.network().clone() };
    let one = Client::open(config(dir.path(), &network, "one")).await.unwrap();
    put(&one, 0).await;
    one.close().await;
    let before = shards(dir.path(), &network).await;
    assert_eq!(before.iter().map(|(_, shards)| *shards).collect::<Vec<_>>(), [1; 6]);

    // One retires, another comes.
    let retired = &before[0].0;
    let folder = xvault::roles::NodeFolder::open(&dir.path().join("devnet").join(&retired.name)).unwrap();
    let ledger = LedgerClient::new(&network, &folder.key).unwrap();
    ledger.carry_out(&folder.key, Action::RetireNode, &|_| {}).await.unwrap();
    let key = KeyPair::from_secret(&[77; 32]);
    let genesis = Genesis::from_text(network.genesis.as_ref().unwrap()).unwrap();
    let newcomer = StorageNode::start(NodeConfig {
        dir: dir.path().join("newcomer"),
        listen: ([127, 0, 0, 1], 0).into(),
        network: network.id,
        key: key.clone(),
        store: StoreConfig::default(),
        ledger: Some(LedgerConfig::new(Arc::new(genesis))),
    })
    .await
    .unwrap();
    let node = NodeEntry {
        label: "newcomer".into(),
        operator: "another".into(),
        site: "elsewhere".into(),
        address: newcomer.address(),
    };
    let action = Action::RegisterNode { node, sponsor: None };
    ledger.carry_out(&key, action, &|_| {}).await.unwrap();

    let two = Client::open(config(dir.path(), &network, "two")).await.unwrap();
    for number in 1..4 {
        put(&two, number).await;
    }
    let after = shards(dir.path(), &network).await;
    assert_eq!(after.len(), 6, "who retired is not asked");
    assert_eq!(after.iter().find(|(node, _)| node.name == "newcomer").unwrap().1, 3);
    // What only lies on who retired is still read, and so is what a third device learns.
    let three = Client::open(config(dir.path(), &network, "three")).await.unwrap();
    for number in 0..4 {
        read(&three, number).await;
    }
    two.close().await;
    three.close().await;
    newcomer.stop().await;
    devnet.stop().await;
}
