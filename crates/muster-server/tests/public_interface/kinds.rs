//! Kinds, priorities, and jobs that no worker accepts.

use muster_proto::v1;
use muster_proto::v1::kind_service_client::KindServiceClient;
use muster_proto::v1::{JobFilter, Priority, PriorityOrder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::cluster::{Cluster, job};
use crate::{check, succeeded};

impl Cluster {
    fn kinds(&self) -> KindServiceClient<Channel> {
        KindServiceClient::new(self.channels[1].clone())
    }

    async fn pause_kind(&self, kind: &str, note: &str) -> Result<(), Status> {
        let request = v1::PauseKindRequest {
            kind: kind.to_owned(),
            note: note.to_owned(),
        };
        self.kinds().pause_kind(request).await.map(drop)
    }

    async fn set_priority(&self, request: v1::SetPriorityRequest) -> Result<v1::SetPriorityResponse, Status> {
        Ok(self.jobs(2).set_priority(request).await?.into_inner())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_is_paused_listed_and_resumed() {
    let cluster = Cluster::start().await;
    cluster.pause_kind("call", "it breaks").await.expect("paused");
    let held = cluster.enqueue(job("call", "")).await.expect("accepted");
    let mut worker = cluster.worker(0, "call", 5).await;
    let list = |after: &'static str| {
        let mut kinds = cluster.kinds();
        async move {
            let request = v1::ListKindsRequest {
                after: after.to_owned(),
                ..Default::default()
            };
            kinds.list_kinds(request).await.expect("listed").into_inner()
        }
    };
    let listed = list("").await;
    let kind = &listed.kinds[0];
    assert_eq!(
        (kind.name.as_str(), kind.paused, kind.note.as_str()),
        ("call", true, "it breaks")
    );
    assert_eq!((kind.available, listed.more), (1, false));
    assert_eq!(list("call").await.kinds, []);
    let resume = v1::ResumeKindRequest {
        kind: "call".to_owned(),
    };
    cluster.kinds().resume_kind(resume).await.expect("resumed");
    let leased = worker.job().await;
    assert_eq!(leased.id, held.id);
    worker.report(&leased, succeeded("")).await;
    assert!(list("").await.kinds[0].mean_run.is_some());

    let status = cluster.pause_kind("no kind", "").await.expect_err("no name");
    check(&status, Code::InvalidArgument, "NAME_INVALID");
    let status = cluster
        .pause_kind("call", &"x".repeat(1_025))
        .await
        .expect_err("too long");
    check(&status, Code::InvalidArgument, "TOO_LONG");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_are_changed_and_refused() {
    let cluster = Cluster::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(cluster.enqueue(job("call", "")).await.expect("accepted").id);
    }
    let by_id = v1::SetPriorityRequest {
        ids: vec![ids[2].clone()],
        priority: Priority::Critical.into(),
        ..Default::default()
    };
    assert_eq!(cluster.set_priority(by_id.clone()).await.expect("changed").changed, 1);
    assert_eq!(cluster.set_priority(by_id.clone()).await.expect("again").changed, 0);
    let by_filter = v1::SetPriorityRequest {
        filter: Some(JobFilter {
            kind: "call".to_owned(),
            ..Default::default()
        }),
        priority: Priority::Critical.into(),
        ..Default::default()
    };
    let answer = cluster.set_priority(by_filter.clone()).await.expect("changed");
    assert_eq!((answer.changed, answer.next_page_token.as_str()), (2, ""));
    assert_eq!(
        cluster.get(&ids[0]).await.expect("there").priority(),
        Priority::Critical
    );

    let refused = |request, reason: &'static str| {
        let cluster = &cluster;
        async move {
            let status = cluster.set_priority(request).await.expect_err(reason);
            check(&status, Code::InvalidArgument, reason);
        }
    };
    let with = |priority: i32| v1::SetPriorityRequest {
        priority,
        ..by_id.clone()
    };
    refused(with(0), "FIELD_REQUIRED").await;
    refused(with(6), "ENUM_INVALID").await;
    let both = v1::SetPriorityRequest {
        ids: ids.clone(),
        ..by_filter.clone()
    };
    refused(both, "FIELDS_EXCLUSIVE").await;
    let neither = v1::SetPriorityRequest {
        ids: vec![],
        ..by_id.clone()
    };
    refused(neither, "FIELD_REQUIRED").await;
    let many = v1::SetPriorityRequest {
        ids: vec![ids[0].clone(); 1_001],
        ..by_id.clone()
    };
    refused(many, "TOO_MANY").await;
    let token = v1::SetPriorityRequest {
        page_token: "7".to_owned(),
        ..by_filter
    };
    refused(token, "ID_INVALID").await;
    let with_ids = v1::SetPriorityRequest {
        page_token: ids[0].clone(),
        ..by_id
    };
    refused(with_ids, "FIELDS_EXCLUSIVE").await;
    cluster.stop().await;
}

/// Clients repeat a call whose outcome they do not know under the id of its request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_priorities_may_be_repeated_after_jobs_have_come_and_gone() {
    let cluster = Cluster::start().await;
    let ended = cluster.enqueue(job("call", "")).await.expect("accepted").id;
    let lives = cluster.enqueue(job("call", "")).await.expect("accepted").id;
    let set = |change: &v1::SetPriorityRequest, id: &'static str| {
        let mut request = Request::new(change.clone());
        request
            .metadata_mut()
            .insert("muster-request-id", id.parse().expect("text"));
        let mut jobs = cluster.jobs(2);
        async move { jobs.set_priority(request).await.expect("changed").into_inner() }
    };
    let by_id = v1::SetPriorityRequest {
        ids: vec![ended.clone(), lives.clone()],
        priority: Priority::High.into(),
        ..Default::default()
    };
    let first = "0190f5f0-7e6b-7000-8000-000000000001";
    assert_eq!(set(&by_id, first).await.changed, 2);
    let cancel = v1::CancelJobRequest { id: ended.clone() };
    cluster.jobs(0).cancel_job(cancel).await.expect("cancelled");
    let again = set(&by_id, first).await;
    assert_eq!((again.changed, again.not_live), (2, vec![ended]));

    let by_filter = v1::SetPriorityRequest {
        filter: Some(JobFilter::default()),
        priority: Priority::Low.into(),
        ..Default::default()
    };
    let second = "0190f5f0-7e6b-7000-8000-000000000002";
    assert_eq!(set(&by_filter, second).await.changed, 1);
    let late = cluster.enqueue(job("call", "")).await.expect("accepted").id;
    assert_eq!(set(&by_filter, second).await.changed, 1, "the one that came in between");
    for id in [lives, late] {
        assert_eq!(cluster.get(&id).await.expect("there").priority(), Priority::Low);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_told_its_order() {
    let cluster = Cluster::start().await;
    let update = |priority_order: Option<PriorityOrder>, seconds: Option<i64>| {
        let mut tenants = cluster.tenants();
        async move {
            let request = v1::UpdateTenantRequest {
                name: "default".to_owned(),
                priority_order: priority_order.map(Into::into),
                aging: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                ..Default::default()
            };
            let answer = tenants.update_tenant(request).await?;
            Ok::<_, Status>(answer.into_inner().tenant.expect("the tenant"))
        }
    };
    let tenant = update(Some(PriorityOrder::Fifo), None).await.expect("set");
    assert_eq!((tenant.priority_order(), tenant.aging), (PriorityOrder::Fifo, None));
    let tenant = update(None, Some(5)).await.expect("set");
    assert_eq!(tenant.priority_order(), PriorityOrder::Aging);
    assert_eq!(tenant.aging.expect("aging").seconds, 5);
    let status = update(Some(PriorityOrder::Strict), Some(5)).await.expect_err("both");
    check(&status, Code::InvalidArgument, "FIELDS_EXCLUSIVE");
    let status = update(None, Some(32 * 86_400)).await.expect_err("too long");
    check(&status, Code::InvalidArgument, "OUT_OF_RANGE");
    cluster.stop().await;
}
