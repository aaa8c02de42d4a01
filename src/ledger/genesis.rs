//! The state of a network before its first block.

use std::collections::BTreeMap;

use crate::crypto::log_tree::Frontier;
use crate::crypto::lthash::LtHash;
use crate::ledger::apply::Changes;
use crate::ledger::execution::{note_roster, sum_up};
use crate::ledger::read::{Overlay, ReadError};
use crate::ledger::rows::{
    COUNTERS, Counters, FRONTIER, NODE_NUMBERS, NODES, Node, Peaks, SETTINGS, SPONSORS, STATE_SUM, STATICS,
    Settings, Sponsor, Standing, StateSum, Static, TIP, Usage,
};
use crate::message::anchor::NodeNumber;
use crate::message::block::{BlockRecord, Header};
use crate::message::genesis::Genesis;
use crate::types::{Hash, Height};

/// The changes that make an empty map the state of the genesis.
///
/// Its header stands for block 0, which nobody proposed or signed: its `previous` is the genesis'
/// own id, so that the first block, and by it every other, hangs on every byte of the genesis.
///
/// # Errors
/// None that an empty map gives.
pub fn genesis_state(genesis: &Genesis) -> Result<Changes, ReadError> {
    let empty = BTreeMap::new();
    let mut state = Overlay::new(&empty);
    STATE_SUM.put(&mut state, &(), &StateSum(LtHash::default().to_bytes()));
    SETTINGS.put(&mut state, &(), &Settings::of(genesis));
    let nodes = put_nodes(&mut state, genesis);
    put_sponsors(&mut state, genesis);
    let counters = Counters { nodes, sequence: 0, voters_changed: Height::GENESIS, open: Usage::NONE };
    COUNTERS.put(&mut state, &(), &counters);
    for member in genesis.roster.members() {
        let row =
            Static { member: member.clone(), votes: true, standing: Standing::Good, faults: 0, proof: None };
        STATICS.put(&mut state, &member.key, &row);
    }
    note_roster(&mut state, &genesis.roster, genesis.roster.hash());
    FRONTIER.put(&mut state, &(), &Peaks(Vec::new()));
    let header = header(genesis, sum_up(&mut state)?);
    TIP.put(&mut state, &(), &header);
    Ok(Changes { writes: state.into_writes(), header, next: genesis.roster.clone() })
}

type Empty<'a> = Overlay<'a, BTreeMap<Vec<u8>, Vec<u8>>>;

fn put_nodes(state: &mut Empty<'_>, genesis: &Genesis) -> u16 {
    let mut number = 0;
    for node in &genesis.nodes {
        NODE_NUMBERS.put(state, &node.key, &NodeNumber(number));
        let (key, entry) = (node.key, node.entry.clone());
        NODES.put(state, &number, &Node { key, entry, since: Height::GENESIS, retired: None });
        number += 1;
    }
    number
}

fn put_sponsors(state: &mut Empty<'_>, genesis: &Genesis) {
    for terms in &genesis.sponsors {
        let row = Sponsor { vaults: terms.vaults, nodes: terms.nodes, vault_bytes: terms.vault_bytes };
        SPONSORS.put(state, &terms.sponsor, &row);
    }
}

fn header(genesis: &Genesis, state: Hash) -> Header {
    let roster = genesis.roster.hash();
    Header {
        record: BlockRecord {
            network: genesis.network,
            height: Height::GENESIS,
            previous: genesis.id(),
            time: genesis.time,
            proposer: 0,
            roster,
            new_roster: None,
            log_size: 0,
            state,
            certificate: Hash([0; 32]),
        },
        log_root: Frontier::default().root(),
    }
}
