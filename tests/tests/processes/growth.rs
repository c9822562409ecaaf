//! A cluster that grows and shrinks, and nodes that are drained, while work goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster_client::{Client, ClusterStatus, Enqueue, JobState, RawJob};
use muster_tests::{Cluster, Ledger, RawWorker, Running, Working, assert_same, eventually, states, wait_for_ends};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_mins(1);

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

async fn token_of(command: &Running) -> String {
    eventually("a token", LONG, || async {
        let said = command.said();
        let (_, rest) = said.split_once("MUSTER_JOIN=")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
    .await
}

/// Callers that enqueue until told to stop.
struct Load {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut callers = Vec::new();
        for caller in 0..6 {
            // They begin at the first nodes, two of which will go.
            let client = cluster.client_at(1 + caller % 3).await;
            let (over, acknowledged) = (over.clone(), acknowledged.clone());
            callers.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let enqueued = client.enqueue_raw(job("load"), Enqueue::new()).await;
                    ids.push(enqueued.expect("done within 30 s").id.to_string());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                ids
            }));
        }
        Self {
            over,
            acknowledged,
            callers,
        }
    }

    /// Waits until so many more calls were acknowledged: the cluster works.
    async fn goes_on(&self) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        eventually("calls are acknowledged", LONG, || async {
            (self.acknowledged.load(Ordering::Relaxed) > before + 50).then_some(())
        })
        .await;
    }

    async fn stop(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut ids = BTreeSet::new();
        for caller in self.callers {
            ids.extend(caller.await.expect("all calls were done"));
        }
        ids
    }
}

/// Kills the leader as soon as the change of a node is seen, and starts it again. A quick change may be over by then.
async fn kill_leader_in_the_change(cluster: &mut Cluster, node: u64) {
    let leader = eventually("the change", LONG, || async {
        for id in cluster.ids() {
            let Some(status) = cluster.status(id).await else {
                continue;
            };
            let mut changes = status.change.iter().chain(&status.last_change);
            if status.leader_id == Some(id) && changes.any(|change| change.node_id == node) {
                return Some(id);
            }
        }
        None
    })
    .await;
    cluster.kill(leader);
    cluster.start_node(leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_three_nodes_to_five_and_back_nothing_is_lost() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ledger = Ledger::default();
    let workers = [1, 2].map(|_| Working::start(&client, "load", 16, Duration::from_millis(5), &ledger));
    let load = Load::start(&cluster).await;
    load.goes_on().await;

    for id in [4, 5] {
        cluster.prepare_node(id);
        let line = format!("cluster add {id} --api {} --peer {}", cluster.api(id), cluster.peer(id));
        let adding = cluster.begin(&line);
        let token = token_of(&adding).await;
        cluster.start_joining(id, &token);
        kill_leader_in_the_change(&mut cluster, id).await;
        adding.end().await.good();
        load.goes_on().await;
    }
    let five = cluster.status(cluster.leader().await).await.unwrap();
    assert_eq!(five.members.len(), 5);
    // A leader that goes, and a node whose removal another leader completes.
    for round in 0..2 {
        let leader = cluster.leader().await;
        let node = if round == 0 {
            leader
        } else {
            *cluster.ids().iter().find(|id| **id < 4 && **id != leader).unwrap()
        };
        let removing = cluster.begin(&format!("cluster remove {node}"));
        if round == 1 {
            kill_leader_in_the_change(&mut cluster, node).await;
        }
        removing.end().await.good();
        let exit = cluster.exit(node).await;
        assert_eq!(exit.code, Some(4), "{}", exit.stderr);
        cluster.forget(node);
        load.goes_on().await;
    }

    let ids = load.stop().await;
    wait_for_ends(&client, ids.len()).await;
    let found = states(&client).await;
    assert_same(&found, &ids);
    assert!(found.iter().all(|(_, state)| *state == JobState::Succeeded));
    let runs = ledger.all();
    assert_eq!(runs.len(), ids.len(), "every job ran");
    for (id, runs) in &runs {
        let grow = runs.windows(2).all(|pair| pair[0].fence < pair[1].fence);
        assert!(grow, "{id}: tokens grow: {runs:?}");
    }
    for worker in workers {
        worker.stop().await;
    }
    cluster.agree().await;
    let three = members_everywhere(&cluster).await;
    assert_eq!(three.len(), 3);
}

/// Ids of the members, which all nodes must agree on, none half-way.
async fn members_everywhere(cluster: &Cluster) -> Vec<u64> {
    let mut views = Vec::new();
    for id in cluster.ids() {
        let status = cluster.status(id).await.unwrap();
        assert!(!status.joint && status.change.is_none(), "{status:?}");
        assert!(
            status.members.iter().all(|member| member.role != "learner"),
            "{status:?}"
        );
        views.push(status.members.iter().map(|member| member.node_id).collect::<Vec<_>>());
    }
    views.dedup();
    assert_eq!(views.len(), 1, "{views:?}");
    assert_eq!(views[0], {
        let mut ids = cluster.ids();
        ids.sort_unstable();
        ids
    });
    views.remove(0)
}

async fn leaders_view(cluster: &Cluster) -> ClusterStatus {
    let leader = cluster.leader().await;
    cluster.status(leader).await.unwrap()
}

fn sessions(status: &ClusterStatus, node: u64) -> u32 {
    let member = status.members.iter().find(|member| member.node_id == node);
    member.map_or(0, |member| member.worker_sessions)
}

async fn fill(client: &Client, kind: &str, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        ids.insert(
            client
                .enqueue_raw(job(kind), Enqueue::new())
                .await
                .unwrap()
                .id
                .to_string(),
        );
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_gives_up_the_lead_and_its_workers_and_no_attempt_is_lost() {
    const JOBS: usize = 60;
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let leader = cluster.leader().await;
    let ledger = Ledger::default();
    // Workers that begin at the leader, so that it has sessions.
    let at_leader = cluster.client_at(leader).await;
    let workers = [1, 2, 3].map(|_| Working::start(&at_leader, "slow", 4, Duration::from_millis(400), &ledger));
    let ids = fill(&client, "slow", JOBS).await;
    let busy = eventually("a node with sessions and work", LONG, || async {
        let status = leaders_view(&cluster).await;
        let busy = status.members.iter().find(|member| member.worker_sessions > 0)?;
        (status.running >= 8).then_some(busy.node_id)
    })
    .await;

    let drained = cluster
        .muster(&format!("cluster drain {busy} --note \"new kernel\""))
        .await
        .good();
    assert!(
        drained.stdout.contains(&format!("muster cluster undrain {busy}")),
        "{drained:?}"
    );
    let status = leaders_view(&cluster).await;
    assert_ne!(status.leader_id, Some(busy));
    assert_eq!(sessions(&status, busy), 0);
    let shown = cluster.muster("cluster status").await.good();
    assert!(shown.stdout.contains("new kernel"), "{shown:?}");
    wait_for_ends(&client, JOBS).await;
    assert_same(&states(&client).await, &ids);
    for (id, runs) in ledger.all() {
        assert_eq!(runs.len(), 1, "{id} ran more than once: {runs:?}");
        assert_eq!(
            (runs[0].attempt, client.get(id.parse().unwrap()).await.unwrap().attempts),
            (1, 1)
        );
    }

    // It stays so through a restart, takes no worker, does not lead.
    cluster.terminate(busy).await;
    cluster.start_node(busy);
    cluster.agree().await;
    let refused = RawWorker::try_open(&cluster.address(busy), "default", "slow", 2 * SECOND).await;
    let refused = refused.err().expect("a drained node takes no sessions");
    assert!(refused.contains("drained"), "{refused}");
    cluster
        .muster(&format!("cluster transfer-leader {busy}"))
        .await
        .bad(&["CANNOT_LEAD", "drained"]);
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let next = eventually("another leader", LONG, || async {
        let mut leaders = Vec::new();
        for id in cluster.ids().into_iter().filter(|id| *id != leader) {
            leaders.push(cluster.status(id).await?.leader_id?);
        }
        leaders.dedup();
        (leaders.len() == 1 && leaders[0] != leader).then_some(leaders[0])
    })
    .await;
    assert_ne!(next, busy, "a drained node leads only if nobody else can");
    cluster.start_node(leader);
    cluster.agree().await;

    cluster.muster(&format!("cluster undrain {busy}")).await.good();
    let worker = RawWorker::open(&cluster.address(busy), "default", "slow", 2 * SECOND).await;
    assert_eq!(worker.node, busy);
    cluster.muster(&format!("cluster transfer-leader {busy}")).await.good();
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_hands_its_workers_over_first() {
    const JOBS: usize = 40;
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let node = cluster.follower().await;
    let ledger = Ledger::default();
    let at_node = cluster.client_at(node).await;
    let worker = Working::start(&at_node, "slow", 8, Duration::from_millis(400), &ledger);
    let ids = fill(&client, "slow", JOBS).await;
    let busy = eventually("a node with sessions and work", LONG, || async {
        let status = leaders_view(&cluster).await;
        let busy = status.members.iter().find(|member| member.worker_sessions > 0)?;
        (status.running >= 4).then_some(busy.node_id)
    })
    .await;
    cluster.muster(&format!("cluster remove {busy}")).await.good();
    assert_eq!(cluster.exit(busy).await.code, Some(4));
    cluster.forget(busy);
    wait_for_ends(&client, JOBS).await;
    assert_same(&states(&client).await, &ids);
    for (id, runs) in ledger.all() {
        assert_eq!(runs.len(), 1, "{id} ran more than once: {runs:?}");
    }
    worker.stop().await;
    cluster.agree().await;
}
