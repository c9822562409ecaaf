//! Making data directories of a new cluster from a backup and the archived log.

mod fetch;
mod plan;
mod replay;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use muster_core::{LogIndex, NodeId};
use muster_raft::offline::{Beginning, INDEX_GAP, OfflineState};
use muster_raft::{MemberConfig, StateFacts};
use muster_store::{Store, StoreOptions, offline};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::keys::Trust;
use crate::location::Location;
use crate::manifest::{Jobs, Manifest, Position, time};
use crate::progress::{Meter, ProgressSink, Step};
use crate::repository::Repository;

pub(crate) use self::fetch::fetch_state;
pub(crate) use self::plan::Plan;
pub(crate) use self::replay::replay;

/// A point to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// All that had happened at an instant, by replicated time.
    Instant(Timestamp),
    /// All up to a log entry.
    Index(LogIndex),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instant(at) => at.fmt(f),
            Self::Index(index) => write!(f, "log index {index}"),
        }
    }
}

/// A node of the new cluster whose directory is to be made here.
#[derive(Clone, Debug)]
pub struct RestoreNode {
    /// Its id.
    pub node: NodeId,
    /// Its data directory, which must be empty.
    pub data: PathBuf,
}

/// What to restore, and as what.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Where the backups are.
    pub location: Location,
    /// The cluster that was backed up; `None`: the only one there.
    pub from_cluster: Option<u128>,
    /// The backup to begin with; `None`: the newest from which `at` can be reached.
    pub backup: Option<String>,
    /// The point; `None`: that of `backup` if one is named, else the end of all that is there.
    pub at: Option<At>,
    /// Whose signatures are believed.
    pub trust: Trust,
    /// Directories to be made on this machine.
    pub nodes: Vec<RestoreNode>,
    /// All nodes of the new cluster.
    pub members: Vec<MemberConfig>,
    /// Id of the new cluster, as another machine's restore chose it; `None`: a new one.
    pub cluster: Option<u128>,
    /// Log index at which the new cluster begins, as another machine's restore chose it.
    pub begin_index: Option<LogIndex>,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The cluster that was backed up.
    pub from_cluster: u128,
    /// The backup used.
    pub backup: Manifest,
    /// Log entries applied after it.
    pub replayed: u64,
    /// The last entry contained.
    pub position: Position,
    /// Replicated time of the state, in milliseconds since the Unix epoch.
    pub replicated_time_ms: u64,
    /// State hash there, which equals that of the old cluster at that index.
    pub state_hash: u64,
    /// Live jobs. Those that ran wait again in the new cluster.
    pub jobs: Jobs,
    /// Last entry in the archive, if there is one; what lies between is left out on request.
    pub archive_end: Option<LogIndex>,
    /// The new cluster.
    pub cluster: u128,
    /// Log index at which it begins.
    pub begin_index: LogIndex,
    /// Directories made.
    pub nodes: Vec<RestoreNode>,
}

/// Makes the directories. On an error none of them is there.
pub async fn restore(request: &RestoreRequest, progress: &ProgressSink) -> Result<Restored> {
    check(request)?;
    let repository = request.location.find(request.from_cluster).await?;
    let catalog = Catalog::load(&repository, &request.trust).await?;
    let plan = plan::plan(&repository, &catalog, request).await?;
    let first = &request.nodes[0];
    let working: Vec<PathBuf> = request.nodes.iter().map(|node| working_dir(&node.data)).collect();
    let made = make(&repository, &catalog, request, &plan, &working, progress).await;
    let (facts, replayed, beginning) = match made {
        Ok(made) => made,
        Err(error) => {
            for dir in &working {
                remove(dir);
            }
            return Err(error);
        }
    };
    for (node, working) in request.nodes.iter().zip(&working) {
        offline::put_in_place(working, &node.data).map_err(Error::store(format!("node {}", node.node)))?;
    }
    tracing::debug!(node = first.node, "restored");
    Ok(Restored {
        from_cluster: repository.cluster(),
        backup: plan.backup.clone(),
        replayed,
        position: facts.position.into(),
        replicated_time_ms: facts.now,
        state_hash: facts.state_hash,
        jobs: facts.live.into(),
        archive_end: catalog.archive_end(),
        cluster: beginning.cluster,
        begin_index: beginning.index,
        nodes: request.nodes.clone(),
    })
}

async fn make(
    repository: &Repository,
    catalog: &Catalog,
    request: &RestoreRequest,
    plan: &Plan,
    working: &[PathBuf],
    progress: &ProgressSink,
) -> Result<(StateFacts, u64, Beginning)> {
    let first = &working[0];
    for dir in working {
        // Left by a restore that was interrupted.
        remove(dir);
    }
    let mut state = fetch_state(repository, &plan.backup, first, progress).await?;
    let replayed = replay(repository, catalog, plan, &request.trust, &mut state, progress).await?;
    let facts = state.facts().ok_or(Error::Empty)?;
    let beginning = Beginning {
        cluster: request.cluster.unwrap_or_else(crate::new_cluster_id),
        predecessor: None,
        node: 0,
        members: request.members.clone(),
        index: begin_index(catalog, request, facts.position.index)?,
    };
    let (nodes, working, first_beginning) = (request.nodes.clone(), working.to_vec(), beginning.clone());
    let progress = progress.clone();
    blocking(move || {
        let mut meter = Meter::new(&progress, Step::Write, nodes.len() as u64);
        let doing = |node: NodeId| format!("making the directory of node {node}");
        if nodes.len() == 1 {
            let beginning = Beginning {
                node: nodes[0].node,
                ..first_beginning
            };
            state.refound(&beginning).map_err(Error::raft(doing(beginning.node)))?;
            meter.add(1);
            return Ok(());
        }
        state.write().map_err(Error::raft("writing the state"))?;
        let store = state.store().clone();
        drop(state);
        store.close().map_err(Error::store("writing the state"))?;
        for dir in &working[1..] {
            offline::copy(&working[0], dir).map_err(Error::store(format!("making {}", dir.display())))?;
        }
        for (node, dir) in nodes.iter().zip(&working) {
            let beginning = Beginning {
                node: node.node,
                ..first_beginning.clone()
            };
            let state = open_state(dir)?;
            state.refound(&beginning).map_err(Error::raft(doing(node.node)))?;
            meter.add(1);
        }
        Ok(())
    })
    .await?;
    Ok((facts, replayed.entries, beginning))
}

/// Above all that the old cluster is known to have reached, by a wide margin: also tokens of leases in entries that are
/// lost are never given out again.
fn begin_index(catalog: &Catalog, request: &RestoreRequest, restored: LogIndex) -> Result<LogIndex> {
    let newest = catalog.good().map(|backup| backup.position.index).max();
    let known = restored
        .max(newest.unwrap_or(0))
        .max(catalog.archive_end().unwrap_or(0));
    match request.begin_index {
        None => Ok(known + INDEX_GAP),
        Some(index) if index > known => Ok(index),
        Some(index) => Err(Error::Invalid(format!(
            "the new cluster cannot begin at log index {index}: the old one has reached {known}"
        ))),
    }
}

fn check(request: &RestoreRequest) -> Result<()> {
    let invalid = |reason: String| Err(Error::Invalid(reason));
    if request.nodes.is_empty() {
        return invalid("no node is named whose directory is to be made".to_owned());
    }
    for node in &request.nodes {
        if !request.members.iter().any(|member| member.id == node.node) {
            return invalid(format!("node {} is not one of the new cluster", node.node));
        }
        offline::require_empty(&node.data).map_err(|error| Error::NotEmpty {
            node: node.node,
            reason: error.to_string(),
        })?;
    }
    if request.cluster == Some(0) {
        return invalid("the id of the new cluster is 0".to_owned());
    }
    Ok(())
}

/// Beside the data directory, so that a rename puts it in place.
fn working_dir(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    data.with_file_name(name)
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove");
    }
}

/// Opens a directory that was made here and loads its state. Blocks.
pub(crate) fn open_state(dir: &Path) -> Result<OfflineState> {
    let store = Store::open(StoreOptions::new(dir)).map_err(Error::store(format!("opening {}", dir.display())))?;
    OfflineState::open(store).map_err(Error::raft("loading the state"))
}

/// Work that blocks on the disk.
pub(crate) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Invalid(format!("the work did not end: {error}")))?
}

impl Restored {
    /// What the new cluster may lack, for people.
    pub fn missing(&self) -> String {
        let at = time(self.replicated_time_ms);
        match self.archive_end {
            Some(end) if end > self.position.index => format!(
                "what the old cluster acknowledged after {at} (entries {} to {end} are in the archive and were left out on request)",
                self.position.index + 1
            ),
            _ => format!("what the old cluster acknowledged after {at}, the last that was backed up or archived"),
        }
    }
}
