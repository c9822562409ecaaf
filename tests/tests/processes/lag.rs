//! A leader whose commands wait too long takes no new jobs, says so, and takes them again when its majority keeps up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use muster_client::{Client, ListJobs};
use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::{Cluster, eventually};
use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const LONG: Duration = Duration::from_mins(1);
/// The least that can be set.
const LAG_MAX: u64 = 100;
/// How long the majority stands still: longer than commands may wait, shorter than an election takes.
const STILL: Duration = Duration::from_millis(400);
/// Between two calls meanwhile, whatever becomes of the earlier ones.
const BETWEEN: Duration = Duration::from_millis(2);

/// One call, not repeated; the id of the job.
async fn enqueue(mut jobs: JobServiceClient<Channel>) -> Result<String, Status> {
    let job = v1::JobSpec {
        kind: "lag".into(),
        ..v1::JobSpec::default()
    };
    let mut request = Request::new(v1::EnqueueRequest { job: Some(job) });
    request.set_timeout(LONG);
    let answer = jobs.enqueue(request).await?.into_inner();
    Ok(answer.job.expect("an accepted job").id)
}

/// Holds a refusal against what is promised of it. True: it is for `lag_max`.
fn is_for_lag(status: &Status) -> bool {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("facts");
    assert_eq!(info.reason, "OVERLOADED", "{status:?}");
    let after = details.retry_info().and_then(|info| info.retry_delay);
    assert!(after.is_some_and(|after| !after.is_zero()), "{status:?}");
    if !status.message().contains("lag_max") {
        return false;
    }
    let fact = |name: &str| info.metadata[name].parse::<u64>().unwrap();
    assert_eq!(fact("limit"), LAG_MAX, "{status:?}");
    assert!(fact("value") >= LAG_MAX, "{status:?}");
    true
}

/// Ids of all jobs.
async fn there(client: &Client) -> HashSet<String> {
    let mut filter = ListJobs {
        page_size: 1_000,
        ..ListJobs::default()
    };
    let mut found = HashSet::new();
    loop {
        let page = client.list(&filter).await.unwrap();
        found.extend(page.jobs.into_iter().map(|job| job.id));
        match page.next {
            Some(next) => filter.page = Some(next),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_new_jobs_are_taken_while_commands_wait_longer_than_lag_max() {
    let cluster = Cluster::start_with(&format!("\n[raft]\nlag_max = \"{LAG_MAX}ms\"\n")).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let jobs = JobServiceClient::connect(cluster.address(leader)).await.unwrap();
    let (mut accepted, mut late) = (Vec::new(), 0);
    let deadline = Instant::now() + LONG;
    while late == 0 {
        assert!(Instant::now() < deadline, "no call was refused");
        for follower in &followers {
            cluster.pause(*follower);
        }
        let still = Instant::now();
        let mut calls = Vec::new();
        let mut clock = tokio::time::interval(BETWEEN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while still.elapsed() < STILL {
            clock.tick().await;
            calls.push(tokio::spawn(enqueue(jobs.clone())));
        }
        for follower in &followers {
            cluster.resume(*follower);
        }
        for call in calls {
            match call.await.unwrap() {
                Ok(id) => accepted.push(id),
                Err(status) => late += usize::from(is_for_lag(&status)),
            }
        }
    }
    let again = || async { enqueue(jobs.clone()).await.ok() };
    accepted.push(eventually("jobs are accepted again", LONG, again).await);
    // What was accepted is there, what was refused is not.
    let found = there(&cluster.client_at(leader).await).await;
    assert_eq!(found, accepted.into_iter().collect());
}
