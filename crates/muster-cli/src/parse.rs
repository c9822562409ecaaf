//! Values as people write them on a command line.

use std::time::{Duration, SystemTime};

use muster_client::{OrderingPolicy, PriorityOrder, RateLimit};

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A duration: one or more numbers with units, largest first, e.g. `5s`, `1m30s`, `250ms`, `2d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 500ms, 5s, 1m30s, 2h or 7d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS
            .iter()
            .find(|(name, _)| *name == &rest[..letters])
            .ok_or_else(wrong)?
            .1;
        rest = &rest[letters..];
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
    }
    Ok(Duration::from_millis(total))
}

/// An instant as RFC 3339, e.g. `2026-01-31T08:00:00Z`.
pub(crate) fn instant(text: &str) -> Result<SystemTime, String> {
    text.parse::<jiff::Timestamp>()
        .and_then(SystemTime::try_from)
        .map_err(|error| format!("{text:?} is not an instant like 2026-01-31T08:00:00Z: {error}"))
}

/// A rate as count per period: `100/s`, `30/m`, `5/10s`.
pub(crate) fn rate(text: &str) -> Result<RateLimit, String> {
    let wrong = || format!("{text:?} is not a rate like 100/s, 30/m or 5/10s");
    let (count, period) = text.split_once('/').ok_or_else(wrong)?;
    let count = count
        .trim()
        .parse::<u32>()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(wrong)?;
    let period = period.trim();
    let period = if period.starts_with(|c: char| c.is_ascii_digit()) {
        duration(period).map_err(|_| wrong())?
    } else {
        duration(&format!("1{period}")).map_err(|_| wrong())?
    };
    if period.is_zero() {
        return Err(wrong());
    }
    Ok(RateLimit {
        count,
        period,
        burst: 0,
    })
}

/// A limit key with its cost: `KEY`, or `3*KEY`.
pub(crate) fn limit_key(text: &str) -> Result<(String, u32), String> {
    let Some((cost, key)) = text.split_once('*') else {
        return Ok((text.to_owned(), 1));
    };
    match cost.parse::<u32>() {
        Ok(cost) if cost > 0 => Ok((key.to_owned(), cost)),
        _ => Err(format!("{text:?} is not a key like stripe:acct_7 or 3*stripe:acct_7")),
    }
}

/// A label: `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a label like gpu=a100")),
    }
}

/// An order of priorities: `strict`, `fifo`, or a length of time that one level is worth.
pub(crate) fn priority_order(text: &str) -> Result<PriorityOrder, String> {
    match text {
        "strict" => Ok(PriorityOrder::Strict),
        "fifo" => Ok(PriorityOrder::Fifo),
        text => duration(text)
            .map(PriorityOrder::Aging)
            .map_err(|_| format!("{text:?} is neither strict nor fifo nor a duration like 30s")),
    }
}

/// A policy of ordering keys.
pub(crate) fn ordering(text: &str) -> Result<OrderingPolicy, String> {
    match text {
        "skip-dead" | "skip_dead" => Ok(OrderingPolicy::SkipDead),
        "strict" => Ok(OrderingPolicy::Strict),
        _ => Err(format!("{text:?} is neither skip-dead nor strict")),
    }
}

/// A size in bytes: `65536`, `64KiB`, `8MiB`.
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a size like 65536, 64KiB or 8MiB");
    let text_in = text.trim();
    let digits = text_in.bytes().take_while(u8::is_ascii_digit).count();
    let number: u32 = text_in[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text_in[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// A bound on a number, or `none`, which is 0.
pub(crate) fn bound(text: &str) -> Result<u64, String> {
    match text.trim() {
        "none" => Ok(0),
        number => number
            .parse::<u64>()
            .ok()
            .filter(|bound| *bound > 0)
            .ok_or_else(|| format!("{text:?} is neither a number from 1 nor none")),
    }
}

/// A bound on bytes, or `none`, which is 0: `512MiB`, `20GiB`.
pub(crate) fn bytes_bound(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is neither a size like 512MiB or 20GiB nor none");
    let trimmed = text.trim();
    if trimmed == "none" {
        return Ok(0);
    }
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit = match &trimmed[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// A bound on a rate, or `none`, which has a count of 0.
pub(crate) fn rate_bound(text: &str) -> Result<RateLimit, String> {
    if text.trim() != "none" {
        return rate(text);
    }
    Ok(RateLimit {
        count: 0,
        period: Duration::from_secs(1),
        burst: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_ms: Option<u64>) {
        assert_eq!(duration(text).ok(), expected_ms.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn durations() {
        check("5s", Some(5_000));
        check("250ms", Some(250));
        check("1m30s", Some(90_000));
        check("2h", Some(7_200_000));
        check("7d", Some(604_800_000));
        check("0s", Some(0));
        check("", None);
        check("5", None);
        check("s", None);
        check("-5s", None);
        check("5 s", None);
        check("5y", None);
        check("1.5s", None);
        check("5ß", None);
        check("99999999999999999999s", None);
        check("18446744073709551615d", None);
    }

    #[test]
    fn rates() {
        let limit = |count, ms| RateLimit {
            count,
            period: Duration::from_millis(ms),
            burst: 0,
        };
        assert_eq!(rate("100/s"), Ok(limit(100, 1_000)));
        assert_eq!(rate("30/m"), Ok(limit(30, 60_000)));
        assert_eq!(rate("5/10s"), Ok(limit(5, 10_000)));
        for wrong in ["", "100", "/s", "0/s", "5/", "5/0s", "5/week", "-1/s"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn limit_keys() {
        assert_eq!(limit_key("a:b"), Ok(("a:b".to_owned(), 1)));
        assert_eq!(limit_key("3*a"), Ok(("a".to_owned(), 3)));
        for wrong in ["0*a", "x*a", "*a", "-1*a", "a*"] {
            assert!(limit_key(wrong).is_err(), "{wrong:?}");
        }
        assert!(ordering("strict").is_ok() && ordering("loose").is_err());
    }

    #[test]
    fn labels() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("gpu=a100"), pair("gpu", "a100"));
        assert_eq!(label("gpu="), pair("gpu", ""));
        assert_eq!(label("path=a=b"), pair("path", "a=b"), "the first one divides");
        for wrong in ["", "gpu", "=a100"] {
            assert!(label(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn orders_of_priorities() {
        assert_eq!(priority_order("strict"), Ok(PriorityOrder::Strict));
        assert_eq!(priority_order("fifo"), Ok(PriorityOrder::Fifo));
        let aging = PriorityOrder::Aging(Duration::from_secs(90));
        assert_eq!(priority_order("1m30s"), Ok(aging));
        for wrong in ["", "aging", "30", "Strict", "-1s"] {
            assert!(priority_order(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            (size("17"), size("64KiB"), size("8MiB")),
            (Ok(17), Ok(65_536), Ok(8 << 20))
        );
        for wrong in ["", "MiB", "8MB", "5GiB", "4294967295KiB", "-1"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bounds() {
        assert_eq!((bound("17"), bound("none")), (Ok(17), Ok(0)));
        assert_eq!(
            (bytes_bound("20GiB"), bytes_bound("512MiB"), bytes_bound("none")),
            (Ok(20 << 30), Ok(512 << 20), Ok(0))
        );
        assert_eq!(rate_bound("none").map(|rate| rate.count), Ok(0));
        assert_eq!(rate_bound("5/10s"), rate("5/10s"));
        for wrong in ["", "0", "-1", "many", "0B", "99999999999TiB"] {
            assert!(
                bound(wrong).is_err() && bytes_bound(wrong).is_err() && rate_bound(wrong).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn instants() {
        assert_eq!(
            instant("1970-01-01T00:00:01Z"),
            Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        );
        assert!(instant("tomorrow").is_err());
    }
}
