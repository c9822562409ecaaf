//! Small file systems for data directories, so that they can be filled up.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system in memory, mounted in a directory; gone when dropped.
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// What is missing for it on this machine.
    pub fn lacking() -> Option<&'static str> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut ids = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
        let root = ids.any(|ids| ids.split_whitespace().nth(1) == Some("0"));
        (!root).then_some("root, to mount file systems")
    }

    /// Mounts one of so many bytes.
    pub fn mount(place: &Path, bytes: u64) -> Self {
        fs::create_dir_all(place).expect("a directory");
        let options = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "muster-test"])
            .arg(place)
            .stdin(Stdio::null())
            .status();
        assert!(
            mounted.expect("mount").success(),
            "a file system at {}",
            place.display()
        );
        Self {
            place: place.to_owned(),
        }
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.place.join("fill")).expect("a file");
        let mut part = 1 << 20;
        while part > 0 {
            let block = vec![0x5a; part];
            while file.write_all(&block).is_ok() {}
            part /= 16;
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        fs::remove_file(self.place.join("fill")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that has just been killed may still hold files.
        let unmounted = Command::new("umount").arg("-l").arg(&self.place).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.place.display());
        }
    }
}
