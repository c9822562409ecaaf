//! Removing what is not needed any more: old backups, their files, log that no backup kept needs, and leavings.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::catalog::{self, Catalog};
use crate::error::{Error, Result};
use crate::keys::Trust;
use crate::manifest::Manifest;
use crate::marker::{Marker, Work};
use crate::repository::Repository;

/// Which backups are kept: those that any of the two rules keeps, and always the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub keep: usize,
    /// All that are younger.
    pub keep_for: Duration,
}

impl Retention {
    /// Backups to be kept and to be removed; oldest first.
    fn split<'a>(&self, backups: &[&'a Manifest], now: Timestamp) -> (Vec<&'a Manifest>, Vec<&'a Manifest>) {
        let count = backups.len();
        let kept = |(at, backup): (usize, &&Manifest)| {
            let age = Duration::try_from(now.duration_since(backup.created)).unwrap_or_default();
            count - at <= self.keep.max(1) || age < self.keep_for
        };
        let (mut keep, mut remove) = (Vec::new(), Vec::new());
        for (at, backup) in backups.iter().enumerate() {
            if kept((at, backup)) { &mut keep } else { &mut remove }.push(*backup);
        }
        (keep, remove)
    }
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of backups removed.
    pub backups: Vec<String>,
    /// Names of backups kept.
    pub kept: Vec<String>,
    /// Files that no backup kept needs.
    pub files: u64,
    /// Stretches of log before the oldest backup kept.
    pub segments: u64,
    /// Length of all that was removed.
    pub bytes: u64,
}

/// Removes what `retention` does not keep. With `dry_run` it only says what it would remove.
///
/// Refuses while a backup is being made, and when there is a backup that cannot be read: its files could not be told from
/// leavings.
pub async fn prune(repository: &Repository, retention: Retention, trust: &Trust, dry_run: bool) -> Result<Pruned> {
    if dry_run {
        return work(repository, retention, trust, None).await;
    }
    let marker = Marker::begin(repository, Work::Prune, "an operator or a node").await?;
    let pruned = work(repository, retention, trust, Some(&marker)).await;
    marker.end().await;
    pruned
}

async fn work(repository: &Repository, retention: Retention, trust: &Trust, marker: Option<&Marker>) -> Result<Pruned> {
    let catalog = Catalog::load(repository, trust).await?;
    let mut backups = Vec::new();
    for listed in &catalog.backups {
        match &listed.manifest {
            Ok((manifest, _)) => backups.push(manifest),
            Err(error) => {
                return Err(Error::Invalid(format!(
                    "backup {} cannot be read, so nothing is removed: {error}. Remove its manifest by hand if it is of no use",
                    listed.id
                )));
            }
        }
    }
    let (keep, remove) = retention.split(&backups, Timestamp::now());
    let mut pruned = Pruned {
        backups: remove.iter().map(|backup| backup.id.clone()).collect(),
        kept: keep.iter().map(|backup| backup.id.clone()).collect(),
        ..Pruned::default()
    };
    // Manifests first: one without its files must never be seen.
    if let Some(marker) = marker {
        for backup in &remove {
            marker.still_ours().await?;
            repository.delete(&repository.backup(&backup.id)).await?;
        }
    }
    let needed: HashSet<_> = keep
        .iter()
        .flat_map(|backup| backup.files.iter().map(|file| repository.file(&file.blake3)))
        .collect();
    for meta in repository.list("files", None).await? {
        if needed.contains(&meta.location) {
            continue;
        }
        pruned.files += 1;
        pruned.bytes += meta.size;
        if let Some(marker) = marker {
            if pruned.files.is_multiple_of(100) {
                marker.still_ours().await?;
            }
            repository.delete(&meta.location).await?;
        }
    }
    // Without any backup the log is all there is.
    let oldest = keep.first().map_or(0, |backup| backup.position.index);
    for segment in catalog::segments(repository).await? {
        if segment.last > oldest {
            continue;
        }
        pruned.segments += 1;
        pruned.bytes += segment.bytes;
        if marker.is_some() {
            repository
                .delete(&repository.segment(segment.first, segment.last))
                .await?;
        }
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::keys::SigningKey;
    use crate::location::Location;
    use crate::manifest::{Jobs, ManifestFile, Position};
    use crate::sealed;

    fn backup(index: u64, hours_ago: i64, files: &[u8]) -> Manifest {
        let file = |content: &u8| ManifestFile {
            name: format!("{content}.sst"),
            bytes: 1,
            blake3: [*content; 32],
        };
        Manifest {
            format: 1,
            id: format!("{index:020}-x"),
            cluster: 7,
            node: 1,
            version: String::new(),
            store_format: 1,
            position: Position {
                term: 1,
                node: 1,
                index,
            },
            created: Timestamp::now() - hours_ago.hours(),
            replicated_time_ms: 0,
            state_hash: 0,
            members: Vec::new(),
            jobs: Jobs::default(),
            bytes: 0,
            files: files.iter().map(file).collect(),
        }
    }

    async fn repository(backups: &[Manifest], key: Option<&SigningKey>) -> Repository {
        let repository = Location::in_memory().repository(7);
        for backup in backups {
            let bytes = sealed::seal(backup, key, &[]).unwrap();
            repository.put(&repository.backup(&backup.id), bytes).await.unwrap();
            for file in &backup.files {
                let path = repository.file(&file.blake3);
                repository.put(&path, "x".into()).await.unwrap();
            }
        }
        repository
    }

    async fn left(repository: &Repository, folder: &str) -> usize {
        repository.list(folder, None).await.unwrap().len()
    }

    #[tokio::test]
    async fn old_backups_go_with_what_only_they_need() {
        let backups = [
            backup(10, 50, &[1, 2]),
            backup(20, 30, &[2, 3]),
            backup(30, 10, &[3, 4]),
            backup(40, 1, &[4, 5]),
        ];
        let repository = repository(&backups, None).await;
        // Left by a backup that was killed.
        repository.put(&repository.file(&[9; 32]), "xx".into()).await.unwrap();
        for (first, last) in [(1, 9), (10, 30), (31, 45)] {
            repository
                .put(&repository.segment(first, last), "x".into())
                .await
                .unwrap();
        }
        let retention = Retention {
            keep: 1,
            keep_for: Duration::from_hours(20),
        };
        let would = prune(&repository, retention, &Trust::Unsigned, true).await.unwrap();
        assert_eq!(
            (left(&repository, "backups").await, left(&repository, "files").await),
            (4, 6)
        );
        let pruned = prune(&repository, retention, &Trust::Unsigned, false).await.unwrap();
        assert_eq!(pruned, would);
        assert_eq!((pruned.backups.len(), pruned.kept.len()), (2, 2));
        assert_eq!((pruned.files, pruned.segments, pruned.bytes), (3, 2, 6));
        assert_eq!(
            (left(&repository, "backups").await, left(&repository, "files").await),
            (2, 3)
        );
        assert_eq!(
            (left(&repository, "log").await, left(&repository, "running").await),
            (1, 0)
        );
        let again = prune(&repository, retention, &Trust::Unsigned, false).await.unwrap();
        assert_eq!((again.backups.len(), again.files, again.segments), (0, 0, 0));
    }

    #[tokio::test]
    async fn the_newest_is_always_kept() {
        let repository = repository(&[backup(10, 50, &[1]), backup(20, 40, &[2])], None).await;
        let none = Retention {
            keep: 0,
            keep_for: Duration::ZERO,
        };
        let pruned = prune(&repository, none, &Trust::Unsigned, false).await.unwrap();
        assert_eq!(pruned.kept, ["00000000000000000020-x"]);
    }

    #[tokio::test]
    async fn a_backup_that_is_not_believed_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::create(&dir.path().join("key")).unwrap();
        let repository = repository(&[backup(10, 50, &[1]), backup(20, 40, &[2])], None).await;
        let retention = Retention {
            keep: 1,
            keep_for: Duration::ZERO,
        };
        let error = prune(&repository, retention, &Trust::Keys(vec![key.verify_key()]), false).await;
        assert!(error.unwrap_err().to_string().contains("not signed"));
        assert_eq!(
            (left(&repository, "backups").await, left(&repository, "files").await),
            (2, 2)
        );
        assert_eq!(left(&repository, "running").await, 0);
    }
}
