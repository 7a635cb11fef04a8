//! A version, a server that has it, and a spoke that wants it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use nave_agent::{
    pull::{Limits, Priority, Progress, PullError, PullRequest, Puller, SignedUrl, UrlError, UrlSource},
    store::Store,
};
use nave_manifest::{FileHasher, Manifest};
use nave_names::{Digest, RelativePath};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server::Server;

pub(crate) const MIB: usize = 1 << 20;

/// Bytes that no other seed and no other place has.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn manifest_of(files: &BTreeMap<String, Vec<u8>>) -> Manifest {
    let entry = |(path, bytes): (&String, &Vec<u8>)| {
        let mut hasher = FileHasher::new(RelativePath::new(path.as_str()).unwrap());
        hasher.update(bytes);
        hasher.finish()
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}

/// The objects of a version: its files and its manifest.
pub(crate) fn objects(files: &BTreeMap<String, Vec<u8>>) -> (Digest, BTreeMap<String, Vec<u8>>) {
    let manifest = manifest_of(files);
    let mut objects = files.clone();
    objects.insert("manifest.json".to_owned(), manifest.to_canonical_bytes());
    (manifest.digest(), objects)
}

/// Signs URLs with a number that goes up, so that a server can refuse old ones.
#[derive(Debug)]
pub(crate) struct Source {
    base: String,
    pub(crate) asked: AtomicU64,
    valid_for: Duration,
}

impl Source {
    pub(crate) fn of(server: &Server) -> Arc<Self> {
        let base = format!("http://{}", server.address);
        Arc::new(Self { base, asked: AtomicU64::new(0), valid_for: Duration::from_secs(900) })
    }
}

impl UrlSource for Source {
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        let token = self.asked.fetch_add(1, Ordering::Relaxed);
        let urls = paths.iter().map(|path| SignedUrl {
            path: path.clone(),
            url: format!("{}/{path}?token={token}", self.base).parse().unwrap(),
            valid_for: self.valid_for,
        });
        let urls = urls.collect();
        Box::pin(async move { Ok(urls) })
    }
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) digest: Digest,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) puller: Puller,
    pub(crate) source: Arc<Source>,
    pub(crate) limits: Limits,
    pub(crate) patience: Duration,
}

impl World {
    pub(crate) async fn new(files: impl IntoIterator<Item = (&str, Vec<u8>)>) -> Self {
        let files: BTreeMap<_, _> = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
        let (digest, objects) = objects(&files);
        Self::of(files, digest, objects).await
    }

    /// With an object that is none of the version's files.
    pub(crate) async fn with_beside(
        files: BTreeMap<String, Vec<u8>>,
        (path, bytes): (&str, Vec<u8>),
    ) -> Self {
        let (digest, mut objects) = objects(&files);
        objects.insert(path.to_owned(), bytes);
        Self::of(files, digest, objects).await
    }

    async fn of(
        files: BTreeMap<String, Vec<u8>>,
        digest: Digest,
        objects: BTreeMap<String, Vec<u8>>,
    ) -> Self {
        let server = Server::start(objects).await;
        let folder = tempfile::tempdir().unwrap();
        let puller = Self::spoke(folder.path());
        let source = Source::of(&server);
        let patience = Duration::from_secs(60);
        Self { server, files, digest, folder, puller, source, limits: Limits::default(), patience }
    }

    pub(crate) fn spoke(folder: &Path) -> Puller {
        rustls::crypto::ring::default_provider().install_default().ok();
        let store = Store::open(folder.join("store")).unwrap();
        Puller::new(store, 8, None).unwrap()
    }

    pub(crate) fn request(&self) -> PullRequest {
        PullRequest {
            manifest_digest: self.digest,
            source: Arc::clone(&self.source) as Arc<dyn UrlSource>,
            limits: self.limits.clone(),
            priority: Priority::Serve,
            patience: self.patience,
            progress: watch::channel(Progress::default()).0,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) async fn pull(&self) -> Result<Progress, PullError> {
        self.puller.pull(self.request()).await
    }

    /// The version is in the store, byte for byte, and can be laid out.
    pub(crate) fn assert_held(&self) {
        let store = self.puller.store();
        assert!(store.has(&self.digest));
        assert_eq!(store.verify(false).unwrap().findings, []);
        let target = self.folder.path().join("out");
        store.materialise(&self.digest, &target).unwrap();
        for (path, bytes) in &self.files {
            assert!(std::fs::read(target.join(path)).unwrap() == *bytes, "{path}");
        }
        assert_eq!(std::fs::read_dir(store.dir().join("staging")).unwrap().count(), 0);
    }

    /// Nothing of the version can be seen outside staging.
    pub(crate) fn assert_nothing_visible(&self) {
        let store = self.puller.store();
        assert!(!store.has(&self.digest));
        assert_eq!(std::fs::read_dir(store.dir().join("manifests")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(store.dir().join("blobs")).unwrap().count(), 0);
    }
}
