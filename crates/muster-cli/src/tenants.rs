//! Tenants for people: a row in a list, a page of one.

use std::fmt::Write;

use muster_client::{PriorityOrder, TenantInfo};

use crate::human;

pub(crate) const HEADINGS: [&str; 12] = [
    "TENANT",
    "WEIGHT",
    "PRIORITIES",
    "WAITING",
    "RUNNING",
    "SLOTS",
    "GUARANTEED",
    "SUCCEEDED",
    "DEAD",
    "FAILURES",
    "RUN TIME",
    "QUOTA",
];

pub(crate) fn row(tenant: &TenantInfo) -> Vec<String> {
    vec![
        tenant.name.clone(),
        tenant.weight.to_string(),
        priorities(tenant.priority_order),
        human::count(tenant.scheduled + tenant.blocked + tenant.available + tenant.retrying),
        human::count(tenant.running),
        human::count(tenant.running_slots),
        match tenant.guaranteed_slots {
            0 => "-".to_owned(),
            slots => human::count(u64::from(slots)),
        },
        human::count(tenant.totals.succeeded),
        human::count(tenant.totals.dead),
        human::count(tenant.totals.failures),
        human::duration(tenant.totals.run_time),
        quota_use(tenant),
    ]
}

/// `strict`, `fifo`, or the aging.
fn priorities(order: PriorityOrder) -> String {
    match order {
        PriorityOrder::Aging(aging) => human::duration(aging),
        order => order.to_string(),
    }
}

/// Slots that its jobs take, and what it is guaranteed.
fn slots(tenant: &TenantInfo) -> String {
    let running = human::count(tenant.running_slots);
    match tenant.guaranteed_slots {
        0 => running,
        slots => format!("{running}, {} guaranteed", human::count(u64::from(slots))),
    }
}

/// How full the fullest bound of the quota is: `82% jobs`.
fn quota_use(tenant: &TenantInfo) -> String {
    let quota = &tenant.quota;
    let part = |used: u64, most: u64, what| (most > 0).then(|| (u128::from(used) * 100 / u128::from(most), what));
    let rate = quota.enqueue_rate.and_then(|rate| {
        let left = tenant.enqueue_tokens.unwrap_or(rate.burst);
        part(
            u64::from(rate.burst.saturating_sub(left)),
            u64::from(rate.burst),
            "rate",
        )
    });
    let jobs = part(tenant.live(), quota.jobs_max, "jobs");
    let bytes = part(tenant.bytes, quota.bytes_max, "bytes");
    match [rate, bytes, jobs].into_iter().flatten().max_by_key(|(part, _)| *part) {
        Some((part, what)) => format!("{part}% {what}"),
        None => "-".to_owned(),
    }
}

/// One tenant: what there is to say, line by line.
pub(crate) fn page(tenant: &TenantInfo) -> String {
    let TenantInfo { quota, totals, .. } = tenant;
    let of = |used: String, most: u64, shown: fn(u64) -> String| match most {
        0 => used,
        most => format!("{used} of {}", shown(most)),
    };
    let rate = quota.enqueue_rate.map(|rate| {
        let left = tenant.enqueue_tokens.unwrap_or(rate.burst);
        format!(
            "{}/{}, burst {}; {} at once now",
            human::count(u64::from(rate.count)),
            human::duration(rate.period),
            human::count(u64::from(rate.burst)),
            human::count(u64::from(left))
        )
    });
    let lines = [
        ("tenant", tenant.name.clone()),
        ("weight", tenant.weight.to_string()),
        ("priorities", priorities(tenant.priority_order)),
        ("payload max", human::size(u64::from(tenant.payload_bytes_max))),
        (
            "live jobs",
            of(human::count(tenant.live()), quota.jobs_max, human::count),
        ),
        ("bytes", of(human::size(tenant.bytes), quota.bytes_max, human::size)),
        ("enqueue rate", rate.unwrap_or_else(|| "not bounded".to_owned())),
        ("scheduled", human::count(tenant.scheduled)),
        ("blocked", human::count(tenant.blocked)),
        ("available", human::count(tenant.available)),
        (
            "running",
            of(
                human::count(tenant.running),
                u64::from(tenant.concurrency),
                human::count,
            ),
        ),
        ("slots", slots(tenant)),
        ("retrying", human::count(tenant.retrying)),
        ("enqueued", human::count(totals.enqueued)),
        ("succeeded", human::count(totals.succeeded)),
        ("dead", human::count(totals.dead)),
        ("cancelled", human::count(totals.cancelled)),
        ("expired", human::count(totals.expired)),
        ("failures", human::count(totals.failures)),
        ("crashes", human::count(totals.crashes)),
        ("run time", human::duration(totals.run_time)),
    ];
    let mut page = String::new();
    for (name, value) in lines {
        let _ = writeln!(page, "{name:<14}{value}");
    }
    page.truncate(page.trim_end().len());
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_client::{Quota, RateLimit};

    use super::*;

    fn tenant() -> TenantInfo {
        TenantInfo {
            name: "acme".to_owned(),
            weight: 100,
            available: 12_000,
            running: 50,
            concurrency: 50,
            running_slots: 60,
            guaranteed_slots: 1_000,
            bytes: 3 << 20,
            ..TenantInfo::default()
        }
    }

    #[test]
    fn a_tenant_in_a_list() {
        let info = TenantInfo {
            name: "docs".into(),
            weight: 300,
            available: 1_200,
            retrying: 3,
            running: 8,
            running_slots: 12,
            guaranteed_slots: 20,
            ..TenantInfo::default()
        };
        assert_eq!(
            row(&info).join(" | "),
            "docs | 300 | 30s | 1,203 | 8 | 12 | 20 | 0 | 0 | 0 | 0ms | -"
        );
        assert_eq!(HEADINGS.len(), row(&info).len());
    }

    #[test]
    fn the_fullest_bound_is_shown() {
        assert_eq!(quota_use(&tenant()), "-");
        let mut bounded = tenant();
        bounded.quota = Quota {
            jobs_max: 100_000,
            bytes_max: 4 << 20,
            enqueue_rate: None,
        };
        assert_eq!(quota_use(&bounded), "75% bytes");
        bounded.quota.enqueue_rate = Some(RateLimit {
            count: 100,
            period: Duration::from_secs(1),
            burst: 20,
        });
        bounded.enqueue_tokens = Some(0);
        assert_eq!(quota_use(&bounded), "100% rate");
    }

    #[test]
    fn a_tenant_on_its_page() {
        let mut bounded = tenant();
        bounded.quota = Quota {
            jobs_max: 100_000,
            bytes_max: 0,
            enqueue_rate: Some(RateLimit {
                count: 1_000,
                period: Duration::from_secs(1),
                burst: 20,
            }),
        };
        bounded.enqueue_tokens = Some(7);
        let page = page(&bounded);
        for line in [
            "priorities    30s",
            "live jobs     12,050 of 100,000",
            "bytes         3 MiB",
            "enqueue rate  1,000/1s, burst 20; 7 at once now",
            "running       50 of 50",
            "slots         60, 1,000 guaranteed",
        ] {
            assert!(page.lines().any(|found| found == line), "{line:?} is not in\n{page}");
        }
    }
}
