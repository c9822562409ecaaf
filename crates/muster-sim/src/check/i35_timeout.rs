//! I35: an attempt is ended by its timeout when its time is over, never earlier, and those whose time is over first end
//! first. From outside by attempts whose reports were taken, from inside by replicated time.

use std::collections::{BTreeSet, HashMap};

use crate::check::Findings;
use crate::check::clock::Clock;
use crate::facts::{Entry, Facts, Fast, Line};
use crate::history::{Effect, How, Id, JobState};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !facts.clocks_moved() {
        from_outside(facts, findings);
    }
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let asks = facts.ask_of_jobs();
    for attempt in facts.attempts.iter().filter(|attempt| attempt.accepted.is_some()) {
        let (Some(ask), Some(begun), Some((ended, _))) = (asks[attempt.job as usize], attempt.started, attempt.ended)
        else {
            continue;
        };
        if ask.attempt_timeout == 0 {
            continue;
        }
        findings.judge(1);
        let ran = ended.at.saturating_sub(begun.at);
        if ran > ask.attempt_timeout * 1_000 + facts.header.slack_us {
            findings.refuse([begun.line, ended.line], || {
                format!(
                    "the report of job {} under fence {} was taken after {ran} µs, its time was {} ms",
                    facts.id(attempt.job),
                    attempt.fence,
                    ask.attempt_timeout
                )
            });
        }
    }
}

#[derive(Default)]
struct Running {
    /// Longest run of each live job.
    timeouts: HashMap<Id, u64, Fast>,
    /// When the attempt in progress runs out of time, and where it began.
    over: HashMap<Id, (u64, Line), Fast>,
    by_time: BTreeSet<(u64, Id)>,
}

impl Running {
    fn begins(&mut self, job: Id, now: u64, line: Line) {
        if let Some(timeout) = self.timeouts.get(&job).filter(|timeout| **timeout > 0) {
            let over = now.saturating_add(*timeout);
            self.over.insert(job, (over, line));
            self.by_time.insert((over, job));
        }
    }

    fn ends(&mut self, job: Id) -> Option<(u64, Line)> {
        let known = self.over.remove(&job)?;
        self.by_time.remove(&(known.0, job));
        Some(known)
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let clock = Clock::of(facts);
    let mut running = Running::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    running.timeouts.insert(job.job, job.attempt_timeout);
                }
                Effect::Granted { job, .. } => running.begins(*job, entry.now, entry.line),
                Effect::Revoked {
                    job,
                    why: How::TimedOut,
                    ..
                } => {
                    findings.judge(1);
                    let Some((over, line)) = running.over.get(job).copied() else {
                        findings.refuse([entry.line], || {
                            format!("job {job} runs out of time at index {index}, and has no timeout or no attempt")
                        });
                        continue;
                    };
                    if entry.now < over {
                        findings.refuse([line, entry.line], || {
                            format!(
                                "job {job} runs out of time at index {index}, {} ms early",
                                over - entry.now
                            )
                        });
                    }
                    if let Some((earlier, other)) = running.by_time.first().filter(|(first, _)| *first < over) {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} runs out of time at index {index}, and {other}, whose time was over at {earlier}, runs on")
                        });
                    }
                }
                Effect::Entered { job, state } if *state != JobState::Running => {
                    ended(*job, (*index, entry), &mut running, &clock, findings);
                }
                Effect::Ended { job, .. } => {
                    ended(*job, (*index, entry), &mut running, &clock, findings);
                    running.timeouts.remove(job);
                }
                _ => {}
            }
        }
    }
    for (over, job) in running.by_time {
        if clock.over_at_last(over) {
            let line = running.over.get(&job).map_or(1, |(_, line)| *line);
            findings.refuse([line], || format!("job {job} was out of time at {over} and still runs"));
        }
    }
}

fn ended(job: Id, (index, entry): (u64, &Entry), running: &mut Running, clock: &Clock, findings: &mut Findings) {
    let Some((over, begun)) = running.ends(job) else { return };
    findings.judge(1);
    if clock.long_past(over, entry) {
        findings.refuse([begun, entry.line], || {
            format!("the attempt of job {job} ends at index {index}, long after {over}, when its time was over")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    /// Begins at `NOW`.
    fn runs(job: Id, attempt_timeout: u64, fence: u64) -> Vec<Effect> {
        let mut effect = accepted(job, 0);
        if let Effect::Accepted(job) = &mut effect {
            job.attempt_timeout = attempt_timeout;
        }
        vec![effect, entered(job, JobState::Running), granted(job, fence, 1)]
    }

    fn out_of_time(job: Id, fence: u64) -> Vec<Effect> {
        let revoked = Effect::Revoked {
            job,
            fence,
            why: How::TimedOut,
        };
        vec![revoked, entered(job, JobState::Retrying)]
    }

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                // A millisecond early.
                &|history| {
                    history.push(applied(20, runs(id(9), 10, 20 << 24)));
                    history.push(later(21, 9, out_of_time(id(9), 20 << 24)));
                },
                // An attempt without a timeout.
                &|history| {
                    history.push(applied(20, runs(id(9), 0, 20 << 24)));
                    history.push(later(21, 9, out_of_time(id(9), 20 << 24)));
                },
                // Another one's time was over before.
                &|history| {
                    history.push(applied(20, runs(id(9), 10, 20 << 24)));
                    history.push(applied(21, runs(id(10), 11, 21 << 24)));
                    history.push(later(22, 11, out_of_time(id(10), 21 << 24)));
                },
                // Its report is taken when everybody had known for longer than the slack of 1 ms.
                &|history| {
                    history.push(applied(20, runs(id(9), 10, 20 << 24)));
                    history.push(later(21, 10, vec![]));
                    history.push(later(22, 12, vec![ended(id(9), JobState::Succeeded)]));
                },
                // It runs on.
                &|history| {
                    history.push(applied(20, runs(id(9), 10, 20 << 24)));
                    history.push(later(21, 10, vec![]));
                    history.push(later(22, 12, vec![]));
                },
                // From outside: 20 ms are taken for good, 10 are allowed.
                &|history| {
                    let args = JobArgs {
                        attempt_timeout: 10,
                        ..args(id(9), None)
                    };
                    history.extend(enqueue(9, 1, args, Some((id(9), false))));
                    redo(history, [10_000, 30_000, 31_000], id(9), 20 << 24, How::Succeeded);
                },
            ],
        );
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_late() {
        accept(super::check, &|history| {
            history.push(applied(20, runs(id(9), 10, 20 << 24)));
            history.push(later(21, 10, vec![]));
            let mut jumped = later(22, 60_000, out_of_time(id(9), 20 << 24));
            if let Record::Applied(applied) = &mut jumped {
                applied.at = 10_500;
            }
            history.push(jumped);
        });
    }
}
