//! Which backup and which stretches of log lead to the point that is wanted.

use muster_core::LogIndex;

use super::{At, RestoreRequest};
use crate::catalog::{Catalog, Segment};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, time};
use crate::repository::Repository;
use crate::segment;

/// A way from a backup to a point.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) backup: Manifest,
    pub(crate) segments: Vec<Segment>,
    /// Where to stop; `None`: at the end of the stretches.
    pub(crate) stop: Option<At>,
}

pub(super) async fn plan(repository: &Repository, catalog: &Catalog, request: &RestoreRequest) -> Result<Plan> {
    let named = request.backup.as_deref();
    if request.at.is_none() {
        let backup = catalog.backup(named)?.clone();
        let segments = match named {
            Some(_) => Vec::new(),
            None => catalog.path(&backup, None)?,
        };
        return Ok(Plan {
            backup,
            segments,
            stop: None,
        });
    }
    let Some(at) = request.at else {
        return Err(Error::Invalid("no point in time".to_owned()));
    };
    let before = |backup: &&Manifest| match at {
        At::Index(index) => backup.position.index <= index,
        At::Instant(instant) => ms(instant).is_some_and(|ms| backup.replicated_time_ms <= ms),
    };
    let backup = match named {
        Some(_) => Some(catalog.backup(named)?).filter(before),
        None => catalog.good().rfind(before),
    };
    let Some(backup) = backup else {
        // Without any backup that can be believed its reason is the better answer.
        catalog.backup(named)?;
        return Err(out_of_range(repository, catalog, request, at).await);
    };
    let (target, segments) = match at {
        At::Index(index) => (Some(index), catalog.path(backup, Some(index))?),
        At::Instant(_) => (None, through(repository, catalog, request, backup, at).await?),
    };
    let reached = segments.last().map_or(backup.position.index, |segment| segment.last);
    if target.is_some_and(|target| reached < target) {
        return Err(out_of_range(repository, catalog, request, at).await);
    }
    Ok(Plan {
        backup: backup.clone(),
        segments,
        stop: Some(at),
    })
}

fn ms(instant: jiff::Timestamp) -> Option<u64> {
    u64::try_from(instant.as_millisecond()).ok()
}

/// The stretches up to and with the first that reaches beyond an instant.
async fn through(
    repository: &Repository,
    catalog: &Catalog,
    request: &RestoreRequest,
    backup: &Manifest,
    at: At,
) -> Result<Vec<Segment>> {
    let At::Instant(instant) = at else {
        return Ok(Vec::new());
    };
    let wanted = ms(instant).unwrap_or(0);
    // Before a gap, if there is one: the instant may lie there.
    let (mut path, gap) = match catalog.path(backup, None) {
        Ok(path) => (path, None),
        Err(error @ Error::Gap { from, .. }) => (catalog.path(backup, Some(from - 1))?, Some(error)),
        Err(error) => return Err(error),
    };
    // Their times grow, so the first that reaches the instant is found by halving.
    let (mut low, mut high) = (0, path.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if end_time(repository, request, path[middle]).await? > wanted {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if low < path.len() {
        path.truncate(low + 1);
        return Ok(path);
    }
    // Nothing that is here is later: whether there was more until the instant is not known, unless it is the very end.
    let end = match path.last() {
        Some(last) => end_time(repository, request, *last).await?,
        None => backup.replicated_time_ms,
    };
    if end == wanted && gap.is_none() {
        return Ok(path);
    }
    match gap {
        Some(gap) => Err(gap),
        None => Err(out_of_range(repository, catalog, request, at).await),
    }
}

async fn end_time(repository: &Repository, request: &RestoreRequest, segment: Segment) -> Result<u64> {
    let path = repository.segment(segment.first, segment.last);
    let bytes = repository.get(&path).await?;
    let (head, _) = segment::head(path.as_ref(), &bytes, repository.cluster(), &request.trust)?;
    Ok(head.to_ms)
}

async fn out_of_range(repository: &Repository, catalog: &Catalog, request: &RestoreRequest, at: At) -> Error {
    let Some((oldest, newest)) = catalog.good().next().zip(catalog.good().next_back()) else {
        return Error::NoSuchBackup {
            wanted: "at all".to_owned(),
        };
    };
    let last = catalog.segments.iter().max_by_key(|segment| segment.last).copied();
    let archived = match last {
        Some(last) => end_time(repository, request, last).await.ok().map(|ms| (ms, last.last)),
        None => None,
    };
    let (ms, index): (u64, LogIndex) = archived
        .unwrap_or_default()
        .max((newest.replicated_time_ms, newest.position.index));
    let point = |ms: u64, index: LogIndex| format!("{} (log index {index})", time(ms));
    Error::OutOfRange {
        wanted: at.to_string(),
        from: point(oldest.replicated_time_ms, oldest.position.index),
        to: point(ms, index),
    }
}
