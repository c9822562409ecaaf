//! The end of a run: all work gets done, then everything is written down as it stands.

use std::time::Duration;

use muster_client::{Client, Error, JobInfo, JobState, ListJobs};
use muster_sim::history::{
    Answer, Counts, FinalJob, FinalNode, FinalTenant, Operation, OperationKind, Process, Record, Scanned, Totals,
};
use tokio::time::Instant;

use crate::chaos::load::{TENANTS, id, state};
use crate::chaos::observer::Observer;
use crate::chaos::world::World;

/// Longest time until everything is done, machines being slow.
pub(crate) const DRAIN: Duration = Duration::from_mins(4);

/// Waits until no job is live. False: some still are.
pub(crate) async fn drain(world: &World) -> bool {
    let client = world.client(0);
    let end = Instant::now() + DRAIN;
    let mut process = world.recorder.process();
    let mut live = None;
    while Instant::now() < end {
        // Probes whose cancel was never answered would wait for an hour.
        for probe in probes(&client).await.unwrap_or_default() {
            let Ok(job) = probe.id.parse() else { continue };
            let call = process.invoke(Operation::Cancel {
                tenant: probe.tenant.as_str().into(),
                job: id(job),
            });
            let result = match client.with_tenant(&probe.tenant) {
                Ok(owner) => owner.cancel(job).await,
                Err(error) => Err(error),
            };
            let answer = result.map(|after| Answer::Cancelled(state(after)));
            world.settle(OperationKind::Cancel, call, None, answer);
        }
        release_orders(world, &mut process).await;
        if let Ok(tenants) = client.tenants().await {
            let count = tenants
                .iter()
                .map(|tenant| tenant.scheduled + tenant.blocked + tenant.available + tenant.running + tenant.retrying);
            let count: u64 = count.sum();
            live = Some(count);
            if count == 0 {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    world.complaints.add(format!(
        "not all done {DRAIN:?} after the last fault; live jobs: {live:?}"
    ));
    false
}

/// Nothing behind a strict job that died would ever be done.
async fn release_orders(world: &World, process: &mut Process) {
    for tenant in &TENANTS {
        let Ok(owner) = world.client(0).with_tenant(tenant.name) else {
            continue;
        };
        for queue in owner.queues().await.unwrap_or_default() {
            for held in owner.held_orders(&queue.name).await.unwrap_or_default() {
                let call = process.invoke(Operation::ReleaseOrder {
                    tenant: tenant.name.into(),
                    queue: queue.name.as_str().into(),
                    key: held.ordering_key.as_str().into(),
                });
                let result = owner.release_order(&queue.name, &held.ordering_key).await;
                world.settle(OperationKind::ReleaseOrder, call, None, result.map(|()| Answer::Done));
            }
        }
    }
}

async fn probes(client: &Client) -> Result<Vec<JobInfo>, Error> {
    let mut found = Vec::new();
    for tenant in &TENANTS {
        let filter = ListJobs {
            queue: Some("probes".into()),
            states: vec![JobState::Scheduled],
            ..ListJobs::default()
        };
        found.extend(client.with_tenant(tenant.name)?.list(&filter).await?.jobs);
    }
    Ok(found)
}

/// Writes down all jobs, tenants and nodes.
pub(crate) async fn scan(world: &World, observer: &Observer, ids: &[u64]) {
    let recorder = &world.recorder;
    let complete = match jobs_and_tenants(world).await {
        Ok(()) => true,
        Err(error) => {
            world.complaints.add(format!("the last scan: {error}"));
            false
        }
    };
    for node in nodes(observer, ids).await {
        recorder.record(&Record::Node(node));
    }
    recorder.record(&Record::Scanned(Scanned {
        at: recorder.now(),
        complete,
    }));
}

async fn jobs_and_tenants(world: &World) -> Result<(), Error> {
    let client = world.client(1);
    for tenant in &TENANTS {
        let owner = client.with_tenant(tenant.name)?;
        let mut filter = ListJobs {
            page_size: 1_000,
            ..ListJobs::default()
        };
        loop {
            let page = owner.list(&filter).await?;
            for job in &page.jobs {
                if let Some(job) = last(job) {
                    world.recorder.record(&Record::Job(job));
                }
            }
            match page.next {
                Some(next) => filter.page = Some(next),
                None => break,
            }
        }
    }
    for tenant in client.tenants().await? {
        if !TENANTS.iter().any(|known| known.name == tenant.name) {
            continue;
        }
        let totals = &tenant.totals;
        world.recorder.record(&Record::Tenant(FinalTenant {
            tenant: tenant.name.as_str().into(),
            live: Counts {
                scheduled: tenant.scheduled,
                available: tenant.available,
                running: tenant.running,
                retrying: tenant.retrying,
                blocked: tenant.blocked,
            },
            totals: Some(Totals {
                enqueued: totals.enqueued,
                succeeded: totals.succeeded,
                dead: totals.dead,
                cancelled: totals.cancelled,
                expired: totals.expired,
            }),
        }));
    }
    Ok(())
}

/// A job as it stands. How many attempts failed is not told: it is what remains of the attempts.
fn last(job: &JobInfo) -> Option<FinalJob> {
    let good = matches!(job.state, JobState::Succeeded | JobState::Running);
    let ended_at = job
        .ended_at
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Some(FinalJob {
        job: id(job.id.parse().ok()?),
        tenant: job.tenant.as_str().into(),
        queue: job.queue.as_str().into(),
        key: job.idempotency_key.as_deref().map(Into::into),
        state: state(job.state),
        attempts: job.attempts,
        failures: job.attempts.saturating_sub(job.crashes + u32::from(good)),
        crashes: job.crashes,
        max_attempts: job.max_attempts,
        max_crashes: job.max_crashes,
        ended_at: ended_at.map_or(0, |since| since.as_millis() as u64),
        redriven_from: job.redriven_from.as_ref().and_then(|from| from.parse().ok()),
    })
}

/// All nodes at one index, if they come to one.
async fn nodes(observer: &Observer, ids: &[u64]) -> Vec<FinalNode> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let mut nodes = Vec::new();
        for node in ids {
            if let Some(status) = observer.ask(*node).await {
                nodes.push(FinalNode {
                    node: *node,
                    index: status.applied_index,
                    hash: status.state_hash,
                });
            }
        }
        let same = nodes.len() == ids.len() && nodes.windows(2).all(|pair| pair[0].index == pair[1].index);
        if same || Instant::now() >= end {
            return nodes;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
