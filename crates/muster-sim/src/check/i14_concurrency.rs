//! I14: no more jobs of a tenant run at once than its limit. From outside by attempts whose reports were taken, against
//! the greatest limit ever set; from inside at every grant.

use std::collections::{BTreeMap, HashMap};

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, Line, NameNo};
use crate::history::{Effect, Id, JobState, Micros, Name};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    // By tenant: the greatest limit and since when one is certainly set; 0 = none at some time.
    let mut limits: BTreeMap<NameNo, (u32, Micros)> = BTreeMap::new();
    for setting in &facts.settings {
        let call = facts.call(setting.call);
        if call.end == End::Fail {
            continue;
        }
        let since = call
            .completed
            .filter(|_| call.end == End::Ok)
            .map_or(Micros::MAX, |stamp| stamp.at);
        let (most, from) = limits.entry(setting.tenant).or_insert((setting.concurrency, since));
        *most = if *most == 0 || setting.concurrency == 0 {
            0
        } else {
            (*most).max(setting.concurrency)
        };
        *from = (*from).min(since);
    }
    limits.retain(|_, (most, _)| *most > 0);
    if limits.is_empty() {
        return;
    }
    let mut tenant_of: Vec<Option<NameNo>> = vec![None; facts.jobs()];
    for ask in &facts.asks {
        tenant_of[ask.job as usize] = Some(ask.tenant);
    }
    // Ends stand before beginnings at the same time.
    let mut edges: Vec<(NameNo, Micros, bool, Line)> = Vec::new();
    for attempt in facts.attempts.iter().filter(|attempt| attempt.accepted.is_some()) {
        let (Some(tenant), Some(begun), Some((ended, _))) =
            (tenant_of[attempt.job as usize], attempt.started, attempt.ended)
        else {
            continue;
        };
        if limits.get(&tenant).is_some_and(|(_, since)| begun.at > *since) {
            edges.push((tenant, begun.at, true, begun.line));
            edges.push((tenant, ended.at, false, ended.line));
        }
    }
    edges.sort_unstable();
    let mut running = (NameNo::MAX, 0_u32);
    for (tenant, at, begins, line) in edges {
        findings.judge(1);
        if running.0 != tenant {
            running = (tenant, 0);
        }
        running.1 = if begins {
            running.1 + 1
        } else {
            running.1.saturating_sub(1)
        };
        let most = limits.get(&tenant).map_or(u32::MAX, |(most, _)| *most);
        if begins && running.1 > most {
            let count = running.1;
            findings.refuse([line], || {
                format!(
                    "{count} jobs of {:?} ran at {at} µs, allowed are {most}",
                    facts.name(tenant)
                )
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut limits: HashMap<Name, u32, Fast> = HashMap::default();
    let mut running: HashMap<Name, u32, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, (Name, bool), Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Tenant {
                    tenant,
                    concurrency_limit,
                    ..
                } => {
                    limits.insert(tenant.clone(), *concurrency_limit);
                }
                Effect::Accepted(job) => {
                    jobs.insert(job.job, (job.tenant.clone(), false));
                }
                Effect::Entered { job, state } | Effect::Ended { job, state, .. } => {
                    let Some((tenant, runs)) = jobs.get_mut(job) else {
                        continue;
                    };
                    let count = running.entry(tenant.clone()).or_default();
                    if std::mem::replace(runs, *state == JobState::Running) {
                        *count = count.saturating_sub(1);
                    }
                    if *state != JobState::Running {
                        continue;
                    }
                    *count += 1;
                    findings.judge(1);
                    let most = limits.get(tenant).copied().unwrap_or(0);
                    if most > 0 && *count > most {
                        let count = *count;
                        findings.refuse([entry.line], || {
                            format!("at index {index} job {job} is number {count} of {tenant:?}, allowed are {most}")
                        });
                    }
                }
                _ => {}
            }
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
                &|history| limit_tenant(history, None, 1),
                &|history| {
                    limit_tenant(history, None, 2);
                    history.extend(enqueue(9, 1, args(id(9), None), Some((id(9), false))));
                    redo(history, [11_000, 19_000, 20_000], id(9), 5 << 24, How::Succeeded);
                },
                &|history| {
                    let effects = vec![limited(None, 1), accepted(id(9), 0), accepted(id(10), 0)];
                    history.push(applied(20, effects));
                    let running = [id(9), id(10)].map(|job| entered(job, JobState::Running));
                    history.push(applied(21, running.to_vec()));
                },
            ],
        );
    }
}
