//! Which feature levels the members understand, and the level of a new cluster.

use std::time::Duration;

use muster_core::{Command, NodeId};
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::facts::Facts;
use crate::proposer::Submitter;
use crate::types::OpenRaft;

/// Longest wait for all members of a new cluster to say what they understand.
const HEAR_ALL: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// For the proposal.
const PROPOSE: Duration = Duration::from_secs(5);

/// What a member's program understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLevel {
    /// The member.
    pub node: NodeId,
    /// Version of its program and the highest level it understands; `None`: it has not been heard of lately.
    pub understands: Option<(String, u32)>,
}

/// What all members understand, as this node has heard.
pub(crate) fn member_levels(raft: &OpenRaft, facts: &Facts, own: NodeId) -> Vec<MemberLevel> {
    let membership = raft.server_metrics().borrow_watched().membership_config.clone();
    let understood = |node: NodeId| {
        let facts = if node == own { Some(facts.own()) } else { facts.of(node) };
        facts.map(|facts| (facts.version, facts.level_max))
    };
    let member = |(node, _): (&NodeId, _)| MemberLevel {
        node: *node,
        understands: understood(*node),
    };
    membership.nodes().map(member).collect()
}

/// A cluster that was made just now has no old data, so it begins with all that its members understand.
#[derive(Clone)]
pub(crate) struct NewCluster {
    pub(crate) raft: OpenRaft,
    pub(crate) facts: Facts,
    pub(crate) node: NodeId,
}

impl NewCluster {
    /// Proposes the highest level that all members understand. If it comes to nothing, an operator can do it.
    pub(crate) async fn raise(self, submitter: Submitter, stop: CancellationToken) {
        let end = Instant::now() + HEAR_ALL;
        let level = loop {
            let levels = member_levels(&self.raft, &self.facts, self.node);
            let understood: Option<Vec<u32>> = levels
                .into_iter()
                .map(|member| member.understands.map(|(_, level)| level))
                .collect();
            if let Some(level) = understood.and_then(|levels| levels.into_iter().min()) {
                break level;
            }
            if Instant::now() >= end {
                tracing::warn!("not all members said which feature level they understand; see muster cluster upgrade");
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        };
        let raised = submitter
            .submit(vec![Command::SetLevel { level }], Instant::now() + PROPOSE)
            .await;
        if let Err(error) = raised {
            tracing::warn!(%error, level, "the feature level of the new cluster was not raised; see muster cluster upgrade");
        }
    }
}
