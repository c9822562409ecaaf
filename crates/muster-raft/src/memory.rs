//! How much memory live jobs may take.
//!
//! Every node holds all live jobs, so what is bounded is the same everywhere, and the smallest node decides: the least bound of
//! the members is that of the cluster. Above it the leader takes no new jobs; the nodes that serve clients refuse the
//! greediest tenants before. Nothing is ever dropped that was accepted. `docs/adr/027-overload.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_core::NodeId;
use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use crate::facts::Facts;
use crate::types::OpenRaft;

/// Between two looks at what the members say.
const LOOK: Duration = Duration::from_millis(500);
/// What refused callers are told to wait.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The least bound that can be set: below it a single large call could fill it.
pub(crate) const LIMIT_MIN: u64 = 16 << 20;

/// Memory for live jobs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Bound of this node; 0 = none.
    own: u64,
    /// The least bound of the members as far as they are heard of; 0 = none.
    limit: AtomicU64,
    /// What live jobs take here.
    used: AtomicU64,
}

/// Memory for live jobs as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes that live jobs take, about.
    pub used: u64,
    /// Bytes that they may take on the smallest node; 0 = not bounded.
    pub limit: u64,
}

impl MemoryUse {
    /// What is left; `u64::MAX` if nothing bounds it.
    pub fn free(self) -> u64 {
        if self.limit == 0 {
            return u64::MAX;
        }
        self.limit.saturating_sub(self.used)
    }
}

impl Memory {
    /// For a node with this bound; 0: none.
    pub(crate) fn new(own: u64) -> Self {
        Self(Arc::new(Inner {
            own,
            limit: AtomicU64::new(own),
            used: AtomicU64::new(0),
        }))
    }

    /// Bound of this node.
    pub(crate) fn own(&self) -> u64 {
        self.0.own
    }

    /// Notes what live jobs take.
    pub(crate) fn set_used(&self, bytes: u64) {
        self.0.used.store(bytes, Ordering::Relaxed);
    }

    /// As it stands.
    pub(crate) fn now(&self) -> MemoryUse {
        MemoryUse {
            used: self.0.used.load(Ordering::Relaxed),
            limit: self.0.limit.load(Ordering::Relaxed),
        }
    }
}

/// The least of some bounds, of which 0 is none.
fn least(bounds: impl IntoIterator<Item = u64>) -> u64 {
    bounds.into_iter().filter(|bound| *bound > 0).min().unwrap_or(0)
}

/// Hears what the members can hold, and says when it is nearly full.
pub(crate) struct MemoryWatch {
    pub(crate) node: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) facts: Facts,
    pub(crate) memory: Memory,
}

impl MemoryWatch {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let used_gauge = metrics::gauge!("muster_jobs_memory_bytes");
        let limit_gauge = metrics::gauge!("muster_jobs_memory_limit_bytes");
        let resident_gauge = metrics::gauge!("muster_resident_bytes");
        let mut nearly_full = false;
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let members = self.raft.server_metrics().borrow_watched().membership_config.clone();
            let others = members.nodes().map(|(node, _)| *node).filter(|node| *node != self.node);
            let heard = others.filter_map(|node| self.facts.jobs_memory(node));
            let limit = least(heard.chain([self.memory.own()]));
            self.memory.0.limit.store(limit, Ordering::Relaxed);
            let now = self.memory.now();
            used_gauge.set(now.used as f64);
            limit_gauge.set(limit as f64);
            if let Some(resident) = resident() {
                resident_gauge.set(resident as f64);
            }
            // Said once on the way up, and once it is clearly over.
            let (used, free) = (now.used, now.free());
            if !nearly_full && free < limit / 5 {
                nearly_full = true;
                tracing::warn!(
                    node = self.node,
                    used,
                    limit,
                    "the memory for live jobs is nearly full: the greediest tenants are refused (muster tenant list)"
                );
            } else if nearly_full && free > limit / 4 {
                nearly_full = false;
                tracing::info!(node = self.node, used, limit, "there is memory for live jobs again");
            }
        }
    }
}

/// Resident memory of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_node_decides() {
        assert_eq!(least([300, 100, 200]), 100);
        assert_eq!(least([0, 500]), 500, "a node without a bound does not count");
        assert_eq!(least([0]), 0);
    }

    #[test]
    fn what_is_left_is_known() {
        let memory = Memory::new(LIMIT_MIN);
        memory.set_used(LIMIT_MIN - 5);
        assert_eq!(memory.now().free(), 5);
        memory.set_used(2 * LIMIT_MIN);
        assert_eq!(memory.now().free(), 0);
        assert_eq!(Memory::new(0).now().free(), u64::MAX);
    }

    #[test]
    fn the_kernel_tells_what_is_resident() {
        assert!(resident().is_some_and(|bytes| bytes > 0));
    }
}
