//! `muster server`: start in order, serve until told to stop or something fails for good, stop in order.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_backup::Backups;
use muster_node::{HandlerRegistry, Node, NodeHub};
use muster_raft::{ApplySink, JoinToken, Raft, RaftOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tracing::{info, warn};

use crate::witness::{RECORD_APPLIED, Witness};
use crate::{Error, NodeConfig, ServerArgs, ServerConfig, logs, metrics, open};

/// Longest wait for open calls when the server stops.
const STOP_CALLS: Duration = Duration::from_secs(2);
/// Longest wait for a log that failed: the process must be gone within a second.
const ABANDON: Duration = Duration::from_millis(300);

/// Runs one node of `cluster.toml` until SIGTERM or SIGINT.
pub async fn server(args: ServerArgs) -> Result<(), Error> {
    let invalid = |reason| Error::Config {
        file: args.config.clone(),
        reason,
    };
    let mut config = ServerConfig::load(&args.config)?;
    config.level_max = args.level_max;
    let node = config.node(args.node).map_err(invalid)?.clone();
    let entry = Entry {
        token: args.token()?,
        moved: args.moved,
    };
    if args.check {
        println!(
            "{} is right; node {} would run with:\n{:#?}\n{:#?}",
            args.config.display(),
            node.id,
            config,
            config.memory()
        );
        return Ok(());
    }
    logs::start(args.log_format, "info,openraft=error");
    if let Some(address) = node.metrics {
        metrics::serve(node.id, address)?;
    }
    let mut stop = std::pin::pin!(stop_signal());
    // A node waits for its peers while it starts; a signal ends that as well.
    let running = tokio::select! {
        running = start_node(&config, &node, entry, HandlerRegistry::default()) => running?,
        signal = &mut stop => {
            info!(node = node.id, signal, "stopped before the cluster was formed");
            return Ok(());
        }
    };
    tokio::select! {
        signal = &mut stop => {
            info!(node = node.id, signal, "stopping");
            running.stop().await;
            Ok(())
        }
        error = running.failed() => {
            running.abandon().await;
            Err(error)
        }
    }
}

/// How a node comes to its cluster.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// With which it joins a cluster that is there.
    pub token: Option<JoinToken>,
    /// It starts although the cluster knows it at another address.
    pub moved: bool,
}

/// A node that serves.
pub struct RunningNode {
    id: u64,
    node: Node,
    stop_api: watch::Sender<bool>,
    api: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Starts a node: listeners first, so that a port in use is known before anything is touched, then store, log, actors,
/// public interface. Returns when it takes part in the cluster.
pub async fn start_node(
    config: &ServerConfig,
    node: &NodeConfig,
    entry: Entry,
    handlers: HandlerRegistry,
) -> Result<RunningNode, Error> {
    let api = listen(node.id, "api", node.api)?;
    let peer = listen(node.id, "peer", node.peer)?;
    let raft_options = config.raft_options(node.id);
    let store = open::open(node, config.store_options(node), &raft_options).await?;
    let memory = config.memory();
    ::metrics::gauge!("muster_memory_limit_bytes").set(memory.limit as f64);
    info!(
        node = node.id, api = %node.api, peer = %node.peer, data = %node.data.display(),
        memory_limit = memory.limit, for_live_jobs = memory.jobs, "starting"
    );
    let hub = NodeHub::new();
    let raft_options = RaftOptions {
        join: entry.token,
        moved: entry.moved,
        ..raft_options
    };
    let raft = Raft::start(raft_options, store, sink(&hub, node.id)?, peer)
        .await
        .map_err(|source| Error::Raft { node: node.id, source })?;
    let mut options = config.server.clone();
    options.node = node.id;
    let failed = |reason: String| Error::Node { node: node.id, reason };
    let backups = Backups::start(config.backup.clone(), raft.clone())
        .map_err(|source| Error::Backup { node: node.id, source })?;
    let running = Node::start(options, raft, hub, handlers)
        .await
        .map_err(|error| failed(error.to_string()))?;

    let api = tokio::net::TcpListener::from_std(api).map_err(|error| failed(error.to_string()))?;
    let (stop_api, mut stopped) = watch::channel(false);
    let router = muster_api::router(running.clone(), backups, config.api_options())
        .map_err(|error| failed(error.to_string()))?;
    // The router's own setting holds only for listeners it binds itself; without it small frames wait 40 ms.
    let api = TcpIncoming::from(api).with_nodelay(Some(true));
    let api = tokio::spawn(router.serve_with_incoming_shutdown(api, async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    }));
    info!(node = node.id, api = %node.api, "serving");
    Ok(RunningNode {
        id: node.id,
        node: running,
        stop_api,
        api,
    })
}

/// What hears of applied entries: the hub, and a record of them for tests if the environment asks for one.
fn sink(hub: &Arc<NodeHub>, node: u64) -> Result<Arc<dyn ApplySink>, Error> {
    let Some(dir) = std::env::var_os(RECORD_APPLIED) else {
        return Ok(hub.clone());
    };
    let witness = Witness::begin(hub.clone(), Path::new(&dir), node).map_err(|error| Error::Node {
        node,
        reason: format!("{RECORD_APPLIED}: {}: {error}", Path::new(&dir).display()),
    })?;
    warn!(node, dir = %Path::new(&dir).display(), "every applied entry is recorded, which is for tests and slow");
    Ok(Arc::new(witness))
}

impl RunningNode {
    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&self) -> Error {
        tokio::select! {
            source = self.node.raft().fatal() => Error::Raft { node: self.id, source },
            reason = self.node.failed() => Error::Node { node: self.id, reason },
        }
    }

    /// Ends a node that cannot go on: connections break, nothing is saved, since nothing may be written any more. The next
    /// start finds out what is on disk. The process is to end now: its databases are not closed.
    pub async fn abandon(self) {
        self.api.abort();
        if tokio::time::timeout(ABANDON, self.node.raft().abandon()).await.is_err() {
            warn!(
                node = self.id,
                "the log did not end in {ABANDON:?}; the process ends without waiting for it"
            );
        }
        // After a failure RocksDB's background jobs pause for a second, and closing a database waits for them.
        std::mem::forget(self.node);
    }

    /// Stops in order: sessions and actors, the lead, the public interface, the log, the store. Bounded in time.
    pub async fn stop(mut self) {
        self.node.shutdown().await;
        self.node.raft().leave_lead().await;
        self.stop_api.send_replace(true);
        if tokio::time::timeout(STOP_CALLS, &mut self.api).await.is_err() {
            warn!(node = self.id, "open calls did not end in {STOP_CALLS:?}; closing them");
            self.api.abort();
        }
        self.node.raft().shutdown().await;
        info!(node = self.id, "stopped");
    }
}

fn listen(node: u64, key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Error::Listen {
        node,
        key,
        address: address.to_string(),
        reason: listen_reason(&error),
    })
}

pub(crate) fn listen_reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "the address is in use; is this node running already? Otherwise choose another port".to_owned()
        }
        _ => error.to_string(),
    }
}

/// The name of the signal that asked this process to stop.
pub(crate) async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return "SIGINT";
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "SIGINT",
    }
}
