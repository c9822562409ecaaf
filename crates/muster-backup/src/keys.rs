//! Who vouches for a backup: Ed25519 keys, and whose word is taken.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::hex;

/// First line of a file with a signing key.
const HEADING: &str = "muster backup signing key 1; keep it secret";

/// The key that vouches for backups of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct SigningKey(Arc<Ed25519KeyPair>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {}", self.verify_key())
    }
}

impl SigningKey {
    /// Makes a new key and writes it to a file that only its owner can read. An existing file is never replaced.
    pub fn create(file: &Path) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let wrong = |reason: &str| Error::Key {
            what: file.display().to_string(),
            reason: reason.to_owned(),
        };
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| wrong("no random numbers"))?;
        let io = || Error::io(format!("writing {}", file.display()));
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .map_err(io())?;
        writeln!(out, "{HEADING}\n{}", hex::encode(document.as_ref())).map_err(io())?;
        out.sync_all().map_err(io())?;
        Self::load(file)
    }

    /// Reads a key from its file.
    pub fn load(file: &Path) -> Result<Self> {
        let wrong = |reason: &str| Error::Key {
            what: format!("signing key {}", file.display()),
            reason: reason.to_owned(),
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
        let (heading, key) = text.split_once('\n').unwrap_or_default();
        if heading != HEADING {
            return Err(wrong("it is not a file written by `muster backup keygen`"));
        }
        let document = hex::decode(key.trim()).ok_or_else(|| wrong("it is damaged"))?;
        let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self(Arc::new(pair)))
    }

    /// The public half, by which signatures are checked.
    pub fn verify_key(&self) -> VerifyKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        VerifyKey(key)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// The public half of a signing key; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyKey([u8; 32]);

impl VerifyKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }

    /// From 64 hexadecimal digits, or from a file that holds them or a signing key.
    pub fn read(text_or_file: &str) -> Result<Self> {
        if let Ok(key) = text_or_file.parse() {
            return Ok(key);
        }
        let file = Path::new(text_or_file);
        let wrong = |reason: String| Error::Key {
            what: format!("verification key {text_or_file:?}"),
            reason,
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("it is neither 64 hexadecimal digits nor a file: {error}")))?;
        if text.starts_with(HEADING) {
            return Ok(SigningKey::load(file)?.verify_key());
        }
        text.trim().parse().map_err(wrong)
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyKey {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        hex::decode_array(text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a key of 64 hexadecimal digits"))
    }
}

impl Serialize for VerifyKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whose word is taken for what was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only what is signed with one of these keys.
    Keys(Vec<VerifyKey>),
    /// What is signed at all: shows damage, but whoever can write to the location can sign with a key of his own.
    AnySigner,
    /// Also what is not signed. A signature that is there must fit.
    Unsigned,
}

impl Trust {
    /// Judges what an object says of its signature.
    pub(crate) fn check(&self, object: &str, message: &[u8], signature: Option<(VerifyKey, &[u8])>) -> Result<()> {
        let Some((key, signature)) = signature else {
            return match self {
                Self::Unsigned => Ok(()),
                Self::Keys(_) | Self::AnySigner => Err(Error::Unsigned {
                    object: object.to_owned(),
                }),
            };
        };
        if let Self::Keys(keys) = self
            && !keys.contains(&key)
        {
            return Err(Error::UntrustedKey {
                object: object.to_owned(),
                key,
            });
        }
        if !key.verifies(message, signature) {
            return Err(Error::tampered(object, "its signature does not fit its content"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.key");
        let key = SigningKey::create(&file).unwrap();
        assert_eq!(SigningKey::load(&file).unwrap().verify_key(), key.verify_key());
        assert!(SigningKey::create(&file).is_err());
        let public = key.verify_key().to_string();
        assert_eq!(VerifyKey::read(&public).unwrap(), key.verify_key());
        assert_eq!(VerifyKey::read(&file.display().to_string()).unwrap(), key.verify_key());
        std::fs::write(&file, "something else\n").unwrap();
        assert!(SigningKey::load(&file).unwrap_err().to_string().contains("keygen"));
        assert!(VerifyKey::read("no/such/file").is_err());
        use std::os::unix::fs::PermissionsExt;
        let fresh = dir.path().join("b.key");
        SigningKey::create(&fresh).unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn trust_is_as_wide_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let ours = SigningKey::create(&dir.path().join("a")).unwrap();
        let theirs = SigningKey::create(&dir.path().join("b")).unwrap();
        let pinned = Trust::Keys(vec![ours.verify_key()]);
        let message = b"message";
        let by = |key: &SigningKey| (key.verify_key(), key.sign(message));
        let check = |trust: &Trust, by: Option<&(VerifyKey, Vec<u8>)>, message: &[u8]| {
            let signature = by.map(|(key, signature)| (*key, &signature[..]));
            trust.check("it", message, signature)
        };
        let (good, other) = (by(&ours), by(&theirs));
        for trust in [&pinned, &Trust::AnySigner, &Trust::Unsigned] {
            assert!(check(trust, Some(&good), message).is_ok(), "{trust:?}");
            assert!(
                matches!(check(trust, Some(&good), b"massage"), Err(Error::Tampered { .. })),
                "{trust:?}"
            );
        }
        assert!(matches!(
            check(&pinned, Some(&other), message),
            Err(Error::UntrustedKey { .. })
        ));
        assert!(check(&Trust::AnySigner, Some(&other), message).is_ok());
        assert!(matches!(check(&pinned, None, message), Err(Error::Unsigned { .. })));
        assert!(matches!(
            check(&Trust::AnySigner, None, message),
            Err(Error::Unsigned { .. })
        ));
        assert!(check(&Trust::Unsigned, None, message).is_ok());
    }
}
