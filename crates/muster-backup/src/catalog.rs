//! What a repository holds, and which parts of it lead to a point in time.

use futures::{StreamExt, TryStreamExt};
use muster_core::LogIndex;

use crate::error::{Error, Result};
use crate::keys::{Trust, VerifyKey};
use crate::manifest::Manifest;
use crate::repository::Repository;
use crate::sealed;

/// Manifests fetched at a time.
const AT_ONCE: usize = 8;

/// A backup as it is listed.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// What it says of itself and who signed it, or why that is not believed.
    pub manifest: Result<(Manifest, Option<VerifyKey>)>,
}

/// A stretch of archived log by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// First entry.
    pub first: LogIndex,
    /// Last entry.
    pub last: LogIndex,
    /// Length of the object.
    pub bytes: u64,
}

/// Backups and archived log of a cluster.
#[derive(Debug)]
pub struct Catalog {
    /// By position, oldest first.
    pub backups: Vec<Listed>,
    /// By first entry.
    pub segments: Vec<Segment>,
}

impl Catalog {
    /// Reads all manifests and the names of all stretches of log.
    pub async fn load(repository: &Repository, trust: &Trust) -> Result<Self> {
        let (ids, segments) = futures::try_join!(backup_ids(repository), segments(repository))?;
        let fetch = async |id: String| {
            let manifest = manifest(repository, &id, trust).await;
            // Only what is wrong with one backup is its own matter.
            match manifest {
                Err(error @ (Error::ObjectStore { .. } | Error::TimedOut { .. })) => Err(error),
                manifest => Ok(Listed { id, manifest }),
            }
        };
        let backups = futures::stream::iter(ids.into_iter().map(fetch))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { backups, segments })
    }

    /// Backups that can be believed, oldest first.
    pub fn good(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.backups
            .iter()
            .filter_map(|listed| listed.manifest.as_ref().ok().map(|(manifest, _)| manifest))
    }

    /// The backup of this name, or the reason why it cannot be used. `None`: the newest.
    pub fn backup(&self, id: Option<&str>) -> Result<&Manifest> {
        let found = match id {
            Some(id) => self.backups.iter().find(|listed| listed.id == id),
            None => self.backups.last(),
        };
        match found {
            None => Err(Error::NoSuchBackup {
                wanted: id.map_or_else(|| "at all".to_owned(), |id| format!("named {id}")),
            }),
            Some(Listed {
                manifest: Ok((manifest, _)),
                ..
            }) => Ok(manifest),
            Some(Listed {
                manifest: Err(error), ..
            }) => Err(error.clone()),
        }
    }

    /// The last archived entry.
    pub fn archive_end(&self) -> Option<LogIndex> {
        self.segments.iter().map(|segment| segment.last).max()
    }

    /// Stretches that lead from a backup to `target`, or as far as the archive goes.
    pub(crate) fn path(&self, from: &Manifest, target: Option<LogIndex>) -> Result<Vec<Segment>> {
        let mut at = from.position.index;
        let mut path = Vec::new();
        while target.is_none_or(|target| at < target) {
            let candidates = self.segments.iter().filter(|segment| segment.first <= at + 1);
            let Some(next) = candidates
                .filter(|segment| segment.last > at)
                .max_by_key(|segment| segment.last)
            else {
                break;
            };
            path.push(*next);
            at = next.last;
        }
        let beyond = self
            .segments
            .iter()
            .map(|segment| segment.first)
            .filter(|first| *first > at + 1)
            .min();
        match (target, beyond) {
            (Some(target), _) if at >= target => Ok(path),
            (_, Some(beyond)) => Err(Error::Gap {
                from: at + 1,
                to: beyond - 1,
                backup: from.id.clone(),
            }),
            (_, None) => Ok(path),
        }
    }
}

async fn backup_ids(repository: &Repository) -> Result<Vec<String>> {
    let found = repository.list("backups", None).await?;
    let id = |meta: &object_store::ObjectMeta| Some(meta.location.filename()?.strip_suffix(".json")?.to_owned());
    let mut ids: Vec<_> = found.iter().filter_map(id).collect();
    // Names begin with the log index in a fixed width.
    ids.sort_unstable();
    Ok(ids)
}

/// Names of all stretches of log, by first entry.
pub(crate) async fn segments(repository: &Repository) -> Result<Vec<Segment>> {
    let found = repository.list("log", None).await?;
    let mut segments: Vec<_> = found.iter().filter_map(segment).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The stretch that an object's name tells of.
pub(crate) fn segment(meta: &object_store::ObjectMeta) -> Option<Segment> {
    let (first, last) = meta.location.filename()?.strip_suffix(".seg")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(Segment {
        first,
        last,
        bytes: meta.size,
    })
}

/// Reads a manifest and judges it.
pub(crate) async fn manifest(
    repository: &Repository,
    id: &str,
    trust: &Trust,
) -> Result<(Manifest, Option<VerifyKey>)> {
    let path = repository.backup(id);
    let bytes = repository.get(&path).await?;
    let opened = sealed::open::<Manifest>(path.as_ref(), &bytes, trust)?;
    let manifest = opened.document;
    if manifest.cluster != repository.cluster() {
        return Err(Error::Foreign {
            object: path.to_string(),
            found: manifest.cluster,
            expected: repository.cluster(),
        });
    }
    if manifest.id != id {
        return Err(Error::tampered(&path, format!("it is the manifest of {}", manifest.id)));
    }
    if manifest.store_format > muster_store::FORMAT {
        return Err(Error::NewerFormat {
            object: path.to_string(),
            found: manifest.store_format,
            newest: muster_store::FORMAT,
        });
    }
    let plain = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !name.is_empty() && !name.starts_with('.') && name.len() < 200 && name.bytes().all(plain)
    };
    if let Some(file) = manifest.files.iter().find(|file| !plain(&file.name)) {
        return Err(Error::tampered(&path, format!("it names a file {:?}", file.name)));
    }
    Ok((manifest, opened.signed_by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Jobs, Position};

    fn base(index: u64) -> Manifest {
        Manifest {
            format: 1,
            id: "base".into(),
            cluster: 7,
            node: 1,
            version: String::new(),
            store_format: 1,
            position: Position {
                term: 1,
                node: 1,
                index,
            },
            created: jiff::Timestamp::UNIX_EPOCH,
            replicated_time_ms: 0,
            state_hash: 0,
            members: Vec::new(),
            jobs: Jobs::default(),
            bytes: 0,
            files: Vec::new(),
        }
    }

    fn catalog(segments: &[(u64, u64)]) -> Catalog {
        let segment = |&(first, last)| Segment { first, last, bytes: 1 };
        Catalog {
            backups: Vec::new(),
            segments: segments.iter().map(segment).collect(),
        }
    }

    fn path(segments: &[(u64, u64)], from: u64, target: Option<u64>) -> Result<Vec<(u64, u64)>> {
        let path = catalog(segments).path(&base(from), target)?;
        Ok(path.into_iter().map(|segment| (segment.first, segment.last)).collect())
    }

    #[test]
    fn a_path_takes_the_longest_stretches_and_stops_at_the_target() {
        let segments = [(1, 10), (5, 12), (11, 20), (13, 30), (21, 40)];
        assert_eq!(path(&segments, 9, Some(12)).unwrap(), [(5, 12)]);
        assert_eq!(path(&segments, 9, None).unwrap(), [(5, 12), (13, 30), (21, 40)]);
        assert_eq!(path(&segments, 40, None).unwrap(), []);
        assert_eq!(path(&segments, 12, Some(12)).unwrap(), []);
        assert_eq!(path(&[], 12, None).unwrap(), []);
    }

    #[test]
    fn a_gap_is_named_unless_the_target_lies_before_it() {
        let segments = [(1, 10), (14, 20)];
        assert_eq!(path(&segments, 5, Some(8)).unwrap(), [(1, 10)]);
        for target in [None, Some(12), Some(15)] {
            assert!(
                matches!(path(&segments, 5, target), Err(Error::Gap { from: 11, to: 13, .. })),
                "{target:?}"
            );
        }
        // A backup from after the gap does not care.
        assert_eq!(path(&segments, 13, None).unwrap(), [(14, 20)]);
        // The archive ends before the target: the caller says how far it reaches.
        assert_eq!(path(&segments, 14, Some(25)).unwrap(), [(14, 20)]);
    }
}
