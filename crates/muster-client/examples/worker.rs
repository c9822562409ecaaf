//! Runs the jobs that `enqueue` and `cancel` make, until Ctrl-C or SIGTERM.

use std::time::Duration;

use muster_client::{Client, Context, Job, JobError, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct CountWords {
    text: String,
}

impl Job for CountWords {
    const KIND: &'static str = "count-words";
    type Output = usize;
}

#[derive(Serialize, Deserialize)]
struct Sleep {
    seconds: u64,
}

impl Job for Sleep {
    const KIND: &'static str = "sleep";
    type Output = ();
}

async fn sleep(job: Sleep, context: Context) -> Result<(), JobError> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(job.seconds)) => Ok(()),
        reason = context.cancelled() => {
            println!("attempt {} of {} stops: {reason:?}", context.attempt(), context.job_id());
            Err(JobError::cancelled())
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("MUSTER_ADDRESS").unwrap_or_else(|_| "http://127.0.0.1:7001".into());
    let client = Client::connect([address]).await?;
    let worker = Worker::builder(&client)
        .concurrency(64)
        .handler(sleep)
        .handler(|job: CountWords, _: Context| async move { Ok(job.text.split_whitespace().count()) })
        .build()?;
    let stats = worker.run_until(muster_client::shutdown_signal()).await?;
    println!("{} jobs succeeded, {} failed", stats.succeeded, stats.failed);
    Ok(())
}
