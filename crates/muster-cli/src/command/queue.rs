//! `muster queue …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Run, Stale};
use crate::failure::Failure;
use crate::{json, limits, table};

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Queues of the tenant that have jobs or settings
    List {
        #[command(flatten)]
        stale: Stale,
    },
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
    /// Give a queue a weight within its tenant, or take it away
    Weight {
        /// The queue; need not have jobs
        queue: String,
        /// Share of the tenant's worker time relative to other queues with weights, and to 100 for all those without
        #[arg(required_unless_present = "none", value_parser = clap::value_parser!(u32).range(1..))]
        weight: Option<u32>,
        /// No weight any more: it stands with all others that have none
        #[arg(long, conflicts_with = "weight")]
        none: bool,
    },
    /// Ordering keys whose jobs wait for a dead one: redrive it, or release the key
    Held {
        /// The queue
        queue: String,
    },
    /// Let the jobs of an ordering key go on without the dead one that they wait for
    Release {
        /// The queue
        queue: String,
        /// The ordering key
        key: String,
    },
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { stale } => {
            let failed = |error| Failure::new(format!("list the queues of tenant {:?}", run.global.tenant), error);
            let (queues, stale) = if stale.stale {
                let (queues, stale) = run.client.stale().queues().await.map_err(failed)?.split();
                (queues, Some(stale))
            } else {
                (run.client.queues().await.map_err(failed)?, None)
            };
            let value = queues.iter().map(json::queue).collect::<Value>();
            let rows = queues.iter().map(table::queue).collect();
            run.output.rows_of(value, &table::QUEUES, rows, stale.as_ref());
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
        Verb::Weight { queue, weight, none: _ } => {
            let action = format!("set the weight of queue {queue:?}");
            run.client
                .set_queue_weight(&queue, weight)
                .await
                .map_err(|error| again(action, error))?;
            let text = match weight {
                Some(weight) => format!("queue {queue} has weight {weight}"),
                None => format!("queue {queue} has no weight"),
            };
            run.output.text(json!({ "name": queue, "weight": weight }), &text);
        }
        Verb::Held { queue } => {
            let action = format!("list the held ordering keys of queue {queue:?}");
            let orders = run
                .client
                .held_orders(&queue)
                .await
                .map_err(|error| Failure::new(action, error))?;
            let value = orders.iter().map(limits::held_json).collect::<Value>();
            run.output
                .rows(value, &limits::HELD, orders.iter().map(limits::held_row).collect());
        }
        Verb::Release { queue, key } => {
            let action = format!("release ordering key {key:?} of queue {queue:?}");
            run.client.release_order(&queue, &key).await.map_err(|error| {
                Failure::new(action, error)
                    .if_unknown("repeat the command: \"no dead job holds up\" then means that it was done")
            })?;
            run.output.text(
                json!({ "queue": queue, "ordering_key": key, "released": true }),
                &format!("the jobs of ordering key {key} go on"),
            );
        }
    }
    Ok(())
}

fn again(action: String, error: muster_client::Error) -> Failure {
    Failure::new(action, error).if_unknown("repeating the command is safe")
}
