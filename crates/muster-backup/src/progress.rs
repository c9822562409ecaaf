//! How far long work is, for whoever watches.

use std::sync::Arc;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing a checkpoint and linking its files.
    Pin,
    /// Hashing files.
    Hash,
    /// Sending what the location lacks.
    Upload,
    /// Fetching files.
    Download,
    /// Fetching and applying archived log.
    Replay,
    /// Reading all rows.
    Read,
    /// Writing data directories.
    Write,
}

impl Step {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pin => "writing a checkpoint",
            Self::Hash => "hashing files",
            Self::Upload => "uploading",
            Self::Download => "downloading",
            Self::Replay => "replaying the log",
            Self::Read => "reading all rows",
            Self::Write => "writing data directories",
        }
    }

    /// All steps.
    pub const ALL: [Self; 7] = [
        Self::Pin,
        Self::Hash,
        Self::Upload,
        Self::Download,
        Self::Replay,
        Self::Read,
        Self::Write,
    ];
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// Bytes done (entries when replaying).
    pub done: u64,
    /// Bytes to do; 0: not known.
    pub total: u64,
}

/// Hears of progress, often; must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Nobody watches.
pub fn silent() -> ProgressSink {
    Arc::new(|_| {})
}

/// Counts within a step.
pub(crate) struct Meter<'a> {
    sink: &'a ProgressSink,
    progress: Progress,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(sink: &'a ProgressSink, step: Step, total: u64) -> Self {
        let progress = Progress { step, done: 0, total };
        sink(progress);
        Self { sink, progress }
    }

    pub(crate) fn add(&mut self, done: u64) {
        self.progress.done += done;
        (self.sink)(self.progress);
    }
}
