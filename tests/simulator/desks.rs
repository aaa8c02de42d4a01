//! Access desks in virtual time: seeds in which nodes are faulty, cut off, killed and restored while owners revoke and erase.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test simulator desks::swarm` runs one seed again; `scripts/sim 1000` runs many.

use crate::seeds::run_seeds;
use xvault::testing::sim::desks::{Control, Desks, Summary};

fn run(seed: u64) -> Summary {
    println!("XVAULT_SEED={seed} cargo test --features testing --test simulator desks::swarm");
    Desks::new(seed).run().unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn swarm() {
    run_seeds(&[1, 2, 3], run);
}

/// C3, C10, C11 and C13 are worth something only if all of it happens.
#[test]
fn everything_happens_in_some_seeds() {
    let mut sum = Summary::default();
    for seed in 0..8 {
        let found = run(seed);
        sum.opened += found.opened;
        sum.denied += found.denied;
        sum.revoked += found.revoked;
        sum.erased += found.erased;
        sum.crashes += found.crashes;
        sum.restored += found.restored;
        sum.certified += found.certified;
        sum.eclipsed += found.eclipsed;
    }
    let counts = [sum.opened, sum.denied, sum.revoked, sum.erased, sum.crashes, sum.restored];
    let more = [sum.certified, sum.eclipsed];
    assert!(counts.iter().chain(&more).all(|count| *count > 0), "{sum:?}");
}

/// C3: with f + 1 parts a revoked grantee gets through, and the simulator sees it.
#[test]
fn control_fewer_parts_open_what_is_revoked() {
    let found = (0..200).find_map(|seed| Desks::with(seed, Control::FewerParts).run().err());
    let wrong = found.map(|wrong| wrong.to_string());
    assert!(wrong.as_ref().is_some_and(|wrong| wrong.contains("C3")), "{wrong:?}");
}
