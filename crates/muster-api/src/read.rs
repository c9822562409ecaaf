//! How fresh the answer to a read is: linearizable, or stale with a statement of its age.

use muster_core::{Name, TenantId, Timestamp};
use muster_proto::v1;
use muster_raft::Freshness;
use tokio::time::Instant;

use crate::api::Api;
use crate::convert;
use crate::errors::{Error, Violation};
use crate::reason::Reason;

/// A read that may look at this node's state now.
pub(crate) struct Read(Option<Stale>);

/// What is said of a stale answer. Taken before the state is looked at, so that it never promises too much.
struct Stale {
    freshness: Freshness,
    applied_at: Timestamp,
    node: u64,
}

impl Read {
    /// For the answer; `None` when it is linearizable.
    pub(crate) fn freshness(&self) -> Option<v1::Freshness> {
        let stale = self.0.as_ref()?;
        Some(v1::Freshness {
            applied_index: stale.freshness.applied,
            age: stale.freshness.age.map(convert::duration),
            applied_at: convert::timestamp(stale.applied_at),
            node_id: stale.node,
        })
    }
}

impl Api {
    /// Waits until this node may answer: for a linearizable read until it has applied all that was acknowledged before
    /// the call, for a stale one not at all.
    pub(crate) async fn begin_read(&self, consistency: i32, deadline: Instant) -> Result<Read, Error> {
        match v1::Consistency::try_from(consistency) {
            Ok(v1::Consistency::Unspecified) => {
                self.linearize(deadline).await?;
                Ok(Read(None))
            }
            Ok(v1::Consistency::Stale) => {
                let freshness = self.raft().freshness();
                let applied_at = self.raft().read(|core| core.meta().now);
                Ok(Read(Some(Stale {
                    freshness,
                    applied_at,
                    node: self.raft().node(),
                })))
            }
            Err(_) => Err(Violation::new(
                Reason::EnumInvalid,
                "consistency",
                consistency.to_string(),
                "CONSISTENCY_UNSPECIFIED (0) or CONSISTENCY_STALE (1)",
            )
            .into()),
        }
    }

    /// The tenant as the read sees it. A linearizable read sees every tenant there is; a stale one need not.
    pub(crate) fn tenant_of_read(&self, name: &Name) -> Result<TenantId, Error> {
        let id = self.raft().read(|core| core.tenant_id(name));
        id.ok_or_else(|| Error::TenantNotFound(name.clone()))
    }
}
