//! What happens to bytes on their way from one node to another.

use std::iter::Sum;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How bytes pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// They do not: they wait until it is over, as in a network that lost its way and whose TCP repeats.
    pub(crate) hold: bool,
    /// New connections are closed at once.
    pub(crate) refuse: bool,
    /// They arrive so much later.
    pub(crate) delay: Duration,
    /// Up to so much later still.
    pub(crate) jitter: Duration,
    /// Bytes per second; 0: no limit.
    pub(crate) rate: u64,
}

impl Mode {
    /// Nothing passes, nothing is said.
    pub(crate) fn held() -> Self {
        Self {
            hold: true,
            ..Self::default()
        }
    }

    /// Nothing passes, connections break.
    pub(crate) fn severed() -> Self {
        Self {
            hold: true,
            refuse: true,
            ..Self::default()
        }
    }
}

/// What traffic met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Bytes that were held, delayed or slowed.
    pub(crate) bytes: u64,
    /// Connections refused or cut.
    pub(crate) connections: u64,
}

impl Met {
    /// Something happened since an earlier look.
    pub(crate) fn since(self, before: Self) -> bool {
        self.bytes > before.bytes || self.connections > before.connections
    }
}

impl Sum for Met {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, met| Self {
            bytes: sum.bytes + met.bytes,
            connections: sum.connections + met.connections,
        })
    }
}

/// Bytes from one node to another, over all connections.
pub(crate) struct Flow {
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    /// Bytes until the next connection that carries them is cut; negative: never.
    cut_after: AtomicI64,
    bytes: AtomicU64,
    connections: AtomicU64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            mode: watch::Sender::default(),
            cuts: watch::Sender::default(),
            cut_after: AtomicI64::new(-1),
            bytes: AtomicU64::default(),
            connections: AtomicU64::default(),
        }
    }
}

impl Flow {
    /// Changes how bytes pass. Refusing closes what is open.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        if mode.refuse {
            self.cut();
        }
    }

    /// Closes all open connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes a connection in the middle of what it carries, after so many bytes from now on.
    pub(crate) fn cut_after(&self, bytes: u32) {
        self.cut_after.store(i64::from(bytes), Ordering::Relaxed);
    }

    /// What traffic met so far.
    pub(crate) fn met(&self) -> Met {
        Met {
            bytes: self.bytes.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    pub(super) fn watch_cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    pub(super) fn connection_lost(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits while bytes are held.
    pub(super) async fn passable(&self) {
        let mut mode = self.mode.subscribe();
        // The sender lives as long as the flow.
        let _ = mode.wait_for(|mode| !mode.hold).await;
    }

    /// Notes bytes that meet something other than free passage.
    pub(super) fn note(&self, bytes: usize) {
        let mode = self.mode();
        if mode != Mode::default() {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Of so many bytes about to pass, how many do before a cut; `None`: all.
    pub(super) fn allowed(&self, bytes: usize) -> Option<usize> {
        let left = self.cut_after.load(Ordering::Relaxed);
        if left < 0 {
            return None;
        }
        let after = left - bytes as i64;
        self.cut_after.store(after.max(-1), Ordering::Relaxed);
        (after < 0).then_some(left as usize)
    }
}
