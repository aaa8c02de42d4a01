//! Static nodes with the real ledger in virtual time: seeds in which everything goes wrong at once, and stories of one
//! thing each.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test simulator keepers::swarm` runs one seed again; `scripts/sim 1000` runs many.

use std::time::Duration;

use crate::seeds::run_seeds;
use xvault::testing::sim::keepers::{Control, Fault, Keepers, Plan, Summary, Wrong};
use xvault::testing::sim::rng::Rng;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn run(seed: u64) -> Summary {
    println!("XVAULT_SEED={seed} cargo test --features testing --test simulator keepers::swarm");
    Keepers::new(seed).run().unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Runs a seed twice: everything that happens follows from it.
fn run_twice(seed: u64) -> Summary {
    let summary = run(seed);
    assert_eq!(summary.trace, run(seed).trace, "I7: seed {seed} gives another trace each time");
    summary
}

#[test]
fn swarm() {
    run_seeds(&[2, 6], run_twice);
}

#[test]
fn without_faults_all_is_proved_and_nothing_refused() -> Result<(), Wrong> {
    let summary = Keepers::with(1, Plan { writers: 1, ..Plan::quiet(4, seconds(5)) }).run()?;
    assert!(summary.blocks > 10 && summary.finals > 5 && summary.proofs > summary.finals, "{summary:?}");
    assert_eq!((summary.crashes, summary.refused), (0, 0), "{summary:?}");
    Ok(())
}

#[test]
fn a_node_that_dies_at_any_change_of_its_disk_comes_back() -> Result<(), Wrong> {
    for nth in 0..12 {
        let mut plan = Plan { writers: 1, ..Plan::quiet(4, seconds(2)) };
        plan.faults.push((Duration::from_millis(300), Fault::Disk(1, 3 * nth)));
        let summary = Keepers::with(nth, plan).run()?;
        assert!(summary.midway == 1 && summary.finals > 0, "{summary:?}");
    }
    Ok(())
}

#[test]
fn two_halves_stop_and_three_of_four_go_on() -> Result<(), Wrong> {
    for parts in [vec![0, 0, 1, 1], vec![0, 0, 0, 1]] {
        let mut plan = Plan::quiet(4, seconds(6));
        plan.faults.push((seconds(1), Fault::Split(parts.clone())));
        let whole = Keepers::with(1, Plan::quiet(4, seconds(1))).run()?.blocks;
        let summary = Keepers::with(1, plan).run()?;
        let halves = parts.iter().sum::<u8>() == 2;
        // What comes once all is mended is some blocks in both.
        assert_eq!(summary.blocks > whole + 10, !halves, "{summary:?} after {whole}");
    }
    Ok(())
}

#[test]
fn who_comes_late_takes_a_snapshot_and_becomes_a_member() -> Result<(), Wrong> {
    let mut plan = Plan { snapshot_gap: 4, governs: true, ..Plan::quiet(4, seconds(8)) };
    plan.nodes = 5;
    plan.late.push((seconds(3), 4));
    let summary = Keepers::with(3, plan).run()?;
    assert!(summary.passed_over > 4 && summary.changes > 0, "{summary:?}");
    Ok(())
}

/// A plan in which four nodes die again and again.
fn restless(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::quiet(4, seconds(6));
    plan.weather.loss = 30;
    for _ in 0..20 {
        let node = rng.index(4);
        let when = Duration::from_millis(500 + rng.below(5_000));
        plan.faults.push((when, Fault::Fuse(node, rng.below(30))));
    }
    plan
}

fn finds(control: Control, invariant: &str) {
    let found = |seed| {
        let plan = Plan { control, ..restless(seed) };
        Keepers::with(seed, plan).run().err().is_some_and(|wrong| wrong.what.starts_with(invariant))
    };
    assert!((0..10).any(found), "{control:?} is not found by {invariant}");
}

#[test]
fn control_nodes_that_lose_their_logs_vote_twice() {
    finds(Control::NoLog, "I4");
}

#[test]
fn control_nodes_that_cosign_before_their_block_is_durable_are_found() {
    finds(Control::NoSync, "I1");
}
