//! I10: a job that ended stays as it ended. From outside: what was reported, cancelled or read as ended is so in the
//! last scan; from inside: nothing happens to a job after its end, and the last scan shows the end that the log has.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, JobNo, Line};
use crate::history::{Effect, How, Id, JobState};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_scan(facts) {
        return;
    }
    let mut last: Vec<Option<(JobState, Line)>> = vec![None; facts.jobs()];
    for row in &facts.last.jobs {
        last[row.job as usize] = Some((row.state, row.line));
    }
    let mut was = |job: JobNo, state: JobState, line: Line, how: &str| {
        findings.judge(1);
        if let Some((now, found)) = last[job as usize]
            && now != state
        {
            findings.refuse([line, found], || {
                format!(
                    "job {} was {how} {state:?} and is {now:?} in the last scan",
                    facts.id(job)
                )
            });
        }
    };
    for attempt in &facts.attempts {
        if let (true, Some(taken)) = (attempt.accepted_as(|how| how == How::Succeeded), attempt.accepted) {
            was(attempt.job, JobState::Succeeded, taken.line, "reported");
        }
    }
    for cancel in &facts.cancels {
        if let (Some(state), Some(told)) = (cancel.state, facts.call(cancel.call).completed)
            && state.is_terminal()
        {
            was(cancel.job, state, told.line, "after a cancel");
        }
    }
    for read in &facts.reads {
        let call = facts.call(read.call);
        if let (Some((state, ..)), Some(told), End::Ok) = (read.seen, call.completed, call.end)
            && state.is_terminal()
        {
            was(read.job, state, told.line, "read as");
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut ends: HashMap<Id, (JobState, Line), Fast> = HashMap::default();
    let mut attempts_of: HashMap<Id, u32, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            let (job, what) = match effect {
                Effect::Entered { job, .. } => (job, "enters a state"),
                Effect::Granted { job, .. } => (job, "is granted"),
                Effect::Ended { job, .. } => (job, "ends"),
                _ => continue,
            };
            findings.judge(1);
            if let Some((state, line)) = ends.get(job) {
                findings.refuse([*line, entry.line], || {
                    format!("job {job} had ended {state:?} and {what} at index {index}")
                });
            }
            if let Effect::Ended {
                job, state, attempts, ..
            } = effect
            {
                ends.insert(*job, (*state, entry.line));
                attempts_of.insert(*job, *attempts);
            }
        }
    }
    for row in facts.last.jobs.iter().filter(|row| row.state.is_terminal()) {
        let id = facts.id(row.job);
        let (Some((state, line)), Some(attempts)) = (ends.get(&id), attempts_of.get(&id)) else {
            continue;
        };
        findings.judge(1);
        if (*state, *attempts) != (row.state, row.counts[0]) {
            findings.refuse([*line, row.line], || {
                format!(
                    "job {id} ended {state:?} after {attempts} attempts by the log, {:?} after {} by the last scan",
                    row.state, row.counts[0]
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
                &|history| change_job(history, A, |job| job.state = JobState::Dead),
                &|history| change_job(history, C, |job| job.state = JobState::Succeeded),
                &|history| history.extend(read(9, 1, B, JobState::Cancelled, 9)),
                &|history| history.push(applied(20, vec![ended(A, JobState::Succeeded)])),
                &|history| change_job(history, B, |job| job.attempts = 3),
            ],
        );
    }
}
