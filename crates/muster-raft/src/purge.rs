//! Keeps the log from growing for ever.
//!
//! A node drops what its flushed state contains and nobody is likely to ask for: by size, and by age. A member that needs
//! more gets a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_core::LogIndex;
use muster_failpoint::{Injected, failpoint};
use muster_store::{LogStore, Room};
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::options::RaftOptions;
use crate::peer::Channels;
use crate::silence::answered;
use crate::types::{LogId, OpenRaft};

/// How often the size of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For flushing and linking the state, and for the purge itself.
const STEP: Duration = Duration::from_mins(1);
/// The log may exceed `log_keep_bytes` by a fourth before something goes, so that many entries go at once.
const SLACK: u64 = 4;
/// A member that answers but lags, or gets a snapshot, holds the log up to so many times `log_keep_bytes`.
const PATIENCE: u64 = 4;
/// With little room on the disk, this part of `log_keep_bytes` is kept.
const TIGHT: u64 = 16;

pub(crate) struct Purger {
    pub(crate) raft: OpenRaft,
    pub(crate) store: muster_store::Store,
    pub(crate) channels: Channels,
    pub(crate) options: RaftOptions,
    /// Archived up to here, if there is an archive.
    pub(crate) archived: Arc<AtomicU64>,
}

impl Purger {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut purged_at = Instant::now();
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            self.store.state().expire_snapshot();
            self.reclaim().await;
            let bytes = self.log().bytes();
            metrics::gauge!("muster_log_bytes").set(bytes as f64);
            let keep = self.keep_bytes();
            let large = bytes > keep + keep / SLACK;
            let old = purged_at.elapsed() > self.options.log_keep / 4;
            let Some(upto) = (large || old).then(|| self.dispensable()).flatten() else {
                continue;
            };
            tokio::select! {
                done = self.purge(upto) => match done {
                    Ok(()) => purged_at = Instant::now(),
                    Err(reason) => tracing::warn!(upto, reason, "the log could not be purged; it is tried again"),
                },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Gives back the space of what was purged: a second later, when nobody waits for it.
    async fn reclaim(&self) {
        let log = self.log().clone();
        if log.is_reclaimable()
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.reclaim()).await
        {
            tracing::warn!(%error, "files of the log that hold nothing but purged entries could not be removed; it is tried again");
        }
    }

    fn log(&self) -> &LogStore {
        self.store.log()
    }

    /// Log that is kept for others; little of it when there is little room.
    fn keep_bytes(&self) -> u64 {
        let keep = self.options.log_keep_bytes;
        match self.store.room() {
            Room::Enough => keep,
            Room::Low | Room::Out => (keep / TIGHT).max(1 << 20),
        }
    }

    /// The last entry that can go.
    fn dispensable(&self) -> Option<LogIndex> {
        let keep = self.keep_bytes();
        let point = self.log().purge_point(keep, self.options.log_keep)?;
        let answered = answered(&self.raft, self.options.node, self.options.election_max);
        // What comes after its snapshot must still be there when it has installed it, or it needs another one.
        let sending = self.channels.sending();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = metrics.last_applied.as_ref().map_or(0, |id| id.index);
        let mut upto = point.index.min(applied);
        if self.log().bytes() < PATIENCE * keep {
            for (node, matched) in metrics.replication.iter().flatten() {
                if answered.get(node) == Some(&true) || sending.contains(node) {
                    upto = upto.min(matched.as_ref().map_or(0, |id| id.index));
                }
            }
        }
        // An archive that cannot be reached must not fill the disk.
        if self.log().bytes() < self.options.log_hold_bytes {
            upto = upto.min(self.archived.load(Ordering::Relaxed));
        }
        let purged = self.log().bounds().purged.map_or(0, |purged| purged.index);
        (upto > purged).then_some(upto)
    }

    /// Sees to it that the state is flushed up to there, then lets openraft purge.
    async fn purge(&self, upto: LogIndex) -> Result<(), String> {
        let begun = Instant::now();
        let covered = |id: Option<&LogId>| id.is_some_and(|id| id.index >= upto);
        let flushed = covered(self.raft.metrics().borrow_watched().snapshot.as_ref());
        if !flushed && self.store.room() == Room::Out {
            return Err("the disk has no room for flushing the state".to_owned());
        }
        if !flushed {
            failpoint!("purge.flush.before", Injected::into_text);
            let trigger = self.raft.trigger();
            trigger.snapshot().await.map_err(|error| error.to_string())?;
            self.raft
                .wait(Some(STEP))
                .metrics(|metrics| covered(metrics.snapshot.as_ref()), "the state is flushed")
                .await
                .map_err(|error| error.to_string())?;
        }
        failpoint!("purge.log.before", Injected::into_text);
        let trigger = self.raft.trigger();
        trigger.purge_log(upto).await.map_err(|error| error.to_string())?;
        // Openraft waits while it sends entries that are to go.
        self.raft
            .wait(Some(STEP))
            .metrics(|metrics| covered(metrics.purged.as_ref()), "the entries are gone")
            .await
            .map_err(|error| error.to_string())?;
        failpoint!("purge.log.after", Injected::into_text);
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(upto, bytes = self.log().bytes(), took_ms, "the log is purged");
        Ok(())
    }
}
