//! Sizes with a unit in the configuration, such as `"64MiB"`.

use serde::{Deserialize, Deserializer, de::Error as _};

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "{text:?} is not a size; write a whole number and B, KiB, MiB or GiB, e.g. \"64MiB\""
        ))
    })
}

/// For a key that need not be there.
pub(crate) fn deserialize_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    deserialize(deserializer).map(Some)
}

fn parse(text: &str) -> Option<usize> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    usize::try_from(number.trim().parse::<u64>().ok()?.checked_mul(*unit)?).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_size_has_a_unit() {
        let check = |text, expected| assert_eq!(parse(text), expected, "{text}");
        check("64MiB", Some(64 << 20));
        check("1 GiB", Some(1 << 30));
        check("512B", Some(512));
        check("3KiB", Some(3 << 10));
        check("64", None);
        check("-1MiB", None);
        check("1.5MiB", None);
        check("99999999999GiB", None);
        check("MB", None);
    }
}
