//! Every bug that can be put into the core is found by a checker of the history or stops the run.

#![cfg(feature = "seeded-bugs")]

use muster_core::Defect;
use muster_sim::sim::{self, Chosen, Mode, Options, shrink};

const SEEDS: u64 = 100;

fn options(seed: u64) -> Options {
    Options {
        seed,
        calls: 1_000,
        mode: if seed.is_multiple_of(3) {
            Mode::Liveness
        } else {
            Mode::Safety
        },
        judged: true,
        recounts: false,
    }
}

#[test]
fn all_are_found() {
    let missed: Vec<String> = Chosen::all()
        .filter(|defect| (0..SEEDS).all(|seed| sim::run(options(seed), *defect).good()))
        .map(Chosen::name)
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn a_failing_script_shrinks() {
    let chosen = Chosen::of_core(Defect::PauseIgnored);
    let seed = (0..SEEDS).find(|seed| !sim::run(options(*seed), chosen).good());
    let shrunk = shrink(options(seed.expect("it is found")), chosen).expect("it fails");
    let [before, after] = shrunk.sizes;
    assert!(after.0 * 4 < before.0 && after.1 < before.1, "{before:?} to {after:?}");
    assert!(shrunk.outcome.found_by().contains(&"I23".to_owned()));
}
