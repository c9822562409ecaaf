//! What nodes recorded of the log they applied: asked for at their start, merged into the history at the end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::history::{AppliedReader, Record, digest};

use crate::chaos::world::World;
use crate::{Cluster, RECORD_APPLIED};

/// Where the nodes of a run record.
pub(crate) struct AppliedLogs(PathBuf);

impl AppliedLogs {
    /// Where the nodes of a cluster record: beside their disks, so that a power cut leaves it whole.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self(cluster.path().join("applied"))
    }

    /// Tells a node to record from its next start on.
    pub(crate) fn ask(cluster: &mut Cluster, id: u64) {
        let dir = Self::of(cluster).0.display().to_string();
        cluster.set_environment(id, RECORD_APPLIED, &dir);
    }

    /// Writes everything into the history, and the effects of an entry once, unless nodes differ. The nodes must have
    /// ended. `last`: the highest id that a node ever had; `ids`: the nodes that are there at the end, which must have
    /// recorded something. Returns the number of records.
    pub(crate) fn merge(&self, world: &World, last: u64, ids: &[u64]) -> u64 {
        let recorder = &world.recorder;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = (since_epoch.as_micros() as u64).saturating_sub(recorder.now());
        // By index: who wrote its effects, and their digest.
        let mut effects: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut all = 0;
        for id in 1..=last {
            let mut own = 0_u64;
            for entry in AppliedReader::open(&self.0, id) {
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
                let (first, known) = *effects.entry(applied.index).or_insert((id, digest(&text)));
                if known != digest(&text) {
                    world.complaints.add(format!(
                        "nodes {first} and {id} saw different effects of log index {}",
                        applied.index
                    ));
                } else if first != id {
                    applied.effects.clear();
                }
                recorder.record(&Record::Applied(applied));
            }
            if own == 0 && ids.contains(&id) {
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
