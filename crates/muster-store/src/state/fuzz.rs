//! Targets for the fuzzer.

#![allow(clippy::expect_used, reason = "a failure is what the fuzzer looks for")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::pack;

/// Unpacks a snapshot into a directory of its own. An odd first byte: the rest is a list of parts, each a tag, the length
/// of its body and the body, which get right checksums; an even one: it is the stream as it stands.
pub(crate) fn snapshot(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let stream = if choice & 1 == 1 {
        pack::fuzz::stream(rest)
    } else {
        rest.to_vec()
    };
    let place = Place::make();
    std::fs::write(place.0.join("packed"), stream).expect("the temporary directory is writable");
    let to = place.0.join("unpacked");
    drop(pack::unpack(&place.0.join("packed"), &to));
    // Whatever it says of names, nothing lies outside.
    let outside = std::fs::read_dir(&place.0).expect("just made").count();
    assert!(outside <= 2, "a file was unpacked elsewhere");
}

/// A directory that goes with its owner; in memory where there is such a place, since each input needs one.
struct Place(PathBuf);

impl Place {
    fn make() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = base.join(format!("muster-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir(&place).expect("the temporary directory is writable");
        Self(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A good snapshot of two files, both ways.
#[cfg(test)]
pub(crate) fn seeds(meta: &crate::codec::Meta) -> impl Iterator<Item = Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("CURRENT"), b"MANIFEST-000001").unwrap();
    std::fs::write(dir.path().join("000007.sst"), [7; 300]).unwrap();
    let mut packed = vec![0];
    pack::pack(dir.path(), meta, &mut packed).unwrap();
    let head = crate::codec::encode_meta(meta).unwrap();
    let mut parts = vec![1];
    let mut part = |tag: u8, body: &[u8]| {
        parts.extend([tag, body.len() as u8]);
        parts.extend_from_slice(body);
    };
    part(b'h', &head);
    part(b'f', &[&3_u64.to_le_bytes()[..], b"CURRENT"].concat());
    part(b'd', b"abc");
    part(b'e', &[]);
    [packed, parts].into_iter()
}
