//! Backups: made on the node that is asked, reported while they are made.

use std::time::Duration;

use muster_backup::{ArchiveStatus, BackupStatus, Backups, Created, Progress, ProgressSink};
use muster_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::api::{Answers, Api};
use crate::convert;
use crate::errors::Error;

/// Between two reports of progress.
const REPORT: Duration = Duration::from_millis(200);

/// A backup under way.
struct Making {
    progress: watch::Receiver<Option<Progress>>,
    made: JoinHandle<muster_backup::Result<Created>>,
    /// The caller goes away: so does the backup.
    _stop: DropGuard,
}

impl Api {
    pub(crate) async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Answers<v1::CreateBackupResponse>>, Status> {
        let permit = self.waits().enter()?;
        let caller = self.caller(request.metadata())?;
        let backups = self.backups().cloned().ok_or(muster_backup::Error::NotConfigured);
        let backups = backups.map_err(Error::from)?;
        self.linearize(caller.deadline).await?;
        let making = Some(make(backups));
        let answers = futures::stream::unfold(making, move |making| {
            // Held until the stream is dropped.
            let _ = &permit;
            next(making)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    pub(crate) fn backup_status(&self) -> v1::GetBackupStatusResponse {
        let node = self.raft().node();
        match self.backups() {
            Some(backups) => status(node, backups.status()),
            None => v1::GetBackupStatusResponse {
                node_id: node,
                ..v1::GetBackupStatusResponse::default()
            },
        }
    }
}

fn make(backups: Backups) -> Making {
    let (sender, progress) = watch::channel(None);
    let sink: ProgressSink = std::sync::Arc::new(move |progress| {
        sender.send_replace(Some(progress));
    });
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let made = tokio::spawn(async move { backups.create(&sink, &stopped).await });
    Making {
        progress,
        made,
        _stop: stop.drop_guard(),
    }
}

type Answer = Result<v1::CreateBackupResponse, Status>;

async fn next(making: Option<Making>) -> Option<(Answer, Option<Making>)> {
    use v1::create_backup_response::Answer;
    let mut making = making?;
    let ended = tokio::select! {
        biased;
        ended = &mut making.made => Some(ended),
        () = changed(&mut making.progress) => None,
    };
    let answer = match ended {
        None => {
            let progress = *making.progress.borrow();
            let progress = progress.map(|progress| v1::BackupProgress {
                step: progress.step.name().to_owned(),
                done: progress.done,
                total: progress.total,
            });
            let answer = Some(Answer::Progress(progress.unwrap_or_default()));
            return Some((Ok(v1::CreateBackupResponse { answer }), Some(making)));
        }
        Some(Ok(Ok(created))) => Ok(v1::CreateBackupResponse {
            answer: Some(Answer::Backup(backup(&created))),
        }),
        Some(Ok(Err(error))) => Err(Error::from(error).into()),
        Some(Err(error)) => Err(Error::Internal(format!("the backup did not end: {error}")).into()),
    };
    Some((answer, None))
}

/// Waits for news, not more often than they are worth sending.
async fn changed(progress: &mut watch::Receiver<Option<Progress>>) {
    if progress.changed().await.is_err() {
        // The task is about to end.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(REPORT).await;
}

fn backup(created: &Created) -> v1::Backup {
    let manifest = &created.manifest;
    let jobs = &manifest.jobs;
    v1::Backup {
        id: manifest.id.clone(),
        log_index: manifest.position.index,
        state_hash: manifest.state_hash,
        files: manifest.files.len() as u64,
        bytes: manifest.bytes,
        new_files: created.new_files,
        new_bytes: created.new_bytes,
        live_jobs: jobs.scheduled + jobs.available + jobs.running + jobs.retrying,
        took: Some(convert::duration(created.took)),
        signed_by: created.signed_by.map(|key| key.to_string()).unwrap_or_default(),
    }
}

fn status(node: u64, status: BackupStatus) -> v1::GetBackupStatusResponse {
    let last = status.last;
    let of = |number: fn(&muster_backup::LastBackup) -> Option<u64>| last.as_ref().and_then(number);
    v1::GetBackupStatusResponse {
        node_id: node,
        location: status.location,
        signed_by: status.signed_by.unwrap_or_default(),
        running: status.running,
        last_id: last.as_ref().map(|last| last.id.clone()).unwrap_or_default(),
        last_finished: last.as_ref().map(|last| instant(last.finished)),
        last_log_index: of(|last| last.index),
        last_bytes: of(|last| last.bytes),
        last_new_bytes: of(|last| last.new_bytes),
        last_took: last.as_ref().and_then(|last| last.took).map(convert::duration),
        error: status.error.unwrap_or_default(),
        interval: (!status.interval.is_zero()).then(|| convert::duration(status.interval)),
        archive: status.archive.map(archive),
    }
}

fn archive(archive: ArchiveStatus) -> v1::ArchiveStatus {
    v1::ArchiveStatus {
        active: archive.active,
        archived_index: archive.archived_index,
        lag_entries: archive.lag_entries,
        lag: Some(convert::duration(archive.lag)),
        last_sent: archive.last_sent.map(instant),
        gaps: archive.gaps,
        error: archive.error.unwrap_or_default(),
    }
}

fn instant(at: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}
