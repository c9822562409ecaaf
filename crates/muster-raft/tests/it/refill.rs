//! Nodes that lost data come back, and do no harm meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::common::{Cluster, Node, enqueue, eventually, has, soon, start_store};
use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_proto::peer::peer_client::PeerClient;
use muster_raft::{Error, MemberConfig, wait_for_leader};
use muster_store::{DamagedStore, Store, StoreOptions};
use tonic::{Code, Request, Status};

/// A directory whose log cannot be opened any more.
fn damage(dir: &Path) {
    std::fs::write(dir.join("log/CURRENT"), "nonsense").unwrap();
    let found = Store::open(StoreOptions::new(dir)).unwrap_err();
    assert!(found.is_damage(), "{found}");
}

/// Puts the damaged data aside, without waiting for anybody.
fn empty(dir: &Path) -> Store {
    let store = DamagedStore::open(StoreOptions::new(dir)).unwrap().empty().unwrap();
    assert!(store.refilling());
    store
}

/// What a node does at its start: wait for the others, then be refilled.
async fn refill(cluster: &mut Cluster, id: NodeId) -> Node {
    let dir = cluster.data_dir(id);
    let held = DamagedStore::open(StoreOptions::new(&dir)).unwrap();
    let options = cluster.options(id);
    wait_for_leader(&options, held.identity().cluster, held.members(), "a test")
        .await
        .unwrap();
    start_store(options, cluster.listener(id), held.empty().unwrap())
        .await
        .unwrap()
}

async fn complete(node: &Node) {
    eventually("the refill is complete", || !node.store.refilling()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_follower_and_a_damaged_leader_are_refilled() {
    let mut cluster = Cluster::started(3).await;
    let mut next = 1;
    for aims_at_leader in [false, true] {
        let leader = cluster.leader().await;
        let victim = if aims_at_leader {
            leader
        } else {
            cluster.follower().await
        };
        for id in next..next + 20 {
            enqueue(cluster.raft(leader), id).await.unwrap();
        }
        next += 20;
        cluster.stop(victim).await;
        damage(&cluster.data_dir(victim));
        // More is acknowledged while it is away.
        let leader = cluster.leader().await;
        enqueue(cluster.raft(leader), next).await.unwrap();
        next += 1;
        let node = refill(&mut cluster, victim).await;
        cluster.nodes.insert(victim, node);
        complete(&cluster.nodes[&victim]).await;
        let raft = cluster.raft(victim);
        raft.linearize(soon()).await.unwrap();
        assert!(raft.read(|core| (1..next).all(|id| has(core, id))));
        let aside = cluster.data_dir(victim).join("damaged");
        eventually("the damaged data is removed", || !aside.exists()).await;
        // It takes part in full again: with one of the others gone it is needed for a majority.
        let leader = cluster.leader().await;
        let third = *cluster
            .nodes
            .keys()
            .find(|id| ![leader, victim].contains(id))
            .unwrap_or(&victim);
        cluster.stop(third).await;
        let leader = cluster.leader().await;
        enqueue(cluster.raft(leader), next).await.unwrap();
        next += 1;
        cluster.start_one(third).await.unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_whose_configuration_is_out_of_date_finds_the_members() {
    let mut cluster = Cluster::started(3).await;
    cluster.leader().await;
    let dir = cluster.data_dir(3);
    let noted = dir.join("members.json");
    eventually("the members are noted", || noted.exists()).await;
    cluster.stop(3).await;
    damage(&dir);
    let held = DamagedStore::open(StoreOptions::new(&dir)).unwrap();
    let id = held.identity().cluster;
    // All that it lists besides itself are gone; ports nobody listens on stand for them.
    let mut options = cluster.options(3);
    options.members.retain(|member| member.id == 3);
    for gone in [8, 9] {
        let address = format!("127.0.0.1:{gone}");
        options.members.push(MemberConfig {
            id: gone,
            peer: address.clone(),
            api: address,
        });
    }
    let waiting = wait_for_leader(&options, id, BTreeMap::new(), "a test");
    let waited = tokio::time::timeout(Duration::from_secs(2), waiting).await;
    assert!(
        waited.is_err(),
        "by its configuration alone it finds nobody: {waited:?}"
    );
    let found = wait_for_leader(&options, id, held.members(), "a test").await.unwrap();
    assert_eq!(found, cluster.leader().await);
    let node = start_store(options, cluster.listener(3), held.empty().unwrap())
        .await
        .unwrap();
    cluster.nodes.insert(3, node);
    complete(&cluster.nodes[&3]).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refill_after_a_purge_goes_by_snapshot() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    for id in 1..=50 {
        enqueue(cluster.raft(leader), id).await.unwrap();
    }
    for node in cluster.nodes.values() {
        let raft = node.raft.clone();
        eventually("all applied", || raft.read(|core| has(core, 50))).await;
        raft.snapshot().await.unwrap();
        let applied = *raft.applied().borrow();
        eventually("a snapshot", || raft.status().snapshot_index >= applied).await;
        raft.purge_log(applied).await.unwrap();
        eventually("a purge", || raft.status().purged_index >= applied).await;
    }
    let victim = cluster.follower().await;
    cluster.stop(victim).await;
    damage(&cluster.data_dir(victim));
    let node = refill(&mut cluster, victim).await;
    cluster.nodes.insert(victim, node);
    complete(&cluster.nodes[&victim]).await;
    let raft = cluster.raft(victim);
    raft.linearize(soon()).await.unwrap();
    assert!(raft.read(|core| (1..=50).all(|id| has(core, id))));
    assert!(raft.status().purged_index > 0);
    cluster.stop_all().await;
}

/// Asks a node that is being refilled to vote.
async fn ask(cluster: &Cluster, to: NodeId, id: u128) -> Vec<Status> {
    let peer = &cluster.members.iter().find(|member| member.id == to).unwrap().peer;
    let mut client = PeerClient::connect(format!("http://{peer}")).await.unwrap();
    let header = Some(wire::Header {
        cluster: Some(wire::ClusterId {
            high: (id >> 64) as u64,
            low: id as u64,
        }),
        group: 1,
        from: 1,
        to,
    });
    let vote = Some(wire::Vote {
        term: 1_000,
        node: 1,
        committed: false,
    });
    let last_log = Some(wire::LogId {
        term: 1_000,
        node: 1,
        index: 1_000,
    });
    let request = wire::VoteRequest {
        header,
        vote,
        last_log,
        leadership_transfer: true,
    };
    let transfer = wire::TransferLeaderRequest {
        header,
        from_leader: vote,
        to_node: to,
        last_log,
    };
    vec![
        client.vote(Request::new(request)).await.unwrap_err(),
        client.pre_vote(Request::new(request)).await.unwrap_err(),
        client.transfer_leader(Request::new(transfer)).await.unwrap_err(),
    ]
}

/// An entry that only one intact node and the damaged one had: the damaged one must not help the third to a majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_what_it_acknowledged_elects_nobody_without_it() {
    let mut cluster = Cluster::started(3).await;
    let behind = cluster.follower().await;
    cluster.stop(behind).await;
    let leader = cluster.leader().await;
    let damaged = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    enqueue(cluster.raft(leader), 7).await.unwrap();
    let id = cluster.raft(leader).status().cluster;
    cluster.stop(damaged).await;
    cluster.stop(leader).await;
    damage(&cluster.data_dir(damaged));

    // The two that lack the entry are a majority, and it must not count.
    let (options, listener) = (cluster.options(damaged), cluster.listener(damaged));
    let node = start_store(options, listener, empty(&cluster.data_dir(damaged)))
        .await
        .unwrap();
    cluster.nodes.insert(damaged, node);
    cluster.start_one(behind).await.unwrap();
    let raft = cluster.raft(behind).clone();
    let term = raft.status().term;
    for status in ask(&cluster, damaged, id).await {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("does not vote"), "{}", status.message());
    }
    // Longer than several elections take.
    let mut role = raft.role();
    let elected = tokio::time::timeout(Duration::from_secs(3), role.wait_for(|role| role.is_leader())).await;
    assert!(elected.is_err(), "elected without a majority of intact nodes");
    assert_eq!(raft.status().term, term, "a pre-vote is refused, too");
    assert!(cluster.nodes[&damaged].store.refilling());

    cluster.start_one(leader).await.unwrap();
    assert_eq!(cluster.leader().await, leader, "only it has the entry");
    complete(&cluster.nodes[&damaged]).await;
    for node in cluster.nodes.values() {
        node.raft.linearize(soon()).await.unwrap();
        assert!(node.raft.read(|core| has(core, 7)));
    }
    cluster.stop_all().await;
}

/// The one that remains does not lead, so the damaged ones throw nothing away and wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_majority_waits_and_keeps_its_data() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    enqueue(cluster.raft(leader), 1).await.unwrap();
    let id = cluster.raft(1).status().cluster;
    cluster.stop_all().await;
    for victim in [2, 3] {
        damage(&cluster.data_dir(victim));
    }
    cluster.start_one(1).await.unwrap();
    let (second, third) = (cluster.options(2), cluster.options(3));
    let waiting = async {
        tokio::select! {
            found = wait_for_leader(&second, id, BTreeMap::new(), "a test") => found,
            found = wait_for_leader(&third, id, BTreeMap::new(), "a test") => found,
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(3), waiting).await;
    assert!(waited.is_err(), "nobody can lead: {waited:?}");
    for victim in [2, 3] {
        assert!(cluster.data_dir(victim).join("log/CURRENT").exists());
        assert!(!cluster.data_dir(victim).join("damaged").exists());
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_refill_goes_on_and_a_lone_node_cannot_be_refilled() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    for id in 1..=30 {
        enqueue(cluster.raft(leader), id).await.unwrap();
    }
    let victim = cluster.follower().await;
    cluster.stop(victim).await;
    damage(&cluster.data_dir(victim));
    // It was emptied, and then the process died.
    empty(&cluster.data_dir(victim)).close().unwrap();
    cluster.start_one(victim).await.unwrap();
    complete(&cluster.nodes[&victim]).await;
    cluster.raft(victim).linearize(soon()).await.unwrap();
    assert!(cluster.raft(victim).read(|core| (1..=30).all(|id| has(core, id))));
    cluster.stop_all().await;

    let alone = Cluster::new(1);
    let refused = wait_for_leader(&alone.options(1), 7, BTreeMap::new(), "its log is gone").await;
    assert!(
        matches!(refused, Err(Error::NobodyToRefillFrom { node: 1, .. })),
        "{refused:?}"
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Nothing in the directory tells that it is old; the others know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_whole_directory_is_refused() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    enqueue(cluster.raft(leader), 1).await.unwrap();
    for victim in [cluster.follower().await, leader] {
        cluster.stop(victim).await;
        let (dir, older) = (cluster.data_dir(victim), cluster.data_dir(victim + 100));
        copy(&dir, &older);
        cluster.start_one(victim).await.unwrap();
        let leader = cluster.leader().await;
        enqueue(cluster.raft(leader), u128::from(victim) + 10).await.unwrap();
        cluster.raft(victim).linearize(soon()).await.unwrap();
        // A read at the victim proves that it has the entry, not that its answer to the leader arrived. Without the answer nobody counted
        // on its copy, and the older directory would rightly be accepted.
        eventually("the leader knows what the victim has", || {
            let status = cluster.raft(leader).status();
            let matched = status.matched.iter().find(|(node, _)| *node == victim);
            matched.is_some_and(|(_, index)| *index == status.last_log_index)
        })
        .await;
        cluster.stop(victim).await;
        let leader = cluster.leader().await;
        enqueue(cluster.raft(leader), u128::from(victim) + 20).await.unwrap();

        let newer = cluster.data_dir(victim + 200);
        std::fs::rename(&dir, &newer).unwrap();
        std::fs::rename(&older, &dir).unwrap();
        let known: Vec<_> = cluster.nodes.values().map(|node| node.raft.status()).collect();
        let refused = cluster.start_one(victim).await;
        assert!(
            matches!(&refused, Err(Error::RolledBack { node, .. }) if *node == victim),
            "{victim}: {refused:?}, {known:?}"
        );
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::rename(&newer, &dir).unwrap();
        cluster.start_one(victim).await.unwrap();
        cluster.raft(victim).linearize(soon()).await.unwrap();
    }
    cluster.stop_all().await;
}
