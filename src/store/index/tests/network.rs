//! What the index keeps of the network.

use super::*;
use crate::types::BlockId;

const GENESIS: BlockId = BlockId([1; 32]);
const OTHER: BlockId = BlockId([2; 32]);

fn steps(numbers: &[u8]) -> Vec<Vec<u8>> {
    numbers.iter().map(|n| vec![*n; 5_000]).collect()
}

#[test]
fn an_index_from_before_keeps_nothing_of_the_network_and_takes_it_on() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    // No table of it is made before it has a row: such is an index of an older version.
    let txn = index.db.begin_read().unwrap();
    assert!(txn.open_table(tables::ROSTER_STEPS).is_err() && txn.open_table(tables::STORAGE_NODES).is_err());
    drop(txn);
    assert_eq!(index.roster_steps(&GENESIS).unwrap(), steps(&[]));
    assert_eq!(index.storage_nodes(&GENESIS).unwrap(), None);
    index.keep_roster_steps(&GENESIS, &steps(&[1, 2])).unwrap();
    index.keep_storage_nodes(&GENESIS, b"nodes").unwrap();
    drop(index);
    let index = open(&disk);
    assert_eq!(index.roster_steps(&GENESIS).unwrap(), steps(&[1, 2]));
    assert_eq!(index.storage_nodes(&GENESIS).unwrap().unwrap(), b"nodes");
}

#[test]
fn what_is_kept_of_a_network_is_the_last_that_was_and_no_other_networks() {
    let disk = MemDisk::new(ROOM);
    let mut index = open(&disk);
    index.keep_roster_steps(&GENESIS, &steps(&[1, 2, 3])).unwrap();
    index.keep_roster_steps(&OTHER, &steps(&[7])).unwrap();
    index.keep_storage_nodes(&GENESIS, b"nodes").unwrap();
    assert_eq!(index.storage_nodes(&OTHER).unwrap(), None);
    // One is another now, and the last is gone.
    index.keep_roster_steps(&GENESIS, &steps(&[1, 9])).unwrap();
    index.keep_storage_nodes(&GENESIS, b"others").unwrap();
    index.keep_storage_nodes(&OTHER, b"elsewhere").unwrap();
    assert_eq!(index.roster_steps(&GENESIS).unwrap(), steps(&[1, 9]));
    assert_eq!(index.roster_steps(&OTHER).unwrap(), steps(&[7]));
    assert_eq!(index.storage_nodes(&GENESIS).unwrap().unwrap(), b"others");
    index.keep_roster_steps(&GENESIS, &[]).unwrap();
    assert_eq!(index.roster_steps(&GENESIS).unwrap(), steps(&[]));
    assert_eq!(index.roster_steps(&OTHER).unwrap(), steps(&[7]));
}
