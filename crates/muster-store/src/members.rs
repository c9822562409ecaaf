//! Where the members were when this node last knew: `members.json`, readable for people.
//!
//! A hint for a node whose log and state are damaged: whom to ask for a leader. It lies outside of both, decides nothing,
//! and is not missed when it is lost: the configuration names nodes as well.

use std::collections::BTreeMap;
use std::path::Path;

use muster_failpoint::failpoint;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, files};

const FILE: &str = "members.json";

#[derive(Serialize, Deserialize)]
struct Text {
    members: BTreeMap<u64, String>,
    /// CRC-32 of the members, so that nobody is asked at an address that a flipped bit made.
    checksum: String,
}

fn checksum(members: &BTreeMap<u64, String>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (node, address) in members {
        hasher.update(format!("{node} {address:?}\n").as_bytes());
    }
    format!("{:08x}", hasher.finalize())
}

/// What was saved last; empty if nothing was, or if it is damaged.
pub(crate) fn load(dir: &Path) -> BTreeMap<u64, String> {
    let bytes = files::read_small(&dir.join(FILE)).ok().flatten();
    let text = bytes.and_then(|bytes| serde_json::from_slice::<Text>(&bytes).ok());
    text.filter(|text| text.checksum == checksum(&text.members))
        .map(|text| text.members)
        .unwrap_or_default()
}

/// Synced on return; writes nothing if it is there already.
pub(crate) fn save(dir: &Path, members: &BTreeMap<u64, String>) -> Result<()> {
    if load(dir) == *members {
        return Ok(());
    }
    let text = Text {
        members: members.clone(),
        checksum: checksum(members),
    };
    let mut bytes = serde_json::to_vec_pretty(&text).map_err(|err| Error::damaged("members file", err.to_string()))?;
    bytes.push(b'\n');
    failpoint!("members.save.before_write", Error::injected);
    files::replace(dir, FILE, &bytes)?;
    failpoint!("members.save.after_write", Error::injected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_a_damaged_one_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let members = BTreeMap::from([(2, "10.0.0.2:7101".to_owned()), (9, "node-9.internal:7101".to_owned())]);
        save(dir.path(), &members).unwrap();
        assert_eq!(load(dir.path()), members);
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &changed).unwrap();
            let found = load(dir.path());
            assert!(found.is_empty() || found == members, "bit {bit}: {found:?}");
        }
        save(dir.path(), &members).unwrap();
        assert_eq!(load(dir.path()), members, "a damaged one is written anew");
    }
}
