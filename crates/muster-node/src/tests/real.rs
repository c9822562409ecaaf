//! The node over a real Raft of one member.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use muster_core::{Command, JobState, Reply, ReportReply};
use muster_raft::{MemberConfig, Raft, RaftOptions};
use muster_store::{Store, StoreOptions};

use super::life::succeed;
use crate::testing::{PATIENCE, open, options, output, spec};
use crate::{HandlerRegistry, Node, NodeHub, SessionEnd};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_through_log_and_disk() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = MemberConfig {
        id: 1,
        peer: listener.local_addr().unwrap().to_string(),
        api: "127.0.0.1:1".to_owned(),
    };
    let store = Store::open(StoreOptions::new(folder.path())).unwrap();
    let hub = NodeHub::new();
    let raft = Raft::start(RaftOptions::new(1, vec![member]), store, hub.clone(), listener);
    let raft = tokio::time::timeout(PATIENCE, raft).await.unwrap().unwrap();
    let node = Node::start(options(), raft.clone(), hub, HandlerRegistry::default())
        .await
        .unwrap();
    let mut session = open(&node, 10_000, 1).await;
    let deadline = (Instant::now() + PATIENCE).into();
    let mut later = spec(1, "work");
    later.available_at = crate::clock::wall_clock() + 200;
    let reply = raft.propose(Command::Enqueue(Box::new(later)), deadline).await.unwrap();
    assert!(matches!(reply, Reply::Enqueued(_)), "{reply:?}");
    let job = output(&mut session).await.jobs.remove(0);
    succeed(&session, &job, 1).await;
    let acks = output(&mut session).await.acks;
    assert_eq!(acks[0].reply, ReportReply::Accepted(JobState::Succeeded));
    // The checkpointer has written or will have: the row is read from history either way.
    let history = node.raft().store().state().history_job(job.spec.id).unwrap();
    assert_eq!(history.map(|row| row.state), Some(JobState::Succeeded));
    tokio::time::timeout(Duration::from_secs(5), node.shutdown())
        .await
        .unwrap();
    assert_eq!(session.end(), Some(SessionEnd::Shutdown));
    raft.shutdown().await;
}
