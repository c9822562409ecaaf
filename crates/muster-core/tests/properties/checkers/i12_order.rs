//! Jobs of an ordering key start in the order of their acceptance, each only after the one before it has ended; the death
//! of a strict one holds up the others until it is revived or they are released.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::{JobId, JobState};

use crate::facts::{Fact, Order, Place};

/// Within an entry the ends of jobs are told after what was asked, so a death may be told after it was made good.
#[derive(Default)]
struct Line {
    /// Live jobs in order.
    live: Vec<JobId>,
    held_by: Option<JobId>,
    /// Jobs whose deaths hold up nobody any more.
    settled: BTreeSet<JobId>,
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut places: BTreeMap<JobId, Place> = BTreeMap::new();
    let mut lines: BTreeMap<Order, Line> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Asked {
                job,
                place: Some(place),
                ..
            } => {
                places.entry(*job).or_insert_with(|| place.clone());
            }
            Fact::Accepted {
                job, existed: false, ..
            } => {
                let Some(place) = places.get(job) else { continue };
                let line = lines.entry(place.order.clone()).or_default();
                // One that held up nobody left no place: its successor comes last.
                let held_up = |revived: JobId| places.get(&revived).is_some_and(|place| place.strict);
                let revives = place.revives.filter(|revived| held_up(*revived));
                let dying = line.live.iter().position(|other| Some(*other) == revives);
                let at = if line.held_by.is_some() && line.held_by == place.revives {
                    line.held_by = None;
                    0
                } else {
                    dying.map_or(line.live.len(), |at| at + 1)
                };
                line.settled.extend(dying.and(revives));
                line.live.insert(at, *job);
            }
            Fact::Granted { job, .. } => {
                let Some(place) = places.get(job) else { continue };
                let line = lines.entry(place.order.clone()).or_default();
                if line.live.first() != Some(job) || line.held_by.is_some() {
                    return Err(format!(
                        "job {job} starts, but {:?} are before it or {:?} holds its key",
                        line.live, line.held_by
                    ));
                }
            }
            Fact::Ended { job, state, .. } => {
                let Some(place) = places.get(job) else { continue };
                let line = lines.entry(place.order.clone()).or_default();
                line.live.retain(|other| other != job);
                if *state == JobState::Dead && place.strict && !line.settled.contains(job) {
                    line.held_by = Some(*job);
                }
            }
            Fact::Released { held_by } => {
                let Some(place) = places.get(held_by) else { continue };
                let line = lines.entry(place.order.clone()).or_default();
                line.settled.insert(*held_by);
                line.held_by = line.held_by.filter(|job| job != held_by);
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let order = || Order {
        tenant: "t".into(),
        queue: "q".into(),
        key: "k".into(),
    };
    let asked = |job, strict, revives| Fact::Asked {
        job,
        due: 0,
        place: Some(Place {
            order: order(),
            strict,
            revives,
        }),
    };
    let two = |strict| {
        vec![
            asked(JOB, strict, None),
            accepted(JOB),
            asked(OTHER, strict, None),
            accepted(OTHER),
        ]
    };
    let third = JobId(3);
    let then = |start: Vec<Fact>, rest: &[Fact]| [start.as_slice(), rest].concat();
    let dead = |job| ended(job, JobState::Dead);
    prove(
        check,
        &then(
            two(true),
            &[
                granted(JOB, 1, 1, 0),
                dead(JOB),
                asked(third, true, Some(JOB)),
                accepted(third),
                granted(third, 2, 1, 0),
                dead(third),
                Fact::Released { held_by: third },
                granted(OTHER, 3, 1, 0),
            ],
        ),
        &[
            &then(two(false), &[granted(OTHER, 1, 1, 0)]),
            &then(two(false), &[granted(JOB, 1, 1, 0), granted(OTHER, 2, 1, 0)]),
            &then(two(true), &[granted(JOB, 1, 1, 0), dead(JOB), granted(OTHER, 2, 1, 0)]),
            &then(
                two(true),
                &[
                    granted(JOB, 1, 1, 0),
                    dead(JOB),
                    asked(third, true, Some(JOB)),
                    accepted(third),
                    granted(OTHER, 2, 1, 0),
                ],
            ),
        ],
    );
}
