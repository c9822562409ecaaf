#![allow(clippy::unnecessary_wraps, reason = "fields of messages are optional")]

use super::*;

fn context() -> Context {
    Context::new("acme".into(), 1 << 20, 1_000_000, 5)
}

fn check(change: impl FnOnce(&mut v1::JobSpec)) -> Result<JobSpec, (String, Reason)> {
    let mut job = v1::JobSpec {
        kind: "mail".into(),
        ..Default::default()
    };
    change(&mut job);
    job_spec(job, &mut context()).map_err(|violation| (violation.field, violation.reason))
}

fn refused(change: impl FnOnce(&mut v1::JobSpec), field: &str, reason: Reason) {
    assert_eq!(check(change).expect_err("out of bounds"), (field.to_owned(), reason));
}

fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn pairs(number: usize, length: usize) -> std::collections::HashMap<String, String> {
    (0..number)
        .map(|pair| (format!("{pair:02}"), "x".repeat(length - 2)))
        .collect()
}

fn data(bytes: usize) -> Option<v1::Payload> {
    Some(v1::Payload {
        data: vec![0; bytes].into(),
        ..Default::default()
    })
}

fn policy(policy: v1::backoff::Policy) -> Option<v1::Backoff> {
    Some(v1::Backoff { policy: Some(policy) })
}

#[test]
fn only_the_kind_is_required() {
    let job = check(|_| {}).expect("valid");
    assert_eq!((&*job.tenant, &*job.queue, &*job.kind), ("acme", "default", "mail"));
    assert_eq!(
        (job.schema_version, job.priority, job.available_at),
        (1, Priority::Normal, 0)
    );
    assert_eq!((job.options, job.history_searched), (JobOptions::default(), 5));
    refused(|job| job.kind.clear(), "kind", Reason::FieldRequired);
}

#[test]
fn each_limit_holds() {
    const DAYS_31: i64 = 31 * 86_400;
    refused(|job| job.id = "7".into(), "id", Reason::IdInvalid);
    refused(|job| job.queue = "a b".into(), "queue", Reason::NameInvalid);
    refused(|job| job.kind = "k".repeat(129), "kind", Reason::NameInvalid);
    refused(
        |job| job.payload = data((1 << 20) + 1),
        "payload.data",
        Reason::PayloadTooLarge,
    );
    refused(
        |job| {
            job.payload = Some(v1::Payload {
                content_type: "x".repeat(129),
                ..Default::default()
            });
        },
        "payload.content_type",
        Reason::TooLong,
    );
    refused(
        |job| {
            job.payload = Some(v1::Payload {
                encoding: 9,
                ..Default::default()
            });
        },
        "payload.encoding",
        Reason::EnumInvalid,
    );
    refused(|job| job.priority = 6, "priority", Reason::EnumInvalid);
    refused(|job| job.delay = span(-1), "delay", Reason::OutOfRange);
    refused(
        |job| job.idempotency_key = "k".repeat(257),
        "idempotency_key",
        Reason::TooLong,
    );
    refused(|job| job.max_attempts = 1_001, "max_attempts", Reason::OutOfRange);
    refused(|job| job.max_crashes = 101, "max_crashes", Reason::OutOfRange);
    refused(
        |job| job.attempt_timeout = span(0),
        "attempt_timeout",
        Reason::OutOfRange,
    );
    refused(
        |job| job.attempt_timeout = span(DAYS_31 + 1),
        "attempt_timeout",
        Reason::OutOfRange,
    );
    refused(|job| job.expires_in = span(0), "expires_in", Reason::OutOfRange);
    refused(
        |job| job.required_labels = pairs(17, 3),
        "required_labels",
        Reason::TooMany,
    );
    refused(
        |job| job.preferred_labels = pairs(17, 3),
        "preferred_labels",
        Reason::TooMany,
    );
    refused(|job| job.slots = 257, "slots", Reason::OutOfRange);
    refused(
        |job| job.required_labels = pairs(1, 131),
        "required_labels",
        Reason::TooLong,
    );
    refused(|job| job.metadata = pairs(17, 3), "metadata", Reason::TooMany);
    refused(|job| job.metadata = pairs(2, 513), "metadata", Reason::TooLong);
    refused(
        |job| {
            job.backoff = policy(v1::backoff::Policy::Fixed(v1::FixedBackoff {
                delay: span(DAYS_31 + 1),
            }));
        },
        "backoff.fixed.delay",
        Reason::OutOfRange,
    );
    refused(
        |job| {
            let jitter = v1::ExponentialBackoff {
                jitter_percent: Some(101),
                ..Default::default()
            };
            job.backoff = policy(v1::backoff::Policy::Exponential(jitter));
        },
        "backoff.exponential.jitter_percent",
        Reason::OutOfRange,
    );
}

#[test]
fn each_limit_is_reached() {
    assert!(check(|job| job.kind = "k".repeat(128)).is_ok());
    assert!(check(|job| job.payload = data(1 << 20)).is_ok());
    assert!(check(|job| job.idempotency_key = "k".repeat(256)).is_ok());
    assert!(check(|job| job.max_attempts = 1_000).is_ok());
    assert!(check(|job| job.metadata = pairs(2, 512)).is_ok());
    assert!(check(|job| job.required_labels = pairs(16, 3)).is_ok());
}

#[test]
fn times_to_start_exclude_each_other() {
    let run_at = Some(prost_types::Timestamp {
        seconds: 2_000,
        nanos: 0,
    });
    assert_eq!(check(|job| job.run_at = run_at).expect("valid").available_at, 2_000_000);
    assert_eq!(check(|job| job.delay = span(5)).expect("valid").available_at, 1_005_000);
    assert_eq!(check(|job| job.delay = span(0)).expect("valid").available_at, 0);
    let both = |job: &mut v1::JobSpec| {
        job.run_at = run_at;
        job.delay = span(5);
    };
    refused(both, "delay", Reason::FieldsExclusive);
}

#[test]
fn backoffs_have_defaults() {
    let linear = v1::LinearBackoff {
        base: span(3),
        cap: None,
    };
    let job = check(|job| job.backoff = policy(v1::backoff::Policy::Linear(linear))).expect("valid");
    assert_eq!(
        job.options.backoff,
        Backoff::Linear {
            base: 3_000,
            cap: 3_600_000
        }
    );
    let exponential = v1::backoff::Policy::Exponential(v1::ExponentialBackoff::default());
    let job = check(|job| job.backoff = policy(exponential)).expect("valid");
    assert_eq!(job.options.backoff, Backoff::default());
}

#[test]
fn names_of_a_call_are_shared() {
    let mut context = context();
    let mut job = || {
        job_spec(
            v1::JobSpec {
                kind: "mail".into(),
                ..Default::default()
            },
            &mut context,
        )
        .expect("valid")
    };
    let (first, second) = (job(), job());
    assert!(Name::ptr_eq(&first.kind, &second.kind) && Name::ptr_eq(&first.queue, &second.queue));
    assert!(first.id < second.id && first.seed != second.seed);
}

#[test]
fn states_of_a_filter_are_known_ones() {
    assert_eq!(states(&[7, 1]), Ok(vec![JobState::Dead, JobState::Scheduled]));
    assert_eq!(states(&[0]).expect_err("unspecified").reason, Reason::EnumInvalid);
    assert_eq!(states(&[1; 17]).expect_err("too many").reason, Reason::TooMany);
}
