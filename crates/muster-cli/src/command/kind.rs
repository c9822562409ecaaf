//! `muster kind …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::Run;
use crate::failure::Failure;
use crate::kinds;

/// What to do with kinds of jobs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Kinds of the tenant that have had jobs, or are paused
    List,
    /// Start no more jobs of a kind, in whatever queue; what runs goes on
    Pause {
        /// The kind; need not have jobs
        kind: String,
        /// Why, for the next operator; at most 1 KiB
        #[arg(long, default_value = "")]
        note: String,
    },
    /// End a pause
    Resume {
        /// The kind
        kind: String,
    },
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let failed = |error| Failure::new(format!("list the kinds of tenant {:?}", run.global.tenant), error);
            let kinds = run.client.kinds().await.map_err(failed)?;
            let value = kinds.iter().map(kinds::json).collect::<Value>();
            run.output
                .rows(value, &kinds::KINDS, kinds.iter().map(kinds::row).collect());
        }
        Verb::Pause { kind, note } => {
            let action = format!("pause kind {kind:?}");
            run.client
                .pause_kind(&kind, &note)
                .await
                .map_err(|error| again(action, error))?;
            run.output.text(
                json!({ "name": kind, "paused": true, "note": note }),
                &format!("kind {kind} is paused"),
            );
        }
        Verb::Resume { kind } => {
            let action = format!("resume kind {kind:?}");
            run.client
                .resume_kind(&kind)
                .await
                .map_err(|error| again(action, error))?;
            run.output.text(
                json!({ "name": kind, "paused": false }),
                &format!("kind {kind} is open"),
            );
        }
    }
    Ok(())
}

fn again(action: String, error: muster_client::Error) -> Failure {
    Failure::new(action, error).if_unknown("repeating the command is safe")
}
