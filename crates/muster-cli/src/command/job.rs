//! `muster job …`

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args, Subcommand};
use futures::StreamExt;
use muster_client::{Enqueue, Error, JobId, JobInfo, JobState, ListJobs, OrderingPolicy, Priority};
use serde_json::{Value, json};

use super::{Run, Stale, payload};
use crate::failure::Failure;
use crate::{explain, human, json, kinds, parse, table};

/// `job wait` without `--timeout`: as good as for ever.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);
/// Jobs asked for in one call.
const PAGE_MAX: u32 = 1_000;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Enqueue a job; success means that it is synced to disk on a majority of nodes
    Enqueue(Box<EnqueueArgs>),
    /// Show a job, live or from history
    Get {
        /// The job
        id: JobId,
        #[command(flatten)]
        stale: Stale,
    },
    /// Say exactly why a job does not run now, and when it starts if that can be known
    Explain {
        /// The job
        id: JobId,
        #[command(flatten)]
        stale: Stale,
    },
    /// Available jobs that no connected worker accepts, in groups, with what the workers lack
    Unroutable,
    /// List the tenant's jobs: live ones first, then ended ones, newest first within each
    List {
        /// In one of these states, e.g. dead,retrying
        #[arg(long, value_delimiter = ',')]
        state: Vec<JobState>,
        /// Of this queue
        #[arg(long)]
        queue: Option<String>,
        /// Of this kind
        #[arg(long)]
        kind: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        stale: Stale,
    },
    /// Wait until a job has ended; exit code 6 if it did not succeed
    Wait {
        /// The job
        id: JobId,
    },
    /// End jobs that wait; tell the workers of those that run
    Cancel {
        /// The jobs
        #[arg(required = true)]
        ids: Vec<JobId>,
    },
    /// Change the priority of live jobs, by id or by filter; what runs goes on
    #[command(group(ArgGroup::new("which").required(true).multiple(true).args(["ids", "queue", "kind", "state"])))]
    SetPriority {
        /// critical, high, normal, low or bulk
        priority: Priority,
        /// The jobs
        #[arg(conflicts_with_all = ["queue", "kind", "state"])]
        ids: Vec<JobId>,
        /// All of this queue
        #[arg(long)]
        queue: Option<String>,
        /// All of this kind
        #[arg(long)]
        kind: Option<String>,
        /// All in one of these states, e.g. available,scheduled
        #[arg(long, value_delimiter = ',')]
        state: Vec<JobState>,
    },
    /// Make a new job with fresh budgets out of a dead one
    Redrive {
        /// The dead job
        id: JobId,
        /// Id of the new job; give that of an earlier try to repeat it
        #[arg(long)]
        new_id: Option<JobId>,
    },
    /// Show a job and each change until it ends
    Watch {
        /// The job
        id: JobId,
    },
}

/// A job as described on the command line.
#[derive(Args, Debug)]
pub struct EnqueueArgs {
    /// Name of the handler
    kind: String,
    /// JSON as it stands, @FILE, or - for standard input
    #[arg(long, short = 'p', value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Media type of the payload [default: found by looking]
    #[arg(long)]
    content_type: Option<String>,
    /// Version of the payload's schema
    #[arg(long, default_value_t = 1)]
    schema_version: u32,
    /// The queue
    #[arg(long, short = 'q', default_value = "default")]
    queue: String,
    /// critical, high, normal, low or bulk
    #[arg(long, default_value = "normal")]
    priority: Priority,
    /// Not to start before this much later, e.g. 5s, 1h30m
    #[arg(long, value_parser = parse::duration, conflicts_with = "run_at")]
    delay: Option<Duration>,
    /// Not to start before this instant, e.g. 2026-01-31T08:00:00Z
    #[arg(long, value_parser = parse::instant)]
    run_at: Option<SystemTime>,
    /// Id of the job, a UUID; give that of an earlier try to repeat it [default: minted]
    #[arg(long)]
    id: Option<JobId>,
    /// Idempotency key: unique in the tenant for 24 h, a repeat returns the first job
    #[arg(long)]
    key: Option<String>,
    /// Failures and timeouts allowed [default: 20]
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Longest run of an attempt [default: 10m]
    #[arg(long, value_parser = parse::duration)]
    attempt_timeout: Option<Duration>,
    /// Expire the job if it has not started within this time of its availability [default: never]
    #[arg(long, value_parser = parse::duration)]
    expires_in: Option<Duration>,
    /// A limit key, with tokens per start before it if more than 1, e.g. stripe:acct_7 or '3*stripe:acct_7'; repeat it
    #[arg(long, value_name = "[COST*]KEY", value_parser = parse::limit_key)]
    limit_key: Vec<(String, u32)>,
    /// Tokens that each start takes of the rates of cluster, tenant, queue and kind [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    cost: Option<u32>,
    /// Slots of its worker that an attempt takes [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// A label that its worker must carry, e.g. gpu=a100; repeat it
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::label)]
    require: Vec<(String, String)>,
    /// A label that its worker had better carry; repeat it
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::label)]
    prefer: Vec<(String, String)>,
    /// Jobs of one key in a queue run one at a time, in the order of their acceptance
    #[arg(long)]
    ordering_key: Option<String>,
    /// What becomes of the jobs behind this one if it dies: skip-dead (they go on) or strict (they wait)
    #[arg(long, requires = "ordering_key", value_name = "POLICY", value_parser = parse::ordering, default_value = "skip-dead")]
    ordering: OrderingPolicy,
    /// Wait until the job has ended, and show it; exit code 6 if it did not succeed
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Enqueue(args) => enqueue(run, *args).await,
        Verb::Get { id, stale } => {
            let failed = |error| Failure::new(format!("get job {id}"), error);
            if stale.stale {
                let found = run.client.stale().get(id).await.map_err(failed)?;
                let page = table::job_page(&found.value, SystemTime::now());
                run.output.stale_text(json::job(&found.value, true), &page, &found);
                return Ok(());
            }
            show(run, &run.client.get(id).await.map_err(failed)?);
            Ok(())
        }
        Verb::Explain { id, stale } => explain(run, id, stale).await,
        Verb::Unroutable => {
            let failed = |error| Failure::new("list the jobs that no worker accepts", error);
            let groups = run.client.unroutable().await.map_err(failed)?;
            let value = groups.iter().map(kinds::unroutable_json).collect::<Value>();
            let rows = groups.iter().map(kinds::unroutable_row).collect();
            run.output.rows(value, &kinds::UNROUTABLE, rows);
            Ok(())
        }
        Verb::List {
            state,
            queue,
            kind,
            limit,
            stale,
        } => {
            let filter = ListJobs {
                queue,
                kind,
                states: state,
                ..ListJobs::default()
            };
            list(run, filter, limit, stale).await
        }
        Verb::Wait { id } => wait(run, id, run.global.timeout.unwrap_or(FOR_EVER)).await,
        Verb::Cancel { ids } => cancel(run, &ids).await,
        Verb::SetPriority {
            priority,
            ids,
            queue,
            kind,
            state,
        } => {
            let filter = ListJobs {
                queue,
                kind,
                states: state,
                ..ListJobs::default()
            };
            set_priority(run, priority, &ids, filter).await
        }
        Verb::Redrive { id, new_id } => {
            let new_id = new_id.unwrap_or_default();
            let enqueued = run.client.redrive_as(id, new_id).await.map_err(|error| {
                Failure::new(format!("redrive job {id}"), error).if_unknown(format!(
                    "it may have been done; repeat it safely with --new-id {new_id}"
                ))
            })?;
            run.output.text(json::enqueued(&enqueued), &enqueued.id.to_string());
            Ok(())
        }
        Verb::Watch { id } => watch(run, id).await,
    }
}

async fn explain(run: &Run, id: JobId, stale: Stale) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("explain job {id}"), error);
    let now = SystemTime::now();
    if stale.stale {
        let found = run.client.stale().explain(id).await.map_err(failed)?;
        let page = explain::page(&found.value, now);
        run.output.stale_text(explain::json(&found.value), &page, &found);
        return Ok(());
    }
    let explained = run.client.explain(id).await.map_err(failed)?;
    run.output
        .text(explain::json(&explained), &explain::page(&explained, now));
    Ok(())
}

async fn enqueue(run: &Run, args: EnqueueArgs) -> Result<(), Failure> {
    let mut job = payload::read(&args.kind, args.payload.as_deref(), args.content_type.clone())?;
    job.schema_version = args.schema_version;
    // Minted here, so that an unknown outcome can be repeated under the same id.
    let id = args.id.unwrap_or_default();
    let wait_for_end = args.wait;
    let action = format!("enqueue a job of kind {:?}", args.kind);
    let enqueued = run.client.enqueue_raw(job, options(id, args)).await.map_err(|error| {
        Failure::new(action, error).if_unknown(format!("it may have been accepted; repeat it safely with --id {id}"))
    })?;
    if wait_for_end {
        run.output.remark(&format!("accepted as {}", enqueued.id));
        return wait(run, enqueued.id, run.global.timeout.unwrap_or(FOR_EVER)).await;
    }
    if enqueued.existed {
        run.output.remark("accepted before, under this id or key:");
    }
    run.output.text(json::enqueued(&enqueued), &enqueued.id.to_string());
    Ok(())
}

fn options(id: JobId, args: EnqueueArgs) -> Enqueue {
    let mut options = Enqueue::new().id(id).queue(args.queue).priority(args.priority);
    if let Some(delay) = args.delay {
        options = options.delay(delay);
    }
    if let Some(at) = args.run_at {
        options = options.run_at(at);
    }
    if let Some(key) = args.key {
        options = options.idempotency_key(key);
    }
    if let Some(attempts) = args.max_attempts {
        options = options.max_attempts(attempts);
    }
    if let Some(timeout) = args.attempt_timeout {
        options = options.attempt_timeout(timeout);
    }
    if let Some(after) = args.expires_in {
        options = options.expires_in(after);
    }
    for (key, cost) in args.limit_key {
        options = options.limit_key_costing(key, cost);
    }
    if let Some(cost) = args.cost {
        options = options.cost(cost);
    }
    if let Some(slots) = args.slots {
        options = options.slots(slots);
    }
    for (key, value) in args.require {
        options = options.required_label(key, value);
    }
    for (key, value) in args.prefer {
        options = options.preferred_label(key, value);
    }
    if let Some(key) = args.ordering_key {
        options = options.ordered(key, args.ordering);
    }
    options
}

async fn list(run: &Run, mut filter: ListJobs, limit: u32, stale: Stale) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("list the jobs of tenant {:?}", run.global.tenant), error);
    let mut jobs: Vec<JobInfo> = Vec::new();
    // Of the page that may be the oldest.
    let mut oldest = None;
    let mut more;
    loop {
        filter.page_size = (limit - jobs.len() as u32).min(PAGE_MAX);
        let page = if stale.stale {
            let (page, of_page) = run.client.stale().list(&filter).await.map_err(failed)?.split();
            if oldest
                .as_ref()
                .is_none_or(|oldest: &muster_client::Stale<()>| of_page.is_older_than(oldest))
            {
                oldest = Some(of_page);
            }
            page
        } else {
            run.client.list(&filter).await.map_err(failed)?
        };
        jobs.extend(page.jobs);
        more = page.next.is_some();
        filter.page = page.next;
        if !more || jobs.len() as u32 >= limit {
            break;
        }
    }
    let now = SystemTime::now();
    let value = jobs.iter().map(|job| json::job(job, false)).collect::<Value>();
    let rows = jobs.iter().map(|job| table::job(job, now)).collect();
    run.output.rows_of(value, &table::JOBS, rows, oldest.as_ref());
    if more {
        run.output.remark(&format!(
            "there are more than {limit}: raise --limit or narrow the filter"
        ));
    }
    Ok(())
}

async fn wait(run: &Run, id: JobId, timeout: Duration) -> Result<(), Failure> {
    let action = format!("wait for job {id}");
    let job = run
        .client
        .wait(id, timeout)
        .await
        .map_err(|error| Failure::new(&action, error))?;
    show(run, &job);
    succeeded(action, job)
}

fn succeeded(action: String, job: JobInfo) -> Result<(), Failure> {
    match job.state {
        JobState::Succeeded => Ok(()),
        state => Err(Failure::new(
            action,
            Error::JobEnded {
                id: job.id,
                state,
                failure: job.failure,
            },
        )),
    }
}

/// Goes through all ids, then reports the first failure.
async fn cancel(run: &Run, ids: &[JobId]) -> Result<(), Failure> {
    let mut first = None;
    let mut done = Vec::new();
    for id in ids {
        match run.client.cancel(*id).await {
            Ok(state) => done.push((id.to_string(), state)),
            Err(error) => {
                let failure =
                    Failure::new(format!("cancel job {id}"), error).if_unknown("repeating the command is safe");
                first.get_or_insert(failure);
            }
        }
    }
    let value = done
        .iter()
        .map(|(id, state)| json!({ "id": id, "state": state.as_str() }))
        .collect::<Value>();
    let row = |(id, state): (String, JobState)| {
        let note = if state == JobState::Running {
            "its worker is being told: muster job wait"
        } else {
            ""
        };
        vec![id, state.to_string(), note.to_owned()]
    };
    run.output
        .rows(value, &["ID", "STATE", "NOTE"], done.into_iter().map(row).collect());
    first.map_or(Ok(()), Err)
}

async fn set_priority(run: &Run, priority: Priority, ids: &[JobId], filter: ListJobs) -> Result<(), Failure> {
    let changed = if ids.is_empty() {
        run.client.set_priority_where(&filter, priority).await
    } else {
        run.client.set_priority(ids, priority).await
    };
    let changed = changed.map_err(|error| {
        Failure::new(format!("set priority {priority}"), error).if_unknown("repeating the command is safe")
    })?;
    let mut text = format!("{} jobs have priority {priority} now", human::count(changed.changed));
    if !changed.not_live.is_empty() {
        let gone = changed.not_live.join(", ");
        let _ = write!(text, "; ended, or not of this tenant: {gone}");
    }
    let value = json!({
        "priority": priority.as_str(),
        "changed": changed.changed,
        "not_live": changed.not_live,
    });
    run.output.text(value, &text);
    Ok(())
}

async fn watch(run: &Run, id: JobId) -> Result<(), Failure> {
    let action = || format!("watch job {id}");
    let mut changes = Box::pin(run.client.watch(id));
    while let Some(change) = changes.next().await {
        let job = change.map_err(|error| Failure::new(action(), error))?;
        run.output
            .text(json::job(&job, false), &table::change(&job, SystemTime::now()));
        if job.state.is_terminal() {
            return succeeded(action(), job);
        }
    }
    Ok(())
}

fn show(run: &Run, job: &JobInfo) {
    run.output
        .text(json::job(job, true), &table::job_page(job, SystemTime::now()));
}
