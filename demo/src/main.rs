//! The demo: a real workload through a real three-node cluster whose leader is killed in the middle.
//!
//! It prints a table that says what became of every job, and ends with status 1 if anything is not as it must be.

mod args;
mod cluster;
mod corpus;
mod jobs;
mod load;
mod measure;
mod record;
mod report;
mod run;
mod tenants;
mod verify;
mod work;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let args = args::Args::parse();
    let ended = tokio::select! {
        ended = run::run(args) => ended,
        // Leaving this function ends the nodes and removes their data.
        () = muster_client::shutdown_signal() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
