//! Keys handed on in virtual time: seeds in which static nodes change while dealers and takers are killed and some are faulty.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test simulator reshare::swarm` runs one seed again; `scripts/sim 1000` runs many.

use crate::seeds::run_seeds;
use xvault::testing::sim::reshare::{Control, Reshare, Summary};

fn run(seed: u64) -> Summary {
    println!("XVAULT_SEED={seed} cargo test --features testing --test simulator reshare::swarm");
    Reshare::new(seed).run().unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn swarm() {
    run_seeds(&[1, 5], run);
}

/// What is checked is worth something only if all of it happens.
#[test]
fn everything_happens_in_some_seeds() {
    let mut sum = Summary::default();
    for seed in 0..8 {
        let found = run(seed);
        sum.changes += found.changes;
        sum.switches += found.switches;
        sum.crashes += found.crashes;
        sum.absences += found.absences;
        sum.bad_pieces += found.bad_pieces;
        sum.false_complaints += found.false_complaints;
        sum.excluded += found.excluded;
    }
    let counts = [sum.changes, sum.switches, sum.crashes, sum.absences];
    let faults = [sum.bad_pieces, sum.false_complaints, sum.excluded];
    assert!(counts.iter().chain(&faults).all(|count| *count > 0), "{sum:?}");
}

#[test]
fn one_seed_gives_one_trace() {
    let first = run(4);
    assert_eq!(first, run(4));
    assert_ne!(first.trace, run(2).trace);
}

/// What is found with a bug that is put in, in the first seed that finds something.
fn first_wrong(control: Control) -> String {
    let found = (0..40).find_map(|seed| Reshare::with(seed, control).run().err());
    found.map_or_else(|| panic!("no seed finds it"), |wrong| wrong.to_string())
}

#[test]
fn control_an_old_share_that_is_erased_early_is_found() {
    let wrong = first_wrong(Control::ErasesEarly);
    assert!(wrong.contains("erased its share"), "{wrong}");
}

#[test]
fn control_a_share_that_is_not_kept_is_found() {
    let wrong = first_wrong(Control::KeepsNothing);
    assert!(wrong.contains("said that it has a share"), "{wrong}");
}

#[test]
fn control_bad_pieces_that_nobody_complains_of_are_found() {
    let wrong = first_wrong(Control::NobodyComplains);
    let harms = ["can have a share", "has no share", "are due still"];
    assert!(harms.iter().any(|harm| wrong.contains(harm)), "{wrong}");
}
