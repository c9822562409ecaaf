//! `muster queue …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::Run;
use crate::failure::Failure;
use crate::{json, table};

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Queues of the tenant that have jobs or settings
    List,
    /// Start no more jobs of a queue; what runs goes on
    Pause {
        /// The queue; need not have jobs
        queue: String,
        /// Why, for the next operator; at most 1 KiB
        #[arg(long, default_value = "")]
        note: String,
    },
    /// End a pause
    Resume {
        /// The queue
        queue: String,
    },
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let action = format!("list the queues of tenant {:?}", run.global.tenant);
            let queues = run.client.queues().await.map_err(|error| Failure::new(action, error))?;
            let value = queues.iter().map(json::queue).collect::<Value>();
            run.output
                .rows(value, &table::QUEUES, queues.iter().map(table::queue).collect());
        }
        Verb::Pause { queue, note } => {
            let action = format!("pause queue {queue:?}");
            run.client
                .pause_queue(&queue, &note)
                .await
                .map_err(|error| again(action, error))?;
            run.output.text(
                json!({ "name": queue, "paused": true, "note": note }),
                &format!("queue {queue} is paused"),
            );
        }
        Verb::Resume { queue } => {
            let action = format!("resume queue {queue:?}");
            run.client
                .resume_queue(&queue)
                .await
                .map_err(|error| again(action, error))?;
            run.output.text(
                json!({ "name": queue, "paused": false }),
                &format!("queue {queue} is open"),
            );
        }
    }
    Ok(())
}

fn again(action: String, error: muster_client::Error) -> Failure {
    Failure::new(action, error).if_unknown("repeating the command is safe")
}
