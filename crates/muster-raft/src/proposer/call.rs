//! Commands of one caller on their way to a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use muster_core::{AttemptOutcome, Command, JobSpec, Reply};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{ProposeError, Waits};
use crate::proposer::admission::Permit;
use crate::{memory, room};

pub(crate) type CallResult = Result<Vec<Reply>, ProposeError>;

/// Why new jobs are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The disks of a majority are full.
    Disk,
    /// Live jobs take so many bytes of memory, of those that they may.
    Memory { used: u64, limit: u64 },
    /// So much waits already, of what may.
    Waiting { what: Waits, value: u64, limit: u64 },
    /// The first command waits longer than it may.
    Late { waited: Duration, lag_max: Duration },
}

impl Full {
    pub(crate) fn error(self) -> ProposeError {
        match self {
            Self::Disk => ProposeError::DiskFull {
                retry_after: room::RETRY_AFTER,
            },
            Self::Memory { used, limit } => ProposeError::MemoryFull {
                used,
                limit,
                retry_after: memory::RETRY_AFTER,
            },
            Self::Waiting { what, value, limit } => ProposeError::Overloaded {
                what,
                value,
                limit,
                retry_after: super::RETRY_AFTER,
            },
            Self::Late { waited, lag_max } => ProposeError::Late {
                waited,
                lag_max,
                retry_after: super::RETRY_LATE,
            },
        }
    }
}

/// Whether commands bring new jobs. The others end what is there, or are few.
pub(crate) fn brings_jobs(commands: &[Command]) -> bool {
    let brings = |command: &Command| {
        matches!(
            command,
            Command::Enqueue(_) | Command::EnqueueMany { .. } | Command::Redrive { .. }
        )
    };
    commands.iter().any(brings)
}

/// What the caller may conclude when its deadline passes. Shared between the caller and the proposer.
#[derive(Debug, Default)]
pub(crate) struct Fate(AtomicU8);

const WAITING: u8 = 0;
const HANDED_OVER: u8 = 1;
const UNCERTAIN: u8 = 2;
const WITHDRAWN: u8 = 3;

impl Fate {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The commands are about to leave this proposer. False: the caller has given up, they must not.
    pub(crate) fn hand_over(&self) -> bool {
        self.step(WAITING, HANDED_OVER) || self.0.load(Ordering::Acquire) != WITHDRAWN
    }

    /// They came back, certainly without effect. Earlier uncertainty stays.
    pub(crate) fn take_back(&self) {
        self.step(HANDED_OVER, WAITING);
    }

    /// Nobody knows what became of them.
    pub(crate) fn doubt(&self) {
        self.step(HANDED_OVER, UNCERTAIN);
    }

    /// The caller gives up. True: they certainly never take effect.
    pub(crate) fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    /// True when nothing was handed over, or all of it came back.
    pub(crate) fn certain(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire), WAITING | WITHDRAWN)
    }
}

/// Commands of one caller.
#[derive(Debug)]
pub(crate) struct Call {
    /// In order. Empty while they are part of an entry.
    pub(crate) commands: Vec<Command>,
    /// Number of commands, also while they are part of an entry.
    pub(crate) count: usize,
    /// Estimated size.
    pub(crate) bytes: usize,
    pub(crate) fate: Arc<Fate>,
    pub(crate) reply: oneshot::Sender<CallResult>,
    /// When it began to wait here.
    pub(crate) since: Instant,
    /// Nobody waits beyond this.
    pub(crate) deadline: Instant,
    /// Came from another node, which took this one for the leader: never forwarded again.
    pub(crate) forwarded: bool,
    pub(crate) _permit: Permit,
}

impl Call {
    /// Ends the call; a caller that went away is not an error.
    pub(crate) fn end(self, result: CallResult) {
        let _gone = self.reply.send(result);
    }

    /// Ends the call without a reply, with what is certain about it.
    pub(crate) fn fail(self, reason: &str) {
        let reason = reason.to_owned();
        let error = if self.fate.certain() {
            ProposeError::NotDone { reason }
        } else {
            ProposeError::Unknown { reason }
        };
        self.end(Err(error));
    }

    /// Ends the call because the leader takes no new jobs.
    pub(crate) fn refuse(self, full: Full) {
        if self.fate.certain() {
            self.end(Err(full.error()));
        } else {
            self.fail(&full.error().to_string());
        }
    }

    /// It brings new jobs.
    pub(crate) fn brings_jobs(&self) -> bool {
        brings_jobs(&self.commands)
    }

    /// True when nobody waits any more.
    pub(crate) fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Commands of several calls that travel together, with what is needed to give them back.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) calls: Vec<Call>,
    pub(crate) commands: Vec<Command>,
}

impl Group {
    pub(crate) fn push(&mut self, mut call: Call) {
        self.commands.append(&mut call.commands);
        self.calls.push(call);
    }

    /// The calls with their commands, as they were.
    pub(crate) fn split(self) -> Vec<Call> {
        let Self { mut calls, commands } = self;
        let mut commands = commands.into_iter();
        for call in &mut calls {
            call.commands = commands.by_ref().take(call.count).collect();
        }
        calls
    }

    /// Hands each call its replies. False when their number is wrong.
    pub(crate) fn answer(self, replies: Vec<Reply>) -> bool {
        if replies.len() != self.commands.len() {
            for call in self.calls {
                call.fail("the leader answered with another number of replies");
            }
            return false;
        }
        let mut replies = replies.into_iter();
        for call in self.calls {
            let own = replies.by_ref().take(call.count).collect();
            call.end(Ok(own));
        }
        true
    }
}

/// Estimated encoded size of a command in bytes, before packing.
pub(crate) fn command_bytes(command: &Command) -> usize {
    const BASE: usize = 48;
    BASE + match command {
        Command::Enqueue(spec) | Command::Redrive { spec, .. } => spec_bytes(spec),
        Command::EnqueueMany { jobs, .. } => jobs.iter().map(spec_bytes).sum(),
        Command::Report { results, .. } => results
            .iter()
            .map(|report| match &report.outcome {
                AttemptOutcome::Succeeded { result } => BASE + result.len(),
                AttemptOutcome::Failed { error, .. } => BASE + error.class.len() + error.message.len(),
                _ => BASE,
            })
            .sum(),
        Command::Vouch { sessions } => sessions.len() * 17,
        Command::SetPriority { jobs, .. } => jobs.len() * 17,
        Command::Once { command, .. } => command_bytes(command),
        Command::OpenSession(spec) => {
            let class = &spec.class;
            let names = class
                .tenants
                .iter()
                .chain(&class.queues)
                .map(|name| name.len() + 4)
                .sum::<usize>();
            let kinds = class.kinds.iter().map(|kind| kind.kind.len() + 12).sum::<usize>();
            names
                + kinds
                + class
                    .labels
                    .iter()
                    .map(|(key, value)| key.len() + value.len() + 8)
                    .sum::<usize>()
        }
        _ => BASE,
    }
}

fn spec_bytes(spec: &JobSpec) -> usize {
    let options = &spec.options;
    let labels = options.required_labels.iter().chain(&options.preferred_labels);
    let pairs = spec.metadata.iter().chain(labels);
    150 + spec.payload.data.len()
        + spec.tenant.len()
        + spec.queue.len()
        + spec.kind.len()
        + pairs.map(|(key, value)| key.len() + value.len() + 8).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_concludes_only_what_is_certain() {
        let fate = Fate::default();
        assert!(fate.certain());
        assert!(fate.hand_over());
        assert!(!fate.withdraw(), "handed over: may take effect");
        fate.take_back();
        assert!(fate.certain());
        assert!(fate.hand_over());
        fate.doubt();
        assert!(fate.hand_over(), "repeated");
        fate.take_back();
        assert!(!fate.certain(), "a repeat without effect does not undo the first doubt");
        assert!(!fate.withdraw());
    }

    #[test]
    fn a_withdrawn_call_is_not_handed_over() {
        let fate = Fate::default();
        assert!(fate.withdraw());
        assert!(!fate.hand_over());
        assert!(fate.certain());
    }
}
