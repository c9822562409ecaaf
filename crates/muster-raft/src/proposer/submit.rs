//! Where callers meet the proposer.

use std::sync::Arc;

use muster_core::{Command, Reply};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::ProposeError;
use crate::options::RaftOptions;
use crate::proposer::{Admission, Call, CallResult, Fate, brings_jobs, command_bytes};

/// Hands calls to the proposer and waits for them, on any runtime. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Submitter {
    pub(crate) calls: UnboundedSender<Call>,
    pub(crate) admission: Arc<Admission>,
    commands_max: usize,
    entry_bytes: usize,
    command_bytes_max: usize,
}

/// A call on its way.
struct Pending {
    fate: Arc<Fate>,
    answer: oneshot::Receiver<CallResult>,
}

impl Submitter {
    pub(crate) fn new(options: &RaftOptions, calls: UnboundedSender<Call>) -> Self {
        Self {
            calls,
            admission: Arc::new(Admission::new(options.waiting_commands_max, options.waiting_bytes_max)),
            commands_max: options.entry_commands_max,
            entry_bytes: options.entry_bytes,
            command_bytes_max: options.command_bytes_max,
        }
    }

    /// Proposes all commands and waits for all replies.
    pub(crate) async fn submit(&self, commands: Vec<Command>, deadline: Instant) -> CallResult {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let parts = self.divide(commands)?;
        // Room for all before any is sent: an overload must leave none behind.
        let mut admitted = Vec::with_capacity(parts.len());
        for (commands, bytes) in parts {
            let jobs = brings_jobs(&commands);
            let permit = self.admission.admit(commands.len(), bytes, jobs).map_err(|full| {
                metrics::counter!("muster_proposals_overloaded_total").increment(1);
                full.error()
            })?;
            admitted.push((commands, bytes, permit));
        }
        let mut pending = Vec::with_capacity(admitted.len());
        for (commands, bytes, permit) in admitted {
            let (reply, answer) = oneshot::channel();
            let fate = Arc::new(Fate::default());
            let call = Call {
                count: commands.len(),
                commands,
                bytes,
                fate: fate.clone(),
                reply,
                since: Instant::now(),
                deadline,
                forwarded: false,
                _permit: permit,
            };
            self.calls.send(call).map_err(|_| ProposeError::Stopped)?;
            pending.push(Pending { fate, answer });
        }
        if let [_] = pending.as_slice() {
            let Some(only) = pending.pop() else {
                return Err(ProposeError::Stopped);
            };
            return only.wait(deadline).await;
        }
        combine(futures::future::join_all(pending.into_iter().map(|call| call.wait(deadline))).await)
    }

    /// Parts that each fit into one entry, with their sizes.
    fn divide(&self, commands: Vec<Command>) -> Result<Vec<(Vec<Command>, usize)>, ProposeError> {
        let mut parts: Vec<(Vec<Command>, usize)> = Vec::with_capacity(1);
        for command in commands {
            let bytes = command_bytes(&command);
            if bytes > self.command_bytes_max {
                return Err(ProposeError::NotDone {
                    reason: format!(
                        "the command has {bytes} bytes, at most {} are allowed",
                        self.command_bytes_max
                    ),
                });
            }
            match parts.last_mut() {
                Some((part, size)) if part.len() < self.commands_max && *size + bytes <= self.entry_bytes => {
                    part.push(command);
                    *size += bytes;
                }
                _ => parts.push((vec![command], bytes)),
            }
        }
        Ok(parts)
    }
}

impl Pending {
    async fn wait(mut self, deadline: Instant) -> CallResult {
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or(Err(ProposeError::Stopped)),
            Err(_) if self.fate.withdraw() => Err(ProposeError::NotDone {
                reason: "no leader took it before the deadline".to_owned(),
            }),
            // The reply may have come in the same moment.
            Err(_) => self.answer.try_recv().unwrap_or(Err(ProposeError::Unknown {
                reason: "the deadline passed before the cluster confirmed it".to_owned(),
            })),
        }
    }
}

/// One answer for several parts: certain only if all parts are.
fn combine(results: Vec<CallResult>) -> Result<Vec<Reply>, ProposeError> {
    let none_done = results.iter().all(|result| {
        matches!(
            result,
            Err(ProposeError::NotDone { .. }
                | ProposeError::Overloaded { .. }
                | ProposeError::DiskFull { .. }
                | ProposeError::MemoryFull { .. }
                | ProposeError::Late { .. })
        )
    });
    let mut replies = Vec::new();
    for result in results {
        match result {
            Ok(mut some) => replies.append(&mut some),
            Err(error) if none_done || error == ProposeError::Stopped => return Err(error),
            Err(error) => {
                return Err(ProposeError::Unknown {
                    reason: format!("some of the commands may be done, some not: {error}"),
                });
            }
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    fn submitter(change: impl FnOnce(&mut RaftOptions)) -> (Submitter, mpsc::UnboundedReceiver<Call>) {
        let mut options = RaftOptions::new(1, Vec::new());
        change(&mut options);
        let (calls, received) = mpsc::unbounded_channel();
        (Submitter::new(&options, calls), received)
    }

    #[tokio::test]
    async fn a_deadline_tells_untouched_commands_from_those_handed_over() {
        let (submitter, mut calls) = submitter(|_| ());
        let soon = || Instant::now() + Duration::from_millis(20);
        let untouched = submitter.submit(vec![Command::Tick], soon()).await;
        assert!(matches!(untouched, Err(ProposeError::NotDone { .. })), "{untouched:?}");
        drop(calls.recv().await);
        let (handed_over, ()) = tokio::join!(submitter.submit(vec![Command::Tick], soon()), async {
            let call = calls.recv().await.filter(|call| call.fate.hand_over());
            tokio::time::sleep_until(soon() + Duration::from_millis(20)).await;
            drop(call);
        });
        assert!(
            matches!(handed_over, Err(ProposeError::Unknown { .. })),
            "{handed_over:?}"
        );
    }

    #[tokio::test]
    async fn too_much_is_refused_whole() {
        let (submitter, mut calls) = submitter(|options| {
            options.entry_commands_max = 2;
            options.waiting_commands_max = 3;
        });
        let refused = submitter
            .submit(vec![Command::Tick; 4], Instant::now() + Duration::from_secs(1))
            .await;
        assert!(matches!(refused, Err(ProposeError::Overloaded { .. })), "{refused:?}");
        assert!(calls.try_recv().is_err(), "nothing was sent");
    }

    #[tokio::test]
    async fn large_calls_travel_in_parts_and_come_back_as_one() {
        let (submitter, mut calls) = submitter(|options| options.entry_commands_max = 2);
        let (replies, sizes) = tokio::join!(
            submitter.submit(vec![Command::Tick; 5], Instant::now() + Duration::from_secs(5)),
            async {
                let mut sizes = Vec::new();
                for _ in 0..3 {
                    let Some(call) = calls.recv().await else { break };
                    sizes.push(call.count);
                    let replies = vec![Reply::Done; call.count];
                    call.end(Ok(replies));
                }
                sizes
            }
        );
        assert_eq!(sizes, [2, 2, 1]);
        assert_eq!(replies, Ok(vec![Reply::Done; 5]));
    }
}
