//! What the commands that work without a cluster share: the configuration file, whose signatures count, progress.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use muster_backup::{Error, Location, ProgressSink, Step, Trust, VerifyKey, silent};
use muster_server::ServerConfig;

use crate::args::Format;
use crate::exit;
use crate::failure::Failure;

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The file that names all nodes
    #[arg(long, default_value = "cluster.toml", env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

impl ConfigFile {
    pub(super) fn load(&self, action: &str) -> Result<ServerConfig, Failure> {
        ServerConfig::load(&self.config).map_err(|error| Failure::usage(action, error.to_string()))
    }
}

/// Where the backups are, and whose are believed.
#[derive(Args, Clone, Debug)]
pub struct Source {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where the backups are: a directory, file://, s3://, gs://, az:// [default: url of [backup] in the configuration]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The cluster that was backed up, if there are several in that place
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    pub from_cluster: Option<u128>,
    /// Believe only what is signed with this key: 64 hexadecimal digits, or a file with them; repeat it for several
    /// [default: that of sign_key in the configuration]
    #[arg(long, value_name = "KEY", conflicts_with_all = ["any_signer", "unsigned"])]
    pub verify_key: Vec<String>,
    /// Believe whatever is signed at all: shows damage, not forgery
    #[arg(long, conflicts_with = "unsigned")]
    pub any_signer: bool,
    /// Believe what is not signed
    #[arg(long)]
    pub unsigned: bool,
}

impl Source {
    /// The configuration, if there is one: with --url and a key it is not needed.
    fn configured(&self, action: &str) -> Result<Option<ServerConfig>, Failure> {
        let keyed = self.any_signer || self.unsigned || !self.verify_key.is_empty();
        if self.url.is_some() && (keyed || !self.config.config.exists()) {
            return Ok(None);
        }
        self.config.load(action).map(Some)
    }

    /// Opens the place.
    pub(super) fn open(&self, action: &str) -> Result<(Location, Trust), Failure> {
        let config = self.configured(action)?;
        let url = self.url.clone().or_else(|| config.as_ref()?.backup.url.clone());
        let url = url.ok_or_else(|| {
            Failure::usage(
                action,
                format!(
                    "{} has no [backup] url; say where with --url",
                    self.config.config.display()
                ),
            )
        })?;
        let location = Location::open(&url).map_err(|error| failed(action, &error))?;
        let trust = self.trust(config.as_ref()).map_err(|error| failed(action, &error))?;
        Ok((location, trust))
    }

    fn trust(&self, config: Option<&ServerConfig>) -> Result<Trust, Error> {
        if self.unsigned {
            return Ok(Trust::Unsigned);
        }
        if self.any_signer {
            return Ok(Trust::AnySigner);
        }
        let mut keys = Vec::new();
        for key in &self.verify_key {
            keys.push(VerifyKey::read(key)?);
        }
        if keys.is_empty()
            && let Some(config) = config
        {
            if let Some(file) = &config.backup.sign_key {
                keys.push(VerifyKey::read(&file.display().to_string())?);
            } else if config.backup.unsigned {
                return Ok(Trust::Unsigned);
            }
        }
        if keys.is_empty() {
            return Err(Error::Invalid(
                "whose backups are to be believed? Give the key with --verify-key; without it --any-signer shows damage but \
                 not forgery"
                    .to_owned(),
            ));
        }
        Ok(Trust::Keys(keys))
    }
}

/// A failure of work without a cluster.
pub(super) fn failed(action: &str, error: &Error) -> Failure {
    let exit_code = match error {
        Error::Invalid(_) | Error::Key { .. } | Error::Location { .. } => exit::USAGE,
        Error::NoSuchBackup { .. } | Error::NoSuchCluster { .. } | Error::WhichCluster { .. } => exit::NOT_FOUND,
        Error::ObjectStore { .. } | Error::TimedOut { .. } => exit::UNAVAILABLE,
        _ => exit::FAILED,
    };
    Failure::local(action, error.to_string(), exit_code)
}

/// A cluster id: up to 32 hexadecimal digits.
pub(super) fn cluster_id(text: &str) -> Result<u128, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|id| digits && *id != 0);
    id.ok_or_else(|| format!("{text:?} is not a cluster id of up to 32 hexadecimal digits"))
}

/// A progress bar on standard error, for people at a terminal.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(super) fn new(format: Format) -> Self {
        let shown = format == Format::Table && std::io::stderr().is_terminal();
        Self(shown.then(|| {
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        }))
    }

    /// What hears of progress.
    pub(super) fn sink(&self) -> ProgressSink {
        let Some(bar) = self.0.clone() else { return silent() };
        Arc::new(move |progress| show(&bar, progress.step.name(), progress.done, progress.total))
    }

    /// Progress told by a node.
    pub(super) fn show(&self, step: &str, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            show(bar, step, done, total);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn show(bar: &ProgressBar, step: &str, done: u64, total: u64) {
    if bar.message() != step {
        let entries = step == Step::Replay.name() || step == Step::Read.name() || step == Step::Write.name();
        let template = match (total, entries) {
            (0, _) => "{msg:26} {spinner} {human_pos}",
            (_, true) => "{msg:26} {wide_bar} {human_pos}/{human_len}",
            (_, false) => "{msg:26} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.reset();
        bar.set_message(step.to_owned());
    }
    bar.set_length(total);
    bar.set_position(done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_are_hexadecimal() {
        assert_eq!(cluster_id("0a"), Ok(10));
        for wrong in ["", "0", "+1", "xyz", "123456789012345678901234567890123"] {
            assert!(cluster_id(wrong).is_err(), "{wrong:?}");
        }
    }
}
