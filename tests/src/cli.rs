//! `muster` commands as an operator types them.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::cluster::{Cluster, binary};

/// Longest run of a command, waits included.
const LIMIT: Duration = Duration::from_mins(3);

/// What a command wrote and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The command.
    pub line: String,
    /// Exit code; `None`: by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Ends the test unless the command succeeded.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the success is all that matters")]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Ends the test unless the command failed, with these words in what it says.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the failure is all that matters")]
    pub fn bad(self, words: &[&str]) -> Self {
        assert_ne!(self.code, Some(0), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
        self
    }

    /// Standard output of a command with `-o json` that was to succeed.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command that was started.
pub struct Running {
    line: String,
    child: Child,
    /// Its standard error, as far as it has come.
    stderr: PathBuf,
}

impl Running {
    /// What it has written to standard error so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has ended.
    pub async fn end(self) -> Ran {
        let Self { line, child, stderr } = self;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let said = std::fs::read_to_string(&stderr).unwrap_or_default();
        let output = output
            .unwrap_or_else(|_| panic!("still running after {LIMIT:?}: muster {line}\n{said}"))
            .expect("a child of ours");
        Ran {
            line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: said,
        }
    }
}

/// Runs a `muster` command to its end, with this environment besides that of this process.
pub async fn muster(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = bare();
    command.envs(environment.iter().copied());
    run(command, arguments).await
}

async fn run(mut command: Command, arguments: &[&str]) -> Ran {
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("still running after {LIMIT:?}: muster {arguments:?}"))
        .expect("the muster binary starts");
    Ran {
        line: arguments.join(" "),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary, without what the environment of this process may say to it.
fn bare() -> Command {
    let mut command = Command::new(binary());
    for name in ["ADDRESS", "CONFIG", "JOIN", "JOIN_FILE", "NODE", "TENANT"] {
        command.env_remove(format!("MUSTER_{name}"));
    }
    command.kill_on_drop(true);
    command
}

impl Cluster {
    /// Runs `muster …` to its end; it knows the addresses of all nodes that run.
    pub async fn muster(&self, line: &str) -> Ran {
        self.begin(line).end().await
    }

    /// Runs a `muster` command in the cluster's directory, where its configuration and data lie; it knows no addresses.
    pub async fn muster_beside(&self, arguments: &[&str]) -> Ran {
        let mut command = bare();
        command.current_dir(self.path());
        run(command, arguments).await
    }

    /// Starts `muster …`.
    pub fn begin(&self, line: &str) -> Running {
        let running = self.ids().into_iter().filter(|id| self.pid(*id).is_some());
        let addresses: Vec<_> = running.map(|id| self.address(id)).collect();
        self.begin_at(&addresses.join(","), line)
    }

    /// The same with an address of one's choice.
    pub fn begin_at(&self, address: &str, line: &str) -> Running {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stderr = self.path().join(format!("command-{number}.err"));
        let said = File::create(&stderr).expect("the directory is writable");
        let child = bare()
            .args(words(line))
            .env("MUSTER_ADDRESS", address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn();
        Running {
            line: line.to_owned(),
            child: child.expect("the muster binary starts"),
            stderr,
        }
    }
}

/// Words between spaces; quoted ones may have spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words.last_mut().expect("never empty").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
