use super::*;
use crate::ledger::mempool::NotQueued;
use crate::ledger::{Mempool, NotTaken};
use crate::types::limits::{MEMPOOL_AUTHOR_BYTES, MEMPOOL_AUTHOR_TRANSACTIONS};

fn transaction(author: u8, nonce: u64, expires: u64) -> VerifiedTransaction {
    let (network, expires) = (NETWORK, Height(expires));
    let action = create(author);
    verified(
        Transaction { network, author: pair(author).public(), nonce, expires, action }.sign(&pair(author)),
    )
}

/// An anchor of about 60 KiB.
fn large(author: u8, nonce: u64) -> VerifiedTransaction {
    let segments = (0..250).map(anchored).collect::<Vec<_>>()[..64].to_vec();
    let released = (0..1_024_u16).map(|nth| {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&nth.to_be_bytes());
        SegmentId(id)
    });
    let anchor = Anchor { segments, released: released.collect(), ..anchor(author, None, 1) };
    let (network, expires, action) = (NETWORK, Height(9), Action::Anchor(anchor));
    verified(
        Transaction { network, author: pair(author).public(), nonce, expires, action }.sign(&pair(author)),
    )
}

fn order(pool: &mut Mempool) -> Vec<(u8, u64)> {
    let author = |key| (1..=99).find(|nth| pair(*nth).public() == key).unwrap();
    let pick = |picked: &VerifiedTransaction| {
        let transaction = picked.signed().transaction();
        (author(transaction.author), transaction.nonce)
    };
    pool.candidates().iter().map(pick).collect()
}

#[test]
fn authors_take_turns_and_their_nonces_ascend() {
    let mut pool = Mempool::default();
    for (author, nonce, next) in [(1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 0, 0), (3, 6, 5), (3, 5, 5)] {
        pool.insert(transaction(author, nonce, 9), Height(1), next).unwrap();
    }
    let mut found = order(&mut pool);
    let turns: Vec<Vec<(u8, u64)>> = [3, 2, 1]
        .iter()
        .map(|len| {
            let mut turn: Vec<_> = found.drain(..*len).collect();
            turn.sort_unstable();
            turn
        })
        .collect();
    assert_eq!(turns, [vec![(1, 1), (2, 0), (3, 5)], vec![(1, 2), (3, 6)], vec![(1, 3)]]);
    assert_eq!(pool.len(), 6, "they stay until a block has them");
}

#[test]
fn who_comes_again_or_too_late_or_too_early_is_told() {
    let mut pool = Mempool::default();
    let first = transaction(1, 3, 9);
    pool.insert(first.clone(), Height(1), 3).unwrap();
    assert!(pool.contains(&first.signed().id()));
    assert_eq!(pool.insert(first, Height(1), 3), Err(NotQueued::Waiting));
    assert_eq!(pool.insert(transaction(1, 3, 8), Height(1), 3), Err(NotQueued::NonceTaken));
    let wrong = Err(NotQueued::Rejected(Rejection::WrongNonce { expected: 3 }));
    assert_eq!(pool.insert(transaction(1, 2, 9), Height(1), 3), wrong);
    assert_eq!(pool.insert(transaction(1, 3 + 512, 9), Height(1), 3), wrong);
    let expired = Err(NotQueued::Rejected(Rejection::Expired { height: Height(10) }));
    assert_eq!(pool.insert(transaction(2, 0, 9), Height(10), 0), expired);
}

#[test]
fn one_author_cannot_fill_it() {
    let mut pool = Mempool::default();
    let most = MEMPOOL_AUTHOR_TRANSACTIONS as u64;
    for nonce in 1..=most {
        pool.insert(transaction(1, nonce, 9), Height(1), 1).unwrap();
    }
    assert_eq!(
        pool.insert(transaction(1, most + 1, 9), Height(1), 2),
        Err(NotQueued::AuthorFull { blocks: 3 })
    );
    pool.insert(transaction(2, 0, 9), Height(1), 0).unwrap();
    let mut bytes = Mempool::default();
    let fits = MEMPOOL_AUTHOR_BYTES / large(1, 0).signed().bytes().len();
    for nonce in 0..fits as u64 {
        bytes.insert(large(1, 1 + nonce), Height(1), 1).unwrap();
    }
    let refused = bytes.insert(large(1, 1 + fits as u64), Height(1), 1);
    assert_eq!(refused, Err(NotQueued::AuthorFull { blocks: 1 }));
}

#[test]
fn full_is_said_with_a_hint_and_blocks_stay_within_bounds() {
    let mut pool = Mempool::default();
    let mut refused = None;
    'fill: for author in 1..=99 {
        for nonce in 0..16 {
            if let Err(why) = pool.insert(large(author, nonce), Height(1), 0) {
                refused = Some(why);
                break 'fill;
            }
        }
    }
    assert_eq!(refused, Some(NotQueued::Full { blocks: 16 }));
    assert!(pool.bytes() <= 16 << 20);
    let first = order(&mut pool);
    let len = large(1, 0).signed().bytes().len();
    assert_eq!(first.len(), (1 << 20) / len);
    let second = order(&mut pool);
    assert_ne!(first[0].0, second[0].0, "the next block begins with who comes next");
}

#[test]
fn what_a_block_had_or_made_stale_goes() {
    let mut pool = Mempool::default();
    for nonce in 0..4 {
        pool.insert(transaction(1, nonce, 9), Height(1), 0).unwrap();
    }
    pool.insert(transaction(2, 0, 5), Height(1), 0).unwrap();
    pool.insert(transaction(3, 0, 9), Height(1), 0).unwrap();
    // The block had another second one of the author, perhaps by way of another static node.
    let dead = pool.decided(&[transaction(1, 1, 8).into_signed()], Height(6));
    let dead: Vec<_> = dead.iter().map(|dead| (dead.id, dead.rejection)).collect();
    let stale = Rejection::WrongNonce { expected: 2 };
    let expired = Rejection::Expired { height: Height(6) };
    let of = |author, nonce, expires| transaction(author, nonce, expires).signed().id();
    assert_eq!(dead, [(of(1, 0, 9), stale), (of(1, 1, 9), stale), (of(2, 0, 5), expired)]);
    let mut left = order(&mut pool);
    left.sort_unstable();
    assert_eq!(left, [(1, 2), (1, 3), (3, 0)]);
    let third = transaction(1, 3, 9);
    let key = pair(1).public();
    let not_taken =
        |author, by: &VerifiedTransaction, rejection| NotTaken { author, id: by.signed().id(), rejection };
    pool.refused(&not_taken(key, &third, Rejection::WrongNonce { expected: 2 }));
    assert_eq!(pool.len(), 3, "it only came too early");
    pool.refused(&not_taken(key, &third, Rejection::NoSuchVault));
    pool.refused(&not_taken(pair(3).public(), &transaction(3, 0, 9), Rejection::VaultExists));
    assert_eq!(order(&mut pool), [(1, 2)]);
    assert_eq!(pool.decided(&[], Height(10)).len(), 1);
    assert!(pool.is_empty() && pool.bytes() == 0);
}

#[test]
fn strangers_do_not_get_in() {
    let mut world = World::new(4);
    let stranger = world.sign(9, Action::RetireNode);
    assert_eq!(precheck(&world.state, &stranger), Ok(Some(Rejection::NoSuchNode)));
    let mut pool = Mempool::default();
    let ahead = world.sign_nth(9, 1, create(9));
    assert_eq!(precheck(&world.state, &ahead), Ok(None), "its turn is later");
    let wrong = NotQueued::Rejected(Rejection::WrongNonce { expected: 0 });
    assert_eq!(
        pool.insert(verified(ahead.clone()), Height(1), 0),
        Err(wrong),
        "but of whom nothing is known"
    );
    let first = world.sign(9, create(9));
    assert_eq!(precheck(&world.state, &first), Ok(None));
    pool.insert(verified(first.clone()), Height(1), 0).unwrap();
    pool.insert(verified(ahead), Height(1), 0).unwrap();
    for nonce in 2..16 {
        pool.insert(transaction(9, nonce, 9), Height(1), 0).unwrap();
    }
    assert_eq!(pool.insert(transaction(9, 16, 9), Height(1), 0), Err(NotQueued::AuthorFull { blocks: 1 }));
    assert_eq!(world.block(std::slice::from_ref(&first)), []);
    assert_eq!(precheck(&world.state, &first), Ok(Some(Rejection::WrongNonce { expected: 1 })));
}

#[test]
fn a_flood_of_bad_transactions_keeps_nobody_out() {
    let mut world = World::new(4);
    let mut pool = Mempool::default();
    for author in 60..80 {
        for nonce in 0..16 {
            // What nobody looked at before it was let in.
            let bad = world.sign_nth(author, nonce, Action::RetireNode);
            pool.insert(verified(bad), world.height(), 0).unwrap();
        }
    }
    pool.insert(verified(world.sign(9, create(9))), world.height(), 0).unwrap();
    let built = build(&world.state, world.draft(), pool.candidates()).unwrap();
    assert_eq!(built.block.transactions.len(), 1);
    built.refused.iter().for_each(|not_taken| pool.refused(not_taken));
    assert_eq!(pool.len(), 1 + 20 * 15, "only what was next of each author is known to be bad");
    let taken = built.block.transactions;
    assert_eq!(world.block(&taken), []);
    assert_eq!(pool.decided(&taken, world.height()), []);
    assert_eq!(pool.len(), 20 * 15);
}

#[test]
fn of_two_writers_of_a_collection_the_later_is_told_at_once() {
    let mut world = World::new(4);
    world.accept(9, create(9));
    world.accept(9, Action::AddWriter { vault: vault(9), writer: pair(8).public() });
    let mut pool = Mempool::default();
    let one = world.sign(9, Action::Anchor(anchor(9, None, 1)));
    let rival = world.sign(8, Action::Anchor(anchor(9, None, 2)));
    let elsewhere = Anchor { collection: CollectionTag([0xc1; 32]), ..anchor(9, None, 3) };
    let elsewhere = world.sign(9, Action::Anchor(elsewhere));
    let after = world.sign_nth(9, 1, Action::Anchor(anchor(9, Some(one.id()), 4)));
    for signed in [&one, &rival, &elsewhere, &after] {
        assert_eq!(precheck(&world.state, signed), Ok(None));
        pool.insert(verified(signed.clone()), world.height(), 0).unwrap();
    }
    let moved = Rejection::HeadMoved { head: Some(one.id()) };
    assert_eq!(world.block(std::slice::from_ref(&one)), []);
    let dead = pool.decided(std::slice::from_ref(&one), world.height());
    let author = pair(8).public();
    assert_eq!(dead, [NotTaken { author, id: rival.id(), rejection: moved }]);
    assert!(pool.contains(&elsewhere.id()) && pool.contains(&after.id()));
    assert_eq!(precheck(&world.state, &rival), Ok(Some(moved)), "its turn is over");
    assert_eq!(precheck(&world.state, &one), Ok(Some(moved)), "each is carried out once");
    assert_eq!(world.block(&[elsewhere, after]), []);
}
