//! One state database and its directory. A snapshot install makes a new generation and drops the old one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use muster_failpoint::failpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, Options,
};

use crate::codec::{Meta, decode_meta};
use crate::{Error, Result, database, files};

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
/// File that names the generation in force.
pub(crate) const POINTER: &str = "state.current";
/// Of the directories of generations.
const PREFIX: &str = "state-";

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
    /// Opens the database of a generation, or makes a new one.
    pub fn open(path: &Path, cache_bytes: usize, new: bool) -> Result<Self> {
        let mut options = database::options()?;
        options.create_if_missing(new);
        options.create_missing_column_families(new);
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

    /// Opens the database so that nothing in it is changed; RocksDB's diary goes to `scratch`.
    pub fn open_read_only(path: &Path, scratch: &Path) -> Result<Self> {
        let mut options = database::options()?;
        options.set_db_log_dir(scratch);
        let cache = Cache::new_lru_cache(8 << 20);
        let families =
            [META, ROWS, HISTORY, IDS, KEYS].map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false);
        let cleanup = Cleanup {
            path: path.to_owned(),
            replaced: AtomicBool::new(false),
        };
        Ok(Self {
            db: db.map_err(Error::database("opening the state"))?,
            cleanup,
        })
    }

    /// Records in all families, about.
    pub fn records(&self) -> u64 {
        let families = [ROWS, HISTORY, IDS, KEYS].map(|name| self.family(name));
        let counts = families.into_iter().flatten().map(|family| {
            let keys = self
                .db
                .property_int_value_cf(family, rocksdb::properties::ESTIMATE_NUM_KEYS);
            keys.ok().flatten().unwrap_or_default()
        });
        counts.sum()
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
        failpoint!("state.flush.before", Error::injected);
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

/// Number of the generation in force. `None` when nothing says so.
pub(crate) fn current(dir: &Path) -> Result<Option<u64>> {
    files::read_small(&dir.join(POINTER))?
        .map(|bytes| decode_pointer(&bytes))
        .transpose()
}

/// Removes all generations but one: what an interrupted install left.
pub(super) fn remove_others(dir: &Path, number: u64) -> Result<()> {
    let keep = name(number);
    for path in all(dir)? {
        if path.file_name().is_none_or(|found| found != keep.as_str()) {
            std::fs::remove_dir_all(&path).map_err(Error::io(format!("removing {}", path.display())))?;
        }
    }
    Ok(())
}

/// Directories of generations, in force or not.
pub(crate) fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = || Error::io(format!("listing {}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io())? {
        let path = entry.map_err(io())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name
            .strip_prefix(PREFIX)
            .is_some_and(|number| number.parse::<u64>().is_ok())
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// Puts a generation in force: the one step by which an install happens.
pub(crate) fn point(dir: &Path, number: u64) -> Result<()> {
    files::replace(dir, POINTER, &encode_pointer(number))
}

/// The number, its CRC-32, a line end: readable, and a changed digit does not point elsewhere.
pub(crate) fn encode_pointer(number: u64) -> Vec<u8> {
    let text = number.to_string();
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

pub(crate) fn decode_pointer(bytes: &[u8]) -> Result<u64> {
    const WHAT: &str = "pointer to the state in force";
    let number = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Error::damaged(WHAT, "it is not a number"))?;
    if encode_pointer(number) != bytes {
        return Err(Error::damaged(WHAT, "its checksum does not fit its number"));
    }
    Ok(number)
}

pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number}")
}
