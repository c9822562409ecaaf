//! `defects`.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use muster_sim::evidence::{Campaign, DefectFound, Detected, Found, append};
use muster_sim::sim::{self, Chosen, Options};

use crate::args::{Defects, Mode};

/// Seeds from the first that fails on, to see who else finds the bug.
const MORE_SEEDS: u64 = 20;

pub fn defects(args: &Defects) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&args.only)?;
    // Bugs make the core panic; the text comes with the finding.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    println!(
        "{} bugs, each sought in {} seeds for at most {} s",
        chosen.len(),
        args.seeds,
        args.budget
    );
    println!(
        "{:24} {:4} {:72} recounts of the simulator",
        "bug", "in", "checkers of the history"
    );
    // Drawn only where standard error is a terminal; elsewhere the lines of bugs that are done must do.
    let bar =
        ProgressBar::new(chosen.len() as u64).with_style(ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}")?);
    let mut all = Vec::new();
    for defect in chosen {
        let search = Search {
            args,
            defect,
            bar: &bar,
            began: Instant::now(),
        };
        let (history, recounts) = (search.by(false), search.by(true));
        bar.suspend(|| {
            println!(
                "{:24} {:4} {:72} {}",
                defect.name(),
                defect.place(),
                show("NOT FOUND", &history),
                show("none", &recounts)
            );
            std::io::stdout().flush()
        })?;
        bar.inc(1);
        let by_somebody = |detected: Detected| Some(detected).filter(|detected| !detected.by.is_empty());
        all.push(DefectFound {
            name: defect.name(),
            place: defect.place().to_owned(),
            what: defect.what().to_owned(),
            history: by_somebody(history),
            recounts: by_somebody(recounts),
        });
    }
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let missed = all.iter().filter(|defect| defect.history.is_none()).count();
    let alone = |defect: &&DefectFound| defect.history.as_ref().is_some_and(|found| found.by.len() == 1);
    let recounted = |defect: &&DefectFound| defect.recounts.is_some();
    println!(
        "{} bugs in {seconds:.0} s: {missed} not found by a checker of the history, {} by one alone, of which recounts find {}",
        all.len(),
        all.iter().filter(alone).count(),
        all.iter().filter(alone).filter(recounted).count()
    );
    if let Some(file) = &args.evidence {
        let command = format!(
            "cargo run --release -p muster-sim --features seeded-bugs -- defects --seeds {} --commands {} --budget {}",
            args.seeds, args.commands, args.budget
        );
        let campaign = Campaign::ended(command, seconds, Found::Defects(all));
        append(file, &campaign).with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::from(u8::from(missed > 0)))
}

/// The bugs of these names, or all.
fn chosen(names: &[String]) -> anyhow::Result<Vec<Chosen>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| Chosen::all().all(|defect| defect.name() != **name))
    {
        anyhow::bail!("--only: there is no bug {unknown:?}; without --only all are shown with their names");
    }
    let wanted = |defect: &Chosen| names.is_empty() || names.contains(&defect.name());
    Ok(Chosen::all().filter(wanted).collect())
}

/// The search for one bug.
struct Search<'a> {
    args: &'a Defects,
    defect: Chosen,
    bar: &'a ProgressBar,
    began: Instant,
}

impl Search<'_> {
    /// By checkers of the history, or by recounts alone. By nobody if the bug was not found in all seeds, or in time.
    fn by(&self, recounts: bool) -> Detected {
        let began = Instant::now();
        let mut found = Detected {
            by: Vec::new(),
            seeds: 0,
            seconds: 0.0,
        };
        let mut end = self.args.seeds;
        let mut seed = 0;
        while seed < end && self.in_time() {
            self.tell(seed, recounts);
            let by = self.found_by(seed, recounts);
            seed += 1;
            if found.by.is_empty() {
                found.seeds = seed;
                found.seconds = (began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
                if !by.is_empty() {
                    end = seed + MORE_SEEDS;
                }
            }
            found.by.extend(by);
        }
        // By number, and what is no invariant last.
        let number = |name: &str| name.trim_start_matches('I').parse().unwrap_or(u32::MAX);
        found.by.sort_by_key(|name| (number(name), name.clone()));
        found.by.dedup();
        found
    }

    fn in_time(&self) -> bool {
        self.began.elapsed() < Duration::from_secs(self.args.budget)
    }

    fn tell(&self, seeds: u64, recounts: bool) {
        let who = if recounts { "recounts" } else { "checkers" };
        let seconds = self.began.elapsed().as_secs();
        self.bar
            .set_message(format!("{} by {who}: {seeds} seeds, {seconds} s", self.defect.name()));
    }

    fn found_by(&self, seed: u64, recounts: bool) -> Vec<String> {
        let options = Options {
            seed,
            calls: self.args.commands,
            mode: Mode::Both.of(seed),
            judged: true,
            recounts,
        };
        let mut by = sim::run(options, self.defect).found_by();
        if recounts {
            by.retain(|name| !name.starts_with('I'));
        }
        by
    }
}

fn show(by_nobody: &str, found: &Detected) -> String {
    let by = if found.by.is_empty() {
        by_nobody.to_owned()
    } else {
        found.by.join(" ")
    };
    format!("{by} ({} seeds, {:.2} s)", found.seeds, found.seconds)
}
