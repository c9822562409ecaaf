//! The membership changes while the cluster runs: nodes join, leave, are replaced, move; others lead.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::common::{Cluster, enqueue, eventually, has, soon};
use muster_core::{
    ChangeOutcome, ClusterCommand, ClusterRefusal, Command, EndedChange, MembershipChange, NodeId, Refusal, Reply,
};
use muster_raft::{Error, HandOver, JoinToken, Raft};

async fn command(raft: &Raft, command: ClusterCommand) -> Result<Reply, ClusterRefusal> {
    let command = Command::Cluster(Box::new(command));
    match raft.propose(command, soon()).await.unwrap() {
        Reply::Refused(Refusal::Cluster(refusal)) => Err(refusal),
        reply => Ok(reply),
    }
}

async fn token(raft: &Raft, node: NodeId, replaces: NodeId) -> Result<JoinToken, ClusterRefusal> {
    let token = JoinToken::mint(raft.status().cluster, node);
    let create = ClusterCommand::CreateJoinToken {
        node,
        hash: token.hash(),
        ttl: 60_000,
        voter: true,
        replaces,
        peer: "".into(),
        api: "".into(),
    };
    command(raft, create).await.map(|_| token)
}

/// What came of the change that ended last, once none is under way.
async fn ended(raft: &Raft) -> EndedChange {
    let mut last = None;
    eventually("the end of the change", || {
        let changes = raft.read(|core| core.membership_changes().clone());
        last = changes.last;
        changes.current.is_none() && last.is_some()
    })
    .await;
    last.unwrap()
}

async fn change(raft: &Raft, change: MembershipChange) -> EndedChange {
    let begun = command(raft, ClusterCommand::Change(change)).await;
    let Ok(Reply::ChangeBegun { id }) = begun else {
        panic!("{begun:?}")
    };
    eventually("the end of the change", || {
        raft.read(|core| {
            let last = core.membership_changes().last.as_ref();
            last.is_some_and(|ended| ended.change.id == id)
        })
    })
    .await;
    ended(raft).await
}

fn voters(raft: &Raft) -> Vec<NodeId> {
    let membership = raft.membership();
    assert!(!membership.is_joint(), "{membership:?}");
    membership.voters.into_iter().flatten().collect()
}

/// A new node joins and votes.
async fn add(cluster: &mut Cluster, id: NodeId) {
    let leader = cluster.leader().await;
    let token = token(cluster.raft(leader), id, 0).await.unwrap();
    cluster.place(id);
    cluster.start_with(id, token).await.unwrap();
    let leader = cluster.leader().await;
    assert_eq!(ended(cluster.raft(leader)).await.outcome, ChangeOutcome::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_with_its_token_and_votes() {
    let mut cluster = Cluster::started(3).await;
    for id in 1..=50 {
        enqueue(cluster.raft(1), id).await.unwrap();
    }
    let leader = cluster.leader().await;
    let token = token(cluster.raft(leader), 4, 0).await.unwrap();
    cluster.place(4);
    cluster.start_with(4, token.clone()).await.unwrap();
    assert_eq!(ended(cluster.raft(leader)).await.outcome, ChangeOutcome::Done);
    assert_eq!(voters(cluster.raft(leader)), [1, 2, 3, 4]);
    cluster.raft(4).linearize(soon()).await.unwrap();
    assert!(cluster.raft(4).read(|core| has(core, 50)));

    // The service may go on to be started with the token that it does not need any more.
    cluster.stop(4).await;
    cluster.start_with(4, token.clone()).await.unwrap();
    cluster.raft(4).linearize(soon()).await.unwrap();
    // A wiped machine has the token as well, and must not come back with it.
    cluster.stop(4).await;
    std::fs::remove_dir_all(cluster.data_dir(4)).unwrap();
    let refused = cluster.start_with(4, token).await;
    assert!(
        matches!(&refused, Err(Error::JoinRefused { node: 4, reason }) if reason.contains("another data directory")),
        "{refused:?}"
    );
    std::fs::remove_dir_all(cluster.data_dir(4)).unwrap();
    let refused = cluster.start_one(4).await;
    assert!(
        matches!(refused, Err(Error::WipedNode { node: 4, next: 5, .. })),
        "{refused:?}"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_is_refused_and_a_good_one_waits_its_turn() {
    let mut cluster = Cluster::started(1).await;
    let raft = cluster.raft(1).clone();
    let used = token(&raft, 1, 0).await;
    assert!(
        matches!(used, Err(ClusterRefusal::NodeIdUsed { node: 1, next: 2 })),
        "{used:?}"
    );
    let good = token(&raft, 2, 0).await.unwrap();
    cluster.place(2);
    let foreign = JoinToken::mint(77, 2);
    let refused = cluster.start_with(2, foreign).await;
    assert!(
        matches!(refused, Err(Error::TokenOfOtherCluster { token: 77, .. })),
        "{refused:?}"
    );
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    let forged = JoinToken::mint(raft.status().cluster, 2);
    let refused = cluster.start_with(2, forged).await;
    assert!(matches!(refused, Err(Error::JoinRefused { .. })), "{refused:?}");
    let for_another = JoinToken::mint(raft.status().cluster, 3);
    let refused = cluster.start_with(2, for_another).await;
    assert!(matches!(refused, Err(Error::Options(_))), "{refused:?}");

    // Node 5 has joined and never comes up: its change is under way, and the good token must wait.
    let absent = token(&raft, 5, 0).await.unwrap();
    let join = ClusterCommand::Join {
        node: 5,
        hash: absent.hash(),
        instance: 1,
        peer: "127.0.0.1:1".into(),
        api: "127.0.0.1:2".into(),
    };
    let Ok(Reply::ChangeBegun { id }) = command(&raft, join).await else {
        panic!("refused")
    };
    let refused = command(&raft, ClusterCommand::Change(MembershipChange::Demote { node: 5 })).await;
    assert!(refused.is_err(), "{refused:?}");
    let waits = tokio::time::timeout(Duration::from_secs(2), cluster.start_with(2, good.clone())).await;
    assert!(waits.is_err(), "another change is under way");
    let abort = ClusterCommand::AbortChange {
        change: id,
        reason: "it does not come".into(),
    };
    command(&raft, abort).await.unwrap();
    let outcome = ended(&raft).await.outcome;
    assert_eq!(
        outcome,
        ChangeOutcome::Undone {
            reason: "it does not come".into()
        }
    );
    assert_eq!(voters(&raft), [1]);
    assert!(
        raft.members().iter().all(|member| member.id != 5),
        "nor is it a learner"
    );
    // The first try wrote its identity down, and goes on from there.
    eventually("the end of the try that was given up", || {
        let address = cluster
            .members
            .iter()
            .find(|member| member.id == 2)
            .unwrap()
            .peer
            .clone();
        std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    cluster.start_with(2, good).await.unwrap();
    eventually("two voters", || {
        let membership = raft.membership();
        !membership.is_joint() && membership.voters.iter().flatten().eq(&[1, 2])
    })
    .await;
    drop(raft);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_after_the_log_was_purged_gets_everything() {
    let mut cluster = Cluster::started(3).await;
    for id in 1..=200 {
        enqueue(cluster.raft(1), id).await.unwrap();
    }
    for raft in cluster.nodes.values().map(|node| &node.raft) {
        let upto = raft.status().applied_index;
        raft.snapshot().await.unwrap();
        eventually("the snapshot", || raft.status().snapshot_index >= upto).await;
        raft.purge_log(upto).await.unwrap();
        eventually("the purge", || raft.status().purged_index >= upto).await;
    }
    add(&mut cluster, 4).await;
    assert_eq!(*cluster.nodes[&4].sink.restored.lock().unwrap(), 1, "by a snapshot");
    cluster.raft(4).linearize(soon()).await.unwrap();
    let states = cluster.nodes.values().map(|node| &node.raft);
    let mut states: Vec<_> = states
        .map(|raft| raft.read(|core| (has(core, 1), has(core, 200))))
        .collect();
    states.dedup();
    assert_eq!(states, [(true, true)]);
    // It is as good as any other: without two of the old ones it still makes a majority with the third.
    let leader = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    cluster.stop(others[0]).await;
    enqueue(cluster.raft(4), 201).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_notices_and_does_not_come_back() {
    let mut cluster = Cluster::started(3).await;
    let gone = cluster.follower().await;
    let leader = cluster.leader().await;
    let done = change(cluster.raft(leader), MembershipChange::Remove { node: gone }).await;
    assert_eq!(done.outcome, ChangeOutcome::Done);
    let ends = tokio::time::timeout(Duration::from_secs(20), cluster.raft(gone).fatal()).await;
    assert!(
        matches!(ends, Ok(Error::Removed { node, next: 4, .. }) if node == gone),
        "{ends:?}"
    );
    let term = cluster.raft(leader).status().term;
    cluster.stop(gone).await;
    let refused = cluster.start_one(gone).await;
    assert!(matches!(refused, Err(Error::Removed { .. })), "{refused:?}");
    assert_eq!(cluster.raft(leader).status().term, term, "it disturbed nobody");
    let reused = token(cluster.raft(leader), gone, 0).await;
    assert!(matches!(reused, Err(ClusterRefusal::NodeIdUsed { .. })), "{reused:?}");
    assert_eq!(voters(cluster.raft(leader)).len(), 2);
    enqueue(cluster.raft(leader), 1).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_can_be_removed() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    enqueue(cluster.raft(leader), 1).await.unwrap();
    let done = change(cluster.raft(leader), MembershipChange::Remove { node: leader });
    let removed = cluster.raft(leader).clone();
    tokio::select! {
        _ = done => {}
        // It may hear of its end before it hears of the end of the change.
        error = removed.fatal() => assert!(matches!(error, Error::Removed { .. }), "{error:?}"),
    }
    drop(removed);
    let other = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    let expected: Vec<_> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    let raft = cluster.raft(other).clone();
    eventually("a cluster of two", || {
        let membership = raft.membership();
        !membership.is_joint() && membership.voters.iter().flatten().copied().eq(expected.iter().copied())
    })
    .await;
    enqueue(&raft, 2).await.unwrap();
    assert_eq!(ended(&raft).await.outcome, ChangeOutcome::Done);
    drop(raft);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_replaced_on_its_own_machine() {
    let mut cluster = Cluster::started(3).await;
    let lost = cluster.follower().await;
    enqueue(cluster.raft(lost), 1).await.unwrap();
    cluster.stop(lost).await;
    let leader = cluster.leader().await;
    let token = token(cluster.raft(leader), 4, lost).await.unwrap();
    // The same address under another id.
    let mut member = cluster.members.iter().find(|member| member.id == lost).unwrap().clone();
    member.id = 4;
    member.api = "127.0.0.1:1".into();
    cluster.members.retain(|member| member.id != lost);
    cluster.members.push(member);
    cluster.start_with(4, token).await.unwrap();
    let leader = cluster.leader().await;
    let done = ended(cluster.raft(leader)).await;
    assert_eq!(done.outcome, ChangeOutcome::Done, "{done:?}");
    let expected: Vec<NodeId> = (1..=4).filter(|id| *id != lost).collect();
    assert_eq!(voters(cluster.raft(leader)), expected);
    cluster.raft(4).linearize(soon()).await.unwrap();
    assert!(cluster.raft(4).read(|core| has(core, 1)));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_a_leader_leaves_half_way_is_completed() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let token = token(cluster.raft(leader), 4, 0).await.unwrap();
    cluster.place(4);
    cluster.start_with(4, token).await.unwrap();
    // Wherever it is by now.
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_eq!(ended(cluster.raft(next)).await.outcome, ChangeOutcome::Done);
    assert_eq!(voters(cluster.raft(next)), [1, 2, 3, 4]);
    cluster.start_one(leader).await.unwrap();
    cluster.raft(leader).linearize(soon()).await.unwrap();
    assert_eq!(voters(cluster.raft(leader)), [1, 2, 3, 4]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_goes_only_where_it_can() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    // Asked of a node that does not lead.
    let asked = cluster.raft(others[0]).clone();
    let hand_over = async |to| asked.hand_over(to, soon()).await.unwrap();
    assert_eq!(hand_over(leader).await, HandOver::LeadsAlready);
    assert_eq!(hand_over(9).await, HandOver::UnknownNode);
    let drain = |node, drained| ClusterCommand::Drain {
        node,
        drained,
        note: "".into(),
    };
    command(&asked, drain(others[1], true)).await.unwrap();
    assert_eq!(hand_over(others[1]).await, HandOver::Drained);
    command(&asked, drain(others[1], false)).await.unwrap();
    let demoted = change(&asked, MembershipChange::Demote { node: others[1] }).await;
    assert_eq!(demoted.outcome, ChangeOutcome::Done);
    assert_eq!(hand_over(others[1]).await, HandOver::Learner);
    let promoted = change(&asked, MembershipChange::Promote { node: others[1] }).await;
    assert_eq!(promoted.outcome, ChangeOutcome::Done);
    cluster.stop(others[1]).await;
    eventually("its silence", || {
        cluster.raft(leader).status().answered.get(&others[1]) == Some(&false)
    })
    .await;
    assert_eq!(hand_over(others[1]).await, HandOver::Unreachable);
    assert_eq!(hand_over(others[0]).await, HandOver::Done);
    drop(asked);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leads_only_when_nobody_else_can() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let drain = |node, drained| ClusterCommand::Drain {
        node,
        drained,
        note: "".into(),
    };
    command(cluster.raft(leader), drain(leader, true)).await.unwrap();
    eventually("another leader", || {
        let leads = cluster.raft(leader).leader().map(|member| member.id);
        leads.is_some_and(|id| id != leader)
    })
    .await;
    let second = cluster.leader().await;
    assert_ne!(second, leader);
    // A restart changes nothing about it.
    cluster.stop(leader).await;
    cluster.start_one(leader).await.unwrap();
    cluster.raft(leader).linearize(soon()).await.unwrap();
    let third = *cluster.nodes.keys().find(|id| ![leader, second].contains(id)).unwrap();
    cluster.stop(second).await;
    assert_eq!(cluster.leader().await, third, "the one that is not drained");
    enqueue(cluster.raft(leader), 1).await.unwrap();
    // Now the drained one and the one that was away: either may have to lead, and then the undrained one does.
    cluster.start_one(second).await.unwrap();
    cluster.raft(second).linearize(soon()).await.unwrap();
    command(cluster.raft(second), drain(second, true)).await.unwrap();
    cluster.stop(third).await;
    let last_resort = cluster.leader().await;
    enqueue(cluster.raft(last_resort), 2).await.unwrap();
    cluster.start_one(third).await.unwrap();
    let role = cluster.raft(third).role();
    eventually("the undrained node to lead again", || role.borrow().is_leader()).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_must_say_so() {
    let mut cluster = Cluster::started(3).await;
    let moved = cluster.follower().await;
    cluster.stop(moved).await;
    let before = cluster.members.clone();
    let address = cluster.place(moved);
    let refused = cluster.start_one(moved).await;
    assert!(
        matches!(&refused, Err(Error::AddressDiffers { peer, .. }) if **peer == *address),
        "{refused:?}"
    );
    let text = refused.map(drop).unwrap_err().to_string();
    assert!(
        text.contains(&format!("muster cluster set-address {moved} --peer {address}")),
        "{text}"
    );
    let leader = cluster.leader().await;
    let change_address = MembershipChange::SetAddress {
        node: moved,
        peer: address.as_str().into(),
        api: address.as_str().into(),
    };
    assert_eq!(
        change(cluster.raft(leader), change_address).await.outcome,
        ChangeOutcome::Done
    );
    cluster.start_one(moved).await.unwrap();
    // The others were not started anew: they know from the membership where it is.
    enqueue(cluster.raft(moved), 1).await.unwrap();
    let known = |raft: &Raft| {
        raft.members()
            .into_iter()
            .find(|member| member.id == moved)
            .unwrap()
            .peer
    };
    assert_eq!(known(cluster.raft(leader)), address);
    // One that is started with the old file goes by the membership as well.
    let follower = *cluster.nodes.keys().find(|id| ![leader, moved].contains(id)).unwrap();
    cluster.stop(follower).await;
    cluster.members = before;
    cluster.start_one(follower).await.unwrap();
    cluster.raft(follower).linearize(soon()).await.unwrap();
    assert_eq!(known(cluster.raft(follower)), address);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_what_a_node_knows_is_told() {
    let mut cluster = Cluster::started(3).await;
    let follower = cluster.follower().await;
    enqueue(cluster.raft(follower), 1).await.unwrap();
    let raft = cluster.raft(follower).clone();
    let applied = raft.status().applied_index;
    eventually("a young age", || {
        let freshness = raft.freshness();
        freshness.applied >= applied && freshness.age.is_some_and(|age| age < Duration::from_millis(1_500))
    })
    .await;
    for other in [1, 2, 3].into_iter().filter(|id| *id != follower) {
        cluster.stop(other).await;
    }
    // Without the others nobody can say that nothing happened since.
    eventually("an age that grows", || {
        raft.freshness().age.is_some_and(|age| age > Duration::from_secs(3))
    })
    .await;
    assert!(raft.read(|core| has(core, 1)));
    drop(raft);
    cluster.stop_all().await;
}
