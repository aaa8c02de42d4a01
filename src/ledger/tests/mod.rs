//! The ledger as its drivers use it: every block here is built, checked by another hand, and written.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::crypto::lthash::LtHash;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::rows::{STATICS, Standing};
use crate::ledger::tables::is_hashed;
use crate::ledger::{Built, Draft, Writes, build, check, genesis_state, precheck, query};
use crate::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber, PackCommit};
use crate::message::block::Block;
use crate::message::certificate::CommitCertificate;
use crate::message::genesis::{Admission, Genesis, GenesisNode, Params};
use crate::message::governance::{Change, Governance};
use crate::message::member::{Member, Roster};
use crate::message::rejection::Rejection;
use crate::message::transaction::{Action, NodeEntry, SignedTransaction, Transaction, VerifiedTransaction};
use crate::types::limits::MIN_COMMITTEE;
use crate::types::*;

mod access;
mod admission;
mod anchors;
mod blocks;
mod bundles;
mod deposits;
mod emergencies;
mod erasure;
mod governance;
mod handing;
mod handoff;
mod opening;
mod order;
mod pool;
mod receipts;
mod recovery;
mod rogue;
mod snapshots;
mod turns;

const NETWORK: NetworkId = NetworkId([0x4e; 32]);

/// Small numbers, so that windows end and deadlines pass within a test.
const PARAMS: Params = Params {
    epoch: 50,
    vault_bytes: 100_000,
    author_bytes: 50_000,
    open_entries: 20,
    window: 10,
    missed_percent: 80,
    correction: 15,
    probation: 20,
    evidence: 30,
};

fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

fn pq_pair(nth: u8) -> PqKeyPair {
    PqKeyPair::from_node_secret(&[nth; 32])
}

fn address(nth: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, nth], 4_000))
}

/// The static node whose secret is all `nth`.
fn member(nth: u8) -> Member {
    Member {
        key: pair(nth).public(),
        pq_key: Box::new(*pq_pair(nth).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address: address(nth),
    }
}

fn entry(nth: u8) -> NodeEntry {
    let label = format!("node-{nth}");
    NodeEntry { label, operator: "operator".into(), site: "site".into(), address: address(nth) }
}

/// `n` static nodes with the secrets 1 to n, six storage nodes.
fn genesis(n: u8, admission: Admission) -> Genesis {
    let node = |nth: u8| GenesisNode { key: pair(100 + nth).public(), entry: entry(nth) };
    Genesis {
        network: NETWORK,
        time: Timestamp::from_unix_millis(1_000),
        code: Code::DEFAULT,
        admission,
        params: PARAMS,
        roster: Roster::new((1..=n).map(member).collect()).unwrap(),
        nodes: (0..6).map(node).collect(),
        sponsors: vec![],
    }
}

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(state: &mut State, writes: Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(state.insert(key, value)),
            None => drop(state.remove(&key)),
        }
    }
}

/// A chain with the secrets of all its static nodes.
struct World {
    genesis: Genesis,
    state: State,
    blocks: Vec<Block>,
    /// Secrets of static nodes that sign certificates.
    alive: Vec<u8>,
    /// The round in which the last block was decided.
    round: u32,
    /// What proposers' clocks say.
    clock: Timestamp,
}

impl World {
    fn new(n: u8) -> Self {
        Self::of(genesis(n, Admission::Open), (1..=n).collect())
    }

    fn of(genesis: Genesis, alive: Vec<u8>) -> Self {
        let mut state = State::new();
        write(&mut state, genesis_state(&genesis).unwrap().writes);
        let clock = Timestamp::from_unix_millis(2_000);
        Self { genesis, state, blocks: Vec::new(), alive, round: 0, clock }
    }

    fn height(&self) -> Height {
        query::tip(&self.state).unwrap().record.height.next()
    }

    fn draft(&self) -> Draft {
        let tip = query::tip(&self.state).unwrap();
        let roster = query::roster(&self.state, &tip.record.roster).unwrap().unwrap();
        let next = query::next_roster(&self.state).unwrap();
        let signers = self.alive.iter().map(|nth| pair(*nth));
        let proposer = signers.clone().map(|pair| pair.public()).find(|key| next.committee().contains(key));
        let certificate = (tip.record.height != Height::GENESIS).then(|| {
            let (height, block) = (tip.record.height, tip.id());
            let round = Round(self.round);
            let mut certificate = CommitCertificate { height, round, block, signatures: vec![] };
            for pair in signers.filter(|pair| roster.committee().contains(&pair.public())) {
                assert!(certificate.add(&certificate.vote(NETWORK).sign(&pair)));
            }
            certificate
        });
        Draft { proposer: proposer.unwrap(), time: self.clock, certificate }
    }

    fn build(&self, transactions: &[SignedTransaction]) -> Built {
        let verified = |signed: &SignedTransaction| signed.clone().into_verified(&NETWORK).unwrap();
        build(&self.state, self.draft(), transactions.iter().map(verified)).unwrap()
    }

    /// Builds a block, has it checked, writes it, and looks at what must always hold.
    fn block(&mut self, transactions: &[SignedTransaction]) -> Vec<Rejection> {
        let built = self.build(transactions);
        let block =
            Block::decode_bounded(&crate::message::canonical::Canonical::encode(&built.block)).unwrap();
        let changes = check(&self.state, &block, |_| false).unwrap();
        assert_eq!(changes, built.changes, "builder and checker agree");
        write(&mut self.state, changes.writes);
        self.blocks.push(block);
        self.check_invariants();
        built.refused.into_iter().map(|not_taken| not_taken.rejection).collect()
    }

    fn blocks(&mut self, count: u32) {
        for _ in 0..count {
            assert_eq!(self.block(&[]), []);
        }
    }

    /// Blocks until, and with, this height.
    fn until(&mut self, height: u64) {
        while self.height().0 <= height {
            self.blocks(1);
        }
    }

    fn check_invariants(&self) {
        let tip = query::tip(&self.state).unwrap();
        let mut sum = LtHash::default();
        let hashed = self.state.iter().filter(|(key, _)| is_hashed(key));
        hashed.for_each(|(key, value)| sum.add(key, value));
        assert_eq!(sum.digest(), tip.record.state, "the running sum is the sum over all rows");
        let statics = query::statics(&self.state).unwrap();
        let voters = statics.iter().filter(|row| row.votes).count();
        assert_eq!(voters, query::next_roster(&self.state).unwrap().members().len());
        let by_rule =
            statics.iter().any(|row| !row.votes && matches!(row.standing, Standing::Blacklisted { .. }));
        assert!(!by_rule || voters >= MIN_COMMITTEE, "no rule goes below four");
    }

    /// Signed by the author with the next nonce of its lane.
    fn sign(&self, author: u8, action: Action) -> SignedTransaction {
        let lane = self.sign_nth(author, 0, action.clone()).transaction().lane();
        self.sign_nth(author, query::next_nonce(&self.state, &lane).unwrap(), action)
    }

    fn sign_nth(&self, author: u8, nonce: u64, action: Action) -> SignedTransaction {
        let (network, expires) = (NETWORK, Height(self.height().0 + 1_000));
        Transaction { network, author: pair(author).public(), nonce, expires, action }.sign(&pair(author))
    }

    /// Carries it out in a block of its own.
    fn accept(&mut self, author: u8, action: Action) -> TransactionId {
        let signed = self.sign(author, action);
        assert_eq!(self.block(std::slice::from_ref(&signed)), []);
        signed.id()
    }

    /// The reason why it is not; a refused transaction leaves no trace.
    fn refusal(&self, author: u8, action: Action) -> Rejection {
        self.refusal_of(&self.sign(author, action))
    }

    fn refusal_of(&self, signed: &SignedTransaction) -> Rejection {
        let (with, without) = (self.build(std::slice::from_ref(signed)), self.build(&[]));
        assert_eq!(with.changes, without.changes, "no trace");
        let [not_taken] = with.refused[..] else { panic!("carried out: {signed:?}") };
        assert_eq!((not_taken.author, not_taken.id), (signed.transaction().author, signed.id()));
        not_taken.rejection
    }

    fn governance(&self, change: Change, approvers: &[u8], newcomer: Option<u8>) -> Action {
        let row = crate::ledger::rows::COUNTERS.expect(&self.state, &()).unwrap();
        let mut governance = Governance::new(row.sequence, change);
        approvers.iter().for_each(|nth| governance.approve(&NETWORK, &pair(*nth)));
        if let Some(nth) = newcomer {
            governance.possess(&NETWORK, &pair(nth));
        }
        Action::Govern(governance)
    }

    fn standing(&self, nth: u8) -> Standing {
        STATICS.get(&self.state, &pair(nth).public()).unwrap().unwrap().standing
    }

    fn votes(&self, nth: u8) -> bool {
        query::next_roster(&self.state).unwrap().committee().contains(&pair(nth).public())
    }
}

fn vault(nth: u8) -> VaultId {
    VaultId([nth; 32])
}

fn create(nth: u8) -> Action {
    Action::CreateVault { vault: vault(nth), sponsor: None }
}

fn segment(nth: u8) -> SegmentId {
    SegmentId([nth; 32])
}

/// A 4+2 segment on nodes 0 to 5.
fn anchored(nth: u8) -> AnchoredSegment {
    let shard = |index: u8| AnchoredShard { root: Hash([index; 32]), holder: Some(NodeNumber(index.into())) };
    let shards = (0..6).map(shard).collect();
    AnchoredSegment { segment: segment(nth), code: Code::DEFAULT, len: 1_000, shards }
}

const TAG: CollectionTag = CollectionTag([0xc0; 32]);

/// An anchor that brings segment `nth`, with the commit in it.
fn anchor(of: u8, previous: Option<TransactionId>, nth: u8) -> Anchor {
    Anchor {
        vault: vault(of),
        collection: TAG,
        previous,
        segments: vec![anchored(nth)],
        released: vec![],
        commits: vec![PackCommit::of(segment(nth), &[])],
    }
}

fn verified(signed: SignedTransaction) -> VerifiedTransaction {
    signed.into_verified(&NETWORK).unwrap()
}
