//! `muster-chaos`: a real cluster under faults, judged. `docs/chaos.md` says how.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use muster_sim::evidence::append;
use muster_sim::judge_file;
use muster_tests::chaos::{Fault, Options, campaign, lacking, run};

/// Runs a cluster of real processes under load and faults, and judges what clients and workers saw.
/// Exit status: 0 nothing wrong, 1 something is, 2 it could not run.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How long faults and load go on.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Nodes: 3 or 5.
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: usize,
    /// Decides faults, their order and targets, and the load. Default: a new one, printed at the end.
    #[arg(long)]
    seed: Option<u64>,
    /// Faults to choose from, e.g. kill,pause,partition. Default: all but disk-full, power-cut (these need root) and clock-jump (libfaketime).
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Calls per second of all clients together.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Keep configuration, data, logs and history in a directory below this one, whatever comes of it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Append what came of it to this file of campaigns.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Run nothing: judge a history that an earlier run kept.
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        other => Err(format!("{other:?} is neither 3 nor 5")),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(file) = &args.judge {
        return judge(file);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(fault) => {
            eprintln!("muster-chaos: {fault}");
            return ExitCode::from(2);
        }
    };
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut faults = args.faults;
    if faults.is_empty() {
        faults = Fault::ALL.into_iter().filter(|fault| !fault.is_special()).collect();
    }
    faults.retain(|fault| {
        let lacks = lacking(*fault);
        if let Some(lacks) = lacks {
            eprintln!("{fault} skipped: needs {lacks}");
        }
        lacks.is_none()
    });
    if faults.is_empty() {
        return ExitCode::from(2);
    }
    let options = Options {
        time: Duration::from_secs_f64(args.minutes * 60.0),
        nodes: args.nodes,
        seed,
        faults,
        rate: args.rate,
        keep: args.keep,
        progress: true,
        failpoints: false,
    };
    let report = runtime.block_on(async {
        tokio::select! {
            report = run(&options) => Some(report),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    let Some(report) = report else {
        // The nodes end with the tasks that hold them.
        drop(runtime);
        eprintln!("interrupted; seed {seed}");
        return ExitCode::from(2);
    };
    println!("\n{report}");
    if let Some(file) = &args.evidence
        && let Err(fault) = append(file, &campaign(&options, &report))
    {
        eprintln!("muster-chaos: {}: {fault}", file.display());
        return ExitCode::from(2);
    }
    if let Some(kept) = &report.kept {
        println!("kept in {}; judge again:", kept.display());
        println!("  muster-chaos --judge {}", kept.join("history.jsonl").display());
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    ExitCode::from(u8::from(!report.is_good()))
}

fn judge(file: &Path) -> ExitCode {
    match judge_file(file, |_| {}) {
        Ok(tally) => {
            print!("{tally}");
            ExitCode::from(u8::from(tally.violations() > 0))
        }
        Err(malformed) => {
            eprintln!("muster-chaos: {}: {malformed}", file.display());
            ExitCode::from(2)
        }
    }
}
