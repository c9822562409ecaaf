//! The public interface of three nodes in one process, through plain gRPC clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod cluster;
mod explain;
mod kinds;
mod limits;
mod overload;
mod quotas;

use std::collections::HashSet;
use std::time::Duration;

use cluster::{Cluster, LONG, Worker, hello, job};
use muster_proto::v1;
use muster_proto::v1::JobState;
use muster_proto::v1::attempt_report::Outcome;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

fn succeeded(result: &str) -> Outcome {
    Outcome::Succeeded(v1::Succeeded {
        result: result.to_owned().into(),
    })
}

fn fatal(message: &str) -> Outcome {
    let error = v1::JobError {
        class: "test".to_owned(),
        message: message.to_owned(),
    };
    Outcome::Failed(v1::Failed {
        error: Some(error),
        not_retryable: true,
        retry_after: None,
    })
}

fn check(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, "muster"),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_run_once_and_its_repeats_find_it() {
    let cluster = Cluster::start().await;
    let mut worker = cluster.worker(1, "mail", 4).await;
    let keyed = v1::JobSpec {
        idempotency_key: "order-7".to_owned(),
        ..job("mail", "hello")
    };
    let accepted = cluster.enqueue(keyed.clone()).await.expect("accepted");
    assert!(!accepted.existed);

    let leased = worker.job().await;
    assert_eq!((leased.id.as_str(), leased.attempt), (accepted.id.as_str(), 1));
    assert_eq!(leased.payload.clone().expect("a payload").data, "hello");
    let ack = worker.report(&leased, succeeded("done")).await;
    assert_eq!(ack.result(), v1::report_ack::Result::Accepted);
    assert_eq!(ack.state(), JobState::Succeeded);

    let ended = cluster.wait(&accepted.id).await;
    assert_eq!(
        (ended.state(), ended.result.as_ref(), ended.attempts),
        (JobState::Succeeded, &b"done"[..], 1)
    );
    assert_eq!(
        cluster.get(&accepted.id).await.expect("in the history").state(),
        JobState::Succeeded
    );

    // By key, by id, and by both with other contents.
    let repeated = cluster.enqueue(keyed.clone()).await.expect("found");
    assert_eq!((repeated.id.as_str(), repeated.existed), (accepted.id.as_str(), true));
    assert_eq!(repeated.state(), JobState::Succeeded);
    let by_id = v1::JobSpec {
        id: accepted.id.clone(),
        ..job("mail", "hello")
    };
    assert!(cluster.enqueue(by_id).await.expect("found").existed);
    let other = v1::JobSpec {
        idempotency_key: "order-7".to_owned(),
        ..job("mail", "other")
    };
    check(
        &cluster.enqueue(other).await.expect_err("another job"),
        Code::AlreadyExists,
        "JOB_CONFLICT",
    );

    // A report repeated after its end, and one under a lease that is not in force.
    let again = worker.report(&leased, succeeded("done")).await;
    assert_eq!(again.result(), v1::report_ack::Result::Accepted);
    let stale = v1::LeasedJob {
        fence: leased.fence + 1,
        ..leased
    };
    assert_eq!(
        worker.report(&stale, succeeded("")).await.result(),
        v1::report_ack::Result::LeaseLost
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_jobs_are_answered_under_their_sequence_and_listed_in_pages() {
    let cluster = Cluster::start().await;
    let frames = (1..=20u64).map(|sequence| {
        let mut jobs = vec![job("import", "x"); 50];
        // One bad apple a frame.
        jobs[7].kind = "no good".to_owned();
        v1::EnqueueStreamRequest { sequence, jobs }
    });
    let mut answers = cluster
        .jobs(2)
        .enqueue_stream(tokio_stream::iter(frames.collect::<Vec<_>>()))
        .await
        .expect("open")
        .into_inner();
    let mut sequences = HashSet::new();
    let mut accepted = HashSet::new();
    while let Some(answer) = answers.message().await.expect("answers") {
        assert!(sequences.insert(answer.sequence));
        assert_eq!(answer.results.len(), 50);
        for (position, result) in answer.results.into_iter().enumerate() {
            match result.result.expect("a result") {
                v1::enqueue_result::Result::Job(job) => assert!(accepted.insert(job.id)),
                v1::enqueue_result::Result::Error(error) => {
                    assert_eq!(
                        (position, error.reason.as_str(), error.field.as_str()),
                        (7, "NAME_INVALID", "kind")
                    );
                }
            }
        }
    }
    assert_eq!((sequences.len(), accepted.len()), (20, 20 * 49));

    let mut listed = HashSet::new();
    let mut request = v1::ListJobsRequest {
        page_size: 300,
        ..Default::default()
    };
    loop {
        let page = cluster
            .jobs(1)
            .list_jobs(request.clone())
            .await
            .expect("a page")
            .into_inner();
        assert!(page.jobs.len() <= 300);
        for job in page.jobs {
            assert_eq!(job.state(), JobState::Available);
            assert!(listed.insert(job.id), "listed twice");
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed, accepted);
    let other_query = v1::ListJobsRequest {
        kind: "else".to_owned(),
        page_token: "0101".to_owned(),
        ..Default::default()
    };
    let status = cluster.jobs(1).list_jobs(other_query).await.expect_err("not its token");
    check(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_cancelled_and_redriven() {
    let cluster = Cluster::start().await;
    let mut worker = cluster.worker(0, "work", 2).await;
    // Waiting: ends at once. Far away, so that no worker gets it.
    let delay = Some(prost_types::Duration {
        seconds: 3_600,
        nanos: 0,
    });
    let waiting = cluster
        .enqueue(v1::JobSpec {
            delay,
            ..job("work", "a")
        })
        .await
        .expect("accepted");
    assert_eq!(waiting.state(), JobState::Scheduled);
    let cancel = |id: &str| v1::CancelJobRequest { id: id.to_owned() };
    let answer = cluster
        .jobs(0)
        .cancel_job(cancel(&waiting.id))
        .await
        .expect("cancelled")
        .into_inner();
    assert_eq!(answer.state(), JobState::Cancelled);
    let answer = cluster
        .jobs(1)
        .cancel_job(cancel(&waiting.id))
        .await
        .expect("ended already")
        .into_inner();
    assert_eq!(answer.state(), JobState::Cancelled);

    // Running: its worker is told.
    let running = cluster.enqueue(job("work", "b")).await.expect("accepted");
    let leased = worker.job().await;
    let answer = cluster
        .jobs(2)
        .cancel_job(cancel(&running.id))
        .await
        .expect("asked")
        .into_inner();
    assert_eq!(answer.state(), JobState::Running);
    let stop = worker.stop().await;
    assert_eq!(
        (stop.fence, stop.reason()),
        (leased.fence, v1::stop_attempt::Reason::Cancel)
    );
    worker
        .report(&leased, Outcome::Cancelled(v1::AttemptCancelled {}))
        .await;
    assert_eq!(cluster.wait(&running.id).await.state(), JobState::Cancelled);

    // Dead: revived once for each new id.
    let dead = cluster.enqueue(job("work", "c")).await.expect("accepted");
    let leased = worker.job().await;
    let ack = worker.report(&leased, fatal("broken")).await;
    assert_eq!(ack.state(), JobState::Dead);
    let ended = cluster.get(&dead.id).await.expect("in the history");
    assert_eq!(ended.error.expect("an error").message, "broken");
    let new_id = "01900000-0000-7000-8000-000000000abc";
    let redrive = v1::RedriveJobRequest {
        id: dead.id.clone(),
        new_id: new_id.to_owned(),
    };
    let first = cluster
        .jobs(1)
        .redrive_job(redrive.clone())
        .await
        .expect("revived")
        .into_inner()
        .job
        .expect("a job");
    assert_eq!((first.id.as_str(), first.existed), (new_id, false));
    let leased = worker.job().await;
    worker.report(&leased, succeeded("")).await;
    let again = cluster
        .jobs(1)
        .redrive_job(redrive)
        .await
        .expect("found")
        .into_inner()
        .job
        .expect("a job");
    assert_eq!((again.id.as_str(), again.existed), (new_id, true));
    assert_eq!(cluster.get(new_id).await.expect("there").redriven_from, dead.id);
    let not_dead = v1::RedriveJobRequest {
        id: new_id.to_owned(),
        ..Default::default()
    };
    let status = cluster.jobs(0).redrive_job(not_dead).await.expect_err("it succeeded");
    check(&status, Code::FailedPrecondition, "JOB_NOT_DEAD");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_with_field_and_limit() {
    let cluster = Cluster::start().await;
    let status = cluster.enqueue(job("a b", "")).await.expect_err("bad kind");
    check(&status, Code::InvalidArgument, "NAME_INVALID");
    assert_eq!(
        status.get_details_bad_request().expect("fields").field_violations[0].field,
        "job.kind"
    );

    let large = job("mail", &"x".repeat((1 << 20) + 1));
    check(
        &cluster.enqueue(large.clone()).await.expect_err("large"),
        Code::InvalidArgument,
        "PAYLOAD_TOO_LARGE",
    );
    let many = v1::EnqueueManyRequest {
        jobs: vec![job("mail", ""), large],
        all_or_nothing: true,
    };
    let status = cluster.jobs(0).enqueue_many(many).await.expect_err("one is large");
    assert_eq!(
        status.get_details_bad_request().expect("fields").field_violations[0].field,
        "jobs[1].payload.data"
    );

    let mut request = Request::new(v1::EnqueueRequest {
        job: Some(job("mail", "")),
    });
    request
        .metadata_mut()
        .insert("muster-tenant", "nobody".parse().expect("ascii"));
    let status = cluster.jobs(1).enqueue(request).await.expect_err("no such tenant");
    check(&status, Code::NotFound, "TENANT_NOT_FOUND");

    let absent = "01900000-0000-7000-8000-000000000001";
    check(
        &cluster.get(absent).await.expect_err("no such job"),
        Code::NotFound,
        "JOB_NOT_FOUND",
    );
    check(
        &cluster.get("7").await.expect_err("no id"),
        Code::InvalidArgument,
        "ID_INVALID",
    );

    let no_kinds = v1::WorkerHello {
        kinds: Vec::new(),
        ..hello("mail")
    };
    let status = Worker::open(cluster.channels[0].clone(), no_kinds)
        .await
        .err()
        .expect("no kinds");
    check(&status, Code::InvalidArgument, "FIELD_REQUIRED");

    let mut worker = cluster.worker(0, "mail", 1).await;
    let bad = v1::AttemptReport {
        job_id: "7".to_owned(),
        ..Default::default()
    };
    worker
        .send(v1::WorkerFrame {
            reports: vec![bad],
            ..Default::default()
        })
        .await;
    let status = loop {
        match tokio::time::timeout(LONG, worker.answers.message())
            .await
            .expect("in time")
        {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    check(&status, Code::InvalidArgument, "ID_INVALID");
    let empty = tokio_stream::iter([v1::EnqueueStreamRequest::default()]);
    let mut answers = cluster.jobs(0).enqueue_stream(empty).await.expect("open").into_inner();
    check(
        &answers.message().await.expect_err("no jobs"),
        Code::InvalidArgument,
        "FIELD_REQUIRED",
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_and_queues_are_administered() {
    let cluster = Cluster::start().await;
    let tenant = v1::Tenant {
        name: "acme".to_owned(),
        weight: 300,
        ..Default::default()
    };
    let create = v1::CreateTenantRequest { tenant: Some(tenant) };
    let made = cluster
        .tenants()
        .create_tenant(create.clone())
        .await
        .expect("made")
        .into_inner();
    assert_eq!(made.tenant.expect("a tenant").weight, 300);
    let status = cluster.tenants().create_tenant(create).await.expect_err("it exists");
    check(&status, Code::AlreadyExists, "TENANT_EXISTS");
    let update = v1::UpdateTenantRequest {
        name: "acme".to_owned(),
        payload_bytes_max: Some(4_096),
        guaranteed_slots: Some(5),
        ..Default::default()
    };
    let changed = cluster
        .tenants()
        .update_tenant(update)
        .await
        .expect("changed")
        .into_inner()
        .tenant;
    let changed = changed.expect("a tenant");
    assert_eq!((changed.weight, changed.payload_bytes_max), (300, 4_096));
    assert_eq!((changed.guaranteed_slots, changed.running_slots), (5, 0));

    let pause = v1::PauseQueueRequest {
        queue: "default".to_owned(),
        note: "why".to_owned(),
    };
    cluster.queues().pause_queue(pause).await.expect("paused");
    let held = cluster.enqueue(job("mail", "")).await.expect("accepted");
    let queues = cluster
        .queues()
        .list_queues(v1::ListQueuesRequest::default())
        .await
        .expect("listed")
        .into_inner()
        .queues;
    let queue = queues.iter().find(|queue| queue.name == "default").expect("there");
    assert_eq!((queue.paused, queue.note.as_str(), queue.available), (true, "why", 1));

    // It does not start, so the wait ends with the live job before the call's deadline.
    let mut worker = cluster.worker(1, "mail", 1).await;
    let mut request = Request::new(v1::WaitJobRequest { id: held.id.clone() });
    request.set_timeout(Duration::from_millis(400));
    let live = cluster
        .jobs(1)
        .wait_job(request)
        .await
        .expect("an answer in time")
        .into_inner()
        .job
        .expect("a job");
    assert_eq!(live.state(), JobState::Available);

    let watch = v1::WatchJobRequest { id: held.id.clone() };
    let mut changes = cluster.jobs(2).watch_job(watch).await.expect("open").into_inner();
    let now = changes.message().await.expect("open").expect("now").job.expect("a job");
    assert_eq!(now.state(), JobState::Available);
    let resume = v1::ResumeQueueRequest {
        queue: "default".to_owned(),
    };
    cluster.queues().resume_queue(resume).await.expect("resumed");
    let leased = worker.job().await;
    worker.report(&leased, succeeded("")).await;
    let mut last = now;
    while let Some(change) = tokio::time::timeout(LONG, changes.message())
        .await
        .expect("in time")
        .expect("open")
    {
        last = change.job.expect("a job");
    }
    assert_eq!(last.state(), JobState::Succeeded);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_reflection_and_status_answer_and_all_ends_on_stop() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let cluster = Cluster::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(cluster.channels[1].clone());
    let request = HealthCheckRequest {
        service: "muster.v1.JobService".to_owned(),
    };
    let mut states = health.watch(request).await.expect("watched").into_inner();
    loop {
        let state = tokio::time::timeout(LONG, states.message())
            .await
            .expect("in time")
            .expect("open")
            .expect("open");
        if state.status() == ServingStatus::Serving {
            break;
        }
    }

    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(cluster.channels[0].clone());
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .expect("open")
        .into_inner();
    let answer = answers
        .message()
        .await
        .expect("open")
        .expect("an answer")
        .message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("not a list: {answer:?}");
    };
    let names: HashSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in [
        "muster.v1.JobService",
        "muster.v1.WorkerService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(service), "{names:?}");
    }

    // A node that has answered a read has heard of the members.
    let read = cluster.jobs(2).list_jobs(v1::ListJobsRequest::default()).await;
    read.expect("answered");
    let mut admin = v1::cluster_service_client::ClusterServiceClient::new(cluster.channels[2].clone());
    let status = admin
        .get_status(v1::GetStatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert_eq!(
        (status.node_id, status.members.len(), status.cluster_id.len()),
        (3, 3, 32)
    );

    // Open streams do not hold up the stop.
    let worker = cluster.worker(0, "mail", 1).await;
    let (frames, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::<v1::EnqueueStreamRequest>::new(receiver);
    let _answers = cluster.jobs(1).enqueue_stream(stream).await.expect("open");
    tokio::time::timeout(LONG, cluster.stop())
        .await
        .expect("it stops in time");
    drop((frames, worker));
}
