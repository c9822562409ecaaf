//! `muster cluster …`

mod recover;

use clap::Subcommand;

use super::Run;
use crate::args::Format;
use crate::failure::Failure;
use crate::{json, table};

/// What to ask of the cluster.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Members, roles and positions, as the leader sees them if it can be reached
    Status,
    /// Make a cluster of one node out of what is left when a majority is gone for good
    Recover(recover::RecoverArgs),
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status => status(run).await,
        Verb::Recover(args) => recover::run(run, &args).await,
    }
}

async fn status(run: &Run) -> Result<(), Failure> {
    let status = run
        .client
        .cluster_status()
        .await
        .map_err(|error| Failure::new("get the cluster's status", error))?;
    if run.output.format == Format::Table {
        run.output.text(json::status(&status), &table::status(&status));
    }
    run.output
        .rows(json::status(&status), &table::MEMBERS, table::members(&status));
    Ok(())
}
