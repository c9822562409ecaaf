//! Where backups lie: a directory, a bucket, or the memory of this process.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::error::{Error, Result};
use crate::repository::Repository;

const ALLOWED: &str =
    "write a directory, file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// A place for the backups of any number of clusters. Cheap to clone.
#[derive(Clone)]
pub struct Location {
    /// For people: no credentials.
    url: Arc<str>,
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.url).finish()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Location {
    /// Opens a place by its URL, or a directory by its path, which must exist. Credentials and endpoints come from the
    /// environment, under the names that each provider's own tools use (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Nothing is sent
    /// yet.
    pub fn open(url: &str) -> Result<Self> {
        Self::find_or_make(url, false)
    }

    /// The same; a directory that does not exist is made.
    pub fn create(url: &str) -> Result<Self> {
        Self::find_or_make(url, true)
    }

    fn find_or_make(url: &str, make: bool) -> Result<Self> {
        let wrong = |reason: String| Error::Location {
            url: without_credentials(url),
            reason,
        };
        let parsed = if url.contains("://") {
            Url::parse(url).map_err(|error| wrong(format!("{error}; {ALLOWED}")))?
        } else {
            let path = std::path::absolute(url).map_err(|error| wrong(error.to_string()))?;
            Url::from_directory_path(&path).map_err(|()| wrong(format!("it cannot be written as a URL; {ALLOWED}")))?
        };
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(wrong(
                "credentials do not belong into it; they come from the environment".to_owned(),
            ));
        }
        let (store, root): (Arc<dyn ObjectStore>, Path) = match parsed.scheme() {
            "file" => {
                let dir = parsed
                    .to_file_path()
                    .map_err(|()| wrong(format!("it is not a path on this machine; {ALLOWED}")))?;
                (local(dir, make, &wrong)?, Path::default())
            }
            scheme => {
                if parsed.host_str().is_none_or(str::is_empty) {
                    return Err(wrong(format!("it names no bucket; {ALLOWED}")));
                }
                let root = Path::from_url_path(parsed.path()).map_err(|error| wrong(error.to_string()))?;
                (cloud(scheme, &parsed, &wrong)?, root)
            }
        };
        Ok(Self {
            url: without_credentials(url).into(),
            store,
            root,
        })
    }

    /// A place in the memory of this process, for tests.
    pub fn in_memory() -> Self {
        Self {
            url: "memory".into(),
            store: Arc::new(InMemory::new()),
            root: Path::default(),
        }
    }

    /// The repository of a cluster, which need not exist yet.
    pub fn repository(&self, cluster: u128) -> Repository {
        let root = self.root.clone().join(format!("cluster-{cluster:032x}"));
        Repository::new(self.store.clone(), root, cluster)
    }

    /// Clusters that have something here.
    pub async fn clusters(&self) -> Result<Vec<u128>> {
        let root = (!self.root.as_ref().is_empty()).then_some(&self.root);
        let listed = self.store.list_with_delimiter(root).await;
        let listed = listed.map_err(|source| Error::ObjectStore {
            doing: format!("listing {}", self.url),
            source: Arc::new(source),
        })?;
        let mut found: Vec<u128> = listed
            .common_prefixes
            .iter()
            .filter_map(|prefix| prefix.filename()?.strip_prefix("cluster-"))
            .filter_map(|id| u128::from_str_radix(id, 16).ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The repository of a cluster that is here: the one asked for, or the only one.
    pub async fn find(&self, cluster: Option<u128>) -> Result<Repository> {
        let found = self.clusters().await?;
        let names = if found.is_empty() {
            "none".to_owned()
        } else {
            let names: Vec<_> = found.iter().map(|id| format!("{id:032x}")).collect();
            names.join(", ")
        };
        match (cluster, &found[..]) {
            (Some(cluster), _) if found.contains(&cluster) => Ok(self.repository(cluster)),
            (None, [only]) => Ok(self.repository(*only)),
            (None, [_, ..]) => Err(Error::WhichCluster {
                url: self.url.to_string(),
                found: names,
            }),
            (wanted, _) => Err(Error::NoSuchCluster {
                url: self.url.to_string(),
                wanted: wanted.map_or_else(|| "any cluster".to_owned(), |id| format!("cluster {id:032x}")),
                found: names,
            }),
        }
    }

    /// Whether anything can be written here at all: writes a small object and removes it.
    pub async fn probe(&self) -> Result<()> {
        let path = self.root.clone().join("probe");
        let doing = |doing: &str| format!("{doing} {path} in {}", self.url);
        let failed = |doing: String| {
            move |source| Error::ObjectStore {
                doing,
                source: Arc::new(source),
            }
        };
        let put = self.store.put(&path, "probe".into()).await;
        put.map_err(failed(doing("writing")))?;
        self.store.delete(&path).await.map_err(failed(doing("removing")))
    }

    /// All objects, by name, for tests.
    pub async fn objects(&self) -> Result<Vec<String>> {
        let listed: Vec<_> = self
            .store
            .list(Some(&self.root))
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .map_err(|source| Error::ObjectStore {
                doing: format!("listing {}", self.url),
                source: Arc::new(source),
            })?;
        Ok(listed)
    }
}

fn local(dir: PathBuf, make: bool, wrong: &impl Fn(String) -> Error) -> Result<Arc<dyn ObjectStore>> {
    if make {
        std::fs::create_dir_all(&dir).map_err(|error| wrong(format!("the directory cannot be made: {error}")))?;
    } else if !dir.is_dir() {
        return Err(wrong("there is no such directory".to_owned()));
    }
    let store = LocalFileSystem::new_with_prefix(dir).map_err(|error| wrong(error.to_string()))?;
    // What was acknowledged survives a power cut here as well.
    Ok(Arc::new(store.with_fsync(true)))
}

/// How long a provider is asked again before the caller hears of it; the archive goes on by itself later.
#[cfg(feature = "cloud")]
fn retry() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 6,
        retry_timeout: std::time::Duration::from_secs(30),
        ..object_store::RetryConfig::default()
    }
}

#[allow(unused_variables, reason = "without any provider nothing is looked at")]
fn cloud(scheme: &str, url: &Url, wrong: &impl Fn(String) -> Error) -> Result<Arc<dyn ObjectStore>> {
    #[cfg(feature = "cloud")]
    {
        // The one crypto library of this program. It may be set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let failed = |error: object_store::Error| wrong(error.to_string());
    match scheme {
        #[cfg(feature = "s3")]
        "s3" | "s3a" => {
            let builder = object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str());
            Ok(Arc::new(builder.with_retry(retry()).build().map_err(failed)?))
        }
        #[cfg(feature = "gcs")]
        "gs" => {
            let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
            Ok(Arc::new(builder.with_retry(retry()).build().map_err(failed)?))
        }
        #[cfg(feature = "azure")]
        "az" | "abfs" | "abfss" => {
            let builder = object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            Ok(Arc::new(builder.with_retry(retry()).build().map_err(failed)?))
        }
        other => Err(wrong(format!("scheme {other:?} is not known to this build; {ALLOWED}"))),
    }
}

fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split('?').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_location_is_said_without_its_secrets() {
        let check = |url: &str, part: &str| {
            let error = Location::open(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("ftp://host/dir", "not known");
        check("s3:///prefix", "names no bucket");
        check("s3://user:hunter2@bucket/prefix", "environment");
        check("s3://bucket/prefix?key=hunter2", "environment");
        check("file://host/dir", "not a path on this machine");
        check("http ://x", "write a directory");
        check("/no/such/directory", "there is no such directory");
    }

    #[tokio::test]
    async fn clusters_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::open(&dir.path().display().to_string()).unwrap();
        location.probe().await.unwrap();
        assert!(matches!(location.find(None).await, Err(Error::NoSuchCluster { .. })));
        for cluster in [7, 9] {
            let repository = location.repository(cluster);
            repository.put(&repository.backup("x"), "x".into()).await.unwrap();
        }
        assert_eq!(location.clusters().await.unwrap(), [7, 9]);
        assert!(matches!(location.find(None).await, Err(Error::WhichCluster { .. })));
        assert_eq!(location.find(Some(9)).await.unwrap().cluster(), 9);
        assert!(matches!(location.find(Some(8)).await, Err(Error::NoSuchCluster { .. })));
    }
}
