//! The procedures of `docs/operations.md` that change the membership, by the commands that stand there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use muster_client::{ClusterStatus, Enqueue, JobState, RawJob};
use muster_store::{DamagedStore, StoreOptions};
use muster_tests::{Cluster, NodePorts, Running, assert_same, eventually, states};
use rand::{Rng, SeedableRng};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(40);
/// The cluster refuses the node.
const REFUSED: Option<i32> = Some(4);

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

/// The token in what `cluster add` and `cluster replace` say.
fn token(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("MUSTER_JOIN=")?;
    rest.split_whitespace().next().map(str::to_owned)
}

async fn token_of(command: &Running) -> String {
    eventually("a token", LONG, || async { token(&command.said()) }).await
}

/// The `muster …` command in a message that tells what to do next.
fn command(message: &str, begin: &str) -> String {
    let at = message
        .find(begin)
        .unwrap_or_else(|| panic!("{begin:?} is not in {message}"));
    let rest = &message[at + "muster ".len()..];
    let end = rest.find([',', ';', '\n']).unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').to_owned()
}

async fn status(cluster: &Cluster) -> ClusterStatus {
    let leader = cluster.leader().await;
    cluster.status(leader).await.expect("the leader answers")
}

fn role(status: &ClusterStatus, node: u64) -> &'static str {
    let member = status.members.iter().find(|member| member.node_id == node);
    member.map_or("none", |member| member.role)
}

/// Waits until the leader knows that a node does not answer.
async fn is_missed(cluster: &Cluster, leader: u64, node: u64) {
    eventually("the node is missed", LONG, || async {
        let seen = cluster.status(leader).await?;
        let member = seen.members.iter().find(|member| member.node_id == node)?;
        (member.reachable == Some(false)).then_some(())
    })
    .await;
}

/// Adds a node by the printed command and waits until it votes.
async fn add(cluster: &mut Cluster, id: u64) {
    cluster.prepare_node(id);
    join(cluster, id).await;
}

/// The same of one that is prepared.
async fn join(cluster: &mut Cluster, id: u64) {
    let line = format!("cluster add {id} --api {} --peer {}", cluster.api(id), cluster.peer(id));
    let adding = cluster.begin(&line);
    let token = token_of(&adding).await;
    cluster.start_joining(id, &token);
    let ran = adding.end().await.good();
    assert!(ran.stdout.contains(&format!("add node {id}: done")), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_and_a_member_is_removed() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let kept = client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap().id;
    cluster.prepare_node(4);
    let (api, peer) = (cluster.api(4), cluster.peer(4));
    let adding = cluster.begin(&format!("cluster add 4 --api {api} --peer {peer}"));
    let token = token_of(&adding).await;
    // What is printed is what the file of the new node has.
    let printed = adding.said();
    for line in [
        "id = 4".to_owned(),
        format!("api = \"{api}\""),
        format!("peer = \"{peer}\""),
        "muster server --config cluster.toml --node 4".to_owned(),
    ] {
        assert!(printed.contains(&line), "{line:?} is not in {printed}");
    }
    // The token is what is outstanding, and its secret is not shown again.
    let tokens = cluster.muster("cluster token list").await.good();
    let secret = token.rsplit('.').next().unwrap();
    assert!(
        tokens.stdout.contains('4') && !tokens.stdout.contains(secret),
        "{tokens:?}"
    );
    cluster.start_joining(4, &token);
    let ran = adding.end().await.good();
    assert!(ran.stdout.contains("add node 4: done in"), "{ran:?}");
    assert!(ran.stderr.contains("waiting for node 4 to show its token"), "{ran:?}");
    let seen = status(&cluster).await;
    assert_eq!((role(&seen, 4), seen.next_node_id), ("follower", 5));
    cluster.agree().await;
    assert!(cluster.log(4).contains("the join was accepted"));

    // Its start does not need the token any more, nor is it disturbed by it.
    cluster.kill(4);
    cluster.start_node(4);
    cluster.agree().await;
    assert_eq!(
        cluster.client_at(4).await.get(kept).await.unwrap().state,
        JobState::Available
    );
    // Neither the id nor the token is good twice.
    let line = format!("cluster add 4 --api {api} --peer {peer}");
    cluster.muster(&line).await.bad(&["NODE_ID_USED", "5"]);
    let other_machine = NodePorts::of(4).table().replace("node-4", "another-disk");
    let config = format!("{}{other_machine}", cluster.config_of(1));
    let twice = cluster.run_to_exit_with(&config, 4, &["--join", &token]).await;
    assert_eq!(twice.code, REFUSED, "{twice:?}");

    let ran = cluster.muster("cluster remove 4").await.good();
    assert!(ran.stdout.contains("remove node 4: done"), "{ran:?}");
    let exit = cluster.exit(4).await;
    assert_eq!(exit.code, REFUSED);
    let last = exit.stderr.lines().last().unwrap().to_owned();
    assert!(last.contains("node 4 was removed"), "{last}");
    // Started again it is refused, and told how to come back, which works.
    cluster.start_node(4);
    let exit = cluster.exit(4).await;
    assert_eq!(exit.code, REFUSED);
    let last = exit.stderr.lines().last().unwrap().to_owned();
    let line = command(&last, "muster cluster add");
    assert_eq!(line, format!("cluster add 5 --api {api} --peer {peer}"));
    let again = NodePorts {
        id: 5,
        ..cluster.ports(4)
    };
    cluster.forget(4);
    let member = cluster.ports(1);
    cluster.prepare_node_with(again, &[member], &[]);
    let adding = cluster.begin(&line);
    let token = token_of(&adding).await;
    cluster.start_joining(5, &token);
    adding.end().await.good();
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_removed_while_it_is_refilled_finds_out_from_nodes_that_its_configuration_does_not_list() {
    let mut cluster = Cluster::start().await;
    let only = [cluster.ports(1)];
    cluster.prepare_node_with(NodePorts::of(4), &only, &[]);
    join(&mut cluster, 4).await;
    let noted = cluster.data(4).join("members.json");
    eventually("the node notes the members", LONG, || async {
        let text: Value = serde_json::from_slice(&std::fs::read(&noted).ok()?).ok()?;
        (text["members"].as_object()?.len() == 4).then_some(())
    })
    .await;
    cluster.kill(4);
    // Stopped when its data had been put aside and nothing had arrived yet.
    let options = StoreOptions::new(cluster.data(4));
    drop(DamagedStore::open(options).unwrap().empty().unwrap());
    cluster.muster("cluster remove 4").await.good();
    cluster.muster("cluster remove 1").await.good();
    assert_eq!(cluster.exit(1).await.code, REFUSED);

    cluster.start_node(4);
    let exit = cluster.exit(4).await;
    assert_eq!(exit.code, REFUSED, "{exit:?}");
    assert!(exit.stderr.contains("node 4 was removed"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_added_promoted_demoted_and_removed() {
    let mut cluster = Cluster::start().await;
    cluster.prepare_node(4);
    let line = format!(
        "cluster add 4 --learner --api {} --peer {}",
        cluster.api(4),
        cluster.peer(4)
    );
    let adding = cluster.begin(&line);
    let token = token_of(&adding).await;
    cluster.start_joining(4, &token);
    adding.end().await.good();
    assert_eq!(role(&status(&cluster).await, 4), "learner");
    cluster.agree().await;
    cluster
        .muster("cluster transfer-leader 4")
        .await
        .bad(&["CANNOT_LEAD", "learner"]);
    cluster.muster("cluster demote 4").await.bad(&["WRONG_ROLE"]);
    cluster.muster("cluster promote 4").await.good();
    assert_eq!(role(&status(&cluster).await, 4), "follower");
    cluster.muster("cluster promote 4").await.bad(&["WRONG_ROLE"]);
    cluster.muster("cluster demote 4").await.good();
    assert_eq!(role(&status(&cluster).await, 4), "learner");
    cluster.muster("cluster remove 4").await.good();
    assert_eq!(cluster.exit(4).await.code, REFUSED);
    cluster.forget(4);
    cluster.muster("cluster promote 4").await.bad(&["NODE_REMOVED"]);
    cluster.muster("cluster promote 9").await.bad(&["NODE_NOT_FOUND"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_listed_and_revoked() {
    let mut cluster = Cluster::start().await;
    let ran = cluster.muster("cluster token create --node 4 --ttl 1h").await.good();
    let first = ran.stdout.trim().to_owned();
    assert!(
        first.starts_with("muster-join-1.") && ran.stdout.lines().count() == 1,
        "{ran:?}"
    );
    let listed = cluster.muster("cluster token list -o json").await.good().json();
    assert_eq!(listed[0]["node_id"], 4);
    cluster.muster("cluster token revoke --node 4").await.good();
    let listed = cluster.muster("cluster token list -o json").await.good().json();
    assert_eq!(listed, Value::Array(Vec::new()));
    cluster.prepare_node(4);
    cluster.start_joining(4, &first);
    let exit = cluster.exit(4).await;
    assert_eq!(exit.code, REFUSED);
    let last = exit.stderr.lines().last().unwrap();
    assert!(
        last.contains("may not join") && !last.contains(first.rsplit('.').next().unwrap()),
        "{last}"
    );

    // The next one is good, from a file that only its owner can read. Nothing was begun by the first.
    let made = cluster
        .muster("cluster token create --node 4 -o json")
        .await
        .good()
        .json();
    let file = cluster.path().join("token-4");
    std::fs::write(&file, made["token"].as_str().unwrap()).unwrap();
    cluster.set_environment(4, "MUSTER_JOIN", "");
    cluster.set_environment(4, "MUSTER_JOIN_FILE", file.to_str().unwrap());
    cluster.start_node(4);
    eventually("node 4 votes", LONG, || async {
        (role(&status(&cluster).await, 4) == "follower").then_some(())
    })
    .await;

    // A token is for its own node and cluster alone.
    let other = cluster.muster("cluster token create --node 5").await.good();
    let other = other.stdout.trim();
    let config = |id: u64| format!("{}{}", cluster.config_of(1), NodePorts::of(id).table());
    let exit = cluster.run_to_exit_with(&config(6), 6, &["--join", other]).await;
    assert_ne!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stderr.contains("node 5"), "{exit:?}");
    let mut parts: Vec<&str> = other.split('.').collect();
    parts[1] = "00000000000000000000000000000001";
    let foreign = parts.join(".");
    let exit = cluster.run_to_exit_with(&config(5), 5, &["--join", &foreign]).await;
    assert_eq!(exit.code, REFUSED, "{exit:?}");
    assert!(exit.stderr.contains("belongs to cluster"), "{exit:?}");
    let exit = cluster
        .run_to_exit_with(&config(5), 5, &["--join", &other[..other.len() - 1]])
        .await;
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert!(exit.stderr.contains("not a join token"), "{exit:?}");
    // Without a token a node that is no member is told how to become one.
    let exit = cluster.run_to_exit(&config(7), 7).await;
    assert_eq!(exit.code, REFUSED, "{exit:?}");
    assert!(exit.stderr.contains("muster cluster add 7"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_removed_and_the_last_nodes_stay() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    cluster.kill(followers[0]);
    is_missed(&cluster, leader, followers[0]).await;
    // Of the two that would be left one does not answer.
    let line = format!("cluster remove {}", followers[1]);
    cluster
        .muster(&line)
        .await
        .bad(&["QUORUM_AT_RISK", &followers[0].to_string()]);
    cluster.start_node(followers[0]);
    cluster.agree().await;
    let leader = cluster.leader().await;
    let ran = cluster.muster(&format!("cluster remove {leader}")).await.good();
    assert!(ran.stderr.contains("2 voters are left"), "{ran:?}");
    assert_eq!(cluster.exit(leader).await.code, REFUSED);
    cluster.forget(leader);
    client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap();
    cluster.agree().await;

    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.muster(&format!("cluster remove {follower}")).await.good();
    assert_eq!(cluster.exit(follower).await.code, REFUSED);
    cluster.forget(follower);
    cluster
        .muster(&format!("cluster remove {leader}"))
        .await
        .bad(&["LAST_VOTER"]);
    cluster
        .muster(&format!("cluster drain {leader}"))
        .await
        .bad(&["LAST_VOTER"]);
    client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap();
    // From one to three again.
    add(&mut cluster, 4).await;
    add(&mut cluster, 5).await;
    cluster.agree().await;
    assert_eq!(client.list(&Default::default()).await.unwrap().jobs.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_goes_where_it_is_told_to() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    cluster
        .muster(&format!("cluster transfer-leader {leader}"))
        .await
        .bad(&["CANNOT_LEAD", "leads already"]);
    cluster
        .muster("cluster transfer-leader 9")
        .await
        .bad(&["NODE_NOT_FOUND"]);
    let follower = cluster.follower().await;
    cluster
        .muster(&format!("cluster transfer-leader {follower}"))
        .await
        .good();
    assert_eq!(cluster.leader().await, follower);
    cluster.kill(leader);
    is_missed(&cluster, follower, leader).await;
    cluster
        .muster(&format!("cluster transfer-leader {leader}"))
        .await
        .bad(&["CANNOT_LEAD", "does not answer"]);
    cluster.start_node(leader);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_disk_is_replaced() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let kept = client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap().id;
    let lost = cluster.leader().await;
    cluster.kill(lost);
    cluster.wipe(lost);
    cluster.start_node(lost);
    let exit = cluster.exit(lost).await;
    assert_eq!(exit.code, REFUSED);
    let last = exit.stderr.lines().last().unwrap().to_owned();
    assert!(last.contains("lost its disk"), "{last}");
    // The command that the message names, on the same machine.
    let line = command(&last, "muster cluster replace");
    assert!(line.starts_with(&format!("cluster replace {lost} 4 ")), "{line}");
    let own = NodePorts {
        id: 4,
        ..cluster.ports(lost)
    };
    cluster.forget(lost);
    let member = cluster.ports(cluster.leader().await);
    cluster.prepare_node_with(own, &[member], &[]);
    let replacing = cluster.begin(&line);
    let token = token_of(&replacing).await;
    cluster.start_joining(4, &token);
    let ran = replacing.end().await.good();
    assert!(
        ran.stdout.contains(&format!("replace node {lost} by node 4: done")),
        "{ran:?}"
    );
    let seen = status(&cluster).await;
    assert_eq!((role(&seen, 4), role(&seen, lost)), ("follower", "none"));
    cluster.agree().await;
    assert_eq!(
        cluster.client_at(4).await.get(kept).await.unwrap().state,
        JobState::Available
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_moves() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap();
    let node = cluster.follower().await;
    let old = cluster.ports(node);
    cluster.kill(node);
    let new = NodePorts::of(node);
    let config = cluster.config_of(node).replace(&old.table(), &new.table());
    cluster.set_config(node, &config);
    cluster.move_node(new);
    cluster.start_node(node);
    let exit = cluster.exit(node).await;
    assert_eq!(exit.code, REFUSED);
    let last = exit.stderr.lines().last().unwrap().to_owned();
    let line = command(&last, "muster cluster set-address");
    assert_eq!(
        line,
        format!(
            "cluster set-address {node} --peer {} --api {}",
            cluster.peer(node),
            cluster.api(node)
        )
    );
    cluster.muster(&line).await.good();
    cluster.start_node(node);
    cluster.agree().await;
    let seen = status(&cluster).await;
    let member = seen.members.iter().find(|member| member.node_id == node).unwrap();
    assert_eq!(
        (member.peer_address.clone(), member.api_address.clone()),
        (cluster.peer(node), cluster.api(node))
    );
    // An address has one owner.
    let other = cluster.leader().await;
    let taken = format!("cluster set-address {node} --peer {}", cluster.peer(other));
    cluster.muster(&taken).await.bad(&["ADDRESS_TAKEN"]);
    cluster
        .muster(&format!("cluster set-address {node} --peer nowhere"))
        .await
        .bad(&["ADDRESS_INVALID"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_moves() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let kept = client.enqueue_raw(job("kept"), Enqueue::new()).await.unwrap().id;
    cluster.kill_all();
    let mut config = cluster.config();
    for id in cluster.ids() {
        let new = NodePorts::of(id);
        config = config.replace(&cluster.ports(id).table(), &new.table());
        cluster.move_node(new);
    }
    for id in cluster.ids() {
        cluster.set_config(id, &config);
    }
    cluster.start_node(1);
    let exit = cluster.exit(1).await;
    assert_eq!(exit.code, REFUSED);
    assert!(exit.stderr.contains("--moved"));
    for id in cluster.ids() {
        cluster.start_node_with(id, &["--moved"]);
    }
    cluster.leader().await;
    for id in cluster.ids() {
        let line = format!(
            "cluster set-address {id} --peer {} --api {}",
            cluster.peer(id),
            cluster.api(id)
        );
        cluster.muster(&line).await.good();
    }
    // From now on without.
    for id in cluster.ids() {
        cluster.kill(id);
        cluster.start_node(id);
        cluster.agree().await;
    }
    assert_eq!(
        cluster.client().await.get(kept).await.unwrap().state,
        JobState::Available
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_given_up() {
    let mut cluster = Cluster::start().await;
    cluster.muster("cluster abort").await.bad(&["NO_SUCH_CHANGE"]);
    let made = cluster.muster("cluster token create --node 4").await.good();
    cluster.prepare_node(4);
    cluster.start_joining(4, made.stdout.trim());
    // It is stopped as soon as it was let in, so that it cannot catch up.
    eventually("the join has begun", LONG, || async {
        cluster.log(4).contains("the join was accepted").then_some(())
    })
    .await;
    cluster.pause(4);
    let change = eventually("a change is under way, or over", LONG, || async {
        let seen = cluster.status(cluster.leader().await).await?;
        seen.change.or(seen.last_change)
    })
    .await;
    if change.outcome == "under way" {
        cluster
            .muster("cluster remove 1")
            .await
            .bad(&["CHANGE_UNDER_WAY", "add node 4"]);
        let seen = cluster.muster("cluster status").await.good();
        assert!(seen.stdout.contains("add node 4"), "{seen:?}");
        cluster.muster("cluster abort --reason \"wrong machine\"").await.good();
        let seen = status(&cluster).await;
        let last = seen.last_change.as_ref().expect("a change is over");
        assert_eq!((last.outcome, last.reason.as_str()), ("undone", "wrong machine"));
        assert_eq!((role(&seen, 4), seen.joint), ("none", false));
        cluster.resume(4);
        assert_eq!(cluster.exit(4).await.code, REFUSED);
        cluster.forget(4);
        cluster.agree().await;
    } else {
        // So quick that there was nothing left to give up.
        cluster.resume(4);
        cluster.agree().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_after_the_log_was_purged() {
    const JOBS: usize = 80;
    let mut cluster = Cluster::start_with("[raft]\nlog_keep_bytes = \"1MiB\"\n").await;
    let client = cluster.client().await;
    let mut ids = BTreeSet::new();
    for number in 0..JOBS {
        // 64 KiB that cannot be compressed, 5 MiB in all.
        let noise = rand::rngs::StdRng::seed_from_u64(number as u64);
        let payload: Vec<u8> = noise.random_iter().take(64 << 10).collect();
        let enqueued = client.enqueue_raw(RawJob::new("kept", payload), Enqueue::new()).await;
        ids.insert(enqueued.unwrap().id.to_string());
    }
    eventually("all purge their logs", LONG, || async {
        let purged = |id: &u64| cluster.log(*id).contains("the log is purged");
        cluster.ids().iter().all(purged).then_some(())
    })
    .await;
    // All begin with no more than what is on their disks.
    cluster.kill_all();
    cluster.start_all();
    cluster.leader().await;
    add(&mut cluster, 4).await;
    cluster.agree().await;
    assert!(
        cluster.log(4).contains("snapshot received"),
        "it caught up otherwise: {}",
        cluster.log(4)
    );
    // What it got is whole: it serves with one of the others when two are gone for good.
    let leader = cluster.leader().await;
    cluster.muster(&format!("cluster remove {leader}")).await.good();
    cluster.exit(leader).await;
    cluster.forget(leader);
    let away = cluster.ids().into_iter().find(|id| *id != 4).unwrap();
    cluster.kill(away);
    cluster.leader().await;
    assert_same(&states(&cluster.client_at(4).await).await, &ids);
}
