//! Limits, throttling and ordering keys.

use muster_proto::v1;
use muster_proto::v1::explain_limit_response::State;
use muster_proto::v1::{JobState, LimitLevel, OrderingPolicy};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cluster::{Cluster, job};
use crate::{check, fatal, succeeded};

fn with_keys(keys: &[&str]) -> v1::JobSpec {
    let limit_keys = keys.iter().map(|key| v1::LimitKey {
        key: (*key).to_owned(),
        cost: 0,
    });
    v1::JobSpec {
        limit_keys: limit_keys.collect(),
        ..job("call", "")
    }
}

fn ordered(policy: OrderingPolicy) -> v1::JobSpec {
    v1::JobSpec {
        ordering_key: "account:1".to_owned(),
        ordering_policy: policy.into(),
        ..job("call", "")
    }
}

fn key_rule(names: &str, concurrency: u32) -> v1::Limit {
    v1::Limit {
        level: LimitLevel::Key.into(),
        names: names.to_owned(),
        concurrency,
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

impl Cluster {
    async fn set_limit(&self, limit: v1::Limit) -> Result<v1::Limit, Status> {
        let request = v1::SetLimitRequest { limit: Some(limit) };
        let answer = self.limits().set_limit(request).await?;
        Ok(answer.into_inner().limit.expect("the rule"))
    }

    async fn explain(&self, key: &str) -> v1::ExplainLimitResponse {
        let request = v1::ExplainLimitRequest {
            level: LimitLevel::Key.into(),
            name: key.to_owned(),
        };
        let answer = self.limits().explain_limit(request).await;
        answer.expect("explained").into_inner()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_set_listed_explained_and_deleted() {
    let cluster = Cluster::start().await;
    let set = cluster.set_limit(key_rule("stripe:*", 1)).await.expect("set");
    assert_eq!((set.tenants.as_str(), set.names.as_str()), ("default", "stripe:*"));
    let first = cluster.enqueue(with_keys(&["stripe:a"])).await.expect("accepted");
    let second = cluster.enqueue(with_keys(&["stripe:a"])).await.expect("accepted");
    let other = cluster.enqueue(with_keys(&["stripe:b"])).await.expect("accepted");
    let mut worker = cluster.worker(1, "call", 5).await;
    let leased = worker.job().await;
    assert_eq!(
        (&leased.id, &leased.limit_keys[..]),
        (&first.id, &["stripe:a".to_owned()][..])
    );
    assert_eq!(worker.job().await.id, other.id, "another key is not held up");

    let limiter = cluster.explain("stripe:a").await;
    assert_eq!(limiter.rules[0].names, "stripe:*");
    assert_eq!((limiter.state(), limiter.running, limiter.waiting), (State::Full, 1, 1));
    assert_eq!(
        (limiter.holders, limiter.waiters),
        (vec![first.id], vec![second.id.clone()])
    );

    let exempt = v1::Limit {
        unlimited: true,
        ..key_rule("stripe:b", 0)
    };
    cluster.set_limit(exempt).await.expect("set");
    let list = |all_tenants| {
        let mut limits = cluster.limits();
        async move {
            let answer = limits.list_limits(v1::ListLimitsRequest { all_tenants }).await;
            answer.expect("listed").into_inner().limits
        }
    };
    let rules = list(false).await;
    let names: Vec<_> = rules.iter().map(|rule| rule.names.as_str()).collect();
    assert_eq!(names, ["stripe:*", "stripe:b"]);
    let sums = rules[0].r#use.expect("sums");
    assert_eq!((sums.names, sums.running, sums.waiting, sums.closed), (1, 1, 1, 1));
    assert!(rules[1].unlimited);
    let explained = cluster.explain("stripe:b").await;
    assert_eq!(
        explained.rules.len(),
        2,
        "the one that applies, and the one that it overrules"
    );
    assert!(explained.rules[0].unlimited);
    assert_eq!(list(true).await, rules);

    let delete = v1::DeleteLimitRequest {
        level: LimitLevel::Key.into(),
        tenants: String::new(),
        names: "stripe:*".to_owned(),
    };
    cluster.limits().delete_limit(delete.clone()).await.expect("deleted");
    assert_eq!(
        worker.job().await.id,
        second.id,
        "what waited starts when the rule is gone"
    );
    let status = cluster.limits().delete_limit(delete).await.expect_err("it is gone");
    check(&status, Code::NotFound, "LIMIT_NOT_FOUND");
    assert_eq!(cluster.explain("stripe:a").await.rules, []);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_limits_are_refused_with_field_and_reason() {
    let cluster = Cluster::start().await;
    let rate = |count, period, burst| {
        Some(v1::RateLimit {
            count,
            period: Some(seconds(period)),
            burst,
        })
    };
    let small = v1::Limit {
        rate: rate(1, 1, 2),
        ..key_rule("small", 0)
    };
    cluster.set_limit(small).await.expect("set");
    let one = key_rule("k", 1);
    let bad: [(v1::Limit, &str, &str); 9] = [
        (key_rule("k", 0), "limit.rate", "FIELD_REQUIRED"),
        (key_rule("", 1), "limit.names", "FIELD_REQUIRED"),
        (key_rule("a*b", 1), "limit.names", "NAME_INVALID"),
        (
            v1::Limit {
                rate: rate(0, 1, 1),
                ..one.clone()
            },
            "limit.rate.count",
            "OUT_OF_RANGE",
        ),
        (
            v1::Limit {
                rate: rate(1, -1, 1),
                ..one.clone()
            },
            "limit.rate.period",
            "OUT_OF_RANGE",
        ),
        (
            v1::Limit {
                rate: rate(1, 32 * 86_400, 1),
                ..one.clone()
            },
            "limit.rate.period",
            "OUT_OF_RANGE",
        ),
        (
            v1::Limit {
                unlimited: true,
                ..one.clone()
            },
            "limit.unlimited",
            "FIELDS_EXCLUSIVE",
        ),
        (
            v1::Limit {
                level: 9,
                ..one.clone()
            },
            "limit.level",
            "ENUM_INVALID",
        ),
        (
            v1::Limit {
                note: "x".repeat(1_025),
                ..one.clone()
            },
            "limit.note",
            "TOO_LONG",
        ),
    ];
    for (limit, field, reason) in bad {
        let status = cluster.set_limit(limit).await.expect_err(field);
        check(&status, Code::InvalidArgument, reason);
        let violations = status.get_details_bad_request().expect("fields").field_violations;
        assert_eq!(violations[0].field, field);
    }
    let nobodys = v1::Limit {
        tenants: "nobody".to_owned(),
        ..one
    };
    let status = cluster.set_limit(nobodys).await.expect_err("no such tenant");
    check(&status, Code::NotFound, "TENANT_NOT_FOUND");

    let costing = |cost| v1::LimitKey {
        key: "small".to_owned(),
        cost,
    };
    let with = |limit_keys| v1::JobSpec {
        limit_keys,
        ..job("call", "")
    };
    let nine: Vec<String> = (0..9).map(|number| format!("k{number}")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    let bad: [(v1::JobSpec, &str, &str); 7] = [
        (with(vec![costing(3)]), "job.limit_keys.cost", "OUT_OF_RANGE"),
        (with(vec![costing(1_000_001)]), "job.limit_keys.cost", "OUT_OF_RANGE"),
        (with(vec![costing(1), costing(2)]), "job.limit_keys.key", "DUPLICATE"),
        (with_keys(&nine), "job.limit_keys", "TOO_MANY"),
        (with_keys(&["a b"]), "job.limit_keys.key", "NAME_INVALID"),
        (
            v1::JobSpec {
                ordering_key: "x".repeat(257),
                ..job("call", "")
            },
            "job.ordering_key",
            "TOO_LONG",
        ),
        (
            v1::JobSpec {
                ordering_policy: OrderingPolicy::Strict.into(),
                ..job("call", "")
            },
            "job.ordering_key",
            "FIELD_REQUIRED",
        ),
    ];
    for (spec, field, reason) in bad {
        let status = cluster.enqueue(spec).await.expect_err(field);
        check(&status, Code::InvalidArgument, reason);
        let violations = status.get_details_bad_request().expect("fields").field_violations;
        assert_eq!(violations[0].field, field);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_key_starts_nothing_until_it_opens() {
    let cluster = Cluster::start().await;
    let mut worker = cluster.worker(0, "call", 2).await;
    let first = cluster.enqueue(with_keys(&["api", "other"])).await.expect("accepted");
    let leased = worker.job().await;
    let throttled = v1::attempt_report::Outcome::Throttled(v1::Throttled {
        key: "api".to_owned(),
        retry_after: Some(seconds(3_600)),
    });
    let ack = worker.report(&leased, throttled.clone()).await;
    assert_eq!(
        (ack.result(), ack.state()),
        (v1::report_ack::Result::Accepted, JobState::Available)
    );
    let second = cluster.enqueue(with_keys(&["api"])).await.expect("accepted");
    let other = cluster.enqueue(with_keys(&["other"])).await.expect("accepted");
    let passed = worker.job().await;
    assert_eq!(passed.id, other.id, "the other key is open");
    let limiter = cluster.explain("api").await;
    assert_eq!((limiter.state(), limiter.rules.len()), (State::Throttled, 0));
    assert!(limiter.opens_at.is_some());
    assert_eq!(limiter.waiters, [first.id.clone(), second.id.clone()]);

    // A job that does not carry the key waits alone.
    let ack = worker.report(&passed, throttled).await;
    assert_eq!(ack.state(), JobState::Scheduled);

    let open = v1::OpenLimitKeyRequest { key: "api".to_owned() };
    cluster.limits().open_limit_key(open).await.expect("open");
    let again = worker.job().await;
    assert_eq!(
        (again.id.as_str(), again.attempt),
        (first.id.as_str(), 1),
        "the attempt did not count"
    );
    assert!(again.fence > leased.fence);
    assert_eq!(worker.job().await.id, second.id);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_strict_job_holds_its_key_until_it_is_redriven_or_released() {
    let cluster = Cluster::start().await;
    let mut worker = cluster.worker(0, "call", 3).await;
    let first = cluster
        .enqueue(ordered(OrderingPolicy::Strict))
        .await
        .expect("accepted");
    let second = cluster
        .enqueue(ordered(OrderingPolicy::SkipDead))
        .await
        .expect("accepted");
    assert_eq!(second.state(), JobState::Blocked);
    let third = cluster
        .enqueue(ordered(OrderingPolicy::Strict))
        .await
        .expect("accepted");
    let leased = worker.job().await;
    assert_eq!((&leased.id, leased.ordering_key.as_str()), (&first.id, "account:1"));
    let place = leased.sequence;
    assert!(place > 0);
    worker.report(&leased, fatal("broken")).await;

    let held = || async {
        let request = v1::ListHeldOrdersRequest {
            queue: "default".to_owned(),
            ..Default::default()
        };
        let answer = cluster.queues().list_held_orders(request).await;
        answer.expect("listed").into_inner().orders
    };
    let orders = held().await;
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (
            &*orders[0].ordering_key,
            &orders[0].held_by,
            &orders[0].next,
            orders[0].waiting
        ),
        ("account:1", &first.id, &second.id, 2)
    );
    let queues = cluster.queues().list_queues(v1::ListQueuesRequest::default()).await;
    assert_eq!(queues.expect("listed").into_inner().queues[0].blocked, 2);

    // Redriven, it comes first, in its old place.
    let redrive = v1::RedriveJobRequest {
        id: first.id.clone(),
        new_id: String::new(),
    };
    let revived = cluster
        .jobs(1)
        .redrive_job(redrive)
        .await
        .expect("revived")
        .into_inner();
    let revived = revived.job.expect("a job");
    let leased = worker.job().await;
    assert_eq!((&leased.id, leased.sequence), (&revived.id, place));
    worker.report(&leased, fatal("broken again")).await;
    assert_eq!(held().await[0].held_by, revived.id);

    // Released, the others go on, one after the other; the death of one that may be skipped holds up nothing.
    let release = v1::ReleaseOrderRequest {
        queue: "default".to_owned(),
        ordering_key: "account:1".to_owned(),
    };
    cluster.queues().release_order(release.clone()).await.expect("released");
    let leased = worker.job().await;
    assert_eq!(leased.id, second.id);
    assert!(leased.sequence > place);
    assert_eq!(cluster.get(&third.id).await.expect("there").state(), JobState::Blocked);
    worker.report(&leased, fatal("skipped")).await;
    let leased = worker.job().await;
    assert_eq!(leased.id, third.id);
    worker.report(&leased, succeeded("")).await;
    assert_eq!(held().await, []);
    let status = cluster.queues().release_order(release).await.expect_err("not held");
    check(&status, Code::NotFound, "ORDER_NOT_HELD");
    cluster.stop().await;
}
