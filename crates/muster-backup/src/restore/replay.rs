//! Applying archived log to a restored state.

use std::collections::BTreeMap;

use futures::StreamExt;
use muster_core::LogIndex;
use muster_raft::offline::OfflineState;
use muster_store::{LogEntry, LogPosition};

use super::plan::Plan;
use super::{At, blocking};
use crate::catalog::{Catalog, Segment};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::keys::Trust;
use crate::progress::{Meter, ProgressSink, Step};
use crate::repository::Repository;
use crate::segment::{self, SegmentHead};

/// Stretches fetched ahead of the one being applied.
const AHEAD: usize = 4;

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Entries applied.
    pub(crate) entries: u64,
    /// Stretches read.
    pub(crate) segments: u64,
    /// Other backups on the way whose state hash was met.
    pub(crate) met: u64,
}

/// Applies the stretches of a plan. Wherever another backup lies on the way, the state must have its hash.
pub(crate) async fn replay(
    repository: &Repository,
    catalog: &Catalog,
    plan: &Plan,
    trust: &Trust,
    state: &mut OfflineState,
    progress: &ProgressSink,
) -> Result<Replayed> {
    let from = plan.backup.position.index;
    let to = plan.segments.last().map_or(from, |segment| segment.last);
    let mut meter = Meter::new(progress, Step::Replay, to - from);
    let waypoints: BTreeMap<LogIndex, (String, u64)> = catalog
        .good()
        .map(|backup| (backup.position.index, (backup.id.clone(), backup.state_hash)))
        .collect();
    let fetch = |segment: &Segment| {
        let (repository, trust, segment) = (repository.clone(), trust.clone(), *segment);
        let fetching = tokio::spawn(async move { fetch(&repository, segment, &trust).await });
        async move {
            fetching
                .await
                .map_err(|error| Error::Invalid(format!("fetching did not end: {error}")))?
        }
    };
    let mut stretches = futures::stream::iter(&plan.segments).map(fetch).buffered(AHEAD);
    let mut replayed = Replayed::default();
    let mut chain: Option<(Chain, LogIndex)> = None;
    while let Some(stretch) = stretches.next().await {
        let (head, entries) = stretch?;
        chain = Some(check_chain(&head, &entries, chain)?);
        replayed.segments += 1;
        for entry in entries {
            let applied = state.applied();
            if let Some(applied) = applied.filter(|applied| entry.position.index <= applied.index) {
                check_same(applied, &entry)?;
                continue;
            }
            if beyond(state, &entry, plan.stop)? {
                return Ok(replayed);
            }
            let index = entry.position.index;
            state
                .apply(entry)
                .map_err(Error::raft(format!("applying archived log entry {index}")))?;
            replayed.entries += 1;
            meter.add(1);
            if let Some((backup, expected)) = waypoints.get(&index) {
                let found = state.core().meta().hash;
                if found != *expected {
                    return Err(Error::Diverged {
                        object: format!("backup {backup}"),
                        index,
                        found,
                        expected: *expected,
                    });
                }
                replayed.met += 1;
            }
        }
        // A long replay must not hold up what else this runtime has to do.
        tokio::task::yield_now().await;
    }
    Ok(replayed)
}

/// Whether an entry lies after the point that is wanted.
fn beyond(state: &OfflineState, entry: &LogEntry, stop: Option<At>) -> Result<bool> {
    Ok(match stop {
        None => false,
        Some(At::Index(index)) => entry.position.index > index,
        Some(At::Instant(instant)) => {
            let time = segment::stamp(entry)?.max(state.core().meta().now);
            u64::try_from(instant.as_millisecond()).is_ok_and(|instant| time > instant)
        }
    })
}

/// An overlap with what is applied already must be of the same history.
fn check_same(applied: LogPosition, entry: &LogEntry) -> Result<()> {
    if applied.index == entry.position.index && applied != entry.position {
        return Err(Error::tampered(
            format!("archived log entry {}", entry.position.index),
            format!("it is {:?}, the backup contains {applied:?}", entry.position),
        ));
    }
    Ok(())
}

/// The chain must go through from stretch to stretch, also where they overlap.
fn check_chain(
    head: &SegmentHead,
    entries: &[LogEntry],
    before: Option<(Chain, LogIndex)>,
) -> Result<(Chain, LogIndex)> {
    let after = (Chain(head.chain_after), head.last.index);
    // After a gap the archive begins anew; then there is nothing to compare with.
    let Some((expected, at)) = before.filter(|_| !head.begins) else {
        return Ok(after);
    };
    let overlap = entries.iter().take_while(|entry| entry.position.index <= at);
    let found = overlap.fold(Chain(head.chain_before), Chain::next);
    if found != expected {
        return Err(Error::tampered(
            format!("archived log from entry {}", head.first.index),
            "it does not follow what was archived before it",
        ));
    }
    Ok(after)
}

async fn fetch(repository: &Repository, segment: Segment, trust: &Trust) -> Result<(SegmentHead, Vec<LogEntry>)> {
    let path = repository.segment(segment.first, segment.last);
    let bytes = repository.get(&path).await?;
    let (cluster, trust) = (repository.cluster(), trust.clone());
    let (head, entries) = blocking(move || segment::decode(path.as_ref(), &bytes, cluster, &trust)).await?;
    if (head.first.index, head.last.index) != (segment.first, segment.last) {
        return Err(Error::tampered(
            repository.segment(segment.first, segment.last),
            format!("it holds entries {} to {}", head.first.index, head.last.index),
        ));
    }
    Ok((head, entries))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_store::EntryKind;

    use super::*;
    use crate::segment::ArchiveEnd;

    #[test]
    fn stretches_of_two_histories_do_not_follow_each_other() {
        let entries = |term: u64| -> Vec<LogEntry> {
            let entry = |index| LogEntry {
                position: LogPosition { term, node: 1, index },
                kind: EntryKind::Blank,
                data: Bytes::new(),
            };
            (1..=20).map(entry).collect()
        };
        let (ours, theirs) = (entries(1), entries(2));
        let encode = |end: &ArchiveEnd, entries: &[LogEntry]| segment::encode(7, 1, end, entries, None).unwrap().0;
        let begin = ArchiveEnd::beginning(7, 1);
        let first = encode(&begin, &ours[..10]);
        let next = encode(&ArchiveEnd::after(&first), &ours[10..]);
        let chain = check_chain(&first, &ours[..10], None).unwrap();
        assert!(check_chain(&next, &ours[10..], Some(chain)).is_ok());
        // Overlapping by five.
        let five = encode(&begin, &ours[..5]);
        let overlapping = encode(&ArchiveEnd::after(&five), &ours[5..]);
        assert!(check_chain(&overlapping, &ours[5..], Some(chain)).is_ok());
        let other_five = encode(&begin, &theirs[..5]);
        let foreign = encode(&ArchiveEnd::after(&other_five), &theirs[5..]);
        assert!(check_chain(&foreign, &theirs[5..], Some(chain)).is_err());
    }
}
