//! `muster-failpoint-campaign`: every failpoint on real nodes, judged. `docs/failpoints.md` says how.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use muster_sim::evidence::append;
use muster_tests::chaos::failpoints::{Settings, list, points, repository, run, with_list};

/// Has nodes of real clusters under load die, fail and pause at every failpoint, and judges what clients and workers saw.
/// Exit status: 0 nothing wrong and every point hit, 1 something is wrong or a point was never hit, 2 it could not run.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Only points whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Begin no new trial after this. Default: all are made.
    #[arg(long)]
    minutes: Option<f64>,
    /// Decides the load. Default: a new one.
    #[arg(long)]
    seed: Option<u64>,
    /// Calls per second of all clients together.
    #[arg(long, default_value_t = 150)]
    rate: u32,
    /// Keep configuration, data, logs and histories in directories below this one, whatever comes of it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Append what came of it to this file of campaigns.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Run nothing: print the list of points.
    #[arg(long)]
    list: bool,
    /// Run nothing: write the list of points into docs/failpoints.md.
    #[arg(long)]
    write_list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        print!("{}", list(&points()));
        return ExitCode::SUCCESS;
    }
    if args.write_list {
        return done(write_list());
    }
    let settings = Settings {
        only: args.only,
        time: args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        seed: args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        rate: args.rate,
        keep: args.keep,
    };
    if !points().iter().any(|point| point.name.contains(&settings.only)) {
        return done(Err(format!("no failpoint's name contains {:?}", settings.only)));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return done(Err(fault.to_string())),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(&settings) => Some(outcome),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    let Some(outcome) = outcome else {
        // The nodes end with the tasks that hold them.
        drop(runtime);
        return done(Err(format!("interrupted; seed {}", settings.seed)));
    };
    println!("\n{outcome}");
    for kept in outcome.kept() {
        println!("kept in {}", kept.display());
    }
    if let Some(file) = &args.evidence
        && let Err(fault) = append(file, &outcome.campaign(&settings))
    {
        return done(Err(format!("{}: {fault}", file.display())));
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    ExitCode::from(u8::from(!outcome.is_good()))
}

fn write_list() -> Result<(), String> {
    let file = repository().join("docs/failpoints.md");
    let wrong = |what: String| format!("{}: {what}", file.display());
    let page = std::fs::read_to_string(&file).map_err(|fault| wrong(fault.to_string()))?;
    let page = with_list(&page, &points()).ok_or_else(|| wrong("it has no place for the list".to_owned()))?;
    std::fs::write(&file, page).map_err(|fault| wrong(fault.to_string()))
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("muster-failpoint-campaign: {reason}");
            ExitCode::from(2)
        }
    }
}
