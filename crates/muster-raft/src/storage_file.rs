//! A snapshot file on its way between nodes: parts of bounded size, each with a checksum.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use muster_proto::peer as wire;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Status;

/// Bytes of one part.
const PART_BYTES: u64 = 1 << 20;

/// The file as messages. Ends early when the file cannot be read; the receiver notices the missing last part.
pub(crate) fn parts(
    path: PathBuf,
    head: wire::SnapshotHead,
) -> impl Stream<Item = wire::SnapshotPart> + Send + 'static {
    let start = (path, None::<File>, Some(head), false);
    futures::stream::unfold(start, |(path, file, mut head, ended)| async move {
        if ended {
            return None;
        }
        match next_part(&path, file, head.take()).await {
            Ok((part, file)) => {
                let ended = part.last;
                Some((part, (path, Some(file), None, ended)))
            }
            Err(err) => {
                tracing::error!(path = %path.display(), %err, "a snapshot file cannot be read");
                None
            }
        }
    })
}

async fn next_part(
    path: &Path,
    file: Option<File>,
    head: Option<wire::SnapshotHead>,
) -> io::Result<(wire::SnapshotPart, File)> {
    let mut file = match file {
        Some(file) => file,
        None => File::open(path).await?,
    };
    let mut data = Vec::with_capacity(PART_BYTES as usize);
    (&mut file).take(PART_BYTES).read_to_end(&mut data).await?;
    let part = wire::SnapshotPart {
        head,
        crc: crc32fast::hash(&data),
        last: (data.len() as u64) < PART_BYTES,
        data: Bytes::from(data),
    };
    Ok((part, file))
}

/// Writes a stream of parts to a file and syncs it. Returns the head and the size.
pub(crate) async fn receive<S>(mut parts: S, path: &Path, first: wire::SnapshotPart) -> Result<u64, Status>
where
    S: Stream<Item = Result<wire::SnapshotPart, Status>> + Unpin,
{
    let failed = |err: io::Error| Status::internal(format!("writing the received snapshot: {err}"));
    let mut file = File::create(path).await.map_err(failed)?;
    let (mut part, mut bytes) = (first, 0);
    loop {
        if crc32fast::hash(&part.data) != part.crc {
            return Err(Status::data_loss("a part of the snapshot was damaged on its way"));
        }
        file.write_all(&part.data).await.map_err(failed)?;
        bytes += part.data.len() as u64;
        if part.last {
            break;
        }
        part = parts
            .next()
            .await
            .ok_or_else(|| Status::data_loss("the snapshot ended before its last part"))??;
    }
    file.sync_all().await.map_err(failed)?;
    Ok(bytes)
}
