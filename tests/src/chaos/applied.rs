//! What nodes recorded of the log they applied: asked for at their start, merged into the history at the end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::history::{AppliedReader, Record, digest};

use crate::Cluster;
use crate::chaos::world::World;

/// Environment variable of a node that names where it is to record; as in `muster-server`.
const RECORD_APPLIED: &str = "MUSTER_RECORD_APPLIED";

/// Where the nodes of a run record.
pub(crate) struct AppliedLogs(PathBuf);

impl AppliedLogs {
    /// Tells all nodes to record from their next start on, beside their disks, so that a power cut leaves it whole.
    pub(crate) fn ask(cluster: &mut Cluster) -> Self {
        let dir = cluster.path().join("applied");
        let text = dir.display().to_string();
        for id in cluster.ids() {
            cluster.set_environment(id, RECORD_APPLIED, &text);
        }
        Self(dir)
    }

    /// Writes everything into the history, and the effects of an entry once, unless nodes differ. The nodes must have
    /// ended. Returns the number of records.
    pub(crate) fn merge(&self, world: &World, ids: &[u64]) -> u64 {
        let recorder = &world.recorder;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = (since_epoch.as_micros() as u64).saturating_sub(recorder.now());
        // By index: who wrote its effects, and their digest.
        let mut effects: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut all = 0;
        for id in ids {
            let mut own = 0_u64;
            for entry in AppliedReader::open(&self.0, *id) {
                let mut applied = match entry {
                    Ok(applied) => applied,
                    Err(malformed) => {
                        world.complaints.add(format!("what node {id} recorded: {malformed}"));
                        break;
                    }
                };
                own += 1;
                applied.at = applied.at.saturating_sub(began);
                let text = serde_json::to_vec(&applied.effects).unwrap_or_default();
                let (first, known) = *effects.entry(applied.index).or_insert((*id, digest(&text)));
                if known != digest(&text) {
                    world.complaints.add(format!(
                        "nodes {first} and {id} saw different effects of log index {}",
                        applied.index
                    ));
                } else if first != *id {
                    applied.effects.clear();
                }
                recorder.record(&Record::Applied(applied));
            }
            if own == 0 {
                world
                    .complaints
                    .add(format!("node {id} recorded nothing of what it applied"));
            }
            all += own;
        }
        all
    }

    /// Removes what was merged.
    pub(crate) fn remove(&self) {
        remove(&self.0);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("{} is not removed: {error}", dir.display());
    }
}
