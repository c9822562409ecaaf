//! Limits for people and for scripts.

use std::fmt::Write as _;
use std::time::SystemTime;

use muster_client::{HeldOrder, Limit, LimitInfo, LimitLevel, LimitSelector, LimiterInfo, LimiterState, RateLimit};
use serde_json::{Value, json};

use crate::human;
use crate::json::{millis, rfc3339};

/// Jobs named on a page; scripts get all that the cluster tells.
const JOBS_SHOWN: usize = 5;

pub(crate) const RULES: [&str; 10] = [
    "LEVEL",
    "TENANTS",
    "NAMES",
    "RATE",
    "CONCURRENCY",
    "IN USE",
    "CLOSED",
    "RUNNING",
    "WAITING",
    "NOTE",
];

pub(crate) fn info_row(info: &LimitInfo) -> Vec<String> {
    let limit = &info.limit;
    vec![
        limit.selector.level.to_string(),
        limit.selector.tenants.clone(),
        limit.selector.names.clone(),
        limit.rate.map_or_else(|| "-".to_owned(), rate),
        concurrency(limit),
        human::count(info.names),
        human::count(info.closed),
        human::count(info.running),
        human::count(info.waiting),
        human::shorten(&limit.note, 40),
    ]
}

fn concurrency(limit: &Limit) -> String {
    match (limit.concurrency, limit.rate) {
        (0, None) => "unlimited".to_owned(),
        (0, Some(_)) => "-".to_owned(),
        (most, _) => human::count(most.into()),
    }
}

/// `100/s, burst 20`.
pub(crate) fn rate(limit: RateLimit) -> String {
    let burst = if limit.burst == 0 { limit.count } else { limit.burst };
    // `100/s` rather than `100/1s`, as it is given on the command line.
    let period = human::duration(limit.period);
    let alone = period
        .strip_prefix('1')
        .filter(|unit| matches!(*unit, "s" | "m" | "h" | "d"));
    format!("{}/{}, burst {burst}", limit.count, alone.unwrap_or(&period))
}

/// `key stripe:* of tenants acme`.
pub(crate) fn selector(selector: &LimitSelector) -> String {
    let mut text = selector.level.to_string();
    let own = matches!(selector.level, LimitLevel::Queue | LimitLevel::Kind | LimitLevel::Key);
    if own {
        let _ = write!(text, " {}", selector.names);
    }
    if selector.level != LimitLevel::Cluster && !selector.tenants.is_empty() {
        let of = if own { "of " } else { "" };
        let _ = write!(text, " {of}{}", selector.tenants);
    }
    text
}

/// A rule in a line.
pub(crate) fn line(limit: &Limit) -> String {
    let mut parts = Vec::new();
    parts.extend(limit.rate.map(rate));
    if limit.concurrency > 0 {
        parts.push(format!("{} at once", limit.concurrency));
    }
    if parts.is_empty() {
        parts.push("unlimited".to_owned());
    }
    let note = if limit.note.is_empty() {
        String::new()
    } else {
        format!(" ({})", limit.note)
    };
    format!("{}: {}{note}", selector(&limit.selector), parts.join(", "))
}

/// All about one limiter, a line per fact.
pub(crate) fn page(what: &str, limiter: &LimiterInfo, now: SystemTime) -> String {
    let mut page = String::new();
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(page, "{name:<14}{value}");
    };
    fact("limit of", what.to_owned());
    match limiter.rules.split_first() {
        None => fact("rule", "none: not limited".to_owned()),
        Some((applies, others)) => {
            fact("rule", line(applies));
            for other in others {
                fact("less specific", line(other));
            }
        }
    }
    let opens = human::relative(limiter.opens_at, now);
    let state = match limiter.state {
        LimiterState::Open => "open: the next job may start".to_owned(),
        LimiterState::Full => "full: the next job starts when a running one ends".to_owned(),
        LimiterState::Shut => format!("shut: the next job has tokens {opens}"),
        LimiterState::Throttled => format!("throttled, as a worker reported: opens {opens} (muster limit open)"),
        LimiterState::Paused => "paused (muster queue resume, muster kind resume)".to_owned(),
        other => other.as_str().to_owned(),
    };
    fact("state", state);
    if let Some(tokens) = limiter.tokens {
        fact("tokens left", human::count(tokens.into()));
    }
    fact("running", number(limiter.running, &limiter.holders));
    fact("available", human::count(limiter.waiting));
    if !limiter.waiters.is_empty() {
        fact("waiting here", list(&limiter.waiters));
    }
    if !limiter.too_costly.is_empty() {
        let jobs = list(&limiter.too_costly);
        fact(
            "too costly",
            format!("{jobs}: they cost more than the burst and wait for another rule"),
        );
    }
    page.truncate(page.trim_end().len());
    page
}

fn number(count: u64, jobs: &[String]) -> String {
    if jobs.is_empty() {
        return human::count(count);
    }
    format!("{}: {}", human::count(count), list(jobs))
}

pub(crate) fn list(jobs: &[String]) -> String {
    let mut text = jobs.iter().take(JOBS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if jobs.len() > JOBS_SHOWN {
        text.push_str(", …");
    }
    text
}

pub(crate) fn selector_json(selector: &LimitSelector) -> Value {
    json!({ "level": selector.level.as_str(), "tenants": selector.tenants, "names": selector.names })
}

pub(crate) fn json(limit: &Limit) -> Value {
    let rate = limit
        .rate
        .map(|rate| json!({ "count": rate.count, "period_ms": millis(rate.period), "burst": rate.burst }));
    json!({
        "level": limit.selector.level.as_str(),
        "tenants": limit.selector.tenants,
        "names": limit.selector.names,
        "rate": rate,
        "concurrency": limit.concurrency,
        "unlimited": limit.rate.is_none() && limit.concurrency == 0,
        "note": limit.note,
    })
}

pub(crate) fn info_json(info: &LimitInfo) -> Value {
    let mut value = json(&info.limit);
    if let Some(fields) = value.as_object_mut() {
        let sums = json!({
            "names": info.names,
            "closed": info.closed,
            "running": info.running,
            "waiting": info.waiting,
        });
        fields.insert("use".to_owned(), sums);
    }
    value
}

pub(crate) fn limiter_json(level: LimitLevel, name: &str, limiter: &LimiterInfo) -> Value {
    json!({
        "level": level.as_str(),
        "name": name,
        "rules": limiter.rules.iter().map(json).collect::<Vec<_>>(),
        "tokens": limiter.tokens,
        "running": limiter.running,
        "waiting": limiter.waiting,
        "state": limiter.state.as_str(),
        "opens_at": limiter.opens_at.and_then(rfc3339),
        "holders": limiter.holders,
        "waiters": limiter.waiters,
        "too_costly": limiter.too_costly,
    })
}

pub(crate) const HELD: [&str; 4] = ["ORDERING KEY", "HELD BY", "WAITING", "NEXT"];

pub(crate) fn held_row(order: &HeldOrder) -> Vec<String> {
    vec![
        order.ordering_key.clone(),
        order.held_by.clone(),
        human::count(order.waiting),
        order.next.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

pub(crate) fn held_json(order: &HeldOrder) -> Value {
    json!({
        "ordering_key": order.ordering_key,
        "held_by": order.held_by,
        "waiting": order.waiting,
        "next": order.next,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rule() -> Limit {
        Limit {
            note: "contract".into(),
            ..Limit::new(LimitSelector::new(LimitLevel::Key, "stripe:*").of_tenants("acme"))
                .rate(RateLimit::per_second(100))
                .concurrency(5)
        }
    }

    #[test]
    fn a_rule_in_a_line() {
        assert_eq!(
            line(&rule()),
            "key stripe:* of acme: 100/s, burst 100, 5 at once (contract)"
        );
        let whole = Limit::new(LimitSelector::new(LimitLevel::Cluster, "*").of_tenants("*"));
        assert_eq!(line(&whole), "cluster: unlimited");
        let tenants = Limit::new(LimitSelector::new(LimitLevel::Tenant, "*").of_tenants("a*")).concurrency(2);
        assert_eq!(line(&tenants), "tenant a*: 2 at once");
    }

    #[test]
    fn a_limiter_on_its_page() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let limiter = LimiterInfo {
            rules: vec![rule()],
            tokens: Some(0),
            running: 1_200,
            waiting: 3,
            state: LimiterState::Throttled,
            opens_at: Some(now + Duration::from_secs(30)),
            holders: vec!["a".into()],
            waiters: (0..7).map(|number| number.to_string()).collect(),
            too_costly: Vec::new(),
        };
        let expected = "\
limit of      key stripe:acct_7
rule          key stripe:* of acme: 100/s, burst 100, 5 at once (contract)
state         throttled, as a worker reported: opens in 30s (muster limit open)
tokens left   0
running       1,200: a
available     3
waiting here  0, 1, 2, 3, 4, …";
        assert_eq!(page("key stripe:acct_7", &limiter, now), expected);
        let info = LimitInfo {
            limit: rule(),
            names: 3,
            running: 2,
            waiting: 1,
            closed: 0,
        };
        assert_eq!(RULES.len(), info_row(&info).len());
        assert_eq!(info_json(&info)["use"]["names"], 3);
    }
}
