//! `muster-sim`: judges recorded histories, runs the simulator, shows that seeded bugs are found.

mod args;
mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::run(args::Args::parse()) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("muster-sim: {fault:#}");
            ExitCode::from(2)
        }
    }
}
