//! Which seeds a swarm runs: one of the environment, many fresh ones, or a few.

use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs the seed `XVAULT_SEED`, or `XVAULT_SEEDS` fresh ones, or else the few that always run and a fresh one.
pub(crate) fn run_seeds<T: Debug>(always: &[u64], run: impl Fn(u64) -> T + Sync + RefUnwindSafe) {
    let fresh = RandomState::new().hash_one("seed") >> 32;
    match (number("XVAULT_SEED"), number("XVAULT_SEEDS")) {
        (Some(seed), _) => println!("{:?}", run(seed)),
        (None, Some(count)) => run_many(fresh, count, run),
        (None, None) => {
            always.iter().chain(&[fresh]).for_each(|seed| println!("{:?}", run(*seed)));
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Runs seeds from `first` on, on every core; says which one was wrong, and goes on with the others.
fn run_many<T: Debug>(first: u64, count: u64, run: impl Fn(u64) -> T + Sync + RefUnwindSafe) {
    let (next, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= count {
                        return;
                    }
                    let seed = first + nth;
                    match catch_unwind(|| run(seed)) {
                        Ok(summary) => println!("{summary:?}"),
                        Err(_) => {
                            wrong.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed} is wrong");
                        }
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0, "seeds are wrong");
}
