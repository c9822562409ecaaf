//! What a restore takes from `cluster.toml`: the nodes of the new cluster and their data directories.

use muster_backup::RestoreNode;
use muster_raft::MemberConfig;

use crate::ServerConfig;

/// All nodes of the file, as the members of a new cluster.
pub fn members(config: &ServerConfig) -> Vec<MemberConfig> {
    let member = |node: &crate::NodeConfig| MemberConfig {
        id: node.id,
        peer: node.peer.to_string(),
        api: node.api.to_string(),
    };
    config.nodes.iter().map(member).collect()
}

/// The directories of these nodes.
pub fn restore_nodes(config: &ServerConfig, nodes: &[u64]) -> Result<Vec<RestoreNode>, String> {
    let node = |id: &u64| {
        let node = config.node(*id)?;
        Ok(RestoreNode {
            node: node.id,
            data: node.data.clone(),
        })
    };
    nodes.iter().map(node).collect()
}
