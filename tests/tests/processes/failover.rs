//! Real processes, real kills: nothing acknowledged is lost, nothing runs twice that need not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_client::{Client, Enqueue, JobId, JobState, RawJob};
use muster_proto::v1::report_ack::Result as Ack;
use muster_tests::{Cluster, Ledger, RawWorker, Working, assert_same, eventually, states, wait_for_ends};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(40);

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

/// Nobody has to notice by silence that the leader was stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_hands_over_first() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let first = client.enqueue_raw(job("stopped"), Enqueue::new()).await.unwrap();
    let leader = cluster.leader().await;
    assert_eq!(cluster.terminate(leader).await, Some(0));
    let others = cluster.ids().into_iter().filter(|id| *id != leader);
    let mut led = Vec::new();
    for id in others {
        led.push(cluster.status(id).await.unwrap().leader_id);
    }
    assert!(led.iter().any(|now| now.is_some_and(|now| now != leader)), "{led:?}");
    assert!(cluster.log(leader).contains("handing over the lead"));
    let second = client.enqueue_raw(job("stopped"), Enqueue::new()).await.unwrap();
    for id in [first.id, second.id] {
        assert_eq!(client.get(id).await.unwrap().state, JobState::Available);
    }
}

/// A frozen machine keeps its connections: nothing but its silence tells that it leads no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_is_left_as_soon_as_another_leads() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    // So long that nobody gives up by time alone.
    let client = Client::builder()
        .addresses(cluster.addresses())
        .attempt_timeout(LONG)
        .deadline(2 * LONG)
        .connect()
        .await
        .unwrap();
    let first = client.enqueue_raw(job("frozen"), Enqueue::new()).await.unwrap();
    cluster.pause(leader);
    let frozen = Instant::now();
    let second = client.enqueue_raw(job("frozen"), Enqueue::new());
    let read = client.get(first.id);
    let (second, read) = tokio::join!(second, read);
    let took = frozen.elapsed();
    assert_eq!(read.unwrap().id, first.id.to_string());
    let second = second.unwrap();
    assert!(took < LONG / 2, "only after {took:?}");
    cluster.resume(leader);
    cluster.agree().await;
    for id in [first.id, second.id] {
        assert_eq!(client.get(id).await.unwrap().state, JobState::Available);
    }
    cluster.kill_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_under_load_loses_nothing() {
    const JOBS: usize = 3_000;
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ledger = Ledger::default();
    let workers = [1, 2].map(|_| Working::start(&client, "load", 32, Duration::from_millis(5), &ledger));

    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for caller in 0..8 {
        // Callers begin at different nodes.
        let client = cluster.client_at(1 + caller % 3).await;
        let acknowledged = acknowledged.clone();
        callers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..JOBS / 8 {
                let enqueued = client
                    .enqueue_raw(job("load"), Enqueue::new())
                    .await
                    .expect("done within 30 s");
                ids.push(enqueued.id.to_string());
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            ids
        }));
    }
    eventually("a third is acknowledged", LONG, || async {
        (acknowledged.load(Ordering::Relaxed) > JOBS / 3).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let mut ids = BTreeSet::new();
    for caller in callers {
        ids.extend(caller.await.unwrap());
    }
    cluster.start_node(leader);
    assert_eq!(ids.len(), JOBS, "each call made one job");

    wait_for_ends(&client, JOBS).await;
    let found = states(&client).await;
    assert_same(&found, &ids);
    assert!(
        found.iter().all(|(_, state)| *state == JobState::Succeeded),
        "all acknowledged jobs succeeded"
    );

    let runs = ledger.all();
    for (id, runs) in &runs {
        assert!(
            runs.windows(2).all(|pair| pair[0].fence < pair[1].fence),
            "{id}: tokens grow: {runs:?}"
        );
        if runs.len() > 1 {
            // A second run is owed to a lease that the cluster took back, and the job says so.
            let info = client.get(id.parse().unwrap()).await.unwrap();
            assert!(
                info.attempts as usize >= runs.len(),
                "{id} ran {} times: {info:?}",
                runs.len()
            );
        }
    }
    assert_eq!(runs.len(), JOBS, "every job ran");
    for worker in workers {
        worker.stop().await;
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_through_a_change_of_leader() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let node = cluster.follower().await;
    let client = cluster.client().await;
    let mut worker = RawWorker::open(&cluster.address(node), "default", "steady", 3 * SECOND).await;
    assert_eq!(worker.node, node);
    worker.credit(2).await;
    let before = client.enqueue_raw(job("steady"), Enqueue::new()).await.unwrap();
    let held = worker.job(5 * SECOND).await;
    assert_eq!(held.id, before.id.to_string());

    cluster.kill(leader);
    let after = client.enqueue_raw(job("steady"), Enqueue::new()).await.unwrap();
    // The same stream gets a new job and may end the old one.
    let next = worker.job(10 * SECOND).await;
    assert_eq!(next.id, after.id.to_string());
    assert!(next.fence > held.fence);
    assert_eq!(worker.succeed(&held.id, held.fence, 10 * SECOND).await, Ack::Accepted);
    assert_eq!(worker.succeed(&next.id, next.fence, 10 * SECOND).await, Ack::Accepted);
    let workers = client.workers().await.unwrap();
    let sessions: Vec<_> = workers.iter().map(|worker| worker.session_id.clone()).collect();
    assert_eq!(sessions, vec![worker.session.clone()], "one session, the first one");
    assert_eq!(
        client.get(before.id).await.unwrap().attempts,
        1,
        "the change of leader cost no attempt"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_worker_loses_its_job_and_its_late_report_is_refused() {
    let cluster = Cluster::start().await;
    let node = cluster.leader().await;
    let client = cluster.client().await;
    let mut silent = RawWorker::open(&cluster.address(node), "default", "slow", SECOND).await;
    silent.credit(1).await;
    let enqueued = client.enqueue_raw(job("slow"), Enqueue::new()).await.unwrap();
    let first = silent.job(5 * SECOND).await;
    silent.fall_silent();

    let other = cluster.follower().await;
    let mut second = RawWorker::open(&cluster.address(other), "default", "slow", 5 * SECOND).await;
    second.credit(1).await;
    let again = second.job(15 * SECOND).await;
    assert_eq!(again.id, enqueued.id.to_string());
    assert!(again.fence > first.fence, "a new token");
    // The first worker wakes up on a new stream and reports what it did.
    let mut late = RawWorker::open(&cluster.address(node), "default", "other", 5 * SECOND).await;
    assert_eq!(late.succeed(&first.id, first.fence, 5 * SECOND).await, Ack::LeaseLost);
    assert_eq!(
        client.get(enqueued.id).await.unwrap().state,
        JobState::Running,
        "the late report changed nothing"
    );
    assert_eq!(second.succeed(&again.id, again.fence, 5 * SECOND).await, Ack::Accepted);
    // A repeat of a report that was taken is told so.
    assert_eq!(second.succeed(&again.id, again.fence, 5 * SECOND).await, Ack::Accepted);
    let info = client.get(enqueued.id).await.unwrap();
    assert_eq!((info.state, info.crashes), (JobState::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_connection_breaks_has_its_jobs_run_elsewhere() {
    let cluster = Cluster::start().await;
    let node = cluster.follower().await;
    let client = cluster.client().await;
    let mut gone = RawWorker::open(&cluster.address(node), "default", "slow", 2 * SECOND).await;
    gone.credit(3).await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        ids.insert(
            client
                .enqueue_raw(job("slow"), Enqueue::new())
                .await
                .unwrap()
                .id
                .to_string(),
        );
    }
    for _ in 0..3 {
        assert!(ids.contains(&gone.job(5 * SECOND).await.id));
    }
    drop(gone);
    let mut heir = RawWorker::open(&cluster.address(node), "default", "slow", 5 * SECOND).await;
    heir.credit(3).await;
    for _ in 0..3 {
        let leased = heir.job(15 * SECOND).await;
        assert!(ids.remove(&leased.id), "each comes once");
        assert_eq!(heir.succeed(&leased.id, leased.fence, 5 * SECOND).await, Ack::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_keep_what_they_acknowledged() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ledger = Ledger::default();
    // Some have ended, some wait, one is far off, when the power goes.
    let worker = Working::start(&client, "early", 8, Duration::from_millis(1), &ledger);
    let mut ids = BTreeSet::new();
    for _ in 0..200 {
        ids.insert(
            client
                .enqueue_raw(job("early"), Enqueue::new())
                .await
                .unwrap()
                .id
                .to_string(),
        );
    }
    wait_for_ends(&client, 200).await;
    worker.stop().await;
    let late: Vec<_> =
        futures::future::join_all((0..300).map(|_| client.enqueue_raw(job("late"), Enqueue::new()))).await;
    ids.extend(late.into_iter().map(|enqueued| enqueued.unwrap().id.to_string()));
    let far = client
        .enqueue_raw(job("late"), Enqueue::new().delay(Duration::from_hours(1)))
        .await
        .unwrap();
    ids.insert(far.id.to_string());
    cluster.kill_all();

    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client().await;
    let found = states(&client).await;
    assert_same(&found, &ids);
    let count = |wanted: JobState| found.iter().filter(|(_, state)| *state == wanted).count();
    assert_eq!(
        (
            count(JobState::Succeeded),
            count(JobState::Available),
            count(JobState::Scheduled)
        ),
        (200, 300, 1)
    );
    let worker = Working::start(&client, "late", 32, Duration::from_millis(1), &ledger);
    wait_for_ends(&client, 500).await;
    worker.stop().await;
    assert_eq!(client.get(far.id).await.unwrap().state, JobState::Scheduled);
    assert!(ledger.all().values().all(|runs| runs.len() == 1), "no job ran twice");
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_enqueue_is_one_job_through_a_leader_kill() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids: Vec<_> = (0..60).map(|_| JobId::new()).collect();
    let begun = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for caller in 0..3 {
        let client = cluster.client_at(1 + caller).await;
        let (ids, begun) = (ids.clone(), begun.clone());
        callers.push(tokio::spawn(async move {
            let mut new = 0;
            for id in ids {
                begun.fetch_add(1, Ordering::Relaxed);
                let enqueued = client
                    .enqueue_raw(job("once"), Enqueue::new().id(id))
                    .await
                    .expect("done within 30 s");
                assert_eq!(enqueued.id, id);
                new += usize::from(!enqueued.existed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            new
        }));
    }
    eventually("callers are half way", LONG, || async {
        (begun.load(Ordering::Relaxed) > 90).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let mut new = 0;
    for caller in callers {
        new += caller.await.unwrap();
    }
    // An answer that was lost may have said "new", so there can be fewer, never more.
    assert!(new <= ids.len(), "{new} answers said that the job was new");
    cluster.start_node(leader);
    let found = states(&client).await;
    assert_eq!(found.len(), ids.len(), "one job per id");
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_is_replaced_and_acknowledges_nothing_on_its_own() {
    let cluster = Cluster::start().await;
    let old = cluster.leader().await;
    let client = cluster.client().await;
    cluster.pause(old);
    let started = tokio::time::Instant::now();
    let enqueued = client.enqueue_raw(job("paused"), Enqueue::new()).await.unwrap();
    assert!(started.elapsed() < 15 * SECOND);
    cluster.resume(old);
    let new = eventually("the old leader follows", LONG, || async {
        let status = cluster.status(old).await?;
        status.leader_id.filter(|leader| *leader != old)
    })
    .await;
    assert_ne!(new, old);
    let at_old = cluster.client_at(old).await;
    assert_eq!(at_old.get(enqueued.id).await.unwrap().state, JobState::Available);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_restarted_in_turn_disturb_nobody() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ledger = Ledger::default();
    let worker = Working::start(&client, "rolling", 16, Duration::from_millis(2), &ledger);
    let over = Arc::new(AtomicBool::new(false));
    let producer = tokio::spawn({
        let (client, over) = (client.clone(), over.clone());
        async move {
            let mut ids = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                ids.insert(
                    client
                        .enqueue_raw(job("rolling"), Enqueue::new())
                        .await
                        .expect("done")
                        .id
                        .to_string(),
                );
            }
            ids
        }
    });
    for id in cluster.ids() {
        let code = cluster.terminate(id).await;
        assert_eq!(code, Some(0), "node {id} ends well after SIGTERM:\n{}", cluster.log(id));
        cluster.start_node(id);
        eventually("the node is back", LONG, || async {
            cluster.status(id).await.and_then(|status| status.leader_id)
        })
        .await;
        cluster.leader().await;
    }
    over.store(true, Ordering::Relaxed);
    let ids = producer.await.unwrap();
    wait_for_ends(&client, ids.len()).await;
    assert_same(&states(&client).await, &ids);
    worker.stop().await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_what_was_purged_gets_a_snapshot() {
    const JOBS: usize = 80;
    let mut cluster = Cluster::start_with("[raft]\nlog_keep_bytes = \"1MiB\"\n").await;
    let away = cluster.follower().await;
    cluster.kill(away);
    let leader = cluster.leader().await;
    let client = cluster.client_at(leader).await;
    let mut ids = BTreeSet::new();
    for at in 0..JOBS {
        // 64 KiB that cannot be compressed, 5 MiB in all.
        let mut noise = at as u64 + 1;
        let next = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        };
        let payload: Vec<u8> = std::iter::repeat_with(next).take(64 << 10).collect();
        let enqueued = client.enqueue_raw(RawJob::new("late", payload), Enqueue::new()).await;
        ids.insert(enqueued.unwrap().id.to_string());
    }
    let running: Vec<_> = cluster.ids().into_iter().filter(|id| *id != away).collect();
    eventually("both purge their logs", LONG, || async {
        let purged = |id: &u64| cluster.log(*id).contains("the log is purged");
        running.iter().all(purged).then_some(())
    })
    .await;
    // The leader may hold what it read for the node that is away; one that starts again has only its log.
    cluster.kill(leader);
    cluster.start_node(leader);
    cluster.leader().await;
    cluster.start_node(away);
    cluster.agree().await;
    assert!(
        cluster.log(away).contains("snapshot received"),
        "it caught up otherwise: {}",
        cluster.log(away)
    );
    // What it got is whole: it serves with either of the others.
    cluster.kill(leader);
    cluster.leader().await;
    assert_same(&states(&cluster.client_at(away).await).await, &ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_follower_does_not_flood_the_leaders_log() {
    let mut cluster = Cluster::start().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let client = cluster.client().await;
    let before = cluster.log(leader).lines().count();
    cluster.kill(follower);
    let end = tokio::time::Instant::now() + 3 * SECOND;
    while tokio::time::Instant::now() < end {
        client.enqueue_raw(job("quiet"), Enqueue::new()).await.unwrap();
    }
    let lines = cluster.log(leader).lines().count() - before;
    // Heartbeats and one try of the log every 200 ms or so; without a pause between tries there are tens of thousands.
    assert!(lines < 600, "{lines} lines in 3 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waited_for_a_leader_before_its_first_flush_starts_again() {
    let mut cluster = Cluster::start_with("\n[store]\nflush_interval = \"2s\"\n").await;
    let client = cluster.client().await;
    client.enqueue_raw(job("first"), Enqueue::new()).await.unwrap();
    cluster.kill_all();
    // Alone it applies nothing. Its first checkpoint comes after a second.
    cluster.start_node(1);
    eventually("the node answers", LONG, || cluster.status(1)).await;
    let alone = tokio::time::Instant::now() + Duration::from_millis(1_500);
    tokio::time::sleep_until(alone).await;
    cluster.start_all();
    cluster.leader().await;
    let end = tokio::time::Instant::now() + 5 * SECOND;
    while tokio::time::Instant::now() < end {
        client.enqueue_raw(job("more"), Enqueue::new()).await.unwrap();
    }
    cluster.kill(1);
    cluster.start_node(1);
    eventually("the node is back", LONG, || cluster.status(1)).await;
    cluster.agree().await;
}
