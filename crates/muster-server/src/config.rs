//! `cluster.toml`: one file for all nodes of a cluster. `docs/configuration.md` is its reference.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_api::ApiOptions;
use muster_backup::BackupOptions;
use muster_node::NodeOptions;
use muster_raft::{MemberConfig, RaftOptions};
use muster_store::StoreOptions;
use serde::Deserialize;

use crate::Error;
use crate::memory::MemoryPlan;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Name of the cluster, for people. Required.
    pub cluster: String,
    /// The nodes, one table each.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeConfig>,
    /// Where this node reaches others that it does not reach at their `peer` address, by id: through a tunnel or proxy of
    /// its machine. Default: none.
    #[serde(default)]
    pub dial: BTreeMap<u64, SocketAddr>,
    /// The replicated log.
    #[serde(default)]
    pub raft: RaftTable,
    /// The data directory.
    #[serde(default)]
    pub store: StoreTable,
    /// Sessions, actors, checkpoints, local workers.
    #[serde(default)]
    pub server: NodeOptions,
    /// The public interface.
    #[serde(default)]
    pub api: ApiOptions,
    /// Backups and the archive of the log.
    #[serde(default)]
    pub backup: BackupOptions,
    /// Highest feature level that the node is to understand. From the command line, not from the file.
    #[serde(skip)]
    pub level_max: Option<u32>,
}

/// One `[[node]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Identity, from 1; never reused, also not after the node's disk was lost.
    pub id: u64,
    /// Where clients and workers connect.
    pub api: SocketAddr,
    /// Where the other nodes connect.
    pub peer: SocketAddr,
    /// Where Prometheus scrapes; absent: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Data directory; relative to the file.
    pub data: PathBuf,
}

/// The `[raft]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftTable {
    /// Interval of the leader's heartbeats. Default `"100ms"`.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// Least silence after which a follower stands for election. Default `"500ms"`, at least three heartbeats.
    #[serde(with = "duration")]
    pub election_min: Duration,
    /// Greatest such silence. Default `"900ms"`.
    #[serde(with = "duration")]
    pub election_max: Duration,
    /// Log kept for nodes that were away; one that needs more gets a snapshot. Default `"256MiB"`, at least `"1MiB"`.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub log_keep_bytes: usize,
    /// Older entries are dropped even if the log is small. Default `"1h"`, at least `"1m"`.
    #[serde(with = "duration")]
    pub log_keep: Duration,
    /// Entries between two hashes of the state that the nodes compare. Default 4096, from 1.
    pub state_hash_every: u64,
    /// On the leader: new jobs are refused while commands wait longer than this for their turn. Default `"1s"`, at least `"100ms"`.
    #[serde(with = "duration")]
    pub lag_max: Duration,
    /// Memory that the process is to stay below when more comes in than it can do: live jobs may take what log, cache and
    /// buffers leave of it. The least of all nodes counts. Default: half of the memory of the machine or of its control group; `"0B"`
    /// bounds nothing.
    #[serde(deserialize_with = "crate::size::deserialize_some")]
    pub memory_limit: Option<usize>,
}

impl Default for RaftTable {
    fn default() -> Self {
        let options = RaftOptions::new(0, Vec::new());
        Self {
            heartbeat: options.heartbeat,
            election_min: options.election_min,
            election_max: options.election_max,
            log_keep_bytes: options.log_keep_bytes as usize,
            log_keep: options.log_keep,
            state_hash_every: options.state_hash_every,
            lag_max: options.lag_max,
            memory_limit: None,
        }
    }
}

/// The `[store]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreTable {
    /// Newest log entries kept in memory. Default `"48MiB"`.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub log_tail: usize,
    /// Memory for cached blocks of rows and history. Default `"64MiB"`.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub cache: usize,
    /// Room that is to stay free on the file system of the data directory. Default: `"512MiB"`, at most 5 % of the file system;
    /// `"0B"` watches nothing.
    #[serde(deserialize_with = "crate::size::deserialize_some")]
    pub disk_reserve: Option<usize>,
    /// Longest time between flushes of the state: bounds the replay after a restart. Default `"10s"`.
    #[serde(with = "duration")]
    pub flush_interval: Duration,
}

impl Default for StoreTable {
    fn default() -> Self {
        let options = StoreOptions::new("");
        Self {
            log_tail: options.tail_bytes_max,
            cache: options.cache_bytes,
            disk_reserve: None,
            flush_interval: options.flush_interval,
        }
    }
}

impl ServerConfig {
    /// Reads and checks a file. Data directories become absolute or relative to the process.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Config {
            file: file.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| invalid(format!("cannot be read: {error}")))?;
        let mut config = Self::parse(&text).map_err(invalid)?;
        let base = file.parent().unwrap_or(Path::new(""));
        for node in &mut config.nodes {
            node.data = base.join(&node.data);
        }
        config.backup.sign_key = config.backup.sign_key.map(|key| base.join(key));
        Ok(config)
    }

    /// Reads and checks a text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.validate()?;
        Ok(config)
    }

    /// Checks relations between values.
    fn validate(&self) -> Result<(), String> {
        if self.cluster.is_empty() || self.cluster.len() > 128 {
            return Err(format!(
                "cluster is {:?}, must be a name of 1 to 128 bytes",
                self.cluster
            ));
        }
        if self.nodes.is_empty() {
            return Err(
                "there is no [[node]]; a cluster has at least one, three to survive the loss of one".to_owned(),
            );
        }
        let mut seen: Vec<(String, u64, &str)> = Vec::new();
        for node in &self.nodes {
            if node.id == 0 {
                return Err("id of a [[node]] is 0, must be from 1".to_owned());
            }
            let metrics = node.metrics.map(|address| (address.to_string(), "metrics"));
            let places = [
                (node.api.to_string(), "api"),
                (node.peer.to_string(), "peer"),
                (node.data.display().to_string(), "data"),
                (format!("id {}", node.id), "id"),
            ];
            for (place, key) in places.into_iter().chain(metrics) {
                if let Some((_, other, other_key)) = seen.iter().find(|(known, ..)| *known == place) {
                    return Err(format!(
                        "{key} of node {} is {place}, already used as {other_key} of node {other}",
                        node.id
                    ));
                }
                seen.push((place, node.id, key));
            }
            for (key, address) in [("api", node.api), ("peer", node.peer)] {
                if address.port() == 0 {
                    return Err(format!(
                        "{key} of node {} is {address}, needs a port other than 0",
                        node.id
                    ));
                }
                // There is no authentication yet, so nothing listens where strangers could reach it.
                if !address.ip().is_loopback() {
                    return Err(format!(
                        "{key} of node {} is {address}, must be a loopback address: connections are neither \
                         authenticated nor encrypted yet",
                        node.id
                    ));
                }
            }
        }
        if let Some((node, address)) = self.dial.iter().find(|(_, address)| !address.ip().is_loopback()) {
            return Err(format!(
                "[dial] {node} is {address}, must be a loopback address: connections are neither authenticated nor \
                 encrypted yet"
            ));
        }
        if self.raft.memory_limit.is_some() {
            self.memory().validate()?;
        }
        self.raft_options(self.nodes[0].id)
            .validate()
            .map_err(|error| error.to_string())?;
        self.server.validate().map_err(|error| format!("[server] {error}"))?;
        self.backup.validate().map_err(|error| format!("[backup] {error}"))?;
        self.api.validate().map_err(|error| format!("[api] {error}"))
    }

    /// The table of one node.
    pub fn node(&self, id: u64) -> Result<&NodeConfig, String> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| {
            let ids: Vec<_> = self.nodes.iter().map(|node| node.id.to_string()).collect();
            format!("there is no [[node]] with id = {id}; the file has {}", ids.join(", "))
        })
    }

    /// Options of the replicated log for one node.
    pub(crate) fn raft_options(&self, id: u64) -> RaftOptions {
        let memory = self.memory();
        let members = self.nodes.iter().map(|node| MemberConfig {
            id: node.id,
            peer: node.peer.to_string(),
            api: node.api.to_string(),
        });
        RaftOptions {
            heartbeat: self.raft.heartbeat,
            election_min: self.raft.election_min,
            election_max: self.raft.election_max,
            lag_max: self.raft.lag_max,
            jobs_memory: memory.jobs,
            waiting_bytes_max: memory.waiting as usize,
            log_keep_bytes: self.raft.log_keep_bytes as u64,
            log_keep: self.raft.log_keep,
            log_hold_bytes: if self.backup.archives() {
                self.backup.archive_hold_bytes
            } else {
                0
            },
            dial: self
                .dial
                .iter()
                .map(|(node, address)| (*node, address.to_string()))
                .collect(),
            state_hash_every: self.raft.state_hash_every,
            level_max: self.level_max.unwrap_or(muster_core::LEVEL_MAX),
            ..RaftOptions::new(id, members.collect())
        }
    }

    /// How the memory of the process is divided.
    pub(crate) fn memory(&self) -> MemoryPlan {
        let limit = self.raft.memory_limit.map(|bytes| bytes as u64);
        MemoryPlan::new(limit, (self.store.log_tail + self.store.cache) as u64)
    }

    /// Options of the public interface.
    pub(crate) fn api_options(&self) -> ApiOptions {
        ApiOptions {
            job_bytes_max: self.memory().arriving as usize,
            ..self.api.clone()
        }
    }

    /// Options of the data directory of one node.
    pub(crate) fn store_options(&self, node: &NodeConfig) -> StoreOptions {
        StoreOptions {
            tail_bytes_max: self.store.log_tail,
            cache_bytes: self.store.cache,
            log_buffer_bytes: self.memory().log_buffer as usize,
            disk_reserve: self.store.disk_reserve.map(|bytes| bytes as u64),
            flush_interval: self.store.flush_interval,
            level_max: self.level_max.unwrap_or(muster_core::LEVEL_MAX),
            ..StoreOptions::new(&node.data)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        cluster = "demo"
        [[node]]
        id = 1
        api = "127.0.0.1:7001"
        peer = "127.0.0.1:7101"
        metrics = "127.0.0.1:7201"
        data = "data/node-1"
        [[node]]
        id = 2
        api = "127.0.0.1:7002"
        peer = "127.0.0.1:7102"
        data = "data/node-2"
    "#;

    fn load(text: &str) -> Result<ServerConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        ServerConfig::load(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_crates_and_data_lies_beside_the_file() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.raft.heartbeat, Duration::from_millis(100));
        assert_eq!(config.store.log_tail, 48 << 20);
        assert!(config.nodes[0].data.is_absolute());
        assert!(config.nodes[0].data.ends_with("data/node-1"));
        assert_eq!(config.nodes[1].metrics, None);
        assert!(config.raft_options(1).dial.is_empty());
    }

    #[test]
    fn what_bounds_memory_follows_from_one_key() {
        let config = load(&format!("{GOOD}\n[raft]\nmemory_limit = \"512MiB\"")).unwrap();
        let memory = config.memory();
        let raft = config.raft_options(1);
        assert_eq!(
            (raft.jobs_memory, raft.waiting_bytes_max as u64),
            (memory.jobs, memory.waiting)
        );
        assert_eq!(config.api_options().job_bytes_max as u64, memory.arriving);
        assert_eq!(
            config.store_options(&config.nodes[0]).log_buffer_bytes as u64,
            memory.log_buffer
        );
        assert!(memory.jobs > 60 << 20 && memory.jobs < 70 << 20, "{memory:?}");
    }

    #[test]
    fn a_node_may_be_reached_in_another_way() {
        let config = load(&format!(
            "{GOOD}\n[dial]\n2 = \"127.0.0.1:9102\"\n7 = \"127.0.0.1:9107\""
        ))
        .unwrap();
        let dial = config.raft_options(1).dial;
        assert_eq!(dial.get(&2).map(String::as_str), Some("127.0.0.1:9102"));
        assert_eq!(dial.len(), 2, "also of nodes that join later");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |from: &str, to: &str, expected: &str| {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{to:?}: {error}");
            assert!(error.contains("cluster.toml"), "{error}");
        };
        check(
            "cluster = \"demo\"",
            "cluster = \"demo\"\ncolour = 1",
            "unknown field `colour`",
        );
        check("id = 1", "id = 1\ncolour = 1", "unknown field `colour`");
        check("id = 1", "id = 0", "id of a [[node]] is 0");
        check("id = 2", "id = 1", "already used as id of node 1");
        check("127.0.0.1:7002", "127.0.0.1:7101", "already used as peer of node 1");
        check("data/node-2", "data/node-1", "already used as data of node 1");
        check("127.0.0.1:7001", "127.0.0.1", "invalid socket address");
        check("127.0.0.1:7001", "127.0.0.1:0", "needs a port");
        check("127.0.0.1:7001", "0.0.0.0:7001", "must be a loopback address");
        check("\"demo\"", "\"\"", "must be a name");
        let check = |table: &str, expected: &str| {
            let error = load(&format!("{GOOD}\n{table}")).unwrap_err();
            assert!(error.contains(expected), "{table:?}: {error}");
        };
        check(
            "[raft]\nheartbeat = \"400ms\"",
            "election_min is 500ms, must be at least three heartbeats of 400ms",
        );
        check("[raft]\nheartbeat = 100", "heartbeat");
        check("[raft]\nstate_hash_every = 0", "state_hash_every is 0, must be from 1");
        check("[store]\ncache = \"64\"", "is not a size");
        check("[store]\ndisk_reserve = \"much\"", "is not a size");
        check(
            "[raft]\nmemory_limit = \"1MiB\"",
            "memory_limit is 1048576 bytes, must be 0 or at least",
        );
        check("[raft]\nlag_max = \"1ms\"", "lag_max is 1ms, must be at least 100ms");
        check("[server]\nsessions_max = 0", "sessions_max");
        check("[server]\nbeat = 0", "unknown field `beat`");
        check("[backup]\nurl = \"/backups\"", "keygen");
        check("[backup]\nurl = \"/backups\"\nunsigned = true\nkeep = 0", "keep is 0");
        check("[backup]\narchive_bytes = \"4\"", "is not a size");
        check(
            "[backup]\nurl = \"/backups\"\nunsigned = true\narchive_hold_bytes = \"1MiB\"",
            "log_hold_bytes is 1048576 bytes, must be 0 or at least log_keep_bytes",
        );
        check("[dial]\n2 = \"10.0.0.2:7102\"", "[dial] 2 is 10.0.0.2:7102");
        check("[dial]\ntwo = \"127.0.0.1:7102\"", "two");
    }

    #[test]
    fn a_missing_file_and_a_missing_node_are_named() {
        let error = ServerConfig::load(Path::new("no/such/cluster.toml")).unwrap_err();
        assert!(
            error.to_string().contains("no/such/cluster.toml: cannot be read"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        let error = load(GOOD).unwrap().node(7).unwrap_err();
        assert!(error.contains("id = 7") && error.contains("1, 2"), "{error}");
    }
}
