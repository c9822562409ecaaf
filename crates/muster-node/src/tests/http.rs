//! `http` workers against a small server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::{JobRow, JobState};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::local::run;
use crate::testing::{Stand, eventually, options, spec, start_with};
use crate::{HandlerRegistry, HttpWorkerOptions, Node, Secret, signature};

const SECRET: &str = "topsecret";

/// Answers each request with the text its path asks for; keeps what it got.
struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _task: crate::task::OwnedTask,
}

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        let line = self.head.lines().find(line)?;
        Some(line.split_once(':')?.1.trim())
    }
}

impl Server {
    async fn start(answer: impl Fn(usize, std::net::SocketAddr) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = crate::task::OwnedTask::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&answer), address));
            }
        });
        Self {
            address,
            requests,
            _task: task,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    kept: Arc<Mutex<Vec<Request>>>,
    answer: Arc<impl Fn(usize, std::net::SocketAddr) -> Option<String>>,
    address: std::net::SocketAddr,
) {
    let mut data = Vec::new();
    let split = loop {
        if let Some(at) = data.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut data).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let mut request = Request {
        head: String::from_utf8_lossy(&data[..split]).into_owned(),
        body: data[split + 4..].to_vec(),
    };
    let length: usize = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let number = {
        let mut kept = kept.lock();
        kept.push(request);
        kept.len()
    };
    match answer(number, address) {
        Some(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        // Never answers.
        None => std::future::pending().await,
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn worker(url: String) -> HttpWorkerOptions {
    HttpWorkerOptions {
        name: "http".into(),
        tenants: Vec::new(),
        queues: Vec::new(),
        kinds: vec!["call".into()],
        url,
        concurrency: 2,
        secret: Secret(SECRET.to_owned()),
        timeout: Duration::from_secs(10),
        allow_private: true,
        allow_redirects: false,
    }
}

async fn start(worker: HttpWorkerOptions) -> (Node, Arc<Stand>) {
    let mut options = options();
    options.http_workers = vec![worker];
    start_with(options, HandlerRegistry::default()).await
}

/// Runs one job to its end against a worker.
async fn call(worker: HttpWorkerOptions, max_attempts: u32) -> Arc<JobRow> {
    let (node, stand) = start(worker).await;
    let mut job = spec(1, "call");
    job.options.max_attempts = max_attempts;
    let row = run(&node, &stand, job).await;
    node.shutdown().await;
    row
}

fn error_class(row: &JobRow) -> &str {
    row.error.as_ref().map_or("", |error| &error.class)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_signed_and_its_answer_is_the_result() {
    let server = Server::start(|_, _| Some(answer("200 OK", "", "fine"))).await;
    let (node, stand) = start(worker(format!("http://{}/jobs", server.address))).await;
    let mut job = spec(1, "call");
    job.payload.data = Bytes::from_static(b"{\"a\":1}");
    job.payload.content_type = "application/json".into();
    job.metadata = vec![
        ("traceparent".into(), "00-1-2-01".into()),
        ("color".into(), "blue".into()),
    ];
    let id = job.id;
    let row = run(&node, &stand, job).await;
    assert_eq!((row.state, &*row.result), (JobState::Succeeded, &b"fine"[..]));
    let request = server.requests.lock()[0].clone();
    assert!(request.head.starts_with("POST /jobs HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, b"{\"a\":1}");
    let expected = [
        ("muster-job-id", id.to_string()),
        ("muster-attempt", "1".to_owned()),
        ("muster-kind", "call".to_owned()),
        ("muster-queue", "q".to_owned()),
        ("muster-tenant", "default".to_owned()),
        ("muster-metadata-color", "blue".to_owned()),
        ("traceparent", "00-1-2-01".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value.as_str()), "{name}");
    }
    assert!(
        request
            .header("muster-fence")
            .is_some_and(|fence| fence.parse::<u64>().is_ok())
    );
    let given = request.header("muster-signature").unwrap();
    let time = given
        .strip_prefix("t=")
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(given, signature(SECRET, time, &request.body));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_endpoint_is_tried_again() {
    let server = Server::start(|number, _| {
        Some(match number {
            1 => answer("500 Internal Server Error", "", "oops"),
            2 => answer("503 Service Unavailable", "retry-after: 0\r\n", ""),
            _ => answer("200 OK", "", ""),
        })
    })
    .await;
    let row = call(worker(format!("http://{}/", server.address)), 5).await;
    assert_eq!((row.state, row.attempts, row.failures), (JobState::Succeeded, 3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_not_tried_again() {
    let server = Server::start(|_, _| Some(answer("422 Unprocessable Entity", "", "no such thing"))).await;
    let row = call(worker(format!("http://{}/", server.address)), 5).await;
    assert_eq!(
        (row.state, row.attempts, error_class(&row)),
        (JobState::Dead, 1, "http_422")
    );
    let message = row.error.as_ref().map(|error| error.message.to_string());
    assert!(message.unwrap_or_default().ends_with(": no such thing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_snoozes_and_is_not_counted() {
    let server = Server::start(|number, _| {
        Some(match number {
            1 => answer("429 Too Many Requests", "retry-after: 1\r\n", ""),
            _ => answer("200 OK", "", ""),
        })
    })
    .await;
    let started = std::time::Instant::now();
    let row = call(worker(format!("http://{}/", server.address)), 1).await;
    assert_eq!((row.state, row.attempts, row.failures), (JobState::Succeeded, 1, 0));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_refused_unless_allowed() {
    let redirect = |number: usize, address| {
        Some(match number {
            1 => answer(
                "307 Temporary Redirect",
                &format!("location: http://{address}/other\r\n"),
                "",
            ),
            _ => answer("200 OK", "", "moved"),
        })
    };
    let server = Server::start(redirect).await;
    let row = call(worker(format!("http://{}/", server.address)), 5).await;
    assert_eq!(
        (row.state, row.attempts, error_class(&row)),
        (JobState::Dead, 1, "http_307")
    );
    assert_eq!(server.requests.lock().len(), 1);
    let server = Server::start(redirect).await;
    let allowing = HttpWorkerOptions {
        allow_redirects: true,
        ..worker(format!("http://{}/", server.address))
    };
    let row = call(allowing, 5).await;
    assert_eq!((row.state, &*row.result), (JobState::Succeeded, &b"moved"[..]));
    assert!(server.requests.lock()[1].head.starts_with("POST /other "));
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_also_behind_a_name() {
    let server = Server::start(|_, _| Some(answer("200 OK", "", ""))).await;
    let literal = HttpWorkerOptions {
        allow_private: false,
        ..worker(format!("http://{}/", server.address))
    };
    let error = literal.validate().unwrap_err().to_string();
    assert!(error.contains("private address"), "{error}");
    let named = HttpWorkerOptions {
        allow_private: false,
        ..worker(format!("http://localhost:{}/", server.address.port()))
    };
    let row = call(named, 5).await;
    assert_eq!(
        (row.state, row.attempts, error_class(&row)),
        (JobState::Dead, 1, "private_address")
    );
    assert!(server.requests.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_answer_or_is_not_there_fails_the_attempt() {
    let server = Server::start(|_, _| None).await;
    let impatient = HttpWorkerOptions {
        timeout: Duration::from_millis(200),
        ..worker(format!("http://{}/", server.address))
    };
    let row = call(impatient, 2).await;
    assert_eq!(
        (row.state, row.attempts, error_class(&row)),
        (JobState::Dead, 2, "timeout")
    );
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let row = call(worker(format!("http://{nobody}/")), 2).await;
    assert_eq!(
        (row.state, row.attempts, error_class(&row)),
        (JobState::Dead, 2, "connect")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_a_success_without_a_result() {
    let server = Server::start(|_, _| Some(answer("200 OK", "", &"x".repeat(100_000)))).await;
    let row = call(worker(format!("http://{}/", server.address)), 1).await;
    assert_eq!((row.state, row.result.len()), (JobState::Succeeded, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_call() {
    let server = Server::start(|_, _| None).await;
    let (node, stand) = start(worker(format!("http://{}/", server.address))).await;
    let watch = node.watch_job(muster_core::JobId(1));
    let id = stand.enqueue(spec(1, "call"));
    eventually("the call", || !server.requests.lock().is_empty()).await;
    stand.apply(muster_core::Command::Cancel {
        tenant: muster_core::DEFAULT_TENANT.into(),
        job: id,
    });
    assert_eq!(super::local::ended(watch).await.state, JobState::Cancelled);
    node.shutdown().await;
}

#[test]
fn options_are_read_and_checked() {
    let text = r#"
        sessions_max = 5
        local_drain = "2s"
        [restart]
        max = 9
        [[http_worker]]
        name = "hook"
        kinds = ["call"]
        url = "https://example.com/jobs"
        secret = "s"
        timeout = "1m 30s"
    "#;
    let options: crate::NodeOptions = toml::from_str(text).unwrap();
    options.validate().unwrap();
    assert_eq!(options.local_drain, Duration::from_secs(2));
    assert_eq!(options.http_workers[0].timeout, Duration::from_secs(90));
    assert!(!format!("{options:?}").contains("\"s\""));
    let check = |field: &str, change: fn(&mut HttpWorkerOptions)| {
        let mut worker = worker("https://example.com/".to_owned());
        worker.allow_private = false;
        change(&mut worker);
        let error = worker.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    };
    check("url", |worker| worker.url = "ftp://example.com/".to_owned());
    check("url", |worker| worker.url = "nonsense".to_owned());
    check("url", |worker| worker.url = "http://[::1]/".to_owned());
    check("kinds", |worker| worker.kinds.clear());
    check("secret", |worker| worker.secret = Secret(String::new()));
    check("concurrency", |worker| worker.concurrency = 0);
    assert!(toml::from_str::<crate::NodeOptions>("nonsense = 1").is_err());
}
