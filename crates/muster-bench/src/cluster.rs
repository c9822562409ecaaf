//! A cluster of processes on this machine, for one measurement.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_client::Client;
use tempfile::TempDir;
use tokio::time::Instant;

/// From the start of the processes to a leader.
const START_TIME: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 20;

/// Running nodes. Dropping it ends them, by their ids, and removes their data.
pub struct Cluster {
    server: PathBuf,
    config: PathBuf,
    nodes: Vec<Child>,
    /// Of its public interface, node by node.
    pub addresses: Vec<String>,
    // Dropped after the nodes are ended.
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The data goes away with them, so there is nothing to be saved by an orderly end.
        for node in &mut self.nodes {
            let _ = node.kill();
        }
        for node in &mut self.nodes {
            let _ = node.wait();
        }
    }
}

impl Cluster {
    /// Starts `count` nodes of `server` under `parent` and waits for their leader. `upkeep`: with settings for those scenarios.
    pub async fn start(server: Option<&Path>, count: u32, parent: &Path, upkeep: bool) -> Result<Self> {
        let server = match server {
            Some(server) => server.to_owned(),
            None => std::env::current_exe().context("finding this program's own file")?,
        };
        let dir = tempfile::Builder::new()
            .prefix("muster-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        let ports = free_ports(3 * count as usize)?;
        let mut config = "cluster = \"bench\"\n".to_owned();
        let mut cluster = Self {
            server,
            config: dir.path().join("cluster.toml"),
            nodes: Vec::new(),
            addresses: Vec::new(),
            dir,
        };
        for (id, ports) in (1..=count).zip(ports.chunks_exact(3)) {
            let [api, peer, metrics] = ports else { continue };
            let data = cluster.path().join(format!("node-{id}"));
            write!(
                config,
                "\n[[node]]\nid = {id}\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\n\
                 metrics = \"127.0.0.1:{metrics}\"\ndata = '{}'\n",
                data.display()
            )?;
            cluster.addresses.push(format!("http://127.0.0.1:{api}"));
        }
        if upkeep {
            config.push_str(&crate::scenario::upkeep::tables(cluster.path()));
        }
        fs::write(&cluster.config, config).context("writing cluster.toml")?;
        for node in 0..count as usize {
            cluster.spawn(node)?;
        }
        cluster.wait_for_leader().await?;
        Ok(cluster)
    }

    /// Starts a node, counted from 0, that is new or was killed.
    pub(crate) fn spawn(&mut self, node: usize) -> Result<()> {
        let log = self.log(node as u32 + 1);
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("opening a log file")?;
        let child = Command::new(&self.server)
            .arg("server")
            .arg("--config")
            .arg(&self.config)
            .arg("--node")
            .arg((node + 1).to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicating the log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.server.display()))?;
        match self.nodes.get_mut(node) {
            Some(place) => *place = child,
            None => self.nodes.push(child),
        }
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) -> Result<()> {
        let node = self.nodes.get_mut(node).context("no such node")?;
        node.kill().context("killing a node")?;
        node.wait().context("waiting for a killed node")?;
        Ok(())
    }

    /// The program that the nodes run.
    pub(crate) fn server(&self) -> &Path {
        &self.server
    }

    /// Their configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.config.clone()
    }

    /// What a node, counted from 0, has logged.
    pub(crate) fn log_text(&self, node: usize) -> String {
        fs::read_to_string(self.log(node as u32 + 1)).unwrap_or_default()
    }

    /// A configuration of the same nodes with other data directories, to restore into.
    pub(crate) fn restored_config(&self, number: usize) -> Result<PathBuf> {
        let text = fs::read_to_string(&self.config).context("reading cluster.toml")?;
        let data = format!("{}/node-", self.path().display());
        let restored = format!("{}/restored-{number}-node-", self.path().display());
        let file = self.path().join(format!("restored-{number}.toml"));
        fs::write(&file, text.replace(&data, &restored)).context("writing a configuration")?;
        Ok(file)
    }

    /// Ends all nodes; those started from now on are of another configuration.
    pub(crate) fn switch_to(&mut self, config: &Path) -> Result<()> {
        for node in 0..self.nodes.len() {
            self.kill(node)?;
        }
        config.clone_into(&mut self.config);
        Ok(())
    }

    /// Where everything of it lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Process ids of its nodes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Child::id).collect()
    }

    fn log(&self, id: u32) -> PathBuf {
        self.path().join(format!("node-{id}.log"))
    }

    async fn wait_for_leader(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        let client = Client::builder()
            .addresses(&self.addresses)
            .deadline(Duration::from_secs(1))
            .connect_lazy()?;
        loop {
            for (id, node) in (1..).zip(&mut self.nodes) {
                if let Some(status) = node.try_wait().context("looking at a node")? {
                    let log = fs::read_to_string(self.dir.path().join(format!("node-{id}.log"))).unwrap_or_default();
                    let lines: Vec<_> = log.lines().collect();
                    let end = lines
                        .get(lines.len().saturating_sub(LOG_LINES)..)
                        .unwrap_or_default()
                        .join("\n");
                    bail!("node {id} ended with {status}:\n{end}");
                }
            }
            match client.cluster_status().await {
                Ok(status) if status.leader_id.is_some() => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context(format!("no leader within {START_TIME:?}"));
                }
                Ok(_) | Err(_) => {}
            }
            if Instant::now() >= deadline {
                bail!("no leader within {START_TIME:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Ports that are free now. All are held until all are known, so they differ.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("finding free ports")?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let server = Path::new("/bin/false");
        let error = Cluster::start(Some(server), 1, dir.path(), false)
            .await
            .err()
            .expect("no cluster");
        assert!(error.to_string().contains("node 1 ended"), "{error:#}");
    }

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(9).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
    }
}
