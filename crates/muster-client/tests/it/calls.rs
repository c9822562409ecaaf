//! Unary calls: rotation, deadlines, waiting, watching.

use std::time::Duration;

use futures::StreamExt;
use muster_client::{Client, Code, Error, Job, JobId, JobState};
use serde::{Deserialize, Serialize};

use crate::fake::{Act, Cluster, Fake, within};

fn client(nodes: &[&Fake]) -> Client {
    Client::builder()
        .addresses(nodes.iter().map(|node| node.address.clone()))
        .attempt_timeout(Duration::from_millis(300))
        .deadline(Duration::from_secs(5))
        .connect_lazy()
        .unwrap()
}

#[derive(Serialize, Deserialize)]
struct Count;

impl Job for Count {
    const KIND: &'static str = "count";
    type Output = u32;
}

#[tokio::test]
async fn a_silent_node_costs_one_attempt() {
    let cluster = Cluster::default();
    let silent = Fake::start(&cluster, |_| Act::Silent).await;
    let other = Fake::start(&cluster, |_| Act::Accept).await;
    let client = client(&[&silent, &other]);
    assert_eq!(within(client.cancel(JobId::new())).await.unwrap(), JobState::Cancelled);
    assert_eq!(within(client.cancel(JobId::new())).await.unwrap(), JobState::Cancelled);
    assert_eq!(silent.log.lock().unwrap().calls, 1);
}

#[tokio::test]
async fn a_node_without_a_leader_is_left_and_a_refusal_is_final() {
    let cluster = Cluster::default();
    let lost = Fake::start(&cluster, |_| Act::Refuse(Code::Unavailable, "NO_LEADER", None)).await;
    let refusing = Fake::start(&cluster, |_| Act::Refuse(Code::NotFound, "UNKNOWN_JOB", None)).await;
    let error = within(client(&[&lost, &refusing]).cancel(JobId::new()))
        .await
        .unwrap_err();
    assert!(error.is_not_found() && !error.is_unknown(), "{error}");
}

#[tokio::test]
async fn all_attempts_of_an_administrative_call_are_one_request() {
    let cluster = Cluster::default();
    let silent = Fake::start(&cluster, |_| Act::Silent).await;
    let other = Fake::start(&cluster, |_| Act::Accept).await;
    let client = client(&[&silent, &other]);
    within(client.drain_node(4, "disk")).await.unwrap();
    within(client.drain_node(4, "disk")).await.unwrap();
    let requests = cluster.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[0].len() == 36 && requests[0] == requests[1], "{requests:?}");
    assert_ne!(requests[1], requests[2]);
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let silent = Fake::start(&Cluster::default(), |_| Act::Silent).await;
    let client = Client::builder()
        .addresses([silent.address.clone()])
        .attempt_timeout(Duration::from_millis(100))
        .deadline(Duration::from_millis(400))
        .connect_lazy()
        .unwrap();
    let error = within(client.cancel(JobId::new())).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
}

#[tokio::test]
async fn wait_asks_again_until_the_end_and_gives_the_typed_output() {
    // Frames and calls are counted apart: the first two of each are turned away.
    let node = Fake::start(&Cluster::default(), |number| {
        if number < 2 {
            Act::Refuse(Code::Aborted, "LIVE", None)
        } else {
            Act::Accept
        }
    })
    .await;
    let client = client(&[&node]);
    let job = within(client.enqueue(Count)).await.unwrap();
    assert_eq!(within(job.wait(Duration::from_secs(5))).await.unwrap(), 7);
    assert_eq!(node.log.lock().unwrap().calls, 3);
}

#[tokio::test]
async fn a_wait_that_runs_out_says_where_the_job_stands() {
    let node = Fake::start(&Cluster::default(), |_| Act::Refuse(Code::Aborted, "LIVE", None)).await;
    let error = within(client(&[&node]).wait(JobId::new(), Duration::from_millis(200)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::StillLive {
                state: JobState::Running,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn watch_goes_on_after_a_break_without_telling_twice() {
    let node = Fake::start(
        &Cluster::default(),
        |number| if number == 0 { Act::Break } else { Act::Accept },
    )
    .await;
    let states: Vec<_> = within(
        client(&[&node])
            .watch(JobId::new())
            .map(|job| job.unwrap().state)
            .collect(),
    )
    .await;
    assert_eq!(states, [JobState::Available, JobState::Running, JobState::Succeeded]);
}

#[tokio::test]
async fn connect_learns_the_members() {
    let cluster = Cluster::default();
    let first = Fake::start(&cluster, |_| Act::Accept).await;
    let second = Fake::start(&cluster, |_| Act::Accept).await;
    let client = within(Client::connect([first.address.clone()])).await.unwrap();
    assert_eq!(client.addresses(), [first.address.clone(), second.address.clone()]);
}

#[test]
fn settings_are_checked() {
    let check = |builder: muster_client::ClientBuilder, expected: &str| match builder.connect_lazy() {
        Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
        other => panic!("{other:?}"),
    };
    check(Client::builder(), "addresses");
    check(Client::builder().addresses(["not an address"]), "addresses");
    check(Client::builder().addresses(["127.0.0.1:1"]).tenant("a b"), "tenant");
}
