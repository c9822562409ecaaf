//! Kinds of damage, and the directories they are done to.

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Between two places that are damaged in turn.
const BLOCK: u64 = 4096;
/// How much of a long file's end is cut.
const TAIL: u64 = 64 << 10;

/// One damage.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A bit of a file is another.
    Flip { file: PathBuf, at: u64, bit: u8 },
    /// A block reads as zeros.
    Zero { file: PathBuf, at: u64 },
    /// A file ends early.
    Cut { file: PathBuf, length: u64 },
    /// Bytes follow a file's end.
    Grow { file: PathBuf },
    /// A file is gone.
    Delete { file: PathBuf },
    /// Two files have each other's content.
    Swap { file: PathBuf, other: PathBuf },
    /// These are as they were in an older copy.
    RollBack { what: Vec<&'static str> },
}

impl Damage {
    /// For the table of totals.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "bit flipped",
            Self::Zero { .. } => "block of zeros",
            Self::Cut { .. } => "end cut off",
            Self::Grow { .. } => "bytes appended",
            Self::Delete { .. } => "file deleted",
            Self::Swap { .. } => "files swapped",
            Self::RollBack { .. } => "rolled back",
        }
    }

    /// Kind of the file that is damaged.
    pub fn file_kind(&self) -> String {
        match self {
            Self::Flip { file, .. }
            | Self::Zero { file, .. }
            | Self::Cut { file, .. }
            | Self::Grow { file }
            | Self::Delete { file }
            | Self::Swap { file, .. } => file_kind(file),
            Self::RollBack { what } => what.join(", "),
        }
    }

    /// Does it to a copy of the directory. `older` is an earlier copy.
    pub fn apply(&self, dir: &Path, older: &Path) {
        match self {
            Self::Flip { file, at, bit } => {
                let mut bytes = fs::read(dir.join(file)).unwrap();
                bytes[*at as usize] ^= 1 << bit;
                fs::write(dir.join(file), bytes).unwrap();
            }
            Self::Zero { file, at } => {
                let mut bytes = fs::read(dir.join(file)).unwrap();
                let end = bytes.len().min((at + BLOCK) as usize);
                bytes[*at as usize..end].fill(0);
                fs::write(dir.join(file), bytes).unwrap();
            }
            Self::Cut { file, length } => {
                let bytes = fs::read(dir.join(file)).unwrap();
                fs::write(dir.join(file), &bytes[..*length as usize]).unwrap();
            }
            Self::Grow { file } => {
                let mut bytes = fs::read(dir.join(file)).unwrap();
                bytes.extend([0x5a; 700]);
                fs::write(dir.join(file), bytes).unwrap();
            }
            Self::Delete { file } => fs::remove_file(dir.join(file)).unwrap(),
            Self::Swap { file, other } => {
                let kept = fs::read(dir.join(file)).unwrap();
                fs::copy(dir.join(other), dir.join(file)).unwrap();
                fs::write(dir.join(other), kept).unwrap();
            }
            Self::RollBack { what } => {
                for name in what {
                    let place = dir.join(name);
                    if place.is_dir() {
                        fs::remove_dir_all(&place).unwrap();
                        copy(&older.join(name), &place);
                    } else {
                        fs::copy(older.join(name), place).unwrap();
                    }
                }
            }
        }
    }
}

/// What a file is, whatever its number.
pub fn file_kind(file: &Path) -> String {
    let text = file.to_string_lossy();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let part = match text.split('/').next() {
        Some("log") => "log",
        Some(part) if part.starts_with("state-") => "state",
        Some("snapshots") => return "snapshot".into(),
        _ => return name.into_owned(),
    };
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("sst") => "tables",
        Some("log") => "write-ahead file",
        _ => name.split(['-', '.']).next().unwrap_or_default(),
    };
    format!("{part}: {kind}")
}

/// Files of a directory, relative, with their lengths.
pub fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    walk(dir, Path::new(""), &mut found);
    found.sort();
    found
}

fn walk(dir: &Path, below: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            walk(dir, &path, found);
        } else {
            found.push((path, entry.metadata().unwrap().len()));
        }
    }
}

/// Names and contents of all files but the lock, which whoever looks makes if it is not there.
pub fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |(file, _): (PathBuf, u64)| {
        let bytes = fs::read(dir.join(&file)).unwrap();
        (file, bytes)
    };
    let files = files(dir).into_iter().filter(|(file, _)| file != Path::new("lock"));
    files.map(read).collect()
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (file, _) in files(from) {
        let place = to.join(&file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), place).unwrap();
    }
}

/// All damages of one round: a bit in each 4 KiB block of each file, every bit of the smallest, blocks of zeros, cuts,
/// deletions, swaps. Another seed flips other bits.
pub fn all(dir: &Path, seed: u64) -> Vec<Damage> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut found = Vec::new();
    let files = files(dir);
    for (file, length) in &files {
        // RocksDB's diary, which nobody reads back: one of each damage is enough.
        let length = if file_kind(file).contains(": LOG") {
            &(*length).min(1)
        } else {
            length
        };
        let file = || file.clone();
        for start in (0..*length).step_by(BLOCK as usize) {
            let at = rng.random_range(start..(start + BLOCK).min(*length));
            let bit = rng.random_range(0..8);
            found.push(Damage::Flip { file: file(), at, bit });
        }
        if *length <= 300 {
            found.extend((0..*length).map(|at| Damage::Flip {
                file: file(),
                at,
                bit: rng.random_range(0..8),
            }));
            found.extend((0..*length).map(|length| Damage::Cut { file: file(), length }));
        } else {
            let from = length.saturating_sub(TAIL);
            for _ in 0..16 {
                let length = rng.random_range(from..*length);
                found.push(Damage::Cut { file: file(), length });
            }
            let at = rng.random_range(0..length.div_ceil(BLOCK)) * BLOCK;
            found.push(Damage::Zero { file: file(), at });
        }
        found.push(Damage::Grow { file: file() });
        found.push(Damage::Delete { file: file() });
        let (other, _) = &files[rng.random_range(0..files.len())];
        if *other != file() {
            found.push(Damage::Swap {
                file: file(),
                other: other.clone(),
            });
        }
    }
    found.shuffle(&mut rng);
    found
}
