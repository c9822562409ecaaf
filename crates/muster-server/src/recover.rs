//! `muster cluster recover`: a cluster of one node out of what is left when a majority is gone for good.
//!
//! The survivor's data becomes the beginning of a *new* cluster, under a new id and above every term and index of the old
//! one. Nodes of the old cluster that come back are refused by it, and learn from it that their cluster has a successor.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_raft::offline::{Beginning, INDEX_GAP, OfflineState, further};
use muster_raft::{MemberConfig, StateFacts, survey};
use muster_store::{LogPosition, Store, offline};

use crate::{NodeConfig, ServerConfig, restore};

/// How long nodes are asked before they count as gone.
const PATIENCE: Duration = Duration::from_secs(4);

/// What to recover.
#[derive(Clone, Debug)]
pub struct RecoverRequest<'a> {
    /// The configuration.
    pub config: &'a ServerConfig,
    /// The survivor, on this machine and stopped.
    pub node: u64,
    /// Nodes that are gone for good, by the operator's word.
    pub lost: Vec<u64>,
    /// Ends of the logs of other survivors that do not run, as [`Inspected`] tells them.
    pub others: Vec<(u64, LogPosition)>,
    /// Say what would happen, change nothing.
    pub dry_run: bool,
}

/// Why nothing was recovered. Nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecoverError {
    /// The configuration has no such node.
    #[error("{0}")]
    Config(String),
    /// The survivor's data cannot be used.
    #[error("data directory {dir}: {reason}", dir = .dir.display())]
    Data {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A rule said no.
    #[error("{0}")]
    Refused(String),
}

/// What a survivor has.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The node.
    pub node: u64,
    /// The cluster.
    pub cluster: u128,
    /// The last entry of its log: what the most advanced survivor is judged by.
    pub log_end: LogPosition,
    /// The last entry that is known to have been committed.
    pub committed: LogPosition,
    /// Replicated time at the end of the log, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// State hash there.
    pub state_hash: u64,
    /// Live jobs there.
    pub live: muster_core::LiveCounts,
    /// Voters of the old cluster.
    pub voters: Vec<u64>,
}

/// What was recovered.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What there was to begin with.
    pub found: Inspected,
    /// The new cluster; `None`: a dry run.
    pub cluster: Option<u128>,
    /// Log index at which it begins.
    pub begin_index: u64,
    /// Where the old directory lies now.
    pub kept: Option<PathBuf>,
    /// Other nodes that survived; their data is not part of the new cluster.
    pub survivors: Vec<u64>,
}

/// Recovers, or says why not.
pub async fn recover(request: &RecoverRequest<'_>) -> Result<Recovered, RecoverError> {
    let node = request.config.node(request.node).map_err(RecoverError::Config)?;
    let working = beside(&node.data, "recovering");
    // Left by a try that was interrupted.
    remove(&working);
    let outcome = in_copy(request, node, &working).await;
    if outcome.is_err() || request.dry_run {
        remove(&working);
    }
    let mut recovered = outcome?;
    if request.dry_run {
        return Ok(recovered);
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = beside(&node.data, &format!("before-recover-{}", since_epoch.as_secs()));
    let placed = offline::rename(&node.data, &kept).and_then(|()| offline::put_in_place(&working, &node.data));
    placed.map_err(|error| data_error(&node.data, error))?;
    recovered.kept = Some(kept);
    Ok(recovered)
}

/// Looks at what a stopped node has, in a copy of its directory.
pub async fn inspect(config: &ServerConfig, node: u64) -> Result<Inspected, RecoverError> {
    let node = config.node(node).map_err(RecoverError::Config)?;
    let working = beside(&node.data, "inspecting");
    remove(&working);
    let options = muster_store::StoreOptions {
        dir: working.clone(),
        ..config.store_options(node)
    };
    let (data, id) = (node.data.clone(), node.id);
    blocking(move || {
        let found = open_copy(&data, &working, options, id).map(|(_, found, _)| found);
        remove(&working);
        found
    })
    .await
}

/// Everything is done in a copy, so that whatever goes wrong leaves the survivor as it was.
async fn in_copy(request: &RecoverRequest<'_>, node: &NodeConfig, working: &Path) -> Result<Recovered, RecoverError> {
    let (state, found, facts) = blocking({
        let (data, working, id) = (node.data.clone(), working.to_owned(), node.id);
        let options = muster_store::StoreOptions {
            dir: working.clone(),
            ..request.config.store_options(node)
        };
        move || open_copy(&data, &working, options, id)
    })
    .await?;
    let survivors = judge(request, node, &found, &facts).await?;
    let begin_index = found.log_end.index + INDEX_GAP;
    let mut recovered = Recovered {
        begin_index,
        cluster: None,
        kept: None,
        survivors,
        found,
    };
    if request.dry_run {
        return blocking(move || {
            drop(state);
            Ok(recovered)
        })
        .await;
    }
    let beginning = Beginning {
        cluster: new_id(),
        predecessor: Some(recovered.found.cluster),
        node: node.id,
        members: vec![MemberConfig {
            id: node.id,
            peer: node.peer.to_string(),
            api: node.api.to_string(),
        }],
        index: begin_index,
    };
    recovered.cluster = Some(beginning.cluster);
    let data = node.data.clone();
    blocking(move || {
        let founded = state.refound(&beginning);
        founded.map_err(|error| data_error(&data, error))?;
        Ok(recovered)
    })
    .await
}

fn open_copy(
    data: &Path,
    working: &Path,
    options: muster_store::StoreOptions,
    node: u64,
) -> Result<(OfflineState, Inspected, StateFacts), RecoverError> {
    let failed = |reason: String| RecoverError::Data {
        dir: data.to_owned(),
        reason,
    };
    if !data.join("identity.json").exists() {
        return Err(failed("it holds no node of a cluster".to_owned()));
    }
    offline::copy(data, working).map_err(|error| match error {
        muster_store::Error::Locked { .. } => failed("the node runs; stop it first".to_owned()),
        error => data_error(data, error),
    })?;
    let store = Store::open(options).map_err(|error| data_error(data, error))?;
    let identity = store
        .identity()
        .ok_or_else(|| failed("it holds no node of a cluster".to_owned()))?;
    if identity.node != node {
        return Err(failed(format!(
            "it belongs to node {}, not to node {node}",
            identity.node
        )));
    }
    let mut state = OfflineState::open(store).map_err(|error| data_error(data, error))?;
    let committed = state.applied();
    state.replay().map_err(|error| data_error(data, error))?;
    let facts = state.facts().filter(|facts| facts.cluster == identity.cluster);
    let facts = facts.ok_or_else(|| failed("the cluster was never used: there is nothing to recover".to_owned()))?;
    let found = Inspected {
        node,
        cluster: identity.cluster,
        log_end: facts.position,
        committed: committed.unwrap_or(LogPosition {
            term: 0,
            node: 0,
            index: 0,
        }),
        time_ms: facts.now,
        state_hash: facts.state_hash,
        live: facts.live,
        voters: facts.voters.clone(),
    };
    Ok((state, found, facts))
}

/// Whether recovery is the right thing. Returns the other survivors.
async fn judge(
    request: &RecoverRequest<'_>,
    node: &NodeConfig,
    found: &Inspected,
    facts: &StateFacts,
) -> Result<Vec<u64>, RecoverError> {
    let refused = |reason: String| Err(RecoverError::Refused(reason));
    let voters = &found.voters;
    if !voters.contains(&node.id) {
        return refused(format!(
            "node {} does not vote in this cluster ({voters:?} do), so it may lack what they acknowledged",
            node.id
        ));
    }
    for lost in &request.lost {
        if *lost == node.id {
            return refused(format!("node {lost} cannot be lost and survive"));
        }
        if !facts.members.iter().any(|member| member.id == *lost) {
            return refused(format!(
                "node {lost} is not a member; the members are {:?}",
                ids(&facts.members)
            ));
        }
    }
    let left: Vec<u64> = voters.iter().copied().filter(|id| !request.lost.contains(id)).collect();
    if left.len() * 2 > voters.len() {
        return refused(format!(
            "nodes {left:?} are a majority of {voters:?}: start them and the cluster goes on without any loss. Name nodes as \
             lost only when their disks are gone for good"
        ));
    }
    let others = others(node.id, facts, &restore::members(request.config));
    let mut survivors = Vec::new();
    for (member, answer) in survey(node.id, &others, PATIENCE).await {
        let lost = request.lost.contains(&member.id);
        match answer {
            Some(answer) if answer.cluster.is_some_and(|cluster| cluster != found.cluster) => {
                return refused(format!(
                    "node {} answers and belongs to cluster {:032x}: this cluster seems to have been recovered before",
                    member.id,
                    answer.cluster.unwrap_or_default()
                ));
            }
            Some(_) if lost => {
                return refused(format!(
                    "node {} answers at {}: it is not lost. Start all nodes that are left and look at `muster cluster status`",
                    member.id, member.peer
                ));
            }
            Some(answer) => {
                if let Some(leader) = answer.leader {
                    return refused(format!(
                        "node {} follows leader {leader}: the cluster has a majority",
                        member.id
                    ));
                }
                compare(found, member.id, answer.last_log)?;
            }
            None if lost => continue,
            None => match request.others.iter().find(|(id, _)| *id == member.id) {
                Some((_, position)) => compare(found, member.id, Some(*position))?,
                None => {
                    return refused(format!(
                        "node {0} was not named as lost and does not answer. Start it, or tell its log's end, which \
                         `muster cluster recover --node {0} --inspect` prints on its machine: --survivor {0}=TERM.NODE.INDEX; or name it \
                         as lost",
                        member.id
                    ));
                }
            },
        }
        survivors.push(member.id);
    }
    Ok(survivors)
}

/// All that may know of the cluster, by the log's word where it differs from the file's.
fn others(own: u64, facts: &StateFacts, configured: &[MemberConfig]) -> Vec<MemberConfig> {
    // The file says where nodes are today; only members count.
    let place = |member: &MemberConfig| {
        let configured = configured.iter().find(|other| other.id == member.id);
        configured.unwrap_or(member).clone()
    };
    facts
        .members
        .iter()
        .filter(|member| member.id != own)
        .map(place)
        .collect()
}

fn compare(found: &Inspected, other: u64, theirs: Option<LogPosition>) -> Result<(), RecoverError> {
    if further(theirs, Some(found.log_end)) {
        return Err(RecoverError::Refused(format!(
            "node {other} has more: its log ends at {}, that of node {} at {}. Recover there",
            position(theirs.unwrap_or(found.log_end)),
            found.node,
            position(found.log_end)
        )));
    }
    Ok(())
}

/// A position as `--survivor` takes it.
fn position(LogPosition { term, node, index }: LogPosition) -> String {
    format!("{term}.{node}.{index}")
}

fn ids(members: &[MemberConfig]) -> Vec<u64> {
    members.iter().map(|member| member.id).collect()
}

fn new_id() -> u128 {
    muster_backup::new_cluster_id()
}

fn beside(data: &Path, suffix: &str) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    data.with_file_name(name)
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove");
    }
}

fn data_error(dir: &Path, error: impl std::fmt::Display) -> RecoverError {
    RecoverError::Data {
        dir: dir.to_owned(),
        reason: error.to_string(),
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, RecoverError> + Send + 'static,
) -> Result<R, RecoverError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RecoverError::Refused(format!("the work did not end: {error}")))?
}
