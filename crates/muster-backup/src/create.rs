//! Making a backup: the files of a pinned state that the location lacks, then the manifest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_failpoint::failpoint;
use muster_raft::Raft;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hash::HashCache;
use crate::keys::{SigningKey, VerifyKey};
use crate::manifest::{Manifest, ManifestFile};
use crate::marker::{Marker, Work};
use crate::progress::{Meter, Progress, ProgressSink, Step};
use crate::repository::Repository;
use crate::sealed;
use crate::throttle::Throttle;

/// Hashes remembered between backups.
const HASHES_MAX: usize = 100_000;

/// What a backup is made with.
pub(crate) struct Maker {
    pub(crate) repository: Repository,
    /// `None`: without a signature, as the configuration allowed in so many words.
    pub(crate) key: Option<SigningKey>,
    pub(crate) throttle: Throttle,
    pub(crate) hashes: Arc<Mutex<HashCache>>,
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its manifest, as it was written.
    pub manifest: Manifest,
    /// The key that signed it; `None`: it is not signed.
    pub signed_by: Option<VerifyKey>,
    /// Files and bytes that the location did not have yet.
    pub new_files: u64,
    /// See `new_files`.
    pub new_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Makes a backup of the state that this node has applied. On an error, or when `stop` is cancelled, nothing of it is
/// visible; files already sent are used by the next one, or pruned.
pub async fn create(
    raft: &Raft,
    repository: &Repository,
    key: Option<&SigningKey>,
    progress: &ProgressSink,
    stop: &CancellationToken,
) -> Result<Created> {
    let maker = Maker {
        repository: repository.clone(),
        key: key.cloned(),
        throttle: Throttle::new(0),
        hashes: Arc::default(),
    };
    maker.make(raft, progress, stop).await
}

impl Maker {
    pub(crate) async fn make(&self, raft: &Raft, progress: &ProgressSink, stop: &CancellationToken) -> Result<Created> {
        let begun = Instant::now();
        let who = format!("node {}", raft.node());
        let marker = Marker::begin(&self.repository, Work::Backup, &who).await?;
        let made = self.marked(raft, &marker, progress, stop, begun).await;
        failpoint!("backup.create.before_unmark");
        marker.end().await;
        made
    }

    async fn marked(
        &self,
        raft: &Raft,
        marker: &Marker,
        progress: &ProgressSink,
        stop: &CancellationToken,
        begun: Instant,
    ) -> Result<Created> {
        progress(Progress {
            step: Step::Pin,
            done: 0,
            total: 0,
        });
        failpoint!("backup.create.before_pin", Error::injected);
        let pinned = raft.pin_state().await.map_err(Error::raft("pinning the state"))?;
        let pinned = pinned.filter(|pinned| pinned.facts.cluster != 0).ok_or(Error::Empty)?;
        if pinned.facts.cluster != self.repository.cluster() {
            return Err(Error::Foreign {
                object: format!("the state of node {}", raft.node()),
                found: pinned.facts.cluster,
                expected: self.repository.cluster(),
            });
        }
        let linked = pinned
            .snapshot
            .files()
            .map_err(Error::store("listing the pinned state"))?;
        failpoint!("backup.create.before_hash", Error::injected);
        let files = self.hash(&linked, progress, stop).await?;

        let known = self.known().await?;
        let lacks = |file: &ManifestFile| known.get(&self.repository.file(&file.blake3)) != Some(&file.bytes);
        let mut wanted: Vec<_> = files.iter().zip(&linked).filter(|(file, _)| lacks(file)).collect();
        // Two files of the same content are one object.
        wanted.sort_by_key(|(file, _)| file.blake3);
        wanted.dedup_by_key(|(file, _)| file.blake3);
        let new_bytes = wanted.iter().map(|(file, _)| file.bytes).sum();
        let new_files = wanted.len() as u64;
        let mut meter = Meter::new(progress, Step::Upload, new_bytes);
        for (file, linked) in wanted {
            let path = self.repository.file(&file.blake3);
            let sent = |bytes| meter.add(bytes);
            self.repository
                .put_file(&path, &linked.path, &self.throttle, stop, sent)
                .await?;
        }
        if stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // Else what this backup counts on may have been pruned.
        marker.still_ours().await?;
        let id = format!("{:020}-{:08x}", pinned.facts.position.index, rand::random::<u32>());
        let manifest = Manifest::new(id, raft.node(), &pinned.facts, files);
        let bytes = sealed::seal(&manifest, self.key.as_ref(), &[])?;
        failpoint!("backup.manifest.before_put", Error::injected);
        self.repository
            .put(&self.repository.backup(&manifest.id), bytes)
            .await?;
        failpoint!("backup.manifest.after_put", Error::injected);
        Ok(Created {
            manifest,
            signed_by: self.key.as_ref().map(SigningKey::verify_key),
            new_files,
            new_bytes,
            took: begun.elapsed(),
        })
    }

    async fn hash(
        &self,
        linked: &[muster_store::SnapshotFile],
        progress: &ProgressSink,
        stop: &CancellationToken,
    ) -> Result<Vec<ManifestFile>> {
        let (hashes, linked) = (self.hashes.clone(), linked.to_vec());
        let (progress, stop) = (progress.clone(), stop.clone());
        let work = move || {
            let mut meter = Meter::new(&progress, Step::Hash, linked.iter().map(|file| file.bytes).sum());
            let mut hashes = hashes.lock();
            hashes.keep_at_most(HASHES_MAX);
            let mut files = Vec::with_capacity(linked.len());
            for file in linked {
                if stop.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let (blake3, _) = hashes.hash(&file.path)?;
                meter.add(file.bytes);
                files.push(ManifestFile {
                    name: file.name,
                    bytes: file.bytes,
                    blake3,
                });
            }
            Ok(files)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::Invalid(format!("hashing did not end: {error}")))?
    }

    /// Files that are there already, with their lengths.
    async fn known(&self) -> Result<HashMap<object_store::path::Path, u64>> {
        let found = self.repository.list("files", None).await?;
        Ok(found.into_iter().map(|meta| (meta.location, meta.size)).collect())
    }
}
