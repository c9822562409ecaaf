//! A node that writes down what it applies, for tests that judge it.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_core::{NodeId, SessionId};
use muster_node::NodeHub;
use muster_raft::{AppliedEntry, ApplySink, ApplyWitness, WitnessedEntry};
use muster_record::{Applied, AppliedLog, digest, effects};
use tracing::error;

/// Environment variable that names the directory in which a node records every entry it applies. For tests alone.
pub const RECORD_APPLIED: &str = "MUSTER_RECORD_APPLIED";

/// From one entry with the core's own counts to the next.
const COUNTED_EVERY: u64 = 64;

/// Passes on to the hub what it is told, and records every entry.
pub(crate) struct Witness {
    hub: Arc<NodeHub>,
    log: AppliedLog,
}

impl Witness {
    /// Begins a new file in this directory.
    pub(crate) fn begin(hub: Arc<NodeHub>, dir: &Path, node: NodeId) -> std::io::Result<Self> {
        let log = AppliedLog::create(dir, node)?;
        Ok(Self { hub, log })
    }
}

impl ApplySink for Witness {
    fn applied(&self, applied: &AppliedEntry) {
        self.hub.applied(applied);
    }

    fn restored(&self) {
        self.hub.restored();
    }

    fn vouched(&self, from: NodeId, sessions: &[SessionId]) {
        self.hub.vouched(from, sessions);
    }

    fn witness(&self) -> Option<&dyn ApplyWitness> {
        Some(self)
    }
}

impl ApplyWitness for Witness {
    fn applied(&self, entry: &WitnessedEntry<'_>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let meta = entry.core.meta();
        let counted = entry.index.is_multiple_of(COUNTED_EVERY);
        let repeat = |position, _| entry.applied.repeated.contains(&(position as u32));
        let record = Applied {
            at: since.as_micros() as u64,
            node: self.log.node(),
            life: self.log.life(),
            index: entry.index,
            term: entry.term,
            digest: digest(&entry.data),
            now: meta.now,
            hash: meta.hash,
            effects: effects(entry.core, entry.commands, entry.applied, repeat, counted),
        };
        if let Err(error) = self.log.append(&record) {
            error!(%error, index = entry.index, "applied entries are not recorded any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::{Batch, Command, Core};
    use muster_record::AppliedReader;

    use super::*;

    #[test]
    fn an_entry_is_recorded_with_its_hash_and_digest() {
        let dir = tempfile::tempdir().unwrap();
        let witness = Witness::begin(NodeHub::new(), dir.path(), 3).unwrap();
        let mut core = Core::new();
        let commands = vec![Command::Bootstrap { cluster: 5 }];
        let batch = Batch {
            stamped_at: 7,
            commands: commands.clone(),
        };
        let applied = core.apply(1, batch);
        let entry = WitnessedEntry {
            index: 1,
            term: 4,
            data: "bytes".into(),
            commands: &commands,
            applied: &applied,
            core: &core,
        };
        ApplyWitness::applied(&witness, &entry);
        let read: Vec<_> = AppliedReader::open(dir.path(), 3).map(Result::unwrap).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].index, read[0].term, read[0].now), (1, 4, 7));
        assert_eq!(read[0].hash, core.meta().hash);
        assert_eq!(read[0].digest, digest(b"bytes"));
    }
}
