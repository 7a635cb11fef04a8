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

/// A URL is not used in the last tenth of its life, nor in its last seconds: a request has to reach S3 before the end. Of
/// one that is good for a few seconds only, the first half is used.
const LAST_SECONDS: Duration = Duration::from_secs(2);
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
            known.urls.insert(url.path, (url.url, asked + used_for(url.valid_for)));
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

/// For how long a URL is used that is good for so long.
fn used_for(valid_for: Duration) -> Duration {
    valid_for.mul_f64(0.9).min(valid_for.saturating_sub(LAST_SECONDS)).max(valid_for / 2)
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;

    use super::*;
    use crate::pull::SignedUrl;

    /// Signs for so long, and notes when it was asked and for what.
    #[derive(Debug)]
    struct Source {
        valid_for: Duration,
        asked: Mutex<Vec<(Instant, Vec<RelativePath>)>>,
    }

    impl UrlSource for Source {
        fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
            self.asked.lock().unwrap().push((Instant::now(), paths.to_vec()));
            let signed = paths.iter().map(|path| SignedUrl {
                path: path.clone(),
                url: format!("http://s3/{path}").parse().unwrap(),
                valid_for: self.valid_for,
            });
            let signed = signed.collect();
            Box::pin(async move {
                // Somebody else may ask meanwhile.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(signed)
            })
        }
    }

    fn source(valid_for: Duration) -> (Arc<Source>, Urls) {
        let source = Arc::new(Source { valid_for, asked: Mutex::default() });
        (Arc::clone(&source), Urls::new(source))
    }

    fn path(number: usize) -> RelativePath {
        RelativePath::new(format!("{number:03}")).unwrap()
    }

    fn paths(of: impl IntoIterator<Item = usize>) -> Vec<RelativePath> {
        of.into_iter().map(path).collect()
    }

    #[test]
    fn the_last_tenth_and_the_last_seconds_of_a_url_are_not_used() {
        let used = |seconds: u64| used_for(Duration::from_secs(seconds)).as_secs_f64();
        assert_eq!([3_600, 900, 10, 5, 4, 1, 0].map(used), [3_240.0, 810.0, 8.0, 3.0, 2.0, 0.5, 0.0]);
    }

    #[tokio::test]
    async fn a_url_counts_from_the_question_and_is_used_until_then() {
        let (source, urls) = source(Duration::from_secs(900));
        for _ in 0..3 {
            urls.get(&path(1)).await.unwrap();
        }
        let asked = source.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1);
        let until = urls.known().urls[&path(1)].1;
        assert!(until <= asked[0].0 + Duration::from_secs(810), "the answer was on its way for a while");
        urls.known().urls.values_mut().for_each(|(_, until)| *until = Instant::now());
        urls.get(&path(1)).await.unwrap();
        assert_eq!(source.asked.lock().unwrap().len(), 2, "an old one is not used");
    }

    #[tokio::test]
    async fn those_that_come_next_are_asked_for_along_and_those_that_are_done_are_not() {
        let (source, urls) = source(Duration::from_secs(900));
        urls.announce(paths(0..BATCH + 100).into_iter());
        [1, 3].map(path).iter().for_each(|done| urls.finish(done));
        urls.get(&path(2)).await.unwrap();
        urls.get(&path(BATCH + 50)).await.unwrap();
        let asked = source.asked.lock().unwrap().clone();
        let first = [2, 0].into_iter().chain(4..BATCH + 2);
        assert_eq!(asked[0].1, paths(first), "as many as are asked for at once, the next ones first");
        let others = BATCH + 2..BATCH + 100;
        let rest = [BATCH + 50].into_iter().chain(others.filter(|at| *at != BATCH + 50));
        assert_eq!(asked[1].1, paths(rest));
        let known = urls.known().urls.len();
        urls.finish(&path(2));
        assert_eq!(urls.known().urls.len(), known - 1, "nobody needs it any more");
    }

    #[tokio::test]
    async fn who_asks_meanwhile_waits_for_the_same_answer() {
        let (source, urls) = source(Duration::from_secs(900));
        urls.announce(paths([1, 2]).into_iter());
        let (one, two) = (path(1), path(2));
        let (first, second) = tokio::join!(urls.get(&one), urls.get(&two));
        assert_eq!((first.unwrap().path(), second.unwrap().path()), ("/001", "/002"));
        assert_eq!(source.asked.lock().unwrap().len(), 1);
    }
}
