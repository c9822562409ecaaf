//! How long a node takes to join and to replace another, and what acknowledged enqueues notice of it:
//! `cargo run --release -p muster-tests --example membership_times -- --jobs 100000 --runs 5`. Prints; asserts nothing.

#![allow(clippy::expect_used, reason = "a measurement that cannot go on ends")]

use std::time::{Duration, Instant};

use clap::Parser;
use muster_client::{Client, Enqueue, NewNode, RawJob};
use muster_tests::{Call, Cluster, PacedLoad, eventually};

const LONG: Duration = Duration::from_mins(3);
/// Of undisturbed load before and after.
const QUIET: Duration = Duration::from_secs(4);
/// Between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Parser)]
struct Args {
    /// Jobs in the queue beforehand, 256 bytes each.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Callers at once; each waits 10 ms between two calls.
    #[arg(long, default_value_t = 8)]
    callers: u32,
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

fn job() -> RawJob {
    RawJob::new("measured", vec![7; 256])
}

/// Calls that were under way between two points in time.
fn show(name: &str, calls: &[Call], from: Instant, to: Instant) {
    let within = calls.iter().filter(|call| call.begin < to && call.end() > from);
    let mut times: Vec<_> = within.map(|call| call.took.as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get(((times.len() - 1) as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "  {name:16} {:>7.2} s {:>6} calls {:>7.1}/s  p50 {:>6.2}  p99 {:>7.2}  max {:>7.2} ms",
        (to - from).as_secs_f64(),
        times.len(),
        times.len() as f64 / (to - from).as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Starts the prepared node and waits until its change is over.
async fn join(cluster: &mut Cluster, client: &Client, new: NewNode) -> (Instant, Instant) {
    let node = new.node_id;
    let token = client.create_join_token(&new).await.expect("a token");
    let begin = Instant::now();
    cluster.start_joining(node, &token.token);
    eventually("the node votes", LONG, || async {
        let status = client.cluster_status().await.ok()?;
        let last = status.last_change.filter(|change| change.node_id == node)?;
        assert!(last.is_done(), "{last:?}");
        Some(())
    })
    .await;
    (begin, Instant::now())
}

async fn run(args: &Args) {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let mut left = args.jobs;
    while left > 0 {
        let count = left.min(1_000);
        let jobs = (0..count).map(|_| (job(), Enqueue::new())).collect::<Vec<_>>();
        for enqueued in client.enqueue_many_raw(jobs).await {
            enqueued.expect("accepted");
        }
        left -= count;
    }
    let load = PacedLoad::start(&client, args.callers, PAUSE, &job());
    let begin = Instant::now();
    tokio::time::sleep(QUIET).await;
    let quiet = Instant::now();

    cluster.prepare_node(4);
    let add = NewNode {
        node_id: 4,
        ..NewNode::default()
    };
    let added = join(&mut cluster, &client, add).await;
    tokio::time::sleep(QUIET).await;

    let lost = cluster.follower().await;
    let lost = if lost == 4 { 3 } else { lost };
    cluster.kill(lost);
    cluster.wipe(lost);
    cluster.forget(lost);
    cluster.prepare_node(5);
    let replace = NewNode {
        node_id: 5,
        replaces: Some(lost),
        ..NewNode::default()
    };
    let replaced = join(&mut cluster, &client, replace).await;
    tokio::time::sleep(QUIET).await;
    let end = Instant::now();
    let calls = load.stop().await;
    show("before", &calls, begin, quiet);
    show("adding", &calls, added.0, added.1);
    show("then", &calls, added.1, added.1 + QUIET);
    show("replacing", &calls, replaced.0, replaced.1);
    show("then", &calls, replaced.1, end);
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for number in 1..=args.runs {
        println!("run {number}, {} jobs queued, {} callers", args.jobs, args.callers);
        runtime.block_on(run(&args));
    }
}
