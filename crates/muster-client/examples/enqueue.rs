//! Enqueues a job and waits for its result. Run `worker` beside it.

use std::time::Duration;

use muster_client::{Client, Enqueue, Job, Priority};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct CountWords {
    text: String,
}

impl Job for CountWords {
    const KIND: &'static str = "count-words";
    type Output = usize;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("MUSTER_ADDRESS").unwrap_or_else(|_| "http://127.0.0.1:7001".into());

    let client = Client::connect([address]).await?;
    let job = client
        .enqueue(CountWords {
            text: "a job in three lines".into(),
        })
        .await?;
    println!("accepted {}", job.id());

    // The same key returns the first job, however often the call is made.
    let options = Enqueue::new()
        .priority(Priority::High)
        .idempotency_key(format!("example-{}", job.id()));
    let first = client
        .enqueue_with(CountWords { text: "once".into() }, options.clone())
        .await?;
    let again = client.enqueue_with(CountWords { text: "once".into() }, options).await?;
    assert_eq!(first.id(), again.id());

    println!("{} words", job.wait(Duration::from_mins(1)).await?);
    Ok(())
}
