//! The ledger through its public interface, as a static node, a follower and a client use it together:
//! build, certify, check, write, cosign, prove, verify. Prints how long each takes.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that looks at a clock")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use xvault::crypto::ml_dsa::PqKeyPair;
use xvault::crypto::sign::KeyPair;
use xvault::ledger::log::Paths;
use xvault::ledger::{Draft, Mempool, Writes, build, check, genesis_state, precheck, query, receipt};
use xvault::message::anchor_receipt::CommitmentProof;
use xvault::message::genesis::GenesisNode;
use xvault::message::*;
use xvault::types::*;

const NETWORK: NetworkId = NetworkId([0x4e; 32]);
const OWNERS: u8 = 8;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

fn address(nth: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, nth], 4_000))
}

fn member(nth: u8) -> Member {
    let pq_key = Box::new(*PqKeyPair::from_node_secret(&[nth; 32]).public());
    let (label, operator) = (format!("static-{nth}"), format!("operator-{nth}"));
    Member { key: pair(nth).public(), pq_key, label, operator, address: address(nth) }
}

fn genesis() -> Genesis {
    let node = |nth: u8| {
        let label = format!("node-{nth}");
        let entry =
            NodeEntry { label, operator: "operator".into(), site: "site".into(), address: address(nth) };
        GenesisNode { key: pair(100 + nth).public(), entry }
    };
    Genesis {
        network: NETWORK,
        time: Timestamp::from_unix_millis(1_000),
        code: Code::DEFAULT,
        admission: Admission::Open,
        params: Params { vault_bytes: 1 << 40, ..Params::DEFAULT },
        roster: Roster::new((1..=4).map(member).collect()).unwrap(),
        nodes: (0..6).map(node).collect(),
        sponsors: vec![],
    }
}

fn write(state: &mut State, writes: Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(state.insert(key, value)),
            None => drop(state.remove(&key)),
        }
    }
}

/// What the static nodes sign once they have decided on a block.
fn certify(header: &Header) -> CommitCertificate {
    let (height, block) = (header.record.height, header.id());
    let mut certificate = CommitCertificate { height, round: Round(0), block, signatures: vec![] };
    for nth in 1..=4 {
        assert!(certificate.add(&certificate.vote(NETWORK).sign(&pair(nth))));
    }
    certificate
}

fn opening(nth: u64) -> Opening {
    let content = Hash(*blake3::hash(&nth.to_le_bytes()).as_bytes());
    Opening { version: VersionId([7; 16]), content, size: 8, salt: [9; 32] }
}

fn anchor(owner: u8, nth: u64, previous: Option<TransactionId>) -> Action {
    let mut id = [owner; 32];
    id[..8].copy_from_slice(&nth.to_be_bytes());
    let segment = SegmentId(id);
    let shard = |at: u16| AnchoredShard { root: Hash([3; 32]), holder: Some(NodeNumber(at)) };
    let shards = (0..6).map(shard).collect();
    Action::Anchor(Anchor {
        vault: VaultId([owner; 32]),
        collection: CollectionTag([2; 32]),
        previous,
        segments: vec![AnchoredSegment { segment, code: Code::DEFAULT, len: 1 << 20, shards }],
        released: vec![],
        commits: vec![PackCommit::of(segment, &[opening(nth)])],
    })
}

fn sign(owner: u8, nonce: u64, action: Action) -> SignedTransaction {
    let (network, author, expires) = (NETWORK, pair(owner).public(), Height(10_000));
    Transaction { network, author, nonce, expires, action }.sign(&pair(owner))
}

/// A static node: proposes what waits, and cosigns what was decided.
#[derive(Default)]
struct Chain {
    state: State,
    pool: Mempool,
    blocks: Vec<Block>,
}

impl Chain {
    fn submit(&mut self, signed: SignedTransaction) {
        let tip = query::tip(&self.state).unwrap();
        let next = query::next_nonce(&self.state, &signed.transaction().lane()).unwrap();
        let verified = signed.into_verified(&NETWORK).unwrap();
        assert_eq!(precheck(&self.state, verified.signed()), Ok(None));
        self.pool.insert(verified, tip.record.height.next(), next).unwrap();
    }

    fn decide(&mut self) {
        let tip = query::tip(&self.state).unwrap();
        let certificate = (tip.record.height != Height::GENESIS).then(|| certify(&tip));
        let draft =
            Draft { proposer: pair(1).public(), time: Timestamp::from_unix_millis(2_000), certificate };
        let built = build(&self.state, draft, self.pool.candidates()).unwrap();
        built.refused.iter().for_each(|refused| self.pool.refused(refused));
        write(&mut self.state, built.changes.writes);
        self.pool.decided(&built.block.transactions, built.block.header.record.height.next());
        self.blocks.push(built.block);
    }
}

fn rate(what: &str, count: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("{what}: {count} in {seconds:.3} s, {:.0} a second", count as f64 / seconds);
}

#[test]
fn anchors_are_built_followed_and_proved() {
    let genesis = genesis();
    let mut chain = Chain::default();
    write(&mut chain.state, genesis_state(&genesis).unwrap().writes);
    let mut heads: Vec<(u8, Option<TransactionId>)> = Vec::new();
    for owner in 20..20 + OWNERS {
        let vault = VaultId([owner; 32]);
        chain.submit(sign(owner, 0, Action::CreateVault { vault, sponsor: None }));
        heads.push((owner, None));
    }
    chain.decide();
    let mut kept = Vec::new();
    let rounds = 12;
    let mut batches = Vec::new();
    for round in 0..rounds {
        let mut batch = Vec::new();
        for (owner, head) in &mut heads {
            for nth in round * 16..(round + 1) * 16 {
                let signed = sign(*owner, nth, anchor(*owner, nth, *head));
                *head = Some(signed.id());
                kept.push((signed.clone(), nth));
                batch.push(signed);
            }
        }
        batches.push(batch);
    }
    let since = Instant::now();
    for batch in batches {
        batch.into_iter().for_each(|signed| chain.submit(signed));
        chain.decide();
    }
    rate("anchors verified, queued and built into blocks", kept.len(), since);
    assert!(chain.pool.is_empty());
    assert_eq!(chain.blocks.iter().map(|block| block.transactions.len()).sum::<usize>(), kept.len() + 8);

    let follow = |what: &str, trusted: bool| {
        let mut state = State::new();
        write(&mut state, genesis_state(&genesis).unwrap().writes);
        let since = Instant::now();
        for block in &chain.blocks {
            let bytes = block.encode();
            let block = Block::decode_bounded(&bytes).unwrap();
            let changes = check(&state, &block, |_| trusted).unwrap();
            write(&mut state, changes.writes);
        }
        rate(what, kept.len(), since);
        assert_eq!(state, chain.state, "same blocks, same state");
    };
    follow("anchors checked with every signature", false);
    follow("anchors followed under certificates", true);

    let header = chain.blocks.last().unwrap().header;
    let mut signed =
        SignedCheckpoint::new(Checkpoint::new(&NETWORK, header.record.log_size, header.log_root));
    for nth in 1..=3 {
        let pq = PqKeyPair::from_node_secret(&[nth; 32]);
        let cosignature = signed.checkpoint().cosign(5, &pair(nth), &pq);
        assert_eq!(signed.add(cosignature, &genesis.roster), Ok(true));
    }
    let note = signed.to_note(&genesis.roster);
    let mut texts = Vec::new();
    let since = Instant::now();
    let last = receipt::last_leaf(&chain.state, &header.record).unwrap();
    let mut paths = Paths::new(&chain.state);
    for (transaction, nth) in kept.iter().step_by(97) {
        let commitment = CommitmentProof::of(0, &[opening(*nth)], 0).unwrap();
        let proof = receipt::log_proof(&mut paths, &transaction.id(), &last, &[]).unwrap();
        let (transaction, note) = (transaction.clone(), note.clone());
        let receipt = AnchorReceipt { commitment, transaction, proof: proof.unwrap(), note };
        texts.push((receipt.to_text(), *nth));
    }
    rate("receipts made", texts.len(), since);
    let since = Instant::now();
    for (text, nth) in &texts {
        let found = AnchorReceipt::from_text(text).unwrap().verify(&genesis, Policy::Quorum).unwrap();
        assert_eq!(found.opening, opening(*nth));
    }
    rate("receipts verified", texts.len(), since);
}
