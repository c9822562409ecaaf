//! `muster worker …`

use std::time::SystemTime;

use clap::Subcommand;

use super::Run;
use crate::failure::Failure;
use crate::{json, table};

/// What to do with workers.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Open sessions in the cluster
    List,
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    let Verb::List = verb;
    let workers = run
        .client
        .workers()
        .await
        .map_err(|error| Failure::new("list the workers", error))?;
    let now = SystemTime::now();
    let rows = workers.iter().map(|worker| table::worker(worker, now)).collect();
    run.output
        .rows(workers.iter().map(json::worker).collect(), &table::WORKERS, rows);
    Ok(())
}
