//! Quotas in apply.

use crate::testing::{Bed, failed, job, rule, succeeded};
use crate::*;

fn quota(bed: &mut Bed, quota: Quota) {
    let settings = TenantSettings {
        quota,
        ..TenantSettings::default()
    };
    assert!(matches!(bed.set_tenant("default", settings), Reply::Tenant(_)));
}

fn enqueue(bed: &mut Bed, id: u128) -> Reply {
    bed.one(Command::Enqueue(Box::new(job(id))))
}

fn excess(reply: Reply) -> Excess {
    match reply {
        Reply::Refused(Refusal::QuotaExceeded { tenant, excess }) => {
            assert_eq!(&*tenant, "default");
            excess
        }
        other => panic!("{other:?}"),
    }
}

fn of_jobs(jobs_max: u64) -> Quota {
    Quota {
        jobs_max,
        ..Quota::default()
    }
}

#[test]
fn live_jobs_are_bounded_and_an_end_makes_room() {
    let mut bed = Bed::new();
    quota(&mut bed, of_jobs(2));
    bed.enqueue(job(1));
    bed.enqueue(job(2));
    let over = excess(enqueue(&mut bed, 3));
    assert_eq!((over.bound, over.value, over.limit), (QuotaBound::Jobs, 3, 2));
    // A repeat of what is there is no new job.
    assert!(matches!(
        enqueue(&mut bed, 1),
        Reply::Enqueued(Enqueued { existed: true, .. })
    ));
    bed.open(1, 1);
    assert_eq!(
        excess(enqueue(&mut bed, 3)).value,
        3,
        "a job that runs still counts, since it may have to wait again"
    );
    bed.end(1, succeeded());
    bed.enqueue(job(3));
    assert!(matches!(
        bed.one(Command::Cancel {
            tenant: "default".into(),
            job: JobId(3)
        }),
        Reply::Cancelled(JobState::Cancelled)
    ));
    bed.enqueue(job(4));
}

#[test]
fn bytes_are_bounded() {
    let mut bed = Bed::new();
    let bytes = job(1).bytes();
    quota(
        &mut bed,
        Quota {
            bytes_max: 2 * bytes,
            ..Quota::default()
        },
    );
    bed.enqueue(job(1));
    bed.enqueue(job(2));
    let over = excess(enqueue(&mut bed, 3));
    assert_eq!(
        (over.bound, over.value, over.limit),
        (QuotaBound::Bytes, 3 * bytes, 2 * bytes)
    );
    assert!(over.retry_after > 0);
    let mut large = job(3);
    large.payload.data = vec![0; 2 * bytes as usize + 1].into();
    let over = excess(bed.one(Command::Enqueue(Box::new(large))));
    assert_eq!(over.retry_after, 0, "it never fits");
}

#[test]
fn the_rate_is_exact_in_replicated_time() {
    let mut bed = Bed::new();
    let rate = Some(RateLimit {
        count: 10,
        period: 1_000,
        burst: 3,
    });
    quota(
        &mut bed,
        Quota {
            enqueue_rate: rate,
            ..Quota::default()
        },
    );
    for id in 1..=3 {
        bed.enqueue(job(id));
    }
    let over = excess(enqueue(&mut bed, 4));
    assert_eq!(
        (over.bound, over.limit, over.retry_after),
        (QuotaBound::EnqueueRate, 3, 100)
    );
    bed.now += 99;
    assert_eq!(excess(enqueue(&mut bed, 4)).retry_after, 1);
    bed.now += 1;
    bed.enqueue(job(4));
    let (quota_set, used) = bed.core.quota(TenantId(1)).expect("there");
    assert_eq!(quota_set.tokens(&used, bed.now), Some(0));
    // Half the rate: what is spent stays spent.
    quota(
        &mut bed,
        Quota {
            enqueue_rate: rate.map(|rate| RateLimit { count: 5, ..rate }),
            ..Quota::default()
        },
    );
    assert_eq!(excess(enqueue(&mut bed, 5)).retry_after, 200);
}

#[test]
fn all_or_nothing_counts_its_own_items() {
    let mut bed = Bed::new();
    quota(&mut bed, of_jobs(3));
    bed.enqueue(job(1));
    let many = |ids: std::ops::RangeInclusive<u128>, all_or_nothing| Command::EnqueueMany {
        jobs: ids.map(job).collect(),
        all_or_nothing,
    };
    let Reply::EnqueuedMany(answers) = bed.one(many(2..=4, true)) else {
        panic!("other answer")
    };
    assert_eq!(answers[0], Err(Refusal::OtherItemRefused { item: 2 }));
    assert!(matches!(&answers[2], Err(Refusal::QuotaExceeded { excess, .. }) if excess.retry_after > 0));
    assert_eq!(bed.core.live().total(), 1);
    let Reply::EnqueuedMany(answers) = bed.one(many(2..=5, true)) else {
        panic!("other answer")
    };
    assert!(
        matches!(&answers[3], Err(Refusal::QuotaExceeded { excess, .. }) if excess.retry_after == 0),
        "four never fit into three"
    );
    let Reply::EnqueuedMany(answers) = bed.one(many(2..=5, false)) else {
        panic!("other answer")
    };
    let taken: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, false]);
}

#[test]
fn a_quota_below_what_is_there_takes_nothing_away() {
    let mut bed = Bed::new();
    for id in 1..=3 {
        bed.enqueue(job(id));
    }
    quota(&mut bed, of_jobs(1));
    assert_eq!(bed.core.live().total(), 3);
    let over = excess(enqueue(&mut bed, 4));
    assert_eq!((over.value, over.limit), (4, 1));
    quota(&mut bed, of_jobs(0));
    bed.enqueue(job(4));
}

#[test]
fn a_redriven_job_counts() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.open(1, 1);
    bed.end(1, failed(false, 0));
    quota(&mut bed, of_jobs(1));
    bed.enqueue(job(2));
    let redrive = Command::Redrive {
        from: JobId(1),
        spec: Box::new(job(3)),
    };
    assert_eq!(excess(bed.one(redrive)).bound, QuotaBound::Jobs);
}

#[test]
fn a_rate_out_of_range_is_refused() {
    let mut bed = Bed::new();
    for (rate, field) in [
        ((0, 1_000, 1), "quota.enqueue_rate.count"),
        ((1, 0, 1), "quota.enqueue_rate.period"),
        ((1, 1_000, 0), "quota.enqueue_rate.burst"),
    ] {
        let (count, period, burst) = rate;
        let settings = TenantSettings {
            quota: Quota {
                enqueue_rate: Some(RateLimit { count, period, burst }),
                ..Quota::default()
            },
            ..TenantSettings::default()
        };
        let reply = bed.set_tenant("default", settings);
        assert!(
            matches!(&reply, Reply::Refused(Refusal::OutOfRange { field: named, .. }) if &**named == field),
            "{reply:?}"
        );
    }
}

#[test]
fn what_may_run_at_once_is_shown_with_the_tenant() {
    let mut bed = Bed::new();
    let shown = |bed: &Bed| bed.core.tenant(TenantId(1)).expect("there").concurrency;
    assert_eq!(shown(&bed), 0);
    let rule = rule(LimitLevel::Tenant, "default", "*", None, 7);
    assert_eq!(bed.one(Command::SetLimit(Box::new(rule))), Reply::Done);
    assert_eq!(shown(&bed), 7);
}
