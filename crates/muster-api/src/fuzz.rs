//! Targets for the fuzzer: requests. Whatever the bytes, a value or an error that names the field; and what is let in
//! here, the core never refuses as out of range.

#![allow(clippy::expect_used, reason = "a failure is what the fuzzer looks for")]

use muster_core::{Batch, Command, Core, Refusal, Reply};
use muster_proto::v1;
use prost::Message;

use crate::errors::Violation;
use crate::{list, validate};

/// A name, and what is to do no harm with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("api-job", job),
    ("api-tenant", tenant),
    ("api-limit", limit),
    ("api-worker", worker),
    ("api-page-token", page_token),
];

/// Wall clock of the calls.
const NOW: u64 = 1_700_000_000_000;

fn job(bytes: &[u8]) {
    let Ok(job) = v1::JobSpec::decode(bytes) else { return };
    let mut context = validate::Context::new("default".into(), 1 << 20, NOW, 0);
    match validate::job_spec(job, &mut context) {
        Ok(spec) => accepted(Command::Enqueue(Box::new(spec))),
        Err(violation) => named(&violation),
    }
}

fn tenant(bytes: &[u8]) {
    if let Ok(tenant) = v1::Tenant::decode(bytes) {
        match validate::create_tenant(Some(tenant)) {
            Ok((name, settings)) => accepted(Command::SetTenant {
                name,
                settings,
                create_only: true,
            }),
            Err(violation) => named(&violation),
        }
    }
    if let Ok(request) = v1::UpdateTenantRequest::decode(bytes) {
        match validate::update_tenant(&request, &muster_core::TenantSettings::default()) {
            Ok(settings) => accepted(Command::SetTenant {
                name: "default".into(),
                settings,
                create_only: false,
            }),
            Err(violation) => named(&violation),
        }
    }
}

fn limit(bytes: &[u8]) {
    let tenant = "default".into();
    if let Ok(request) = v1::SetLimitRequest::decode(bytes) {
        match validate::limit(request.limit, &tenant) {
            Ok(rule) => accepted(Command::SetLimit(Box::new(rule))),
            Err(violation) => named(&violation),
        }
    }
    if let Ok(request) = v1::DeleteLimitRequest::decode(bytes) {
        match validate::selector(request.level, &request.tenants, &request.names, &tenant) {
            Ok(selector) => accepted(Command::DeleteLimit(selector)),
            Err(violation) => named(&violation),
        }
    }
    if let Ok(request) = v1::ExplainLimitRequest::decode(bytes) {
        let level = validate::level("level", request.level);
        if let Err(violation) = level.and_then(|level| validate::limiter_name(level, "name", &request.name)) {
            named(&violation);
        }
    }
}

fn worker(bytes: &[u8]) {
    if let Ok(hello) = v1::WorkerHello::decode(bytes)
        && let Err(violation) = validate::hello(hello, &"default".into())
    {
        named(&violation);
    }
    if let Ok(frame) = v1::WorkerFrame::decode(bytes)
        && let Err(violation) = validate::frame(frame)
    {
        named(&violation);
    }
}

fn page_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    list::token_again(text);
}

/// The core takes it, or refuses it for what it knows and validation cannot know.
fn accepted(command: Command) {
    let mut core = Core::new();
    let batch = Batch {
        stamped_at: NOW,
        commands: vec![command],
    };
    let applied = core.apply(1, batch);
    let refused = matches!(&applied.replies[..], [Reply::Refused(Refusal::OutOfRange { .. })]);
    assert!(!refused, "{:?}", applied.replies);
    core.check_invariants().expect("the core adds up");
}

fn named(violation: &Violation) {
    assert!(!violation.field.is_empty(), "{violation:?}");
    // What a caller gave is shown, and never at length.
    assert!(violation.to_string().len() < 2_000, "{violation:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../../fuzz/replay.rs");

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let job = v1::JobSpec {
            id: "0190a8a0-0000-7000-8000-000000000001".to_owned(),
            queue: "mail".to_owned(),
            kind: "send-welcome".to_owned(),
            payload: Some(v1::Payload {
                data: b"{}".to_vec().into(),
                content_type: "application/json".to_owned(),
                encoding: 1,
            }),
            priority: 2,
            delay: span(5),
            idempotency_key: "key".to_owned(),
            max_attempts: 7,
            max_crashes: 2,
            backoff: Some(v1::Backoff {
                policy: Some(v1::backoff::Policy::Exponential(v1::ExponentialBackoff {
                    base: span(1),
                    cap: span(60),
                    jitter_percent: Some(10),
                })),
            }),
            attempt_timeout: span(30),
            expires_in: span(90),
            required_labels: [("gpu".to_owned(), "a".to_owned())].into(),
            metadata: [("trace".to_owned(), "0af7".to_owned())].into(),
            limit_keys: vec![v1::LimitKey {
                key: "stripe:acct_7".to_owned(),
                cost: 3,
            }],
            cost: 2,
            ordering_key: "account:7".to_owned(),
            ordering_policy: v1::OrderingPolicy::Strict.into(),
            ..v1::JobSpec::default()
        };
        let limit = v1::Limit {
            level: v1::LimitLevel::Key.into(),
            tenants: "default".to_owned(),
            names: "stripe:*".to_owned(),
            rate: Some(v1::RateLimit {
                count: 10,
                period: span(1),
                burst: 5,
            }),
            concurrency: 9,
            note: "contract".to_owned(),
            ..v1::Limit::default()
        };
        let delete = v1::DeleteLimitRequest {
            level: limit.level,
            tenants: "*".to_owned(),
            names: limit.names.clone(),
        };
        let tenant = v1::Tenant {
            name: "acme".to_owned(),
            weight: 300,
            payload_bytes_max: 1 << 16,
            guaranteed_slots: 4,
            ..v1::Tenant::default()
        };
        let update = v1::UpdateTenantRequest {
            name: "acme".to_owned(),
            weight: Some(7),
            guaranteed_slots: Some(0),
            ..v1::UpdateTenantRequest::default()
        };
        let hello = v1::WorkerHello {
            name: "host/1".to_owned(),
            tenants: vec!["*".to_owned()],
            queues: vec!["mail-*".to_owned()],
            kinds: vec![v1::WorkerKind {
                kind: "send-welcome".to_owned(),
                min_version: 1,
                max_version: 2,
            }],
            session_ttl: span(10),
            ..v1::WorkerHello::default()
        };
        let failed = v1::Failed {
            error: Some(v1::JobError {
                class: "Oops".to_owned(),
                message: "it broke".to_owned(),
            }),
            retry_after: span(1),
            ..v1::Failed::default()
        };
        let throttled = v1::Throttled {
            key: "stripe:acct_7".to_owned(),
            retry_after: span(30),
        };
        let report = |outcome| v1::AttemptReport {
            job_id: "0190a8a0-0000-7000-8000-000000000001".to_owned(),
            fence: 7 << 24,
            outcome: Some(outcome),
        };
        let frame = v1::WorkerFrame {
            reports: vec![
                report(v1::attempt_report::Outcome::Failed(failed)),
                report(v1::attempt_report::Outcome::Throttled(throttled)),
            ],
            credits: 3,
            ..v1::WorkerFrame::default()
        };
        vec![
            ("api-job", job.encode_to_vec()),
            ("api-tenant", tenant.encode_to_vec()),
            ("api-tenant", update.encode_to_vec()),
            ("api-limit", v1::SetLimitRequest { limit: Some(limit) }.encode_to_vec()),
            ("api-limit", delete.encode_to_vec()),
            ("api-worker", hello.encode_to_vec()),
            ("api-worker", frame.encode_to_vec()),
            ("api-page-token", list::some_token().into_bytes()),
        ]
    }
}
