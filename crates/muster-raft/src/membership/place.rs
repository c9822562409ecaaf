//! A node's own place in the cluster: whether it still has one, and whether it may lead.

use std::time::Duration;

use muster_core::NodeState;
use muster_failpoint::failpoint;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Parts, long_silence};
use crate::error::Error;
use crate::leadership::Lead;
use crate::peer::{Standing, hello};

/// How often a node looks.
const LOOK: Duration = Duration::from_millis(250);
/// Between two rounds of questions of a node that hears nothing.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A leader that removed itself goes on for this long at most: the others must hear that its going is committed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Ends the node when it was removed; keeps it from standing for election while it is drained and others can.
pub(super) async fn run(parts: Parts, stop: CancellationToken) {
    let mut asked_at = Instant::now();
    let mut may_lead = true;
    let mut changed = parts.changed.clone();
    loop {
        tokio::select! {
            news = changed.changed() => if news.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let me = parts.options.node;
        let (own, drained) = {
            let state = parts.state.lock();
            let own = state.core.node(me);
            let removed = own
                .filter(|row| row.state == NodeState::Removed)
                .map(|row| row.since_index);
            (removed, own.is_some_and(|row| row.drained))
        };
        let silent = parts.contact.silence() > long_silence(&parts.options);
        let leads = matches!(*parts.lead.borrow(), Lead::Me { .. });
        let removed = match own {
            Some(index) => {
                farewell(&parts).await;
                Some((index, parts.state.lock().core.next_node_id()))
            }
            None if silent && !leads && asked_at.elapsed() >= ASK_EVERY => {
                asked_at = Instant::now();
                removed_by_word(&parts).await
            }
            None => None,
        };
        if let Some((index, next)) = removed {
            failpoint!("membership.removed.before_end");
            let own = parts.options.own();
            let error = Error::Removed {
                node: me,
                cluster: parts.cluster,
                index,
                next,
                peer: own.peer.as_str().into(),
                api: own.api.as_str().into(),
            };
            tracing::error!(%error, "the process must end");
            parts.fatal.send_replace(Some(error));
            return;
        }
        // As a last resort a drained node stands too: it may be the only one with all entries. It then hands over.
        let may = !drained || (silent && !leads);
        if may != may_lead {
            may_lead = may;
            tracing::info!(node = me, may_lead, drained, "standing for election");
            parts.raft.runtime_config().elect(may);
        }
    }
}

/// Waits while this node still leads and others need to hear that it goes.
async fn farewell(parts: &Parts) {
    let mut lead = parts.lead.clone();
    let over = lead.wait_for(|lead| !matches!(lead, Lead::Me { .. }));
    let _late = tokio::time::timeout(FAREWELL, over).await;
}

/// Asks the members. A node that left does not hear of it in its log: nobody sends to it any more.
async fn removed_by_word(parts: &Parts) -> Option<(u64, u64)> {
    let members = parts.channels.known();
    let me = parts.options.node;
    let others = members.into_iter().filter(|node| *node != me);
    let answers = futures::future::join_all(others.map(|node| hello(&parts.channels, me, node))).await;
    let answers = answers.into_iter().filter_map(|answer| answer.ok().flatten());
    let mut ours = answers.filter(|answer| answer.cluster == Some(parts.cluster));
    ours.find_map(|answer| match answer.standing {
        Some(Standing::Removed { index }) => Some((index, answer.next_node)),
        _ => None,
    })
}
