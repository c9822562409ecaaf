//! Calls about the membership: a new node's join, the members' progress, another leader.

use std::net::SocketAddr;
use std::time::Duration;

use muster_core::{ClusterCommand, ClusterRefusal, Command, NodeId, Refusal, Reply};
use muster_proto::peer as wire;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::convert;
use crate::handle::Progress;
use crate::join;
use crate::membership::{HandOver, Parts};
use crate::peer::{Channels, Lane};
use crate::silence::answered;
use crate::types::LogId;

/// Time for the proposal of a join; the new node asks again.
const PROPOSE: Duration = Duration::from_secs(5);

/// Proposes the join of the node that asks.
pub(super) async fn join(
    parts: &Parts,
    node: NodeId,
    request: wire::JoinRequest,
) -> Result<wire::join_reply::Outcome, Status> {
    use wire::join_reply::{Accepted, Outcome};
    for (field, address) in [("peer", &request.peer), ("api", &request.api)] {
        // Not shown when it is none: it may be anything.
        if address.parse::<SocketAddr>().is_err() {
            return Err(Status::invalid_argument(format!(
                "{field} is no address like 127.0.0.1:7104"
            )));
        }
    }
    let command = ClusterCommand::Join {
        node,
        hash: join::hash(&request.secret),
        instance: request.instance.map(convert::cluster_in).unwrap_or_default(),
        peer: request.peer.into(),
        api: request.api.into(),
    };
    let commands = vec![Command::Cluster(Box::new(command))];
    let replies = parts.submitter.submit(commands, Instant::now() + PROPOSE).await;
    Ok(match replies.map(|mut replies| replies.pop()) {
        Ok(Some(Reply::ChangeBegun { .. })) => Outcome::Accepted(Accepted {}),
        Ok(Some(Reply::Refused(refusal))) => {
            let waits = matches!(refusal, Refusal::Cluster(ClusterRefusal::ChangeUnderWay { .. }));
            tracing::info!(joining = node, %refusal, "a join was refused");
            if waits {
                Outcome::Wait(refusal.to_string())
            } else {
                Outcome::Refused(refusal.to_string())
            }
        }
        Ok(other) => Outcome::Wait(format!("unexpected reply {other:?}")),
        // Repeating it is safe.
        Err(error) => Outcome::Wait(error.to_string()),
    })
}

/// What this leader knows of the members.
pub(crate) fn own_progress(parts: &Parts) -> Progress {
    let metrics = parts.raft.metrics();
    let metrics = metrics.borrow_watched();
    let index = |id: &Option<LogId>| id.map_or(0, |id| id.index);
    let matched = metrics.replication.iter().flatten();
    Progress {
        last_log_index: metrics.last_log_index.unwrap_or_default(),
        matched: matched.map(|(node, id)| (*node, index(id))).collect(),
        answered: answered(&parts.raft, parts.options.node, parts.options.election_max),
        stage: parts.stage.borrow().clone(),
    }
}

pub(super) fn progress(parts: &Parts) -> wire::ProgressReply {
    let progress = own_progress(parts);
    let member = |(node, matched_index): (NodeId, u64)| wire::MemberProgress {
        node,
        matched_index,
        answers: progress.answered.get(&node) == Some(&true),
    };
    wire::ProgressReply {
        last_log_index: progress.last_log_index,
        members: progress
            .matched
            .iter()
            .map(|(node, index)| member((*node, *index)))
            .collect(),
        stage: progress.stage.clone().unwrap_or_default(),
    }
}

/// Asks another node, which should be the leader, what it knows of the members.
pub(crate) async fn ask_progress(channels: &Channels, leader: NodeId, limit: Duration) -> Result<Progress, String> {
    let mut client = channels
        .client(leader, None, Lane::Control)
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(wire::ProgressRequest {
        header: Some(channels.header(leader)),
    });
    request.set_timeout(limit);
    let reply = client
        .progress(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let reply = reply.into_inner();
    Ok(Progress {
        last_log_index: reply.last_log_index,
        matched: reply
            .members
            .iter()
            .map(|member| (member.node, member.matched_index))
            .collect(),
        answered: reply
            .members
            .iter()
            .map(|member| (member.node, member.answers))
            .collect(),
        stage: Some(reply.stage).filter(|stage| !stage.is_empty()),
    })
}

/// Asks another node, which should be the leader, to hand over.
pub(crate) async fn ask_hand_over(
    channels: &Channels,
    leader: NodeId,
    to_node: NodeId,
    limit: Duration,
) -> Result<HandOver, String> {
    use wire::hand_over_reply::Outcome;
    let mut client = channels
        .client(leader, None, Lane::Control)
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(wire::HandOverRequest {
        header: Some(channels.header(leader)),
        to_node,
    });
    request.set_timeout(limit);
    let reply = client
        .hand_over(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let reply = reply.into_inner();
    Ok(match reply.outcome() {
        Outcome::Done => HandOver::Done,
        Outcome::UnknownNode => HandOver::UnknownNode,
        Outcome::Learner => HandOver::Learner,
        Outcome::LeadsAlready => HandOver::LeadsAlready,
        Outcome::Drained => HandOver::Drained,
        Outcome::Unreachable => HandOver::Unreachable,
        Outcome::NotTaken | Outcome::Unspecified => HandOver::NotTaken {
            leader: Some(reply.leader).filter(|leader| *leader != 0),
        },
    })
}

pub(super) fn hand_over_out(outcome: HandOver) -> wire::HandOverReply {
    use wire::hand_over_reply::Outcome;
    let (outcome, leader) = match outcome {
        HandOver::Done => (Outcome::Done, None),
        HandOver::UnknownNode => (Outcome::UnknownNode, None),
        HandOver::Learner => (Outcome::Learner, None),
        HandOver::LeadsAlready => (Outcome::LeadsAlready, None),
        HandOver::Drained => (Outcome::Drained, None),
        HandOver::Unreachable => (Outcome::Unreachable, None),
        HandOver::NotTaken { leader } => (Outcome::NotTaken, leader),
    };
    wire::HandOverReply {
        outcome: outcome.into(),
        leader: leader.unwrap_or_default(),
    }
}
