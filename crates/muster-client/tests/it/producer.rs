//! Enqueues: coalescing, retries under the same id, the three outcomes, the way to the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use muster_client::{Client, Code, Enqueue, Error, JobId, RawJob};
use tokio::sync::Notify;

use crate::fake::{Act, Cluster, Fake, within};

fn client(nodes: &[&Fake]) -> Client {
    Client::builder()
        .addresses(nodes.iter().map(|node| node.address.clone()))
        .attempt_timeout(Duration::from_millis(300))
        .deadline(Duration::from_secs(8))
        .connect_lazy()
        .unwrap()
}

async fn enqueue(client: &Client) -> Result<muster_client::Enqueued, Error> {
    within(client.enqueue_raw(RawJob::new("k", "x"), Enqueue::new())).await
}

/// `first` for the first frame, then accept.
fn first(act: Act) -> impl Fn(usize) -> Act + Send + Sync + 'static {
    move |number| if number == 0 { act.clone() } else { Act::Accept }
}

#[tokio::test]
async fn concurrent_calls_share_frames() {
    let cluster = Cluster::default();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let node = Fake::start(&cluster, move |number| {
        if number < 2 {
            Act::AcceptAfter(Arc::clone(&gate))
        } else {
            Act::Accept
        }
    })
    .await;
    let client = client(&[&node]);
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { enqueue(&client).await.unwrap().id })
        })
        .collect();
    // The first frames wait for the gate; what comes meanwhile shares the next ones.
    within(async {
        while node.frames().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.notify_one();
    go.notify_one();
    let ids: Vec<_> = join_all(calls)
        .await
        .into_iter()
        .map(|id| id.unwrap().to_string())
        .collect();
    let frames = node.frames();
    assert!(frames.len() <= 8, "1,000 calls made {} frames", frames.len());
    assert_eq!(frames.iter().map(Vec::len).sum::<usize>(), 1_000);
    // Each caller got its own id.
    let accepted = cluster.accepted.lock().unwrap();
    assert!(ids.iter().all(|id| accepted.contains(id)) && accepted.len() == 1_000);
}

#[tokio::test]
async fn a_broken_stream_repeats_the_same_id_and_the_caller_hears_once() {
    let cluster = Cluster::default();
    let node = Fake::start(&cluster, first(Act::AcceptAndBreak)).await;
    let enqueued = enqueue(&client(&[&node])).await.unwrap();
    assert!(enqueued.existed, "the first attempt had been accepted");
    let frames = node.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0], frames[1]);
    assert_eq!(frames[0], [enqueued.id.to_string()]);
    assert_eq!(cluster.accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn unanswered_until_the_deadline_is_unknown() {
    let cluster = Cluster::default();
    let node = Fake::start(&cluster, |_| Act::Silent).await;
    let options = Enqueue::new().deadline(Duration::from_millis(700));
    let error = within(client(&[&node]).enqueue_raw(RawJob::new("k", "x"), options))
        .await
        .unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert!(cluster.accepted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn never_sent_is_not_done() {
    // A port that nobody listens on.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::builder()
        .addresses([address])
        .deadline(Duration::from_millis(300))
        .connect_lazy()
        .unwrap();
    let error = enqueue(&client).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotDone(reason) if reason.reason == "NO_NODE_REACHABLE"),
        "{error}"
    );
    assert!(matches!(client.cancel(JobId::new()).await, Err(Error::NotDone(_))));
}

#[tokio::test]
async fn a_refusal_is_not_done_and_not_repeated() {
    let node = Fake::start(&Cluster::default(), |_| {
        Act::Refuse(Code::InvalidArgument, "PAYLOAD_TOO_LARGE", None)
    })
    .await;
    let error = enqueue(&client(&[&node])).await.unwrap_err();
    let Error::NotDone(reason) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (reason.code, reason.reason.as_str()),
        (Code::InvalidArgument, "PAYLOAD_TOO_LARGE")
    );
    assert_eq!(node.frames().len(), 1);
}

#[tokio::test]
async fn a_refusal_after_an_unanswered_attempt_is_unknown() {
    let node = Fake::start(&Cluster::default(), |number| match number {
        0 => Act::AcceptAndBreak,
        _ => Act::Refuse(Code::ResourceExhausted, "TENANT_FULL", None),
    })
    .await;
    let error = enqueue(&client(&[&node])).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert_eq!(error.reason().unwrap().reason, "TENANT_FULL");
}

#[tokio::test]
async fn turned_away_jobs_are_repeated_under_the_same_id() {
    for code in [Code::Unavailable, Code::DeadlineExceeded] {
        let node = Fake::start(&Cluster::default(), first(Act::Refuse(code, "NO_LEADER", None))).await;
        let enqueued = enqueue(&client(&[&node])).await.unwrap();
        assert!(!enqueued.existed);
        let frames = node.frames();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0], frames[1]);
    }
}

#[tokio::test]
async fn retry_after_is_honoured_within_the_deadline_and_told_beyond_it() {
    let after = Duration::from_millis(150);
    let refuse = Act::Refuse(Code::ResourceExhausted, "RATE", Some(after));
    let node = Fake::start(&Cluster::default(), first(refuse)).await;
    let begin = std::time::Instant::now();
    enqueue(&client(&[&node])).await.unwrap();
    assert!(begin.elapsed() >= after);

    let refuse = Act::Refuse(Code::ResourceExhausted, "RATE", Some(Duration::from_mins(1)));
    let node = Fake::start(&Cluster::default(), first(refuse)).await;
    let error = enqueue(&client(&[&node])).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotDone(reason) if reason.retry_after == Some(Duration::from_mins(1))),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_leader_is_left_for_another_node_and_not_asked_again() {
    let cluster = Cluster::default();
    let isolated = Fake::start(&cluster, |_| Act::Silent).await;
    let other = Fake::start(&cluster, |_| Act::Accept).await;
    // Both name the isolated one.
    *cluster.leader.lock().unwrap() = isolated.address.clone();
    let client = client(&[&isolated]);
    let enqueued = enqueue(&client).await.unwrap();
    assert_eq!(isolated.frames(), [[enqueued.id.to_string()]]);
    assert_eq!(other.frames(), isolated.frames());
    enqueue(&client).await.unwrap();
    assert_eq!(isolated.frames().len(), 1, "the isolated leader was asked again");
}

#[tokio::test]
async fn the_hint_leads_to_the_leader() {
    let cluster = Cluster::default();
    let follower = Fake::start(&cluster, |_| Act::Accept).await;
    let leader = Fake::start(&cluster, |_| Act::Accept).await;
    let client = client(&[&follower]);
    // No leader is known at first: any node forwards.
    enqueue(&client).await.unwrap();
    assert_eq!((follower.frames().len(), leader.frames().len()), (1, 0));
    *cluster.leader.lock().unwrap() = leader.address.clone();
    enqueue(&client).await.unwrap();
    assert_eq!(follower.frames().len(), 2, "the hint comes with the answer");
    enqueue(&client).await.unwrap();
    assert_eq!((follower.frames().len(), leader.frames().len()), (2, 1));
}

#[tokio::test]
async fn many_jobs_have_their_own_results_in_order_and_bounded_frames() {
    let cluster = Cluster::default();
    let node = Fake::start(&cluster, |_| Act::Accept).await;
    let ids: Vec<_> = (0..2_500).map(|_| JobId::new()).collect();
    let jobs = ids.iter().map(|id| (RawJob::new("k", "x"), Enqueue::new().id(*id)));
    let results = within(client(&[&node]).enqueue_many_raw(jobs)).await;
    let accepted: Vec<_> = results.into_iter().map(|result| result.unwrap().id).collect();
    assert_eq!(accepted, ids);
    assert!(node.frames().iter().all(|frame| frame.len() <= 1_000));
}

#[tokio::test]
async fn a_dropped_call_hurts_nobody_and_tenants_have_their_own_streams() {
    let node = Fake::start(&Cluster::default(), |_| Act::Accept).await;
    let client = client(&[&node]);
    let dropped = AtomicUsize::new(0);
    for _ in 0..10 {
        let call = client.enqueue_raw(RawJob::new("k", "x"), Enqueue::new());
        tokio::select! {
            biased;
            _ = call => {}
            () = std::future::ready(()) => { dropped.fetch_add(1, Ordering::Relaxed); }
        }
    }
    assert!(dropped.into_inner() > 0);
    enqueue(&client).await.unwrap();
    enqueue(&client.with_tenant("acme").unwrap()).await.unwrap();
    let tenants = node.log.lock().unwrap().tenants.clone();
    assert!(tenants.contains("default") && tenants.contains("acme"));
}

#[tokio::test]
async fn a_full_quota_is_waited_for_at_the_same_node() {
    let cluster = Cluster::default();
    let full = Act::Refuse(
        Code::ResourceExhausted,
        "QUOTA_EXCEEDED",
        Some(Duration::from_millis(30)),
    );
    let script = move |number| if number < 5 { full.clone() } else { Act::Accept };
    let node = Fake::start(&cluster, script.clone()).await;
    let other = Fake::start(&cluster, script).await;
    let began = std::time::Instant::now();
    enqueue(&client(&[&node, &other])).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150), "five times 30 ms");
    let mut frames = [node.frames().len(), other.frames().len()];
    frames.sort_unstable();
    assert_eq!(frames, [0, 6], "every node would have said the same");
}
