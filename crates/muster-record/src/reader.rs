//! Reading a history, one line at a time.

use std::io::BufRead;

use crate::{Header, Record, VERSION};

/// A line that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Malformed {
    /// Counted from 1; 0 = the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// Gives the records after the header with their lines; holds one line in memory.
pub struct Reader<R> {
    /// The first line.
    pub header: Header,
    input: R,
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut input: R) -> Result<Self, Malformed> {
        let mut text = Vec::new();
        let malformed = |reason: String| Malformed { line: 1, reason };
        if !next(&mut input, &mut text).map_err(malformed)? {
            return Err(malformed("the file is empty".into()));
        }
        let header: Header =
            serde_json::from_slice(&text).map_err(|fault| malformed(format!("not a history's header: {fault}")))?;
        if header.muster_history != VERSION {
            return Err(malformed(format!(
                "version {}, known is {VERSION}",
                header.muster_history
            )));
        }
        Ok(Self {
            header,
            input,
            line: 1,
            text,
        })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<(u64, Record), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line += 1;
        let line = self.line;
        let malformed = |reason: String| Malformed { line, reason };
        match next(&mut self.input, &mut self.text) {
            Err(reason) => Some(Err(malformed(reason))),
            Ok(false) => None,
            Ok(true) => {
                let record = serde_json::from_slice(&self.text);
                Some(
                    record
                        .map(|record| (line, record))
                        .map_err(|fault| malformed(fault.to_string())),
                )
            }
        }
    }
}

/// False at the end. A last line without its end was cut off and is no record.
fn next(input: &mut impl BufRead, text: &mut Vec<u8>) -> Result<bool, String> {
    text.clear();
    let length = input.read_until(b'\n', text).map_err(|fault| fault.to_string())?;
    if length > 0 && text.last() != Some(&b'\n') {
        return Err("cut off".into());
    }
    Ok(length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_at(text: &str) -> Option<u64> {
        match Reader::new(text.as_bytes()) {
            Err(malformed) => Some(malformed.line),
            Ok(mut reader) => reader.find_map(|record| record.err().map(|malformed| malformed.line)),
        }
    }

    #[test]
    fn a_malformed_line_is_named() {
        let header = r#"{"muster_history":1,"source":"test"}"#;
        for (text, expected) in [
            (String::new(), Some(1)),
            ("{}\n".into(), Some(1)),
            (header.replace(":1", ":2") + "\n", Some(1)),
            (format!("{header}\n"), None),
            (format!("{header}\n{{\"healed\":{{\"at\":1}}}}\n"), None),
            (
                format!("{header}\n{{\"healed\":{{\"at\":1}}}}\n{{\"unheard\":{{}}}}\n"),
                Some(3),
            ),
            (format!("{header}\n{{\"healed\":{{\"at\":1}}}}"), Some(2)),
        ] {
            assert_eq!(fails_at(&text), expected, "{text}");
        }
    }
}
