//! Why a job does not run, for people and for scripts.

use std::fmt::Write as _;
use std::time::SystemTime;

use muster_client::{
    AttemptHolder, JobExplanation, JobInfo, JobState, LimitCause, LimitWait, OrderingWait, TenantShare, WaitReason,
    WorkerMatch,
};
use serde_json::{Value, json};

use crate::json::rfc3339;
use crate::{human, limits, table};

/// All that is known, a line per fact.
pub(crate) fn page(explained: &JobExplanation, now: SystemTime) -> String {
    let job = &explained.job;
    let mut page = String::new();
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(page, "{name:<14}{value}");
    };
    fact("job", job.id.clone());
    fact(
        "kind",
        format!("{} of queue {}, tenant {}", job.kind, job.queue, job.tenant),
    );
    fact("priority", job.priority.to_string());
    fact("state", state(job, now));
    if explained.reasons.is_empty() {
        fact("waits for", no_reason(explained, now));
    }
    for (number, reason) in explained.reasons.iter().enumerate() {
        let name = if number == 0 { "waits for" } else { "and for" };
        fact(name, line(reason, explained, now));
    }
    if let Some(failure) = &job.failure {
        fact("last error", human::shorten(&failure.to_string(), 100));
    }
    if let Some(position) = explained.position {
        let about = if position.approximate { "about " } else { "" };
        fact(
            "position",
            format!(
                "{about}{} before it of {} available jobs like it",
                human::count(position.before),
                human::count(position.available)
            ),
        );
    }
    if !job.state.is_terminal() && job.state != JobState::Running {
        if let Some(line) = explained.share.map(share) {
            fact("share", line);
        }
        if let Some(line) = explained.workers.map(workers) {
            fact("workers", line);
        }
        fact("expected", expected(explained, now));
    }
    page.truncate(page.trim_end().len());
    page
}

fn state(job: &JobInfo, now: SystemTime) -> String {
    let since = match job.state {
        JobState::Available | JobState::Blocked => job.available_at,
        JobState::Running => job.started_at,
        state if state.is_terminal() => job.ended_at,
        _ => None,
    };
    let attempts = match job.attempts {
        0 => String::new(),
        attempts => format!(", {attempts} of {} attempts", job.max_attempts),
    };
    let since = since.map_or_else(String::new, |at| format!(" ({})", human::relative(Some(at), now)));
    format!("{}{since}{attempts}", job.state)
}

fn no_reason(explained: &JobExplanation, now: SystemTime) -> String {
    if explained.job.state.is_terminal() {
        return "nothing: it has ended".to_owned();
    }
    let Some(holder) = &explained.holder else {
        return "nothing: it starts with one of the next log entries".to_owned();
    };
    format!(
        "nothing: worker {} runs it (node {}, session {}, {})",
        holder.worker,
        holder.node_id,
        holder.session_id,
        human::relative(explained.job.started_at, now)
    )
}

/// A reason in words, with what can be done about it.
fn line(reason: &WaitReason, explained: &JobExplanation, now: SystemTime) -> String {
    let job = &explained.job;
    match reason {
        WaitReason::NotDue { at, backoff } => {
            let what = if *backoff {
                format!("the backoff after {} attempts", job.attempts)
            } else {
                "its time".to_owned()
            };
            format!("{what}: {}", instant(*at, now))
        }
        WaitReason::Ordering(wait) => ordering(wait, job),
        WaitReason::NoWorker => missing(job, explained.workers.unwrap_or_default()),
        WaitReason::Paused { level, name, note } => {
            let note = if note.is_empty() {
                String::new()
            } else {
                format!(" ({note})")
            };
            format!("{level} {name}, which is paused{note}: muster {level} resume {name}")
        }
        WaitReason::Limit(wait) => limit(wait, now),
        WaitReason::NoSlot => {
            let workers = explained.workers.unwrap_or_default();
            let draining = match workers.quiet {
                0 => String::new(),
                quiet => format!(", {} of them draining", human::count(quiet)),
            };
            let what = match job.slots {
                0 | 1 => "a free slot".to_owned(),
                slots => format!("{slots} free slots of one worker"),
            };
            let gatherer = explained.gatherer.as_ref().map_or_else(String::new, |gatherer| {
                format!(
                    "; worker {} gathers them (session {})",
                    gatherer.worker, gatherer.session_id
                )
            });
            format!(
                "{what}: {} workers accept it{draining}, and run {} jobs{gatherer}",
                human::count(workers.accept),
                human::count(workers.running)
            )
        }
        _ => "a reason that this program is too old to know".to_owned(),
    }
}

fn ordering(wait: &OrderingWait, job: &JobInfo) -> String {
    let key = &wait.ordering_key;
    if let Some(dead) = &wait.held_by {
        return format!(
            "dead job {dead}, which holds ordering key {key}: muster job redrive {dead}, or muster queue release {} {key}",
            job.queue
        );
    }
    format!(
        "earlier jobs of ordering key {key}: {} before it, first {} ({})",
        human::count(wait.before),
        wait.first.as_deref().unwrap_or("-"),
        wait.first_state
    )
}

/// The first thing that no connected worker has.
pub(crate) fn lacking(workers: &WorkerMatch) -> &'static str {
    let found = [
        (workers.open, "connection"),
        (workers.tenant, "tenant"),
        (workers.queue, "queue"),
        (workers.kind, "kind"),
        (workers.version, "version"),
        (workers.labels, "labels"),
    ];
    let lacking = found.iter().find(|(count, _)| *count == 0);
    lacking.map_or("slots", |(_, what)| *what)
}

/// What no worker has.
fn missing(job: &JobInfo, workers: WorkerMatch) -> String {
    if workers.open == 0 {
        return "a worker: none is connected".to_owned();
    }
    let lacking = lacking(&workers);
    let (what, among) = match lacking {
        "tenant" => (format!("{lacking} {}", job.tenant), workers.open),
        "queue" => (format!("{lacking} {}", job.queue), workers.tenant),
        "kind" => (format!("{lacking} {}", job.kind), workers.queue),
        "version" => (format!("{lacking} {} of its kind", job.schema_version), workers.kind),
        "labels" => (
            format!("{lacking} {}", table::pairs(&job.required_labels)),
            workers.version,
        ),
        _ => (format!("{} {lacking}", job.slots), workers.labels),
    };
    format!(
        "a worker with {what}: of {} connected, {} match otherwise, and none has that",
        human::count(workers.open),
        human::count(among)
    )
}

fn limit(wait: &LimitWait, now: SystemTime) -> String {
    let level = wait.level;
    let named = if wait.name.is_empty() {
        format!("the limit of the {level}")
    } else {
        format!("the limit of {level} {}", wait.name)
    };
    let opens = human::relative(wait.opens_at, now);
    let how = match wait.cause {
        LimitCause::Full => {
            let holders = if wait.holders.is_empty() {
                String::new()
            } else {
                format!(": {}", limits::list(&wait.holders))
            };
            format!("full, {} run{holders}", human::count(wait.running))
        }
        LimitCause::Rate => format!(
            "no tokens, {} left and {} needed; the next start is {opens}",
            wait.tokens.unwrap_or(0),
            wait.cost
        ),
        LimitCause::Throttled => format!("throttled, as a worker reported; opens {opens} (muster limit open)"),
        LimitCause::TooCostly => format!("its cost of {} is above the burst: it never starts so", wait.cost),
        other => other.as_str().to_owned(),
    };
    let rule = wait
        .rule
        .as_ref()
        .map_or_else(String::new, |rule| format!("; rule {}", limits::line(rule)));
    format!("{named}: {how}{rule}")
}

fn share(share: TenantShare) -> String {
    let weights = match share.weights {
        Some(weights) if weights > 0 => {
            let percent = u64::from(share.weight) * 100 / weights;
            format!(" of {} ({percent} %)", human::count(weights))
        }
        _ => String::new(),
    };
    let before = match (share.tenants, share.before) {
        (0 | 1, _) => "no other tenant competes".to_owned(),
        (tenants, Some(before)) => format!(
            "{} of {} tenants are served before it",
            human::count(before),
            human::count(tenants)
        ),
        (tenants, None) => format!("one of {} tenants", human::count(tenants)),
    };
    let first = match share.before_by_guarantee {
        Some(before) if before > 0 => format!(
            ", {} of them since they run in fewer slots than they are guaranteed",
            human::count(before)
        ),
        _ => String::new(),
    };
    let guarantee = share.guarantee.map_or_else(String::new, |(guaranteed, running)| {
        format!(
            "; it runs in {} of {} guaranteed slots",
            human::count(running),
            human::count(u64::from(guaranteed))
        )
    });
    let queue = share.queue.map_or_else(String::new, |(weight, weights)| {
        format!(
            "; its queue has {weight} of {} of the tenant's ({} %)",
            human::count(weights),
            u64::from(weight) * 100 / weights.max(1)
        )
    });
    format!("weight {}{weights}, {before}{first}{guarantee}{queue}", share.weight)
}

fn workers(workers: WorkerMatch) -> String {
    format!(
        "{} connected, {} accept it: {} jobs running, {} slots free, {} draining",
        human::count(workers.open),
        human::count(workers.accept),
        human::count(workers.running),
        human::count(workers.free),
        human::count(workers.quiet)
    )
}

fn expected(explained: &JobExplanation, now: SystemTime) -> String {
    match explained.expected_start {
        None => "unknown".to_owned(),
        at => format!("{}, if nothing comes before it", instant(at, now)),
    }
}

fn instant(at: Option<SystemTime>, now: SystemTime) -> String {
    let text = at.and_then(rfc3339).unwrap_or_default();
    format!("{} ({text})", human::relative(at, now))
}

pub(crate) fn json(explained: &JobExplanation) -> Value {
    json!({
        "job": crate::json::job(&explained.job, false),
        "reasons": explained.reasons.iter().map(reason_json).collect::<Vec<_>>(),
        "holder": explained.holder.as_ref().map(holder_json),
        "position": explained.position.map(|position| json!({
            "before": position.before,
            "approximate": position.approximate,
            "available": position.available,
        })),
        "share": explained.share.map(|share| json!({
            "weight": share.weight,
            "tenants": share.tenants,
            "weights": share.weights,
            "before": share.before,
            "queue_weight": share.queue.map(|(weight, _)| weight),
            "queue_weights": share.queue.map(|(_, weights)| weights),
            "before_by_guarantee": share.before_by_guarantee,
            "guaranteed_slots": share.guarantee.map(|(guaranteed, _)| guaranteed),
            "running_slots": share.guarantee.map(|(_, running)| running),
        })),
        "workers": explained.workers.as_ref().map(workers_json),
        "gatherer": explained.gatherer.as_ref().map(holder_json),
        "expected_start": explained.expected_start.and_then(rfc3339),
    })
}

fn holder_json(holder: &AttemptHolder) -> Value {
    json!({
        "session_id": holder.session_id,
        "worker": holder.worker,
        "node_id": holder.node_id,
    })
}

pub(crate) fn workers_json(workers: &WorkerMatch) -> Value {
    json!({
        "open": workers.open,
        "tenant": workers.tenant,
        "queue": workers.queue,
        "kind": workers.kind,
        "version": workers.version,
        "accept": workers.accept,
        "quiet": workers.quiet,
        "running": workers.running,
        "free": workers.free,
        "labels": workers.labels,
        "most_free": workers.most_free,
    })
}

fn reason_json(reason: &WaitReason) -> Value {
    match reason {
        WaitReason::NotDue { at, backoff } => {
            json!({ "reason": "not_due", "at": at.and_then(rfc3339), "backoff": backoff })
        }
        WaitReason::Ordering(wait) => json!({
            "reason": "ordering",
            "ordering_key": wait.ordering_key,
            "held_by": wait.held_by,
            "first": wait.first,
            "first_state": wait.first_state.as_str(),
            "before": wait.before,
        }),
        WaitReason::NoWorker => json!({ "reason": "no_worker" }),
        WaitReason::Paused { level, name, note } => {
            json!({ "reason": "paused", "level": level.as_str(), "name": name, "note": note })
        }
        WaitReason::Limit(wait) => json!({
            "reason": "limit",
            "level": wait.level.as_str(),
            "name": wait.name,
            "cause": wait.cause.as_str(),
            "opens_at": wait.opens_at.and_then(rfc3339),
            "rule": wait.rule.as_ref().map(limits::json),
            "cost": wait.cost,
            "tokens": wait.tokens,
            "running": wait.running,
            "waiting": wait.waiting,
            "parked": wait.parked,
            "holders": wait.holders,
        }),
        WaitReason::NoSlot => json!({ "reason": "no_slot" }),
        _ => json!({ "reason": "unknown" }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_client::{AttemptHolder, LanePosition, Limit, LimitLevel, LimitSelector};

    use super::*;
    use crate::table::tests::{at, dead_job};

    fn explained(reasons: Vec<WaitReason>) -> JobExplanation {
        let mut job = dead_job();
        job.state = JobState::Available;
        job.failure = None;
        job.attempts = 0;
        JobExplanation {
            job,
            reasons,
            holder: None,
            position: Some(LanePosition {
                before: 2,
                approximate: false,
                available: 1_200,
            }),
            share: Some(TenantShare {
                weight: 100,
                tenants: 3,
                weights: Some(500),
                before: Some(2),
                queue: Some((300, 400)),
                before_by_guarantee: Some(1),
                guarantee: Some((8, 9)),
            }),
            workers: Some(WorkerMatch {
                open: 4,
                tenant: 3,
                queue: 3,
                kind: 3,
                version: 2,
                accept: 2,
                quiet: 1,
                running: 24,
                free: 3,
                labels: 2,
                most_free: 2,
            }),
            expected_start: None,
            gatherer: Some(AttemptHolder {
                session_id: "s".into(),
                worker: "w".into(),
                node_id: 2,
            }),
        }
    }

    #[test]
    fn a_job_that_waits_on_its_page() {
        let full = LimitWait {
            level: LimitLevel::Kind,
            name: "send-email".into(),
            cause: LimitCause::Full,
            opens_at: None,
            rule: Some(Limit::new(LimitSelector::new(LimitLevel::Kind, "*").of_tenants("docs")).concurrency(1)),
            cost: 1,
            tokens: None,
            running: 1,
            waiting: 3,
            parked: true,
            holders: vec!["a".into()],
        };
        let explained = explained(vec![WaitReason::Limit(Box::new(full)), WaitReason::NoSlot]);
        let expected = "\
job           0190a5d2-0000-7000-8000-000000000001
kind          send-email of queue mail, tenant docs
priority      normal
state         available (2m5s ago)
waits for     the limit of kind send-email: full, 1 run: a; rule kind * of docs: 1 at once
and for       4 free slots of one worker: 2 workers accept it, 1 of them draining, and run 24 jobs; worker w gathers them (session s)
position      2 before it of 1,200 available jobs like it
share         weight 100 of 500 (20 %), 2 of 3 tenants are served before it, 1 of them since they run in fewer slots than they are guaranteed; it runs in 9 of 8 guaranteed slots; its queue has 300 of 400 of the tenant's (75 %)
workers       4 connected, 2 accept it: 24 jobs running, 3 slots free, 1 draining
expected      unknown";
        assert_eq!(page(&explained, at(225)), expected);
        let json = json(&explained);
        assert_eq!(json["reasons"][0]["cause"], "full");
        assert_eq!(json["reasons"][1]["reason"], "no_slot");
        assert_eq!(json["workers"]["running"], 24);
        assert_eq!(json["gatherer"]["worker"], "w");
        assert_eq!(json["job"]["required_labels"]["gpu"], "a100");
    }

    #[test]
    fn each_reason_says_what_to_do() {
        let now = at(100);
        let soon = Some(at(102));
        let limited = |cause| {
            WaitReason::Limit(Box::new(LimitWait {
                level: LimitLevel::Key,
                name: "api".into(),
                cause,
                opens_at: soon,
                rule: None,
                cost: 5,
                tokens: Some(1),
                running: 0,
                waiting: 1,
                parked: true,
                holders: Vec::new(),
            }))
        };
        let order = |held_by: Option<&str>| {
            WaitReason::Ordering(OrderingWait {
                ordering_key: "account:7".into(),
                held_by: held_by.map(str::to_owned),
                first: Some("b".into()),
                first_state: JobState::Running,
                before: 3,
            })
        };
        let paused = WaitReason::Paused {
            level: LimitLevel::Queue,
            name: "mail".into(),
            note: "migration".into(),
        };
        for (reason, words) in [
            (
                WaitReason::NotDue {
                    at: soon,
                    backoff: false,
                },
                "its time: in 2s (1970-01-01T00:01:42.000Z)",
            ),
            (
                WaitReason::NotDue {
                    at: soon,
                    backoff: true,
                },
                "the backoff after 0 attempts: in 2s",
            ),
            (
                order(None),
                "earlier jobs of ordering key account:7: 3 before it, first b (running)",
            ),
            (
                order(Some("d")),
                "muster job redrive d, or muster queue release mail account:7",
            ),
            (
                paused,
                "queue mail, which is paused (migration): muster queue resume mail",
            ),
            (
                limited(LimitCause::Rate),
                "no tokens, 1 left and 5 needed; the next start is in 2s",
            ),
            (limited(LimitCause::Throttled), "opens in 2s (muster limit open)"),
            (
                limited(LimitCause::TooCostly),
                "its cost of 5 is above the burst: it never starts so",
            ),
            (WaitReason::Unknown, "too old"),
        ] {
            let line = line(&reason, &explained(Vec::new()), now);
            assert!(line.contains(words), "{line}");
        }
    }

    #[test]
    fn what_no_worker_has() {
        let job = dead_job();
        let mut workers = WorkerMatch::default();
        assert!(missing(&job, workers).ends_with("none is connected"));
        workers.open = 3;
        type Count = fn(&mut WorkerMatch) -> &mut u64;
        let steps: [(Count, &str); 6] = [
            (|workers| &mut workers.tenant, "tenant docs"),
            (|workers| &mut workers.queue, "queue mail"),
            (|workers| &mut workers.kind, "kind send-email"),
            (|workers| &mut workers.version, "version 1 of its kind"),
            (|workers| &mut workers.labels, "labels gpu=a100"),
            (|workers| &mut workers.accept, "4 slots"),
        ];
        for (step, words) in steps {
            let line = missing(&job, workers);
            assert!(line.starts_with(&format!("a worker with {words}:")), "{line}");
            *step(&mut workers) = 2;
        }
    }

    #[test]
    fn jobs_that_wait_for_nothing() {
        let mut running = explained(Vec::new());
        running.job.state = JobState::Running;
        running.holder = Some(AttemptHolder {
            session_id: "s".into(),
            worker: "w".into(),
            node_id: 2,
        });
        let text = page(&running, at(160) + Duration::from_secs(5));
        assert!(
            text.contains("waits for     nothing: worker w runs it (node 2, session s, 5s ago)"),
            "{text}"
        );
        assert!(!text.contains("expected"), "{text}");
        let mut ended = explained(Vec::new());
        ended.job.state = JobState::Dead;
        assert!(page(&ended, at(225)).contains("nothing: it has ended"));
    }
}
