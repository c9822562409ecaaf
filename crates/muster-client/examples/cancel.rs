//! Cancels a waiting job, which ends at once, and a running one, whose worker is told. Run `worker` beside it.

use std::time::Duration;

use muster_client::{Client, Enqueue, Job, JobState};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Sleep {
    seconds: u64,
}

impl Job for Sleep {
    const KIND: &'static str = "sleep";
    type Output = ();
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("MUSTER_ADDRESS").unwrap_or_else(|_| "http://127.0.0.1:7001".into());
    let client = Client::connect([address]).await?;

    let later = Enqueue::new().delay(Duration::from_hours(1));
    let waiting = client.enqueue_with(Sleep { seconds: 1 }, later).await?;
    println!("waiting job: {}", waiting.cancel().await?);

    let running = client.enqueue(Sleep { seconds: 3600 }).await?;
    while running.get().await?.state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("running job: {}", running.cancel().await?);
    let end = client.wait(running.id(), Duration::from_secs(30)).await?;
    println!("its end: {}", end.state);
    Ok(())
}
