//! The simulator's tests: fixed seeds, one fresh one, and scenarios by name.
#![cfg(feature = "testing")]

use xvault::testing::sim::{Summary, World};

fn run(seed: u64) -> Summary {
    let world = World::new(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    world.run().unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn swarm() {
    let seeds = match std::env::var("XVAULT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3, 4, 5],
    };
    for seed in seeds {
        println!("XVAULT_SEED={seed} cargo test --features testing --test sim swarm");
        println!("{:?}", run(seed));
    }
}
