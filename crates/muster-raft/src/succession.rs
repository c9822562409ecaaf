//! A cluster that lost its majority is recovered under a new id. Nodes that were given up for lost may come back all the
//! same: they must learn that their cluster has a successor, and the successor must not be stopped by them.

use std::sync::Arc;
use std::time::Duration;

use muster_core::NodeId;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::peer::{Channels, hello};
use crate::types::OpenRaft;

/// How often a running node asks the members which cluster they belong to.
const LOOK: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours {
    pub(crate) node: NodeId,
    pub(crate) cluster: u128,
    pub(crate) predecessor: Option<u128>,
}

impl Ours {
    /// What the word of another node means for this one: an error if it must not go on.
    pub(crate) fn judge(&self, peer: NodeId, theirs: u128, their_predecessor: Option<u128>) -> Result<(), Error> {
        if theirs == self.cluster {
            return Ok(());
        }
        if their_predecessor == Some(self.cluster) {
            return Err(Error::Superseded {
                node: self.node,
                peer,
                ours: self.cluster,
                theirs,
            });
        }
        if self.predecessor == Some(theirs) {
            tracing::warn!(
                node = self.node,
                peer,
                "node {peer} still runs in cluster {theirs:032x}, which this cluster took the place of; stop it"
            );
            return Ok(());
        }
        Err(Error::OtherCluster {
            peer,
            theirs,
            ours: self.cluster,
        })
    }
}

/// Stops this node when a member turns out to belong to the successor of its cluster.
pub(crate) async fn watch_succession(
    raft: OpenRaft,
    channels: Channels,
    ours: Ours,
    fatal: Arc<watch::Sender<Option<Error>>>,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let members = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().clone()
        };
        for (member, _) in members.nodes().filter(|(member, _)| **member != ours.node) {
            let Ok(Some(answer)) = hello(&channels, ours.node, *member).await else {
                continue;
            };
            let Some(theirs) = answer.cluster else { continue };
            // Another cluster at a member's address is no reason to stop what works.
            if let Err(error @ Error::Superseded { .. }) = ours.judge(*member, theirs, answer.predecessor) {
                tracing::error!(%error, "the process must end");
                fatal.send_replace(Some(error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_goes_on_and_the_superseded_does_not() {
        let ours = Ours {
            node: 2,
            cluster: 7,
            predecessor: Some(6),
        };
        assert!(ours.judge(1, 7, None).is_ok());
        assert!(ours.judge(1, 6, None).is_ok(), "a node of the old cluster");
        assert!(matches!(
            ours.judge(1, 8, Some(7)),
            Err(Error::Superseded { peer: 1, theirs: 8, .. })
        ));
        assert!(matches!(
            ours.judge(1, 9, Some(6)),
            Err(Error::OtherCluster { theirs: 9, .. })
        ));
    }
}
