//! I21: a job whose cancel was answered with `cancelled` has ended as cancelled and does not start any more. From
//! outside; a start after it is told by the fence, which holds the log index of its grant.

use crate::check::Findings;
use crate::facts::{Facts, Line};
use crate::history::JobState;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    // By job: where its cancel was answered, and the log index of it.
    let mut cancelled: Vec<Option<(Line, Option<u64>)>> = vec![None; facts.jobs()];
    for cancel in &facts.cancels {
        let call = facts.call(cancel.call);
        if let (Some(JobState::Cancelled), Some(told)) = (cancel.state, call.completed) {
            findings.judge(1);
            cancelled[cancel.job as usize].get_or_insert((told.line, call.index));
        }
    }
    for attempt in &facts.attempts {
        let Some((told, index)) = cancelled[attempt.job as usize] else {
            continue;
        };
        if index.is_some_and(|index| attempt.fence >> 24 > index) {
            let line = attempt.started.map_or(told, |stamp| stamp.line);
            findings.refuse([told, line], || {
                format!(
                    "job {} was cancelled and then granted under fence {}",
                    facts.id(attempt.job),
                    attempt.fence
                )
            });
        }
    }
    for row in &facts.last.jobs {
        if let Some((told, _)) = cancelled[row.job as usize]
            && row.state != JobState::Cancelled
        {
            findings.refuse([told, row.line], || {
                format!(
                    "job {} was cancelled and is {:?} in the last scan",
                    facts.id(row.job),
                    row.state
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| history.push(started(70_000, C, 9 << 24, 1)),
                &|history| change_job(history, C, |job| job.state = JobState::Succeeded),
                &|history| change_job(history, C, |job| job.state = JobState::Available),
            ],
        );
    }
}
