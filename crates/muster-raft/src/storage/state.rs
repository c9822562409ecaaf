//! The applied state of this node.

use std::sync::Arc;

use muster_core::{Core, JobRow};
use muster_store::{Checkpoint, Loaded};

use crate::convert;
use crate::error::Error;
use crate::types::{LogId, StoredMembership};

/// The core with its place in the log and what the next checkpoint must write beside its changes.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) core: Core,
    /// The last entry applied.
    pub(crate) last: Option<LogId>,
    /// The membership applied last.
    pub(crate) membership: StoredMembership,
    /// Jobs that ended since the last checkpoint.
    pub(crate) ended: Vec<Arc<JobRow>>,
}

impl Applied {
    /// The state as it was saved.
    pub(crate) fn restore(loaded: Loaded) -> Result<Self, Error> {
        let damaged = |text: String| Error::Storage(format!("the saved state cannot be restored: {text}"));
        let core = if loaded.applied.is_some() {
            Core::restore(loaded.rows).map_err(|err| damaged(err.to_string()))?
        } else {
            Core::new()
        };
        Ok(Self {
            core,
            last: loaded.applied.map(convert::log_id),
            membership: convert::stored_membership_from_bytes(loaded.membership)
                .map_err(|err| damaged(err.to_string()))?,
            ended: Vec::new(),
        })
    }

    /// Takes what changed since it was last called.
    pub(crate) fn take_checkpoint(&mut self) -> Checkpoint {
        Checkpoint {
            changes: self.core.take_changes(),
            ended: std::mem::take(&mut self.ended),
            applied: self.last.map(convert::position),
            membership: convert::stored_membership_bytes(&self.membership),
        }
    }
}
