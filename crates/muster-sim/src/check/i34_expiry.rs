//! I34: a job expires when it was not started within its time, never earlier, never after a start, and those whose time is
//! over first expire first. From outside by the last scan, from inside by replicated time.

use std::collections::{BTreeSet, HashMap};

use crate::check::Findings;
use crate::check::clock::Clock;
use crate::facts::{Facts, Fast, Line};
use crate::history::{Effect, Id, JobState};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let asks = facts.ask_of_jobs();
    for row in &facts.last.jobs {
        let Some(ask) = asks[row.job as usize] else { continue };
        if row.state == JobState::Expired {
            findings.judge(1);
            if ask.expires_in == 0 || row.counts != [0; 3] {
                findings.refuse([facts.call(ask.call).invoked.line, row.line], || {
                    format!(
                        "job {} is expired after {} attempts; its time is {} ms, 0 meaning for ever",
                        facts.id(row.job),
                        row.counts[0],
                        ask.expires_in
                    )
                });
            }
        }
    }
}

/// A job that has a time and was not started yet: it is over then; where that was said.
type Waiting = HashMap<Id, (u64, Line), Fast>;

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let clock = Clock::of(facts);
    let mut waiting = Waiting::default();
    let mut by_time: BTreeSet<(u64, Id)> = BTreeSet::new();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) if job.expires_in > 0 => {
                    let over = job.due.max(entry.now).saturating_add(job.expires_in);
                    waiting.insert(job.job, (over, entry.line));
                    by_time.insert((over, job.job));
                }
                Effect::Entered {
                    job,
                    state: JobState::Running,
                } => {
                    let Some((over, line)) = waiting.remove(job) else {
                        continue;
                    };
                    by_time.remove(&(over, *job));
                    findings.judge(1);
                    if clock.long_past(over, entry) {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} starts at index {index}, long after {over}, when it was to expire")
                        });
                    }
                }
                Effect::Ended { job, state, .. } => {
                    let known = waiting.remove(job);
                    if let Some((over, _)) = known {
                        by_time.remove(&(over, *job));
                    }
                    if *state != JobState::Expired {
                        continue;
                    }
                    findings.judge(1);
                    let Some((over, line)) = known else {
                        findings.refuse([entry.line], || {
                            format!("job {job} expires at index {index}: it has no time, or was started before")
                        });
                        continue;
                    };
                    if entry.now < over {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} expires at index {index}, {} ms early", over - entry.now)
                        });
                    }
                    if let Some((earlier, other)) = by_time.first().filter(|(first, _)| *first < over) {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} expires at index {index}, and {other}, whose time was over at {earlier}, does not")
                        });
                    }
                }
                _ => {}
            }
        }
    }
    for (over, job) in by_time {
        if clock.over_at_last(over) {
            let line = waiting.get(&job).map_or(1, |(_, line)| *line);
            findings.refuse([line], || format!("job {job} was to expire at {over} and never did"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    /// Accepted at `NOW`.
    fn expiring(job: Id, expires_in: u64) -> Effect {
        let mut effect = accepted(job, 0);
        if let Effect::Accepted(job) = &mut effect {
            job.expires_in = expires_in;
        }
        effect
    }

    fn expired(job: Id) -> Effect {
        Effect::Ended {
            job,
            state: JobState::Expired,
            attempts: 0,
            failures: 0,
            crashes: 0,
        }
    }

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                // A millisecond early.
                &|history| {
                    history.push(applied(20, vec![expiring(id(9), 10)]));
                    history.push(later(21, 9, vec![expired(id(9))]));
                },
                // One that was never to expire.
                &|history| history.push(applied(20, vec![accepted(id(9), 0), expired(id(9))])),
                // One that had been started.
                &|history| {
                    let runs = entered(id(9), JobState::Running);
                    let waits = entered(id(9), JobState::Available);
                    history.push(applied(20, vec![expiring(id(9), 10), runs, waits]));
                    history.push(later(21, 10, vec![expired(id(9))]));
                },
                // Another one's time was over before.
                &|history| {
                    history.push(applied(20, vec![expiring(id(9), 10), expiring(id(10), 11)]));
                    history.push(later(21, 11, vec![expired(id(10))]));
                },
                // It starts instead, and everybody had known for longer than the slack of 1 ms.
                &|history| {
                    history.push(applied(20, vec![expiring(id(9), 10)]));
                    history.push(later(21, 10, vec![]));
                    history.push(later(22, 12, vec![entered(id(9), JobState::Running)]));
                },
                // It neither starts nor expires.
                &|history| {
                    history.push(applied(20, vec![expiring(id(9), 10)]));
                    history.push(later(21, 10, vec![]));
                    history.push(later(22, 12, vec![]));
                },
                // In the last scan, of a job without a time.
                &|history| change_job(history, C, |row| row.state = JobState::Expired),
            ],
        );
    }
}
