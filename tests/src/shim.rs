//! A library loaded before the C library of a node: it writes down every sync and lets chosen ones fail.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiled library; `None` without a C compiler.
pub fn sync_shim(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shims/sync.c");
    let library = dir.join("sync-shim.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status();
    compiled.ok()?.success().then_some(library)
}

/// What the shim wrote down.
#[derive(Clone, Debug, Default)]
pub struct Syncs {
    /// Kinds of files, in order.
    pub kinds: Vec<String>,
    /// When one failed, in milliseconds since the Unix epoch, and of what kind.
    pub failed: Option<(String, u64)>,
}

impl Syncs {
    /// Reads the file so far.
    pub fn read(log: &Path) -> Self {
        let mut syncs = Self::default();
        for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
            let words: Vec<_> = line.split(' ').collect();
            if let [_, kind, ..] = words[..] {
                syncs.kinds.push(kind.to_owned());
                if let [_, _, at] = words[..] {
                    syncs.failed = Some((kind.to_owned(), at.parse().unwrap_or(0)));
                }
            }
        }
        syncs
    }
}
