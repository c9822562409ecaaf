//! Overload of a real cluster: memory stays below its bound, the greedy tenant is refused and not the modest one, workers go on
//! reporting, and all of it ends by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_client::{Client, Context, Enqueue, JobError, NewTenant, RawJob, RawPayload, Worker};
use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::{Cluster, RawWorker, Working, eventually};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;

const LONG: Duration = Duration::from_mins(1);
/// Bound on the memory of each process.
const MEMORY_LIMIT: u64 = 512 << 20;
const PAYLOAD: usize = 16 << 10;
/// Jobs of one call: 1 MiB.
const CALL: usize = 64;
/// Producers of the greedy tenant on each node. They come back at once, whatever they are told.
const FLOODS: usize = 8;
/// Worker time of each of its jobs, and how many it does at once: 200 a second at most.
const PAUSE: Duration = Duration::from_millis(10);
const SLOW: u32 = 2;
/// The flood ends when so many of its jobs were refused, and each follower's worker reported so often meanwhile.
const REFUSED: u64 = 50_000;
const REPORTED: u64 = 50;
/// After the backlog is gone, jobs are accepted again within this time.
const RECOVERY: Duration = Duration::from_secs(5);

fn client_of(cluster: &Cluster, tenant: &str) -> Client {
    let client = Client::builder().addresses(cluster.addresses()).tenant(tenant);
    client.deadline(LONG).connect_lazy().unwrap()
}

/// The most memory that a process ever had resident, in bytes, as its kernel noted it.
fn resident_most(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.expect("a number") * 1024
}

/// Works for the client's tenant, each job for `pause`.
fn work(client: &Client, concurrency: u32, pause: Duration) -> Working {
    let handler = move |_: RawPayload, _: Context| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, JobError>(Bytes::new())
    };
    let worker = Worker::builder(client).concurrency(concurrency);
    Working::run(worker.raw_handler("load", handler).build().unwrap())
}

/// What became of the greedy tenant's jobs.
#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    stop: AtomicBool,
}

impl Counts {
    fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// Offers jobs to one node, call after call, and holds every refusal against what is promised of it.
struct Flood {
    jobs: JobServiceClient<Channel>,
    /// Bytes of each job.
    payload: usize,
    /// Does not compress.
    noise: Bytes,
    random: StdRng,
    counts: Arc<Counts>,
}

impl Flood {
    async fn new(address: String, seed: u64, counts: &Arc<Counts>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut noise = vec![0; 4 << 20];
        random.fill_bytes(&mut noise);
        Self {
            jobs: JobServiceClient::connect(address).await.expect("the node serves"),
            payload: PAYLOAD,
            noise: noise.into(),
            random,
            counts: Arc::clone(counts),
        }
    }

    fn job(&mut self) -> v1::JobSpec {
        let from = self.random.random_range(0..self.noise.len() - self.payload);
        v1::JobSpec {
            kind: "load".into(),
            payload: Some(v1::Payload {
                data: self.noise.slice(from..from + self.payload),
                ..v1::Payload::default()
            }),
            ..v1::JobSpec::default()
        }
    }

    /// One call; how many of its jobs were accepted.
    async fn offer(&mut self, jobs: usize) -> u64 {
        let jobs: Vec<_> = (0..jobs).map(|_| self.job()).collect();
        let offered = jobs.len() as u64;
        let mut request = Request::new(v1::EnqueueManyRequest {
            jobs,
            ..v1::EnqueueManyRequest::default()
        });
        let tenant = MetadataValue::from_static("greedy");
        request.metadata_mut().insert("muster-tenant", tenant);
        let count = |count: &AtomicU64, jobs| count.fetch_add(jobs, Ordering::Relaxed);
        count(&self.counts.offered, offered);
        match self.jobs.enqueue_many(request).await {
            Ok(answer) => {
                let mut accepted = 0;
                for result in answer.into_inner().results {
                    match result.result.expect("a result") {
                        v1::enqueue_result::Result::Job(_) => accepted += 1,
                        v1::enqueue_result::Result::Error(error) => {
                            assert_eq!(error.code, Code::ResourceExhausted as i32, "{error:?}");
                            assert_eq!(error.reason, "MEMORY_FULL", "{error:?}");
                            assert!(error.retry_after.is_some(), "{error:?}");
                            assert!(error.message.contains("memory_limit"), "{error:?}");
                            count(&self.counts.refused, 1);
                        }
                    }
                }
                count(&self.counts.accepted, accepted);
                accepted
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                let details = status.get_error_details();
                let info = details.error_info().expect("facts");
                assert!(
                    ["MEMORY_FULL", "OVERLOADED"].contains(&info.reason.as_str()),
                    "{status:?}"
                );
                for fact in ["value", "limit"] {
                    let number = info.metadata.get(fact).map(|number| number.parse::<u64>());
                    assert!(matches!(number, Some(Ok(_))), "{fact}: {status:?}");
                }
                let after = details.retry_info().and_then(|info| info.retry_delay);
                assert!(after.is_some_and(|after| !after.is_zero()), "{status:?}");
                count(&self.counts.refused, offered);
                0
            }
            Err(status) => {
                // Only a deadline may leave a caller in doubt.
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
                count(&self.counts.unknown, offered);
                0
            }
        }
    }

    async fn run(mut self) {
        while !self.counts.stop.load(Ordering::Relaxed) {
            self.offer(CALL).await;
        }
    }
}

/// Does one job after the other on one node; how often it reported while jobs were refused, and the longest wait for an answer.
async fn report(mut worker: RawWorker, counts: Arc<Counts>, reports: Arc<AtomicU64>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !counts.stop.load(Ordering::Relaxed) {
        worker.credit(1).await;
        let job = worker.job(LONG).await;
        let asked = Instant::now();
        let result = worker.succeed(&job.id, job.fence, LONG).await;
        assert_eq!(result, v1::report_ack::Result::Accepted);
        if Counts::get(&counts.refused) > 0 {
            slowest = slowest.max(asked.elapsed());
            reports.fetch_add(1, Ordering::Relaxed);
        }
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_and_leaves_nothing_behind() {
    let tables = format!("\n[raft]\nmemory_limit = \"{}MiB\"\n", MEMORY_LIMIT >> 20);
    let cluster = Cluster::start_with(&tables).await;
    let admin = cluster.client().await;
    for tenant in ["greedy", "modest"] {
        admin.create_tenant(NewTenant::new(tenant)).await.unwrap();
    }
    let leader = cluster.leader().await;
    let followers: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let slow = work(&client_of(&cluster, "greedy"), SLOW, PAUSE);
    let counts = Arc::new(Counts::default());
    let mut reporting = Vec::new();
    for follower in &followers {
        let worker = RawWorker::open(&cluster.address(*follower), "modest", "load", LONG).await;
        let reports = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(report(worker, Arc::clone(&counts), Arc::clone(&reports)));
        reporting.push((reports, task));
    }
    let mut floods = Vec::new();
    for id in cluster.ids() {
        for at in 0..FLOODS {
            let flood = Flood::new(cluster.address(id), id * 100 + at as u64, &counts).await;
            floods.push(tokio::spawn(flood.run()));
        }
    }

    // The modest tenant brings in one job after the other, and none of them is refused for good.
    let modest = client_of(&cluster, "modest");
    let began = Instant::now();
    let (mut brought, mut slowest, mut used_most, mut limit) = (0, Duration::ZERO, 0, 0);
    let enough = |reports: &Arc<AtomicU64>| Counts::get(reports) >= REPORTED;
    while Counts::get(&counts.refused) < REFUSED || !reporting.iter().all(|(reports, _)| enough(reports)) {
        assert!(began.elapsed() < 3 * LONG, "the flood goes on for ever");
        let asked = Instant::now();
        let job = RawJob::new("load", &b"x"[..]);
        modest.enqueue_raw(job, Enqueue::new()).await.unwrap();
        brought += 1;
        slowest = slowest.max(asked.elapsed());
        let status = cluster.status(followers[0]).await.expect("it answers");
        limit = status.memory.limit_bytes;
        used_most = used_most.max(status.memory.used_bytes);
    }
    let length = began.elapsed();
    let done = admin.get_tenant("greedy").await.unwrap().totals.succeeded;
    counts.stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.await.unwrap();
    }
    // Its workers wait for one more job each.
    for _ in &followers {
        let job = RawJob::new("load", &b"x"[..]);
        modest.enqueue_raw(job, Enqueue::new()).await.unwrap();
    }
    let mut acknowledged = Vec::new();
    for (reports, task) in reporting {
        acknowledged.push((Counts::get(&reports), task.await.unwrap()));
    }
    let resident: Vec<_> = cluster
        .ids()
        .into_iter()
        .map(|id| resident_most(cluster.pid(id).unwrap()))
        .collect();
    let offered = Counts::get(&counts.offered);
    println!(
        "{length:?}: offered {offered} jobs, accepted {}, refused {}, unknown {}, done {done}; live jobs took up to {} KiB of {}; resident at most \
         {:?} MiB of {}; the modest tenant brought {brought}, the slowest in {slowest:?}; reports and slowest answer on followers {acknowledged:?}",
        Counts::get(&counts.accepted),
        Counts::get(&counts.refused),
        Counts::get(&counts.unknown),
        used_most >> 10,
        limit >> 10,
        resident.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
        MEMORY_LIMIT >> 20,
    );
    for (id, bytes) in cluster.ids().into_iter().zip(&resident) {
        assert!(*bytes < MEMORY_LIMIT, "node {id} had {bytes} bytes resident");
    }
    // Four fifths are the greedy tenant's, and it used them.
    assert!(used_most > limit / 4 * 3, "live jobs took {used_most} of {limit}");
    assert!(offered > 10 * done, "it was offered ten times what it can do");

    // Recovery: with workers that keep up the backlog goes, and each node takes jobs of the greedy tenant again.
    let strong = work(&client_of(&cluster, "greedy"), 200, Duration::from_millis(1));
    eventually("the backlog is gone", LONG, || async {
        let tenant = admin.get_tenant("greedy").await.ok()?;
        (tenant.live() == 0).then_some(())
    })
    .await;
    let drained = Instant::now();
    let mut more = 0;
    for id in cluster.ids() {
        let mut flood = Flood::new(cluster.address(id), id, &counts).await;
        while flood.offer(1).await == 0 {
            assert!(
                drained.elapsed() < RECOVERY,
                "node {id} refuses jobs though nothing waits"
            );
        }
        more += 1;
    }
    println!(
        "{more} nodes took jobs again {:?} after the backlog was gone",
        drained.elapsed()
    );

    // Nothing accepted is lost, and nothing came in that was not asked for.
    eventually("all jobs are done", LONG, || async {
        let tenant = admin.get_tenant("greedy").await.ok()?;
        (tenant.live() == 0).then_some(())
    })
    .await;
    let greedy = admin.get_tenant("greedy").await.unwrap();
    let (accepted, unknown) = (Counts::get(&counts.accepted), Counts::get(&counts.unknown));
    assert_eq!(greedy.totals.succeeded, greedy.totals.enqueued);
    assert!(
        (accepted..=accepted + unknown).contains(&greedy.totals.enqueued),
        "{accepted} acknowledged, {unknown} unknown, {} there",
        greedy.totals.enqueued
    );
    slow.stop().await;
    strong.stop().await;
    cluster.agree().await;
}

/// Calls nearly as large as they may be, and so many of them at once that they would fill the memory.
const LARGE_CALLS: u64 = 40;
const LARGE_PAYLOAD: usize = 1 << 20;
const LARGE_JOBS: usize = 15;
/// Each producer comes back so often.
const ROUNDS: usize = 5;
/// What a call has sent and the node has not read yet: its window, which is beside the bound.
const WINDOW: u64 = 4 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_calls_that_arrive_together_do_not_fill_the_memory() {
    let tables = format!("\n[raft]\nmemory_limit = \"{}MiB\"\n", MEMORY_LIMIT >> 20);
    let cluster = Cluster::start_with(&tables).await;
    let admin = cluster.client().await;
    admin.create_tenant(NewTenant::new("greedy")).await.unwrap();
    let leader = cluster.leader().await;
    let counts = Arc::new(Counts::default());
    let mut floods = Vec::new();
    for seed in 0..LARGE_CALLS {
        let mut flood = Flood::new(cluster.address(leader), seed, &counts).await;
        flood.payload = LARGE_PAYLOAD;
        floods.push(flood);
    }
    let calls = floods.into_iter().map(|mut flood| {
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                flood.offer(LARGE_JOBS).await;
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let resident: Vec<_> = cluster
        .ids()
        .into_iter()
        .map(|id| resident_most(cluster.pid(id).unwrap()))
        .collect();
    println!(
        "{LARGE_CALLS} producers offered {} jobs of 1 MiB, accepted {}, refused {}, unknown {}; resident at most {:?} MiB of {}, node {leader} leads",
        Counts::get(&counts.offered),
        Counts::get(&counts.accepted),
        Counts::get(&counts.refused),
        Counts::get(&counts.unknown),
        resident.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
        MEMORY_LIMIT >> 20,
    );
    for (id, bytes) in cluster.ids().into_iter().zip(&resident) {
        let windows = if id == leader { LARGE_CALLS * WINDOW } else { 0 };
        assert!(*bytes < MEMORY_LIMIT + windows, "node {id} had {bytes} bytes resident");
    }
    assert!(Counts::get(&counts.accepted) > 0 && Counts::get(&counts.refused) > 0);
}
