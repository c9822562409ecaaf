//! Targets for the fuzzer: values as people type them.

use crate::parse;

/// A name, and what is to do no harm with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("cli-values", values)];

/// The first byte chooses the kind of value.
fn values(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let refusal = match choice % 5 {
        0 => parse::duration(text).err(),
        1 => parse::instant(text).err(),
        2 => parse::rate(text).err(),
        3 => parse::limit_key(text).err(),
        _ => parse::size(text).err(),
    };
    // A refusal says what would be right.
    assert!(refusal.is_none_or(|said| said.contains("like")));
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../../fuzz/replay.rs");

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let texts = [
            "\x001m30s",
            "\x002d",
            "\x012026-01-31T08:00:00Z",
            "\x02100/s",
            "\x025/10s",
            "\x033*stripe:acct_7",
            "\x048MiB",
        ];
        texts.map(|text| ("cli-values", text.as_bytes().to_vec())).to_vec()
    }
}
