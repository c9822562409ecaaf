//! Reading a backup back, whole, as a restore would, and the archived log after it.

use std::path::Path;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::keys::{Trust, VerifyKey};
use crate::manifest::Manifest;
use crate::progress::{Meter, ProgressSink, Step};
use crate::repository::Repository;
use crate::restore::{Plan, blocking, fetch_state, replay};

/// What was proved.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The backup.
    pub manifest: Manifest,
    /// Who signed it.
    pub signed_by: Option<VerifyKey>,
    /// Rows of the state that were read.
    pub rows: u64,
    /// Ended jobs that were read.
    pub ended: u64,
    /// Stretches of archived log after it, all of one chain.
    pub segments: u64,
    /// Their entries, all applied.
    pub entries: u64,
    /// Last entry that can be restored from this backup.
    pub reaches: u64,
    /// Newer backups whose state hash the replay came to.
    pub met: u64,
}

/// Proves that a backup (`None`: the newest) and the archived log after it can be restored. Uses a directory below `scratch`
/// and removes it.
pub async fn verify(
    repository: &Repository,
    backup: Option<&str>,
    trust: &Trust,
    scratch: &Path,
    progress: &ProgressSink,
) -> Result<Verified> {
    let catalog = Catalog::load(repository, trust).await?;
    let manifest = catalog.backup(backup)?.clone();
    let signed_by = catalog
        .backups
        .iter()
        .find(|listed| listed.id == manifest.id)
        .and_then(|listed| listed.manifest.as_ref().ok()?.1);
    let plan = Plan {
        segments: catalog.path(&manifest, None)?,
        backup: manifest.clone(),
        stop: None,
    };
    let name = format!("muster-verify-{:08x}", rand::random::<u32>());
    let dir = scratch.join(name);
    std::fs::create_dir(&dir).map_err(Error::io(format!("making {}", dir.display())))?;
    let verified = in_dir(repository, &catalog, plan, trust, &dir, progress).await;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove");
    }
    Ok(Verified { signed_by, ..verified? })
}

async fn in_dir(
    repository: &Repository,
    catalog: &Catalog,
    plan: Plan,
    trust: &Trust,
    dir: &Path,
    progress: &ProgressSink,
) -> Result<Verified> {
    let data = dir.join("data");
    let mut state = fetch_state(repository, &plan.backup, &data, progress).await?;
    let store = state.store().clone();
    let scanned = {
        let mut meter = Meter::new(progress, Step::Read, 0);
        let scanned = blocking(move || store.state().verify().map_err(Error::store("reading the backup"))).await?;
        meter.add(scanned.rows + scanned.ended_jobs);
        scanned
    };
    let replayed = replay(repository, catalog, &plan, trust, &mut state, progress).await?;
    let reaches = state.applied().map_or(0, |applied| applied.index);
    blocking(move || {
        drop(state);
        Ok(())
    })
    .await?;
    Ok(Verified {
        manifest: plan.backup,
        signed_by: None,
        rows: scanned.rows,
        ended: scanned.ended_jobs,
        segments: replayed.segments,
        entries: replayed.entries,
        reaches,
        met: replayed.met,
    })
}
