//! Single fields.

use std::collections::HashMap;
use std::net::SocketAddr;

use muster_core::{JobId, Millis, Name, NodeId, Timestamp};

use crate::errors::Violation;
use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX, NAME_LENGTH_MAX};
use crate::reason::Reason;

/// What names are made of, for people.
const NAME_RULE: &str = "1 to 128 of A-Z a-z 0-9 . _ -";

/// Longest part of a value shown in an error.
const SHOWN_CHARS: usize = 64;

/// A value from outside as an error shows it: quoted, escaped, cut.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
    }
}

/// A name of people's choice.
pub(crate) fn name(field: &str, value: &str) -> Result<Name, Violation> {
    if is_name(value) {
        Ok(Name::from(value))
    } else {
        Err(Violation::new(Reason::NameInvalid, field, shown(value), NAME_RULE))
    }
}

/// True if `value` may name a tenant, queue or kind.
pub(crate) fn is_name(value: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Identity of a job.
pub(crate) fn job_id(field: &str, value: &str) -> Result<JobId, Violation> {
    if value.is_empty() {
        return Err(required(field, "a UUID as text"));
    }
    value
        .parse()
        .map_err(|_| Violation::new(Reason::IdInvalid, field, shown(value), "a UUID as text"))
}

/// Identity of a node.
pub(crate) fn node(field: &str, value: u64) -> Result<NodeId, Violation> {
    if value == 0 {
        return Err(required(field, "the id of a node, from 1"));
    }
    Ok(value)
}

/// Where a node is; empty: not given.
pub(crate) fn optional_address(field: &str, value: &str) -> Result<Name, Violation> {
    let bad = |allowed: &str| Violation::new(Reason::AddressInvalid, field, shown(value), allowed);
    if value.is_empty() {
        return Ok("".into());
    }
    let address: SocketAddr = value.parse().map_err(|_| bad("an address like 127.0.0.1:7104"))?;
    if address.port() == 0 {
        return Err(bad("a port other than 0"));
    }
    Ok(address.to_string().into())
}

/// A field that must be there.
pub(crate) fn required(field: &str, allowed: &str) -> Violation {
    Violation::new(Reason::FieldRequired, field, "empty", allowed)
}

/// A text of bounded length.
pub(crate) fn text(field: &str, value: &str, bytes_max: usize) -> Result<Name, Violation> {
    within_bytes(field, value.len(), bytes_max)?;
    Ok(Name::from(value))
}

/// A length in bytes.
pub(crate) fn within_bytes(field: &str, bytes: usize, bytes_max: usize) -> Result<(), Violation> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Violation::new(
        Reason::TooLong,
        field,
        format!("{bytes} bytes long"),
        format!("at most {bytes_max} bytes"),
    ))
}

/// A number of items.
pub(crate) fn count(field: &str, items: usize, items_max: usize) -> Result<(), Violation> {
    if items <= items_max {
        return Ok(());
    }
    Err(Violation::new(
        Reason::TooMany,
        field,
        format!("a list of {items}"),
        format!("at most {items_max} items"),
    ))
}

/// A number within its range, 0 standing for `default`.
pub(crate) fn number(field: &str, value: u32, least: u32, most: u32, default: u32) -> Result<u32, Violation> {
    if value == 0 {
        return Ok(default);
    }
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(Violation::new(
        Reason::OutOfRange,
        field,
        value.to_string(),
        format!("{least} to {most}"),
    ))
}

/// A length of time within its range, in whole milliseconds; what is finer is rounded up, so that 1 ns is not "none".
pub(crate) fn span(
    field: &str,
    value: Option<&prost_types::Duration>,
    least: Millis,
    most: Millis,
    default: Millis,
) -> Result<Millis, Violation> {
    let Some(value) = value else {
        return Ok(default);
    };
    let millis = i128::from(value.seconds) * 1_000 + i128::from(value.nanos.div_euclid(1_000_000));
    let millis = millis + i128::from(value.nanos.rem_euclid(1_000_000) != 0);
    match Millis::try_from(millis) {
        Ok(millis) if (least..=most).contains(&millis) => Ok(millis),
        _ => Err(Violation::new(
            Reason::OutOfRange,
            field,
            format!("{millis} ms"),
            format!("{least} ms to {}", readable(most)),
        )),
    }
}

fn readable(millis: Millis) -> String {
    const DAY: Millis = 24 * 3_600_000;
    match millis {
        days if days >= DAY && days % DAY == 0 => format!("{} days", days / DAY),
        minutes if minutes >= 60_000 && minutes % 60_000 == 0 => format!("{} min", minutes / 60_000),
        other => format!("{other} ms"),
    }
}

/// An instant; what lies before 1970 is as good as now.
pub(crate) fn instant(field: &str, value: &prost_types::Timestamp) -> Result<Timestamp, Violation> {
    // The range that protobuf defines: years 1 to 9999.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !SECONDS.contains(&value.seconds) || !(0..1_000_000_000).contains(&value.nanos) {
        let given = format!("{} s {} ns", value.seconds, value.nanos);
        return Err(Violation::new(Reason::OutOfRange, field, given, "years 1 to 9999"));
    }
    let millis = value
        .seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(value.nanos.unsigned_abs().div_ceil(1_000_000) as i32));
    Ok(Timestamp::try_from(millis).unwrap_or(0))
}

/// Labels, sorted by key.
pub(crate) fn labels(field: &str, map: HashMap<String, String>) -> Result<Vec<(Name, Name)>, Violation> {
    count(field, map.len(), LABELS_MAX)?;
    let mut pairs = Vec::with_capacity(map.len());
    for (key, value) in map {
        if key.is_empty() {
            return Err(Violation::new(
                Reason::NameInvalid,
                field,
                "an empty key",
                "keys of 1 to 128 bytes",
            ));
        }
        within_bytes(field, key.len(), LABEL_BYTES_MAX)?;
        within_bytes(field, value.len(), LABEL_BYTES_MAX)?;
        pairs.push((Name::from(key), Name::from(value)));
    }
    pairs.sort_unstable();
    Ok(pairs)
}

/// `text` cut to at most `bytes_max` bytes at a character's border.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let check = |value: &str, good: bool| assert_eq!(name("job.kind", value).is_ok(), good, "{value:?}");
        check("mail.send-v2_x", true);
        check("_system", true);
        check(&"a".repeat(128), true);
        check(&"a".repeat(129), false);
        check("", false);
        check("a b", false);
        check("a/b", false);
        check("größe", false);
        check("a\0", false);
    }

    #[test]
    fn errors_name_field_value_and_bound() {
        let error = name("job.kind", "a b").expect_err("has a space");
        assert_eq!(
            error.to_string(),
            r#"job.kind is "a b", allowed is 1 to 128 of A-Z a-z 0-9 . _ -"#
        );
        let error = name("job.kind", &"é".repeat(100)).expect_err("too long");
        assert!(
            error.value.len() < 200 && error.value.ends_with("(200 bytes)"),
            "{}",
            error.value
        );
    }

    #[test]
    fn ids_are_uuids() {
        let check = |value: &str, expected: Result<(), Reason>| {
            assert_eq!(
                job_id("id", value).map(|_| ()).map_err(|error| error.reason),
                expected,
                "{value:?}"
            );
        };
        check("0190f5f0-7e6b-7000-8000-000000000001", Ok(()));
        check("", Err(Reason::FieldRequired));
        check("17", Err(Reason::IdInvalid));
        check("0190f5f0-7e6b-7000-8000-00000000000g", Err(Reason::IdInvalid));
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        let check = |value: &str, good: Option<&str>| {
            let found = optional_address("peer_address", value).ok();
            assert_eq!(found.as_deref(), good, "{value:?}");
        };
        check("", Some(""));
        check("127.0.0.1:7104", Some("127.0.0.1:7104"));
        check("[::1]:7104", Some("[::1]:7104"));
        check("127.0.0.1:0", None);
        check("127.0.0.1", None);
        check("http://127.0.0.1:7104", None);
        assert!(node("node_id", 0).is_err());
    }

    #[test]
    fn spans_keep_to_their_range() {
        let check = |seconds, nanos, expected: Option<Millis>| {
            let value = prost_types::Duration { seconds, nanos };
            assert_eq!(
                span("delay", Some(&value), 1, 10_000, 7).ok(),
                expected,
                "{seconds} s {nanos} ns"
            );
        };
        check(0, 1_000_000, Some(1));
        check(0, 1, Some(1));
        check(0, 0, None);
        check(10, 0, Some(10_000));
        check(10, 1, None);
        check(-1, 0, None);
        check(-1, -500_000_000, None);
        check(i64::MAX, i32::MAX, None);
        check(i64::MIN, i32::MIN, None);
        assert_eq!(span("delay", None, 1, 10, 7), Ok(7));
    }

    #[test]
    fn instants_keep_to_the_range_of_protobuf() {
        let check = |seconds, nanos, expected: Option<Timestamp>| {
            let value = prost_types::Timestamp { seconds, nanos };
            assert_eq!(instant("run_at", &value).ok(), expected, "{seconds} s {nanos} ns");
        };
        check(1, 500_000, Some(1_001));
        check(-5, 0, Some(0));
        check(253_402_300_799, 0, Some(253_402_300_799_000));
        check(253_402_300_800, 0, None);
        check(0, -1, None);
        check(i64::MIN, 0, None);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc");
        assert_eq!(cut("aé", 2), "a");
    }
}
