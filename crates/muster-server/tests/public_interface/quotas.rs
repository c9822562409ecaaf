//! Quotas of tenants: set, shown, refused over.

use std::time::Duration;

use muster_proto::v1;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::check;
use crate::cluster::{Cluster, job};

const SECOND: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };

impl Cluster {
    async fn create(&self, quota: v1::Quota) {
        let tenant = v1::Tenant {
            name: "acme".to_owned(),
            quota: Some(quota),
            ..Default::default()
        };
        let request = v1::CreateTenantRequest { tenant: Some(tenant) };
        self.tenants().create_tenant(request).await.expect("made");
    }

    async fn shown(&self) -> v1::Tenant {
        let request = v1::GetTenantRequest {
            name: "acme".to_owned(),
            ..Default::default()
        };
        let answer = self.tenants().get_tenant(request).await.expect("shown");
        answer.into_inner().tenant.expect("a tenant")
    }

    async fn enqueue_as_acme(&self, job: v1::JobSpec) -> Result<v1::Enqueued, Status> {
        let request = as_acme(v1::EnqueueRequest { job: Some(job) });
        let answer = self.jobs(1).enqueue(request).await?;
        Ok(answer.into_inner().job.expect("a job"))
    }

    /// Until the node that gets the jobs here knows what was done through the others: its reads are linearizable. Before, it may refuse
    /// a job by what it knew.
    async fn caught_up(&self, job: &str) {
        let request = as_acme(v1::GetJobRequest {
            id: job.to_owned(),
            ..Default::default()
        });
        self.jobs(1).get_job(request).await.expect("the job is known");
    }
}

fn as_acme<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("muster-tenant", "acme".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_refuses_with_numbers_until_there_is_room() {
    let cluster = Cluster::start().await;
    cluster
        .create(v1::Quota {
            jobs_max: 2,
            bytes_max: 1_000,
            enqueue_rate: None,
        })
        .await;
    let first = cluster.enqueue_as_acme(job("mail", "1")).await.expect("accepted");
    cluster.enqueue_as_acme(job("mail", "22")).await.expect("accepted");
    let status = cluster.enqueue_as_acme(job("mail", "3")).await.expect_err("a third");
    check(&status, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let details = status.get_error_details();
    let facts = &details.error_info().expect("facts").metadata;
    let fact = |name: &str| facts.get(name).map(String::as_str);
    assert_eq!(
        [fact("tenant"), fact("quota"), fact("value"), fact("limit")],
        [Some("acme"), Some("jobs_max"), Some("3"), Some("2")]
    );
    let after = details.retry_info().and_then(|info| info.retry_delay);
    assert_eq!(after, Some(Duration::from_secs(1)));

    // A repeat is no new job, also when there is no room.
    let again = v1::JobSpec {
        id: first.id.clone(),
        ..job("mail", "1")
    };
    assert!(cluster.enqueue_as_acme(again).await.expect("known").existed);

    let shown = cluster.shown().await;
    assert_eq!((shown.bytes, shown.available, shown.enqueue_tokens), (3, 2, None));
    assert_eq!(shown.quota.expect("bounded").jobs_max, 2);

    // Another tenant has room of its own.
    cluster.enqueue(job("mail", "4")).await.expect("accepted");
    let cancel = as_acme(v1::CancelJobRequest { id: first.id.clone() });
    cluster.jobs(2).cancel_job(cancel).await.expect("cancelled");
    cluster.caught_up(&first.id).await;
    cluster.enqueue_as_acme(job("mail", "5")).await.expect("accepted");

    let update = v1::UpdateTenantRequest {
        name: "acme".to_owned(),
        jobs_max: Some(0),
        ..Default::default()
    };
    cluster.tenants().update_tenant(update).await.expect("changed");
    cluster.caught_up(&first.id).await;
    cluster.enqueue_as_acme(job("mail", "6")).await.expect("accepted");
    let shown = cluster.shown().await.quota.expect("bounded");
    assert_eq!((shown.jobs_max, shown.bytes_max), (0, 1_000), "what is not given stays");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_a_call_are_refused_one_by_one_or_all_together() {
    let cluster = Cluster::start().await;
    cluster
        .create(v1::Quota {
            jobs_max: 0,
            bytes_max: 0,
            enqueue_rate: Some(v1::RateLimit {
                count: 1,
                period: Some(prost_types::Duration {
                    seconds: 3_600,
                    ..SECOND
                }),
                burst: 3,
            }),
        })
        .await;
    let many = async |jobs: usize, all_or_nothing: bool| {
        let request = as_acme(v1::EnqueueManyRequest {
            jobs: vec![job("mail", "x"); jobs],
            all_or_nothing,
        });
        let answer = cluster.jobs(2).enqueue_many(request).await.expect("answered");
        answer
            .into_inner()
            .results
            .into_iter()
            .map(|result| match result.result {
                Some(v1::enqueue_result::Result::Error(error)) => Err(error),
                Some(v1::enqueue_result::Result::Job(job)) => Ok(job),
                None => panic!("no result"),
            })
    };
    let refused: Vec<_> = many(4, true).await.collect();
    let reasons = refused
        .iter()
        .map(|item| item.as_ref().expect_err("none").reason.as_str());
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            "OTHER_ITEM_REFUSED",
            "OTHER_ITEM_REFUSED",
            "OTHER_ITEM_REFUSED",
            "QUOTA_EXCEEDED"
        ]
    );
    let last = refused[3].as_ref().expect_err("refused");
    assert_eq!(last.retry_after, None, "four never fit into a burst of three");
    assert_eq!(last.field, "quota.enqueue_rate");

    let taken: Vec<_> = many(5, false).await.collect();
    assert_eq!(taken.iter().filter(|item| item.is_ok()).count(), 3);
    let last = taken[4].as_ref().expect_err("refused");
    assert_eq!(
        (last.code, last.reason.as_str()),
        (Code::ResourceExhausted as i32, "QUOTA_EXCEEDED")
    );
    let after = last.retry_after.as_ref().expect("when").seconds;
    assert!((3_500..=3_600).contains(&after), "{after}");
    assert_eq!(cluster.shown().await.enqueue_tokens, Some(0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_quota_or_name_is_refused() {
    let cluster = Cluster::start().await;
    cluster.create(v1::Quota::default()).await;
    let update = v1::UpdateTenantRequest {
        name: "acme".to_owned(),
        enqueue_rate: Some(v1::RateLimit {
            count: 5,
            period: Some(prost_types::Duration {
                seconds: 32 * 86_400,
                ..SECOND
            }),
            burst: 0,
        }),
        ..Default::default()
    };
    let status = cluster.tenants().update_tenant(update).await.expect_err("too long");
    check(&status, Code::InvalidArgument, "OUT_OF_RANGE");
    let details = status.get_error_details();
    assert_eq!(
        details.bad_request().expect("a field").field_violations[0].field,
        "enqueue_rate.period"
    );
    let nobody = v1::GetTenantRequest {
        name: "nobody".to_owned(),
        ..Default::default()
    };
    let status = cluster.tenants().get_tenant(nobody).await.expect_err("nobody");
    check(&status, Code::NotFound, "TENANT_NOT_FOUND");
    cluster.stop().await;
}
