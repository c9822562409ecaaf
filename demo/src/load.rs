//! The load: producers, the coordinator that merges folders, the steady trickle of pulses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use muster_client::{Client, Enqueue, Error, Job, JobHandle, JobId};
use tokio_util::sync::CancellationToken;

use crate::corpus::Group;
use crate::jobs::{FileIndex, FolderIndex, IndexFile, MergeFolder, Pulse};
use crate::record::Record;

/// Files of a tenant that are enqueued and waited for at once. All enqueues of a tenant are sent first; the waits then
/// follow in the order in which the jobs were accepted.
const ENQUEUES_AT_ONCE: usize = 64;
const WAITS_AT_ONCE: usize = 128;
const PULSE_EVERY: Duration = Duration::from_millis(10);
const PULSES_AT_ONCE: usize = 1_000;

/// What every part of the load needs.
#[derive(Clone)]
pub struct Load {
    pub client: Client,
    pub record: Record,
    /// The demo gives up then.
    pub deadline: Instant,
    /// Files whose result has come.
    pub results: Arc<AtomicU64>,
}

/// What the cluster says is in the files, and in the folders.
#[derive(Debug, Default)]
pub struct Results {
    pub files: BTreeMap<PathBuf, FileIndex>,
    /// The files that went in, in order, and what came out.
    pub folders: Vec<(Vec<PathBuf>, FolderIndex)>,
}

impl Load {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Enqueues until the cluster acknowledges, always with the same id.
    async fn enqueue<J: Job + Clone>(&self, job: &J) -> Result<JobHandle<J>> {
        let id = JobId::new();
        loop {
            match self.client.enqueue_with(job.clone(), Enqueue::new().id(id)).await {
                Ok(handle) => {
                    self.record.acknowledged(id, self.client.tenant());
                    return Ok(handle);
                }
                Err(Error::Unknown(_)) if !self.left().is_zero() => self.record.repeated(),
                Err(Error::NotDone(reason))
                    if reason.code == muster_client::Code::Unavailable && !self.left().is_zero() =>
                {
                    self.record.repeated();
                }
                Err(error) => return Err(error).with_context(|| format!("enqueueing a job of kind {}", J::KIND)),
            }
        }
    }

    async fn wait<J: Job>(&self, handle: &JobHandle<J>) -> Result<J::Output> {
        let left = self.left();
        if left.is_zero() {
            bail!("the time is over and job {} has not ended", handle.id());
        }
        handle
            .wait(left)
            .await
            .with_context(|| format!("waiting for job {} of kind {}", handle.id(), J::KIND))
    }

    /// Indexes the groups' files and merges each group as soon as all of its files are in.
    pub async fn index(&self, groups: Vec<Group>) -> Result<Results> {
        let files: Vec<(usize, usize, PathBuf)> = groups
            .iter()
            .enumerate()
            .flat_map(|(group, folder)| {
                folder
                    .files
                    .iter()
                    .cloned()
                    .enumerate()
                    .map(move |(at, file)| (group, at, file))
            })
            .collect();
        let accepted: Vec<_> = futures::stream::iter(files)
            .map(|(group, at, path)| async move {
                let text = path.to_str().context("a path is not UTF-8")?.to_owned();
                let handle = self.enqueue(&IndexFile { path: text }).await?;
                anyhow::Ok((group, at, path, handle))
            })
            .buffered(ENQUEUES_AT_ONCE)
            .try_collect()
            .await?;

        let mut ended = futures::stream::iter(accepted)
            .map(|(group, at, path, handle)| async move {
                let index = self.wait(&handle).await?;
                self.results.fetch_add(1, Ordering::Relaxed);
                anyhow::Ok((group, at, path, index))
            })
            .buffer_unordered(WAITS_AT_ONCE);
        let mut open: Vec<BTreeMap<usize, (PathBuf, FileIndex)>> = groups.iter().map(|_| BTreeMap::new()).collect();
        let mut merges = tokio::task::JoinSet::new();
        let mut results = Results::default();
        while let Some(file) = ended.next().await {
            let (group, at, path, index) = file?;
            results.files.insert(path.clone(), index.clone());
            open[group].insert(at, (path, index));
            if open[group].len() == groups[group].files.len() {
                let (paths, indexes): (Vec<_>, Vec<_>) = std::mem::take(&mut open[group]).into_values().unzip();
                let folder = groups[group].name.clone();
                let load = self.clone();
                merges.spawn(async move {
                    let handle = load.enqueue(&MergeFolder { folder, files: indexes }).await?;
                    anyhow::Ok((paths, load.wait(&handle).await?))
                });
            }
        }
        while let Some(merge) = merges.join_next().await {
            results.folders.push(merge.context("a merge panicked")??);
        }
        Ok(results)
    }

    /// Enqueues a pulse every 10 ms until `stop`, then waits for all of them. Returns how many gave a wrong answer.
    pub async fn pulses(&self, stop: CancellationToken) -> Result<u64> {
        let mut every = tokio::time::interval(PULSE_EVERY);
        // After a stall, one at a time again: a rush would hide how the cluster comes back.
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let numbers = futures::stream::unfold((every, 0), |(mut every, number)| async move {
            every.tick().await;
            Some((number, (every, number + 1)))
        });
        numbers
            .take_until(stop.cancelled_owned())
            .map(|number| async move {
                let pulse = Pulse { number };
                let handle = self.enqueue(&pulse).await?;
                anyhow::Ok(u64::from(self.wait(&handle).await? != pulse.answer()))
            })
            .buffer_unordered(PULSES_AT_ONCE)
            .try_fold(0, |wrong, one| async move { Ok(wrong + one) })
            .await
    }
}
