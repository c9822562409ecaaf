//! Snapshots as openraft sees them: a file of the store.

use std::io;

use muster_store::SnapshotFile;
use openraft::{RaftSnapshotBuilder, Snapshot};

use crate::convert::{self, Malformed};
use crate::storage::checkpoint::Checkpointer;
use crate::types::{Address, LeaderId, SnapshotMeta, TypeConfig};

pub(crate) type FileSnapshot = Snapshot<LeaderId, u64, Address, SnapshotFile>;

/// Builds a snapshot off the raft thread.
pub(crate) struct Builder(pub(crate) Checkpointer);

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<FileSnapshot, io::Error> {
        let checkpointer = self.0.clone();
        let built = tokio::task::spawn_blocking(move || checkpointer.snapshot()).await;
        let file = built.map_err(io::Error::other)?.map_err(io::Error::other)?;
        with_meta(file).map_err(io::Error::other)
    }
}

/// Adds what openraft wants to know of the content.
pub(crate) fn with_meta(file: SnapshotFile) -> Result<FileSnapshot, Malformed> {
    Ok(Snapshot {
        meta: SnapshotMeta {
            last_log_id: file.info.applied.map(convert::log_id),
            last_membership: convert::stored_membership_from_bytes(file.info.membership.clone())?,
        },
        snapshot: file,
    })
}
