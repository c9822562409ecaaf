//! Processes of a system under test, and the directory that holds all of it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// From the start of a process to its first answer; an Erlang node on a busy machine takes half of it.
pub const START_TIME: Duration = Duration::from_secs(60);
const LOG_LINES: usize = 20;

/// Running processes. Dropping it ends them, by their ids, and removes their data.
pub struct Servers {
    children: Vec<(String, Child)>,
    // Dropped after the processes are ended.
    dir: TempDir,
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The last ones first: what they stand on is ended after them. Their data goes away, so there is nothing to save.
        for (_, child) in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Servers {
    pub fn new(parent: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("muster-bench-peers-")
            .tempdir_in(parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        Ok(Self {
            children: Vec::new(),
            dir,
        })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new directory below.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    /// Starts a process whose output goes to `NAME.log`.
    pub fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::create(self.log(name)).context("creating a log file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicating a log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// Process ids of those whose names begin so.
    pub fn pids(&self, prefix: &str) -> Vec<u32> {
        let with_prefix = self.children.iter().filter(|(name, _)| name.starts_with(prefix));
        with_prefix.map(|(_, child)| child.id()).collect()
    }

    /// Waits until a port of ours accepts connections.
    pub async fn until_listening(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            self.check()?;
            if Instant::now() > deadline {
                bail!("nothing listens on port {port} after {START_TIME:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Fails when a process has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        for (name, child) in &mut self.children {
            if let Some(status) = child.try_wait().context("looking at a process")? {
                let log = fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                bail!("{name} ended with {status}:\n{end}");
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }
}

/// Bytes of disk that the files below hold.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
            Ok(data) => data.blocks() * 512,
            // Gone between the two calls.
            Err(_) => 0,
        })
        .sum()
}

/// A command with nothing of our environment but what is given here.
pub fn command(program: &Path, packages: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    let bin = packages.join("usr/bin");
    let libraries = packages.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    command
        .env_clear()
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("LD_LIBRARY_PATH", libraries)
        .current_dir(home);
    command
}
