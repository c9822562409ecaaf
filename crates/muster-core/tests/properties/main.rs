//! The core against a naive model, on random histories.
//!
//! Each history is judged entry by entry: replies and states against the model ([`model`]), the invariants of the queue
//! by checkers that know neither core nor model ([`checkers`]), the core's own recount, a second core on the same log,
//! and a third one restored from checkpointed rows in the middle.
//!
//! `MUSTER_CASES` sets the number of histories. A failure prints a shrunk script and stores its seed beside this file,
//! from where it is tried first in every later run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod checkers;
mod effort;
mod facts;
mod fairness;
mod ideal;
mod model;
mod plain;
mod priority;
mod resolve;
mod run;
mod script;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

use crate::run::Run;

#[allow(
    clippy::disallowed_methods,
    reason = "the number of cases, not the core, depends on the process"
)]
fn config() -> Config {
    let cases = std::env::var("MUSTER_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3_000);
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_core_does_what_its_documentation_says(script in script::script(), cut in 0..70usize) {
        let run = Run::new().expect("an empty core");
        if let Err(fault) = run.follow(&script, cut) {
            prop_assert!(false, "{}", fault);
        }
    }
}
