//! On the leader: a group of calls becomes one log entry.

use std::time::Instant;

use muster_core::{Batch, Timestamp};
use muster_failpoint::failpoint;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::mpsc::UnboundedSender;

use crate::proposer::Signal;
use crate::proposer::call::{Call, Group};
use crate::types::{Callback, CommandBytes, OpenRaft, TypeConfig};

/// A proposed entry. Whatever happens to it, its calls come back to the proposer or get their replies: also when raft
/// drops it silently.
struct InFlight {
    group: Option<Group>,
    signals: UnboundedSender<Signal>,
    begun: Instant,
}

impl InFlight {
    fn finish(mut self, result: ClientWriteResult<TypeConfig>) {
        let Some(group) = self.group.take() else { return };
        let signal = match result {
            Ok(response) => {
                metrics::histogram!("muster_proposal_seconds").record(self.begun.elapsed());
                failpoint!("proposal.committed.before_answer");
                group.answer(response.data.0);
                Signal::EntryApplied
            }
            Err(ClientWriteError::ForwardToLeader(_)) => Signal::EntryReturned {
                calls: taken_back(group),
            },
            Err(error) => {
                tracing::info!(%error, "a proposed entry was lost on a change of leader");
                Signal::EntryReturned { calls: doubted(group) }
            }
        };
        // A closed channel means the proposer has ended; the calls then end with their channels.
        let _ended = self.signals.send(signal);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ended = self.signals.send(Signal::EntryReturned { calls: doubted(group) });
        }
    }
}

pub(super) fn taken_back(group: Group) -> Vec<Call> {
    let calls = group.split();
    for call in &calls {
        call.fate.take_back();
    }
    calls
}

pub(super) fn doubted(group: Group) -> Vec<Call> {
    let calls = group.split();
    for call in &calls {
        call.fate.doubt();
    }
    calls
}

/// Proposes the group as one entry stamped with `stamp`. False: raft has stopped.
pub(super) async fn propose(
    raft: &OpenRaft,
    group: Group,
    stamp: Timestamp,
    signals: &UnboundedSender<Signal>,
) -> bool {
    metrics::histogram!("muster_raft_proposal_batch_commands").record(group.commands.len() as f64);
    let mut group = group;
    let batch = Batch {
        stamped_at: stamp,
        commands: std::mem::take(&mut group.commands),
    };
    let encoded = muster_store::codec::encode_batch(&batch);
    group.commands = batch.commands;
    let bytes = match encoded {
        Ok(bytes) => bytes,
        Err(error) => {
            let calls = taken_back(group);
            for call in calls {
                call.fail(&format!("the command cannot be encoded: {error}"));
            }
            let _ended = signals.send(Signal::EntryApplied);
            return true;
        }
    };
    let in_flight = InFlight {
        group: Some(group),
        signals: signals.clone(),
        begun: Instant::now(),
    };
    let responder = Callback::new(move |result| in_flight.finish(result));
    failpoint!("proposal.write.before");
    let taken = raft.client_write_ff(CommandBytes(bytes), Some(responder)).await;
    failpoint!("proposal.write.after");
    taken.is_ok()
}
