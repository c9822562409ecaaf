//! What a leader does next, from what is to change and what the membership is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::{ChangeOutcome, ChangeRow, LogIndex, MembershipChange, NodeId};
use openraft::ChangeMembers;

use crate::types::Address;

/// A node is caught up when it lacks no more entries than this: a pipeline of a busy leader.
const LAG_MAX: LogIndex = 100;
/// Longest wait for the worker sessions of a node that leaves. It closes them itself before.
const SESSIONS_WAIT: Duration = Duration::from_mins(1);
/// A new node that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(10);

/// What a leader sees.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) me: NodeId,
    /// Sets of voters of the membership in force.
    pub(super) voters: Vec<BTreeSet<NodeId>>,
    /// All members.
    pub(super) nodes: BTreeMap<NodeId, Address>,
    /// The membership in force is committed.
    pub(super) committed: bool,
    /// What is to change.
    pub(super) change: Option<ChangeRow>,
    /// Where a node that is about to join is.
    pub(super) joining: Option<Address>,
    /// Members that are drained.
    pub(super) drained: BTreeSet<NodeId>,
    /// Worker sessions on the node that leaves.
    pub(super) sessions: usize,
    /// Last entry of this leader.
    pub(super) last_log: LogIndex,
    /// Last entry known to be on each member.
    pub(super) matched: BTreeMap<NodeId, LogIndex>,
    /// Members that answered lately.
    pub(super) answering: BTreeSet<NodeId>,
    /// For how long this leader has been seeing this change.
    pub(super) since: Duration,
    /// For how long the new node has not answered this leader.
    pub(super) silence: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to change.
    Idle,
    /// Look again soon; in words what is waited for.
    Wait(String),
    /// Propose this membership. `retain`: voters that leave stay as learners.
    Change {
        change: ChangeMembers<NodeId, Address>,
        retain: bool,
    },
    /// Have another voter lead.
    HandOver(NodeId),
    /// Drain a node that leaves.
    Drain(NodeId),
    /// Give the change up.
    Abort(String),
    /// The change is through.
    End(ChangeOutcome),
}

fn wait(what: impl Into<String>) -> Step {
    Step::Wait(what.into())
}

fn change(change: ChangeMembers<NodeId, Address>, retain: bool) -> Step {
    Step::Change { change, retain }
}

/// By the reason of whoever gave the change up, or another.
fn undone(row: &ChangeRow, otherwise: &str) -> Step {
    let reason = if row.reason.is_empty() {
        otherwise.into()
    } else {
        row.reason.clone()
    };
    Step::End(ChangeOutcome::Undone { reason })
}

fn only(node: NodeId) -> BTreeSet<NodeId> {
    BTreeSet::from([node])
}

pub(super) fn next(view: &View) -> Step {
    if !view.committed {
        return wait("for the membership to be stored by a majority");
    }
    let leaves = view.change.as_ref().and_then(|row| row.change.leaves());
    if view.voters.len() > 1 {
        // Half-way: on to the new one, whoever began it. Nothing is added.
        return change(ChangeMembers::AddVoterIds(BTreeSet::new()), leaves.is_none());
    }
    let Some(row) = &view.change else {
        return idle(view);
    };
    match &row.change {
        MembershipChange::Add { node, voter } => view.add(row, *node, *voter),
        MembershipChange::Replace { old, new } => view.replace(row, *old, *new),
        MembershipChange::Promote { node } => match () {
            () if !view.nodes.contains_key(node) => undone(row, "it is no member any more"),
            () if view.votes(*node) => Step::End(ChangeOutcome::Done),
            () if row.aborted => undone(row, "given up"),
            () => view
                .caught_up(*node)
                .unwrap_or_else(|| change(ChangeMembers::AddVoterIds(only(*node)), true)),
        },
        MembershipChange::Demote { node } => match () {
            () if !view.votes(*node) => Step::End(ChangeOutcome::Done),
            () if row.aborted => undone(row, "given up"),
            () => view
                .hand_over_from(*node)
                .unwrap_or_else(|| change(ChangeMembers::RemoveVoters(only(*node)), true)),
        },
        MembershipChange::Remove { node } => match () {
            () if !view.nodes.contains_key(node) => Step::End(ChangeOutcome::Done),
            () if row.aborted => undone(row, "given up"),
            () => view
                .hand_over_from(*node)
                .or_else(|| view.sessions_left(*node))
                .unwrap_or_else(|| {
                    if view.votes(*node) {
                        change(ChangeMembers::RemoveVoters(only(*node)), false)
                    } else {
                        change(ChangeMembers::RemoveNodes(only(*node)), false)
                    }
                }),
        },
        MembershipChange::SetAddress { node, peer, api } => match view.nodes.get(node) {
            None => undone(row, "it is no member any more"),
            Some(address) if address.peer == **peer && address.api == **api => Step::End(ChangeOutcome::Done),
            Some(_) if row.aborted => undone(row, "given up"),
            Some(_) => {
                let address = Address {
                    peer: peer.to_string(),
                    api: api.to_string(),
                };
                change(ChangeMembers::SetNodes(BTreeMap::from([(*node, address)])), true)
            }
        },
    }
}

/// Without a change a leader has one thing to do: if it is drained, to leave the lead to another.
fn idle(view: &View) -> Step {
    if !view.drained.contains(&view.me) {
        return Step::Idle;
    }
    match view.successor(None) {
        Some(to) if !view.drained.contains(&to) => Step::HandOver(to),
        _ => wait("for a voter that is not drained and can lead"),
    }
}

impl View {
    fn votes(&self, node: NodeId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&node))
    }

    fn lag(&self, node: NodeId) -> LogIndex {
        self.last_log
            .saturating_sub(self.matched.get(&node).copied().unwrap_or_default())
    }

    fn add(&self, row: &ChangeRow, node: NodeId, voter: bool) -> Step {
        if self.votes(node) {
            return Step::End(ChangeOutcome::Done);
        }
        if let Some(step) = self.enter(row, node) {
            return step;
        }
        match self.caught_up(node) {
            Some(step) => step,
            None if voter => change(ChangeMembers::AddVoterIds(only(node)), true),
            None => Step::End(ChangeOutcome::Done),
        }
    }

    fn replace(&self, row: &ChangeRow, old: NodeId, new: NodeId) -> Step {
        if self.votes(new) {
            return if self.nodes.contains_key(&old) {
                // Kept as a learner by whoever completed the change.
                change(ChangeMembers::RemoveNodes(only(old)), false)
            } else {
                Step::End(ChangeOutcome::Done)
            };
        }
        if let Some(step) = self.enter(row, new).or_else(|| self.caught_up(new)) {
            return step;
        }
        if !self.votes(old) {
            // It left by itself: then the new one is simply added.
            return change(ChangeMembers::AddVoterIds(only(new)), false);
        }
        // Now that the new one is there, the old one lets go.
        let mut others = self.voters.iter().flatten().filter(|node| **node != old);
        if !self.drained.contains(&old) && others.any(|node| !self.drained.contains(node)) {
            return Step::Drain(old);
        }
        let swap = vec![
            ChangeMembers::AddVoterIds(only(new)),
            ChangeMembers::RemoveVoters(only(old)),
        ];
        self.hand_over_from(old)
            .or_else(|| self.sessions_left(old))
            .unwrap_or_else(|| change(ChangeMembers::Batch(swap), false))
    }

    /// Makes a new node a learner, or takes it out again when it is given up.
    fn enter(&self, row: &ChangeRow, node: NodeId) -> Option<Step> {
        match (self.nodes.contains_key(&node), row.aborted) {
            (false, true) => Some(undone(row, "given up")),
            (true, true) => Some(change(ChangeMembers::RemoveNodes(only(node)), false)),
            (false, false) => Some(match &self.joining {
                Some(address) => change(ChangeMembers::AddNodes(BTreeMap::from([(node, address.clone())])), true),
                None => undone(row, "its address is not known"),
            }),
            (true, false) if self.silence >= SILENCE_MAX => {
                Some(Step::Abort(format!("node {node} did not answer for {SILENCE_MAX:?}")))
            }
            (true, false) => None,
        }
    }

    /// `None`: the node has caught up.
    fn caught_up(&self, node: NodeId) -> Option<Step> {
        if !self.answering.contains(&node) {
            return Some(wait(format!("for node {node} to answer")));
        }
        let lag = self.lag(node);
        (lag > LAG_MAX).then(|| wait(format!("for node {node} to catch up, {lag} entries are missing")))
    }

    /// `None`: the node does not lead, or nobody else could.
    fn hand_over_from(&self, node: NodeId) -> Option<Step> {
        if node != self.me {
            return None;
        }
        Some(match self.successor(Some(node)) {
            Some(to) => Step::HandOver(to),
            None => wait(format!("for another voter that can lead in place of node {node}")),
        })
    }

    /// The best voter to lead next: one that answers and has almost everything, rather an undrained one.
    fn successor(&self, leaves: Option<NodeId>) -> Option<NodeId> {
        let voters = self.voters.iter().flatten().copied();
        let able = voters.filter(|node| {
            *node != self.me && Some(*node) != leaves && self.answering.contains(node) && self.lag(*node) <= LAG_MAX
        });
        able.max_by_key(|node| (!self.drained.contains(node), self.matched.get(node).copied()))
    }

    /// `None`: no worker session is left on the node, or it is not worth waiting for them.
    fn sessions_left(&self, node: NodeId) -> Option<Step> {
        let worthwhile = self.sessions > 0 && self.since < SESSIONS_WAIT && self.answering.contains(&node);
        worthwhile.then(|| wait(format!("for {} worker sessions to leave node {node}", self.sessions)))
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
