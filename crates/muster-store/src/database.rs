//! What all databases have in common.

use rocksdb::Options;

use crate::{Error, Result};

/// Options to begin with.
///
/// RocksDB would by itself try again after a failed write or sync, in the background and for ever. That is not wanted: the
/// system may have dropped what it could not write and report success the next time. A failure is final, and the next start
/// finds out what is there.
pub(crate) fn options() -> Result<Options> {
    Options::default()
        .get_options_from_string("max_bgerror_resume_count=0")
        .map_err(Error::database("preparing options"))
}
