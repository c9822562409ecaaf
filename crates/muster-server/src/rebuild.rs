//! `muster node rebuild`: marks the data of a stopped node for a refill.

use clap::Args;
use muster_store::Store;

use crate::{Error, ServerConfig, open};

/// `muster node rebuild`.
#[derive(Args, Clone, Debug)]
pub struct RebuildArgs {
    /// The file that names all nodes
    #[arg(long, default_value = "cluster.toml", env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: std::path::PathBuf,
    /// Which of them is to be rebuilt; it must not run
    #[arg(long, env = "MUSTER_NODE", value_name = "ID")]
    pub node: u64,
}

/// Marks the data directory and says what comes next.
pub fn rebuild(args: &RebuildArgs) -> Result<(), Error> {
    let config = ServerConfig::load(&args.config)?;
    let invalid = |reason| Error::Config {
        file: args.config.clone(),
        reason,
    };
    let node = config.node(args.node).map_err(invalid)?.clone();
    let reason = "an operator asked for it with `muster node rebuild`";
    let identity =
        Store::request_refill(config.store_options(&node), reason).map_err(|source| open::refusal(&node, source))?;
    if identity.node != node.id {
        return Err(Error::Raft {
            node: node.id,
            source: muster_raft::Error::OtherNode {
                configured: node.id,
                found: identity.node,
            },
        });
    }
    println!(
        "The data of node {node} ({dir}) will be got anew from the other nodes. Start it:\n\n  muster server --config {config} \
         --node {node}\n\nIt needs a leader among the others, and does not vote until it is done.",
        node = node.id,
        dir = node.data.display(),
        config = args.config.display(),
    );
    Ok(())
}
