//! The cluster as the answering node sees it. These calls need no leader, so that they answer when there is none.

use muster_core::Core;
use muster_proto::v1;
use muster_raft::{MemberConfig, RaftStatus, Role};

use crate::api::Api;
use crate::errors::Error;

/// What `OK` means here.
const DURABILITY: &str = "synced to disk on a majority and applied on the answering leader";

impl Api {
    pub(crate) fn get_status(&self) -> v1::GetStatusResponse {
        let raft = self.raft();
        let (live, meta) = raft.read(|core: &Core| (core.live(), core.meta().clone()));
        let status = raft.status();
        // Term and leader are of one moment: else an old leader could be told as that of the new term.
        let role = *raft.role().borrow();
        let leader = match role {
            Role::Follower { leader, .. } => leader.unwrap_or(0),
            Role::BecomingLeader { .. } | Role::Leader { .. } => status.node,
        };
        let members = raft
            .members()
            .into_iter()
            .map(|config| member(config, &status, leader))
            .collect();
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

fn member(config: MemberConfig, status: &RaftStatus, leader: u64) -> v1::Member {
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
    v1::Member {
        reachable: status.answered.get(&config.id).copied(),
        node_id: config.id,
        api_address: config.api,
        peer_address: config.peer,
        role: role.into(),
        matched_index: matched,
    }
}
