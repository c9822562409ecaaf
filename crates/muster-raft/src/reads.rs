//! Linearizable reads: one quorum round for all readers that wait.

use std::time::Duration;

use muster_core::LogIndex;
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use openraft::ReadPolicy;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::error::ReadError;
use crate::freshness::Confirmations;
use crate::leadership::Lead;
use crate::peer::{Channels, Lane};
use crate::types::OpenRaft;

/// Longest single attempt to reach a leader or a quorum.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Wait between attempts while the leader stays the same.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a node that nobody reads from asks all the same, so that it can tell how old a stale answer may be.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);

/// A reader that wants to know up to where it must have applied.
pub(crate) struct ReadCall {
    pub(crate) deadline: Instant,
    /// Asked by another node, which took this one for the leader.
    pub(crate) forwarded: bool,
    pub(crate) reply: oneshot::Sender<Result<LogIndex, ReadError>>,
}

/// Confirms reads; one per node, on the raft thread.
pub(crate) struct Reader {
    pub(crate) raft: OpenRaft,
    pub(crate) channels: Channels,
    pub(crate) lead: watch::Receiver<Lead>,
    pub(crate) calls: UnboundedReceiver<ReadCall>,
    /// Gets each answer.
    pub(crate) confirmations: Confirmations,
}

/// Asks now and then, until `stop`.
pub(crate) async fn confirm(reads: UnboundedSender<ReadCall>, stop: CancellationToken) {
    let mut next = tokio::time::interval(CONFIRM_EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = next.tick() => {}
            () = stop.cancelled() => return,
        }
        let (reply, answer) = oneshot::channel();
        let call = ReadCall {
            deadline: Instant::now() + CONFIRM_EVERY,
            forwarded: false,
            reply,
        };
        if reads.send(call).is_err() {
            return;
        }
        // The reader has noted it.
        drop(answer.await);
    }
}

impl Reader {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut calls = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.calls.recv_many(&mut calls, 4_096) => if count == 0 { return },
            }
            // All of these were waiting before the round begins, so its answer holds for each.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round(&mut calls) => {}
            }
        }
    }

    /// Repeats until all readers have an answer or gave up.
    async fn round(&mut self, calls: &mut Vec<ReadCall>) {
        loop {
            let lead = *self.lead.borrow_and_update();
            if !matches!(lead, Lead::Me { .. }) {
                for call in calls.extract_if(.., |call| call.forwarded) {
                    answer(call, Err("this node is not the leader"));
                }
            }
            let now = Instant::now();
            for call in calls.extract_if(.., |call| call.deadline <= now || call.reply.is_closed()) {
                answer(call, Err("no leader confirmed it"));
            }
            let Some(longest) = calls.iter().map(|call| call.deadline).max() else {
                return;
            };
            let limit = longest.min(now + ATTEMPT);
            let asked_at = std::time::Instant::now();
            let attempt = attempt(&self.raft, &self.channels, lead, limit);
            let outcome = tokio::select! {
                outcome = tokio::time::timeout_at(limit, attempt) => outcome.ok().flatten(),
                changed = self.lead.changed() => {
                    if changed.is_err() {
                        calls.clear();
                        return;
                    }
                    continue;
                }
            };
            if let Some(index) = outcome {
                failpoint!("read.confirm.after");
                self.confirmations.add(asked_at, index);
                for call in calls.drain(..) {
                    answer(call, Ok(index));
                }
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn answer(call: ReadCall, result: Result<LogIndex, &str>) {
    let result = result.map_err(|reason| ReadError::Unconfirmed {
        reason: reason.to_owned(),
    });
    let _gone = call.reply.send(result);
}

async fn attempt(raft: &OpenRaft, channels: &Channels, lead: Lead, limit: Instant) -> Option<LogIndex> {
    failpoint!("read.confirm.before");
    match lead {
        Lead::Me { .. } => match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _applied)) => Some(read.index()),
            Err(error) => {
                tracing::debug!(%error, "a linearizable read was not confirmed");
                None
            }
        },
        Lead::Other { node, .. } => {
            let mut client = channels.client(node, None, Lane::Control).ok()?;
            let mut request = Request::new(wire::ReadIndexRequest {
                header: Some(channels.header(node)),
            });
            request.set_timeout(limit.saturating_duration_since(Instant::now()));
            match client.read_index(request).await {
                Ok(reply) => Some(reply.into_inner().index),
                Err(status) => {
                    tracing::debug!(%status, leader = node, "the leader did not confirm a read");
                    None
                }
            }
        }
        // A change of the lead ends this wait.
        Lead::Nobody { .. } => std::future::pending().await,
    }
}
