//! Kinds that are paused, jobs that no worker accepts, and labels that are preferred.

use super::{enqueue, refused};
use crate::testing::*;
use crate::*;

fn pause(kind: &str, paused: bool) -> Command {
    Command::PauseKind {
        tenant: "default".into(),
        kind: kind.into(),
        paused,
        note: "it breaks".into(),
    }
}

fn of_kind(id: u128, kind: &str) -> JobSpec {
    JobSpec {
        kind: kind.into(),
        ..job(id)
    }
}

/// A session that runs two kinds, with a label.
fn open_labelled(bed: &mut Bed, session: u128, label: Option<&str>, credit_total: u64) {
    let mut hello = hello(session, bed.index);
    hello.class.kinds.push(KindVersions {
        kind: "other".into(),
        ..hello.class.kinds[0].clone()
    });
    hello.class.labels = label.map(|label| ("gpu".into(), label.into())).into_iter().collect();
    bed.one(Command::OpenSession(Box::new(hello)));
    bed.report(session, vec![], credit_total);
}

fn holder(bed: &Bed, job: u128) -> u128 {
    bed.row(job).lease.expect("it runs").session.0
}

#[test]
fn nothing_of_a_paused_kind_starts_and_what_runs_goes_on() {
    let mut bed = Bed::new();
    open_labelled(&mut bed, 1, None, 10);
    bed.enqueue(job(1));
    bed.one(pause("mail", true));
    assert_eq!(bed.state(1), Some(JobState::Running));
    bed.enqueue(job(2));
    bed.enqueue(JobSpec {
        queue: "elsewhere".into(),
        ..job(3)
    });
    bed.enqueue(of_kind(4, "other"));
    assert_eq!(bed.started(), [4], "another kind of the same queue");
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [] as [u128; 0]);
    let kinds = bed.core.kinds(TenantId(1), "", 10);
    let shown: Vec<_> = kinds
        .iter()
        .map(|kind| (&*kind.name, kind.available, kind.running, kind.sessions))
        .collect();
    assert_eq!(shown, [("mail", 2, 0, 1), ("other", 0, 1, 1)]);
    assert_eq!(kinds[0].paused.as_deref(), Some("it breaks"));
    assert_eq!(bed.core.kinds(TenantId(1), "mail", 10).len(), 1);
    assert!(bed.limiter(LimitLevel::Kind, "mail").paused);
    let paused = WaitReason::Paused {
        level: LimitLevel::Kind,
        name: "mail".into(),
        note: "it breaks".into(),
    };
    assert_eq!(
        bed.core.explain(TenantId(1), JobId(2)).expect("it lives").reasons,
        [paused]
    );
    bed.one(pause("mail", false));
    assert_eq!(bed.started(), [2, 3]);
    assert_eq!(bed.core.kinds(TenantId(1), "", 10)[0].paused, None);
}

#[test]
fn a_kind_can_be_paused_before_it_has_jobs_and_beside_a_limit() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    bed.one(pause("mail", true));
    bed.limit(LimitLevel::Kind, "mail", Some((1, 1_000, 1)), 0);
    bed.enqueue(job(1));
    bed.enqueue(job(2));
    assert_eq!(
        (bed.core.live().running, bed.core.next_due()),
        (0, None),
        "nothing is polled"
    );
    bed.one(pause("mail", false));
    assert_eq!(bed.started(), [1]);
    bed.one(pause("mail", true));
    assert_eq!(bed.tick(), 1_000);
    assert_eq!(bed.started(), [] as [u128; 0], "it has tokens, and is paused");
    bed.one(pause("mail", false));
    assert_eq!(bed.started(), [2]);
}

#[test]
fn pauses_of_kinds_are_bounded_and_for_tenants_that_exist() {
    let mut bed = Bed::new();
    bed.all(
        (0..1_024)
            .map(|number| pause(&format!("kind-{number}"), true))
            .collect(),
    );
    let Refusal::OutOfRange { field, value, .. } = refused(bed.one(pause("one-more", true))) else {
        panic!("another refusal");
    };
    assert_eq!((&*field, &*value), ("kind", "one-more"));
    assert_eq!(bed.one(pause("kind-7", true)), Reply::Done, "it is paused already");
    assert_eq!(bed.one(pause("kind-7", false)), Reply::Done);
    assert_eq!(bed.one(pause("one-more", true)), Reply::Done);
    let of_nobody = Command::PauseKind {
        tenant: "nobody".into(),
        kind: "mail".into(),
        paused: true,
        note: "".into(),
    };
    assert_eq!(refused(bed.one(of_nobody)), Refusal::UnknownTenant("nobody".into()));
}

#[test]
fn jobs_that_no_worker_accepts_are_told_in_groups() {
    let mut bed = Bed::new();
    bed.open(1, 0);
    let since = bed.now;
    bed.all(
        (0..3)
            .map(|id| enqueue(with_keys(of_kind(id, "video"), &[&format!("key-{id}")])))
            .collect(),
    );
    bed.now += 500;
    let mut labelled = job(10);
    labelled.options.required_labels = vec![("gpu".into(), "a100".into())];
    bed.enqueue(labelled);
    bed.enqueue(job(11));
    let (groups, next) = bed.core.unroutable_of(TenantId(1), 0, 100);
    assert_eq!((groups.len(), next), (2, None));
    let (mail, video) = (&groups[0], &groups[1]);
    assert_eq!(
        (&*mail.what.kind, mail.jobs, mail.workers.version, mail.workers.accept),
        ("mail", 1, 1, 0)
    );
    assert_eq!(
        (&*video.what.kind, video.jobs, video.oldest_available_at),
        ("video", 3, since)
    );
    assert_eq!((video.workers.queue, video.workers.kind), (1, 0));
    assert_eq!(bed.core.unroutable(), 4);
    assert_eq!(bed.core.unroutable_of(TenantId(2), 0, 100).0, []);
    let (mut jobs, mut from) = (0, Some(0));
    while let Some(number) = from {
        let (groups, next) = bed.core.unroutable_of(TenantId(1), number, 1);
        jobs += groups.iter().map(|group| group.jobs).sum::<u64>();
        from = next;
    }
    assert_eq!(jobs, 4, "by looks at one lane each");
}

#[test]
fn a_worker_with_the_preferred_labels_gets_the_job_if_it_has_room() {
    let mut bed = Bed::new();
    open_labelled(&mut bed, 1, None, 9);
    open_labelled(&mut bed, 2, Some("a100"), 2);
    let preferring = |id| {
        let mut spec = job(id);
        spec.options.preferred_labels = vec![("gpu".into(), "a100".into())];
        enqueue(spec)
    };
    bed.all(vec![preferring(1), preferring(2), preferring(3)]);
    assert_eq!(
        [1, 2, 3].map(|id| holder(&bed, id)),
        [2, 2, 1],
        "it does not wait for one"
    );
    bed.enqueue(job(4));
    assert_eq!(holder(&bed, 4), 1);
}

/// On a node that was just restored no job is parked at its limit yet, which must not change who gets another one.
#[test]
fn a_preference_is_the_same_on_a_restored_node() {
    let mut bed = Bed::new();
    bed.limit(LimitLevel::Key, "one", None, 1);
    open_labelled(&mut bed, 1, None, 9);
    open_labelled(&mut bed, 2, Some("a100"), 9);
    let waits_at_its_limit = |id| {
        let mut spec = with_keys(job(id), &["one"]);
        spec.options.required_labels = vec![("gpu".into(), "a100".into())];
        enqueue(spec)
    };
    bed.all(vec![waits_at_its_limit(1), waits_at_its_limit(2)]);
    assert_eq!(bed.state(2), Some(JobState::Available));
    bed.now += 1;
    let mut preferring = job(3);
    preferring.options.preferred_labels = vec![("gpu".into(), "a100".into())];
    bed.enqueue(preferring);
    assert_eq!(holder(&bed, 3), 2);
}

/// The worker with the label would start another job first, so it does.
#[test]
fn a_preference_changes_nobodys_turn() {
    let mut bed = Bed::new();
    let mut wanted = job(1);
    wanted.options.required_labels = vec![("gpu".into(), "a100".into())];
    wanted.priority = Priority::Critical;
    let mut preferring = job(2);
    preferring.options.preferred_labels = vec![("gpu".into(), "a100".into())];
    bed.all(vec![enqueue(wanted), enqueue(preferring)]);
    open_labelled(&mut bed, 1, None, 0);
    open_labelled(&mut bed, 2, Some("a100"), 0);
    let credits = |session, credit_total| Command::Report {
        session: SessionId(session),
        results: vec![],
        credit_total,
    };
    bed.all(vec![credits(1, 1), credits(2, 1)]);
    assert_eq!([1, 2].map(|id| holder(&bed, id)), [2, 1]);
}
