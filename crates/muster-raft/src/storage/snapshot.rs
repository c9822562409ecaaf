//! Snapshots as openraft sees them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use muster_failpoint::failpoint;
use muster_store::{PinnedSnapshot, SnapshotInfo};
use openraft::{RaftSnapshotBuilder, Snapshot};

use crate::convert::{self, Malformed};
use crate::storage::checkpoint::Checkpointer;
use crate::types::{Address, LeaderId, SnapshotMeta, TypeConfig};

/// The whole state of a node.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// This node's.
    Own(Arc<PinnedSnapshot>),
    /// A peer's: its packed form, in a file.
    Received(PathBuf),
}

pub(crate) type StateSnapshot = Snapshot<LeaderId, u64, Address, SnapshotData>;

/// Builds a snapshot off the raft thread: it flushes the state and links its files, copying nothing.
pub(crate) struct Builder(pub(crate) Checkpointer);

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<StateSnapshot, io::Error> {
        failpoint!("snapshot.build.before", io::Error::from);
        let checkpointer = self.0.clone();
        let built = tokio::task::spawn_blocking(move || checkpointer.snapshot()).await;
        let pinned = built.map_err(io::Error::other)?.map_err(io::Error::other)?;
        failpoint!("snapshot.build.after", io::Error::from);
        own(pinned).map_err(io::Error::other)
    }
}

/// Adds what openraft wants to know of the content.
pub(crate) fn own(pinned: Arc<PinnedSnapshot>) -> Result<StateSnapshot, Malformed> {
    Ok(Snapshot {
        meta: meta(&pinned.info)?,
        snapshot: SnapshotData::Own(pinned),
    })
}

fn meta(info: &SnapshotInfo) -> Result<SnapshotMeta, Malformed> {
    Ok(SnapshotMeta {
        last_log_id: info.applied.map(convert::log_id),
        last_membership: convert::stored_membership_from_bytes(info.membership.clone())?,
    })
}
