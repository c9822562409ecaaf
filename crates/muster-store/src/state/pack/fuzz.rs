//! Packed streams for the fuzzer, with right checksums.

#![allow(clippy::expect_used, reason = "a failure is what the fuzzer looks for")]

use std::io::{BufWriter, Write};

use super::{MAGIC, PartWriter};

/// A stream of these parts: each a tag, the length of its body and the body. The end part gets the right total whatever
/// its body.
pub(in crate::state) fn stream(mut parts: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = PartWriter {
        out: BufWriter::new(&mut out),
        total: crc32fast::Hasher::new(),
    };
    writer.out.write_all(MAGIC).expect("memory");
    while let [tag, length, rest @ ..] = parts {
        let (body, after) = rest.split_at(usize::from(*length).min(rest.len()));
        let total = writer.total.clone().finalize().to_le_bytes();
        let body = if *tag == b'e' { &total[..] } else { body };
        writer.write(*tag, body).expect("memory");
        parts = after;
    }
    writer.out.flush().expect("memory");
    drop(writer);
    out
}
