//! When new jobs are refused before they are in the log, so that they certainly have no effect: without room on disks, without memory
//! for live jobs, and when what waits has waited too long already.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Proposer;
use super::call::{Call, Full, Group};
use super::entry;
use crate::leadership::Lead;
use crate::memory::Memory;
use crate::room;

/// A leader of which nothing was applied for so long is not slow, it is cut off: its clients find out by its silence.
const GOES_ON: Duration = Duration::from_secs(1);
/// How long new jobs travel apart after the leader refused some.
const APART: Duration = Duration::from_secs(2);

/// What decides about new jobs on the leader.
#[derive(Clone, Default)]
pub(crate) struct Gates {
    pub(crate) room: room::Gate,
    pub(crate) memory: Memory,
}

/// Judges calls one after the other, as if those before had been taken.
struct Judge {
    gates: Gates,
    /// Memory that is left.
    free: u64,
}

impl Judge {
    fn new(gates: &Gates) -> Self {
        Self {
            gates: gates.clone(),
            free: gates.memory.now().free(),
        }
    }

    fn against(&mut self, call: &Call) -> Option<Full> {
        if self.gates.room.refuses(&call.commands) {
            return Some(Full::Disk);
        }
        // Of one that may be in the log already nothing is gained by refusing it.
        if self.free == u64::MAX || !call.brings_jobs() || !call.fate.certain() {
            return None;
        }
        if let Some(free) = self.free.checked_sub(call.bytes as u64) {
            self.free = free;
            return None;
        }
        let now = self.gates.memory.now();
        Some(Full::Memory {
            used: now.used,
            limit: now.limit,
        })
    }
}

impl Proposer {
    /// On the leader: refuses what waits and may not come in.
    pub(super) fn refuse_new_jobs(&mut self) {
        let enough = self.options.waiting_bytes_max as u64;
        if self.gates.room.is_open() && self.gates.memory.now().free() > enough {
            return;
        }
        let mut judge = Judge::new(&self.gates);
        if !self.waiting.iter().any(|call| judge.against(call).is_some()) {
            return;
        }
        let mut judge = Judge::new(&self.gates);
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for call in self.waiting.drain(..) {
            match judge.against(&call) {
                Some(full) => {
                    if matches!(full, Full::Memory { .. }) {
                        count_refused("memory");
                    }
                    call.refuse(full);
                }
                None => kept.push_back(call),
            }
        }
        self.waiting_commands = kept.iter().map(|call| call.count).sum();
        self.waiting = kept;
    }

    /// On the leader: whether what waits has waited too long.
    pub(super) fn late(&self) -> Option<Full> {
        let waited = self.waiting.front()?.since.elapsed();
        let lag_max = self.options.lag_max;
        let leads = matches!(*self.lead.borrow(), Lead::Me { .. });
        (late(waited, self.applied_at.map(|at| at.elapsed()), lag_max) && leads)
            .then_some(Full::Late { waited, lag_max })
    }

    /// The leader did not take a group.
    pub(super) fn refused_by_leader(&mut self, group: Group, full: Full) {
        self.apart_until = Some(Instant::now() + APART);
        let again = refuse_all(entry::taken_back(group), full);
        if !again.is_empty() {
            self.put_back(again);
            self.pause();
        }
    }

    /// Commands that end what is there go first, each sort in its order.
    pub(super) fn put_new_jobs_last(&mut self) {
        let (jobs, mut others): (VecDeque<_>, VecDeque<_>) = self.waiting.drain(..).partition(Call::brings_jobs);
        others.extend(jobs);
        self.waiting = others;
    }
}

/// Whether the first call waits too long, on a leader whose last entry was applied `applied` ago. An entry holds its place until it
/// is applied, so this covers the sync, the majority and the application, whichever is slow.
fn late(waited: Duration, applied: Option<Duration>, lag_max: Duration) -> bool {
    waited > lag_max && applied.is_some_and(|applied| applied < GOES_ON)
}

/// Refuses calls that travelled together, but for those that go again. The leader judges the whole, so of a mixed group only the
/// new jobs are refused and the others go again, apart. What may be in the log already goes again, too, for its caller should
/// hear what became of it; but full disks last.
fn refuse_all(calls: Vec<Call>, full: Full) -> Vec<Call> {
    let mixed = calls.iter().any(Call::brings_jobs) && !calls.iter().all(Call::brings_jobs);
    let mut again = Vec::new();
    for call in calls {
        let doubtful = full != Full::Disk && !call.fate.certain();
        if doubtful || (mixed && !call.brings_jobs()) {
            again.push(call);
        } else {
            call.refuse(full);
        }
    }
    again
}

/// Counts calls that were refused because of load.
pub(super) fn count_refused(cause: &'static str) {
    metrics::counter!("muster_overload_refused_total", "cause" => cause).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_core::Command;
    use tokio::sync::oneshot;

    use super::*;
    use crate::error::{ProposeError, Waits};
    use crate::memory::LIMIT_MIN;
    use crate::proposer::{Admission, CallResult, Fate};

    const MEMORY: Full = Full::Memory { used: 76, limit: 77 };
    const WAITING: Full = Full::Waiting {
        what: Waits::Commands,
        value: 5,
        limit: 6,
    };
    const LATE: Full = Full::Late {
        waited: Duration::from_secs(4),
        lag_max: Duration::from_secs(3),
    };

    fn call(jobs: bool, bytes: usize) -> (Call, oneshot::Receiver<CallResult>) {
        let (reply, answer) = oneshot::channel();
        let command = if jobs {
            Command::EnqueueMany {
                jobs: Vec::new(),
                all_or_nothing: false,
            }
        } else {
            Command::Tick
        };
        let admission = Arc::new(Admission::new(10, 1 << 30));
        let call = Call {
            commands: vec![command],
            count: 1,
            bytes,
            fate: Arc::new(Fate::default()),
            reply,
            since: Instant::now(),
            deadline: Instant::now(),
            forwarded: false,
            _permit: admission.admit(1, bytes, jobs).expect("room"),
        };
        (call, answer)
    }

    #[tokio::test]
    async fn new_jobs_are_taken_as_long_as_there_is_memory() {
        let gates = Gates {
            memory: Memory::new(LIMIT_MIN),
            ..Gates::default()
        };
        gates.memory.set_used(LIMIT_MIN - 100);
        let mut judge = Judge::new(&gates);
        let verdicts = [(true, 60), (true, 60), (false, 1_000), (true, 40)];
        let verdicts = verdicts.map(|(jobs, bytes)| judge.against(&call(jobs, bytes).0));
        let full = Full::Memory {
            used: LIMIT_MIN - 100,
            limit: LIMIT_MIN,
        };
        assert_eq!(verdicts, [None, Some(full), None, None]);
        let (doubtful, _answer) = call(true, 1_000);
        assert!(doubtful.fate.hand_over());
        doubtful.fate.doubt();
        assert_eq!(judge.against(&doubtful), None, "it may be in the log already");
    }

    #[test]
    fn a_slow_leader_is_late_and_one_that_is_cut_off_is_not() {
        let millis = Duration::from_millis;
        let max = millis(1_000);
        assert!(!late(millis(900), Some(millis(10)), max));
        assert!(late(millis(1_100), Some(millis(900)), max));
        assert!(!late(millis(5_000), Some(millis(5_000)), max), "nothing goes through");
        assert!(!late(millis(5_000), None, max), "nothing went through yet");
    }

    #[tokio::test]
    async fn a_refused_caller_hears_why() {
        for (full, expected) in [
            (MEMORY, "take 76 of the 77 bytes"),
            (Full::Disk, "disks"),
            (WAITING, "5 commands wait already, at most 6 may"),
            (LATE, "wait 4s for their turn on the leader, longer than lag_max of 3s"),
        ] {
            let (call, answer) = call(true, 1);
            call.refuse(full);
            let error = answer.await.expect("answered").expect_err("refused");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!matches!(error, ProposeError::Unknown { .. }));
        }
    }

    #[tokio::test]
    async fn reports_do_not_share_the_fate_of_new_jobs() {
        for full in [Full::Disk, MEMORY, WAITING, LATE] {
            let ((jobs, refused), (report, mut waits)) = (call(true, 1), call(false, 1));
            let again = refuse_all(vec![jobs, report], full);
            assert!(again.len() == 1 && !again[0].brings_jobs(), "{full:?}");
            assert!(refused.await.expect("answered").is_err());
            assert!(waits.try_recv().is_err(), "it goes again");
            // There was nothing else in the group: it is refused itself.
            assert!(refuse_all(again, full).is_empty());
            assert!(waits.await.expect("answered").is_err());
        }
    }

    #[tokio::test]
    async fn what_may_be_in_the_log_goes_again_unless_disks_are_full() {
        for (full, goes_again) in [(Full::Disk, false), (MEMORY, true), (WAITING, true), (LATE, true)] {
            let (doubtful, _answer) = call(true, 1);
            assert!(doubtful.fate.hand_over());
            doubtful.fate.doubt();
            assert_eq!(refuse_all(vec![doubtful], full).len() == 1, goes_again, "{full:?}");
        }
    }
}
