use super::*;
use crate::crypto::log_tree;
use crate::crypto::sign::Domain;
use crate::ledger::{ApplyError, Field, InvalidBlock, log};
use crate::message::Violation;
use crate::message::block::Header;
use crate::message::canonical::Canonical as _;
use crate::types::limits::MAX_AUTHOR_BLOCK_TRANSACTIONS;

fn invalid(world: &World, block: &Block) -> InvalidBlock {
    match check(&world.state, block, |_| false) {
        Err(ApplyError::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_changed_field_of_a_header_is_named() {
    let mut world = World::new(4);
    world.accept(9, create(9));
    let anchor = world.sign(9, Action::Anchor(anchor(9, None, 1)));
    let good = world.build(&[anchor]).block;
    type Change = fn(&mut Header);
    let changes: [(Change, Field); 12] = [
        (|h| h.record.network.0[0] ^= 1, Field::Network),
        (|h| h.record.height.0 += 1, Field::Height),
        (|h| h.record.height.0 -= 1, Field::Height),
        (|h| h.record.previous.0[0] ^= 1, Field::Previous),
        (|h| h.record.time = Timestamp::from_unix_millis(999), Field::Time),
        (|h| h.record.proposer = 4, Field::Proposer),
        (|h| h.record.roster.0[0] ^= 1, Field::Roster),
        (|h| h.record.new_roster = Some(Hash([1; 32])), Field::NextRoster),
        (|h| h.record.log_size += 1, Field::LogSize),
        (|h| h.record.state.0[0] ^= 1, Field::State),
        (|h| h.record.certificate.0[0] ^= 1, Field::Certificate),
        (|h| h.log_root.0[0] ^= 1, Field::LogRoot),
    ];
    for (at, (change, field)) in changes.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed.header);
        assert_eq!(invalid(&world, &changed), InvalidBlock::Header(field), "change {at}");
        assert_ne!(changed.header.id(), good.header.id());
    }
    // A proposer may choose its time; then the log is another.
    let mut later = good;
    later.header.record.time = Timestamp::from_unix_millis(9_999);
    assert_eq!(invalid(&world, &later), InvalidBlock::Header(Field::LogRoot));
}

#[test]
fn a_body_that_is_not_the_headers_is_refused() {
    let mut world = World::new(4);
    world.accept(9, create(9));
    let anchor = world.sign(9, Action::Anchor(anchor(9, None, 1)));
    let good = world.build(std::slice::from_ref(&anchor)).block;
    let with = |change: &dyn Fn(&mut Block)| {
        let mut changed = good.clone();
        change(&mut changed);
        invalid(&world, &changed)
    };
    assert_eq!(with(&|b| b.transactions.clear()), InvalidBlock::Header(Field::LogSize));
    let again = with(&|b| b.transactions.push(anchor.clone()));
    let rejection = Rejection::HeadMoved { head: Some(anchor.id()) };
    assert_eq!(again, InvalidBlock::Transaction { index: 1, rejection });
    let malformed = InvalidBlock::Certificate(Violation::Malformed);
    assert_eq!(with(&|b| b.certificate = None), malformed);
    let of = |change: fn(&mut CommitCertificate)| with(&|b| change(b.certificate.as_mut().unwrap()));
    assert_eq!(of(|c| c.block.0[0] ^= 1), InvalidBlock::Certificate(Violation::WrongBlock));
    assert_eq!(of(|c| c.height.0 += 1), InvalidBlock::Certificate(Violation::WrongBlock));
    assert_eq!(of(|c| c.round.0 += 1), InvalidBlock::Certificate(Violation::BadSignature));
    assert_eq!(of(|c| c.signatures.truncate(2)), InvalidBlock::Certificate(Violation::NoQuorum));
    assert_eq!(of(|c| c.signatures.truncate(3)), InvalidBlock::Header(Field::Certificate));
}

#[test]
fn a_forged_or_foreign_transaction_spoils_a_block() {
    let world = World::new(4);
    let good = world.build(&[world.sign(9, create(9))]).block;
    let author = pair(9).public();
    let transaction =
        |network| Transaction { network, author, nonce: 0, expires: Height(9), action: create(9) };
    let swap = |signed| {
        let mut changed = good.clone();
        changed.transactions = vec![signed];
        invalid(&world, &changed)
    };
    let violation = |violation| InvalidBlock::Signature { index: 0, violation };
    assert_eq!(swap(transaction(NETWORK).sign(&pair(8))), violation(Violation::BadSignature));
    assert_eq!(swap(transaction(NetworkId([1; 32])).sign(&pair(9))), violation(Violation::WrongNetwork));
    // A signature of the same bytes in another domain.
    let body = transaction(NETWORK).encode();
    let other = [&body[..], &pair(9).sign(Domain::Governance, &body)].concat();
    let other = SignedTransaction::decode(&other).unwrap();
    assert_eq!(swap(other), violation(Violation::BadSignature));
}

#[test]
fn transactions_are_carried_out_once_in_order_and_in_time() {
    let mut world = World::new(4);
    let ahead = world.sign_nth(9, 1, create(9));
    assert_eq!(world.refusal_of(&ahead), Rejection::WrongNonce { expected: 0 });
    let first = world.sign(9, create(9));
    assert_eq!(world.block(std::slice::from_ref(&first)), []);
    assert_eq!(world.refusal_of(&first), Rejection::WrongNonce { expected: 1 });
    assert_eq!(world.block(&[ahead]), [Rejection::VaultExists]);
    let expires = |at| {
        let author = pair(8).public();
        Transaction { network: NETWORK, author, nonce: 0, expires: Height(at), action: create(8) }
            .sign(&pair(8))
    };
    let height = world.height();
    assert_eq!(world.refusal_of(&expires(height.0 - 1)), Rejection::Expired { height });
    assert_eq!(world.refusal_of(&expires(height.0 + 100_001)), Rejection::ExpiresTooLate);
    assert_eq!(world.block(&[expires(height.0)]), []);
}

#[test]
fn an_author_gets_its_share_of_a_block() {
    let mut genesis = genesis(4, Admission::Open);
    (genesis.params.author_bytes, genesis.params.open_entries) = (10 << 20, 10_000);
    let mut world = World::of(genesis, vec![1, 2, 3, 4]);
    let many = MAX_AUTHOR_BLOCK_TRANSACTIONS as u64 + 2;
    let vault = |nth: u64| VaultId(*blake3::hash(&nth.to_le_bytes()).as_bytes());
    let create = |nth| Action::CreateVault { vault: vault(nth), sponsor: None };
    let all: Vec<_> = (0..many).map(|nth| world.sign_nth(9, nth, create(nth))).collect();
    assert_eq!(world.block(&all), [Rejection::TooManyOfAuthor; 2]);
    assert_eq!(world.blocks[0].transactions.len(), MAX_AUTHOR_BLOCK_TRANSACTIONS);
}

#[test]
fn time_goes_on_whatever_a_proposers_clock_says() {
    let mut world = World::new(4);
    world.blocks(3);
    let times: Vec<_> = world.blocks.iter().map(|block| block.header.record.time).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
}

#[test]
fn the_log_of_a_chain_proves_each_transaction_and_each_growth() {
    let mut world = World::new(4);
    let mut heads = vec![];
    for nth in 10..30 {
        let id = world.accept(nth, create(nth));
        heads.push((id, world.blocks.last().unwrap().header));
    }
    let tip = query::tip(&world.state).unwrap();
    for (id, header) in &heads {
        for head in [header, &tip] {
            let (size, root) = (head.record.log_size, head.log_root);
            let (height, leaf, path) = query::prove_transaction(&world.state, id, size).unwrap().unwrap();
            let block = &world.blocks[height.0 as usize - 1];
            assert!(log::includes(block.transactions[0].bytes(), leaf, size, &root, &path));
        }
        let (old, new) = (header.record.log_size, tip.record.log_size);
        let proof = log::prove_consistency(&world.state, old, new).unwrap().unwrap();
        assert!(log_tree::is_consistent(old, &header.log_root, new, &tip.log_root, &proof));
    }
    let unknown = TransactionId([1; 32]);
    assert_eq!(query::prove_transaction(&world.state, &unknown, 2), Ok(None));
}

#[test]
fn damage_of_the_state_is_told_apart_from_a_bad_block() {
    let mut world = World::new(5);
    world.blocks(1);
    let block = world.build(&[]).block;
    for table in [0x01, 0x02, 0x03, 0x10, 0x1e] {
        let mut damaged = world.state.clone();
        damaged.insert(vec![table], vec![0xff]);
        assert!(matches!(check(&damaged, &block, |_| false), Err(ApplyError::Read(_))), "{table:#x}");
        damaged.remove(&vec![table]);
        assert!(matches!(check(&damaged, &block, |_| false), Err(ApplyError::Read(_))), "{table:#x}");
    }
}
