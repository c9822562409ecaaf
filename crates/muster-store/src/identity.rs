//! Who a data directory belongs to: `identity.json`, readable for people.

use std::path::Path;

use muster_failpoint::failpoint;
use serde::{Deserialize, Serialize};

use crate::log::mark::Mark;
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
    /// CRC-32 of the lines above, so that a changed digit is noticed.
    checksum: String,
}

fn checksum(identity: &Identity) -> String {
    let Identity {
        cluster,
        node,
        format,
        created,
        predecessor,
        instance,
    } = identity;
    let predecessor = predecessor.map_or_else(String::new, |cluster| format!(" {cluster:032x}"));
    let text = format!("{format} {cluster:032x} {node} {created}{predecessor} {instance:032x}");
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

pub(crate) fn encode(identity: &Identity) -> Result<Vec<u8>> {
    let text = Text {
        format: identity.format,
        cluster: format!("{:032x}", identity.cluster),
        node: identity.node,
        created: identity.created,
        predecessor: identity.predecessor.map(|cluster| format!("{cluster:032x}")),
        instance: identity.joins().then(|| format!("{:032x}", identity.instance)),
        checksum: checksum(identity),
    };
    let mut bytes = serde_json::to_vec_pretty(&text).map_err(|err| Error::damaged(WHAT, err.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Identity> {
    let damaged = |err: serde_json::Error| Error::damaged(WHAT, err.to_string());
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    let newer = Error::NewerFormat {
        found: format,
        newest: FORMAT,
    };
    let text: Text = match serde_json::from_slice(bytes) {
        Ok(text) => text,
        // A newer program may write other lines.
        Err(_) if format > FORMAT => return Err(newer),
        Err(err) => return Err(damaged(err)),
    };
    let number = |what: &str, text: &str| {
        u128::from_str_radix(text, 16).map_err(|err| Error::damaged(WHAT, format!("{what} {text:?}: {err}")))
    };
    let identity = Identity {
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
    };
    if text.checksum != checksum(&identity) {
        return Err(Error::damaged(WHAT, "its checksum does not fit its lines"));
    }
    if format > FORMAT { Err(newer) } else { Ok(identity) }
}

/// Whose a directory is.
pub(crate) struct Ownership {
    pub identity: Option<Identity>,
    /// The file was damaged, missing or another's, and is to be written anew.
    pub repaired: bool,
}

/// Compares the identity file with the mark, which holds the same and is written twice. Changes nothing.
pub(crate) fn owner(dir: &Path, mark: Option<&Mark>) -> Result<Ownership> {
    let file = match load(dir) {
        Err(error @ (Error::NewerFormat { .. } | Error::Io { .. })) => return Err(error),
        other => other,
    };
    let lost = |detail: String| Err(Error::MarkLost { detail });
    let Some(mark) = mark else {
        return match file {
            Ok(None) => Ok(Ownership {
                identity: None,
                repaired: false,
            }),
            _ => lost("they are missing beside an identity file".into()),
        };
    };
    let Some(owner) = mark.owner else {
        return match file {
            Err(error) if mark.end.is_some() || mark.vote.is_some() => lost(error.to_string()),
            // A node that never took part is as good as new.
            file => Ok(Ownership {
                identity: file.unwrap_or_default(),
                repaired: false,
            }),
        };
    };
    let right = |identity: &Identity| (identity.cluster, identity.node) == (owner.cluster, owner.node);
    let found = file.ok().flatten().filter(right);
    let anew = || Identity {
        predecessor: owner.predecessor,
        instance: owner.instance,
        ..Identity::new(owner.cluster, owner.node)
    };
    Ok(Ownership {
        repaired: found.is_none(),
        identity: Some(found.unwrap_or_else(anew)),
    })
}

pub(crate) fn load(dir: &Path) -> Result<Option<Identity>> {
    files::read_small(&dir.join(FILE))?
        .map(|bytes| decode(&bytes))
        .transpose()
}

pub(crate) fn save(dir: &Path, identity: &Identity) -> Result<()> {
    failpoint!("identity.save.before_write", Error::injected);
    files::replace(dir, FILE, &encode(identity)?)?;
    failpoint!("identity.save.after_write", Error::injected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::mark::Owner;
    use crate::log::record::Vote;

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

    #[test]
    fn no_changed_bit_makes_another_identity_or_another_format() {
        let identity = Identity {
            predecessor: Some(0x12),
            ..Identity::new(0x00ab_cdef, 3)
        };
        let bytes = encode(&identity).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match decode(&changed) {
                Ok(found) => assert_eq!(found, identity, "bit {bit}"),
                Err(Error::Damaged { .. }) => {}
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
    }

    #[test]
    fn the_mark_knows_whose_a_damaged_directory_is() {
        let dir = tempfile::tempdir().unwrap();
        let owned = Mark {
            owner: Some(Owner {
                cluster: 7,
                node: 3,
                predecessor: Some(6),
                instance: 0xfeed,
            }),
            ..Mark::default()
        };
        let voted = Mark {
            vote: Some(Vote {
                number: 1,
                data: bytes::Bytes::new(),
            }),
            ..Mark::default()
        };
        let found = |mark: Option<&Mark>| {
            let found = owner(dir.path(), mark)?;
            Ok::<_, Error>((
                found.identity.map(|identity| (identity.cluster, identity.node)),
                found.repaired,
            ))
        };
        let path = dir.path().join(FILE);
        assert_eq!(found(None).unwrap(), (None, false));
        assert_eq!(found(Some(&owned)).unwrap(), (Some((7, 3)), true), "the file is lost");
        let restored = owner(dir.path(), Some(&owned)).unwrap().identity.unwrap();
        assert_eq!((restored.predecessor, restored.instance), (Some(6), 0xfeed));
        std::fs::write(&path, encode(&Identity::new(7, 4)).unwrap()).unwrap();
        assert_eq!(
            found(Some(&owned)).unwrap(),
            (Some((7, 3)), true),
            "the file is another's"
        );
        std::fs::write(&path, encode(&Identity::new(7, 3)).unwrap()).unwrap();
        assert_eq!(found(Some(&owned)).unwrap(), (Some((7, 3)), false));
        assert_eq!(found(Some(&Mark::default())).unwrap(), (Some((7, 3)), false));
        assert!(matches!(found(None), Err(Error::MarkLost { .. })));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(found(Some(&owned)).unwrap(), (Some((7, 3)), true));
        assert_eq!(
            found(Some(&Mark::default())).unwrap(),
            (None, false),
            "it never took part"
        );
        assert!(matches!(found(Some(&voted)), Err(Error::MarkLost { .. })));
    }
}
