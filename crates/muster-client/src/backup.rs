//! Calls about backups.

use std::time::{Duration, SystemTime};

use muster_proto::v1;
use muster_proto::v1::backup_service_client::BackupServiceClient;

use crate::call::stream_request;
use crate::client::Client;
use crate::error::{Attempt, Result, settle};
use crate::views::time;

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// What is being done, for people.
    pub step: String,
    /// Bytes done in this step.
    pub done: u64,
    /// Bytes to do; 0: not known.
    pub total: u64,
}

/// A backup that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupInfo {
    /// Its name.
    pub id: String,
    /// Last log entry contained.
    pub log_index: u64,
    /// Rolling hash of the state there.
    pub state_hash: u64,
    /// Files.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// Of these, what the location did not have yet.
    pub new_files: u64,
    /// See `new_files`.
    pub new_bytes: u64,
    /// Live jobs contained.
    pub live_jobs: u64,
    /// How long it took.
    pub took: Duration,
    /// Key that signed it, in hexadecimal.
    pub signed_by: Option<String>,
}

/// How backups stand, as the answering node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupStatus {
    /// The node that answered.
    pub node_id: u64,
    /// Where backups go; `None`: the cluster makes none.
    pub location: Option<String>,
    /// Key that signs them, in hexadecimal.
    pub signed_by: Option<String>,
    /// This node is making one.
    pub running: bool,
    /// Name of the newest backup.
    pub last_id: Option<String>,
    /// When it was finished.
    pub last_finished: Option<SystemTime>,
    /// Last log entry contained; known if this node made it, like what follows.
    pub last_log_index: Option<u64>,
    /// Its length.
    pub last_bytes: Option<u64>,
    /// What of it was sent.
    pub last_new_bytes: Option<u64>,
    /// How long it took.
    pub last_took: Option<Duration>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Time between backups; `None`: only when asked for.
    pub interval: Option<Duration>,
    /// `None`: the log is not archived.
    pub archive: Option<ArchiveInfo>,
}

/// The archive of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// The answering node archives, since it leads.
    pub active: bool,
    /// Last entry known to be archived.
    pub archived_index: u64,
    /// Applied entries that are not archived yet.
    pub lag_entries: u64,
    /// For how long something has been waiting to be archived.
    pub lag: Duration,
    /// When something was sent last.
    pub last_sent: Option<SystemTime>,
    /// Gaps since the node started.
    pub gaps: u64,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl Client {
    /// Makes a backup of all that was acknowledged before the call; `progress` hears how far it is. Takes as long as it
    /// takes. Dropping the future stops the backup and leaves nothing half-done.
    pub async fn create_backup(&self, mut progress: impl FnMut(BackupProgress)) -> Result<BackupInfo> {
        use v1::create_backup_response::Answer;
        let mut answers = self
            .call(|channel, envelope| {
                let request = stream_request(v1::CreateBackupRequest {}, &envelope.tenant);
                async move { BackupServiceClient::new(channel).create_backup(request).await }
            })
            .await?;
        loop {
            let answer = match answers.message().await {
                Ok(Some(response)) => response.answer,
                Ok(None) => return Err(cut()),
                Err(status) => {
                    return Err(match Attempt::from_status(&status) {
                        Attempt::Refused(reason) => settle(reason, false),
                        Attempt::Retry(reason) | Attempt::Unanswered(reason) => settle(reason, true),
                    });
                }
            };
            match answer {
                Some(Answer::Progress(v1::BackupProgress { step, done, total })) => {
                    progress(BackupProgress { step, done, total });
                }
                Some(Answer::Backup(backup)) => return Ok(backup.into()),
                None => {}
            }
        }
    }

    /// How backups stand, as the node that answers knows it: the leader when it can be reached.
    pub async fn backup_status(&self) -> Result<BackupStatus> {
        let response = self
            .call(|channel, envelope| async move {
                BackupServiceClient::new(channel)
                    .get_backup_status(envelope.wrap(v1::GetBackupStatusRequest {}))
                    .await
            })
            .await?;
        Ok(response.into())
    }
}

/// The node ended without saying what became of the backup.
fn cut() -> crate::Error {
    let reason = crate::error::local(
        crate::Code::Unavailable,
        "CONNECTION_LOST",
        "the node went away while it made the backup",
    );
    settle(reason, true)
}

fn length(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| duration.try_into().ok())
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<v1::Backup> for BackupInfo {
    fn from(backup: v1::Backup) -> Self {
        Self {
            id: backup.id,
            log_index: backup.log_index,
            state_hash: backup.state_hash,
            files: backup.files,
            bytes: backup.bytes,
            new_files: backup.new_files,
            new_bytes: backup.new_bytes,
            live_jobs: backup.live_jobs,
            took: length(backup.took).unwrap_or_default(),
            signed_by: text(backup.signed_by),
        }
    }
}

impl From<v1::GetBackupStatusResponse> for BackupStatus {
    fn from(status: v1::GetBackupStatusResponse) -> Self {
        Self {
            node_id: status.node_id,
            location: text(status.location),
            signed_by: text(status.signed_by),
            running: status.running,
            last_id: text(status.last_id),
            last_finished: time(status.last_finished),
            last_log_index: status.last_log_index,
            last_bytes: status.last_bytes,
            last_new_bytes: status.last_new_bytes,
            last_took: length(status.last_took),
            error: text(status.error),
            interval: length(status.interval),
            archive: status.archive.map(|archive| ArchiveInfo {
                active: archive.active,
                archived_index: archive.archived_index,
                lag_entries: archive.lag_entries,
                lag: length(archive.lag).unwrap_or_default(),
                last_sent: time(archive.last_sent),
                gaps: archive.gaps,
                error: text(archive.error),
            }),
        }
    }
}
