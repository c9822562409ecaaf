//! Opening a data directory, also one that is damaged.

use muster_raft::RaftOptions;
use muster_store::{DamagedStore, Error as StoreError, Store, StoreOptions};
use tracing::{info, warn};

use crate::{Error, NodeConfig};

/// Opens the data of a node. Damaged data is put aside once the other nodes have a leader that can bring it again; until
/// then this waits. What cannot be mended so is refused.
pub(crate) async fn open(node: &NodeConfig, options: StoreOptions, raft: &RaftOptions) -> Result<Store, Error> {
    let refused = |source| refusal(node, source);
    let damage = match blocking(node, options.clone(), Store::open).await? {
        Ok(store) => return Ok(store),
        Err(error) if error.is_damage() => error.to_string(),
        Err(error) => return Err(refused(error)),
    };
    let damaged = blocking(node, options, DamagedStore::open).await?.map_err(refused)?;
    let identity = damaged.identity();
    if identity.node != node.id {
        let source = muster_raft::Error::OtherNode {
            configured: node.id,
            found: identity.node,
        };
        return Err(Error::Raft { node: node.id, source });
    }
    warn!(node = node.id, data = %node.data.display(), damage, "the data is damaged; this node refills itself from the others");
    let waited = muster_raft::wait_for_leader(raft, identity.cluster, damaged.members(), &damage).await;
    let leader = waited.map_err(|source| Error::Raft { node: node.id, source })?;
    let store = blocking(node, damaged, DamagedStore::empty).await?.map_err(refused)?;
    info!(node = node.id, leader, "the damaged data was put aside");
    Ok(store)
}

pub(crate) fn refusal(node: &NodeConfig, source: StoreError) -> Error {
    match source {
        StoreError::MarkLost { detail } => Error::VotesLost {
            node: node.id,
            dir: node.data.clone(),
            detail,
        },
        source => Error::Store {
            node: node.id,
            dir: node.data.clone(),
            source,
        },
    }
}

async fn blocking<A: Send + 'static, R: Send + 'static>(
    node: &NodeConfig,
    argument: A,
    call: impl FnOnce(A) -> R + Send + 'static,
) -> Result<R, Error> {
    tokio::task::spawn_blocking(move || call(argument))
        .await
        .map_err(|error| Error::Node {
            node: node.id,
            reason: format!("opening the data directory: {error}"),
        })
}
