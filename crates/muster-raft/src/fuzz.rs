//! Targets for the fuzzer: messages of other nodes. Whatever the bytes, a value or an error; an entry that is taken goes
//! to disk and back as it came.

#![allow(clippy::expect_used, reason = "a failure is what the fuzzer looks for")]

use bytes::Bytes;
use muster_proto::peer as wire;
use prost::Message;

use crate::convert;
use crate::join::JoinToken;

/// A name, and what is to do no harm with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("peer-append", append), ("peer-votes", votes), ("join-token", token)];

fn append(bytes: &[u8]) {
    let Ok(request) = wire::AppendRequest::decode(bytes) else {
        return;
    };
    drop(convert::vote_in(request.vote));
    for entry in request.entries {
        let Ok(entry) = convert::entry_in(entry) else { continue };
        let stored = convert::entry_to_store(entry.clone());
        let back = convert::entry_from_store(stored).expect("what was taken can be read again");
        assert_eq!(back, entry);
        let sent = convert::entry_in(convert::entry_out(entry.clone())).expect("what was taken can be sent on");
        assert_eq!(sent, entry);
    }
}

/// Votes and memberships as they lie in the log's database and in snapshots.
fn votes(bytes: &[u8]) {
    let owned = Bytes::copy_from_slice(bytes);
    if let Ok(vote) = convert::vote_from_bytes(owned.clone()) {
        let again = convert::vote_from_bytes(convert::vote_bytes(vote));
        assert_eq!(again.expect("what was read can be read again"), vote);
    }
    if let Ok(stored) = convert::stored_membership_from_bytes(owned) {
        let again = convert::stored_membership_from_bytes(convert::stored_membership_bytes(&stored));
        assert_eq!(again.expect("what was read can be read again"), stored);
    }
}

/// What an operator gives a new node. An error must not show the secret, whatever was given.
fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<JoinToken>() {
        Ok(token) => assert_eq!(token.to_string().parse().as_ref(), Ok(&token)),
        Err(error) => assert!(error.to_string().len() < 250, "{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../../fuzz/replay.rs");

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let id = |index| wire::LogId {
            term: 3,
            node: 1,
            index,
        };
        let vote = wire::Vote {
            term: 3,
            node: 1,
            committed: true,
        };
        let membership = wire::Membership {
            voters: vec![wire::Voters { ids: vec![1, 2] }, wire::Voters { ids: vec![2, 3] }],
            members: (1..4)
                .map(|id| wire::Member {
                    id,
                    peer: format!("127.0.0.1:{id}"),
                    api: "127.0.0.1:7001".to_owned(),
                })
                .collect(),
        };
        let entry = |index, kind: wire::EntryKind, data: Vec<u8>| wire::Entry {
            id: Some(id(index)),
            kind: kind as i32,
            data: data.into(),
        };
        let request = wire::AppendRequest {
            vote: Some(vote),
            previous: Some(id(6)),
            entries: vec![
                entry(7, wire::EntryKind::Blank, Vec::new()),
                entry(8, wire::EntryKind::Commands, b"commands".to_vec()),
                entry(9, wire::EntryKind::Membership, membership.encode_to_vec()),
            ],
            leader_commit: Some(id(5)),
            ..wire::AppendRequest::default()
        };
        let stored = wire::StoredMembership {
            log_id: Some(id(4)),
            membership: Some(membership),
        };
        vec![
            ("peer-append", request.encode_to_vec()),
            ("peer-votes", vote.encode_to_vec()),
            ("peer-votes", stored.encode_to_vec()),
            (
                "join-token",
                format!("muster-join-1.{:032x}.4.{}", 0xabcd, "5a".repeat(32)).into_bytes(),
            ),
        ]
    }
}
