//! The blocks of a run, made by one hand that has every static node's key.

use std::collections::BTreeMap;

use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::{Changes, Draft, Writes, build, genesis_state, query};
use crate::message::certificate::CommitCertificate;
use crate::message::{
    Action, Admission, Canonical as _, Genesis, Member, Params, Rejection, Roster, SignedTransaction,
    Transaction,
};
use crate::types::{Code, Height, NetworkId, Round, Timestamp};

/// A block with what makes it final and what it changes.
pub(crate) struct Decided {
    pub(crate) bytes: Vec<u8>,
    pub(crate) certificate: CommitCertificate,
    pub(crate) changes: Changes,
}

/// The one chain of a run.
pub(crate) struct Ledger {
    pub(crate) genesis: Genesis,
    /// The keys of the static nodes: those of the genesis in the order of their places, then those that came later.
    pub(crate) pairs: Vec<KeyPair>,
    pub(crate) state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) blocks: Vec<Decided>,
}

fn write(state: &mut BTreeMap<Vec<u8>, Vec<u8>>, writes: &Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
    }
}

/// A static node's entry.
pub(crate) fn member(pair: &KeyPair, nth: u8) -> Member {
    Member {
        key: pair.public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth; 32]).public()),
        label: format!("static-{nth}"),
        operator: format!("operator-{nth}"),
        address: ([127, 0, 0, nth], 4_000).into(),
    }
}

impl Ledger {
    /// Of so many static nodes, beginning at this time. The nodes' keys are in the order of their places.
    pub(crate) fn new(n: u8, time: Timestamp) -> Self {
        let mut pairs: Vec<_> = (1..=n).map(|nth| KeyPair::from_secret(&[nth; 32])).collect();
        pairs.sort_by_key(KeyPair::public);
        let members = pairs.iter().zip(1..).map(|(pair, nth)| member(pair, nth)).collect();
        let genesis = Genesis {
            network: NetworkId([0x4e; 32]),
            time,
            code: Code::DEFAULT,
            admission: Admission::Open,
            params: Params::DEFAULT,
            roster: Roster::new(members).unwrap_or_else(|wrong| panic!("a roster: {wrong}")),
            nodes: Vec::new(),
            sponsors: Vec::new(),
        };
        let mut state = BTreeMap::new();
        let first = genesis_state(&genesis).unwrap_or_else(|wrong| panic!("a genesis: {wrong}"));
        write(&mut state, &first.writes);
        Self { genesis, pairs, state, blocks: Vec::new() }
    }

    /// The keys of those who decide on the next block.
    fn voters(&self) -> Vec<KeyPair> {
        let roster = query::next_roster(&self.state).unwrap_or_else(|error| panic!("{error}"));
        let votes = |pair: &&KeyPair| roster.committee().contains(&pair.public());
        self.pairs.iter().filter(votes).cloned().collect()
    }

    pub(crate) fn height(&self) -> Height {
        Height(u64::try_from(self.blocks.len()).unwrap_or(u64::MAX))
    }

    /// A transaction with the next number of its author.
    pub(crate) fn sign(&self, author: &KeyPair, action: Action) -> SignedTransaction {
        let (network, expires) = (self.genesis.network, Height(self.height().0 + 100));
        let mut transaction = Transaction { network, author: author.public(), nonce: 0, expires, action };
        transaction.nonce =
            query::next_nonce(&self.state, &transaction.lane()).unwrap_or_else(|e| panic!("{e}"));
        transaction.sign(author)
    }

    /// Makes a block of these, in this order; those that the rules refuse are left out, and why.
    pub(crate) fn decide(&mut self, transactions: &[SignedTransaction], time: Timestamp) -> Vec<Rejection> {
        let verified = |signed: &SignedTransaction| {
            signed.clone().into_verified(&self.genesis.network).unwrap_or_else(|wrong| panic!("{wrong}"))
        };
        let certificate = self.blocks.last().map(|decided| decided.certificate.clone());
        let voters = self.voters();
        let draft = Draft { proposer: voters[0].public(), time, certificate };
        let built = build(&self.state, draft, transactions.iter().map(verified));
        let built = built.unwrap_or_else(|error| panic!("a block: {error}"));
        write(&mut self.state, &built.changes.writes);
        let tip = query::tip(&self.state).unwrap_or_else(|error| panic!("{error}"));
        let (height, block) = (tip.record.height, tip.id());
        let mut certificate = CommitCertificate { height, round: Round(0), block, signatures: Vec::new() };
        for pair in &voters {
            certificate.add(&certificate.vote(self.genesis.network).sign(pair));
        }
        self.blocks.push(Decided { bytes: built.block.encode(), certificate, changes: built.changes });
        built.refused.into_iter().map(|not_taken| not_taken.rejection).collect()
    }
}
