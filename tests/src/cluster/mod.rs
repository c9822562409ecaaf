//! Nodes as processes: three, unless said otherwise.

mod config;
mod newcomer;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use muster_client::{Client, ClusterStatus};
use tempfile::TempDir;

pub use config::NodePorts;

use crate::wait::eventually;

/// Longest start of a node, restart from its log included, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Environment variable of a node that names the directory in which it records what it applies; as in `muster-server`.
pub const RECORD_APPLIED: &str = "MUSTER_RECORD_APPLIED";

/// The `muster` binary of the build that made this test.
///
/// Cargo tells the place of a binary only to tests of its own package, so it is looked for beside the test.
pub fn binary() -> PathBuf {
    beside("muster").unwrap_or_else(|missing| {
        panic!("{missing}; build it first: cargo build --release -p muster (scripts/test does)")
    })
}

/// The same with failpoints; the error says what is missing.
pub(crate) fn binary_with_failpoints() -> Result<PathBuf, String> {
    beside("muster-failpoints").map_err(|missing| format!("{missing}; scripts/failpoints builds it"))
}

fn beside(name: &str) -> Result<PathBuf, String> {
    let test = std::env::current_exe().expect("a test knows its own path");
    // Tests lie one directory below, programs of this package beside it.
    let mut beside = test.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    beside
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the {name} binary is not beside {}", test.display()))
}

/// How a process ended and what it wrote.
#[derive(Debug)]
pub struct Exit {
    /// Exit code; `None`: by a signal.
    pub code: Option<i32>,
    /// Standard error.
    pub stderr: String,
}

struct Process {
    ports: NodePorts,
    config: PathBuf,
    /// Variables of its environment besides those of this process.
    environment: Vec<(String, String)>,
    /// More arguments of `muster server`.
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// A cluster in a directory of its own. Processes end when it is dropped; the directory stays if the test failed.
pub struct Cluster {
    dir: Option<TempDir>,
    path: PathBuf,
    /// What `cluster.toml` has besides the nodes.
    tables: String,
    processes: Vec<Process>,
    /// The program with failpoints, if nodes are that.
    failpoints: Option<PathBuf>,
}

impl Cluster {
    /// Starts three nodes and waits until they have a leader.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more in `cluster.toml`.
    pub async fn start_with(tables: &str) -> Self {
        let mut cluster = Self::prepare(tables);
        cluster.start_all();
        cluster.leader().await;
        cluster
    }

    /// Directory and configuration of three nodes, none of which is started.
    pub fn prepare(tables: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("muster-test-")
            .tempdir()
            .expect("a temporary directory");
        let path = dir.path().to_owned();
        let nodes = NodePorts::choose(3);
        let mut cluster = Self::prepare_in(&path, &nodes, tables, |_| Vec::new());
        cluster.dir = Some(dir);
        cluster
    }

    /// Directory and configuration of these nodes. Each has a file of its own, in which `dial` says where it reaches
    /// others, if not at their addresses: in between there may be a proxy. The directory stays.
    pub fn prepare_in(
        path: &Path,
        nodes: &[NodePorts],
        tables: &str,
        dial: impl Fn(u64) -> Vec<(u64, String)>,
    ) -> Self {
        let mut cluster = Self {
            dir: None,
            path: path.to_owned(),
            tables: tables.to_owned(),
            processes: Vec::new(),
            failpoints: None,
        };
        for own in nodes {
            cluster.place(*own, nodes, &dial(own.id));
        }
        cluster
    }

    fn place(&mut self, own: NodePorts, nodes: &[NodePorts], dial: &[(u64, String)]) {
        self.processes.push(Process {
            ports: own,
            config: config::write(&self.path, own.id, nodes, dial, &self.tables),
            environment: Vec::new(),
            arguments: Vec::new(),
            log: self.log_file(own.id),
            child: None,
        });
    }

    /// Three nodes in a directory below that of this cluster, none of which is started. It lives as long as this one.
    #[must_use]
    pub fn prepare_beside(&self, name: &str, tables: &str) -> Self {
        let path = self.path.join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self::prepare_in(&path, &NodePorts::choose(3), tables, |_| Vec::new())
    }

    /// Configuration file of a node.
    pub fn config_file(&self, id: u64) -> &Path {
        &self.process(id).config
    }

    /// Data directory of a node.
    pub fn data(&self, id: u64) -> PathBuf {
        self.path.join(format!("node-{id}"))
    }

    /// Where configuration, data and logs lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Text of the first node's `cluster.toml`; those of the first nodes of a cluster without proxies are equal.
    pub fn config(&self) -> String {
        self.config_of(self.processes[0].ports.id)
    }

    /// Text of a node's `cluster.toml`.
    pub fn config_of(&self, id: u64) -> String {
        std::fs::read_to_string(&self.process(id).config).expect("written before")
    }

    /// Writes a node's `cluster.toml` anew, for its next start.
    pub fn set_config(&self, id: u64, text: &str) {
        std::fs::write(&self.process(id).config, text).expect("the directory is writable");
    }

    /// Sets a variable in the environment of a node from its next start on.
    pub fn set_environment(&mut self, id: u64, name: &str, value: &str) {
        let environment = &mut self.process_mut(id).environment;
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
    }

    /// From its next start on a node is the program with failpoints, which reads what is armed from [`Cluster::arm`].
    pub(crate) fn use_failpoints(&mut self) -> Result<(), String> {
        self.failpoints = Some(binary_with_failpoints()?);
        Ok(())
    }

    /// The file of what is armed.
    fn armed(&self, id: u64) -> PathBuf {
        self.path.join(format!("failpoints-{id}"))
    }

    /// Arms these failpoints of a node, and no others, now if it runs and at its start if it does not; it need not be
    /// there yet. Names and actions, as `muster-failpoint` has them.
    pub(crate) fn arm<'a>(&self, id: u64, points: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let lines = points.into_iter().map(|(name, actions)| format!("{name}={actions}\n"));
        let lines: String = lines.collect();
        let (file, new) = (self.armed(id), self.path.join("failpoints.new"));
        // In one step: the node may be reading it.
        std::fs::write(&new, lines).expect("the directory is writable");
        std::fs::rename(&new, &file).expect("the directory is writable");
    }

    /// Whether a node is one of this cluster's.
    pub fn has(&self, id: u64) -> bool {
        self.processes.iter().any(|process| process.ports.id == id)
    }

    /// Gives a node more arguments from its next start on.
    pub fn set_arguments(&mut self, id: u64, arguments: &[&str]) {
        self.process_mut(id).arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Process id of a node, if it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        let process = self.processes.iter().find(|process| process.ports.id == id)?;
        process.child.as_ref().map(Child::id)
    }

    /// Whether a node's process was started and has ended by itself, and how; it can be started again then.
    pub fn ended(&mut self, id: u64) -> Option<ExitStatus> {
        let status = self.exited(id)?;
        self.process_mut(id).child = None;
        Some(status)
    }

    /// The same, and it stays so for who looks next.
    pub(crate) fn exited(&mut self, id: u64) -> Option<ExitStatus> {
        self.process_mut(id)
            .child
            .as_mut()?
            .try_wait()
            .expect("a child of ours")
    }

    /// Ids of all nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.processes.iter().map(|process| process.ports.id).collect()
    }

    /// Public address of a node.
    pub fn address(&self, id: u64) -> String {
        format!("http://{}", self.api(id))
    }

    /// Where a node serves clients, as its configuration has it.
    pub fn api(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.process(id).ports.api)
    }

    /// Where a node serves the other nodes, as its configuration has it.
    pub fn peer(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.process(id).ports.peer)
    }

    /// Addresses of all nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.processes
            .iter()
            .map(|process| self.address(process.ports.id))
            .collect()
    }

    fn process(&self, id: u64) -> &Process {
        self.processes
            .iter()
            .find(|process| process.ports.id == id)
            .expect("a node of this cluster")
    }

    fn process_mut(&mut self, id: u64) -> &mut Process {
        self.processes
            .iter_mut()
            .find(|process| process.ports.id == id)
            .expect("a node of this cluster")
    }

    /// A client that knows all nodes.
    pub async fn client(&self) -> Client {
        Client::connect(self.addresses()).await.expect("the cluster serves")
    }

    /// A client that begins at one node; it follows the leader from there.
    pub async fn client_at(&self, id: u64) -> Client {
        Client::connect([self.address(id)]).await.expect("the node serves")
    }

    /// Starts a node that is not running.
    pub fn start_node(&mut self, id: u64) {
        self.start_node_with(id, &[]);
    }

    /// The same with more arguments, which it gets this time only.
    pub fn start_node_with(&mut self, id: u64, arguments: &[&str]) {
        let (program, armed) = match &self.failpoints {
            Some(program) => (program.clone(), Some(("MUSTER_FAILPOINTS", self.armed(id)))),
            None => (binary(), None),
        };
        let process = self.process_mut(id);
        assert!(process.child.is_none(), "node {id} runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&process.log)
            .expect("a log file");
        let child = Command::new(program)
            .envs(armed)
            .arg("server")
            .arg("--config")
            .arg(&process.config)
            .args(["--node", &id.to_string()])
            .args(&process.arguments)
            .args(arguments)
            .env_remove("MUSTER_CONFIG")
            .env_remove("MUSTER_NODE")
            .env_remove("MUSTER_JOIN")
            .env_remove("MUSTER_JOIN_FILE")
            .envs(process.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        process.child = Some(child.expect("the muster binary starts"));
    }

    /// Starts all nodes that are not running.
    pub fn start_all(&mut self) {
        for id in self.ids() {
            if self.process(id).child.is_none() {
                self.start_node(id);
            }
        }
    }

    /// SIGKILL: nothing is flushed, nothing said.
    pub fn kill(&mut self, id: u64) {
        if let Some(mut child) = self.process_mut(id).child.take() {
            child.kill().expect("the node runs");
            child.wait().expect("a child of ours");
        }
    }

    /// SIGKILL to all, as close together as can be.
    pub fn kill_all(&mut self) {
        for process in &mut self.processes {
            if let Some(child) = &mut process.child {
                child.kill().expect("the node runs");
            }
        }
        for process in &mut self.processes {
            if let Some(mut child) = process.child.take() {
                child.wait().expect("a child of ours");
            }
        }
    }

    /// SIGSTOP: the node is silent but its connections stay.
    pub fn pause(&self, id: u64) {
        self.signal(id, "STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.signal(id, "CONT");
    }

    /// SIGTERM; returns when the process has ended.
    pub async fn terminate(&mut self, id: u64) -> Option<i32> {
        self.signal(id, "TERM");
        let mut child = self.process_mut(id).child.take().expect("the node runs");
        let status = eventually("a node ends after SIGTERM", START, || {
            let ended = child.try_wait().expect("a child of ours");
            async move { ended }
        });
        status.await.code()
    }

    /// By the shell's own `kill`: signals other than SIGKILL need no code of ours that way.
    fn signal(&self, id: u64, signal: &str) {
        let pid = self.process(id).child.as_ref().expect("the node runs").id();
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{signal} {pid}"))
            .status();
        assert!(sent.expect("a shell").success(), "SIG{signal} to node {id}");
    }

    /// Runs `muster server` for one node with this configuration until it ends by itself.
    pub async fn run_to_exit(&self, config: &str, id: u64) -> Exit {
        self.run_to_exit_with(config, id, &[]).await
    }

    /// The same with more arguments.
    pub async fn run_to_exit_with(&self, config: &str, id: u64, arguments: &[&str]) -> Exit {
        let file = self.path.join("other.toml");
        std::fs::write(&file, config).expect("the temporary directory is writable");
        let mut command = tokio::process::Command::new(binary());
        command
            .arg("server")
            .arg("--config")
            .arg(file)
            .args(["--node", &id.to_string()])
            .args(arguments);
        command
            .env_remove("MUSTER_JOIN")
            .env_remove("MUSTER_JOIN_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(START, command.output()).await;
        let output = output
            .expect("a node that cannot start ends")
            .expect("the muster binary starts");
        Exit {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What a running node says of the cluster.
    pub async fn status(&self, id: u64) -> Option<ClusterStatus> {
        self.process(id).child.as_ref()?;
        let client = Client::builder()
            .addresses([self.address(id)])
            .deadline(Duration::from_secs(2));
        let client = client.connect_lazy().expect("a good address");
        client.node_status(&self.address(id)).await.ok()
    }

    /// Waits for a leader that a majority of the nodes follows, and returns its id.
    pub async fn leader(&self) -> u64 {
        eventually("a leader", START, || async {
            let mut seen = Vec::new();
            for id in self.ids() {
                seen.extend(
                    self.status(id)
                        .await
                        .and_then(|status| status.leader_id.map(|leader| (status.term, leader))),
                );
            }
            let newest = *seen.iter().max()?;
            let followers = seen.iter().filter(|found| **found == newest).count();
            let runs = self.pid(newest.1).is_some();
            (runs && followers * 2 > self.processes.len()).then_some(newest.1)
        })
        .await
    }

    /// A node that is not the leader.
    pub async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.ids().iter().find(|id| **id != leader).expect("three nodes")
    }

    /// Waits until all nodes have applied the same entry, and checks that they came to the same state.
    pub async fn agree(&self) {
        let ids = self.ids();
        let hashes = eventually("all nodes at one index", START, || async {
            let mut states = Vec::new();
            for id in &ids {
                let status = self.status(*id).await?;
                states.push((status.applied_index, status.state_hash));
            }
            states.windows(2).all(|pair| pair[0].0 == pair[1].0).then_some(states)
        })
        .await;
        assert!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "nodes differ at one index: {hashes:?}"
        );
    }

    /// The file of a node's log lines; the node need not be there yet.
    pub(crate) fn log_file(&self, id: u64) -> PathBuf {
        self.path.join(format!("node-{id}.log"))
    }

    /// The log lines of a node.
    pub fn log(&self, id: u64) -> String {
        std::fs::read_to_string(&self.process(id).log).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("logs and data of the cluster are kept in {}", dir.keep().display());
        }
    }
}
