//! Work given to a cluster under test, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use muster_client::{Client, Enqueue, JobState, ListJobs, RawJob};
use tokio::task::JoinHandle;

/// One acknowledged enqueue.
#[derive(Debug)]
pub struct Call {
    /// When it was made.
    pub begin: Instant,
    /// Until its answer, repeats by the client library included.
    pub took: Duration,
    /// The job.
    pub id: String,
}

impl Call {
    /// When it was answered.
    pub fn end(&self) -> Instant {
        self.begin + self.took
    }
}

/// Callers that enqueue one job after the other, with a pause between two. They end with the program.
pub struct PacedLoad {
    over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<Call>>>,
}

impl PacedLoad {
    /// So many callers. A call that is not acknowledged within the client's deadline ends the program: nothing here lasts longer.
    pub fn start(client: &Client, callers: u32, pause: Duration, job: &RawJob) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let call = |_| {
            let (client, over, job) = (client.clone(), Arc::clone(&over), job.clone());
            tokio::spawn(async move {
                let mut calls = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let enqueued = client.enqueue_raw(job.clone(), Enqueue::new()).await;
                    calls.push(Call {
                        begin,
                        took: begin.elapsed(),
                        id: enqueued.expect("done within the deadline").id.to_string(),
                    });
                    tokio::time::sleep(pause).await;
                }
                calls
            })
        };
        let callers = (0..callers).map(call).collect();
        Self { over, callers }
    }

    /// All calls, those of one caller after those of another.
    pub async fn stop(self) -> Vec<Call> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            all.extend(caller.await.expect("a caller"));
        }
        all
    }
}

/// States of all jobs of a tenant, live and ended.
pub async fn states(client: &Client) -> Vec<(String, JobState)> {
    let mut found = Vec::new();
    let mut filter = ListJobs {
        page_size: 1_000,
        ..ListJobs::default()
    };
    loop {
        let page = client.list(&filter).await.expect("a page");
        found.extend(page.jobs.into_iter().map(|job| (job.id, job.state)));
        match page.next {
            Some(next) => filter.page = Some(next),
            None => return found,
        }
    }
}

/// Asserts that exactly these jobs are there, each once.
pub fn assert_same(found: &[(String, JobState)], ids: &BTreeSet<String>) {
    let seen: BTreeSet<_> = found.iter().map(|(id, _)| id.clone()).collect();
    let lost: Vec<_> = ids.difference(&seen).take(3).collect();
    let strange: Vec<_> = seen.difference(ids).take(3).collect();
    assert!(
        lost.is_empty() && strange.is_empty() && found.len() == ids.len(),
        "{} acknowledged, {} listed, {} of them different; missing e.g. {lost:?}, not asked for e.g. {strange:?}",
        ids.len(),
        found.len(),
        seen.len()
    );
}
