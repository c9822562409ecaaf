//! Data directories on file systems of their own, so that they can be filled up and lose what was not synced.
//!
//! Each is an ext4 image on a loop device. A power cut is a forced shutdown of the file system, which forgets what was
//! written and not synced, and then the end of the process; mounting it again replays its journal, as after a real one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::{Fault, clock};

/// Size of a disk. The image is sparse.
const SIZE: &str = "4G";

/// A node's disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    id: u64,
    image: PathBuf,
    place: PathBuf,
}

/// What a fault needs that this machine lacks.
pub(crate) fn lacking(fault: Fault) -> Option<&'static str> {
    if fault == Fault::ClockJump && clock::library().is_none() {
        return Some("libfaketime (package libfaketime)");
    }
    if !fault.needs_disks() {
        return None;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut ids = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    let root = ids.any(|ids| ids.split_whitespace().nth(1) == Some("0"));
    if !root {
        return Some("root, to mount file systems");
    }
    for (tool, need) in [
        ("mkfs.ext4", "mkfs.ext4 (package e2fsprogs)"),
        ("xfs_io", "xfs_io (package xfsprogs)"),
        ("fallocate", "fallocate (package util-linux)"),
    ] {
        if Command::new(tool)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            return Some(need);
        }
    }
    None
}

fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{program} {arguments:?}: {said}")))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Disk {
    /// Makes a disk and mounts it where the node has its data.
    pub(crate) fn make(dir: &Path, id: u64) -> io::Result<Self> {
        let disk = Self {
            id,
            image: dir.join(format!("disk-{id}.img")),
            place: dir.join(format!("node-{id}")),
        };
        fs::create_dir_all(&disk.place)?;
        run("truncate", &["-s", SIZE, text(&disk.image)])?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&disk.image)])?;
        disk.mount()?;
        Ok(disk)
    }

    /// The node's.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn mount(&self) -> io::Result<()> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.place)]).map(drop)
    }

    /// Takes it out; a process that has just ended may still be in the way for a moment.
    pub(crate) fn unmount(&self) -> io::Result<()> {
        for _ in 0..50 {
            if run("umount", &[text(&self.place)]).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        run("umount", &["-l", text(&self.place)]).map(drop)
    }

    /// What was written and not synced is gone, and nothing can be written any more.
    pub(super) fn cut(&self) -> io::Result<()> {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.place)]).map(drop)
    }

    /// Leaves no room.
    pub(super) fn fill(&self) -> io::Result<()> {
        let free = run("stat", &["-f", "-c", "%a %S", text(&self.place)])?;
        let mut numbers = free.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let bytes = numbers.next().unwrap_or(0) * numbers.next().unwrap_or(0);
        // Some blocks go to the file's own tree.
        for less in [0, 64 << 10, 1 << 20, 4 << 20] {
            let length = bytes.saturating_sub(less).to_string();
            if run("fallocate", &["-l", &length, text(&self.place.join("fill"))]).is_ok() {
                break;
            }
        }
        // The rest by writing until it fails.
        let rest = vec![0; 1 << 20];
        for _ in 0..8 {
            if fs::write(self.place.join(format!("fill-{}", rand::random::<u32>())), &rest).is_err() {
                return Ok(());
            }
        }
        Err(io::Error::other("there is still room"))
    }

    /// Makes room again.
    pub(super) fn free(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.place)? {
            let path = entry?.path();
            if text(&path).contains("/fill") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}
