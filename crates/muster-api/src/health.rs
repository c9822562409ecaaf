//! Health as gRPC defines it: serving while the node knows a leader, so that a balancer sends calls where they can be done.

use muster_node::Node;
use muster_raft::Role;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Services whose health is told; the empty name stands for the whole node.
const SERVICES: [&str; 6] = [
    "",
    "muster.v1.JobService",
    "muster.v1.WorkerService",
    "muster.v1.QueueService",
    "muster.v1.TenantService",
    "muster.v1.ClusterService",
];

/// Keeps the reporter up to date until raft stops.
pub(crate) async fn follow(node: Node, reporter: HealthReporter, stopping: CancellationToken) {
    let mut roles = node.raft().role();
    drop(node);
    loop {
        let serving = match *roles.borrow_and_update() {
            Role::Leader { .. } | Role::Follower { leader: Some(_), .. } => ServingStatus::Serving,
            Role::BecomingLeader { .. } | Role::Follower { leader: None, .. } => ServingStatus::NotServing,
        };
        report(&reporter, serving).await;
        tokio::select! {
            changed = roles.changed() => if changed.is_err() { break },
            () = stopping.cancelled() => break,
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
