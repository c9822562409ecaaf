//! How fast the disk syncs.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const BLOCK: usize = 4 << 10;
const TIME: Duration = Duration::from_millis(300);

/// Appends of 4 KiB with an fdatasync each, per second, in this directory. Takes 300 ms.
pub fn syncs_per_second(dir: &Path) -> Result<f64> {
    let file = tempfile::Builder::new().prefix(".sync-probe-").tempfile_in(dir);
    let file = file.with_context(|| format!("creating a probe file in {}", dir.display()))?;
    let mut append = OpenOptions::new()
        .append(true)
        .open(file.path())
        .context("opening the probe file")?;
    let block = [0x5a; BLOCK];
    let begin = Instant::now();
    let mut syncs = 0_u32;
    while begin.elapsed() < TIME {
        append
            .write_all(&block)
            .and_then(|()| append.sync_data())
            .context("probing the disk")?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / begin.elapsed().as_secs_f64())
}
