//! The objects of one cluster, each operation with a deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use muster_failpoint::failpoint;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hex;
use crate::throttle::Throttle;

/// For one small object, retries of the client included.
const DEADLINE: Duration = Duration::from_mins(1);
/// For one chunk of a large one.
const CHUNK_DEADLINE: Duration = Duration::from_mins(2);
/// Bytes read, sent and counted at a time.
const CHUNK: usize = 4 << 20;

/// What a location has of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    root: Path,
    cluster: u128,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Repository").field(&self.root).finish()
    }
}

impl Repository {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: Path, cluster: u128) -> Self {
        Self { store, root, cluster }
    }

    /// The cluster.
    pub fn cluster(&self) -> u128 {
        self.cluster
    }

    fn at(&self, folder: &str, name: &str) -> Path {
        self.root.clone().join(folder).join(name)
    }

    /// Manifest of a backup.
    pub(crate) fn backup(&self, id: &str) -> Path {
        self.at("backups", &format!("{id}.json"))
    }

    /// A file by its content.
    pub(crate) fn file(&self, hash: &[u8; 32]) -> Path {
        self.at("files", &hex::encode(hash))
    }

    /// A stretch of the log.
    pub(crate) fn segment(&self, first: u64, last: u64) -> Path {
        self.at("log", &format!("{first:020}-{last:020}.seg"))
    }

    /// A sign of work in progress.
    pub(crate) fn marker(&self, name: &str) -> Path {
        self.at("running", name)
    }

    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        failpoint!("backup.object.before_put", Error::injected);
        let put = self.store.put(path, bytes.into());
        within(DEADLINE, || format!("writing {path}"), put).await.map(drop)
    }

    pub(crate) async fn get(&self, path: &Path) -> Result<Bytes> {
        let get = async { self.store.get(path).await?.bytes().await };
        missing(path, within(DEADLINE, || format!("reading {path}"), get).await)
    }

    pub(crate) async fn exists(&self, path: &Path) -> Result<bool> {
        match missing(
            path,
            within(DEADLINE, || format!("looking for {path}"), self.store.head(path)).await,
        ) {
            Ok(_) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; one that is gone already is removed.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        let delete = self.store.delete(path);
        match missing(path, within(DEADLINE, || format!("removing {path}"), delete).await) {
            Err(Error::Missing { .. }) => Ok(()),
            other => other,
        }
    }

    /// Objects in a folder, in no order; with `after`, only those whose name comes after it.
    pub(crate) async fn list(&self, folder: &str, after: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let folder = self.root.clone().join(folder);
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(&folder), after),
            None => self.store.list(Some(&folder)),
        };
        within(DEADLINE, || format!("listing {folder}"), listed.try_collect()).await
    }

    /// Sends a file in pieces, at the pace of `throttle`; `sent` hears of each.
    pub(crate) async fn put_file(
        &self,
        path: &Path,
        from: &std::path::Path,
        throttle: &Throttle,
        stop: &CancellationToken,
        mut sent: impl FnMut(u64),
    ) -> Result<()> {
        let reading = || Error::io(format!("reading {}", from.display()));
        let mut file = tokio::fs::File::open(from).await.map_err(reading())?;
        let mut writer = object_store::buffered::BufWriter::with_capacity(self.store.clone(), path.clone(), 2 * CHUNK);
        let mut chunk = vec![0; CHUNK];
        let outcome = loop {
            let read = match read_full(&mut file, &mut chunk).await {
                Ok(0) => break Ok(()),
                Ok(read) => read,
                Err(error) => break Err(reading()(error)),
            };
            tokio::select! {
                () = throttle.take(read as u64) => {}
                () = stop.cancelled() => break Err(Error::Cancelled),
            }
            failpoint!("backup.file.before_chunk");
            let put = writer.put(Bytes::copy_from_slice(&chunk[..read]));
            if let Err(error) = within(CHUNK_DEADLINE, || format!("writing {path}"), put).await {
                break Err(error);
            }
            sent(read as u64);
        };
        if let Err(error) = outcome {
            // Best effort: parts that stay are not visible, and the store's own rules remove them.
            let _ = tokio::time::timeout(DEADLINE, writer.abort()).await;
            return Err(error);
        }
        failpoint!("backup.file.before_finish", Error::injected);
        let finish = async {
            writer.shutdown().await.map_err(|error| object_store::Error::Generic {
                store: "upload",
                source: error.into(),
            })
        };
        within(CHUNK_DEADLINE, || format!("writing {path}"), finish).await
    }

    /// Fetches an object piece by piece.
    pub(crate) async fn get_chunks(&self, path: &Path, mut got: impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        let doing = || format!("reading {path}");
        let opened = missing(path, within(DEADLINE, doing, self.store.get(path)).await)?;
        let mut chunks = opened.into_stream();
        while let Some(chunk) = within(CHUNK_DEADLINE, doing, async { chunks.next().await.transpose() }).await? {
            got(chunk)?;
        }
        Ok(())
    }
}

async fn read_full(file: &mut tokio::fs::File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

async fn within<T>(
    deadline: Duration,
    doing: impl Fn() -> String,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => done.map_err(|source| Error::ObjectStore {
            doing: doing(),
            source: Arc::new(source),
        }),
        Err(_) => Err(Error::TimedOut {
            doing: doing(),
            seconds: deadline.as_secs(),
        }),
    }
}

/// An object that is not there is told apart from a store that does not work.
fn missing<T>(path: &Path, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| match &error {
        Error::ObjectStore { source, .. } if matches!(**source, object_store::Error::NotFound { .. }) => {
            Error::Missing {
                object: path.to_string(),
            }
        }
        _ => error,
    })
}
