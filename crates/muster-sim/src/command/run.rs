//! `run`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use muster_sim::evidence::{Campaign, Found, Judged, Simulation, append, judged};
use muster_sim::sim::{self, Chosen, Options, Outcome, Stats};

use crate::args::{Mode, Run};

/// From one word about the progress to the next, on a terminal and in a file.
const SAID_EVERY: Duration = Duration::from_millis(200);
const WRITTEN_EVERY: Duration = Duration::from_secs(30);

/// Sums over all seeds.
#[derive(Default)]
struct Totals {
    seeds: u64,
    histories: u64,
    judged: BTreeMap<String, Judged>,
    stats: Stats,
    failed: Vec<(u64, Outcome)>,
    /// When it was said how it goes.
    said: Option<Instant>,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.stats.commands += outcome.stats.commands;
        self.stats.applied += outcome.stats.applied;
        self.stats.calls += outcome.stats.calls;
        self.stats.micros += outcome.stats.micros;
        for (kind, (all, effective)) in &outcome.stats.faults {
            let sum = self.stats.faults.entry(*kind).or_default();
            *sum = (sum.0 + all, sum.1 + effective);
        }
        if let Some(tally) = &outcome.tally {
            self.histories += 1;
            for (checker, judged) in judged(tally) {
                let sum = self.judged.entry(checker).or_default();
                sum.things += judged.things;
                sum.violations += judged.violations;
            }
        }
        if !outcome.good() {
            self.failed.push((seed, outcome));
        }
    }
}

pub fn run(args: &Run) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.history {
        let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        sim::record(options(args, args.seeds.start), Chosen::default(), &mut file);
        file.flush()?;
    }
    let began = Instant::now();
    let next = AtomicU64::new(args.seeds.start);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| work(args, &next, &totals, began));
        }
    });
    let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    show(&totals, began);
    if let Some(file) = &args.evidence {
        let campaign = campaign(args, &totals, began.elapsed().as_secs_f64());
        append(file, &campaign).with_context(|| file.display().to_string())?;
    }
    for (seed, outcome) in &totals.failed {
        show_failure(args, *seed, outcome);
    }
    Ok(ExitCode::from(u8::from(!totals.failed.is_empty())))
}

fn campaign(args: &Run, totals: &Totals, seconds: f64) -> Campaign {
    let mode = match args.mode {
        Mode::Safety => "safety",
        Mode::Liveness => "liveness",
        Mode::Both => "both",
    };
    let command = format!(
        "muster-sim run --seeds {}..{} --commands {} --mode {mode} --judge-every {}",
        args.seeds.start, args.seeds.end, args.commands, args.judge_every
    );
    let faults = totals.stats.faults.iter().map(|(kind, (injected, effective))| {
        let kind = serde_json::to_value(kind).ok();
        let name = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
        (name.replace('_', "-"), [*injected, *effective])
    });
    let simulation = Simulation {
        seeds: [args.seeds.start, args.seeds.end],
        histories: totals.histories,
        applied: totals.stats.applied,
        calls: totals.stats.calls,
        faults: faults.collect(),
        judged: totals.judged.clone(),
        failed: totals.failed.iter().map(|(seed, _)| *seed).collect(),
    };
    Campaign::ended(command, seconds, Found::Simulation(Box::new(simulation)))
}

fn options(args: &Run, seed: u64) -> Options {
    Options {
        seed,
        calls: args.commands,
        mode: args.mode.of(seed),
        judged: args.judge_every > 0 && seed.is_multiple_of(args.judge_every),
        recounts: true,
    }
}

fn work(args: &Run, next: &AtomicU64, totals: &Mutex<Totals>, began: Instant) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= args.seeds.end {
            return;
        }
        let outcome = sim::run(options(args, seed), Chosen::default());
        let mut totals = totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        totals.add(seed, outcome);
        totals.progress(began);
    }
}

impl Totals {
    /// Says how it goes: often and in one place on a terminal, seldom and line by line in a file.
    fn progress(&mut self, began: Instant) {
        let mut out = std::io::stderr();
        let terminal = out.is_terminal();
        let pause = if terminal { SAID_EVERY } else { WRITTEN_EVERY };
        if self.said.unwrap_or(began).elapsed() < pause {
            return;
        }
        self.said = Some(Instant::now());
        let line = format!(
            "{} seeds, {} commands applied, {} failed, {:.0} s",
            self.seeds,
            self.stats.applied,
            self.failed.len(),
            began.elapsed().as_secs_f64()
        );
        let _ = if terminal {
            write!(out, "\r\x1b[K{line}")
        } else {
            writeln!(out, "{line}")
        };
        let _ = out.flush();
    }
}

fn show(totals: &Totals, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let stats = &totals.stats;
    let effective: u64 = stats.faults.values().map(|(_, effective)| effective).sum();
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    println!(
        "{} seeds in {seconds:.1} s ({:.0} s simulated), {} failed",
        totals.seeds,
        stats.micros as f64 / 1e6,
        totals.failed.len()
    );
    println!(
        "{} calls, {} commands in the log, {} applied by all nodes: {:.0} applied/s",
        stats.calls,
        stats.commands,
        stats.applied,
        stats.applied as f64 / seconds
    );
    println!(
        "{} histories judged, {} things looked at by checkers",
        totals.histories,
        totals.judged.values().map(|judged| judged.things).sum::<u64>()
    );
    println!("{effective} faults took effect:");
    for (kind, (all, effective)) in &stats.faults {
        println!("  {:14} {effective:>8} of {all} injected", format!("{kind:?}"));
    }
}

fn show_failure(args: &Run, seed: u64, outcome: &Outcome) {
    let mode = match args.mode.of(seed) {
        sim::Mode::Safety => "safety",
        sim::Mode::Liveness => "liveness",
    };
    println!("\nseed {seed} failed: {}", outcome.found_by().join(", "));
    println!(
        "  muster-sim run --seeds {seed} --commands {} --mode {mode}",
        args.commands
    );
    if !args.shrink {
        show_findings(outcome);
        return;
    }
    let options = Options {
        judged: true,
        ..options(args, seed)
    };
    let Some(shrunk) = sim::shrink(options, Chosen::default()) else {
        println!("  it does not fail again");
        return;
    };
    let [(calls, faults), (calls_left, faults_left)] = shrunk.sizes;
    println!(
        "  shrunk in {} runs from {calls} calls and {faults} faults to {calls_left} and {faults_left}:",
        shrunk.runs
    );
    for fault in &shrunk.faults {
        println!("    {fault}");
    }
    show_findings(&shrunk.outcome);
}

fn show_findings(outcome: &Outcome) {
    for failure in &outcome.failures {
        println!("  {failure}");
    }
    let verdicts = outcome.tally.iter().flat_map(|tally| &tally.verdicts);
    for verdict in verdicts.filter(|verdict| verdict.total > 0) {
        println!("  {} {}: {} violations", verdict.id, verdict.title, verdict.total);
        for violation in verdict.violations.iter().take(5) {
            println!("    {} (records {:?})", violation.text, violation.lines);
        }
    }
}
