//! Commands per second through the handle on a three-node cluster in this process, all on one disk.
//!
//! `cargo run --release -p muster-raft --example raft_speed [seconds] [leader|follower]`

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use muster_core::{Command, JobId, JobOptions, JobSpec, NodeId, Payload, SessionId};
use muster_raft::{AppliedEntry, ApplySink, MemberConfig, Raft, RaftOptions};
use muster_store::{Store, StoreOptions};

struct Deaf;

impl ApplySink for Deaf {
    fn applied(&self, _applied: &AppliedEntry) {}
    fn restored(&self) {}
    fn vouched(&self, _from: NodeId, _sessions: &[SessionId]) {}
}

fn command(id: u128) -> Command {
    let spec = JobSpec {
        id: JobId(id),
        tenant: "default".into(),
        queue: "mail".into(),
        kind: "send".into(),
        schema_version: 1,
        payload: Payload {
            data: format!(
                "{{\"to\":\"user-{id}@example.org\",\"template\":\"welcome\",\"n\":{}}}",
                id * 7919
            )
            .into(),
            ..Payload::default()
        },
        priority: Default::default(),
        available_at: 0,
        idempotency_key: None,
        ordering: None,
        options: JobOptions::default(),
        metadata: Vec::new(),
        seed: id as u64,
        origin: Default::default(),
        history_searched: u64::MAX,
    };
    Command::Enqueue(spec.into())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(4, |text| text.parse().expect("seconds"));
    let through = arguments.next().unwrap_or_else(|| "leader".to_owned());
    let dir = tempfile::TempDir::new().unwrap();
    println!(
        "disk: {:.0} synced 4 KiB writes/s",
        muster_store::disk_sync_rate(dir.path()).unwrap()
    );
    let listeners: Vec<_> = (1..=3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let members: Vec<_> = (1..)
        .zip(&listeners)
        .map(|(id, listener)| MemberConfig {
            id,
            peer: listener.local_addr().unwrap().to_string(),
            api: String::new(),
        })
        .collect();
    let starting = (1..).zip(listeners).map(|(id, listener)| {
        let store = Store::open(StoreOptions::new(dir.path().join(format!("node-{id}")))).unwrap();
        let options = RaftOptions::new(id, members.clone());
        async move { Raft::start(options, store, Arc::new(Deaf), listener).await.unwrap() }
    });
    let nodes = futures::future::join_all(starting).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let leader = loop {
        if let Some(node) = nodes.iter().position(|node| node.role().borrow().is_leader()) {
            break node;
        }
        assert!(Instant::now() < deadline, "no leader");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let raft = if through == "leader" {
        &nodes[leader]
    } else {
        &nodes[(leader + 1) % 3]
    };
    println!(
        "{:>9} {:>12} {:>9} {:>9} {:>14}",
        "proposers", "commands/s", "p50 ms", "p99 ms", "commands/entry"
    );
    for proposers in [1, 64, 512, 2048] {
        measure(raft, proposers, Duration::from_secs(seconds)).await;
    }
    for node in &nodes {
        node.shutdown().await;
    }
    for node in nodes {
        let store = node.store().clone();
        drop(node);
        store.close().unwrap();
    }
}

async fn measure(raft: &Raft, proposers: u64, span: Duration) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (entries, begun) = (raft.status().last_log_index, Instant::now());
    let tasks: Vec<_> = (0..proposers)
        .map(|_| {
            let (raft, stop) = (raft.clone(), stop.clone());
            tokio::spawn(async move {
                let mut micros = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = NEXT.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
                    raft.propose(command(u128::from(id)), deadline).await.expect("a reply");
                    micros.push(sent.elapsed().as_micros() as u64);
                }
                micros
            })
        })
        .collect();
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for task in tasks {
        for micros in task.await.unwrap() {
            histogram.record(micros).unwrap();
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let entries = (raft.status().last_log_index - entries).max(1);
    println!(
        "{proposers:>9} {:>12.0} {:>9.2} {:>9.2} {:>14.1}",
        histogram.len() as f64 / took,
        histogram.value_at_quantile(0.5) as f64 / 1e3,
        histogram.value_at_quantile(0.99) as f64 / 1e3,
        histogram.len() as f64 / entries as f64,
    );
}
