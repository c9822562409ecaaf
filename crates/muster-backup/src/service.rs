//! Backups of a running node: by itself while it leads, and when asked for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use muster_raft::{Raft, Role};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::archive::{ArchiveStatus, Archiver};
use crate::create::{Created, Maker};
use crate::error::{Error, Result};
use crate::keys::{SigningKey, Trust};
use crate::location::Location;
use crate::options::BackupOptions;
use crate::progress::{ProgressSink, silent};
use crate::prune::prune;
use crate::repository::Repository;
use crate::throttle::Throttle;

/// How often a node that does not lead looks how far the archive reaches.
const FOLLOW: Duration = Duration::from_secs(10);
/// How often it is looked whether a backup is due.
const LOOK: Duration = Duration::from_secs(1);
/// After a failed backup.
const RETRY: Duration = Duration::from_secs(30);

/// A backup made by this node, or found in the location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBackup {
    /// Its name.
    pub id: String,
    /// When it was finished.
    pub finished: Timestamp,
    /// Log index; known only if this node made it.
    pub index: Option<u64>,
    /// Length of its files; likewise.
    pub bytes: Option<u64>,
    /// Of which the location lacked so many; likewise.
    pub new_bytes: Option<u64>,
    /// How long it took; likewise.
    pub took: Option<Duration>,
}

/// How backups stand, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupStatus {
    /// Where they go.
    pub location: String,
    /// The key that signs them; `None`: they are not signed.
    pub signed_by: Option<String>,
    /// A backup is being made by this node.
    pub running: bool,
    /// The newest backup.
    pub last: Option<LastBackup>,
    /// Why the last backup failed, if it did.
    pub error: Option<String>,
    /// Time between backups; zero: only when asked for.
    pub interval: Duration,
    /// The archive of the log; `None`: it is switched off.
    pub archive: Option<ArchiveStatus>,
}

/// Backups of a running node. Cheap to clone; its work ends with the last clone.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    options: BackupOptions,
    raft: Raft,
    maker: Maker,
    trust: Trust,
    /// Held while a backup is made.
    making: tokio::sync::Mutex<()>,
    status: Mutex<BackupStatus>,
    /// A backup is wanted now.
    wanted: Notify,
}

impl Backups {
    /// Begins archiving and backups by schedule on the present runtime. `None`: the options name no location. Nothing is
    /// sent before this returns, so an object store that cannot be reached does not keep a node from starting.
    ///
    /// `sign_key` of the options must be a path that this process can open as it is.
    pub fn start(options: BackupOptions, raft: Raft) -> Result<Option<Self>> {
        options.validate().map_err(Error::Invalid)?;
        let Some(url) = &options.url else { return Ok(None) };
        let location = Location::create(url)?;
        let key = options.sign_key.as_deref().map(SigningKey::load).transpose()?;
        Ok(Some(Self::start_at(options, location, key, raft)))
    }

    /// The same at a location that is open.
    pub fn start_at(options: BackupOptions, location: Location, key: Option<SigningKey>, raft: Raft) -> Self {
        let repository = location.repository(raft.status().cluster);
        let trust = match &key {
            Some(key) => Trust::Keys(vec![key.verify_key()]),
            None => Trust::Unsigned,
        };
        let status = BackupStatus {
            location: location.to_string(),
            signed_by: key.as_ref().map(|key| key.verify_key().to_string()),
            interval: options.interval,
            archive: options.archive.then(ArchiveStatus::default),
            ..BackupStatus::default()
        };
        let maker = Maker {
            repository: repository.clone(),
            key: key.clone(),
            throttle: Throttle::new(options.bandwidth),
            hashes: Arc::default(),
        };
        let shared = Arc::new(Shared {
            maker,
            trust: trust.clone(),
            making: tokio::sync::Mutex::default(),
            status: Mutex::new(status),
            wanted: Notify::new(),
            raft: raft.clone(),
            options,
        });
        let stop = CancellationToken::new();
        if shared.options.archive {
            let archiver = Archiver::new(repository, key, trust, raft, shared.options.archive_bytes);
            tokio::spawn(archive(shared.clone(), archiver, stop.clone()));
        }
        tokio::spawn(by_schedule(shared.clone(), stop.clone()));
        Self(Arc::new(Inner {
            shared,
            _stop: stop.drop_guard(),
        }))
    }

    /// Makes a backup of all that this node has applied. One at a time.
    pub async fn create(&self, progress: &ProgressSink, stop: &CancellationToken) -> Result<Created> {
        self.0.shared.create(progress, stop).await
    }

    /// How backups stand.
    pub fn status(&self) -> BackupStatus {
        self.0.shared.status.lock().clone()
    }
}

impl Shared {
    fn repository(&self) -> &Repository {
        &self.maker.repository
    }

    async fn create(&self, progress: &ProgressSink, stop: &CancellationToken) -> Result<Created> {
        let Ok(_turn) = self.making.try_lock() else {
            return Err(Error::Busy {
                what: format!("a backup by node {}", self.raft.node()),
                since: "a moment ago".to_owned(),
            });
        };
        self.status.lock().running = true;
        metrics::gauge!("muster_backup_running").set(1.0);
        let made = self.maker.make(&self.raft, progress, stop).await;
        metrics::gauge!("muster_backup_running").set(0.0);
        let mut status = self.status.lock();
        status.running = false;
        match &made {
            Ok(created) => {
                let manifest = &created.manifest;
                tracing::info!(
                    backup = manifest.id,
                    index = manifest.position.index,
                    bytes = manifest.bytes,
                    new_bytes = created.new_bytes,
                    took = ?created.took,
                    "backup made"
                );
                status.error = None;
                status.last = Some(LastBackup {
                    id: manifest.id.clone(),
                    finished: Timestamp::now(),
                    index: Some(manifest.position.index),
                    bytes: Some(manifest.bytes),
                    new_bytes: Some(created.new_bytes),
                    took: Some(created.took),
                });
                metrics::gauge!("muster_backup_last_success_seconds").set(Timestamp::now().as_second() as f64);
                metrics::gauge!("muster_backup_last_bytes").set(manifest.bytes as f64);
                metrics::gauge!("muster_backup_last_new_bytes").set(created.new_bytes as f64);
                metrics::histogram!("muster_backup_seconds").record(created.took);
            }
            Err(Error::Empty | Error::Cancelled | Error::Busy { .. }) => {}
            Err(error) => {
                status.error = Some(error.to_string());
                metrics::counter!("muster_backup_failures_total").increment(1);
            }
        }
        made
    }

    /// When the newest backup in the location was written, by the location's clock.
    async fn newest(&self) -> Result<Option<Timestamp>> {
        let found = self.repository().list("backups", None).await?;
        let newest = found.into_iter().max_by(|a, b| a.location.cmp(&b.location));
        let Some(meta) = newest else { return Ok(None) };
        let finished =
            Timestamp::from_millisecond(meta.last_modified.timestamp_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
        let id = meta.location.filename().unwrap_or_default().trim_end_matches(".json");
        let mut status = self.status.lock();
        if status.last.as_ref().is_none_or(|last| last.id != id) {
            status.last = Some(LastBackup {
                id: id.to_owned(),
                finished,
                index: None,
                bytes: None,
                new_bytes: None,
                took: None,
            });
        }
        Ok(Some(finished))
    }

    fn leads(&self) -> bool {
        matches!(*self.raft.role().borrow(), Role::Leader { .. })
    }
}

async fn archive(shared: Arc<Shared>, mut archiver: Archiver, stop: CancellationToken) {
    let mut tick = tokio::time::interval(shared.options.archive_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let work = async {
            if shared.leads() {
                match archiver.round().await {
                    Ok(round) if round.gap => shared.wanted.notify_one(),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "the log could not be archived; it is tried again"),
                }
            } else {
                if archiver.status.active {
                    archiver.step_down();
                }
                if followed.is_none_or(|at| at.elapsed() >= FOLLOW) {
                    followed = Some(Instant::now());
                    if let Err(error) = archiver.follow().await {
                        archiver.status.error = Some(error.to_string());
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => return,
        }
        shared.status.lock().archive = Some(archiver.status.clone());
    }
}

async fn by_schedule(shared: Arc<Shared>, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Known while this node leads.
    let mut newest: Option<Timestamp> = None;
    let mut not_before = Instant::now();
    loop {
        let wanted = tokio::select! {
            _ = look.tick() => false,
            () = shared.wanted.notified() => true,
            () = stop.cancelled() => return,
        };
        if !shared.leads() {
            newest = None;
            continue;
        }
        if !wanted && (shared.options.interval.is_zero() || Instant::now() < not_before) {
            continue;
        }
        let outcome = tokio::select! {
            outcome = make_if_due(&shared, wanted, newest, &stop) => outcome,
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(found) => newest = found,
            // Before the first entry, or while somebody makes one: soon again.
            Err(Error::Empty | Error::Busy { .. } | Error::Cancelled) => {}
            Err(error) => {
                tracing::warn!(%error, "the backup failed; it is tried again");
                not_before = Instant::now() + RETRY;
            }
        }
    }
}

/// Returns when the newest backup was made.
async fn make_if_due(
    shared: &Shared,
    wanted: bool,
    newest: Option<Timestamp>,
    stop: &CancellationToken,
) -> Result<Option<Timestamp>> {
    let known = match newest {
        Some(newest) => Some(newest),
        None => shared.newest().await?,
    };
    let due = known.is_none_or(|known| {
        let age = Duration::try_from(Timestamp::now().duration_since(known)).unwrap_or_default();
        age >= shared.options.interval
    });
    if !due && !wanted {
        return Ok(known);
    }
    // Another node may have made one, and another leader its own.
    shared.create(&silent(), stop).await?;
    let retention = shared.options.retention();
    match prune(shared.repository(), retention, &shared.trust, false).await {
        Ok(pruned) if pruned.backups.is_empty() && pruned.files == 0 => {}
        Ok(pruned) => tracing::info!(
            backups = pruned.backups.len(),
            files = pruned.files,
            segments = pruned.segments,
            bytes = pruned.bytes,
            "old backups removed"
        ),
        Err(Error::Busy { .. }) => {}
        Err(error) => tracing::warn!(%error, "old backups could not be removed"),
    }
    Ok(Some(Timestamp::now()))
}
