use std::net::SocketAddr;

use super::*;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::{Draft, build};
use crate::message::canonical::Canonical as _;
use crate::message::{
    Admission, CommitCertificate, Genesis, Member, Params, Roster, VerifiedTransaction, Vote, VoteKind,
};
use crate::testing::MemDisk;
use crate::types::{Code, Round};

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

/// A ledger of one static node.
struct Ledger {
    genesis: Genesis,
    chain: Chain,
    snapshots: Snapshots,
}

impl Ledger {
    fn new() -> Self {
        let member = Member {
            key: pair(1).public(),
            pq_key: Box::new(*PqKeyPair::from_node_secret(&[1; 32]).public()),
            label: "static-1".into(),
            operator: "operator".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 4_000)),
        };
        let genesis = Genesis {
            network: NetworkId([5; 32]),
            time: Timestamp::from_unix_micros(1),
            code: Code::DEFAULT,
            admission: Admission::Open,
            params: Params::DEFAULT,
            roster: Roster::new(vec![member]).unwrap(),
            nodes: Vec::new(),
            sponsors: Vec::new(),
        };
        let chain = Chain::open(&MemDisk::new(1 << 30), &genesis).unwrap();
        let snapshots = Snapshots::new(genesis.network, chain.clone());
        Self { genesis, chain, snapshots }
    }

    /// Empty blocks.
    fn blocks(&self, count: u64) {
        for _ in 0..count {
            let view = self.chain.view().unwrap();
            let tip = view.tip().unwrap();
            let certificate = view.certificate(tip.record.height).unwrap();
            let draft = Draft { proposer: pair(1).public(), time: Timestamp::ZERO, certificate };
            let built = build(&view, draft, Vec::<VerifiedTransaction>::new()).unwrap();
            let (height, block) = (tip.record.height.next(), built.block.header.id());
            let (network, round) = (self.genesis.network, Round(0));
            let vote = Vote { network, kind: VoteKind::Precommit, height, round, block: Some(block) };
            let signatures = vec![(pair(1).public(), vote.sign(&pair(1)).signature)];
            let certificate = CommitCertificate { height, round, block, signatures };
            self.chain.commit(&built.block.encode(), &certificate, &built.changes).unwrap();
        }
    }

    fn offer(&self, above: u64, now: Timestamp) -> Option<u64> {
        let offer = self.snapshots.offer(Height(above), now).unwrap();
        offer.map(|offer| {
            offer.verify(&self.genesis).unwrap();
            offer.header.record.height.0
        })
    }

    fn has(&self, height: u64, now: Timestamp) -> bool {
        self.snapshots.rows(Height(height), None, now).unwrap().is_some()
    }
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_000_000 + micros)
}

#[test]
fn a_state_is_offered_until_it_is_old_and_no_more_than_two_are_held() {
    let ledger = Ledger::new();
    assert_eq!(ledger.offer(0, at(0)), None, "nothing after the genesis");
    ledger.blocks(3);
    assert_eq!(ledger.offer(3, at(0)), None);
    assert_eq!(ledger.offer(0, at(0)), Some(3));
    ledger.blocks(SNAPSHOT_RENEW_BLOCKS - 1);
    assert_eq!(ledger.offer(0, at(0)), Some(3), "it is not old yet");
    ledger.blocks(1);
    let second = 3 + SNAPSHOT_RENEW_BLOCKS;
    assert_eq!(ledger.offer(0, at(0)), Some(second));
    ledger.blocks(SNAPSHOT_RENEW_BLOCKS);
    assert_eq!(ledger.offer(0, at(0)), Some(second), "there is no room for a third");
    assert_eq!(ledger.offer(second, at(0)), None);
    assert!(ledger.has(3, at(0)) && ledger.has(second, at(0)) && !ledger.has(second + 1, at(0)));
    assert_eq!(ledger.snapshots.held().len(), MAX_SNAPSHOTS);
}

#[test]
fn a_state_is_let_go_when_nobody_asks_or_in_the_end_whoever_asks() {
    let ledger = Ledger::new();
    ledger.blocks(2);
    assert_eq!(ledger.offer(0, at(0)), Some(2));
    let idle = SNAPSHOT_IDLE_MICROS;
    ledger.snapshots.let_go(at(idle - 1)).unwrap();
    assert!(ledger.has(2, at(idle - 1)));
    ledger.snapshots.let_go(at(2 * idle - 2)).unwrap();
    assert!(ledger.has(2, at(idle - 1)));
    ledger.snapshots.let_go(at(2 * idle)).unwrap();
    assert!(!ledger.has(2, at(2 * idle)));

    // Somebody asks all the time.
    assert_eq!(ledger.offer(0, at(0)), Some(2));
    for now in (0..SNAPSHOT_LIFE_MICROS).step_by(30_000_000) {
        ledger.snapshots.let_go(at(now)).unwrap();
        assert!(ledger.has(2, at(now)));
    }
    ledger.snapshots.let_go(at(SNAPSHOT_LIFE_MICROS)).unwrap();
    assert!(!ledger.has(2, at(SNAPSHOT_LIFE_MICROS)));

    // Many blocks end it too.
    assert_eq!(ledger.offer(0, at(0)), Some(2));
    ledger.blocks(SNAPSHOT_LIFE_BLOCKS - 1);
    ledger.snapshots.let_go(at(0)).unwrap();
    assert!(ledger.has(2, at(0)));
    ledger.blocks(1);
    ledger.snapshots.let_go(at(0)).unwrap();
    assert!(!ledger.has(2, at(0)));
}
