//! Why a job does not run.

use muster_proto::v1;
use muster_proto::v1::JobState;
use muster_proto::v1::wait_reason::Reason;
use tonic::{Code, Status};

use crate::cluster::{Cluster, job};
use crate::{check, succeeded};

impl Cluster {
    async fn explain_job(&self, id: &str, consistency: i32) -> Result<v1::ExplainJobResponse, Status> {
        let request = v1::ExplainJobRequest {
            id: id.to_owned(),
            consistency,
        };
        Ok(self.jobs(2).explain_job(request).await?.into_inner())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_explained_from_any_node() {
    let cluster = Cluster::start().await;
    let spec = v1::JobSpec {
        required_labels: [("gpu".to_owned(), "a100".to_owned())].into(),
        ..job("call", "secret")
    };
    let labelled = cluster.enqueue(spec).await.expect("accepted");
    let plain = cluster.enqueue(job("call", "")).await.expect("accepted");
    let mut worker = cluster.worker(1, "call", 1).await;
    let leased = worker.job().await;
    assert_eq!(leased.id, plain.id);

    let explained = cluster.explain_job(&labelled.id, 0).await.expect("explained");
    let reasons: Vec<_> = explained.reasons.into_iter().map(|reason| reason.reason).collect();
    assert_eq!(reasons, [Some(Reason::NoWorker(v1::NoWorker {}))]);
    let workers = explained.workers.expect("it is live");
    assert_eq!((workers.version, workers.accept), (1, 0), "all but the labels match");
    let told = explained.job.expect("the job");
    assert_eq!(told.required_labels["gpu"], "a100");
    assert_eq!(told.payload, None);
    assert_eq!((explained.share, explained.freshness), (None, None));

    let running = cluster.explain_job(&plain.id, 1).await.expect("explained");
    assert_eq!(running.reasons, []);
    assert_eq!(running.holder.expect("it runs").node_id, 2);
    assert_eq!(running.freshness.expect("a stale answer").node_id, 3);

    worker.report(&leased, succeeded("")).await;
    let ended = cluster.explain_job(&plain.id, 0).await.expect("explained");
    assert_eq!(ended.job.expect("the job").state(), JobState::Succeeded);
    assert_eq!((ended.reasons, ended.workers), (vec![], None));

    let nobody = "0190a5d2-0000-7000-8000-00000000ffff";
    let status = cluster.explain_job(nobody, 0).await.expect_err("not there");
    check(&status, Code::NotFound, "JOB_NOT_FOUND");
    let status = cluster.explain_job("job-1", 0).await.expect_err("not an id");
    check(&status, Code::InvalidArgument, "ID_INVALID");
    let status = cluster.explain_job(nobody, 9).await.expect_err("no such consistency");
    check(&status, Code::InvalidArgument, "ENUM_INVALID");
    cluster.stop().await;
}
