use super::*;
use crate::ledger::rows::{Head, SEGMENTS, VAULTS};
use crate::message::canonical::Canonical as _;

/// Vault 9 of author 9 with one anchor; answers the head.
fn anchored_world() -> (World, TransactionId) {
    let mut world = World::new(4);
    world.accept(9, create(9));
    let head = world.accept(9, Action::Anchor(anchor(9, None, 1)));
    (world, head)
}

#[test]
fn a_head_moves_by_compare_and_swap_only() {
    let (mut world, first) = anchored_world();
    let moved = Rejection::HeadMoved { head: Some(first) };
    assert_eq!(world.refusal(9, Action::Anchor(anchor(9, None, 2))), moved);
    let stranger = Some(TransactionId([7; 32]));
    assert_eq!(world.refusal(9, Action::Anchor(anchor(9, stranger, 2))), moved);
    let second = world.accept(9, Action::Anchor(anchor(9, Some(first), 2)));
    let head = query::head(&world.state, &vault(9), &TAG).unwrap().unwrap();
    assert_eq!((head.anchor, head.sequence), (second, 2));
    let other = Anchor { collection: CollectionTag([0xc1; 32]), ..anchor(9, Some(first), 3) };
    assert_eq!(world.refusal(9, Action::Anchor(other)), Rejection::HeadMoved { head: None });
    assert_eq!(query::collections(&world.state, &vault(9), None, 9).unwrap(), [(TAG, head)]);
}

#[test]
fn of_two_writers_at_once_one_wins_and_the_other_learns_the_head() {
    let (mut world, head) = anchored_world();
    world.accept(9, Action::AddWriter { vault: vault(9), writer: pair(8).public() });
    let one = world.sign(9, Action::Anchor(anchor(9, Some(head), 2)));
    let other = world.sign(8, Action::Anchor(anchor(9, Some(head), 3)));
    assert_eq!(world.block(&[one.clone(), other]), [Rejection::HeadMoved { head: Some(one.id()) }]);
    world.accept(8, Action::Anchor(anchor(9, Some(one.id()), 3)));
}

#[test]
fn anchors_can_follow_each_other_in_one_block() {
    let (mut world, head) = anchored_world();
    let one = world.sign_nth(9, 1, Action::Anchor(anchor(9, Some(head), 2)));
    let two = world.sign_nth(9, 2, Action::Anchor(anchor(9, Some(one.id()), 3)));
    assert_eq!(world.block(&[one, two]), []);
}

#[test]
fn only_owner_and_writers_write() {
    let (mut world, head) = anchored_world();
    let action = || Action::Anchor(anchor(9, Some(head), 2));
    assert_eq!(world.refusal(8, action()), Rejection::NotAWriter);
    assert_eq!(world.refusal(9, Action::Anchor(anchor(7, None, 2))), Rejection::NoSuchVault);
    let (vault, writer) = (vault(9), pair(8).public());
    let add = Action::AddWriter { vault, writer };
    assert_eq!(world.refusal(8, add.clone()), Rejection::NotTheOwner);
    assert_eq!(world.refusal(9, Action::RemoveWriter { vault, writer }), Rejection::NoSuchWriter);
    world.accept(9, add.clone());
    assert!(query::may_write(&world.state, &vault, &writer).unwrap());
    assert_eq!(world.refusal(9, add), Rejection::WriterExists);
    let owner = Action::AddWriter { vault, writer: pair(9).public() };
    assert_eq!(world.refusal(9, owner), Rejection::WriterExists);
    world.accept(9, Action::RemoveWriter { vault, writer });
    assert_eq!(world.refusal(8, action()), Rejection::NotAWriter);
}

#[test]
fn a_vault_has_no_more_writers_than_allowed() {
    let mut world = World::new(4);
    world.accept(9, create(9));
    for nth in 0..64 {
        world.accept(9, Action::AddWriter { vault: vault(9), writer: PublicKey([nth; 32]) });
    }
    let one_more = Action::AddWriter { vault: vault(9), writer: PublicKey([99; 32]) };
    assert_eq!(world.refusal(9, one_more), Rejection::TooManyWriters);
}

#[test]
fn what_an_anchor_says_of_segments_must_be_so() {
    let (mut world, head) = anchored_world();
    type Change = fn(&mut Anchor);
    let (one, two, three) = (segment(1), segment(2), segment(3));
    let changes: [(Change, Rejection); 7] = [
        (|a| a.segments[0].segment = segment(1), Rejection::SegmentExists { segment: one }),
        (|a| a.segments[0].shards.truncate(5), Rejection::WrongShardCount { segment: two }),
        (
            |a| a.segments[0].shards[5].holder = Some(NodeNumber(6)),
            Rejection::NoSuchHolder { node: NodeNumber(6) },
        ),
        (|a| a.commits[0].pack = segment(3), Rejection::NoSuchSegment { segment: three }),
        (|a| a.released = vec![segment(3)], Rejection::NoSuchSegment { segment: three }),
        (|a| a.released = vec![segment(3)], Rejection::NoSuchSegment { segment: three }),
        (
            |a| (a.released, a.segments[0].segment) = (vec![segment(1)], segment(1)),
            Rejection::SegmentExists { segment: one },
        ),
    ];
    for (at, (change, rejection)) in changes.into_iter().enumerate() {
        let mut changed = anchor(9, Some(head), 2);
        change(&mut changed);
        // Not through the codec, which would refuse some of these before.
        assert_eq!(world.refusal(9, Action::Anchor(changed)), rejection, "change {at}");
    }
    let without_holder = {
        let mut fine = anchor(9, Some(head), 2);
        fine.segments[0].shards[0].holder = None;
        fine
    };
    world.accept(9, Action::Anchor(without_holder));
}

#[test]
fn releasing_takes_descriptors_and_sums_away_but_not_of_other_collections() {
    let (mut world, head) = anchored_world();
    let row = |world: &World| VAULTS.get(&world.state, &vault(9)).unwrap().unwrap();
    assert_eq!((row(&world).segments, row(&world).bytes), (1, 1_000));
    let other = CollectionTag([0xc1; 32]);
    let foreign = Anchor { collection: other, released: vec![segment(1)], ..anchor(9, None, 2) };
    let refusal = world.refusal(9, Action::Anchor(foreign));
    assert_eq!(refusal, Rejection::NoSuchSegment { segment: segment(1) });
    let release = Anchor { released: vec![segment(1)], ..anchor(9, Some(head), 2) };
    world.accept(9, Action::Anchor(release));
    assert_eq!((row(&world).segments, row(&world).bytes), (1, 1_000));
    assert_eq!(SEGMENTS.get(&world.state, &(vault(9), segment(1))), Ok(None));
    let left = query::segments(&world.state, &vault(9), None, 9).unwrap();
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [segment(2)]);
}

#[test]
fn the_place_of_shards_can_be_said_later() {
    let (mut world, _) = anchored_world();
    let place = |nth, holders: &[u16]| Action::PlaceShards {
        vault: vault(9),
        segment: segment(nth),
        holders: holders.iter().map(|number| Some(NodeNumber(*number))).collect(),
    };
    assert_eq!(world.refusal(8, place(1, &[0; 6])), Rejection::NotAWriter);
    assert_eq!(world.refusal(9, place(2, &[0; 6])), Rejection::NoSuchSegment { segment: segment(2) });
    assert_eq!(world.refusal(9, place(1, &[0; 5])), Rejection::WrongShardCount { segment: segment(1) });
    assert_eq!(world.refusal(9, place(1, &[6; 6])), Rejection::NoSuchHolder { node: NodeNumber(6) });
    world.accept(9, place(1, &[5, 4, 3, 2, 1, 0]));
    let row = SEGMENTS.get(&world.state, &(vault(9), segment(1))).unwrap().unwrap();
    assert_eq!((row.shards[0].holder, row.shards[0].root), (Some(NodeNumber(5)), Hash([0; 32])));
}

#[test]
fn an_anchor_of_one_segment_stays_small() {
    let (mut world, head) = anchored_world();
    let before = world.state.values().map(Vec::len).sum::<usize>();
    let signed = world.sign(9, Action::Anchor(anchor(9, Some(head), 2)));
    assert!(signed.bytes().len() <= 640, "{} bytes of transaction", signed.bytes().len());
    world.block(&[signed]);
    // A block of its own at four static nodes, all of which signed: the dearest way to anchor, 1.2 KiB.
    let block = world.blocks.last().unwrap().encode().len();
    println!("a block of one anchor: {block} bytes");
    let grown = world.state.values().map(Vec::len).sum::<usize>() - before;
    println!("state and log nodes: {grown} bytes");
    // Ten share the block's own bytes.
    let Head { anchor: mut head, sequence: nonce, .. } =
        query::head(&world.state, &vault(9), &TAG).unwrap().unwrap();
    let mut ten = Vec::new();
    for nth in 0..10 {
        let next = world.sign_nth(9, nonce + u64::from(nth), Action::Anchor(anchor(9, Some(head), 10 + nth)));
        head = next.id();
        ten.push(next);
    }
    assert_eq!(world.block(&ten), []);
    let each = world.blocks.last().unwrap().encode().len() / 10;
    println!("one of ten in a block: {each} bytes");
    assert!(each <= 720, "{each}");
    assert!(block <= 1_228, "{block}");
}
