//! How long a call may take: what its client allows, capped by the server.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// Time left at the end of a call to send its answer, so that the client hears it before it gives up itself.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

/// The instant by which the call must be answered.
pub(crate) fn of_call(metadata: &MetadataMap, longest: Duration) -> Instant {
    let allowed = metadata
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse);
    Instant::now() + shortened(allowed, longest)
}

fn shortened(allowed: Option<Duration>, longest: Duration) -> Duration {
    match allowed {
        // The margin never eats more than a quarter of a very short deadline.
        Some(allowed) => longest.min(allowed.saturating_sub(ANSWER_MARGIN.min(allowed / 4))),
        None => longest,
    }
}

/// A `grpc-timeout` header: at most eight digits and a unit. `None` if malformed, which gRPC treats as absent.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_grpc_defines_it() {
        let check = |text, expected: Option<Duration>| assert_eq!(parse(text), expected, "{text}");
        check("5S", Some(Duration::from_secs(5)));
        check("1500m", Some(Duration::from_millis(1_500)));
        check("2H", Some(Duration::from_hours(2)));
        check("3M", Some(Duration::from_mins(3)));
        check("7u", Some(Duration::from_micros(7)));
        check("7n", Some(Duration::from_nanos(7)));
        check("", None);
        check("S", None);
        check("123456789S", None);
        check("-1S", None);
        check("1x", None);
        check("1é", None);
    }

    #[test]
    fn the_server_caps_what_the_client_allows() {
        let longest = Duration::from_secs(30);
        assert_eq!(shortened(None, longest), longest);
        assert_eq!(shortened(Some(Duration::from_hours(1)), longest), longest);
        assert_eq!(
            shortened(Some(Duration::from_secs(1)), longest),
            Duration::from_millis(980)
        );
        assert_eq!(
            shortened(Some(Duration::from_millis(8)), longest),
            Duration::from_millis(6)
        );
    }
}
