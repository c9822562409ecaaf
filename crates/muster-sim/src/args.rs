//! Arguments.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use muster_sim::sim;

/// Judges histories of Muster clusters and makes them.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Judge a recorded history. Exit status: 0 all good, 1 a violation, 2 a malformed file.
    Judge(Judge),
    /// Run the simulator. Exit status: 0 all good, 1 a seed failed.
    Run(Run),
    /// Show that bugs put in on purpose are found. Exit status: 0 all found, 1 one was not.
    #[cfg(feature = "seeded-bugs")]
    Defects(Defects),
    /// Make the page of evidence from its records.
    Evidence(Evidence),
    /// Write a synthetic good history, to measure the judge.
    Generate {
        /// The file.
        file: PathBuf,
        /// Calls of clients.
        #[arg(long, default_value_t = 1_000_000)]
        calls: u64,
    },
}

/// Arguments of `judge`.
#[derive(clap::Args)]
pub struct Judge {
    /// The history, JSON Lines.
    pub file: PathBuf,
    /// Verdicts as JSON.
    #[arg(long)]
    pub json: bool,
    /// Calls of a kind that must have gone well, besides what the history's header demands, e.g. `enqueue=1000`.
    #[arg(long, value_name = "KIND=COUNT", value_parser = demand)]
    pub least: Vec<(String, u64)>,
}

/// How hard a run is.
#[derive(Clone, Copy, ValueEnum)]
pub enum Mode {
    /// Faults until the end, then a look at what is there.
    Safety,
    /// Faults stop, then everything must drain.
    Liveness,
    /// Both in turn.
    Both,
}

impl Mode {
    /// The mode of one seed.
    pub fn of(self, seed: u64) -> sim::Mode {
        match self {
            Self::Liveness => sim::Mode::Liveness,
            Self::Both if seed.is_multiple_of(3) => sim::Mode::Liveness,
            Self::Safety | Self::Both => sim::Mode::Safety,
        }
    }
}

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Run {
    /// Seeds, the end not included, e.g. `0..100`; or one.
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// Calls of clients in each run; each makes two to three commands.
    #[arg(long, default_value_t = 1_000)]
    pub commands: u64,
    /// How hard.
    #[arg(long, value_enum, default_value = "both")]
    pub mode: Mode,
    /// Record and judge every N-th run only; 0 = none. The others compare state hashes alone.
    #[arg(long, default_value_t = 1)]
    pub judge_every: u64,
    /// Seeds run at once.
    #[arg(long, default_value_t = 1)]
    pub threads: u64,
    /// Write the history of the first seed to this file; `judge` reads it.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Make a failing script smaller before it is shown.
    #[arg(long)]
    pub shrink: bool,
    /// Append what came of it to this file of campaigns.
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
}

/// Arguments of `defects`.
#[cfg(feature = "seeded-bugs")]
#[derive(clap::Args)]
pub struct Defects {
    /// Most seeds tried for each.
    #[arg(long, default_value_t = 300)]
    pub seeds: u64,
    /// Calls of clients in each run.
    #[arg(long, default_value_t = 1_000)]
    pub commands: u64,
    /// Most seconds spent on each; a bug that was not found by then counts as not found, and the next one follows.
    #[arg(long, default_value_t = 60)]
    pub budget: u64,
    /// These bugs alone, by name.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Append what came of it to this file of campaigns.
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
}

/// Arguments of `evidence`.
#[derive(clap::Args)]
pub struct Evidence {
    /// The records; the page lies beside it, with `.md` behind its name.
    #[arg(long, default_value = "docs/evidence", value_name = "DIR")]
    pub dir: PathBuf,
    /// Write nothing: exit status 1 if the page is not what the records say.
    #[arg(long)]
    pub check: bool,
    /// What to do; default: the page.
    #[command(subcommand)]
    pub action: Option<EvidenceAction>,
}

/// What to do with records.
#[derive(Subcommand)]
pub enum EvidenceAction {
    /// Append one campaign, JSON on standard input, after checking its form.
    Add,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|fault| format!("{text:?}: {fault}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn demand(text: &str) -> Result<(String, u64), String> {
    let (kind, count) = text.split_once('=').ok_or("expected KIND=COUNT")?;
    let count = count.parse().map_err(|fault| format!("{count:?}: {fault}"))?;
    Ok((kind.to_owned(), count))
}
