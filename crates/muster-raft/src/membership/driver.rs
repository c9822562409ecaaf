//! The leader's task that brings the membership to where it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::{ChangeOutcome, ClusterCommand, Command, LogIndex, NodeId, Reply};
use muster_failpoint::{Injected, failpoint};
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::Precondition;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handover::{HandOver, hand_over};
use super::step::{self, Step, View};
use super::{Membership, Parts};
use crate::silence::answered;
use crate::types::{Address, LogId};

/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// Pause after a step that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for one step; another look may find another one.
const STEP: Duration = Duration::from_secs(10);

pub(super) async fn run(parts: Parts, stop: CancellationToken) {
    let mut role = parts.role.clone();
    loop {
        tokio::select! {
            leads = role.wait_for(|role| role.is_leader()) => if leads.is_err() { return },
            () = stop.cancelled() => return,
        }
        let reign = Reign {
            parts: parts.clone(),
            seen: None,
            heard_at: Instant::now(),
        };
        tokio::select! {
            () = reign.run() => {}
            over = role.wait_for(|role| !role.is_leader()) => if over.is_err() { return },
            () = stop.cancelled() => return,
        }
        parts.stage.send_replace(None);
    }
}

/// What a leader remembers from look to look.
struct Reign {
    parts: Parts,
    /// The change under way, and when it was first seen.
    seen: Option<(LogIndex, Instant)>,
    /// When the node that is about to join was last heard.
    heard_at: Instant,
}

impl Reign {
    async fn run(mut self) {
        let mut changed = self.parts.changed.clone();
        loop {
            changed.mark_unchanged();
            let (view, membership) = self.look();
            let step = step::next(&view);
            self.say(&view, &step);
            match step {
                Step::Idle => {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
                Step::Wait(_) => {
                    let _news = tokio::time::timeout(LOOK, changed.changed()).await;
                }
                step => {
                    let taken = tokio::time::timeout(STEP, self.take(&view, membership, step)).await;
                    let failed = taken.unwrap_or_else(|_| Err("it took too long".to_owned()));
                    if let Err(reason) = failed {
                        tracing::info!(reason, "a step of the membership change is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    fn look(&mut self) -> (View, Option<LogId>) {
        let parts = &self.parts;
        let me = parts.options.node;
        let server = parts.raft.server_metrics();
        let (stored, committed) = {
            let server = server.borrow_watched();
            let (now, committed) = (&server.membership_config, &server.committed_membership_config);
            (now.clone(), now == committed)
        };
        let membership = Membership::from(&*stored);
        let answers = answered(&parts.raft, me, parts.options.election_max);
        let (matched, last_log) = {
            let metrics = parts.raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<LogId>| id.map_or(0, |id| id.index);
            let matched = metrics.replication.iter().flatten();
            let matched: BTreeMap<_, _> = matched.map(|(node, id)| (*node, index(id))).collect();
            (matched, metrics.last_log_index.unwrap_or_default())
        };
        let (change, joining, drained, sessions) = {
            let state = parts.state.lock();
            let core = &state.core;
            let change = core.membership_changes().current.clone();
            let joining = change.as_ref().and_then(|row| core.node(row.change.node()));
            let joining = joining.map(|row| Address {
                peer: row.peer.to_string(),
                api: row.api.to_string(),
            });
            let drained: BTreeSet<_> = core.nodes().filter(|row| row.drained).map(|row| row.node).collect();
            let leaves = change.as_ref().and_then(|row| row.change.leaves());
            let sessions = leaves.map_or(0, |node| core.sessions_on(node));
            (change, joining, drained, sessions)
        };
        let now = Instant::now();
        let id = change.as_ref().map(|row| row.id);
        if self.seen.map(|(id, _)| id) != id {
            self.seen = id.map(|id| (id, now));
            self.heard_at = now;
        }
        let answering: BTreeSet<NodeId> = answers
            .into_iter()
            .filter(|(_, answers)| *answers)
            .map(|(id, _)| id)
            .collect();
        if change
            .as_ref()
            .is_some_and(|row| answering.contains(&row.change.node()))
        {
            self.heard_at = now;
        }
        let view = View {
            me,
            voters: membership.voters,
            nodes: stored
                .membership()
                .nodes()
                .map(|(id, address)| (*id, address.clone()))
                .collect(),
            committed,
            change,
            joining,
            drained,
            sessions,
            last_log,
            matched,
            answering,
            since: self.seen.map(|(_, at)| now - at).unwrap_or_default(),
            silence: now - self.heard_at,
        };
        (view, *stored.log_id())
    }

    /// Tells people, here and through the status.
    fn say(&self, view: &View, step: &Step) {
        let change = view.change.as_ref().map(|row| row.change.to_string());
        let stage = match step {
            Step::Idle => None,
            Step::Wait(what) => Some(format!("waiting {what}")),
            Step::Change { change, .. } => Some(in_words(change)),
            Step::HandOver(to) => Some(format!("node {to} takes the lead")),
            Step::Drain(node) => Some(format!("draining node {node}")),
            Step::Abort(reason) => Some(format!("giving up: {reason}")),
            Step::End(ChangeOutcome::Done) => Some("done".to_owned()),
            Step::End(ChangeOutcome::Undone { reason }) => Some(format!("undone: {reason}")),
        };
        let new = self.parts.stage.send_if_modified(|known| {
            // A number that shrinks is worth showing, not logging.
            let begin = |text: &Option<String>| text.as_ref().map(|text| text.split(',').next().map(str::to_owned));
            let new = begin(known) != begin(&stage);
            known.clone_from(&stage);
            new
        });
        if new && let Some(stage) = stage {
            tracing::info!(change, stage, "membership");
        }
    }

    async fn take(&self, view: &View, membership: Option<LogId>, step: Step) -> Result<(), String> {
        failpoint!("membership.step.before", Injected::into_text);
        match step {
            Step::Idle | Step::Wait(_) => Ok(()),
            Step::Change { change, retain } => {
                // Decided on this membership and no other.
                let same = Precondition::LastMembershipLogId {
                    last_membership_log_id: membership,
                };
                failpoint!("membership.change.before", Injected::into_text);
                let changed = self.parts.raft.change_membership_if(change, retain, [same]).await;
                failpoint!("membership.change.after", Injected::into_text);
                changed.map(drop).map_err(|error| error.to_string())
            }
            Step::HandOver(to) => match hand_over(&self.parts, to).await {
                HandOver::Done => Ok(()),
                other => Err(format!("node {to} did not take the lead: {other:?}")),
            },
            Step::Drain(node) => {
                let replaced = view
                    .change
                    .as_ref()
                    .map(|row| row.change.to_string())
                    .unwrap_or_default();
                self.propose(ClusterCommand::Drain {
                    node,
                    drained: true,
                    note: replaced.into(),
                })
                .await
            }
            Step::Abort(reason) => {
                let change = id(view)?;
                let reason = reason.into();
                self.propose(ClusterCommand::AbortChange { change, reason }).await
            }
            Step::End(outcome) => {
                let change = id(view)?;
                failpoint!("membership.end.before", Injected::into_text);
                self.propose(ClusterCommand::EndChange { change, outcome }).await?;
                failpoint!("membership.end.after", Injected::into_text);
                Ok(())
            }
        }
    }

    async fn propose(&self, command: ClusterCommand) -> Result<(), String> {
        let commands = vec![Command::Cluster(Box::new(command))];
        let replies = self.parts.submitter.submit(commands, Instant::now() + STEP).await;
        match replies.map_err(|error| error.to_string())?.pop() {
            Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
            _ => Ok(()),
        }
    }
}

fn id(view: &View) -> Result<LogIndex, String> {
    let id = view.change.as_ref().map(|row| row.id);
    id.ok_or_else(|| "no change is under way".to_owned())
}

type Changes = ChangeMembers<NodeId, Address>;

fn in_words(change: &Changes) -> String {
    match change {
        Changes::AddNodes(nodes) => format!("adding {} as a learner", ids(nodes.keys())),
        Changes::AddVoterIds(nodes) if nodes.is_empty() => "completing the membership".to_owned(),
        Changes::AddVoterIds(nodes) => format!("giving {} a vote", ids(nodes)),
        Changes::RemoveVoters(nodes) => format!("taking the vote from {}", ids(nodes)),
        Changes::RemoveNodes(nodes) => format!("taking out {}", ids(nodes)),
        Changes::SetNodes(nodes) => format!("moving {}", ids(nodes.keys())),
        other => other.to_string(),
    }
}

fn ids<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    let nodes: Vec<_> = nodes.into_iter().map(|node| format!("node {node}")).collect();
    nodes.join(" and ")
}
