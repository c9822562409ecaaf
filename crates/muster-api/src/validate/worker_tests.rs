#![allow(clippy::unnecessary_wraps, reason = "fields of messages are optional")]

use super::*;

fn good() -> v1::WorkerHello {
    let kind = v1::WorkerKind {
        kind: "mail".into(),
        ..Default::default()
    };
    v1::WorkerHello {
        kinds: vec![kind],
        ..Default::default()
    }
}

fn check(change: impl FnOnce(&mut v1::WorkerHello)) -> Result<SessionHello, (String, Reason)> {
    let mut frame = good();
    change(&mut frame);
    hello(frame, &Name::from("acme")).map_err(|violation| (violation.field, violation.reason))
}

fn refused(change: impl FnOnce(&mut v1::WorkerHello), field: &str, reason: Reason) {
    assert_eq!(check(change).expect_err("out of bounds"), (field.to_owned(), reason));
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn a_hello_has_defaults() {
    let hello = check(|_| {}).expect("valid");
    assert_eq!(hello.ttl, 10_000);
    assert_eq!(hello.class.tenants, [Name::from("acme")]);
    assert!(hello.class.queues.is_empty());
    assert_eq!(
        (hello.class.kinds[0].min_version, hello.class.kinds[0].max_version),
        (1, u32::MAX)
    );
}

#[test]
fn a_hello_keeps_to_its_limits() {
    let kind = |name: &str, min_version, max_version| v1::WorkerKind {
        kind: name.into(),
        min_version,
        max_version,
    };
    refused(|hello| hello.name = "x".repeat(129), "hello.name", Reason::TooLong);
    refused(|hello| hello.kinds.clear(), "hello.kinds", Reason::FieldRequired);
    refused(
        |hello| hello.kinds = vec![kind("a", 0, 0); 1_001],
        "hello.kinds",
        Reason::TooMany,
    );
    refused(
        |hello| hello.kinds[0] = kind("a b", 0, 0),
        "hello.kinds.kind",
        Reason::NameInvalid,
    );
    refused(
        |hello| hello.kinds[0] = kind("a", 3, 2),
        "hello.kinds.min_version",
        Reason::OutOfRange,
    );
    refused(
        |hello| hello.kinds.push(kind("mail", 2, 2)),
        "hello.kinds.kind",
        Reason::Duplicate,
    );
    refused(
        |hello| hello.queues = vec!["a*b".into()],
        "hello.queues",
        Reason::NameInvalid,
    );
    refused(
        |hello| hello.tenants = vec!["a/b".into()],
        "hello.tenants",
        Reason::NameInvalid,
    );
    refused(
        |hello| hello.session_ttl = seconds(0),
        "hello.session_ttl",
        Reason::OutOfRange,
    );
    refused(
        |hello| hello.session_ttl = seconds(601),
        "hello.session_ttl",
        Reason::OutOfRange,
    );
    refused(
        |hello| hello.labels = (0..17).map(|label| (label.to_string(), String::new())).collect(),
        "hello.labels",
        Reason::TooMany,
    );
    assert!(check(|hello| hello.session_ttl = seconds(600)).is_ok());
}

#[test]
fn patterns_and_all_are_understood() {
    let hello = check(|hello| {
        hello.tenants = vec!["b".into(), "*".into()];
        hello.queues = vec!["mail.*".into(), "a".into(), "a".into()];
    });
    let class = hello.expect("valid").class;
    assert!(class.tenants.is_empty());
    assert_eq!(class.queues, [Name::from("a"), Name::from("mail.*")]);
}

fn reported(report: v1::AttemptReport) -> Result<SessionInput, (String, Reason)> {
    let sent = v1::WorkerFrame {
        reports: vec![report],
        ..Default::default()
    };
    frame(sent).map_err(|violation| (violation.field, violation.reason))
}

#[test]
fn reports_keep_to_their_limits() {
    use v1::attempt_report::Outcome;
    let id = "0190f5f0-7e6b-7000-8000-000000000001";
    let report = |outcome| v1::AttemptReport {
        job_id: id.into(),
        fence: 1,
        outcome,
    };
    let succeeded = |bytes| {
        report(Some(Outcome::Succeeded(v1::Succeeded {
            result: vec![0; bytes].into(),
        })))
    };
    assert!(reported(succeeded(64 << 10)).is_ok());
    let too_long = ("work.reports[0].succeeded.result".to_owned(), Reason::TooLong);
    assert_eq!(reported(succeeded((64 << 10) + 1)).expect_err("too long"), too_long);
    let none = ("work.reports[0].outcome".to_owned(), Reason::FieldRequired);
    assert_eq!(reported(report(None)).expect_err("no outcome"), none);
    let no_id = v1::AttemptReport {
        job_id: "7".into(),
        ..succeeded(0)
    };
    assert_eq!(
        reported(no_id).expect_err("no id"),
        ("work.reports[0].job_id".to_owned(), Reason::IdInvalid)
    );
    let slots = check(|hello| hello.slots = 10_001);
    assert_eq!(slots.expect_err("too many").0, "hello.slots");
    let credits = frame(v1::WorkerFrame {
        credits: 10_001,
        ..Default::default()
    });
    assert_eq!(credits.expect_err("too many").field, "work.credits");
}

#[test]
fn long_errors_are_cut() {
    use v1::attempt_report::Outcome;
    let error = v1::JobError {
        class: "c".repeat(200),
        message: "m".repeat(5_000),
    };
    let failed = v1::Failed {
        error: Some(error),
        ..Default::default()
    };
    let report = v1::AttemptReport {
        job_id: "0190f5f0-7e6b-7000-8000-000000000001".into(),
        fence: 1,
        outcome: Some(Outcome::Failed(failed)),
    };
    let input = reported(report).expect("valid");
    let AttemptOutcome::Failed { error, retryable, .. } = &input.reports[0].outcome else {
        panic!("not a failure: {input:?}");
    };
    assert_eq!((error.class.len(), error.message.len(), *retryable), (128, 4_096, true));
}
