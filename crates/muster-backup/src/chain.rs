//! The chain of archived log entries: a hash over all entries since the archive began.
//!
//! Not the chain of the log store, which begins anew on a node that got a snapshot: whoever archives an entry comes to
//! the same value here, so stretches archived by different nodes fit together, also where they overlap.

use muster_store::LogEntry;

/// Value of the chain after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain(pub(crate) [u8; 32]);

impl Chain {
    /// Before the first entry of an archive.
    pub(crate) fn begin(cluster: u128, first: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("muster backup archive, begin");
        hasher.update(&cluster.to_le_bytes());
        hasher.update(&first.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// After one more entry.
    pub(crate) fn next(self, entry: &LogEntry) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for number in [entry.position.term, entry.position.node, entry.position.index] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&[entry.kind as u8]);
        hasher.update(&entry.data);
        Self(*hasher.finalize().as_bytes())
    }
}
