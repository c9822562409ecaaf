//! Bytes written by earlier versions: what the log and the state keep of Raft's own, and messages between nodes.
//!
//! They must be read for ever, and today's bytes of the same values are the same. `MUSTER_WRITE_FIXTURES=1` writes the files
//! anew: before the first release after a change, later only for a new format, under new names.

use std::fmt::Debug;
use std::path::Path;

use bytes::Bytes;
use muster_proto::peer as wire;
use muster_store::EntryKind;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use crate::convert;
use crate::types::{Address, Entry, LeaderId, LogId, Membership, StoredMembership, Vote};

fn check(name: &str, encoded: &[u8], read: impl Fn(&[u8]) -> bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{name}.bin"));
    if std::env::var_os("MUSTER_WRITE_FIXTURES").is_some_and(|set| set == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, encoded).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    assert!(read(&stored), "{name}: old bytes are read otherwise");
    assert!(
        stored == encoded,
        "{name}: the encoding changed; keep the old fixture and add a new one"
    );
}

fn message<M: Message + Default + PartialEq + Debug>(name: &str, value: &M) {
    check(name, &value.encode_to_vec(), |bytes| {
        M::decode(bytes).unwrap() == *value
    });
}

fn leader() -> LeaderId {
    LeaderId { term: 7, node_id: 2 }
}

fn vote() -> Vote {
    Vote {
        leader_id: leader(),
        committed: true,
    }
}

fn membership() -> Membership {
    let address = |id: u64| Address {
        peer: format!("10.0.0.{id}:7101"),
        api: format!("10.0.0.{id}:7001"),
    };
    let joint = vec![[1, 2, 3].into(), [2, 3, 4].into()];
    let nodes: std::collections::BTreeMap<_, _> = (1..=5).map(|id| (id, address(id))).collect();
    Membership::new(joint, nodes).unwrap()
}

fn header() -> wire::Header {
    wire::Header {
        cluster: Some(convert::cluster_out(0xabcd)),
        group: 1,
        from: 2,
        to: 3,
    }
}

#[test]
fn what_is_kept_on_disk_is_read_and_written_alike() {
    let bytes = convert::vote_bytes(vote());
    check("vote-1", &bytes, |bytes| {
        convert::vote_from_bytes(Bytes::copy_from_slice(bytes)).unwrap() == vote()
    });
    let stored = StoredMembership::new(Some(LogId::new(leader(), 19)), membership());
    check(
        "stored-membership-1",
        &convert::stored_membership_bytes(&stored),
        |bytes| convert::stored_membership_from_bytes(Bytes::copy_from_slice(bytes)).unwrap() == stored,
    );
    let entry = Entry::new(LogId::new(leader(), 19), EntryPayload::Membership(membership()));
    let record = convert::entry_to_store(entry.clone());
    assert_eq!(record.kind, EntryKind::Membership);
    check("membership-entry-1", &record.data.clone(), |bytes| {
        let record = muster_store::LogEntry {
            data: Bytes::copy_from_slice(bytes),
            ..record.clone()
        };
        convert::entry_from_store(record).unwrap() == entry
    });
}

#[test]
fn messages_between_nodes_are_read_and_written_alike() {
    let log_id = convert::log_id_out(LogId::new(leader(), 19));
    let higher = convert::vote_out(vote());
    let vote = Some(higher);
    message(
        "message-append-1",
        &wire::AppendRequest {
            header: Some(header()),
            vote,
            previous: Some(log_id),
            entries: vec![wire::Entry {
                id: Some(log_id),
                kind: wire::EntryKind::Commands as i32,
                data: Bytes::from_static(b"a batch"),
            }],
            leader_commit: Some(log_id),
        },
    );
    let results = [
        wire::append_reply::Result::Matched(wire::append_reply::Matched { log_id: Some(log_id) }),
        wire::append_reply::Result::Conflict(log_id),
        wire::append_reply::Result::HigherVote(higher),
    ];
    for (name, result) in ["matched", "conflict", "higher-vote"].into_iter().zip(results) {
        let reply = wire::AppendReply { result: Some(result) };
        message(&format!("message-append-reply-{name}-1"), &reply);
    }
    message(
        "message-vote-1",
        &wire::VoteRequest {
            header: Some(header()),
            vote,
            last_log: Some(log_id),
            leadership_transfer: true,
        },
    );
    message(
        "message-vote-reply-1",
        &wire::VoteReply {
            vote,
            granted: true,
            last_log: Some(log_id),
        },
    );
    message(
        "message-snapshot-1",
        &wire::SnapshotPart {
            head: Some(wire::SnapshotHead {
                header: Some(header()),
                vote,
                last_log: Some(log_id),
                membership: Some(convert::stored_membership_out(&StoredMembership::new(
                    None,
                    membership(),
                ))),
                bytes: 1_000,
                id: 77,
                offset: 10,
            }),
            data: Bytes::from_static(b"a part"),
            crc: crc32fast::hash(b"a part"),
            last: true,
        },
    );
    message(
        "message-propose-1",
        &wire::ProposeRequest {
            header: Some(header()),
            id: 5,
            batch: Bytes::from_static(b"a batch"),
        },
    );
    message(
        "message-propose-reply-1",
        &wire::ProposeReply {
            id: 5,
            outcome: wire::ProposeOutcome::DiskFull as i32,
            replies: Bytes::from_static(b"replies"),
            limit: 7,
            value: 8,
            in_bytes: true,
        },
    );
    message(
        "message-hello-reply-1",
        &wire::HelloReply {
            node: 2,
            cluster: Some(convert::cluster_out(0xabcd)),
            initialised: true,
            members: vec![1, 2, 3],
            configured: vec![1, 2],
            predecessor: Some(convert::cluster_out(0xabcc)),
            last_log: Some(log_id),
            leader: 3,
            standing: Some(wire::Standing {
                state: wire::standing::State::Member as i32,
                peer: "127.0.0.1:7102".to_owned(),
                api: "127.0.0.1:7002".to_owned(),
                since_index: 4,
            }),
            next_node: 4,
            witnessed_vote: vote,
            witnessed_log: Some(log_id),
        },
    );
    message(
        "message-facts-1",
        &wire::NodeFacts {
            room: wire::Room::Low as i32,
            disk_free: 10,
            disk_reserve: 20,
            hashes: vec![wire::StateHash { index: 19, hash: 99 }],
            level_max: 2,
            version: "1.2.3".to_owned(),
            jobs_memory: 30,
        },
    );
}
