//! Static nodes in this process, over QUIC on loopback, with their logs on disk.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use xvault::client::LedgerClient;
use xvault::consensus::Timing;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Proven, Question};
use xvault::message::{
    Action, Admission, Block, Change, CommitCertificate, Genesis, Governance, Member, Params, Roster,
};
use xvault::roles::{NodeFolder, StaticConfig, StaticError, StaticNode};
use xvault::types::limits::SNAPSHOT_GAP;
use xvault::types::{Code, Height, Network, NetworkId, Timestamp, VaultId};

pub(crate) const NETWORK: NetworkId = NetworkId([3; 32]);

/// Asks until the answer is the one hoped for; bounded, since a test must end.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about: {what}");
}

/// Starts a static node: the system frees a port a moment after its socket, and another test may have it so long.
pub(crate) async fn start(config: StaticConfig) -> StaticNode {
    let (mut running, mut config) = (None, config);
    eventually("the port is free", async || match StaticNode::start(config.clone()).await {
        Err(StaticError::Endpoint(_)) => {
            // A key that it set aside before it had no port is not used again.
            let folder = NodeFolder::open(&config.dir);
            config.key = folder.map_or_else(|_| config.key.clone(), |folder| folder.key);
            false
        }
        started => {
            running = Some(started.unwrap());
            true
        }
    })
    .await;
    running.unwrap()
}

/// Eight ports that nobody has, below those that the system gives to whoever asks for any: a node that is started later finds its
/// port free still. Tests that run at once look in different places.
fn free_sockets() -> Vec<UdpSocket> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(16).wrapping_add(TAKEN.fetch_add(8, Ordering::Relaxed));
    let port = |nth: u32| 10_000 + u16::try_from(first.wrapping_add(nth) % 20_000).unwrap();
    let bound = (0..20_000).filter_map(|nth| UdpSocket::bind(("127.0.0.1", port(nth))).ok());
    bound.take(8).collect()
}

pub(crate) fn key(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth + 1; 32])
}

/// Static nodes, of which the first four are those of the genesis.
pub(crate) struct Statics {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) running: BTreeMap<u8, StaticNode>,
    pub(crate) client: LedgerClient,
    vaults: u16,
    /// How they agree.
    timing: Timing,
    /// Blocks that one may be behind before it takes a snapshot.
    snapshot_gap: u64,
}

impl Statics {
    /// Four that run.
    pub(crate) async fn start() -> Self {
        let timing = Timing { heartbeat: Duration::from_millis(500), ..Timing::default() };
        let mut statics = Self::new(timing, SNAPSHOT_GAP);
        for nth in 0..4 {
            statics.revive(nth).await;
        }
        statics
    }

    /// Four that do not run yet.
    pub(crate) fn new(timing: Timing, snapshot_gap: u64) -> Self {
        // All are held open until all are found, so that no two are the same.
        let sockets = free_sockets();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let members = (0..4).map(|nth| member(nth, addresses[usize::from(nth)])).collect();
        let genesis = Genesis {
            network: NETWORK,
            time: Timestamp::from_unix_micros(1),
            code: Code::new(2, 1).unwrap(),
            admission: Admission::Open,
            params: Params { open_entries: 10_000, ..Params::DEFAULT },
            roster: Roster::new(members).unwrap(),
            nodes: Vec::new(),
            sponsors: Vec::new(),
        };
        drop(sockets);
        let client = client(&genesis);
        let dir = tempfile::tempdir().unwrap();
        let (genesis, running) = (Arc::new(genesis), BTreeMap::new());
        Self { dir, genesis, addresses, running, client, vaults: 0, timing, snapshot_gap }
    }

    pub(crate) fn member(&self, nth: u8) -> Member {
        member(nth, self.addresses[usize::from(nth)])
    }

    /// Makes the folder of a node one that has its key.
    pub(crate) fn folder(&self, nth: u8) -> NodeFolder {
        let folder = NodeFolder {
            dir: self.dir.path().join(nth.to_string()),
            name: format!("static-{nth}"),
            network: NETWORK,
            listen: self.addresses[usize::from(nth)],
            http: None,
            key: key(nth),
            described: None,
        };
        folder.create().unwrap();
        folder
    }

    pub(crate) async fn revive(&mut self, nth: u8) {
        let started = start(self.config(nth)).await;
        self.running.insert(nth, started);
    }

    /// How a node is started; with the key that is in its folder, if it has one there.
    pub(crate) fn config(&self, nth: u8) -> StaticConfig {
        let dir = self.dir.path().join(nth.to_string());
        let key = NodeFolder::open(&dir).map_or_else(|_| key(nth), |folder| folder.key);
        StaticConfig {
            dir,
            listen: self.addresses[usize::from(nth)],
            genesis: Arc::clone(&self.genesis),
            http: Some(([127, 0, 0, 1], 0).into()),
            key,
            timing: self.timing,
            snapshot_gap: self.snapshot_gap,
        }
    }

    pub(crate) async fn stop(&mut self, nth: u8) {
        self.running.remove(&nth).unwrap().stop().await;
    }

    pub(crate) async fn stop_all(mut self) {
        while let Some((_, node)) = self.running.pop_first() {
            node.stop().await;
        }
    }

    /// Changes who votes, with these approvals.
    pub(crate) async fn change(&mut self, change: Change, approvers: &[u8], newcomer: Option<u8>) {
        // One may be a block behind the others.
        let mut sequence = 0;
        for nth in self.running.keys() {
            if let Some(Answer::Sequence(said)) = self.ask(*nth, &Question::Sequence).await {
                sequence = sequence.max(said);
            }
        }
        let mut governance = Governance::new(sequence, change);
        approvers.iter().for_each(|nth| governance.approve(&NETWORK, &key(*nth)));
        if let Some(newcomer) = newcomer {
            governance.possess(&NETWORK, &key(newcomer));
        }
        let before = self.client.roster().hash();
        let author = KeyPair::from_secret(&[200; 32]);
        self.client.carry_out(&author, Action::Govern(governance), &|_| {}).await.unwrap();
        // Whoever is asked may be a block behind.
        eventually("the client learns of it", async || {
            self.client.follow().await.unwrap();
            self.client.roster().hash() != before
        })
        .await;
    }

    /// Registers one more vault, and answers the proof that it is final.
    pub(crate) async fn decide(&mut self) -> Proven {
        self.vaults += 1;
        let [high, low] = self.vaults.to_be_bytes();
        let mut secret = [high; 32];
        secret[0] = low;
        let (owner, vault) = (KeyPair::from_secret(&secret), VaultId(secret));
        let height = self
            .client
            .carry_out(&owner, Action::CreateVault { vault, sponsor: None }, &|_| {})
            .await
            .unwrap();
        let mut found = None;
        eventually("whoever is asked has it too", async || {
            let Some(block) = self.client.blocks(height).await.unwrap().into_iter().next() else {
                return false;
            };
            let block = Block::decode_bounded(&block.block).unwrap();
            let mut transactions = block.transactions.iter();
            let id = transactions.find(|signed| signed.transaction().author == owner.public()).unwrap().id();
            let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
            match self.client.ask_for(&Question::Transaction { id }, is_there).await.unwrap() {
                Answer::Transaction(proven) => found = proven,
                other => panic!("{other:?}"),
            }
            found.is_some()
        })
        .await;
        *found.unwrap()
    }

    /// What one static node answers, whoever it is now.
    pub(crate) async fn ask(&self, nth: u8, question: &Question) -> Option<Answer> {
        let asker = client(&Genesis {
            roster: Roster::new(vec![Member { key: self.running[&nth].public_key(), ..self.member(nth) }])
                .unwrap(),
            ..(*self.genesis).clone()
        });
        asker.ask(question).await.ok()
    }

    pub(crate) async fn height(&self, nth: u8) -> Option<Height> {
        match self.ask(nth, &Question::Tip).await? {
            Answer::Tip { header, .. } => Some(header.record.height),
            _ => None,
        }
    }

    /// Whether a node's key is in the certificate of the last block.
    pub(crate) async fn signs(&self, who: u8) -> bool {
        let tip = self.client.tip().await.unwrap().record.height;
        let Some(found) = self.client.blocks(tip).await.unwrap().into_iter().next() else { return false };
        let certificate = CommitCertificate::decode(&found.certificate).unwrap();
        certificate.signature(&key(who).public()).is_some()
    }
}

pub(crate) fn member(nth: u8, address: SocketAddr) -> Member {
    Member {
        key: key(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth + 1; 32]).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address,
    }
}

pub(crate) fn client(genesis: &Genesis) -> LedgerClient {
    let genesis = Some(genesis.to_text());
    let network = Network { id: NETWORK, code: Code::DEFAULT, genesis, nodes: Vec::new() };
    LedgerClient::new(&network, &KeyPair::from_secret(&[99; 32])).unwrap()
}
