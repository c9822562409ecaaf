//! How clusters begin, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::common::{Cluster, enqueue, eventually, has, soon, start};
use muster_raft::{Error, RaftOptions};
use muster_store::{Identity, Store, StoreOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster() {
    let mut cluster = Cluster::started(1).await;
    enqueue(cluster.raft(1), 1).await.unwrap();
    let id = cluster.raft(1).status().cluster;
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.raft(1).linearize(soon()).await.unwrap();
    assert!(cluster.raft(1).read(|core| has(core, 1)));
    assert_eq!(cluster.raft(1).status().cluster, id);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_waits_for_all_members() {
    let mut cluster = Cluster::new(3);
    let (options, listener, dir) = (cluster.options(1), cluster.listener(1), cluster.data_dir(1));
    let alone = tokio::time::timeout(Duration::from_secs(1), start(options, listener, dir.clone())).await;
    assert!(alone.is_err(), "a lone node must not form a cluster");
    // The store of the abandoned start closes with its thread.
    eventually("the data directory", || {
        Store::open(StoreOptions::new(dir.clone()))
            .is_ok_and(|store| store.identity().is_none() && store.close().is_ok())
    })
    .await;
    cluster.start_all().await;
    cluster.leader().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_bootstrap_goes_on_with_the_id_it_left() {
    let mut cluster = Cluster::new(3);
    let left = 0xabcd_u128;
    let store = Store::open(StoreOptions::new(cluster.data_dir(2))).unwrap();
    store.set_identity(Identity::new(left, 2)).unwrap();
    store.close().unwrap();
    cluster.start_all().await;
    cluster.leader().await;
    for node in cluster.nodes.values() {
        assert_eq!(node.store.identity().map(|identity| identity.cluster), Some(left));
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_refused() {
    let mut cluster = Cluster::started(3).await;
    enqueue(cluster.raft(1), 1).await.unwrap();
    for wiped in [1, 3] {
        cluster.stop(wiped).await;
        std::fs::rename(cluster.data_dir(wiped), cluster.data_dir(wiped + 100)).unwrap();
        let refused = cluster.start_one(wiped).await.map(drop);
        assert!(
            matches!(&refused, Err(Error::WipedNode { node, .. }) if *node == wiped),
            "{refused:?}"
        );
        std::fs::remove_dir_all(cluster.data_dir(wiped)).unwrap();
        std::fs::rename(cluster.data_dir(wiped + 100), cluster.data_dir(wiped)).unwrap();
        cluster.start_one(wiped).await.unwrap();
        cluster.raft(wiped).linearize(soon()).await.unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_node_or_cluster_is_refused() {
    let mut cluster = Cluster::started(3).await;
    cluster.stop(3).await;
    std::fs::rename(cluster.data_dir(3), cluster.data_dir(103)).unwrap();
    for (identity, other_node) in [(Identity::new(77, 3), false), (Identity::new(77, 4), true)] {
        let store = Store::open(StoreOptions::new(cluster.data_dir(3))).unwrap();
        store.set_identity(identity).unwrap();
        store.close().unwrap();
        let refused = cluster.start_one(3).await;
        match refused {
            Err(Error::OtherNode {
                configured: 3,
                found: 4,
            }) => assert!(other_node),
            Err(Error::OtherCluster { ours: 77, theirs, .. }) => assert!(!other_node && theirs != 77),
            other => panic!("{other:?}"),
        }
        std::fs::remove_dir_all(cluster.data_dir(3)).unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_a_member_is_refused() {
    let mut cluster = Cluster::started(1).await;
    cluster.leader().await;
    let mut members = cluster.members.clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    members.push(muster_raft::MemberConfig {
        id: 2,
        peer: listener.local_addr().unwrap().to_string(),
        api: String::new(),
    });
    let refused = start(RaftOptions::new(2, members), listener, cluster.data_dir(2)).await;
    assert!(matches!(refused.map(drop), Err(Error::NotMember { node: 2, .. })));
    cluster.stop_all().await;
}
