//! Says once when a member falls silent and once when it is back, on the leader. Openraft says it with every heartbeat.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::NodeId;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use crate::peer::Channels;
use crate::types::OpenRaft;

/// How often members are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Whether each other member answered within `recent`, as far as this node knows: as the leader.
pub(crate) fn answered(raft: &OpenRaft, node: NodeId, recent: Duration) -> BTreeMap<NodeId, bool> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let others = metrics.heartbeat.iter().flatten().filter(|(other, _)| **other != node);
    others
        .map(|(other, at)| (*other, at.is_some_and(|at| at.elapsed() < recent)))
        .collect()
}

/// `channels` know who gets a snapshot and therefore does not answer.
pub(crate) async fn report_silence(
    raft: OpenRaft,
    channels: Channels,
    node: NodeId,
    recent: Duration,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK);
    let mut known = BTreeMap::new();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let mut now = answered(&raft, node, recent);
        for other in channels.sending() {
            now.entry(other).and_modify(|answers| *answers = true);
        }
        for (other, answers) in &now {
            match (known.get(other), answers) {
                (Some(false), true) => tracing::info!(node, member = other, "the member answers again"),
                (Some(true), false) => tracing::warn!(
                    node,
                    member = other,
                    "the member does not answer; the others go on as long as they are a majority"
                ),
                _ => {}
            }
        }
        known = now;
    }
}
