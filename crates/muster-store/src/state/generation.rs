//! One state database and its directory. A snapshot install makes a new generation and drops the old one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, Options,
};

use crate::codec::{Meta, decode_meta};
use crate::{Error, Result, files};

/// Position and membership.
const META: &str = "default";
/// State rows by [`crate::codec::encode_key`].
const ROWS: &str = "rows";
/// Ended jobs by tenant, newest first.
const HISTORY: &str = "history";
/// Job id to key in the history.
const IDS: &str = "ids";
/// Tenant and idempotency key to holder.
const KEYS: &str = "keys";

pub(super) const META_KEY: &[u8] = b"meta";
const POINTER: &str = "state.current";

pub(super) struct Generation {
    // First, so that the database is closed before its directory goes.
    pub db: DB,
    cleanup: Cleanup,
}

/// Removes the directory of a generation that was replaced.
struct Cleanup {
    path: PathBuf,
    replaced: AtomicBool,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            // The next open removes it.
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a replaced state");
        }
    }
}

impl Generation {
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // There is no write-ahead log, so only a flush of all families together keeps them at one position.
        options.set_atomic_flush(true);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 << 20);
        options.set_stats_dump_period_sec(0);
        let cache = Cache::new_lru_cache(cache_bytes);
        let families =
            [META, ROWS, HISTORY, IDS, KEYS].map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(Error::database("opening the state"))?;
        let cleanup = Cleanup {
            path: path.to_owned(),
            replaced: AtomicBool::new(false),
        };
        Ok(Self { db, cleanup })
    }

    /// The directory goes when the last user is done.
    pub fn retire(&self) {
        self.cleanup.replaced.store(true, Ordering::Relaxed);
    }

    pub fn rows(&self) -> Result<&ColumnFamily> {
        self.family(ROWS)
    }

    pub fn history(&self) -> Result<&ColumnFamily> {
        self.family(HISTORY)
    }

    pub fn ids(&self) -> Result<&ColumnFamily> {
        self.family(IDS)
    }

    pub fn keys(&self) -> Result<&ColumnFamily> {
        self.family(KEYS)
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| Error::damaged("state database", format!("column family {name} is missing")))
    }

    pub fn meta(&self) -> Result<Meta> {
        let bytes = self.db.get(META_KEY).map_err(Error::database("reading the state"))?;
        bytes.map_or_else(|| Ok(Meta::default()), |bytes| decode_meta(&bytes))
    }

    /// Makes all families durable at one position.
    pub fn flush(&self) -> Result<()> {
        let families = [META, ROWS, HISTORY, IDS, KEYS].map(|name| self.family(name));
        let families = families.into_iter().collect::<Result<Vec<_>>>()?;
        self.db
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(Error::database("flushing the state"))
    }
}

fn family_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_write_buffer_size(64 << 20);
    // A compaction rewrites whole files, and a backup sends whole files: small ones keep both in proportion to what changed.
    options.set_target_file_size_base(8 << 20);
    options
}

/// Number of the generation in force; makes the pointer in a new directory and removes all other generations.
pub(super) fn current(dir: &Path) -> Result<u64> {
    const WHAT: &str = "pointer to the state in force";
    let number = if let Some(bytes) = files::read_small(&dir.join(POINTER))? {
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| Error::damaged(WHAT, "it is not a number"))?
    } else {
        point(dir, 1)?;
        1
    };
    let keep = name(number);
    for entry in std::fs::read_dir(dir).map_err(Error::io(format!("listing {}", dir.display())))? {
        let entry = entry.map_err(Error::io(format!("listing {}", dir.display())))?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.starts_with("state-") && found != keep.as_str() {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(Error::io(format!("removing {}", path.display())))?;
        }
    }
    Ok(number)
}

/// Puts a generation in force: the one step by which an install happens.
pub(super) fn point(dir: &Path, number: u64) -> Result<()> {
    files::replace(dir, POINTER, format!("{number}\n").as_bytes())
}

pub(super) fn name(number: u64) -> String {
    format!("state-{number}")
}
