//! Agreement in virtual time: seeds in which everything goes wrong at once, and stories of one thing each.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test simulator consensus::swarm` runs one seed again;
//! `scripts/sim 1000` runs many.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::seeds::run_seeds;
use xvault::testing::sim::rng::Rng;
use xvault::testing::sim::validators::{Control, Fault, Plan, Rogue, Summary, Validators, Weather, Wrong};
use xvault::types::Height;

type Checked = Result<(), Wrong>;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn run(seed: u64) -> Summary {
    println!("XVAULT_SEED={seed} cargo test --features testing --test simulator consensus::swarm");
    Validators::new(seed).run().unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn swarm() {
    run_seeds(&[1, 2, 3, 4, 5], run);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = run(6).trace;
    assert_eq!(trace, run(6).trace);
    assert_ne!(trace, run(7).trace);
}

/// A plan in which the logs and links of four nodes are put to the test.
fn restless(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::quiet(4, seconds(10));
    plan.weather.loss = 30;
    for _ in 0..30 {
        let node = rng.index(4);
        let when = Duration::from_millis(rng.below(9_000));
        plan.faults.push((when, Fault::Fuse(node, rng.below(30))));
    }
    plan
}

#[test]
fn control_nodes_that_lose_their_logs_vote_twice() {
    let broken = |seed| {
        let plan = Plan { control: Control::NoLog, ..restless(seed) };
        Validators::with(seed, plan).run().err().is_some_and(|wrong| wrong.what.starts_with("I4"))
    };
    assert!((0..20).any(broken), "the audit sees no second vote");
    for seed in 0..5 {
        let summary = Validators::with(seed, restless(seed)).run().unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(summary.crashes > 10 && summary.replayed > 50, "{summary:?}");
    }
}

#[test]
fn control_disks_that_do_not_sync_make_nodes_vote_twice() {
    let broken = |seed| {
        let plan = Plan { control: Control::NoSync, ..restless(seed) };
        Validators::with(seed, plan).run().err().is_some_and(|wrong| wrong.what.starts_with("I4"))
    };
    assert!((0..20).any(broken), "the audit sees no second vote");
}

#[test]
fn control_a_quorum_of_one_less_forks() {
    let broken = |seed| {
        let mut plan = Plan { control: Control::SmallQuorum, ..Plan::quiet(4, seconds(10)) };
        plan.faults.push((seconds(1), Fault::Split(vec![0, 0, 1, 1])));
        plan.faults.push((seconds(6), Fault::Split(vec![0; 4])));
        Validators::with(seed, plan).run().err().is_some_and(|wrong| wrong.what.starts_with("I3"))
    };
    assert!((0..5).any(broken), "the audit sees no fork");
}

#[test]
fn without_faults_every_block_comes_in_its_first_rounds_and_is_signed_by_all() -> Checked {
    for (members, least) in [(1, 100), (4, 40), (7, 40), (21, 20)] {
        let mut world = Validators::with(1, Plan::quiet(members, seconds(4)));
        world.start()?;
        world.wait(seconds(4))?;
        for (height, signers) in world.chains() {
            assert!(height >= least, "{height} blocks of {members}");
            let settled = &signers[..signers.len() - 3];
            let full = settled.iter().filter(|count| **count == members).count();
            assert!(full * 10 >= settled.len() * 9, "{full} of {} certificates are full", settled.len());
        }
    }
    Ok(())
}

#[test]
fn a_node_killed_before_any_effect_votes_once_and_comes_back() -> Checked {
    for effects in 0..60 {
        let mut plan = Plan::quiet(4, seconds(1));
        plan.faults.push((Duration::from_millis(200), Fault::Fuse(effects % 4, effects as u64)));
        let summary = Validators::with(effects as u64, plan).run()?;
        assert!(summary.crashes == 1 && summary.blocks > 5, "{summary:?}");
    }
    Ok(())
}

#[test]
fn all_nodes_killed_at_once_come_back() -> Checked {
    for seed in 0..20 {
        let mut plan = Plan::quiet(4, seconds(3));
        let when = Duration::from_millis(1_000 + 7 * seed);
        plan.faults.extend((0..4).map(|node| (when, Fault::Crash(node))));
        plan.faults.extend((0..4).map(|node| (seconds(2), Fault::Start(node))));
        let summary = Validators::with(seed, plan).run()?;
        assert_eq!(summary.crashes, 4);
    }
    Ok(())
}

#[test]
fn an_even_split_stops_and_heals() -> Checked {
    let mut world = Validators::with(1, Plan::quiet(4, seconds(0)));
    world.start()?;
    world.wait(seconds(2))?;
    world.fault(Fault::Split(vec![0, 0, 1, 1]))?;
    world.wait(seconds(1))?;
    let before = world.chains();
    world.wait(seconds(5))?;
    assert_eq!(world.chains(), before, "neither half may go on");
    world.mend()?;
    world.demand_blocks()
}

#[test]
fn three_of_four_go_on_and_the_fourth_catches_up() -> Checked {
    let mut world = Validators::with(1, Plan::quiet(4, seconds(0)));
    world.start()?;
    world.wait(seconds(1))?;
    world.fault(Fault::Split(vec![0, 0, 0, 1]))?;
    world.wait(seconds(10))?;
    let chains = world.chains();
    assert!(chains[0].0 > chains[3].0 + 10, "three are a quorum");
    world.mend()?;
    world.demand_blocks()?;
    assert!(world.summary().fetched > 10);
    assert_eq!(world.block(3, chains[0].0), world.block(0, chains[0].0));
    Ok(())
}

fn with_rogue(rogue: Rogue) -> Result<Summary, Wrong> {
    let mut plan = Plan::quiet(4, seconds(10));
    plan.rogues.insert(1, rogue);
    let summary = Validators::with(1, plan).run()?;
    assert!(summary.blocks > 20, "the others go on: {summary:?}");
    Ok(summary)
}

#[test]
fn who_votes_twice_is_convicted_and_hinders_nobody() -> Checked {
    assert!(with_rogue(Rogue::TwoVotes)?.evidence > 0);
    Ok(())
}

#[test]
fn who_proposes_twice_is_convicted_and_hinders_nobody() -> Checked {
    assert!(with_rogue(Rogue::TwoProposals(BTreeMap::new()))?.evidence > 0);
    Ok(())
}

#[test]
fn invalid_proposals_are_reported_with_their_signature() -> Checked {
    let summary = with_rogue(Rogue::Invalid)?;
    assert!(summary.invalid > 0 && summary.blamed > 0, "{summary:?}");
    Ok(())
}

#[test]
fn noise_is_blamed_on_who_makes_it() -> Checked {
    assert!(with_rogue(Rogue::Noise)?.blamed > 100);
    with_rogue(Rogue::Silent)?;
    Ok(())
}

#[test]
fn committees_change_while_nodes_die_and_messages_are_lost() -> Checked {
    for seed in 0..5 {
        let mut plan = Plan { nodes: 6, ..restless(seed) };
        plan.weather.loss = 20;
        plan.committees.extend([
            (Height(4), vec![4, 1, 2, 3]),
            (Height(8), vec![4, 5, 2, 3]),
            (Height(9), vec![4, 5, 0, 3, 1]),
            (Height(13), vec![0, 1, 2, 3, 4, 5]),
        ]);
        let summary = Validators::with(seed, plan).run()?;
        assert!(summary.blocks > 14, "{summary:?}");
    }
    Ok(())
}

#[test]
fn clocks_may_be_wrong() -> Checked {
    for seed in 0..5 {
        let mut plan = Plan::quiet(4, seconds(8));
        let mut rng = Rng::new(seed);
        for second in 0..8 {
            let off = 1_000_000_000 - 3_000_000 + rng.below(6_000_000);
            plan.faults.push((seconds(second), Fault::Skew(rng.index(4), off)));
        }
        Validators::with(seed, plan).run()?;
    }
    Ok(())
}

#[test]
fn nodes_that_refuse_good_blocks_by_their_clocks_come_round() -> Checked {
    for seed in 0..10 {
        let mut plan = Plan { picky: 300, ..Plan::quiet(4, seconds(10)) };
        plan.weather.loss = 20;
        plan.faults.push((seconds(5), Fault::Fuse(1, 3)));
        let summary = Validators::with(seed, plan).run()?;
        assert!(summary.invalid > 5, "{summary:?}");
    }
    Ok(())
}

#[test]
fn with_nothing_to_decide_only_the_heart_beats() -> Checked {
    let mut world = Validators::with(1, Plan { busy: false, ..Plan::quiet(4, seconds(0)) });
    world.start()?;
    world.wait(seconds(21))?;
    let idle = world.chains()[0].0;
    assert!((8..=11).contains(&idle), "{idle} blocks in 21 s at one in 2 s");
    let before = world.chains()[0].0;
    world.wake()?;
    world.wait(Duration::from_millis(400))?;
    assert_eq!(world.chains()[0].0, before + 1, "what there is to decide is decided at once");
    Ok(())
}

#[test]
fn slow_links_make_slow_blocks_not_wrong_ones() -> Checked {
    let mut plan = Plan::quiet(7, seconds(20));
    plan.weather =
        Weather { least: Duration::from_millis(150), most: Duration::from_millis(400), loss: 0, twice: 50 };
    let summary = Validators::with(3, plan).run()?;
    assert!(summary.blocks > 5, "{summary:?}");
    Ok(())
}
