//! Attempts of each job in the order of their fences.

use crate::facts::{Attempt, Facts};

/// All attempts, those of one job together, by fence.
pub(super) fn by_job(facts: &Facts) -> Vec<&Attempt> {
    let mut attempts: Vec<&Attempt> = facts.attempts.iter().collect();
    attempts.sort_unstable_by_key(|attempt| (attempt.job, attempt.fence));
    attempts
}

/// Runs of attempts of the same job.
pub(super) fn jobs<'a, 'f>(attempts: &'a [&'f Attempt]) -> impl Iterator<Item = &'a [&'f Attempt]> {
    attempts.chunk_by(|a, b| a.job == b.job)
}
