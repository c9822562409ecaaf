//! The same work for Muster and for other systems, in turns on one machine, and how they compare.
//!
//! Every system runs as the processes that `scripts/bench-peers` unpacked, on loopback, with its data in one temporary directory, and is
//! gone before the next one starts. One thread of this program is the load for all of them.

mod args;
mod crew;
mod load;
mod report;
mod servers;
mod system;
mod table;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use muster_bench::{process, syncs_per_second};
use tokio::time::timeout;

use crate::args::Args;
use crate::load::Load;
use crate::report::{Failure, Report, Turn};

/// Beyond the time of the load itself: filling queues, emptying them, what a busy machine adds.
const SLACK: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = tokio::select! {
        result = run(&args) => result,
        // What was started is ended as it is dropped.
        () = muster_client::shutdown_signal() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a system did not do its work.
async fn run(args: &Args) -> Result<bool> {
    let kinds = args.systems();
    let loads = args.loads();
    let bar = ProgressBar::new(u64::from(args.rounds) * (kinds.len() * loads.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed} {msg}")?);
    let mut report = Report::new(args);
    for round in 0..args.rounds {
        // Whoever goes first on a machine that changes its speed goes last in the next round.
        for place in 0..kinds.len() {
            let kind = kinds[(place + round as usize) % kinds.len()];
            let mut turn = Turn::new(kind, round + 1);
            let allowed = Duration::from_secs(args.seconds) * loads.len() as u32 + SLACK;
            let done = match timeout(allowed, take_turn(args, &loads, &mut turn, &bar)).await {
                Ok(done) => done,
                Err(_) => Err(anyhow::anyhow!("not done within {} s", allowed.as_secs())),
            };
            if let Err(error) = done {
                bar.println(format!("{}: {error:#}", kind.name()));
                report.failures.push(Failure::new(kind, round + 1, &error));
            }
            bar.set_position(
                u64::from(round) * (kinds.len() * loads.len()) as u64 + ((place + 1) * loads.len()) as u64,
            );
            report.turns.push(turn);
        }
    }
    bar.finish_and_clear();
    report.load_average[1] = process::load_average();
    let text = report.markdown();
    println!("{text}");
    save(&args.report, &report, &text)?;
    eprintln!("report: {}", args.report.display());
    Ok(report.failures.is_empty())
}

/// Starts a system, gives it all loads, ends it.
async fn take_turn(args: &Args, loads: &[Load], turn: &mut Turn, bar: &ProgressBar) -> Result<()> {
    // What others wrote is on the disk before this one is measured.
    let flushed = tokio::task::spawn_blocking(|| Command::new("sync").status());
    if !flushed.await?.context("running sync")?.success() {
        bail!("sync failed");
    }
    turn.disk_syncs_per_second = syncs_per_second(&args.dir)?;
    bar.set_message(format!("{}: starting", turn.kind.name()));
    let system = system::start(turn.kind, args)
        .await
        .with_context(|| format!("starting {}", turn.kind.name()))?;
    turn.version = system.version();
    turn.idle_memory_mib = process::memory_mib(&system.pids());
    for load in loads {
        bar.set_message(format!("{}: {}", turn.kind.name(), load.name()));
        let measured = load::measure(&*system, *load, args)
            .await
            .with_context(|| load.name())?;
        bar.println(format!(
            "round {}  {:<24} {:<26} {:>9.0} jobs/s",
            turn.round,
            turn.kind.name(),
            load.name(),
            measured.rate
        ));
        bar.inc(1);
        turn.measured.push(measured);
    }
    Ok(())
}

fn save(dir: &Path, report: &Report, text: &str) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(dir.join("report.md"), text)
        .and_then(|()| std::fs::write(dir.join("report.json"), json))
        .with_context(|| format!("writing to {}", dir.display()))
}
