//! Numbers and times for people.

use std::time::{Duration, SystemTime};

/// A length of time in at most two units: `350ms`, `5s`, `2m10s`, `3h`, `4d2h`.
pub(crate) fn duration(length: Duration) -> String {
    let ms = length.as_millis();
    let s = length.as_secs();
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3_600 => two(s / 60, "m", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// An instant as seen from `now`: `5s ago`, `in 2m10s`, `now`; `-` when there is none.
pub(crate) fn relative(at: Option<SystemTime>, now: SystemTime) -> String {
    let Some(at) = at else { return "-".to_owned() };
    match now.duration_since(at) {
        Ok(past) if past.as_secs() == 0 => "now".to_owned(),
        Ok(past) => format!("{} ago", duration(past)),
        Err(error) if error.duration().as_secs() == 0 => "now".to_owned(),
        Err(error) => format!("in {}", duration(error.duration())),
    }
}

/// A count with commas: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes: `512 B`, `64 KiB`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        if bytes.is_multiple_of(unit) {
            format!("{} {name}", bytes / unit)
        } else {
            format!("{:.1} {name}", bytes as f64 / unit as f64)
        }
    };
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => scaled(1_024, "KiB"),
        1_048_576..1_073_741_824 => scaled(1_048_576, "MiB"),
        _ => scaled(1_073_741_824, "GiB"),
    }
}

/// The first line, at most `chars_max` characters, with an ellipsis when something was left out.
pub(crate) fn shorten(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let whole = line.len() == text.trim_end().len();
    if whole && line.chars().count() <= chars_max {
        return line.to_owned();
    }
    line.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let check = |ms, expected: &str| assert_eq!(duration(Duration::from_millis(ms)), expected);
        check(0, "0ms");
        check(350, "350ms");
        check(5_900, "5s");
        check(60_000, "1m");
        check(130_000, "2m10s");
        check(3 * 3_600_000, "3h");
        check(98 * 3_600_000 + 59 * 60_000, "4d2h");
    }

    #[test]
    fn instants_are_relative_to_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |s| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(relative(at(995), now), "5s ago");
        assert_eq!(relative(at(1_130), now), "in 2m10s");
        assert_eq!(relative(at(1_000), now), "now");
        assert_eq!(relative(None, now), "-");
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([512, 65_536, 1_572_864].map(size), ["512 B", "64 KiB", "1.5 MiB"]);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shorten("short", 10), "short");
        assert_eq!(shorten("short\n", 10), "short");
        assert_eq!(shorten("twelve chars", 6), "twelv…");
        assert_eq!(shorten("line\nnext", 10), "line…");
    }
}
