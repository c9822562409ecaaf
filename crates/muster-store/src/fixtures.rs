//! Bytes written by earlier versions. They must decode for ever; and as long as no version byte was raised, today's
//! bytes of the same values are the same. `MUSTER_WRITE_FIXTURES=1` writes the files anew: before the first release
//! after a change of a stored type, later only for a new version, under new names.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use crate::cluster_samples;
use muster_core::{Command, Reply};

use crate::codec::*;
use crate::identity::{self, FORMAT, Identity};
use crate::log::fixture as log_fixture;
use crate::samples;
use crate::state::{generation, pack};

fn check<T: PartialEq + Debug>(name: &str, value: &T, encoded: &[u8], decode: impl Fn(&[u8]) -> T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{name}.bin"));
    if std::env::var_os("MUSTER_WRITE_FIXTURES").is_some_and(|set| set == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, encoded).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    assert_eq!(decode(&stored), *value, "{name}: old bytes are read otherwise");
    assert!(
        stored == encoded,
        "{name}: the encoding changed; raise its version and keep the old fixture"
    );
}

#[test]
fn old_bytes_are_read_and_written_alike() {
    let batch = samples::batch();
    check("batch-1", &batch, &encode_batch(&batch).unwrap(), |bytes| {
        assert_eq!(batch_stamp(bytes).unwrap(), batch.stamped_at);
        decode_batch(bytes).unwrap()
    });
    let cluster = muster_core::Batch {
        commands: cluster_samples::commands(),
        ..batch.clone()
    };
    check("batch-cluster-1", &cluster, &encode_batch(&cluster).unwrap(), |bytes| {
        decode_batch(bytes).unwrap()
    });
    let small = muster_core::Batch {
        commands: vec![Command::Tick],
        ..batch
    };
    check("batch-plain-1", &small, &encode_batch(&small).unwrap(), |bytes| {
        decode_batch(bytes).unwrap()
    });
    assert_eq!(batch_stamp(&encode_batch(&small).unwrap()).unwrap(), small.stamped_at);
    for (name, row) in samples::rows() {
        check(&format!("{name}-1"), &row, &encode_row(&row).unwrap(), |bytes| {
            decode_row(bytes).unwrap()
        });
        let key = row.key();
        let name = name.replace("row", "key");
        check(&format!("{name}-1"), &key, &encode_key(&key), |bytes| {
            decode_key(bytes).unwrap()
        });
    }
    let job = samples::job(1, 60);
    check("job-1", &job, &encode_job(&job).unwrap(), |bytes| {
        decode_job(bytes).unwrap()
    });
    let meta = Meta {
        applied: Some(samples::log_entry().position),
        membership: bytes::Bytes::from_static(b"voters"),
    };
    check("checkpoint-1", &meta, &encode_meta(&meta).unwrap(), |bytes| {
        decode_meta(bytes).unwrap()
    });
    let identity = Identity {
        cluster: 0xabcd,
        node: 2,
        format: FORMAT,
        created: 1_700_000_000_000,
        predecessor: None,
        instance: 0,
    };
    check(
        "identity-1",
        &identity,
        &identity::encode(&identity).unwrap(),
        |bytes| identity::decode(bytes).unwrap(),
    );
    // A packed snapshot, of files that stand for a database's.
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("000012.sst"), [7; 3_000]).unwrap();
    std::fs::write(from.join("CURRENT"), "MANIFEST-000005\n").unwrap();
    let mut packed = Vec::new();
    pack::pack(&from, &meta, &mut packed).unwrap();
    check("snapshot-1", &meta, &packed, |bytes| {
        let file = dir.path().join("packed");
        std::fs::write(&file, bytes).unwrap();
        let found = pack::unpack(&file, &to).unwrap();
        assert_eq!(std::fs::read(to.join("000012.sst")).unwrap(), [7; 3_000]);
        assert_eq!(std::fs::read(to.join("CURRENT")).unwrap(), b"MANIFEST-000005\n");
        found
    });
    let pointer = generation::encode_pointer(12);
    check("state-pointer-1", &12, &pointer, |bytes| {
        generation::decode_pointer(bytes).unwrap()
    });
    let replies = samples::replies();
    check("replies-1", &replies, &encode_replies(&replies).unwrap(), |bytes| {
        decode_replies(bytes).unwrap()
    });
    for (name, value, encoded, decode) in log_fixture::all(samples::log_entry()) {
        check(name, &value, &encoded, decode);
    }
}

/// The samples must have one of each, so that the fixtures have. A new variant does not compile here before it has a number,
/// and does not pass before it is in the samples.
#[test]
fn the_samples_have_every_command_and_reply() {
    let command = |command: &Command| match command {
        Command::Bootstrap { .. } => 0,
        Command::Enqueue(_) => 1,
        Command::EnqueueMany { .. } => 2,
        Command::Cancel { .. } => 3,
        Command::Redrive { .. } => 4,
        Command::OpenSession(_) => 5,
        Command::Report { .. } => 6,
        Command::QuietSession { .. } => 7,
        Command::CloseSession { .. } => 8,
        Command::LoseSession { .. } => 9,
        Command::Vouch { .. } => 10,
        Command::SetTenant { .. } => 11,
        Command::PauseQueue { .. } => 12,
        Command::Tick => 13,
        Command::SetLimit(_) => 14,
        Command::DeleteLimit(_) => 15,
        Command::OpenKey { .. } => 16,
        Command::ReleaseOrder { .. } => 17,
        Command::Once { .. } => 18,
        Command::Cluster(_) => 19,
        Command::SetLevel { .. } => 20,
        Command::PauseKind { .. } => 21,
        Command::SetPriority { .. } => 22,
        Command::SetQueueWeight { .. } => 23,
    };
    let reply = |reply: &Reply| match reply {
        Reply::Done => 0,
        Reply::Enqueued(_) => 1,
        Reply::EnqueuedMany(_) => 2,
        Reply::Cancelled(_) => 3,
        Reply::Reported(_) => 4,
        Reply::Tenant(_) => 5,
        Reply::Refused(_) => 6,
        Reply::JoinToken { .. } => 7,
        Reply::ChangeBegun { .. } => 8,
        Reply::Prioritised { .. } => 9,
    };
    let complete = |numbers: BTreeSet<usize>| numbers.iter().copied().eq(0..numbers.len());
    let commands = [samples::batch().commands, cluster_samples::commands()].concat();
    let commands: BTreeSet<_> = commands.iter().map(command).collect();
    assert!(complete(commands.clone()) && commands.len() == 24, "{commands:?}");
    let replies: BTreeSet<_> = samples::replies().iter().map(reply).collect();
    assert!(complete(replies.clone()) && replies.len() == 10, "{replies:?}");
}
