//! The `[backup]` table of `cluster.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::prune::Retention;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;

/// Backups of the cluster and archiving of its log.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupOptions {
    /// Where: a directory that all nodes share, or an object store. Absent: no backups. Credentials come from the environment.
    pub url: Option<String>,
    /// File with the key that signs backups, made by `muster backup keygen`; relative to the configuration file.
    pub sign_key: Option<PathBuf>,
    /// Write backups that nobody vouches for. Default false: then `sign_key` is required.
    pub unsigned: bool,
    /// Time between backups that the leader makes by itself; `"0s"`: none. Default `"1h"`.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// The newest so many backups are kept. Default 24, at least 1.
    pub keep: usize,
    /// Younger ones are kept as well. Default `"7d"`.
    #[serde(with = "duration")]
    pub keep_for: Duration,
    /// Archive the log, so that any point in time can be restored. Default true.
    pub archive: bool,
    /// Time between two uploads of log: the most that a disaster can take. Default `"2s"`, `"100ms"` to `"5m"`.
    #[serde(with = "duration")]
    pub archive_interval: Duration,
    /// Log in one upload, before packing. Default `"4MiB"`, `"64KiB"` to `"64MiB"`.
    #[serde(deserialize_with = "size")]
    pub archive_bytes: u64,
    /// Log that waits for an archive which cannot be reached, before it is purged all the same. Default `"1GiB"`; at least
    /// `log_keep_bytes`.
    #[serde(deserialize_with = "size")]
    pub archive_hold_bytes: u64,
    /// Bytes a second that backups may send from one node; the archive is not bounded by it. Default `"64MiB"`; `"0B"`: no bound.
    #[serde(deserialize_with = "size")]
    pub bandwidth: u64,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            url: None,
            sign_key: None,
            unsigned: false,
            interval: Duration::from_hours(1),
            keep: 24,
            keep_for: Duration::from_hours(7 * 24),
            archive: true,
            archive_interval: Duration::from_secs(2),
            archive_bytes: 4 << 20,
            archive_hold_bytes: 1 << 30,
            bandwidth: 64 << 20,
        }
    }
}

impl BackupOptions {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), String> {
        if self.url.is_none() {
            return match &self.sign_key {
                Some(key) => Err(format!("sign_key is {}, but there is no url", key.display())),
                None => Ok(()),
            };
        }
        if self.sign_key.is_none() != self.unsigned {
            return Err(if self.unsigned {
                "unsigned is true and sign_key is set; choose one".to_owned()
            } else {
                "sign_key is missing; make one with `muster backup keygen`, or set unsigned = true if nobody else can write \
                 to the location"
                    .to_owned()
            });
        }
        let interval = self.archive_interval;
        if !(Duration::from_millis(100)..=Duration::from_mins(5)).contains(&interval) {
            return Err(format!("archive_interval is {interval:?}, must be 100 ms to 5 min"));
        }
        if !self.interval.is_zero() && self.interval < Duration::from_secs(1) {
            return Err(format!("interval is {:?}, must be 0 or at least 1 s", self.interval));
        }
        if !(64 << 10..=64 << 20).contains(&self.archive_bytes) {
            return Err(format!(
                "archive_bytes is {} bytes, must be 64 KiB to 64 MiB",
                self.archive_bytes
            ));
        }
        if self.archive && self.archive_hold_bytes == 0 {
            return Err("archive_hold_bytes is 0, must be at least log_keep_bytes of [raft]".to_owned());
        }
        if self.keep == 0 {
            return Err("keep is 0, must be at least 1".to_owned());
        }
        Ok(())
    }

    /// Whether the log is archived.
    pub fn archives(&self) -> bool {
        self.url.is_some() && self.archive
    }

    /// Which backups are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            keep: self.keep,
            keep_for: self.keep_for,
        }
    }
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let text = String::deserialize(deserializer)?;
    let parse = || {
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        number.trim().parse::<u64>().ok()?.checked_mul(*unit)
    };
    parse().ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{text:?} is not a size; write a whole number and B, KiB, MiB or GiB, e.g. \"64MiB\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        let with_url = || BackupOptions {
            url: Some("/backups".into()),
            unsigned: true,
            ..BackupOptions::default()
        };
        let check = |change: fn(&mut BackupOptions), part: &str| {
            let mut options = with_url();
            change(&mut options);
            let error = options.validate().unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        assert!(BackupOptions::default().validate().is_ok() && with_url().validate().is_ok());
        check(|options| options.unsigned = false, "keygen");
        check(|options| options.sign_key = Some("key".into()), "choose one");
        check(
            |options| {
                options.url = None;
                options.sign_key = Some("key".into());
            },
            "no url",
        );
        check(
            |options| options.archive_interval = Duration::from_millis(1),
            "archive_interval",
        );
        check(|options| options.archive_bytes = 1, "archive_bytes");
        check(|options| options.keep = 0, "keep is 0");
        check(|options| options.interval = Duration::from_millis(1), "interval");
    }
}
