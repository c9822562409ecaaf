//! Workers at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// No system does nothing for so long.
const STALL: Duration = Duration::from_secs(20);

/// Called with the payload of each job that a worker starts.
pub type Seen = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Tasks that fetch, run and acknowledge jobs until this is dropped.
pub struct Crew {
    done: Box<dyn Fn() -> u64 + Send + Sync>,
    tasks: JoinSet<Result<()>>,
}

impl Crew {
    /// Of tasks that count what they have done.
    pub fn counting(done: Arc<AtomicU64>, tasks: JoinSet<Result<()>>) -> Self {
        Self::new(move || done.load(Ordering::Relaxed), tasks)
    }

    pub fn new(done: impl Fn() -> u64 + Send + Sync + 'static, tasks: JoinSet<Result<()>>) -> Self {
        Self {
            done: Box::new(done),
            tasks,
        }
    }

    /// Waits until so many jobs are done.
    pub async fn until_done(&mut self, jobs: u64) -> Result<()> {
        let (mut last, mut moved_at) = (0, Instant::now());
        loop {
            let done = (self.done)();
            if done >= jobs {
                return Ok(());
            }
            if done > last {
                (last, moved_at) = (done, Instant::now());
            } else if moved_at.elapsed() > STALL {
                bail!("only {done} of {jobs} jobs are done, none in the last {STALL:?}");
            }
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                bail!("a worker ended after {done} of {jobs} jobs");
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}
