//! Waiting for a condition, never for a length of time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks again every 20 ms until there is an answer; panics with `what` when `limit` has passed.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
