//! Rules of the rule book, and names that they are for.

use muster_core::{LimitLevel, LimitRule, LimitSelector, Name, RateLimit};
use muster_proto::v1;

use super::field;
use crate::errors::Violation;
use crate::limits::{LIMIT_KEY_BYTES_MAX, NOTE_BYTES_MAX, RATE_COUNT_MAX, RATE_PERIOD_DEFAULT, SPAN_MAX};
use crate::reason::Reason;

/// What limit keys are made of, for people.
const KEY_RULE: &str = "1 to 128 visible ASCII characters other than *";
/// What patterns are made of, for people.
const NAME_PATTERN_RULE: &str = "a name of A-Z a-z 0-9 . _ -, or the beginning of names and a * at its end";
const KEY_PATTERN_RULE: &str = "a key of visible ASCII characters, or the beginning of keys and a * at its end";

/// A rule; `tenant` is that of the call.
pub(crate) fn limit(limit: Option<v1::Limit>, tenant: &Name) -> Result<LimitRule, Violation> {
    let Some(limit) = limit else {
        return Err(field::required(
            "limit",
            "a rule with level, patterns and a rate or concurrency",
        ));
    };
    rule(&limit, tenant).map_err(|violation| violation.within("limit"))
}

fn rule(limit: &v1::Limit, tenant: &Name) -> Result<LimitRule, Violation> {
    let selector = selector(limit.level, &limit.tenants, &limit.names, tenant)?;
    let rate = limit.rate.as_ref().map(|rate| rate_limit("rate", rate)).transpose()?;
    let limits = rate.is_some() || limit.concurrency > 0;
    if limit.unlimited && limits {
        return Err(Violation::new(
            Reason::FieldsExclusive,
            "unlimited",
            "given together with rate or concurrency",
            "one of them",
        ));
    }
    if !limit.unlimited && !limits {
        return Err(field::required("rate", "a rate, a concurrency, or unlimited"));
    }
    Ok(LimitRule {
        selector,
        rate,
        concurrency: limit.concurrency,
        note: field::text("note", &limit.note, NOTE_BYTES_MAX)?,
    })
}

/// Level and patterns.
pub(crate) fn selector(number: i32, tenants: &str, names: &str, tenant: &Name) -> Result<LimitSelector, Violation> {
    let level = level("level", number)?;
    let whole = |path: &str, value: &str| match value {
        "" | "*" => Ok(Name::from("*")),
        other => Err(Violation::new(
            Reason::OutOfRange,
            path,
            field::shown(other),
            format!("empty or * at the level of the {}", level.as_str()),
        )),
    };
    let tenants = match (level, tenants) {
        (LimitLevel::Cluster, given) => whole("tenants", given)?,
        (_, "") => tenant.clone(),
        (_, given) => pattern("tenants", given, NAME_PATTERN_RULE, field::is_name)?,
    };
    let names = match level {
        LimitLevel::Cluster | LimitLevel::Tenant => whole("names", names)?,
        LimitLevel::Queue | LimitLevel::Kind => pattern("names", names, NAME_PATTERN_RULE, field::is_name)?,
        LimitLevel::Key => pattern("names", names, KEY_PATTERN_RULE, is_key)?,
    };
    Ok(LimitSelector { level, tenants, names })
}

/// A level by its number.
pub(crate) fn level(path: &str, number: i32) -> Result<LimitLevel, Violation> {
    match v1::LimitLevel::try_from(number) {
        Ok(v1::LimitLevel::Cluster) => Ok(LimitLevel::Cluster),
        Ok(v1::LimitLevel::Tenant) => Ok(LimitLevel::Tenant),
        Ok(v1::LimitLevel::Queue) => Ok(LimitLevel::Queue),
        Ok(v1::LimitLevel::Kind) => Ok(LimitLevel::Kind),
        Ok(v1::LimitLevel::Key) => Ok(LimitLevel::Key),
        Ok(v1::LimitLevel::Unspecified) | Err(_) => Err(Violation::new(
            Reason::EnumInvalid,
            path,
            number.to_string(),
            "1 (cluster) to 5 (key)",
        )),
    }
}

/// The name of a limiter.
pub(crate) fn limiter_name(level: LimitLevel, path: &str, name: &str) -> Result<Name, Violation> {
    match level {
        LimitLevel::Cluster | LimitLevel::Tenant if name.is_empty() => Ok(Name::from("")),
        LimitLevel::Cluster | LimitLevel::Tenant => Err(Violation::new(
            Reason::OutOfRange,
            path,
            field::shown(name),
            format!("empty at the level of the {}", level.as_str()),
        )),
        LimitLevel::Queue | LimitLevel::Kind => field::name(path, name),
        LimitLevel::Key => limit_key(path, name),
    }
}

/// A limit key.
pub(crate) fn limit_key(path: &str, key: &str) -> Result<Name, Violation> {
    if is_key(key) {
        return Ok(Name::from(key));
    }
    Err(Violation::new(Reason::NameInvalid, path, field::shown(key), KEY_RULE))
}

fn is_key(key: &str) -> bool {
    (1..=LIMIT_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*')
}

/// A pattern that can match something.
fn pattern(path: &str, given: &str, allowed: &str, is_name: fn(&str) -> bool) -> Result<Name, Violation> {
    let good = match given.strip_suffix('*') {
        Some(start) => start.is_empty() || is_name(start),
        None => is_name(given),
    };
    if good {
        return Ok(Name::from(given));
    }
    if given.is_empty() {
        return Err(field::required(path, allowed));
    }
    Err(Violation::new(Reason::NameInvalid, path, field::shown(given), allowed))
}

/// The rate in the field `path`.
pub(crate) fn rate_limit(path: &str, limit: &v1::RateLimit) -> Result<RateLimit, Violation> {
    let at = |violation: Violation| violation.within(path);
    if limit.count == 0 {
        let allowed = format!("1 to {RATE_COUNT_MAX}");
        return Err(at(Violation::new(Reason::OutOfRange, "count", "0", allowed)));
    }
    let count = field::number("count", limit.count, 1, RATE_COUNT_MAX, 1).map_err(at)?;
    Ok(RateLimit {
        count,
        period: field::span("period", limit.period.as_ref(), 1, SPAN_MAX, RATE_PERIOD_DEFAULT).map_err(at)?,
        burst: field::number("burst", limit.burst, 1, RATE_COUNT_MAX, count).map_err(at)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_of(change: impl FnOnce(&mut v1::Limit)) -> Result<LimitRule, (String, Reason)> {
        let mut given = v1::Limit {
            level: v1::LimitLevel::Key.into(),
            names: "stripe:*".into(),
            concurrency: 5,
            ..Default::default()
        };
        change(&mut given);
        limit(Some(given), &"acme".into()).map_err(|violation| (violation.field, violation.reason))
    }

    fn refused(change: impl FnOnce(&mut v1::Limit), field: &str, reason: Reason) {
        assert_eq!(rule_of(change).expect_err("wrong"), (field.to_owned(), reason));
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let rule = rule_of(|limit| {
            limit.rate = Some(v1::RateLimit {
                count: 50,
                ..Default::default()
            });
        })
        .expect("valid");
        assert_eq!(&*rule.selector.tenants, "acme");
        let rate = RateLimit {
            count: 50,
            period: 1_000,
            burst: 50,
        };
        assert_eq!(rule.rate, Some(rate));
        let whole = rule_of(|limit| {
            limit.level = v1::LimitLevel::Cluster.into();
            limit.names.clear();
        });
        let selector = whole.expect("valid").selector;
        assert_eq!((&*selector.tenants, &*selector.names), ("*", "*"));
        let exempt = rule_of(|limit| {
            limit.concurrency = 0;
            limit.unlimited = true;
        });
        assert_eq!(exempt.expect("valid").concurrency, 0);
    }

    #[test]
    fn rules_keep_to_their_bounds() {
        refused(|limit| limit.level = 0, "limit.level", Reason::EnumInvalid);
        refused(|limit| limit.level = 6, "limit.level", Reason::EnumInvalid);
        refused(|limit| limit.names.clear(), "limit.names", Reason::FieldRequired);
        refused(|limit| limit.names = "a*b".into(), "limit.names", Reason::NameInvalid);
        refused(|limit| limit.names = "a b".into(), "limit.names", Reason::NameInvalid);
        refused(
            |limit| limit.names = "x".repeat(129),
            "limit.names",
            Reason::NameInvalid,
        );
        // No queue has such a name: the rule would never apply.
        refused(
            |limit| {
                limit.level = v1::LimitLevel::Queue.into();
                limit.names = "mail:*".into();
            },
            "limit.names",
            Reason::NameInvalid,
        );
        refused(
            |limit| limit.level = v1::LimitLevel::Tenant.into(),
            "limit.names",
            Reason::OutOfRange,
        );
        refused(
            |limit| {
                limit.level = v1::LimitLevel::Cluster.into();
                limit.names.clear();
                limit.tenants = "acme".into();
            },
            "limit.tenants",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.tenants = "*x".into(),
            "limit.tenants",
            Reason::NameInvalid,
        );
        refused(|limit| limit.concurrency = 0, "limit.rate", Reason::FieldRequired);
        refused(
            |limit| limit.unlimited = true,
            "limit.unlimited",
            Reason::FieldsExclusive,
        );
        refused(|limit| limit.note = "x".repeat(1_025), "limit.note", Reason::TooLong);
        let rate = |count, seconds, burst| {
            Some(v1::RateLimit {
                count,
                period: Some(prost_types::Duration { seconds, nanos: 0 }),
                burst,
            })
        };
        refused(
            |limit| limit.rate = rate(0, 1, 1),
            "limit.rate.count",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.rate = rate(1_000_000_001, 1, 1),
            "limit.rate.count",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.rate = rate(1, 0, 1),
            "limit.rate.period",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.rate = rate(1, -5, 1),
            "limit.rate.period",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.rate = rate(1, 32 * 86_400, 1),
            "limit.rate.period",
            Reason::OutOfRange,
        );
        refused(
            |limit| limit.rate = rate(1, 1, 1_000_000_001),
            "limit.rate.burst",
            Reason::OutOfRange,
        );
        assert!(limit(None, &"acme".into()).is_err());
    }

    #[test]
    fn names_of_limiters_belong_to_their_levels() {
        let check = |level, name: &str, good: bool| {
            assert_eq!(limiter_name(level, "name", name).is_ok(), good, "{level:?} {name:?}");
        };
        check(LimitLevel::Cluster, "", true);
        check(LimitLevel::Tenant, "acme", false);
        check(LimitLevel::Queue, "mail", true);
        check(LimitLevel::Queue, "", false);
        check(LimitLevel::Key, "stripe:acct_7", true);
        check(LimitLevel::Key, "https://x/y?z=1", true);
        check(LimitLevel::Key, "stripe:*", false);
        check(LimitLevel::Key, "größe", false);
    }
}
