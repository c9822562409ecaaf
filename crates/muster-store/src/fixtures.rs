//! Bytes written by earlier versions. They must decode for ever; and as long as no version byte was raised, today's
//! bytes of the same values are the same. `MUSTER_WRITE_FIXTURES=1` writes the files anew: before the first release
//! after a change of a stored type, later only for a new version, under new names.

use std::fmt::Debug;
use std::path::Path;

use crate::cluster_samples;
use crate::codec::*;
use crate::identity::{self, FORMAT, Identity};
use crate::log::fixture as log_fixture;
use crate::samples;

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
        commands: vec![muster_core::Command::Tick],
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
    for (name, value, encoded, decode) in log_fixture::all(samples::log_entry()) {
        check(name, &value, &encoded, decode);
    }
}
