//! Three nodes over loopback: proposals, elections, restarts, reads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Cluster, PATIENCE, enqueue, enqueue_command, eventually, has, job, soon};
use muster_core::{Command, Reply, SessionId};
use muster_raft::{Error, ProposeError, Role};
use muster_store::{Store, StoreOptions};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_takes_commands_and_applies_them() {
    let mut cluster = Cluster::started(3).await;
    cluster.leader().await;
    for id in 1..=3 {
        enqueue(cluster.raft(id), u128::from(id)).await.unwrap();
    }
    for (id, node) in &cluster.nodes {
        eventually(&format!("all jobs on node {id}"), || {
            node.raft.read(|core| (1..=3).all(|job| has(core, job)))
        })
        .await;
        assert_eq!(node.raft.members().len(), 3);
    }
    let ids: Vec<_> = cluster
        .nodes
        .values()
        .map(|node| node.raft.read(|core| core.meta().cluster))
        .collect();
    assert!(ids[0] != 0 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_share_entries_and_each_gets_its_reply() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let before = cluster.raft(leader).status().last_log_index;
    for (start, node) in [(0, leader), (10_000, cluster.follower().await)] {
        let commands = (start..start + 2_000).map(enqueue_command).collect();
        let replies = cluster.raft(node).propose_many(commands, soon()).await.unwrap();
        for (id, reply) in (start..).zip(&replies) {
            assert!(
                matches!(reply, Reply::Enqueued(enqueued) if enqueued.job.0 == id),
                "{reply:?} for {id}"
            );
        }
        assert_eq!(replies.len(), 2_000);
    }
    let entries = cluster.raft(leader).status().last_log_index - before;
    assert!(entries < 100, "{entries} entries for 4,000 commands");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_command_takes_effect_once() {
    let mut cluster = Cluster::started(3).await;
    let node = cluster.raft(cluster.follower().await).clone();
    enqueue(&node, 5).await.unwrap();
    let again = node.propose(enqueue_command(5), soon()).await.unwrap();
    assert!(
        matches!(again, Reply::Enqueued(enqueued) if enqueued.existed),
        "{again:?}"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let stop = Arc::new(AtomicBool::new(false));
    // Two writers on the nodes that stay; each remembers what was acknowledged.
    let writers: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|(id, _)| **id != leader)
        .map(|(id, node)| {
            let (raft, stop, start) = (node.raft.clone(), stop.clone(), u128::from(*id) << 64);
            tokio::spawn(async move {
                let (mut acknowledged, mut gap, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
                for id in start.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    enqueue(&raft, id).await.unwrap();
                    acknowledged.push(id);
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
                (acknowledged, gap)
            })
        })
        .collect();
    let applied = cluster.raft(leader).applied();
    eventually("some load", || *applied.borrow() > 50).await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    let applied = cluster.raft(next).applied();
    let reached = *applied.borrow();
    eventually("load under the next leader", || *applied.borrow() > reached + 50).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (acknowledged, gap) = writer.await.unwrap();
        println!("{} acknowledged, longest gap {gap:?}", acknowledged.len());
        assert!(gap < Duration::from_secs(3), "writes stood still for {gap:?}");
        for node in cluster.nodes.values() {
            node.raft.linearize(soon()).await.unwrap();
            let lost = node
                .raft
                .read(|core| acknowledged.iter().filter(|id| !has(core, **id)).count());
            assert_eq!(lost, 0);
        }
    }
    cluster.start_one(leader).await.unwrap();
    cluster.raft(leader).linearize(soon()).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_checkpoint_and_log() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    for id in 0..20 {
        enqueue(cluster.raft(leader), id).await.unwrap();
    }
    let stats = cluster.raft(leader).checkpoint().await.unwrap();
    assert!(stats.applied > 0 && stats.written.put > 0, "{stats:?}");
    for id in 20..40 {
        enqueue(cluster.raft(leader), id).await.unwrap();
    }
    let before = cluster.raft(leader).read(|core| core.meta().clone());
    cluster.stop_all().await;
    cluster.start_all().await;
    for node in cluster.nodes.values() {
        node.raft.linearize(soon()).await.unwrap();
        let (all, meta) = node
            .raft
            .read(|core| ((0..40).all(|id| has(core, id)), core.meta().clone()));
        assert!(all);
        assert_eq!(meta.cluster, before.cluster);
        assert!(meta.now >= before.now && meta.applied >= before.applied);
    }
    enqueue(cluster.raft(1), 40).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_on_any_node_sees_what_was_acknowledged_before() {
    let mut cluster = Cluster::started(3).await;
    cluster.leader().await;
    for round in 0..30_u64 {
        let (writer, reader) = (round % 3 + 1, (round + 1) % 3 + 1);
        enqueue(cluster.raft(writer), u128::from(round)).await.unwrap();
        cluster.raft(reader).linearize(soon()).await.unwrap();
        assert!(
            cluster.raft(reader).read(|core| has(core, u128::from(round))),
            "round {round}"
        );
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_done_or_read() {
    let mut cluster = Cluster::started(3).await;
    cluster.leader().await;
    enqueue(cluster.raft(1), 1).await.unwrap();
    cluster.stop(2).await;
    cluster.stop(3).await;
    let deadline = || Instant::now() + Duration::from_millis(1_500);
    let done = cluster.raft(1).propose(enqueue_command(2), deadline()).await;
    assert!(
        matches!(done, Err(ProposeError::NotDone { .. } | ProposeError::Unknown { .. })),
        "{done:?}"
    );
    assert!(cluster.raft(1).linearize(deadline()).await.is_err());
    cluster.start_one(2).await.unwrap();
    enqueue(cluster.raft(1), 3).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_on_request() {
    let mut cluster = Cluster::started(3).await;
    let (leader, next) = (cluster.leader().await, cluster.follower().await);
    enqueue(cluster.raft(leader), 1).await.unwrap();
    let handed = cluster
        .raft(leader)
        .hand_over(next, Instant::now() + Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(handed, muster_raft::HandOver::Done);
    let role = cluster.raft(next).role();
    eventually("the new leader", || matches!(*role.borrow(), Role::Leader { .. })).await;
    enqueue(cluster.raft(leader), 2).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_vouches_with_the_leader() {
    let mut cluster = Cluster::started(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for node in [leader, follower] {
        cluster.raft(node).vouch(vec![SessionId(u128::MAX - 5)]).await.unwrap();
    }
    let heard = cluster.nodes[&leader].sink.vouched.lock().unwrap().clone();
    assert_eq!(
        heard,
        [leader, follower].map(|node| (node, vec![SessionId(u128::MAX - 5)]))
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_a_purged_part_of_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::started(3).await;
    let (leader, behind) = (cluster.leader().await, cluster.follower().await);
    cluster.stop(behind).await;
    for id in 0..50 {
        enqueue(cluster.raft(leader), id).await.unwrap();
    }
    let raft = cluster.raft(leader).clone();
    raft.snapshot().await.unwrap();
    eventually("the snapshot", || raft.status().snapshot_index >= 50).await;
    let covered = raft.status().snapshot_index;
    raft.purge_log(covered).await.unwrap();
    eventually("the purge", || raft.status().purged_index == covered).await;
    for id in 50..60 {
        enqueue(&raft, id).await.unwrap();
    }
    cluster.start_one(behind).await.unwrap();
    cluster.raft(behind).linearize(soon()).await.unwrap();
    assert!(cluster.raft(behind).read(|core| (0..60).all(|id| has(core, id))));
    assert_eq!(*cluster.nodes[&behind].sink.restored.lock().unwrap(), 1);
    drop(raft);
    cluster.stop(behind).await;
    cluster.start_one(behind).await.unwrap();
    cluster.raft(behind).linearize(soon()).await.unwrap();
    assert!(cluster.raft(behind).read(|core| (0..60).all(|id| has(core, id))));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_level_that_the_program_does_not_understand_is_not_installed() {
    let mut cluster = Cluster::new(3);
    cluster.change = |options| options.level_max = 1;
    cluster.start_all().await;
    cluster.leader().await;
    let behind = cluster.follower().await;
    cluster.stop_all().await;
    cluster.change = |_| ();
    for id in (1..=3).filter(|id| *id != behind) {
        cluster.start_one(id).await.unwrap();
    }
    let raft = cluster.raft(cluster.leader().await).clone();
    let raised = raft.propose(Command::SetLevel { level: 2 }, soon()).await.unwrap();
    assert_eq!(raised, Reply::Done);
    for id in 0..50 {
        enqueue(&raft, id).await.unwrap();
    }
    raft.snapshot().await.unwrap();
    eventually("the snapshot", || raft.status().snapshot_index >= 50).await;
    let covered = raft.status().snapshot_index;
    raft.purge_log(covered).await.unwrap();
    eventually("the purge", || raft.status().purged_index == covered).await;

    cluster.change = |options| options.level_max = 1;
    cluster.start_one(behind).await.unwrap();
    let refused = tokio::time::timeout(PATIENCE, cluster.raft(behind).fatal()).await;
    let refused = refused.expect("the older program ends");
    assert!(
        matches!(
            refused,
            Error::LevelTooHigh {
                needed: 2,
                newest: 1,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(*cluster.nodes[&behind].sink.restored.lock().unwrap(), 0);
    cluster.stop(behind).await;
    // Nothing of it is on disk: the older program may still look at its data.
    let mut options = StoreOptions::new(cluster.data_dir(behind));
    options.level_max = 1;
    Store::open(options).unwrap().close().unwrap();
    cluster.change = |_| ();
    cluster.start_one(behind).await.unwrap();
    cluster.raft(behind).linearize(soon()).await.unwrap();
    assert!(cluster.raft(behind).read(|core| (0..50).all(|id| has(core, id))));
    drop(raft);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_purged_by_itself_and_a_node_that_was_away_gets_a_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.change = |options| options.log_keep_bytes = 1 << 20;
    cluster.start_all().await;
    let (leader, away) = (cluster.leader().await, cluster.follower().await);
    cluster.stop(away).await;
    let raft = cluster.raft(leader).clone();
    // Incompressible payloads of 4 MiB in all.
    for id in 0..64 {
        let mut spec = job(id);
        let mut noise = vec![0; 64 << 10];
        StdRng::seed_from_u64(id as u64).fill_bytes(&mut noise);
        spec.payload.data = noise.into();
        let reply = raft.propose(Command::Enqueue(spec.into()), soon()).await.unwrap();
        assert!(matches!(reply, Reply::Enqueued(_)), "{reply:?}");
    }
    let running: Vec<_> = cluster.nodes.values().map(|node| node.raft.clone()).collect();
    eventually("both nodes purge", || {
        running
            .iter()
            .all(|raft| raft.status().purged_index > 20 && raft.store().log().bytes() < 3 << 20)
    })
    .await;
    drop((raft, running));
    // The leader may hold what it read for the node that is away; one that starts again has only its log.
    cluster.stop(leader).await;
    cluster.start_one(leader).await.unwrap();
    cluster.start_one(away).await.unwrap();
    cluster.raft(away).linearize(soon()).await.unwrap();
    assert!(cluster.raft(away).read(|core| (0..64).all(|id| has(core, id))));
    assert_eq!(*cluster.nodes[&away].sink.restored.lock().unwrap(), 1);
    // All of them start again from their states and what is left of their logs.
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.raft(away).linearize(soon()).await.unwrap();
    assert!(cluster.raft(away).read(|core| (0..64).all(|id| has(core, id))));
    cluster.stop_all().await;
}
