//! Wall clocks of single nodes moved, by libfaketime. Clocks that only go forward are left alone: the system would not
//! move them either.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Cluster;

/// Where the library is.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The library, if it is installed.
pub(super) fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).is_file())
}

/// A node's clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    id: u64,
    /// Read by the library whenever the node asks for the time.
    offset: PathBuf,
}

impl Clock {
    /// Makes the clock of a node movable from its next start on.
    pub(crate) fn make(cluster: &mut Cluster, id: u64) -> io::Result<Self> {
        let library = library().ok_or_else(|| io::Error::other("libfaketime is not installed"))?;
        let clock = Self {
            id,
            offset: cluster.path().join(format!("clock-{id}")),
        };
        clock.set(0)?;
        let file = clock.offset.display().to_string();
        for (name, value) in [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ] {
            cluster.set_environment(id, name, value);
        }
        Ok(clock)
    }

    /// The node's.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Moves it so many seconds away from the right time.
    pub(super) fn set(&self, seconds: i64) -> io::Result<()> {
        // In one step: the node may be reading.
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{seconds:+}"))?;
        fs::rename(new, &self.offset)
    }

    /// Whether a process uses the library.
    pub(super) fn moves(pid: u32) -> bool {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.contains("libfaketime")
    }
}
