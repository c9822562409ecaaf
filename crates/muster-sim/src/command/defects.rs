//! `defects`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use muster_sim::evidence::{Campaign, DefectFound, Detected, Found, append};
use muster_sim::sim::{self, Chosen, Options};

use crate::args::{Defects, Mode};

/// Seeds from the first that fails on, to see who else finds the bug.
const MORE_SEEDS: u64 = 20;

pub fn defects(args: &Defects) -> anyhow::Result<ExitCode> {
    // Bugs make the core panic; the text comes with the finding.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    println!(
        "{:24} {:4} {:62} recounts of the simulator",
        "bug", "in", "checkers of the history"
    );
    let mut all = Vec::new();
    let chosen = |defect: &Chosen| args.only.is_empty() || args.only.contains(&defect.name());
    for defect in Chosen::all().filter(chosen) {
        let found = DefectFound {
            name: defect.name(),
            place: defect.place().to_owned(),
            what: defect.what().to_owned(),
            history: hunt(args, defect, false),
            recounts: hunt(args, defect, true),
        };
        println!(
            "{:24} {:4} {:62} {}",
            found.name,
            found.place,
            found.history.as_ref().map_or_else(|| "NOT FOUND".to_owned(), show),
            found.recounts.as_ref().map(show).unwrap_or_default()
        );
        std::io::stdout().flush()?;
        all.push(found);
    }
    let missed = all.iter().filter(|defect| defect.history.is_none()).count();
    let alone = |defect: &&DefectFound| defect.history.as_ref().is_some_and(|found| found.by.len() == 1);
    println!(
        "{} bugs, {missed} not found by a checker of the history, {} by one alone",
        all.len(),
        all.iter().filter(alone).count()
    );
    if let Some(file) = &args.evidence {
        let command = format!(
            "cargo run --release -p muster-sim --features seeded-bugs -- defects --seeds {} --commands {}",
            args.seeds, args.commands
        );
        let campaign = Campaign::ended(command, began.elapsed().as_secs_f64(), Found::Defects(all));
        append(file, &campaign).with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::from(u8::from(missed > 0)))
}

fn hunt(args: &Defects, defect: Chosen, recounts: bool) -> Option<Detected> {
    let began = Instant::now();
    let found_by = |seed| {
        let options = Options {
            seed,
            calls: args.commands,
            mode: Mode::Both.of(seed),
            judged: true,
            recounts,
        };
        let mut by = sim::run(options, defect).found_by();
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
    Some(Detected {
        by,
        seeds,
        seconds: (seconds * 100.0).round() / 100.0,
    })
}

fn show(found: &Detected) -> String {
    format!("{} ({} seeds, {:.2} s)", found.by.join(" "), found.seeds, found.seconds)
}
