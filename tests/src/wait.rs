//! Waiting for a condition, never for a length of time.

use std::future::Future;
use std::time::{Duration, Instant};

use muster_client::Client;

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

/// Waits until so many jobs of the client's tenant have ended.
pub async fn wait_for_ends(client: &Client, count: usize) {
    eventually("all jobs end", Duration::from_secs(40), || async {
        let tenants = client.tenants().await.ok()?;
        let tenant = tenants.iter().find(|tenant| tenant.name == client.tenant())?;
        let totals = &tenant.totals;
        (totals.succeeded + totals.dead + totals.cancelled + totals.expired >= count as u64).then_some(())
    })
    .await;
}
