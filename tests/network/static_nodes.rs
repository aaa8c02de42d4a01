//! The ledger on a real network: static nodes on loopback, over QUIC, with their logs on disk.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use xvault::client::LedgerClient;
use xvault::client::ledger::static_peers;
use xvault::consensus::Timing;
use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate, Proven, Question};
use xvault::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber, Opening, PackCommit};
use xvault::message::anchor_receipt::CommitmentProof;
use xvault::message::genesis::GenesisNode;
use xvault::message::transaction::Lane;
use xvault::message::{
    Action, Admission, AnchorReceipt, Canonical as _, Genesis, Member, NodeEntry, Params, Policy, Rejection,
    Roster, SignedTransaction, Transaction, Violation,
};
use xvault::net::Peers;
use xvault::roles::{Devnet, DevnetConfig, StaticConfig, StaticNode};
use xvault::types::limits::SNAPSHOT_GAP;
use xvault::types::{
    Code, CollectionTag, Hash, Height, Network, NetworkId, PublicKey, SegmentId, Timestamp, TransactionId,
    VaultId, VersionId,
};

/// Asks until the answer is the one hoped for; bounded, since a test must end.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about");
}

async fn devnet(dir: &Path) -> Devnet {
    let config = DevnetConfig {
        dir: dir.join("devnet"),
        nodes: Some(3),
        code: Some(Code::new(2, 1).unwrap()),
        statics: None,
        base_port: None,
    };
    Devnet::start(config).await.unwrap()
}

/// An owner who talks to the static nodes.
struct Owner {
    genesis: Genesis,
    key: KeyPair,
    peers: Peers,
    nonces: BTreeMap<Lane, u64>,
}

impl Owner {
    fn new(devnet: &Devnet) -> Self {
        Self::of(Genesis::from_text(devnet.network().genesis.as_ref().unwrap()).unwrap())
    }

    fn of(genesis: Genesis) -> Self {
        let key = KeyPair::from_secret(&[7; 32]);
        let peers = Peers::new(&static_peers(&genesis), &key);
        Self { genesis, key, peers, nonces: BTreeMap::new() }
    }

    fn sign(&mut self, action: Action) -> SignedTransaction {
        let (network, author, expires) = (self.genesis.network, self.key.public(), Height(10_000));
        let mut transaction = Transaction { network, author, nonce: 0, expires, action };
        let next = self.nonces.entry(transaction.lane()).or_default();
        transaction.nonce = *next;
        *next += 1;
        transaction.sign(&self.key)
    }

    fn statics(&self) -> Vec<PublicKey> {
        self.genesis.roster.committee().members().to_vec()
    }

    /// Submits to every static node, as clients do; the first proof or the second refusal counts.
    async fn submit(&self, signed: &SignedTransaction) -> Fate {
        let mut asked = JoinSet::new();
        for node in self.statics() {
            let (peers, bytes) = (self.peers.clone(), signed.bytes().to_vec());
            asked.spawn(async move { peers.submit(&node, bytes).await });
        }
        let mut refusals = 0;
        while let Some(answer) = asked.join_next().await {
            let Ok(answer) = answer.unwrap() else { continue };
            match Answer::decode_bounded(&answer).unwrap() {
                // Who is behind still has another one of its number, which it will refuse when it is not.
                Answer::Fate(Fate::Waiting | Fate::NonceTaken) => {}
                // So it may refuse what builds on what it has not seen yet; two are not both behind.
                Answer::Fate(Fate::Rejected(_)) if refusals == 0 => refusals += 1,
                Answer::Fate(fate) => return fate,
                other => panic!("{other:?}"),
            }
        }
        Fate::Waiting
    }

    async fn put(&mut self, action: Action) -> Proven {
        let signed = self.sign(action);
        match self.submit(&signed).await {
            Fate::Final(proven) => *proven,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, question: &Question) -> Answer {
        let node = self.statics()[0];
        Answer::decode_bounded(&self.peers.ask_ledger(&node, question.encode()).await.unwrap()).unwrap()
    }
}

const VAULT: VaultId = VaultId([9; 32]);
const COLLECTION: CollectionTag = CollectionTag([8; 32]);

fn opening(nth: u8) -> Opening {
    Opening { version: VersionId([nth; 16]), content: Hash([nth; 32]), size: 5, salt: [nth; 32] }
}

fn anchor(nth: u8, previous: Option<TransactionId>) -> Action {
    let segment = SegmentId([nth; 32]);
    let shard = |index: u8| AnchoredShard { root: Hash([index; 32]), holder: Some(NodeNumber(index.into())) };
    Action::Anchor(Anchor {
        vault: VAULT,
        collection: COLLECTION,
        previous,
        segments: vec![AnchoredSegment {
            segment,
            code: Code::new(2, 1).unwrap(),
            len: 1_000,
            shards: (0..3).map(shard).collect(),
        }],
        released: Vec::new(),
        commits: vec![PackCommit::of(segment, &[opening(nth)])],
    })
}

fn receipt(nth: u8, proven: Proven) -> AnchorReceipt {
    let commitment = CommitmentProof::of(0, &[opening(nth)], 0).unwrap();
    let Proven { transaction, proof, note, .. } = proven;
    AnchorReceipt { commitment, transaction, proof, note }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_becomes_final_and_its_receipt_verifies_with_the_genesis_alone() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let mut owner = Owner::new(&devnet);
    owner.put(Action::CreateVault { vault: VAULT, sponsor: None }).await;
    let proven = owner.put(anchor(1, None)).await;
    let first = proven.transaction.id();
    let receipt = receipt(1, proven);
    let text = receipt.to_text();
    let genesis = owner.genesis.clone();
    let anchored = AnchorReceipt::from_text(&text).unwrap().verify(&genesis, Policy::Quorum).unwrap();
    assert_eq!((anchored.opening, anchored.id), (opening(1), first));
    assert!(anchored.signers.len() >= 3, "{:?}", anchored.signers);

    // A head moves by compare and swap.
    let stale = owner.sign(anchor(2, None));
    let moved = Rejection::HeadMoved { head: Some(first) };
    assert_eq!(owner.submit(&stale).await, Fate::Rejected(moved));
    *owner.nonces.get_mut(&stale.transaction().lane()).unwrap() -= 1;
    let second = owner.put(anchor(2, Some(first))).await.transaction.id();
    // Whoever is asked may be a block behind.
    eventually(async || match owner.ask(&Question::Head { vault: VAULT, collection: COLLECTION }).await {
        Answer::Head(Some(head)) => (head.anchor, head.sequence) == (second, 2),
        other => panic!("{other:?}"),
    })
    .await;
    // In the end all have signed.
    eventually(async || match owner.ask(&Question::Transaction { id: second }).await {
        Answer::Transaction(Some(proven)) => proven.note.matches('\u{2014}').count() == 2 * 4,
        _ => false,
    })
    .await;
    let foreign = Genesis { network: NetworkId([1; 32]), ..owner.genesis.clone() };
    assert_eq!(receipt.verify(&foreign, Policy::Quorum), Err(Violation::WrongNetwork));
    devnet.stop().await;
}

/// A storage node that the genesis names; none runs.
fn storage_node(nth: u8) -> GenesisNode {
    let (label, operator) = (format!("node-{nth}"), format!("operator-{nth}"));
    let address = ([127, 0, 0, 1], 1).into();
    let entry = NodeEntry { label, operator, site: "site".into(), address };
    GenesisNode { key: KeyPair::from_secret(&[nth + 100; 32]).public(), entry }
}

/// Static nodes one by one, so that they can be stopped and started.
struct Statics {
    dir: tempfile::TempDir,
    genesis: Arc<Genesis>,
    running: Vec<Option<StaticNode>>,
}

impl Statics {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // All are held open until all are found, so that no two are the same.
        let sockets: Vec<_> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let member = |(nth, socket): (u8, &UdpSocket)| Member {
            key: Self::key(nth).public(),
            pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth + 1; 32]).public()),
            label: format!("static-{nth}"),
            operator: format!("operator-{nth}"),
            address: socket.local_addr().unwrap(),
        };
        let members = (0..).zip(&sockets).map(member).collect();
        let genesis = Arc::new(Genesis {
            network: NetworkId([3; 32]),
            time: Timestamp::from_unix_micros(1),
            code: Code::new(2, 1).unwrap(),
            admission: Admission::Open,
            params: Params::DEFAULT,
            roster: Roster::new(members).unwrap(),
            nodes: (0..3).map(storage_node).collect(),
            sponsors: Vec::new(),
        });
        drop(sockets);
        let mut statics = Self { dir, genesis, running: (0..4).map(|_| None).collect() };
        for nth in 0..4 {
            statics.revive(nth).await;
        }
        statics
    }

    fn key(nth: u8) -> KeyPair {
        KeyPair::from_secret(&[nth + 1; 32])
    }

    async fn revive(&mut self, nth: u8) {
        let key = Self::key(nth);
        let address = self.genesis.roster.member(&key.public()).unwrap().address;
        let config = StaticConfig {
            dir: self.dir.path().join(nth.to_string()),
            listen: address,
            http: None,
            genesis: Arc::clone(&self.genesis),
            key,
            timing: Timing::default(),
            snapshot_gap: SNAPSHOT_GAP,
        };
        self.running[usize::from(nth)] = Some(StaticNode::start(config).await.unwrap());
    }

    async fn stop(&mut self, nth: u8) {
        self.running[usize::from(nth)].take().unwrap().stop().await;
    }

    fn client(&self) -> LedgerClient {
        let (network, genesis) = (self.genesis.network, Some(self.genesis.to_text()));
        let network = Network { id: network, code: Code::DEFAULT, genesis, nodes: Vec::new() };
        LedgerClient::new(&network, &KeyPair::from_secret(&[8; 32])).unwrap()
    }

    /// The height of one static node.
    async fn height(&self, nth: u8) -> Option<Height> {
        let client = self.client();
        let member = self.genesis.roster.member(&Self::key(nth).public()).unwrap();
        match client.ask_one(member, &Question::Tip).await {
            Ok(Answer::Tip { header, .. }) => Some(header.record.height),
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_may_be_away_two_may_not_and_who_comes_back_catches_up() {
    let mut statics = Statics::start().await;
    let mut owner = Owner::of((*statics.genesis).clone());
    owner.put(Action::CreateVault { vault: VAULT, sponsor: None }).await;

    statics.stop(3).await;
    let first = owner.put(anchor(1, None)).await.transaction.id();
    let second = owner.put(anchor(2, Some(first))).await.transaction.id();

    // Without a quorum nothing becomes final, and nothing is lost.
    statics.stop(2).await;
    let waiting = owner.sign(anchor(3, Some(second)));
    assert_eq!(owner.submit(&waiting).await, Fate::Waiting);
    let stuck = statics.height(0).await.unwrap();
    statics.revive(2).await;
    eventually(async || statics.height(0).await.is_some_and(|height| height > stuck)).await;
    eventually(async || matches!(owner.submit(&waiting).await, Fate::Final(_))).await;

    statics.revive(3).await;
    let tip = statics.height(0).await.unwrap();
    eventually(async || statics.height(3).await.is_some_and(|height| height >= tip)).await;

    // Everything from the genesis on checks, whoever is asked.
    let folder = tempfile::tempdir().unwrap();
    let replayed = statics.client().replay(folder.path(), |_| {}).await.unwrap();
    assert!(replayed.tip.record.height >= tip && replayed.transactions == 4, "{replayed:?}");
    for nth in 0..4 {
        statics.stop(nth).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_keeps_its_ledger_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let devnet = devnet(dir.path()).await;
        let mut owner = Owner::new(&devnet);
        owner.put(Action::CreateVault { vault: VAULT, sponsor: None }).await;
        let id = owner.put(anchor(1, None)).await.transaction.id();
        devnet.stop().await;
        id
    };
    let devnet = devnet(dir.path()).await;
    let mut owner = Owner::new(&devnet);
    match owner.ask(&Question::Nonce { author: owner.key.public() }).await {
        Answer::Nonce(nonce) => assert_eq!(nonce, 1),
        other => panic!("{other:?}"),
    }
    owner.nonces.insert(Lane::Collection(VAULT, COLLECTION), 1);
    owner.put(anchor(2, Some(first))).await;
    devnet.stop().await;
}
