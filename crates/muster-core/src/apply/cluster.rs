//! Nodes: join tokens, joins, changes of the membership, drains.

use super::{Core, Refusal, Reply, out_of_range};
use crate::cluster::{
    ChangeOutcome, ChangeRow, ClusterCommand, ClusterRefusal, EndedChange, JoinTokenRow, MembershipChange, NodeRow,
    NodeState, TokenHash,
};
use crate::ids::{LogIndex, Millis, Name, NodeId};

/// Tokens outstanding at most.
const TOKENS_MAX: usize = 64;
const TTL_MIN: Millis = 60_000;
const TTL_MAX: Millis = 24 * 3_600_000;

/// A node that shows its token.
struct Joining {
    node: NodeId,
    hash: TokenHash,
    instance: u128,
    peer: Name,
    api: Name,
}

impl Core {
    pub(super) fn cluster_command(&mut self, command: ClusterCommand) -> Result<Reply, Refusal> {
        match command {
            ClusterCommand::CreateJoinToken {
                node,
                hash,
                ttl,
                voter,
                replaces,
                peer,
                api,
            } => {
                let now = self.meta.now;
                self.create_token(JoinTokenRow {
                    node,
                    hash,
                    created_at: now,
                    expires_at: now.saturating_add(ttl),
                    voter,
                    replaces,
                    peer,
                    api,
                })
            }
            ClusterCommand::RevokeJoinToken { node } => {
                self.drop_tokens(|token| token.node == node);
                Ok(Reply::Done)
            }
            ClusterCommand::Join {
                node,
                hash,
                instance,
                peer,
                api,
            } => self.join_node(Joining {
                node,
                hash,
                instance,
                peer,
                api,
            }),
            ClusterCommand::Change(change) => self.change(change),
            ClusterCommand::AbortChange { change, reason } => self.abort_change(change, reason),
            ClusterCommand::EndChange { change, outcome } => Ok(self.end_change(change, outcome)),
            ClusterCommand::Drain { node, drained, note } => self.drain(node, drained, note),
        }
    }

    fn create_token(&mut self, token: JoinTokenRow) -> Result<Reply, Refusal> {
        if token.node == 0 {
            return Err(out_of_range("node_id", 0, "from 1"));
        }
        let ttl = token.expires_at.saturating_sub(token.created_at);
        if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
            return Err(out_of_range("ttl", format!("{ttl} ms"), "1 minute to 24 hours"));
        }
        self.refuse_used(token.node)?;
        if token.replaces != 0 {
            self.voter(token.replaces)?;
        }
        let now = self.meta.now;
        self.drop_tokens(|token| token.expires_at <= now);
        if self.cluster.tokens.len() >= TOKENS_MAX {
            return Err(ClusterRefusal::TooManyTokens { limit: TOKENS_MAX }.into());
        }
        let expires_at = token.expires_at;
        self.put_token(token);
        Ok(Reply::JoinToken { expires_at })
    }

    fn refuse_used(&self, node: NodeId) -> Result<(), Refusal> {
        if self.cluster.nodes.contains_key(&node) {
            let next = self.cluster.next_node();
            return Err(ClusterRefusal::NodeIdUsed { node, next }.into());
        }
        Ok(())
    }

    /// A member.
    fn member(&self, node: NodeId) -> Result<&NodeRow, Refusal> {
        match self.cluster.nodes.get(&node) {
            Some(row) if row.state == NodeState::Member => Ok(row),
            Some(row) if row.state == NodeState::Removed => Err(ClusterRefusal::NodeRemoved {
                node,
                index: row.since_index,
            }
            .into()),
            _ => Err(ClusterRefusal::UnknownNode { node }.into()),
        }
    }

    /// A member that votes.
    fn voter(&self, node: NodeId) -> Result<&NodeRow, Refusal> {
        let row = self.member(node)?;
        if row.voter {
            return Ok(row);
        }
        Err(ClusterRefusal::NotVoter { node }.into())
    }

    fn other_voter(&self, node: NodeId) -> Result<(), Refusal> {
        if self.cluster.voters().any(|row| row.node != node) {
            return Ok(());
        }
        Err(ClusterRefusal::LastVoter { node }.into())
    }

    fn other_undrained(&self, node: NodeId) -> Result<(), Refusal> {
        if self.cluster.voters().any(|row| row.node != node && !row.drained) {
            return Ok(());
        }
        Err(ClusterRefusal::LastUndrained { node }.into())
    }

    fn no_change_under_way(&self) -> Result<(), Refusal> {
        let Some(current) = &self.cluster.changes.current else {
            return Ok(());
        };
        Err(ClusterRefusal::ChangeUnderWay {
            id: current.id,
            change: current.change.to_string().into(),
        }
        .into())
    }

    /// Nobody is at these addresses but the node itself and the one whose place it takes: that may have been its machine.
    fn free_addresses(&self, node: NodeId, replaces: NodeId, peer: &Name, api: &Name) -> Result<(), Refusal> {
        let others = self
            .cluster
            .nodes
            .values()
            .filter(|other| other.state != NodeState::Removed);
        for other in others.filter(|other| other.node != node && other.node != replaces) {
            for address in [peer, api] {
                if *address == other.peer || *address == other.api {
                    return Err(ClusterRefusal::AddressTaken {
                        address: address.clone(),
                        node: other.node,
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn join_node(&mut self, joining: Joining) -> Result<Reply, Refusal> {
        let node = joining.node;
        if let Some(row) = self.cluster.nodes.get(&node) {
            return match row.state {
                NodeState::Removed => Err(ClusterRefusal::NodeRemoved {
                    node,
                    index: row.since_index,
                }
                .into()),
                // The same data directory: the first answer was lost.
                _ if row.instance == joining.instance && row.instance != 0 => Ok(Reply::ChangeBegun {
                    id: self.cluster.changes.current.as_ref().map_or(0, |change| change.id),
                }),
                _ => Err(ClusterRefusal::TokenUsed { node }.into()),
            };
        }
        let Some(token) = self.cluster.tokens.get(&(node, joining.hash)).cloned() else {
            return Err(ClusterRefusal::TokenUnknown { node }.into());
        };
        let now = self.meta.now;
        if token.expires_at <= now {
            let at = token.expires_at;
            return Err(ClusterRefusal::TokenExpired { node, at, now }.into());
        }
        for (field, expected, given) in [("peer", &token.peer, &joining.peer), ("api", &token.api, &joining.api)] {
            if !expected.is_empty() && expected != given {
                return Err(ClusterRefusal::AddressUnexpected {
                    node,
                    field: field.into(),
                    given: given.clone(),
                    expected: expected.clone(),
                }
                .into());
            }
        }
        self.free_addresses(node, token.replaces, &joining.peer, &joining.api)?;
        // The voter to be replaced may have gone since the token was made.
        let change = if token.replaces == 0 {
            MembershipChange::Add {
                node,
                voter: token.voter,
            }
        } else {
            self.voter(token.replaces)?;
            MembershipChange::Replace {
                old: token.replaces,
                new: node,
            }
        };
        self.no_change_under_way()?;
        self.drop_tokens(|token| token.node == node);
        let row = NodeRow {
            node,
            peer: joining.peer,
            api: joining.api,
            state: NodeState::Joining,
            voter: false,
            drained: false,
            note: "".into(),
            instance: joining.instance,
            since: now,
            since_index: self.entry.index,
        };
        self.cluster.nodes.insert(node, row);
        self.change_node(node, |_| {});
        Ok(self.begin_change(change))
    }

    fn change(&mut self, change: MembershipChange) -> Result<Reply, Refusal> {
        match &change {
            MembershipChange::Remove { node } => {
                if self.member(*node)?.voter {
                    self.other_voter(*node)?;
                    self.other_undrained(*node)?;
                }
            }
            MembershipChange::Demote { node } => {
                self.voter(*node)?;
                self.other_voter(*node)?;
                self.other_undrained(*node)?;
            }
            MembershipChange::Promote { node } => {
                if self.member(*node)?.voter {
                    return Err(ClusterRefusal::AlreadyVoter { node: *node }.into());
                }
            }
            MembershipChange::SetAddress { node, peer, api } => {
                let row = self.member(*node)?;
                if row.peer == *peer && row.api == *api {
                    return Ok(Reply::ChangeBegun { id: 0 });
                }
                self.free_addresses(*node, 0, peer, api)?;
            }
            MembershipChange::Add { .. } | MembershipChange::Replace { .. } => {
                return Err(out_of_range("change", change, "one that does not begin with a join"));
            }
        }
        self.no_change_under_way()?;
        Ok(self.begin_change(change))
    }

    /// A node that leaves hands over its worker sessions and the lead first.
    fn begin_change(&mut self, change: MembershipChange) -> Reply {
        let id = self.entry.index;
        let leaves = change.leaves();
        let was_drained = leaves.is_some_and(|node| self.cluster.nodes.get(&node).is_some_and(|row| row.drained));
        let row = ChangeRow {
            id,
            change,
            begun_at: self.meta.now,
            aborted: false,
            reason: "".into(),
            was_drained,
        };
        // Of a replacement the old one serves until the new one has caught up; then the leader drains it.
        if let MembershipChange::Remove { node } = row.change {
            self.change_node(node, |row| row.drained = true);
        }
        self.set_changes(|changes| changes.current = Some(row));
        Reply::ChangeBegun { id }
    }

    fn abort_change(&mut self, id: LogIndex, reason: Name) -> Result<Reply, Refusal> {
        match &self.cluster.changes.current {
            Some(current) if current.id == id => {}
            _ => return Err(ClusterRefusal::NoSuchChange { id }.into()),
        }
        self.set_changes(|changes| {
            if let Some(current) = changes.current.as_mut().filter(|current| !current.aborted) {
                current.aborted = true;
                current.reason = reason;
            }
        });
        Ok(Reply::Done)
    }

    /// A change that is not under way any more was ended before.
    fn end_change(&mut self, id: LogIndex, outcome: ChangeOutcome) -> Reply {
        let Some(change) = self.cluster.changes.current.take_if(|current| current.id == id) else {
            return Reply::Done;
        };
        if matches!(outcome, ChangeOutcome::Undone { .. }) {
            let joining = change.change.node();
            if self
                .cluster
                .nodes
                .get(&joining)
                .is_some_and(|row| row.state == NodeState::Joining)
            {
                self.change_node(joining, |row| row.state = NodeState::Removed);
            }
            if let Some(node) = change.change.leaves() {
                self.change_node(node, |row| row.drained = change.was_drained);
            }
        }
        let ended_at = self.meta.now;
        self.set_changes(|changes| {
            changes.last = Some(EndedChange {
                change,
                ended_at,
                outcome,
            });
        });
        Reply::Done
    }

    fn drain(&mut self, node: NodeId, drained: bool, note: Name) -> Result<Reply, Refusal> {
        let row = self.member(node)?;
        let note = if drained { note } else { "".into() };
        if row.drained == drained && row.note == note {
            return Ok(Reply::Done);
        }
        if drained && row.voter {
            self.other_undrained(node)?;
        }
        let leaves = self.cluster.changes.current.as_ref();
        if !drained && leaves.is_some_and(|change| change.change.leaves() == Some(node)) {
            self.no_change_under_way()?;
        }
        self.change_node(node, |row| {
            row.drained = drained;
            row.note = note;
        });
        Ok(Reply::Done)
    }
}
