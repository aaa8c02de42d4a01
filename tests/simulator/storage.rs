//! The storage core in virtual time: seeds that do everything at once, and stories that do one thing.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test simulator storage::swarm` runs one seed again;
//! `scripts/sim 1000` runs many.

use std::time::Duration;

use crate::seeds::run_seeds;
use xvault::testing::sim::{Fuse, Summary, Trouble, World, Wrong};
use xvault::types::Code;

type Checked = Result<(), Wrong>;

fn run(seed: u64) -> Summary {
    println!("XVAULT_SEED={seed} cargo test --features testing --test simulator storage::swarm");
    let run = World::new(seed).and_then(World::run);
    run.unwrap_or_else(|wrong| panic!("{wrong}"))
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

fn world() -> Result<World, Wrong> {
    World::quiet(1, Code::DEFAULT, 6)
}

#[test]
fn a_node_that_signs_before_it_syncs_is_caught() {
    let mut world = world().unwrap();
    world.sabotage();
    let wrong = (0..100).find_map(|nth| world.put_record(nth, 1_000).err());
    assert!(wrong.is_some_and(|wrong| wrong.what.starts_with("I1")));
}

#[test]
fn records_of_boundary_lengths_read_back() -> Checked {
    let mut world = world()?;
    let (frame, chunk, stripe) = (65_536, 300_000, 262_144);
    let edges = [frame, 60_000, stripe, chunk, chunk + 60_000, 2 * chunk];
    let lens = edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]);
    for (nth, len) in (0..).zip([0, 1, 15, 16, 17].into_iter().chain(lens)) {
        assert!(world.put_record(nth, len)?, "{len} bytes");
        assert!(world.get_record(nth)?, "{len} bytes");
    }
    world.read_everything()
}

#[test]
fn any_two_nodes_may_die_after_an_acknowledgement() -> Checked {
    let mut world = world()?;
    for (nth, len) in [(0, 700), (1, 90_000), (2, 700_000)] {
        assert!(world.put_record(nth, len)?);
    }
    for one in 0..6 {
        for other in one + 1..6 {
            world.trouble(one, Trouble::Crash)?;
            world.trouble(other, Trouble::Cut)?;
            world.read_everything()?;
            world.mend(one)?;
            world.mend(other)?;
            world.wait(Duration::from_secs(30))?;
        }
    }
    Ok(())
}

#[test]
fn two_nodes_in_any_trouble_hinder_neither_puts_nor_gets() -> Checked {
    for trouble in Trouble::PASSING {
        let mut world = world()?;
        assert!(world.put_record(0, 400_000)?);
        world.trouble(1, trouble)?;
        world.trouble(4, trouble)?;
        assert!(world.get_record(0)?, "{trouble:?}");
        assert!(world.put_record(1, 400_000)?, "{trouble:?}");
        assert!(world.get_record(1)?, "{trouble:?}");
        world.mend(1)?;
        world.mend(4)?;
        world.wait(Duration::from_secs(60))?;
        world.read_everything()?;
    }
    Ok(())
}

#[test]
fn a_read_with_no_node_to_spare_outwaits_starved_nodes() -> Checked {
    // Found on a machine that was busy with builds: two nodes were dead, a read gave up on the four others.
    for seed in 1..=20 {
        let mut world = World::quiet(seed, Code::DEFAULT, 6)?;
        for (nth, len) in [(0, 5_000), (1, 700_000)] {
            assert!(world.put_record(nth, len)?);
        }
        for node in 0..6 {
            world.trouble(node, if node < 2 { Trouble::Crash } else { Trouble::Starved })?;
        }
        for nth in 0..2 {
            assert!(world.get_record(nth)?, "seed {seed}, record {nth}");
        }
        (0..6).try_for_each(|node| world.mend(node))?;
    }
    Ok(())
}

#[test]
fn any_one_node_may_lose_its_shards_for_good() -> Checked {
    for trouble in Trouble::LASTING {
        let mut world = world()?;
        assert!(world.put_record(0, 400_000)?);
        world.trouble(2, trouble)?;
        assert!(world.put_record(1, 400_000)?, "{trouble:?}");
        world.mend(2)?;
        world.trouble(3, Trouble::Crash)?;
        world.read_everything()?;
    }
    Ok(())
}

#[test]
fn too_few_nodes_are_a_failure_that_passes() -> Checked {
    for trouble in [Trouble::Cut, Trouble::Hangs, Trouble::Full] {
        let mut world = world()?;
        assert!(world.put_record(0, 400_000)?);
        (0..4).try_for_each(|node| world.trouble(node, trouble))?;
        assert!(!world.put_record(1, 400_000)?, "{trouble:?}");
        assert_eq!(world.get_record(0)?, trouble == Trouble::Full, "{trouble:?}");
        (0..4).try_for_each(|node| world.mend(node))?;
        world.wait(Duration::from_secs(30))?;
        assert!(world.put_record(1, 400_000)?, "{trouble:?}");
        world.read_everything()?;
    }
    Ok(())
}

/// Puts records while a client's fuse burns, then finds everything that was acknowledged; whether the client died.
fn put_with(fuse: Fuse) -> Result<bool, Wrong> {
    let mut world = world()?;
    assert!(world.put_record(0, 5_000)?);
    world.light(fuse);
    for (nth, len) in [(1, 310_000), (0, 3_000)] {
        world.put_record(nth, len)?;
        world.wait(Duration::from_secs(5))?;
    }
    let died = world.client_deaths() > 0;
    world.spare();
    world.read_everything()?;
    assert!(died || world.committed() == 3);
    Ok(died)
}

#[test]
fn a_client_killed_before_any_effect_loses_nothing_acknowledged() -> Checked {
    let mut effects = 0;
    while put_with(Fuse::Effects(effects))? {
        effects += 1;
    }
    assert!(effects > 20, "{effects}");
    Ok(())
}

#[test]
fn a_client_whose_disk_dies_at_any_change_loses_nothing_acknowledged() -> Checked {
    let mut changes = 0;
    while put_with(Fuse::Changes(changes))? {
        changes += 1;
    }
    assert!(changes > 20, "{changes}");
    Ok(())
}

#[test]
fn a_node_that_loses_power_at_any_change_keeps_what_it_signed() -> Checked {
    for changes in 0.. {
        let mut world = world()?;
        assert!(world.put_record(0, 100_000)?);
        world.cut_power(3, changes);
        assert!(world.put_record(1, 700_000)?);
        assert!(world.put_record(2, 1_000)?);
        world.erase_record(0)?;
        world.wait(Duration::from_secs(30))?;
        let died = !world.is_up(3);
        world.mend(3)?;
        world.trouble(0, Trouble::Crash)?;
        world.read_everything()?;
        if !died {
            assert!(changes > 10, "{changes}");
            break;
        }
    }
    Ok(())
}

#[test]
fn an_interrupted_put_does_not_send_again_what_nodes_hold() -> Checked {
    let len = 6_000_000;
    let mut whole = world()?;
    assert!(whole.put_record(0, len)?);
    let mut world = world()?;
    world.light(Fuse::Effects(150));
    assert!(!world.put_record(0, len)?);
    let before = world.bytes_sent();
    assert!(before > whole.bytes_sent() / 2, "most of it was sent: {before}");
    // The client comes back and puts the same again.
    world.wait(Duration::from_secs(30))?;
    assert_eq!(world.committed(), 1);
    world.read_everything()?;
    // What was under way when it died is sent twice: four segments of 300,000 bytes.
    let twice = world.bytes_sent() - whole.bytes_sent();
    assert!(twice < 4 * 300_000 * 3 / 2 + 50_000, "{twice} bytes were sent twice");
    Ok(())
}

#[test]
fn slow_nodes_get_their_shards_too() -> Checked {
    for slow in 1..=5 {
        let mut world = world()?;
        (0..slow).try_for_each(|node| world.trouble(node, Trouble::Slow))?;
        for (nth, len) in [(0, 5_000), (1, 700_000)] {
            assert!(world.put_record(nth, len)?);
            assert_eq!(world.shards_without_node(nth), 0, "{slow} slow nodes, record {nth}");
        }
    }
    Ok(())
}

#[test]
fn a_put_that_resumes_moves_shards_that_share_a_node() -> Checked {
    let mut moved = 0;
    for effects in (8..).step_by(8) {
        let mut world = world()?;
        world.trouble(1, Trouble::Crash)?;
        world.trouble(4, Trouble::Crash)?;
        world.light(Fuse::Effects(effects));
        if world.put_record(0, 3_000_000)? {
            break;
        }
        // What is placed by now shares four nodes. The client comes back to six and puts the same again.
        world.mend(1)?;
        world.mend(4)?;
        world.wait(Duration::from_secs(60))?;
        assert_eq!((world.committed(), world.shards_without_node(0)), (1, 0), "{effects} effects");
        moved += 1;
        world.read_everything()?;
    }
    assert!(moved >= 3, "{moved} puts were cut off");
    Ok(())
}

#[test]
fn what_is_erased_is_freed_at_every_node() -> Checked {
    let mut world = world()?;
    for (nth, len) in [(0, 700), (1, 700_000)] {
        assert!(world.put_record(nth, len)?);
    }
    assert!(world.shards().iter().all(|shards| *shards >= 4), "{:?}", world.shards());
    world.erase_record(0)?;
    world.erase_record(1)?;
    world.release_everything()?;
    assert_eq!(world.shards(), [0; 6]);
    Ok(())
}
