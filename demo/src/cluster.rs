//! Three nodes as processes of the `muster` binary, from `cluster.toml`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use muster_client::Client;
use tempfile::TempDir;

/// From the start of the processes to a leader.
const START_TIME: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 20;

/// Running nodes. Dropping it ends them, each by its process id.
pub struct Cluster {
    binary: PathBuf,
    config: PathBuf,
    /// API address of each node.
    addresses: BTreeMap<u64, String>,
    nodes: BTreeMap<u64, Child>,
    /// Removed last; kept when something went wrong.
    dir: Option<TempDir>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Cluster {
    /// Starts all nodes of the configuration at `source` with their data in a temporary directory under `parent`, on
    /// the ports it names, or on free ones if one of those is taken.
    pub fn start(binary: &Path, source: &Path, parent: &Path) -> Result<Self> {
        let text = fs::read_to_string(source).with_context(|| format!("reading {}", source.display()))?;
        let dir = tempfile::Builder::new()
            .prefix("muster-demo-")
            .tempdir_in(parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        let (text, addresses) = adapt(&text, dir.path()).with_context(|| format!("reading {}", source.display()))?;
        let config = dir.path().join("cluster.toml");
        fs::write(&config, text).context("writing cluster.toml")?;
        let ids: Vec<u64> = addresses.keys().copied().collect();
        let mut cluster = Self {
            binary: binary.to_owned(),
            config,
            addresses,
            nodes: BTreeMap::new(),
            dir: Some(dir),
        };
        for id in ids {
            cluster.start_node(id)?;
        }
        Ok(cluster)
    }

    /// Starts a node that is not running.
    pub fn start_node(&mut self, id: u64) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(id))
            .context("opening a log file")?;
        let node = Command::new(&self.binary)
            .args(["server", "--config"])
            .arg(&self.config)
            .args(["--node", &id.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicating a log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// Ends a node by SIGKILL and waits until it is gone.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        let mut node = self
            .nodes
            .remove(&id)
            .ok_or_else(|| anyhow!("node {id} is not running"))?;
        node.kill().with_context(|| format!("killing node {id}"))?;
        node.wait().with_context(|| format!("waiting for node {id}"))?;
        Ok(())
    }

    pub fn addresses(&self) -> Vec<String> {
        self.addresses.values().cloned().collect()
    }

    pub fn address(&self, id: u64) -> Option<&str> {
        self.addresses.get(&id).map(String::as_str)
    }

    /// Process ids by node.
    pub fn pids(&self) -> Vec<(u64, u32)> {
        self.nodes.iter().map(|(id, node)| (*id, node.id())).collect()
    }

    /// Fails with the end of its log if a node has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        for (id, node) in &mut self.nodes {
            if let Some(status) = node.try_wait().context("looking at a node")? {
                let log = self.dir.as_ref().map(|dir| dir.path().join(format!("node-{id}.log")));
                let log = log.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let end = lines
                    .get(lines.len().saturating_sub(LOG_LINES)..)
                    .unwrap_or_default()
                    .join("\n");
                bail!("node {id} ended with {status}:\n{end}");
            }
        }
        Ok(())
    }

    /// Waits for the first leader.
    pub async fn leader(&mut self, client: &Client) -> Result<u64> {
        let deadline = Instant::now() + START_TIME;
        loop {
            self.check()?;
            if let Ok(status) = client.cluster_status().await
                && let Some(leader) = status.leader_id
            {
                return Ok(leader);
            }
            if Instant::now() >= deadline {
                bail!("the nodes found no leader within {START_TIME:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keeps data and logs, and says where.
    pub fn keep(&mut self) -> Option<PathBuf> {
        self.dir.take().map(TempDir::keep)
    }

    fn log(&self, id: u64) -> PathBuf {
        self.config.with_file_name(format!("node-{id}.log"))
    }
}

/// The configuration with its data under `dir`, and with other ports if one of its own is taken.
fn adapt(text: &str, dir: &Path) -> Result<(String, BTreeMap<u64, String>)> {
    const PORTS: [&str; 3] = ["api", "peer", "metrics"];
    let mut config: toml::Table = text.parse()?;
    let nodes = config
        .get_mut("node")
        .and_then(toml::Value::as_array_mut)
        .context("it has no [[node]]")?;
    let listens = |node: &toml::Value, key: &str| {
        let address = node.get(key)?.as_str()?.parse::<SocketAddr>().ok()?;
        TcpListener::bind(address).ok()
    };
    // All are held until all are tried, so equal ports are noticed and free ones differ.
    let held: Vec<_> = nodes
        .iter()
        .flat_map(|node| PORTS.map(|key| listens(node, key)))
        .collect();
    let taken = held.iter().any(Option::is_none);
    drop(held);
    let free = if taken {
        free_ports(nodes.len() * PORTS.len())?
    } else {
        Vec::new()
    };
    let mut free = free.into_iter();
    let mut addresses = BTreeMap::new();
    for node in nodes {
        let node = node.as_table_mut().context("[[node]] is not a table")?;
        let id = node
            .get("id")
            .and_then(toml::Value::as_integer)
            .context("a [[node]] has no id")?;
        let data = dir.join(format!("node-{id}"));
        node.insert(
            "data".to_owned(),
            data.to_str().context("the directory's name is not UTF-8")?.into(),
        );
        if taken {
            for key in PORTS {
                let port = free.next().context("too few free ports")?;
                node.insert(key.to_owned(), format!("127.0.0.1:{port}").into());
            }
        }
        let api = node
            .get("api")
            .and_then(toml::Value::as_str)
            .context("a [[node]] has no api")?;
        addresses.insert(u64::try_from(id)?, format!("http://{api}"));
    }
    Ok((config.to_string(), addresses))
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    Ok(held
        .iter()
        .map(TcpListener::local_addr)
        .map(|address| address.map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(api: u16) -> String {
        let [peer, metrics] = free_ports(2).unwrap().try_into().unwrap();
        format!(
            "cluster = \"demo\"\n[raft]\nheartbeat = \"100ms\"\n[[node]]\nid = 1\napi = \"127.0.0.1:{api}\"\n\
             peer = \"127.0.0.1:{peer}\"\nmetrics = \"127.0.0.1:{metrics}\"\ndata = \"data/node-1\"\n"
        )
    }

    #[test]
    fn free_ports_of_the_configuration_are_kept_and_the_data_moves() {
        let api = free_ports(1).unwrap()[0];
        let (text, addresses) = adapt(&source(api), Path::new("/tmp/x")).unwrap();
        assert_eq!(addresses[&1], format!("http://127.0.0.1:{api}"));
        assert!(text.contains("/tmp/x/node-1") && text.contains("heartbeat"), "{text}");
    }

    #[test]
    fn a_taken_port_moves_all() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (_, addresses) = adapt(&source(port), Path::new("/tmp/x")).unwrap();
        assert_ne!(addresses[&1], format!("http://127.0.0.1:{port}"));
    }

    #[test]
    fn a_configuration_without_nodes_is_refused() {
        assert!(adapt("cluster = \"x\"", Path::new("/tmp/x")).is_err());
    }
}
