//! I13: of the available jobs for which all the same decides who may start them, the one whose turn it is starts: least
//! `available_at + level × aging`, then first accepted. From inside, at every start. Jobs with an ordering key are left
//! out: one that was revived may have the place of a dead one.

use std::collections::{BTreeSet, HashMap};

use crate::check::Findings;
use crate::facts::{Facts, Fast, Line};
use crate::history::{AcceptedJob, Effect, How, Id, JobState, Name, Priority, ReportVerdict};

const LEVELS: usize = Priority::ALL.len();
/// As for a tenant whose settings were never changed.
const AGING: u64 = 30_000;

type Labels = Vec<(Name, Name)>;
/// What decides who may start a job: tenant, queue, kind, version, labels, cost and slots, limit keys.
type Alike = (Name, Name, Name, u32, [Labels; 2], [u32; 2], Vec<(Name, u32)>);
/// When it became available, in which place it was accepted.
type Place = (u64, u64);

struct Job {
    line_of: usize,
    place: Place,
    priority: Priority,
    waits: bool,
}

struct Lined {
    tenant: Name,
    levels: [BTreeSet<Place>; LEVELS],
}

#[derive(Default)]
struct Lines {
    numbers: HashMap<Alike, usize, Fast>,
    all: Vec<Lined>,
    jobs: HashMap<Id, Job, Fast>,
    aging: HashMap<Name, u64, Fast>,
}

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_server(facts) {
        return;
    }
    let mut lines = Lines::default();
    let mut accepted = 0;
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    accepted += 1;
                    lines.accepted(job, (job.due.max(entry.now), accepted));
                }
                Effect::Entered { job, state } => {
                    if *state == JobState::Running {
                        lines.starts(*job, (*index, entry.line), findings);
                    }
                    lines.moved(*job, *state == JobState::Available);
                }
                Effect::Waits { job, until } => lines.available_at(*job, *until),
                Effect::Reported {
                    job,
                    how,
                    verdict: ReportVerdict::Accepted,
                    ..
                }
                | Effect::Revoked { job, why: how, .. } => match how {
                    // Back in its old place, unless it waits.
                    How::Preempted | How::Snoozed | How::Throttled => {}
                    _ => lines.available_at(*job, entry.now),
                },
                Effect::Prioritised { job, priority } => lines.prioritised(*job, *priority),
                Effect::Aging { tenant, aging } => {
                    lines.aging.insert(tenant.clone(), *aging);
                }
                Effect::Ended { job, .. } => {
                    lines.moved(*job, false);
                    lines.jobs.remove(job);
                }
                _ => {}
            }
        }
    }
}

impl Lines {
    fn accepted(&mut self, job: &AcceptedJob, place: Place) {
        if job.claims.ordering_key.is_some() {
            return;
        }
        let alike = (
            job.tenant.clone(),
            job.queue.clone(),
            job.kind.clone(),
            job.version,
            [job.required_labels.clone(), job.preferred_labels.clone()],
            [job.claims.cost, job.slots],
            job.claims.limit_keys.clone(),
        );
        let next = self.all.len();
        let line_of = *self.numbers.entry(alike).or_insert(next);
        if line_of == next {
            self.all.push(Lined {
                tenant: job.tenant.clone(),
                levels: Default::default(),
            });
        }
        let row = Job {
            line_of,
            place,
            priority: job.priority,
            waits: false,
        };
        self.jobs.insert(job.job, row);
        self.moved(job.job, job.state == JobState::Available);
    }

    /// It is available from now on, or not.
    fn moved(&mut self, id: Id, available: bool) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.waits == available {
            return;
        }
        job.waits = available;
        let level = &mut self.all[job.line_of].levels[job.priority as usize];
        if available {
            level.insert(job.place);
        } else {
            level.remove(&job.place);
        }
    }

    /// Changes what its place follows from.
    fn change(&mut self, id: Id, change: impl FnOnce(&mut Job)) {
        let waits = self.jobs.get(&id).is_some_and(|job| job.waits);
        self.moved(id, false);
        if let Some(job) = self.jobs.get_mut(&id) {
            change(job);
        }
        self.moved(id, waits);
    }

    fn available_at(&mut self, id: Id, at: u64) {
        self.change(id, |job| job.place.0 = at);
    }

    fn prioritised(&mut self, id: Id, priority: Priority) {
        self.change(id, |job| job.priority = priority);
    }

    fn starts(&self, id: Id, (index, line): (u64, Line), findings: &mut Findings) {
        let Some(job) = self.jobs.get(&id) else { return };
        let lined = &self.all[job.line_of];
        let aging = self.aging.get(&lined.tenant).copied().unwrap_or(AGING);
        let turn = |level: u64, (at, number): Place| (at.saturating_add(level.saturating_mul(aging)), number);
        let own = turn(job.priority.level(), job.place);
        let heads = (0..)
            .zip(&lined.levels)
            .filter_map(|(level, waiting)| Some(turn(level, *waiting.first()?)));
        findings.judge(1);
        if let Some(first) = heads.min().filter(|first| *first < own) {
            findings.refuse([line], || {
                format!("job {id} of turn {own:?} starts at index {index} before one of turn {first:?}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    fn with_priority(job: Id, priority: Priority) -> Effect {
        let mut effect = accepted(job, 0);
        if let Effect::Accepted(job) = &mut effect {
            job.priority = priority;
        }
        effect
    }

    fn runs(job: Id) -> Effect {
        entered(job, JobState::Running)
    }

    #[test]
    fn refuses() {
        let aging = |aging| Effect::Aging {
            tenant: "t".into(),
            aging,
        };
        prove(
            super::check,
            &[
                // The second of two alike.
                &|history| history.push(applied(20, vec![accepted(id(9), 0), accepted(id(10), 0), runs(id(10))])),
                // The less urgent one.
                &|history| {
                    let jobs = [
                        with_priority(id(9), Priority::High),
                        with_priority(id(10), Priority::Critical),
                    ];
                    history.push(applied(20, [jobs.to_vec(), vec![runs(id(9))]].concat()));
                },
                // A change of priority that came to nothing.
                &|history| {
                    let changed = Effect::Prioritised {
                        job: id(10),
                        priority: Priority::Critical,
                    };
                    let jobs = vec![accepted(id(9), 0), accepted(id(10), 0), changed, runs(id(9))];
                    history.push(applied(20, jobs));
                },
                // Urgency where it does not count.
                &|history| {
                    let jobs = [
                        with_priority(id(9), Priority::Bulk),
                        with_priority(id(10), Priority::Critical),
                    ];
                    history.push(applied(
                        20,
                        [vec![aging(0)], jobs.to_vec(), vec![runs(id(10))]].concat(),
                    ));
                },
                // Age where urgency counts alone.
                &|history| {
                    history.push(applied(
                        20,
                        vec![aging(AGING_STRICT), with_priority(id(9), Priority::Low)],
                    ));
                    let urgent = with_priority(id(10), Priority::Normal);
                    history.push(applied(21, vec![urgent, runs(id(9))]));
                },
            ],
        );
    }

    #[test]
    fn an_old_job_starts_before_a_more_urgent_one_in_time() {
        accept(super::check, &|history| {
            let aging = Effect::Aging {
                tenant: "t".into(),
                aging: 20,
            };
            // Two levels below, and more than two levels' worth older.
            let waiting = with_priority(id(9), Priority::Low);
            let Record::Applied(mut first) = applied(20, vec![aging, waiting]) else {
                return;
            };
            first.now = NOW - 100;
            history.push(Record::Applied(first));
            history.push(applied(21, vec![with_priority(id(10), Priority::High), runs(id(9))]));
        });
    }
}
