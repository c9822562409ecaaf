//! The form of every document in a repository: a line of JSON, a line with its signature, then bytes that the document
//! names by length and hash. `head -1 FILE | jq` shows it to people.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hex;
use crate::keys::{SigningKey, Trust, VerifyKey};

/// Format of documents and their content written by this program.
pub(crate) const FORMAT: u32 = 1;

/// Before what is signed, so that a signature given here means nothing elsewhere.
const DOMAIN: &[u8] = b"muster backup document 1\n";

#[derive(Default, Serialize, Deserialize)]
struct Seal {
    signed_by: Option<VerifyKey>,
    signature: Option<String>,
}

/// The one field that every format keeps, read first.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn message(line: &[u8]) -> Vec<u8> {
    [DOMAIN, line].concat()
}

/// Seals a document, with what follows it.
pub(crate) fn seal(document: &impl Serialize, key: Option<&SigningKey>, rest: &[u8]) -> Result<Bytes> {
    let invalid = |error: serde_json::Error| Error::Invalid(format!("a document cannot be written: {error}"));
    let mut out = serde_json::to_vec(document).map_err(invalid)?;
    let seal = key.map_or_else(Seal::default, |key| Seal {
        signed_by: Some(key.verify_key()),
        signature: Some(hex::encode(&key.sign(&message(&out)))),
    });
    out.push(b'\n');
    out.extend(serde_json::to_vec(&seal).map_err(invalid)?);
    out.push(b'\n');
    out.extend_from_slice(rest);
    Ok(out.into())
}

/// A document that was read back and believed.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    pub(crate) document: T,
    /// `None`: it is not signed.
    pub(crate) signed_by: Option<VerifyKey>,
    pub(crate) rest: Bytes,
}

/// Opens a sealed document. Nothing of it is looked at before its signature was judged.
pub(crate) fn open<T: DeserializeOwned>(object: &str, bytes: &Bytes, trust: &Trust) -> Result<Opened<T>> {
    let cut = || Error::tampered(object, "it ends too early");
    let end = |from: usize| bytes[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at);
    let first = end(0).ok_or_else(cut)?;
    let second = end(first + 1).ok_or_else(cut)?;
    let (line, seal) = (&bytes[..first], &bytes[first + 1..second]);
    let seal: Seal =
        serde_json::from_slice(seal).map_err(|error| Error::tampered(object, format!("its second line: {error}")))?;
    let signature = match (seal.signed_by, seal.signature) {
        (None, None) => None,
        (Some(key), Some(signature)) => {
            let signature = hex::decode(&signature);
            Some((
                key,
                signature.ok_or_else(|| Error::tampered(object, "its signature is no number"))?,
            ))
        }
        _ => return Err(Error::tampered(object, "its signature is cut in two")),
    };
    let given = signature.as_ref().map(|(key, signature)| (*key, &signature[..]));
    trust.check(object, &message(line), given)?;
    let damaged = |error: serde_json::Error| Error::tampered(object, error.to_string());
    let Format { format } = serde_json::from_slice(line).map_err(damaged)?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            object: object.to_owned(),
            found: format,
            newest: FORMAT,
        });
    }
    Ok(Opened {
        document: serde_json::from_slice(line).map_err(damaged)?,
        signed_by: given.map(|(key, _)| key),
        rest: bytes.slice(second + 1..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        format: u32,
        text: String,
    }

    fn note(format: u32) -> Note {
        Note {
            format,
            text: "two\nlines".into(),
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::create(&dir.path().join("key")).unwrap();
        let trust = Trust::Keys(vec![key.verify_key()]);
        let sealed = seal(&note(1), Some(&key), b"").unwrap();
        let opened = open::<Note>("note", &sealed, &trust).unwrap();
        assert_eq!((opened.document, opened.signed_by), (note(1), Some(key.verify_key())));
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(open::<Note>("note", &changed.into(), &trust).is_err(), "at {at}");
            assert!(
                open::<Note>("note", &sealed.slice(..at), &trust).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn unsigned_ones_and_newer_ones() {
        let sealed = seal(&note(1), None, b"rest").unwrap();
        assert!(matches!(
            open::<Note>("note", &sealed, &Trust::AnySigner),
            Err(Error::Unsigned { .. })
        ));
        let opened = open::<Note>("note", &sealed, &Trust::Unsigned).unwrap();
        assert_eq!((opened.signed_by, &opened.rest[..]), (None, &b"rest"[..]));
        let newer = seal(&note(FORMAT + 1), None, b"").unwrap();
        assert!(matches!(
            open::<Note>("note", &newer, &Trust::Unsigned),
            Err(Error::NewerFormat {
                found: 2,
                newest: 1,
                ..
            })
        ));
    }
}
