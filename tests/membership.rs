//! Static nodes come and go on a real network: over QUIC, on loopback, with their logs on disk.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is a shell: it waits and starts tasks"
)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use xvault::client::{ErrorKind, LedgerClient};
use xvault::consensus::Timing;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Proven, Question};
use xvault::ledger::rows::{Node, Standing};
use xvault::message::{
    Action, Admission, Block, Change, CommitCertificate, Genesis, Governance, Member, NodeEntry, NodeNumber,
    Params, Roster,
};
use xvault::roles::{NodeFolder, StaticConfig, StaticError, StaticNode};
use xvault::types::limits::{MAX_ANSWER_BLOCKS, SNAPSHOT_GAP};
use xvault::types::{Code, Height, Network, NetworkId, Timestamp, VaultId};

const NETWORK: NetworkId = NetworkId([3; 32]);

/// Asks until the answer is the one hoped for; bounded, since a test must end.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about: {what}");
}

fn key(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth + 1; 32])
}

/// Static nodes, of which the first four are those of the genesis.
struct Statics {
    dir: tempfile::TempDir,
    genesis: Arc<Genesis>,
    addresses: Vec<SocketAddr>,
    running: BTreeMap<u8, StaticNode>,
    client: LedgerClient,
    vaults: u16,
}

impl Statics {
    async fn start() -> Self {
        // All are held open until all are found, so that no two are the same.
        let sockets: Vec<_> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
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
        let mut statics = Self { dir, genesis, addresses, running, client, vaults: 0 };
        for nth in 0..4 {
            statics.revive(nth).await;
        }
        statics
    }

    fn member(&self, nth: u8) -> Member {
        member(nth, self.addresses[usize::from(nth)])
    }

    /// Makes the folder of a node one that has its key.
    fn folder(&self, nth: u8) -> NodeFolder {
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

    async fn revive(&mut self, nth: u8) {
        let node = StaticNode::start(self.config(nth)).await.unwrap();
        self.running.insert(nth, node);
    }

    fn config(&self, nth: u8) -> StaticConfig {
        StaticConfig {
            dir: self.dir.path().join(nth.to_string()),
            listen: self.addresses[usize::from(nth)],
            genesis: Arc::clone(&self.genesis),
            http: None,
            key: key(nth),
            timing: Timing { heartbeat: Duration::from_millis(500), ..Timing::default() },
            snapshot_gap: SNAPSHOT_GAP,
        }
    }

    async fn stop(&mut self, nth: u8) {
        self.running.remove(&nth).unwrap().stop().await;
    }

    async fn stop_all(mut self) {
        while let Some((_, node)) = self.running.pop_first() {
            node.stop().await;
        }
    }

    /// Changes who votes, with these approvals.
    async fn change(&mut self, change: Change, approvers: &[u8], newcomer: Option<u8>) {
        let Answer::Sequence(sequence) = self.client.ask(&Question::Sequence).await.unwrap() else {
            panic!("no sequence");
        };
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
    async fn decide(&mut self) -> Proven {
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
            match self.client.ask(&Question::Transaction { id }).await.unwrap() {
                Answer::Transaction(proven) => found = proven,
                other => panic!("{other:?}"),
            }
            found.is_some()
        })
        .await;
        *found.unwrap()
    }

    /// What one static node answers, whoever it is now.
    async fn ask(&self, nth: u8, question: &Question) -> Option<Answer> {
        let asker = client(&Genesis {
            roster: Roster::new(vec![Member { key: self.running[&nth].public_key(), ..self.member(nth) }])
                .unwrap(),
            ..(*self.genesis).clone()
        });
        asker.ask(question).await.ok()
    }

    async fn height(&self, nth: u8) -> Option<Height> {
        match self.ask(nth, &Question::Tip).await? {
            Answer::Tip { header, .. } => Some(header.record.height),
            _ => None,
        }
    }

    /// Whether a node's key is in the certificate of the last block.
    async fn signs(&self, who: u8) -> bool {
        let tip = self.client.tip().await.unwrap().record.height;
        let Some(found) = self.client.blocks(tip).await.unwrap().into_iter().next() else { return false };
        let certificate = CommitCertificate::decode(&found.certificate).unwrap();
        certificate.signature(&key(who).public()).is_some()
    }

    /// Whether a node proves a transaction to who has nothing but the genesis.
    async fn proves(&self, nth: u8, wanted: &Proven, steps: usize) -> bool {
        match self.ask(nth, &Question::Transaction { id: wanted.transaction.id() }).await {
            Some(Answer::Transaction(Some(proven))) => {
                proven.verify(&self.genesis).unwrap();
                assert_eq!(proven.proof.steps.len(), steps);
                true
            }
            _ => false,
        }
    }
}

fn member(nth: u8, address: SocketAddr) -> Member {
    Member {
        key: key(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth + 1; 32]).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address,
    }
}

fn client(genesis: &Genesis) -> LedgerClient {
    let genesis = Some(genesis.to_text());
    let network = Network { id: NETWORK, code: Code::DEFAULT, genesis, nodes: Vec::new() };
    LedgerClient::new(&network, &KeyPair::from_secret(&[99; 32])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_static_node_comes_in_and_votes_and_who_was_away_catches_up_and_proves() {
    let mut statics = Statics::start().await;
    let early = statics.decide().await;
    // Whoever is not in the genesis follows the ledger, and proves what is in it.
    statics.revive(4).await;
    eventually("a follower proves", async || statics.proves(4, &early, 0).await).await;

    statics.stop(3).await;
    let fifth = statics.member(4);
    statics.change(Change::AddStatic(fifth), &[0, 1, 2], Some(4)).await;
    // Of five four are a quorum: without the fifth nothing would be decided.
    let late = statics.decide().await;
    assert_eq!(late.proof.steps.len(), 1);
    eventually("it votes", async || statics.signs(4).await).await;

    // It was away when the static nodes changed, and is not called by the fifth before it knows it.
    statics.revive(3).await;
    let tip = statics.height(0).await.unwrap();
    eventually("it catches up", async || statics.height(3).await >= Some(tip)).await;
    eventually("it proves over the change", async || statics.proves(3, &late, 1).await).await;
    eventually("it votes again", async || statics.signs(3).await).await;
    // So does one that begins with nothing but the genesis, and is none of them.
    statics.revive(5).await;
    eventually("a newcomer proves over the change", async || statics.proves(5, &late, 1).await).await;

    // Any one of the five may go.
    statics.stop(0).await;
    statics.decide().await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_fetches_more_blocks_than_fit_one_answer() {
    let mut statics = Statics::start().await;
    // A vault each, in a block of its own more often than not.
    while statics.height(0).await.unwrap() < Height(MAX_ANSWER_BLOCKS as u64 + 20) {
        statics.decide().await;
    }
    let (late, tip) = (statics.decide().await, statics.height(0).await.unwrap());
    statics.revive(4).await;
    eventually("it has all of them", async || statics.height(4).await >= Some(tip)).await;
    eventually("it proves the last", async || statics.proves(4, &late, 0).await).await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_static_node_is_replaced_and_another_removed() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    statics.stop(3).await;
    let new = statics.member(4);
    statics.revive(4).await;
    let old = key(3).public();
    statics.change(Change::ReplaceStatic { old, new }, &[0, 1, 2], Some(4)).await;
    assert!(statics.client.roster().member(&key(4).public()).is_some(), "the client follows");
    // With another one gone the newcomer is needed.
    statics.stop(2).await;
    let proven = statics.decide().await;
    eventually("it votes", async || statics.signs(4).await).await;
    statics.revive(2).await;

    // Who was replaced learns of it, and follows from then on.
    statics.revive(3).await;
    eventually("it proves its own leave", async || statics.proves(3, &proven, 1).await).await;
    assert!(!statics.signs(3).await);

    // One that lives is taken out; of three all must sign.
    let leaver = key(2).public();
    statics.change(Change::RemoveStatic(leaver), &[0, 1, 4], None).await;
    let last = statics.decide().await;
    assert_eq!(last.proof.steps.len(), 2);
    eventually("who left follows", async || statics.proves(2, &last, 2).await).await;
    let rows = statics.client.statics().await.unwrap();
    let row = rows.iter().find(|row| row.member.key == leaver).unwrap();
    assert!(!row.votes && row.standing == Standing::Left);
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_goes_on_under_a_new_key() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    let folder = statics.folder(3);
    NodeFolder::make_next_key(&folder.dir, key(6)).unwrap();
    let new = Member { address: statics.addresses[3], ..statics.member(6) };
    let old = key(3).public();
    statics.change(Change::RotateStatic { old, new }, &[0, 1, 2], Some(6)).await;
    tokio::time::timeout(Duration::from_secs(20), statics.running[&3].succeeded()).await.unwrap();
    statics.stop(3).await;
    statics.revive(3).await;
    assert_eq!(statics.running[&3].public_key(), key(6).public());
    assert_eq!(NodeFolder::open(&folder.dir).unwrap().key.public(), key(6).public());
    eventually("it votes under its new key", async || statics.signs(6).await).await;
    statics.stop(1).await;
    statics.decide().await;
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_node_whose_consensus_log_is_damaged_goes_on_under_a_new_key() {
    let mut statics = Statics::start().await;
    statics.decide().await;
    statics.stop(3).await;
    let folder = statics.folder(3);
    let log = folder.dir.join("ledger/consensus.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let refused = StaticNode::start(statics.config(3)).await.unwrap_err();
    assert!(matches!(refused, StaticError::Wal { .. }), "{refused:?}");
    NodeFolder::make_next_key(&folder.dir, key(6)).unwrap();
    // It waits without a vote until the ledger knows its new key.
    statics.revive(3).await;
    assert_eq!(statics.running[&3].public_key(), key(6).public());
    let new = Member { address: statics.addresses[3], ..statics.member(6) };
    let old = key(3).public();
    statics.change(Change::RotateStatic { old, new }, &[0, 1, 2], Some(6)).await;
    statics.stop(0).await;
    statics.decide().await;
    assert!(folder.dir.join("node.key.former").exists());
    statics.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_registers_moves_and_retires() {
    let statics = Statics::start().await;
    let node = KeyPair::from_secret(&[150; 32]);
    let entry = |port| NodeEntry {
        label: "node-1".into(),
        operator: "clinic".into(),
        site: "north".into(),
        address: ([192, 0, 2, 1], port).into(),
    };
    let act = async |action| statics.client.carry_out(&node, action, &|_| {}).await;
    let lists = async |wanted: &Node| {
        eventually("it is listed so", async || {
            match statics.client.ask(&Question::Nodes { after: None }).await {
                Ok(Answer::Nodes(nodes)) => nodes == [(NodeNumber(0), wanted.clone())],
                other => panic!("{other:?}"),
            }
        })
        .await;
    };
    let since = act(Action::RegisterNode { node: entry(1), sponsor: None }).await.unwrap();
    let row = Node { key: node.public(), entry: entry(1), since, retired: None };
    lists(&row).await;
    let again = act(Action::RegisterNode { node: entry(1), sponsor: None }).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused);
    act(Action::UpdateNode(entry(2))).await.unwrap();
    lists(&Node { entry: entry(2), ..row.clone() }).await;
    let retired = Some(act(Action::RetireNode).await.unwrap());
    lists(&Node { entry: entry(2), retired, ..row }).await;
    assert_eq!(act(Action::UpdateNode(entry(3))).await.unwrap_err().kind(), ErrorKind::Refused);
    statics.stop_all().await;
}
