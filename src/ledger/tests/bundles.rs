use super::*;
use crate::ledger::tiles;

/// Blocks of none to three transactions, and all their leaves.
fn world() -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(4);
    for nth in 0..12_u8 {
        let transactions: Vec<_> =
            (0..nth % 4).map(|at| world.sign(40 + at, create(60 + 4 * nth + at))).collect();
        assert_eq!(world.block(&transactions), []);
    }
    world.blocks(260);
    let leaves = world.blocks.iter().flat_map(Block::leaves).collect();
    (world, leaves)
}

/// A bundle, asked of a node that has the blocks from a height on.
fn bundle(world: &World, index: u64, width: u64, from: u64) -> Option<Vec<u8>> {
    let block = |height: Height| -> Result<_, crate::ledger::ReadError> {
        Ok(world.blocks.get(height.0 as usize - 1).filter(|_| height.0 >= from).cloned())
    };
    tiles::entries(&world.state, index, width, block).unwrap()
}

fn bundled(leaves: &[Vec<u8>]) -> Vec<u8> {
    leaves.iter().flat_map(|leaf| [&(leaf.len() as u16).to_be_bytes()[..], leaf].concat()).collect()
}

#[test]
fn a_bundle_has_the_leaves_of_its_tile() {
    let (world, leaves) = world();
    let size = leaves.len() as u64;
    assert_eq!(size, query::tip(&world.state).unwrap().record.log_size);
    assert!(size > 256 && size < 512, "{size}");
    for width in 1..=256 {
        assert_eq!(bundle(&world, 0, width, 1), Some(bundled(&leaves[..width as usize])), "{width}");
    }
    for width in 1..=256 {
        let there = leaves.get(256..256 + width as usize).map(bundled);
        assert_eq!(bundle(&world, 1, width, 1), there, "{width}");
    }
    for (index, width) in [(2, 1), (u64::MAX, 1), (u64::MAX / 256, 256)] {
        assert_eq!(bundle(&world, index, width, 1), None, "{index} {width}");
    }
}

#[test]
fn a_bundle_that_is_not_all_there_is_none() {
    let (mut world, leaves) = world();
    assert_eq!(bundle(&world, 0, 1, 2), None);
    assert_eq!(bundle(&world, 1, 1, 200), Some(bundled(&leaves[256..257])));
    assert_eq!(bundle(&world, 1, 1, 270), None);
    // As after a snapshot: what was before it is in no table either.
    world.state.retain(|key, _| key[0] != 0x08 || key[7..] > [0, 200][..]);
    assert_eq!(bundle(&world, 0, 1, 150), None);
    assert_eq!(bundle(&world, 1, 1, 150), Some(bundled(&leaves[256..257])));
}
