//! Every kind of actor crashes and is started again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_core::{JobState, ReportReply};
use ractor::{ActorCell, ActorStatus, Message};

use super::life::succeed;
use crate::Node;
use crate::checkpointer::CheckpointerMsg;
use crate::local::LocalWorkersMsg;
use crate::scheduler::SchedulerMsg;
use crate::session::{SessionEnd, SessionMsg};
use crate::sessions::SessionsMsg;
use crate::supervisor::{Part, SupervisorMsg};
use crate::testing::{PATIENCE, eventually, open, output, spec, start};

pub(super) async fn find(node: &Node, part: Part) -> Option<ActorCell> {
    ractor::call_t!(node.supervisor(), SupervisorMsg::Find, 1_000, part)
        .ok()
        .flatten()
}

/// Makes the actor of a part panic and waits for its successor.
async fn crash(node: &Node, part: Part, panic: impl Message) {
    let first = find(node, part).await.unwrap();
    first.send_message(panic).unwrap();
    let successor = async {
        loop {
            match find(node, part).await {
                Some(cell) if cell.get_id() != first.get_id() => return cell,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    let second = tokio::time::timeout(PATIENCE, successor).await.unwrap();
    assert_eq!(first.get_status(), ActorStatus::Stopped);
    assert_ne!(second.get_status(), ActorStatus::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_comes_back_and_timers_still_fire() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let mut later = spec(1, "work");
    later.available_at = crate::clock::wall_clock() + 400;
    stand.enqueue(later);
    crash(&node, Part::Scheduler, SchedulerMsg::Panic).await;
    assert_eq!(output(&mut session).await.jobs.len(), 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpointer_comes_back_and_writes() {
    let (node, stand) = start().await;
    crash(&node, Part::Checkpointer, CheckpointerMsg::Panic).await;
    let before = stand.checkpoints.load(Ordering::SeqCst);
    stand.enqueue(spec(1, "work"));
    eventually("a checkpoint", || stand.checkpoints.load(Ordering::SeqCst) > before).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_ends_the_node() {
    let (node, stand) = start().await;
    stand.checkpoint_fails.store(true, Ordering::SeqCst);
    stand.enqueue(spec(1, "work"));
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(reason.contains("disk full"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_its_actor() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 2).await;
    stand.enqueue(spec(1, "work"));
    let first = output(&mut session).await.jobs.remove(0);
    // A report is under way when the actor goes.
    stand.cut.store(true, Ordering::SeqCst);
    succeed(&session, &first, 1).await;
    let link = node.context().hub.link(session.id).unwrap();
    let actor = link.actor.actor().unwrap();
    actor.cast(SessionMsg::Panic).unwrap();
    eventually("the actor is gone", || actor.get_status() == ActorStatus::Stopped).await;
    // A job comes meanwhile, and the worker gets it.
    stand.enqueue(spec(2, "work"));
    let second = output(&mut session).await.jobs.remove(0);
    stand.cut.store(false, Ordering::SeqCst);
    let acks = output(&mut session).await.acks;
    assert_eq!(acks[0].reply, ReportReply::Accepted(JobState::Succeeded));
    succeed(&session, &second, 0).await;
    assert_eq!(output(&mut session).await.acks.len(), 1);
    assert_ne!(link.actor.actor().unwrap().get_id(), actor.get_id());
    let credits = stand.with(|core| core.sessions()[0].row.credit_total);
    assert_eq!(credits, 3, "credits count once");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_actor_crashes_again_and_again_is_closed_without_a_loss() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let id = stand.enqueue(spec(1, "work"));
    assert_eq!(output(&mut session).await.jobs.len(), 1);
    let link = node.context().hub.link(session.id).unwrap();
    eventually("the session fails", || {
        link.actor.cast(SessionMsg::Panic);
        link.end().is_some()
    })
    .await;
    while session.next().await.is_some() {}
    assert_eq!(session.end(), Some(SessionEnd::Failed));
    let row = stand.job(id).unwrap();
    assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
    // Only the session failed, not the node.
    let mut other = open(&node, 10_000, 1).await;
    assert_eq!(output(&mut other).await.jobs.len(), 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_their_supervisor() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    crash(&node, Part::Sessions, SessionsMsg::Panic).await;
    succeed(&session, &job, 1).await;
    assert_eq!(output(&mut session).await.acks.len(), 1);
    assert_eq!(stand.sessions(), [session.id]);
    let mut new = open(&node, 10_000, 0).await;
    drop(session);
    eventually("the dropped one is gone", || stand.sessions() == [new.id]).await;
    stand.enqueue(spec(2, "work"));
    let credit = crate::SessionInput {
        credits: 1,
        ..crate::SessionInput::default()
    };
    new.send(credit).await.unwrap();
    assert_eq!(output(&mut new).await.jobs.len(), 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_of_local_workers_comes_back() {
    let (node, _stand) = start().await;
    crash(&node, Part::LocalWorkers, LocalWorkersMsg::Panic).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_crashes_again_and_again_ends_the_node() {
    let (node, _stand) = start().await;
    for _ in 0..3 {
        crash(&node, Part::Checkpointer, CheckpointerMsg::Panic).await;
    }
    let last = find(&node, Part::Checkpointer).await.unwrap();
    last.send_message(CheckpointerMsg::Panic).unwrap();
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(reason.contains("checkpointer crashed more than 3 times"), "{reason}");
}
