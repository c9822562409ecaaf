//! The packed form of a snapshot: a database directory as one stream.
//!
//! `MUSTSNAP`, then parts: length of the body (u32), CRC-32 of the body, body; little endian. A body begins with its tag:
//! `h` the meta (first part), `f` a file's size and name, `d` data of that file, `e` the CRC-32 over the CRCs of all parts
//! (last part). Nothing follows the end.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use muster_failpoint::failpoint;

use crate::codec::{Meta, decode_meta, encode_meta};
use crate::{Error, Result, files};

const MAGIC: &[u8; 8] = b"MUSTSNAP";
const PART_MAX: usize = 1 << 20;
const WHAT: &str = "snapshot";

/// Bytes of a part before its body, the tag included.
const PART_HEAD: u64 = 9;

/// Packs the files of a directory, which must not change.
pub(crate) fn pack(dir: &Path, meta: &Meta, to: &mut dyn Write) -> Result<()> {
    let io = || Error::io(format!("packing snapshot {}", dir.display()));
    let mut parts = PartWriter {
        out: BufWriter::with_capacity(PART_MAX, to),
        total: crc32fast::Hasher::new(),
    };
    parts.out.write_all(MAGIC).map_err(io())?;
    parts.write(b'h', &encode_meta(meta)?).map_err(io())?;
    let mut buffer = vec![0; PART_MAX];
    for (name, size) in list(dir)? {
        failpoint!("snapshot.pack.before_file", Error::injected);
        let mut file = File::open(dir.join(&name)).map_err(io())?;
        let mut head = size.to_le_bytes().to_vec();
        head.extend_from_slice(name.as_encoded_bytes());
        parts.write(b'f', &head).map_err(io())?;
        let mut left = size;
        while left > 0 {
            let chunk = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.read_exact(&mut buffer[..chunk]).map_err(io())?;
            parts.write(b'd', &buffer[..chunk]).map_err(io())?;
            left -= chunk as u64;
        }
    }
    let total = parts.total.clone().finalize();
    parts.write(b'e', &total.to_le_bytes()).map_err(io())?;
    parts.out.flush().map_err(io())
}

/// Names and sizes of the files of a directory, by name.
pub(super) fn list(dir: &Path) -> Result<Vec<(OsString, u64)>> {
    let io = || Error::io(format!("listing snapshot {}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io())? {
        let entry = entry.map_err(io())?;
        found.push((entry.file_name(), entry.metadata().map_err(io())?.len()));
    }
    found.sort();
    Ok(found)
}

/// How much [`pack`] will write.
pub(super) fn packed_bytes(dir: &Path, meta: &Meta) -> Result<u64> {
    let head = MAGIC.len() as u64 + PART_HEAD + encode_meta(meta)?.len() as u64;
    let end = PART_HEAD + 4;
    let file = |(name, size): (OsString, u64)| {
        let parts = 1 + size.div_ceil(PART_MAX as u64);
        parts * PART_HEAD + 8 + name.len() as u64 + size
    };
    Ok(head + list(dir)?.into_iter().map(file).sum::<u64>() + end)
}

struct PartWriter<'a> {
    out: BufWriter<&'a mut dyn Write>,
    total: crc32fast::Hasher,
}

impl PartWriter<'_> {
    fn write(&mut self, tag: u8, body: &[u8]) -> std::io::Result<()> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[tag]);
        crc.update(body);
        let crc = crc.finalize().to_le_bytes();
        self.total.update(&crc);
        self.out.write_all(&(body.len() as u32 + 1).to_le_bytes())?;
        self.out.write_all(&crc)?;
        self.out.write_all(&[tag])?;
        self.out.write_all(body)
    }
}

/// Verifies a snapshot file and unpacks it into a new directory, synced on return.
pub(crate) fn unpack(from: &Path, dir: &Path) -> Result<Meta> {
    let io = || Error::io(format!("unpacking into {}", dir.display()));
    let mut parts = PartReader::open(from)?;
    let meta = parts.meta()?;
    files::make_dir(dir)?;
    let mut open: Option<(File, u64)> = None;
    loop {
        let total = parts.total.clone().finalize();
        let (tag, body) = parts.next()?;
        if tag == b'd' {
            let (file, left) = open.as_mut().ok_or_else(|| damaged("data comes before a file"))?;
            *left = left
                .checked_sub(body.len() as u64)
                .ok_or_else(|| damaged("a file is longer than its size"))?;
            file.write_all(&body).map_err(io())?;
            continue;
        }
        if let Some((file, left)) = open.take() {
            if left != 0 {
                return Err(damaged("a file is shorter than its size"));
            }
            failpoint!("snapshot.unpack.before_sync", Error::injected);
            file.sync_all().map_err(io())?;
        }
        match tag {
            b'f' => {
                let (size, name) = file_head(&body)?;
                let file = File::create_new(dir.join(name)).map_err(io())?;
                open = Some((file, size));
            }
            b'e' if body == total.to_le_bytes() => break,
            b'e' => return Err(damaged("its checksum does not fit its parts")),
            _ => return Err(damaged(format!("a part has the unknown tag {tag}"))),
        }
    }
    parts.expect_end()?;
    failpoint!("snapshot.unpack.before_dir_sync", Error::injected);
    files::sync_dir(dir)?;
    Ok(meta)
}

/// Size and name of a packed file. Names come from another node: only plain ones are taken.
fn file_head(body: &[u8]) -> Result<(u64, &str)> {
    let (size, name) = body
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("a file has no size"))?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && !name.starts_with('.') && name.len() < 200)
        .filter(|name| name.as_bytes().iter().all(plain))
        .ok_or_else(|| damaged("a file has an unusable name"))?;
    Ok((u64::from_le_bytes(*size), name))
}

struct PartReader {
    input: BufReader<File>,
    total: crc32fast::Hasher,
}

impl PartReader {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(format!("opening snapshot {}", path.display())))?;
        let mut parts = Self {
            input: BufReader::with_capacity(PART_MAX, file),
            total: crc32fast::Hasher::new(),
        };
        let mut magic = [0; 8];
        parts.fill(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin as a snapshot does"));
        }
        Ok(parts)
    }

    fn meta(&mut self) -> Result<Meta> {
        match self.next()? {
            (b'h', body) => decode_meta(&body),
            _ => Err(damaged("it does not begin with its position")),
        }
    }

    fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, tag] = head;
        let size = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if size == 0 || size > PART_MAX + 1 {
            return Err(damaged(format!("a part of {size} bytes")));
        }
        let mut body = vec![0; size - 1];
        self.fill(&mut body)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[tag]);
        crc.update(&body);
        if crc.finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(damaged("a part's checksum does not fit its bytes"));
        }
        self.total.update(&[c0, c1, c2, c3]);
        Ok((tag, body))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.input
            .read_exact(buffer)
            .map_err(|err| damaged(format!("it cannot be read on: {err}")))
    }

    fn expect_end(&mut self) -> Result<()> {
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged("bytes follow its end")),
            Err(err) => Err(damaged(format!("it cannot be read on: {err}"))),
        }
    }
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::damaged(WHAT, detail)
}
