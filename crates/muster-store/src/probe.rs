//! How fast a disk syncs.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Synced 4 KiB appends per second in a directory, measured for about 200 ms. The scratch file is removed.
///
/// It is the ceiling of `append` with one entry at a time, whatever the rest of the node does.
pub fn disk_sync_rate(dir: &Path) -> Result<f64> {
    const SPAN: Duration = Duration::from_millis(200);
    let path = dir.join(format!("sync-probe-{}", std::process::id()));
    let result = measure(&path, SPAN).map_err(Error::io(format!("measuring the sync rate with {}", path.display())));
    // Best effort: the measurement counts, and a scratch file left behind does no harm.
    let _ = std::fs::remove_file(&path);
    result
}

fn measure(path: &Path, span: Duration) -> std::io::Result<f64> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
    let block = [0x5a_u8; 4096];
    file.write_all(&block)?;
    file.sync_all()?;
    let start = Instant::now();
    let mut syncs = 0_u32;
    while start.elapsed() < span {
        file.write_all(&block)?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(disk_sync_rate(dir.path()).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(disk_sync_rate(&dir.path().join("missing")).is_err());
    }
}
