//! Owners, and whom they let in, on a network of this process: what the tests of access have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use xvault::client::access::owner::every_day;
use xvault::client::access::{GrantTerms, Scope, Shared, SharedRecord, grantee};
use xvault::client::{
    Client, ClientConfig, Error, GetOptions, LedgerClient, PutOptions, RecordAddress, Source,
};
use xvault::consensus::Timing;
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::message::access::desk::{DeskAnswer, DeskRequest};
use xvault::message::access::{Denial, KeyPackage, Rights};
use xvault::message::{Canonical as _, Genesis, Member, Roster};
use xvault::net::Peers;
use xvault::roles::{
    Devnet, DevnetConfig, NodeConfig, NodeError, NodeFolder, StaticConfig, StaticNode, StorageNode,
};
use xvault::types::limits::SNAPSHOT_GAP;
use xvault::types::{Height, Network, NodeInfo, Timestamp, VersionId};

use crate::statics::{eventually, start};

pub(crate) async fn devnet(dir: &Path) -> Devnet {
    let dir = dir.join("devnet");
    Devnet::start(DevnetConfig { dir, nodes: None, code: None, statics: None, base_port: None })
        .await
        .unwrap()
}

pub(crate) fn config(dir: &Path, network: &Network, person: u8) -> ClientConfig {
    let keys = Seed::from_entropy([person; 32]).vault(0, 0);
    ClientConfig { network: network.clone(), keys, home: dir.join(format!("home-{person}")) }
}

/// Another home of the same owner.
pub(crate) fn elsewhere(config: &ClientConfig, name: &str) -> ClientConfig {
    ClientConfig { home: config.home.with_file_name(name), ..config.clone() }
}

pub(crate) fn at(path: &str) -> RecordAddress {
    let (collection, name) = path.split_once('/').unwrap();
    RecordAddress { collection: collection.parse().unwrap(), name: name.parse().unwrap() }
}

pub(crate) fn content(path: &str, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub(crate) async fn put(client: &Client, path: &str, len: usize, options: PutOptions) {
    client.put(&at(path), Source::Bytes(content(path, len)), options).await.unwrap();
}

pub(crate) async fn get(client: &Client, path: &str, version: Option<VersionId>) -> Result<Bytes, Error> {
    let mut download = client.get(&at(path), GetOptions { version, ..GetOptions::default() }).await?;
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.into())
}

pub(crate) fn labelled(labels: &str) -> PutOptions {
    PutOptions { metadata: [("labels".to_owned(), labels.to_owned())].into(), ..PutOptions::default() }
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_micros(u64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(now().unix_micros() + seconds * 1_000_000)
}

pub(crate) fn terms(scopes: &[&str]) -> GrantTerms {
    let scope = |text: &&str| (text.parse().unwrap(), text.parse::<Scope>().unwrap());
    GrantTerms {
        scopes: scopes.iter().map(scope).collect(),
        rights: Rights::READ.and(Rights::LIST),
        not_before: Timestamp::from_unix_micros(0),
        expires: later(3_600),
        days: every_day(),
        quota: None,
        append_bytes: None,
        note: "for the knee".to_owned(),
    }
}

pub(crate) fn package(config: &ClientConfig) -> KeyPackage {
    grantee::key_package(config, "Dr Knee", later(3_600)).unwrap()
}

pub(crate) fn names(records: &[SharedRecord]) -> Vec<String> {
    records.iter().map(|record| format!("{}/{}", record.line.collection, record.line.name)).collect()
}

pub(crate) async fn read(shared: &Shared, record: &SharedRecord) -> Result<Bytes, Error> {
    let mut download = shared.get(record, GetOptions::default()).await?;
    let mut bytes = Vec::new();
    while let Some(more) = download.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.into())
}

pub(crate) fn denial(error: &Error) -> Option<Denial> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Denial>()).copied()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// How the static node of a folder is run.
pub(crate) fn config_of(folder: NodeFolder, genesis: &Arc<Genesis>) -> StaticConfig {
    StaticConfig {
        dir: folder.dir,
        listen: folder.listen,
        http: None,
        genesis: Arc::clone(genesis),
        key: folder.key,
        timing: Timing::default(),
        snapshot_gap: SNAPSHOT_GAP,
    }
}

/// What calls static nodes with this key.
pub(crate) fn peers_of(genesis: &Genesis, roster: &Roster, key: &KeyPair) -> Peers {
    let node = |member: &Member| NodeInfo {
        name: member.label.clone(),
        key: member.key,
        address: member.address,
        operator: member.operator.clone(),
        site: member.operator.clone(),
    };
    let nodes = roster.members().iter().map(node).collect();
    let network = Network { id: genesis.network, code: genesis.code, genesis: None, nodes };
    Peers::new(&network, key)
}

/// A runtime that can be dropped with all that is under way in it, as the death of a process does.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What comes of something within a time; none if it is killed before it is done.
pub(crate) fn until_killed<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let dying = runtime();
    let done = dying.block_on(async { tokio::time::timeout(limit, work).await.ok() });
    // Everything of it stops where it is.
    dying.shutdown_background();
    done
}

/// Each block of the ledger.
pub(crate) async fn blocks(network: &Network) -> Vec<Vec<u8>> {
    let ledger = LedgerClient::new(network, config(Path::new(""), network, 99).keys.signing()).unwrap();
    let (mut blocks, mut next) = (Vec::new(), Height(1));
    loop {
        let found = ledger.blocks(next).await.unwrap();
        if found.is_empty() {
            return blocks;
        }
        for block in found {
            blocks.push(block.block);
            next = next.next();
        }
    }
}

/// The nodes of a devnet, each by itself.
pub(crate) struct Apart {
    pub(crate) dir: PathBuf,
    pub(crate) genesis: Arc<Genesis>,
    statics: Vec<Option<StaticNode>>,
    nodes: Vec<StorageNode>,
}

impl Apart {
    /// Takes over a devnet's folder.
    pub(crate) async fn from(devnet: Devnet, dir: &Path) -> Self {
        let (dir, network) = (dir.join("devnet"), devnet.network().clone());
        devnet.stop().await;
        let genesis = Arc::new(Genesis::from_text(network.genesis.as_ref().unwrap()).unwrap());
        let mut apart = Self { dir, genesis, statics: (0..4).map(|_| None).collect(), nodes: Vec::new() };
        for nth in 0..4 {
            apart.start(nth).await;
        }
        for node in &network.nodes {
            let folder = NodeFolder::open(&apart.dir.join(&node.name)).unwrap();
            let config = NodeConfig::new(folder, Some(Arc::clone(&apart.genesis)));
            eventually("it starts", async || match StorageNode::start(config.clone()).await {
                Err(NodeError::Endpoint(_)) => false,
                started => {
                    apart.nodes.push(started.unwrap());
                    true
                }
            })
            .await;
        }
        apart
    }

    pub(crate) async fn start(&mut self, nth: usize) {
        let folder = self.dir.join(&self.genesis.roster.members()[nth].label);
        let config = config_of(NodeFolder::open(&folder).unwrap(), &self.genesis);
        self.statics[nth] = Some(start(config).await);
    }

    pub(crate) async fn stop(&mut self, nth: usize) {
        self.statics[nth].take().unwrap().stop().await;
    }

    /// What a static node's desk answers to somebody with this key; none if it does not.
    pub(crate) async fn say(&self, key: &KeyPair, nth: usize, request: &DeskRequest) -> Option<DeskAnswer> {
        let peers = peers_of(&self.genesis, &self.genesis.roster, key);
        let to = &self.genesis.roster.members()[nth].key;
        DeskAnswer::decode(&peers.access(to, request.encode()).await.ok()?).ok()
    }
}
