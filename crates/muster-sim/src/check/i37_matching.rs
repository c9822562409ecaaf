//! I37: a job goes to a worker that accepts its tenant, queue, kind and version and carries its required labels. From inside,
//! at every grant.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Facts, Fast};
use crate::history::{AcceptedJob, Effect, Id, Name, WorkerClass};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_server(facts) {
        return;
    }
    let mut sessions: HashMap<Id, &WorkerClass, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, &AcceptedJob, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::SessionOpened { session, accepts } => {
                    sessions.insert(*session, accepts);
                }
                Effect::Accepted(job) => {
                    jobs.insert(job.job, job);
                }
                Effect::Granted { job, session, .. } => {
                    let (Some(asked), Some(accepts)) = (jobs.get(job), sessions.get(session)) else {
                        continue;
                    };
                    findings.judge(1);
                    if let Some(what) = refuses(accepts, asked) {
                        findings.refuse([entry.line], || {
                            format!("job {job} is granted at index {index} to session {session}, which does not accept its {what}")
                        });
                    }
                }
                Effect::Ended { job, .. } => {
                    jobs.remove(job);
                }
                Effect::SessionClosed { session } => {
                    sessions.remove(session);
                }
                _ => {}
            }
        }
    }
}

/// What of the job such a worker does not accept.
fn refuses(accepts: &WorkerClass, job: &AcceptedJob) -> Option<&'static str> {
    let is_of = |pattern: &Name, name: &Name| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    };
    if !accepts.tenants.is_empty() && !accepts.tenants.contains(&job.tenant) {
        return Some("tenant");
    }
    if !accepts.queues.is_empty() && !accepts.queues.iter().any(|queue| is_of(queue, &job.queue)) {
        return Some("queue");
    }
    let kinds = || accepts.kinds.iter().filter(|kind| kind.kind == job.kind);
    if kinds().next().is_none() {
        return Some("kind");
    }
    if !kinds().any(|kind| (kind.min_version..=kind.max_version).contains(&job.version)) {
        return Some("version");
    }
    let carried = job.required_labels.iter().all(|label| accepts.labels.contains(label));
    (!carried).then_some("labels")
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    fn granted_to(history: &mut Vec<Record>, change: impl Fn(&mut AcceptedJob), accepts: impl Fn(&mut WorkerClass)) {
        let (mut job, mut opened) = (accepted(id(9), 0), opened());
        if let Effect::Accepted(job) = &mut job {
            change(job);
        }
        if let Effect::SessionOpened { accepts: class, .. } = &mut opened {
            accepts(class);
        }
        history.push(applied(20, vec![opened, job, granted(id(9), 20 << 24, 1)]));
    }

    #[test]
    fn refuses() {
        let label = || vec![("disk".into(), "fast".into())];
        prove(
            super::check,
            &[
                &|history| granted_to(history, |_| (), |class| class.tenants = vec!["other".into()]),
                &|history| {
                    granted_to(
                        history,
                        |_| (),
                        |class| class.queues = vec!["mails".into(), "m*s".into()],
                    );
                },
                &|history| granted_to(history, |job| job.kind = "sends".into(), |_| ()),
                &|history| granted_to(history, |job| job.version = 2, |_| ()),
                &|history| granted_to(history, |job| job.required_labels = label(), |_| ()),
            ],
        );
        accept(super::check, &|history| {
            granted_to(
                history,
                |job| job.required_labels = label(),
                |class| {
                    class.labels = label();
                    class.tenants = vec!["t".into()];
                    class.queues = vec!["other".into(), "ma*".into()];
                },
            );
        });
    }

    #[test]
    fn a_preferred_label_is_no_condition() {
        accept(super::check, &|history| {
            let prefers = |job: &mut AcceptedJob| job.preferred_labels = vec![("disk".into(), "fast".into())];
            granted_to(history, prefers, |_| ());
        });
    }
}
