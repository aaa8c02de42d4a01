//! What a client keeps of the network from one process to the next: a client is opened anew on the same home for each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xvault::client::{Client, ClientConfig, Error, ErrorKind, GetOptions, PutOptions, RecordAddress, Source};
use xvault::crypto::seed::{Seed, VaultKeys};
use xvault::message::{Change, Genesis};
use xvault::roles::{Devnet, DevnetConfig, NodeConfig, NodeError, NodeFolder, StorageNode};
use xvault::store::{Index, IndexError, SharedIndex};
use xvault::types::{BlockId, Network, Timestamp};

use crate::statics::{NETWORK, Statics, eventually, key};

fn keys() -> VaultKeys {
    Seed::from_entropy([1; 32]).vault(0, 0)
}

async fn open(home: &Path, network: &Network) -> Client {
    let config = ClientConfig { network: network.clone(), keys: keys(), home: home.to_owned() };
    Client::open(config).await.unwrap()
}

/// Looks at the index of a home that no client has open.
async fn index<T: Send + 'static>(
    home: &Path,
    work: impl FnOnce(&mut Index) -> Result<T, IndexError> + Send + 'static,
) -> T {
    SharedIndex::new(home, keys().index_key()).unwrap().with(work).await.unwrap()
}

fn record() -> RecordAddress {
    RecordAddress { collection: "scans".parse().unwrap(), name: "ct".parse().unwrap() }
}

fn content() -> Bytes {
    Bytes::from(vec![7; 5_000])
}

/// Reads the record in a process of its own.
async fn read(home: &Path, network: &Network) -> Result<Vec<u8>, Error> {
    let client = open(home, network).await;
    let read = async {
        let mut download = client.get(&record(), GetOptions::default()).await?;
        let mut bytes = Vec::new();
        while let Some(more) = download.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    };
    let read = read.await;
    client.close().await;
    read
}

/// The storage nodes of a devnet that does not run, without its static nodes.
async fn storage_nodes(dir: &Path, network: &Network) -> Vec<StorageNode> {
    let genesis = Arc::new(Genesis::from_text(network.genesis.as_ref().unwrap()).unwrap());
    let mut nodes = Vec::new();
    for info in &network.nodes {
        // Another test may have the port for a moment.
        for _ in 0..100 {
            let folder = NodeFolder::open(&dir.join(&info.name)).unwrap();
            match StorageNode::start(NodeConfig::new(folder, Some(Arc::clone(&genesis)))).await {
                Err(NodeError::Endpoint(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                started => {
                    nodes.push(started.unwrap());
                    break;
                }
            }
        }
    }
    assert_eq!(nodes.len(), network.nodes.len(), "a port stays in use");
    nodes
}

async fn devnet(dir: &Path) -> Devnet {
    let dir = dir.to_owned();
    Devnet::start(DevnetConfig { dir, nodes: None, code: None, statics: None, base_port: None })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_reads_with_no_static_node_there_and_no_storage_node_in_the_network_file() {
    let dir = tempfile::tempdir().unwrap();
    let (home, devnet_dir) = (dir.path().join("home"), dir.path().join("devnet"));
    let running = devnet(&devnet_dir).await;
    let listing = running.network().clone();
    let genesis = Genesis::from_text(listing.genesis.as_ref().unwrap()).unwrap().id();
    let network = Network { nodes: Vec::new(), ..listing.clone() };
    let client = open(&home, &network).await;
    client.put(&record(), Source::Bytes(content()), PutOptions::default()).await.unwrap();
    client.close().await;
    let kept = async |home: &Path| index(home, move |index| index.storage_nodes(&genesis)).await;
    let first = kept(&home).await.unwrap();
    // What did not change is not written again, which would change when it was learned.
    read(&home, &network).await.unwrap();
    assert_eq!(kept(&home).await.unwrap(), first);
    running.stop().await;

    let nodes = storage_nodes(&devnet_dir, &listing).await;
    assert_eq!(read(&home, &network).await.unwrap(), content());
    // So it does if the network file has the nodes where they were long ago.
    let mut outdated = listing.clone();
    outdated.nodes.iter_mut().for_each(|node| node.address.set_port(1));
    assert_eq!(read(&home, &outdated).await.unwrap(), content());
    // What is damaged of it is left out: it is as if nothing had been kept.
    let damaged = first[..first.len() - 1].to_vec();
    index(&home, move |index| index.keep_storage_nodes(&genesis, &damaged)).await;
    assert_eq!(read(&home, &network).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read(&home, &listing).await.unwrap(), content());
    for node in nodes {
        node.stop().await;
    }

    // And it is learned anew. The first eight bytes say when.
    let running = devnet(&devnet_dir).await;
    assert_eq!(read(&home, &network).await.unwrap(), content());
    assert_eq!(kept(&home).await.unwrap()[8..], first[8..]);
    running.stop().await;
}

/// Changes of the static nodes that a home has.
async fn steps(home: &Path, genesis: BlockId) -> Vec<Vec<u8>> {
    index(home, move |index| index.roster_steps(&genesis)).await
}

/// Whether a process of its own can ask the ledger for the vault's collections, of which there are none.
async fn asks(home: &Path, network: &Network) -> bool {
    let client = open(home, network).await;
    let asked = client.collections().await;
    client.close().await;
    match asked {
        Ok(found) => found.is_empty(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_followed_finds_the_static_nodes_of_now_after_all_of_the_genesis_are_gone() {
    let mut statics = Statics::start().await;
    let genesis = statics.genesis.id();
    let of = |genesis: &Genesis| {
        let (code, text) = (genesis.code, Some(genesis.to_text()));
        Network { id: NETWORK, code, genesis: text, nodes: Vec::new() }
    };
    let network = of(&statics.genesis);
    let homes: Vec<_> = ["one", "none"].map(|home| statics.dir.path().join(home)).into();
    let home = &homes[0];
    for (old, new, approvers) in [(3, 4, [0, 1, 2]), (2, 5, [0, 1, 4])] {
        statics.stop(old).await;
        statics.revive(new).await;
        let change = Change::ReplaceStatic { old: key(old).public(), new: statics.member(new) };
        statics.change(change, &approvers, Some(new)).await;
    }
    eventually("a process keeps both changes", async || {
        asks(home, &network).await && steps(home, genesis).await.len() == 2
    })
    .await;
    let kept = steps(home, genesis).await;
    assert!(asks(home, &network).await);
    assert_eq!(steps(home, genesis).await, kept, "nothing is written again");
    for (old, new, approvers) in [(1, 6, [0, 4, 5]), (0, 7, [4, 5, 6])] {
        statics.stop(old).await;
        statics.revive(new).await;
        let change = Change::ReplaceStatic { old: key(old).public(), new: statics.member(new) };
        statics.change(change, &approvers, Some(new)).await;
    }
    assert!(!asks(&homes[1], &network).await, "the genesis leads nowhere any more");
    assert!(asks(home, &network).await);
    eventually("a process keeps all changes", async || {
        asks(home, &network).await && steps(home, genesis).await.len() == 4
    })
    .await;

    // What was kept of one network is of no use for another, be it of the same name.
    let other = Genesis { time: Timestamp::from_unix_micros(2), ..(*statics.genesis).clone() };
    assert!(!asks(home, &of(&other)).await);
    // Damaged from the second on, what is before it still leads to somebody who knows the others.
    let whole = steps(home, genesis).await;
    let mut damaged = whole.clone();
    *damaged[1].last_mut().unwrap() ^= 1;
    damaged.push(vec![1; 100]);
    index(home, move |index| index.keep_roster_steps(&genesis, &damaged)).await;
    assert!(asks(home, &network).await);
    eventually("it is mended", async || asks(home, &network).await && steps(home, genesis).await.len() == 4)
        .await;
    // Without any it is as if nothing had been kept.
    let garbage = vec![whole[1].clone()];
    index(home, move |index| index.keep_roster_steps(&genesis, &garbage)).await;
    assert!(!asks(home, &network).await);
    assert!(steps(home, genesis).await.is_empty(), "what does not verify is dropped");
    statics.stop_all().await;
}
