//! Continuous archiving: the leader sends what was committed since the last time, a stretch at a time.
//!
//! Who archives is not agreed upon: whoever leads goes on where the archive ends, by what lies in the location. Should two
//! nodes do so around a change of leader, their stretches overlap and hold the same committed entries, so nothing is
//! lost by it and nothing contradicts.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use muster_core::LogIndex;
use muster_failpoint::failpoint;
use muster_raft::Raft;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::catalog::segment;
use crate::error::{Error, Result};
use crate::keys::{SigningKey, Trust};
use crate::manifest::Position;
use crate::repository::Repository;
use crate::segment::{self as stretch, ArchiveEnd};

/// Entries beyond this many are left for the next stretch: a listing of one object stays readable.
const ENTRIES_MAX: u64 = 100_000;

/// How the archive stands, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// This node archives, since it leads.
    pub active: bool,
    /// Last entry archived.
    pub archived_index: LogIndex,
    /// Applied entries that are not archived yet.
    pub lag_entries: u64,
    /// For how long something has been waiting to be archived.
    pub lag: Duration,
    /// When the last stretch was sent.
    pub last_sent: Option<Timestamp>,
    /// Gaps since this node started: log that had to be purged before it was archived.
    pub gaps: u64,
    /// Why the last try failed, if it did.
    pub error: Option<String>,
}

/// The archive of one cluster, seen from one node.
pub(crate) struct Archiver {
    pub(crate) repository: Repository,
    pub(crate) key: Option<SigningKey>,
    pub(crate) trust: Trust,
    pub(crate) raft: Raft,
    pub(crate) bytes_max: u64,
    /// Known while this node archives.
    end: Option<ArchiveEnd>,
    /// Up to here the archive is known to reach.
    known: LogIndex,
    /// Since when there is something that is not archived.
    waiting_since: Option<Instant>,
    pub(crate) status: ArchiveStatus,
}

/// What a round of archiving brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Stretches sent.
    pub(crate) sent: u64,
    /// There is a gap: points in time after it need a new backup.
    pub(crate) gap: bool,
}

impl Archiver {
    pub(crate) fn new(
        repository: Repository,
        key: Option<SigningKey>,
        trust: Trust,
        raft: Raft,
        bytes_max: u64,
    ) -> Self {
        Self {
            repository,
            key,
            trust,
            raft,
            bytes_max,
            end: None,
            known: 0,
            waiting_since: None,
            status: ArchiveStatus::default(),
        }
    }

    /// Another node archives from now on.
    pub(crate) fn step_down(&mut self) {
        self.end = None;
        self.waiting_since = None;
        self.status.active = false;
        self.status.error = None;
        self.publish();
    }

    /// Looks how far the archive reaches, so that this node's log can be purged up to there.
    pub(crate) async fn follow(&mut self) -> Result<()> {
        if let Some((last, _)) = self.newest().await? {
            self.note(last);
        }
        self.publish();
        Ok(())
    }

    /// Sends all that was applied and is not archived yet.
    pub(crate) async fn round(&mut self) -> Result<Round> {
        let outcome = self.try_round().await;
        self.status.error = outcome.as_ref().err().map(ToString::to_string);
        if outcome.is_err() {
            // What is there now is looked up anew.
            self.end = None;
        }
        self.publish();
        outcome
    }

    async fn try_round(&mut self) -> Result<Round> {
        self.status.active = true;
        let mut round = Round::default();
        loop {
            let applied = *self.raft.applied().borrow();
            let end = match self.end {
                Some(end) => end,
                None => self.find_end().await?,
            };
            self.end = Some(end);
            if end.next > applied {
                self.waiting_since = None;
                return Ok(round);
            }
            self.waiting_since.get_or_insert_with(Instant::now);
            self.publish();
            failpoint!("archive.segment.before_read", Error::injected);
            let entries = match self.read(end.next, applied) {
                Ok(entries) => entries,
                Err(muster_store::Error::Purged { purged, .. }) => {
                    round.gap |= end.last.is_some();
                    self.begin_anew(end, purged + 1);
                    continue;
                }
                Err(error) => return Err(Error::store("reading the log to archive it")(error)),
            };
            let (repository, key, node) = (self.repository.clone(), self.key.clone(), self.raft.node());
            let packed = tokio::task::spawn_blocking(move || {
                stretch::encode(repository.cluster(), node, &end, &entries, key.as_ref())
            });
            let (head, object) = packed
                .await
                .map_err(|error| Error::Invalid(format!("packing did not end: {error}")))??;
            let path = self.repository.segment(head.first.index, head.last.index);
            let size = object.len() as u64;
            failpoint!("archive.segment.before_put", Error::injected);
            self.repository.put(&path, object).await?;
            failpoint!("archive.segment.after_put", Error::injected);
            self.end = Some(ArchiveEnd::after(&head));
            self.status.last_sent = Some(Timestamp::now());
            self.note(head.last.index);
            round.sent += 1;
            metrics::counter!("muster_backup_archive_segments_total").increment(1);
            metrics::counter!("muster_backup_archive_bytes_total").increment(size);
            self.waiting_since = Some(Instant::now());
        }
    }

    fn read(&self, from: LogIndex, applied: LogIndex) -> muster_store::Result<Vec<muster_store::LogEntry>> {
        let to = (applied + 1).min(from + ENTRIES_MAX);
        let log = self.raft.store().log();
        log.read(from, to, usize::try_from(self.bytes_max).unwrap_or(usize::MAX))
    }

    fn begin_anew(&mut self, end: ArchiveEnd, next: LogIndex) {
        if end.last.is_some() {
            tracing::error!(
                from = end.next,
                to = next - 1,
                "log was purged before it could be archived: points in time between the last one archived and the next \
                 backup cannot be restored; a backup is made now"
            );
            self.status.gaps += 1;
            metrics::counter!("muster_backup_archive_gaps_total").increment(1);
        }
        self.end = Some(ArchiveEnd::beginning(self.repository.cluster(), next));
    }

    /// Where the archive goes on, by what is there.
    async fn find_end(&mut self) -> Result<ArchiveEnd> {
        let (cluster, purged) = (
            self.repository.cluster(),
            self.raft
                .store()
                .log()
                .bounds()
                .purged
                .map_or(0, |purged| purged.index + 1),
        );
        let Some((_, path)) = self.newest().await? else {
            return Ok(ArchiveEnd::beginning(cluster, purged));
        };
        let bytes = self.repository.get(&path).await?;
        let (head, _) = stretch::head(path.as_ref(), &bytes, cluster, &self.trust)?;
        let end = ArchiveEnd::after(&head);
        self.check_ours(head.last)?;
        self.note(head.last.index);
        Ok(end)
    }

    /// An archive whose last entry is another than ours was written by another history of this cluster.
    fn check_ours(&self, last: Position) -> Result<()> {
        let ours = match self.raft.store().log().read(last.index, last.index + 1, 1) {
            Ok(entries) => entries.first().map(|entry| Position::from(entry.position)),
            // Gone already; the chain will tell when it is restored.
            Err(muster_store::Error::Purged { .. }) => return Ok(()),
            Err(error) => return Err(Error::store("reading the log")(error)),
        };
        match ours {
            Some(ours) if ours == last => Ok(()),
            ours => Err(Error::tampered(
                "the archived log",
                format!(
                    "it ends with {last:?}, this cluster has {ours:?} there: another history was archived here. Stop whatever \
                     else archives to this place, or choose another url"
                ),
            )),
        }
    }

    /// The stretch that reaches furthest, and how far.
    async fn newest(&self) -> Result<Option<(LogIndex, Path)>> {
        let purged = self.raft.store().log().bounds().purged.map_or(0, |purged| purged.index);
        // Only what may be new: a long archive has many objects. A stretch begins at most one stretch before it ends.
        let from = self.known.max(purged).saturating_sub(2 * ENTRIES_MAX);
        let after = self.repository.segment(from, 0);
        let mut found = self.repository.list("log", Some(&after)).await?;
        if found.is_empty() && from > 0 {
            found = self.repository.list("log", None).await?;
        }
        let reach = |meta: ObjectMeta| Some((segment(&meta)?.last, meta.location));
        Ok(found.into_iter().filter_map(reach).max_by_key(|(last, _)| *last))
    }

    fn note(&mut self, archived: LogIndex) {
        self.known = self.known.max(archived);
        self.status.archived_index = self.known;
        self.raft.archived(self.known);
    }

    fn publish(&mut self) {
        let applied = *self.raft.applied().borrow();
        self.status.lag_entries = if self.status.active {
            applied.saturating_sub(self.known)
        } else {
            0
        };
        self.status.lag = self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        metrics::gauge!("muster_backup_archived_index").set(self.known as f64);
        metrics::gauge!("muster_backup_archive_lag_entries").set(self.status.lag_entries as f64);
        metrics::gauge!("muster_backup_archive_lag_seconds").set(self.status.lag.as_secs_f64());
    }
}
