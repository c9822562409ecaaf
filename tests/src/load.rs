//! What came of the work of a cluster under test.

use std::collections::BTreeSet;

use muster_client::{Client, JobState, ListJobs};

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
