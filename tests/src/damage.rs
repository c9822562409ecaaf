//! Damage to the data directory of a node that is stopped, or of one that runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files in a directory with one of these extensions, longest first.
pub fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let pass = |path: &Path| {
        path.extension()
            .is_some_and(|found| extensions.iter().any(|known| found == *known))
    };
    let mut found: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && pass(path))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().map_or(0, |found| found.len())));
    found
}

/// The directory of the state in force.
pub fn state(data: &Path) -> PathBuf {
    let found = fs::read_dir(data)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let mut states = found.filter(|path| path.is_dir() && path.to_string_lossy().contains("/state-"));
    states.next().expect("a state")
}

/// Flips one bit in each 4 KiB of a file, in place.
pub fn flip(path: &Path) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let length = file.metadata().expect("a file").len();
    for at in (0..length).step_by(4096) {
        let at = (at + 1234).min(length - 1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        byte[0] ^= 0x10;
        file.write_all_at(&byte, at).expect("a byte");
    }
}

/// Damages the newest entries of a stopped node's log: its write-ahead file.
pub fn break_log(data: &Path) {
    for file in files(&data.join("log"), &["log", "sst"]) {
        if file.metadata().is_ok_and(|found| found.len() > 0) {
            flip(&file);
        }
    }
}

/// Damages all tables of the state, if it was flushed.
pub fn break_state(data: &Path) {
    // One that was never flushed has none.
    for file in files(&state(data), &["sst"]) {
        flip(&file);
    }
}

/// Damages both copies of the high-water mark.
pub fn break_marks(data: &Path) {
    for name in ["mark-a", "mark-b"] {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(data.join(name))
            .expect("a mark");
        file.write_all(&[0xff; 40]).expect("a mark");
    }
}

/// A copy of a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let place = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).expect("a copy");
        }
    }
}
