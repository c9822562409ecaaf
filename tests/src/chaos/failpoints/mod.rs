//! A campaign over all failpoints: each is armed on a node of a real cluster under load, to die there, to fail, to pause.
//! `docs/failpoints.md` says how.

mod campaign;
mod outcome;
mod plan;
mod points;
mod trial;
mod ways;

use std::path::Path;

pub use campaign::{Settings, run};
pub use outcome::Outcome;
pub use points::{Point, list, points, repository, with_list};

/// What `cluster.toml` has besides, so that much happens in little time: the log is purged soon, mostly read from the disk,
/// and archived.
pub(super) fn tables(path: &Path) -> String {
    format!(
        "\n[raft]\nlog_keep_bytes = \"1MiB\"\n\n[store]\nlog_tail = \"64KiB\"\nflush_interval = \"2s\"\n\n[backup]\nurl = \
         \"{}\"\nunsigned = true\ninterval = \"0s\"\narchive_interval = \"500ms\"\n",
        path.join("backups").display()
    )
}
