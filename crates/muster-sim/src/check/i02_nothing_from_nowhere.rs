//! I2: every job that is seen was asked for before, by a call that did not certainly fail. From
//! inside: so was every job that the log accepted. What is to be accepted together or not at all
//! is not accepted in part.

use crate::check::Findings;
use crate::facts::{Ask, End, Facts, JobNo, Line};
use crate::history::{Effect, Micros};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_nowhere(facts, findings);
    in_part(facts, findings);
}

/// By the answers; and by what the log accepted, where a job with a key may stand for another and does not count.
fn in_part(facts: &Facts, findings: &mut Findings) {
    let mut accepted = vec![false; facts.jobs()];
    for entry in facts.entries.values() {
        for effect in &entry.effects {
            if let Effect::Accepted(job) = effect
                && let Some(job) = facts.job(job.job)
            {
                accepted[job as usize] = true;
            }
        }
    }
    let asks: Vec<&Ask> = facts.asks.iter().filter(|ask| ask.whole).collect();
    for call in asks.chunk_by(|one, other| one.call == other.call) {
        findings.judge(1);
        let line = facts.call(call[0].call).invoked.line;
        let answered = call.iter().filter(|ask| ask.answer.is_some()).count();
        let own = || call.iter().filter(|ask| ask.key.is_none());
        let known = own().filter(|ask| accepted[ask.job as usize]).count();
        let counts = [
            (answered, call.len(), "answered as accepted"),
            (known, own().count(), "accepted by the log"),
        ];
        for (count, all, how) in counts {
            if count != 0 && count != all {
                findings.refuse([line], || {
                    format!("{count} jobs of {all} that belong together were {how}")
                });
            }
        }
    }
}

fn from_nowhere(facts: &Facts, findings: &mut Findings) {
    let mut asked: Vec<Option<Micros>> = vec![None; facts.jobs()];
    for ask in facts.asks.iter().filter(|ask| ask.end != End::Fail) {
        let at = facts.call(ask.call).invoked.at;
        let first = &mut asked[ask.job as usize];
        *first = Some(first.map_or(at, |first| first.min(at)));
    }
    let mut nowhere = Vec::new();
    let mut seen = |job: JobNo, at: Micros, line: Line, how: &str| {
        findings.judge(1);
        match asked[job as usize] {
            None => findings.refuse([line], || {
                format!("job {} was {how}, but no call that could have made it", facts.id(job))
            }),
            Some(first) if first > at => findings.refuse([line], || {
                format!(
                    "job {} was {how} at {at} µs and asked for only at {first} µs",
                    facts.id(job)
                )
            }),
            Some(_) => {}
        }
    };
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            let Effect::Accepted(accepted) = effect else { continue };
            match facts.job(accepted.job) {
                Some(job) => seen(job, Micros::MAX, entry.line, "accepted by the log"),
                None => nowhere.push((accepted.job, *index, entry.line)),
            }
        }
    }
    for row in &facts.last.jobs {
        seen(row.job, Micros::MAX, row.line, "in the last scan");
    }
    for attempt in &facts.attempts {
        if let Some(started) = attempt.started {
            seen(attempt.job, started.at, started.line, "run");
        }
    }
    for read in facts.reads.iter().filter(|read| read.seen.is_some()) {
        if let Some(completed) = facts.call(read.call).completed {
            seen(read.job, completed.at, completed.line, "read");
        }
    }
    for (job, index, line) in nowhere {
        findings.refuse([line], || {
            format!("job {job} was accepted at index {index} and nobody asked for it")
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
                &|history| history.push(last_job(id(99), succeeded_after(1))),
                &|history| history.push(started(50, id(98), 9 << 24, 1)),
                &|history| history.extend(read(8, 1, id(97), JobState::Available, 3)),
                &|history| history.insert(0, started(0, A, 1 << 24, 1)),
                &|history| history.push(last_job(REFUSED, succeeded_after(1))),
                &|history| history.push(applied(20, vec![accepted(REFUSED, 0)])),
                &|history| history.extend(enqueue_whole(9, 1, [id(60), id(61)], [true, false])),
                &|history| {
                    history.extend(enqueue_whole(9, 1, [id(60), id(61)], [true, true]));
                    history.push(applied(13, vec![accepted(id(60), 0)]));
                },
                &|history| history.push(applied(20, vec![accepted(id(96), 0)])),
            ],
        );
    }
}
