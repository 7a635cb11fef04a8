//! The URLs of one pull: asked for in batches, kept while they are good, forgotten when S3 refuses one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nave_names::RelativePath;
use tokio::time::Instant;
use url::Url;

use super::{MAX_PATHS, UrlError, UrlSource};

/// A URL is not used in the last tenth of its life, nor in its last seconds: a request has to reach S3 before the end.
const LEAST_LIFE: Duration = Duration::from_secs(2);
/// Paths asked for at once: some seconds' worth of small files. More would expire before their turn on a thin link.
const BATCH: usize = 500;
const _: () = assert!(BATCH <= MAX_PATHS);

#[derive(Debug)]
pub(super) struct Urls {
    source: Arc<dyn UrlSource>,
    known: Mutex<Known>,
    /// One question at a time: others that miss a URL wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    urls: HashMap<RelativePath, (Url, Instant)>,
    /// Paths that will be needed, the next one last.
    ahead: Vec<RelativePath>,
    done: HashSet<RelativePath>,
}

impl Urls {
    pub(super) fn new(source: Arc<dyn UrlSource>) -> Self {
        Self { source, known: Mutex::default(), asking: tokio::sync::Mutex::new(()) }
    }

    /// Announces paths, in the order in which they will be needed.
    pub(super) fn announce(&self, paths: impl DoubleEndedIterator<Item = RelativePath>) {
        self.known().ahead = paths.rev().collect();
    }

    /// A URL for this path that is good for a while.
    pub(super) async fn get(&self, path: &RelativePath) -> Result<Url, UrlError> {
        if let Some(url) = self.good(path) {
            return Ok(url);
        }
        let _turn = self.asking.lock().await;
        if let Some(url) = self.good(path) {
            return Ok(url);
        }
        let paths = self.next_batch(path);
        let asked = Instant::now();
        let signed = self.source.urls(&paths).await?;
        let mut known = self.known();
        for url in signed {
            let life =
                (url.valid_for.mul_f64(0.9)).max(url.valid_for.saturating_sub(LEAST_LIFE).min(LEAST_LIFE));
            known.urls.insert(url.path, (url.url, asked + life));
        }
        match known.urls.get(path) {
            Some((url, _)) => Ok(url.clone()),
            None => Err(UrlError::Unavailable(format!("the answer has no URL for {path}"))),
        }
    }

    /// S3 refused the URL of this path: the next one will be new.
    pub(super) fn forget(&self, path: &RelativePath) {
        self.known().urls.remove(path);
    }

    /// The path is not needed any more.
    pub(super) fn finish(&self, path: &RelativePath) {
        let mut known = self.known();
        known.urls.remove(path);
        known.done.insert(path.clone());
    }

    fn good(&self, path: &RelativePath) -> Option<Url> {
        let known = self.known();
        let (url, until) = known.urls.get(path)?;
        (Instant::now() < *until).then(|| url.clone())
    }

    fn next_batch(&self, path: &RelativePath) -> Vec<RelativePath> {
        let mut known = self.known();
        let mut batch = vec![path.clone()];
        while batch.len() < BATCH {
            let Some(next) = known.ahead.pop() else { break };
            if next != *path && !known.done.contains(&next) {
                batch.push(next);
            }
        }
        batch
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
