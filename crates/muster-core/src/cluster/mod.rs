//! What is replicated about nodes: who is or was a member, who may join, and the one change of the membership under way.
//!
//! The membership itself is Raft's. The core hears of each change of it in log order ([`Core::set_members`]) and
//! remembers every id that was ever used, so that none is used twice.

mod command;
mod refusal;
mod row;
mod view;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

pub use command::{ClusterCommand, MembershipChange};
pub use refusal::ClusterRefusal;
pub use row::{ChangeOutcome, ChangeRow, ChangesRow, EndedChange, JoinTokenRow, NodeRow, NodeState, TokenHash};
pub use view::Member;

use crate::core::Core;
use crate::hash::{Effect, text};
use crate::ids::{LogIndex, NodeId};
use crate::reply::{Applied, Event};
use crate::row::{Changes, Row, RowKey};

/// Nodes, join tokens and the change under way.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, NodeRow>,
    pub(crate) tokens: BTreeMap<(NodeId, TokenHash), JoinTokenRow>,
    pub(crate) changes: ChangesRow,
    dirty: Dirty,
}

/// What changed since rows were last taken.
#[derive(Debug, Default)]
struct Dirty {
    nodes: BTreeSet<NodeId>,
    tokens: BTreeSet<(NodeId, TokenHash)>,
    changes: bool,
}

impl Cluster {
    pub(crate) fn restore(&mut self, row: NodeRow) -> Result<(), String> {
        let node = row.node;
        match self.nodes.insert(node, row) {
            None => Ok(()),
            Some(_) => Err(format!("two rows of node {node}")),
        }
    }

    /// Members that may lead and have a voice.
    pub(crate) fn voters(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values().filter(|node| node.is_voter())
    }

    /// The lowest id above all that were ever used or promised.
    pub(crate) fn next_node(&self) -> NodeId {
        let used = self.nodes.last_key_value().map_or(0, |(node, _)| *node);
        let promised = self.tokens.last_key_value().map_or(0, |((node, _), _)| *node);
        used.max(promised).saturating_add(1)
    }

    pub(crate) fn len(&self) -> usize {
        self.dirty.nodes.len() + self.dirty.tokens.len() + usize::from(self.dirty.changes)
    }

    pub(crate) fn take_changes(&mut self, changes: &mut Changes) {
        for node in std::mem::take(&mut self.dirty.nodes) {
            changes.put.extend(self.nodes.get(&node).cloned().map(Row::Node));
        }
        for (node, hash) in std::mem::take(&mut self.dirty.tokens) {
            match self.tokens.get(&(node, hash)) {
                Some(token) => changes.put.push(Row::JoinToken(token.clone())),
                None => changes.delete.push(RowKey::JoinToken(node, hash)),
            }
        }
        if std::mem::take(&mut self.dirty.changes) {
            changes.put.push(Row::Changes(self.changes.clone()));
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let nodes = self.nodes.values().cloned().map(Row::Node);
        let tokens = self.tokens.values().cloned().map(Row::JoinToken);
        // The row of changes is there once there was one.
        let changes = (self.changes != ChangesRow::default()).then(|| Row::Changes(self.changes.clone()));
        nodes.chain(tokens).chain(changes)
    }
}

impl Core {
    /// A change of the membership was committed at `index`. Called instead of `apply`, on every node.
    pub fn set_members(&mut self, index: LogIndex, members: &[Member]) -> Applied {
        self.begin_entry(index);
        self.note_members(members, |state| state == NodeState::Member);
        self.end_entry();
        self.applied(Vec::new(), Vec::new())
    }

    /// The members of a new cluster that begins with this state. Permissions to join the old one, and what it was about to
    /// change, end with it; ids of its nodes stay used.
    pub(crate) fn found_members(&mut self, members: &[Member]) {
        self.drop_tokens(|_| true);
        if self.cluster.changes.current.is_some() {
            self.set_changes(|changes| changes.current = None);
        }
        self.note_members(members, |state| state != NodeState::Removed);
        for member in members {
            self.change_node(member.node, |row| {
                row.drained = false;
                row.note = "".into();
            });
        }
    }

    /// These are members; of all others those leave whose state says so.
    fn note_members(&mut self, members: &[Member], leaves: impl Fn(NodeState) -> bool) {
        for member in members {
            self.enter(member);
        }
        let left: Vec<NodeId> = {
            let gone = |node: &&NodeRow| leaves(node.state) && members.iter().all(|it| it.node != node.node);
            let gone = self.cluster.nodes.values().filter(gone);
            gone.map(|node| node.node).collect()
        };
        for node in left {
            self.change_node(node, |row| {
                row.state = NodeState::Removed;
                row.voter = false;
                row.drained = false;
            });
        }
    }

    fn enter(&mut self, member: &Member) {
        let known = self.cluster.nodes.get(&member.node);
        let same = known.is_some_and(|row| {
            row.state == NodeState::Member
                && row.voter == member.voter
                && row.peer == member.peer
                && row.api == member.api
        });
        if same {
            return;
        }
        let (now, index) = (self.meta.now, self.entry.index);
        self.cluster
            .nodes
            .entry(member.node)
            .or_insert_with(|| NodeRow::of(member, now, index));
        self.change_node(member.node, |row| {
            row.state = NodeState::Member;
            row.voter = member.voter;
            row.peer = member.peer.clone();
            row.api = member.api.clone();
        });
    }

    /// Takes over members that a state from before there were rows of nodes does not know.
    pub fn adopt_members(&mut self, members: &[Member]) {
        let (now, index) = (self.meta.now, self.meta.applied);
        for member in members {
            if let Entry::Vacant(place) = self.cluster.nodes.entry(member.node) {
                place.insert(NodeRow::of(member, now, index));
                self.cluster.dirty.nodes.insert(member.node);
            }
        }
    }

    /// Changes a node's row, says so, and takes it into the hash.
    pub(crate) fn change_node(&mut self, node: NodeId, change: impl FnOnce(&mut NodeRow)) {
        let (now, index) = (self.meta.now, self.entry.index);
        let Some(row) = self.cluster.nodes.get_mut(&node) else {
            return;
        };
        let before = row.state;
        change(row);
        if row.state != before {
            (row.since, row.since_index) = (now, index);
        }
        let (state, drained) = (row.state, row.drained);
        let detail = text(&row.peer) ^ text(&row.api).rotate_left(1) ^ text(&row.note).rotate_left(2);
        let flags = state as u64 | u64::from(row.voter) << 8 | u64::from(drained) << 9;
        self.cluster.dirty.nodes.insert(node);
        self.effects
            .note(Effect::NodeChanged, node ^ flags.rotate_left(32), detail);
        self.entry.events.push(Event::NodeChanged { node, state, drained });
    }

    pub(crate) fn put_token(&mut self, token: JoinTokenRow) {
        let key = (token.node, token.hash);
        self.effects.note(Effect::TokenMade, token.node, token.expires_at);
        self.cluster.tokens.insert(key, token);
        self.cluster.dirty.tokens.insert(key);
    }

    /// Drops the tokens for which `gone` holds.
    pub(crate) fn drop_tokens(&mut self, gone: impl Fn(&JoinTokenRow) -> bool) {
        let keys = self.cluster.tokens.iter().filter(|(_, token)| gone(token));
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.cluster.tokens.remove(&key);
            self.cluster.dirty.tokens.insert(key);
            self.effects.note(Effect::TokenGone, key.0, 0);
        }
    }

    pub(crate) fn set_changes(&mut self, set: impl FnOnce(&mut ChangesRow)) {
        set(&mut self.cluster.changes);
        self.cluster.dirty.changes = true;
        let changes = &self.cluster.changes;
        let current = changes.current.as_ref();
        let digest = text(&current.map(|change| change.change.to_string()).unwrap_or_default());
        let id = current.map_or(0, |change| change.id << 1 | u64::from(change.aborted));
        self.effects.note(Effect::ChangeSet, id, digest);
        self.entry.events.push(Event::MembershipChange);
    }

    pub(crate) fn check_cluster(&self) -> Result<(), String> {
        for ((node, _), token) in &self.cluster.tokens {
            if self.cluster.nodes.contains_key(node) {
                return Err(format!("node {node} has a join token and is known already"));
            }
            if token.node != *node {
                return Err(format!("the token of node {} lies under node {node}", token.node));
            }
        }
        for node in self.cluster.nodes.values() {
            if node.voter && node.state != NodeState::Member {
                return Err(format!("node {} votes and is no member", node.node));
            }
        }
        Ok(())
    }
}
