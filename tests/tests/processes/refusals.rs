//! Bad input and bad surroundings: a clear error that names what is wrong, and nothing damaged.

use std::net::TcpListener;

use muster_client::{Code, Enqueue, Error, JobId, JobState, RawJob};
use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::Cluster;

fn job() -> RawJob {
    RawJob::new("echo", &b"payload"[..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_start_says_why_and_damages_nothing() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let kept = client.enqueue_raw(job(), Enqueue::new()).await.unwrap().id;
    let config = cluster.config();
    let node = cluster.follower().await;
    cluster.kill(node);

    // A port in use.
    let address = cluster.address(node).replace("http://", "");
    let taken = TcpListener::bind(&address).unwrap();
    let exit = cluster.run_to_exit(&config, node).await;
    assert_eq!(exit.code, Some(3), "{exit:?}");
    assert!(
        exit.stderr.contains(&address) && exit.stderr.contains("in use"),
        "{exit:?}"
    );
    drop(taken);

    // An unknown key, and a value that makes no sense.
    for (table, named) in [
        ("\n[raft]\nheart_beat = \"100ms\"\n", "heart_beat"),
        ("\n[raft]\nheartbeat = \"1s\"\n", "election_min"),
        ("\n[shore]\n", "shore"),
    ] {
        let exit = cluster.run_to_exit(&format!("{config}{table}"), node).await;
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(
            exit.stderr.contains(named) && exit.stderr.contains("other.toml"),
            "{exit:?}"
        );
    }
    let exit = cluster.run_to_exit(&config, 9).await;
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert!(exit.stderr.contains('9'), "{exit:?}");

    // The data directory of a node that runs.
    let leader = cluster.leader().await;
    let swapped = config.replace(&format!("\"node-{leader}\""), "\"elsewhere\"");
    let swapped = swapped.replace(&format!("\"node-{node}\""), &format!("\"node-{leader}\""));
    let exit = cluster.run_to_exit(&swapped, node).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert!(exit.stderr.contains("data directory"), "{exit:?}");

    // A node that lost its disk must not come back under its old id.
    let wiped = config.replace(&format!("\"node-{node}\""), "\"empty\"");
    let exit = cluster.run_to_exit(&wiped, node).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert!(exit.stderr.contains("under its old id"), "{exit:?}");

    // After all that the node starts as it was.
    cluster.start_node(node);
    cluster.agree().await;
    assert_eq!(client.get(kept).await.unwrap().state, JobState::Available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_another_cluster_is_refused() {
    let other = {
        let mut other = Cluster::start().await;
        other.kill_all();
        other
    };
    let mut cluster = Cluster::start().await;
    let node = cluster.follower().await;
    cluster.kill(node);
    let foreign = other.path().join(format!("node-{node}"));
    let config = cluster
        .config()
        .replace(&format!("\"node-{node}\""), &format!("{foreign:?}"));
    let exit = cluster.run_to_exit(&config, node).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert!(exit.stderr.contains("belongs to cluster"), "{exit:?}");

    // The data of another node of the same cluster.
    let neighbour = cluster
        .ids()
        .into_iter()
        .find(|id| *id != node && *id != 1)
        .unwrap_or(1);
    let foreign = other.path().join(format!("node-{neighbour}"));
    let config = cluster
        .config()
        .replace(&format!("\"node-{node}\""), &format!("{foreign:?}"));
    let exit = cluster.run_to_exit(&config, node).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert!(
        exit.stderr.contains(&format!("belongs to node {neighbour}")),
        "{exit:?}"
    );

    cluster.start_node(node);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_calls_are_refused_with_field_and_limit() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;

    let big = RawJob::new("echo", vec![0; (1 << 20) + 1]);
    let error = client.enqueue_raw(big, Enqueue::new()).await.unwrap_err();
    let reason = error.reason().expect("the cluster's word");
    assert_eq!(
        (reason.code, reason.reason.as_str()),
        (Code::InvalidArgument, "PAYLOAD_TOO_LARGE"),
        "{error}"
    );
    assert!(
        reason.message.contains("1048576") || reason.message.contains("1 MiB"),
        "{error}"
    );

    let nobody = client.with_tenant("nobody").unwrap();
    let error = nobody.enqueue_raw(job(), Enqueue::new()).await.unwrap_err();
    assert_eq!(
        error.reason().map(|reason| reason.reason.as_str()),
        Some("TENANT_NOT_FOUND"),
        "{error}"
    );
    assert!(matches!(error, Error::NotDone(_)));

    let error = client
        .enqueue_raw(RawJob::new("", &b""[..]), Enqueue::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("kind"), "{error}");
    let error = client
        .enqueue_raw(job(), Enqueue::new().queue("no spaces"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("queue"), "{error}");

    let error = client.get(JobId::new()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");

    let mut service = JobServiceClient::connect(cluster.address(1)).await.unwrap();
    let request = v1::GetJobRequest {
        id: "not-a-uuid".into(),
        ..v1::GetJobRequest::default()
    };
    let status = service.get_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("id"), "{status}");

    // The same id with another payload.
    let id = JobId::new();
    client.enqueue_raw(job(), Enqueue::new().id(id)).await.unwrap();
    let error = client
        .enqueue_raw(RawJob::new("echo", &b"other"[..]), Enqueue::new().id(id))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists), "{error}");

    // One bad job of an all-or-nothing call: none is there.
    let good = JobId::new();
    let jobs = [
        (job(), Enqueue::new().id(good)),
        (RawJob::new("echo", &b"third"[..]), Enqueue::new().id(id)),
    ];
    let error = client.enqueue_all(jobs).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists), "{error}");
    assert!(client.get(good).await.unwrap_err().is_not_found());

    let live = client.cluster_status().await.unwrap();
    assert_eq!(live.available, 1, "only the one good job was accepted");
    cluster.agree().await;
}
