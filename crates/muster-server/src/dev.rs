//! `muster dev`: three nodes in one process, no configuration, a sample worker.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_node::{EmbeddedWorker, HandlerError, HandlerRegistry, JobContext};
use tokio::task::JoinSet;

use crate::run::{Entry, start_node, stop_signal};
use crate::{DevArgs, Error, ServerConfig, logs};

/// Longest sleep of a `sleep` job.
const SLEEP_MAX: Duration = Duration::from_mins(10);

/// Runs three nodes until SIGTERM or SIGINT.
pub async fn dev(args: DevArgs) -> Result<(), Error> {
    let began = Instant::now();
    // The warnings of openraft are about nodes that start a moment later than others.
    logs::start(args.log_format, "warn,openraft=error");
    let temporary;
    let dir = if let Some(dir) = &args.keep {
        dir.clone()
    } else {
        temporary = tempfile::Builder::new()
            .prefix("muster-dev-")
            .tempdir()
            .map_err(|error| Error::Config {
                file: std::env::temp_dir(),
                reason: format!("cannot make a temporary directory: {error}; name one with --keep"),
            })?;
        temporary.path().to_owned()
    };
    std::fs::create_dir_all(&dir).map_err(|error| Error::Config {
        file: dir.clone(),
        reason: format!("cannot be made: {error}"),
    })?;
    let file = dir.join("cluster.toml");
    std::fs::write(&file, config_text(args.port)).map_err(|error| Error::Config {
        file: file.clone(),
        reason: format!("cannot be written: {error}"),
    })?;
    let config = ServerConfig::load(&file)?;

    // Started at the same time: a new cluster waits for all of its nodes.
    let mut starting = JoinSet::new();
    for node in config.nodes.clone() {
        let config = config.clone();
        let handlers = if node.id == 1 {
            samples()
        } else {
            HandlerRegistry::default()
        };
        starting.spawn(async move { start_node(&config, &node, Entry::default(), handlers).await });
    }
    if let Some(address) = config.nodes[0].metrics {
        crate::metrics::serve(config.nodes[0].id, address)?;
    }
    let mut stop = std::pin::pin!(stop_signal());
    let mut nodes = Vec::new();
    while nodes.len() < config.nodes.len() {
        tokio::select! {
            started = starting.join_next() => match started {
                Some(Ok(node)) => nodes.push(node?),
                Some(Err(error)) => return Err(Error::Node { node: 0, reason: error.to_string() }),
                None => break,
            },
            _ = &mut stop => return Ok(()),
        }
    }
    println!(
        "{}",
        screen(
            &config,
            &dir.display().to_string(),
            args.keep.is_some(),
            began.elapsed()
        )
    );

    let mut failures = nodes.iter().map(|node| Box::pin(node.failed())).collect::<Vec<_>>();
    let failed = std::future::poll_fn(|context| {
        for failure in &mut failures {
            if let std::task::Poll::Ready(error) = failure.as_mut().poll(context) {
                return std::task::Poll::Ready(error);
            }
        }
        std::task::Poll::Pending
    });
    let outcome = tokio::select! {
        _ = &mut stop => Ok(()),
        error = failed => Err(error),
    };
    drop(failures);
    let mut stopping = JoinSet::new();
    for node in nodes {
        if outcome.is_ok() {
            stopping.spawn(node.stop());
        } else {
            stopping.spawn(node.abandon());
        }
    }
    stopping.join_all().await;
    outcome
}

fn config_text(port: u16) -> String {
    let mut text = "cluster = \"dev\"\n".to_owned();
    for id in 1..=3u16 {
        let [api, peer, metrics] = [0, 100, 200].map(|offset| u32::from(port) + offset + u32::from(id) - 1);
        let _ = write!(
            text,
            "\n[[node]]\nid = {id}\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\n\
             metrics = \"127.0.0.1:{metrics}\"\ndata = \"node-{id}\"\n"
        );
    }
    text
}

fn screen(config: &ServerConfig, dir: &str, kept: bool, took: Duration) -> String {
    let address = format!("http://{}", config.nodes[0].api);
    // The client commands look at the default port by themselves.
    let option = if config.nodes[0].api.port() == 7001 {
        String::new()
    } else {
        format!(" --address {address}")
    };
    let nodes: Vec<_> = config.nodes.iter().map(|node| node.api.to_string()).collect();
    let metrics = config.nodes[0]
        .metrics
        .map(|address| format!("http://{address}/metrics"))
        .unwrap_or_default();
    format!(
        "Muster is running: three nodes in this process, ready in {:.1} s.

  clients   {}
  metrics   {metrics}
  data      {dir} ({})

A sample worker handles the kinds `echo` (returns its payload) and `sleep` (payload: milliseconds).
In another terminal, enqueue the first job and wait for its result:

  muster job enqueue echo --payload '{{\"hello\": \"world\"}}' --wait{option}

Then look around:

  muster job list{option}
  muster cluster status{option}

Ctrl-C stops it.",
        took.as_secs_f64(),
        nodes.join(", "),
        if kept { "kept" } else { "removed at the end" },
    )
}

fn samples() -> HandlerRegistry {
    HandlerRegistry::default().with(
        EmbeddedWorker::new("sample")
            .concurrency(16)
            .handle("echo", echo)
            .handle("sleep", sleep),
    )
}

async fn echo(job: JobContext) -> Result<Bytes, HandlerError> {
    let data = job.job.payload.data.clone();
    if data.len() > 64 << 10 {
        return Err(HandlerError::fatal("too_large", "a result has at most 64 KiB"));
    }
    Ok(data)
}

async fn sleep(job: JobContext) -> Result<Bytes, HandlerError> {
    let wanted = std::str::from_utf8(&job.job.payload.data)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let Some(millis) = wanted else {
        return Err(HandlerError::fatal(
            "bad_payload",
            "the payload must be a whole number of milliseconds",
        ));
    };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(millis).min(SLEEP_MAX)) => Ok(Bytes::new()),
        () = job.cancelled.cancelled() => Err(HandlerError::Cancelled),
    }
}
