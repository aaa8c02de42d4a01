//! The ledger on a real network: static nodes on loopback, over QUIC, with their logs on disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use xvault::client::ledger::static_peers;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::ask::{Answer, Fate, Proven, Question};
use xvault::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber, Opening};
use xvault::message::anchor_receipt::{CommitmentProof, commitments_root};
use xvault::message::{
    Action, AnchorReceipt, Canonical as _, FrameLocator, Genesis, Policy, SignedTransaction, Transaction,
    Violation,
};
use xvault::net::Peers;
use xvault::roles::{Devnet, DevnetConfig};
use xvault::types::{
    Code, CollectionTag, Hash, Height, PublicKey, SegmentId, TransactionId, VaultId, VersionId,
};

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
    nonce: u64,
}

impl Owner {
    fn new(devnet: &Devnet) -> Self {
        let genesis = Genesis::from_text(devnet.network().genesis.as_ref().unwrap()).unwrap();
        let key = KeyPair::from_secret(&[7; 32]);
        let peers = Peers::new(&static_peers(&genesis), &key);
        Self { genesis, key, peers, nonce: 0 }
    }

    fn sign(&mut self, action: Action) -> SignedTransaction {
        let (network, author, nonce) = (self.genesis.network, self.key.public(), self.nonce);
        self.nonce += 1;
        Transaction { network, author, nonce, expires: Height(10_000), action }.sign(&self.key)
    }

    fn statics(&self) -> Vec<PublicKey> {
        self.genesis.roster.committee().members().to_vec()
    }

    async fn submit(&self, signed: &SignedTransaction) -> Fate {
        let mut last = None;
        for node in self.statics() {
            // Any of them will do; those that are down do not matter.
            let (peers, bytes) = (self.peers.clone(), signed.bytes().to_vec());
            let answered = tokio::spawn(async move { peers.submit(&node, bytes).await });
            last = Some(answered);
        }
        let answer = last.unwrap().await.unwrap().unwrap();
        match Answer::decode_bounded(&answer).unwrap() {
            Answer::Fate(fate) => fate,
            other => panic!("{other:?}"),
        }
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
        commitments: commitments_root(&[opening(nth)]),
        count: 1,
        commit: FrameLocator { segment, offset: 0, len: 500 },
    })
}

fn receipt(nth: u8, proven: Proven) -> AnchorReceipt {
    let commitment = CommitmentProof::of(&[opening(nth)], 0).unwrap();
    let Proven { transaction, proof, note, .. } = proven;
    AnchorReceipt { commitment, transaction, proof, note }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_becomes_final_and_its_receipt_verifies_with_the_genesis_alone() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let mut owner = Owner::new(&devnet);
    owner.put(Action::CreateVault { vault: VAULT, sponsor: None }).await;
    let begun = std::time::Instant::now();
    let proven = owner.put(anchor(1, None)).await;
    println!("anchored in {:?}", begun.elapsed());
    let first = proven.transaction.id();
    let receipt = receipt(1, proven);
    let text = receipt.to_text();
    let genesis = owner.genesis.clone();
    let anchored = AnchorReceipt::from_text(&text).unwrap().verify(&genesis, Policy::Quorum).unwrap();
    assert_eq!((anchored.opening, anchored.id), (opening(1), first));
    assert!(anchored.signers.len() >= 3, "{:?}", anchored.signers);

    // A head moves by compare and swap.
    let stale = owner.sign(anchor(2, None));
    assert!(matches!(owner.submit(&stale).await, Fate::Rejected(_)));
    owner.nonce -= 1;
    let second = owner.put(anchor(2, Some(first))).await.transaction.id();
    match owner.ask(&Question::Head { vault: VAULT, collection: COLLECTION }).await {
        Answer::Head(Some(head)) => assert_eq!((head.anchor, head.sequence), (second, 2)),
        other => panic!("{other:?}"),
    }
    // In the end all have signed.
    let mut signers = 0;
    for _ in 0..50 {
        if let Answer::Transaction(Some(proven)) = owner.ask(&Question::Transaction { id: second }).await {
            signers = proven.note.lines().filter(|line| line.starts_with('\u{2014}')).count() / 2;
        }
        if signers == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(signers, 4);
    let elsewhere = Genesis { time: owner.genesis.time + Duration::from_secs(1), ..owner.genesis.clone() };
    assert!(AnchorReceipt::from_text(&text).unwrap().verify(&elsewhere, Policy::Quorum).is_ok());
    let foreign = Genesis { network: xvault::types::NetworkId([1; 32]), ..owner.genesis.clone() };
    assert_eq!(receipt.verify(&foreign, Policy::Quorum), Err(Violation::WrongNetwork));
    devnet.stop().await;
}
