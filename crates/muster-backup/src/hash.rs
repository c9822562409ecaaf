//! Hashes of files. Tables of the state store never change, so each is hashed once in the life of the process.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// What tells one unchanged file from another: hard links share it.
type Key = (u64, u64, u64, i64, i64);

/// Hashes of files seen in the last backup.
#[derive(Debug, Default)]
pub(crate) struct HashCache {
    known: HashMap<Key, [u8; 32]>,
}

impl HashCache {
    /// The hash of a file, and whether it had to be read. Blocks on the disk.
    pub(crate) fn hash(&mut self, path: &Path) -> Result<([u8; 32], bool)> {
        let io = || Error::io(format!("hashing {}", path.display()));
        let file = File::open(path).map_err(io())?;
        let meta = file.metadata().map_err(io())?;
        let key = (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        if let Some(hash) = self.known.get(&key) {
            return Ok((*hash, false));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(io())?;
        let hash = *hasher.finalize().as_bytes();
        self.known.insert(key, hash);
        Ok((hash, true))
    }

    /// Bounds the memory: what an old backup had is hashed again if it comes back.
    pub(crate) fn keep_at_most(&mut self, files: usize) {
        if self.known.len() > files {
            self.known.clear();
        }
    }
}
