//! `muster worker …`

use std::time::SystemTime;

use clap::Subcommand;

use super::{Run, Stale};
use crate::failure::Failure;
use crate::{json, table};

/// What to do with workers.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Open sessions in the cluster
    List {
        #[command(flatten)]
        stale: Stale,
    },
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    let Verb::List { stale } = verb;
    let failed = |error| Failure::new("list the workers", error);
    let (workers, stale) = if stale.stale {
        let (workers, stale) = run.client.stale().workers().await.map_err(failed)?.split();
        (workers, Some(stale))
    } else {
        (run.client.workers().await.map_err(failed)?, None)
    };
    let now = SystemTime::now();
    let rows = workers.iter().map(|worker| table::worker(worker, now)).collect();
    let value = workers.iter().map(json::worker).collect();
    run.output.rows_of(value, &table::WORKERS, rows, stale.as_ref());
    Ok(())
}
