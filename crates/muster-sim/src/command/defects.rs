//! `defects`.

use std::process::ExitCode;
use std::time::Instant;

use muster_core::Defect;
use muster_sim::sim::{self, Chosen, Options};

use crate::args::{Defects, Mode};

/// Seeds from the first that fails on, to see who else finds the bug.
const MORE_SEEDS: u64 = 20;

/// How a bug was found by one kind of look: by whom in a few seeds, and what it took for the first time.
struct Found {
    by: Vec<String>,
    seeds: u64,
    seconds: f64,
}

pub fn defects(args: &Defects) -> ExitCode {
    // Bugs make the core panic; the text comes with the finding.
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "{:22} {:58} recounts of the simulator",
        "defect", "checkers of the history"
    );
    let mut missed = 0;
    for defect in Defect::ALL {
        let history = hunt(args, *defect, false);
        let recounts = hunt(args, *defect, true);
        missed += u64::from(history.is_none());
        println!("{:22} {:58} {}", format!("{defect:?}"), show(history), show(recounts));
    }
    println!(
        "{} bugs, {missed} not found by a checker of the history",
        Defect::ALL.len()
    );
    ExitCode::from(u8::from(missed > 0))
}

fn hunt(args: &Defects, defect: Defect, recounts: bool) -> Option<Found> {
    let began = Instant::now();
    let found_by = |seed| {
        let options = Options {
            seed,
            calls: args.commands,
            mode: Mode::Both.of(seed),
            judged: true,
            recounts,
        };
        let mut by = sim::run(options, Chosen::new(defect)).found_by();
        if recounts {
            by.retain(|name| !name.starts_with('I'));
        }
        by
    };
    let first = (0..args.seeds).find(|seed| !found_by(*seed).is_empty())?;
    let seconds = began.elapsed().as_secs_f64();
    let mut by: Vec<String> = (first..first + MORE_SEEDS).flat_map(found_by).collect();
    // By number, and what is no invariant last.
    by.sort_by_key(|name| (name.trim_start_matches('I').parse().unwrap_or(u32::MAX), name.clone()));
    by.dedup();
    let seeds = first + 1;
    Some(Found { by, seeds, seconds })
}

fn show(found: Option<Found>) -> String {
    found.map_or_else(
        || "NOT FOUND".to_owned(),
        |found| format!("{} ({} seeds, {:.1} s)", found.by.join(" "), found.seeds, found.seconds),
    )
}
