//! Handing the lead to another voter.

use muster_core::NodeId;
use muster_failpoint::failpoint;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::{Membership, Parts};
use crate::leadership::Lead;
use crate::silence::answered;

/// What came of asking for another leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// The node asked for leads.
    Done,
    /// There is no such member.
    UnknownNode,
    /// It has no vote.
    Learner,
    /// It leads already.
    LeadsAlready,
    /// It is drained.
    Drained,
    /// It does not answer, so it could not take the lead.
    Unreachable,
    /// It did not take the lead in time; another node may lead now, or still.
    NotTaken {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
}

/// On the leader: has `to` take the lead. Returns when it has, or did not.
pub(crate) async fn hand_over(parts: &Parts, to: NodeId) -> HandOver {
    let me = parts.options.node;
    let membership = {
        let server = parts.raft.server_metrics();
        let server = server.borrow_watched();
        Membership::from(&*server.membership_config)
    };
    if to == me {
        return HandOver::LeadsAlready;
    }
    if !membership.members.iter().any(|member| member.id == to) {
        return HandOver::UnknownNode;
    }
    if !membership.is_voter(to) {
        return HandOver::Learner;
    }
    let [to_drained, drained] = {
        let state = parts.state.lock();
        [to, me].map(|node| state.core.node(node).is_some_and(|row| row.drained))
    };
    // A drained leader may have nobody else.
    if to_drained && !drained {
        return HandOver::Drained;
    }
    let answers = answered(&parts.raft, me, parts.options.election_max);
    if answers.get(&to) != Some(&true) {
        return HandOver::Unreachable;
    }
    tracing::info!(node = me, to, "handing over the lead");
    let mut lead = parts.lead.clone();
    // The other one catches up, is asked, and stands for election; if it does not, the rest elect.
    let deadline = Instant::now() + parts.options.election_max * 3;
    failpoint!("hand_over.trigger.before");
    if parts.raft.trigger().transfer_leader(to).await.is_err() {
        return HandOver::NotTaken { leader: None };
    }
    failpoint!("hand_over.trigger.after");
    let taken = lead.wait_for(|lead| matches!(lead, Lead::Other { .. }));
    let leader = match tokio::time::timeout_at(deadline, taken).await {
        Ok(Ok(lead)) => match *lead {
            Lead::Other { node, .. } => Some(node),
            Lead::Me { .. } | Lead::Nobody { .. } => None,
        },
        _ => match *parts.lead.borrow() {
            Lead::Other { node, .. } => Some(node),
            Lead::Me { .. } => Some(me),
            Lead::Nobody { .. } => None,
        },
    };
    if leader == Some(to) {
        HandOver::Done
    } else {
        HandOver::NotTaken { leader }
    }
}

/// Before this node stops: has the voter take the lead that answers and has most of the log. `None`: this node does not lead, or
/// there is nobody to hand over to.
pub(crate) async fn leave_lead(parts: &Parts) -> Option<HandOver> {
    if !matches!(*parts.lead.borrow(), Lead::Me { .. }) {
        return None;
    }
    let me = parts.options.node;
    let answers = answered(&parts.raft, me, parts.options.election_max);
    let to = {
        let metrics = parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = Membership::from(&*metrics.membership_config);
        let state = parts.state.lock();
        let drained = |node: NodeId| state.core.node(node).is_some_and(|row| row.drained);
        let matched = metrics.replication.iter().flatten();
        let able = matched.filter(|(node, _)| {
            **node != me && membership.is_voter(**node) && answers.get(node) == Some(&true) && !drained(**node)
        });
        able.max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index))
            .map(|(node, _)| *node)
    };
    Some(hand_over(parts, to?).await)
}
