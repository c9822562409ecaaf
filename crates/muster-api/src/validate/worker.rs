//! What workers say.

use bytes::Bytes;
use muster_core::{AttemptOutcome, AttemptReport, JobError, KindVersions, LeaseId, Name, WorkerClass};
use muster_node::{SessionHello, SessionInput};
use muster_proto::v1;

use super::field;
use super::limit::limit_key;
use crate::errors::Violation;
use crate::limits::{
    CREDITS_MAX, ERROR_CLASS_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX, REPORTS_MAX, RESULT_BYTES_MAX, SESSION_TTL_DEFAULT,
    SESSION_TTL_MAX, SESSION_TTL_MIN, SPAN_MAX, WORKER_KINDS_MAX, WORKER_NAME_BYTES_MAX, WORKER_NAMES_MAX,
};
use crate::reason::Reason;

/// The first frame. `tenant` is that of the call.
pub(crate) fn hello(hello: v1::WorkerHello, tenant: &Name) -> Result<SessionHello, Violation> {
    let name = if hello.name.is_empty() { "worker" } else { &hello.name };
    Ok(SessionHello {
        name: field::text("hello.name", name, WORKER_NAME_BYTES_MAX)?,
        class: WorkerClass {
            tenants: tenants(&hello.tenants, tenant)?,
            queues: queues(&hello.queues)?,
            kinds: kinds(&hello.kinds)?,
            labels: field::labels("hello.labels", hello.labels)?,
            slots: field::number("hello.slots", hello.slots, 1, CREDITS_MAX, 1)?,
        },
        ttl: field::span(
            "hello.session_ttl",
            hello.session_ttl.as_ref(),
            SESSION_TTL_MIN,
            SESSION_TTL_MAX,
            SESSION_TTL_DEFAULT,
        )?,
    })
}

fn tenants(given: &[String], tenant: &Name) -> Result<Vec<Name>, Violation> {
    field::count("hello.tenants", given.len(), WORKER_NAMES_MAX)?;
    if given.iter().any(|name| name == "*") {
        return Ok(Vec::new());
    }
    if given.is_empty() {
        return Ok(vec![tenant.clone()]);
    }
    let mut names = given
        .iter()
        .map(|name| field::name("hello.tenants", name))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn queues(given: &[String]) -> Result<Vec<Name>, Violation> {
    field::count("hello.queues", given.len(), WORKER_NAMES_MAX)?;
    // `*` alone is what an empty list says.
    if given.iter().any(|name| name == "*") {
        return Ok(Vec::new());
    }
    let mut names = Vec::with_capacity(given.len());
    for pattern in given {
        let stem = pattern.strip_suffix('*').unwrap_or(pattern);
        if !field::is_name(stem) {
            let allowed = "1 to 128 of A-Z a-z 0-9 . _ -, then perhaps a *";
            return Err(Violation::new(
                Reason::NameInvalid,
                "hello.queues",
                field::shown(pattern),
                allowed,
            ));
        }
        names.push(Name::from(pattern.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn kinds(given: &[v1::WorkerKind]) -> Result<Vec<KindVersions>, Violation> {
    if given.is_empty() {
        return Err(field::required("hello.kinds", "at least one kind that the worker runs"));
    }
    field::count("hello.kinds", given.len(), WORKER_KINDS_MAX)?;
    let mut kinds = Vec::with_capacity(given.len());
    for kind in given {
        let min_version = kind.min_version.max(1);
        let max_version = if kind.max_version == 0 {
            u32::MAX
        } else {
            kind.max_version
        };
        if min_version > max_version {
            return Err(Violation::new(
                Reason::OutOfRange,
                "hello.kinds.min_version",
                min_version.to_string(),
                format!("at most max_version, which is {max_version}"),
            ));
        }
        kinds.push(KindVersions {
            kind: field::name("hello.kinds.kind", &kind.kind)?,
            min_version,
            max_version,
        });
    }
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0].kind == pair[1].kind) {
        let given = format!("{} twice", field::shown(&pair[0].kind));
        return Err(Violation::new(
            Reason::Duplicate,
            "hello.kinds.kind",
            given,
            "each kind once",
        ));
    }
    Ok(kinds)
}

/// A frame after the first.
pub(crate) fn frame(frame: v1::WorkerFrame) -> Result<SessionInput, Violation> {
    field::count("work.reports", frame.reports.len(), REPORTS_MAX)?;
    if frame.credits > CREDITS_MAX {
        let allowed = format!("at most {CREDITS_MAX}");
        return Err(Violation::new(
            Reason::OutOfRange,
            "work.credits",
            frame.credits.to_string(),
            allowed,
        ));
    }
    let reports = frame.reports.into_iter().enumerate().map(|(position, item)| {
        report(item).map_err(|violation| violation.within(&format!("work.reports[{position}]")))
    });
    Ok(SessionInput {
        reports: reports.collect::<Result<_, _>>()?,
        credits: frame.credits,
        quiet: frame.quiet,
        bye: frame.bye,
    })
}

fn report(report: v1::AttemptReport) -> Result<AttemptReport, Violation> {
    use v1::attempt_report::Outcome;
    let job = field::job_id("job_id", &report.job_id)?;
    let outcome = match report.outcome {
        None => return Err(field::required("outcome", "how the attempt ended")),
        Some(Outcome::Succeeded(succeeded)) => {
            field::within_bytes("succeeded.result", succeeded.result.len(), RESULT_BYTES_MAX)?;
            // Copied, so that a small result does not keep its whole frame in memory.
            AttemptOutcome::Succeeded {
                result: Bytes::copy_from_slice(&succeeded.result),
            }
        }
        Some(Outcome::Failed(failed)) => failed_outcome(failed)?,
        Some(Outcome::Preempted(_)) => AttemptOutcome::Preempted,
        Some(Outcome::Snoozed(snoozed)) => AttemptOutcome::Snoozed {
            delay: field::span("snoozed.delay", snoozed.delay.as_ref(), 0, SPAN_MAX, 0)?,
        },
        Some(Outcome::Cancelled(_)) => AttemptOutcome::Cancelled,
        Some(Outcome::Throttled(throttled)) => AttemptOutcome::Throttled {
            key: if throttled.key.is_empty() {
                Name::from("")
            } else {
                limit_key("throttled.key", &throttled.key)?
            },
            retry_after: field::span(
                "throttled.retry_after",
                throttled.retry_after.as_ref(),
                1,
                SPAN_MAX,
                1_000,
            )?,
        },
    };
    Ok(AttemptReport {
        job,
        lease: LeaseId::from_fence(report.fence),
        outcome,
    })
}

fn failed_outcome(failed: v1::Failed) -> Result<AttemptOutcome, Violation> {
    let error = failed.error.unwrap_or_default();
    Ok(AttemptOutcome::Failed {
        error: JobError {
            class: Name::from(field::cut(&error.class, ERROR_CLASS_BYTES_MAX)),
            message: Name::from(field::cut(&error.message, ERROR_MESSAGE_BYTES_MAX)),
        },
        retryable: !failed.not_retryable,
        retry_after: field::span("failed.retry_after", failed.retry_after.as_ref(), 0, SPAN_MAX, 0)?,
    })
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
