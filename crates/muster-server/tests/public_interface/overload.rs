//! Memory for live jobs that runs out: who is refused, and how it is told.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::cluster_service_client::ClusterServiceClient;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::check;
use crate::cluster::{Cluster, job};

/// Leaves little more than the least for live jobs.
const TABLES: &str = "[raft]\nmemory_limit = \"344MiB\"\n[store]\nlog_tail = \"1MiB\"\ncache = \"1MiB\"";
const PAYLOAD: usize = 128 << 10;
/// What a job takes besides: its own 512 bytes and its names.
const BESIDE: u64 = 600;

fn as_greedy<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("muster-tenant", "greedy".parse().unwrap());
    request
}

async fn enqueue_as_greedy(cluster: &Cluster, job: v1::JobSpec) -> Result<v1::Enqueued, Status> {
    let request = as_greedy(v1::EnqueueRequest { job: Some(job) });
    Ok(cluster.jobs(1).enqueue(request).await?.into_inner().job.expect("a job"))
}

async fn memory(cluster: &Cluster) -> v1::JobsMemory {
    let mut clusters = ClusterServiceClient::new(cluster.channels[1].clone());
    let shown = clusters.get_status(v1::GetStatusRequest {}).await.expect("answered");
    shown.into_inner().memory.expect("said")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greedy_tenant_is_refused_and_not_its_neighbour() {
    let cluster = Cluster::start_with(TABLES).await;
    let limit = memory(&cluster).await.limit_bytes;
    assert!(limit < 344 << 20 && limit > 16 << 20, "{limit}");
    // Four fifths of it.
    let fits = (limit * 4 / 5 / (PAYLOAD as u64 + BESIDE)) as usize;
    let tenant = v1::Tenant {
        name: "greedy".to_owned(),
        ..Default::default()
    };
    let request = v1::CreateTenantRequest { tenant: Some(tenant) };
    cluster.tenants().create_tenant(request).await.expect("made");

    let payload = "x".repeat(PAYLOAD);
    let mut taken = Vec::new();
    let status = loop {
        assert!(taken.len() < 2 * fits, "never refused");
        match enqueue_as_greedy(&cluster, job("mail", &payload)).await {
            Ok(job) => taken.push(job.id),
            Err(status) => break status,
        }
    };
    // The node judges by what it has applied: the last job may be missing in that.
    assert!(
        (fits - 1..=fits + 2).contains(&taken.len()),
        "{} were taken of {fits}",
        taken.len()
    );
    check(&status, Code::ResourceExhausted, "MEMORY_FULL");
    let details = status.get_error_details();
    let facts = &details.error_info().expect("facts").metadata;
    let fact = |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok());
    assert_eq!(facts.get("tenant").map(String::as_str), Some("greedy"));
    assert_eq!(fact("limit"), Some(limit));
    assert!(fact("held").expect("held") + fact("wanted").expect("wanted") > fact("allowed").expect("allowed"));
    let after = details.retry_info().and_then(|info| info.retry_delay);
    assert_eq!(after, Some(Duration::from_secs(1)));

    let shown = memory(&cluster).await;
    assert!(
        shown.used_bytes > limit * 3 / 4 && shown.used_bytes < limit,
        "{shown:?}"
    );

    // A repeat is no new job, and who holds little has room.
    let again = v1::JobSpec {
        id: taken[0].clone(),
        ..job("mail", &payload)
    };
    assert!(enqueue_as_greedy(&cluster, again).await.expect("known").existed);
    cluster.enqueue(job("mail", &payload)).await.expect("accepted");

    // What ends jobs goes on and makes room.
    for id in taken.drain(..4) {
        let cancel = as_greedy(v1::CancelJobRequest { id: id.clone() });
        cluster.jobs(1).cancel_job(cancel).await.expect("cancelled");
        // Served by the same node once it has applied that.
        let get = v1::GetJobRequest {
            id,
            ..Default::default()
        };
        cluster.jobs(1).get_job(as_greedy(get)).await.expect("there");
    }
    enqueue_as_greedy(&cluster, job("mail", &payload))
        .await
        .expect("accepted");
    cluster.stop().await;
}
