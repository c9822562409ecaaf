//! Who leads, and what this node's role is: derived from openraft's metrics and from what was applied here.

use muster_core::NodeId;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::role::Role;
use crate::types::{LeaderId, OpenRaft};

/// Where commands go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// No leader is known.
    Nobody {
        /// Term known.
        term: u64,
    },
    /// This node, as far as it knows.
    Me {
        /// Its term.
        term: u64,
    },
    /// Another node.
    Other {
        /// That node.
        node: NodeId,
        /// Its term.
        term: u64,
    },
}

/// Follows openraft until it stops. `applied` tells the leader of the last applied entry: this node is a full leader
/// only after it applied an entry of its own leadership.
pub(crate) async fn watch_leadership(
    node: NodeId,
    raft: OpenRaft,
    mut applied: watch::Receiver<Option<LeaderId>>,
    lead: watch::Sender<Lead>,
    role: watch::Sender<Role>,
    stop: CancellationToken,
) {
    let mut server = raft.server_metrics();
    loop {
        let (state, term, leader, own) = {
            let metrics = server.borrow_and_update();
            let vote = metrics.vote;
            (
                metrics.state,
                vote.leader_id.term,
                metrics.current_leader,
                vote.leader_id,
            )
        };
        let leads = state == ServerState::Leader && leader == Some(node);
        let now = match leader {
            Some(_) if leads => Lead::Me { term },
            Some(other) if other != node => Lead::Other { node: other, term },
            _ => Lead::Nobody { term },
        };
        let new_role = if !leads {
            Role::Follower {
                term,
                leader: leader.filter(|leader| *leader != node),
            }
        } else if *applied.borrow_and_update() == Some(own) {
            Role::Leader { term }
        } else {
            Role::BecomingLeader { term }
        };
        lead.send_if_modified(|lead| replace(lead, now));
        let was = *role.borrow();
        if role.send_if_modified(|role| replace(role, new_role)) {
            tracing::info!(node, ?was, now = ?new_role, "role");
            report(was, new_role);
        }
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            changed = applied.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

fn report(was: Role, now: Role) {
    metrics::gauge!("muster_raft_term").set(now.term() as f64);
    metrics::gauge!("muster_raft_is_leader").set(if now.is_leader() { 1.0 } else { 0.0 });
    if matches!(now, Role::BecomingLeader { .. } | Role::Leader { .. }) && matches!(was, Role::Follower { .. }) {
        metrics::counter!("muster_raft_elections_won_total").increment(1);
    }
    if was.term() != now.term() {
        metrics::counter!("muster_raft_term_changes_total").increment(1);
    }
}
