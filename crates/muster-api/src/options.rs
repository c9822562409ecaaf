//! Options of the public interface: the `[api]` table of `cluster.toml`.

use std::time::Duration;

use serde::Deserialize;

/// Options of the public interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiOptions {
    /// Longest time of an ordinary call, whatever the client allows. Default `"30s"`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub call_timeout_max: Duration,
    /// Ordinary calls under way on this node. Default 4,096.
    pub calls_max: usize,
    /// Calls under way that wait for or watch a job. Default 20,000.
    pub waits_max: usize,
    /// Open enqueue and worker streams. Default 10,000.
    pub streams_max: usize,
    /// Bytes of new jobs that are under way on this node, from the end of their arrival to their answer, and as many of calls that
    /// arrive. Default 128 MiB; follows from the memory that the process may take, so it is no key of the file.
    #[serde(skip)]
    pub job_bytes_max: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            call_timeout_max: Duration::from_secs(30),
            calls_max: 4_096,
            waits_max: 20_000,
            streams_max: 10_000,
            job_bytes_max: 128 << 20,
        }
    }
}

impl ApiOptions {
    /// Checks ranges; the error names the key, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        let timeout = self.call_timeout_max;
        if !(Duration::from_millis(100)..=Duration::from_mins(10)).contains(&timeout) {
            return Err(format!("call_timeout_max is {timeout:?}, allowed is 100ms to 10m"));
        }
        for (key, value) in [
            ("calls_max", self.calls_max),
            ("waits_max", self.waits_max),
            ("streams_max", self.streams_max),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return Err(format!("{key} is {value}, allowed is 1 to 1000000"));
            }
        }
        Ok(())
    }
}
