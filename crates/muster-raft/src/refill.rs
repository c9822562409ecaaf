//! How a node with damaged data comes back: it gets log and state from the others, and votes again once that is safe.
//!
//! A node that lost entries it acknowledged must not help to elect a leader without them. So it begins only when the
//! others have a leader without its vote, refuses all that concerns elections meanwhile, and takes part again when its log
//! reaches the end that a leader named after the loss: `docs/adr/020-refill.md` says why that is enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::NodeId;
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use muster_store::{Room, Store};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::convert;
use crate::error::Error;
use crate::membership;
use crate::options::RaftOptions;
use crate::peer::{Channels, Lane};
use crate::types::{LogId, OpenRaft, TypeConfig, Vote};

/// One question to one node.
const ASK: Duration = Duration::from_secs(1);
/// Wait between rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at how far the log has come.
const LOOK: Duration = Duration::from_millis(20);
/// Between two log lines about what is waited for.
const REMIND: Duration = Duration::from_secs(5);

/// Where the log of this node ends, if it leads. The end is read after the lead was confirmed by raft's own task, and is of
/// the leader's own term: so it is at or above all that this leader ever sent to anyone.
pub(crate) async fn log_end(raft: &OpenRaft, store: &Store) -> Result<Option<LogId>, Fatal<TypeConfig>> {
    let vote: Vote = raft.with_raft_state(|state| *state.vote_ref()).await?;
    let last = store.log().bounds().last.map(convert::log_id);
    let node = *raft.node_id();
    let leads = vote.committed && vote.leader_id.node_id == node;
    Ok(last.filter(|last| leads && last.leader_id == vote.leader_id))
}

async fn ask(channels: &Channels, node: NodeId) -> Result<LogId, String> {
    let mut client = channels
        .client(node, None, Lane::Control)
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(wire::LogEndRequest {
        header: Some(channels.header(node)),
    });
    request.set_timeout(ASK);
    let reply = tokio::time::timeout(ASK, client.log_end(request)).await;
    let reply = reply
        .map_err(|_| "it does not answer".to_owned())?
        .map_err(|status| status.message().to_owned())?;
    let last = reply.into_inner().last_log.map(convert::log_id_in);
    last.ok_or_else(|| "its answer is empty".to_owned())
}

/// Waits until one of the other nodes leads, for a node whose damaged data has not been touched yet: if too many nodes are
/// damaged, nothing must be thrown away. `reason` says what is damaged. `noted`: where the members were when the node last
/// knew ([`muster_store::DamagedStore::members`]); they are asked beside the configured ones. Returns the leader.
pub async fn wait_for_leader(
    options: &RaftOptions,
    cluster: u128,
    noted: BTreeMap<NodeId, String>,
    reason: &str,
) -> Result<NodeId, Error> {
    options.validate()?;
    let node = options.node;
    let others = others(options, cluster, noted);
    if others.is_empty() {
        return Err(Error::NobodyToRefillFrom {
            node,
            reason: reason.to_owned(),
        });
    }
    let mut reminded: Option<Instant> = None;
    loop {
        let asked = others.iter().map(|other| ask(&other.channels, other.node));
        let answers = futures::future::join_all(asked).await;
        if let Some((leader, _)) = others.iter().zip(&answers).find(|(_, answer)| answer.is_ok()) {
            return Ok(leader.node);
        }
        if reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            reminded = Some(Instant::now());
            let said = others.iter().zip(&answers).map(|(other, answer)| {
                let said = answer.as_ref().err().map_or("", String::as_str);
                format!("node {} ({}): {said}", other.node, other.address)
            });
            tracing::warn!(
                node,
                damage = reason,
                others = said.collect::<Vec<_>>().join("; "),
                "the data of this node is damaged; it waits for the others to elect a leader without it, to be refilled. \
                 Nothing has been thrown away. Should no majority come back, see docs/operations.md, Damaged data"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One that may lead.
struct Other {
    node: NodeId,
    address: String,
    channels: Channels,
}

/// Whom to ask: the configured nodes, and the members that were noted where those are elsewhere. Either may be out of date.
fn others(options: &RaftOptions, cluster: u128, noted: BTreeMap<NodeId, String>) -> Vec<Other> {
    let own = options.node;
    let configured = options.members.iter().map(|member| (member.id, member.peer.clone()));
    let configured: BTreeMap<_, _> = configured.filter(|(node, _)| *node != own).collect();
    let differs = |node: &NodeId, address: &String| *node != own && configured.get(node) != Some(address);
    let elsewhere: BTreeMap<_, _> = noted.into_iter().filter(|(node, peer)| differs(node, peer)).collect();
    let by_configuration = Channels::new(options);
    let by_note = Channels::new(options);
    by_note.set_members(elsewhere.clone());
    let asked = |members: BTreeMap<NodeId, String>, channels: Channels| {
        channels.bind(cluster);
        members.into_iter().map(move |(node, address)| Other {
            node,
            address,
            channels: channels.clone(),
        })
    };
    let by_note = asked(elsewhere, by_note);
    asked(configured, by_configuration).chain(by_note).collect()
}

/// Watches over the refill of a node that runs.
pub(crate) struct Refill {
    pub(crate) node: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) store: Store,
    pub(crate) channels: Channels,
}

impl Refill {
    pub(crate) async fn run(self, fatal: Arc<watch::Sender<Option<Error>>>, stop: CancellationToken) {
        let begun = Instant::now();
        metrics::gauge!("muster_refilling").set(1.0);
        tracing::warn!(
            node = self.node,
            "the data of this node is got anew from the others; until that is done it does not vote"
        );
        let end = tokio::select! {
            end = self.caught_up() => end,
            () = stop.cancelled() => return,
        };
        failpoint!("refill.caught_up.before_end");
        let store = self.store.clone();
        let noted = tokio::task::spawn_blocking(move || store.end_refill()).await;
        let noted = noted
            .map_err(|error| Error::Storage(error.to_string()))
            .and_then(|noted| noted.map_err(Error::from));
        if let Err(error) = noted {
            fatal.send_replace(Some(error));
            return;
        }
        membership::note_members(&self.raft, &self.store).await;
        self.raft.runtime_config().elect(self.store.room() != Room::Out);
        metrics::gauge!("muster_refilling").set(0.0);
        tracing::info!(
            node = self.node,
            upto = end.index,
            took = ?begun.elapsed(),
            "the data is complete again; this node votes"
        );
    }

    /// Returns when the log holds all that this node may ever have acknowledged.
    async fn caught_up(&self) -> LogId {
        let mut reminded = Instant::now();
        loop {
            if let Some(end) = self.ask_leader().await {
                if self.reach(end).await {
                    return end;
                }
                reminded = Instant::now();
            }
            if reminded.elapsed() >= REMIND {
                reminded = Instant::now();
                let known = self.channels.known();
                tracing::warn!(
                    node = self.node,
                    ?known,
                    "no leader brings this node its data, and it does not vote until one does. If none of the nodes that it \
                     knows is a member any more, list the members in its cluster.toml and start it again"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_leader(&self) -> Option<LogId> {
        let leader = self.raft.server_metrics().borrow_watched().current_leader?;
        match ask(&self.channels, leader).await {
            Ok(end) => Some(end),
            Err(reason) => {
                tracing::debug!(leader, reason, "the leader did not say where its log ends");
                None
            }
        }
    }

    /// Waits until the log reaches `end`. False: it is under another leader by now, whose log need not contain `end`.
    async fn reach(&self, end: LogId) -> bool {
        let mut reminded = Instant::now();
        loop {
            let vote = self.raft.server_metrics().borrow_watched().vote;
            if !vote.committed || vote.leader_id != end.leader_id {
                return false;
            }
            if self.holds(end) {
                return true;
            }
            if reminded.elapsed() >= REMIND {
                reminded = Instant::now();
                let last = self.store.log().bounds().last.map_or(0, |last| last.index);
                tracing::info!(node = self.node, last, upto = end.index, "being refilled");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the entry at `end` is in the log, or in the state below it. Two logs with the same entry are the same up to
    /// there.
    fn holds(&self, end: LogId) -> bool {
        let log = self.store.log();
        let covered = log.bounds().purged.is_some_and(|purged| purged.index >= end.index);
        // Damage that this meets ends the node by itself.
        covered || log.position_at(end.index).ok().flatten().map(convert::log_id) == Some(end)
    }
}
