//! Figures out of what was seen.

use std::collections::HashMap;
use std::time::Duration;

use crate::record::{Acknowledged, Events, Execution};

/// Longest time between two acknowledgements, and when it began.
pub fn longest_gap(acknowledged: &[Acknowledged]) -> (Duration, Duration) {
    let mut times: Vec<_> = acknowledged.iter().map(|acknowledged| acknowledged.at).collect();
    times.sort_unstable();
    let pairs = times.windows(2).map(|pair| (pair[1].saturating_sub(pair[0]), pair[0]));
    pairs.max_by_key(|(gap, _)| *gap).unwrap_or_default()
}

/// Most instants (in milliseconds) within any second.
pub fn most_in_a_second(times_ms: &[u64]) -> usize {
    let mut times = times_ms.to_vec();
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, time) in times.iter().enumerate() {
        while time - times[first] >= 1_000 {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// Jobs that ran more than once.
pub fn run_again(executions: &[Execution]) -> usize {
    let mut runs: HashMap<_, u32> = HashMap::new();
    for execution in executions {
        *runs.entry(execution.job).or_default() += 1;
    }
    runs.values().filter(|runs| **runs > 1).count()
}

/// Worker time used by two tenants while both had a backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub span: Duration,
    pub first: Duration,
    pub second: Duration,
}

impl Shares {
    /// Share of the first in percent.
    pub fn first_percent(&self) -> f64 {
        let both = (self.first + self.second).as_secs_f64();
        if both == 0.0 {
            0.0
        } else {
            100.0 * self.first.as_secs_f64() / both
        }
    }
}

/// Shares of worker time within the longest span in which both tenants always had at least `slots` jobs that waited.
pub fn shares(events: &Events, tenants: [&str; 2], slots: i64) -> Shares {
    let [first, second] = tenants;
    // Changes of each tenant's backlog in order of time: +1 at an acknowledgement, −1 at a job's first start.
    let mut changes: Vec<(Duration, usize, i64)> = Vec::new();
    let index = |tenant: &str| tenants.iter().position(|name| *name == tenant);
    for acknowledged in &events.acknowledged {
        if let Some(tenant) = index(&acknowledged.tenant) {
            changes.push((acknowledged.at, tenant, 1));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for execution in &events.executions {
        if let Some(tenant) = index(&execution.tenant)
            && seen.insert(execution.job)
        {
            changes.push((execution.from, tenant, -1));
        }
    }
    changes.sort_unstable();
    let mut backlog = [0_i64; 2];
    let mut since = None;
    let mut span = (Duration::ZERO, Duration::ZERO);
    for (at, tenant, change) in changes {
        backlog[tenant] += change;
        let contended = backlog.iter().all(|waiting| *waiting >= slots);
        since = if contended { since.or(Some(at)) } else { None };
        if let Some(from) = since
            && at.saturating_sub(from) > span.1.saturating_sub(span.0)
        {
            span = (from, at);
        }
    }
    let used = |tenant: &str| {
        let of_tenant = events.executions.iter().filter(|execution| execution.tenant == tenant);
        of_tenant
            .map(|execution| overlap((execution.from, execution.to.unwrap_or(execution.from)), span))
            .sum()
    };
    Shares {
        span: span.1.saturating_sub(span.0),
        first: used(first),
        second: used(second),
    }
}

fn overlap(a: (Duration, Duration), b: (Duration, Duration)) -> Duration {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

#[cfg(test)]
mod tests {
    use muster_client::JobId;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn acknowledged(tenant: &str, at: u64) -> Acknowledged {
        Acknowledged {
            job: JobId::new(),
            tenant: tenant.into(),
            at: ms(at),
        }
    }

    fn execution(job: JobId, tenant: &str, from: u64, to: u64) -> Execution {
        Execution {
            job,
            tenant: tenant.into(),
            from: ms(from),
            to: Some(ms(to)),
        }
    }

    #[test]
    fn the_longest_gap_is_between_neighbours() {
        let list = [50, 0, 10, 20, 60].map(|at| acknowledged("a", at));
        assert_eq!(longest_gap(&list), (ms(30), ms(20)));
        assert_eq!(longest_gap(&[]), (ms(0), ms(0)));
    }

    #[test]
    fn a_second_excludes_its_end() {
        assert_eq!(most_in_a_second(&[0, 999, 1_000]), 2);
        assert_eq!(most_in_a_second(&[5, 5, 5, 2_000]), 3);
        assert_eq!(most_in_a_second(&[]), 0);
    }

    #[test]
    fn only_jobs_with_two_runs_ran_again() {
        let (a, b) = (JobId::new(), JobId::new());
        let list = [
            execution(a, "t", 0, 1),
            execution(b, "t", 0, 1),
            execution(a, "t", 2, 3),
            execution(a, "t", 4, 5),
        ];
        assert_eq!(run_again(&list), 1);
    }

    #[test]
    fn shares_count_only_while_both_wait() {
        let mut events = Events::default();
        // Both have two jobs; `b`'s second starts at 400, and from then on only `a` waits.
        for tenant in ["a", "b", "a", "b", "a", "a", "a"] {
            events.acknowledged.push(acknowledged(tenant, 0));
        }
        for (tenant, from, to) in [
            ("a", 100, 400),
            ("b", 100, 200),
            ("a", 200, 300),
            ("b", 400, 900),
            ("a", 400, 900),
            ("a", 400, 900),
        ] {
            events.executions.push(execution(JobId::new(), tenant, from, to));
        }
        let shares = shares(&events, ["a", "b"], 1);
        assert_eq!((shares.span, shares.first, shares.second), (ms(400), ms(400), ms(100)));
        assert!((shares.first_percent() - 80.0).abs() < 1e-9);
    }
}
