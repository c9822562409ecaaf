//! The subcommands.

#[cfg(feature = "seeded-bugs")]
mod defects;
mod evidence;
mod judge;
mod run;

use std::process::ExitCode;

use crate::args::{Args, Command};

/// Runs the subcommand asked for.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Judge(args) => judge::judge(&args),
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "seeded-bugs")]
        Command::Defects(args) => defects::defects(&args),
        Command::Evidence(args) => evidence::evidence(&args),
        Command::Generate { file, calls } => judge::generate(&file, calls),
    }
}
