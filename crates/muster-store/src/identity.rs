//! Who a data directory belongs to: `identity.json`, readable for people.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, files};

/// Format of the data directory written by this program.
pub const FORMAT: u32 = 1;

const FILE: &str = "identity.json";
const WHAT: &str = "identity file";

/// Who a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Cluster.
    pub cluster: u128,
    /// Node, never reused.
    pub node: u64,
    /// Format of the data, [`FORMAT`] when written by this program.
    pub format: u32,
    /// When the directory was bound, in milliseconds since the Unix epoch.
    pub created: u64,
    /// The cluster that this one took the place of, by recovery or restore. Nodes of it must not take part here.
    pub predecessor: Option<u128>,
    /// Random number of the directory of a node that joined with a token; 0: one of the first nodes.
    pub instance: u128,
}

impl Identity {
    /// An identity of the present format, created now, of one of a cluster's first nodes.
    pub fn new(cluster: u128, node: u64) -> Self {
        let created = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        Self {
            cluster,
            node,
            format: FORMAT,
            created,
            predecessor: None,
            instance: 0,
        }
    }

    /// True if the node joined a cluster that was there, or is about to: it must never begin one.
    pub fn joins(&self) -> bool {
        self.instance != 0
    }
}

/// The only part that every format keeps, read first.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Text {
    format: u32,
    cluster: String,
    node: u64,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predecessor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

pub(crate) fn encode(identity: &Identity) -> Result<Vec<u8>> {
    let text = Text {
        format: identity.format,
        cluster: format!("{:032x}", identity.cluster),
        node: identity.node,
        created: identity.created,
        predecessor: identity.predecessor.map(|cluster| format!("{cluster:032x}")),
        instance: identity.joins().then(|| format!("{:032x}", identity.instance)),
    };
    let mut bytes = serde_json::to_vec_pretty(&text).map_err(|err| Error::damaged(WHAT, err.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Identity> {
    let damaged = |err: serde_json::Error| Error::damaged(WHAT, err.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            found: format,
            newest: FORMAT,
        });
    }
    let text: Text = serde_json::from_slice(bytes).map_err(damaged)?;
    let number = |what: &str, text: &str| {
        u128::from_str_radix(text, 16).map_err(|err| Error::damaged(WHAT, format!("{what} {text:?}: {err}")))
    };
    Ok(Identity {
        cluster: number("cluster", &text.cluster)?,
        node: text.node,
        format,
        created: text.created,
        instance: text.instance.map_or(Ok(0), |text| number("instance", &text))?,
        predecessor: text
            .predecessor
            .as_deref()
            .map(|text| number("predecessor", text))
            .transpose()?,
    })
}

pub(crate) fn load(dir: &Path) -> Result<Option<Identity>> {
    files::read_small(&dir.join(FILE))?
        .map(|bytes| decode(&bytes))
        .transpose()
}

pub(crate) fn save(dir: &Path, identity: &Identity) -> Result<()> {
    files::replace(dir, FILE, &encode(identity)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_refuses_what_it_does_not_know() {
        let identity = Identity::new(0x00ab_cdef, 3);
        let bytes = encode(&identity).unwrap();
        assert_eq!(decode(&bytes).unwrap(), identity);
        let successor = Identity {
            predecessor: Some(0x12),
            ..identity
        };
        assert_eq!(decode(&encode(&successor).unwrap()).unwrap(), successor);
        let joined = Identity {
            instance: 0xfeed,
            ..identity
        };
        assert_eq!(decode(&encode(&joined).unwrap()).unwrap(), joined);

        let newer = br#"{"format": 9, "something": "else"}"#;
        assert!(matches!(
            decode(newer),
            Err(Error::NewerFormat {
                found: 9,
                newest: FORMAT
            })
        ));
        for cut in 0..bytes.len() - 2 {
            assert!(
                matches!(decode(&bytes[..cut]), Err(Error::Damaged { .. })),
                "cut at {cut}"
            );
        }
    }
}
