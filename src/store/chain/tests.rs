use std::net::SocketAddr;

use super::*;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::{Draft, build};
use crate::message::canonical::Canonical as _;
use crate::message::{Action, Admission, Member, Params, Roster, Transaction, Vote, VoteKind};
use crate::testing::{MemDisk, Survivors};
use crate::types::{Code, NetworkId, Round, Timestamp, VaultId};

const ROOM: u64 = 256 << 20;

pub(super) fn pair(nth: u8) -> KeyPair {
    KeyPair::from_secret(&[nth; 32])
}

pub(super) fn genesis() -> Genesis {
    let member = |nth: u8| Member {
        key: pair(nth).public(),
        pq_key: Box::new(*PqKeyPair::from_node_secret(&[nth; 32]).public()),
        label: format!("static-{nth}"),
        operator: "operator".into(),
        address: SocketAddr::from(([127, 0, 0, 1], 4_000 + u16::from(nth))),
    };
    Genesis {
        network: NetworkId([5; 32]),
        time: Timestamp::from_unix_micros(1_000),
        code: Code::DEFAULT,
        admission: Admission::Open,
        params: Params::DEFAULT,
        roster: Roster::new((1..=4).map(member).collect()).unwrap(),
        nodes: Vec::new(),
        sponsors: Vec::new(),
    }
}

/// A block on top of the chain, with its certificate: it creates a vault.
fn next(chain: &Chain, genesis: &Genesis) -> (Vec<u8>, CommitCertificate, Changes) {
    let height = chain.view().unwrap().tip().unwrap().record.height.next();
    let vault = VaultId([u8::try_from(height.0).unwrap(); 32]);
    next_with(chain, genesis, Action::CreateVault { vault, sponsor: None })
}

/// A block on top of the chain with an action of the one owner, with its certificate.
pub(super) fn next_with(
    chain: &Chain,
    genesis: &Genesis,
    action: Action,
) -> (Vec<u8>, CommitCertificate, Changes) {
    let view = chain.view().unwrap();
    let tip = view.tip().unwrap();
    let height = tip.record.height.next();
    let owner = pair(9);
    let mut transaction = Transaction {
        network: genesis.network,
        author: owner.public(),
        nonce: 0,
        expires: Height(1_000),
        action,
    };
    transaction.nonce = query::next_nonce(&view, &transaction.lane()).unwrap();
    let verified = transaction.sign(&owner).into_verified(&genesis.network).unwrap();
    let draft = Draft {
        proposer: genesis.roster.committee().members()[0],
        time: Timestamp::from_unix_micros(1_000 + height.0),
        certificate: view.certificate(tip.record.height).unwrap(),
    };
    let built = build(&view, draft, [verified]).unwrap();
    assert!(built.refused.is_empty(), "{:?}", built.refused);
    let block = built.block.header.id();
    let vote = Vote {
        network: genesis.network,
        kind: VoteKind::Precommit,
        height,
        round: Round(0),
        block: Some(block),
    };
    let mut signatures: Vec<_> = (1..=3)
        .map(|nth| {
            let signed = vote.sign(&pair(nth));
            (signed.voter, signed.signature)
        })
        .collect();
    signatures.sort_unstable_by_key(|(key, _)| *key);
    let certificate = CommitCertificate { height, round: Round(0), block, signatures };
    (built.block.encode(), certificate, built.changes)
}

fn extend(chain: &Chain, genesis: &Genesis) -> Result<(), ChainError> {
    let (block, certificate, changes) = next(chain, genesis);
    chain.commit(&block, &certificate, &changes)
}

#[test]
fn blocks_and_state_are_there_after_a_restart_and_a_second_commit_changes_nothing() {
    let (disk, genesis) = (MemDisk::new(ROOM), genesis());
    let chain = Chain::open(&disk, &genesis).unwrap();
    let (block, certificate, changes) = next(&chain, &genesis);
    chain.commit(&block, &certificate, &changes).unwrap();
    chain.commit(&block, &certificate, &changes).unwrap();
    extend(&chain, &genesis).unwrap();
    let tip = chain.view().unwrap().tip().unwrap();
    assert_eq!(tip.record.height, Height(2));
    drop(chain);
    let chain = Chain::open(&disk, &genesis).unwrap();
    let view = chain.view().unwrap();
    assert_eq!(view.tip().unwrap(), tip);
    assert_eq!(view.block(Height(1)).unwrap().unwrap(), block);
    assert_eq!(view.certificate(Height(1)).unwrap().unwrap(), certificate);
    assert!(view.block(Height(3)).unwrap().is_none());
}

#[test]
fn a_ledger_of_another_genesis_is_refused() {
    let (disk, genesis) = (MemDisk::new(ROOM), genesis());
    drop(Chain::open(&disk, &genesis).unwrap());
    let other = Genesis { time: Timestamp::from_unix_micros(2_000), ..genesis };
    assert!(matches!(Chain::open(&disk, &other), Err(ChainError::WrongGenesis)));
}

#[test]
fn a_crash_at_any_operation_leaves_the_state_of_some_block_and_loses_none_that_was_committed() {
    let genesis = genesis();
    for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Random(3)] {
        // All of them while the file is made; then every seventh, to keep it short: an odd step meets every kind of operation.
        for change in (0..40).chain((40..).step_by(7)) {
            let disk = MemDisk::new(ROOM);
            disk.lose_power_at(change);
            let mut committed = Height::GENESIS;
            if let Ok(chain) = Chain::open(&disk, &genesis) {
                while committed < Height(4) && extend(&chain, &genesis).is_ok() {
                    committed = committed.next();
                }
            }
            if !disk.is_down() {
                break;
            }
            let chain = Chain::open(&disk.after_power_loss(survivors), &genesis).unwrap();
            let tip = chain.view().unwrap().tip().unwrap();
            let height = tip.record.height;
            assert!(height == committed || height == committed.next(), "{change}: {height} of {committed}");
            // The state goes on as if nothing had happened.
            extend(&chain, &genesis).unwrap();
        }
    }
}

mod snapshots;
