//! A snapshot on its way between nodes: parts of bounded size, each with a checksum, from any offset on.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use muster_store::PinnedSnapshot;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Bytes of one part.
const PART_BYTES: usize = 1 << 20;
/// Parts read ahead of the network.
const PARTS_AHEAD: usize = 4;

/// The packed form from `head.offset` on, as messages. Ends early when it cannot be read; the receiver notices the
/// missing last part.
pub(crate) fn parts(
    snapshot: Arc<PinnedSnapshot>,
    head: wire::SnapshotHead,
) -> impl Stream<Item = wire::SnapshotPart> + Send + 'static {
    let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut writer = PartWriter {
            skip: head.offset,
            head: Some(head),
            buffer: BytesMut::new(),
            sender,
        };
        let sent = snapshot
            .pack(&mut writer)
            .map_err(io::Error::other)
            .and_then(|()| writer.send(true));
        if let Err(error) = sent {
            tracing::warn!(%error, "sending a snapshot ended early");
        }
    });
    ReceiverStream::new(receiver)
}

/// Cuts what is written into parts.
struct PartWriter {
    /// Bytes that the receiver has already.
    skip: u64,
    /// Goes with the first part.
    head: Option<wire::SnapshotHead>,
    buffer: BytesMut,
    sender: mpsc::Sender<wire::SnapshotPart>,
}

impl PartWriter {
    fn send(&mut self, last: bool) -> io::Result<()> {
        failpoint!("peer.snapshot.before_part", io::Error::from);
        let data = self.buffer.split().freeze();
        let part = wire::SnapshotPart {
            head: self.head.take(),
            crc: crc32fast::hash(&data),
            last,
            data,
        };
        self.sender
            .blocking_send(part)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the connection is gone"))
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        let room = PART_BYTES - self.buffer.len();
        let taken = room.min(bytes.len() - skipped);
        self.buffer.extend_from_slice(&bytes[skipped..skipped + taken]);
        if self.buffer.len() == PART_BYTES {
            self.send(false)?;
        }
        Ok(skipped + taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How much of a snapshot has been received so far.
pub(crate) async fn received_bytes(path: &Path) -> u64 {
    tokio::fs::metadata(path).await.map_or(0, |found| found.len())
}

/// Appends parts to a file that has `offset` bytes. What arrived before a failure stays, for a later attempt. Returns the
/// file's length.
pub(crate) async fn receive<S>(mut parts: S, path: &Path, offset: u64, first: wire::SnapshotPart) -> Result<u64, Status>
where
    S: Stream<Item = Result<wire::SnapshotPart, Status>> + Unpin,
{
    let failed = |err: io::Error| Status::internal(format!("writing the received snapshot: {err}"));
    let found = received_bytes(path).await;
    if found != offset {
        return Err(Status::failed_precondition(format!(
            "the transfer goes on at byte {offset}, {found} are there"
        )));
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .await
        .map_err(failed)?;
    let (mut part, mut bytes) = (first, offset);
    loop {
        if crc32fast::hash(&part.data) != part.crc {
            return Err(Status::data_loss("a part of the snapshot was damaged on its way"));
        }
        failpoint!("peer.snapshot.before_write", |injected| failed(io::Error::from(
            injected
        )));
        append(&mut file, &part.data).await.map_err(failed)?;
        bytes += part.data.len() as u64;
        if part.last {
            return Ok(bytes);
        }
        part = parts
            .next()
            .await
            .ok_or_else(|| Status::data_loss("the snapshot ended before its last part"))??;
    }
}

/// Whole: a part that is written in half would shift what follows it.
async fn append(file: &mut tokio::fs::File, data: &Bytes) -> io::Result<()> {
    file.write_all(data).await?;
    file.flush().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use muster_store::{Checkpoint, LogPosition, Store, StoreOptions};
    use rand::rngs::StdRng;
    use rand::{RngCore, SeedableRng};

    use super::*;

    fn head(offset: u64) -> wire::SnapshotHead {
        wire::SnapshotHead {
            offset,
            ..wire::SnapshotHead::default()
        }
    }

    /// A state whose snapshot takes several parts.
    fn pinned(store: &Store) -> Arc<PinnedSnapshot> {
        let mut noise = vec![0; 7 << 19];
        StdRng::seed_from_u64(1).fill_bytes(&mut noise);
        let checkpoint = Checkpoint {
            applied: Some(LogPosition {
                term: 1,
                node: 1,
                index: 5,
            }),
            membership: noise.into(),
            ..Checkpoint::default()
        };
        store.state().write(checkpoint).unwrap();
        store.state().pin_snapshot().unwrap()
    }

    #[tokio::test]
    async fn a_broken_transfer_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(dir.path().join("data"))).unwrap();
        let snapshot = pinned(&store);
        let mut whole = Vec::new();
        snapshot.pack(&mut whole).unwrap();
        let file = dir.path().join("received");
        for sent in [2, 1, usize::MAX] {
            let offset = received_bytes(&file).await;
            let mut stream = Box::pin(parts(snapshot.clone(), head(offset)).take(sent).map(Ok));
            let first = stream.next().await.unwrap().unwrap();
            assert_eq!(first.head.as_ref().unwrap().offset, offset);
            let received = receive(stream, &file, offset, first).await;
            assert_eq!(received.is_ok(), sent == usize::MAX, "{received:?}");
        }
        assert!(whole.len() > 3 * PART_BYTES);
        assert_eq!(std::fs::read(&file).unwrap(), whole);
        let first = parts(snapshot.clone(), head(7)).next().await.unwrap();
        let elsewhere = receive(futures::stream::empty(), &file, 7, first).await;
        assert_eq!(elsewhere.unwrap_err().code(), tonic::Code::FailedPrecondition);
        drop(snapshot);
        store.close().unwrap();
    }
}
