use super::*;
use crate::types::limits::LATE_PROPOSER_BLOCKS;

/// Who is to propose the next block first, and the rest in order.
fn turns(world: &World) -> Vec<PublicKey> {
    let committee = query::next_committee(&world.state).unwrap();
    let round = |round: usize| committee.proposer(world.height(), Round(round as u32));
    (0..committee.n()).map(round).collect()
}

/// Decides a block in this round. Who would have proposed before is known when the block after it brings its certificate.
fn decided_in(world: &mut World, round: u32) -> Vec<PublicKey> {
    let order = turns(world);
    world.blocks(1);
    world.round = round;
    world.blocks(1);
    world.round = 0;
    order[..round as usize % (order.len() + 1)].to_vec()
}

#[test]
fn who_lets_a_turn_pass_comes_last_for_a_while() {
    let mut world = World::new(4);
    world.blocks(2);
    let silent = decided_in(&mut world, 1)[0];
    let last = world.height().0 - 1 + LATE_PROPOSER_BLOCKS;
    for height in world.height().0..last {
        assert_eq!(turns(&world)[3], silent, "at {height}");
        world.blocks(1);
    }
    let firsts: Vec<_> = (0..4)
        .map(|_| {
            let first = turns(&world)[0];
            world.blocks(1);
            first
        })
        .collect();
    assert!(firsts.contains(&silent), "its turn comes again");
}

#[test]
fn passed_turns_are_those_of_the_order_that_was_voted_on() {
    let mut world = World::new(7);
    world.blocks(2);
    let first = decided_in(&mut world, 2);
    // The next block is voted on with these two last: two others are silent, then all.
    let second = decided_in(&mut world, 2);
    assert!(second.iter().all(|key| !first.contains(key)));
    let order = turns(&world);
    assert!([first, second].concat().iter().all(|key| order[3..].contains(key)), "{order:?}");
    let all = decided_in(&mut world, 7);
    assert_eq!(all.len(), 7);
    let mut order = turns(&world);
    order.sort_unstable();
    assert_eq!(order, query::next_roster(&world.state).unwrap().committee().members());
}
