//! What the applied log says of each job: its states with the log indexes at which it entered them.

use std::collections::HashMap;

use crate::facts::{Facts, Fast};
use crate::history::{Effect, Id, JobState};

/// By job, in the order of the log. Empty without server records.
pub(super) struct Timelines(HashMap<Id, Vec<(u64, JobState)>, Fast>);

impl Timelines {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut states: HashMap<Id, Vec<(u64, JobState)>, Fast> = HashMap::default();
        for (index, entry) in &facts.entries {
            for effect in &entry.effects {
                let (job, state) = match effect {
                    Effect::Accepted(job) => (job.job, job.state),
                    Effect::Entered { job, state } | Effect::Ended { job, state, .. } => (*job, *state),
                    _ => continue,
                };
                states.entry(job).or_default().push((*index, state));
            }
        }
        Self(states)
    }

    /// Nothing, for histories in which nobody asks.
    pub(super) fn empty() -> Self {
        Self(HashMap::default())
    }

    /// The states of a job; `None`: the log does not know it.
    pub(super) fn states(&self, job: Id) -> Option<&[(u64, JobState)]> {
        self.0.get(&job).map(Vec::as_slice)
    }

    /// Whether the job was in this state at the end of the entry with this index; else in which. A job that the log does
    /// not know agrees with everything.
    pub(super) fn agrees(&self, job: Id, state: JobState, index: u64) -> Result<(), Option<JobState>> {
        let Some(states) = self.states(job) else { return Ok(()) };
        let upto = states.partition_point(|(at, _)| *at <= index);
        let then = upto.checked_sub(1).map(|at| states[at].1);
        if then == Some(state) { Ok(()) } else { Err(then) }
    }
}
