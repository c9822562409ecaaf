//! Fetching the files of a backup, each proved to be the one that was sent.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use muster_raft::offline::OfflineState;
use muster_store::offline;

use super::{blocking, open_state};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, ManifestFile};
use crate::progress::{Meter, ProgressSink, Step};
use crate::repository::Repository;

/// Lays the state of a backup out in a new data directory, opens it, and checks that it is what the manifest says.
pub(crate) async fn fetch_state(
    repository: &Repository,
    backup: &Manifest,
    dir: &Path,
    progress: &ProgressSink,
) -> Result<OfflineState> {
    let into = offline::state_dir(dir);
    std::fs::create_dir_all(&into).map_err(Error::io(format!("making {}", into.display())))?;
    let mut meter = Meter::new(progress, Step::Download, backup.bytes);
    for file in &backup.files {
        fetch(repository, file, &into.join(&file.name), |bytes| meter.add(bytes)).await?;
    }
    let (dir, backup) = (dir.to_owned(), backup.clone());
    blocking(move || {
        offline::adopt_state(&dir).map_err(Error::store(format!("laying out {}", dir.display())))?;
        let state = open_state(&dir)?;
        let facts = state.facts();
        let facts = facts.ok_or_else(|| Error::tampered(&backup.id, "its state is empty"))?;
        let fits = backup.fits(&facts);
        fits.map_err(|reason| Error::tampered(format!("backup {}", backup.id), reason))?;
        Ok(state)
    })
    .await
}

async fn fetch(repository: &Repository, file: &ManifestFile, to: &Path, mut got: impl FnMut(u64)) -> Result<()> {
    let object = repository.file(&file.blake3);
    let writing = || Error::io(format!("writing {}", to.display()));
    let mut out = File::create_new(to).map_err(writing())?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    repository
        .get_chunks(&object, |chunk| {
            bytes += chunk.len() as u64;
            if bytes > file.bytes {
                return Err(Error::tampered(
                    &object,
                    format!("it is longer than {} bytes", file.bytes),
                ));
            }
            hasher.update(&chunk);
            got(chunk.len() as u64);
            out.write_all(&chunk).map_err(writing())
        })
        .await?;
    if bytes != file.bytes || hasher.finalize().as_bytes() != &file.blake3 {
        return Err(Error::tampered(
            &object,
            format!(
                "its {bytes} bytes are not the {} that were sent as {}",
                file.bytes, file.name
            ),
        ));
    }
    out.sync_all().map_err(writing())
}
