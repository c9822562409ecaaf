//! Between openraft's types, the messages between nodes and the positions of the store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_core::Member;
use muster_proto::peer as wire;
use muster_store::{EntryKind, LogEntry, LogPosition};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use crate::options::MemberConfig;
use crate::types::{Address, CommandBytes, Entry, LeaderId, LogId, Membership, StoredMembership, Vote};

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {detail}")]
pub(crate) struct Malformed {
    what: &'static str,
    detail: String,
}

fn malformed(what: &'static str, detail: impl ToString) -> Malformed {
    Malformed {
        what,
        detail: detail.to_string(),
    }
}

pub(crate) fn position(id: LogId) -> LogPosition {
    LogPosition {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId::new(
        LeaderId {
            term: position.term,
            node_id: position.node,
        },
        position.index,
    )
}

pub(crate) fn log_id_out(id: LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_in(id: wire::LogId) -> LogId {
    LogId::new(
        LeaderId {
            term: id.term,
            node_id: id.node,
        },
        id.index,
    )
}

pub(crate) fn vote_out(vote: Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<wire::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or_else(|| malformed("message", "has no vote"))?;
    Ok(Vote {
        leader_id: LeaderId {
            term: vote.term,
            node_id: vote.node,
        },
        committed: vote.committed,
    })
}

pub(crate) fn vote_bytes(vote: Vote) -> Bytes {
    vote_out(vote).encode_to_vec().into()
}

pub(crate) fn vote_from_bytes(bytes: Bytes) -> Result<Vote, Malformed> {
    vote_in(Some(
        wire::Vote::decode(bytes).map_err(|err| malformed("stored vote", err))?,
    ))
}

fn membership_out(membership: &Membership) -> wire::Membership {
    wire::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|ids| wire::Voters {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, node)| wire::Member {
                id: *id,
                peer: node.peer.clone(),
                api: node.api.clone(),
            })
            .collect(),
    }
}

fn membership_in(membership: wire::Membership) -> Result<Membership, Malformed> {
    let voters: Vec<BTreeSet<u64>> = membership
        .voters
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let members: BTreeMap<u64, Address> = membership
        .members
        .into_iter()
        .map(|member| {
            let address = Address {
                peer: member.peer,
                api: member.api,
            };
            (member.id, address)
        })
        .collect();
    if voters.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, members).map_err(|err| malformed("membership", err))
}

/// The members as the core has them. Who votes in any of the sets votes.
pub(crate) fn core_members(membership: &Membership) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(id, address): (&u64, &Address)| Member {
        node: *id,
        peer: address.peer.as_str().into(),
        api: address.api.as_str().into(),
        voter: voters.contains(id),
    };
    membership.nodes().map(member).collect()
}

/// A membership in which all of these vote, as of a position.
pub(crate) fn voting_members(members: &[MemberConfig], at: LogId) -> Result<StoredMembership, Malformed> {
    let address = |member: &MemberConfig| Address {
        peer: member.peer.clone(),
        api: member.api.clone(),
    };
    let nodes: BTreeMap<u64, Address> = members.iter().map(|member| (member.id, address(member))).collect();
    let voters = nodes.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes).map_err(|err| malformed("membership", err))?;
    Ok(StoredMembership::new(Some(at), membership))
}

pub(crate) fn stored_membership_out(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: stored.log_id().map(log_id_out),
        membership: Some(membership_out(stored.membership())),
    }
}

pub(crate) fn stored_membership_in(stored: wire::StoredMembership) -> Result<StoredMembership, Malformed> {
    let membership = membership_in(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_in), membership))
}

pub(crate) fn stored_membership_bytes(stored: &StoredMembership) -> Bytes {
    stored_membership_out(stored).encode_to_vec().into()
}

/// Empty bytes are the membership of a node that never had one.
pub(crate) fn stored_membership_from_bytes(bytes: Bytes) -> Result<StoredMembership, Malformed> {
    let stored = wire::StoredMembership::decode(bytes).map_err(|err| malformed("stored membership", err))?;
    stored_membership_in(stored)
}

fn kind_and_data(payload: EntryPayload<CommandBytes, u64, Address>) -> (EntryKind, Bytes) {
    match payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(data) => (EntryKind::Commands, data.0),
        EntryPayload::Membership(membership) => (
            EntryKind::Membership,
            membership_out(&membership).encode_to_vec().into(),
        ),
    }
}

fn payload(kind: EntryKind, data: Bytes) -> Result<EntryPayload<CommandBytes, u64, Address>, Malformed> {
    Ok(match kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Commands => EntryPayload::Normal(CommandBytes(data)),
        EntryKind::Membership => {
            let membership = wire::Membership::decode(data).map_err(|err| malformed("membership entry", err))?;
            EntryPayload::Membership(membership_in(membership)?)
        }
    })
}

pub(crate) fn entry_to_store(entry: Entry) -> LogEntry {
    let (kind, data) = kind_and_data(entry.payload);
    LogEntry {
        position: position(entry.log_id),
        kind,
        data,
    }
}

pub(crate) fn entry_from_store(entry: LogEntry) -> Result<Entry, Malformed> {
    Ok(Entry::new(log_id(entry.position), payload(entry.kind, entry.data)?))
}

pub(crate) fn entry_out(entry: Entry) -> wire::Entry {
    let id = log_id_out(entry.log_id);
    let (kind, data) = kind_and_data(entry.payload);
    let kind = match kind {
        EntryKind::Blank => wire::EntryKind::Blank,
        EntryKind::Commands => wire::EntryKind::Commands,
        EntryKind::Membership => wire::EntryKind::Membership,
    };
    wire::Entry {
        id: Some(id),
        kind: kind as i32,
        data,
    }
}

pub(crate) fn entry_in(entry: wire::Entry) -> Result<Entry, Malformed> {
    let kind = match wire::EntryKind::try_from(entry.kind).map_err(|err| malformed("entry", err))? {
        wire::EntryKind::Blank => EntryKind::Blank,
        wire::EntryKind::Commands => EntryKind::Commands,
        wire::EntryKind::Membership => EntryKind::Membership,
    };
    let id = entry.id.ok_or_else(|| malformed("entry", "has no id"))?;
    Ok(Entry::new(log_id_in(id), payload(kind, entry.data)?))
}

pub(crate) fn cluster_out(cluster: u128) -> wire::ClusterId {
    wire::ClusterId {
        high: (cluster >> 64) as u64,
        low: cluster as u64,
    }
}

pub(crate) fn cluster_in(cluster: wire::ClusterId) -> u128 {
    u128::from(cluster.high) << 64 | u128::from(cluster.low)
}
