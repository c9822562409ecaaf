//! Quotas of a real cluster: set by command, exact while leaders are killed, waited for by the client library.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_client::{Client, Code, Enqueue, NewTenant, Quota, RateLimit, RawJob, TenantChange};
use muster_tests::{Cluster, eventually};

const LONG: Duration = Duration::from_mins(1);

fn job() -> RawJob {
    RawJob::new("nobody-runs-it", &b"payload"[..])
}

/// A client of the tenant.
fn client_of(cluster: &Cluster, tenant: &str, deadline: Duration) -> Client {
    let client = Client::builder().addresses(cluster.addresses()).tenant(tenant);
    client.deadline(deadline).connect_lazy().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_set_and_show_it_and_producers_wait_for_room() {
    let cluster = Cluster::start().await;
    let ran = async |line: &str| cluster.muster(line).await;
    ran("tenant create docs --jobs-max 2").await.good();
    ran("job enqueue send --tenant docs").await.good();
    let id = ran("job enqueue send --tenant docs").await.good().stdout;
    let full = ran("job enqueue send --tenant docs --timeout 500ms").await;
    full.bad(&["QUOTA_EXCEEDED", "jobs_max is 2", "muster tenant show"]);
    let shown = ran("tenant show docs").await.good().stdout;
    assert!(shown.contains("live jobs     2 of 2"), "{shown}");
    let listed = ran("tenant list").await.good().stdout;
    assert!(listed.contains("100% jobs"), "{listed}");

    // The client library waits for as long as it is told, until there is room.
    let patient = client_of(&cluster, "docs", LONG);
    let waiting = tokio::spawn(async move { patient.enqueue_raw(job(), Enqueue::new()).await });
    // One that comes later is refused meanwhile.
    let full = ran("job enqueue send --tenant docs --timeout 500ms").await;
    full.bad(&["QUOTA_EXCEEDED"]);
    assert!(!waiting.is_finished());
    ran(&format!("job cancel {} --tenant docs", id.trim())).await.good();
    let enqueued = waiting.await.unwrap().unwrap();
    assert!(!enqueued.existed);

    ran("tenant set docs --jobs-max none --enqueue-rate 10/s --enqueue-burst 5")
        .await
        .good();
    let shown = ran("tenant show docs -o json").await.good().json();
    assert_eq!(shown["quota"]["jobs_max"], 0);
    assert_eq!(shown["quota"]["enqueue_rate"]["burst"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_exactly_while_leaders_are_killed() {
    const JOBS: u64 = 300;
    const BURST: u32 = 20;
    let mut cluster = Cluster::start().await;
    let admin = cluster.client().await;
    let rate = RateLimit {
        count: 50,
        period: Duration::from_secs(1),
        burst: BURST,
    };
    admin
        .create_tenant(NewTenant {
            quota: Quota {
                jobs_max: JOBS,
                bytes_max: 0,
                enqueue_rate: Some(rate),
            },
            ..NewTenant::new("full")
        })
        .await
        .unwrap();
    let began = Instant::now();
    let accepted = Arc::new(AtomicU64::new(0));
    let unknown = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = (0..16)
        .map(|_| {
            let client = client_of(&cluster, "full", Duration::from_secs(4));
            let (accepted, unknown) = (Arc::clone(&accepted), Arc::clone(&unknown));
            tokio::spawn(async move {
                loop {
                    match client.enqueue_raw(job(), Enqueue::new()).await {
                        Ok(_) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                        Err(error) if error.is_unknown() => drop(unknown.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            let full = error.reason().is_some_and(|reason| reason.reason == "QUOTA_EXCEEDED");
                            if full && accepted.load(Ordering::Relaxed) + unknown.load(Ordering::Relaxed) >= JOBS {
                                return;
                            }
                            assert!(
                                full || matches!(error.code(), Some(Code::Unavailable | Code::DeadlineExceeded)),
                                "{error}"
                            );
                        }
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        let before = accepted.load(Ordering::Relaxed);
        let count = Arc::clone(&accepted);
        eventually("jobs are accepted", LONG, || {
            let count = Arc::clone(&count);
            async move { (count.load(Ordering::Relaxed) > before + 40).then_some(()) }
        })
        .await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        cluster.start_node(leader);
    }
    for producer in producers {
        tokio::time::timeout(LONG, producer)
            .await
            .expect("the quota fills")
            .unwrap();
    }
    let length = began.elapsed();
    let tenant = admin.get_tenant("full").await.unwrap();
    let (accepted, unknown) = (accepted.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed));
    assert_eq!(tenant.live(), JOBS, "no more and no less than the quota");
    assert!(
        (accepted..=accepted + unknown).contains(&JOBS),
        "{accepted} acknowledged, {unknown} unknown"
    );
    let most = u128::from(BURST) + u128::from(rate.count) * (length.as_millis() + 1) / 1_000;
    assert!(u128::from(JOBS) <= most, "{JOBS} jobs in {length:?}");

    // It can be changed while it holds.
    let change = TenantChange {
        jobs_max: Some(JOBS + 1),
        ..TenantChange::default()
    };
    admin.update_tenant("full", change).await.unwrap();
    let client = client_of(&cluster, "full", LONG);
    client.enqueue_raw(job(), Enqueue::new()).await.unwrap();
    cluster.agree().await;
}
