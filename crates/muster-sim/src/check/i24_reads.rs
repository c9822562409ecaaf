//! I24: reads are linearizable. Each job is a register whose versions are log indexes: a read that begins after
//! something was known to have happened sees it or something later. From outside in n log n; with server records a
//! version must also have the state that the log gave it.

use crate::check::Findings;
use crate::check::timeline::Timelines;
use crate::facts::{End, Facts, JobNo, Line};
use crate::history::{How, JobState, Micros};

/// What is known to have happened to a job.
#[derive(Clone, Copy, Default)]
struct Floor {
    /// It was there; told on this line.
    there: Option<Line>,
    /// A version that was seen, its state, where.
    version: Option<(u64, JobState, Line)>,
    /// It had ended like this.
    ended: Option<(JobState, Line)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The read of this row begins.
    Begin(u32),
    /// The read of this row is answered.
    Answer(u32),
    /// The job is known to be there.
    There,
    /// It is known to have ended.
    Ended(JobState),
}

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let log = if facts.reads.is_empty() {
        Timelines::empty()
    } else {
        Timelines::of(facts)
    };
    let mut floors = vec![Floor::default(); facts.jobs()];
    let mut known: Vec<Floor> = vec![Floor::default(); facts.reads.len()];
    for (_, line, job, step) in steps(facts) {
        let floor = &mut floors[job as usize];
        match step {
            Step::Begin(row) => known[row as usize] = *floor,
            Step::There => floor.there = floor.there.or(Some(line)),
            Step::Ended(state) => floor.ended = Some((state, line)),
            Step::Answer(row) => {
                findings.judge(1);
                let seen = facts.reads[row as usize].seen;
                judge(facts, findings, job, line, seen, &known[row as usize]);
                if let Some((state, _, version)) = seen {
                    floor.there = floor.there.or(Some(line));
                    if version > floor.version.map_or(0, |(version, ..)| version) {
                        floor.version = Some((version, state, line));
                    }
                    agrees(facts, findings, &log, job, line, (state, version));
                }
            }
        }
    }
}

/// All that happened, in the order of the recording clock; what begins at an instant begins before what is told then.
fn steps(facts: &Facts) -> Vec<(Micros, Line, JobNo, Step)> {
    let mut steps = Vec::new();
    for (row, read) in facts.reads.iter().enumerate() {
        let call = facts.call(read.call);
        if let (End::Ok, Some(told)) = (call.end, call.completed) {
            steps.push((call.invoked.at, call.invoked.line, read.job, Step::Begin(row as u32)));
            steps.push((told.at, told.line, read.job, Step::Answer(row as u32)));
        }
    }
    for ask in &facts.asks {
        if let (Some((job, ..)), Some(told)) = (ask.answer, facts.call(ask.call).completed) {
            steps.push((told.at, told.line, job, Step::There));
        }
    }
    for cancel in &facts.cancels {
        if let (Some(state), Some(told)) = (cancel.state, facts.call(cancel.call).completed)
            && state.is_terminal()
        {
            steps.push((told.at, told.line, cancel.job, Step::Ended(state)));
        }
    }
    for attempt in &facts.attempts {
        if let (true, Some(told)) = (attempt.accepted_as(|how| how == How::Succeeded), attempt.accepted) {
            steps.push((told.at, told.line, attempt.job, Step::Ended(JobState::Succeeded)));
        }
    }
    steps.sort_unstable_by_key(|(at, line, _, step)| (*at, !matches!(step, Step::Begin(_)), *line));
    steps
}

fn judge(
    facts: &Facts,
    findings: &mut Findings,
    job: JobNo,
    line: Line,
    seen: Option<(JobState, u32, u64)>,
    known: &Floor,
) {
    let Some((state, _, version)) = seen else {
        if let Some(told) = known.there {
            findings.refuse([told, line], || {
                format!("job {} was there and is not found", facts.id(job))
            });
        }
        return;
    };
    if let Some((before, then, told)) = known.version
        && version > 0
        && (version < before || (version == before && state != then))
    {
        findings.refuse([told, line], || {
            format!(
                "job {} was {then:?} at version {before} and is read later as {state:?} at {version}",
                facts.id(job)
            )
        });
    }
    if let Some((end, told)) = known.ended
        && end != state
    {
        findings.refuse([told, line], || {
            format!(
                "job {} had ended as {end:?} and is read later as {state:?}",
                facts.id(job)
            )
        });
    }
}

/// A version has the state that the log gave it.
fn agrees(
    facts: &Facts,
    findings: &mut Findings,
    log: &Timelines,
    job: JobNo,
    line: Line,
    (state, version): (JobState, u64),
) {
    if version == 0 {
        return;
    }
    if let Err(then) = log.agrees(facts.id(job), state, version) {
        findings.refuse([line], || {
            format!(
                "job {} is read as {state:?} at version {version}, the log says {then:?}",
                facts.id(job)
            )
        });
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
                &|history| history.extend(read(9, 1, A, JobState::Running, 2)),
                &|history| history.extend(read(9, 1, C, JobState::Available, 6)),
                &|history| history.extend(not_found(9, 1, B)),
                &|history| history.extend(read(9, 1, B, JobState::Succeeded, 10)),
            ],
        );
    }
}
