//! Administrative commands take effect once, however often they arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use muster_proto::v1;
use muster_proto::v1::queue_service_client::QueueServiceClient;
use muster_tests::Cluster;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

fn request<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("muster-tenant", MetadataValue::from_static("default"));
    metadata.insert("muster-request-id", MetadataValue::try_from(id).unwrap());
    request
}

fn pause(queue: &str) -> v1::PauseQueueRequest {
    v1::PauseQueueRequest {
        queue: queue.into(),
        note: "by a client whose answer was lost".into(),
    }
}

async fn is_paused(cluster: &Cluster, queue: &str) -> bool {
    let queues = cluster.client().await.queues().await.unwrap();
    queues.iter().any(|known| known.name == queue && known.paused)
}

/// A client pauses a queue and gets no answer; another one resumes it; then the first one's repeat arrives. It must be
/// answered as the first time and leave the queue alone, whoever leads by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_does_not_undo_what_another_client_did_in_between() {
    let mut cluster = Cluster::start().await;
    let first = "0195f0e2-7c1e-7000-8000-000000000001";
    let mut service = QueueServiceClient::connect(cluster.address(1)).await.unwrap();
    service.pause_queue(request(first, pause("mail"))).await.unwrap();
    assert!(is_paused(&cluster, "mail").await);
    cluster.client().await.resume_queue("mail").await.unwrap();

    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader().await;
    let other = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mut service = QueueServiceClient::connect(cluster.address(other)).await.unwrap();
    service.pause_queue(request(first, pause("mail"))).await.unwrap();
    assert!(!is_paused(&cluster, "mail").await, "the repeat undid the resume");
    // The id stands for this request and no other.
    let refused = service.pause_queue(request(first, pause("news"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let refused = service.pause_queue(request("mail-1", pause("news"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    // One of its own is another command.
    let second = "0195f0e2-7c1e-7000-8000-000000000002";
    service.pause_queue(request(second, pause("mail"))).await.unwrap();
    assert!(is_paused(&cluster, "mail").await);
    cluster.start_node(leader);
    cluster.agree().await;
}
