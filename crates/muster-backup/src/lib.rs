//! Backups of a cluster, its archived log, and clusters made of them.
//!
//! The only crate that knows object stores. A *location* (a directory, a bucket) holds a *repository* for each cluster:
//!
//! | Object | Content |
//! |---|---|
//! | `cluster-ID/backups/INDEX-X.json` | signed manifest of a backup, written last |
//! | `cluster-ID/files/HASH` | a file of the state store, named by its content; shared by backups |
//! | `cluster-ID/log/FIRST-LAST.seg` | a stretch of the replicated log, signed and chained |
//! | `cluster-ID/running/…` | who is at work here |
//!
//! Nothing is ever changed in place. `docs/backup.md` tells the whole to operators, `docs/adr/012` why it is so.

mod archive;
mod catalog;
mod chain;
mod create;
mod error;
mod hash;
mod hex;
mod keys;
mod location;
mod manifest;
mod marker;
mod options;
mod progress;
mod prune;
mod repository;
mod restore;
mod sealed;
mod segment;
mod service;
mod throttle;
mod verify;

pub use crate::archive::ArchiveStatus;
pub use crate::catalog::{Catalog, Listed, Segment};
pub use crate::create::{Created, create};
pub use crate::error::{Error, Result};
pub use crate::keys::{SigningKey, Trust, VerifyKey};
pub use crate::location::Location;
pub use crate::manifest::{Jobs, Manifest, ManifestFile, Member, Position};
pub use crate::options::BackupOptions;
pub use crate::progress::{Progress, ProgressSink, Step, silent};
pub use crate::prune::{Pruned, Retention, prune};
pub use crate::repository::Repository;
pub use crate::restore::{At, RestoreNode, RestoreRequest, Restored, restore};
pub use crate::service::{BackupStatus, Backups, LastBackup};
pub use crate::verify::{Verified, verify};

/// An id that no other cluster has.
pub fn new_cluster_id() -> u128 {
    loop {
        let id = rand::random();
        // 0 stands for none.
        if id != 0 {
            return id;
        }
    }
}
