//! Ports and `cluster.toml` files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::ports::free_ports;

/// A node's id and ports.
#[derive(Clone, Copy, Debug)]
pub struct NodePorts {
    /// Id.
    pub id: u64,
    /// Clients and workers.
    pub api: u16,
    /// The other nodes.
    pub peer: u16,
    /// Prometheus.
    pub metrics: u16,
}

impl NodePorts {
    /// Nodes from 1 on, with ports that are free now.
    pub fn choose(count: usize) -> Vec<Self> {
        let ports = free_ports(3 * count);
        let node = |at: usize| Self {
            id: at as u64 + 1,
            api: ports[at],
            peer: ports[at + count],
            metrics: ports[at + 2 * count],
        };
        (0..count).map(node).collect()
    }

    /// A node with ports that are free now.
    pub fn of(id: u64) -> Self {
        let node = Self::choose(1)[0];
        Self { id, ..node }
    }

    /// Its `[[node]]`.
    pub fn table(&self) -> String {
        let Self { id, api, peer, metrics } = self;
        format!(
            "\n[[node]]\nid = {id}\napi = \"127.0.0.1:{api}\"\npeer = \"127.0.0.1:{peer}\"\nmetrics = \
             \"127.0.0.1:{metrics}\"\ndata = \"node-{id}\"\n"
        )
    }
}

/// Writes the file of one node: it names these nodes, and where it reaches some of them in another way.
pub(super) fn write(path: &Path, own: u64, nodes: &[NodePorts], dial: &[(u64, String)], tables: &str) -> PathBuf {
    let mut config = "cluster = \"test\"\n".to_owned();
    for node in nodes {
        config.push_str(&node.table());
    }
    if !dial.is_empty() {
        config.push_str("\n[dial]\n");
    }
    for (node, address) in dial {
        let _ = writeln!(config, "{node} = \"{address}\"");
    }
    config.push_str(tables);
    let file = path.join(format!("cluster-{own}.toml"));
    std::fs::write(&file, config).expect("the directory is writable");
    file
}
