//! What a run begins with.

use super::BEGIN;
use crate::crypto::sign::KeyPair;
use crate::message::genesis::GenesisNode;
use crate::message::transaction::NodeEntry;
use crate::message::{Admission, Genesis, Roster};
use crate::testing::sim::keepers::client::{Client, Role};
use crate::testing::sim::keepers::node::member;
use crate::testing::sim::keepers::plan::Plan;
use crate::testing::sim::rng::Rng;
use crate::types::{Code, NetworkId, Timestamp, VaultId};

/// The genesis of a run.
pub(super) fn genesis(plan: &Plan, rng: &mut Rng) -> Genesis {
    let node = |nth: u8| GenesisNode {
        key: KeyPair::from_secret(&[200 + nth; 32]).public(),
        entry: NodeEntry {
            label: format!("storage-{nth}"),
            operator: "operator".into(),
            site: "site".into(),
            address: ([127, 0, 0, 1], 6_000 + u16::from(nth)).into(),
        },
    };
    let members = (0..plan.members).map(|number| member(number, 0)).collect();
    let roster = Roster::new(members).unwrap_or_else(|error| panic!("no committee: {error:?}"));
    Genesis {
        network: NetworkId(rng.bytes()),
        time: Timestamp::from_unix_micros(BEGIN.unix_micros() - 1),
        code: Code::DEFAULT,
        admission: Admission::Open,
        params: plan.params,
        roster,
        nodes: (0..6).map(node).collect(),
        sponsors: Vec::new(),
    }
}

/// The clients of a run.
pub(super) fn clients(plan: &Plan, rng: &mut Rng) -> Vec<Client> {
    let mut pair = || KeyPair::from_secret(&rng.bytes());
    let mut roles = Vec::new();
    for nth in 0..plan.writers {
        roles.push(match roles.last() {
            Some(Role::Writer { vault, owner }) if nth % 2 == 1 => {
                Role::Writer { vault: *vault, owner: owner.clone() }
            }
            _ => Role::Writer { vault: VaultId([nth as u8; 32]), owner: pair() },
        });
    }
    roles.push(Role::Registrant { node: pair() });
    if plan.governs {
        roles.push(Role::Governor { author: pair(), places: plan.nodes });
    }
    roles.into_iter().map(|role| Client::new(role, rng.fork())).collect()
}
