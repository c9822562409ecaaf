//! The cluster as the answering node sees it. These calls need no leader, so that they answer when there is none.

use std::collections::BTreeMap;

use muster_core::{ChangeOutcome, ChangeRow, Core, NodeId, NodeRow};
use muster_proto::v1;
use muster_raft::{MemberConfig, RaftStatus, Role};
use muster_store::Room;

use crate::api::Api;
use crate::convert;
use crate::errors::Error;

/// What `OK` means here.
const DURABILITY: &str = "synced to disk on a majority and applied on the answering leader";

impl Api {
    pub(crate) fn get_status(&self) -> v1::GetStatusResponse {
        let raft = self.raft();
        let (live, meta, nodes, changes, next_node_id) = raft.read(|core: &Core| {
            let known = |row: &NodeRow| (row.node, (row.drained, row.note.clone(), core.sessions_on(row.node)));
            let nodes: Nodes = core.nodes().map(known).collect();
            let changes = core.membership_changes().clone();
            (core.live(), core.meta().clone(), nodes, changes, core.next_node_id())
        });
        let membership = raft.membership();
        let status = raft.status();
        // Term and leader are of one moment: else an old leader could be told as that of the new term.
        let role = *raft.role().borrow();
        let leader = match role {
            Role::Follower { leader, .. } => leader.filter(|_| self.raft().hears_leader()).unwrap_or(0),
            Role::BecomingLeader { .. } | Role::Leader { .. } => status.node,
        };
        let joint = membership.is_joint();
        let members = membership.members.into_iter();
        let members = members.map(|config| member(config, &status, leader, &nodes)).collect();
        let under_way = |row: &ChangeRow| v1::MembershipChange {
            stage: raft.stage().unwrap_or_default(),
            ..change(row)
        };
        v1::GetStatusResponse {
            cluster_id: format!("{:032x}", status.cluster),
            node_id: status.node,
            term: role.term(),
            leader_id: leader,
            last_log_index: status.last_log_index,
            committed_index: status.commit_index,
            applied_index: meta.applied,
            members,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scheduled: live.scheduled,
            available: live.available,
            running: live.running,
            retrying: live.retrying,
            state_hash: meta.hash,
            durability: DURABILITY.to_owned(),
            blocked: live.blocked,
            membership_index: membership.index,
            joint,
            change: changes.current.as_ref().map(under_way),
            last_change: changes.last.as_ref().map(|ended| {
                let (outcome, reason) = match &ended.outcome {
                    ChangeOutcome::Done => (v1::membership_change::Outcome::Done, String::new()),
                    ChangeOutcome::Undone { reason } => (v1::membership_change::Outcome::Undone, reason.to_string()),
                };
                v1::MembershipChange {
                    ended_at: convert::timestamp(ended.ended_at),
                    outcome: outcome.into(),
                    reason,
                    ..change(&ended.change)
                }
            }),
            next_node_id,
            storage: Some(storage(&status)),
            memory: Some(v1::JobsMemory {
                used_bytes: status.memory.used,
                limit_bytes: status.memory.limit,
            }),
        }
    }

    pub(crate) fn get_leader(&self) -> Result<v1::GetLeaderResponse, Error> {
        let leader = self
            .raft()
            .leader()
            .ok_or_else(|| Error::NotDone("no leader is known at the moment".to_owned()))?;
        Ok(v1::GetLeaderResponse {
            node_id: leader.id,
            api_address: leader.api,
        })
    }
}

/// By node: drained, why, worker sessions.
type Nodes = BTreeMap<NodeId, (bool, muster_core::Name, usize)>;

fn change(row: &ChangeRow) -> v1::MembershipChange {
    use v1::membership_change::Outcome;
    v1::MembershipChange {
        id: row.id,
        change: row.change.to_string(),
        node_id: row.change.node(),
        begun_at: convert::timestamp(row.begun_at),
        ended_at: None,
        outcome: if row.aborted {
            Outcome::Aborting
        } else {
            Outcome::UnderWay
        }
        .into(),
        reason: row.reason.to_string(),
        stage: String::new(),
    }
}

fn storage(status: &RaftStatus) -> v1::NodeStorage {
    use v1::node_storage::Room as Wire;
    let room = match status.space.room {
        Room::Enough => Wire::Enough,
        Room::Low => Wire::Low,
        Room::Out => Wire::Out,
    };
    v1::NodeStorage {
        refilling: status.refilling,
        room: room.into(),
        disk_free_bytes: status.space.free,
        disk_reserve_bytes: status.space.reserve,
    }
}

fn member(config: MemberConfig, status: &RaftStatus, leader: u64, nodes: &Nodes) -> v1::Member {
    use v1::member::Role;
    let role = match config.id {
        id if id == leader => Role::Leader,
        id if status.voters.contains(&id) => Role::Follower,
        _ => Role::Learner,
    };
    let matched = status
        .matched
        .iter()
        .find(|(node, _)| *node == config.id)
        .map(|(_, index)| *index);
    let (drained, note, sessions) = nodes.get(&config.id).cloned().unwrap_or((false, "".into(), 0));
    v1::Member {
        drained,
        drain_note: note.to_string(),
        worker_sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        reachable: status.answered.get(&config.id).copied(),
        node_id: config.id,
        api_address: config.api,
        peer_address: config.peer,
        role: role.into(),
        matched_index: matched,
    }
}
