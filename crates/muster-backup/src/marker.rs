//! Who is at work in a repository: backups may reuse files of others, so nothing may be pruned meanwhile.
//!
//! Whoever begins puts down a marker and then looks for those of others, so of two that begin at once at least one sees
//! the other. Ages are told by the store's clock alone: markers of dead processes are forgotten.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::repository::Repository;

/// A marker this much older than a new one is of a process that died.
const DEAD_AFTER: Duration = Duration::from_mins(30);
/// How often a living process renews its marker.
const RENEW: Duration = Duration::from_mins(5);

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Adds a backup. Others may do so at the same time.
    Backup,
    /// Removes what is not needed. Alone.
    Prune,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Prune => "prune",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    who: String,
    since: Timestamp,
}

/// A marker that is kept alive until it is dropped, and removed by [`Marker::end`].
#[derive(Debug)]
pub(crate) struct Marker {
    repository: Repository,
    path: object_store::path::Path,
    renewing: JoinHandle<()>,
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Marker {
    /// Begins work unless it excludes work under way. `who`: for people.
    pub(crate) async fn begin(repository: &Repository, work: Work, who: &str) -> Result<Self> {
        let name = format!("{}-{:032x}", work.name(), rand::random::<u128>());
        let path = repository.marker(&name);
        let note = Note {
            who: format!("{} by {who}", work.name()),
            since: Timestamp::now(),
        };
        let bytes: bytes::Bytes = serde_json::to_vec(&note).unwrap_or_default().into();
        repository.put(&path, bytes.clone()).await?;
        let renewing = tokio::spawn({
            let (repository, path) = (repository.clone(), path.clone());
            async move {
                loop {
                    tokio::time::sleep(RENEW).await;
                    if let Err(error) = repository.put(&path, bytes.clone()).await {
                        tracing::warn!(%error, "the sign of a running backup could not be renewed");
                    }
                }
            }
        });
        let marker = Self {
            repository: repository.clone(),
            path,
            renewing,
        };
        match marker.look_for_others(work).await {
            Ok(()) => Ok(marker),
            Err(error) => {
                marker.end().await;
                Err(error)
            }
        }
    }

    async fn look_for_others(&self, work: Work) -> Result<()> {
        let found = self.repository.list("running", None).await?;
        let own = found.iter().find(|meta| meta.location == self.path);
        let now = own.ok_or(Error::Superseded)?.last_modified;
        for other in found.iter().filter(|meta| meta.location != self.path) {
            let prunes = other.location.filename().is_some_and(|name| name.starts_with("prune-"));
            let age = (now - other.last_modified).to_std().unwrap_or_default();
            if age > DEAD_AFTER {
                tracing::info!(marker = %other.location, "removing the sign of work that died");
                self.repository.delete(&other.location).await?;
                continue;
            }
            if work == Work::Backup && !prunes {
                continue;
            }
            // It may have ended since it was listed.
            let Ok(note) = self.repository.get(&other.location).await else {
                continue;
            };
            let note: Option<Note> = serde_json::from_slice(&note).ok();
            return Err(Error::Busy {
                what: note
                    .as_ref()
                    .map_or_else(|| other.location.to_string(), |note| note.who.clone()),
                since: note.map_or_else(|| "a time unknown".to_owned(), |note| note.since.to_string()),
            });
        }
        Ok(())
    }

    /// Fails if others took this work for dead: what it relies on may be gone.
    pub(crate) async fn still_ours(&self) -> Result<()> {
        if self.repository.exists(&self.path).await? {
            Ok(())
        } else {
            Err(Error::Superseded)
        }
    }

    /// Ends the work. A marker that cannot be removed dies by its age.
    pub(crate) async fn end(self) {
        if let Err(error) = self.repository.delete(&self.path).await {
            tracing::warn!(%error, "the sign of a finished backup could not be removed; it is forgotten in 30 minutes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;

    #[tokio::test]
    async fn a_prune_and_a_backup_exclude_each_other() {
        let repository = Location::in_memory().repository(1);
        let begin = |work| Marker::begin(&repository, work, "a test");
        let first = begin(Work::Backup).await.unwrap();
        let second = begin(Work::Backup).await.unwrap();
        let refused = begin(Work::Prune).await.unwrap_err().to_string();
        assert!(refused.contains("backup by a test"), "{refused}");
        first.end().await;
        assert!(begin(Work::Prune).await.is_err());
        second.end().await;
        let prune = begin(Work::Prune).await.unwrap();
        assert!(matches!(begin(Work::Backup).await, Err(Error::Busy { .. })));
        assert!(matches!(begin(Work::Prune).await, Err(Error::Busy { .. })));
        prune.still_ours().await.unwrap();
        let path = prune.path.clone();
        repository.delete(&path).await.unwrap();
        assert!(matches!(prune.still_ours().await, Err(Error::Superseded)));
        prune.end().await;
        assert!(repository.list("running", None).await.unwrap().is_empty());
    }
}
