//! Bytes of commands and rows: a version byte, then bincode. The only module that knows bincode.
//!
//! Old bytes stay readable: a change of a type that is stored adds a version, and `fixtures/` keeps bytes of each.

mod batch;
mod job;
mod key;
mod meta;
mod replies;
mod row;
mod value;

#[cfg(test)]
mod tests;

pub use batch::{BATCH_BYTES_MAX, batch_stamp, decode_batch, encode_batch};
pub use job::{decode_job, encode_job};
pub use key::{decode_key, encode_key};
pub(crate) use meta::{Meta, decode_meta, encode_meta};
pub use replies::{decode_replies, encode_replies};
pub use row::{decode_row, encode_row};
