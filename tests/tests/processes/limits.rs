//! Limits of a real cluster: exact while leaders are killed and workers come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use muster_client::{
    Client, Context, Enqueue, Enqueued, JobError, JobInfo, JobState, Limit, LimitLevel, LimitSelector, LimiterState,
    NewTenant, RateLimit, RawJob, RawPayload, Worker,
};
use muster_proto::v1::LeasedJob;
use muster_proto::v1::report_ack::Result as Ack;
use muster_tests::{Cluster, Ledger, RawWorker, Working, eventually, wait_for_ends};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(40);

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

fn rule(level: LimitLevel, names: &str) -> Limit {
    Limit::new(LimitSelector::new(level, names))
}

fn ms(time: Option<SystemTime>) -> u128 {
    let since = time.expect("the job has run").duration_since(UNIX_EPOCH);
    since.unwrap().as_millis()
}

async fn jobs_of(client: &Client, enqueued: Vec<Enqueued>) -> Vec<JobInfo> {
    let mut jobs = Vec::new();
    for enqueued in enqueued {
        jobs.push(client.get(enqueued.id).await.unwrap());
    }
    jobs
}

/// Asserts that no window has more tokens than the limit has for it, and returns how long all of it took.
fn check_rate(what: &str, rate: RateLimit, mut starts: Vec<(u128, u128)>) -> Duration {
    starts.sort_unstable();
    for first in 0..starts.len() {
        let mut tokens = 0;
        for (at, cost) in &starts[first..] {
            tokens += cost;
            let length = at - starts[first].0;
            let over = tokens.saturating_sub(u128::from(rate.burst));
            assert!(
                over * rate.period.as_millis() <= u128::from(rate.count) * length,
                "{what}: {tokens} tokens in {length} ms"
            );
        }
    }
    let length = starts[starts.len() - 1].0 - starts[0].0;
    Duration::from_millis(u64::try_from(length).unwrap())
}

/// Asserts that no more than `limit` of the jobs ran at one time. A job may start at the instant at which another ends.
fn check_concurrency(what: &str, limit: i32, jobs: &[&JobInfo]) {
    let ends = jobs.iter().map(|job| (ms(job.ended_at), false));
    let starts = jobs.iter().map(|job| (ms(job.started_at), true));
    let mut edges: Vec<_> = ends.chain(starts).collect();
    edges.sort_unstable();
    let mut running = 0;
    for (at, begins) in edges {
        running += if begins { 1 } else { -1 };
        assert!(running <= limit, "{what}: {running} ran at {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_and_concurrency_hold_through_kills_of_the_leader() {
    const JOBS: usize = 240;
    const ACCOUNTS: usize = 4;
    let whole = RateLimit {
        count: 40,
        period: SECOND,
        burst: 10,
    };
    let api = RateLimit {
        count: 15,
        period: SECOND,
        burst: 5,
    };
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.create_tenant(NewTenant::new("limited")).await.unwrap();
    let limited = client.with_tenant("limited").unwrap();
    for rule in [
        rule(LimitLevel::Tenant, "*").rate(whole),
        rule(LimitLevel::Key, "api").rate(api),
        rule(LimitLevel::Key, "account:*").concurrency(2),
    ] {
        limited.set_limit(&rule).await.unwrap();
    }
    // Every third job calls the service, for one to three tokens; the others are of an account.
    let cost = |number: usize| 1 + number as u32 % 3;
    let options = |number: usize| match number % 3 {
        0 => Enqueue::new().limit_key_costing("api", cost(number / 3)),
        _ => Enqueue::new().limit_key(format!("account:{}", number % ACCOUNTS)),
    };
    let jobs = (0..JOBS).map(|number| (job("limited"), options(number)));
    let enqueued = limited.enqueue_all(jobs).await.unwrap();
    let ledger = Ledger::default();
    let worker = Working::start(&limited, "limited", 50, Duration::from_millis(40), &ledger);
    for part in [1, 2] {
        eventually("a part has run", LONG, || async {
            (ledger.all().len() > JOBS * part / 3).then_some(())
        })
        .await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        eventually("the cluster serves", LONG, || async {
            limited.limits(false).await.ok()
        })
        .await;
        cluster.start_node(leader);
    }
    wait_for_ends(&limited, JOBS).await;
    worker.stop().await;

    let jobs = jobs_of(&limited, enqueued).await;
    let starts = jobs.iter().map(|job| (ms(job.started_at), 1));
    check_rate("the tenant", whole, starts.collect());
    let calls = jobs.iter().step_by(3).enumerate();
    let calls = calls.map(|(number, job)| (ms(job.started_at), u128::from(cost(number))));
    let length = check_rate("api", api, calls.collect());
    for account in 0..ACCOUNTS {
        let of = |number: usize| !number.is_multiple_of(3) && number % ACCOUNTS == account;
        let jobs = jobs.iter().enumerate().filter(|(number, _)| of(*number));
        let jobs: Vec<_> = jobs.map(|(_, job)| job).collect();
        check_concurrency(&format!("account {account}"), 2, &jobs);
    }
    // And the limit is used: 160 tokens take 10.3 s, two elections of about a second apart.
    assert!(length < 20 * SECOND, "the last call began after {length:?}");
    cluster.agree().await;
}

/// What eleven workers did.
#[derive(Default)]
struct Blips {
    /// Nodes whose workers run a job now, by fence.
    holders: Mutex<Vec<(u64, u64)>>,
    begun: AtomicUsize,
    refused: AtomicUsize,
}

impl Blips {
    fn begins(&self, node: u64, job: &LeasedJob) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.holders.lock().unwrap().push((node, job.fence));
    }

    fn ends(&self, job: &LeasedJob) {
        self.holders.lock().unwrap().retain(|(_, fence)| *fence != job.fence);
    }

    fn answered(&self, ack: Ack) {
        self.refused
            .fetch_add(usize::from(ack == Ack::LeaseLost), Ordering::Relaxed);
    }

    fn runs_at(&self, node: u64) -> bool {
        self.holders.lock().unwrap().iter().any(|(at, _)| *at == node)
    }

    async fn others_go_on(&self) {
        let before = self.begun.load(Ordering::Relaxed);
        eventually("others go on", LONG, || async {
            (self.begun.load(Ordering::Relaxed) > before + 2).then_some(())
        })
        .await;
    }
}

/// Runs jobs one at a time in sessions at one node. What could not be reported in one session is reported in the next.
async fn work_at(address: String, blips: Arc<Blips>) {
    let mut late: Option<LeasedJob> = None;
    loop {
        let Ok(mut worker) = RawWorker::try_open(&address, "default", "only", SECOND).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if let Some(job) = &late {
            let Ok(ack) = worker.try_succeed(&job.id, job.fence).await else {
                continue;
            };
            blips.answered(ack);
            late = None;
        }
        while worker.try_credit(1).await.is_ok() {
            let Ok(job) = worker.next_job().await else { break };
            blips.begins(worker.node, &job);
            tokio::time::sleep(Duration::from_millis(250)).await;
            let answer = worker.try_succeed(&job.id, job.fence).await;
            blips.ends(&job);
            let Ok(ack) = answer else {
                late = Some(job);
                break;
            };
            blips.answered(ack);
        }
    }
}

/// A node stands still for longer than its workers' sessions live: their jobs go to others, and their reports come all the
/// same. Limiters that are given back by whoever ends let one more job run after each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blips_of_heartbeats_let_no_more_than_one_run() {
    const JOBS: usize = 40;
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    client
        .set_limit(&rule(LimitLevel::Key, "only").concurrency(1))
        .await
        .unwrap();
    let blips = Arc::new(Blips::default());
    let workers: Vec<_> = (0..11)
        .map(|number| tokio::spawn(work_at(cluster.address(1 + number % 3), Arc::clone(&blips))))
        .collect();
    let jobs = (0..JOBS).map(|_| (job("only"), Enqueue::new().limit_key("only")));
    let enqueued = client.enqueue_all(jobs).await.unwrap();

    let most = Arc::new(AtomicU64::new(0));
    let looks = tokio::spawn({
        let (client, most) = (client.clone(), Arc::clone(&most));
        async move {
            loop {
                if let Ok(limiter) = client.explain_limit(LimitLevel::Key, "only").await {
                    most.fetch_max(limiter.running, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    for _ in 0..3 {
        let node = cluster.follower().await;
        eventually("a worker at the node has the job", LONG, || async {
            blips.runs_at(node).then_some(())
        })
        .await;
        cluster.pause(node);
        blips.others_go_on().await;
        cluster.resume(node);
        blips.others_go_on().await;
    }
    let leader = cluster.leader().await;
    cluster.kill(leader);
    blips.others_go_on().await;
    cluster.start_node(leader);
    wait_for_ends(&client, JOBS).await;
    looks.abort();
    for worker in &workers {
        worker.abort();
    }

    let jobs = jobs_of(&client, enqueued).await;
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
    check_concurrency("the key", 1, &jobs.iter().collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::Relaxed), 1, "most that the limiter ever counted");
    let crashes: u32 = jobs.iter().map(|job| job.crashes).sum();
    let refused = blips.refused.load(Ordering::Relaxed);
    assert!(
        crashes > 0 && refused > 0,
        "no lease was lost: {crashes} crashes, {refused} refused"
    );
    let limiter = client.explain_limit(LimitLevel::Key, "only").await.unwrap();
    assert_eq!(
        (limiter.running, limiter.waiting, limiter.state),
        (0, 0, LimiterState::Open)
    );
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_key_stays_closed_through_a_kill_of_the_leader() {
    const WAIT: Duration = Duration::from_secs(10);
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let throttled = Arc::new(AtomicBool::new(false));
    let handler = {
        let throttled = Arc::clone(&throttled);
        move |_: RawPayload, context: Context| {
            let first = context.limit_keys() == ["api"] && !throttled.swap(true, Ordering::Relaxed);
            async move {
                if first {
                    return Err(JobError::throttled("api", WAIT));
                }
                Ok(Bytes::new())
            }
        }
    };
    // One at a time, so that nothing of the key has started when the first one finds it throttled. If its session was on
    // the node that is killed, the room that it had there is gone after its time to live.
    let worker = Worker::builder(&client)
        .concurrency(1)
        .session_ttl(SECOND)
        .raw_handler("call", handler);
    let worker = Working::run(worker.build().unwrap());
    let calls = (0..10).map(|_| (job("call"), Enqueue::new().limit_key("api")));
    let calls = client.enqueue_all(calls).await.unwrap();
    let limiter = eventually("the key is closed", LONG, || async {
        let limiter = client.explain_limit(LimitLevel::Key, "api").await.ok()?;
        (limiter.state == LimiterState::Throttled).then_some(limiter)
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let others = (0..10).map(|_| (job("call"), Enqueue::new().limit_key("other")));
    let others = client.enqueue_all(others).await.unwrap();
    wait_for_ends(&client, 20).await;
    worker.stop().await;
    let opens = ms(limiter.opens_at);
    let calls = jobs_of(&client, calls).await;
    let first = calls.iter().map(|job| ms(job.started_at)).min().unwrap();
    assert!(first >= opens, "a call began {} ms early", opens - first);
    assert!(first < opens + 2_000, "the first call began {} ms late", first - opens);
    assert!(
        calls.iter().all(|job| job.attempts == 1),
        "throttled attempts do not count"
    );
    let others = jobs_of(&client, others).await;
    let last = others.iter().map(|job| ms(job.ended_at)).max().unwrap();
    assert!(last < opens, "jobs of another key were held up");
    cluster.start_node(leader);
    cluster.agree().await;
}
