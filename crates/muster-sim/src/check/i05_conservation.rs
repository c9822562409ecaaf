//! I5: accepted jobs are live or ended, and all counters equal a recount. From outside by the last scan; from inside
//! wherever a node recorded its own count.

use std::collections::{BTreeMap, HashMap};

use crate::check::Findings;
use crate::facts::{Facts, Fast, Line};
use crate::history::{Counts, Effect, Id, JobState, Name, Totals};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn place(counts: &mut Counts, state: JobState) -> Option<&mut u64> {
    match state {
        JobState::Scheduled => Some(&mut counts.scheduled),
        JobState::Available => Some(&mut counts.available),
        JobState::Running => Some(&mut counts.running),
        JobState::Retrying => Some(&mut counts.retrying),
        JobState::Blocked => Some(&mut counts.blocked),
        _ => None,
    }
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_scan(facts) {
        return;
    }
    let mut tenants: BTreeMap<&str, (Counts, Totals)> = BTreeMap::new();
    let mut queues: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    for row in &facts.last.jobs {
        let (tenant, queue) = (facts.name(row.tenant), facts.name(row.queue));
        let (live, totals) = tenants.entry(tenant).or_default();
        totals.enqueued += 1;
        match row.state {
            JobState::Succeeded => totals.succeeded += 1,
            JobState::Dead => totals.dead += 1,
            JobState::Cancelled => totals.cancelled += 1,
            JobState::Expired => totals.expired += 1,
            live_state => {
                for counts in [live, queues.entry((tenant, queue)).or_default()] {
                    if let Some(count) = place(counts, live_state) {
                        *count += 1;
                    }
                }
            }
        }
    }
    for (line, tenant) in &facts.last.tenants {
        findings.judge(1);
        let (live, totals) = tenants.get(&*tenant.tenant).copied().unwrap_or_default();
        if tenant.live != live {
            findings.refuse([*line], || {
                format!(
                    "tenant {:?} shows {:?}, its jobs are {live:?}",
                    tenant.tenant, tenant.live
                )
            });
        }
        if tenant.totals.is_some_and(|shown| shown != totals) {
            findings.refuse([*line], || {
                format!(
                    "tenant {:?} shows {:?}, its jobs are {totals:?}",
                    tenant.tenant, tenant.totals
                )
            });
        }
    }
    for (line, queue) in &facts.last.queues {
        findings.judge(1);
        let live = queues
            .get(&(&*queue.tenant, &*queue.queue))
            .copied()
            .unwrap_or_default();
        if queue.live != live {
            findings.refuse([*line], || {
                format!("queue {:?} shows {:?}, its jobs are {live:?}", queue.queue, queue.live)
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut jobs: HashMap<Id, (Name, JobState), Fast> = HashMap::default();
    let mut live: HashMap<Name, Counts, Fast> = HashMap::default();
    let shift = |counts: &mut Counts, from: Option<JobState>, to: JobState| {
        if let Some(count) = from.and_then(|from| place(counts, from)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = place(counts, to) {
            *count += 1;
        }
    };
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    shift(live.entry(job.tenant.clone()).or_default(), None, job.state);
                    jobs.insert(job.job, (job.tenant.clone(), job.state));
                }
                Effect::Entered { job, state } | Effect::Ended { job, state, .. } => {
                    if let Some((tenant, from)) = jobs.get_mut(job)
                        && let Some(counts) = live.get_mut(tenant)
                    {
                        shift(counts, Some(*from), *state);
                        *from = *state;
                    }
                }
                Effect::Counted { tenant, live: kept } => {
                    findings.judge(1);
                    let counted = live.get(tenant).copied().unwrap_or_default();
                    if counted != *kept {
                        count_differs(findings, entry.line, *index, tenant, *kept, counted);
                    }
                }
                _ => {}
            }
        }
    }
}

fn count_differs(findings: &mut Findings, line: Line, index: u64, tenant: &Name, kept: Counts, counted: Counts) {
    findings.refuse([line], || {
        format!("at index {index} tenant {tenant:?} kept {kept:?}, its jobs were {counted:?}")
    });
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| remove_job(history, A),
                &|history| change_job(history, B, |job| job.state = JobState::Dead),
                &|history| change_job(history, B, |job| job.state = JobState::Running),
                &|history| history.push(applied(20, vec![accepted(id(9), 0), counted(2)])),
            ],
        );
    }
}
