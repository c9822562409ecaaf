//! Room on the disk of a data directory.
//!
//! A sync that fails for lack of room is fatal: what is on disk then is unknown. So the node stops writing before that: below
//! the reserve the cluster takes no new jobs, below a fourth of it this node writes nothing that can wait. A ballast file holds
//! room that other programs cannot take; it is given up when the reserve is gone, so that what is in flight can be finished.

use std::fs::File;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::{Error, Result, files};

/// Largest reserve that is chosen when none is configured.
const RESERVE_MAX: u64 = 512 << 20;
/// And the share of the file system that it is at most.
const RESERVE_SHARE: u64 = 20;
/// The node writes nothing that can wait below this part of the reserve.
const FLOOR: u64 = 4;
/// Part of the reserve that the ballast takes, and its bounds.
const BALLAST: u64 = 16;
const BALLAST_MIN: u64 = 1 << 20;
const BALLAST_MAX: u64 = 64 << 20;

const FILE: &str = "ballast";

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// At least the reserve.
    #[default]
    Enough = 0,
    /// Less than the reserve: no new jobs.
    Low = 1,
    /// Less than a fourth of it: nothing that can wait is written.
    Out = 2,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this program may still write.
    pub free: u64,
    /// Bytes that are to stay free.
    pub reserve: u64,
    /// What follows from it.
    pub room: Room,
}

/// Watches over the file system of one data directory.
pub(crate) struct SpaceGuard {
    dir: PathBuf,
    /// As configured; `None`: by the size of the file system.
    reserve: Option<u64>,
    last: Mutex<Space>,
    /// Held while the ballast is made or given up.
    ballast: Mutex<()>,
}

impl SpaceGuard {
    pub fn new(dir: &Path, reserve: Option<u64>) -> Self {
        Self {
            dir: dir.to_owned(),
            reserve,
            last: Mutex::default(),
            ballast: Mutex::default(),
        }
    }

    /// What was found last.
    pub fn last(&self) -> Space {
        *self.last.lock()
    }

    /// The room there would be with so many bytes more on the disk.
    pub fn room_for(&self, bytes: u64) -> Room {
        match self.measure() {
            Ok((free, reserve)) => self
                .judge(free.saturating_sub(bytes), reserve)
                .room
                .max(self.last().room),
            Err(_) => self.last().room,
        }
    }

    /// Looks at the file system, and makes or gives up the ballast.
    pub fn look(&self) -> Result<Space> {
        let _turn = self.ballast.lock();
        let (free, reserve) = self.measure()?;
        let ballast = self.dir.join(FILE);
        let held = ballast.metadata().map_or(0, |found| found.len());
        let size = (reserve / BALLAST).clamp(BALLAST_MIN, BALLAST_MAX);
        let mut space = self.judge(free, reserve);
        if space.room == Room::Out && held > 0 {
            files::remove(&ballast)?;
            tracing::warn!(
                free,
                ballast = held,
                "the disk is full; the ballast is given up so that what is in flight can end"
            );
            // What it gave is for what is in flight, so it does not count as room.
        } else if reserve > 0 && space.room == Room::Enough && held < size && free - reserve > size {
            if let Err(error) = make(&ballast, size) {
                tracing::warn!(%error, "no ballast could be made");
                drop(files::remove(&ballast));
            }
            let (free, reserve) = self.measure()?;
            space = self.judge(free, reserve);
        }
        *self.last.lock() = space;
        Ok(space)
    }

    fn measure(&self) -> Result<(u64, u64)> {
        let found = statvfs(&self.dir)
            .map_err(|error| Error::io(format!("looking at the room in {}", self.dir.display()))(error.into()))?;
        let size = found.f_blocks.saturating_mul(found.f_frsize);
        let reserve = self.reserve.unwrap_or(RESERVE_MAX.min(size / RESERVE_SHARE));
        Ok((found.f_bavail.saturating_mul(found.f_frsize), reserve))
    }

    /// A level is left upwards only with some room to spare, so that it does not flap.
    fn judge(&self, free: u64, reserve: u64) -> Space {
        let spare = reserve / 16;
        let now = self.last().room;
        let needed = |limit: u64, level: Room| if now >= level { limit + spare } else { limit };
        let room = if reserve == 0 {
            Room::Enough
        } else if free < needed(reserve / FLOOR, Room::Out) {
            Room::Out
        } else if free < needed(reserve, Room::Low) {
            Room::Low
        } else {
            Room::Enough
        };
        Space { free, reserve, room }
    }
}

fn make(path: &Path, size: u64) -> Result<()> {
    let io = || Error::io(format!("making {}", path.display()));
    let file = File::create(path).map_err(io())?;
    // Blocks that are taken, not a hole.
    fallocate(&file, FallocateFlags::empty(), 0, size).map_err(|error| io()(error.into()))?;
    file.sync_all().map_err(io())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_reserve_and_do_not_flap() {
        let dir = tempfile::tempdir().unwrap();
        let guard = SpaceGuard::new(dir.path(), None);
        let at = |free| {
            let space = guard.judge(free, 1_600);
            *guard.last.lock() = space;
            space.room
        };
        for (free, room) in [
            (1_600, Room::Enough),
            (1_599, Room::Low),
            (1_650, Room::Low),
            (1_700, Room::Enough),
            (400, Room::Low),
            (399, Room::Out),
            (450, Room::Out),
            (500, Room::Low),
            (0, Room::Out),
            (5_000, Room::Enough),
        ] {
            assert_eq!(at(free), room, "{free}");
        }
        assert_eq!(guard.judge(0, 0).room, Room::Enough, "switched off");
    }

    #[test]
    fn the_ballast_is_made_when_there_is_room_and_given_up_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = dir.path().join(FILE);
        let guard = SpaceGuard::new(dir.path(), Some(16 << 20));
        let space = guard.look().unwrap();
        assert_eq!((space.room, space.reserve), (Room::Enough, 16 << 20));
        let made = ballast.metadata().unwrap();
        assert_eq!(made.len(), 1 << 20);
        assert!(
            std::os::unix::fs::MetadataExt::blocks(&made) * 512 >= 1 << 20,
            "it is no hole"
        );

        let full = SpaceGuard::new(dir.path(), Some(u64::MAX / 4));
        assert_eq!(full.look().unwrap().room, Room::Out);
        assert!(!ballast.exists());
        assert_eq!(full.look().unwrap().room, Room::Out);
        assert_eq!(full.last().room, Room::Out);
    }
}
