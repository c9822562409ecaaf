//! Figures of the log, the membership and the age of the state, for the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::NodeId;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::freshness::Confirmations;
use crate::membership::Membership;
use crate::storage::Applied;
use crate::types::{LogId, OpenRaft};

const EVERY: Duration = Duration::from_secs(1);

/// Where the figures come from.
pub(crate) struct Figures {
    pub(crate) node: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) state: Arc<Mutex<Applied>>,
    pub(crate) confirmations: Confirmations,
}

impl Figures {
    /// Sets the gauges again and again, until `stop`.
    pub(crate) async fn publish(self, stop: CancellationToken) {
        let last = metrics::gauge!("muster_raft_last_log_index");
        let commit = metrics::gauge!("muster_raft_commit_index");
        let applied = metrics::gauge!("muster_raft_applied_index");
        let voters = metrics::gauge!("muster_raft_voters");
        let learners = metrics::gauge!("muster_raft_learners");
        let joint = metrics::gauge!("muster_raft_membership_joint");
        let drained = metrics::gauge!("muster_node_drained");
        let age = metrics::gauge!("muster_state_age_seconds");
        let mut interval = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = stop.cancelled() => return,
            }
            let (membership, applied_index) = {
                let figures = self.raft.metrics();
                let figures = figures.borrow_watched();
                let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
                let applied_index = index(figures.last_applied);
                last.set(figures.last_log_index.unwrap_or_default() as f64);
                commit.set(index(figures.local_committed) as f64);
                applied.set(applied_index as f64);
                (Membership::from(&*figures.membership_config), applied_index)
            };
            let members = membership.members.len();
            let voting = membership
                .members
                .iter()
                .filter(|member| membership.is_voter(member.id))
                .count();
            voters.set(voting as f64);
            learners.set((members - voting) as f64);
            joint.set(f64::from(u8::from(membership.is_joint())));
            let own = self.state.lock().core.node(self.node).is_some_and(|row| row.drained);
            drained.set(f64::from(u8::from(own)));
            let known = self.confirmations.age(applied_index, Instant::now());
            age.set(known.map_or(-1.0, |age| age.as_secs_f64()));
        }
    }
}
