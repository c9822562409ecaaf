//! Payloads as given on the command line.

use std::io::Read;

use muster_client::RawJob;

use crate::failure::Failure;

/// Largest payload there can be.
const BYTES_MAX: u64 = 8 << 20;

/// A job of this kind with the payload that `argument` names: JSON as it stands, `@file`, or `-` for standard input.
pub(super) fn read(kind: &str, argument: Option<&str>, content_type: Option<String>) -> Result<RawJob, Failure> {
    let Some(argument) = argument else {
        let mut job = RawJob::new(kind, Vec::new());
        job.content_type = content_type.unwrap_or_default();
        return Ok(job);
    };
    let data = if argument == "-" {
        limited(std::io::stdin().lock(), "standard input")?
    } else if let Some(path) = argument.strip_prefix('@') {
        let file = std::fs::File::open(path)
            .map_err(|error| Failure::usage("read the payload", format!("file {path:?}: {error}")))?;
        limited(file, path)?
    } else {
        argument.as_bytes().to_vec()
    };
    let json = serde_json::from_slice::<serde_json::Value>(&data);
    let is_literal = argument != "-" && !argument.starts_with('@');
    if let (Err(error), true, None) = (&json, is_literal, &content_type) {
        let message =
            format!("--payload is not JSON: {error}; use @FILE or - for other bytes, or name a --content-type");
        return Err(Failure::usage("read the payload", message));
    }
    let guessed = if json.is_ok() {
        "application/json"
    } else {
        "application/octet-stream"
    };
    let mut job = RawJob::new(kind, data);
    job.content_type = content_type.unwrap_or_else(|| guessed.to_owned());
    Ok(job)
}

fn limited(reader: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    reader
        .take(BYTES_MAX + 1)
        .read_to_end(&mut data)
        .map_err(|error| Failure::usage("read the payload", format!("{name}: {error}")))?;
    if data.len() as u64 > BYTES_MAX {
        return Err(Failure::usage(
            "read the payload",
            format!("{name} is larger than 8 MiB, the largest payload there is"),
        ));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_json_unless_said_otherwise() {
        let job = read("k", Some(r#"{"a":1}"#), None).unwrap();
        assert_eq!(
            (&job.payload[..], job.content_type.as_str()),
            (&br#"{"a":1}"#[..], "application/json")
        );
        assert!(read("k", Some("{a"), None).is_err());
        assert_eq!(
            read("k", Some("{a"), Some("text/plain".into())).unwrap().content_type,
            "text/plain"
        );
    }

    #[test]
    fn no_payload_is_an_empty_one() {
        let job = read("k", None, None).unwrap();
        assert!(job.payload.is_empty() && job.content_type.is_empty());
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = read("k", Some("@/no/such/file"), None).unwrap_err();
        assert!(failure.render(crate::args::Format::Table).contains("/no/such/file"));
    }

    #[test]
    fn too_much_is_refused_before_it_is_sent() {
        assert!(limited(std::io::repeat(0), "endless").is_err());
        assert_eq!(limited(&b"abc"[..], "short").unwrap(), b"abc");
    }
}
